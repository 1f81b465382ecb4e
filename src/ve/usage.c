/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What VEs use now, of one or of all at once.  Nothing is kept: it is read when somebody asks. */
#include "ve/internal.h"

static json_t *known(bool has, uint64_t n)
{
    return has ? json_integer((json_int_t)n) : json_null();
}

static json_t *percent_json(int hundredths)
{
    return hundredths < 0 ? json_null() : json_real(hundredths / 100.0);
}

static bool runs(const struct ve *ve)
{
    return ve->state == VE_RUNNING || ve->state == VE_PAUSED;
}

static bool read_net(struct ve *ve, struct network_counters *ret)
{
    struct ve_node *node = ve->node;
    if (!node->traffic)
        return network_counters(node->network, ve->rec.id, ret, NULL) == 0;
    const struct network_counters *c =
        network_traffic_of(node->traffic, node->n_traffic, ve->rec.id);
    if (c)
        *ret = *c;
    return c != NULL;
}

/* Without its counters.  false: it does not run, or has just ended. */
static bool read_usage(struct ve *ve, struct ve_sample *ret)
{
    struct resource_node *resources = ve->node->resources;
    if (!runs(ve) || resource_usage(resources, ve->rec.id, &ret->usage, NULL) < 0)
        return false;
    ret->id = ve->rec.id;
    ret->name = ve->rec.name;
    ret->params = &ve->params;
    ret->time = ve_now_ms();
    ret->started = json_integer_value(json_object_get(ve->run, "started"));
    ret->counters.n = 0;
    if (resource_pressure(resources, ve->rec.id, &ret->pressure, NULL) < 0)
        ret->pressure = (struct resource_pressure){-1, -1, -1};
    ret->has_net = read_net(ve, &ret->net);
    return true;
}

static json_t *usage_of(const struct ve_sample *s)
{
    const struct resource_usage *u = &s->usage;
    json_t *out = json_object();
    json_object_set_new(out, "memory", known(u->has_memory, u->memory_bytes));
    json_object_set_new(out, "memory_max", known(u->has_memory, u->memory_max_bytes));
    json_object_set_new(out, "pids", known(u->has_pids, u->pids));
    json_object_set_new(out, "cpu_usec", known(u->has_cpu, u->cpu_usec));
    json_object_set_new(out, "oom_kills", json_integer((json_int_t)u->oom_kills));
    json_object_set_new(out, "read", known(u->has_io, u->read_bytes));
    json_object_set_new(out, "written", known(u->has_io, u->written_bytes));
    json_object_set_new(out, "pressure",
                        json_pack("{s:o, s:o, s:o}", "cpu", percent_json(s->pressure.cpu), "memory",
                                  percent_json(s->pressure.memory), "io",
                                  percent_json(s->pressure.io)));
    /* By the clock of the wall, which may have been set back meanwhile. */
    json_object_set_new(out, "uptime",
                        json_integer(s->time > s->started ? s->time - s->started : 0));
    json_object_set_new(out, "steal", known(u->has_steal, u->steal_usec / 1000));
    json_object_set_new(out, "net_in_bytes", known(s->has_net, s->net.in_bytes));
    json_object_set_new(out, "net_out_bytes", known(s->has_net, s->net.out_bytes));
    return out;
}

json_t *ve_usage_json(struct ve *ve)
{
    struct ve_sample s;
    return read_usage(ve, &s) ? usage_of(&s) : json_null();
}

/* One question to the kernel for all cables, instead of one for each VE. */
void ve_traffic_load(struct ve_node *node)
{
    struct err e = {0};
    ve_traffic_drop(node);
    network_held_keep(node->network, true);
    if (network_traffic_all(node->network, &node->traffic, &node->n_traffic, &e) < 0)
        log_warn(NULL, 0, "traffic is not counted: %s", e.text);
}

void ve_traffic_drop(struct ve_node *node)
{
    network_held_keep(node->network, false);
    free(node->traffic);
    node->traffic = NULL;
    node->n_traffic = 0;
}

static json_t *limit_json(const struct ve *ve, const char *key)
{
    struct param_value v = param_set_get(&ve->params, key);
    return known(!v.unlimited, v.n);
}

/* What it was refused, by row. */
static json_t *failed_json(const struct param_counters *list)
{
    json_t *out = json_object();
    for (size_t i = 0; i < list->n; i++)
        if (list->c[i].failcnt.known && list->c[i].failcnt.n)
            json_object_set_new(out, list->c[i].row->key,
                                json_integer((json_int_t)list->c[i].failcnt.n));
    return out;
}

static json_t *line_json(const struct ve *ve, const struct ve_sample *s)
{
    struct param_value cpu = param_set_get(&ve->params, "cpu.guarantee");
    return json_pack("{s:I, s:s, s:s, s:I, s:o, s:f, s:o, s:o, s:o}", "id", (json_int_t)ve->rec.id,
                     "name", ve->rec.name, "state", ve_state_name(ve->state), "time",
                     (json_int_t)s->time, "usage", usage_of(s), "cpu_guarantee",
                     (double)cpu.n / 100, "memory_limit", limit_json(ve, "memory.limit"),
                     "processes_limit", limit_json(ve, "processes"), "failed",
                     failed_json(&s->counters));
}

static bool read_sample(struct ve *ve, struct ve_sample *ret)
{
    return read_usage(ve, ret) && ve_counters_read(ve, &ret->counters, &(struct err){0}) == 0;
}

int ve_usage_all(struct ve_node *node, const char *label, json_t **ret, struct err *err)
{
    struct ve_sample s;
    json_t *out = json_array();
    ve_traffic_load(node);
    node->only_failed = true;
    for (size_t i = 0; i < node->n_ves; i++)
        if (ve_has_label(node->ves[i], label) && read_sample(node->ves[i], &s))
            json_array_append_new(out, line_json(node->ves[i], &s));
    node->only_failed = false;
    ve_traffic_drop(node);
    *ret = out;
    return 0;
}

void ve_sample_each(struct ve_node *node, void (*fn)(void *ctx, const struct ve_sample *s),
                    void *ctx)
{
    struct ve_sample s;
    ve_traffic_load(node);
    for (size_t i = 0; i < node->n_ves; i++)
        if (read_sample(node->ves[i], &s))
            fn(ctx, &s);
    ve_traffic_drop(node);
}

json_t *ve_states_json(struct ve_node *node)
{
    json_t *out = json_array();
    for (size_t i = 0; i < node->n_ves; i++)
        json_array_append_new(out, json_pack("{s:s}", "state", ve_state_name(node->ves[i]->state)));
    return out;
}
