/* SPDX-License-Identifier: GPL-2.0-or-later */
/* logs: what the console showed. */
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
    struct str kept; /* the begin of a sequence that is not whole yet */
};

static int sink_flush(struct sink *s, bool final, struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX);
    size_t n = logtext_add(&out, str_c(&s->kept), s->kept.len, s->cli->color, final);
    if (out.len)
        s->open_line = out.buf[out.len - 1] != '\n';
    if (final)
        str_add(&out, "%s%s", s->cli->color ? "\x1b[0m" : "", s->open_line ? "\n" : "");
    if (n) {
        memmove(s->kept.buf, s->kept.buf + n, s->kept.len - n);
        s->kept.len -= n;
    }
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
    auto_str struct str all = str_init(CLIENT_BODY_MAX);
    struct request rq = {.method = "GET", .path = path, .deadline = CLIENT_DEADLINE};
    const char *span;
    ssize_t n;
    int r = client_open(&cli->place, &rq, &c, err);
    if (r == 0)
        r = client_head(c, err);
    if (r < 0)
        return r;
    while ((n = client_body(c, &span, err)) > 0) {
        if (cli->json)
            str_add_bytes(&all, span, (size_t)n);
        else if ((r = sink_put(sink, span, (size_t)n, err)) < 0)
            return r;
    }
    if (n < 0 || !cli->json)
        return (int)n;
    auto_str struct str safe = str_init(TEXT_MAX); /* JSON takes UTF-8 only */
    logtext_add(&safe, str_c(&all), all.len, false, true);
    auto_json json_t *doc = json_pack("{s:s}", "text", str_c(&safe));
    return doc ? cli_out_json(cli, doc, err)
               : err_set(err, ERR_EXHAUSTED, "there is too much to print");
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
    struct request rq = {
        .method = "GET", .path = str_c(&path), .upgrade = true, .deadline = CLIENT_DEADLINE};
    r = client_open(&cli->place, &rq, &c, err);
    if (r == 0)
        r = client_head(c, err);
    if (r == 0 && !http_upgraded(&c->http))
        r = err_set(err, ERR_CORRUPT, "teremd did not begin the session");
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

int cmd_logs(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256);
    struct sink sink = {
        .cli = cli, .raw = args_has(a, "raw") || !cli->out_tty, .kept = str_init(TEXT_MAX)};
    uint64_t lines = 100;
    int r = 0;
    if (args_has(a, "lines"))
        r = number_parse(args_get(a, "lines"), 0, 1000000000, &lines, err);
    if (r < 0)
        return err_wrap(err, "--lines");
    if (cli->json && args_has(a, "follow"))
        return err_set(err, ERR_USAGE, "--follow has no JSON form");
    r = cli_ve_path(&path, a->pos[0], "/logs", err);
    if (r < 0)
        return r;
    str_add(&path, "?lines=%" PRIu64, lines);
    if (args_has(a, "follow"))
        r = follow(cli, a->pos[0], str_c(&path), &sink, err);
    else
        r = print_log(cli, str_c(&path), &sink, err);
    if (!sink.raw && sink_flush(&sink, true, err) < 0 && r == 0)
        r = err ? -err->kind : -ERR_SYSTEM;
    str_done(&sink.kept);
    return r;
}
