/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What each kind of job does: in its worker, and in teremd when that has ended. */
#include "ve/address.h"
#include "ve/beside.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/layers.h"
#include "ve/net.h"
#include "ve/pools.h"
#include "ve/private.h"
#include "ve/publish.h"
#include "ve/rows.h"
#include "ve/saved.h"
#include "ve/sleep.h"

#include <fcntl.h>
#include <inttypes.h>

#define SETTLE_MS 50

const struct engine_ops *life_engine(const struct ve *ve)
{
    return &engine_container;
}

/* ---- moving ---- */

int ve_move(struct ve *ve, enum ve_event event, struct job *job, struct err *err)
{
    enum ve_state from = ve->state, to = ve_state_next(from, event);
    if (ve_state_check(ve->rec.name, from, event, NULL, err) < 0)
        return -err->kind;
    const char *was = ve_state_text(ve);
    /* Whatever begins as anything else, or has ended, is not in repair. */
    if (event == VE_EV_STOPPED || (event == VE_EV_START && (!job || job->kind != &job_repair)))
        ve_repair_forget(ve);
    if (event == VE_EV_START && ve_netshape_start(ve, err) < 0)
        return err_wrap(err, "%s", ve->rec.name);
    if (to == VE_STOPPED || to == VE_BROKEN)
        ve_netshape_stopped(ve);
    ve->state = to;
    ve_sleep_moved(ve, from);
    if (ve_record_save(ve, err) < 0) {
        err_wrap(err, "%s: cannot record that it is %s", ve->rec.name, ve_state_name(to));
        if (event == VE_EV_START || event == VE_EV_STOP) { /* a wish: its asker decides */
            ve->state = from;
            return -err->kind;
        }
        log_error(ve->rec.name, job ? job->rec.id : 0, "%s", err->text); /* a fact: it stands */
        ve_mark_unsaved(ve);
        err_clear(err);
    }
    json_t *e = json_pack("{s:s, s:s, s:s, s:s}", "type", "ve.state", "ve", ve->rec.name, "from",
                          was, "to", ve_state_text(ve));
    if (job)
        json_object_set_new(e, "job", json_integer(job->rec.id));
    json_array_append_new(ve->node->pending, e);
    return 0;
}

/* ---- what it means for the others ---- */

void life_settle(struct ve_node *node)
{
    if (!node->settle_timer)
        return;
    ve_handle_close(&node->settle_timer);
    ve_guarantee_settle(node);
    ve_disk_settle(node);
}

static void on_settle_timer(uv_timer_t *t)
{
    life_settle(t->data);
}

void life_settle_after(const struct job *job)
{
    struct ve_node *node = job->node;
    if (job->item && node->settle_timer)
        return;
    if (!job->item || !(node->settle_timer = calloc(1, sizeof(*node->settle_timer)))) {
        ve_guarantee_settle(node);
        ve_disk_settle(node);
        return;
    }
    uv_timer_init(node->loop, node->settle_timer);
    node->settle_timer->data = node;
    uv_timer_start(node->settle_timer, on_settle_timer, SETTLE_MS, 0);
}

/* ---- start ---- */

static int check_start(struct ve *ve, const json_t *options, struct err *err)
{
    if (ve_in_repair(ve))
        return err_set(err, ERR_STATE,
                       "%s: cannot start: it is in repair; terem repair %s --done leaves that and "
                       "starts it",
                       ve->rec.name, ve->rec.name);
    return ve_state_check(ve->rec.name, ve->state, VE_EV_START, "start", err);
}

static int start_step(void *ctx, const char *what, struct err *err)
{
    job_progress(ctx, -1, what);
    return job_check_cancelled(ctx, err);
}

/* In a pool that is full to the last byte a VE starts as well: how else would it be emptied? */
static int start_anyway(struct ve *ve, const struct engine_how *how, struct engine_started *ret,
                        struct err *err)
{
    int r = life_engine(ve)->start(ve, how, ret, err);
    while (r == -ERR_EXHAUSTED && ve_pool(ve) && storage_yield(ve_pool(ve))) {
        err_clear(err);
        r = life_engine(ve)->start(ve, how, ret, err);
    }
    return r;
}

int life_start(struct job *job, const char *rescue, struct err *err)
{
    struct engine_started s;
    const struct engine_how how = {.step = start_step, .ctx = job, .rescue = rescue};
    if (start_anyway(job->ve, &how, &s, err) < 0)
        return err_wrap(err, "%s: cannot start", job->ve->rec.name);
    job->result[0] = s.pid;
    job->result_fds[0] = s.pidfd;
    job->n_result_fds = 1;
    job->result[1] = s.console >= 0;
    if (s.console >= 0)
        job->result_fds[job->n_result_fds++] = s.console;
    job->result[2] = s.listener >= 0;
    if (s.listener >= 0)
        job->result_fds[job->n_result_fds++] = s.listener;
    for (size_t i = 0; i < ARRAY_SIZE(s.pts); i++)
        job->result[3 + i] = (int64_t)s.pts[i];
    job->result[6] = s.root;
    job->result[7] = lxcfs_pid(job->node);
    return 0;
}

static int work_start(struct job *job, struct err *err)
{
    return life_start(job, NULL, err);
}

int life_started(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    struct ve_node *node = ve->node;
    size_t n = 1;
    if (job->n_result_fds != 1u + !!job->result[1] + !!job->result[2])
        return err_set(err, ERR_INTERNAL, "%s: its worker sent no process", ve->rec.name);
    int console = job->result[1] ? job->result_fds[n++] : -1;
    int listener = job->result[2] ? job->result_fds[n] : -1;
    if (keep_put(node->keep, ve->rec.id, job->result_fds[0], console, node->logs_fd, err) < 0) {
        /* Without terem-keep the VE runs, but its console would end with us. */
        log_error(ve->rec.name, job->rec.id, "its console is not kept: %s", err->text);
        err_clear(err);
    }
    if (ve_watch_process(ve, job->result_fds[0], err) < 0)
        return err_wrap(err, "%s", ve->rec.name);
    if (listener >= 0)
        answer_keep(ve, listener);
    inside_watch(ve);
    refusal_watch(ve, ve->params);
    ve_netlimit_started(ve);
    json_object_set_new(ve->run, "pid", json_integer(job->result[0]));
    json_object_set_new(ve->run, "root", json_integer(job->result[6]));
    json_object_set_new(ve->run, "pts",
                        json_pack("[I,I,I]", job->result[3], job->result[4], job->result[5]));
    json_object_set_new(ve->run, "started", json_integer(ve_now_ms()));
    json_object_set_new(ve->run, "boot", json_string(node->boot_id));
    lxcfs_started(ve, (pid_t)job->result[7]);
    json_object_del(ve->run, "broken");
    json_object_del(ve->run, "lost");
    json_object_del(ve->run, "applying");
    json_object_set_new(ve->run, "restart_rows", ve_apply_restart_rows(ve->params));
    if (param_set_get(ve->params, "memory.dedup").n)
        ve_sysctls_dedup(node);
    ve->weight = 0;
    CPU_ZERO(&ve->cores_written);
    ve->cores_owned = false;
    life_settle_after(job); /* others may have changed since its worker was forked */
    if (!ve_tree_is_filled(ve))
        ve_trash_later(node);
    return ve_move(ve, VE_EV_STARTED, job, err);
}

static void mark_broken(struct ve *ve, struct job *job, const char *why)
{
    struct err e;
    json_object_set_new(ve->run, "broken", json_string(why));
    if (ve_state_next(ve->state, VE_EV_BREAK) != VE_STATE__COUNT &&
        ve_move(ve, VE_EV_BREAK, job, &e) < 0)
        log_error(ve->rec.name, job->rec.id, "%s", e.text);
}

/* A last exit of before would hide that it was tried, and why it did not work. */
static void record_failed_start(struct ve *ve, const char *why)
{
    json_object_set_new(ve->run, "last_exit",
                        json_pack("{s:s, s:i, s:n, s:s, s:I}", "how", "not-started", "status", -1,
                                  "signal", "reason", why ? why : "", "time",
                                  (json_int_t)ve_now_ms()));
}

void life_start_failed(struct job *job)
{
    struct err e;
    struct ve *ve = job->ve;
    ve_unwatch_process(ve);
    if (ve->state == VE_STARTING) {
        ve->rec.want = VE_STOPPED;
        record_failed_start(ve, job->rec.error);
        if (ve_move(ve, VE_EV_STOPPED, job, &e) < 0)
            log_error(ve->rec.name, job->rec.id, "%s", e.text);
        else if (ve_tree_is_missing(ve))
            ve_tree_lost(ve, job);
    }
}

/* ---- back to what it was, after a job that stopped it and failed ---- */

static int work_start_back(struct job *job, struct err *err)
{
    struct err e = {0};
    job_progress(job, -1, "starting it again as it was");
    if (life_start(job, NULL, &e) == 0)
        return 0;
    return err_set(err, job->error.kind, "%s; nor could it be started again: %s", job->error.text,
                   e.text);
}

/* Also called when that was done: the job fails all the same. */
static void failed_start_back(struct job *job)
{
    if (job->ve->state == VE_STARTING)
        life_start_failed(job);
}

static const struct job_kind job_start_back = {
    .name = "start",
    .of_ve = true,
    .limited = true,
    .crewed = true,
    .event = VE_EV_START,
    .want = VE_RUNNING,
    .work = work_start_back,
    .done = life_started,
    .failed = failed_start_back,
};

const struct job_kind *life_back(struct job *job)
{
    if (!job->aim || job->ve->state != VE_STOPPED || job->ve->next_job || job->node->stopping)
        return NULL;
    job->ve->rec.want = VE_RUNNING;
    return &job_start_back;
}

/* ---- stop, kill, and what is left after an end ---- */

static int end_and_clean(struct ve *ve, bool after_crash, struct err *err)
{
    const struct engine_ops *engine = life_engine(ve);
    if (engine->kill(ve, false, err) < 0 || engine->clean(ve, after_crash, err) < 0)
        return err_wrap(err, "%s: cannot stop", ve->rec.name);
    return 0;
}

/* What it wrote is on the disk when it is told to have stopped: the end of its mounts has written
 * it, and the name of a tree that is new goes the same way. */
static int end_for_good(struct job *job, bool after_crash, struct err *err)
{
    struct ve *ve = job->ve;
    int r = end_and_clean(ve, after_crash, err);
    job->result[1] = 0; /* what a start said before it was undone */
    if (r == 0 && ve_pool(ve) && !ve_tree_is_filled(ve) && !ve_tree_is_missing(ve))
        job->result[1] = storage_commit(ve_pool(ve), &(struct err){0}) == 0;
    return r;
}

int life_kill(struct job *job, struct err *err)
{
    return end_for_good(job, job->kind == &job_undo, err);
}

int life_stop(struct job *job, struct err *err)
{
    return end_for_good(job, false, err); /* it was asked, and has ended or will be killed */
}

int life_stopped(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    struct err e;
    life_see_end(ve);
    if (keep_drop(ve->node->keep, ve->rec.id, &e) < 0 && e.kind != ERR_NOT_FOUND)
        log_warn(ve->rec.name, job->rec.id, "%s", e.text);
    ve_unwatch_process(ve);
    if (job->result[1])
        json_object_set_new(ve->run, "filled", json_true());
    /* Was something deleted in it, after its pool had been full? */
    if (ve_pool(ve) && storage_is_short(ve_pool(ve)))
        ve_trash_later(ve->node);
    json_object_del(ve->run, "pid");
    json_object_del(ve->run, "started");
    json_object_del(ve->run, "broken");
    json_object_del(ve->run, "lost");
    if (job->result[0])
        json_object_set_new(json_object_get(ve->run, "last_exit"), "reason",
                            json_string("killed after it did not shut down in time"));
    if (ve->state == VE_STOPPED)
        return 0;
    return ve_move(ve, VE_EV_STOPPED, job, err);
}

void life_stop_failed(struct job *job)
{
    if (job->ve->state == VE_STOPPING)
        mark_broken(job->ve, job, job->rec.error ? job->rec.error : "cannot stop");
}

static int check_restart(struct ve *ve, const json_t *options, struct err *err)
{
    if (ve->state == VE_STOPPED)
        return err_set(err, ERR_STATE, "%s: cannot restart: it is stopped; start it", ve->rec.name);
    return ve_state_check(ve->rec.name, ve->state, VE_EV_STOP, "restart", err);
}

int life_stopped_start(struct job *job, struct err *err)
{
    if (life_stopped(job, err) < 0)
        return -err->kind;
    job_continue(job, &job_start);
    return 1;
}

/* ---- pause ---- */

static int check_pause(struct ve *ve, const json_t *options, struct err *err)
{
    return ve_state_check(ve->rec.name, ve->state, VE_EV_PAUSE, "pause", err);
}

static int check_resume(struct ve *ve, const json_t *options, struct err *err)
{
    return ve_state_check(ve->rec.name, ve->state, VE_EV_RESUME, "resume", err);
}

static int work_pause(struct job *job, struct err *err)
{
    if (life_engine(job->ve)->freeze(job->ve, true, err) < 0) {
        struct err ignored;
        life_engine(job->ve)->freeze(job->ve, false, &ignored);
        return err_wrap(err, "%s: cannot pause", job->ve->rec.name);
    }
    return 0;
}

static int work_resume(struct job *job, struct err *err)
{
    if (life_engine(job->ve)->freeze(job->ve, false, err) < 0)
        return err_wrap(err, "%s: cannot resume", job->ve->rec.name);
    return 0;
}

static int done_pause(struct job *job, struct err *err)
{
    return ve_move(job->ve, VE_EV_PAUSE, job, err);
}

static int done_resume(struct job *job, struct err *err)
{
    if (job->ve->state == VE_RUNNING) /* it slept, and was woken when the job began */
        return 0;
    return ve_move(job->ve, VE_EV_RESUME, job, err);
}

/* ---- destroy ---- */

static int check_destroy(struct ve *ve, const json_t *options, struct err *err)
{
    struct err e = {0};
    if (json_is_true(json_object_get(options, "force")))
        return 0;
    if (ve_pool_need(ve, &e) < 0)
        return err_set(err, ERR_UNAVAILABLE,
                       "%s; destroy --force forgets it, and its files go when the pool is back",
                       e.text);
    if (ve->state == VE_BROKEN)
        return 0;
    return ve_state_check(ve->rec.name, ve->state, VE_EV_DESTROY, "destroy", err);
}

static int work_destroy(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    char log[48];
    if (ve->state != VE_STOPPED && end_and_clean(ve, false, err) < 0)
        return -err->kind;
    if (snapshots_remove_trees(ve, err) < 0)
        return err_wrap(err, "%s: cannot destroy", ve->rec.name);
    /* Its pool is not there, and it goes by force: recovery finds the tree without a row. */
    if (ve_pool(ve) && storage_remove(ve_pool(ve), ve->rec.id, err) < 0)
        return err_wrap(err, "%s: cannot destroy", ve->rec.name);
    str_print(log, sizeof(log), "%" PRId64 ".log", ve->rec.id);
    unlinkat(ve->node->logs_fd, log, 0);
    str_print(log, sizeof(log), "%" PRId64 ".log.1", ve->rec.id);
    unlinkat(ve->node->logs_fd, log, 0);
    return 0;
}

static int done_destroy(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    struct ve_node *node = ve->node;
    size_t snapshots = ve->n_snapshots;
    job->answer = json_pack("{s:I}", "snapshots", (json_int_t)snapshots);
    str_print(job->text, sizeof(job->text), "destroyed");
    if (snapshots)
        str_print(job->text, sizeof(job->text), "destroyed, with %zu snapshot%s", snapshots,
                  snapshots == 1 ? "" : "s");
    if (registry_snapshot_delete_ve(node->registry, ve->rec.id, err) < 0 ||
        ve_addresses_forget(ve, err) < 0 || ve_publish_forget(ve, err) < 0 ||
        registry_ve_delete(node->registry, ve->rec.id, err) < 0)
        return err_wrap(err, "%s", ve->rec.name);
    keep_drop(node->keep, ve->rec.id, &(struct err){0});
    json_array_append_new(node->pending, json_pack("{s:s, s:s, s:I}", "type", "ve.destroyed", "ve",
                                                   ve->rec.name, "job", (json_int_t)job->rec.id));
    job->ve = NULL;
    ve_privates_forget(ve);
    ve_node_forget(ve);
    ve_usage_soon(node);
    life_settle_after(job);
    ve_trash_later(node);
    return 0;
}

static void failed_destroy(struct job *job)
{
    struct err e;
    job->ve->rec.want = VE_STOPPED;
    if (ve_record_save(job->ve, &e) < 0)
        log_error(job->ve->rec.name, job->rec.id, "%s", e.text);
}

/* ---- kinds of jobs ---- */

const struct job_kind job_start = {
    .name = "start",
    .of_ve = true,
    .limited = true,
    .needs_pool = true,
    .cancellable = true,
    .crewed = true,
    .event = VE_EV_START,
    .want = VE_RUNNING,
    .check = check_start,
    .work = work_start,
    .done = life_started,
    .failed = life_start_failed,
};

const struct job_kind job_stop = {
    .name = "stop",
    .of_ve = true,
    .asleep = true,
    .crewed = true,
    .ends = true,
    .asks = true,
    .event = VE_EV_STOP,
    .want = VE_STOPPED,
    .work = life_stop,
    .done = life_stopped,
    .failed = life_stop_failed,
};

const struct job_kind job_restart = {
    .name = "restart",
    .of_ve = true,
    .asleep = true,
    .crewed = true,
    .ends = true,
    .asks = true,
    .event = VE_EV_STOP,
    .want = VE_RUNNING,
    .check = check_restart,
    .work = life_stop,
    .done = life_stopped_start,
    .failed = life_stop_failed,
};

const struct job_kind job_kill = {
    .name = "kill",
    .of_ve = true,
    .asleep = true,
    .crewed = true,
    .ends = true,
    .event = VE_EV_STOP,
    .want = VE_STOPPED,
    .work = life_kill,
    .done = life_stopped,
    .failed = life_stop_failed,
};

const struct job_kind job_pause = {
    .name = "pause",
    .of_ve = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .check = check_pause,
    .work = work_pause,
    .done = done_pause,
};

const struct job_kind job_resume = {
    .name = "resume",
    .of_ve = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .check = check_resume,
    .work = work_resume,
    .done = done_resume,
};

const struct job_kind job_destroy = {
    .name = "destroy",
    .of_ve = true,
    .inline_stopped = true,
    .crewed = true,
    .ends = true,
    .event = JOB_NO_EVENT,
    .want = VE_ABSENT,
    .check = check_destroy,
    .work = work_destroy,
    .done = done_destroy,
    .failed = failed_destroy,
};

const struct job_kind job_undo = {
    .name = "undo",
    .of_ve = true,
    .asleep = true,
    .hidden = true,
    .crewed = true,
    .ends = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .work = life_kill,
    .done = life_stopped,
    .failed = life_stop_failed,
};
