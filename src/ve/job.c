/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs: a row in the registry, a forked worker, progress over a socket pair, an end.
 *
 * A worker dies with teremd (PR_SET_PDEATHSIG), so that a restarted teremd finds nobody else at
 * work; it has no registry, no client's connection and no loop.  It reports struct wire messages;
 * the last one is the result, with the descriptors that its kind promises.
 */
#include "base/fd.h"
#include "base/title.h"
#include "ve/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define CANCEL_GRACE_MS 5000
#define JOBS_KEPT       1000 /* ended jobs in the registry */
#define PRUNE_EVERY     200

struct wire {
    enum { WIRE_PROGRESS, WIRE_RESULT } type;
    int32_t percent;
    char text[200];
    struct err error;
    int64_t result[4];
};

volatile sig_atomic_t job_cancel_flag;

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
        close_others_from(dies_with_us ? node->fd_floor : 3, keep, n_keep);
        sigprocmask(SIG_SETMASK, &(sigset_t){0}, NULL);
        return 0;
    }
    sigprocmask(SIG_SETMASK, &old, NULL);
    return pid;
}

/* ---- the worker's side ---- */

int job_progress(void *ctx, int percent, const char *text)
{
    struct job *job = ctx;
    struct wire w = {.type = WIRE_PROGRESS, .percent = percent};
    if (job->sock >= 0) {
        str_print(w.text, sizeof(w.text), "%s", text ? text : "");
        /* A full socket loses a line of progress, which is better than a worker that waits. */
        send(job->sock, &w, sizeof(w), MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    return job_cancel_flag;
}

int job_check_cancelled(struct job *job, struct err *err)
{
    return job_cancel_flag ? err_set(err, ERR_CANCELLED, "cancelled") : 0;
}

static void worker_main(struct job *job) __attribute__((noreturn));
static void worker_main(struct job *job)
{
    struct sigaction sa = {.sa_handler = on_cancel};
    sigaction(SIGTERM, &sa, NULL);
    struct wire w = {.type = WIRE_RESULT, .percent = -1};
    struct err e = {0};
    char what[96];
    str_print(what, sizeof(what), "%s %s", job->rec.kind, job->rec.subject);
    title_set("terem-worker", what);
    if (job->kind->work(job, &e) < 0)
        w.error = e;
    memcpy(w.result, job->result, sizeof(w.result));
    fd_send(job->sock, &w, sizeof(w), job->result_fds, job->n_result_fds, NULL);
    _exit(0);
}

/* ---- teremd's side ---- */

static const char *job_state_name(enum job_state s)
{
    static const char *const names[] = {"queued", "running", "done", "failed", "cancelled"};
    return (unsigned)s < ARRAY_SIZE(names) ? names[s] : "unknown";
}

static json_t *row_json(const struct registry_job *r, enum job_state state, int percent,
                        const char *text)
{
    json_t *error = json_null();
    if (r->error)
        error = json_pack("{s:s, s:s}", "kind", err_row(r->error_kind)->name, "message", r->error);
    json_t *out = json_pack("{s:I, s:s, s:s, s:s, s:s, s:I, s:o}", "id", (json_int_t)r->id, "kind",
                            r->kind, "subject", r->subject, "state", job_state_name(state), "text",
                            text, "created", (json_int_t)r->created, "error", error);
    json_object_set_new(out, "percent", percent < 0 ? json_null() : json_integer(percent));
    json_object_set_new(out, "started", r->started ? json_integer(r->started) : json_null());
    json_object_set_new(out, "ended", r->ended ? json_integer(r->ended) : json_null());
    return out;
}

json_t *job_json(const struct job *job)
{
    json_t *out = row_json(&job->rec, job->state, job->percent, job->text);
    if (job->answer)
        json_object_set(out, "result", job->answer);
    return out;
}

int ve_job_show(struct ve_node *node, int64_t id, json_t **ret, struct err *err)
{
    for (size_t i = 0; i < node->n_open; i++) {
        if (node->open[i]->rec.id != id)
            continue;
        *ret = job_json(node->open[i]);
        return 0;
    }
    struct registry_job rec = {0};
    if (registry_job_get(node->registry, id, &rec, err) < 0)
        return -err->kind;
    *ret = row_json(&rec, (enum job_state)rec.state, -1, "");
    registry_job_done(&rec);
    return 0;
}

static int add_row(void *ctx, const struct registry_job *r, struct err *err)
{
    return json_array_append_new(ctx, row_json(r, (enum job_state)r->state, -1, ""));
}

int ve_job_list(struct ve_node *node, bool only_open, json_t **ret, struct err *err)
{
    json_t *out = json_array();
    if (only_open) {
        for (size_t i = node->n_open; i-- > 0;)
            json_array_append_new(out, job_json(node->open[i]));
    } else if (registry_job_each(node->registry, false, JOBS_KEPT, add_row, out, err) < 0) {
        json_decref(out);
        return -err->kind;
    }
    *ret = out;
    return 0;
}

static void job_close_worker(struct job *job)
{
    ve_handle_close(&job->poll);
    ve_handle_close(&job->kill_timer);
    cleanup_fd(&job->sock);
    if (job->pid && job->counted)
        job->node->n_working--;
    job->pid = 0;
}

static void job_free(struct job *job)
{
    for (size_t i = 0; i < job->n_result_fds; i++)
        cleanup_fd(&job->result_fds[i]);
    registry_job_done(&job->rec);
    json_decref(job->options);
    json_decref(job->answer);
    free(job);
}

static void job_take_out(struct job *job)
{
    struct ve_node *node = job->node;
    for (size_t i = 0; i < node->n_open; i++) {
        if (node->open[i] != job)
            continue;
        memmove(&node->open[i], &node->open[i + 1], (node->n_open - i - 1) * sizeof(*node->open));
        node->n_open--;
        break;
    }
    if (job->ve && job->ve->job == job)
        job->ve->job = NULL;
    if (job->ve && job->ve->next_job == job)
        job->ve->next_job = NULL;
}

static void job_activate(struct job *job);

/* A job has ended: whoever waited for it or for its slot goes on. */
static void after_end(struct ve_node *node, int64_t ve_id)
{
    if (node->closing)
        return;
    struct ve *ve = ve_id ? ve_by_id(node, ve_id) : NULL;
    if (ve && !ve->job) {
        if (ve->next_job) {
            ve->job = ve->next_job;
            ve->next_job = NULL;
            job_activate(ve->job);
        } else if (ve->gone && (ve->state == VE_RUNNING || ve->state == VE_PAUSED)) {
            ve_exited(ve);
        }
    }
    for (size_t i = 0; i < node->n_open && node->n_working < node->workers_max; i++) {
        struct job *job = node->open[i];
        if (job->state == JOB_QUEUED && (!job->ve || job->ve->job == job)) {
            job_activate(job);
            i = (size_t)-1; /* the array may have changed */
        }
    }
    if (node->stopping)
        ve_node_stop_step(node);
}

static int store_row(struct job *job, struct err *err)
{
    job->rec.state = (int)job->state;
    if (job->stored)
        return registry_job_update(job->node->registry, &job->rec, err);
    if (registry_job_insert(job->node->registry, &job->rec, err) < 0)
        return -err->kind;
    job->stored = true;
    return 0;
}

static void job_end(struct job *job, const struct err *error)
{
    struct ve_node *node = job->node;
    struct err e = {0};
    int64_t ve_id = job->ve ? job->ve->rec.id : 0;
    job_close_worker(job);
    if (ve_begin(node, &e) < 0)
        log_error(job->rec.subject, job->rec.id, "%s", e.text);
    job->rec.ended = ve_now_ms();
    job->state = !error ? JOB_DONE : error->kind == ERR_CANCELLED ? JOB_CANCELLED : JOB_FAILED;
    if (error) {
        job->rec.error_kind = error->kind;
        free(job->rec.error);
        job->rec.error = strdup(error->text);
        if (job->kind && job->kind->failed)
            job->kind->failed(job);
        log_warn(job->rec.subject, job->rec.id, "%s: %s", job->rec.kind, error->text);
    }
    /* The VE's own rows were saved by done() or failed() inside the transaction of this row. */
    if (store_row(job, &e) < 0 || ve_commit(node, &e) < 0) {
        ve_abandon(node);
        if (job->ve)
            ve_mark_unsaved(job->ve);
        log_error(job->rec.subject, job->rec.id, "cannot record the end of %s: %s", job->rec.kind,
                  e.text);
    }
    if (++node->n_ended >= PRUNE_EVERY) {
        node->n_ended = 0;
        registry_job_prune(node->registry, JOBS_KEPT, NULL);
    }
    job_take_out(job);
    ve_event_job(job, true);
    job_free(job);
    after_end(node, ve_id);
}

/* The work is done (in a worker or inline), *error tells how. */
static void work_ended(struct job *job, const struct err *error)
{
    struct err e = {0};
    if (ve_begin(job->node, &e) < 0)
        log_error(job->rec.subject, job->rec.id, "%s", e.text);
    if (error && error->kind != ERR_NONE) {
        job_end(job, error);
        return;
    }
    int r = job->kind->done ? job->kind->done(job, &e) : 0;
    if (r > 0) /* goes on as another kind; the job may even have ended since */
        return;
    if (r < 0) {
        job_end(job, &e);
        return;
    }
    job_end(job, job->failing ? &job->error : NULL);
}

static void on_message(uv_poll_t *poll, int status, int events)
{
    struct job *job = poll->data;
    struct wire w;
    for (;;) {
        int fds[4];
        size_t n = ARRAY_SIZE(fds);
        ssize_t len = fd_recv(job->sock, &w, sizeof(w), fds, &n, NULL);
        if (len <= 0)
            break;
        if (len != (ssize_t)sizeof(w))
            continue;
        if (w.type == WIRE_PROGRESS) {
            job->percent = w.percent;
            w.text[sizeof(w.text) - 1] = '\0';
            memcpy(job->text, w.text, sizeof(job->text));
            ve_event_job(job, false);
            continue;
        }
        memcpy(job->result, w.result, sizeof(job->result));
        memcpy(job->result_fds, fds, n * sizeof(int));
        job->n_result_fds = n;
        job_close_worker(job);
        w.error.text[sizeof(w.error.text) - 1] = '\0';
        work_ended(job, &w.error);
        return;
    }
}

static int fork_worker(struct job *job, struct err *err)
{
    int sv[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
        return err_sys(err, "cannot make a socket pair for a worker");
    int keep[] = {sv[1], job->ve ? job->ve->pidfd : -1, lxcfs_dir(job->node),
                  inside_dir(job->node)};
    pid_t pid = ve_fork(job->node, keep, ARRAY_SIZE(keep), true);
    if (pid == 0) {
        job->sock = sv[1];
        worker_main(job);
    }
    close(sv[1]);
    if (pid < 0) {
        err_sys(err, "cannot fork a worker");
        close(sv[0]);
        return -err->kind;
    }
    job->sock = sv[0];
    job->pid = pid;
    job->counted = job->kind->limited;
    if (job->counted)
        job->node->n_working++;
    fd_set_nonblock(job->sock, NULL);
    job->poll = calloc(1, sizeof(*job->poll));
    if (!job->poll)
        abort(); /* a worker that nobody listens to cannot be undone */
    uv_poll_init(job->node->loop, job->poll, job->sock);
    job->poll->data = job;
    uv_poll_start(job->poll, UV_READABLE, on_message);
    return 0;
}

static void run_work(struct job *job)
{
    struct err e = {0};
    if (job->kind->inline_stopped && job->ve->state == VE_STOPPED) {
        job->sock = -1;
        job_cancel_flag = 0;
        struct err *failed = job->kind->work(job, &e) < 0 ? &e : NULL;
        work_ended(job, failed);
    } else if (fork_worker(job, &e) < 0) {
        work_ended(job, &e);
    }
}

/* Intent first: the job's row and the VE's move are committed before the kernel is touched. */
static int record_start(struct job *job, struct err *err)
{
    struct ve_node *node = job->node;
    struct ve *ve = job->ve;
    job->state = JOB_RUNNING;
    job->rec.started = ve_now_ms();
    bool move =
        ve && job->kind->event != VE_EVENT__COUNT &&
        !(job->kind->event == VE_EV_STOP && (ve->state == VE_STOPPING || ve->state == VE_STOPPED));
    int want = ve ? ve->rec.want : 0;
    enum ve_state state = ve ? ve->state : VE_ABSENT;
    if (ve && job->kind->want != VE_STATE__COUNT)
        ve->rec.want = (int)job->kind->want;
    if (ve_begin(node, err) < 0 || store_row(job, err) < 0 ||
        (move ? ve_move(ve, job->kind->event, job, err) < 0
              : ve && ve->rec.want != want && ve_record_save(ve, err) < 0) ||
        ve_commit(node, err) < 0) {
        ve_rollback(node);
        if (!ve || job->kind->event != VE_EV_STOP) {
            if (ve) {
                ve->rec.want = want;
                ve->state = state;
            }
            return -err->kind;
        }
        /* What ends processes and frees space does not wait for a disk that is full: after a
         * crash of teremd the VE would be found, alive or dead, and dealt with. */
        log_error(job->rec.subject, 0, "%s goes on without its record: %s", job->rec.kind,
                  err->text);
        err_clear(err);
        if (!job->stored)
            job->rec.id = --node->last_unsaved_job;
        if (move)
            ve->state = VE_STOPPING;
        ve_mark_unsaved(ve);
    }
    return 0;
}

static void job_activate(struct job *job)
{
    struct err e = {0};
    if (record_start(job, &e) < 0) {
        job->kind = NULL; /* nothing was begun, nothing is to be undone */
        job_end(job, &e);
        return;
    }
    ve_event_job(job, false);
    run_work(job);
}

void job_continue(struct job *job, const struct job_kind *kind)
{
    struct err e = {0};
    for (size_t i = 0; i < job->n_result_fds; i++)
        cleanup_fd(&job->result_fds[i]);
    job->n_result_fds = 0;
    job->kind = kind;
    if (kind->event != VE_EVENT__COUNT && ve_move(job->ve, kind->event, job, &e) < 0)
        log_error(job->rec.subject, job->rec.id, "%s", e.text);
    if (ve_commit(job->node, &e) < 0) {
        ve_abandon(job->node);
        ve_mark_unsaved(job->ve);
        log_error(job->rec.subject, job->rec.id, "%s", e.text);
    }
    run_work(job);
}

int job_begin(struct ve_node *node, const struct job_kind *kind, const char *subject, struct ve *ve,
              const json_t *options, int64_t *ret_id, struct err *err)
{
    struct job *job = calloc(1, sizeof(*job));
    if (node->n_open == node->cap_open) {
        size_t cap = node->cap_open ? node->cap_open * 2 : 16;
        struct job **p = realloc(node->open, cap * sizeof(*p));
        if (!p) {
            free(job);
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        }
        node->open = p;
        node->cap_open = cap;
    }
    if (!job)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    *job = (struct job){.node = node, .kind = kind, .ve = ve, .percent = -1, .sock = -1};
    job->options = options ? json_deep_copy(options) : json_object();
    job->rec.ve = ve ? ve->rec.id : 0;
    job->rec.created = ve_now_ms();
    str_print(job->rec.subject, sizeof(job->rec.subject), "%s", subject);
    str_print(job->rec.kind, sizeof(job->rec.kind), "%s", kind->name);
    job->rec.request = json_dumps(job->options, JSON_COMPACT);
    bool waits = (ve && ve->job) || (kind->limited && node->n_working >= node->workers_max);
    int r = waits ? store_row(job, err) : record_start(job, err);
    if (r < 0) {
        job_free(job);
        return r;
    }
    node->open[node->n_open++] = job;
    if (ve && ve->job)
        ve->next_job = job;
    else if (ve)
        ve->job = job;
    *ret_id = job->rec.id;
    ve_event_job(job, false);
    if (!waits)
        run_work(job);
    return 0;
}

static void on_kill_timer(uv_timer_t *t)
{
    struct job *job = t->data;
    if (job->pid)
        kill(job->pid, SIGKILL);
}

int ve_job_cancel(struct ve_node *node, int64_t id, struct err *err)
{
    struct job *job = NULL;
    for (size_t i = 0; i < node->n_open; i++)
        if (node->open[i]->rec.id == id)
            job = node->open[i];
    if (!job) {
        json_t *ended = NULL;
        if (ve_job_show(node, id, &ended, err) < 0)
            return -err->kind;
        json_decref(ended);
        return err_set(err, ERR_STATE, "job %lld has ended already", (long long)id);
    }
    if (!job->kind->cancellable)
        return err_set(err, ERR_STATE, "job %lld (%s) cannot be cancelled; it ends by itself",
                       (long long)id, job->rec.kind);
    if (job->cancelled)
        return 0;
    job->cancelled = true;
    if (job->state == JOB_QUEUED) {
        struct err e;
        err_set(&e, ERR_CANCELLED, "cancelled before it began");
        job->kind = NULL;
        job_end(job, &e);
        return 0;
    }
    kill(job->pid, SIGTERM);
    job->kill_timer = calloc(1, sizeof(*job->kill_timer));
    if (job->kill_timer) {
        uv_timer_init(node->loop, job->kill_timer);
        job->kill_timer->data = job;
        uv_timer_start(job->kill_timer, on_kill_timer, CANCEL_GRACE_MS, 0);
    }
    return 0;
}

/* A worker that ended without a word: undo what it may have done, then fail. */
void job_child_ended(struct ve_node *node, pid_t pid, int status)
{
    struct job *job = NULL;
    for (size_t i = 0; i < node->n_open; i++)
        if (node->open[i]->pid == pid)
            job = node->open[i];
    if (!job)
        return;
    uv_poll_t *poll = job->poll;
    on_message(poll, 0, UV_READABLE); /* its last words may still be in the socket */
    for (size_t i = 0; i < node->n_open; i++) {
        if (node->open[i] != job || job->pid != pid)
            continue;
        if (job->cancelled)
            err_set(&job->error, ERR_CANCELLED, "cancelled");
        else if (WIFSIGNALED(status))
            err_set(&job->error, ERR_INTERNAL, "its worker was killed by signal %d",
                    WTERMSIG(status));
        else
            err_set(&job->error, ERR_INTERNAL, "its worker ended with status %d",
                    WEXITSTATUS(status));
        job_close_worker(job);
        if (job->ve && job->kind != &job_undo && job->kind->event != VE_EVENT__COUNT) {
            job->failing = true;
            job->kind = &job_undo;
            run_work(job);
        } else {
            struct err e = job->error;
            job_end(job, &e);
        }
        return;
    }
}

void job_stop_all(struct ve_node *node)
{
    for (size_t i = 0; i < node->n_open; i++) {
        struct job *job = node->open[i];
        if (job->pid) {
            kill(job->pid, SIGKILL);
            waitpid(job->pid, NULL, 0);
        }
        job_close_worker(job);
        job_free(job);
    }
    free(node->open);
    node->open = NULL;
    node->n_open = node->cap_open = 0;
}
