/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Asking for a job: everything that can be refused before it begins. */
#include "base/name.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/layers.h"
#include "ve/pools.h"
#include "ve/setup.h"

#include <inttypes.h>

/* Of templates and of pools: one job at a time. */
static int check_free(const struct ve_node *node, const struct job_kind *kind, const char *subject,
                      const char *what, struct err *err)
{
    for (size_t i = 0; i < node->n_open; i++) {
        const struct job *job = node->open[i];
        if (!job->kind->of_ve && !job->bulk && job->kind->of_pool == kind->of_pool &&
            str_eq(job->rec.subject, subject))
            return err_set(err, ERR_BUSY,
                           "%s %s is busy: job %" PRId64 " (%s) is at work; try again when it has "
                           "ended",
                           what, subject, job->rec.id, job->rec.kind);
    }
    return 0;
}

static int check_include(const json_t *options, struct err *err)
{
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(options, "include"), i, item)
    {
        const char *p = json_string_value(item);
        if (!p || !*p || p[strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789+-.")])
            return err_set(err, ERR_USAGE, "include must be a list of package names");
    }
    return 0;
}

static int check_template_job(struct ve_node *node, const struct job_kind *kind,
                              const char *subject, const json_t *options, struct err *err)
{
    if (name_check_template(subject, err) < 0)
        return -err->kind;
    if (kind == &job_template_prune)
        return 0;
    if (check_free(node, kind, subject, "template", err) < 0)
        return -err->kind;
    auto_template struct template *t = NULL;
    struct err e = {0};
    int r = template_get(node->templates, subject, &t, &e);
    if (kind == &job_template_remove || kind == &job_template_update) {
        if (r < 0)
            *err = e;
        bool force = json_is_true(json_object_get(options, "force"));
        if (r == 0 && kind == &job_template_update)
            return check_include(options, err);
        return r < 0 || force ? r : ve_template_check_unused(node, t, err);
    }
    if (r == 0)
        return err_set(err, ERR_EXISTS,
                       "template %s exists already; remove it first or choose "
                       "another name",
                       subject);
    const char *key = json_object_get(options, "from") ? "from"
                      : kind == &job_template_build    ? "build"
                                                       : "import";
    if (!json_is_string(json_object_get(options, key)))
        return err_set(err, ERR_USAGE, "the field \"%s\" is missing", key);
    if (check_include(options, err) < 0)
        return -err->kind;
    const char *base = json_string_value(json_object_get(options, "build"));
    bool packages = json_array_size(json_object_get(options, "include")) > 0;
    return base ? template_build_check(base, packages, err) : 0;
}

int ve_refuse_busy(const struct ve *ve, struct err *err)
{
    if (!ve || !ve->job)
        return 0;
    return err_set(err, ERR_BUSY,
                   "%s: busy: job %" PRId64 " (%s) is at work; try again when it has ended",
                   ve->rec.name, ve->job->rec.id, ve->job->rec.kind);
}

/* What stands in a kill's way is ended; its undoing and the kill then do the same.  False: it is to
 * be waited for by whoever asks. */
static bool make_way(struct ve *ve)
{
    struct job *job = ve->job;
    bool ending = job->kind->event == VE_EV_STOP;
    bool behind = ve->next_job && ve->next_job->kind != &job_stop; /* which it would only hasten */
    if (behind || !(job->kind->cancellable || ending))
        return false;
    if (job->asking && !job->pid) {
        if (!job->failing)
            asking_hurry(job);
    } else if (job->state == JOB_QUEUED) {
        return ve_job_cancel(ve->node, job->rec.id, &(struct err){0}) == 0;
    } else if (job->kind->crewed) { /* its worker may be at work for another */
        return ending || ve_job_cancel(ve->node, job->rec.id, &(struct err){0}) == 0;
    } else if (job->pid) {
        job->cancelled = true;
        kill(job->pid, SIGKILL);
    } else {
        return false;
    }
    return true;
}

static int check_busy(struct ve *ve, const struct job_kind *kind, struct err *err)
{
    if (ve->transfers)
        return err_set(err, ERR_BUSY, "%s: busy: files are copied; try again when that has ended",
                       ve->rec.name);
    /* A stop waits until its VE is up; where that fails it finds it stopped. */
    bool comes_up = ve->job && (ve->job->kind == &job_start || ve->job->kind == &job_restart);
    bool waits = kind == &job_stop && comes_up && !ve->next_job;
    if (!ve->job || waits || (kind == &job_kill && make_way(ve)))
        return 0;
    return ve_refuse_busy(ve, err);
}

static int check_ve_job(struct ve *ve, const struct job_kind *kind, const json_t *options,
                        struct err *err)
{
    const json_t *t = json_object_get(options, "timeout");
    if (t && !json_is_null(t) && (!json_is_integer(t) || json_integer_value(t) < 0))
        return err_set(err, ERR_USAGE, "timeout must be a number of seconds");
    bool behind = ve->job; /* a start that waits for a worker is ended at once by check_busy() */
    if (check_busy(ve, kind, err) < 0)
        return -err->kind;
    if (behind) /* a kill, or a stop behind a start: by then it is up, stopping or stopped */
        return 0;
    if (kind->needs_pool && ve_pool_need(ve, err) < 0)
        return -err->kind;
    if (kind->check)
        return kind->check(ve, options, err);
    if (kind->event == VE_EVENT__COUNT)
        return 0;
    if (kind->event == VE_EV_STOP && ve->restart_timer) /* it waits to be restarted by policy */
        return 0;
    if (kind == &job_stop && ve->job && ve->job->kind == &job_restart)
        return 0;
    return ve_state_check(ve->rec.name, ve->state, kind->event, kind->name, err);
}

static int begin_template_job(struct ve_node *node, const struct job_kind *kind,
                              const char *subject, const json_t *options, int64_t *ret_job,
                              struct err *err)
{
    json_t *recipe = NULL;
    if (kind == &job_template_update) {
        if (ve_template_recipe(node, subject, &recipe, err) < 0)
            return -err->kind;
        if (ve_template_recipe_change(recipe, subject, options, err) < 0) {
            json_decref(recipe);
            return -err->kind;
        }
        options = recipe;
    }
    int r = json_object_get(options, "from")
                ? ve_build_begin(node, subject, options, ret_job, err)
                : job_begin(node, kind, subject, NULL, options, ret_job, err);
    json_decref(recipe);
    return r;
}

int ve_job_begin(struct ve_node *node, const char *kind_name, const char *subject,
                 const json_t *options, int64_t *ret_job, struct err *err)
{
    const struct job_kind *kind = job_kind_find(kind_name, err);
    struct bulk_item *item = node->begun_for;
    struct ve *ve = NULL;
    node->begun_for = NULL; /* a job that makes way may begin others */
    if (!kind)
        return -err->kind;
    if (kind->hidden)
        return err_set(err, ERR_USAGE, "there is no operation \"%s\"", kind_name);
    if (kind == &job_stop && json_is_true(json_object_get(options, "force")))
        kind = &job_kill;
    if (node->stopping && !str_eq(kind_name, "stop") && !str_eq(kind_name, "kill"))
        return err_set(err, ERR_STATE, "the node is stopping");
    if (kind->of_pool) {
        if (check_free(node, kind, subject, "pool", err) < 0 ||
            kind->check_pool(node, subject, options, err) < 0)
            return -err->kind;
    } else if (kind == &job_node_setup) {
        if (check_free(node, kind, subject, "the", err) < 0 ||
            ve_setup_check(node, options, err) < 0)
            return -err->kind;
    } else if (!kind->of_ve) {
        if (check_template_job(node, kind, subject, options, err) < 0)
            return -err->kind;
        return begin_template_job(node, kind, subject, options, ret_job, err);
    } else {
        if (ve_find_err(node, subject, &ve, err) < 0)
            return -err->kind;
        kind = ve_update_kind(kind, ve, options);
        if (check_ve_job(ve, kind, options, err) < 0)
            return -err->kind;
    }
    if (kind == &job_rollback && ve->state != VE_STOPPED)
        kind = &job_rollback_stop;
    if (kind == &job_repair && ve->state != VE_STOPPED)
        kind = &job_repair_restart;
    if (ve) /* a job asked for comes before a restart by policy */
        ve_handle_close(&ve->restart_timer);
    node->begun_for = item;
    return job_begin(node, kind, subject, ve, options, ret_job, err);
}
