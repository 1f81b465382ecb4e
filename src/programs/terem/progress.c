/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "progress.h"

#include "base/fd.h"
#include "cli.h"
#include "text.h"

#include <stdio.h>
#include <unistd.h>

#define BAR 20

static void bar(struct str *out, size_t part, size_t whole)
{
    size_t full = whole ? part * BAR / whole : 0;
    str_add(out, "[");
    for (size_t i = 0; i < BAR; i++)
        str_add(out, i < full ? "#" : ".");
    str_add(out, "] ");
}

void progress_line(struct str *out, const struct progress *p, size_t columns, const char *subject,
                   int percent, const char *text)
{
    auto_str struct str line = str_init(TEXT_MAX);
    if (p->total > 1) {
        bar(&line, p->done, p->total);
        str_add(&line, "%zu/%zu  ", p->done, p->total);
    } else if (percent >= 0) {
        size_t whole = percent > 100 ? 100 : (size_t)percent;
        bar(&line, whole, 100);
        str_add(&line, "%3zu%%  ", whole);
    }
    text_add(&line, subject);
    str_add(&line, ": ");
    text_add(&line, text);
    text_add_cut(out, str_c(&line), columns);
}

void progress_show(struct progress *p, const char *subject, int percent, const char *text)
{
    auto_str struct str s = str_init(TEXT_MAX);
    if (p->silent)
        return;
    fflush(stdout);
    if (p->live) {
        str_add(&s, "\r");
        /* One cell is left free: a full last column wraps on some terminals. */
        progress_line(&s, p, cli_columns(STDERR_FILENO) - 1, subject, percent, text);
        str_add(&s, "\x1b[K");
        p->drawn = true;
    } else {
        text_add(&s, subject);
        str_add(&s, ": ");
        text_add(&s, text);
        str_add(&s, "\n");
    }
    fd_write_all(STDERR_FILENO, str_c(&s), s.len, NULL);
}

void progress_wipe(struct progress *p)
{
    if (p->drawn)
        fd_write_all(STDERR_FILENO, "\r\x1b[K", 4, NULL);
    p->drawn = false;
}
