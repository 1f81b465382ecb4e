/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * text — aligned tables and times for people.  Never prints: it builds strings.
 *
 * Everything that goes in is foreign: it is escaped (str_escape) on the way.  Columns are aligned
 * by display width (UTF-8; East Asian wide characters take two cells, combining ones none).
 */
#pragma once

#include "base/number.h"
#include "base/str.h"

#include <stdint.h>

#define TEXT_MAX ((size_t)16 << 20) /* bound of anything that is printed at once */

/* Cells that escaped UTF-8 text takes on a terminal. */
size_t text_width(const char *s, size_t len);
/* Adds s cut to at most `width` cells ("…" in the last when cut).  Returns the cells used. */
size_t text_add_cut(struct str *out, const char *s, size_t width);
/* Escaped copy of src; src NULL: "-". */
void text_add(struct str *out, const char *src);

/* Escaped copy of src in lines of at most `width` cells, broken between words; `indent` spaces
 * before each but the first.  width 0: one line. */
void text_add_wrapped(struct str *out, const char *src, size_t indent, size_t width);

/* "now", "3m 5s ago": from times in milliseconds since the epoch. */
void text_add_age(struct str *out, int64_t then, int64_t now);
/* "2026-11-21 14:37:42", local time. */
void text_add_time(struct str *out, int64_t ms);
int64_t text_now(void); /* milliseconds since the epoch */

/* "12K", and of less than that "131 bytes". */
#define TEXT_SIZE (NUMBER_TEXT + 8)
const char *text_size(uint64_t n, char buf[TEXT_SIZE]);

#define TEXT_DIGEST 19 /* of "sha256:…", what tells one from another: twelve digits */

struct text_table {
    size_t columns, n, cap; /* n cells so far, columns of them a row */
    char **cells;
    unsigned right; /* bit i: column i is aligned to the right */
    bool wrap;      /* words of the last column go on below, and are not cut */
};

#define auto_table __attribute__((cleanup(text_table_done)))
void text_table_done(struct text_table *t);
/* Adds a cell (escaped here). */
void text_cell(struct text_table *t, const char *text);
void text_cellf(struct text_table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Whether its longest line takes no more columns of the terminal than width, when of names in the
 * first column what is longer than 16 cells gives way. */
bool text_table_fits(const struct text_table *t, size_t width);
/* Renders; the last column is not padded.  max_width 0: no limit; else columns of words give way,
 * those aligned to the right last: a line is cut only when it must be. */
void text_table_render(const struct text_table *t, struct str *out, size_t max_width);
