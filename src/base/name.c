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
            return refuse(err, name,
                          inner[1] ? "use letters, digits, '-', '_' and '.'"
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

/* The number at its beginning, without the zeros before it; its digits are counted. */
static const char *digits(const char *s, size_t *ret_n)
{
    s += strspn(s, "0");
    *ret_n = strspn(s, "0123456789");
    return s;
}

int name_compare(const char *a, const char *b)
{
    const char *x = a, *y = b;
    while (*x && *y) {
        size_t n, m;
        if (*x < '0' || *x > '9' || *y < '0' || *y > '9') {
            if (*x != *y)
                break;
            x++;
            y++;
            continue;
        }
        x = digits(x, &n);
        y = digits(y, &m);
        int r = n != m ? (n > m) - (n < m) : memcmp(x, y, n);
        if (r)
            return r;
        x += n;
        y += m;
    }
    int r = strcmp(x, y);
    return r ? r : strcmp(a, b); /* "b01" and "b1" are two names */
}

/* Edit distance where two neighbours that changed places count once: "strat" is one from
 * "start". */
static size_t distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n >= NAME_SIZE || m >= NAME_SIZE)
        return NAME_SIZE;
    size_t rows[3][NAME_SIZE];
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *row = rows[i % 3], *up = rows[(i + 2) % 3], *up2 = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t cost = up[j - 1] + (a[i - 1] != b[j - 1]);
            size_t least = up[j] < row[j - 1] ? up[j] + 1 : row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                up2[j - 2] + 1 < least)
                least = up2[j - 2] + 1;
            row[j] = cost < least ? cost : least;
        }
    }
    return rows[n % 3][m];
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
