/* SPDX-License-Identifier: GPL-2.0-or-later */
/* life — kill, freeze, count, list and remove what lives in a VE's cgroups. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/str.h"
#include "resource/node.h"

#include <signal.h>
#include <stdint.h>
#include <time.h>

#define LEAVE_MS 200 /* for processes that are dying already when a VE is removed */
#define PAUSE_NS 200000

/* The VE's v2 cgroup; 0 with *ret_fd -1 when it is not there. */
static int open_if_there(const struct resource_node *node, size_t branch, int64_t id, int *ret_fd,
                         struct err *err)
{
    int r = ve_open(node, branch, id, ret_fd, err);
    if (r == -ERR_NOT_FOUND) {
        err_clear(err);
        *ret_fd = -1;
        return 0;
    }
    return r;
}

/* Waits until no process is in the VE's cgroup of that branch. */
static int wait_empty(const struct resource_node *node, size_t branch, int64_t id, int64_t deadline,
                      struct err *err)
{
    auto_fd int fd = -1;
    int r = open_if_there(node, branch, id, &fd, err);
    if (r < 0 || fd < 0)
        return r;
    int64_t left = deadline - clock_ms();
    if (branch == 0)
        return cgroup_wait_event(fd, "populated", false, left > 0 ? (int)left : 0, err);
    while (cgroup_populated(fd, false)) { /* v1 does not tell when it empties */
        if (clock_ms() >= deadline)
            return err_set(err, ERR_TIMEOUT, "there are still processes");
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
    return 0;
}

struct victim {
    int fd;    /* the v1 cgroup */
    pid_t pid; /* looked for in find_process() */
};

static int find_process(void *ctx, pid_t pid)
{
    return ((struct victim *)ctx)->pid == pid ? -1 : 0;
}

/* A process id may have been given anew meanwhile: hold it, look again, then kill what is held. */
static int kill_process(void *ctx, pid_t pid)
{
    struct victim v = {.fd = *(int *)ctx, .pid = pid};
    auto_fd int pidfd = -1;
    if (pid == getpid() || fd_pidfd_open(pid, &pidfd, NULL) < 0)
        return 0;
    if (cgroup_each_process(v.fd, find_process, &v, NULL) < 0)
        fd_pidfd_kill(pidfd, SIGKILL, NULL);
    return 0;
}

int resource_kill(struct resource_node *node, int64_t id, int timeout_ms, struct err *err)
{
    int64_t deadline = clock_ms() + timeout_ms;
    for (size_t i = 0; i < node->n_branches; i++) {
        auto_fd int fd = -1;
        int r = open_if_there(node, i, id, &fd, err);
        if (r == 0 && fd >= 0)
            /* All of a VE is in its v2 cgroup; what is in v1 alone was caught on its way in. */
            r = i == 0 ? cgroup_kill(fd, err) : cgroup_each_process(fd, kill_process, &fd, err);
        if (r < 0 && r != -ERR_NOT_FOUND)
            return r;
    }
    for (size_t i = 0; i < node->n_branches; i++) {
        int r = wait_empty(node, i, id, deadline, err);
        if (r < 0)
            return r == -ERR_TIMEOUT
                       ? err_set(err, ERR_TIMEOUT,
                                 "its processes have not ended %d ms after SIGKILL; one may wait "
                                 "for a disk or a network file system",
                                 timeout_ms)
                       : r;
    }
    return 0;
}

int resource_freeze(struct resource_node *node, int64_t id, bool frozen, int timeout_ms,
                    struct err *err)
{
    auto_fd int fd = -1;
    int r = ve_open(node, 0, id, &fd, err);
    if (r == 0)
        r = cgroup_freeze(fd, frozen, err);
    if (r == 0)
        r = cgroup_wait_event(fd, "frozen", frozen, timeout_ms, err);
    if (r == -ERR_TIMEOUT && frozen) {
        cgroup_freeze(fd, false, NULL);
        return err_set(err, ERR_TIMEOUT,
                       "its processes could not all be frozen within %d ms; it goes on",
                       timeout_ms);
    }
    return r;
}

int resource_freeze_begin(struct resource_node *node, int64_t id, bool frozen, struct err *err)
{
    auto_fd int fd = -1;
    int r = ve_open(node, 0, id, &fd, err);
    return r < 0 ? r : cgroup_freeze(fd, frozen, err);
}

/* The file is the host's; of a VE that an older Terem has started it is one above. */
bool resource_is_frozen(const struct resource_cgroups *c)
{
    static const char *const files[] = {"cgroup.freeze", "../cgroup.freeze"};
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        auto_free char *text = NULL;
        if (fd_read_file_at(c->v2, files[i], 16, &text, NULL, NULL) == 0 && *text == '1')
            return true;
    }
    return false;
}

bool resource_populated(struct resource_node *node, int64_t id)
{
    for (size_t i = 0; i < node->n_branches; i++) {
        auto_fd int fd = -1;
        if (ve_open(node, i, id, &fd, NULL) == 0 && cgroup_populated(fd, i == 0))
            return true;
    }
    return false;
}

int resource_remove(struct resource_node *node, int64_t id, struct err *err)
{
    int64_t deadline = clock_ms() + LEAVE_MS;
    char name[VE_NAME_SIZE];
    ve_name(id, name);
    /* Nothing is removed while anything lives: a running VE must not lose its empty children. */
    for (size_t i = 0; i < node->n_branches; i++) {
        int r = wait_empty(node, i, id, deadline, err);
        if (r == -ERR_TIMEOUT)
            return err_set(err, ERR_BUSY, "cannot remove cgroup %s/%s: there are processes in it",
                           node->name, name);
        if (r < 0)
            return r;
    }
    for (size_t i = node->n_branches; i-- > 0;) {
        int r = cgroup_remove_tree(node->branch[i].fd, name, LEAVE_MS, err);
        if (r < 0)
            return r;
    }
    return 0;
}

struct id_list {
    int64_t *ids;
    size_t n, cap;
};

static int add_id(void *ctx, int fd, const char *name, struct err *err)
{
    struct id_list *l = ctx;
    uint64_t id;
    if (!str_starts(name, "ve-") || number_parse(name + 3, 1, INT64_MAX, &id, NULL) < 0)
        return 0;
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        int64_t *ids = reallocarray(l->ids, cap, sizeof(*ids));
        if (!ids)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        l->ids = ids;
        l->cap = cap;
    }
    l->ids[l->n++] = (int64_t)id;
    return 0;
}

static int compare_id(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int resource_list(struct resource_node *node, int64_t **ret, size_t *ret_n, struct err *err)
{
    struct id_list l = {0};
    for (size_t i = 0; i < node->n_branches; i++) {
        int r = cgroup_each_child(node->branch[i].fd, add_id, &l, err);
        if (r < 0) {
            free(l.ids);
            return r;
        }
    }
    size_t n = 0; /* each stands in every hierarchy: keep one */
    if (l.n)
        qsort(l.ids, l.n, sizeof(*l.ids), compare_id);
    for (size_t i = 0; i < l.n; i++)
        if (n == 0 || l.ids[n - 1] != l.ids[i])
            l.ids[n++] = l.ids[i];
    *ret = l.ids;
    *ret_n = n;
    return 0;
}
