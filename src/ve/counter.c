/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VE's counters beside its limits, in the shape of docs/api.md. */
#include "base/str.h"
#include "ve/internal.h"

/* What presses before the limit does. */
static const struct {
    const char *limit, *barrier;
} barriers[] = {{"memory.limit", "memory.soft"}};

static json_t *count_json(struct resource_count c)
{
    return c.known ? json_integer((json_int_t)c.n) : json_null();
}

static json_t *value_json(struct param_value v)
{
    return v.unlimited ? json_null() : json_integer((json_int_t)v.n);
}

static json_t *barrier_json(const struct ve *ve, const char *key)
{
    for (size_t i = 0; i < sizeof(barriers) / sizeof(barriers[0]); i++)
        if (str_eq(barriers[i].limit, key))
            return value_json(param_set_get(&ve->params, barriers[i].barrier));
    return json_null();
}

int ve_counters(struct ve_node *node, const char *name, json_t **ret, struct err *err)
{
    struct ve *ve;
    struct resource_counter rows[RESOURCE_COUNTERS_MAX];
    size_t n;
    if (ve_find_err(node, name, &ve, err) < 0)
        return -err->kind;
    if (ve->state != VE_RUNNING && ve->state != VE_PAUSED)
        return err_set(err, ERR_STATE, "%s: it is %s: nothing is counted", name,
                       ve_state_name(ve->state));
    if (resource_counters(node->resources, ve->rec.id, rows, &n, err) < 0)
        return err_wrap(err, "%s: cannot read its counters", name);
    json_t *out = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(
            out, json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "key", rows[i].row->key, "type",
                           param_type_name(rows[i].row->type), "held", count_json(rows[i].held),
                           "maxheld", count_json(rows[i].maxheld), "barrier",
                           barrier_json(ve, rows[i].row->key), "limit",
                           value_json(param_set_get(&ve->params, rows[i].row->key)), "failcnt",
                           count_json(rows[i].failcnt)));
    *ret = out;
    return 0;
}
