/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Update: a VE moves to the layers that its template, or another one, has now.  Its own files stay
 * on top; those that hide a file which differs between the old layers and the new are reported.
 *
 * The worker only reads.  The VE's record, which alone says what it stands on, changes in the one
 * transaction that ends the job.
 */
#include "base/fd.h"
#include "base/name.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/layers.h"
#include "ve/pools.h"

#include <fcntl.h>
#include <sys/mman.h>

#define CONFLICTS_MAX 10000
#define REPORT_MAX    (64 << 20)

static const char *target_of(const struct ve *ve, const json_t *options)
{
    const char *to = json_string_value(json_object_get(options, "to"));
    return to ? to : json_string_value(json_object_get(ve->spec, "template"));
}

int ve_renew_check(struct ve_node *node, const json_t *options, struct err *err)
{
    const char *to = json_string_value(json_object_get(options, "to"));
    auto_template struct template *t = NULL;
    if (json_is_true(json_object_get(options, "check")) &&
        json_is_true(json_object_get(options, "restart")))
        return err_set(err, ERR_USAGE, "check changes nothing, restart does: choose one of them");
    if (to && (name_check_template(to, err) < 0 || template_get(node->templates, to, &t, err) < 0))
        return -err->kind;
    return 0;
}

static int check_target(struct ve *ve, const json_t *options, struct err *err)
{
    const char *name = ve->rec.name, *to = target_of(ve, options);
    auto_template struct template *t = NULL;
    if (ve_in_repair(ve))
        return err_set(err, ERR_STATE,
                       "%s: cannot update: it is in repair; terem repair %s --done leaves that",
                       name, name);
    if (ve_renew_check(ve->node, options, err) < 0 ||
        template_get(ve->node->templates, to, &t, err) < 0)
        return err_wrap(err, "%s", name);
    if (str_eq(json_string_value(json_object_get(ve->spec, "kind")), "system") &&
        t->start != TEMPLATE_SYSTEM)
        return err_set(err, ERR_STATE,
                       "%s: it boots an init, and template %s has none; choose one that has", name,
                       to);
    return 0;
}

/* ---- in the worker ---- */

struct report {
    struct job *job;
    json_t *list;
    size_t count;
};

static int add_conflict(void *ctx, const char *path, const char *kind, struct err *err)
{
    struct report *r = ctx;
    auto_str struct str s = str_init(16384);
    if (job_check_cancelled(r->job, err) < 0)
        return -err->kind;
    if (r->count++ >= CONFLICTS_MAX)
        return 0;
    str_add(&s, "/");
    str_escape(&s, path, strlen(path));
    return json_array_append_new(r->list,
                                 json_pack("{s:s, s:s}", "path", str_c(&s), "kind", kind)) < 0
               ? err_set(err, ERR_EXHAUSTED, "out of memory")
               : 0;
}

static int find_conflicts(struct job *job, const struct template *t, json_t *list,
                          size_t *ret_count, struct err *err)
{
    struct ve *ve = job->ve;
    const json_t *layers = json_object_get(ve->spec, "layers");
    const char *before[TEMPLATE_LAYERS_MAX], *after[TEMPLATE_LAYERS_MAX];
    struct report r = {.job = job, .list = list};
    auto_fd int tree = -1, upper = -1;
    size_t n = json_array_size(layers);
    if (n > TEMPLATE_LAYERS_MAX)
        return err_set(err, ERR_CORRUPT, "its record in the registry cannot be read");
    for (size_t i = 0; i < n; i++)
        before[i] = json_string_value(json_array_get(layers, i));
    for (size_t i = 0; i < t->n_layers; i++)
        after[i] = t->layers[i];
    if (storage_open(ve_pool(ve), ve->rec.id, &tree, err) < 0)
        return -err->kind;
    upper = openat(tree, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (upper < 0)
        return err_sys(err, "cannot open its files");
    job_progress(job, -1, "looking for files that hide what has changed");
    if (template_conflicts(ve->node->templates, upper, before, n, after, t->n_layers, add_conflict,
                           &r, err) < 0)
        return -err->kind;
    *ret_count = r.count;
    return 0;
}

static int send_report(struct job *job, json_t *report, struct err *err)
{
    auto_free char *text = json_dumps(report, JSON_COMPACT);
    auto_fd int fd = memfd_create("report", MFD_CLOEXEC);
    if (!text || fd < 0)
        return err_sys(err, "cannot hand over the report");
    if (fd_write_all(fd, text, strlen(text), err) < 0)
        return err_wrap(err, "cannot hand over the report");
    job->result_fds[0] = steal_fd(&fd);
    job->n_result_fds = 1;
    return 0;
}

static int work_update(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    auto_template struct template *t = NULL;
    size_t count = 0;
    if (template_get(ve->node->templates, target_of(ve, job->options), &t, err) < 0)
        return err_wrap(err, "%s: cannot update", ve->rec.name);
    json_t *layers = json_array(), *list = json_array();
    for (size_t i = 0; i < t->n_layers; i++)
        json_array_append_new(layers, json_string(t->layers[i]));
    bool current = ve_layers_are(json_object_get(ve->spec, "layers"), t);
    int r = current ? 0 : find_conflicts(job, t, list, &count, err);
    json_t *report = json_pack("{s:s, s:i, s:o, s:b, s:o, s:I}", "template", t->name, "revision",
                               (int)t->revision, "layers", layers, "current", current, "conflicts",
                               list, "count", (json_int_t)count);
    if (r == 0)
        r = report ? send_report(job, report, err) : err_set(err, ERR_EXHAUSTED, "out of memory");
    json_decref(report);
    return r < 0 ? err_wrap(err, "%s: cannot update", ve->rec.name) : 0;
}

/* ---- in teremd ---- */

static int take_report(struct job *job, struct err *err)
{
    auto_free char *text = NULL;
    if (job->n_result_fds != 1)
        return err_set(err, ERR_INTERNAL, "%s: its worker sent no report", job->ve->rec.name);
    if (lseek(job->result_fds[0], 0, SEEK_SET) < 0)
        return err_sys(err, "cannot read the report");
    if (fd_read_all(job->result_fds[0], REPORT_MAX, &text, NULL, err) < 0)
        return -err->kind;
    json_decref(job->answer);
    job->answer = json_loads(text, 0, NULL);
    return job->answer ? 0
                       : err_set(err, ERR_INTERNAL, "%s: its report is damaged", job->ve->rec.name);
}

static int done_check(struct job *job, struct err *err)
{
    if (take_report(job, err) < 0)
        return -err->kind;
    json_object_set_new(job->answer, "updated", json_false());
    return 0;
}

/* What the new template says of the start of a system; an application keeps its command. */
static void take_over(struct ve *ve, const struct template *t, const json_t *layers)
{
    json_t *spec = json_copy((json_t *)ve->spec);
    json_object_set_new(spec, "template", json_string(t->name));
    json_object_set(spec, "layers", (json_t *)layers);
    if (str_eq(json_string_value(json_object_get(spec, "kind")), "system")) {
        json_object_set_new(spec, "init", json_string(template_init_name(t->init)));
        json_object_set_new(spec, "init_path", json_string(t->init_path));
    }
    ve_spec_put(ve, spec);
}

static int done_update(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    auto_template struct template *t = NULL;
    if (take_report(job, err) < 0)
        return -err->kind;
    const json_t *layers = json_object_get(job->answer, "layers");
    bool current = json_is_true(json_object_get(job->answer, "current"));
    if (template_get(ve->node->templates,
                     json_string_value(json_object_get(job->answer, "template")), &t, err) < 0)
        return err_wrap(err, "%s", ve->rec.name);
    if (!ve_layers_are(layers, t))
        return err_set(err, ERR_BUSY, "%s: template %s was made again in the meantime; try again",
                       ve->rec.name, t->name);
    json_t *before = json_incref((json_t *)ve->spec);
    take_over(ve, t, layers);
    if (ve_record_save(ve, err) < 0) {
        ve_spec_put(ve, before);
        return -err->kind;
    }
    json_decref(before);
    json_object_set_new(job->answer, "updated", json_boolean(!current));
    json_array_append_new(ve->node->pending,
                          json_pack("{s:s, s:s, s:{s:s, s:i}}", "type", "ve.updated", "ve",
                                    ve->rec.name, "changes", "template", t->name, "revision",
                                    (int)t->revision));
    ve_trash_later(ve->node); /* the old ones may be nobody's now */
    if (!job->aim)
        return 0;
    job_continue(job, &job_start);
    return 1;
}

static int check_update(struct ve *ve, const json_t *options, struct err *err)
{
    if (ve->state != VE_STOPPED)
        return err_set(err, ERR_STATE, "%s: cannot update: it is %s; stop it, or use --restart",
                       ve->rec.name, ve_state_text(ve));
    return check_target(ve, options, err);
}

static int check_update_restart(struct ve *ve, const json_t *options, struct err *err)
{
    if (ve->state != VE_STOPPED &&
        ve_state_check(ve->rec.name, ve->state, VE_EV_STOP, "update", err) < 0)
        return -err->kind;
    return check_target(ve, options, err);
}

const struct job_kind job_update_check = {
    .name = "update-check",
    .of_ve = true,
    .limited = true,
    .needs_pool = true,
    .cancellable = true,
    .layers = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .check = check_target,
    .work = work_update,
    .done = done_check,
};

const struct job_kind job_update = {
    .name = "update",
    .of_ve = true,
    .limited = true,
    .needs_pool = true,
    .cancellable = true,
    .layers = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .check = check_update,
    .work = work_update,
    .done = done_update,
    .back = life_back,
};

/* One that runs is not stopped, nor refused, for what it has already. */
const struct job_kind *ve_update_kind(const struct job_kind *kind, const struct ve *ve,
                                      const json_t *options)
{
    const char *own = json_string_value(json_object_get(ve->spec, "template"));
    auto_template struct template *t = NULL;
    struct err e = {0};
    if (kind != &job_update)
        return kind;
    if (json_is_true(json_object_get(options, "check")))
        return &job_update_check;
    if (json_is_true(json_object_get(options, "restart")))
        kind = &job_update_restart;
    if (!ve_state_is_up(ve->state) || !own || !str_eq(target_of(ve, options), own))
        return kind;
    if (template_get(ve->node->templates, own, &t, &e) < 0 ||
        !ve_layers_are(json_object_get(ve->spec, "layers"), t))
        return kind;
    return &job_update_check;
}

static int begin_update_restart(struct job *job, struct err *err)
{
    job->aim = ve_state_is_up(job->ve->state);
    return 0;
}

static int done_stopped(struct job *job, struct err *err)
{
    int r = job_stop.done(job, err);
    if (r < 0)
        return r;
    job_continue(job, &job_update);
    return 1;
}

const struct job_kind job_update_restart = {
    .name = "update-restart",
    .of_ve = true,
    .limited = true,
    .needs_pool = true,
    .ends = true,
    .asks = true,
    .event = VE_EV_STOP,
    .want = JOB_AS_IT_IS,
    .check = check_update_restart,
    .begin = begin_update_restart,
    .work = life_stop,
    .done = done_stopped,
    .failed = life_stop_failed,
};
