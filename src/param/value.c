/* SPDX-License-Identifier: GPL-2.0-or-later */
/* value — text to value and back, one reader and one printer per type. */
#include "base/cleanup.h"
#include "base/number.h"
#include "base/str.h"
#include "param/parts.h"

#include <inttypes.h>
#include <string.h>

#define TEXT_SHOWN 40 /* of a bad value, in an error */

static const struct {
    const char *suffix;
    uint64_t ms;
} time_units[] = {
    {"w", 7 * 86400000ull}, {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}};

static int bad(const char *text, const char *want, struct err *err)
{
    auto_str struct str s = str_init(256);
    str_escape(&s, text, strnlen(text, TEXT_SHOWN));
    return err_set(err, ERR_USAGE, "\"%s\" is not %s", str_c(&s), want);
}

/* "150", "12.5", "0.25%" → hundredths.  More than two decimals would be lost: refused. */
static int parse_percent(const char *text, uint64_t *ret, struct err *err)
{
    static const char want[] = "a percentage of one core such as 150 or 12.5";
    uint64_t v = 0;
    const char *p = text;
    int decimals = 0;
    if (*p < '0' || *p > '9')
        return bad(text, want, err);
    for (bool point = false; (*p >= '0' && *p <= '9') || (*p == '.' && !point); p++) {
        if (*p == '.') {
            point = true;
            if (p[1] < '0' || p[1] > '9')
                return bad(text, want, err);
            continue;
        }
        if (point && ++decimals > 2)
            return bad(text, "a percentage with at most two decimals", err);
        if (!number_mul(v, 10, &v) || !number_add(v, (uint64_t)(*p - '0'), &v))
            return bad(text, want, err);
    }
    for (; decimals < 2; decimals++)
        if (!number_mul(v, 10, &v))
            return bad(text, want, err);
    if (*p == '%')
        p++;
    if (*p)
        return bad(text, want, err);
    *ret = v;
    return 0;
}

static const struct {
    char letter; /* either case */
    uint64_t factor;
} rate_units[] = {{'T', 1000000000000}, {'G', 1000000000}, {'M', 1000000}, {'k', 1000}};

/* "60M", "9600": decimal, as networks count. */
static int parse_rate(const char *text, uint64_t *ret, struct err *err)
{
    static const char want[] = "a rate in bits per second such as 60M or 9600";
    char digits[32];
    size_t n = strspn(text, "0123456789");
    uint64_t v, factor = text[n] ? 0 : 1;
    for (size_t i = 0; i < ARRAY_SIZE(rate_units); i++)
        if (text[n] && !text[n + 1] && (text[n] | 0x20) == (rate_units[i].letter | 0x20))
            factor = rate_units[i].factor;
    if (!n || !factor || str_print(digits, sizeof(digits), "%.*s", (int)n, text) < 0 ||
        number_parse(digits, 0, UINT64_MAX, &v, NULL) < 0 || !number_mul(v, factor, &v))
        return bad(text, want, err);
    *ret = v;
    return 0;
}

static void format_rate(uint64_t n, char buf[PARAM_TEXT])
{
    for (size_t i = 0; n && i < ARRAY_SIZE(rate_units); i++)
        if (n % rate_units[i].factor == 0) {
            str_print(buf, PARAM_TEXT, "%" PRIu64 "%c", n / rate_units[i].factor,
                      rate_units[i].letter);
            return;
        }
    str_print(buf, PARAM_TEXT, "%" PRIu64, n);
}

static int parse_type(enum param_type type, const char *text, uint64_t *ret, struct err *err)
{
    switch (type) {
    case PARAM_SIZE:
        return number_parse_size(text, ret, err);
    case PARAM_COUNT:
        return number_parse(text, 0, UINT64_MAX, ret, err);
    case PARAM_PERCENT:
        return parse_percent(text, ret, err);
    case PARAM_TIME:
        return number_parse_time(text, ret, err);
    case PARAM_RATE:
        return parse_rate(text, ret, err);
    case PARAM_SWITCH:
        if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
            return bad(text, "on or off", err);
        *ret = strcmp(text, "on") == 0;
        return 0;
    case PARAM_CORES:
    case PARAM_IO:
        break; /* parts.c reads them */
    }
    return err_set(err, ERR_INTERNAL, "unknown parameter type %d", (int)type);
}

/* Bounds that are shown as the type shows numbers. */
static int out_of_range(const struct param_row *row, const char *text, struct err *err)
{
    char lo[PARAM_TEXT], hi[PARAM_TEXT];
    auto_str struct str shown = str_init(256);
    str_escape(&shown, text, strnlen(text, TEXT_SHOWN));
    auto_str struct str hint = str_init(256);
    if (row->type == PARAM_TIME && text[strspn(text, "0123456789")] == '\0')
        str_add(&hint, "; a bare number is seconds: write %sms for milliseconds", str_c(&shown));
    return err_set(err, ERR_USAGE, "%s is not between %s and %s%s%s", str_c(&shown),
                   param_format(row, (struct param_value){.n = row->min}, lo),
                   param_format(row, (struct param_value){.n = row->max}, hi),
                   row->flags & PARAM_UNLIMITED ? ", nor \"unlimited\"" : "", str_c(&hint));
}

int value_parse_one(const struct param_row *row, const char *text, struct param_value *ret,
                    struct err *err)
{
    struct param_value v = {0};
    if (strcmp(text, "unlimited") == 0) {
        if (!(row->flags & PARAM_UNLIMITED))
            return err_set(err, ERR_USAGE, "it cannot be unlimited");
        *ret = (struct param_value){.unlimited = true};
        return 0;
    }
    int r = parse_type(row->type, text, &v.n, err);
    if (r < 0)
        return r;
    if (v.n < row->min || v.n > row->max)
        return out_of_range(row, text, err);
    *ret = v;
    return 0;
}

/* Of a class the key is not that of the row. */
static int parse(const struct param_row *row, const char *key, const char *text,
                 struct param_value *ret, struct err *err)
{
    struct err own = {0};
    struct param_value v = {0};
    int r;
    if (!err)
        err = &own; /* the kind must come out of err_wrap() */
    if (strcmp(text, "unlimited") == 0)
        r = value_parse_one(row, text, &v, err);
    else if (row->type == PARAM_CORES) {
        r = parts_parse_cores(row, text, &v, err);
        if (r == 0 && v.form == PARAM_PLAIN && (v.n < row->min || v.n > row->max))
            r = out_of_range(row, text, err);
    } else if (row->type == PARAM_IO)
        r = parts_parse_io(row, text, &v, err);
    else if (parts_is_mhz(row, text))
        r = parts_parse_mhz(text, &v, err);
    else if (row->first && strchr(text, ':'))
        r = parts_parse_pair(row, text, &v, err);
    else
        r = value_parse_one(row, text, &v, err);
    if (r < 0)
        return err_wrap(err, "%s", key);
    *ret = v;
    return 0;
}

int param_parse_value(const struct param_row *row, const char *text, struct param_value *ret,
                      struct err *err)
{
    return parse(row, row->key, text, ret, err);
}

int param_parse(const struct param_row *row, const char *key, const char *text,
                struct param_value *ret, struct err *err)
{
    if (row->kind == PARAM_COUNTER)
        return err_set(err, ERR_USAGE, "%s is a counter and cannot be set", row->key);
    return parse(row, key, text, ret, err);
}

static void format_percent(uint64_t n, char buf[PARAM_TEXT])
{
    if (n % 100 == 0)
        str_print(buf, PARAM_TEXT, "%" PRIu64, n / 100);
    else if (n % 10 == 0)
        str_print(buf, PARAM_TEXT, "%" PRIu64 ".%" PRIu64, n / 100, n % 100 / 10);
    else
        str_print(buf, PARAM_TEXT, "%" PRIu64 ".%02" PRIu64, n / 100, n % 100);
}

/* In the largest unit that divides it: number_format_time() rounds, and must not be read back. */
static void format_time(uint64_t ms, char buf[PARAM_TEXT])
{
    for (size_t i = 0; ms && i < ARRAY_SIZE(time_units); i++)
        if (ms % time_units[i].ms == 0) {
            str_print(buf, PARAM_TEXT, "%" PRIu64 "%s", ms / time_units[i].ms,
                      time_units[i].suffix);
            return;
        }
    if (ms)
        str_print(buf, PARAM_TEXT, "%" PRIu64 "ms", ms);
    else
        str_print(buf, PARAM_TEXT, "0");
}

const char *param_format(const struct param_row *row, struct param_value v, char buf[PARAM_TEXT])
{
    char size[NUMBER_TEXT];
    if (parts_format(row, v, buf))
        return buf;
    if (v.unlimited) {
        str_print(buf, PARAM_TEXT, "unlimited");
        return buf;
    }
    switch (row->type) {
    case PARAM_SIZE:
        str_print(buf, PARAM_TEXT, "%s", number_format_size_exact(v.n, size));
        break;
    case PARAM_COUNT:
    case PARAM_CORES:
    case PARAM_IO: /* a bound of it */
        str_print(buf, PARAM_TEXT, "%" PRIu64, v.n);
        break;
    case PARAM_PERCENT:
        format_percent(v.n, buf);
        break;
    case PARAM_SWITCH:
        str_print(buf, PARAM_TEXT, "%s", v.n ? "on" : "off");
        break;
    case PARAM_TIME:
        format_time(v.n, buf);
        break;
    case PARAM_RATE:
        format_rate(v.n, buf);
        break;
    }
    return buf;
}
