/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Watches of jobs and of events. */
#include "ve/beside.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/rows.h"

#define REFUSED_EVERY_MS 1000

struct ve_refusal {
    int64_t at; /* its last event */
    uint64_t held_back;
    uint64_t told; /* ve_refusals_told() */
    bool look;     /* at the counter, when the second is over: who told may have missed some */
    pid_t pid;     /* of the last one */
    char process[64];
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
    refusal_listen(node);
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
    const char *name = json_string_value(json_object_get(event, "ve"));
    if (!event || (name && ve_name_hidden(name))) {
        json_decref(event);
        return;
    }
    json_object_set_new(event, "time", json_integer(ve_now_ms()));
    for (struct ve_watch *w = node->watches; w; w = w->next)
        if (!w->dead && w->event_fn)
            w->event_fn(w->ctx, event);
    json_decref(event);
    ve_watches_sweep(node);
}

/* What became of each of many VEs is for who asks for the job: no event would find room. */
static json_t *without_items(json_t *doc)
{
    const json_t *result = json_object_get(doc, "result");
    if (!json_object_get(result, "items"))
        return doc;
    json_t *brief = json_copy(doc), *counts = json_copy((json_t *)result);
    json_object_del(counts, "items");
    json_object_set_new(brief, "result", counts);
    json_decref(doc);
    return brief;
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
    ve_event_emit(job->node, json_pack("{s:s, s:o}", "type", "job", "job", without_items(doc)));
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

/* A process names itself: what is not UTF-8 is shown as \xNN, or the event were none. */
static json_t *name_json(const char *name)
{
    if (!name || !*name)
        return json_null();
    json_t *out = json_string(name);
    if (out)
        return out;
    auto_str struct str s = str_init(256);
    str_escape(&s, name, strnlen(name, 60));
    return json_string(str_c(&s));
}

static void tell_refused(struct ve *ve, const struct param_row *row, struct ve_refusal *r,
                         const char *text)
{
    json_t *e = json_pack("{s:s, s:s, s:s, s:I, s:o, s:o, s:o}", "type", "ve.refused", "ve",
                          ve->rec.name, "key", row->key, "count", (json_int_t)r->held_back, "pid",
                          r->pid > 0 ? json_integer(r->pid) : json_null(), "process",
                          name_json(r->process), "text", text ? json_string(text) : json_null());
    r->at = ve_now_ms();
    r->held_back = 0;
    ve_event_emit(ve->node, e);
}

static bool is_too_soon(const struct ve_refusal *r)
{
    int64_t now = ve_now_ms();
    return now - r->at < REFUSED_EVERY_MS && now >= r->at;
}

/* The last ones of a burst may have had no event of their own (ve/bpf.c): the counter knows. */
static void look_again(struct ve *ve)
{
    struct param_counters list;
    bool read = false;
    for (size_t k = 0; k < param_table_size; k++) {
        struct ve_refusal *r = &ve->refused[k];
        bool look = r->look && r->told;
        r->look = false;
        if (!look || (!read && ve_counters_read(ve, &list, &(struct err){0}) < 0))
            continue;
        read = true;
        struct param_count now = param_counters_of(&list, &param_table[k])->failcnt;
        if (!now.known || now.n <= r->told)
            continue;
        r->held_back += now.n - r->told;
        r->told = now.n;
    }
}

/* What was held back is told when its second is over. */
static void on_refused_timer(uv_timer_t *timer)
{
    struct ve_node *node = timer->data;
    bool more = false;
    ve_handle_close(&node->refused_timer);
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve_refusal *all = node->ves[i]->refused;
        if (all)
            look_again(node->ves[i]);
        for (size_t k = 0; all && k < param_table_size; k++) {
            if (!all[k].held_back)
                continue;
            if (is_too_soon(&all[k]))
                more = true;
            else
                tell_refused(node->ves[i], &param_table[k], &all[k], NULL);
        }
        more |= ve_oom_tell_rest(node->ves[i]);
    }
    if (more)
        ve_refused_later(node);
}

void ve_refused_later(struct ve_node *node)
{
    if (node->closing || node->refused_timer ||
        !(node->refused_timer = calloc(1, sizeof(*node->refused_timer))))
        return;
    uv_timer_init(node->loop, node->refused_timer);
    node->refused_timer->data = node;
    uv_timer_start(node->refused_timer, on_refused_timer, REFUSED_EVERY_MS, 0);
}

void ve_refused(struct ve *ve, const struct param_row *row, uint64_t count, pid_t pid,
                const char *process, const char *text)
{
    if (!ve->refused && !(ve->refused = calloc(param_table_size, sizeof(*ve->refused))))
        return;
    struct ve_refusal *r = &ve->refused[param_index(row)];
    r->held_back += count;
    r->pid = pid;
    str_print(r->process, sizeof(r->process), "%s", process ? process : "");
    r->look = true;
    ve_refused_later(ve->node);
    if (!is_too_soon(r))
        tell_refused(ve, row, r, text);
}

json_t *ve_signal_json(int sig)
{
    char text[16];
    const char *name = sigabbrev_np(sig);
    str_print(text, sizeof(text), "RTMIN+%d", sig - 32); /* those of real time have no names */
    return json_string(name ? name : text);
}
