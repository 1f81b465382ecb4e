/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * generate — man pages and completion scripts from command_table and param_table.
 *
 * Pages are groff man(7).  Everything that is printed here comes from the tables, so that a
 * command, an option or a parameter cannot be missing from them.
 */
#pragma once

#include "base/str.h"
#include "command.h"

/* "create" → "terem-create", "template build" → "terem-template-build". */
void generate_page_name(struct str *s, const char *command);

void generate_man_terem(struct str *s);
void generate_man_command(struct str *s, const struct command *c);
void generate_man_group(struct str *s, const struct command_group *g);
void generate_man_params(struct str *s);
void generate_man_conf(struct str *s);

void generate_bash(struct str *s);
void generate_zsh(struct str *s);
void generate_fish(struct str *s);
