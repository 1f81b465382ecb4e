/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * http — reads one HTTP/1.1 response, byte span by byte span (RFC 9112).
 *
 * I own the grammar of what teremd answers: status line, headers, a body by Content-Length, by
 * chunks or until the end of the connection, and the switch to another protocol (101).
 * I use base.  I never read, write or allocate: the caller brings bytes and takes spans.
 *
 * Strict where leniency has been a hole elsewhere: lines end with CRLF, both Content-Length and
 * Transfer-Encoding in one response, two different lengths, a length that is not all digits, and
 * control bytes in a header are refused (ERR_CORRUPT).
 *
 *     struct http_reader r = {0};
 *     while (len) {
 *         size_t used; const char *body; size_t n;
 *         if (http_feed(&r, p, len, &used, &body, &n, err) < 0) …
 *         // n bytes of body at `body`, which points into p
 *         p += used; len -= used;
 *         if (http_done(&r)) break;      // what is left belongs to nobody
 *         if (http_upgraded(&r)) break;  // what is left belongs to the new protocol
 *     }
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_LINE_MAX 4096  /* one line of the head, of chunk sizes, of trailers */
#define HTTP_HEAD_MAX 32768 /* all of the head's lines together, interim responses included */

enum http_phase {
    HTTP_STATUS = 0,
    HTTP_HEADERS,
    HTTP_LENGTH,
    HTTP_CHUNK_SIZE,
    HTTP_CHUNK_DATA,
    HTTP_CHUNK_END,
    HTTP_TRAILERS,
    HTTP_UNTIL_CLOSE,
    HTTP_UPGRADED,
    HTTP_DONE,
};

struct http_reader {
    enum http_phase phase;
    int status;       /* valid from http_has_head() on */
    char type[64];    /* Content-Type without its parameters, lower case; "" when absent */
    char upgrade[32]; /* Upgrade, as sent */
    bool has_length, chunked;
    uint64_t left; /* bytes of the body or the chunk still to come */
    size_t total;  /* bytes of lines so far */
    size_t line_len;
    char line[HTTP_LINE_MAX];
};

/* Consumes *used bytes of `in` and gives at most one span of body (*body_len may be 0).  Stops
 * early when the head is complete, so that the caller can look at it. */
int http_feed(struct http_reader *r, const char *in, size_t len, size_t *used, const char **body,
              size_t *body_len, struct err *err);
/* The connection has ended: 0 when the response is whole, else ERR_UNAVAILABLE. */
int http_eof(struct http_reader *r, struct err *err);

static inline bool http_has_head(const struct http_reader *r)
{
    return r->phase > HTTP_HEADERS;
}
static inline bool http_upgraded(const struct http_reader *r)
{
    return r->phase == HTTP_UPGRADED;
}
static inline bool http_done(const struct http_reader *r)
{
    return r->phase == HTTP_DONE;
}
