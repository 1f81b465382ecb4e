/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "top.h"

#include "base/cleanup.h"
#include "base/name.h"
#include "base/number.h"
#include "cli.h"
#include "text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define WIDE       112 /* from here on every number has a column of its own */
#define HEAD       3   /* lines above the rows */
#define NAME_LEAST 8
#define NAME_MOST  32
#define CELL       96
#define KEY_LEAST  6 /* cells of a refused row's name that are worth a count less */
#define UNKNOWN    "-"
#define MARK       "!"
#define RED        "\x1b[1;31m"
#define INVERSE    "\x1b[7m"
#define PLAIN      "\x1b[0m"

static const struct {
    char letter;
    const char *word;
} orders[] = {{'c', "cpu"},     {'m', "memory"},    {'s', "pressure"}, {'i', "io"},
              {'t', "traffic"}, {'p', "processes"}, {'f', "refused"},  {'n', "name"}};

char top_order(const char *word)
{
    for (size_t i = 0; i < ARRAY_SIZE(orders); i++)
        if (str_eq(orders[i].word, word))
            return orders[i].letter;
    return 0;
}

const char *top_order_word(char order)
{
    for (size_t i = 0; i < ARRAY_SIZE(orders); i++)
        if (orders[i].letter == order)
            return orders[i].word;
    return "";
}

void top_done(struct top *t)
{
    json_decref(t->doc);
    free(t->rows);
    t->doc = NULL;
    t->rows = NULL;
    t->n = 0;
}

/* ---- one look ---- */

static int64_t number(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_integer(v) ? json_integer_value(v) : -1;
}

static int by_id(const void *a, const void *b)
{
    const struct top_row *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static double rate(const struct top_row *now, const struct top_row *old, size_t i, int64_t ms)
{
    if (!old || ms <= 0 || now->raw[i] < 0 || old->raw[i] < 0 || now->raw[i] < old->raw[i])
        return -1;
    return (double)(now->raw[i] - old->raw[i]) * 1000 / (double)ms;
}

static bool is_marked(const struct top_row *r, int64_t now)
{
    return r->rose_at && now - r->rose_at < TOP_MARK_MS;
}

/* What rose most since the look before, or a moment ago; else what has failed most. */
static void read_failed(struct top_row *r, const struct top_row *old, int64_t now)
{
    const char *key, *rose_key = NULL, *most_key = NULL;
    json_t *value;
    int64_t most = 0;
    r->rose_at = old ? old->rose_at : 0;
    r->rose = old ? old->rose : 0;
    json_object_foreach((json_t *)r->failed, key, value)
    {
        int64_t n = json_integer_value(value), before = old ? number(old->failed, key) : n;
        int64_t rose = n - (before > 0 ? before : 0);
        r->refused += n;
        if (rose > 0 && (r->rose_at != now || rose > r->rose)) {
            r->rose_at = now;
            r->rose = rose;
            rose_key = key;
        } else if (r->rose_at != now && old && str_eq(key, old->rose_key)) {
            rose_key = key;
        }
        if (n > most) {
            most = n;
            most_key = key;
        }
    }
    r->rose_key = is_marked(r, now) && rose_key ? rose_key : most_key;
    r->rose_total = r->rose_key ? number(r->failed, r->rose_key) : 0;
}

static void read_row(struct top_row *r, const json_t *one, const struct top_row *old, int64_t now)
{
    static const char *const raw[] = {"cpu_usec", "read", "written", "net_in_bytes",
                                      "net_out_bytes"};
    static const char *const stalls[] = {"cpu", "memory", "io"};
    const json_t *usage = json_object_get(one, "usage");
    const json_t *pressure = json_object_get(usage, "pressure");
    int64_t ms = (r->at = cli_int(one, "time")) - (old ? old->at : 0);
    r->name = cli_text(one, "name");
    r->state = cli_text(one, "state");
    r->guarantee = json_number_value(json_object_get(one, "cpu_guarantee"));
    r->memory = number(usage, "memory");
    r->limit = number(one, "memory_limit");
    r->pids = number(usage, "pids");
    r->failed = json_object_get(one, "failed");
    for (size_t i = 0; i < ARRAY_SIZE(stalls); i++) {
        const json_t *v = json_object_get(pressure, stalls[i]);
        r->pressure[i] = json_is_number(v) ? json_number_value(v) : -1;
    }
    for (size_t i = 0; i < ARRAY_SIZE(raw); i++)
        r->raw[i] = number(usage, raw[i]);
    r->cpu = rate(r, old, 0, ms);
    r->cpu = r->cpu < 0 ? -1 : r->cpu / 10000; /* microseconds a second to percent */
    r->read = rate(r, old, 1, ms);
    r->written = rate(r, old, 2, ms);
    r->net_in = rate(r, old, 3, ms);
    r->net_out = rate(r, old, 4, ms);
    read_failed(r, old, now);
}

int top_look(struct top *t, json_t *usage, int64_t now, struct err *err)
{
    size_t n = json_array_size(usage), i;
    json_t *one;
    struct top_row *rows = calloc(n + 1, sizeof(*rows));
    if (!rows)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (t->n)
        qsort(t->rows, t->n, sizeof(*t->rows), by_id);
    json_array_foreach(usage, i, one)
    {
        rows[i].id = cli_int(one, "id");
        const struct top_row *old =
            t->n ? bsearch(&rows[i], t->rows, t->n, sizeof(*rows), by_id) : NULL;
        read_row(&rows[i], one, old, now);
    }
    top_done(t);
    t->doc = json_incref(usage);
    t->rows = rows;
    t->n = n;
    t->at = now;
    return 0;
}

json_t *top_json(struct top *t)
{
    json_t *out = json_array();
    if (t->n)
        qsort(t->rows, t->n, sizeof(*t->rows), by_id);
    for (size_t i = 0; i < t->n; i++) {
        const struct top_row *r = &t->rows[i];
        const double rates[] = {r->cpu, r->read, r->written, r->net_in, r->net_out};
        static const char *const names[] = {"cpu_percent", "read_rate", "written_rate",
                                            "net_in_rate", "net_out_rate"};
        json_t *one = json_object();
        for (size_t k = 0; k < json_array_size(t->doc); k++)
            if (cli_int(json_array_get(t->doc, k), "id") == r->id) {
                json_object_update(one, json_array_get(t->doc, k));
                break;
            }
        for (size_t k = 0; k < ARRAY_SIZE(rates); k++)
            json_object_set_new(one, names[k], rates[k] < 0 ? json_null() : json_real(rates[k]));
        json_object_set_new(one, "rising",
                            r->rose_at == t->at && r->rose_key ? json_string(r->rose_key)
                                                               : json_null());
        json_array_append_new(out, one);
    }
    return out;
}

/* ---- order ---- */

static double pair(double a, double b)
{
    return (a > 0 ? a : 0) + (b > 0 ? b : 0);
}

static double worst(const struct top_row *r)
{
    double most = -1;
    for (size_t i = 0; i < 3; i++)
        most = r->pressure[i] > most ? r->pressure[i] : most;
    return most;
}

static double key_of(const struct top_row *r, char order)
{
    switch (order) {
    case 'c':
        return r->cpu;
    case 'm':
        return (double)r->memory;
    case 's':
        return worst(r);
    case 'i':
        return pair(r->read, r->written);
    case 't':
        return pair(r->net_in, r->net_out);
    case 'p':
        return (double)r->pids;
    case 'f': /* what rises stands above what rose once */
        return r->rose_at ? 1e15 + (double)r->rose_at : (double)r->refused;
    default:
        return 0;
    }
}

static int compare(const void *a, const void *b, void *ctx)
{
    const struct top_row *x = a, *y = b;
    const struct top *t = ctx;
    double p = key_of(x, t->order), q = key_of(y, t->order);
    int r = (p < q) - (p > q);
    return r ? r : name_compare(x->name, y->name);
}

/* ---- layout ---- */

static void pad(struct str *s, size_t n)
{
    while (n-- > 0)
        str_add_bytes(s, " ", 1);
}

/* One cell of `width`, cut or padded, and the space behind it. */
static void cell(struct str *line, const char *text, size_t width, bool right)
{
    size_t w = text_width(text, strlen(text));
    if (right && w < width)
        pad(line, width - w);
    size_t used = text_add_cut(line, text, width);
    if (!right && used < width)
        pad(line, width - used);
    str_add_bytes(line, " ", 1);
}

static void size_cell(struct str *line, double n, size_t width)
{
    char buf[NUMBER_TEXT];
    cell(line, n < 0 ? UNKNOWN : number_format_size((uint64_t)n, buf), width, true);
}

static void percent_cell(struct str *line, double n, size_t width)
{
    char buf[CELL];
    str_print(buf, sizeof(buf), n < 9.95 ? "%.1f" : "%.0f", n);
    cell(line, n < 0 ? UNKNOWN : buf, width, true);
}

/* "12/0/3" of cpu, memory and io. */
static void pressure_cell(struct str *line, const struct top_row *r)
{
    char buf[CELL];
    double p[3];
    for (size_t i = 0; i < 3; i++)
        p[i] = r->pressure[i] > 99 ? 99 : r->pressure[i];
    if (worst(r) < 0)
        str_print(buf, sizeof(buf), UNKNOWN);
    else
        str_print(buf, sizeof(buf), "%.0f/%.0f/%.0f", p[0] < 0 ? 0 : p[0], p[1] < 0 ? 0 : p[1],
                  p[2] < 0 ? 0 : p[2]);
    cell(line, buf, 8, true);
}

static double both(double a, double b)
{
    return a < 0 && b < 0 ? -1 : pair(a, b);
}

/* "!processes +3" while it rises, "processes 12 (+225)" afterwards: its own number and that of all
 * other rows together.  A name that is too long for `room` is cut and never the number. */
static void refused_text(const struct top *t, const struct top_row *r, size_t room, struct str *s)
{
    auto_str struct str key = str_init(256);
    char count[CELL], rest[CELL] = "";
    bool marked = is_marked(r, t->at);
    if (!marked && (!r->refused || !r->rose_key))
        return;
    str_print(count, sizeof(count), marked ? " +%" PRId64 : " %" PRId64,
              marked ? r->rose : r->rose_total);
    if (!marked && r->refused > r->rose_total)
        str_print(rest, sizeof(rest), " (+%" PRId64 ")", r->refused - r->rose_total);
    text_add(&key, r->rose_key);
    size_t width = strlen(count) + (marked ? strlen(MARK) : 0);
    if (width + strlen(rest) + KEY_LEAST > room)
        *rest = '\0';
    width += strlen(rest);
    str_add(s, "%s", marked ? MARK : "");
    text_add_cut(s, str_c(&key), room > width ? room - width : 0);
    str_add(s, "%s%s", count, rest);
}

struct layout {
    bool wide;
    size_t name, columns;
};

static void add_head(const struct layout *l, struct str *line)
{
    cell(line, "NAME", l->name, false);
    cell(line, "CPU%", 6, true);
    cell(line, "GUAR", 5, true);
    cell(line, "MEM", 5, true);
    cell(line, "LIMIT", 5, true);
    if (l->wide) {
        cell(line, "P.CPU", 5, true);
        cell(line, "P.MEM", 5, true);
        cell(line, "P.IO", 5, true);
        cell(line, "READ/s", 6, true);
        cell(line, "WRIT/s", 6, true);
        cell(line, "IN/s", 6, true);
        cell(line, "OUT/s", 6, true);
    } else {
        cell(line, "C/M/I", 8, true);
        cell(line, "IO/s", 5, true);
        cell(line, "NET/s", 5, true);
    }
    cell(line, "TASKS", 5, true);
    str_add(line, "REFUSED");
}

static void add_row(const struct top *t, const struct layout *l, const struct top_row *r,
                    struct str *line)
{
    char buf[CELL];
    auto_str struct str name = str_init(256);
    text_add(&name, r->name);
    cell(line, str_c(&name), l->name, false);
    str_print(buf, sizeof(buf), "%.1f", r->cpu);
    const char *still = str_eq(r->state, "paused")     ? "paused"
                        : str_eq(r->state, "sleeping") ? "asleep"
                                                       : NULL;
    cell(line, still ? still : r->cpu < 0 ? UNKNOWN : buf, 6, true);
    str_print(buf, sizeof(buf), "%.4g", r->guarantee);
    cell(line, r->guarantee > 0 ? buf : UNKNOWN, 5, true);
    size_cell(line, (double)r->memory, 5);
    size_cell(line, (double)r->limit, 5);
    if (l->wide) {
        for (size_t i = 0; i < 3; i++)
            percent_cell(line, r->pressure[i], 5);
        size_cell(line, r->read, 6);
        size_cell(line, r->written, 6);
        size_cell(line, r->net_in, 6);
        size_cell(line, r->net_out, 6);
    } else {
        pressure_cell(line, r);
        size_cell(line, both(r->read, r->written), 5);
        size_cell(line, both(r->net_in, r->net_out), 5);
    }
    str_print(buf, sizeof(buf), "%" PRId64, r->pids);
    cell(line, r->pids < 0 ? UNKNOWN : buf, 5, true);
    size_t used = text_width(str_c(line), line->len);
    refused_text(t, r, !l->columns ? SIZE_MAX : l->columns > used ? l->columns - used : 0, line);
}

/* Adds a line cut to the width, in a colour or none. */
static void add_line(const struct layout *l, const char *text, const char *color, struct str *out)
{
    size_t len = strlen(text);
    auto_str struct str s = str_init(4096);
    str_add(&s, "%s", text);
    while (len && s.buf[len - 1] == ' ')
        s.buf[--len] = '\0';
    str_add(out, "%s", color ? color : "");
    if (l->columns)
        text_add_cut(out, str_c(&s), l->columns);
    else
        str_add(out, "%s", str_c(&s));
    str_add(out, "%s\n", color ? PLAIN : "");
}

static void add_summary(const struct top *t, const struct layout *l, struct str *out)
{
    double cpu = 0, guarantee = 0;
    uint64_t memory = 0, tasks = 0;
    size_t rising = 0;
    char buf[NUMBER_TEXT];
    auto_str struct str line = str_init(1024);
    for (size_t i = 0; i < t->n; i++) {
        const struct top_row *r = &t->rows[i];
        cpu += r->cpu > 0 ? r->cpu : 0;
        guarantee += r->guarantee;
        memory += r->memory > 0 ? (uint64_t)r->memory : 0;
        tasks += r->pids > 0 ? (uint64_t)r->pids : 0;
        rising += is_marked(r, t->at);
    }
    str_add(&line, "%zu VE%s run%s; cpu %.1f%% (guaranteed %.4g%%), memory %s, %" PRIu64 " tasks",
            t->n, t->n == 1 ? "" : "s", t->n == 1 ? "s" : "", cpu, guarantee,
            number_format_size(memory, buf), tasks);
    if (rising)
        str_add(&line, "; %zu refused just now", rising);
    add_line(l, str_c(&line), NULL, out);
}

static void add_keys(const struct top *t, const struct layout *l, const struct top_view *v,
                     size_t shown, size_t fit, struct str *out)
{
    auto_str struct str line = str_init(1024);
    if (v->prompt)
        str_add(&line, "%s", v->prompt);
    else
        str_add(&line, "%zu-%zu of %zu%s%s by %s  q quit / filter  c m s i t p f n order",
                fit ? v->first + 1 : 0, v->first + shown, fit, *t->filter ? " with " : "",
                t->filter, top_order_word(t->order));
    add_line(l, str_c(&line), NULL, out);
}

static struct layout layout_of(const struct top *t, const struct top_view *v)
{
    struct layout l = {.columns = v->columns, .wide = !v->columns || v->columns >= WIDE};
    size_t longest = NAME_LEAST;
    for (size_t i = 0; i < t->n; i++) {
        size_t w = text_width(t->rows[i].name, strlen(t->rows[i].name));
        longest = w > longest ? w : longest;
    }
    /* Beside the other columns of 80 there is room for 14, and for what was refused. */
    size_t room = !v->columns       ? longest
                  : l.wide          ? NAME_MOST
                  : v->columns > 66 ? v->columns - 66
                                    : 0;
    l.name = longest < room ? longest : room > NAME_LEAST ? room : NAME_LEAST;
    return l;
}

size_t top_render(struct top *t, struct top_view *v, struct str *out)
{
    struct layout l = layout_of(t, v);
    auto_str struct str head = str_init(1024);
    size_t fit = 0;
    if (t->n)
        qsort_r(t->rows, t->n, sizeof(*t->rows), compare, t);
    auto_free size_t *index = calloc(t->n + 1, sizeof(*index));
    for (size_t i = 0; index && i < t->n; i++)
        if (!*t->filter || strstr(t->rows[i].name, t->filter))
            index[fit++] = i;
    size_t room = !v->lines ? fit : v->lines > HEAD ? v->lines - HEAD : 0;
    if (v->first + room > fit)
        v->first = fit > room ? fit - room : 0;
    size_t shown = fit - v->first < room ? fit - v->first : room;
    add_summary(t, &l, out);
    if (v->lines)
        add_keys(t, &l, v, shown, fit, out);
    add_head(&l, &head);
    add_line(&l, str_c(&head), v->color ? INVERSE : NULL, out);
    for (size_t i = 0; i < shown; i++) {
        const struct top_row *r = &t->rows[index[v->first + i]];
        auto_str struct str line = str_init(4096);
        add_row(t, &l, r, &line);
        add_line(&l, str_c(&line), v->color && is_marked(r, t->at) ? RED : NULL, out);
    }
    return fit;
}
