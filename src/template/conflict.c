/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a VE's own files hide of a change in the layers below.  Nothing is mounted: both stacks are
 * looked at name by name, as the overlay would show them.
 */
#include "template/template.h"

#include "archive/tree.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "template/look.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

struct stack {
    int roots[TEMPLATE_LAYERS_MAX];
    size_t n;
};

struct look {
    struct stack before, after;
    template_conflict_fn fn;
    void *ctx;
    unsigned depth;
};

struct shown {
    int fd; /* O_PATH; -1: nothing is there */
    struct stat st;
};
#define SHOWN_NONE \
    {              \
        .fd = -1   \
    }

static void shown_done(struct shown *s)
{
    cleanup_fd(&s->fd);
}
#define auto_shown auto_clean(shown_done)

static void stack_done(struct stack *s)
{
    for (size_t i = 0; i < s->n; i++)
        cleanup_fd(&s->roots[i]);
}

static void look_done(struct look *l)
{
    stack_done(&l->before);
    stack_done(&l->after);
}

static void see(const struct stack *s, const char *path, struct shown *ret)
{
    ret->fd = -1;
    look_open(s->roots, s->n, path, &ret->fd, &ret->st);
}

static bool same_bytes(int a, int b)
{
    char path[FD_PATH_MAX], x[65536], y[65536];
    auto_fd int one = open(fd_path(a, path), O_RDONLY | O_CLOEXEC);
    auto_fd int other = open(fd_path(b, path), O_RDONLY | O_CLOEXEC);
    ssize_t n = -1;
    if (one < 0 || other < 0)
        return false;
    for (off_t at = 0; (n = pread(one, x, sizeof(x), at)) > 0; at += n)
        if (pread(other, y, (size_t)n, at) != n || memcmp(x, y, (size_t)n) != 0)
            return false;
    return n == 0;
}

static bool same_link(int a, int b)
{
    char x[PATH_MAX], y[PATH_MAX];
    ssize_t n = readlinkat(a, "", x, sizeof(x)), m = readlinkat(b, "", y, sizeof(y));
    return n >= 0 && n == m && memcmp(x, y, (size_t)n) == 0;
}

/* Of one file, or of a directory without what is in it. */
static bool same(const struct shown *a, const struct shown *b)
{
    const struct stat *s = &a->st, *t = &b->st;
    if (a->fd < 0 || b->fd < 0)
        return a->fd < 0 && b->fd < 0;
    if (s->st_dev == t->st_dev && s->st_ino == t->st_ino)
        return true;
    if (s->st_mode != t->st_mode || s->st_uid != t->st_uid || s->st_gid != t->st_gid)
        return false;
    if (S_ISREG(s->st_mode))
        return s->st_size == t->st_size && same_bytes(a->fd, b->fd);
    return S_ISLNK(s->st_mode) ? same_link(a->fd, b->fd) : s->st_rdev == t->st_rdev;
}

static bool is_dir(const struct shown *s)
{
    return s->fd >= 0 && S_ISDIR(s->st.st_mode);
}

static int no_dots(const struct dirent *e)
{
    return !str_eq(e->d_name, ".") && !str_eq(e->d_name, "..");
}

static void free_list(struct dirent **list, int n)
{
    for (int i = 0; i < n; i++)
        free(list[i]);
    free(list);
}

static bool differs(struct look *l, const char *path);

/* Any name of the directory in any layer of the stack. */
static bool names_differ(struct look *l, const struct stack *s, const char *path)
{
    bool yes = false;
    for (size_t i = 0; i < s->n && !yes; i++) {
        auto_fd int fd = -1;
        struct dirent **list = NULL;
        if (path_open_beneath(s->roots[i], path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd,
                              NULL) < 0)
            continue;
        int n = scandirat(fd, ".", &list, no_dots, NULL);
        for (int k = 0; k < n && !yes; k++) {
            auto_free char *below = str_format("%s/%s", path, list[k]->d_name);
            yes = below && differs(l, below);
        }
        if (n >= 0)
            free_list(list, n);
    }
    return yes;
}

/* With everything below it. */
static bool differs(struct look *l, const char *path)
{
    auto_shown struct shown a = SHOWN_NONE, b = SHOWN_NONE;
    see(&l->before, path, &a);
    see(&l->after, path, &b);
    if (!same(&a, &b))
        return true;
    if (!is_dir(&a) || l->depth >= TREE_DEPTH_MAX)
        return false;
    l->depth++;
    bool yes = names_differ(l, &l->before, path) || names_differ(l, &l->after, path);
    l->depth--;
    return yes;
}

static bool is_opaque(int fd)
{
    char value = 0;
    return fgetxattr(fd, "user.overlay.opaque", &value, 1) == 1 && value == 'y';
}

/* What stands in its way, of a file that is no directory, or of a directory that hides all of one
 * below; NULL: nothing. */
static const char *kind_of(struct look *l, const char *path, const struct stat *own,
                           const struct shown *a, const struct shown *b)
{
    bool whiteout = S_ISCHR(own->st_mode) && own->st_rdev == makedev(0, 0);
    if (!differs(l, path))
        return NULL;
    if (a->fd < 0)
        return "added";
    if (b->fd < 0) /* gone there, too: what was deleted here agrees */
        return whiteout ? NULL : "removed";
    if ((a->st.st_mode & S_IFMT) != (b->st.st_mode & S_IFMT))
        return "type";
    return whiteout ? "deleted" : "modified";
}

static int look_at_dir(struct look *l, int fd, const char *path, struct err *err);

static int look_at(struct look *l, int dir, const char *name, const char *path, struct err *err)
{
    auto_shown struct shown a = SHOWN_NONE, b = SHOWN_NONE;
    auto_fd int fd = -1;
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_sys(err, "cannot look at %.200s", path);
    see(&l->before, path, &a);
    see(&l->after, path, &b);
    if (a.fd < 0 && b.fd < 0) /* its own, and so is all below */
        return 0;
    if (S_ISDIR(st.st_mode)) {
        fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            return err_sys(err, "cannot open %.200s", path);
    }
    /* A directory shows what is in those below it, as long as they are ones. */
    if (fd >= 0 && !is_opaque(fd) && (is_dir(&a) || a.fd < 0) && (is_dir(&b) || b.fd < 0)) {
        int r =
            is_dir(&a) && is_dir(&b) && !same(&a, &b) ? l->fn(l->ctx, path, "modified", err) : 0;
        return r < 0 ? r : look_at_dir(l, fd, path, err);
    }
    const char *kind = kind_of(l, path, &st, &a, &b);
    return kind ? l->fn(l->ctx, path, kind, err) : 0;
}

static int look_at_dir(struct look *l, int fd, const char *path, struct err *err)
{
    struct dirent **list = NULL;
    int r = 0, n = scandirat(fd, ".", &list, no_dots, alphasort);
    if (n < 0)
        return err_sys(err, "cannot list %.200s", *path ? path : "its files");
    if (++l->depth > TREE_DEPTH_MAX)
        r = err_set(err, ERR_UNSUPPORTED, "%.200s is too many directories deep", path);
    for (int i = 0; i < n && r == 0; i++) {
        auto_free char *below = str_format("%s%s%s", path, *path ? "/" : "", list[i]->d_name);
        r = below ? look_at(l, fd, list[i]->d_name, below, err)
                  : err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    l->depth--;
    free_list(list, n);
    return r;
}

static int open_stack(struct template_store *s, const char *const *digests, size_t n,
                      struct stack *ret, struct err *err)
{
    if (n > TEMPLATE_LAYERS_MAX)
        return err_set(err, ERR_USAGE, "more than %d layers", TEMPLATE_LAYERS_MAX);
    int r = template_open_layers(s, digests, n, ret->roots, err);
    ret->n = r < 0 ? 0 : n;
    return r;
}

int template_conflicts(struct template_store *s, int upper, const char *const *before,
                       size_t n_before, const char *const *after, size_t n_after,
                       template_conflict_fn fn, void *ctx, struct err *err)
{
    auto_clean(look_done) struct look l = {.fn = fn, .ctx = ctx};
    int r = open_stack(s, before, n_before, &l.before, err);
    if (r == 0)
        r = open_stack(s, after, n_after, &l.after, err);
    return r < 0 ? r : look_at_dir(&l, upper, "", err);
}
