/* SPDX-License-Identifier: GPL-2.0-or-later */
/* _complete: words for completion, one a line; silent when teremd does not answer. */
#include "base/cleanup.h"
#include "cli.h"
#include "command.h"
#include "event_text.h"
#include "help.h"
#include "param/param.h"
#include "text.h"

#include <string.h>

static void names(struct cli *cli, const char *path, const char *member, struct str *out)
{
    auto_json json_t *list = NULL;
    size_t i;
    json_t *v;
    if (cli_call(cli, "GET", path, NULL, &list, NULL) < 0)
        return;
    json_array_foreach(list, i, v)
    {
        const json_t *m = json_object_get(v, member);
        if (json_is_integer(m))
            str_add(out, "%" JSON_INTEGER_FORMAT, json_integer_value(m));
        else
            text_add(out, json_string_value(m));
        str_add(out, "\n");
    }
}

/* Of the last word that is a VE: fish does not know which of them that is. */
static void snapshots(struct cli *cli, const struct args *a, struct str *out)
{
    for (size_t i = a->n_pos; i-- > 1 && !out->len;) {
        auto_str struct str path = str_init(256);
        if (cli_ve_path(&path, a->pos[i], "/snapshots", &(struct err){0}) == 0)
            names(cli, str_c(&path), "name", out);
    }
}

/* The row of each class: "net.out.europe". */
static void classed(const char *key, const json_t *classes, struct str *out)
{
    size_t i, n = strlen(key) - strlen("CLASS");
    json_t *class;
    json_array_foreach((json_t *)classes, i, class)
    {
        str_add(out, "%.*s", (int)n, key);
        text_add(out, cli_text(class, "name"));
        str_add(out, "\n");
    }
}

/* Keys that this node can set. */
static void assignments(struct cli *cli, struct str *out)
{
    auto_json json_t *rows = NULL, *classes = NULL;
    size_t i;
    json_t *row;
    if (cli_call(cli, "GET", "/v1/params", NULL, &rows, NULL) < 0 ||
        cli_call(cli, "GET", "/v1/network/classes", NULL, &classes, NULL) < 0)
        return;
    json_array_foreach(rows, i, row)
    {
        const char *key = cli_text(row, "key");
        if (!json_is_true(json_object_get(row, "here")))
            continue;
        if (str_ends(key, ".CLASS"))
            classed(key, classes, out);
        else
            str_add(out, "%s\n", key);
    }
}

static void params(struct str *out)
{
    for (size_t i = 0; i < param_table_size; i++)
        str_add(out, "%s\n", param_table[i].key);
}

/* The shell takes the words apart and expands them: values that it would act upon stay out. */
static void labels(struct cli *cli, struct str *out)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789._:/@%+,-";
    auto_json json_t *list = NULL, *seen = json_object();
    size_t i;
    json_t *ve, *value;
    const char *key;
    if (cli_list_ves(cli, NULL, "labels", &list, NULL) < 0)
        return;
    json_array_foreach(list, i, ve) json_object_foreach(json_object_get(ve, "labels"), key, value)
    {
        const char *text = json_string_value(value);
        auto_str struct str word = str_init(1024);
        str_add(&word, "%s=%s", key, text ? text : "");
        if (!text || text[strspn(text, plain)] || key[strspn(key, plain)] || word.failed ||
            json_object_get(seen, str_c(&word)))
            continue;
        json_object_set_new(seen, str_c(&word), json_true());
        str_add(out, "%s\n", str_c(&word));
    }
}

/* Names and numbers of what there is. */
static const struct {
    const char *what, *path, *member;
} lists[] = {
    {"ves", "/v1/ves?fields=name", "name"},
    {"templates", "/v1/templates", "name"},
    {"profiles", "/v1/profiles", "name"},
    {"classes", "/v1/network/classes", "name"},
    {"address-pools", "/v1/network/pools", "name"},
    {"addresses", "/v1/network/addresses", "address"},
    {"private-networks", "/v1/network/private", "name"},
    {"ports", "/v1/network/ports", "id"},
    {"pools", "/v1/pools", "name"},
    {"destinations", "/v1/pools", "name"},
    {"destinations", "/v1/ves?fields=name", "name"},
    {"jobs", "/v1/jobs", "id"},
};

static int run_complete(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX);
    const char *what = a->pos[0];
    bool listed = false;
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        if (!str_eq(what, lists[i].what))
            continue;
        names(cli, lists[i].path, lists[i].member, &out);
        listed = true;
    }
    if (listed)
        return cli_out(&out, err);
    if (str_eq(what, "snapshots")) {
        snapshots(cli, a, &out);
    } else if (str_eq(what, "bases")) {
        str_add(&out, "busybox\ndebian-12\ndebian-13\n");
    } else if (str_eq(what, "labels")) {
        labels(cli, &out);
    } else if (str_eq(what, "words")) {
        command_words(&out, a->n_pos > 1 ? a->pos[1] : NULL, "\n");
        str_add(&out, "%s", out.len ? "\n" : "");
    } else if (str_eq(what, "params")) {
        params(&out);
    } else if (str_eq(what, "assignments")) {
        assignments(cli, &out);
        if (!out.len) /* teremd does not answer */
            params(&out);
    } else if (str_eq(what, "events")) {
        const char *type;
        for (size_t i = 0; (type = event_type(NULL, i)); i++)
            str_add(&out, "%s\n", type);
    } else if (str_eq(what, "commands")) {
        for (size_t i = 0; i < command_table_size; i++)
            if (!help_hidden(command_table[i]))
                str_add(&out, "%s\n", command_table[i]->name);
    } else {
        return err_set(err, ERR_USAGE, "use: terem _complete %s", a->command->usage);
    }
    return cli_out(&out, err);
}

command_row cmd_complete = {
    .name = "_complete",
    .summary = "print the words that may stand here",
    .usage = "ves|templates|bases|profiles|classes|pools|address-pools|private-networks|ports|"
             "addresses|destinations|jobs|events|params|assignments|labels|commands|words "
             "[GROUP]|snapshots VE",
    .min = 1,
    .max = 3,
    .run = run_complete,
    .detail = "For completion scripts.",
};
