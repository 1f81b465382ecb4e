/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Refused forks as events where BPF cannot tell of them (bpf.c): while somebody listens to events
 * the counters of the VEs that run are read once a second, as cgroup v1 has no other way to say
 * that one has risen.  Who was refused is not known in this way.
 */
#include "ve/internal.h"

#define EVERY_MS 1000

static void look(struct ve *ve, bool tell)
{
    const struct param_row *row = param_find("processes");
    char text[PARAM_TEXT + 80], limit[PARAM_TEXT];
    uint64_t now;
    if ((ve->state != VE_RUNNING && ve->state != VE_PAUSED) ||
        resource_forks_refused(ve->node->resources, ve->rec.id, &now, NULL) < 0)
        return;
    uint64_t before = ve_refusals_told(ve, row, now);
    if (now < before)
        before = 0; /* it was started again */
    if (!tell || now == before)
        return;
    param_format(row, param_set_get(&ve->params, row->key), limit);
    str_print(text, sizeof(text), "processes %s is reached", limit);
    ve_refused(ve, row, now - before, 0, NULL, text);
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
        uv_timer_stop(timer);
        return;
    }
    for (size_t i = 0; i < node->n_ves; i++)
        look(node->ves[i], true);
}

void forks_listen(struct ve_node *node)
{
    if (ve_bpf_tells_forks(node) || (node->forks && uv_is_active((uv_handle_t *)node->forks)))
        return;
    if (!node->forks) {
        if (!(node->forks = calloc(1, sizeof(*node->forks))))
            return;
        node->forks->data = node;
        uv_timer_init(node->loop, node->forks);
    }
    for (size_t i = 0; i < node->n_ves; i++)
        look(node->ves[i], false); /* nobody was listening */
    uv_timer_start(node->forks, on_tick, EVERY_MS, EVERY_MS);
}

void forks_end(struct ve_node *node)
{
    ve_handle_close(&node->forks);
}
