/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/store.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/path.h"
#include "base/str.h"
#include "template/record.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define LAYER_JSON_MAX 4096
/* Left free on the file system for VEs and the registry: a twentieth, at most this much. */
#define RESERVE_MAX     ((uint64_t)256 << 20)
#define LOGICAL_MAX     ((uint64_t)1 << 40)
#define ENTRIES_DEFAULT 5000000

int draft_open(struct template_store *s, struct draft *ret, struct err *err)
{
    struct draft d = {.store = s, .dir = -1};
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    str_print(d.name, sizeof(d.name), ".new-%d-%lld-%ld", (int)getpid(), (long long)now.tv_sec,
              now.tv_nsec);
    /* template_recover() locks the directory of layers before it looks for drafts without an
     * owner: between our mkdir and flock it must not look. */
    auto_fd int lock = openat(s->layers, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0 || flock(lock, LOCK_SH) < 0)
        return err_sys(err, "cannot lock the layers");
    if (mkdirat(s->layers, d.name, 0700) < 0)
        return tree_sys(err, s->layers, errno, "make directory", d.name);
    d.dir = openat(s->layers, d.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (d.dir < 0 || flock(d.dir, LOCK_EX | LOCK_NB) < 0) {
        int r = err_sys(err, "cannot lock %s", d.name);
        draft_drop(&d);
        return r;
    }
    *ret = d;
    return 0;
}

void draft_drop(struct draft *d)
{
    if (d->dir < 0)
        return;
    path_remove_tree_at(d->store->layers, d->name, NULL);
    cleanup_fd(&d->dir);
}

static void layer_dir_name(const char *digest, char ret[TEMPLATE_DIGEST])
{
    str_print(ret, TEMPLATE_DIGEST, "%s", digest);
    ret[6] = '-'; /* "sha256:…": a colon would part paths in PATH-like lists */
}

static int write_layer_json(const struct layer *l, struct err *err)
{
    char text[128];
    str_print(text, sizeof(text), "{\"bytes\": %" PRIu64 ", \"entries\": %" PRIu64 "}\n", l->bytes,
              l->entries);
    auto_fd int fd =
        openat(l->draft.dir, "layer.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return tree_sys(err, l->draft.dir, errno, "create", "layer.json");
    ssize_t n = write(fd, text, strlen(text));
    if (n != (ssize_t)strlen(text))
        return tree_sys(err, fd, n < 0 ? errno : ENOSPC, "write", "layer.json");
    return 0;
}

int layer_find(struct template_store *s, const char *digest, struct layer *ret, struct err *err)
{
    char name[TEMPLATE_DIGEST], path[TEMPLATE_DIGEST + 16];
    layer_dir_name(digest, name);
    str_print(path, sizeof(path), "%s/layer.json", name);
    auto_free char *text = NULL;
    size_t len = 0;
    int r = fd_read_file_at(s->layers, path, LAYER_JSON_MAX, &text, &len, err);
    if (r < 0)
        return r;
    json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    json_int_t bytes = -1, entries = -1;
    r = j ? json_unpack(j, "{s:I, s:I!}", "bytes", &bytes, "entries", &entries) : -1;
    json_decref(j);
    if (r < 0 || bytes < 0 || entries < 0)
        return err_set(err, ERR_CORRUPT, "the file layers/%s is damaged", path);
    *ret =
        (struct layer){.bytes = (uint64_t)bytes, .entries = (uint64_t)entries, .draft = DRAFT_NONE};
    str_print(ret->digest, sizeof(ret->digest), "%s", digest);
    return 0;
}

int store_check_name(struct template_store *s, const struct template_request *rq, struct err *err)
{
    auto_template struct template *t = NULL;
    int r = name_check_template(rq->name, err);
    if (r < 0 || rq->replace)
        return r < 0 ? r : template_get(s, rq->name, &t, err);
    char file[NAME_SIZE + 8];
    str_print(file, sizeof(file), "%s.json", rq->name);
    if (faccessat(s->templates, file, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return err_set(err, ERR_EXISTS,
                       "template %s exists already; choose another name or remove it first",
                       rq->name);
    return 0;
}

/* What a record says of its making. */
static int sign(struct template_store *s, const struct template_request *rq, struct template *t,
                struct err *err)
{
    auto_template struct template *before = NULL;
    int r = rq->replace ? template_get(s, rq->name, &before, err) : 0;
    if (r < 0)
        return r;
    str_print(t->name, sizeof(t->name), "%s", rq->name);
    t->revision = before ? before->revision + 1 : 1;
    t->created = time(NULL);
    if (rq->recipe && !(t->recipe = strdup(rq->recipe)))
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    return 0;
}

/* The record's file, whole and durable but without a name yet. */
static int write_record(struct template_store *s, const struct template *t, int *ret_fd,
                        struct err *err)
{
    auto_free char *text = NULL;
    int r = record_write(t, &text, err);
    if (r < 0)
        return r;
    auto_fd int fd = openat(s->templates, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return tree_sys(err, s->templates, errno, "write the record of", t->name);
    size_t len = strlen(text);
    text[len++] = '\n'; /* in the place of the NUL, which no one needs any more */
    for (size_t at = 0; at < len;) {
        ssize_t n = write(fd, text + at, len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return tree_sys(err, fd, errno, "write the record of", t->name);
        at += (size_t)n;
    }
    if (fsync(fd) < 0)
        return tree_sys(err, fd, errno, "write the record of", t->name);
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* Under its name; replace: in the place of the record that has it now. */
static int link_record(struct template_store *s, int fd, const char *name, bool replace,
                       struct err *err)
{
    char file[NAME_SIZE + 8], path[FD_PATH_MAX];
    const char *first = replace ? ".next" : file;
    str_print(file, sizeof(file), "%s.json", name);
    if (replace) /* of somebody who was killed here */
        unlinkat(s->templates, first, 0);
    if (linkat(AT_FDCWD, fd_path(fd, path), s->templates, first, AT_SYMLINK_FOLLOW) < 0) {
        if (errno == EEXIST)
            return err_set(err, ERR_EXISTS, "template %s exists already", name);
        return tree_sys(err, s->templates, errno, "write the record of", name);
    }
    if (replace && faccessat(s->templates, file, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
        unlinkat(s->templates, first, 0);
        return err_set(err, ERR_BUSY, "template %s was removed in the meantime", name);
    }
    if (replace && renameat(s->templates, first, s->templates, file) < 0)
        return err_sys(err, "cannot replace the record of %s", name);
    if (fsync(s->templates) == 0 || replace) /* renamed: there is no way back */
        return 0;
    int r = err_sys(err, "cannot sync the templates");
    unlinkat(s->templates, file, 0);
    return r;
}

/* Puts the drafts in place; placed[i] tells which were new, for the way back. */
static int place_layers(struct template_store *s, struct layer *layers, size_t n, bool *placed,
                        struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        char name[TEMPLATE_DIGEST];
        layer_dir_name(layers[i].digest, name);
        if (layers[i].draft.dir < 0) {
            if (faccessat(s->layers, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return err_set(err, ERR_BUSY, "layer %.19s was removed in the meantime; try again",
                               layers[i].digest);
            continue;
        }
        if (renameat2(s->layers, layers[i].draft.name, s->layers, name, RENAME_NOREPLACE) == 0) {
            placed[i] = true;
        } else if (errno != EEXIST) { /* another import was quicker: its layer is the same */
            return tree_sys(err, s->layers, errno, "put in place layer", layers[i].digest);
        }
    }
    return fsync(s->layers) < 0 ? err_sys(err, "cannot sync the layers") : 0;
}

/* Once for all files, not once for each. */
static int sync_layers(struct template_store *s, const struct layer *layers, size_t n,
                       const char *what, struct err *err)
{
    int r;
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        if (layers[i].draft.dir < 0)
            continue;
        any = true;
        if ((r = write_layer_json(&layers[i], err)) < 0)
            return r;
    }
    return any && syncfs(s->layers) < 0 ? tree_sys(err, s->layers, errno, "write out", what) : 0;
}

/* r: how it went; then what was put in place stays, or goes back. */
static void settle_layers(struct template_store *s, struct layer *layers, size_t n,
                          const bool *placed, int r)
{
    for (size_t i = 0; i < n; i++) {
        char name[TEMPLATE_DIGEST];
        layer_dir_name(layers[i].digest, name);
        if (placed[i] && r == 0)
            cleanup_fd(&layers[i].draft.dir); /* no longer a draft */
        else if (placed[i])
            renameat(s->layers, name, s->layers, layers[i].draft.name);
    }
}

int store_place(struct template_store *s, struct layer *layers, size_t n, struct err *err)
{
    auto_fd int lock = -1;
    bool placed[TEMPLATE_LAYERS_MAX] = {0};
    int r = sync_layers(s, layers, n, "a layer", err);
    if (r < 0 || (r = store_lock(s, true, &lock, err)) < 0)
        return r;
    r = place_layers(s, layers, n, placed, err);
    settle_layers(s, layers, n, placed, r);
    return r;
}

int store_commit(struct template_store *s, struct template *t, const struct template_request *rq,
                 struct layer *layers, size_t n, struct err *err)
{
    auto_fd int record = -1, lock = -1;
    int r = sign(s, rq, t, err);
    if (r < 0 || (r = sync_layers(s, layers, n, t->name, err)) < 0 ||
        (r = write_record(s, t, &record, err)) < 0 || (r = store_lock(s, true, &lock, err)) < 0)
        return r;
    bool placed[TEMPLATE_LAYERS_MAX] = {0};
    r = place_layers(s, layers, n, placed, err);
    if (r == 0)
        r = link_record(s, record, t->name, rq->replace, err);
    settle_layers(s, layers, n, placed, r);
    return r;
}

int store_limits(struct template_store *s, const struct template_request *rq,
                 struct tree_limits *ret, struct err *err)
{
    struct statfs fs;
    if (fstatfs(s->layers, &fs) < 0)
        return err_sys(err, "cannot measure the free space");
    uint64_t block = (uint64_t)fs.f_bsize, size = fs.f_blocks * block, avail = fs.f_bavail * block;
    uint64_t reserve = size / 20 < RESERVE_MAX ? size / 20 : RESERVE_MAX;
    *ret = (struct tree_limits){
        .bytes = avail > reserve ? avail - reserve : 0,
        .logical = LOGICAL_MAX,
        .entries = ENTRIES_DEFAULT,
    };
    if (rq->max_bytes && rq->max_bytes < ret->bytes)
        ret->bytes = rq->max_bytes;
    if (rq->max_entries && rq->max_entries < ret->entries)
        ret->entries = rq->max_entries;
    if (ret->bytes == 0)
        return err_set(err, ERR_EXHAUSTED,
                       "the file system of Terem's state has no space left; remove templates or "
                       "other files there and try again");
    return 0;
}
