/* SPDX-License-Identifier: GPL-2.0-or-later */
/* parts — values that are more than one number: pairs, MHz, cores, bytes and operations. */
#include "param/parts.h"

#include "base/cleanup.h"
#include "base/number.h"
#include "base/str.h"

#include <inttypes.h>
#include <string.h>

#define CORES_MAX PARAM_CORES_MAX
#define PART_MAX  64

bool param_value_same(struct param_value a, struct param_value b)
{
    return a.unlimited == b.unlimited && a.form == b.form && a.n2 == b.n2 &&
           (a.unlimited || a.n == b.n);
}

uint64_t param_value_first(const struct param_row *row, struct param_value v)
{
    if (v.form == PARAM_TWO)
        return v.n2;
    if (row->first == PARAM_GUARANTEE_FIRST)
        return 0;
    return v.unlimited ? PARAM_NO_BOUND : v.n;
}

static int bad(const char *text, const char *want, struct err *err)
{
    auto_str struct str s = str_init(256);
    str_escape(&s, text, strnlen(text, 40));
    return err_set(err, ERR_USAGE, "\"%s\" is not %s", str_c(&s), want);
}

/* ---- soft:hard, guarantee:limit ---- */

static const char *first_name(const struct param_row *row)
{
    return row->first == PARAM_SOFT_FIRST ? "soft" : "guarantee";
}

int parts_parse_pair(const struct param_row *row, const char *text, struct param_value *ret,
                     struct err *err)
{
    const char *colon = strchr(text, ':');
    char left[PART_MAX];
    struct param_value a, b;
    if (str_print(left, sizeof(left), "%.*s", (int)(colon - text < PART_MAX ? colon - text : 0),
                  text) < 0 ||
        !left[0] || strchr(colon + 1, ':'))
        return bad(text, row->first == PARAM_SOFT_FIRST ? "soft:hard" : "guarantee:limit", err);
    int r = value_parse_one(row, left, &a, err);
    if (r == 0)
        r = value_parse_one(row, colon + 1, &b, err);
    if (r < 0)
        return r;
    if (a.unlimited && row->first == PARAM_GUARANTEE_FIRST)
        return err_set(err, ERR_USAGE, "a guarantee cannot be unlimited");
    if (!b.unlimited && (a.unlimited || a.n > b.n))
        return err_set(err, ERR_USAGE, "the %s half is above the limit in \"%.60s\"",
                       first_name(row), text);
    *ret = b;
    ret->form = PARAM_TWO;
    ret->n2 = a.unlimited ? PARAM_NO_BOUND : a.n;
    return 0;
}

/* ---- 1000MHz ---- */

bool parts_is_mhz(const struct param_row *row, const char *text)
{
    return (row->flags & PARAM_MHZ) && (str_ends(text, "MHz") || str_ends(text, "mhz"));
}

int parts_parse_mhz(const char *text, struct param_value *ret, struct err *err)
{
    char digits[PART_MAX];
    uint64_t n;
    if (strlen(text) >= sizeof(digits))
        return bad(text, "a clock such as 1000MHz", err);
    str_print(digits, sizeof(digits), "%.*s", (int)strlen(text) - 3, text);
    if (number_parse(digits, 1, 1000000000, &n, NULL) < 0)
        return bad(text, "a clock such as 1000MHz", err);
    *ret = (struct param_value){.form = PARAM_IN_MHZ, .n2 = n};
    return 0;
}

bool param_set_in_mhz(const struct param_set *set)
{
    for (size_t i = 0; i < param_table_size; i++)
        if (set->v[i].form == PARAM_IN_MHZ)
            return true;
    return false;
}

int param_set_resolve(struct param_set *set, uint64_t clock_mhz, struct err *err)
{
    for (size_t i = 0; i < param_table_size; i++) {
        struct param_value *v = &set->v[i];
        if (v->form != PARAM_IN_MHZ)
            continue;
        if (clock_mhz == 0)
            return err_set(err, ERR_UNSUPPORTED,
                           "%s cannot be given in MHz: this machine does not tell its "
                           "processor's clock; give percent of a core",
                           param_table[i].key);
        v->n = (v->n2 * 10000 + clock_mhz - 1) / clock_mhz; /* up: no less than promised */
        if (v->n > param_table[i].max)
            return err_set(err, ERR_USAGE, "%s: %" PRIu64 "MHz is more than any machine has",
                           param_table[i].key, v->n2);
    }
    return 0;
}

/* ---- cores ---- */

static void set_bit(struct param_value *v, uint64_t core)
{
    if (core < 64)
        v->n |= 1ull << core;
    else
        v->n2 |= 1ull << (core - 64);
}

static bool has_bit(struct param_value v, unsigned core)
{
    return core < 64 ? v.n >> core & 1 : core < CORES_MAX && (v.n2 >> (core - 64) & 1);
}

/* "3" or "0-3". */
static int parse_range(const char *text, struct param_value *v)
{
    char first[PART_MAX];
    const char *dash = strchr(text, '-');
    uint64_t a, b;
    str_print(first, sizeof(first), "%.*s", dash ? (int)(dash - text) : PART_MAX - 1, text);
    if (number_parse(first, 0, CORES_MAX - 1, &a, NULL) < 0)
        return -1;
    b = a;
    if (dash && (number_parse(dash + 1, 0, CORES_MAX - 1, &b, NULL) < 0 || b < a))
        return -1;
    for (; a <= b; a++)
        set_bit(v, a);
    return 0;
}

int parts_parse_cores(const struct param_row *row, const char *text, struct param_value *ret,
                      struct err *err)
{
    static const char want[] =
        "a number of cores such as 2, or a list of cores 0 to 127 such as 0-1 or 0-0,exclusive";
    struct param_value v = {.form = PARAM_PLAIN};
    if (!strpbrk(text, ",-")) {
        if (number_parse(text, 0, UINT64_MAX, &v.n, NULL) < 0)
            return bad(text, want, err);
        *ret = v;
        return 0;
    }
    v.form = PARAM_LIST;
    for (const char *p = text; p;) {
        char part[PART_MAX];
        const char *comma = strchr(p, ',');
        if (str_print(part, sizeof(part), "%.*s", comma ? (int)(comma - p) : (int)strlen(p), p) < 0)
            return bad(text, want, err);
        p = comma ? comma + 1 : NULL;
        if (!p && strcmp(part, "exclusive") == 0)
            v.form = PARAM_EXCLUSIVE;
        else if (parse_range(part, &v) < 0)
            return bad(text, want, err);
    }
    if (!v.n && !v.n2)
        return bad(text, want, err);
    *ret = v;
    return 0;
}

bool param_cores_has(struct param_value v, unsigned core)
{
    return (v.form == PARAM_LIST || v.form == PARAM_EXCLUSIVE) && has_bit(v, core);
}

static void format_cores(struct param_value v, char buf[PARAM_TEXT])
{
    auto_str struct str s = str_init(1024);
    bool range = false;
    for (unsigned i = 0; i < CORES_MAX; i++) {
        if (!has_bit(v, i))
            continue;
        unsigned last = i;
        while (has_bit(v, last + 1))
            last++;
        str_add(&s, last > i ? "%s%u-%u" : "%s%u", str_c(&s)[0] ? "," : "", i, last);
        range = range || last > i;
        i = last;
    }
    /* One core alone would read as a count. */
    if (!strpbrk(str_c(&s), ",-"))
        str_add(&s, "-%s", str_c(&s));
    if (v.form == PARAM_EXCLUSIVE)
        str_add(&s, ",exclusive");
    str_print(buf, PARAM_TEXT, "%s", str_c(&s));
}

/* ---- bytes and operations ---- */

static int parse_io_part(const struct param_row *row, const char *text, struct param_value *v,
                         struct err *err)
{
    static const char iops[] = "iops";
    uint64_t n;
    size_t len = strlen(text), unit = strlen(iops);
    if (len < unit || strcasecmp(text + len - unit, iops) != 0) {
        if (v->n != PARAM_NO_BOUND)
            return bad(text, "operations a second such as 1000iops", err);
        if (number_parse_size(text, &n, err) < 0)
            return -err->kind;
        if (n < row->min || n > row->max)
            return bad(text, "between 1 and 1P bytes a second", err);
        v->n = n;
        return 0;
    }
    char digits[PART_MAX];
    str_print(digits, sizeof(digits), "%.*s", (int)(len - unit), text);
    if (v->n2 != PARAM_NO_BOUND || number_parse(digits, 1, UINT32_MAX, &n, NULL) < 0)
        return bad(text, "operations a second such as 1000iops", err);
    v->n2 = n;
    return 0;
}

int parts_parse_io(const struct param_row *row, const char *text, struct param_value *ret,
                   struct err *err)
{
    struct param_value v = {.form = PARAM_TWO, .n = PARAM_NO_BOUND, .n2 = PARAM_NO_BOUND};
    const char *comma = strchr(text, ',');
    char part[PART_MAX];
    if (strlen(text) >= sizeof(part))
        return bad(text, "a rate such as 50M, 1000iops or 50M,1000iops", err);
    str_print(part, sizeof(part), "%.*s", comma ? (int)(comma - text) : PART_MAX - 1, text);
    int r = parse_io_part(row, part, &v, err);
    if (r == 0 && comma)
        r = parse_io_part(row, comma + 1, &v, err);
    if (r == 0)
        *ret = v;
    return r;
}

static void format_io(struct param_value v, char buf[PARAM_TEXT])
{
    char size[NUMBER_TEXT] = "";
    if (v.n != PARAM_NO_BOUND)
        number_format_size_exact(v.n, size);
    if (v.n2 == PARAM_NO_BOUND)
        str_print(buf, PARAM_TEXT, "%s", size);
    else
        str_print(buf, PARAM_TEXT, "%s%s%" PRIu64 "iops", size, size[0] ? "," : "", v.n2);
}

bool parts_format(const struct param_row *row, struct param_value v, char buf[PARAM_TEXT])
{
    char a[PARAM_TEXT], b[PARAM_TEXT];
    switch (v.form) {
    case PARAM_PLAIN:
        return false;
    case PARAM_IN_MHZ:
        str_print(buf, PARAM_TEXT, "%" PRIu64 "MHz", v.n2);
        return true;
    case PARAM_LIST:
    case PARAM_EXCLUSIVE:
        format_cores(v, buf);
        return true;
    case PARAM_TWO:
        break;
    }
    if (row->type == PARAM_IO) {
        format_io(v, buf);
        return true;
    }
    param_format(row, (struct param_value){.unlimited = v.unlimited, .n = v.n}, b);
    param_format(row, (struct param_value){.unlimited = v.n2 == PARAM_NO_BOUND, .n = v.n2}, a);
    str_print(buf, PARAM_TEXT, "%s:%s", a, b);
    return true;
}
