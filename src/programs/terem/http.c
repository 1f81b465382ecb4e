/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "http.h"

#include "base/number.h"
#include "base/str.h"

#include <string.h>
#include <strings.h>

static int corrupt(struct err *err, const char *what)
{
    return err_set(err, ERR_CORRUPT, "the answer is not HTTP: %s", what);
}

/* Adds bytes up to the end of a line to r->line.  1: a whole line without its CRLF, 0: more. */
static int take_line(struct http_reader *r, const char *in, size_t len, size_t *used,
                     struct err *err)
{
    const char *nl = memchr(in, '\n', len);
    size_t n = nl ? (size_t)(nl - in) + 1 : len;
    if (n > sizeof(r->line) - r->line_len)
        return corrupt(err, "a line is too long");
    r->total += n;
    if (r->total > HTTP_HEAD_MAX && !http_has_head(r))
        return corrupt(err, "the head is too long");
    memcpy(r->line + r->line_len, in, n);
    r->line_len += n;
    *used += n;
    if (!nl)
        return 0;
    if (r->line_len < 2 || r->line[r->line_len - 2] != '\r')
        return corrupt(err, "a line does not end with CRLF");
    r->line_len -= 2;
    for (size_t i = 0; i < r->line_len; i++) {
        unsigned char c = (unsigned char)r->line[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return corrupt(err, "a control byte in a line");
    }
    r->line[r->line_len] = '\0';
    r->line_len = 0;
    return 1;
}

static int status_line(struct http_reader *r, struct err *err)
{
    const char *s = r->line;
    if (!str_starts(s, "HTTP/1.1 ") && !str_starts(s, "HTTP/1.0 "))
        return corrupt(err, "no status line");
    s += 9;
    for (int i = 0; i < 3; i++)
        if (s[i] < '0' || s[i] > '9')
            return corrupt(err, "no status code");
    if (s[3] != ' ' && s[3] != '\0')
        return corrupt(err, "no status code");
    r->status = (s[0] - '0') * 100 + (s[1] - '0') * 10 + (s[2] - '0');
    if (r->status < 100 || r->status > 599)
        return corrupt(err, "an unknown status code");
    r->phase = HTTP_HEADERS;
    return 0;
}

static int content_length(struct http_reader *r, const char *value, struct err *err)
{
    uint64_t n;
    if (number_parse(value, 0, INT64_MAX, &n, NULL) < 0)
        return corrupt(err, "a bad Content-Length");
    if (r->has_length && r->left != n)
        return corrupt(err, "two Content-Lengths");
    r->has_length = true;
    r->left = n;
    return 0;
}

static void content_type(struct http_reader *r, const char *value)
{
    size_t n = strcspn(value, "; \t");
    if (n >= sizeof(r->type))
        n = 0; /* no type that we know is that long */
    for (size_t i = 0; i < n; i++)
        r->type[i] = (char)(value[i] >= 'A' && value[i] <= 'Z' ? value[i] + 32 : value[i]);
    r->type[n] = '\0';
}

static int header(struct http_reader *r, struct err *err)
{
    static const char token[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "!#$%&'*+-.^_`|~";
    char *colon = strchr(r->line, ':');
    if (!colon || colon == r->line || strspn(r->line, token) != (size_t)(colon - r->line))
        return corrupt(err, "a header without a name");
    *colon = '\0';
    const char *value = str_trim(colon + 1);
    if (strcasecmp(r->line, "Content-Length") == 0)
        return content_length(r, value, err);
    if (strcasecmp(r->line, "Transfer-Encoding") == 0) {
        if (r->chunked || strcasecmp(value, "chunked") != 0)
            return corrupt(err, "an unknown Transfer-Encoding");
        r->chunked = true;
    } else if (strcasecmp(r->line, "Content-Type") == 0) {
        content_type(r, value);
    } else if (strcasecmp(r->line, "Upgrade") == 0) {
        if (str_print(r->upgrade, sizeof(r->upgrade), "%s", value) < 0)
            return corrupt(err, "an unknown Upgrade");
    }
    return 0;
}

static int head_end(struct http_reader *r, struct err *err)
{
    if (r->chunked && r->has_length)
        return corrupt(err, "both Content-Length and Transfer-Encoding");
    if (r->status == 101) {
        r->phase = HTTP_UPGRADED;
    } else if (r->status < 200) { /* an interim answer: the real one follows */
        size_t total = r->total;
        *r = (struct http_reader){.total = total};
    } else if (r->status == 204 || r->status == 304) {
        r->phase = HTTP_DONE;
    } else if (r->chunked) {
        r->phase = HTTP_CHUNK_SIZE;
    } else if (r->has_length) {
        r->phase = r->left ? HTTP_LENGTH : HTTP_DONE;
    } else {
        r->phase = HTTP_UNTIL_CLOSE;
    }
    return 0;
}

static int chunk_size(struct http_reader *r, struct err *err)
{
    uint64_t n = 0;
    const char *s = r->line;
    size_t digits = strspn(s, "0123456789abcdefABCDEF");
    if (digits == 0 || digits > 15)
        return corrupt(err, "a bad chunk size");
    for (size_t i = 0; i < digits; i++)
        n = n << 4 | (uint64_t)(s[i] <= '9' ? s[i] - '0' : (s[i] | 32) - 'a' + 10);
    s += digits + strspn(s + digits, " \t");
    if (*s && *s != ';')
        return corrupt(err, "a bad chunk size");
    r->left = n;
    r->phase = n ? HTTP_CHUNK_DATA : HTTP_TRAILERS;
    return 0;
}

static int line_done(struct http_reader *r, struct err *err)
{
    switch (r->phase) {
    case HTTP_STATUS:
        return status_line(r, err);
    case HTTP_HEADERS:
        return r->line[0] ? header(r, err) : head_end(r, err);
    case HTTP_CHUNK_SIZE:
        return chunk_size(r, err);
    case HTTP_CHUNK_END:
        if (r->line[0])
            return corrupt(err, "a chunk is longer than its size");
        r->phase = HTTP_CHUNK_SIZE;
        return 0;
    case HTTP_TRAILERS:
        if (!r->line[0])
            r->phase = HTTP_DONE;
        return 0;
    default:
        return err_set(err, ERR_INTERNAL, "a line in the body");
    }
}

static void take_body(struct http_reader *r, const char *in, size_t len, size_t *used,
                      const char **body, size_t *body_len)
{
    size_t n = len;
    if (r->phase != HTTP_UNTIL_CLOSE) {
        if (n > r->left)
            n = (size_t)r->left;
        r->left -= n;
        if (r->left == 0)
            r->phase = r->phase == HTTP_LENGTH ? HTTP_DONE : HTTP_CHUNK_END;
    }
    *body = in;
    *body_len = n;
    *used += n;
}

int http_feed(struct http_reader *r, const char *in, size_t len, size_t *used, const char **body,
              size_t *body_len, struct err *err)
{
    *used = 0;
    *body = NULL;
    *body_len = 0;
    while (*used < len) {
        if (r->phase == HTTP_DONE || r->phase == HTTP_UPGRADED)
            return 0;
        if (r->phase == HTTP_LENGTH || r->phase == HTTP_CHUNK_DATA ||
            r->phase == HTTP_UNTIL_CLOSE) {
            take_body(r, in + *used, len - *used, used, body, body_len);
            return 0;
        }
        bool had_head = http_has_head(r);
        int n = take_line(r, in + *used, len - *used, used, err);
        if (n > 0)
            n = line_done(r, err);
        if (n < 0)
            return n;
        if (!had_head && http_has_head(r))
            return 0;
    }
    return 0;
}

int http_eof(struct http_reader *r, struct err *err)
{
    if (r->phase == HTTP_UNTIL_CLOSE)
        r->phase = HTTP_DONE;
    if (r->phase == HTTP_DONE)
        return 0;
    return err_set(err, ERR_UNAVAILABLE,
                   http_has_head(r) ? "the answer broke off"
                                    : "the connection ended without an answer");
}
