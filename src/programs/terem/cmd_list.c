/* SPDX-License-Identifier: GPL-2.0-or-later */
/* list, show. */
#include "base/cleanup.h"
#include "base/name.h"
#include "base/number.h"
#include "cli.h"
#include "command.h"
#include "disk_text.h"
#include "text.h"
#include "ve_text.h"

#include <stdlib.h>
#include <string.h>

struct column {
    const char *name;
    const char *head;
    const char *field; /* of the VE, that it is made of */
    bool right;
    void (*add)(struct str *s, const json_t *ve, int64_t now);
};

static void add_name(struct str *s, const json_t *ve, int64_t now)
{
    text_add(s, cli_text(ve, "name"));
}

static void add_id(struct str *s, const json_t *ve, int64_t now)
{
    str_add(s, "%" JSON_INTEGER_FORMAT, cli_int(ve, "id"));
}

static void add_state(struct str *s, const json_t *ve, int64_t now)
{
    text_add(s, cli_text(ve, "state"));
}

static void add_kind(struct str *s, const json_t *ve, int64_t now)
{
    text_add(s, cli_text(ve, "kind"));
}

static void add_template(struct str *s, const json_t *ve, int64_t now)
{
    text_add(s, cli_text(ve, "template"));
}

static void add_pool(struct str *s, const json_t *ve, int64_t now)
{
    text_add(s, cli_text(ve, "pool"));
}

/* Its own pair comes first: the second IPv4 address is of a pool, by which others reach it. */
static void add_address(struct str *s, const json_t *ve, int64_t now)
{
    const json_t *addresses = json_object_get(ve, "addresses");
    const char *shown = json_string_value(json_array_get(addresses, 0));
    for (size_t i = 0, v4 = 0; v4 < 2 && i < json_array_size(addresses); i++) {
        const char *text = json_string_value(json_array_get(addresses, i));
        v4 += !strchr(text, ':');
        shown = v4 == 2 ? text : shown;
    }
    text_add(s, shown);
}

static void add_memory(struct str *s, const json_t *ve, int64_t now)
{
    ve_text_memory(s, ve);
}

static void add_pids(struct str *s, const json_t *ve, int64_t now)
{
    ve_text_pids(s, ve);
}

static void add_disk(struct str *s, const json_t *ve, int64_t now)
{
    disk_text_used(s, ve);
}

static void add_uptime(struct str *s, const json_t *ve, int64_t now)
{
    char buf[NUMBER_TEXT];
    json_int_t started = cli_int(ve, "started");
    if (!started)
        str_add(s, "-");
    else
        str_add(
            s, "%s",
            number_format_time((uint64_t)(now > started ? now - started : 0) / 1000 * 1000, buf));
}

static void add_labels(struct str *s, const json_t *ve, int64_t now)
{
    ve_text_pairs(s, json_object_get(ve, "labels"), ",");
}

static void add_created(struct str *s, const json_t *ve, int64_t now)
{
    text_add_time(s, cli_int(ve, "created"));
}

static const struct column columns[] = {
    {"name", "NAME", "name", false, add_name},
    {"id", "ID", "id", true, add_id},
    {"state", "STATE", "state", false, add_state},
    {"kind", "KIND", "kind", false, add_kind},
    {"template", "TEMPLATE", "template", false, add_template},
    {"pool", "POOL", "pool", false, add_pool},
    {"address", "ADDRESS", "addresses", false, add_address},
    {"memory", "MEMORY", "usage.memory", true, add_memory},
    {"pids", "PIDS", "usage.pids", true, add_pids},
    {"disk", "DISK", "disk", true, add_disk},
    {"uptime", "UPTIME", "started", false, add_uptime},
    {"labels", "LABELS", "labels", false, add_labels},
    {"created", "CREATED", "created", false, add_created},
};

static int choose(const char *text, const struct column **chosen, size_t *n, struct err *err)
{
    *n = 0;
    while (*text) {
        size_t len = strcspn(text, ","), i;
        for (i = 0; i < ARRAY_SIZE(columns); i++)
            if (strlen(columns[i].name) == len && memcmp(columns[i].name, text, len) == 0)
                break;
        if (i == ARRAY_SIZE(columns) || *n == ARRAY_SIZE(columns)) {
            auto_str struct str s = str_init(512);
            for (i = 0; i < ARRAY_SIZE(columns); i++)
                str_add(&s, "%s%s", i ? ", " : "", columns[i].name);
            return err_set(err, ERR_USAGE, "--columns takes names among %s, with commas between",
                           str_c(&s));
        }
        chosen[(*n)++] = &columns[i];
        text += len;
        text += *text == ',';
    }
    return *n ? 0 : err_set(err, ERR_USAGE, "--columns needs a name");
}

static void add_head(struct text_table *t, const struct column *const *chosen, size_t n)
{
    t->columns = n;
    for (size_t i = 0; i < n; i++) {
        text_cell(t, chosen[i]->head);
        t->right |= (unsigned)chosen[i]->right << i;
    }
}

/* Only what is shown is asked for; --json shows all. */
static int fetch(struct cli *cli, const struct args *a, const struct column *const *chosen,
                 size_t n, json_t **ret, struct err *err)
{
    auto_str struct str fields = str_init(1024);
    str_add(&fields, "name");
    for (size_t i = 0; i < n && !cli->quiet; i++)
        str_add(&fields, ",%s", chosen[i]->field);
    if (args_has(a, "state"))
        str_add(&fields, ",state");
    return cli_list_ves(cli, args_get(a, "label"), cli->json ? NULL : str_c(&fields), ret, err);
}

/* As the API has them; tests/test_cli.py compares the two. */
static const char *const states[] = {"running", "stopped",  "sleeping", "paused",
                                     "broken",  "starting", "stopping", "repair"};

static const char *next_state(void *ctx, size_t i)
{
    return i < ARRAY_SIZE(states) ? states[i] : NULL;
}

static int check_state(const char *text, struct err *err)
{
    auto_str struct str shown = str_init(256), all = str_init(256);
    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        if (!text || str_eq(text, states[i]))
            return 0;
        str_add(&all, "%s%s", !i ? "" : i + 1 < ARRAY_SIZE(states) ? ", " : " or ", states[i]);
    }
    str_escape(&shown, text, strnlen(text, 40));
    const char *near = name_suggest(text, next_state, NULL);
    return err_set(err, ERR_USAGE, "there is no state \"%s\"; %s %s%s", str_c(&shown),
                   near ? "did you mean" : "choose", near ? near : str_c(&all), near ? "?" : "");
}

static void keep_state(json_t *ves, const char *state)
{
    for (size_t i = json_array_size(ves); state && i-- > 0;)
        if (!str_eq(cli_text(json_array_get(ves, i), "state"), state))
            json_array_remove(ves, i);
}

/* What stands on a terminal instead of an empty list. */
static void add_none(struct str *s, const struct args *a)
{
    const char *state = args_get(a, "state");
    bool label = args_has(a, "label");
    if (state)
        str_add(s, "No VE%s is %s%s.", label ? " with this label" : "",
                str_eq(state, "repair") ? "in " : "", state);
    else
        str_add(s, "%s",
                label ? "No VE has this label." : "There is no VE here; terem create makes one.");
}

static void fill(struct text_table *t, const struct column *const *chosen, size_t n, json_t *ves)
{
    int64_t now = text_now();
    size_t i;
    json_t *ve;
    add_head(t, chosen, n);
    json_array_foreach(ves, i, ve)
    {
        for (size_t c = 0; c < n; c++) {
            auto_str struct str cell = str_init(TEXT_MAX);
            chosen[c]->add(&cell, ve, now);
            text_cell(t, str_c(&cell));
        }
    }
}

/* The usual columns, and those that are left on a terminal where they do not fit. */
static const char *const usual[] = {"name,state,address,template,memory,disk,pids,uptime",
                                    "name,state,address,template,memory,pids,uptime",
                                    "name,state,address,memory,pids,uptime"};

static int run_list(struct cli *cli, const struct args *a, struct err *err)
{
    const struct column *chosen[ARRAY_SIZE(columns)];
    auto_table struct text_table t = {0};
    auto_str struct str out = str_init(TEXT_MAX), none = str_init(256);
    auto_json json_t *ves = NULL;
    const char *names = args_get(a, "columns");
    size_t n, i;
    json_t *ve;
    int r = choose(names ? names : usual[0], chosen, &n, err);
    if (r == 0)
        r = check_state(args_get(a, "state"), err);
    if (r == 0)
        r = fetch(cli, a, chosen, n, &ves, err);
    if (r < 0)
        return r;
    keep_state(ves, args_get(a, "state"));
    if (cli->json)
        return cli_out_json(cli, ves, err);
    if (cli->quiet) {
        json_array_foreach(ves, i, ve)
        {
            text_add(&out, cli_text(ve, "name"));
            str_add(&out, "\n");
        }
        return cli_out(&out, err);
    }
    fill(&t, chosen, n, ves);
    for (i = 1;
         !names && cli->out_tty && i < ARRAY_SIZE(usual) && !text_table_fits(&t, cli_columns(1));
         i++) {
        choose(usual[i], chosen, &n, NULL);
        text_table_done(&t);
        t = (struct text_table){0};
        fill(&t, chosen, n, ves);
    }
    add_none(&none, a);
    cli_add_table(cli, &out, &t, !names, json_array_size(ves) ? NULL : str_c(&none));
    return cli_out(&out, err);
}

static const struct option_spec list_options[] = {
    {"label", 'l', "K=V", "only VEs that have this label", COMPLETE_LABELS},
    {"state", 's', "STATE",
     "only VEs in this state: running, stopped, sleeping, paused, broken, starting, stopping or "
     "repair",
     COMPLETE_WORDS, "running stopped sleeping paused broken starting stopping repair"},
    {"columns", 'c', "NAMES",
     "which columns: among name, id, state, kind, template, pool, address, memory, pids, disk, "
     "uptime, labels, created",
     COMPLETE_WORDS,
     "name id state kind template pool address memory pids disk uptime labels created"},
    END,
};

command_row cmd_list = {
    .name = "list",
    .summary = "list the VEs",
    .usage = "",
    .options = list_options,
    .run = run_list,
    .detail =
        "ADDRESS is that of an address pool, where the VE has one of IPv4, else its own; terem "
        "show has all. With --quiet only the names, one a line.",
    .examples = {"terem list", "terem list --label tier=web --columns name,state,labels",
                 "terem list --state stopped", "terem list --json | jq -r '.[].addresses[0]'"},
};

static int run_show(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256), ports = str_init(256), outdated = str_init(1024);
    auto_str struct str out = str_init(TEXT_MAX);
    auto_json json_t *ve = NULL, *published = NULL;
    int r = cli_ve_path(&path, a->pos[0], "", err);
    if (r == 0)
        r = cli_call(cli, "GET", str_c(&path), NULL, &ve, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, ve, err);
    size_t width = cli->out_tty ? cli_columns(1) : 0;
    str_add(&ports, "/v1/network/ports?ve=%s", a->pos[0]);
    r = cli_call(cli, "GET", str_c(&ports), NULL, &published, err);
    if (r < 0)
        return r;
    ve_text_show(&out, ve, published, text_now(), args_has(a, "all"), width);
    cli_add_outdated(cli, &outdated, ve);
    if (outdated.len) {
        str_add(&out, "outdated    ");
        text_add_wrapped(&out, str_c(&outdated), 12, width);
        str_add(&out, "\n");
    }
    return cli_out(&out, err);
}

static const struct option_spec show_options[] = {
    {"all", 'a', NULL, "every parameter in force, with where it comes from"},
    END,
};

command_row cmd_show = {
    .name = "show",
    .summary = "show all about one VE",
    .usage = "VE",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_VES,
    .options = show_options,
    .run = run_show,
    .detail = "Prints its settings, addresses, private networks, published ports, usage, and how "
              "it ended last. Parameters that the "
              "VE and its profile do not set are shown with --all.",
    .examples = {"terem show web1", "terem show --all web1"},
};
