/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ve_text.h"

#include "base/cleanup.h"
#include "base/number.h"
#include "cli.h"
#include "disk_text.h"
#include "param/param.h"
#include "text.h"

#include <limits.h>
#include <string.h>

void ve_text_memory(struct str *s, const json_t *ve)
{
    char buf[NUMBER_TEXT];
    const json_t *v = json_object_get(json_object_get(ve, "usage"), "memory");
    if (!json_is_integer(v))
        str_add(s, "-");
    else
        str_add(s, "%s", number_format_size((uint64_t)json_integer_value(v), buf));
}

void ve_text_pids(struct str *s, const json_t *ve)
{
    const json_t *v = json_object_get(json_object_get(ve, "usage"), "pids");
    if (!json_is_integer(v))
        str_add(s, "-");
    else
        str_add(s, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
}

void ve_text_pairs(struct str *s, const json_t *object, const char *between)
{
    const char *key;
    json_t *value;
    bool first = true;
    json_object_foreach((json_t *)object, key, value)
    {
        str_add(s, "%s", first ? "" : between);
        text_add(s, key);
        str_add(s, "=");
        text_add(s, json_string_value(value));
        first = false;
    }
    if (first)
        str_add(s, "-");
}

static void head(struct str *s, const char *name)
{
    str_add(s, "%-11s ", name);
}

static void line(struct str *s, const char *name, const char *value)
{
    head(s, name);
    text_add(s, value);
    str_add(s, "\n");
}

/* Nothing is printed for what is not there. */
static void line_if(struct str *s, const char *name, const char *value)
{
    if (value && *value)
        line(s, name, value);
}

static void words(struct str *s, const char *name, const json_t *array, const char *between)
{
    size_t i;
    json_t *v;
    if (json_array_size(array) == 0)
        return;
    head(s, name);
    json_array_foreach(array, i, v)
    {
        str_add(s, "%s", i ? between : "");
        text_add(s, json_string_value(v));
    }
    str_add(s, "\n");
}

/* "back: eth1, 10.77.0.1, fd54:6572:7076::1" */
static void networks(struct str *s, const json_t *ve)
{
    size_t i, k;
    json_t *network, *address;
    json_array_foreach(json_object_get(ve, "networks"), i, network)
    {
        head(s, i ? "" : "networks");
        text_add(s, cli_text(network, "network"));
        str_add(s, ": %s", cli_text(network, "interface"));
        json_array_foreach(json_object_get(network, "addresses"), k, address)
            str_add(s, ", %s", json_string_value(address));
        str_add(s, "\n");
    }
}

/* "tcp:80 to port 8080" */
static void ports(struct str *s, const json_t *list)
{
    size_t i;
    json_t *port;
    json_array_foreach(list, i, port)
    {
        head(s, i ? "" : "ports");
        text_add(s, cli_text(port, "id"));
        str_add(s, " to port %" JSON_INTEGER_FORMAT "\n", cli_int(port, "to"));
    }
}

static void pairs(struct str *s, const char *name, const json_t *object)
{
    if (json_object_size(object) == 0)
        return;
    head(s, name);
    ve_text_pairs(s, object, "\n            ");
    str_add(s, "\n");
}

static void parameter(struct str *s, bool first, const char *key, const char *value)
{
    if (first)
        head(s, "parameters");
    else
        str_add(s, "            ");
    text_add(s, key);
    str_add(s, "=");
    text_add(s, value);
}

static bool is_pending(const json_t *ve, const char *key)
{
    size_t i;
    json_t *v;
    json_array_foreach(json_object_get(ve, "pending"), i,
                       v) if (str_eq(json_string_value(v), key)) return true;
    return false;
}

static void end_parameter(struct str *s, const json_t *ve, const char *key)
{
    str_add(s, "%s\n", is_pending(ve, key) ? "  (from the next start)" : "");
}

/* What neither the VE nor its profile sets: what waits for the next start, or with `all` all. */
static void defaults(struct str *s, const json_t *ve, bool first, bool all)
{
    const json_t *own = json_object_get(ve, "params"),
                 *profile = json_object_get(ve, "profile_params");
    char text[PARAM_TEXT];
    for (size_t i = 0; i < param_table_size; i++) {
        const struct param_row *row = &param_table[i];
        if (row->kind == PARAM_COUNTER || strstr(row->key, ".CLASS") ||
            json_object_get(own, row->key) || json_object_get(profile, row->key) ||
            (!all && !is_pending(ve, row->key)))
            continue;
        parameter(s, first, row->key, param_format(row, row->def, text));
        first = false;
        str_add(s, "  (default)");
        end_parameter(s, ve, row->key);
    }
}

/* What is in force and, where it has a profile or all are asked for, where it comes from. */
static void parameters(struct str *s, const json_t *ve, bool every)
{
    const json_t *own = json_object_get(ve, "params"), *all = json_object_get(ve, "profile_params");
    const char *profile = cli_text(ve, "profile"), *key;
    json_t *value;
    bool first = true;
    json_object_foreach((json_t *)own, key, value)
    {
        const char *there = json_string_value(json_object_get(all, key));
        parameter(s, first, key, json_string_value(value));
        first = false;
        if (there) {
            str_add(s, "  (its own; profile ");
            text_add(s, profile);
            str_add(s, ": ");
            text_add(s, there);
            str_add(s, ")");
        } else if (*profile || every) {
            str_add(s, "  (its own)");
        }
        end_parameter(s, ve, key);
    }
    json_object_foreach((json_t *)all, key, value)
    {
        if (json_object_get(own, key))
            continue;
        parameter(s, first, key, json_string_value(value));
        first = false;
        str_add(s, "  (profile ");
        text_add(s, profile);
        str_add(s, ")");
        end_parameter(s, ve, key);
    }
    defaults(s, ve, first, every);
    if (*profile && !json_is_object(all)) {
        head(s, first ? "parameters" : "");
        str_add(s, "(profile ");
        text_add(s, profile);
        str_add(s, " is gone: its own only)\n");
    }
}

static void times(struct str *s, const json_t *ve, int64_t now)
{
    static const char *const keys[] = {"created", "started", "asleep"};
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        json_int_t t = cli_int(ve, keys[i]);
        if (!t)
            continue;
        head(s, keys[i]);
        text_add_time(s, t);
        str_add(s, " (");
        text_add_age(s, t, now);
        str_add(s, ")\n");
    }
}

void ve_text_exit(struct str *s, const json_t *e)
{
    const char *how = cli_text(e, "how"), *reason = cli_text(e, "reason");
    if (str_eq(how, "not-started"))
        str_add(s, "did not start");
    else if (str_eq(how, "poweroff"))
        str_add(s, "powered off");
    else if (str_eq(how, "reboot"))
        str_add(s, "rebooted");
    else if (str_eq(how, "exited"))
        str_add(s, "exited with %" JSON_INTEGER_FORMAT, cli_int(e, "status"));
    else if (str_eq(how, "killed") && !cli_is_null(e, "signal")) {
        str_add(s, "killed by SIG");
        text_add(s, cli_text(e, "signal"));
    } else
        str_add(s, "ended");
    if (*reason) {
        str_add(s, " (");
        text_add(s, reason);
        str_add(s, ")");
    }
}

static void last_exit(struct str *s, const json_t *ve)
{
    const json_t *e = json_object_get(ve, "last_exit");
    if (!json_is_object(e))
        return;
    head(s, "last exit");
    ve_text_exit(s, e);
    str_add(s, ", ");
    text_add_time(s, cli_int(e, "time"));
    str_add(s, "\n");
}

/* "1.2s without a processor; of the last 10 s cpu 12.3%, memory 0%, io 0%" */
static void stalls(struct str *s, const json_t *u)
{
    static const char *const kinds[] = {"cpu", "memory", "io"};
    static const char *const unknown = "not counted on this kernel";
    const json_t *pressure = json_object_get(u, "pressure");
    char buf[NUMBER_TEXT];
    head(s, "stalled");
    if (cli_is_null(u, "steal"))
        str_add(s, "time without a processor is %s", unknown);
    else
        str_add(s, "%s without a processor",
                number_format_time((uint64_t)cli_int(u, "steal"), buf));
    for (size_t i = 0; json_is_object(pressure) && i < ARRAY_SIZE(kinds); i++) {
        const json_t *v = json_object_get(pressure, kinds[i]);
        str_add(s, "%s %s ", i ? "," : "; of the last 10 s", kinds[i]);
        if (json_is_number(v))
            str_add(s, "%g%%", json_number_value(v));
        else
            str_add(s, "%s", unknown);
    }
    str_add(s, "\n");
}

static void usage(struct str *s, const json_t *ve)
{
    char buf[NUMBER_TEXT];
    const json_t *u = json_object_get(ve, "usage");
    if (!json_is_object(u))
        return;
    head(s, "usage");
    ve_text_memory(s, ve);
    str_add(s, " memory, ");
    ve_text_pids(s, ve);
    str_add(s, " processes");
    if (!cli_is_null(u, "cpu_usec"))
        str_add(s, ", %s of processor time",
                number_format_time((uint64_t)cli_int(u, "cpu_usec") / 1000, buf));
    str_add(s, "\n");
    stalls(s, u);
}

static void disk(struct str *s, const json_t *ve, size_t width)
{
    auto_str struct str text = str_init(TEXT_MAX), over = str_init(TEXT_MAX);
    disk_text_add(&text, ve);
    line_if(s, "disk", str_c(&text));
    disk_text_over(&over, ve, "it");
    for (const char *at = str_c(&over); *at;) {
        size_t n = strcspn(at, "\n");
        auto_str struct str one = str_init(TEXT_MAX);
        str_add(&one, "%.*s", (int)n, at);
        str_add(s, "            ");
        text_add_wrapped(s, str_c(&one), 12, width);
        str_add(s, "\n");
        at += n + (at[n] == '\n');
    }
}

static void layers(struct str *s, const json_t *ve, bool brief)
{
    size_t i;
    json_t *v;
    json_array_foreach(json_object_get(ve, "layers"), i, v)
    {
        head(s, i ? "" : "layers");
        str_add(s, "%.*s\n", brief ? TEXT_DIGEST : INT_MAX, json_string_value(v));
    }
}

void ve_text_show(struct str *s, const json_t *ve, const json_t *published, int64_t now, bool all,
                  size_t width)
{
    line(s, "name", cli_text(ve, "name"));
    head(s, "id");
    str_add(s, "%" JSON_INTEGER_FORMAT "\n", cli_int(ve, "id"));
    line(s, "state", cli_text(ve, "state"));
    line_if(s, "broken", cli_text(ve, "broken"));
    line(s, "kind", cli_text(ve, "kind"));
    line(s, "template", cli_text(ve, "template"));
    line_if(s, "pool", cli_text(ve, "pool"));
    words(s, "addresses", json_object_get(ve, "addresses"), "\n            ");
    networks(s, ve);
    words(s, "deleted", json_object_get(ve, "deleted_interfaces"), ", ");
    if (json_object_get(ve, "deleted_interfaces"))
        str_add(s, "            inside; terem restart %s makes them anew\n", cli_text(ve, "name"));
    ports(s, published);
    words(s, "command", json_object_get(ve, "command"), " ");
    pairs(s, "environment", json_object_get(ve, "env"));
    line_if(s, "user", cli_text(ve, "user"));
    line_if(s, "directory", cli_text(ve, "workdir"));
    pairs(s, "labels", json_object_get(ve, "labels"));
    line_if(s, "profile", cli_text(ve, "profile"));
    parameters(s, ve, all);
    head(s, "autostart");
    str_add(s, "%s", json_is_true(json_object_get(ve, "autostart")) ? "on" : "off");
    if (cli_int(ve, "priority"))
        str_add(s, ", priority %" JSON_INTEGER_FORMAT, cli_int(ve, "priority"));
    str_add(s, "\n");
    line_if(s, "restart", cli_text(ve, "restart"));
    if (json_object_get(ve, "snapshots")) {
        head(s, "snapshots");
        str_add(s, "%" JSON_INTEGER_FORMAT, cli_int(ve, "snapshots"));
        if (!cli_is_null(ve, "schedule")) {
            str_add(s, "; automatic: ");
            cli_add_schedule(s, json_object_get(ve, "schedule"));
        }
        str_add(s, "\n");
    }
    line(s, "nesting", json_is_true(json_object_get(ve, "nesting")) ? "on" : "off");
    times(s, ve, now);
    if (!cli_is_null(ve, "pid")) {
        head(s, "pid");
        str_add(s, "%" JSON_INTEGER_FORMAT "\n", cli_int(ve, "pid"));
    }
    usage(s, ve);
    disk(s, ve, width);
    last_exit(s, ve);
    const json_t *job = json_object_get(ve, "job");
    if (json_is_object(job)) {
        head(s, "job");
        str_add(s, "%" JSON_INTEGER_FORMAT " ", cli_int(job, "id"));
        text_add(s, cli_text(job, "kind"));
        str_add(s, ": ");
        text_add(s, cli_text(job, "text"));
        str_add(s, "\n");
    }
    layers(s, ve, width > 0);
}
