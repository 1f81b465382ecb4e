/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/number.h"

#include "base/str.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

/* Reads digits at *p into *ret; false on overflow or when there are none. */
static bool digits(const char **p, uint64_t *ret)
{
    const char *s = *p;
    uint64_t v = 0;
    if (*s < '0' || *s > '9')
        return false;
    for (; *s >= '0' && *s <= '9'; s++)
        if (!number_mul(v, 10, &v) || !number_add(v, (uint64_t)(*s - '0'), &v))
            return false;
    *p = s;
    *ret = v;
    return true;
}

static int bad(struct err *err, const char *text, const char *want)
{
    auto_str struct str s = str_init(256);
    str_escape(&s, text, strnlen(text, 40));
    return err_set(err, ERR_USAGE, "\"%s\" is not %s", str_c(&s), want);
}

int number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct err *err)
{
    const char *p = text;
    uint64_t v;
    if (!digits(&p, &v) || *p)
        return bad(err, text, "a whole number");
    if (v < min || v > max)
        return err_set(err, ERR_USAGE, "%" PRIu64 " is not between %" PRIu64 " and %" PRIu64, v,
                       min, max);
    *ret = v;
    return 0;
}

int number_parse_mode(const char *text, unsigned *ret, struct err *err)
{
    unsigned v = 0;
    size_t n = strlen(text);
    if (n == 0 || n > 5)
        return bad(err, text, "an octal file mode");
    for (const char *p = text; *p; p++) {
        if (*p < '0' || *p > '7')
            return bad(err, text, "an octal file mode");
        v = v * 8 + (unsigned)(*p - '0');
    }
    if (v > 07777)
        return bad(err, text, "an octal file mode of at most 7777");
    *ret = v;
    return 0;
}

int number_parse_size(const char *text, uint64_t *ret_bytes, struct err *err)
{
    static const char want[] = "a size such as 512M, 1.5G or 1048576";
    const char *p = text;
    uint64_t whole, frac = 0, frac_div = 1, unit = 1;
    if (!digits(&p, &whole))
        return bad(err, text, want);
    if (*p == '.') {
        const char *start = ++p;
        if (!digits(&p, &frac) || p - start > 9)
            return bad(err, text, want);
        for (const char *q = start; q < p; q++)
            frac_div *= 10;
    }
    if (*p) {
        static const char letters[] = "KMGTPE";
        static const char lower[] = "kmgtpe";
        const char *l = strchr(letters, *p);
        if (!l)
            l = strchr(lower, *p) ? letters + (strchr(lower, *p) - lower) : NULL;
        if (l) {
            unit = UINT64_C(1) << (10 * (l - letters + 1));
            p++;
            if (strcasecmp(p, "ib") == 0 || strcasecmp(p, "b") == 0)
                p += strlen(p);
        } else if (strcasecmp(p, "b") == 0) {
            p++;
        }
    }
    uint64_t bytes, part;
    if (*p)
        return bad(err, text, want);
    if (!number_mul(whole, unit, &bytes) || !number_mul(frac, unit, &part))
        return bad(err, text, "a size below 16 EiB");
    if (part % frac_div)
        return bad(err, text, "a whole number of bytes");
    if (!number_add(bytes, part / frac_div, &bytes))
        return bad(err, text, "a size below 16 EiB");
    *ret_bytes = bytes;
    return 0;
}

static const struct {
    const char *name;
    uint64_t ms;
} time_units[] = {
    {"w", 7 * 86400000ull}, {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1},
};
#define N_TIME_UNITS (sizeof(time_units) / sizeof(time_units[0]))

int number_parse_time(const char *text, uint64_t *ret_ms, struct err *err)
{
    static const char want[] = "a time such as 90s, 10m, 2h or 7d";
    const char *p = text;
    uint64_t n, unit = 0;
    if (!digits(&p, &n))
        return bad(err, text, want);
    if (!*p)
        unit = 1000;
    for (size_t i = 0; i < N_TIME_UNITS && !unit; i++)
        if (strcmp(p, time_units[i].name) == 0)
            unit = time_units[i].ms;
    if (!unit || !number_mul(n, unit, &n))
        return bad(err, text, want);
    *ret_ms = n;
    return 0;
}

const char *number_format_size_exact(uint64_t bytes, char buf[NUMBER_TEXT])
{
    static const char letters[] = "\0KMGTPE";
    int i = 0;
    while (bytes && bytes % 1024 == 0 && i < 6) {
        bytes /= 1024;
        i++;
    }
    str_print(buf, NUMBER_TEXT, "%" PRIu64 "%.1s", bytes, letters + i);
    return buf;
}

const char *number_format_size(uint64_t bytes, char buf[NUMBER_TEXT])
{
    static const char letters[] = "\0KMGTPE";
    int i = 0;
    uint64_t unit = 1;
    while (i < 6 && bytes / unit >= 1024) {
        unit *= 1024;
        i++;
    }
    uint64_t whole = bytes / unit, tenth = (bytes % unit) * 10 / unit;
    if (unit > 1 && whole < 10 && tenth)
        str_print(buf, NUMBER_TEXT, "%" PRIu64 ".%" PRIu64 "%.1s", whole, tenth, letters + i);
    else
        str_print(buf, NUMBER_TEXT, "%" PRIu64 "%.1s", whole, letters + i);
    return buf;
}

const char *number_format_time(uint64_t ms, char buf[NUMBER_TEXT])
{
    for (size_t i = 1; i < N_TIME_UNITS; i++) {
        uint64_t unit = time_units[i].ms;
        if (ms < unit)
            continue;
        uint64_t rest = i + 1 < N_TIME_UNITS - 1 ? ms % unit / time_units[i + 1].ms : 0;
        if (rest)
            str_print(buf, NUMBER_TEXT, "%" PRIu64 "%s %" PRIu64 "%s", ms / unit,
                      time_units[i].name, rest, time_units[i + 1].name);
        else
            str_print(buf, NUMBER_TEXT, "%" PRIu64 "%s", ms / unit, time_units[i].name);
        return buf;
    }
    str_print(buf, NUMBER_TEXT, "0s");
    return buf;
}

bool number_after(const char *text, const char *word, uint64_t max, uint64_t *ret)
{
    const char *at = strstr(text, word);
    char digits[NUMBER_TEXT];
    if (!at)
        return false;
    at += strlen(word);
    at += strspn(at, " \t:");
    str_print(digits, sizeof(digits), "%.*s", (int)strspn(at, "0123456789"), at);
    return number_parse(digits, 0, max, ret, NULL) == 0;
}
