/* SPDX-License-Identifier: GPL-2.0-or-later */
/* list, show. */
#include "base/cleanup.h"
#include "base/number.h"
#include "cli.h"
#include "command.h"
#include "text.h"
#include "ve_text.h"

#include <stdlib.h>
#include <string.h>

struct column {
    const char *name;
    const char *head;
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

static void add_address(struct str *s, const json_t *ve, int64_t now)
{
    text_add(s, json_string_value(json_array_get(json_object_get(ve, "addresses"), 0)));
}

static void add_memory(struct str *s, const json_t *ve, int64_t now)
{
    ve_text_memory(s, ve);
}

static void add_pids(struct str *s, const json_t *ve, int64_t now)
{
    ve_text_pids(s, ve);
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
    {"name", "NAME", false, add_name},
    {"id", "ID", true, add_id},
    {"state", "STATE", false, add_state},
    {"kind", "KIND", false, add_kind},
    {"template", "TEMPLATE", false, add_template},
    {"address", "ADDRESS", false, add_address},
    {"memory", "MEMORY", true, add_memory},
    {"pids", "PIDS", true, add_pids},
    {"uptime", "UPTIME", false, add_uptime},
    {"labels", "LABELS", false, add_labels},
    {"created", "CREATED", false, add_created},
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

static int fetch(struct cli *cli, const struct args *a, json_t **ret, struct err *err)
{
    auto_str struct str path = str_init(4096);
    str_add(&path, "/v1/ves");
    int r = cli_label_query(&path, args_get(a, "label"), err);
    return r < 0 ? r : cli_call(cli, "GET", str_c(&path), NULL, ret, err);
}

int cmd_list(struct cli *cli, const struct args *a, struct err *err)
{
    const struct column *chosen[ARRAY_SIZE(columns)];
    auto_table struct text_table t = {0};
    auto_str struct str out = str_init(TEXT_MAX);
    auto_json json_t *ves = NULL;
    const char *names = args_get(a, "columns");
    int64_t now = text_now();
    size_t n, i;
    json_t *ve;
    int r =
        choose(names ? names : "name,state,address,template,memory,pids,uptime", chosen, &n, err);
    if (r == 0)
        r = fetch(cli, a, &ves, err);
    if (r < 0)
        return r;
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
    add_head(&t, chosen, n);
    json_array_foreach(ves, i, ve)
    {
        for (size_t c = 0; c < n; c++) {
            auto_str struct str cell = str_init(TEXT_MAX);
            chosen[c]->add(&cell, ve, now);
            text_cell(&t, str_c(&cell));
        }
    }
    if (json_array_size(ves) == 0 && cli->out_tty && args_has(a, "label"))
        str_add(&out, "No VE has this label.\n");
    else if (json_array_size(ves) == 0 && cli->out_tty)
        str_add(&out, "There is no VE here; terem create makes one.\n");
    else
        text_table_render(&t, &out, 0);
    return cli_out(&out, err);
}

int cmd_show(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_str struct str out = str_init(TEXT_MAX);
    auto_json json_t *ve = NULL;
    int r = cli_ve_path(&path, a->pos[0], "", err);
    if (r == 0)
        r = cli_call(cli, "GET", str_c(&path), NULL, &ve, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, ve, err);
    ve_text_show(&out, ve, text_now(), args_has(a, "all"));
    return cli_out(&out, err);
}
