/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * routes_metrics — what a monitoring system scrapes: OpenMetrics 1.0 for who accepts it, else the
 * text format of Prometheus, which most others read.
 *
 * The names are documented in docs/metrics.md and do not change.  VEs are read one after the
 * other; each family of samples is a text of its own until the end, because a family's samples
 * have to stand together.
 */
#include "api/request.h"

#include "base/cleanup.h"

#include <inttypes.h>
#include <string.h>

#define OPENMETRICS "application/openmetrics-text"
#define OPEN_TYPE   OPENMETRICS "; version=1.0.0; charset=utf-8"
#define TEXT_TYPE   "text/plain; version=0.0.4; charset=utf-8"
#define METRICS_MAX ((size_t)64 << 20)

/* Samples of a counter end in _total. */
enum family_type { GAUGE, COUNTER };

enum family_id {
    CPU_SECONDS,
    CPU_GUARANTEE,
    MEMORY,
    MEMORY_GUARANTEE,
    PROCESSES,
    OOM_KILLS,
    READ,
    WRITTEN,
    DISK,
    INODES,
    NET_IN,
    NET_OUT,
    CLASS_IN,
    CLASS_OUT,
    CLASS_IN_PACKETS,
    CLASS_OUT_PACKETS,
    STEAL,
    PRESSURE,
    STARTED,
    HELD,
    MAXHELD,
    BARRIER,
    LIMIT,
    FAILCNT,
    FAMILY__COUNT
};

static const struct {
    const char *name, *unit, *help;
    enum family_type type;
} families[FAMILY__COUNT] = {
    [CPU_SECONDS] = {"terem_ve_cpu_seconds", "seconds", "Processor time used.", COUNTER},
    [CPU_GUARANTEE] = {"terem_ve_cpu_guarantee_cores", "cores", "Processor time guaranteed.",
                       GAUGE},
    [MEMORY] = {"terem_ve_memory_bytes", "bytes", "Memory held.", GAUGE},
    [MEMORY_GUARANTEE] = {"terem_ve_memory_guarantee_bytes", "bytes", "Memory guaranteed.", GAUGE},
    [PROCESSES] = {"terem_ve_processes", NULL, "Processes and threads held.", GAUGE},
    [OOM_KILLS] = {"terem_ve_oom_kills", NULL, "Processes ended because memory ran out.", COUNTER},
    [READ] = {"terem_ve_read_bytes", "bytes", "Read from disks.", COUNTER},
    [WRITTEN] = {"terem_ve_written_bytes", "bytes", "Written to disks.", COUNTER},
    [DISK] = {"terem_ve_disk_bytes", "bytes", "Taken by its own files.", GAUGE},
    [INODES] = {"terem_ve_disk_inodes", NULL, "Its own files and directories.", GAUGE},
    [NET_IN] = {"terem_ve_network_in_bytes", "bytes", "Brought by its cable.", COUNTER},
    [NET_OUT] = {"terem_ve_network_out_bytes", "bytes", "Taken by its cable.", COUNTER},
    [CLASS_IN] = {"terem_ve_network_class_in_bytes", "bytes",
                  "Got from addresses of a destination class, since it was made.", COUNTER},
    [CLASS_OUT] = {"terem_ve_network_class_out_bytes", "bytes",
                   "Sent to addresses of a destination class, since it was made.", COUNTER},
    [CLASS_IN_PACKETS] = {"terem_ve_network_class_in_packets", "packets", "The same in packets.",
                          COUNTER},
    [CLASS_OUT_PACKETS] = {"terem_ve_network_class_out_packets", "packets", "The same in packets.",
                           COUNTER},
    [STEAL] = {"terem_ve_steal_seconds", "seconds",
               "Time it waited for a processor that it was entitled to.", COUNTER},
    [PRESSURE] = {"terem_ve_pressure_ratio", "ratio",
                  "Part of the last ten seconds in which something waited for this.", GAUGE},
    [STARTED] = {"terem_ve_start_time_seconds", "seconds", "When it was started, since the epoch.",
                 GAUGE},
    [HELD] = {"terem_ve_resource_held", NULL, "Held now of a limited resource.", GAUGE},
    [MAXHELD] = {"terem_ve_resource_maxheld", NULL, "Held at most since its start.", GAUGE},
    [BARRIER] = {"terem_ve_resource_barrier", NULL, "The soft limit, where there is one.", GAUGE},
    [LIMIT] = {"terem_ve_resource_limit", NULL, "The limit, where there is one.", GAUGE},
    [FAILCNT] = {"terem_ve_resource_failcnt", NULL, "How often the limit said no.", COUNTER},
};

struct metrics {
    bool open; /* OpenMetrics */
    struct str samples[FAMILY__COUNT];
};

static void add_text(struct str *s, const char *text)
{
    str_add_bytes(s, text, strlen(text));
}

/* printf costs more than the rest of a line, and there are a hundred thousand. */
static void add_number(struct str *s, uint64_t n)
{
    char buf[24], *p = buf + sizeof(buf);
    do
        *--p = (char)('0' + n % 10);
    while (n /= 10);
    str_add_bytes(s, p, (size_t)(buf + sizeof(buf) - p));
}

/* The three escapes of both formats (OpenMetrics 1.0, "escaped-string"). */
static void add_label(struct str *s, const char *value)
{
    for (const char *p = value; *p;) {
        size_t n = strcspn(p, "\\\"\n");
        str_add_bytes(s, p, n);
        p += n;
        if (*p)
            add_text(s, *p == '\n' ? "\\n" : *p == '"' ? "\\\"" : "\\\\");
        p += *p != '\0';
    }
}

/* "name{ve="web1",row="processes"} ": the label `key` is left out when it is NULL. */
static struct str *begin(struct metrics *m, enum family_id f, const char *ve, const char *key,
                         const char *value)
{
    struct str *s = &m->samples[f];
    add_text(s, families[f].name);
    add_text(s, families[f].type == COUNTER ? "_total{ve=\"" : "{ve=\"");
    add_label(s, ve);
    if (key) {
        add_text(s, "\",");
        add_text(s, key);
        add_text(s, "=\"");
        add_label(s, value);
    }
    add_text(s, "\"} ");
    return s;
}

static void add_whole(struct metrics *m, enum family_id f, const char *ve, bool known, uint64_t n)
{
    if (!known)
        return;
    struct str *s = begin(m, f, ve, NULL, NULL);
    add_number(s, n);
    add_text(s, "\n");
}

static void add_real(struct metrics *m, enum family_id f, const char *ve, const char *key,
                     const char *value, double n)
{
    str_add(begin(m, f, ve, key, value), "%.15g\n", n);
}

static void add_row(struct metrics *m, enum family_id f, const char *ve,
                    const struct param_row *row, struct param_count c)
{
    if (!c.known)
        return;
    struct str *s = begin(m, f, ve, "row", row->key);
    /* In base units: parts of a core, seconds. */
    if (row->type == PARAM_PERCENT && f != FAILCNT)
        str_add(s, "%.15g\n", (double)c.n / 10000);
    else if (row->type == PARAM_TIME && f != FAILCNT)
        str_add(s, "%.15g\n", (double)c.n / 1000);
    else {
        add_number(s, c.n);
        add_text(s, "\n");
    }
}

static void add_counters(struct metrics *m, const struct ve_sample *v)
{
    for (size_t i = 0; i < v->counters.n; i++) {
        const struct param_counter *c = &v->counters.c[i];
        add_row(m, HELD, v->name, c->row, c->held);
        add_row(m, MAXHELD, v->name, c->row, c->maxheld);
        add_row(m, BARRIER, v->name, c->row, ve_counter_barrier(v->params, c->row));
        add_row(m, LIMIT, v->name, c->row, ve_counter_limit(v->params, c->row));
        add_row(m, FAILCNT, v->name, c->row, c->failcnt);
    }
}

static void add_pressure(struct metrics *m, const struct ve_sample *v)
{
    const struct {
        const char *of;
        int hundredths;
    } parts[] = {{"cpu", v->usage.pressure.cpu},
                 {"memory", v->usage.pressure.memory},
                 {"io", v->usage.pressure.io}};
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        if (parts[i].hundredths >= 0)
            add_real(m, PRESSURE, v->name, "resource", parts[i].of, parts[i].hundredths / 10000.0);
}

struct classes_of {
    struct metrics *m;
    const char *ve;
};

static void add_class_number(const struct classes_of *c, enum family_id f, const char *class,
                             uint64_t n)
{
    struct str *s = begin(c->m, f, c->ve, "class", class);
    add_number(s, n);
    add_text(s, "\n");
}

static void add_class(void *ctx, const char *class, const struct network_count *out,
                      const struct network_count *in)
{
    const struct classes_of *c = ctx;
    add_class_number(c, CLASS_IN, class, in ? in->bytes : 0);
    add_class_number(c, CLASS_IN_PACKETS, class, in ? in->packets : 0);
    add_class_number(c, CLASS_OUT, class, out ? out->bytes : 0);
    add_class_number(c, CLASS_OUT_PACKETS, class, out ? out->packets : 0);
}

static void add_ve(void *ctx, const struct ve_sample *v)
{
    struct metrics *m = ctx;
    const struct resource_usage *u = &v->usage;
    if (u->has_cpu)
        add_real(m, CPU_SECONDS, v->name, NULL, NULL, (double)u->cpu_usec / 1e6);
    add_real(m, CPU_GUARANTEE, v->name, NULL, NULL,
             (double)param_set_get(v->params, "cpu.guarantee").n / 10000);
    add_whole(m, MEMORY, v->name, u->has_memory, u->memory_bytes);
    add_whole(m, MEMORY_GUARANTEE, v->name, true, param_set_get(v->params, "memory.guarantee").n);
    add_whole(m, PROCESSES, v->name, u->has_pids, u->pids);
    add_whole(m, OOM_KILLS, v->name, u->has_memory, u->oom_kills);
    add_whole(m, READ, v->name, u->has_io, u->read_bytes);
    add_whole(m, WRITTEN, v->name, u->has_io, u->written_bytes);
    add_whole(m, DISK, v->name, v->disk_bytes.known, v->disk_bytes.n);
    add_whole(m, INODES, v->name, v->disk_inodes.known, v->disk_inodes.n);
    add_whole(m, NET_IN, v->name, v->has_net, v->net.in_bytes);
    add_whole(m, NET_OUT, v->name, v->has_net, v->net.out_bytes);
    if (v->started > 0)
        add_real(m, STARTED, v->name, NULL, NULL, (double)v->started / 1000);
    if (u->has_steal)
        add_real(m, STEAL, v->name, NULL, NULL, (double)u->steal_usec / 1e6);
    ve_sample_classes(v, add_class, &(struct classes_of){m, v->name});
    add_pressure(m, v);
    add_counters(m, v);
}

/* ---- the node ---- */

/* A counter's family has its name without _total in OpenMetrics, with it in the older format. */
static void add_head(const struct metrics *m, struct str *s, const char *name,
                     enum family_type type, const char *unit, const char *help)
{
    const char *total = type == COUNTER && !m->open ? "_total" : "";
    str_add(s, "# TYPE %s%s %s\n", name, total, type == COUNTER ? "counter" : "gauge");
    if (unit && m->open)
        str_add(s, "# UNIT %s %s\n", name, unit);
    str_add(s, "# HELP %s%s %s\n", name, total, help);
}

/* Of documents: how many have this value of a member. */
static void add_states(const struct metrics *m, struct str *s, const char *name, const char *help,
                       const json_t *list, const char *const *states)
{
    add_head(m, s, name, GAUGE, NULL, help);
    for (; *states; states++) {
        size_t i, n = 0;
        const json_t *one;
        json_array_foreach((json_t *)list, i, one) n +=
            str_eq(json_string_value(json_object_get(one, "state")), *states);
        str_add(s, "%s{state=\"%s\"} %zu\n", name, *states, n);
    }
}

/* What GET /v1 tells of the node; percent become cores. */
static void add_node(const struct metrics *m, struct str *s, const json_t *resources)
{
    static const struct {
        const char *resource, *member, *name, *unit, *help;
        double scale;
    } rows[] = {
        {"memory", "total", "terem_node_memory_bytes", "bytes", "Memory of the node.", 1},
        {"memory", "reserve", "terem_node_memory_reserve_bytes", "bytes",
         "Memory that is never guaranteed to VEs.", 1},
        {"memory", "guaranteed", "terem_node_memory_guaranteed_bytes", "bytes",
         "Memory guaranteed to all VEs.", 1},
        {"memory", "limits", "terem_node_memory_limits_bytes", "bytes",
         "memory.limit of all VEs that have one.", 1},
        {"cpu", "total", "terem_node_cpu_cores", "cores", "Processors of the node.", 0.01},
        {"cpu", "reserve", "terem_node_cpu_reserve_cores", "cores",
         "Processor time that is never guaranteed to VEs.", 0.01},
        {"cpu", "guaranteed", "terem_node_cpu_guaranteed_cores", "cores",
         "Processor time guaranteed to all VEs.", 0.01},
        {"cpu", "limits", "terem_node_cpu_limits_cores", "cores",
         "cpu.limit of all VEs that have one.", 0.01},
        {"disk", "total", "terem_node_disk_bytes", "bytes", "Size of all pools.", 1},
        {"disk", "limits", "terem_node_disk_limits_bytes", "bytes",
         "disk.space of all VEs that have one.", 1},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const json_t *part = json_object_get(resources, rows[i].resource);
        add_head(m, s, rows[i].name, GAUGE, rows[i].unit, rows[i].help);
        str_add(s, "%s %.15g\n", rows[i].name,
                json_number_value(json_object_get(part, rows[i].member)) * rows[i].scale);
    }
}

struct pool_sizes {
    struct str size, left;
};

static void add_pool(void *ctx, const char *name, uint64_t size, uint64_t free_bytes)
{
    struct pool_sizes *p = ctx;
    str_add(&p->size, "terem_pool_size_bytes{pool=\"%s\"} %" PRIu64 "\n", name, size);
    str_add(&p->left, "terem_pool_free_bytes{pool=\"%s\"} %" PRIu64 "\n", name, free_bytes);
}

static void add_pools(const struct metrics *m, struct str *s, struct ve_node *node)
{
    struct pool_sizes p = {str_init(METRICS_MAX), str_init(METRICS_MAX)};
    ve_pool_each(node, add_pool, &p);
    add_head(m, s, "terem_pool_size_bytes", GAUGE, "bytes", "Size of the pool's file system.");
    str_add_bytes(s, str_c(&p.size), p.size.len);
    add_head(m, s, "terem_pool_free_bytes", GAUGE, "bytes", "What of it is free.");
    str_add_bytes(s, str_c(&p.left), p.left.len);
    s->failed |= p.size.failed | p.left.failed;
    str_done(&p.size);
    str_done(&p.left);
}

static int add_all(struct metrics *m, struct ve_node *node, struct str *s, struct err *err)
{
    static const char *const ve_states[] = {"stopped",  "starting", "running", "sleeping", "paused",
                                            "stopping", "broken",   "repair",  NULL};
    static const char *const job_states[] = {"queued", "running", NULL};
    json_t *info = ve_node_info(node), *states = ve_states_json(node), *jobs = NULL;
    int rc = ve_job_list(node, true, &jobs, err);
    if (rc == 0) {
        add_head(m, s, "terem_version_info", GAUGE, NULL, "Version of teremd.");
        str_add(s, "terem_version_info{version=\"%s\"} 1\n", TEREM_VERSION);
        add_states(m, s, "terem_ves", "VEs in each state.", states, ve_states);
        add_states(m, s, "terem_jobs", "Jobs that wait or work.", jobs, job_states);
        add_node(m, s, json_object_get(info, "resources"));
        add_pools(m, s, node);
        ve_sample_each(node, add_ve, m);
    }
    json_decref(info);
    json_decref(states);
    json_decref(jobs);
    for (size_t i = 0; rc == 0 && i < FAMILY__COUNT; i++) {
        add_head(m, s, families[i].name, families[i].type, families[i].unit, families[i].help);
        str_add_bytes(s, str_c(&m->samples[i]), m->samples[i].len);
        s->failed |= m->samples[i].failed;
    }
    if (m->open)
        str_add(s, "# EOF\n");
    return rc;
}

int on_metrics(struct request *r, struct err *err)
{
    auto_str struct str s = str_init(METRICS_MAX);
    struct metrics m = {.open = request_accepts(r, OPENMETRICS)};
    for (size_t i = 0; i < FAMILY__COUNT; i++)
        m.samples[i] = str_init(METRICS_MAX);
    int rc = add_all(&m, r->api->node, &s, err);
    for (size_t i = 0; i < FAMILY__COUNT; i++)
        str_done(&m.samples[i]);
    return rc < 0 ? rc : request_text(r, &s, m.open ? OPEN_TYPE : TEXT_TYPE, err);
}
