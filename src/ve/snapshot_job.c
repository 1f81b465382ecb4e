/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The jobs of snapshots: take one, and roll back to one.
 *
 * Taking: the row is committed as MAKING, the tree is saved, the row is committed as WHOLE.  What
 * is found half-way after a crash is taken back: row and tree.
 *
 * Rolling back: the job's own row is the intent.  A crash may leave either tree; recovery does it
 * again (snapshot_redo).
 */
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/layers.h"
#include "ve/pools.h"
#include "ve/saved.h"

#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#define SNAPSHOTS_MAX 1000 /* of one VE */

/* ---- a VE that stands still ---- */

/* What it has written is in its files' page cache, which whoever copies them reads: nothing has to
 * reach the disk first.  The copy is made durable by storage. */
int ve_still(struct ve *ve, bool *ret_frozen, struct err *err)
{
    *ret_frozen = false;
    if (ve->state != VE_RUNNING)
        return 0;
    if (engine_container.freeze(ve, true, err) < 0)
        return err_wrap(err, "cannot freeze it for a moment");
    *ret_frozen = true;
    return 0;
}

void ve_go_on(struct ve *ve)
{
    struct err e = {0};
    if (ve->state == VE_RUNNING && engine_container.freeze(ve, false, &e) < 0 &&
        e.kind != ERR_NOT_FOUND)
        log_error(ve->rec.name, 0, "it was frozen for a moment and cannot go on: %s", e.text);
}

/* Whoever watches shall see why the VE does not answer. */
static int still_progress(void *ctx, int percent, const char *text)
{
    const struct storage_step *step = ctx;
    char whole[200];
    str_print(whole, sizeof(whole), "frozen while its files are copied%s%s",
              text && *text ? ": " : "", text ? text : "");
    return step->progress(step->ctx, percent, whole);
}

int ve_save_still(struct ve *ve, int64_t saved, struct storage_step *step, struct err *err)
{
    struct storage_pool *pool = ve_pool(ve);
    const struct storage_step still = {still_progress, step};
    bool frozen;
    if (ve_still(ve, &frozen, err) < 0)
        return -err->kind;
    bool told = frozen && !storage_can(pool)->cheap_copies;
    int r = storage_save(pool, ve->rec.id, saved, told ? &still : step, err);
    if (frozen)
        ve_go_on(ve);
    return r;
}

/* ---- take one ---- */

static const char *text_of(const json_t *options, const char *key)
{
    return json_string_value(json_object_get(options, key));
}

static int check_snapshot(struct ve *ve, const json_t *options, struct err *err)
{
    const char *name = text_of(options, "name");
    if (!ve_state_is_up(ve->state) && ve->state != VE_STOPPED)
        return err_set(err, ERR_STATE,
                       "%s: cannot take a snapshot: it is %s; try again when it runs or is stopped",
                       ve->rec.name, ve_state_name(ve->state));
    if (ve->n_snapshots >= SNAPSHOTS_MAX)
        return err_set(err, ERR_EXHAUSTED,
                       "%s: cannot take a snapshot: it has %d already; delete some", ve->rec.name,
                       SNAPSHOTS_MAX);
    return name ? snapshot_name_check(ve, name, err) : 0;
}

/* "20261121-210430", "hourly-20261121-2100"; in an hour that clocks repeat, with a number behind.
 */
static void make_name(struct ve *ve, const char *schedule, char ret[NAME_SIZE])
{
    time_t now = ve_now_ms() / 1000;
    struct tm tm;
    char at[32];
    localtime_r(&now, &tm);
    strftime(at, sizeof(at), schedule ? "%Y%m%d-%H%M" : "%Y%m%d-%H%M%S", &tm);
    str_print(ret, NAME_SIZE, "%s%s%s", schedule ? schedule : "", schedule ? "-" : "", at);
    for (int i = 2; snapshot_name_check(ve, ret, &(struct err){0}) < 0 && i < SNAPSHOTS_MAX; i++)
        str_print(ret, NAME_SIZE, "%s%s%s-%d", schedule ? schedule : "", schedule ? "-" : "", at,
                  i);
}

/* A saved tree without a row goes at the next start. */
static bool light_snapshot(const struct job *job)
{
    return true;
}

static int begin_snapshot(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    const char *name = text_of(job->options, "name");
    const char *schedule = text_of(job->options, "schedule");
    struct ve_snapshot s = {.rec = {.ve = ve->rec.id, .state = REGISTRY_SNAPSHOT_MAKING}};
    if (name)
        str_print(s.rec.name, sizeof(s.rec.name), "%s", name);
    else
        make_name(ve, schedule, s.rec.name);
    json_object_set_new(job->options, "name", json_string(s.rec.name));
    s.spec = snapshot_spec(ve, text_of(job->options, "note"), schedule);
    json_object_set_new(job->options, "row", s.spec);
    int r = snapshot_save(ve, &s, err);
    job->aim = s.rec.id;
    return r < 0 ? err_wrap(err, "%s: cannot take a snapshot", ve->rec.name) : 0;
}

/* A VE that stands still meanwhile must not stand for long: only its neighbours go before it. */
static void be_modest(const struct ve *ve)
{
    if (ve->state == VE_RUNNING)
        worker_be_modest();
    else
        worker_be_idle();
}

static int work_snapshot(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    struct storage_pool *pool = ve_pool(ve);
    const struct storage_can *can = storage_can(pool);
    const char *name = text_of(job->options, "name");
    struct storage_step step = {job_progress, job};
    uint64_t own = UINT64_MAX, total = UINT64_MAX;
    if (json_object_get(job->options, "schedule"))
        be_modest(ve);
    if (ve_save_still(ve, job->aim, &step, err) < 0)
        return err_wrap(err, "%s: cannot take snapshot %s", ve->rec.name, name);
    /* Where sizes are not counted they are looked up once, now: a saved tree never changes. */
    if (!can->counts && !can->cheap_copies)
        storage_saved_usage(pool, job->aim, &own, &total, &(struct err){0});
    job->result[0] = own == UINT64_MAX ? -1 : (int64_t)own;
    return 0;
}

static int done_snapshot(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    const char *name = text_of(job->options, "name");
    const char *schedule = text_of(job->options, "schedule");
    struct ve_snapshot s = {.rec = {.id = job->aim, .ve = ve->rec.id}};
    s.rec.state = REGISTRY_SNAPSHOT_WHOLE;
    str_print(s.rec.name, sizeof(s.rec.name), "%s", name);
    s.spec = json_incref(json_object_get(job->options, "row"));
    if (job->result[0] >= 0)
        json_object_set_new(s.spec, "size", json_integer(job->result[0]));
    json_array_append_new(ve->node->pending,
                          json_pack("{s:s, s:s, s:s, s:o}", "type", "snapshot.created", "ve",
                                    ve->rec.name, "snapshot", name, "schedule",
                                    schedule ? json_string(schedule) : json_null()));
    /* Old ones are dropped only when the registry has this one. */
    if (snapshot_keep(ve, &s, err) < 0 || (schedule && ve_commit(ve->node, err) < 0)) {
        ve_rollback(ve->node);
        return err_wrap(err, "%s: cannot take snapshot %s", ve->rec.name, name);
    }
    job->answer = snapshot_tell(ve, snapshot_by_id(ve, job->aim));
    str_print(job->text, sizeof(job->text), "snapshot %s taken", name);
    job->kept = !schedule;
    if (schedule)
        schedule_taken(ve, schedule);
    return 0;
}

static void failed_snapshot(struct job *job)
{
    struct ve *ve = job->ve;
    const char *schedule = text_of(job->options, "schedule");
    struct err e = {0};
    ve_go_on(ve); /* its worker may have been killed meanwhile */
    snapshot_unkeep(ve, job->aim);
    if (job->aim && ((ve_pool(ve) && storage_saved_remove(ve_pool(ve), job->aim, &e) < 0) ||
                     registry_snapshot_delete(ve->node->registry, job->aim, &e) < 0))
        log_error(ve->rec.name, job->rec.id, "%s; it is tried again at the next start", e.text);
    if (schedule)
        schedule_failed(ve, schedule, job->rec.error);
    ve_trash_later(ve->node);
}

const struct job_kind job_snapshot = {
    .name = "snapshot",
    .of_ve = true,
    .limited = true,
    .needs_pool = true,
    .cancellable = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .check = check_snapshot,
    .begin = begin_snapshot,
    .light = light_snapshot,
    .work = work_snapshot,
    .done = done_snapshot,
    .failed = failed_snapshot,
};

/* ---- roll back ---- */

static int check_rollback(struct ve *ve, const json_t *options, struct err *err)
{
    const char *name = text_of(options, "snapshot");
    struct ve_snapshot *s;
    if (!name)
        return err_set(err, ERR_USAGE, "%s: the field \"snapshot\" is missing", ve->rec.name);
    if (snapshot_find(ve, name, &s, err) < 0)
        return -err->kind;
    if (!snapshot_has_tree(ve, s))
        return err_set(err, ERR_CORRUPT,
                       "%s: cannot roll back to %s: its files are missing from pool %s; delete it",
                       ve->rec.name, name, ve_pool_name(ve));
    if (ve_in_repair(ve)) /* somebody may be at work in it */
        return err_set(err, ERR_STATE,
                       "%s: cannot roll back to %s: it is in repair; stop it first, which ends the "
                       "repair",
                       ve->rec.name, name);
    bool up = ve_state_is_up(ve->state);
    if (up && !json_is_true(json_object_get(options, "restart")))
        return err_set(err, ERR_STATE,
                       "%s: cannot roll back to %s: it is %s; stop it first, or roll back with "
                       "--restart",
                       ve->rec.name, name, ve_state_name(ve->state));
    if (!up && ve->state != VE_STOPPED)
        return err_set(err, ERR_STATE, "%s: cannot roll back to %s: it is %s; stop it first",
                       ve->rec.name, name, ve_state_name(ve->state));
    return 0;
}

/* Without its row nothing would do it again: then either tree must be as good as the other. */
static bool light_rollback(const struct job *job)
{
    struct ve_snapshot *s;
    return snapshot_find(job->ve, text_of(job->options, "snapshot"), &s, &(struct err){0}) == 0 &&
           snapshot_is_like(s, job->ve->spec);
}

static int begin_rollback(struct job *job, struct err *err)
{
    struct ve_snapshot *s;
    if (snapshot_find(job->ve, text_of(job->options, "snapshot"), &s, err) < 0)
        return -err->kind;
    job->aim = s->rec.id;
    return 0;
}

static int work_rollback(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    const struct storage_step step = {job_progress, job};
    struct storage_pool *pool = ve_pool(ve);
    int r = storage_restore(pool, job->aim, ve->rec.id, &step, err);
    /* It is a way out of a pool that is full, too. */
    while (r == -ERR_EXHAUSTED && storage_can(pool)->cheap_copies && storage_yield(pool)) {
        err_clear(err);
        r = storage_restore(pool, job->aim, ve->rec.id, &step, err);
    }
    if (r < 0)
        return err_wrap(err, "%s: cannot roll back to %s", ve->rec.name,
                        text_of(job->options, "snapshot"));
    return 0;
}

static bool starts_after(const struct job *job)
{
    return json_is_true(json_object_get(job->options, "start")) ||
           json_is_true(json_object_get(job->options, "restart"));
}

static int done_rollback(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    struct ve_snapshot *s = snapshot_by_id(ve, job->aim);
    bool start = starts_after(job) && !ve->node->stopping;
    if (!s)
        return err_set(err, ERR_INTERNAL, "%s: its snapshot is gone", ve->rec.name);
    json_t *spec = json_copy((json_t *)ve->spec);
    snapshot_put_back(spec, s);
    ve_spec_put(ve, spec);
    json_array_append_new(ve->node->pending,
                          json_pack("{s:s, s:s, s:s}", "type", "snapshot.rolled-back", "ve",
                                    ve->rec.name, "snapshot", s->rec.name));
    ve_trash_later(ve->node);
    ve->rec.want = start ? VE_RUNNING : VE_STOPPED;
    str_print(job->text, sizeof(job->text), "rolled back to %s", s->rec.name);
    if (start) {
        job_continue(job, &job_start);
        return 1;
    }
    if (ve_record_save(ve, err) < 0) { /* the tree is there: no full disk makes that undone */
        log_error(ve->rec.name, job->rec.id, "%s", err->text);
        ve_mark_unsaved(ve);
        err_clear(err);
    }
    return 0;
}

/* Behind the job that ends just now, if there is one. */
static bool begin_next(struct ve *ve, const struct job_kind *kind, const json_t *options)
{
    struct err e = {0};
    int64_t id;
    if (job_begin(ve->node, kind, ve->rec.name, ve, options, &id, &e) == 0)
        return true;
    log_error(ve->rec.name, 0, "%s", e.text);
    return false;
}

/* Whichever tree is there now, the VE must have its layers: of the two that may be, the snapshot's
 * is made sure of.  Once: what fails again fails for a reason. */
static void failed_rollback(struct job *job)
{
    struct ve *ve = job->ve;
    struct ve_snapshot *s = snapshot_by_id(ve, job->aim);
    struct err e = {0};
    if (ve_pool(ve) && storage_settle(ve_pool(ve), ve->rec.id, &e) < 0)
        log_error(ve->rec.name, job->rec.id, "%s; it is tried again at the next start", e.text);
    ve_trash_later(ve->node);
    if (s && !json_object_get(job->options, "again") && snapshot_current(ve) == job->aim &&
        !json_equal(json_object_get(s->spec, "layers"), json_object_get(ve->spec, "layers"))) {
        json_object_set_new(job->options, "again", json_true());
        begin_next(ve, &job_rollback, job->options);
    } else if (ve->rec.want == VE_RUNNING && !ve->next_job && !ve->node->stopping) {
        begin_next(ve, &job_start, NULL); /* it ran, and is as it was */
    }
}

const struct job_kind job_rollback = {
    .name = "rollback",
    .of_ve = true,
    .limited = true,
    .needs_pool = true,
    .cancellable = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .check = check_rollback,
    .begin = begin_rollback,
    .light = light_rollback,
    .work = work_rollback,
    .done = done_rollback,
    .failed = failed_rollback,
};

/* ---- of one that runs: stopped first ---- */

static int work_rollback_stop(struct job *job, struct err *err)
{
    return job_stop.work(job, err);
}

static int done_rollback_stop(struct job *job, struct err *err)
{
    if (job_stop.done(job, err) < 0)
        return -err->kind;
    job_continue(job, &job_rollback);
    return 1;
}

static void failed_rollback_stop(struct job *job)
{
    job_stop.failed(job);
}

const struct job_kind job_rollback_stop = {
    .name = "rollback",
    .of_ve = true,
    .hidden = true,
    .needs_pool = true,
    .ends = true,
    .asks = true,
    .event = VE_EV_STOP,
    .want = VE_RUNNING,
    .check = check_rollback,
    .begin = begin_rollback,
    .work = work_rollback_stop,
    .done = done_rollback_stop,
    .failed = failed_rollback_stop,
};

bool snapshot_redo(struct ve *ve)
{
    json_t *options = ve->redo;
    struct ve_snapshot *s;
    bool stopped = ve->state == VE_STOPPED, begun = false;
    ve->redo = NULL;
    if (options && (stopped || ve->state == VE_STOPPING) &&
        snapshot_find(ve, text_of(options, "snapshot"), &s, &(struct err){0}) == 0) {
        json_object_set_new(options, "redo", json_true());
        begun = begin_next(ve, stopped ? &job_rollback : &job_rollback_stop, options);
    }
    json_decref(options);
    return begun;
}
