/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/name.h"

#include "base/str.h"

#include <stdbool.h>
#include <string.h>

static int refuse(struct err *err, const char *name, const char *why)
{
    auto_str struct str s = str_init(512);
    str_escape(&s, name, strnlen(name, 70));
    return err_set(err, ERR_USAGE, "\"%s%s\" is not a usable name: %s", str_c(&s),
                   strnlen(name, 71) > 70 ? "…" : "", why);
}

static int check(const char *name, const char *inner, struct err *err)
{
    size_t n = strnlen(name, NAME_SIZE + 1);
    if (n == 0)
        return refuse(err, name, "it is empty");
    if (n >= NAME_SIZE)
        return refuse(err, name, "it is longer than 63 characters");
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (c >= 'A' && c <= 'Z')
            return refuse(err, name, "use lower-case letters");
        if (plain)
            continue;
        if (!strchr(inner, c))
            return refuse(err, name, inner[1] ? "use letters, digits, '-', '_' and '.'"
                                              : "use letters, digits and '-'");
        if (i == 0 || i == n - 1)
            return refuse(err, name, "begin and end it with a letter or a digit");
    }
    return 0;
}

int name_check_ve(const char *name, struct err *err)
{
    return check(name, "-", err);
}

int name_check_template(const char *name, struct err *err)
{
    return check(name, "-_.", err);
}

int name_check_label(const char *key, struct err *err)
{
    return check(key, "-_./", err);
}

static size_t distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n >= NAME_SIZE || m >= NAME_SIZE)
        return NAME_SIZE;
    size_t row[NAME_SIZE];
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diag = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t cost = diag + (a[i - 1] != b[j - 1]);
            diag = row[j];
            size_t least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            row[j] = cost < least ? cost : least;
        }
    }
    return row[m];
}

const char *name_suggest(const char *word, const char *(*next)(void *ctx, size_t i), void *ctx)
{
    const char *best = NULL, *c;
    size_t limit = strlen(word) / 3, best_d = (limit ? limit : 1) + 1;
    for (size_t i = 0; (c = next(ctx, i)); i++) {
        size_t d = distance(word, c);
        if (d < best_d) {
            best_d = d;
            best = c;
        }
    }
    return best;
}
