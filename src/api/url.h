/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * url — a request's target, taken apart strictly (RFC 3986, origin form).
 *
 * Every segment is percent-decoded once.  A "%" without two hexadecimal digits, bytes that are
 * not UTF-8, a NUL, and in a segment a slash or a control byte: refused.  In the query "+" is a
 * space, as in forms, and a key stands once.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>

#define URL_SEGMENTS_MAX 8
#define URL_QUERY_MAX    16

struct url {
    char *text; /* decoded in place; what is below points into it */
    size_t n_segments, n_query;
    const char *segments[URL_SEGMENTS_MAX];
    struct url_pair {
        const char *key, *value;
    } query[URL_QUERY_MAX];
};

#define auto_url __attribute__((cleanup(url_done)))
/* ERR_USAGE: malformed; ERR_NOT_FOUND: more segments than any route has. */
int url_parse(const char *target, struct url *ret, struct err *err);
void url_done(struct url *url);
/* NULL when the query has no such key. */
const char *url_query(const struct url *url, const char *key);
