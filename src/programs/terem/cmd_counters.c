/* SPDX-License-Identifier: GPL-2.0-or-later */
/* counters: what VEs hold of limited resources, and what they were refused. */
#include "base/cleanup.h"
#include "base/number.h"
#include "cli.h"
#include "command.h"
#include "param/param.h"
#include "text.h"

#include <inttypes.h>

/* What a kernel cannot count is never shown as 0. */
#define UNCOUNTED "?"

/* In the unit of the row: "512M", "12.5%", "20ms", "50M/s"; how often is a bare number. */
static void add_number(struct str *s, const char *type, const char *member, uint64_t n)
{
    char buf[NUMBER_TEXT];
    if (str_eq(member, "failcnt"))
        str_add(s, "%" PRIu64, n);
    else if (str_eq(type, param_type_name(PARAM_SIZE)))
        str_add(s, "%s", number_format_size(n, buf));
    else if (str_eq(type, param_type_name(PARAM_IO)))
        str_add(s, "%s/s", number_format_size(n, buf));
    else if (str_eq(type, param_type_name(PARAM_RATE)))
        str_add(s, "%" PRIu64 "bit/s", n);
    else if (str_eq(type, param_type_name(PARAM_TIME)))
        str_add(s, "%s", number_format_time(n, buf));
    else if (str_eq(type, param_type_name(PARAM_PERCENT)))
        str_add(s, "%.4g%%", (double)n / 100);
    else
        str_add(s, "%" PRIu64, n);
}

/* null is `otherwise`. */
static void counter_cell(struct text_table *t, const json_t *row, const char *member,
                         const char *otherwise)
{
    const json_t *v = json_object_get(row, member);
    auto_str struct str s = str_init(64);
    if (json_is_integer(v))
        add_number(&s, cli_text(row, "type"), member, (uint64_t)json_integer_value(v));
    text_cell(t, json_is_integer(v) ? str_c(&s) : otherwise);
}

/* Keeps the rows that refused something. */
static void only_failed(json_t *rows)
{
    for (size_t i = json_array_size(rows); i-- > 0;)
        if (json_integer_value(json_object_get(json_array_get(rows, i), "failcnt")) == 0)
            json_array_remove(rows, i);
}

/* The rows that refused something, of every VE that runs, each with its name as "ve". */
static int all_failed(struct cli *cli, json_t *ret, struct err *err)
{
    auto_json json_t *list = NULL;
    const json_t *one;
    json_t *row;
    size_t i, k;
    int r = cli_call(cli, "GET", "/v1/counters?failed=true", NULL, &list, err);
    json_array_foreach(list, i, one)
    {
        json_t *rows = json_object_get(one, "counters");
        json_array_foreach(rows, k, row)
            json_object_set_new(row, "ve", json_string(cli_text(one, "ve")));
        json_array_extend(ret, rows);
    }
    return r;
}

/* Says which rows were not counted: "disk.inodes: not counted, …" for each reason that is not the
 * kernel's, once. */
static void say_uncounted(const struct cli *cli, struct str *out, const json_t *rows)
{
    static const char *const counted[] = {"held", "maxheld", "failcnt"};
    auto_json json_t *said = json_object();
    bool kernel = false;
    const json_t *row;
    size_t i;
    json_array_foreach(rows, i, row)
    {
        const char *why = cli_text(row, "uncounted");
        if (*why && !json_object_get(said, cli_text(row, "key"))) {
            json_object_set_new(said, cli_text(row, "key"), json_true());
            auto_str struct str s = str_init(TEXT_MAX);
            str_add(&s, "%s is not counted: %s", cli_text(row, "key"), why);
            text_add_wrapped(out, str_c(&s), 2, cli->out_tty ? cli_columns(1) : 0);
            str_add(out, "\n");
        }
        for (size_t k = 0; k < ARRAY_SIZE(counted); k++)
            kernel |= !*why && cli_is_null(row, counted[k]);
    }
    if (kernel)
        str_add(out, "%s: not counted on this kernel\n", UNCOUNTED);
}

static void counter_table(struct text_table *t, const json_t *rows)
{
    static const char *const heads[] = {"VE",      "COUNTER", "HELD",   "MAXHELD",
                                        "BARRIER", "LIMIT",   "FAILCNT"};
    const json_t *row;
    size_t i;
    for (i = 7 - t->columns; i < ARRAY_SIZE(heads); i++)
        text_cell(t, heads[i]);
    json_array_foreach(rows, i, row)
    {
        if (t->columns == 7)
            text_cell(t, cli_text(row, "ve"));
        text_cell(t, cli_text(row, "key"));
        counter_cell(t, row, "held", UNCOUNTED);
        counter_cell(t, row, "maxheld", UNCOUNTED);
        counter_cell(t, row, "barrier", NULL);
        counter_cell(t, row, "limit", "unlimited");
        counter_cell(t, row, "failcnt", UNCOUNTED);
    }
}

/* "memory.limit" a line; of all VEs "web1 memory.limit". */
static void quiet_rows(struct str *out, const json_t *rows)
{
    const json_t *row;
    size_t i;
    json_array_foreach(rows, i, row)
    {
        if (*cli_text(row, "ve")) {
            text_add(out, cli_text(row, "ve"));
            str_add(out, " ");
        }
        text_add(out, cli_text(row, "key"));
        str_add(out, "\n");
    }
}

static int fetch_one(struct cli *cli, const char *name, json_t **ret, struct err *err)
{
    auto_str struct str path = str_init(256);
    int r = cli_ve_path(&path, name, "/counters", err);
    return r < 0 ? r : cli_call(cli, "GET", str_c(&path), NULL, ret, err);
}

static int run_counters(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX);
    auto_table struct text_table t = {.columns = 6, .right = 0x3e};
    auto_json json_t *rows = a->n_pos ? NULL : json_array();
    if (!a->n_pos && !args_has(a, "failed"))
        return err_set(err, ERR_USAGE, "name a VE, or give --failed for all of them");
    int r = a->n_pos ? fetch_one(cli, a->pos[0], &rows, err) : all_failed(cli, rows, err);
    if (r < 0)
        return r;
    if (args_has(a, "failed"))
        only_failed(rows);
    if (cli->json)
        return cli_out_json(cli, rows, err);
    if (cli->quiet) {
        quiet_rows(&out, rows);
        return cli_out(&out, err);
    }
    if (!a->n_pos) {
        t.columns = 7;
        t.right = 0x7c;
    }
    counter_table(&t, rows);
    cli_add_table(cli, &out, &t, false,
                  json_array_size(rows) ? NULL : "No limit has refused anything.");
    say_uncounted(cli, &out, rows);
    return cli_out(&out, err);
}

static const struct option_spec counters_options[] = {
    {"failed", 0, NULL, "only those whose limit said no; without VE, of all that run"},
    END,
};

command_row cmd_counters = {
    .name = "counters",
    .summary = "show what a VE holds of each limited resource",
    .usage = "VE | --failed",
    .max = 1,
    .complete = COMPLETE_VES,
    .options = counters_options,
    .run = run_counters,
    .detail = "HELD now and MAXHELD at most since its start, beside BARRIER (the soft limit) and "
              "LIMIT; FAILCNT is how often the limit said no. What is not counted here "
              "is shown as ?, with the reason below. The VE itself reads the same in "
              "/proc/fs/user_beancounters.",
    .examples = {"terem counters web1", "terem counters --failed"},
};
