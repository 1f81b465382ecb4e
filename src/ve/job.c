/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs: a row in the registry, a forked worker (worker.c), progress, an end.
 */
#include "base/fd.h"
#include "ve/bulk.h"
#include "ve/client.h"
#include "ve/jobs.h"
#include "ve/pools.h"
#include "ve/saved.h"
#include "ve/sleep.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>

#define CANCEL_GRACE_MS 5000
#define PRUNE_EVERY     200

static void job_free(struct job *job)
{
    for (size_t i = 0; i < job->n_result_fds; i++)
        cleanup_fd(&job->result_fds[i]);
    registry_job_done(&job->rec);
    json_decref(job->options);
    json_decref(job->answer);
    cleanup_fd(&job->client);
    ve_record_free(job->fresh);
    bulk_free(job->bulk);
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
    for (struct job **p = job->ve ? &job->ve->next_job : NULL; p && *p; p = &(*p)->next) {
        if (*p != job)
            continue;
        *p = job->next;
        break;
    }
}

static void job_activate(struct job *job);

/* Of those that do not wait in a crew. */
static bool lacks_slot(const struct job *job)
{
    return job->kind->limited && !job->kind->crewed &&
           job->node->n_working[job_slots(job)] >= job->node->workers_max;
}

/* A job has ended: whoever waited for it or for its slot goes on. */
static void after_end(struct ve_node *node, int64_t ve_id)
{
    if (node->closing)
        return;
    struct ve *ve = ve_id ? ve_by_id(node, ve_id) : NULL;
    if (ve && !ve->job) {
        if (ve->next_job) {
            ve->job = ve->next_job;
            ve->next_job = ve->job->next;
            ve->job->next = NULL;
            job_activate(ve->job);
        } else if (ve_hidden(ve)) {
            if (ve->state == VE_STOPPED)
                ve_hidden_forget(ve);
        } else if (ve->gone && ve_state_is_up(ve->state)) {
            ve_exited(ve);
        }
    }
    for (size_t i = 0; i < node->n_open; i++) {
        struct job *job = node->open[i];
        if (job->state == JOB_QUEUED && (!job->ve || job->ve->job == job) && !lacks_slot(job)) {
            job_activate(job);
            i = (size_t)-1; /* the array may have changed */
        }
    }
    crews_go(node);
    if (node->schedule_waits)
        schedule_run(node);
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

/* The VE's own rows were saved by done() or failed() inside the transaction of this row. */
static int record_end(struct job *job, enum job_state state, struct err *err)
{
    bool stored = job->stored;
    int64_t id = job->rec.id;
    job->rec.ended = ve_now_ms();
    job->state = state;
    if (job->item)
        bulk_record(job->item, state, &job->rec);
    if (store_row(job, err) == 0 && ve_commit(job->node, err) == 0)
        return 0;
    job->stored = stored; /* the number that it got now will be another's */
    job->rec.id = id;
    return -err->kind;
}

/* Its end is recorded, or cannot be. */
static void job_finish(struct job *job, const struct err *error)
{
    struct ve_node *node = job->node;
    int64_t ve_id = job->ve ? job->ve->rec.id : 0;
    job_close_worker(job);
    if (++node->n_ended >= PRUNE_EVERY) {
        node->n_ended = 0;
        registry_job_prune(node->registry, JOBS_KEPT, NULL);
    }
    job_take_out(job);
    client_end(job, error);
    ve_event_job(job, true);
    json_decref(node->last_ended);
    node->last_ended = job_json(job);
    json_t *doc = json_incref(node->last_ended);
    struct bulk_item *item = job->item;
    job_free(job);
    after_end(node, ve_id);
    if (item)
        bulk_job_ended(item, doc);
    json_decref(doc);
}

/* In a transaction. */
static void take_back(struct job *job, const struct err *error)
{
    job->rec.error_kind = error->kind;
    free(job->rec.error);
    job->rec.error = strdup(error->text);
    if (job->kind && job->kind->failed)
        job->kind->failed(job);
}

/* What is recorded of the end of one of many is on the disk with the job over all of them, or with
 * the beginning of the next: recovery makes the same of a VE whose end a power cut took away. */
static void begin_end(struct job *job)
{
    struct err e = {0};
    bool light = job->item && job->kind && job->kind->crewed;
    if ((light ? ve_begin_light : ve_begin)(job->node, &e) < 0)
        log_error(job->rec.subject, job->rec.id, "%s", e.text);
}

static void job_end(struct job *job, const struct err *error)
{
    struct ve_node *node = job->node;
    struct err e = {0};
    job_close_worker(job);
    begin_end(job);
    if (error) {
        take_back(job, error);
        log_warn(job->rec.subject, job->rec.id, "%s: %s", job->rec.kind, error->text);
    }
    if (record_end(job, job_state_after(error), &e) < 0) {
        ve_abandon(node);
        if (job->ve)
            ve_mark_unsaved(job->ve);
        if (job->stored)
            ve_job_late(node, &job->rec);
        log_error(job->rec.subject, job->rec.id, "cannot record the end of %s yet: %s",
                  job->rec.kind, e.text);
    }
    job_finish(job, error);
}

/* Its end, but for what brings the VE back. */
void job_fail(struct job *job, const struct err *error)
{
    const struct job_kind *kind = job->kind;
    if (job->failing || !kind->back) {
        job_end(job, error);
        return;
    }
    begin_end(job);
    job->error = *error;
    take_back(job, error);
    job->kind = NULL;
    if (!(kind = kind->back(job))) {
        job_end(job, &job->error);
        return;
    }
    job->failing = true;
    job_continue(job, kind);
}

/* The work is done (in a worker or inline), *error tells how. */
void job_work_ended(struct job *job, const struct err *error)
{
    struct err e = {0};
    begin_end(job);
    if (error && error->kind != ERR_NONE) {
        job_fail(job, error);
        return;
    }
    int r = job->kind->done ? job->kind->done(job, &e) : 0;
    if (r > 0) /* goes on as another kind; the job may even have ended since */
        return;
    if (r == 0 && job->kept && !job->failing) {
        if (record_end(job, JOB_DONE, &e) == 0) {
            job_finish(job, NULL);
            return;
        }
        ve_rollback(job->node);
        r = -1;
    }
    if (r < 0) {
        job_fail(job, &e);
        return;
    }
    job_end(job, job->failing ? &job->error : NULL);
}

int job_save_request(struct job *job, struct err *err)
{
    free(job->rec.request);
    job->rec.request = json_dumps(job->options, JSON_COMPACT);
    return store_row(job, err);
}

void job_run_work(struct job *job)
{
    struct err e = {0};
    if (job->kind->run) {
        job->kind->run(job);
    } else if (job->kind->inline_stopped && job->ve->state == VE_STOPPED) {
        job->sock = -1;
        job_cancel_flag = 0;
        struct err *failed = job->kind->work(job, &e) < 0 ? &e : NULL;
        job_work_ended(job, failed);
    } else if (!asking_begin(job)) {
        job_begin_worker(job);
    }
}

/* A rollback that recovery begins again: the row of the first one is still there, and begin() only
 * looks up the snapshot. */
static bool is_redone(const struct job *job)
{
    return str_eq(job->kind->name, job_rollback.name) &&
           json_is_true(json_object_get(job->options, "redo"));
}

/* What ends processes and frees space does not wait for a disk that is full: after a crash of
 * teremd the VE would be found, alive or dead, and dealt with. */
static bool go_on_unrecorded(struct job *job, struct err *err)
{
    bool many = job->bulk && bulk_unrecorded(job->bulk);
    if (!many && !is_redone(job) &&
        (!job->ve || job->kind->event != VE_EV_STOP || job->kind->begin))
        return false;
    if (is_redone(job) && job->kind->begin(job, err) < 0)
        return false;
    log_error(job->rec.subject, 0, "%s goes on without its record: %s", job->rec.kind, err->text);
    err_clear(err);
    if (!job->stored)
        job->rec.id = --job->node->last_unsaved_job;
    return true;
}

/* Nothing was begun. */
static void put_back(struct ve *ve, int want, enum ve_state state)
{
    enum ve_state from = ve->state;
    ve->rec.want = want;
    ve->state = state;
    if (from != state)
        ve_sleep_moved(ve, from); /* as the move did */
}

/* Intent first: the job's row and the VE's move are committed before the kernel is touched. */
static int record_start(struct job *job, struct err *err)
{
    struct ve_node *node = job->node;
    struct ve *ve = job->ve;
    bool stored = job->stored;
    job->state = JOB_RUNNING;
    job->rec.started = ve_now_ms();
    bool move =
        ve && job->kind->event != VE_EVENT__COUNT &&
        !(job->kind->event == VE_EV_STOP && (ve->state == VE_STOPPING || ve->state == VE_STOPPED));
    int want = ve ? ve->rec.want : 0;
    enum ve_state state = ve ? ve->state : VE_ABSENT;
    if (ve && job->kind->want != VE_STATE__COUNT)
        ve->rec.want = (int)job->kind->want;
    job->flush = job->kind->crewed || (job->kind->light && job->kind->light(job));
    if ((job->flush ? ve_begin_light : ve_begin)(node, err) < 0 || store_row(job, err) < 0 ||
        (job->kind->begin && job->kind->begin(job, err) < 0) ||
        (move ? ve_move(ve, job->kind->event, job, err) < 0
              : ve && ve->rec.want != want && ve_record_save(ve, err) < 0) ||
        ve_commit(node, err) < 0) {
        ve_rollback(node);
        job->stored = stored; /* its number is the next one's, too */
        if (job->aim && job->kind->unbegun)
            job->kind->unbegun(job);
        job->aim = 0;
        if (!go_on_unrecorded(job, err)) {
            if (ve)
                put_back(ve, want, state);
            return -err->kind;
        }
        if (move)
            ve->state = VE_STOPPING;
        if (ve)
            ve_mark_unsaved(ve);
    }
    return 0;
}

static void job_activate(struct job *job)
{
    struct err e = {0};
    bool gone = job->rec.ve && !job->ve; /* the job before it has taken its VE away */
    if (gone)
        err_set(&e, ERR_NOT_FOUND, "%s: cannot %s it: it is gone already", job->rec.subject,
                job->rec.kind);
    if (gone || record_start(job, &e) < 0) {
        job->kind = NULL; /* nothing was begun, nothing is to be undone */
        job_end(job, &e);
        return;
    }
    ve_event_job(job, false);
    job_run_work(job);
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
        if (job->ve)
            ve_mark_unsaved(job->ve);
        log_error(job->rec.subject, job->rec.id, "%s", e.text);
    }
    job_run_work(job);
}

void job_let_go(struct job *job, const struct job_kind *kind)
{
    struct ve_node *node = job->node;
    int64_t id = job->ve->rec.id;
    job->ve->job = NULL;
    job->ve = NULL;
    job_continue(job, kind);
    after_end(node, id);
}

static int make_room(struct ve_node *node, struct err *err)
{
    if (node->n_open < node->cap_open)
        return 0;
    size_t cap = node->cap_open ? node->cap_open * 2 : 16;
    struct job **p = realloc(node->open, cap * sizeof(*p));
    if (!p)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    node->open = p;
    node->cap_open = cap;
    return 0;
}

static struct job *job_new(struct ve_node *node, const struct job_kind *kind, struct ve *ve,
                           const json_t *options)
{
    struct job *job = calloc(1, sizeof(*job));
    if (!job)
        return NULL;
    *job = (struct job){.node = node, .kind = kind, .ve = ve, .percent = -1, .sock = -1};
    job->client = -1;
    job->options = options ? json_deep_copy(options) : json_object();
    return job;
}

/* Frees it on failure. */
static int begin_new(struct job *job, const char *subject, int64_t *ret_id, struct err *err)
{
    struct ve_node *node = job->node;
    const struct job_kind *kind = job->kind;
    struct ve *ve = job->ve;
    if (ve && !kind->asleep)
        ve_wake(ve, kind->name);
    if ((ve && kind->needs_pool && ve_pool_need(ve, err) < 0) || make_room(node, err) < 0) {
        job_free(job);
        return -err->kind;
    }
    job->rec.ve = ve ? ve->rec.id : 0;
    job->rec.created = ve_now_ms();
    str_print(job->rec.subject, sizeof(job->rec.subject), "%s", subject);
    str_print(job->rec.kind, sizeof(job->rec.kind), "%s", kind->name);
    job->rec.request = json_dumps(job->options, JSON_COMPACT);
    bool waits = (ve && ve->job) || lacks_slot(job);
    int r = waits ? store_row(job, err) : record_start(job, err);
    if (r < 0 && (!waits || !go_on_unrecorded(job, err))) {
        job_free(job);
        return r;
    }
    node->open[node->n_open++] = job;
    if (ve && ve->job) { /* what a job begins at its end comes before a kill that waits for that */
        job->next = ve->next_job;
        ve->next_job = job;
    } else if (ve) {
        ve->job = job;
    }
    *ret_id = job->rec.id;
    if (!kind->of_pool)
        ve_pool_look(node);
    ve_event_job(job, false);
    if (!waits)
        job_run_work(job);
    return 0;
}

int job_begin_with(struct ve_node *node, const struct job_kind *kind, const char *subject,
                   struct ve *ve, const json_t *options, int client, struct ve *fresh,
                   int64_t *ret_id, struct err *err)
{
    struct job *job = job_new(node, kind, ve, options);
    if (!job) {
        cleanup_fd(&client);
        ve_record_free(fresh);
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    job->client = client;
    job->fresh = fresh;
    job->item = node->begun_for;
    node->begun_for = NULL;
    return begin_new(job, subject, ret_id, err);
}

static struct job *bulk_job(struct ve_node *node, const struct job_kind *kind, struct bulk *bulk,
                            const json_t *request, struct err *err)
{
    struct job *job = job_new(node, kind, NULL, request);
    if (job) {
        job->bulk = bulk;
    } else {
        bulk_free(bulk);
        err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    return job;
}

int job_begin_bulk(struct ve_node *node, const struct job_kind *kind, const char *subject,
                   struct bulk *bulk, const json_t *request, int64_t *ret_id, struct err *err)
{
    struct job *job = bulk_job(node, kind, bulk, request, err);
    return job ? begin_new(job, subject, ret_id, err) : -err->kind;
}

int job_resume_bulk(struct ve_node *node, const struct job_kind *kind,
                    const struct registry_job *rec, struct bulk *bulk, const json_t *request,
                    struct err *err)
{
    struct job *job = bulk_job(node, kind, bulk, request, err);
    if (!job)
        return -err->kind;
    if (make_room(node, err) < 0) {
        job_free(job);
        return -err->kind;
    }
    job->rec = *rec;
    job->rec.request = rec->request ? strdup(rec->request) : NULL;
    job->rec.error = NULL;
    job->stored = true;
    job->state = JOB_RUNNING;
    node->open[node->n_open++] = job;
    job_run_work(job);
    return 0;
}

int job_begin(struct ve_node *node, const struct job_kind *kind, const char *subject, struct ve *ve,
              const json_t *options, int64_t *ret_id, struct err *err)
{
    return job_begin_with(node, kind, subject, ve, options, -1, NULL, ret_id, err);
}

static void on_kill_timer(uv_timer_t *t)
{
    struct job *job = t->data;
    job_kill_worker(job);
    if (job->bulk)
        bulk_kill(job->bulk);
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
        return err_set(err, ERR_STATE, "job %lld has ended already; terem jobs show %lld tells how",
                       (long long)id, (long long)id);
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
    if (job->ready) {
        struct err e;
        err_set(&e, ERR_CANCELLED, "cancelled before it began");
        job->ready = false;
        job_work_ended(job, &e);
        return 0;
    }
    if (job->bulk)
        bulk_cancel(job->bulk);
    else
        job_cancel_worker(job);
    job->kill_timer = calloc(1, sizeof(*job->kill_timer));
    if (job->kill_timer) {
        uv_timer_init(node->loop, job->kill_timer);
        job->kill_timer->data = job;
        uv_timer_start(job->kill_timer, on_kill_timer, CANCEL_GRACE_MS, CANCEL_GRACE_MS);
    }
    return 0;
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
        asking_done(job);
        job_free(job);
    }
    free(node->open);
    node->open = NULL;
    node->n_open = node->cap_open = 0;
}
