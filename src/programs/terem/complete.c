/* SPDX-License-Identifier: GPL-2.0-or-later */
/* _complete: words for completion, one a line; silent when teremd does not answer. */
#include "base/cleanup.h"
#include "cli.h"
#include "command.h"
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

/* The shell takes the words apart and expands them: values that it would act upon stay out. */
static void labels(struct cli *cli, struct str *out)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789._:/@%+,-";
    auto_json json_t *list = NULL, *seen = json_object();
    size_t i;
    json_t *ve, *value;
    const char *key;
    if (cli_call(cli, "GET", "/v1/ves", NULL, &list, NULL) < 0)
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

/* First words of commands, each group once; or the second words of one group. */
static void words(const char *group, struct str *out)
{
    size_t n = group ? strlen(group) : 0;
    for (const struct command_group *g = command_groups; g->name && !group; g++)
        str_add(out, "%s\n", g->name);
    for (size_t i = 0; i < command_table_size; i++) {
        const char *name = command_table[i].name;
        if (help_hidden(&command_table[i]))
            continue;
        if (!group && !strchr(name, ' '))
            str_add(out, "%s\n", name);
        else if (group && str_starts(name, group) && name[n] == ' ')
            str_add(out, "%s\n", name + n + 1);
    }
}

int cmd_complete(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX);
    const char *what = a->pos[0];
    if (str_eq(what, "ves")) {
        names(cli, "/v1/ves", "name", &out);
    } else if (str_eq(what, "templates")) {
        names(cli, "/v1/templates", "name", &out);
    } else if (str_eq(what, "profiles")) {
        names(cli, "/v1/profiles", "name", &out);
    } else if (str_eq(what, "jobs")) {
        names(cli, "/v1/jobs", "id", &out);
    } else if (str_eq(what, "labels")) {
        labels(cli, &out);
    } else if (str_eq(what, "words")) {
        words(a->n_pos > 1 ? a->pos[1] : NULL, &out);
    } else if (str_eq(what, "params")) {
        for (size_t i = 0; i < param_table_size; i++)
            if (!(param_table[i].flags & PARAM_PLANNED))
                str_add(&out, "%s\n", param_table[i].key);
    } else if (str_eq(what, "commands")) {
        for (size_t i = 0; i < command_table_size; i++)
            if (!help_hidden(&command_table[i]))
                str_add(&out, "%s\n", command_table[i].name);
    } else {
        return err_set(err, ERR_USAGE, "use: terem _complete %s", a->command->usage);
    }
    return cli_out(&out, err);
}
