/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Jobs as they are shown: those that are open, and those that are rows. */
#include "ve/bulk.h"
#include "ve/jobs.h"

const char *job_state_name(enum job_state s)
{
    static const char *const names[] = {"queued", "running", "done", "failed", "cancelled"};
    return (unsigned)s < ARRAY_SIZE(names) ? names[s] : "unknown";
}

enum job_state job_state_after(const struct err *error)
{
    return !error ? JOB_DONE : error->kind == ERR_CANCELLED ? JOB_CANCELLED : JOB_FAILED;
}

json_t *job_error_json(int kind, const char *text)
{
    return text ? json_pack("{s:s, s:s}", "kind", err_row((enum err_kind)kind)->name, "message",
                            text)
                : json_null();
}

static json_t *row_json(const struct registry_job *r, enum job_state state, int percent,
                        const char *text)
{
    json_t *out =
        json_pack("{s:I, s:s, s:s, s:s, s:s, s:I, s:o}", "id", (json_int_t)r->id, "kind", r->kind,
                  "subject", r->subject, "state", job_state_name(state), "text", text, "created",
                  (json_int_t)r->created, "error", job_error_json((int)r->error_kind, r->error));
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
    if (job->news)
        json_object_set(out, "item", job->news);
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
    if (json_integer_value(json_object_get(node->last_ended, "id")) == id) {
        *ret = json_incref(node->last_ended);
        return 0;
    }
    struct registry_job rec = {0};
    if (registry_job_get(node->registry, id, &rec, err) < 0)
        return -err->kind;
    const struct registry_job *as = ve_job_as_ended(node, &rec);
    json_t *out = row_json(as, (enum job_state)as->state, -1, ""), *result = NULL;
    if (str_eq(rec.kind, job_bulk.name) && bulk_result(node, id, &result, err) == 0)
        json_object_set_new(out, "result", result);
    registry_job_done(&rec);
    *ret = out;
    return 0;
}

struct listing {
    const struct ve_node *node;
    json_t *out;
};

static int add_row(void *ctx, const struct registry_job *r, struct err *err)
{
    struct listing *l = ctx;
    r = ve_job_as_ended(l->node, r);
    return json_array_append_new(l->out, row_json(r, (enum job_state)r->state, -1, ""));
}

static bool is_bulk(const json_t *job)
{
    return str_eq(json_string_value(json_object_get(job, "kind")), job_bulk.name);
}

/* Newest first is by their beginning; one over many VEs began before all that it began itself, and
 * is lifted above them, up to what was begun when it had ended. */
static void lift_bulk(json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *job = json_array_get(list, i);
        const json_t *ended = json_object_get(job, "ended");
        size_t to = i;
        if (!is_bulk(job))
            continue;
        for (; to > 0; to--) {
            const json_t *above = json_array_get(list, to - 1);
            json_int_t begun = json_integer_value(json_object_get(above, "created"));
            if (is_bulk(above) || (json_is_integer(ended) && begun > json_integer_value(ended)))
                break;
        }
        json_incref(job);
        json_array_remove(list, i);
        json_array_insert_new(list, to, job);
    }
}

int ve_job_list(struct ve_node *node, bool only_open, json_t **ret, struct err *err)
{
    json_t *out = json_array();
    struct listing l = {node, out};
    if (only_open) {
        for (size_t i = node->n_open; i-- > 0;)
            json_array_append_new(out, job_json(node->open[i]));
    } else if (registry_job_each(node->registry, false, SIZE_MAX, add_row, &l, err) < 0) {
        json_decref(out);
        return -err->kind;
    }
    lift_bulk(out);
    *ret = out;
    return 0;
}
