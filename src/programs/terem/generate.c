/* SPDX-License-Identifier: GPL-2.0-or-later */
/* _generate: the build writes man pages and completion scripts with it. */
#include "generate.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "cli.h"
#include "command.h"
#include "help.h"
#include "text.h"

#include <fcntl.h>

static int write_page(int dir, const char *name, int section, struct str *s, struct err *err)
{
    auto_str struct str file = str_init(256);
    str_add(&file, "%s.%d", name, section);
    if (s->failed)
        return err_set(err, ERR_EXHAUSTED, "%s is too long", str_c(&file));
    int r = fd_replace_file_at(dir, str_c(&file), str_c(s), s->len, 0644, err);
    str_clear(s);
    return r;
}

static int man(const char *path, struct err *err)
{
    auto_fd int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_str struct str s = str_init(TEXT_MAX);
    if (dir < 0)
        return err_sys(err, "cannot open %s", path);
    generate_man_terem(&s);
    int r = write_page(dir, "terem", 1, &s, err);
    for (size_t i = 0; r == 0 && i < command_table_size; i++) {
        auto_str struct str name = str_init(256);
        if (help_hidden(command_table[i]))
            continue;
        generate_page_name(&name, command_table[i]->name);
        generate_man_command(&s, command_table[i]);
        r = write_page(dir, str_c(&name), 1, &s, err);
    }
    for (const struct command_group *g = command_groups; r == 0 && g->name; g++) {
        auto_str struct str name = str_init(256);
        if (command_find(g->name)) /* its page tells of the group, too */
            continue;
        generate_page_name(&name, g->name);
        generate_man_group(&s, g);
        r = write_page(dir, str_c(&name), 1, &s, err);
    }
    if (r == 0) {
        generate_man_params(&s);
        r = write_page(dir, "terem-parameters", 7, &s, err);
    }
    if (r == 0) {
        generate_man_conf(&s);
        r = write_page(dir, "terem.conf", 5, &s, err);
    }
    return r;
}

static int run_generate(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str s = str_init(TEXT_MAX);
    const char *what = a->pos[0], *which = a->pos[1];
    if (str_eq(what, "man"))
        return man(which, err);
    if (str_eq(what, "completion") && str_eq(which, "bash"))
        generate_bash(&s);
    else if (str_eq(what, "completion") && str_eq(which, "zsh"))
        generate_zsh(&s);
    else if (str_eq(what, "completion") && str_eq(which, "fish"))
        generate_fish(&s);
    else
        return err_set(err, ERR_USAGE, "use: terem _generate %s", a->command->usage);
    return cli_out(&s, err);
}

command_row cmd_generate = {
    .name = "_generate",
    .summary = "write the man pages or a completion script",
    .usage = "man DIR | completion bash|zsh|fish",
    .min = 2,
    .max = 2,
    .run = run_generate,
    .detail = "For the build.",
};
