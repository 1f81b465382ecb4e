/* SPDX-License-Identifier: GPL-2.0-or-later */
/* help — the table of commands in words for a terminal. */
#pragma once

#include "base/str.h"
#include "command.h"

/* All commands, a line each. */
void help_overview(struct str *s);
/* The commands of a group. */
void help_group(struct str *s, const struct command_group *g);
/* One command: usage, options, examples. */
void help_command(struct str *s, const struct command *c, size_t columns);
static inline bool help_hidden(const struct command *c)
{
    return c->name[0] == '_';
}
