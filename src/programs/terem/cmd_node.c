/* SPDX-License-Identifier: GPL-2.0-or-later */
/* doctor, params, counters, events, version. */
#include "base/cleanup.h"
#include "base/number.h"
#include "cli.h"
#include "command.h"
#include "param/param.h"
#include "text.h"
#include "ve_text.h"
#include "work.h"

#include <string.h>

int cmd_doctor(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX);
    auto_json json_t *doc = NULL;
    size_t i, missing = 0;
    json_t *c;
    int r = cli_call(cli, "GET", "/v1/doctor", NULL, &doc, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, doc, err);
    json_array_foreach(json_object_get(doc, "checks"), i, c)
    {
        bool ok = json_is_true(json_object_get(c, "ok"));
        const char *on = cli->color ? (ok ? "\x1b[32m" : "\x1b[33m") : "";
        missing += !ok;
        if (ok && cli->quiet)
            continue;
        str_add(&out, "%s%s%s  ", on, ok ? "ok     " : "missing", cli->color ? "\x1b[0m" : "");
        text_add(&out, cli_text(c, "name"));
        if (*cli_text(c, "found")) {
            str_add(&out, ": ");
            text_add(&out, cli_text(c, "found"));
        }
        str_add(&out, "\n");
        static const char *const more[] = {"costs", "hint"};
        for (size_t k = 0; !ok && k < ARRAY_SIZE(more); k++) {
            if (!*cli_text(c, more[k]))
                continue;
            str_add(&out, "         ");
            text_add(&out, cli_text(c, more[k]));
            str_add(&out, "\n");
        }
    }
    if (!cli->quiet && missing)
        str_add(&out,
                "%zu of what Terem can use is missing here; what needs it refuses with this "
                "reason.\n",
                missing);
    else if (!cli->quiet)
        str_add(&out, "Everything that Terem can use is here.\n");
    return cli_out(&out, err);
}

static json_t *param_json(const struct param_row *row)
{
    char text[PARAM_TEXT];
    return json_pack("{s:s,s:s,s:s,s:s,s:b,s:b,s:b,s:s?,s:s?,s:s,s:s}", "key", row->key, "type",
                     param_type_name(row->type), "kind", param_kind_name(row->kind), "default",
                     param_format(row, row->def, text), "unlimited",
                     (row->flags & PARAM_UNLIMITED) != 0, "restart",
                     (row->flags & PARAM_RESTART) != 0, "planned",
                     (row->flags & PARAM_PLANNED) != 0, "controller", row->controller, "ancestor",
                     row->ancestor, "summary", row->summary, "detail", row->detail);
}

static int show_param(struct cli *cli, const struct param_row *row, struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX);
    char text[PARAM_TEXT];
    if (cli->json) {
        auto_json json_t *doc = param_json(row);
        return cli_out_json(cli, doc, err);
    }
    str_add(&out, "%s — %s\n\n", row->key, row->summary);
    str_add(&out, "  type      %s%s\n", param_type_name(row->type),
            row->flags & PARAM_UNLIMITED ? ", or unlimited" : "");
    str_add(&out, "  kind      %s\n", param_kind_name(row->kind));
    str_add(&out, "  default   %s\n", param_format(row, row->def, text));
    str_add(&out, "  changes   %s\n",
            row->flags & PARAM_PLANNED   ? "not yet: this version cannot set it"
            : row->flags & PARAM_RESTART ? "at the next start"
                                         : "live");
    if (row->ancestor)
        str_add(&out, "  OpenVZ    %s\n", row->ancestor);
    str_add(&out, "\n%s\n", row->detail);
    return cli_out(&out, err);
}

/* From our own table: needs no teremd. */
int cmd_params(struct cli *cli, const struct args *a, struct err *err)
{
    if (a->n_pos) {
        const struct param_row *row = param_find_err(a->pos[0], err);
        if (row)
            return show_param(cli, row, err);
        err->kind = ERR_NOT_FOUND; /* elsewhere a wrong key is a wrong request */
        return -ERR_NOT_FOUND;
    }
    if (cli->json) {
        auto_json json_t *all = json_array();
        for (size_t i = 0; i < param_table_size; i++)
            json_array_append_new(all, param_json(&param_table[i]));
        return cli_out_json(cli, all, err);
    }
    auto_str struct str out = str_init(TEXT_MAX);
    auto_table struct text_table t = {.columns = 4};
    char text[PARAM_TEXT];
    static const char *const heads[] = {"PARAMETER", "KIND", "DEFAULT", "WHAT IT IS"};
    for (size_t i = 0; i < ARRAY_SIZE(heads) && !cli->quiet; i++)
        text_cell(&t, heads[i]);
    for (size_t i = 0; i < param_table_size; i++) {
        const struct param_row *row = &param_table[i];
        if (cli->quiet) {
            str_add(&out, "%s\n", row->key);
            continue;
        }
        if ((row->flags & PARAM_PLANNED) && !args_has(a, "all"))
            continue;
        text_cell(&t, row->key);
        text_cell(&t, param_kind_name(row->kind));
        text_cell(&t, param_format(row, row->def, text));
        text_cell(&t, row->summary);
    }
    if (!cli->quiet)
        text_table_render(&t, &out, cli->out_tty ? cli_columns(1) : 0);
    return cli_out(&out, err);
}

/* A number in the unit of its row; null is `otherwise`. */
static void counter_cell(struct text_table *t, const json_t *row, const char *member,
                         const char *otherwise)
{
    const json_t *v = json_object_get(row, member);
    char buf[NUMBER_TEXT];
    if (!json_is_integer(v))
        text_cell(t, otherwise);
    else if (str_eq(cli_text(row, "type"), param_type_name(PARAM_SIZE)) &&
             !str_eq(member, "failcnt"))
        text_cell(t, number_format_size((uint64_t)json_integer_value(v), buf));
    else
        text_cellf(t, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
}

/* Keeps the rows that refused something. */
static void only_failed(json_t *rows)
{
    for (size_t i = json_array_size(rows); i-- > 0;)
        if (json_integer_value(json_object_get(json_array_get(rows, i), "failcnt")) == 0)
            json_array_remove(rows, i);
}

static int fetch_counters(struct cli *cli, const char *name, json_t **ret, struct err *err)
{
    auto_str struct str path = str_init(256);
    int r = cli_ve_path(&path, name, "/counters", err);
    return r < 0 ? r : cli_call(cli, "GET", str_c(&path), NULL, ret, err);
}

/* The rows of every VE that runs, each with its name as "ve". */
static int all_counters(struct cli *cli, json_t *ret, struct err *err)
{
    auto_json json_t *ves = NULL;
    const json_t *ve;
    json_t *row;
    size_t i, k;
    int r = cli_call(cli, "GET", "/v1/ves", NULL, &ves, err);
    json_array_foreach(ves, i, ve)
    {
        auto_json json_t *rows = NULL;
        if (cli_is_null(ve, "usage"))
            continue;
        r = fetch_counters(cli, cli_text(ve, "name"), &rows, err);
        if (r == -ERR_STATE || r == -ERR_NOT_FOUND) { /* it has just stopped */
            err_clear(err);
            r = 0;
        }
        if (r < 0)
            return r;
        json_array_foreach(rows, k, row)
            json_object_set_new(row, "ve", json_string(cli_text(ve, "name")));
        json_array_extend(ret, rows);
    }
    return r;
}

static void counter_table(struct text_table *t, const json_t *rows)
{
    static const char *const heads[] = {"VE",      "COUNTER", "HELD",   "MAXHELD",
                                        "BARRIER", "LIMIT",   "FAILCNT"};
    static const char uncounted[] = "not counted on this kernel";
    const json_t *row;
    size_t i;
    for (i = 7 - t->columns; i < ARRAY_SIZE(heads); i++)
        text_cell(t, heads[i]);
    json_array_foreach(rows, i, row)
    {
        if (t->columns == 7)
            text_cell(t, cli_text(row, "ve"));
        text_cell(t, cli_text(row, "key"));
        counter_cell(t, row, "held", uncounted);
        counter_cell(t, row, "maxheld", uncounted);
        counter_cell(t, row, "barrier", NULL);
        counter_cell(t, row, "limit", "unlimited");
        counter_cell(t, row, "failcnt", uncounted);
    }
}

int cmd_counters(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX);
    auto_table struct text_table t = {.columns = 6, .right = 0x3e};
    auto_json json_t *rows = a->n_pos ? NULL : json_array();
    if (!a->n_pos && !args_has(a, "failed"))
        return err_set(err, ERR_USAGE, "name a VE, or give --failed for all of them");
    int r = a->n_pos ? fetch_counters(cli, a->pos[0], &rows, err) : all_counters(cli, rows, err);
    if (r < 0)
        return r;
    if (args_has(a, "failed"))
        only_failed(rows);
    if (cli->json)
        return cli_out_json(cli, rows, err);
    if (!a->n_pos) {
        t.columns = 7;
        t.right = 0x7c;
    }
    counter_table(&t, rows);
    text_table_render(&t, &out, 0);
    return cli_out(&out, err);
}

static void event_words(struct str *s, const json_t *e)
{
    const char *type = cli_text(e, "type"), *subject = cli_text(e, "ve");
    const json_t *job = json_object_get(e, "job"), *last = json_object_get(e, "last_exit");
    if (!*subject && json_is_object(job))
        subject = cli_text(job, "subject");
    if (!*subject)
        subject = cli_text(e, "template");
    if (*subject) {
        text_add(s, subject);
        str_add(s, ": ");
    }
    if (str_eq(type, "ve.state")) {
        text_add(s, cli_text(e, "from"));
        str_add(s, " → ");
        text_add(s, cli_text(e, "to"));
    } else if (json_is_object(job)) {
        str_add(s, "job %" JSON_INTEGER_FORMAT " ", cli_int(job, "id"));
        text_add(s, cli_text(job, "kind"));
        str_add(s, " ");
        text_add(s, cli_text(job, "state"));
        if (*cli_text(job, "text")) {
            str_add(s, ": ");
            text_add(s, cli_text(job, "text"));
        }
    } else {
        text_add(s, str_starts(type, "ve.") ? type + 3 : type);
    }
    if (json_is_object(last)) {
        str_add(s, ": ");
        ve_text_exit(s, last);
    }
}

static int on_event(void *ctx, json_t *event, struct err *err)
{
    const struct cli *cli = ctx;
    if (cli->json)
        return cli_out_json_line(cli, event, err);
    auto_str struct str s = str_init(TEXT_MAX);
    text_add_time(&s, cli_int(event, "time"));
    str_add(&s, "  ");
    event_words(&s, event);
    str_add(&s, "\n");
    int r = cli_out(&s, err);
    if (r == 0 && fflush(stdout) == EOF)
        r = err_sys(err, "cannot write to standard output");
    return r;
}

int cmd_events(struct cli *cli, const struct args *a, struct err *err)
{
    auto_client struct client *c = NULL;
    auto_str struct str rest = str_init((size_t)4 << 20);
    struct request rq = {.method = "GET", .path = "/v1/events", .stream = true};
    const char *span;
    ssize_t n;
    int r = client_open(&cli->place, &rq, &c, err);
    if (r == 0)
        r = client_head(c, err);
    if (r < 0)
        return r;
    while ((n = client_body(c, &span, err)) > 0) {
        r = work_lines(&rest, span, (size_t)n, on_event, cli, err);
        if (r < 0)
            return r;
    }
    return n < 0 ? (int)n : err_set(err, ERR_UNAVAILABLE, "teremd ended the stream of events");
}

int cmd_version(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *node = NULL;
    if (!cli) { /* --version: ours only */
        puts("terem " TEREM_VERSION);
        return 0;
    }
    bool reached = cli_call(cli, "GET", "/v1", NULL, &node, NULL) == 0;
    if (cli->json) {
        auto_json json_t *doc = json_pack("{s:s,s:O?}", "terem", TEREM_VERSION, "node", node);
        return cli_out_json(cli, doc, err);
    }
    puts("terem " TEREM_VERSION);
    if (reached)
        cli_say(cli, "teremd %s", cli_text_or(node, "version", "of an unknown version"));
    else
        cli_say(cli, "teremd does not run at %s", cli->place.api);
    return 0;
}
