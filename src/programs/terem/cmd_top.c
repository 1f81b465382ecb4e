/* SPDX-License-Identifier: GPL-2.0-or-later */
/* top: a live table of the running VEs.  teremd is asked only while somebody looks, once a tick. */
#include "base/cleanup.h"
#include "base/number.h"
#include "cli.h"
#include "command.h"
#include "terminal.h"
#include "text.h"
#include "top.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define ONCE_MS    500
#define PERIOD_MIN 200

struct screen {
    struct cli *cli;
    struct top top;
    struct top_view view;
    char *path; /* of the request */
    uint64_t period;
    char **lines; /* as they stand on the terminal */
    size_t n_lines;
    struct winsize size;
    bool typing;    /* a filter */
    char typed[64]; /* keys that were not acted upon yet */
    size_t n_typed;
};

static int look(struct screen *s, struct err *err)
{
    auto_json json_t *usage = NULL;
    int r = cli_call(s->cli, "GET", s->path, NULL, &usage, err);
    return r < 0 ? r : top_look(&s->top, usage, text_now(), err);
}

/* Not a terminal: two looks, half a second apart, printed once. */
static int once(struct screen *s, struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX);
    int r = look(s, err);
    if (r < 0)
        return r;
    poll(NULL, 0, ONCE_MS);
    r = look(s, err);
    if (r < 0)
        return r;
    if (s->cli->json) {
        auto_json json_t *doc = top_json(&s->top);
        return cli_out_json(s->cli, doc, err);
    }
    s->view =
        (struct top_view){.columns = s->cli->out_tty ? cli_columns(1) : 0, .color = s->cli->color};
    top_render(&s->top, &s->view, &out);
    return cli_out(&out, err);
}

/* ---- the terminal ---- */

static void forget_lines(struct screen *s)
{
    for (size_t i = 0; i < s->n_lines; i++)
        free(s->lines[i]);
    free(s->lines);
    s->lines = NULL;
    s->n_lines = 0;
}

/* Sends only the lines that differ from what stands there. */
static void draw(struct screen *s, const struct str *picture)
{
    auto_str struct str out = str_init(TEXT_MAX);
    size_t row = 0, most = s->size.ws_row;
    if (!s->lines) {
        str_add(&out, "\x1b[H\x1b[2J");
        s->lines = calloc(most ? most : 1, sizeof(*s->lines));
        s->n_lines = s->lines ? most : 0;
    }
    for (const char *p = str_c(picture); row < s->n_lines; row++) {
        size_t n = strcspn(p, "\n");
        char *line = strndup(p, n);
        if (line && !str_eq(s->lines[row], line) && (n || s->lines[row]))
            str_add(&out, "\x1b[%zu;1H%s\x1b[K", row + 1, line);
        free(s->lines[row]);
        s->lines[row] = line;
        p += n;
        p += *p == '\n';
    }
    fwrite(str_c(&out), 1, out.len, stdout);
    fflush(stdout);
}

static void show(struct screen *s)
{
    struct winsize ws;
    auto_str struct str picture = str_init(TEXT_MAX), prompt = str_init(256);
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) < 0 || ws.ws_col == 0 || ws.ws_row == 0)
        ws = (struct winsize){.ws_row = 24, .ws_col = 80};
    if (ws.ws_row != s->size.ws_row || ws.ws_col != s->size.ws_col)
        forget_lines(s);
    s->size = ws;
    s->view.lines = ws.ws_row;
    s->view.columns = ws.ws_col;
    str_add(&prompt, "show names with: %s_  (Enter keeps it, Esc shows all)", s->top.filter);
    s->view.prompt = s->typing ? str_c(&prompt) : NULL;
    top_render(&s->top, &s->view, &picture);
    draw(s, &picture);
}

enum key {
    KEY_NONE,
    KEY_QUIT = 256,
    KEY_UP,
    KEY_DOWN,
    KEY_PAGE_UP,
    KEY_PAGE_DOWN,
    KEY_HOME,
    KEY_END,
    KEY_ESCAPE
};

/* The key that stands first and how many bytes it takes. */
static int key_of(const char *s, size_t n, size_t *ret_len)
{
    static const struct {
        const char *bytes;
        int key;
    } keys[] = {{"\x1b[A", KEY_UP},   {"\x1bOA", KEY_UP},       {"\x1b[B", KEY_DOWN},
                {"\x1bOB", KEY_DOWN}, {"\x1b[5~", KEY_PAGE_UP}, {"\x1b[6~", KEY_PAGE_DOWN},
                {"\x1b[H", KEY_HOME}, {"\x1b[1~", KEY_HOME},    {"\x1bOH", KEY_HOME},
                {"\x1b[F", KEY_END},  {"\x1b[4~", KEY_END},     {"\x1bOF", KEY_END}};
    *ret_len = 1;
    if (*s == 3 || *s == 4)
        return KEY_QUIT;
    if (*s != '\x1b')
        return (unsigned char)*s;
    if (n < 2 || (s[1] != '[' && s[1] != 'O'))
        return KEY_ESCAPE;
    size_t len = 2;
    while (len < n && (s[len] < '@' || s[len] > '~'))
        len++;
    *ret_len = len < n ? len + 1 : n;
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if (strlen(keys[i].bytes) == *ret_len && memcmp(keys[i].bytes, s, *ret_len) == 0)
            return keys[i].key;
    return KEY_NONE;
}

/* Waits for a key, the time (KEY_NONE), or a window of another size (KEY_NONE). */
static int wait_key(struct screen *s, int64_t ms)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    size_t used;
    if (!s->n_typed) {
        if (poll(&p, 1, ms > 0 ? (int)ms : 0) <= 0)
            return KEY_NONE;
        ssize_t n = read(STDIN_FILENO, s->typed, sizeof(s->typed));
        if (n <= 0)
            return KEY_QUIT;
        s->n_typed = (size_t)n;
    }
    int key = key_of(s->typed, s->n_typed, &used);
    s->n_typed -= used;
    memmove(s->typed, s->typed + used, s->n_typed);
    return key;
}

static void type_filter(struct screen *s, int key)
{
    size_t n = strlen(s->top.filter);
    if (key == '\r' || key == '\n' || key == KEY_ESCAPE)
        s->typing = false;
    if (key == KEY_ESCAPE)
        *s->top.filter = '\0';
    else if ((key == 0x7f || key == '\b') && n)
        s->top.filter[n - 1] = '\0';
    else if (key > ' ' && key < 0x7f && n + 1 < sizeof(s->top.filter)) {
        s->top.filter[n] = (char)key;
        s->top.filter[n + 1] = '\0';
    }
    s->view.first = 0;
}

static void act(struct screen *s, int key)
{
    size_t page = s->size.ws_row > 4 ? s->size.ws_row - 4u : 1;
    if (key == KEY_DOWN || key == 'j')
        s->view.first++;
    else if ((key == KEY_UP || key == 'k') && s->view.first)
        s->view.first--;
    else if (key == KEY_PAGE_DOWN || key == ' ')
        s->view.first += page;
    else if (key == KEY_PAGE_UP)
        s->view.first -= s->view.first < page ? s->view.first : page;
    else if (key == KEY_HOME || key == 'g')
        s->view.first = 0;
    else if (key == KEY_END || key == 'G')
        s->view.first = s->top.n; /* top_render() corrects it */
    else if (key == '/')
        s->typing = true;
    else if (key == KEY_ESCAPE)
        *s->top.filter = '\0';
    else if (key > 0 && key < 0x7f && strchr(TOP_ORDERS, key)) {
        s->top.order = (char)key;
        s->view.first = 0;
    }
}

static void on_resize(int sig)
{
}

static int live(struct screen *s, struct err *err)
{
    int64_t until = 0;
    struct sigaction resized = {.sa_handler = on_resize}; /* ends the poll() */
    sigaction(SIGWINCH, &resized, NULL);
    s->view.color = s->cli->color;
    for (;;) {
        if (text_now() >= until) {
            int r = look(s, err);
            if (r < 0)
                return r;
            /* The first rates soon. */
            until = s->top.at + (until ? (int64_t)s->period : ONCE_MS);
        }
        show(s);
        int key = wait_key(s, until - text_now());
        if (key == KEY_QUIT || (!s->typing && (key == 'q' || key == 'Q')))
            return 0;
        if (s->typing && key)
            type_filter(s, key);
        else if (key)
            act(s, key);
    }
}

static int read_options(struct screen *s, const struct args *a, struct err *err)
{
    const char *sort = args_get(a, "sort");
    const char *filter = args_get(a, "filter"), *period = args_get(a, "interval");
    auto_str struct str path = str_init(4096);
    str_add(&path, "/v1/usage");
    int r = cli_label_query(&path, args_get(a, "label"), err);
    if (r < 0)
        return r;
    if (sort && !(s->top.order = top_order(sort)))
        return err_set(err, ERR_USAGE,
                       "--sort takes cpu, memory, pressure, io, traffic, processes, refused or "
                       "name");
    if (filter && str_print(s->top.filter, sizeof(s->top.filter), "%s", filter) < 0)
        return err_set(err, ERR_USAGE, "--filter takes at most %d bytes", TOP_FILTER - 1);
    if (period && number_parse_time(period, &s->period, err) < 0)
        return err_wrap(err, "--interval");
    if (s->period < PERIOD_MIN || s->period > 3600000)
        return err_set(err, ERR_USAGE, "--interval takes 200ms to 1h");
    s->path = str_steal(&path);
    return s->path ? 0 : err_set(err, ERR_EXHAUSTED, "out of memory");
}

static int run_top(struct cli *cli, const struct args *a, struct err *err)
{
    struct screen s = {.cli = cli, .top = TOP_NONE, .period = TOP_PERIOD_MS};
    int r = read_options(&s, a, err);
    if (r == 0 && (cli->json || args_has(a, "once") || !cli->out_tty || !isatty(STDIN_FILENO))) {
        r = once(&s, err);
    } else if (r == 0) {
        r = terminal_raw(STDIN_FILENO, TERMINAL_SCREEN, err);
        if (r == 0)
            r = live(&s, err);
        terminal_restore();
    }
    forget_lines(&s);
    top_done(&s.top);
    free(s.path);
    return r;
}

static const struct option_spec top_options[] = {
    {"label", 'l', "K=V", "only VEs that have this label", COMPLETE_LABELS},
    {"filter", 0, "TEXT", "only VEs with this in their name"},
    {"sort", 0, "ORDER",
     "cpu (the default), memory, pressure, io, traffic, processes, refused or name", COMPLETE_WORDS,
     "cpu memory pressure io traffic processes refused name"},
    {"interval", 0, "TIME", "how often it is renewed (default: 2s)"},
    {"once", '1', NULL, "print it once and end"},
    END,
};

command_row cmd_top = {
    .name = "top",
    .summary = "watch what the running VEs use",
    .usage = "",
    .options = top_options,
    .run = run_top,
    .detail =
        "A table that is renewed every two seconds; in a pipe, or with --once, it is printed "
        "once. CPU% and GUAR, the guarantee, are of one core; MEM stands beside its LIMIT. C/M/I "
        "is the pressure: the percentage of the last ten seconds in which something in the VE "
        "waited for the processor, for memory and for disks. IO/s and NET/s are bytes a second, "
        "both ways. REFUSED names the limit that said no most often and how often since the VE's "
        "start, with what all others refused as (+225); while one rises it is marked with ! and "
        "by how much it rose. With 112 "
        "columns and more each number has a column of its own.\n\n"
        "Keys: q quits. c, m, s, i, t, p, f, n order by cpu, memory, pressure (stalls), io, "
        "traffic, processes, refusals and name. / types a filter of names, Esc takes it away. "
        "Arrows, space, Page Up, Page Down, g and G scroll. teremd reads nothing while nobody "
        "looks.",
    .examples = {"terem top", "terem top --sort memory --label tier=web",
                 "terem top --once --sort refused",
                 "terem top --json | jq '.[] | "
                 "select(.rising)'"},
};
