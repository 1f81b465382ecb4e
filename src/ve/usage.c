/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What VEs use now, of one or of all at once.  Nothing is kept: it is read when somebody asks. */
#include "ve/disk.h"
#include "ve/net.h"
#include "ve/rows.h"

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
    return ve_state_is_up(ve->state);
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

bool ve_cable_deleted(const struct ve *ve)
{
    const struct ve_node *node = ve->node;
    struct network_counters unused;
    struct err e = {0};
    if (node->traffic)
        return !network_traffic_of(node->traffic, node->n_traffic, ve->rec.id);
    return network_counters(node->network, ve->rec.id, &unused, &e) == -ERR_NOT_FOUND;
}

bool ve_usage_read(struct ve *ve, unsigned parts, const struct storage_usage *disk,
                   struct ve_sample *ret)
{
    if (!runs(ve) || resource_usage(ve->node->resources, ve->rec.id, parts & RESOURCE_ALL,
                                    &ret->usage, NULL) < 0)
        return false;
    ret->node = ve->node;
    ret->id = ve->rec.id;
    ret->name = ve->rec.name;
    ret->params = ve->params;
    ret->time = ve_now_ms();
    ret->started = json_integer_value(json_object_get(ve->run, "started"));
    ret->counters.n = 0;
    ret->has_net = parts & USAGE_NET && read_net(ve, &ret->net);
    ret->disk_bytes = disk_used(disk, DISK_SPACE);
    ret->disk_inodes = disk_used(disk, DISK_INODES);
    return true;
}

/* ---- as JSON ---- */

static json_t *of_memory(struct ve *ve, const struct ve_sample *s)
{
    return known(s->usage.has_memory, s->usage.memory_bytes);
}

static json_t *of_memory_max(struct ve *ve, const struct ve_sample *s)
{
    return known(s->usage.has_memory_max, s->usage.memory_max_bytes);
}

static json_t *of_pids(struct ve *ve, const struct ve_sample *s)
{
    return known(s->usage.has_pids, s->usage.pids);
}

static json_t *of_cpu(struct ve *ve, const struct ve_sample *s)
{
    return known(s->usage.has_cpu, s->usage.cpu_usec);
}

static json_t *of_oom_kills(struct ve *ve, const struct ve_sample *s)
{
    return json_integer((json_int_t)s->usage.oom_kills);
}

static json_t *of_read(struct ve *ve, const struct ve_sample *s)
{
    return known(s->usage.has_io, s->usage.read_bytes);
}

static json_t *of_written(struct ve *ve, const struct ve_sample *s)
{
    return known(s->usage.has_io, s->usage.written_bytes);
}

static json_t *of_disk(struct ve *ve, const struct ve_sample *s)
{
    return known(s->disk_bytes.known, s->disk_bytes.n);
}

static json_t *of_inodes(struct ve *ve, const struct ve_sample *s)
{
    return known(s->disk_inodes.known, s->disk_inodes.n);
}

static json_t *of_pressure(struct ve *ve, const struct ve_sample *s)
{
    const struct resource_pressure *p = &s->usage.pressure;
    return json_pack("{s:o, s:o, s:o}", "cpu", percent_json(p->cpu), "memory",
                     percent_json(p->memory), "io", percent_json(p->io));
}

/* By the clock of the wall, which may have been set back meanwhile. */
static json_t *of_uptime(struct ve *ve, const struct ve_sample *s)
{
    return json_integer(s->time > s->started ? s->time - s->started : 0);
}

static json_t *of_steal(struct ve *ve, const struct ve_sample *s)
{
    return known(s->usage.has_steal, s->usage.steal_usec / 1000);
}

static json_t *of_net_in(struct ve *ve, const struct ve_sample *s)
{
    return known(s->has_net, s->net.in_bytes);
}

static json_t *of_net_out(struct ve *ve, const struct ve_sample *s)
{
    return known(s->has_net, s->net.out_bytes);
}

static json_t *of_net_classes(struct ve *ve, const struct ve_sample *s)
{
    return ve_netcount_json(ve);
}

static const struct usage_member {
    const char *key;
    unsigned parts; /* that it needs */
    json_t *(*make)(struct ve *ve, const struct ve_sample *s);
} members[] = {
    {"memory", RESOURCE_MEMORY, of_memory},
    {"memory_max", RESOURCE_MEMORY_MAX, of_memory_max},
    {"pids", RESOURCE_PIDS, of_pids},
    {"cpu_usec", RESOURCE_CPU, of_cpu},
    {"oom_kills", RESOURCE_OOM_KILLS, of_oom_kills},
    {"read", RESOURCE_IO, of_read},
    {"written", RESOURCE_IO, of_written},
    {"disk", USAGE_DISK, of_disk},
    {"inodes", USAGE_DISK, of_inodes},
    {"pressure", RESOURCE_STALLS, of_pressure},
    {"uptime", 0, of_uptime},
    {"steal", RESOURCE_STALLS, of_steal},
    {"net_in_bytes", USAGE_NET, of_net_in},
    {"net_out_bytes", USAGE_NET, of_net_out},
    {"net_classes", USAGE_CLASSES, of_net_classes},
};

const char *ve_usage_member(size_t i)
{
    return i < ARRAY_SIZE(members) ? members[i].key : NULL;
}

unsigned ve_usage_parts(uint64_t wanted)
{
    unsigned parts = 0;
    for (size_t i = 0; i < ARRAY_SIZE(members); i++)
        parts |= wanted >> i & 1 ? members[i].parts : 0;
    return parts;
}

json_t *ve_usage_json(struct ve *ve, uint64_t wanted, const struct ve_sample *s)
{
    json_t *out = json_object();
    for (size_t i = 0; i < ARRAY_SIZE(members); i++)
        if (wanted >> i & 1)
            json_object_set_new_nocheck(out, members[i].key, members[i].make(ve, s));
    return out;
}

/* ---- of all at once ---- */

/* One question to the kernel for all cables, instead of one for each VE. */
void ve_traffic_load(struct ve_node *node, unsigned parts)
{
    struct err e = {0};
    ve_traffic_drop(node);
    if (parts & USAGE_CLASSES)
        ve_netcount_load(node);
    if (parts & USAGE_NET &&
        network_traffic_all(node->network, &node->traffic, &node->n_traffic, &e) < 0)
        log_warn(NULL, 0, "traffic is not counted: %s", e.text);
}

void ve_traffic_drop(struct ve_node *node)
{
    ve_netcount_drop(node);
    free(node->traffic);
    node->traffic = NULL;
    node->n_traffic = 0;
}

static void all_begin(struct ve_node *node)
{
    ve_counters_all(node, true);
    ve_traffic_load(node, USAGE_ALL);
}

static void all_end(struct ve_node *node)
{
    ve_counters_all(node, false);
    ve_traffic_drop(node);
}

static json_t *limit_json(const struct ve *ve, const char *key)
{
    struct param_value v = param_set_get(ve->params, key);
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

static json_t *line_json(struct ve *ve, const struct ve_sample *s)
{
    struct param_value cpu = param_set_get(ve->params, "cpu.guarantee");
    return json_pack("{s:I, s:s, s:s, s:I, s:o, s:f, s:o, s:o, s:o}", "id", (json_int_t)ve->rec.id,
                     "name", ve->rec.name, "state", ve_state_name(ve->state), "time",
                     (json_int_t)s->time, "usage", ve_usage_json(ve, UINT64_MAX, s),
                     "cpu_guarantee", (double)cpu.n / 100, "memory_limit",
                     limit_json(ve, "memory.limit"), "processes_limit", limit_json(ve, "processes"),
                     "failed", failed_json(&s->counters));
}

static bool read_sample(struct ve *ve, struct ve_sample *ret)
{
    struct storage_usage disk;
    if (!runs(ve))
        return false;
    disk_usage(ve, &disk);
    return ve_usage_read(ve, USAGE_ALL, &disk, ret) &&
           ve_counters_read(ve, &ret->counters, &(struct err){0}) == 0;
}

int ve_usage_all(struct ve_node *node, const char *label, struct str *out, struct err *err)
{
    struct ve_sample s;
    all_begin(node);
    node->only_failed = true;
    str_add_bytes(out, "[", 1);
    for (size_t i = 0; i < node->n_ves && !out->failed; i++)
        if (ve_has_label(node->ves[i], label) && read_sample(node->ves[i], &s))
            ve_array_add(out, line_json(node->ves[i], &s));
    node->only_failed = false;
    all_end(node);
    return ve_array_end(out, err);
}

void ve_sample_each(struct ve_node *node, void (*fn)(void *ctx, const struct ve_sample *s),
                    void *ctx)
{
    struct ve_sample s;
    all_begin(node);
    for (size_t i = 0; i < node->n_ves; i++)
        if (read_sample(node->ves[i], &s))
            fn(ctx, &s);
    all_end(node);
}

json_t *ve_states_json(struct ve_node *node)
{
    json_t *out = json_array();
    for (size_t i = 0; i < node->n_ves; i++)
        if (!ve_hidden(node->ves[i]))
            json_array_append_new(out, json_pack("{s:s}", "state", ve_state_text(node->ves[i])));
    return out;
}
