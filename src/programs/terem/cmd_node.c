/* SPDX-License-Identifier: GPL-2.0-or-later */
/* doctor, params, node show, version. */
#include "base/cleanup.h"
#include "base/number.h"
#include "cli.h"
#include "command.h"
#include "param/param.h"
#include "text.h"
#include "ve_text.h"
#include "work.h"

#include <string.h>

#define NEEDS "it needs "

static int run_doctor(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX);
    auto_json json_t *doc = NULL;
    size_t i, missing = 0, columns = cli->out_tty ? cli_columns(1) : 0;
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
        auto_str struct str what = str_init(TEXT_MAX);
        const char *name = cli_text(c, "name"), *found = cli_text(c, "found");
        size_t len = str_starts(found, NEEDS) && str_starts(found + strlen(NEEDS), name)
                         ? strlen(NEEDS) + strlen(name)
                         : 0; /* the name stands there already */
        str_add(&what, "%s%s%s", name, *found && !len ? ": " : "", found + len);
        text_add_wrapped(&out, str_c(&what), 9, columns);
        str_add(&out, "\n");
        static const char *const more[] = {"costs", "hint"};
        for (size_t k = 0; !ok && k < ARRAY_SIZE(more); k++) {
            if (!*cli_text(c, more[k]))
                continue;
            str_add(&out, "         ");
            text_add_wrapped(&out, cli_text(c, more[k]), 9, columns);
            str_add(&out, "\n");
        }
    }
    if (!cli->quiet && missing)
        str_add(&out, "%zu thing%s missing here; what needs %s refuses with this reason.\n",
                missing, missing == 1 ? " is" : "s are", missing == 1 ? "it" : "them");
    else if (!cli->quiet)
        str_add(&out, "Everything that Terem can use is here.\n");
    return cli_out(&out, err);
}

command_row cmd_doctor = {
    .name = "doctor",
    .summary = "tell what this machine offers and what is missing",
    .usage = "",
    .run = run_doctor,
    .detail = "Prints each feature of the kernel and each program that Terem can use, whether it "
              "is here, what its absence costs, and what to do about it.",
    .examples = {"terem doctor"},
};

static json_t *param_json(const struct param_row *row)
{
    char text[PARAM_TEXT];
    return json_pack("{s:s,s:s,s:s,s:s,s:b,s:b,s:s?,s:s?,s:s,s:s}", "key", row->key, "type",
                     param_type_name(row->type), "kind", param_kind_name(row->kind), "default",
                     param_format(row, row->def, text), "unlimited",
                     (row->flags & PARAM_UNLIMITED) != 0, "restart",
                     (row->flags & PARAM_RESTART) != 0, "controller", row->controller, "ancestor",
                     row->ancestor, "summary", row->summary, "detail", row->detail);
}

/* What teremd says of a row; NULL: it does not answer, or knows no such row. */
static const json_t *row_of(const json_t *rows, const char *key)
{
    size_t i;
    const json_t *row;
    json_array_foreach((json_t *)rows, i, row) if (str_eq(cli_text(row, "key"), key)) return row;
    return NULL;
}

static const char *here_word(const json_t *row)
{
    const json_t *here = json_object_get(row, "here");
    if (json_is_true(here))
        return cli_is_null(row, "partly") ? "yes" : "partly";
    return json_is_false(here) ? "no" : "-";
}

static int show_param(struct cli *cli, const struct param_row *row, const json_t *rows,
                      struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX);
    char text[PARAM_TEXT];
    const json_t *told = row_of(rows, row->key);
    if (cli->json) {
        auto_json json_t *doc = told ? json_incref((json_t *)told) : param_json(row);
        return cli_out_json(cli, doc, err);
    }
    str_add(&out, "%s — %s\n\n", row->key, row->summary);
    str_add(&out, "  type      %s%s\n", param_type_name(row->type),
            row->flags & PARAM_UNLIMITED ? ", or unlimited" : "");
    str_add(&out, "  kind      %s\n", param_kind_name(row->kind));
    if (row->kind != PARAM_COUNTER)
        str_add(&out, "  default   %s\n", param_format(row, row->def, text));
    str_add(&out, "  changes   %s\n",
            row->kind == PARAM_COUNTER   ? "it is counted, not set"
            : row->flags & PARAM_RESTART ? "at the next start"
                                         : "live");
    if (told && !cli_is_null(told, "here")) {
        str_add(&out, "  here      %s", here_word(told));
        const char *why = cli_text(told, cli_is_null(told, "partly") ? "why_not" : "partly");
        if (*why) {
            str_add(&out, ": ");
            text_add(&out, why);
        }
        str_add(&out, "\n");
    }
    if (row->ancestor)
        str_add(&out, "  OpenVZ    %s\n", row->ancestor);
    str_add(&out, "\n");
    text_add_wrapped(&out, row->detail, 0, cli->out_tty ? cli_columns(1) : 0);
    str_add(&out, "\n");
    return cli_out(&out, err);
}

/* "cpu" is the group of all "cpu.…"; no group: every row. */
static bool is_in(const char *key, const char *group)
{
    size_t len = group ? strlen(group) : 0;
    return !group || (strncmp(key, group, len) == 0 && key[len] == '.');
}

static bool is_group(const char *word)
{
    for (size_t i = 0; i < param_table_size; i++)
        if (is_in(param_table[i].key, word))
            return true;
    return false;
}

/* Rows that were shown and have this reason. */
static void add_reasons(struct str *out, const json_t *rows, const char *group, const char *member,
                        const char *head, size_t columns)
{
    bool first = true;
    size_t i;
    const json_t *row;
    json_array_foreach((json_t *)rows, i, row)
    {
        if (cli_is_null(row, member) || !is_in(cli_text(row, "key"), group))
            continue;
        if (first)
            str_add(out, "\n%s on this node:\n", head);
        first = false;
        auto_str struct str why = str_init(TEXT_MAX);
        str_add(&why, "%s: %s", cli_text(row, "key"), cli_text(row, member));
        str_add(out, "  ");
        text_add_wrapped(out, str_c(&why), 4, columns);
        str_add(out, "\n");
    }
}

static void add_params(struct text_table *t, const json_t *rows, const char *group)
{
    static const char *const heads[] = {"PARAMETER", "KIND", "DEFAULT", "HERE", "WHAT IT IS"};
    char text[PARAM_TEXT];
    for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
        if (rows || i != 3)
            text_cell(t, heads[i]);
    for (size_t i = 0; i < param_table_size; i++) {
        const struct param_row *row = &param_table[i];
        if (!is_in(row->key, group))
            continue;
        text_cell(t, row->key);
        text_cell(t, param_kind_name(row->kind));
        text_cell(t, row->kind == PARAM_COUNTER ? NULL : param_format(row, row->def, text));
        if (rows)
            text_cell(t, here_word(row_of(rows, row->key)));
        text_cell(t, row->summary);
    }
}

static int params_json(struct cli *cli, const json_t *rows, const char *group, struct err *err)
{
    auto_json json_t *all = json_array();
    for (size_t i = 0; i < param_table_size; i++) {
        const json_t *told = row_of(rows, param_table[i].key);
        if (is_in(param_table[i].key, group))
            json_array_append_new(all,
                                  told ? json_incref((json_t *)told) : param_json(&param_table[i]));
    }
    return cli_out_json(cli, all, err);
}

/* From our own table: needs no teremd, which adds what it can enforce here. */
static int run_params(struct cli *cli, const struct args *a, struct err *err)
{
    const char *group =
        a->n_pos && !param_find(a->pos[0]) && is_group(a->pos[0]) ? a->pos[0] : NULL;
    const struct param_row *row = a->n_pos && !group ? param_find_err(a->pos[0], err) : NULL;
    auto_json json_t *rows = NULL;
    if (a->n_pos && !row && !group) {
        err->kind = ERR_NOT_FOUND; /* elsewhere a wrong key is a wrong request */
        return -ERR_NOT_FOUND;
    }
    if (cli_call(cli, "GET", "/v1/params", NULL, &rows, NULL) < 0)
        rows = NULL;
    if (row)
        return show_param(cli, row, rows, err);
    if (cli->json)
        return params_json(cli, rows, group, err);
    auto_str struct str out = str_init(TEXT_MAX);
    auto_table struct text_table t = {.columns = rows ? 5 : 4, .wrap = true};
    for (size_t i = 0; i < param_table_size && cli->quiet; i++)
        if (is_in(param_table[i].key, group))
            str_add(&out, "%s\n", param_table[i].key);
    if (!cli->quiet) {
        size_t columns = cli->out_tty ? cli_columns(1) : 0;
        add_params(&t, rows, group);
        text_table_render(&t, &out, columns);
        add_reasons(&out, rows, group, "partly", "Enforced in part", columns);
        add_reasons(&out, rows, group, "why_not", "Not enforced", columns);
    }
    return cli_out(&out, err);
}

command_row cmd_params = {
    .name = "params",
    .summary = "list the resource parameters, or explain one",
    .usage = "[KEY | GROUP]",
    .max = 1,
    .complete = COMPLETE_PARAMS,
    .run = run_params,
    .detail =
        "The table of terem-parameters(7). HERE tells whether this node can enforce it; what it "
        "cannot is listed below with the reason. Without teremd that column is missing. GROUP is "
        "what stands before the point: cpu for all of the processor.",
    .examples = {"terem params", "terem params cpu", "terem params memory.limit"},
};

/* A number of the node: bytes, percent of a core, or a count. */
static void node_cell(struct text_table *t, const json_t *part, const char *member,
                      const char *resource)
{
    const json_t *v = json_object_get(part, member);
    char buf[NUMBER_TEXT];
    if (!v)
        text_cell(t, NULL);
    else if (str_eq(resource, "cpu"))
        text_cellf(t, "%.6g%%", json_number_value(v));
    else if (str_eq(resource, "processes") || str_eq(resource, "connections"))
        text_cellf(t, "%.0f", json_number_value(v));
    else if (str_eq(resource, "net_out") || str_eq(resource, "net_in"))
        text_cellf(t, "%.4g%s", json_number_value(v) / 1e6, json_number_value(v) > 0 ? "M" : "");
    else
        text_cell(t, number_format_size((uint64_t)json_number_value(v), buf));
}

/* "2.1 times; 3 VEs unlimited", "no". */
static void oversold_cell(struct text_table *t, const json_t *part)
{
    double total = json_number_value(json_object_get(part, "total"));
    double limits = json_number_value(json_object_get(part, "limits"));
    json_int_t unlimited = cli_int(part, "unlimited");
    auto_str struct str s = str_init(128);
    if (limits > total && total > 0)
        str_add(&s, limits < 1000 * total ? "%.3g times" : "%.0f times", limits / total);
    else if (limits > total)
        str_add(&s, "the node has none");
    else
        str_add(&s, "%s", unlimited ? "" : "no");
    if (unlimited)
        str_add(&s, "%s%" JSON_INTEGER_FORMAT " VE%s unlimited", s.len ? "; " : "", unlimited,
                unlimited == 1 ? "" : "s");
    text_cell(t, str_c(&s));
}

/* What cannot be guaranteed on this node at all, whatever is left. */
static void add_no_guarantee(struct cli *cli, struct str *out)
{
    static const char *const keys[] = {"cpu.guarantee", "memory.guarantee"};
    auto_json json_t *rows = NULL;
    if (cli_call(cli, "GET", "/v1/params", NULL, &rows, NULL) < 0)
        return;
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        const json_t *row = row_of(rows, keys[i]);
        if (!json_is_false(json_object_get(row, "here")))
            continue;
        auto_str struct str s = str_init(TEXT_MAX);
        str_add(&s, "%s cannot be given here: %s", keys[i], cli_text(row, "why_not"));
        text_add_wrapped(out, str_c(&s), 2, cli->out_tty ? cli_columns(1) : 0);
        str_add(out, "\n");
    }
}

/* VEs without a guarantee live on what is not guaranteed to others. */
static void add_nearly_gone(struct str *out, const char *resource, const json_t *part)
{
    const json_t *left = json_object_get(part, "left");
    double total = json_number_value(json_object_get(part, "total"));
    if (left && json_number_value(left) < total * 0.05)
        str_add(out,
                "%s: nearly all is guaranteed; VEs without a guarantee get what others do not "
                "use\n",
                resource);
}

static int run_node_show(struct cli *cli, const struct args *a, struct err *err)
{
    static const char *const heads[] = {"RESOURCE", "NODE",   "RESERVE", "GUARANTEED",
                                        "LEFT",     "LIMITS", "OVERSOLD"};
    static const char *const members[] = {"total", "reserve", "guaranteed", "left", "limits"};
    auto_str struct str out = str_init(TEXT_MAX);
    auto_table struct text_table t = {.columns = ARRAY_SIZE(heads), .right = 0x3e};
    auto_json json_t *node = NULL;
    const char *resource;
    json_t *part;
    int r = cli_call(cli, "GET", "/v1", NULL, &node, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, node, err);
    if (cli->quiet) {
        text_add(&out, cli_text(node, "name"));
        str_add(&out, "\n");
        return cli_out(&out, err);
    }
    str_add(&out, "name      ");
    text_add(&out, cli_text(node, "name"));
    str_add(&out, "\nversion   ");
    text_add(&out, cli_text(node, "version"));
    str_add(&out, "\nstate     ");
    text_add(&out, cli_text(node, "state"));
    str_add(&out,
            "\nVEs       %" JSON_INTEGER_FORMAT ", %" JSON_INTEGER_FORMAT
            " of them run\njobs      %" JSON_INTEGER_FORMAT "\n\n",
            cli_int(node, "ves"), cli_int(node, "running"), cli_int(node, "jobs"));
    for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
        text_cell(&t, heads[i]);
    json_object_foreach(json_object_get(node, "resources"), resource, part)
    {
        text_cell(&t, resource);
        for (size_t i = 0; i < ARRAY_SIZE(members); i++)
            node_cell(&t, part, members[i], resource);
        oversold_cell(&t, part);
    }
    text_table_render(&t, &out, 0); /* the terminal wraps: a number that is cut lies */
    add_no_guarantee(cli, &out);
    json_object_foreach(json_object_get(node, "resources"), resource, part)
        add_nearly_gone(&out, resource, part);
    return cli_out(&out, err);
}

command_row cmd_node_show = {
    .name = "node show",
    .summary = "show what the node has, has promised and oversold",
    .usage = "",
    .run = run_node_show,
    .detail =
        "GUARANTEED is the sum of what all VEs are guaranteed, stopped ones too; it never exceeds "
        "the node less its RESERVE (reserve.memory and reserve.cpu of terem.conf), and LEFT is "
        "what may still be guaranteed. LIMITS is the sum of all limits, which may exceed the "
        "node: OVERSOLD tells by how much, and how many VEs have no limit at all. Processors are "
        "in percent of one core.",
    .examples = {"terem node show"},
};

static int run_version(struct cli *cli, const struct args *a, struct err *err)
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

command_row cmd_version = {
    .name = "version",
    .summary = "print the versions of terem and of teremd",
    .usage = "",
    .run = run_version,
    .detail = "terem --version prints only its own.",
    .examples = {"terem version"},
};
