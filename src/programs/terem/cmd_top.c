/* SPDX-License-Identifier: GPL-2.0-or-later */
/* top: a live table of the running VEs.  teremd is asked only while somebody looks. */
#include "base/cleanup.h"
#include "base/number.h"
#include "cli.h"
#include "command.h"
#include "terminal.h"
#include "text.h"
#include "ve_text.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define REFRESH_MS 2000

struct sample {
    json_int_t id, cpu_usec;
    int64_t at; /* milliseconds */
};

struct top {
    struct cli *cli;
    struct sample *old;
    size_t n_old;
    char order; /* c, m, p or n */
};

struct line {
    const json_t *ve;
    double cpu; /* percent of one core; -1: not known yet */
};

static double cpu_of(const struct top *t, const json_t *ve, int64_t now)
{
    const json_t *usec = json_object_get(json_object_get(ve, "usage"), "cpu_usec");
    for (size_t i = 0; json_is_integer(usec) && i < t->n_old; i++) {
        const struct sample *o = &t->old[i];
        json_int_t used = json_integer_value(usec) - o->cpu_usec;
        if (o->id == cli_int(ve, "id") && now > o->at && used >= 0)
            return (double)used / 10.0 / (double)(now - o->at);
    }
    return -1;
}

static void remember(struct top *t, const json_t *ves, int64_t now)
{
    size_t n = json_array_size(ves), i;
    json_t *ve;
    struct sample *s = calloc(n ? n : 1, sizeof(*s));
    if (!s)
        return;
    json_array_foreach(ves, i, ve) s[i] =
        (struct sample){cli_int(ve, "id"), cli_int(json_object_get(ve, "usage"), "cpu_usec"), now};
    free(t->old);
    t->old = s;
    t->n_old = n;
}

static json_int_t usage_of(const struct line *l, const char *key)
{
    return cli_int(json_object_get(l->ve, "usage"), key);
}

static int compare(const void *a, const void *b, void *ctx)
{
    const struct line *x = a, *y = b;
    const struct top *t = ctx;
    const char *key = t->order == 'm' ? "memory" : "pids";
    int r = 0;
    if (t->order == 'c')
        r = (x->cpu < y->cpu) - (x->cpu > y->cpu);
    else if (t->order != 'n')
        r = (usage_of(x, key) < usage_of(y, key)) - (usage_of(x, key) > usage_of(y, key));
    return r ? r : strcmp(cli_text(x->ve, "name"), cli_text(y->ve, "name"));
}

static void add_lines(struct text_table *table, const struct line *lines, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *ve = lines[i].ve;
        auto_str struct str memory = str_init(64), pids = str_init(64);
        ve_text_memory(&memory, ve);
        ve_text_pids(&pids, ve);
        const char *limit = cli_text_or(json_object_get(ve, "params"), "memory.limit", "unlimited");
        text_cell(table, cli_text(ve, "name"));
        text_cell(table, cli_text(ve, "state"));
        if (lines[i].cpu < 0)
            text_cell(table, NULL);
        else
            text_cellf(table, "%.1f", lines[i].cpu);
        text_cell(table, str_c(&memory));
        text_cell(table, limit);
        text_cell(table, str_c(&pids));
    }
}

/* Renders ves at `now`; rows 0: all of them. */
static void render(struct top *t, const json_t *ves, int64_t now, size_t rows, size_t columns,
                   struct str *out)
{
    static const char *const heads[] = {"NAME", "STATE", "CPU%", "MEMORY", "LIMIT", "PIDS"};
    auto_table struct text_table table = {.columns = 6, .right = 0x3c};
    size_t n = 0, i;
    json_t *ve;
    auto_free struct line *lines = calloc(json_array_size(ves) + 1, sizeof(*lines));
    double cpu = 0;
    json_int_t memory = 0, pids = 0;
    json_array_foreach(ves, i, ve)
    {
        if (!lines || cli_is_null(ve, "usage"))
            continue;
        lines[n] = (struct line){ve, cpu_of(t, ve, now)};
        cpu += lines[n].cpu > 0 ? lines[n].cpu : 0;
        memory += usage_of(&lines[n], "memory");
        pids += usage_of(&lines[n], "pids");
        n++;
    }
    if (n)
        qsort_r(lines, n, sizeof(*lines), compare, t);
    char buf[NUMBER_TEXT];
    auto_str struct str head = str_init(1024);
    str_add(&head, "%zu of %zu VEs run; cpu %.1f%%, memory %s, %" JSON_INTEGER_FORMAT " processes",
            n, json_array_size(ves), cpu, number_format_size((uint64_t)memory, buf), pids);
    text_add_cut(out, str_c(&head), columns);
    str_add(out, "\n");
    if (rows)
        text_add_cut(out, "q quits; c, m, p, n: order by cpu, memory, processes, name", columns);
    str_add(out, "\n");
    for (i = 0; i < ARRAY_SIZE(heads); i++)
        text_cell(&table, heads[i]);
    if (rows && n > rows - 4)
        n = rows > 4 ? rows - 4 : 0;
    add_lines(&table, lines, n);
    text_table_render(&table, out, columns);
}

static int fetch(struct top *t, json_t **ret, int64_t *now, struct err *err)
{
    int r = cli_call(t->cli, "GET", "/v1/ves", NULL, ret, err);
    *now = text_now();
    return r;
}

/* Not a terminal: two looks, half a second apart, printed once. */
static int once(struct top *t, struct err *err)
{
    auto_json json_t *first = NULL, *ves = NULL;
    auto_str struct str out = str_init(TEXT_MAX);
    int64_t now;
    size_t i;
    json_t *ve;
    int r = fetch(t, &first, &now, err);
    if (r < 0)
        return r;
    remember(t, first, now);
    poll(NULL, 0, 500);
    r = fetch(t, &ves, &now, err);
    if (r < 0)
        return r;
    if (t->cli->json) {
        json_array_foreach(ves, i, ve)
        {
            double cpu = cpu_of(t, ve, now);
            json_object_set_new(ve, "cpu_percent", cpu < 0 ? json_null() : json_real(cpu));
        }
        return cli_out_json(t->cli, ves, err);
    }
    render(t, ves, now, 0, 1000, &out);
    return cli_out(&out, err);
}

static void draw(const struct str *screen)
{
    auto_str struct str out = str_init(TEXT_MAX);
    /* Line by line with "erase to the end of the line": no flicker of an emptied screen. */
    str_add(&out, "\x1b[H");
    for (const char *p = str_c(screen); *p;) {
        size_t n = strcspn(p, "\n");
        str_add_bytes(&out, p, n);
        p += n;
        p += *p == '\n';
        str_add(&out, "\x1b[K%s", *p ? "\r\n" : "");
    }
    str_add(&out, "\x1b[J");
    fwrite(str_c(&out), 1, out.len, stdout);
    fflush(stdout);
}

/* Waits for a key or the time; returns the key, 0, or 'q'. */
static char wait_key(int ms)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    char key;
    int r = poll(&p, 1, ms);
    if (r <= 0)
        return 0; /* time, or SIGWINCH */
    return read(STDIN_FILENO, &key, 1) == 1 ? key : 'q';
}

static int live(struct top *t, struct err *err)
{
    int64_t until = 0, now = 0;
    auto_json json_t *ves = NULL;
    for (;;) {
        if (text_now() >= until) {
            auto_json json_t *fresh = NULL;
            int64_t was = now;
            int r = fetch(t, &fresh, &now, err);
            if (r < 0)
                return r;
            if (ves)
                remember(t, ves, was);
            json_decref(ves);
            ves = steal_ptr(&fresh);
            until = now + REFRESH_MS;
        }
        struct winsize ws;
        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) < 0 || ws.ws_col == 0 || ws.ws_row == 0)
            ws = (struct winsize){.ws_row = 24, .ws_col = 80};
        auto_str struct str screen = str_init(TEXT_MAX);
        render(t, ves, now, ws.ws_row, ws.ws_col, &screen);
        draw(&screen);
        int64_t left = until - text_now();
        char key = wait_key(left > 0 ? (int)left : 0);
        if (key == 'q' || key == 'Q' || key == 3 || key == 4)
            return 0;
        if (key && strchr("cmpn", key))
            t->order = key;
    }
}

int cmd_top(struct cli *cli, const struct args *a, struct err *err)
{
    struct top t = {.cli = cli, .order = 'c'};
    int r;
    if (cli->json || !cli->out_tty || !isatty(STDIN_FILENO)) {
        r = once(&t, err);
    } else {
        r = terminal_raw(STDIN_FILENO, TERMINAL_SCREEN, err);
        if (r == 0)
            r = live(&t, err);
        terminal_restore();
    }
    free(t.old);
    return r;
}
