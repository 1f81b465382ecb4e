/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moving a stopped VE into another pool: its tree and those of its snapshots.
 *
 * They are copied beside what is there, then the record is committed with the new pool's name, then
 * what was left in the old one goes.  The record alone says where a VE is: killed at any instant,
 * recovery removes what lies in the other pool (ve_pool_recover).  What is kept there for a backup
 * stays: its own row names that pool.
 */
#include "ve/disk.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/layers.h"
#include "ve/pools.h"
#include "ve/rows.h"
#include "ve/saved.h"

struct progress {
    struct job *job;
    size_t at, n; /* trees */
};

static int step(void *ctx, int percent, const char *text)
{
    const struct progress *p = ctx;
    if (percent >= 0)
        percent = (int)((p->at * 100 + (size_t)percent) / p->n);
    return job_progress(p->job, percent, text);
}

static int target_of(struct ve *ve, const json_t *options, struct ve_pool **ret, struct err *err)
{
    const char *name = json_string_value(json_object_get(options, "pool"));
    if (!name)
        return err_set(err, ERR_USAGE, "the field \"pool\" is missing");
    if (ve_pool_find_err(ve->node, name, ret, err) < 0 || ve_pool_try(ve->node, *ret, err) < 0)
        return err_wrap(err, "%s: cannot move", ve->rec.name);
    if (str_eq(name, ve_pool_name(ve)))
        return err_set(err, ERR_STATE, "%s: it is in pool %s already", ve->rec.name, name);
    if (ve_disk_check_move(ve, name, err) < 0)
        return err_wrap(err, "%s: cannot move to pool %s", ve->rec.name, name);
    return 0;
}

static int check_move(struct ve *ve, const json_t *options, struct err *err)
{
    struct ve_pool *to;
    if (target_of(ve, options, &to, err) < 0)
        return -err->kind;
    if (ve->state == VE_STOPPED)
        return 0;
    return err_set(err, ERR_STATE,
                   "%s: cannot move to pool %s: it is %s; stop it first, or move it with --restart",
                   ve->rec.name, to->name, ve_state_name(ve->state));
}

static int check_move_restart(struct ve *ve, const json_t *options, struct err *err)
{
    struct ve_pool *to;
    if (target_of(ve, options, &to, err) < 0)
        return -err->kind;
    return ve->state == VE_STOPPED
               ? 0
               : ve_state_check(ve->rec.name, ve->state, VE_EV_STOP, "move", err);
}

/* Kept with the job: the list of the VE may change when it has ended. */
static int list_snapshots(struct job *job, struct err *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < job->ve->n_snapshots; i++)
        if (snapshot_has_tree(job->ve, &job->ve->snapshots[i]))
            json_array_append_new(list, json_integer(job->ve->snapshots[i].rec.id));
    return json_object_set_new(job->options, "snapshots", list);
}

/* Its snapshots are as they were when they were counted before it was stopped. */
static int saved_size(struct job *job, struct storage_pool *to, uint64_t *ret, struct err *err)
{
    const json_t *known = json_object_get(job->options, "saved_size");
    uint64_t sum = 0, one;
    size_t i;
    json_t *id;
    if (known) {
        *ret = (uint64_t)json_integer_value(known);
        return 0;
    }
    json_array_foreach(json_object_get(job->options, "snapshots"), i, id)
    {
        if (storage_move_size(ve_pool(job->ve), to, json_integer_value(id), true, &one, err) < 0 ||
            job_check_cancelled(job, err) < 0)
            return -err->kind;
        sum += one;
    }
    *ret = sum;
    return 0;
}

static int make_room(struct job *job, struct ve_pool *to, struct err *err)
{
    bool again = json_object_get(job->options, "saved_size");
    uint64_t own = 0, saved = 0, size = 0;
    job_progress(job, -1,
                 again ? "looking what it wrote until it was stopped" : "looking how much it has");
    if (ve_tree_size(job->ve, to->pool, &own, err) < 0 ||
        saved_size(job, to->pool, &saved, err) < 0)
        return -err->kind;
    int r = ve_pool_make_room(job, to, own + saved, &size, err);
    job->result[0] = (int64_t)size;
    job->result[1] = (int64_t)saved;
    return r;
}

/* Before anything is stopped or copied. */
static int work_room(struct job *job, struct err *err)
{
    struct ve_pool *to;
    if (target_of(job->ve, job->options, &to, err) < 0)
        return -err->kind;
    return make_room(job, to, err) < 0
               ? err_wrap(err, "%s: cannot move to pool %s", job->ve->rec.name, to->name)
               : 0;
}

static int copy_trees(struct job *job, struct ve_pool *to, struct err *err)
{
    struct ve *ve = job->ve;
    const json_t *snapshots = json_object_get(job->options, "snapshots");
    struct progress p = {.job = job, .n = json_array_size(snapshots) + 1};
    struct storage_step s = {.progress = step, .ctx = &p};
    for (int r; p.at < p.n; p.at++) {
        bool saved = p.at + 1 < p.n;
        int64_t id = saved ? json_integer_value(json_array_get(snapshots, p.at)) : ve->rec.id;
        if ((r = storage_move(ve_pool(ve), to->pool, id, saved, &s, err)) < 0)
            return r;
    }
    return 0;
}

static int work_move(struct job *job, struct err *err)
{
    struct ve_pool *to;
    if (target_of(job->ve, job->options, &to, err) < 0)
        return -err->kind;
    return make_room(job, to, err) < 0 || copy_trees(job, to, err) < 0
               ? err_wrap(err, "%s: cannot move to pool %s", job->ve->rec.name, to->name)
               : 0;
}

static struct ve_pool *pool_to(const struct job *job)
{
    return ve_pool_find(job->node, json_string_value(json_object_get(job->options, "pool")));
}

static void remove_from(struct ve *ve, struct storage_pool *pool, const json_t *snapshots)
{
    struct err e = {0};
    size_t i;
    json_t *id;
    if (storage_remove(pool, ve->rec.id, &e) < 0)
        log_error(ve->rec.name, 0, "what it left in the other pool stays: %s", e.text);
    json_array_foreach(snapshots, i, id)
    {
        if (storage_saved_remove(pool, json_integer_value(id), &e) < 0)
            log_error(ve->rec.name, 0, "what it left in the other pool stays: %s", e.text);
    }
    ve_trash_later(ve->node);
}

static void put_pool(struct ve *ve, const char *pool)
{
    json_t *spec = json_copy((json_t *)ve->spec);
    json_object_set_new(spec, "pool", json_string(pool));
    ve_spec_put(ve, spec);
}

static int done_move(struct job *job, struct err *err)
{
    struct err e = {0};
    struct ve *ve = job->ve;
    struct ve_pool *from = ve_pool_find(ve->node, ve_pool_name(ve));
    const json_t *to = json_object_get(job->options, "pool");
    ve_pool_note_growth(job, pool_to(job));
    put_pool(ve, json_string_value(to));
    json_array_append_new(ve->node->pending,
                          json_pack("{s:s, s:s, s:s, s:O, s:I}", "type", "ve.moved", "ve",
                                    ve->rec.name, "from", from->name, "to", to, "job",
                                    (json_int_t)job->rec.id));
    /* Committed before anything of the old pool goes. */
    if (ve_record_save(ve, err) < 0 || ve_commit(ve->node, err) < 0) {
        ve_rollback(ve->node);
        put_pool(ve, from->name);
        return -err->kind;
    }
    remove_from(ve, from->pool, json_object_get(job->options, "snapshots"));
    if (ve_disk_limit(ve, &e) < 0)
        log_error(ve->rec.name, job->rec.id, "%s", e.text);
    if (!job->aim)
        return 0;
    if (ve_begin(ve->node, err) < 0)
        return -err->kind;
    job_continue(job, &job_start);
    return 1;
}

static void failed_move(struct job *job)
{
    struct ve *ve = job->ve;
    struct ve_pool *to = pool_to(job);
    if (to && to->pool && !str_eq(to->name, ve_pool_name(ve)))
        remove_from(ve, to->pool, json_object_get(job->options, "snapshots"));
    ve_pool_note_growth(job, to);
}

static const struct job_kind move_stopped = {
    .name = "move",
    .of_ve = true,
    .needs_pool = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .work = work_move,
    .done = done_move,
    .failed = failed_move,
    .back = life_back, /* where it was */
};

const struct job_kind job_move = {
    .name = "move",
    .of_ve = true,
    .limited = true,
    .needs_pool = true,
    .cancellable = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .check = check_move,
    .begin = list_snapshots,
    .work = work_move,
    .done = done_move,
    .failed = failed_move,
};

static int begin_move_restart(struct job *job, struct err *err)
{
    job->aim = ve_state_is_up(job->ve->state);
    return list_snapshots(job, err);
}

static int done_stopped(struct job *job, struct err *err)
{
    int r = job_stop.done(job, err);
    if (r < 0)
        return r;
    job->result[0] = 0;
    job_continue(job, &move_stopped);
    return 1;
}

static const struct job_kind move_stop = {
    .name = "move-restart",
    .of_ve = true,
    .limited = true,
    .ends = true,
    .asks = true,
    .event = VE_EV_STOP,
    .want = JOB_AS_IT_IS,
    .work = life_stop,
    .done = done_stopped,
    .failed = life_stop_failed,
};

static int done_room(struct job *job, struct err *err)
{
    ve_pool_note_growth(job, pool_to(job));
    json_object_set_new(job->options, "saved_size", json_integer(job->result[1]));
    job_continue(job, job->aim ? &move_stop : &move_stopped);
    return 1;
}

static void failed_room(struct job *job)
{
    ve_go_on(job->ve); /* its worker may have been killed meanwhile */
    ve_pool_note_growth(job, pool_to(job));
}

const struct job_kind job_move_restart = {
    .name = "move-restart",
    .of_ve = true,
    .limited = true,
    .needs_pool = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .check = check_move_restart,
    .begin = begin_move_restart,
    .work = work_room,
    .done = done_room,
    .failed = failed_room,
};
