/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Setting parameters: the rooms that enforce them, one after the other, as one transaction.
 *
 * A room is asked twice: check() before anything is written, apply() on a VE that runs, disk limits
 * on any.  When one
 * fails, those before it get the old values again.  What a start needs goes in by the birth's own
 * path (engine_container.c).
 */
#include "ve/beside.h"
#include "ve/internal.h"
#include "ve/net.h"
#include "ve/rows.h"
#include "ve/sleep.h"

static int cgroup_check(struct ve_node *node, const struct param_set *set, struct err *err)
{
    return resource_check(node->resources, set, err);
}

static int cgroup_apply(struct ve *ve, const struct param_set *old_set,
                        const struct param_set *new_set, bool force, struct err *err)
{
    return resource_apply(ve->node->resources, ve->rec.id, old_set, new_set, force, err);
}

/* In the order in which they are written.  apply: old_set NULL writes every row, whatever stands
 * there; all or nothing of its own rows.  Either may be NULL. */
static const struct backend {
    const char *name;
    int (*check)(struct ve_node *node, const struct param_set *set, struct err *err);
    int (*apply)(struct ve *ve, const struct param_set *old_set, const struct param_set *new_set,
                 bool force, struct err *err);
    bool stopped; /* also of a VE that does not run */
} backends[] = {
    {"cgroup", cgroup_check, cgroup_apply},
    {"bpf", ve_bpf_check, ve_bpf_apply},
    {"cores", NULL, ve_cores_apply},
    {"network", ve_netlimit_check, ve_netlimit_apply},
    {"classes", ve_netshape_check, ve_netshape_apply},
    {"limits", ve_limits_check, ve_limits_apply},
    {"sleep", ve_sleep_check, NULL},
    {"disk", NULL, ve_disk_apply, .stopped = true}, /* checked where the pool is known */
};

static bool applies(const struct ve *ve, const struct backend *b)
{
    return b->apply && (b->stopped || ve_state_is_up(ve->state));
}

int ve_apply_check(struct ve_node *node, const struct param_set *set, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(backends); i++) {
        int r = backends[i].check ? backends[i].check(node, set, err) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

static void put_back(struct ve *ve, size_t n, const struct param_set *old_set,
                     const struct param_set *new_set)
{
    struct err e = {0};
    while (n--)
        if (applies(ve, &backends[n]) && backends[n].apply(ve, new_set, old_set, true, &e) < 0)
            log_error(ve->rec.name, 0, "%s: the old values could not be put back: %s",
                      backends[n].name, e.text);
}

int ve_apply(struct ve *ve, const struct param_set *old_set, const struct param_set *new_set,
             bool force, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(backends); i++) {
        const struct backend *b = &backends[i];
        int r = applies(ve, b) ? b->apply(ve, old_set, new_set, force, err) : 0;
        if (r == 0)
            continue;
        if (old_set)
            put_back(ve, i, old_set, new_set);
        return r;
    }
    refusal_watch(ve, new_set);
    return 0;
}

/* A limit that is lowered below what is in use: says what would happen, and does it by force
 * only.  Of memory it counts what cannot be given back. */
int ve_apply_room(struct ve *ve, const struct param_set *new_set, struct err *err)
{
    struct param_counters list;
    bool lower[PARAM_MAX] = {0}, any = false, network = false;
    char want[PARAM_TEXT], have[PARAM_TEXT];
    for (size_t i = 0; i < param_table_size; i++) {
        struct param_value v = new_set->v[i], before = ve->params->v[i];
        lower[i] = param_table[i].below && !v.unlimited && (before.unlimited || v.n < before.n);
        any |= lower[i];
        network |= lower[i] && param_table[i].backend == PARAM_IN_NETWORK;
    }
    if (resource_room(ve->node->resources, ve->rec.id, ve->params, new_set, err) < 0)
        return -err->kind;
    if (any && ve_counters_read_some(ve, network, &list, err) < 0)
        return -err->kind;
    for (size_t i = 0; i < param_table_size; i++) {
        const struct param_row *row = &param_table[i];
        struct param_value v = new_set->v[i];
        if (!lower[i])
            continue;
        struct param_count held = param_counters_of(&list, row)->held;
        if (!held.known || held.n <= v.n)
            continue;
        param_format(row, (struct param_value){.n = v.n}, want);
        return err_set(err, ERR_STATE,
                       "%s %s is below the %s in use: %s; set it with --force, or choose at least "
                       "%s",
                       row->key, want, param_format(row, (struct param_value){.n = held.n}, have),
                       row->below, have);
    }
    return 0;
}

/* Rows that take effect at the next start, as they are now in force. */
json_t *ve_apply_restart_rows(const struct param_set *set)
{
    json_t *out = json_object();
    char text[PARAM_TEXT];
    for (size_t i = 0; i < param_table_size; i++)
        if (param_table[i].flags & PARAM_RESTART)
            json_object_set_new(out, param_table[i].key,
                                json_string(param_format(&param_table[i], set->v[i], text)));
    return out;
}

/* Keys whose value waits for the next start. */
json_t *ve_apply_pending(struct ve *ve)
{
    json_t *out = json_array(), *wanted = ve_apply_restart_rows(ve->params);
    const json_t *in_force = json_object_get(ve->run, "restart_rows");
    const char *key;
    json_t *value;
    bool runs = json_is_object(in_force) && ve_state_is_up(ve->state);
    json_object_foreach(wanted, key, value)
    {
        const json_t *now = runs ? json_object_get(in_force, key) : NULL;
        if (now && !json_equal(now, value))
            json_array_append_new(out, json_string(key));
    }
    json_decref(wanted);
    return out;
}
