/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/str.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void str_done(struct str *s)
{
    free(s->buf);
    s->buf = NULL;
    s->len = s->cap = 0;
}

void str_clear(struct str *s)
{
    s->len = 0;
    s->failed = false;
    if (s->buf)
        s->buf[0] = '\0';
}

static bool room_for(struct str *s, size_t extra)
{
    if (s->failed || extra > s->max || s->len > s->max - extra) {
        s->failed = true;
        return false;
    }
    size_t need = s->len + extra + 1;
    if (need <= s->cap)
        return true;
    size_t cap = s->cap ? s->cap : 64;
    while (cap < need)
        cap *= 2;
    char *p = realloc(s->buf, cap);
    if (!p) {
        s->failed = true;
        return false;
    }
    s->buf = p;
    s->cap = cap;
    return true;
}

void str_add_bytes(struct str *s, const void *p, size_t n)
{
    if (!room_for(s, n))
        return;
    if (n)
        memcpy(s->buf + s->len, p, n);
    s->len += n;
    s->buf[s->len] = '\0';
}

void str_add(struct str *s, const char *fmt, ...)
{
    va_list ap, ap2;
    va_start(ap, fmt);
    va_copy(ap2, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        s->failed = true;
    else if (room_for(s, (size_t)n)) {
        vsnprintf(s->buf + s->len, (size_t)n + 1, fmt, ap2);
        s->len += (size_t)n;
    }
    va_end(ap2);
}

void str_add_name(struct str *s, size_t *n, const char *name)
{
    if (*n < STR_NAMES)
        str_add(s, "%s%s", *n ? ", " : "", name);
    ++*n;
}

void str_end_names(struct str *s, size_t n)
{
    if (n > STR_NAMES)
        str_add(s, " and %zu more", n - STR_NAMES);
}

char *str_steal(struct str *s)
{
    if (s->failed || !room_for(s, 0)) {
        str_done(s);
        return NULL;
    }
    char *p = s->buf;
    p[s->len] = '\0';
    s->buf = NULL;
    s->len = s->cap = 0;
    return p;
}

char *str_format(const char *fmt, ...)
{
    char *p = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&p, fmt, ap);
    va_end(ap);
    return n < 0 ? NULL : p;
}

int str_print(char *dst, size_t size, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(dst, size, fmt, ap);
    va_end(ap);
    return n < 0 || (size_t)n >= size ? -1 : 0;
}

bool str_eq(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

bool str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

char *str_trim(char *s)
{
    while (isspace((unsigned char)*s))
        s++;
    size_t n = strlen(s);
    while (n && isspace((unsigned char)s[n - 1]))
        s[--n] = '\0';
    return s;
}

/* Marks that turn the direction of what follows, with which a text can be shown as another one
 * (Unicode TR 36, 2.3), and the two separators of lines. */
static bool deceives(uint32_t cp)
{
    return cp == 0x61c || cp == 0x200e || cp == 0x200f || (cp >= 0x2028 && cp <= 0x202e) ||
           (cp >= 0x2066 && cp <= 0x2069);
}

/* Length of the valid UTF-8 sequence at p, or 0.  C1 controls (U+0080–U+009F) count as invalid:
 * terminals act on them. */
static size_t utf8_len(const unsigned char *p, size_t left)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc2 ? 2 : 0;
    if (p[0] >= 0xf5 || n == 0 || n > left)
        return 0;
    uint32_t cp = p[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        cp = cp << 6 | (p[i] & 0x3f);
    }
    if (cp < least[n] || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff) || cp < 0xa0 ||
        deceives(cp))
        return 0;
    return n;
}

void str_escape(struct str *s, const char *src, size_t len)
{
    const unsigned char *p = (const unsigned char *)src;
    for (size_t i = 0; i < len;) {
        size_t n = p[i] >= 0x20 && p[i] < 0x7f ? 1 : p[i] >= 0x80 ? utf8_len(p + i, len - i) : 0;
        if (n) {
            str_add_bytes(s, p + i, n);
            i += n;
        } else {
            str_add(s, "\\x%02x", p[i++]);
        }
    }
}
