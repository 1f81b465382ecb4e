/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The outer user namespace: between the host's and the VE's own, with the same 65,536 ids, and
 * with no process in it.  What the kernel counts per user and user namespace (namespaces, inotify
 * and fanotify, queued signals, message queues, locked memory) it also charges to the owner of the
 * namespace in its parent: the sum over all users of the VE stands in one place in the outer one,
 * and that is bounded there, where the VE's root has no power
 * (docs/adr/0006-outer-user-namespace.md).
 *
 * A middle process makes it, becomes root in it, writes the limits, forks the VE's first process as
 * a child of the caller into the VE's own namespace, writes that one's ids (only who is in a user
 * namespace or in the one around it may), and ends.
 *
 *     caller                          middle
 *       │  MAPPED, sysctls ───────────▶ │ the outer ids are written
 *       │ ◀─────────── PROCESS, pidfd   │
 *       │ ◀── end of file: the inner ids are written, and its memory is free; or FAILED
 */
#include "container/init.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "kernel/namespace.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEADLINE_S  60        /* as in birth.c */
#define STACK_BYTES (1 << 20) /* of init, until it executes */

struct middle {
    const struct container_plan *plan;
    int sock;  /* to the caller */
    int inner; /* init's, to the caller */
    int sysctls;
};

static int init_start(void *arg)
{
    const struct middle *m = arg;
    close(m->sock);
    init_main(m->plan, m->inner, m->sysctls);
}

/*
 * init gets our memory, with a stack of its own, instead of a copy, which would cost as much as
 * all the rest here.  The two take turns: init waits for MAPPED, which the caller sends when we are
 * gone (the kernel lets go of a process's memory before its descriptors).
 */
static int fork_init(struct middle *m, int *ret_pidfd, pid_t *ret_pid, struct err *err)
{
    char *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED)
        return err_sys(err, "cannot make a stack");
    /* The owner of /proc/PID/uid_map follows from this.  No process but us has powers over the
     * new namespace; init takes it back before there are others. */
    prctl(PR_SET_DUMPABLE, 1);
    pid_t pid =
        clone(init_start, stack + STACK_BYTES,
              CLONE_VM | CLONE_NEWUSER | CLONE_NEWPID | CLONE_PARENT | CLONE_PIDFD, m, ret_pidfd);
    if (pid < 0)
        return namespace_fork_failed(err);
    *ret_pid = pid;
    return 0;
}

static int middle(struct middle *m, struct err *err)
{
    const struct container_plan *plan = m->plan;
    int keep[CONTAINER_V1_MAX + 3] = {m->sock, m->inner, plan->init_program};
    size_t n = 3;
    for (size_t i = 0; i < plan->n_cgroup_procs; i++)
        keep[n++] = plan->cgroup_procs[i];
    fd_close_others(keep, n);

    auto_fd int pidfd = -1;
    pid_t pid = -1;
    int r;
    /* The bounds of the inner namespace follow from our rlimits. */
    if ((r = process_set_limits(plan->limits, err)) < 0 ||
        (r = process_join(plan->cgroup_procs, plan->n_cgroup_procs, err)) < 0 ||
        (r = message_expect(m->sock, MESSAGE_MAPPED, NULL, &m->sysctls, 1, err)) < 0 ||
        (r = namespace_become_root(err)) < 0)
        return r;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* as in init.c */
    if ((r = limits_write_counters(plan->limits, m->sysctls, err)) < 0 ||
        (r = fork_init(m, &pidfd, &pid, err)) < 0 ||
        (r = message_send(m->sock, MESSAGE_PROCESS, (uint32_t)pid, &pidfd, 1, err)) < 0)
        return r;
    return namespace_map_ids(pid, 0, CONTAINER_ID_COUNT, err);
}

_Noreturn static void middle_main(struct middle *m)
{
    struct err err = {0};
    if (middle(m, &err) < 0)
        message_fail(m->sock, &err);
    _exit(0);
}

static int collect(pid_t pid, const struct container_plan *plan, int sock, pid_t *ret_pid,
                   int *ret_pidfd, struct err *err)
{
    auto_fd int sysctls = -1;
    uint32_t first = 0;
    int r;
    if ((r = namespace_map_ids(pid, plan->id_base, CONTAINER_ID_COUNT, err)) < 0 ||
        (r = limits_open_sysctls(&sysctls, err)) < 0 ||
        (r = message_send(sock, MESSAGE_MAPPED, 0, &sysctls, 1, err)) < 0 ||
        (r = message_expect(sock, MESSAGE_PROCESS, &first, ret_pidfd, 1, err)) < 0)
        return r;
    *ret_pid = (pid_t)first;
    return message_expect(sock, MESSAGE_END, NULL, NULL, 0, err);
}

int outer_fork(const struct container_plan *plan, int inner, pid_t *ret_pid, int *ret_pidfd,
               struct err *err)
{
    int pair[2], r = message_pair(pair, err);
    if (r < 0)
        return r;
    auto_fd int sock = pair[0], theirs = pair[1], pidfd = -1;
    if ((r = message_deadline(sock, DEADLINE_S, err)) < 0)
        return r;
    pid_t pid = namespace_fork_owned(0, plan->cgroup, plan->id_base, &pidfd, err);
    if (pid == 0) {
        struct middle m = {plan, theirs, inner, -1};
        middle_main(&m);
    }
    if (pid < 0)
        return (int)pid;
    cleanup_fd(&theirs);
    r = collect(pid, plan, sock, ret_pid, ret_pidfd, err);
    if (r < 0)
        fd_pidfd_kill(pidfd, SIGKILL, NULL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return r;
}
