/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The outer user namespace: between the host's and the VE's own, with the same 65,536 ids, and
 * with no process in it.  What the kernel counts per user and user namespace (namespaces, inotify
 * and fanotify, queued signals, message queues, locked memory) it also charges to the owner of the
 * namespace in its parent: the sum over all users of the VE stands in one place in the outer one,
 * and that is bounded there, where the VE's root has no power
 * (docs/adr/0006-outer-user-namespace.md).
 *
 * A middle process makes it, becomes root in it, forks the VE's first process as a child of the
 * caller into the VE's own namespace, writes that one's ids (only who is in a user namespace or in
 * its parent may) and the limits, and ends.
 *
 *     caller                          middle                          init
 *       │  MAPPED ────────────────────▶ │ the outer ids are written
 *       │ ◀─────────── PROCESS, pidfd   │
 *       │                               │  MAPPED ────────────────────▶ │ its ids are written
 *       │ ◀──────────────────── READY   │
 *       │ ◀──────────────────── READY   │ the limits are written; waited for before init executes
 */
#include "container/init.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "kernel/namespace.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEADLINE_S 60 /* as in birth.c */

struct outer {
    pid_t pid;
    int pidfd, sock;
};

struct middle {
    const struct container_plan *plan;
    int sock;        /* to the caller */
    int init, inner; /* the ends of the caller and of init of theirs */
};

static int fork_init(const struct middle *m, int *ret_pidfd, pid_t *ret_pid, struct err *err)
{
    /* The owner of /proc/PID/uid_map follows from this.  No process but us has powers over the
     * new namespace; init takes it back before there are others. */
    prctl(PR_SET_DUMPABLE, 1);
    pid_t pid = namespace_fork(CLONE_NEWUSER | CLONE_NEWPID | CLONE_PARENT, -1, ret_pidfd, err);
    if (pid == 0)
        init_main(m->plan, m->inner);
    *ret_pid = pid;
    return pid < 0 ? (int)pid : 0;
}

static int limit(const struct middle *m, struct err *err)
{
    auto_fd int sysctls = -1;
    int r = limits_open_sysctls(&sysctls, err);
    return r < 0 ? r : limits_write_counters(m->plan->limits, sysctls, err);
}

static int middle(const struct middle *m, struct err *err)
{
    const struct container_plan *plan = m->plan;
    int keep[CONTAINER_V1_MAX + 4] = {m->sock, m->init, m->inner, plan->init_program};
    size_t n = 4;
    for (size_t i = 0; i < plan->n_cgroup_procs; i++)
        keep[n++] = plan->cgroup_procs[i];
    fd_close_others(keep, n);

    auto_fd int pidfd = -1;
    pid_t pid;
    int r;
    if ((r = process_set_limits(plan->limits, err)) < 0 ||
        (r = process_join(plan->cgroup_procs, plan->n_cgroup_procs, err)) < 0 ||
        (r = message_expect(m->sock, MESSAGE_MAPPED, NULL, NULL, 0, err)) < 0 ||
        (r = namespace_become_root(err)) < 0)
        return r;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* as in init.c */
    if ((r = fork_init(m, &pidfd, &pid, err)) < 0)
        return r;
    if ((r = message_send(m->sock, MESSAGE_PROCESS, (uint32_t)pid, &pidfd, 1, err)) < 0 ||
        (r = namespace_map_ids(pid, 0, CONTAINER_ID_COUNT, err)) < 0 ||
        (r = message_send(m->init, MESSAGE_MAPPED, 0, NULL, 0, err)) < 0 ||
        (r = message_send(m->sock, MESSAGE_READY, 0, NULL, 0, err)) < 0 || (r = limit(m, err)) < 0)
        return r;
    return message_send(m->sock, MESSAGE_READY, 0, NULL, 0, err);
}

_Noreturn static void middle_main(const struct middle *m)
{
    struct err err = {0};
    if (middle(m, &err) < 0)
        message_fail(m->sock, &err);
    _exit(0);
}

static void free_outer(struct outer **o)
{
    outer_free(*o);
}

static int collect(const struct outer *o, const struct container_plan *plan, pid_t *ret_pid,
                   int *ret_pidfd, struct err *err)
{
    uint32_t first = 0;
    int r;
    if ((r = namespace_map_ids(o->pid, plan->id_base, CONTAINER_ID_COUNT, err)) < 0 ||
        (r = message_send(o->sock, MESSAGE_MAPPED, 0, NULL, 0, err)) < 0 ||
        (r = message_expect(o->sock, MESSAGE_PROCESS, &first, ret_pidfd, 1, err)) < 0)
        return r;
    *ret_pid = (pid_t)first;
    return message_expect(o->sock, MESSAGE_READY, NULL, NULL, 0, err);
}

int outer_fork(const struct container_plan *plan, const int pair[2], struct outer **ret,
               pid_t *ret_pid, int *ret_pidfd, struct err *err)
{
    int own[2], r = message_pair(own, err);
    if (r < 0)
        return r;
    auto_fd int theirs = own[1];
    auto_clean(free_outer) struct outer *o = malloc(sizeof(*o));
    if (!o) {
        close(own[0]);
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    *o = (struct outer){.pid = -1, .pidfd = -1, .sock = own[0]};
    if ((r = message_deadline(o->sock, DEADLINE_S, err)) < 0)
        return r;
    o->pid = namespace_fork_owned(0, plan->cgroup, plan->id_base, &o->pidfd, err);
    if (o->pid == 0) {
        struct middle m = {plan, theirs, pair[0], pair[1]};
        middle_main(&m);
    }
    if (o->pid < 0)
        return (int)o->pid;
    cleanup_fd(&theirs);
    if ((r = collect(o, plan, ret_pid, ret_pidfd, err)) < 0)
        return r;
    *ret = steal_ptr(&o);
    return 0;
}

int outer_finish(struct outer *o, struct err *err)
{
    return message_expect(o->sock, MESSAGE_READY, NULL, NULL, 0, err);
}

void outer_free(struct outer *o)
{
    if (!o)
        return;
    if (o->pid > 0) {
        fd_pidfd_kill(o->pidfd, SIGKILL, NULL);
        while (waitpid(o->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    cleanup_fd(&o->pidfd);
    cleanup_fd(&o->sock);
    free(o);
}
