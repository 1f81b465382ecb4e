/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "container/init.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "kernel/mount.h"
#include "kernel/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ATTR_SHOWN (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
#define DEADLINE_S 60 /* of each of its steps; milliseconds are usual */

struct container_birth {
    pid_t pid;
    int pidfd, sock, netns;
};

int container_birth_netns(const struct container_birth *b)
{
    return b->netns;
}

void container_birth_free(struct container_birth *b)
{
    if (!b)
        return;
    if (b->pid > 0) {
        fd_pidfd_kill(b->pidfd, SIGKILL, NULL);
        while (waitpid(b->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    cleanup_fd(&b->pidfd);
    cleanup_fd(&b->sock);
    cleanup_fd(&b->netns);
    free(b);
}

static void free_birth(struct container_birth **b)
{
    container_birth_free(*b);
}

static int check_plan(const struct container_plan *p, struct err *err)
{
    /* The last id must be an id: 2^32-1 means "none". */
    if (p->id_base == 0 || p->id_base > UINT32_MAX - CONTAINER_ID_COUNT)
        return err_set(err, ERR_INTERNAL, "%u is no base of ids for a VE", p->id_base);
    if (!p->argv || !p->argv[0])
        return err_set(err, ERR_USAGE, "there is no command to start it with");
    if (p->n_cgroup_procs > CONTAINER_V1_MAX || (p->repair ? p->repair->tree : p->tree) < 0 ||
        (p->repair && p->n_layers == 0) || (!p->own_init && p->init_program < 0))
        return err_set(err, ERR_INTERNAL, "the plan of the VE is incomplete");
    return 0;
}

static int open_namespace(pid_t pid, const char *name, int *ret_fd, struct err *err)
{
    char path[64];
    str_print(path, sizeof(path), "/proc/%d/ns/%s", pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open its %s namespace", name);
    *ret_fd = fd;
    return 0;
}

static int clone_shifted(int dir, int userns, unsigned attr, int *ret_fd, struct err *err)
{
    auto_fd int fd = -1;
    int r = mount_clone(dir, "", &fd, err);
    if (r < 0 || (r = mount_idmap(fd, userns, attr, err)) < 0)
        return r;
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int send_layers(const int *layers, size_t n_layers, int userns, int sock, struct err *err)
{
    for (size_t done = 0; done < n_layers;) {
        int fds[FD_PASS_MAX];
        size_t n = 0;
        int r = 0;
        while (n < FD_PASS_MAX && done + n < n_layers && r == 0) {
            r = clone_shifted(layers[done + n], userns, MOUNT_ATTR_RDONLY, &fds[n], err);
            if (r == 0)
                n++;
            else
                err_wrap(err, "layer %zu", done + n + 1);
        }
        if (r == 0)
            r = message_send(sock, MESSAGE_LAYERS, 0, fds, n, err);
        done += n;
        while (n > 0)
            close(fds[--n]);
        if (r < 0)
            return r;
    }
    return 0;
}

static int send_lxcfs(int lxcfs_dir, int sock, struct err *err)
{
    int fds[LXCFS_COUNT], there[LXCFS_COUNT];
    uint32_t mask = 0;
    size_t n = 0;
    lxcfs_clone(lxcfs_dir, fds);
    for (size_t i = 0; i < LXCFS_COUNT; i++)
        if (fds[i] >= 0) {
            mask |= 1u << i;
            there[n++] = fds[i];
        }
    int r = message_send(sock, MESSAGE_LXCFS, mask, NULL, 0, err);
    if (r == 0 && n > 0)
        r = message_send(sock, MESSAGE_LXCFS, 0, there, n, err);
    while (n > 0)
        close(there[--n]);
    return r;
}

static int send_parts(const struct container_plan *plan, pid_t pid, int sock, struct err *err)
{
    auto_fd int userns = -1, tree = -1, dev = -1, proc_fs = -1;
    int r;
    if ((r = open_namespace(pid, "user", &userns, err)) < 0 ||
        (r = send_layers(plan->layers, plan->n_layers, userns, sock, err)) < 0)
        return r;
    const struct container_repair *repair = plan->repair;
    if (repair && (r = send_layers(repair->layers, repair->n_layers, userns, sock, err)) < 0)
        return r;
    if ((r = clone_shifted(repair ? repair->tree : plan->tree, userns,
                           MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, &tree, err)) < 0)
        return err_wrap(err, "its writable tree");
    if ((r = device_tree(plan->id_base, plan->limits->shared, plan->nesting, &dev, err)) < 0)
        return r;
    if (plan->proc_fs >= 0 && ((r = mount_clone(plan->proc_fs, "", &proc_fs, err)) < 0 ||
                               (r = mount_set(proc_fs, ATTR_SHOWN, 0, err)) < 0))
        return err_wrap(err, "its /proc/fs");
    const int mounts[] = {tree, dev, proc_fs};
    if ((r = message_send(sock, MESSAGE_MOUNTS, 0, mounts, plan->proc_fs >= 0 ? 3 : 2, err)) < 0)
        return r;
    return send_lxcfs(plan->lxcfs, sock, err);
}

/* What the child says went wrong tells more than our broken pipe. */
static int child_failed(struct container_birth *b, struct err *err)
{
    struct err why = {0};
    int r = message_expect(b->sock, MESSAGE_GO, NULL, NULL, 0, &why);
    if (why.kind && why.kind != ERR_INTERNAL && err)
        *err = why;
    return err ? -err->kind : r;
}

static int begin(const struct container_plan *plan, struct container_birth *b, struct err *err)
{
    int pair[2];
    int r = message_pair(pair, err);
    if (r < 0)
        return r;
    auto_fd int inner = pair[1];
    b->sock = pair[0];
    if ((r = message_deadline(b->sock, DEADLINE_S, err)) < 0)
        return r;
    process_raise_limits(plan->limits);
    if ((r = outer_fork(plan, inner, &b->pid, &b->pidfd, err)) < 0)
        return r;
    cleanup_fd(&inner);

    process_expose(b->pid);
    if ((r = message_send(b->sock, MESSAGE_MAPPED, 0, NULL, 0, err)) < 0 ||
        (r = send_parts(plan, b->pid, b->sock, err)) < 0)
        return child_failed(b, err);
    uint32_t ipc = 0;
    if ((r = message_expect(b->sock, MESSAGE_READY, &ipc, NULL, 0, err)) < 0)
        return r;
    if (!ipc && (r = limits_write_ipc_of(plan->limits, b->pidfd, err)) < 0)
        return r;
    if (namespace_zero_clocks(b->pid, err) < 0 || open_namespace(b->pid, "net", &b->netns, err) < 0)
        return child_failed(b, err);
    return 0;
}

int container_birth_begin(const struct container_plan *plan, struct container_birth **ret,
                          struct err *err)
{
    int r = check_plan(plan, err);
    if (r < 0)
        return r;
    struct container_plan whole = *plan;
    if (!plan->limits)
        whole.limits = &container_limits_default;
    auto_clean(free_birth) struct container_birth *b = malloc(sizeof(*b));
    if (!b)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    *b = (struct container_birth){.pid = -1, .pidfd = -1, .sock = -1, .netns = -1};
    if ((r = begin(&whole, b, err)) < 0)
        return r;
    *ret = steal_ptr(&b);
    return 0;
}

int container_birth_finish(struct container_birth *b, struct container_started *ret,
                           struct err *err)
{
    auto_fd int console = -1, listener = -1;
    struct container_pts pts;
    struct message m;
    size_t n = 1;
    int r;
    if ((r = message_expect(b->sock, MESSAGE_CONSOLE, NULL, &console, 1, err)) < 0 ||
        (r = limits_see_pts(b->pidfd, &pts, err)) < 0) /* nothing of the VE's own has run yet */
        return r;
    if ((r = message_send(b->sock, MESSAGE_GO, 0, NULL, 0, err)) < 0)
        return child_failed(b, err);
    do { /* MESSAGE_FILTER comes once, with its descriptor */
        if ((r = message_next(b->sock, &m, &listener, &n, err)) < 0)
            return r;
        n = 0;
    } while (m.kind == MESSAGE_FILTER && listener >= 0);
    if (m.kind == MESSAGE_FAILED && err)
        *err = m.err;
    if (m.kind == MESSAGE_FAILED)
        return -m.err.kind;
    if (m.kind != MESSAGE_END)
        return err_set(err, ERR_INTERNAL, "unexpected message %u of its first process", m.kind);
    *ret = (struct container_started){.pidfd = steal_fd(&b->pidfd),
                                      .pid = b->pid,
                                      .console = steal_fd(&console),
                                      .listener = steal_fd(&listener),
                                      .pts = pts};
    b->pid = -1;
    return 0;
}

int container_birth_root(struct container_birth *b, int *ret_pidfd, struct err *err)
{
    auto_fd int console = -1;
    int r = message_expect(b->sock, MESSAGE_CONSOLE, NULL, &console, 1, err);
    if (r < 0)
        return r;
    *ret_pidfd = b->pidfd;
    return 0;
}
