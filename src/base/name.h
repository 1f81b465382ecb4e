/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * name — what VEs, templates, labels and snapshots may be called, and "did you mean".
 *
 * A VE's name is a host name label (RFC 1123): 1–63 of a–z, 0–9 and '-', not first or last '-'.
 * Only lower case, so that two names never differ by case alone.  Template names may also hold
 * '.' and '_' inside.  Label keys are like template names with '/' allowed inside.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>

#define NAME_SIZE 64 /* with the NUL */

/* One sentence that says what is wrong with it: "\"Web1\" is not a name: use lower-case …". */
int name_check_ve(const char *name, struct err *err);
int name_check_template(const char *name, struct err *err);
int name_check_label(const char *key, struct err *err);

/* The order in which people read names: numbers by their value, b2 before b10.  0: the same. */
int name_compare(const char *a, const char *b);

/* The candidate nearest to `word` (edit distance at most a third of its length, at least 1), or
 * NULL.  next(ctx, i) gives candidate i, NULL after the last. */
const char *name_suggest(const char *word, const char *(*next)(void *ctx, size_t i), void *ctx);
