/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Refusals of cgroups as events, of which BPF does not tell (bpf.c): of forks where it cannot, of
 * swap and of huge pages.  While somebody listens to events: what the kernel tells is heard
 * (cgroup v2), and the counters that rise in silence (v1) are read once a second.  Who was refused
 * is not known in this way.
 */
#include "ve/beside.h"
#include "ve/internal.h"
#include "ve/rows.h"

#define EVERY_MS 1000
#define REST_MS  100 /* between two readings of what is told */

static const char *const keys[] = {"processes", "swap.limit", "hugepages.limit"};

struct refusal_watch {
    struct resource_refusals *told;
    uv_poll_t *poll;
    uv_timer_t *rest, *tick;
};

/* Rises in silence. */
static bool is_silent(const struct ve_node *node, const struct param_row *row)
{
    return str_eq(row->key, "processes") ? !ve_bpf_tells_forks(node)
                                         : !resource_refusals_told(node->resources, row);
}

static void count(struct ve *ve, const struct param_row *row, uint64_t now, bool tell)
{
    char text[PARAM_TEXT + 80], limit[PARAM_TEXT];
    uint64_t before = ve_refusals_told(ve, row, now);
    if (now < before)
        before = 0; /* it was started again */
    if (!tell || now == before)
        return;
    param_format(row, param_set_get(ve->params, row->key), limit);
    str_print(text, sizeof(text), "%s %s is reached", row->key, limit);
    ve_refused(ve, row, now - before, 0, NULL, text);
}

static void look(struct ve *ve, bool tell)
{
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        const struct param_row *row = param_find(keys[i]);
        uint64_t now;
        if (ve_state_is_up(ve->state) && !param_set_get(ve->params, row->key).unlimited &&
            (!tell || is_silent(ve->node, row)) &&
            resource_refused(ve->node->resources, ve->rec.id, row, &now, NULL) == 0)
            count(ve, row, now, tell);
    }
}

static bool is_listened_to(const struct ve_node *node)
{
    for (const struct ve_watch *w = node->watches; w; w = w->next)
        if (w->event_fn && !w->dead)
            return true;
    return false;
}

static void on_tick(uv_timer_t *timer)
{
    struct ve_node *node = timer->data;
    if (!is_listened_to(node)) {
        refusal_end(node);
        return;
    }
    for (size_t i = 0; i < node->n_ves; i++)
        look(node->ves[i], true);
}

static void on_told(uv_poll_t *poll, int status, int events);

static void on_rested(uv_timer_t *timer)
{
    struct ve_node *node = timer->data;
    uv_poll_start(node->refusals->poll, UV_READABLE, on_told);
}

static void on_told(uv_poll_t *poll, int status, int events)
{
    struct ve_node *node = poll->data;
    struct err e;
    if (!is_listened_to(node)) {
        refusal_end(node);
        return;
    }
    uv_poll_stop(poll);
    if (resource_refusals_hear(node->refusals->told, &e) < 0)
        log_warn(NULL, 0, "refusals of swap and huge pages have no events any more: %s", e.text);
    else
        uv_timer_start(node->refusals->rest, on_rested, REST_MS, 0);
}

static void heard(void *ctx, int64_t id, const struct param_row *row, uint64_t now)
{
    struct ve *ve = ve_by_id(ctx, id);
    if (ve)
        count(ve, row, now, true);
}

static uv_timer_t *new_timer(struct ve_node *node)
{
    uv_timer_t *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    t->data = node;
    uv_timer_init(node->loop, t);
    return t;
}

static void begin_told(struct ve_node *node, struct refusal_watch *w)
{
    struct err e;
    int fd;
    if (resource_refusals_open(node->resources, heard, node, &w->told, &fd, &e) < 0) {
        log_warn(NULL, 0, "refusals of swap and huge pages have no events: %s", e.text);
        return;
    }
    w->rest = new_timer(node);
    w->poll = calloc(1, sizeof(*w->poll));
    if (!w->rest || !w->poll) {
        cleanup_free(&w->poll);
        return;
    }
    w->poll->data = node;
    uv_poll_init(node->loop, w->poll, fd);
    uv_poll_start(w->poll, UV_READABLE, on_told);
}

void refusal_listen(struct ve_node *node)
{
    bool silent = false;
    if (node->refusals || !(node->refusals = calloc(1, sizeof(*node->refusals))))
        return;
    begin_told(node, node->refusals);
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        silent |= is_silent(node, param_find(keys[i]));
    for (size_t i = 0; i < node->n_ves; i++) {
        look(node->ves[i], false); /* nobody was listening */
        refusal_watch(node->ves[i], node->ves[i]->params);
    }
    if (silent && (node->refusals->tick = new_timer(node)))
        uv_timer_start(node->refusals->tick, on_tick, EVERY_MS, EVERY_MS);
}

void refusal_watch(struct ve *ve, const struct param_set *set)
{
    struct refusal_watch *w = ve->node->refusals;
    struct err e;
    if (w && w->poll && ve->pidfd >= 0 && resource_refusals_watch(w->told, ve->rec.id, set, &e) < 0)
        log_warn(ve->rec.name, 0, "refusals of swap and huge pages have no events: %s", e.text);
}

void refusal_unwatch(struct ve *ve)
{
    if (ve->node->refusals && ve->node->refusals->told)
        resource_refusals_forget(ve->node->refusals->told, ve->rec.id);
}

void refusal_end(struct ve_node *node)
{
    struct refusal_watch *w = node->refusals;
    if (!w)
        return;
    ve_handle_close(&w->poll);
    ve_handle_close(&w->rest);
    ve_handle_close(&w->tick);
    resource_refusals_close(w->told);
    free(w);
    node->refusals = NULL;
}
