/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * param — the one table of resource parameters.
 *
 * I own the array of rows: names, types, units, kinds, defaults, kernel files, documentation.
 * I use base.  I never touch the kernel or a file.
 *
 * Synopsis
 *     const struct param_row *row = param_find("memory.limit");
 *     struct param_value v;
 *     if (param_parse(row, "512M", &v, err) < 0) …
 *     param_set_put(&set, row, v);
 *
 * Everything that names a parameter (CLI, API schema, man page, completion) walks param_table.
 * A row's index is its identity inside a process; on disk and on the wire its key is.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum param_type {
    PARAM_SIZE,    /* bytes; "512M" */
    PARAM_COUNT,   /* a whole number */
    PARAM_PERCENT, /* percent of one core, stored in hundredths: "150" or "12.5" → 15000, 1250 */
    PARAM_SWITCH,  /* on | off */
    PARAM_TIME,    /* milliseconds */
};

enum param_kind { /* parameters.md: what the number promises */
                  PARAM_GUARANTEE,
                  PARAM_SOFT,
                  PARAM_LIMIT,
                  PARAM_WEIGHT,
                  PARAM_SETTING,
                  PARAM_COUNTER, /* is shown and never set */
};

enum param_flag {
    PARAM_RESTART = 1 << 0,   /* takes effect at the next start */
    PARAM_UNLIMITED = 1 << 1, /* "unlimited" is a legal value */
    PARAM_PLANNED = 1 << 2,   /* in the table, owned by a later issue: refused with that sentence */
    PARAM_DERIVED = 1 << 3,   /* not written itself: another row's file follows from all VEs */
};

struct param_value {
    bool unlimited;
    uint64_t n; /* in the row's unit; 0 when unlimited */
};

struct param_row {
    const char *key;
    enum param_type type;
    enum param_kind kind;
    unsigned flags; /* enum param_flag */
    uint64_t min, max;
    struct param_value def;
    const char *controller; /* cgroup controller that enforces it; NULL: another way */
    const char *v2_file;    /* its file in cgroup v2 */
    const char *v1_file;    /* and in v1; NULL: */
    const char *v1_why;     /* why v1 cannot enforce it */
    const char *ancestor;   /* OpenVZ/Virtuozzo name, or NULL */
    const char *summary;    /* one line, for tables and completion */
    const char *detail;     /* a paragraph for the man page: unit, rounding, what is refused */
};

extern const struct param_row param_table[];
extern const size_t param_table_size;

/* NULL when there is none; param_find_err() then says so with "did you mean".  A row whose key
 * ends in ".CLASS" stands for every class: "net.out.europe" finds "net.out.CLASS". */
const struct param_row *param_find(const char *key);
const struct param_row *param_find_err(const char *key, struct err *err);
size_t param_index(const struct param_row *row);
const char *param_type_name(enum param_type t); /* "size", "count", … for JSON and docs */
const char *param_kind_name(enum param_kind k);

/* Strict: type, range, unit.  The error names the key and the text.  A row that is PARAM_PLANNED
 * is ERR_UNSUPPORTED, a PARAM_COUNTER is ERR_USAGE, whatever the text. */
int param_parse(const struct param_row *row, const char *text, struct param_value *ret,
                struct err *err);
/* The same for documentation and tests: reads values of rows that cannot be set yet, too. */
int param_parse_value(const struct param_row *row, const char *text, struct param_value *ret,
                      struct err *err);
/* Canonical text that param_parse() reads back to the same value ("unlimited", "512M"). */
#define PARAM_TEXT 64
const char *param_format(const struct param_row *row, struct param_value v, char buf[PARAM_TEXT]);

/* A value for every row; rows not set have their default. */
#define PARAM_MAX 96
struct param_set {
    bool given[PARAM_MAX];
    struct param_value v[PARAM_MAX];
};
void param_set_init(struct param_set *set); /* all defaults, none given */
void param_set_put(struct param_set *set, const struct param_row *row, struct param_value v);
struct param_value param_set_get(const struct param_set *set, const char *key);
/* Parses "key=value" into the set, which is unchanged on failure. */
int param_set_parse(struct param_set *set, const char *assignment, struct err *err);
/* Rules that relate two rows (all of them live in param/rules.c). */
int param_set_check(const struct param_set *set, struct err *err);
