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

static json_t *pressure_json(struct ve *ve)
{
    struct resource_pressure p;
    if (resource_pressure(ve->node->resources, ve->rec.id, &p, NULL) < 0)
        return json_null();
    return json_pack("{s:o, s:o, s:o}", "cpu", percent_json(p.cpu), "memory",
                     percent_json(p.memory), "io", percent_json(p.io));
}

/* By the clock of the wall, which may have been set back meanwhile. */
static json_int_t uptime_ms(const struct ve *ve)
{
    json_int_t ms = ve_now_ms() - json_integer_value(json_object_get(ve->run, "started"));
    return ms > 0 ? ms : 0;
}

json_t *ve_usage_json(struct ve *ve)
{
    struct resource_usage u;
    struct network_counters single;
    const struct network_counters *net = NULL;
    struct ve_node *node = ve->node;
    if ((ve->state != VE_RUNNING && ve->state != VE_PAUSED) ||
        resource_usage(node->resources, ve->rec.id, &u, NULL) < 0)
        return json_null();
    if (node->traffic)
        net = network_traffic_of(node->traffic, node->n_traffic, ve->rec.id);
    else if (network_counters(node->network, ve->rec.id, &single, NULL) == 0)
        net = &single;
    json_t *out = json_object();
    json_object_set_new(out, "memory", known(u.has_memory, u.memory_bytes));
    json_object_set_new(out, "memory_max", known(u.has_memory, u.memory_max_bytes));
    json_object_set_new(out, "pids", known(u.has_pids, u.pids));
    json_object_set_new(out, "cpu_usec", known(u.has_cpu, u.cpu_usec));
    json_object_set_new(out, "oom_kills", json_integer((json_int_t)u.oom_kills));
    json_object_set_new(out, "read", known(u.has_io, u.read_bytes));
    json_object_set_new(out, "written", known(u.has_io, u.written_bytes));
    json_object_set_new(out, "pressure", pressure_json(ve));
    json_object_set_new(out, "uptime", json_integer(uptime_ms(ve)));
    json_object_set_new(out, "steal", known(u.has_steal, u.steal_usec / 1000));
    json_object_set_new(out, "net_in_bytes", known(net, net ? net->in_bytes : 0));
    json_object_set_new(out, "net_out_bytes", known(net, net ? net->out_bytes : 0));
    return out;
}

/* One question to the kernel for all cables, instead of one for each VE. */
void ve_traffic_load(struct ve_node *node)
{
    struct err e = {0};
    ve_traffic_drop(node);
    if (network_traffic_all(node->network, &node->traffic, &node->n_traffic, &e) < 0)
        log_warn(NULL, 0, "traffic is not counted: %s", e.text);
}

void ve_traffic_drop(struct ve_node *node)
{
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
static json_t *failed_json(struct ve *ve)
{
    struct param_counters list;
    json_t *out = json_object();
    if (ve_counters_read(ve, &list, &(struct err){0}) < 0)
        return out;
    for (size_t i = 0; i < list.n; i++)
        if (list.c[i].failcnt.known && list.c[i].failcnt.n)
            json_object_set_new(out, list.c[i].row->key,
                                json_integer((json_int_t)list.c[i].failcnt.n));
    return out;
}

static json_t *line_json(struct ve *ve)
{
    struct param_value cpu = param_set_get(&ve->params, "cpu.guarantee");
    return json_pack("{s:I, s:s, s:s, s:I, s:o, s:f, s:o, s:o, s:o}", "id", (json_int_t)ve->rec.id,
                     "name", ve->rec.name, "state", ve_state_name(ve->state), "time",
                     (json_int_t)ve_now_ms(), "usage", ve_usage_json(ve), "cpu_guarantee",
                     (double)cpu.n / 100, "memory_limit", limit_json(ve, "memory.limit"),
                     "processes_limit", limit_json(ve, "processes"), "failed", failed_json(ve));
}

int ve_usage_all(struct ve_node *node, const char *label, json_t **ret, struct err *err)
{
    json_t *out = json_array();
    ve_traffic_load(node);
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        if ((ve->state == VE_RUNNING || ve->state == VE_PAUSED) && ve_has_label(ve, label))
            json_array_append_new(out, line_json(ve));
    }
    ve_traffic_drop(node);
    *ret = out;
    return 0;
}
