/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * progress — how long work is shown on standard error: one line, redrawn, on a terminal; plain
 * lines, one at each change of text, elsewhere.
 */
#pragma once

#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>

struct progress {
    bool live, silent;
    bool drawn;   /* a line stands there that must be wiped before anything else is printed */
    size_t total; /* pieces of work; 1: its own percent is shown, else how many are done */
    size_t done;
};

/* percent -1: unknown. */
void progress_show(struct progress *p, const char *subject, int percent, const char *text);
/* Wipes the line.  Call before printing anything, and at the end. */
void progress_wipe(struct progress *p);

/* The line itself, at most `columns` cells. */
void progress_line(struct str *out, const struct progress *p, size_t columns, const char *subject,
                   int percent, const char *text);
