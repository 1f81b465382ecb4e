/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * str — a string under construction, with a maximum that its maker states.
 *
 *     auto_str struct str s = str_init(4096);
 *     str_add(&s, "%s=%u\n", key, value);
 *     if (s.failed) …            // out of memory or over the maximum: checked once, at the end
 *     char *text = str_steal(&s);
 *
 * s.buf is always NUL-terminated once anything was added; str_c() is never NULL.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct str {
    char *buf;
    size_t len, cap, max;
    bool failed;
};

#define auto_str __attribute__((cleanup(str_done)))

static inline struct str str_init(size_t max)
{
    return (struct str){.max = max};
}
void str_done(struct str *s);
void str_add(struct str *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void str_add_bytes(struct str *s, const void *p, size_t n);
void str_clear(struct str *s);
/* "web1, web2 and 3 more": each of several names, counted by *n, which begins at 0; then the rest.
 */
#define STR_NAMES 5
void str_add_name(struct str *s, size_t *n, const char *name);
void str_end_names(struct str *s, size_t n);
/* The text, which the caller frees; NULL if building failed. */
char *str_steal(struct str *s);
static inline const char *str_c(const struct str *s)
{
    return s->buf ? s->buf : "";
}

/* malloc'ed printf; NULL when out of memory. */
char *str_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* snprintf that tells truncation: 0 whole, -1 cut (dst then holds the cut text). */
int str_print(char *dst, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool str_eq(const char *a, const char *b); /* NULL equals only NULL */
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
/* Strips white space at both ends, in place; returns the first kept character. */
char *str_trim(char *s);
/* Copies src so that it is safe on a terminal: control bytes and invalid UTF-8 become \xNN. */
void str_escape(struct str *s, const char *src, size_t len);
