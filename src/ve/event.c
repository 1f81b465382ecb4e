/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Watches of jobs and of events. */
#include "ve/internal.h"

#define REFUSED_EVERY_MS 1000

struct ve_refusal {
    int64_t at; /* its last event */
    uint64_t held_back;
    uint64_t told; /* ve_refusals_told() */
};

static int add(struct ve_node *node, struct ve_watch w, struct ve_watch **ret, struct err *err)
{
    struct ve_watch *n = calloc(1, sizeof(*n));
    if (!n)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    *n = w;
    n->node = node;
    n->next = node->watches;
    node->watches = n;
    *ret = n;
    return 0;
}

int ve_event_watch(struct ve_node *node, ve_event_fn fn, void *ctx, struct ve_watch **ret,
                   struct err *err)
{
    forks_listen(node);
    return add(node, (struct ve_watch){.event_fn = fn, .ctx = ctx}, ret, err);
}

int ve_job_watch(struct ve_node *node, int64_t id, ve_job_fn fn, void *ctx, struct ve_watch **ret,
                 struct err *err)
{
    for (size_t i = 0; i < node->n_open; i++)
        if (node->open[i]->rec.id == id)
            return add(node, (struct ve_watch){.job = node->open[i], .job_fn = fn, .ctx = ctx}, ret,
                       err);
    json_t *job = NULL;
    if (ve_job_show(node, id, &job, err) < 0)
        return -err->kind;
    *ret = NULL;
    fn(ctx, job, true);
    json_decref(job);
    return 0;
}

/* A watcher may unwatch itself or others while it is called: they are marked, and swept later. */
void ve_unwatch(struct ve_watch *w)
{
    if (w)
        w->dead = true;
}

void ve_watches_sweep(struct ve_node *node)
{
    for (struct ve_watch **p = &node->watches; *p;) {
        struct ve_watch *w = *p;
        if (!w->dead) {
            p = &w->next;
            continue;
        }
        *p = w->next;
        free(w);
    }
}

void ve_event_emit(struct ve_node *node, json_t *event)
{
    if (!event)
        return;
    json_object_set_new(event, "time", json_integer(ve_now_ms()));
    for (struct ve_watch *w = node->watches; w; w = w->next)
        if (!w->dead && w->event_fn)
            w->event_fn(w->ctx, event);
    json_decref(event);
    ve_watches_sweep(node);
}

void ve_event_job(struct job *job, bool ended)
{
    if (!job->node->watches)
        return;
    json_t *doc = job_json(job);
    for (struct ve_watch *w = job->node->watches; w; w = w->next) {
        if (w->dead || w->job != job)
            continue;
        w->dead = ended;
        w->job_fn(w->ctx, doc, ended);
    }
    ve_event_emit(job->node, json_pack("{s:s, s:o}", "type", "job", "job", doc));
}

uint64_t ve_refusals_told(struct ve *ve, const struct param_row *row, uint64_t count)
{
    if (!ve->refused && !(ve->refused = calloc(param_table_size, sizeof(*ve->refused))))
        return 0;
    struct ve_refusal *r = &ve->refused[param_index(row)];
    uint64_t before = r->told;
    r->told = count;
    return before;
}

void ve_refused(struct ve *ve, const struct param_row *row, uint64_t count, pid_t pid,
                const char *process, const char *text)
{
    if (!ve->refused && !(ve->refused = calloc(param_table_size, sizeof(*ve->refused))))
        return;
    struct ve_refusal *r = &ve->refused[param_index(row)];
    int64_t now = ve_now_ms();
    r->held_back += count;
    if (now - r->at < REFUSED_EVERY_MS && now >= r->at)
        return;
    json_t *e = json_pack("{s:s, s:s, s:s, s:I, s:o, s:o, s:o}", "type", "ve.refused", "ve",
                          ve->rec.name, "key", row->key, "count", (json_int_t)r->held_back, "pid",
                          pid > 0 ? json_integer(pid) : json_null(), "process",
                          process ? json_string(process) : json_null(), "text",
                          text ? json_string(text) : json_null());
    r->at = now;
    r->held_back = 0;
    ve_event_emit(ve->node, e);
}
