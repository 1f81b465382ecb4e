/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * backup — a tree as one portable file, and back.
 *
 * I own the format of backups (docs/backup.md): a tar whose first member is the manifest, in
 * independent zstd frames, each with its SHA-256, and a trailer over all of it.  I use archive/,
 * libarchive, libzstd, xxHash, jansson.  I know directories by descriptor and know nothing of VEs:
 * the manifest is my caller's text, but for "id" and "since"; its form I can check.
 *
 * One changed byte anywhere, a byte too many or too few: ERR_CORRUPT with the name of the damaged
 * part.  A tree is unpacked as archive/tree.h does it, with the limits of the caller; of one that
 * is refused something may lie in that tree, which the caller throws away.
 *
 *     struct backup_request rq = {.root = upper, .manifest = text, .id = id, .out = {…}};
 *     backup_make(&rq, &made, err);
 *
 *     struct backup_restore rs = {.root = draft, .limits = {…}, .files = &files};
 *     backup_read(&in, &rs, &info, err);                   // the full one
 *     rs.since = info.id; backup_read(&in, &rs, &info, err);   // then what stands on it
 *
 * Everything runs synchronously, in a worker; packing uses threads of its own, which are gone when
 * the call returns.
 */
#pragma once

#include "archive/hash.h"
#include "archive/tree.h"
#include "base/err.h"
#include "base/str.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BACKUP_FRAMES_MAX ((uint64_t)1 << 27) /* 512 TiB of tar */
#define BACKUP_ID         33                  /* 32 hex digits and NUL */
#define BACKUP_LIST_MAX   ((size_t)1 << 30)

void backup_id_make(char ret[BACKUP_ID]);
bool backup_id_ok(const char *id);

/* ---- what is there ---- */
struct backup_measure {
    uint64_t bytes, entries;
    char fingerprint[BACKUP_ID]; /* of names, sizes, times; another one: something has changed */
};
/* Walks the tree without reading files. */
int backup_measure(int root, struct backup_measure *ret, struct err *err);

/* A layer as a tar that anybody can check: its digest is the SHA-256 of that tar, and so the
 * layer's name where it is imported (another than the one it was first imported under). */
struct backup_layer {
    int root;               /* the layer's directory */
    char digest[HASH_TEXT]; /* of the tar */
    uint64_t size;          /* of the tar */
};
/* Reads the layer and fills in digest and size. */
int backup_layer_measure(struct backup_layer *l, struct err *err);
/* The same tar of any tree with an overlay's marks, into a descriptor.  leave (or NULL): names that
 * are left out; those below a directory are asked for, too. */
int backup_layer_write(int root, bool (*leave)(const char *name), int out, struct err *err);

/* ---- making one ---- */
struct backup_row { /* one frame */
    uint32_t packed, plain;
    uint32_t head; /* bytes of its head in the file */
};

/* What of an interrupted file is whole; free with backup_part_done(). */
struct backup_part {
    uint64_t size;           /* bytes of the file that are kept */
    uint8_t chain[HASH_RAW]; /* after the last whole frame */
    size_t n_rows;
    struct backup_row *rows;
    char *manifest; /* NULL: not even that is whole */
};
void backup_part_done(struct backup_part *p);
/* Its chain as text, for whoever makes the rest; false: it is not one. */
#define BACKUP_CHAIN (2 * HASH_RAW + 1)
void backup_chain_text(const uint8_t chain[HASH_RAW], char ret[BACKUP_CHAIN]);
bool backup_chain_read(const char *text, uint8_t ret[HASH_RAW]);

/* bytes UINT64_MAX: nothing new.  Non-zero: stop (ERR_CANCELLED). */
typedef int (*backup_progress)(void *ctx, uint64_t bytes);

struct backup_request {
    int root;
    int64_t taken; /* when the tree was frozen, in seconds since the epoch */
    const char *id, *manifest;
    const char *base; /* the list of an earlier backup: an incremental one */
    size_t base_len;
    const struct backup_layer *layers; /* to embed */
    size_t n_layers;
    const struct backup_part *part; /* go on behind it; NULL: from the start */
    unsigned threads;               /* 0: one a processor */
    /* Takes all of it; called from another thread. */
    int (*write)(void *ctx, const void *buf, size_t len, struct err *err);
    backup_progress progress; /* bytes of layers and files so far */
    /* NULL, or: the last word before the trailer makes it whole. */
    int (*last)(void *ctx, struct err *err);
    void *ctx;
};
struct backup_made {
    uint64_t entries, left_out; /* sockets and devices */
    uint64_t beyond; /* paths of 4096 bytes or with more than 256 components, left out with what is
                      * below them */
    char beyond_dir[72]; /* the directory of the first of these, cut off, in ASCII */
    uint64_t packed;     /* bytes written by this call */
    uint64_t plain;      /* bytes of the tar */
};
int backup_make(const struct backup_request *rq, struct backup_made *ret, struct err *err);

/* ---- reading one ---- */
struct backup_in {
    /* read(2)'s way: 0 at the end of this file. */
    ssize_t (*read)(void *ctx, void *buf, size_t size, struct err *err);
    void *ctx;
};

struct backup_info {
    char id[BACKUP_ID];
    char since[BACKUP_ID]; /* "": a full one */
    char *manifest;        /* freed by backup_info_done() */
    uint64_t frames, plain, packed, entries;
};
void backup_info_done(struct backup_info *i);

/* Which files the backup has that was read last. */
struct backup_files { /* {0} at first; free with backup_files_done() */
    char id[BACKUP_ID];
    char *list;
    size_t len;
};
void backup_files_done(struct backup_files *f);

struct backup_restore {
    int root; /* -1: nothing is written, only checked */
    struct tree_limits limits;
    const char *since; /* id of the one that is in the tree already; NULL: it must be a full one */
    bool any;          /* whatever it stands on (a file alone is verified) */
    /* NULL, or carried from one to the next: of files that an incremental one leaves alone its list
     * must say what the list says of the one that it stands on, if that was read before it. */
    struct backup_files *files;
    /* Called when the manifest is known, before anything else; may refuse. */
    int (*manifest)(void *ctx, const struct backup_info *info, struct err *err);
    /* Embedded layers: *ret_fd takes the tar, -1: it is not wanted.  layer_end(): it is whole as
     * far as the frames tell; the caller checks the digest. */
    int (*layer)(void *ctx, const char *digest, uint64_t size, int *ret_fd, struct err *err);
    int (*layer_end)(void *ctx, const char *digest, int fd, struct err *err);
    backup_progress progress; /* bytes of the tar so far */
    void *ctx;
};
/* Reads one file to its very end.  The tree is as its list says, or the call fails. */
int backup_read(const struct backup_in *in, const struct backup_restore *rs,
                struct backup_info *ret, struct err *err);

/* Is it one that Terem writes?  backup_read() does not ask: whoever restores or verifies does. */
int backup_manifest_check(const json_t *manifest, struct err *err);
bool backup_digest_ok(const char *text); /* "sha256:…" */

/* Its manifest, and no byte behind it; nothing else is checked. */
int backup_show(const struct backup_in *in, struct backup_info *ret, struct err *err);
/* Reads the descriptor that ctx points to. */
ssize_t backup_read_fd(void *ctx, void *buf, size_t size, struct err *err);
/* The list of files of a backup in a file that can be sought in. */
int backup_list(int fd, char **ret, size_t *ret_len, struct err *err);
/* Which frames of an interrupted file are whole; one that is finished: ERR_EXISTS. */
int backup_part_read(int fd, struct backup_part *ret, struct err *err);
