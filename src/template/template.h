/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * template — base systems as stacks of shared layers.
 *
 * I own STATE/layers (one directory a layer, named by its digest, ids 0–65535 as in the archive)
 * and STATE/templates (one small JSON file a template: name, layers, how it starts).
 * I use libarchive, zlib, liblzma, libzstd, Nettle, jansson, tar, mmdebstrap.  I never run anything
 * of a template outside a VE's isolation (mmdebstrap runs Debian's own package scripts, in PID and
 * mount namespaces of their own), and never write a byte outside the layer that is being made.
 * store.h has the layout on disk and who locks what.
 *
 * A layer's digest is "sha256:" and the hex SHA-256 of its uncompressed tar (an OCI diffID).
 * A layer is written under STATE/layers/.new-…, synced, and renamed: it is whole or not there.
 * Whiteouts are overlayfs's own: character device 0:0, and user.overlay.opaque=y on directories
 * (the overlay is mounted with userxattr inside the VE's user namespace).
 *
 * All functions work synchronously, in a job's worker; progress goes to the callback.
 */
#pragma once

#include "base/err.h"
#include "base/name.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TEMPLATE_LAYERS_MAX 128
/* In a root: ssh.service makes the host keys that are missing, since the template has none.  And
 * lines of a script, in the root's directory, that make it so where there is an sshd. */
#define TEMPLATE_HOST_KEYS "etc/systemd/system/ssh.service.d/host-keys.conf"
#define TEMPLATE_HOST_KEYS_SCRIPT                                                    \
    "if [ -e usr/sbin/sshd ] && [ -d etc/systemd/system ]; then\n"                   \
    "    mkdir -p etc/systemd/system/ssh.service.d\n"                                \
    "    printf '[Service]\\nExecStartPre=\\nExecStartPre=/usr/bin/ssh-keygen -A\\n" \
    "ExecStartPre=/usr/sbin/sshd -t\\n' >" TEMPLATE_HOST_KEYS "\n"                   \
    "fi\n"
#define TEMPLATE_DIGEST 72 /* "sha256:" + 64 hex + NUL */

enum template_start {
    TEMPLATE_SYSTEM, /* boots its own init */
    TEMPLATE_APP,    /* runs a command under terem-init */
};

/* How a system VE's init is told to power off. */
enum template_init {
    TEMPLATE_INIT_NONE,    /* application templates */
    TEMPLATE_INIT_SYSTEMD, /* SIGRTMIN+4 is poweroff.target (systemd(1)) */
    TEMPLATE_INIT_BUSYBOX, /* SIGUSR2 is poweroff (busybox init.c) */
    TEMPLATE_INIT_SYSV,    /* SysV, OpenRC: run /sbin/poweroff or init 0 inside */
};

const char *template_init_name(enum template_init init); /* "systemd" */
/* false: there is no such init (NULL, too). */
bool template_init_find(const char *name, enum template_init *ret);

/* One template as read from its file; free with template_free(). */
struct template
{
    char name[NAME_SIZE];
    enum template_start start;
    enum template_init init;
    char *init_path;   /* "/sbin/init", or NULL for app templates */
    char **command;    /* NULL-terminated: OCI entrypoint + cmd, or NULL */
    char **env;        /* NULL-terminated KEY=VALUE, or NULL */
    char *workdir;     /* or NULL */
    char *user;        /* "1000:1000", "www-data", or NULL for root */
    char *source;      /* "built-in", "mmdebstrap bookworm", "oci:…", "tar:…" */
    char *recipe;      /* JSON object of who made it, kept for the next time; or NULL */
    unsigned revision; /* 1, and one more each time that it is made again */
    int64_t created;   /* seconds since the epoch */
    uint64_t size;     /* bytes of file data in all its layers */
    size_t n_layers;   /* lowest first */
    char layers[TEMPLATE_LAYERS_MAX][TEMPLATE_DIGEST];
};
void template_free(struct template *t);
#define auto_template __attribute__((cleanup(template_freep)))
static inline void template_freep(struct template **t)
{
    if (*t)
        template_free(*t);
}

struct template_store;
/* state: the instance's state directory.  Makes the two directories if they are missing. */
int template_store_open(const char *state, struct template_store **ret, struct err *err);
void template_store_close(struct template_store *s);

/* percent -1: unknown; text: "unpacking layer 2 of 5".  Returning non-zero cancels. */
typedef int (*template_progress)(void *ctx, int percent, const char *text);

struct template_request {
    const char *name;
    const char *include; /* build: "nginx,openssh-server", or NULL */
    const char *source;  /* import: absolute file or directory, or "oci:/path[:tag]" */
    template_progress progress;
    void *ctx;
    const char *recipe;   /* for the record, or NULL */
    bool replace;         /* a new revision of what has this name already */
    uint64_t max_bytes;   /* of file data; 0: what is free, less a reserve */
    uint64_t max_entries; /* 0: 5,000,000 */
};
/* Is there a base system of this name, and does it take packages if some are asked for? */
int template_build_check(const char *base, bool packages, struct err *err);
/* base: "busybox", "debian-12", "debian-13". */
int template_build(struct template_store *s, const char *base, const struct template_request *rq,
                   struct err *err);
int template_import(struct template_store *s, const struct template_request *rq, struct err *err);
/* A template that stands on another's layers: those of `base` and one more, whose tar is read from
 * a descriptor.  command, env: instead of base's (NULL: as base has them); a command makes it an
 * application template. */
struct template_stack {
    const struct template *base;
    int tar;
    char *const *command, *const *env; /* NULL-terminated */
    const char *source;
};
int template_stack(struct template_store *s, const struct template_stack *st,
                   const struct template_request *rq, struct err *err);
/* Sees to it that the layer of the built-in busybox is there, which rescue systems stand on. */
int template_rescue(struct template_store *s, template_progress progress, void *ctx,
                    char ret[TEMPLATE_DIGEST], struct err *err);

/* ERR_NOT_FOUND with "did you mean" and how to build it. */
int template_get(struct template_store *s, const char *name, struct template **ret,
                 struct err *err);
/* Names, sorted; freed by template_names_free(). */
int template_list(struct template_store *s, char ***ret, size_t *ret_n, struct err *err);
void template_names_free(char **names, size_t n);
/* Removes the record; its layers stay until they are collected. */
int template_remove(struct template_store *s, const char *name, struct err *err);

/* Directory descriptors (O_PATH) of layers, for storage and the container, in the given order.
 * A missing layer: ERR_CORRUPT with its digest. */
int template_open_layers(struct template_store *s, const char *const *digests, size_t n,
                         int *ret_fds, struct err *err);
/* Which files of `upper`, an overlay's own, hide one that differs between two stacks of layers:
 * path without a leading "/", and how: "modified" (there), "added", "removed" (there), "deleted"
 * (here, and modified there), "type" (another kind of file).  A negative return ends it. */
typedef int (*template_conflict_fn)(void *ctx, const char *path, const char *kind, struct err *err);
int template_conflicts(struct template_store *s, int upper, const char *const *before,
                       size_t n_before, const char *const *after, size_t n_after,
                       template_conflict_fn fn, void *ctx, struct err *err);
/* Renames out of the way what was half made by somebody who is gone, and every layer that neither a
 * template nor a digest in `used` names.  Only who knows all users may call it, and nobody begins
 * to use a layer meanwhile.  ERR_BUSY: the templates are being changed. */
int template_collect(struct template_store *s, const char *const *used, size_t n_used,
                     struct err *err);
/* The same, which waits instead: after a crash. */
int template_recover(struct template_store *s, const char *const *used, size_t n_used,
                     struct err *err);
/* Deletes what is out of the way, which can take a minute.  ret_freed: NULL, or what that was. */
struct template_freed {
    uint64_t layers, bytes;
};
bool template_has_trash(struct template_store *s);
int template_empty_trash(struct template_store *s, struct template_freed *ret_freed,
                         struct err *err);
/* Is the layer here? */
bool template_has_layer(struct template_store *s, const char *digest);
/* A file without a name for such a layer's tar of this size, in the file system of the layers: no
 * room for it: ERR_EXHAUSTED. */
int template_layer_file(struct template_store *s, const char *digest, uint64_t size, int *ret_fd,
                        struct err *err);
/* A layer without a template, for a VE that comes with its own: fd is a tar with this digest, which
 * is checked; there already: fine. */
int template_layer_import(struct template_store *s, int fd, const char *digest,
                          const struct template_request *rq, struct err *err);
