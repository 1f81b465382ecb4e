/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * refusal — counters of refusals whose cgroup file tells, on version 2, that it has changed: the
 * kernel calls that a modification, and inotify hears it (Documentation/admin-guide/cgroup-v2.rst).
 * Where it does not tell (version 1), resource_refused() is asked now and then.
 */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "resource/node.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

struct watch {
    int wd;
    int64_t id;
    const struct param_row *row;
};

struct resource_refusals {
    struct resource_node *node; /* not ours */
    int fd;
    size_t n;
    struct watch *watch;
    resource_refused_fn fn;
    void *ctx;
};

/* memory.swap.events; those of huge pages have a file for each size. */
static const char *const files[][2] = {{"swap.limit", "memory.swap.events"}};

bool resource_refusals_told(const struct resource_node *node, const struct param_row *row)
{
    const struct controller *c = node_controller(node, row);
    bool has = huge_owns(row);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        has = has || str_eq(files[i][0], row->key);
    return has && c && c->where == RESOURCE_V2;
}

/* inotify_init(2) says EMFILE of both. */
static int begin_failed(struct err *err)
{
    static const char what[] = "cannot listen to the counters of cgroups";
    auto_fd int free_one = errno == EMFILE ? open("/", O_PATH | O_CLOEXEC) : -1;
    if (free_one < 0)
        return err_sys(err, what);
    return err_set(err, ERR_EXHAUSTED,
                   "%s: root has as many inotify instances as may be; raise the sysctl "
                   "fs.inotify.max_user_instances",
                   what);
}

int resource_refusals_open(struct resource_node *node, resource_refused_fn fn, void *ctx,
                           struct resource_refusals **ret, int *ret_fd, struct err *err)
{
    struct resource_refusals *r = calloc(1, sizeof(*r));
    if (!r)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    *r = (struct resource_refusals){.node = node, .fn = fn, .ctx = ctx};
    r->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (r->fd < 0) {
        int e = begin_failed(err);
        free(r);
        return e;
    }
    *ret = r;
    *ret_fd = r->fd;
    return 0;
}

void resource_refusals_close(struct resource_refusals *r)
{
    if (!r)
        return;
    cleanup_fd(&r->fd); /* and all watches */
    free(r->watch);
    free(r);
}

static int add(struct resource_refusals *r, int64_t id, const struct param_row *row, int cgroup,
               const char *file, struct err *err)
{
    char dir[FD_PATH_MAX], path[FD_PATH_MAX + 80];
    str_print(path, sizeof(path), "%s/%s", fd_path(cgroup, dir), file);
    struct watch *more = reallocarray(r->watch, r->n + 1, sizeof(*more));
    if (!more)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    r->watch = more;
    int wd = inotify_add_watch(r->fd, path, IN_MODIFY);
    if (wd < 0 && errno == ENOSPC)
        return err_set(err, ERR_EXHAUSTED,
                       "cannot listen to %s: root has as many inotify watches as may be; raise the "
                       "sysctl fs.inotify.max_user_watches",
                       file);
    if (wd < 0)
        return errno == ENOENT ? 0 : err_sys(err, "cannot listen to %s", file);
    r->watch[r->n++] = (struct watch){wd, id, row};
    return 0;
}

static int add_row(struct resource_refusals *r, int64_t id, const struct param_row *row,
                   struct err *err)
{
    const struct resource_node *node = r->node;
    auto_fd int fd = -1;
    int e = ve_open(node, node_controller(node, row)->branch, id, &fd, err);
    for (size_t i = 0; e == 0 && i < ARRAY_SIZE(files); i++)
        if (str_eq(files[i][0], row->key))
            e = add(r, id, row, fd, files[i][1], err);
    for (size_t i = 0; e == 0 && huge_owns(row) && i < node->n_huge; i++)
        if (str_ends(node->huge[i], "B.events"))
            e = add(r, id, row, fd, node->huge[i], err);
    return e;
}

int resource_refusals_watch(struct resource_refusals *r, int64_t id, const struct param_set *set,
                            struct err *err)
{
    resource_refusals_forget(r, id);
    for (size_t i = 0; i < param_table_size; i++) {
        const struct param_row *row = &param_table[i];
        if (set->v[i].unlimited || !resource_refusals_told(r->node, row))
            continue;
        int e = add_row(r, id, row, err);
        if (e < 0)
            return e;
    }
    return 0;
}

void resource_refusals_forget(struct resource_refusals *r, int64_t id)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (r->watch[i].id == id)
            inotify_rm_watch(r->fd, r->watch[i].wd); /* it would keep the file in memory */
        else
            r->watch[kept++] = r->watch[i];
    }
    r->n = kept;
}

int resource_refusals_hear(struct resource_refusals *r, struct err *err)
{
    _Alignas(struct inotify_event) char buf[4096];
    ssize_t n = read(r->fd, buf, sizeof(buf));
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return err_sys(err, "cannot listen to the counters of cgroups");
    for (char *at = buf; n > 0 && at < buf + n;) {
        struct inotify_event *e = (struct inotify_event *)at;
        at += sizeof(*e) + e->len;
        for (size_t i = 0; i < r->n; i++) {
            uint64_t count;
            if (r->watch[i].wd != e->wd)
                continue;
            if (resource_refused(r->node, r->watch[i].id, r->watch[i].row, &count, NULL) == 0)
                r->fn(r->ctx, r->watch[i].id, r->watch[i].row, count);
            break;
        }
    }
    return 0;
}
