/* SPDX-License-Identifier: GPL-2.0-or-later */
/* usage. */
#include "base/cleanup.h"
#include "base/name.h"
#include "base/number.h"
#include "cli.h"
#include "command.h"
#include "text.h"

#include <time.h>

/* A day or a minute of UTC, or how long ago; milliseconds. */
static int parse_when(const char *option, const char *text, json_int_t *ret, struct err *err)
{
    static const char *const formats[] = {"%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S",
                                          "%Y-%m-%dT%H:%M:%SZ"};
    uint64_t ago;
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        struct tm tm = {0};
        const char *end = strptime(text, formats[i], &tm);
        time_t t = end && !*end ? timegm(&tm) : -1;
        if (t >= 0) {
            *ret = (json_int_t)t * 1000;
            return 0;
        }
    }
    if (number_parse_time(text, &ago, &(struct err){0}) == 0 && (json_int_t)ago <= text_now()) {
        *ret = text_now() - (json_int_t)ago;
        return 0;
    }
    return err_set(err, ERR_USAGE,
                   "%s: \"%.40s\" is no time; give one of UTC such as 2026-11-01 or "
                   "2026-11-01T18:30, or how long ago, such as 7d",
                   option, text);
}

static json_int_t month_begins(void)
{
    time_t t = (time_t)(text_now() / 1000);
    struct tm tm;
    gmtime_r(&t, &tm);
    tm.tm_mday = 1;
    tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
    return (json_int_t)timegm(&tm) * 1000;
}

/* brief: as --from takes it; sums begin with a minute. */
static void add_start(struct str *s, const json_t *sum, bool brief)
{
    char buf[32];
    time_t t = (time_t)(cli_int(sum, "start") / 1000);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(buf, sizeof(buf), brief ? "%Y-%m-%dT%H:%M" : "%Y-%m-%dT%H:%M:%SZ", &tm);
    str_add(s, "%s", buf);
}

/* Names have no comma, quote or line end. */
static int print_csv(const json_t *sums, struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX);
    size_t i;
    json_t *v;
    str_add(&out, "start,ve,name,meter,class,amount,packets\n");
    json_array_foreach(sums, i, v)
    {
        add_start(&out, v, false);
        str_add(&out, ",%" JSON_INTEGER_FORMAT ",", cli_int(v, "ve"));
        text_add(&out, cli_text(v, "name"));
        str_add(&out, ",%s,", cli_text(v, "meter"));
        text_add(&out, cli_text(v, "class"));
        str_add(&out, ",%" JSON_INTEGER_FORMAT ",%" JSON_INTEGER_FORMAT "\n", cli_int(v, "amount"),
                cli_int(v, "packets"));
    }
    return cli_out(&out, err);
}

static int print_table(const struct cli *cli, const json_t *sums, struct err *err)
{
    static const char *const heads[] = {"BEGAN (UTC)", "ID",    "VE",     "METER",
                                        "CLASS",       "BYTES", "PACKETS"};
    auto_str struct str out = str_init(TEXT_MAX);
    auto_table struct text_table t = {.columns = ARRAY_SIZE(heads), .right = 0x62};
    size_t i;
    json_t *v;
    for (i = 0; i < ARRAY_SIZE(heads); i++)
        text_cell(&t, heads[i]);
    json_array_foreach(sums, i, v)
    {
        auto_str struct str start = str_init(64);
        add_start(&start, v, true);
        text_cell(&t, str_c(&start));
        text_cellf(&t, "%" JSON_INTEGER_FORMAT, cli_int(v, "ve"));
        text_cell(&t, cli_text_or(v, "name", "-"));
        text_cell(&t, cli_text(v, "meter"));
        text_cell(&t, cli_text_or(v, "class", "-"));
        text_cellf(&t, "%" JSON_INTEGER_FORMAT, cli_int(v, "amount"));
        text_cellf(&t, "%" JSON_INTEGER_FORMAT, cli_int(v, "packets"));
    }
    cli_add_table(cli, &out, &t, true,
                  json_array_size(sums)
                      ? NULL
                      : "Nothing is recorded for that time; a record is written every 5 minutes.");
    return cli_out(&out, err);
}

static int run_usage(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(512);
    auto_json json_t *sums = NULL;
    const char *from = args_get(a, "from"), *to = args_get(a, "to"), *by = args_get(a, "by");
    json_int_t begin = month_begins(), end = 0;
    if ((from && parse_when("--from", from, &begin, err) < 0) ||
        (to && parse_when("--to", to, &end, err) < 0) ||
        (a->n_pos && name_check_ve(a->pos[0], err) < 0))
        return -err->kind;
    if (args_has(a, "csv") && cli->json)
        return err_set(err, ERR_USAGE, "--csv and --json are two forms; choose one");
    if (to && end <= begin)
        return err_set(err, ERR_USAGE, "--to must be later than --from");
    if (by && !str_eq(by, "5m") && !str_eq(by, "hour") && !str_eq(by, "day") &&
        !str_eq(by, "month"))
        return err_set(err, ERR_USAGE, "--by: choose 5m, hour, day or month, not %.32s", by);
    str_add(&path, "/v1/usage/sums?from=%" JSON_INTEGER_FORMAT "&by=%s", begin, by ? by : "month");
    if (to)
        str_add(&path, "&to=%" JSON_INTEGER_FORMAT, end);
    if (a->n_pos)
        str_add(&path, "&ve=%s", a->pos[0]);
    int r = cli_call(cli, "GET", str_c(&path), NULL, &sums, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, sums, err);
    return args_has(a, "csv") ? print_csv(sums, err) : print_table(cli, sums, err);
}

static const struct option_spec options[] = {
    {"from", 0, "TIME",
     "what began at this time of UTC or later: 2026-11-01, 2026-11-01T18:30, or "
     "how long ago, as 7d (default: the first of this month)"},
    {"to", 0, "TIME", "what began before this time (default: now)"},
    {"by", 0, "TIME", "add up by 5m, hour, day or month (default: month)", COMPLETE_WORDS,
     "5m hour day month"},
    {"csv", 0, NULL, "print comma-separated values"},
    END,
};

command_row cmd_usage = {
    .name = "usage",
    .summary = "show what VEs have used, as bills are made from",
    .usage = "[VE]",
    .max = 1,
    .complete = COMPLETE_VES,
    .options = options,
    .run = run_usage,
    .detail = "Bytes and packets that crossed the cable of the VE, or of each that is or was "
              "there, by destination class: net.out it sent, net.in it got. They are written down "
              "every five minutes, also of a VE that is destroyed then; what was used since the "
              "last time is not shown yet. Days and months are those of UTC. A VE's number (ID) "
              "is never given again, its name may be.",
    .examples = {"terem usage", "terem usage web1 --from 7d --by day",
                 "terem usage --from 2026-10-01 --to 2026-11-01 --csv >october.csv"}};
