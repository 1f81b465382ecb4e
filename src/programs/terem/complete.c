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

int cmd_complete(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX);
    const char *what = a->pos[0];
    if (str_eq(what, "ves")) {
        names(cli, "/v1/ves", "name", &out);
    } else if (str_eq(what, "templates")) {
        names(cli, "/v1/templates", "name", &out);
    } else if (str_eq(what, "jobs")) {
        names(cli, "/v1/jobs", "id", &out);
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
