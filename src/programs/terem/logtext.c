/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "logtext.h"

#include <string.h>

#define SGR_MAX 32 /* "\x1b[38;2;255;255;255m" has 19 bytes */

/* Length of the SGR sequence at p; 0: it is none; -1: it may become one. */
static int sgr(const char *p, size_t len)
{
    if (p[0] != '\x1b')
        return 0;
    if (len == 1)
        return -1;
    if (p[1] != '[')
        return 0;
    for (size_t i = 2; i < len && i < SGR_MAX; i++) {
        if (p[i] == 'm')
            return (int)i + 1;
        if ((p[i] < '0' || p[i] > '9') && p[i] != ';')
            return 0;
    }
    return len < SGR_MAX ? -1 : 0;
}

/* Bytes at the end of p that begin a UTF-8 character which is not whole. */
static size_t unfinished(const char *p, size_t len)
{
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        unsigned char c = (unsigned char)p[len - back];
        if (c < 0x80)
            return 0;
        if (c >= 0xc0)
            return back < (c >= 0xf0 ? 4u : c >= 0xe0 ? 3u : 2u) ? back : 0;
    }
    return 0;
}

size_t logtext_add(struct str *out, const char *p, size_t len, bool color, bool final)
{
    size_t at = 0, plain = 0;
    while (at < len) {
        int n = sgr(p + at, len - at);
        bool kept = p[at] == '\n' || p[at] == '\t';
        bool line_end = false;
        if (p[at] == '\r') { /* programs end lines with CR LF, and the terminal adds another CR */
            size_t end = at;
            while (end < len && p[end] == '\r')
                end++;
            line_end = end < len && p[end] == '\n';
            if (end == len && !final)
                n = -1;
        }
        if (n == 0 && !kept && !line_end) {
            at++;
            continue;
        }
        if (n < 0 && final) {
            at++;
            continue;
        }
        str_escape(out, p + plain, at - plain);
        plain = at;
        if (n < 0)
            return at;
        if (n > 0 && color)
            str_add_bytes(out, p + at, (size_t)n);
        else if (kept)
            str_add_bytes(out, p + at, 1);
        at += n > 0 ? (size_t)n : 1;
        plain = at;
    }
    size_t keep = final ? 0 : unfinished(p + plain, len - plain);
    str_escape(out, p + plain, len - plain - keep);
    return len - keep;
}
