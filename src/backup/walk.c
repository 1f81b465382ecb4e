/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/walk.h"

#include "archive/tree.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>

struct walk {
    int (*fn)(void *ctx, const struct walk_file *f, struct err *err);
    void (*beyond)(void *ctx, const char *dir);
    void *ctx;
    dev_t dev;
    unsigned depth;
    char name[PATH_MAX];
    size_t len;
};

struct names {
    struct str text; /* one behind the other, each with its NUL */
    char **list;
    size_t n;
};

static void names_done(struct names *n)
{
    str_done(&n->text);
    free(n->list);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(int fd, struct names *ret, struct err *err)
{
    auto_dir DIR *d = fd_list(fd);
    if (!d)
        return err_sys(err, "cannot read a directory");
    struct dirent *e;
    for (errno = 0; (e = readdir(d)); errno = 0) {
        if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
            continue;
        str_add_bytes(&ret->text, e->d_name, strlen(e->d_name) + 1);
        ret->n++;
    }
    if (errno)
        return err_sys(err, "cannot read a directory");
    ret->list = calloc(ret->n + 1, sizeof(*ret->list));
    if (!ret->list || ret->text.failed)
        return err_set(err, ERR_EXHAUSTED, "out of memory for a directory");
    char *p = ret->text.buf;
    for (size_t i = 0; i < ret->n; i++, p += strlen(p) + 1)
        ret->list[i] = p;
    qsort(ret->list, ret->n, sizeof(*ret->list), by_bytes);
    return 0;
}

static int visit_dir(struct walk *w, int fd, struct err *err);

static int visit(struct walk *w, int dir, const char *base, struct err *err)
{
    struct walk_file f = {.dir = dir, .base = base, .name = w->name, .fd = -1};
    if (fstatat(dir, base, &f.st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(err, "cannot look at %.200s", w->name);
    if (!S_ISDIR(f.st.st_mode))
        return w->fn(w->ctx, &f, err);
    auto_fd int fd = openat(dir, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open directory %.200s", w->name);
    if (f.st.st_dev != w->dev)
        return err_set(err, ERR_UNSUPPORTED, "%.200s is another file system", w->name);
    f.fd = fd;
    int r = w->fn(w->ctx, &f, err);
    return r < 0 ? r : visit_dir(w, fd, err);
}

/* At a directory, of something in it. */
static int leave_out(struct walk *w, struct err *err)
{
    if (w->beyond) {
        w->beyond(w->ctx, w->name);
        return 0;
    }
    return err_set(err, ERR_UNSUPPORTED,
                   "a path below %.200s is longer than %d bytes or %d directories, which a backup "
                   "cannot hold",
                   w->name, PATH_MAX - 1, TREE_DEPTH_MAX);
}

static int visit_dir(struct walk *w, int fd, struct err *err)
{
    auto_clean(names_done) struct names names = {.text = str_init((size_t)1 << 30)};
    size_t len = w->len;
    int r = read_names(fd, &names, err);
    if (r == 0 && names.n && w->depth >= TREE_DEPTH_MAX)
        return leave_out(w, err);
    w->depth++;
    for (size_t i = 0; r == 0 && i < names.n; i++) {
        size_t n = strlen(names.list[i]);
        w->len = len;
        w->name[len] = '\0';
        if (len + n + 2 > PATH_MAX) {
            r = leave_out(w, err);
            continue;
        }
        if (len)
            w->name[w->len++] = '/';
        memcpy(w->name + w->len, names.list[i], n + 1);
        w->len += n;
        r = visit(w, fd, names.list[i], err);
    }
    w->len = len;
    w->name[len] = '\0';
    w->depth--;
    return r;
}

int walk(int root, int (*fn)(void *ctx, const struct walk_file *f, struct err *err),
         void (*beyond)(void *ctx, const char *dir), void *ctx, struct err *err)
{
    struct walk w = {.fn = fn, .beyond = beyond, .ctx = ctx};
    auto_fd int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct walk_file f = {.dir = fd, .base = "", .name = w.name, .fd = fd};
    if (fd < 0 || fstat(fd, &f.st) < 0)
        return err_sys(err, "cannot open the tree");
    w.dev = f.st.st_dev;
    int r = fn(ctx, &f, err);
    return r < 0 ? r : visit_dir(&w, fd, err);
}

void walk_pass_over(void *ctx, const char *dir)
{
}
