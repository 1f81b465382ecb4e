/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "storage/walk.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

const char *walk_shown(const char *name, char buf[WALK_SHOWN])
{
    auto_str struct str s = str_init(4 * NAME_MAX + 1);
    str_escape(&s, name, strnlen(name, 64));
    str_print(buf, WALK_SHOWN, "%.80s%s", str_c(&s),
              strnlen(name, 65) > 64 || s.len > 80 ? "…" : "");
    return buf;
}

/* The subdirectories of one directory that are still to be walked: names, each with its NUL. */
struct level {
    char *names;
    size_t len, room, at;
};

struct stack {
    struct level *level;
    size_t depth, room;
};

static void stack_done(struct stack *s)
{
    for (size_t i = 0; i < s->depth; i++)
        free(s->level[i].names);
    free(s->level);
}

static struct level *push(struct stack *s)
{
    if (s->depth == s->room) {
        size_t room = s->room ? s->room * 2 : 32;
        struct level *more = reallocarray(s->level, room, sizeof(*more));
        if (!more)
            return NULL;
        s->level = more;
        s->room = room;
    }
    struct level *l = &s->level[s->depth++];
    *l = (struct level){0};
    return l;
}

static bool keep_name(struct level *l, const char *name)
{
    size_t n = strlen(name) + 1;
    if (l->room - l->len < n) {
        size_t room = l->room * 2 + 1024;
        char *more = realloc(l->names, room);
        if (!more)
            return false;
        l->names = more;
        l->room = room;
    }
    memcpy(l->names + l->len, name, n);
    l->len += n;
    return true;
}

/* Hands out what is not a directory and keeps the names of those that are. */
static int read_level(const struct walk *w, int dir, struct level *l, struct err *err)
{
    auto_dir DIR *d = fd_list(dir);
    if (!d)
        return err_sys(err, "cannot list a directory");
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(d);
        if (!e)
            return errno ? err_sys(err, "cannot list a directory") : 0;
        if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
            continue;
        struct stat st = {.st_mode = S_IFDIR};
        char text[WALK_SHOWN];
        if (e->d_type != DT_DIR && fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return err_sys(err, "cannot look at %s", walk_shown(e->d_name, text));
        if (S_ISDIR(st.st_mode)) {
            if (!keep_name(l, e->d_name))
                return err_set(err, ERR_EXHAUSTED, "out of memory");
            continue;
        }
        int r = w->entry(w->ctx, dir, e->d_name, &st, err);
        if (r != 0)
            return r;
    }
}

static int go_down(int *here, const char *name, dev_t dev, struct err *err)
{
    char text[WALK_SHOWN];
    struct stat st;
    auto_fd int next = openat(*here, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0 || fstat(next, &st) < 0)
        return err_sys(err, "cannot open directory %s", walk_shown(name, text));
    if (st.st_dev != dev)
        return err_set(err, ERR_BUSY, "something is mounted on %s", walk_shown(name, text));
    cleanup_fd(here);
    *here = steal_fd(&next);
    return 0;
}

int walk_tree(int dir, const struct walk *w, struct err *err)
{
    struct stack s __attribute__((cleanup(stack_done))) = {0};
    struct stat st;
    auto_fd int here = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (here < 0 || fstat(here, &st) < 0)
        return err_sys(err, "cannot open a directory");
    const char *name = NULL;
    int r = 0;
    for (;;) {
        struct level *l = push(&s);
        if (!l)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        if ((w->enter && (r = w->enter(w->ctx, here, name, err)) != 0) ||
            (r = read_level(w, here, l, err)) != 0)
            return r;
        while (l->at == l->len) {
            if (w->leave && (r = w->leave(w->ctx, here, s.depth == 1, err)) != 0)
                return r;
            free(l->names);
            if (--s.depth == 0)
                return 0;
            l--;
            int up = openat(here, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (up < 0)
                return err_sys(err, "cannot go up");
            cleanup_fd(&here);
            here = up;
        }
        name = l->names + l->at;
        l->at += strlen(name) + 1;
        if ((r = go_down(&here, name, st.st_dev, err)) < 0)
            return r;
    }
}

/* ---- usage ---- */

/* Inodes with more than one link that were counted already: open addressing, 0 is free (no inode
 * has that number). */
struct seen {
    uint64_t *slot;
    size_t room, n;
};

struct sum {
    uint64_t bytes, inodes;
    struct seen seen;
};

/* The slot of the number, or the free one where it belongs. */
static uint64_t *find(const struct seen *s, uint64_t ino)
{
    size_t i = (size_t)((ino * 0x9e3779b97f4a7c15u) >> 20) & (s->room - 1);
    while (s->slot[i] && s->slot[i] != ino)
        i = (i + 1) & (s->room - 1);
    return &s->slot[i];
}

/* 1: it is new; 0: was there; negative: no memory. */
static int add_seen(struct seen *s, uint64_t ino, struct err *err)
{
    if (s->n * 2 >= s->room) {
        struct seen more = {.room = s->room ? s->room * 2 : 256};
        if (!(more.slot = calloc(more.room, sizeof(*more.slot))))
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        for (size_t i = 0; i < s->room; i++)
            if (s->slot[i])
                *find(&more, s->slot[i]) = s->slot[i];
        more.n = s->n;
        free(s->slot);
        *s = more;
    }
    uint64_t *slot = find(s, ino);
    if (*slot)
        return 0;
    *slot = ino;
    s->n++;
    return 1;
}

static void add_stat(struct sum *sum, const struct stat *st)
{
    sum->bytes += (uint64_t)st->st_blocks * 512;
    sum->inodes++;
}

static int sum_entry(void *ctx, int dir, const char *name, const struct stat *st, struct err *err)
{
    struct sum *sum = ctx;
    int r = st->st_nlink > 1 ? add_seen(&sum->seen, st->st_ino, err) : 1;
    if (r > 0)
        add_stat(sum, st);
    return r < 0 ? r : 0;
}

static int sum_enter(void *ctx, int dir, const char *name, struct err *err)
{
    struct stat st;
    if (fstat(dir, &st) < 0)
        return err_sys(err, "cannot look at a directory");
    add_stat(ctx, &st);
    return 0;
}

int walk_usage(int dir, uint64_t *ret_bytes, uint64_t *ret_inodes, struct err *err)
{
    struct sum sum = {0};
    const struct walk w = {.ctx = &sum, .entry = sum_entry, .enter = sum_enter};
    int r = walk_tree(dir, &w, err);
    free(sum.seen.slot);
    if (r < 0)
        return r;
    *ret_bytes = sum.bytes;
    *ret_inodes = sum.inodes;
    return 0;
}
