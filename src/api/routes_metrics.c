/* SPDX-License-Identifier: GPL-2.0-or-later */
/* routes_metrics — what a monitoring system scrapes (OpenMetrics 1.0). */
#include "api/request.h"

#include "base/cleanup.h"

#define TYPE        "application/openmetrics-text; version=1.0.0; charset=utf-8"
#define METRICS_MAX (16 << 20)

static const char *const states[] = {"stopped", "starting", "running",
                                     "paused",  "stopping", "broken"};

/* One family for each number of a VE's usage.  A counter's samples end in _total. */
static const struct family {
    const char *name, *type, *unit, *help, *field;
    double scale;
} families[] = {
    {"terem_ve_memory_bytes", "gauge", "bytes", "Memory held.", "memory", 1},
    {"terem_ve_processes", "gauge", NULL, "Processes and threads held.", "pids", 1},
    {"terem_ve_cpu_seconds", "counter", "seconds", "Processor time used.", "cpu_usec", 1e-6},
    {"terem_ve_oom_kills", "counter", NULL, "Processes ended because memory ran out.", "oom_kills",
     1},
};

static void add_head(struct str *s, const char *name, const char *type, const char *unit,
                     const char *help)
{
    str_add(s, "# TYPE %s %s\n", name, type);
    if (unit)
        str_add(s, "# UNIT %s %s\n", name, unit);
    str_add(s, "# HELP %s %s\n", name, help);
}

static void add_states(struct str *s, const json_t *ves)
{
    add_head(s, "terem_ves", "gauge", NULL, "VEs in each state.");
    for (size_t k = 0; k < ARRAY_SIZE(states); k++) {
        size_t i, n = 0;
        const json_t *ve;
        json_array_foreach((json_t *)ves, i, ve) n +=
            str_eq(json_string_value(json_object_get(ve, "state")), states[k]);
        str_add(s, "terem_ves{state=\"%s\"} %zu\n", states[k], n);
    }
}

static void add_family(struct str *s, const struct family *f, const json_t *ves)
{
    bool counter = strcmp(f->type, "counter") == 0;
    size_t i;
    const json_t *ve;
    add_head(s, f->name, f->type, f->unit, f->help);
    json_array_foreach((json_t *)ves, i, ve)
    {
        const json_t *n = json_object_get(json_object_get(ve, "usage"), f->field);
        /* A VE's name needs no escapes (base/name.h). */
        if (json_is_integer(n))
            str_add(s, "%s%s{ve=\"%s\"} %.15g\n", f->name, counter ? "_total" : "",
                    json_string_value(json_object_get(ve, "name")),
                    (double)json_integer_value(n) * f->scale);
    }
}

int on_metrics(struct request *r, struct err *err)
{
    json_t *ves = NULL, *jobs = NULL;
    auto_str struct str s = str_init(METRICS_MAX);
    int rc = ve_list(r->api->node, NULL, &ves, err);
    if (rc == 0)
        rc = ve_job_list(r->api->node, true, &jobs, err);
    if (rc == 0) {
        add_states(&s, ves);
        for (size_t i = 0; i < ARRAY_SIZE(families); i++)
            add_family(&s, &families[i], ves);
        add_head(&s, "terem_jobs_open", "gauge", NULL, "Jobs that wait or work.");
        str_add(&s, "terem_jobs_open %zu\n# EOF\n", json_array_size(jobs));
    }
    json_decref(ves);
    json_decref(jobs);
    if (rc < 0)
        return rc;
    size_t len = s.len;
    char *text = str_steal(&s);
    struct MHD_Response *response =
        text ? MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE) : NULL;
    if (!response) {
        free(text);
        return err_set(err, ERR_EXHAUSTED, "out of memory for the metrics");
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, TYPE);
    request_response(r, MHD_HTTP_OK, response);
    return 0;
}
