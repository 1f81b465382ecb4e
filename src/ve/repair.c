/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Repair: a VE whose own root cannot be started runs a rescue system in its place, with the same
 * name, addresses, ids and parameters, and finds its own root at /repair.
 *
 * The VE is then RUNNING like any other; "repair" in its run record tells the difference, from
 * before its start until nothing of it is left.
 */
#include "ve/internal.h"
#include "ve/jobs.h"

bool ve_in_repair(const struct ve *ve)
{
    return json_is_true(json_object_get(ve->run, "repair")) && ve->state != VE_STOPPED &&
           ve->state != VE_ABSENT;
}

const char *ve_state_text(const struct ve *ve)
{
    return ve->state == VE_RUNNING && ve_in_repair(ve) ? "repair" : ve_state_name(ve->state);
}

void ve_repair_forget(struct ve *ve)
{
    json_object_del(ve->run, "repair");
    json_object_del(ve->run, "rescue");
}

static int check_repair(struct ve *ve, const json_t *options, struct err *err)
{
    const char *name = ve->rec.name;
    bool up = ve_state_is_up(ve->state);
    if (ve_in_repair(ve))
        return err_set(err, ERR_STATE,
                       "%s: it is in repair already; terem enter %s opens a shell in it", name,
                       name);
    if (json_is_true(json_object_get(options, "restart")) && ve->state != VE_STOPPED)
        return ve_state_check(name, ve->state, VE_EV_STOP, "repair", err);
    if (up)
        return err_set(err, ERR_STATE,
                       "%s: cannot repair: it is %s; stop it first, or repair it with --restart",
                       name, ve_state_name(ve->state));
    return ve_state_check(name, ve->state, VE_EV_START, "repair", err);
}

static int begin_repair(struct job *job, struct err *err)
{
    json_object_set_new(job->ve->run, "repair", json_true());
    return 0;
}

static int work_repair(struct job *job, struct err *err)
{
    char digest[TEMPLATE_DIGEST];
    if (template_rescue(job->node->templates, job_progress, job, digest, err) < 0)
        return err_wrap(err, "%s: cannot repair", job->ve->rec.name);
    str_print(job->said, sizeof(job->said), "%s", digest);
    return life_start(job, digest, err);
}

/* The layer of the rescue system is named while the VE stands on it: it must not be collected. */
static int done_repair(struct job *job, struct err *err)
{
    json_object_set_new(job->ve->run, "rescue", json_pack("[s]", job->said));
    return life_started(job, err);
}

const struct job_kind job_repair = {
    .name = "repair",
    .of_ve = true,
    .limited = true,
    .needs_pool = true,
    .cancellable = true,
    .layers = true,
    .event = VE_EV_START,
    .want = VE_RUNNING,
    .check = check_repair,
    .begin = begin_repair,
    .work = work_repair,
    .done = done_repair,
    .failed = life_start_failed,
    .back = life_back,
};

/* ---- of one that runs: stopped first ---- */

static int begin_repair_restart(struct job *job, struct err *err)
{
    job->aim = ve_state_is_up(job->ve->state);
    return 0;
}

static int done_stopped(struct job *job, struct err *err)
{
    if (job_stop.done(job, err) < 0 || begin_repair(job, err) < 0)
        return -err->kind;
    job_continue(job, &job_repair);
    return 1;
}

const struct job_kind job_repair_restart = {
    .name = "repair",
    .of_ve = true,
    .hidden = true, /* over the API it is begun as job_repair */
    .limited = true,
    .needs_pool = true,
    .layers = true,
    .ends = true,
    .asks = true,
    .event = VE_EV_STOP,
    .want = VE_RUNNING,
    .check = check_repair,
    .begin = begin_repair_restart,
    .work = life_stop,
    .done = done_stopped,
    .failed = life_stop_failed,
};

/* ---- back ---- */

static int check_done(struct ve *ve, const json_t *options, struct err *err)
{
    if (!ve_in_repair(ve))
        return err_set(err, ERR_STATE, "%s: it is not in repair but %s; terem repair %s begins it",
                       ve->rec.name, ve_state_name(ve->state), ve->rec.name);
    return ve_state_check(ve->rec.name, ve->state, VE_EV_STOP, "leave repair", err);
}

/* Out of the rescue system, and a normal start. */
const struct job_kind job_repair_done = {
    .name = "repair-done",
    .of_ve = true,
    .ends = true,
    .asks = true,
    .event = VE_EV_STOP,
    .want = VE_RUNNING,
    .check = check_done,
    .work = life_stop,
    .done = life_stopped_start,
    .failed = life_stop_failed,
};
