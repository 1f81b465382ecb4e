/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Workers: the processes that do the work of jobs, one of each or several one after another
 * (crew.c).
 *
 * A worker dies with teremd (PR_SET_PDEATHSIG), so that a restarted teremd finds nobody else at
 * work; it has no registry, no client's connection and no loop.  It reports struct wire messages;
 * the last one is the result, with the descriptors that its kind promises.
 */
#include "base/fd.h"
#include "base/title.h"
#include "ve/beside.h"
#include "ve/jobs.h"
#include "ve/pools.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

struct wire {
    enum { WIRE_BEGUN, WIRE_PROGRESS, WIRE_RESULT } type;
    int32_t percent;
    char text[200];
    struct err error;
    int64_t result[JOB_RESULTS];
};

#define KEEP_MAX (3 * CREW_MAX + 16) /* descriptors that a process is given */

volatile sig_atomic_t job_cancel_flag;

static void be_last(int nice, int io)
{
    setpriority(PRIO_PROCESS, 0, nice);
    syscall(SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, io);
}

void worker_be_idle(void)
{
    be_last(19, 3 << 13 /* IOPRIO_CLASS_IDLE */);
}

void worker_be_modest(void)
{
    be_last(10, 2 << 13 | 7 /* IOPRIO_CLASS_BE, the last of it */);
}

static void on_cancel(int sig)
{
    job_cancel_flag = 1;
}

static void close_others_from(int floor, const int *keep, size_t n_keep)
{
    for (unsigned from = (unsigned)floor;;) {
        unsigned next = ~0u; /* the lowest kept descriptor from here up */
        for (size_t i = 0; i < n_keep; i++)
            if (keep[i] >= (int)from && (unsigned)keep[i] < next)
                next = (unsigned)keep[i];
        if (next == ~0u) {
            close_range(from, ~0u, 0);
            return;
        }
        if (next > from)
            close_range(from, next - 1, 0);
        from = next + 1;
    }
}

/* Those of pools that came after the node's start lie among other people's connections. */
static void close_for_worker(struct ve_node *node, const int *keep, size_t n_keep)
{
    int all[KEEP_MAX + POOLS_MAX * STORAGE_FDS];
    size_t n = 0;
    for (; n < n_keep && n < KEEP_MAX; n++)
        all[n] = keep[n];
    for (size_t i = 0; i < node->n_pools; i++)
        if (node->pools[i]->pool)
            n += storage_pool_fds(node->pools[i]->pool, &all[n]);
    close_others_from(node->fd_floor, all, n);
}

pid_t ve_fork(struct ve_node *node, const int *keep, size_t n_keep, bool dies_with_us)
{
    sigset_t all, old;
    pid_t parent = getpid();
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    pid_t pid = fork();
    if (pid == 0) {
        struct sigaction dfl = {.sa_handler = SIG_DFL};
        for (int sig = 1; sig < NSIG; sig++)
            sigaction(sig, &dfl, NULL);
        signal(SIGPIPE, SIG_IGN);
        if (dies_with_us) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent)
                _exit(1);
        }
        /* What the rooms hold lies below fd_floor; above are other people's connections.  A
         * process that outlives us keeps only what it was given. */
        if (dies_with_us)
            close_for_worker(node, keep, n_keep);
        else
            close_others_from(3, keep, n_keep);
        sigprocmask(SIG_SETMASK, &(sigset_t){0}, NULL);
        return 0;
    }
    sigprocmask(SIG_SETMASK, &old, NULL);
    return pid;
}

/* ---- the worker's side ---- */

/* A worker of several is told which of them is meant: that one has a byte in its socket. */
static bool is_cancelled(const struct job *job)
{
    char byte;
    return job_cancel_flag &&
           (!job->kind->crewed || recv(job->sock, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0);
}

int job_progress(void *ctx, int percent, const char *text)
{
    struct job *job = ctx;
    struct wire w = {.type = WIRE_PROGRESS, .percent = percent};
    /* Of one of many nobody looks at its steps. */
    if (job->sock >= 0 && !(job->item && job->kind->crewed)) {
        str_print(w.text, sizeof(w.text), "%s", text ? text : "");
        /* A full socket loses a line of progress, which is better than a worker that waits. */
        send(job->sock, &w, sizeof(w), MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    return is_cancelled(job);
}

int job_check_cancelled(struct job *job, struct err *err)
{
    return is_cancelled(job) ? err_set(err, ERR_CANCELLED, "cancelled") : 0;
}

static void work_one(struct job *job)
{
    struct wire w = {.type = WIRE_BEGUN, .percent = -1};
    struct err e = {0};
    char what[96];
    if (job->kind->crewed)
        fd_send(job->sock, &w, sizeof(w), NULL, 0, NULL);
    w.type = WIRE_RESULT;
    str_print(what, sizeof(what), "%s %s", job->rec.kind, job->rec.subject);
    title_set("terem-worker", what);
    if (job->kind->work(job, &e) < 0)
        w.error = e;
    memcpy(w.result, job->result, sizeof(w.result));
    str_print(w.text, sizeof(w.text), "%s", job->said);
    fd_send(job->sock, &w, sizeof(w), job->result_fds, job->n_result_fds, NULL);
    for (size_t i = 0; i < job->n_result_fds; i++)
        cleanup_fd(&job->result_fds[i]);
    cleanup_fd(&job->sock);
}

_Noreturn static void worker_main(struct job *const *jobs, size_t n)
{
    struct sigaction sa = {.sa_handler = on_cancel};
    sigaction(SIGTERM, &sa, NULL);
    jobs[0]->node->crew = n > 1;
    for (size_t i = 0; i < n; i++)
        work_one(jobs[i]);
    _exit(0);
}

/* ---- teremd's side ---- */

static void close_all(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        cleanup_fd(&fds[i]);
}

static int make_sockets(int ours[], int theirs[], size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        int sv[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0) {
            close_all(ours, i);
            close_all(theirs, i);
            return err_sys(err, "cannot make a socket pair for a worker");
        }
        ours[i] = sv[0];
        theirs[i] = sv[1];
    }
    return 0;
}

static pid_t fork_for(struct job *const *jobs, const int *theirs, size_t n)
{
    struct ve_node *node = jobs[0]->node;
    int keep[KEEP_MAX];
    size_t n_keep = 0;
    keep[n_keep++] = lxcfs_dir(node);
    keep[n_keep++] = inside_dir(node);
    for (size_t i = 0; i < n; i++) {
        keep[n_keep++] = theirs[i];
        keep[n_keep++] = jobs[i]->ve ? jobs[i]->ve->pidfd : -1;
        keep[n_keep++] = jobs[i]->client;
    }
    return ve_fork(node, keep, n_keep, true);
}

int worker_fork(struct job *const *jobs, size_t n, struct err *err)
{
    int ours[CREW_MAX], theirs[CREW_MAX];
    if (make_sockets(ours, theirs, n, err) < 0)
        return -err->kind;
    pid_t pid = fork_for(jobs, theirs, n);
    if (pid == 0) {
        for (size_t i = 0; i < n; i++)
            jobs[i]->sock = theirs[i];
        worker_main(jobs, n);
    }
    if (pid < 0)
        err_sys(err, "cannot fork a worker");
    close_all(theirs, n);
    if (pid < 0) {
        close_all(ours, n);
        return -err->kind;
    }
    for (size_t i = 0; i < n; i++) {
        jobs[i]->sock = ours[i];
        jobs[i]->pid = pid;
        fd_set_nonblock(ours[i], NULL);
    }
    return 0;
}

enum worker_said worker_hear(struct job *job, struct err *ret_error)
{
    struct wire w;
    int fds[4];
    size_t n;
    ssize_t len;
    do {
        struct err e = {0};
        n = ARRAY_SIZE(fds);
        len = fd_recv(job->sock, &w, sizeof(w), fds, &n, &e);
        /* Its result brings descriptors, and there was no room for them: the worker is dead for
         * us, and what it made is undone. */
        if (len < 0 && e.kind == ERR_EXHAUSTED && !job->failing)
            err_set(&job->error, ERR_EXHAUSTED, "%s: cannot %s: %s", job->rec.subject,
                    job->kind->name, e.text);
        if (len <= 0)
            return WORKER_SILENT;
    } while (len != (ssize_t)sizeof(w));
    w.text[sizeof(w.text) - 1] = '\0';
    job->begun = true;
    if (w.type == WIRE_BEGUN)
        return worker_hear(job, ret_error);
    if (w.type == WIRE_PROGRESS) {
        job->percent = w.percent;
        memcpy(job->text, w.text, sizeof(job->text));
        return WORKER_PROGRESS;
    }
    memcpy(job->result, w.result, sizeof(job->result));
    str_print(job->said, sizeof(job->said), "%s", w.text);
    memcpy(job->result_fds, fds, n * sizeof(int));
    job->n_result_fds = n;
    w.error.text[sizeof(w.error.text) - 1] = '\0';
    *ret_error = w.error;
    return WORKER_DONE;
}
