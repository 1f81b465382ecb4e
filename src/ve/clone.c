/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clones: a new VE whose files are a copy of another's, with an identity of its own.
 *
 * Its record is committed first, as one that shall be ABSENT: what a crash leaves of it recovery
 * destroys.  It becomes one that is there when its files are whole.  While they are copied the
 * source is held (`transfers`): nothing starts, stops or changes it.
 */
#include "base/name.h"
#include "ve/identity.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/layers.h"
#include "ve/pools.h"
#include "ve/private.h"
#include "ve/rows.h"
#include "ve/saved.h"
#include "ve/sleep.h"

/* ---- the new record ---- */

static int merge(struct ve_node *node, json_t *spec, const json_t *request, struct param_set *ret,
                 struct err *err)
{
    const json_t *labels = json_object_get(request, "labels");
    if (ve_labels_check(labels, err) < 0 ||
        ve_params_merge(json_object_get(spec, "params"), json_object_get(request, "params"), err) <
            0 ||
        ve_params_effective(node, spec, ret, err) < 0 || ve_apply_check(node, ret, err) < 0)
        return -err->kind;
    json_object_update(json_object_get(spec, "labels"), (json_t *)labels);
    return 0;
}

static int choose_pool(struct ve_node *node, json_t *spec, const json_t *request, struct err *err)
{
    const json_t *name = json_object_get(request, "pool");
    struct ve_pool *p;
    if (!name)
        return 0;
    json_object_set(spec, "pool", (json_t *)name);
    int r = ve_pool_find_err(node, json_string_value(name), &p, err);
    return r < 0 ? r : ve_pool_try(node, p, err);
}

static int save_new(struct ve *ve, struct err *err)
{
    ve_privates_take(ve, json_object_get(ve->spec, "networks"));
    int r = ve_record_save(ve, err);
    return r < 0 ? r : ve_node_add(ve->node, ve, err);
}

static int new_record(struct ve *source, const struct ve_snapshot *s, const char *name,
                      const json_t *request, struct ve **ret, struct err *err)
{
    struct ve_node *node = source->node;
    struct param_set params;
    struct ve *ve = calloc(1, sizeof(*ve));
    if (!ve)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    *ve = (struct ve){.node = node, .pidfd = -1, .state = VE_STOPPED};
    ve->rec.want = VE_ABSENT;
    ve->rec.created = ve_now_ms();
    json_t *spec = json_deep_copy(source->spec),
           *schedule = json_object_get(source->spec, "schedule");
    ve->spec = spec;
    ve->run = json_object();
    str_print(ve->rec.name, sizeof(ve->rec.name), "%s", name);
    json_object_del(spec, "scheduled");
    if (s)
        snapshot_put_back(spec, s);
    if ((schedule && schedule_set(spec, schedule, err) < 0) || /* from its next hour on */
        choose_pool(node, spec, request, err) < 0 || merge(node, spec, request, &params, err) < 0 ||
        ve_params_put(ve, &params, err) < 0 ||
        ve_disk_check_new(node, ve_pool_name(ve), ve->params, err) < 0 ||
        ve_guarantee_admit(node, NULL, ve->params, err) < 0 || ve_begin_light(node, err) < 0 ||
        save_new(ve, err) < 0) {
        ve_rollback(node);
        ve_record_free(ve);
        return -err->kind;
    }
    *ret = ve; /* committed with its job */
    return 0;
}

static int check_source(struct ve *source, const json_t *request, struct ve_snapshot **ret,
                        struct err *err)
{
    const char *name = source->rec.name;
    const char *snapshot = json_string_value(json_object_get(request, "snapshot"));
    *ret = NULL;
    if (ve_pool_need(source, err) < 0)
        return -err->kind;
    if (source->job || source->transfers)
        return err_set(err, ERR_BUSY,
                       "%s: cannot clone it: it is busy%s%s; try again when that "
                       "has ended",
                       name, source->job ? " with " : "", source->job ? source->job->rec.kind : "");
    if (!ve_state_is_up(source->state) && source->state != VE_STOPPED)
        return err_set(err, ERR_STATE,
                       "%s: cannot clone it: it is %s; try again when it runs or is stopped", name,
                       ve_state_text(source));
    if (!snapshot)
        return 0;
    if (snapshot_find(source, snapshot, ret, err) < 0)
        return -err->kind;
    if (!snapshot_has_tree(source, *ret))
        return err_set(err, ERR_CORRUPT,
                       "%s: cannot clone snapshot %s: its files are missing; choose another", name,
                       snapshot);
    return 0;
}

int ve_clone(struct ve_node *node, const char *source_name, const json_t *request, int64_t *ret_job,
             struct err *err)
{
    struct ve *source, *ve = NULL;
    struct ve_snapshot *s;
    const char *name = json_string_value(json_object_get(request, "name"));
    if (node->stopping)
        return err_set(err, ERR_STATE, "the node is stopping");
    if (!name)
        return err_set(err, ERR_USAGE, "a clone needs a name");
    if (ve_find_err(node, source_name, &source, err) < 0 || name_check_ve(name, err) < 0 ||
        check_source(source, request, &s, err) < 0)
        return -err->kind;
    if (ve_find(node, name))
        return err_set(err, ERR_EXISTS,
                       "%s: there is a VE of this name already; choose another name or destroy it",
                       name);
    ve_wake(source, "clone"); /* its files are copied while it is frozen, and it must stay so */
    if (new_record(source, s, name, request, &ve, err) < 0)
        return err_wrap(err, "%s: cannot clone %s", name, source_name);
    json_t *options = json_pack("{s:I, s:I, s:b}", "from", (json_int_t)source->rec.id, "saved",
                                (json_int_t)(s ? s->rec.id : 0), "start",
                                json_is_true(json_object_get(request, "start")));
    source->transfers++;
    int r = job_begin(node, &job_clone, name, ve, options, ret_job, err);
    json_decref(options);
    if (r < 0) { /* nothing was begun, and nothing was committed */
        ve_rollback(node);
        source->transfers--;
        ve_node_forget(ve);
    }
    return r;
}

/* ---- the job ---- */

static struct ve *source_of(const struct job *job)
{
    return ve_by_id(job->node, json_integer_value(json_object_get(job->options, "from")));
}

/* Whoever watches shall see which of the two does not answer, and why. */
static int still_progress(void *ctx, int percent, const char *text)
{
    struct job *job = ctx;
    const struct ve *source = source_of(job);
    char whole[256];
    str_print(whole, sizeof(whole), "%s is frozen while its files are copied%s%s",
              source ? source->rec.name : "its source", text && *text ? ": " : "",
              text ? text : "");
    return job_progress(job, percent, whole);
}

static struct ve_pool *pool_of(const struct job *job)
{
    return ve_pool_find(job->node, ve_pool_name(job->ve));
}

/* Before anything is written: a disk that runs full is that of others, too. */
static int make_room(struct job *job, uint64_t want, struct err *err)
{
    uint64_t size = 0;
    int r = ve_pool_make_room(job, pool_of(job), want, &size, err);
    job->result[0] = (int64_t)size;
    return r;
}

static void tell_looking(struct job *job)
{
    job_progress(job, -1, "looking how much its source has");
}

/* Into another pool everything is copied, which takes its time: where the source's own pool copies
 * at no cost, a copy there is what is carried over, and the source goes on meanwhile.  What a crash
 * leaves of it belongs to nobody (ve_pool_recover). */
static int copy_over(struct job *job, struct ve *source, const struct storage_step *step,
                     struct err *err)
{
    int64_t id = job->ve->rec.id;
    struct storage_pool *from = ve_pool(source), *to = ve_pool(job->ve);
    struct err e = {0};
    uint64_t want = 0;
    tell_looking(job);
    int r = storage_move_size(from, to, id, false, &want, err);
    if (r == 0 && (r = make_room(job, want, err)) == 0)
        r = storage_move(from, to, id, false, step, err);
    if (storage_remove(from, id, &e) < 0)
        log_warn(job->ve->rec.name, job->rec.id, "%s; it goes at the next start", e.text);
    return r;
}

static int copy_saved(struct job *job, struct storage_pool *from, int64_t saved, bool costs,
                      const struct storage_step *step, struct err *err)
{
    struct storage_pool *to = ve_pool(job->ve);
    uint64_t want = 0;
    int r = 0;
    if (costs) {
        tell_looking(job);
        if ((r = storage_move_size(from, to, saved, true, &want, err)) == 0)
            r = make_room(job, want, err);
    }
    return r < 0 ? r : storage_clone_into(to, job->ve->rec.id, from, saved, true, step, err);
}

static int copy_own(struct job *job, struct ve *source, struct storage_pool *to,
                    struct storage_step *step, struct err *err)
{
    bool frozen = false;
    if (ve_still(source, &frozen, err) < 0)
        return -err->kind;
    if (frozen && !storage_can(ve_pool(source))->cheap_copies)
        step->progress = still_progress;
    int r =
        storage_clone_into(to, job->ve->rec.id, ve_pool(source), source->rec.id, false, step, err);
    if (frozen)
        ve_go_on(source);
    return r;
}

static int copy_tree(struct job *job, struct ve *source, struct err *err)
{
    struct storage_pool *from = ve_pool(source), *to = ve_pool(job->ve);
    const struct storage_can *can = storage_can(from);
    int64_t saved = json_integer_value(json_object_get(job->options, "saved"));
    struct storage_step step = {job_progress, job};
    bool other = from != to, costs = other || !(can->cheap_copies || can->shares_data);
    uint64_t want = 0;
    int r;
    if (saved)
        return copy_saved(job, from, saved, costs, &step, err);
    if (other && can->cheap_copies)
        return (r = copy_own(job, source, from, &step, err)) < 0
                   ? r
                   : copy_over(job, source, &step, err);
    if (costs) {
        tell_looking(job);
        if ((r = ve_tree_size(source, to, &want, err)) < 0 || (r = make_room(job, want, err)) < 0)
            return r;
    }
    return copy_own(job, source, to, &step, err);
}

static int work_clone(struct job *job, struct err *err)
{
    struct ve *ve = job->ve, *source = source_of(job);
    if (!source)
        return err_set(err, ERR_INTERNAL, "%s: its source is gone", ve->rec.name);
    if (copy_tree(job, source, err) < 0 || ve_disk_limit(ve, err) < 0)
        return err_wrap(err, "%s: cannot clone %s", ve->rec.name, source->rec.name);
    job_progress(job, -1, "giving it an identity of its own");
    if (identity_renew(ve, job->said, sizeof(job->said), err) < 0)
        return err_wrap(err, "%s: cannot clone %s", ve->rec.name, source->rec.name);
    return job_check_cancelled(job, err);
}

static void let_go(struct job *job)
{
    struct ve *source = source_of(job);
    if (source)
        source->transfers--;
    json_object_del(job->options, "from");
}

static int done_clone(struct job *job, struct err *err)
{
    struct ve *ve = job->ve, *source = source_of(job);
    struct ve_node *node = ve->node;
    bool start = json_is_true(json_object_get(job->options, "start")) && !node->stopping;
    ve_pool_note_growth(job, pool_of(job));
    ve->rec.want = VE_STOPPED;
    json_array_append_new(node->pending,
                          json_pack("{s:s, s:s, s:s}", "type", "ve.created", "ve", ve->rec.name,
                                    "from", source ? source->rec.name : ""));
    if (*job->said) {
        char text[320];
        str_print(text, sizeof(text),
                  "SSH host keys of its source could not be made anew and were removed: %s",
                  job->said);
        log_warn(ve->rec.name, job->rec.id, "%s", text);
        json_array_append_new(node->pending, json_pack("{s:s, s:s, s:s}", "type", "ve.warning",
                                                       "ve", ve->rec.name, "text", text));
    }
    json_object_set_new(ve->run, "filled", json_true());
    /* One that the registry could not take would be destroyed at the next start: it is none. */
    if (ve_record_save(ve, err) < 0 || (start && ve_commit(node, err) < 0)) {
        ve_rollback(node);
        return err_wrap(err, "%s: cannot clone", ve->rec.name);
    }
    if (source && ve_pool(source) != ve_pool(ve))
        ve_trash_later(node);
    let_go(job);
    ve_privates_joined(ve);
    ve_guarantee_settle(node);
    ve_disk_settle(node);
    job->kept = !start;
    if (!start)
        return 0;
    ve->rec.want = VE_RUNNING;
    if (ve_begin(node, err) < 0)
        return err_wrap(err, "%s: cannot start", ve->rec.name);
    job_continue(job, &job_start);
    return 1;
}

static void failed_clone(struct job *job)
{
    struct ve *ve = job->ve, *source = source_of(job);
    struct ve_node *node = job->node;
    struct err e = {0};
    if (source)
        ve_go_on(source); /* the worker may have been killed meanwhile */
    let_go(job);
    ve_pool_note_growth(job, pool_of(job));
    if ((source && ve_pool(source) && ve_pool(source) != ve_pool(ve) &&
         storage_remove(ve_pool(source), ve->rec.id, &e) < 0) ||
        (ve_pool(ve) && storage_remove(ve_pool(ve), ve->rec.id, &e) < 0) ||
        registry_ve_delete(node->registry, ve->rec.id, &e) < 0)
        log_error(ve->rec.name, job->rec.id, "%s; it is tried again at the next start", e.text);
    json_array_append_new(node->pending, json_pack("{s:s, s:s, s:I}", "type", "ve.destroyed", "ve",
                                                   ve->rec.name, "job", (json_int_t)job->rec.id));
    job->ve = NULL;
    ve_node_forget(ve);
    ve_guarantee_settle(node);
    ve_trash_later(node);
}

/* A tree without a VE goes at the next start. */
static bool light_clone(const struct job *job)
{
    return true;
}

const struct job_kind job_clone = {
    .name = "clone",
    .of_ve = true,
    .hidden = true, /* over the API it is begun by ve_clone() */
    .needs_pool = true,
    .cancellable = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .light = light_clone,
    .work = work_clone,
    .done = done_clone,
    .failed = failed_clone,
};
