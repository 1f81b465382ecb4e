/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VE's counters beside its limits, in the shape of docs/api.md. */
#include "ve/internal.h"

/* What presses before the limit does. */
static const struct {
    const char *limit, *barrier;
} barriers[] = {{"memory.limit", "memory.soft"}};

static int from_cgroups(struct ve *ve, struct param_counters *list, struct err *err)
{
    return resource_counters(ve->node->resources, ve->rec.id, list, err);
}

/* Each fills what it knows of its rows (param_counters_of()). */
static int (*const sources[])(struct ve *ve, struct param_counters *list, struct err *err) = {
    from_cgroups,
    ve_netlimit_counters,
    ve_bpf_counters,
};

int ve_counters_read(struct ve *ve, struct param_counters *ret, struct err *err)
{
    ret->n = 0;
    if (ve->state != VE_RUNNING && ve->state != VE_PAUSED)
        return err_set(err, ERR_STATE, "%s: it is %s: nothing is counted", ve->rec.name,
                       ve_state_name(ve->state));
    for (size_t i = 0; i < ARRAY_SIZE(sources); i++)
        if (sources[i](ve, ret, err) < 0)
            return err_wrap(err, "%s: cannot read its counters", ve->rec.name);
    return 0;
}

static json_t *count_json(struct param_count c)
{
    return c.known ? json_integer((json_int_t)c.n) : json_null();
}

static json_t *number_json(uint64_t n)
{
    return n == PARAM_NO_BOUND ? json_null() : json_integer((json_int_t)n);
}

static json_t *value_json(struct param_value v)
{
    return v.unlimited ? json_null() : number_json(v.n);
}

static json_t *barrier_json(const struct ve *ve, const struct param_row *row)
{
    for (size_t i = 0; i < ARRAY_SIZE(barriers); i++)
        if (str_eq(barriers[i].limit, row->key))
            return value_json(param_set_get(&ve->params, barriers[i].barrier));
    struct param_value v = param_set_get(&ve->params, row->key);
    return row->first == PARAM_SOFT_FIRST ? number_json(param_value_first(row, v)) : json_null();
}

static json_t *counter_json(const struct ve *ve, const struct param_counter *c)
{
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "key", c->row->key, "type",
                     param_type_name(c->row->type), "held", count_json(c->held), "maxheld",
                     count_json(c->maxheld), "barrier", barrier_json(ve, c->row), "limit",
                     value_json(param_set_get(&ve->params, c->row->key)), "failcnt",
                     count_json(c->failcnt));
}

/* In the order of the table, whoever counted first. */
static json_t *counters_json(const struct ve *ve, struct param_counters *list)
{
    json_t *out = json_array();
    for (size_t i = 0; i < param_table_size; i++)
        for (size_t k = 0; k < list->n; k++)
            if (list->c[k].row == &param_table[i])
                json_array_append_new(out, counter_json(ve, &list->c[k]));
    return out;
}

static bool has_failed(const struct param_counter *c)
{
    return c->failcnt.known && c->failcnt.n > 0;
}

static void keep_failed(struct param_counters *list)
{
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++)
        if (has_failed(&list->c[i]))
            list->c[n++] = list->c[i];
    list->n = n;
}

int ve_counters_all(struct ve_node *node, const char *label, bool only_failed, json_t **ret,
                    struct err *err)
{
    struct param_counters list;
    json_t *out = json_array();
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        /* One that has just ended has nothing to be read. */
        if (!ve_has_label(ve, label) || ve_counters_read(ve, &list, &(struct err){0}) < 0)
            continue;
        if (only_failed)
            keep_failed(&list);
        if (list.n)
            json_array_append_new(out, json_pack("{s:s, s:o}", "ve", ve->rec.name, "counters",
                                                 counters_json(ve, &list)));
    }
    *ret = out;
    return 0;
}

int ve_counters(struct ve_node *node, const char *name, json_t **ret, struct err *err)
{
    struct ve *ve;
    struct param_counters list;
    if (ve_find_err(node, name, &ve, err) < 0 || ve_counters_read(ve, &list, err) < 0)
        return -err->kind;
    *ret = counters_json(ve, &list);
    return 0;
}
