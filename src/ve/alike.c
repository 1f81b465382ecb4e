/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the owners of VEs asked for is mostly the same for all of them, and takes 3.5 KB for each as
 * jansson holds it: equal documents are kept once.
 *
 * Whoever has one may not change it (struct ve: spec is const) and puts another in its place.  A
 * new one is compared with the others a little later, from the loop, when nobody is in the middle
 * of something that holds pointers into it.
 */
#include "ve/internal.h"

#include <inttypes.h>
#include <malloc.h>

#define LATER_MS  2000
#define HASH_TEXT 17

/* node->alike has a reference to each, too. */
static bool is_alone(const json_t *v)
{
    return v && v->refcount == 1;
}

/* FNV-1a: whoever makes two texts meet gets two documents, as without us. */
static void hash_text(const char *text, char ret[HASH_TEXT])
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (const char *p = text; *p; p++)
        h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
    str_print(ret, HASH_TEXT, "%016" PRIx64, h);
}

/* The one that all have who have an equal one: v itself if it is the first. */
static json_t *common(struct ve_node *node, json_t *v)
{
    char key[HASH_TEXT];
    auto_free char *text = json_dumps(v, JSON_COMPACT);
    if (!text)
        return v;
    hash_text(text, key);
    json_t *first = json_object_get(node->alike, key);
    if (!first)
        json_object_set(node->alike, key, v);
    return first && json_equal(first, v) ? first : v;
}

void ve_spec_put(struct ve *ve, json_t *spec)
{
    if (ve->spec != spec)
        json_decref((json_t *)ve->spec);
    ve->spec = spec;
}

void alike_share(struct ve *ve)
{
    json_t *rows = json_object_get(ve->run, "restart_rows");
    json_t *one = is_alone(ve->spec) ? common(ve->node, (json_t *)ve->spec) : NULL;
    if (one && one != ve->spec)
        ve_spec_put(ve, json_incref(one));
    if (is_alone(rows))
        json_object_set(ve->run, "restart_rows", common(ve->node, rows));
}

static void on_timer(uv_timer_t *timer)
{
    struct ve_node *node = timer->data;
    void *next;
    const char *key;
    json_t *v;
    for (size_t i = 0; i < node->n_ves; i++)
        if (!node->ves[i]->job) /* the end of a job saves its record: looked at then */
            alike_share(node->ves[i]);
    json_object_foreach_safe(node->alike, next, key, v)
    {
        if (is_alone(v))
            json_object_del(node->alike, key);
    }
    malloc_trim(0); /* what they had lies between what stays: libc keeps it by itself */
}

void alike_later(struct ve *ve)
{
    struct ve_node *node = ve->node;
    if (!is_alone(ve->spec) && !is_alone(json_object_get(ve->run, "restart_rows")))
        return;
    if (!node->alike_timer) {
        node->alike_timer = calloc(1, sizeof(*node->alike_timer));
        if (!node->alike_timer)
            return;
        uv_timer_init(node->loop, node->alike_timer);
        node->alike_timer->data = node;
    }
    if (!uv_is_active((uv_handle_t *)node->alike_timer))
        uv_timer_start(node->alike_timer, on_timer, LATER_MS, 0);
}
