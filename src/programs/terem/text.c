/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "text.h"

#include "base/cleanup.h"
#include "base/number.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>

struct range {
    uint32_t from, to;
};

/* wcwidth(3) depends on the locale, and setting one costs more than the rest of our start. */
static const struct range zero[] = {
    {0x300, 0x36f},   {0x483, 0x489},   {0x591, 0x5bd},   {0x610, 0x61a},   {0x64b, 0x65f},
    {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff}, {0x200b, 0x200f}, {0x202a, 0x202e}, {0x2060, 0x206f},
    {0x20d0, 0x20ff}, {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}, {0xfeff, 0xfeff}, {0xe0100, 0xe01ef},
};
static const struct range wide[] = {
    {0x1100, 0x115f},   {0x2e80, 0x303e},   {0x3041, 0xa4cf},   {0xac00, 0xd7a3},
    {0xf900, 0xfaff},   {0xfe30, 0xfe6f},   {0xff00, 0xff60},   {0xffe0, 0xffe6},
    {0x1f300, 0x1f64f}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd},
};

static bool within(const struct range *r, size_t n, uint32_t c)
{
    for (size_t i = 0; i < n; i++)
        if (c >= r[i].from && c <= r[i].to)
            return true;
    return false;
}

/* The character at p and its length; malformed bytes count one each. */
static size_t decode(const char *s, size_t left, uint32_t *ret)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t n = *p < 0xc0 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
    *ret = *p;
    if (n == 1 || n > left)
        return 1;
    uint32_t c = *p & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 1;
        c = c << 6 | (p[i] & 0x3f);
    }
    *ret = c;
    return n;
}

static size_t cells(uint32_t c)
{
    if (c < 0x300)
        return 1;
    return within(zero, ARRAY_SIZE(zero), c) ? 0 : within(wide, ARRAY_SIZE(wide), c) ? 2 : 1;
}

size_t text_width(const char *s, size_t len)
{
    size_t w = 0;
    uint32_t c;
    for (size_t i = 0; i < len;) {
        i += decode(s + i, len - i, &c);
        w += cells(c);
    }
    return w;
}

size_t text_add_cut(struct str *out, const char *s, size_t width)
{
    size_t len = strlen(s), w = 0, whole = text_width(s, len);
    size_t room = whole > width ? (width ? width - 1 : 0) : width;
    uint32_t c;
    for (size_t i = 0; i < len;) {
        size_t n = decode(s + i, len - i, &c);
        if (w + cells(c) > room)
            break;
        str_add_bytes(out, s + i, n);
        w += cells(c);
        i += n;
    }
    if (whole > width && width) {
        str_add(out, "…");
        w++;
    }
    return w;
}

void text_add(struct str *out, const char *src)
{
    if (src)
        str_escape(out, src, strlen(src));
    else
        str_add(out, "-");
}

int64_t text_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void text_add_age(struct str *out, int64_t then, int64_t now)
{
    char buf[NUMBER_TEXT];
    if (now - then < 1000)
        str_add(out, "now");
    else
        str_add(out, "%s ago", number_format_time((uint64_t)((now - then) / 1000 * 1000), buf));
}

void text_add_time(struct str *out, int64_t ms)
{
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    char buf[32];
    if (!localtime_r(&t, &tm) || !strftime(buf, sizeof(buf), "%Y-%m-%d %H:%M:%S", &tm))
        str_add(out, "-");
    else
        str_add(out, "%s", buf);
}

void text_table_done(struct text_table *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->cells[i]);
    free(t->cells);
    t->cells = NULL;
    t->n = t->cap = 0;
}

void text_cell(struct text_table *t, const char *text)
{
    auto_str struct str s = str_init(TEXT_MAX);
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        char **p = reallocarray(t->cells, cap, sizeof(*p));
        if (!p)
            abort(); /* a few kilobytes of text: nothing useful is left to do */
        t->cells = p;
        t->cap = cap;
    }
    text_add(&s, text);
    t->cells[t->n++] = str_steal(&s);
}

void text_cellf(struct text_table *t, const char *fmt, ...)
{
    auto_free char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    text_cell(t, text);
}

static void pad(struct str *out, size_t n)
{
    while (n-- > 0)
        str_add_bytes(out, " ", 1);
}

void text_add_wrapped(struct str *out, const char *src, size_t indent, size_t width)
{
    auto_str struct str s = str_init(TEXT_MAX);
    size_t used = indent;
    text_add(&s, src);
    for (const char *p = str_c(&s); *p;) {
        size_t len = strcspn(p, " "), w = text_width(p, len);
        if (width && used > indent && used + 1 + w > width) {
            str_add(out, "\n");
            pad(out, indent);
            used = indent;
        } else if (p != str_c(&s)) {
            str_add(out, " ");
            used++;
        }
        str_add_bytes(out, p, len);
        used += w;
        p += len + (p[len] == ' ');
    }
}

#define COLUMNS_MAX 32
/* Cells that are left of words in a table which is too wide. */
#define LAST_MIN  24
#define WORDS_MIN 10
#define NAME_MIN  16 /* what is longer of a name gives way before a column goes */

static void measure(const struct text_table *t, size_t widths[COLUMNS_MAX])
{
    memset(widths, 0, COLUMNS_MAX * sizeof(*widths));
    for (size_t i = 0; t->columns && i < t->n; i++) {
        const char *cell = t->cells[i] ? t->cells[i] : "";
        size_t w = text_width(cell, strlen(cell));
        if (w > widths[i % t->columns])
            widths[i % t->columns] = w;
    }
}

bool text_table_fits(const struct text_table *t, size_t width)
{
    size_t widths[COLUMNS_MAX], sum = 0;
    if (t->columns == 0 || t->columns > COLUMNS_MAX)
        return true;
    measure(t, widths);
    for (size_t i = 0; i < t->columns; i++)
        sum += widths[i] + (i ? 2 : 0);
    return sum <= width + (widths[0] > NAME_MIN ? widths[0] - NAME_MIN : 0);
}

/* Which column of words is made narrower: the last one while much of it is left, else the widest
 * one; columns if there is none. */
static size_t narrowed(const struct text_table *t, const size_t widths[COLUMNS_MAX])
{
    size_t last = t->columns - 1, best = t->columns;
    if (!(t->right >> last & 1) && widths[last] > LAST_MIN)
        return last;
    for (size_t c = 0; c < t->columns; c++)
        if (!(t->right >> c & 1) && widths[c] > WORDS_MIN &&
            (best == t->columns || widths[c] > widths[best]))
            best = c;
    return best;
}

static void narrow(const struct text_table *t, size_t widths[COLUMNS_MAX], size_t max_width)
{
    size_t sum = 2 * (t->columns - 1), c;
    for (c = 0; c < t->columns; c++)
        sum += widths[c];
    for (; sum > max_width && (c = narrowed(t, widths)) < t->columns; sum--)
        widths[c]--;
}

void text_table_render(const struct text_table *t, struct str *out, size_t max_width)
{
    size_t widths[COLUMNS_MAX];
    if (t->columns == 0 || t->columns > COLUMNS_MAX)
        return;
    measure(t, widths);
    if (max_width)
        narrow(t, widths, max_width);
    bool wrap = t->wrap && max_width;
    for (size_t row = 0; row + t->columns <= t->n; row += t->columns) {
        auto_str struct str line = str_init(TEXT_MAX);
        for (size_t c = 0; c < t->columns - wrap; c++) {
            const char *cell = t->cells[row + c] ? t->cells[row + c] : "";
            bool right = t->right >> c & 1;
            if (right)
                pad(&line, widths[c] - text_width(cell, strlen(cell)));
            size_t w = text_add_cut(&line, cell, widths[c]);
            if (c + 1 < t->columns)
                pad(&line, (right ? 0 : widths[c] - w) + 2);
        }
        if (wrap) {
            str_add(out, "%s", str_c(&line));
            text_add_wrapped(out, t->cells[row + t->columns - 1],
                             text_width(str_c(&line), line.len), max_width);
            str_add(out, "\n");
            continue;
        }
        while (line.len && line.buf[line.len - 1] == ' ')
            line.buf[--line.len] = '\0';
        if (max_width)
            text_add_cut(out, str_c(&line), max_width);
        else
            str_add(out, "%s", str_c(&line));
        str_add(out, "\n");
    }
}

const char *text_size(uint64_t n, char buf[TEXT_SIZE])
{
    char number[NUMBER_TEXT];
    str_print(buf, TEXT_SIZE, "%s%s", number_format_size(n, number),
              n >= 1024 ? ""
              : n == 1  ? " byte"
                        : " bytes");
    return buf;
}
