/* SPDX-License-Identifier: GPL-2.0-or-later */
/* logs: what the console showed; template log: what a script said. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "cli.h"
#include "command.h"
#include "logtext.h"
#include "session.h"
#include "text.h"

#include <inttypes.h>
#include <string.h>

struct sink {
    struct cli *cli;
    bool raw, open_line;
    bool lines;      /* with --json: each piece as it comes, else all in one */
    struct str kept; /* the begin of a sequence that is not whole yet */
};

/* JSON takes UTF-8 only: control bytes are escaped there, too. */
static int put_json(struct sink *s, const struct str *text, struct err *err)
{
    auto_json json_t *doc = json_pack("{s:s}", "text", str_c(text));
    if (!doc || text->failed)
        return err_set(err, ERR_EXHAUSTED, "there is too much to print");
    return s->lines ? cli_out_json_line(s->cli, doc, err) : cli_out_json(s->cli, doc, err);
}

static int sink_flush(struct sink *s, bool final, struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX);
    bool json = s->cli->json;
    if (json && !s->lines && !final)
        return 0;
    size_t n = logtext_add(&out, str_c(&s->kept), s->kept.len, s->cli->color && !json, final);
    if (n) {
        memmove(s->kept.buf, s->kept.buf + n, s->kept.len - n);
        s->kept.len -= n;
    }
    if (json)
        return out.len || !s->lines ? put_json(s, &out, err) : 0;
    if (out.len)
        s->open_line = out.buf[out.len - 1] != '\n';
    if (final)
        str_add(&out, "%s%s", s->cli->color ? "\x1b[0m" : "", s->open_line ? "\n" : "");
    int r = cli_out(&out, err);
    if (r == 0 && fflush(stdout) == EOF)
        r = err_sys(err, "cannot write to standard output");
    return r;
}

static int sink_put(void *ctx, const void *buf, size_t len, struct err *err)
{
    struct sink *s = ctx;
    if (s->raw) {
        if (fwrite(buf, 1, len, stdout) != len || fflush(stdout) == EOF)
            return err_sys(err, "cannot write to standard output");
        return 0;
    }
    str_add_bytes(&s->kept, buf, len);
    if (s->kept.failed)
        return err_set(err, ERR_EXHAUSTED, "there is too much to print");
    return sink_flush(s, false, err);
}

static int print_log(struct cli *cli, const char *path, struct sink *sink, struct err *err)
{
    auto_client struct client *c = NULL;
    struct request rq = {.method = "GET", .path = path, .deadline = CLIENT_DEADLINE};
    const char *span;
    ssize_t n;
    int r = client_open(&cli->place, &rq, &c, err);
    if (r == 0)
        r = client_head(c, err);
    if (r < 0)
        return r;
    while ((n = client_body(c, &span, err)) > 0)
        if ((r = sink_put(sink, span, (size_t)n, err)) < 0)
            return r;
    return (int)n;
}

/* Joined before the log is read, so that nothing falls between; what came in both is shown
 * twice at worst. */
static int follow(struct cli *cli, const char *name, const char *log_path, struct sink *sink,
                  struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_client struct client *c = NULL;
    int r = cli_ve_path(&path, name, "/console", err);
    if (r < 0)
        return r;
    r = client_upgrade(&cli->place, "GET", str_c(&path), NULL, &c, err);
    if (r == 0)
        r = print_log(cli, log_path, sink, err);
    if (r < 0)
        return r;
    struct session s = {.client = c,
                        .no_input = true,
                        .detach_key = SESSION_NO_KEY,
                        .output = sink_put,
                        .ctx = sink};
    enum session_end end;
    int status;
    return session_run(&s, &end, &status, err);
}

static int run_logs(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256);
    struct sink sink = {.cli = cli,
                        .raw = !cli->json && (args_has(a, "raw") || !cli->out_tty),
                        .lines = args_has(a, "follow"),
                        .kept = str_init(CLIENT_BODY_MAX)};
    uint64_t lines = 100;
    int r = 0;
    if (args_has(a, "lines"))
        r = number_parse(args_get(a, "lines"), 0, 1000000000, &lines, err);
    if (r < 0)
        return err_wrap(err, "--lines");
    r = cli_ve_path(&path, a->pos[0], "/logs", err);
    if (r < 0)
        return r;
    str_add(&path, "?lines=%" PRIu64, lines);
    if (args_has(a, "follow"))
        r = follow(cli, a->pos[0], str_c(&path), &sink, err);
    else
        r = print_log(cli, str_c(&path), &sink, err);
    /* Also what ends with an error gives the terminal its colour back. */
    struct err late = {0};
    if (!sink.raw && (r == 0 || !cli->json) && sink_flush(&sink, true, &late) < 0 && r == 0) {
        *err = late;
        r = -late.kind;
    }
    str_done(&sink.kept);
    return r;
}

static const struct option_spec logs_options[] = {
    {"follow", 'f', NULL, "go on with what is written from now on"},
    {"lines", 'n', "COUNT", "how many lines from the end (default: 100)"},
    {"raw", 'r', NULL, "leave control bytes as they are, also on a terminal"},
    END,
};

command_row cmd_logs = {
    .name = "logs",
    .summary = "print what a VE's console showed",
    .usage = "VE",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_VES,
    .options = logs_options,
    .run = run_logs,
    .detail =
        "On a terminal colours are kept and every other control byte is shown as \\xNN, so "
        "that a VE cannot act on your terminal. In a pipe the bytes are left as they are. With "
        "--json they are the member text of an object, and with --follow, too, of one object "
        "a line.",
    .examples = {"terem logs web1", "terem logs -f -n 20 web1"},
};

static int run_template_log(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256);
    struct sink sink = {
        .cli = cli, .raw = !cli->json && !cli->out_tty, .kept = str_init(CLIENT_BODY_MAX)};
    int r = cli_template_path(&path, a->pos[0], err);
    str_add(&path, "/log");
    if (r == 0)
        r = print_log(cli, str_c(&path), &sink, err);
    if (r == 0 && !sink.raw)
        r = sink_flush(&sink, true, err);
    str_done(&sink.kept);
    return r;
}

command_row cmd_template_log = {
    .name = "template log",
    .summary = "print what the script of a failed build said",
    .usage = "NAME",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_TEMPLATES,
    .run = run_template_log,
    .detail = "It is kept until a build of this name succeeds.",
    .examples = {"terem template log shop"},
};
