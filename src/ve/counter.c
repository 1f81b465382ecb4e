/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VE's counters beside its limits, in the shape of docs/api.md. */
#include "ve/disk.h"
#include "ve/internal.h"
#include "ve/net.h"
#include "ve/rows.h"

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
    from_cgroups, ve_bpf_counters, ve_limits_counters, ve_netlimit_counters, ve_disk_counters,
};

static bool is_limited(const struct param_row *row)
{
    return row->kind == PARAM_LIMIT;
}

int ve_counters_read(struct ve *ve, struct param_counters *ret, struct err *err)
{
    return ve_counters_read_some(ve, true, ret, err);
}

int ve_counters_read_some(struct ve *ve, bool network, struct param_counters *ret, struct err *err)
{
    ret->n = 0;
    if (!ve_state_is_up(ve->state))
        return err_set(err, ERR_STATE, "%s: it is %s: nothing is counted until it is started",
                       ve->rec.name, ve_state_name(ve->state));
    for (size_t i = 0; i < ARRAY_SIZE(sources); i++)
        if ((network || sources[i] != ve_netlimit_counters) && sources[i](ve, ret, err) < 0)
            return err_wrap(err, "%s: cannot read its counters", ve->rec.name);
    for (size_t i = 0; i < param_table_size; i++) /* a limit that nobody counts says so */
        if (is_limited(&param_table[i]))
            param_counters_of(ret, &param_table[i]);
    return 0;
}

static json_t *count_json(struct param_count c)
{
    return c.known ? json_integer((json_int_t)c.n) : json_null();
}

static struct param_count bound(struct param_value v, uint64_t n)
{
    return v.unlimited || n == PARAM_NO_BOUND ? (struct param_count){0}
                                              : (struct param_count){true, n};
}

struct param_count ve_counter_limit(const struct param_set *set, const struct param_row *row)
{
    struct param_value v = set->v[param_index(row)];
    return bound(v, v.n);
}

struct param_count ve_counter_barrier(const struct param_set *set, const struct param_row *row)
{
    for (size_t i = 0; i < ARRAY_SIZE(barriers); i++)
        if (str_eq(barriers[i].limit, row->key)) {
            struct param_value soft = param_set_get(set, barriers[i].barrier);
            return bound(soft, soft.n);
        }
    uint64_t soft = param_value_first(row, set->v[param_index(row)]);
    return (struct param_count){row->first == PARAM_SOFT_FIRST && soft != PARAM_NO_BOUND, soft};
}

static json_t *counter_json(const struct ve *ve, const struct param_counter *c)
{
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:s?}", "key", c->row->key, "type",
                     param_type_name(c->row->type), "held", count_json(c->held), "maxheld",
                     count_json(c->maxheld), "barrier",
                     count_json(ve_counter_barrier(ve->params, c->row)), "limit",
                     count_json(ve_counter_limit(ve->params, c->row)), "failcnt",
                     count_json(c->failcnt), "uncounted", ve_disk_uncounted(ve, c->row));
}

static int by_row(const void *a, const void *b)
{
    const struct param_counter *x = a, *y = b;
    return (x->row > y->row) - (x->row < y->row);
}

/* In the order of the table, whoever counted first. */
static json_t *counters_json(const struct ve *ve, struct param_counters *list)
{
    json_t *out = json_array();
    if (list->n)
        qsort(list->c, list->n, sizeof(*list->c), by_row);
    for (size_t i = 0; i < list->n; i++)
        json_array_append_new(out, counter_json(ve, &list->c[i]));
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

void ve_counters_all(struct ve_node *node, bool on)
{
    network_held_keep(node->network, on);
    resource_counters_all(node->resources, on);
    ve_bpf_counters_all(node, on);
}

void ve_counters_each(struct ve_node *node, const char *label, bool only_failed, ve_counters_fn fn,
                      void *ctx)
{
    struct param_counters list;
    ve_counters_all(node, true);
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        /* One that has just ended has nothing to be read. */
        if (!ve_has_label(ve, label) || ve_counters_read(ve, &list, &(struct err){0}) < 0)
            continue;
        if (only_failed)
            keep_failed(&list);
        if (list.n == 0)
            continue;
        qsort(list.c, list.n, sizeof(*list.c), by_row);
        fn(ctx, ve->rec.name, ve->params, &list);
    }
    ve_counters_all(node, false);
}

int ve_counters(struct ve_node *node, const char *name, json_t **ret, struct err *err)
{
    struct ve *ve;
    struct param_counters list;
    if (ve_find_err(node, name, &ve, err) < 0)
        return -err->kind;
    grace_look(ve);
    if (ve_counters_read(ve, &list, err) < 0)
        return -err->kind;
    *ret = counters_json(ve, &list);
    return 0;
}
