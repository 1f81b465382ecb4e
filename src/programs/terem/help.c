/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "help.h"

#include "base/cleanup.h"
#include "cli.h"
#include "command.h"
#include "text.h"

#include <string.h>
#include <unistd.h>

/* Words of text in lines of at most `columns` cells, each after `indent` spaces. */
static void wrap(struct str *s, const char *text, size_t indent, size_t columns)
{
    size_t at = 0;
    while (*text) {
        if (text[0] == '\n' && text[1] == '\n') {
            str_add(s, "\n\n");
            at = 0;
            text += 2;
            continue;
        }
        size_t n = strcspn(text, " \n"), w = text_width(text, n);
        if (at && at + 1 + w > columns) {
            str_add(s, "\n");
            at = 0;
        }
        if (at == 0) {
            str_add(s, "%*s", (int)indent, "");
            at = indent;
        } else {
            str_add(s, " ");
            at++;
        }
        str_add_bytes(s, text, n);
        at += w;
        text += n;
        while (*text == ' ')
            text++;
    }
    str_add(s, "\n");
}

static void option_lines(struct str *s, const struct option_spec *options, size_t columns)
{
    for (const struct option_spec *o = options; o && o->name; o++) {
        auto_str struct str head = str_init(256), text = str_init(1024);
        if (o->letter)
            str_add(&head, "  -%c, --%s", o->letter, o->name);
        else
            str_add(&head, "      --%s", o->name);
        if (o->arg)
            str_add(&head, " %s", o->arg);
        wrap(&text, o->summary, 28, columns);
        /* The summary begins on the option's own line where there is room. */
        if (head.len < 27)
            str_add(s, "%-28s%s", str_c(&head), str_c(&text) + 28);
        else
            str_add(s, "%s\n%s", str_c(&head), str_c(&text));
    }
}

/* Of those that are shown; g NULL: of all. */
static bool is_in(const struct command *c, const struct command_group *g)
{
    size_t n = g ? strlen(g->name) : 0;
    return !help_hidden(c) && (!g || (str_starts(c->name, g->name) && c->name[n] == ' '));
}

/* Commands below each other, their summaries in one column: those of a group, or all, under their
 * headings. */
static void command_lines(struct str *s, const struct command_group *g)
{
    size_t width = 0;
    for (int print = 0; print < 2; print++)
        for (size_t i = 0; i < command_table_size; i++) {
            const struct command *c = command_table[i];
            size_t len = strlen(c->name);
            if (!is_in(c, g))
                continue;
            const char *title = g ? NULL : command_heading(c);
            if (print && title)
                str_add(s, "%s%s:\n", i ? "\n" : "", title);
            if (print)
                str_add(s, "  %-*s  %s\n", (int)width, c->name, c->summary);
            else if (len > width)
                width = len;
        }
}

void help_overview(struct str *s)
{
    str_add(s, "terem — isolated servers on one machine\n\n"
               "Usage: terem [--root DIR] COMMAND [OPTION...] [WORD...]\n\n");
    command_lines(s, NULL);
    str_add(s, "\nOptions of every command:\n");
    option_lines(s, command_global_options, 80);
    str_add(s, "\nterem help COMMAND explains one; terem(1) explains all.\n");
}

void help_group(struct str *s, const struct command_group *g)
{
    str_add(s, "terem %s — %s\n\n", g->name, g->summary);
    command_lines(s, g);
    str_add(s, "\nterem help %s COMMAND explains one of them.\n", g->name);
}

void help_command(struct str *s, const struct command *c, size_t columns)
{
    const struct command_group *g = command_group_find(c->name);
    if (columns > 100)
        columns = 100;
    auto_str struct str usage = str_init(1024);
    str_add(s, "terem %s — %s\n\nUsage: terem ", c->name, c->summary);
    str_add(&usage, "%s [OPTION...]%s%s", c->name, *c->usage ? " " : "", c->usage);
    text_add_wrapped(s, str_c(&usage), strlen("Usage: terem "), columns);
    str_add(s, "\n\n");
    wrap(s, c->detail, 0, columns);
    if (g) {
        str_add(s, "\nCommands:\n");
        command_lines(s, g);
    }
    if (c->options) {
        str_add(s, "\nOptions:\n");
        option_lines(s, c->options, columns);
    }
    str_add(s, "\nOptions of every command:\n");
    option_lines(s, command_global_options, columns);
    if (c->examples[0])
        str_add(s, "\nExamples:\n");
    for (size_t i = 0; i < ARRAY_SIZE(c->examples) && c->examples[i]; i++)
        str_add(s, "  %s\n", c->examples[i]);
    str_add(s, "\nExit status:\n");
    wrap(s, c->status ? c->status : "0: done, 1: failed, 2: wrong usage.", 2, columns);
}

static json_t *command_json(const struct command *c)
{
    json_t *options = json_array();
    for (const struct option_spec *o = c->options; o && o->name; o++)
        json_array_append_new(options,
                              json_pack("{s:s, s:o, s:s?, s:s}", "name", o->name, "letter",
                                        o->letter ? json_stringn(&o->letter, 1) : json_null(),
                                        "value", o->arg, "summary", o->summary));
    return json_pack("{s:s, s:s, s:s, s:s, s:o}", "name", c->name, "usage", c->usage, "summary",
                     c->summary, "detail", c->detail, "options", options);
}

/* One command; else an array of those of a group, or of all. */
static int print_json(const struct cli *cli, const struct command *c, const struct command_group *g,
                      struct err *err)
{
    auto_json json_t *doc = c ? command_json(c) : json_array();
    for (size_t i = 0; !c && i < command_table_size; i++)
        if (is_in(command_table[i], g))
            json_array_append_new(doc, command_json(command_table[i]));
    return cli_out_json(cli, doc, err);
}

/* The first word that leads nowhere. */
static int no_help(const struct args *a, struct err *err)
{
    auto_str struct str group = str_init(512), name = str_init(512);
    size_t i = 0;
    for (; i < a->n_pos; i++) {
        str_add(&name, "%s%s", i ? " " : "", a->pos[i]);
        if (!command_group_find(str_c(&name)))
            break;
        str_clear(&group);
        str_add(&group, "%s", str_c(&name));
    }
    if (command_find(str_c(&name)))
        return err_set(err, ERR_USAGE, "one word too many; terem help %s explains that command",
                       str_c(&name));
    return command_unknown(group.len ? str_c(&group) : NULL, a->pos[i], err);
}

static int find_help(const struct args *a, const struct command **ret_command,
                     const struct command_group **ret_group, struct err *err)
{
    auto_str struct str name = str_init(512);
    for (size_t i = 0; i < a->n_pos; i++)
        str_add(&name, "%s%s", i ? " " : "", a->pos[i]);
    *ret_command = command_find(str_c(&name));
    for (const struct command_group *g = command_groups; g->name && !*ret_command; g++)
        if (str_eq(g->name, str_c(&name)))
            *ret_group = g;
    if (*ret_command || *ret_group)
        return 0;
    if (str_eq(str_c(&name), "parameters"))
        return err_set(err, ERR_USAGE,
                       "parameters are no command; terem params lists them, and terem params KEY "
                       "explains one");
    return no_help(a, err);
}

/* Also what --help and no command at all lead to. */
static int run_help(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str s = str_init(TEXT_MAX);
    const struct command *c = a->command;
    const struct command_group *g = NULL;
    for (const struct command_group *k = command_groups; k->name && a->group; k++)
        if (str_eq(k->name, a->group))
            g = k;
    if (g)
        c = command_find(g->name);
    else if (c == &cmd_help && !args_has(a, "help")) {
        c = NULL;
        int r = a->n_pos ? find_help(a, &c, &g, err) : 0;
        if (r < 0)
            return r;
    } else if (!c && !args_has(a, "help")) {
        help_overview(&s);
        fputs(str_c(&s), stderr);
        cli->status = 2;
        return 0;
    }
    if (cli->json)
        return print_json(cli, c, g, err);
    if (c)
        help_command(&s, c, cli->out_tty ? cli_columns(STDOUT_FILENO) : 80);
    else if (g)
        help_group(&s, g);
    else
        help_overview(&s);
    return cli_out(&s, err);
}

command_row cmd_help = {
    .name = "help",
    .summary = "explain a command",
    .usage = "[COMMAND]",
    .max = 3, /* "network class add" */
    .complete = COMPLETE_COMMANDS,
    .complete_more = COMPLETE_IN_GROUP,
    .run = run_help,
    .detail = "Without a command it lists them all.",
    .examples = {"terem help", "terem help create"},
};
