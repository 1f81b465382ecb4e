/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Asking for a job: everything that can be refused before it begins. */
#include "base/name.h"
#include "ve/internal.h"

#include <inttypes.h>

static int check_template_job(struct ve_node *node, const struct job_kind *kind,
                              const char *subject, const json_t *options, struct err *err)
{
    if (name_check_template(subject, err) < 0)
        return -err->kind;
    for (size_t i = 0; i < node->n_open; i++)
        if (!node->open[i]->ve && str_eq(node->open[i]->rec.subject, subject))
            return err_set(err, ERR_BUSY, "template %s is busy: job %" PRId64 " (%s) is at work",
                           subject, node->open[i]->rec.id, node->open[i]->rec.kind);
    auto_template struct template *t = NULL;
    struct err e = {0};
    int r = template_get(node->templates, subject, &t, &e);
    if (str_eq(kind->name, "template-remove")) {
        if (r < 0)
            *err = e;
        return r;
    }
    if (r == 0)
        return err_set(err, ERR_EXISTS,
                       "template %s exists already; remove it first or choose "
                       "another name",
                       subject);
    const char *key = str_eq(kind->name, "template-build") ? "build" : "import";
    if (!json_is_string(json_object_get(options, key)))
        return err_set(err, ERR_USAGE, "the field \"%s\" is missing", key);
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

static int check_busy(struct ve *ve, const struct job_kind *kind, struct err *err)
{
    bool force = str_eq(kind->name, "kill");
    if (ve->transfers)
        return err_set(err, ERR_BUSY, "%s: busy: files are copied; try again when that has ended",
                       ve->rec.name);
    if (!ve->job)
        return 0;
    if (force && !ve->next_job && ve->job->pid &&
        (ve->job->kind->cancellable || ve->job->kind->event == VE_EV_STOP)) {
        /* what is at work is ended; its undoing and this job then do the same */
        ve->job->cancelled = true;
        kill(ve->job->pid, SIGKILL);
        return 0;
    }
    return err_set(err, ERR_BUSY,
                   "%s: busy: job %" PRId64 " (%s) is at work; try again when it "
                   "has ended",
                   ve->rec.name, ve->job->rec.id, ve->job->rec.kind);
}

static int check_ve_job(struct ve *ve, const struct job_kind *kind, const json_t *options,
                        struct err *err)
{
    const char *name = ve->rec.name;
    const json_t *t = json_object_get(options, "timeout");
    if (t && !json_is_null(t) && (!json_is_integer(t) || json_integer_value(t) < 0))
        return err_set(err, ERR_USAGE, "timeout must be a number of seconds");
    if (check_busy(ve, kind, err) < 0)
        return -err->kind;
    if (ve->job) /* a kill behind something else: by then it is stopping or stopped */
        return 0;
    if (str_eq(kind->name, "restart") && ve->state == VE_STOPPED)
        return err_set(err, ERR_STATE, "%s: cannot restart: it is stopped; start it", name);
    if (str_eq(kind->name, "destroy")) {
        if (json_is_true(json_object_get(options, "force")) || ve->state == VE_BROKEN)
            return 0;
        return ve_state_check(name, ve->state, VE_EV_DESTROY, kind->name, err);
    }
    if (str_eq(kind->name, "pause"))
        return ve_state_check(name, ve->state, VE_EV_PAUSE, kind->name, err);
    if (str_eq(kind->name, "resume"))
        return ve_state_check(name, ve->state, VE_EV_RESUME, kind->name, err);
    if (str_eq(kind->name, "squeeze"))
        return squeeze_check(ve, options, err);
    if (kind->event == VE_EVENT__COUNT)
        return 0;
    if (kind->event == VE_EV_STOP && ve->restart_timer) /* it waits to be restarted by policy */
        return 0;
    return ve_state_check(name, ve->state, kind->event, kind->name, err);
}

int ve_job_begin(struct ve_node *node, const char *kind_name, const char *subject,
                 const json_t *options, int64_t *ret_job, struct err *err)
{
    const struct job_kind *kind = job_kind_find(kind_name, err);
    struct ve *ve = NULL;
    if (!kind)
        return -err->kind;
    if (kind->hidden)
        return err_set(err, ERR_USAGE, "there is no operation \"%s\"", kind_name);
    if (node->stopping && !str_eq(kind_name, "stop") && !str_eq(kind_name, "kill"))
        return err_set(err, ERR_STATE, "the node is stopping");
    if (!kind->of_ve) {
        if (check_template_job(node, kind, subject, options, err) < 0)
            return -err->kind;
    } else if (ve_find_err(node, subject, &ve, err) < 0 ||
               check_ve_job(ve, kind, options, err) < 0) {
        return -err->kind;
    }
    if (ve) /* a job asked for comes before a restart by policy */
        ve_handle_close(&ve->restart_timer);
    return job_begin(node, kind, subject, ve, options, ret_job, err);
}
