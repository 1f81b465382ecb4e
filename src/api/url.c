/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/url.h"

#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Unicode 15, table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF. */
static bool is_utf8(const char *text)
{
    const uint8_t *p = (const uint8_t *)text;
    while (*p) {
        uint8_t c = *p++, low = 0x80, high = 0xbf;
        int more;
        if (c < 0x80)
            continue;
        if (c >= 0xc2 && c <= 0xdf)
            more = 1;
        else if (c >= 0xe0 && c <= 0xef)
            more = 2;
        else if (c >= 0xf0 && c <= 0xf4)
            more = 3;
        else
            return false;
        if (c == 0xe0)
            low = 0xa0;
        else if (c == 0xed)
            high = 0x9f;
        else if (c == 0xf0)
            low = 0x90;
        else if (c == 0xf4)
            high = 0x8f;
        for (; more; more--, p++, low = 0x80, high = 0xbf)
            if (*p < low || *p > high)
                return false;
    }
    return true;
}

/* Decodes in place; `form`: "+" is a space. */
static int decode(char *s, bool form, struct err *err)
{
    char *out = s;
    for (; *s; s++) {
        char c = *s;
        if (c == '%') {
            int high = hex(s[1]), low = high < 0 ? -1 : hex(s[2]);
            if (low < 0)
                return err_set(
                    err, ERR_USAGE,
                    "the address has a \"%%\" that two hexadecimal digits do not follow");
            c = (char)(high << 4 | low);
            if (c == '\0')
                return err_set(err, ERR_USAGE, "the address contains a NUL");
            s += 2;
        } else if (c == '+' && form) {
            c = ' ';
        }
        *out++ = c;
    }
    *out = '\0';
    return 0;
}

static int decode_segment(char *s, struct err *err)
{
    int rc = decode(s, false, err);
    if (rc < 0)
        return rc;
    for (const char *c = s; *c; c++)
        if (*c == '/' || (unsigned char)*c < 0x20 || *c == 0x7f)
            return err_set(err, ERR_USAGE, "a name in the address contains a %s",
                           *c == '/' ? "slash" : "control character");
    if (!is_utf8(s))
        return err_set(err, ERR_USAGE, "the address is not UTF-8");
    return 0;
}

static int parse_query(char *s, struct url *url, struct err *err)
{
    char *save = NULL;
    for (char *pair = strtok_r(s, "&", &save); pair; pair = strtok_r(NULL, "&", &save)) {
        char *value = strchr(pair, '=');
        if (value)
            *value++ = '\0';
        else
            value = pair + strlen(pair);
        int rc = decode(pair, true, err);
        if (rc == 0)
            rc = decode(value, true, err);
        if (rc < 0)
            return rc;
        if (!is_utf8(pair) || !is_utf8(value))
            return err_set(err, ERR_USAGE, "the address is not UTF-8");
        if (url_query(url, pair))
            return err_set(err, ERR_USAGE, "the query has \"%s\" twice", pair);
        if (url->n_query == URL_QUERY_MAX)
            return err_set(err, ERR_USAGE, "the query has more than %d keys", URL_QUERY_MAX);
        url->query[url->n_query++] = (struct url_pair){pair, value};
    }
    return 0;
}

int url_parse(const char *target, struct url *ret, struct err *err)
{
    auto_url struct url url = {.text = strdup(target)};
    if (!url.text)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (*url.text != '/')
        return err_set(err, ERR_USAGE, "the address must begin with a slash");
    char *query = strchr(url.text, '?');
    if (query)
        *query++ = '\0';
    for (char *s = url.text + 1, *next; s; s = next) {
        next = strchr(s, '/');
        if (next)
            *next++ = '\0';
        if (url.n_segments == URL_SEGMENTS_MAX)
            return err_set(err, ERR_NOT_FOUND, "there is nothing at this address");
        int rc = decode_segment(s, err);
        if (rc < 0)
            return rc;
        url.segments[url.n_segments++] = s;
    }
    if (query) {
        int rc = parse_query(query, &url, err);
        if (rc < 0)
            return rc;
    }
    *ret = url;
    url = (struct url){0};
    return 0;
}

void url_done(struct url *url)
{
    free(url->text);
    *url = (struct url){0};
}

const char *url_query(const struct url *url, const char *key)
{
    for (size_t i = 0; i < url->n_query; i++)
        if (strcmp(url->query[i].key, key) == 0)
            return url->query[i].value;
    return NULL;
}
