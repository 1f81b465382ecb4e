/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which worker does whose work.  Of most kinds each job has a worker of its own; of those that come
 * in hundreds (.crewed: starts and ends of VEs) a worker does several, one after another: what a
 * fork of teremd costs, and the wait for the disk that keeps what is meant, are shared by all.
 *
 * What a worker that dies had not begun is given to another.
 */
#include "ve/jobs.h"

#include <errno.h>
#include <sys/wait.h>

struct crew {
    size_t n;     /* jobs that it has not told the end of */
    size_t *busy; /* counts it, or NULL */
};

void job_close_worker(struct job *job)
{
    struct crew *crew = job->crew;
    ve_handle_close(&job->poll);
    ve_handle_close(&job->kill_timer);
    cleanup_fd(&job->sock);
    job->crew = NULL;
    job->pid = 0;
    job->begun = false;
    if (!crew || --crew->n)
        return;
    if (crew->busy)
        --*crew->busy;
    free(crew);
}

static void on_message(uv_poll_t *poll, int status, int events)
{
    struct job *job = poll->data;
    struct err error;
    enum worker_said said;
    while ((said = worker_hear(job, &error)) == WORKER_PROGRESS)
        ve_event_job(job, false);
    if (said == WORKER_SILENT)
        return;
    job_close_worker(job);
    job_work_ended(job, &error);
}

static void listen_to(struct job *job, struct crew *crew)
{
    job->crew = crew;
    crew->n++;
    job->poll = calloc(1, sizeof(*job->poll));
    if (!job->poll)
        abort(); /* a worker that nobody listens to cannot be undone */
    uv_poll_init(job->node->loop, job->poll, job->sock);
    job->poll->data = job;
    uv_poll_start(job->poll, UV_READABLE, on_message);
}

/* Whoever is told of the job relies on it, also one who does not wait for its end. */
void job_flush(struct job *const *jobs, size_t n)
{
    struct err e = {0};
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        any |= jobs[i]->flush;
        jobs[i]->flush = false;
    }
    if (any && registry_flush(jobs[0]->node->registry, &e) < 0)
        log_error(jobs[0]->rec.subject, jobs[0]->rec.id, "%s", e.text);
}

static int begin(struct job *const *jobs, size_t n, size_t *busy, struct err *err)
{
    struct crew *crew = calloc(1, sizeof(*crew));
    if (!crew)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (worker_fork(jobs, n, err) < 0) {
        free(crew);
        return -err->kind;
    }
    crew->busy = busy;
    if (busy)
        ++*busy;
    for (size_t i = 0; i < n; i++)
        listen_to(jobs[i], crew);
    return 0;
}

/* ---- those that wait for a worker ---- */

/* Ends never wait for starts, nor what is asked for by itself for what is one of many. */
enum worker_slots job_slots(const struct job *job)
{
    return job->kind->limited ? job->item ? SLOTS_BULK : SLOTS_LIMITED
           : job->item        ? SLOTS_BULK_ENDS
                              : SLOTS_ENDS;
}

/* The oldest of those that are ready, at most `most`. */
static size_t gather(struct ve_node *node, enum worker_slots slots, struct job *jobs[CREW_MAX],
                     size_t most)
{
    size_t n = 0;
    for (size_t i = 0; i < node->n_open && n < most; i++) {
        struct job *job = node->open[i];
        if (!job->ready || job_slots(job) != slots)
            continue;
        job->ready = false;
        jobs[n++] = job;
    }
    return n;
}

static size_t count_ready(const struct ve_node *node, enum worker_slots slots)
{
    size_t n = 0;
    for (size_t i = 0; i < node->n_open; i++)
        n += node->open[i]->ready && job_slots(node->open[i]) == slots;
    return n;
}

/* No job ends in here but by a failure to fork. */
static void go(struct ve_node *node, enum worker_slots slots)
{
    size_t *busy = &node->n_working[slots], ready;
    while (*busy < node->workers_max && (ready = count_ready(node, slots))) {
        struct job *jobs[CREW_MAX];
        struct err e = {0};
        size_t free_slots = node->workers_max - *busy;
        size_t most = (ready + free_slots - 1) / free_slots;
        size_t n = gather(node, slots, jobs, most < CREW_MAX ? most : CREW_MAX);
        job_flush(jobs, n); /* before anything is touched */
        if (begin(jobs, n, busy, &e) < 0)
            for (size_t i = 0; i < n; i++)
                job_work_ended(jobs[i], &e);
    }
}

void crews_go(struct ve_node *node)
{
    if (node->gathering || node->closing)
        return;
    for (int slots = 0; slots < WORKER_SLOTS; slots++)
        go(node, (enum worker_slots)slots);
}

void job_begin_worker(struct job *job)
{
    struct err e = {0};
    if (job->kind->crewed && !job->alone) {
        job->ready = true;
        crews_go(job->node);
    } else if (begin(&job, 1, job->kind->limited ? &job->node->n_working[job_slots(job)] : NULL,
                     &e) < 0) {
        job_work_ended(job, &e);
    } else {
        job_flush(&job, 1); /* while the worker is at work */
    }
}

/* ---- what comes of them ---- */

void job_hear_workers(struct ve_node *node)
{
    for (size_t i = 0; i < node->n_open; i++) {
        int64_t id = node->open[i]->rec.id;
        if (node->open[i]->sock < 0)
            continue;
        on_message(node->open[i]->poll, 0, UV_READABLE);
        if (i >= node->n_open || node->open[i]->rec.id != id)
            i = (size_t)-1; /* it has ended, and others may have begun */
    }
}

/* Its worker ended without a word: undo what it may have done, then fail. */
static void ended_silently(struct job *job, int status)
{
    bool begun = job->begun || !job->kind->crewed;
    job_close_worker(job);
    if (!begun && !job->cancelled) {
        job_begin_worker(job);
        return;
    }
    if (job->cancelled)
        err_set(&job->error, ERR_CANCELLED, "cancelled");
    else if (job->error.kind && !job->failing)
        ; /* worker_hear() knows why */
    else if (WIFSIGNALED(status))
        err_set(&job->error, ERR_INTERNAL, "its worker was killed by signal %d", WTERMSIG(status));
    else
        err_set(&job->error, ERR_INTERNAL, "its worker ended with status %d", WEXITSTATUS(status));
    asking_done(job);
    if (job->ve && job->kind != &job_undo && job->kind->event != VE_EVENT__COUNT) {
        job->failing = true;
        job->kind = &job_undo;
        job_run_work(job);
    } else {
        struct err e = job->error;
        job_fail(job, &e);
    }
}

static struct job *next_of(struct ve_node *node, pid_t pid)
{
    for (size_t i = 0; i < node->n_open; i++)
        if (node->open[i]->pid == pid)
            return node->open[i];
    return NULL;
}

bool job_is_worker(struct ve_node *node, pid_t pid)
{
    return next_of(node, pid) != NULL;
}

void job_child_ended(struct ve_node *node, pid_t pid, int status)
{
    struct job *job;
    while ((job = next_of(node, pid))) {
        on_message(job->poll, 0, UV_READABLE); /* its last words may still be in the socket */
        if (next_of(node, pid) == job)
            ended_silently(job, status);
    }
}

void job_cancel_worker(struct job *job)
{
    if (!job->pid)
        return;
    (void)!send(job->sock, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL); /* it is this one that is meant */
    kill(job->pid, SIGTERM);
}

void job_kill_worker(struct job *job)
{
    if (job->pid && (job->begun || !job->kind->crewed))
        kill(job->pid, SIGKILL);
}
