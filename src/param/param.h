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
 *     if (param_parse(row, row->key, "512M", &v, err) < 0) …
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
    PARAM_CORES,   /* how many cores, "2", or which, "0-1", "0-1,exclusive" */
    PARAM_IO,      /* bytes and operations a second: "50M", "1000iops", "50M,1000iops" */
    PARAM_RATE,    /* bits a second, with k, M, G and T for powers of 1000: "60M" */
};

/* Who enforces a row. */
enum param_backend {
    PARAM_IN_CGROUP,    /* a file of a cgroup controller: resource/ */
    PARAM_IN_BPF,       /* a BPF program of the VE's cgroup: resource/ */
    PARAM_IN_NAMESPACE, /* counters of user namespaces, rlimits, sysctls and mounts: container/ */
    PARAM_IN_NETWORK,   /* nft and tc: network/ */
    PARAM_IN_STORAGE,   /* quotas: storage/ */
    PARAM_IN_NODE,      /* the VE room itself: follows from all VEs, or from who uses this one */
};

struct param_row;

/* What stands before the colon of a row with two values; one value alone is both. */
enum param_first {
    PARAM_NO_PAIR,
    PARAM_SOFT_FIRST,      /* soft:hard */
    PARAM_GUARANTEE_FIRST, /* guarantee:limit; one value alone guarantees nothing */
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
    PARAM_DERIVED = 1 << 2,   /* not written itself: another row's file follows from all VEs */
    PARAM_MHZ = 1 << 3,       /* may be given in MHz, too: see param_set_resolve() */
    PARAM_V2_PART = 1 << 4,   /* where v2 has no file, v2_why says what holds all the same */
};

enum param_form {
    PARAM_PLAIN,     /* n alone */
    PARAM_TWO,       /* n and n2 */
    PARAM_IN_MHZ,    /* given as n2 MHz; n is what that is in percent, once resolved */
    PARAM_LIST,      /* cores: bits of n (0 to 63) and n2 (64 to 127) */
    PARAM_EXCLUSIVE, /* the same, for this VE alone */
};

#define PARAM_NO_BOUND UINT64_MAX /* of n2, and of n in PARAM_IO: this half is unlimited */
struct param_value {
    bool unlimited;
    enum param_form form : 8;
    uint64_t n;  /* in the row's unit: the limit; 0 when unlimited */
    uint64_t n2; /* a pair's first half (soft, guarantee), operations a second, or as form says */
};
bool param_value_same(struct param_value a, struct param_value b);
/* The soft half or the guarantee; of a row with one value: that value, or no guarantee. */
uint64_t param_value_first(const struct param_row *row, struct param_value v);

#define PARAM_CORES_MAX 128 /* that a list can name */
/* Does a list of cores name this one?  A count names none. */
bool param_cores_has(struct param_value v, unsigned core);

struct param_row {
    const char *key;
    enum param_backend backend;
    enum param_first first;
    enum param_type type;
    enum param_kind kind;
    unsigned flags; /* enum param_flag */
    uint64_t min, max;
    struct param_value def;
    const char *controller; /* cgroup controller that enforces it; NULL: another way */
    const char *v2_file;    /* its file in cgroup v2 */
    const char *v1_file;    /* and in v1; NULL: */
    const char *v1_why;     /* why v1 cannot enforce it */
    const char *v2_why;     /* the same of v2, where v2_file is NULL */
    const char *below;      /* what lowering it below what is in use does, for --force; or NULL */
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

/* Strict: type, range, unit.  The error names the key, which of a class is not the row's, and the
 * text.  A PARAM_COUNTER is ERR_USAGE, whatever the text. */
int param_parse(const struct param_row *row, const char *key, const char *text,
                struct param_value *ret, struct err *err);
/* The same for documentation and tests: reads values of counters, too. */
int param_parse_value(const struct param_row *row, const char *text, struct param_value *ret,
                      struct err *err);
/* Canonical text that param_parse() reads back to the same value ("unlimited", "512M"). */
#define PARAM_TEXT 320 /* a list of every other core */
const char *param_format(const struct param_row *row, struct param_value v, char buf[PARAM_TEXT]);

/* A row whose key ends in .CLASS has a value for each destination class: "net.out.europe".
 * The class that the key names; NULL: the row is not of this kind, or the key names none. */
const char *param_class_of(const struct param_row *row, const char *key);

/* A value for every row; rows not set have their default.  Rows by class have those that were
 * given, in the order of rows and names; classes without one have the row's default. */
#define PARAM_MAX         64
#define PARAM_CLASS_NAME  32 /* with the NUL */
#define PARAM_CLASSED_MAX 32
struct param_classed {
    const struct param_row *row;
    char class[PARAM_CLASS_NAME];
    struct param_value v;
};
struct param_set {
    bool given[PARAM_MAX];
    struct param_value v[PARAM_MAX];
    size_t n_classed;
    struct param_classed classed[PARAM_CLASSED_MAX];
};
void param_set_init(struct param_set *set); /* all defaults, none given */
void param_set_put(struct param_set *set, const struct param_row *row, struct param_value v);
/* The same for a row by class, too: key names the class.  Fails on a class that is missing or too
 * long, and when there is no place for another value. */
int param_set_put_key(struct param_set *set, const struct param_row *row, const char *key,
                      struct param_value v, struct err *err);
/* Of a row by class. */
struct param_value param_set_get_class(const struct param_set *set, const char *key,
                                       const char *class);
/* Has any row a value for the class? */
bool param_set_has_class(const struct param_set *set, const char *class);
bool param_set_same(const struct param_set *a, const struct param_set *b);
struct param_value param_set_get(const struct param_set *set, const char *key);
/* Parses "key=value" into the set, which is unchanged on failure. */
int param_set_parse(struct param_set *set, const char *assignment, struct err *err);
/* Rules that relate two rows (all of them live in param/rules.c). */
int param_set_check(const struct param_set *set, struct err *err);
/* What was given in MHz becomes percent of a core that runs at clock_mhz; 0: not known here,
 * ERR_UNSUPPORTED. */
bool param_set_in_mhz(const struct param_set *set);
int param_set_resolve(struct param_set *set, uint64_t clock_mhz, struct err *err);

/* What is counted of one row, in its unit (processors: hundredths of a percent). */
struct param_count {
    bool known; /* false: not counted on this kernel */
    uint64_t n;
};
struct param_counter {
    const struct param_row *row;
    struct param_count held, maxheld; /* maxheld: since the VE's start */
    struct param_count failcnt;       /* how often the limit said no */
};
/* At most one for each row, in the order in which they came. */
struct param_counters {
    size_t n;
    struct param_counter c[PARAM_MAX];
};
/* The row's counter, made (nothing known yet) if there is none. */
struct param_counter *param_counters_of(struct param_counters *list, const struct param_row *row);
