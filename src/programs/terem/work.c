/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "work.h"

#include "base/cleanup.h"
#include "progress.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#define LINE_MAX_BYTES ((size_t)64 << 20) /* a job over many VEs tells of each at its end */

struct run {
    struct cli *cli;
    struct work *w;
    size_t n;
    const struct work_words *words;
    bool no_wait;
    struct progress progress;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
    interrupted = sig;
}

struct work *work_new(size_t n)
{
    struct work *w = calloc(n ? n : 1, sizeof(*w));
    for (size_t i = 0; w && i < n; i++)
        w[i].line = str_init(LINE_MAX_BYTES);
    return w;
}

void work_free(struct work *w, size_t n)
{
    for (size_t i = 0; w && i < n; i++) {
        free(w[i].path);
        json_decref(w[i].body);
        json_decref(w[i].doc);
        client_close(w[i].client);
        str_done(&w[i].line);
        free(w[i].shown);
    }
    free(w);
}

int work_lines(struct str *rest, const char *span, size_t len,
               int (*item)(void *ctx, json_t *doc, struct err *err), void *ctx, struct err *err)
{
    while (len) {
        const char *nl = memchr(span, '\n', len);
        size_t n = nl ? (size_t)(nl - span) : len;
        str_add_bytes(rest, span, n);
        if (rest->failed)
            return err_set(err, ERR_CORRUPT, "teremd sent a line that is too long");
        if (!nl)
            return 0;
        span += n + 1;
        len -= n + 1;
        if (rest->len) { /* empty lines keep a quiet stream alive */
            auto_json json_t *doc = json_loadb(rest->buf, rest->len, JSON_ALLOW_NUL, NULL);
            if (!doc)
                return err_set(err, ERR_CORRUPT, "teremd sent a line that is not JSON");
            int r = item(ctx, doc, err);
            if (r < 0)
                return r;
        }
        str_clear(rest);
    }
    return 0;
}

static bool is_job(const json_t *doc)
{
    return json_object_get(doc, "percent") && json_object_get(doc, "ended");
}

/* The node had no room for its row: it has no number that would still be its own tomorrow. */
static bool is_unrecorded(const struct work *w)
{
    return is_job(w->doc) && cli_int(w->doc, "id") < 0;
}

/* Takes the document in as the latest; tells how the job ended when it did. */
static void note(struct run *run, struct work *w, json_t *doc)
{
    json_incref(doc);
    json_decref(w->doc);
    w->doc = doc;
    if (w->item && json_object_get(doc, "item")) {
        progress_wipe(&run->progress);
        w->item(w->ctx, doc);
    }
    if (!is_job(doc)) {
        if (!client_error(doc, &w->err))
            return;
        w->ended = true;
    } else if (!cli_is_null(doc, "ended")) {
        w->ended = true;
        if (!client_error(doc, &w->err) && str_eq(cli_text(doc, "state"), "cancelled"))
            err_set(&w->err, ERR_CANCELLED, "the job was cancelled");
        else if (w->err.kind == ERR_NONE && str_eq(cli_text(doc, "state"), "failed"))
            err_set(&w->err, ERR_INTERNAL, "the job failed without a reason");
    } else {
        const char *text = cli_text(doc, "text");
        if (!*text)
            text = run->words->doing;
        bool same = str_eq(w->shown, text);
        if (!same) {
            free(w->shown);
            w->shown = strdup(text);
        }
        if ((!same && !w->item) || run->progress.live)
            progress_show(&run->progress, w->subject,
                          cli_is_null(doc, "percent") ? -1 : (int)cli_int(doc, "percent"), text);
    }
}

struct line_ctx {
    struct run *run;
    struct work *w;
};

static int on_line(void *ctx, json_t *doc, struct err *err)
{
    struct line_ctx *l = ctx;
    note(l->run, l->w, doc);
    return 0;
}

static int open_request(struct run *run, struct work *w, const char *method, const char *path,
                        const json_t *body)
{
    struct request rq = {.method = method, .path = path, .body = body, .stream = !run->no_wait};
    client_close(w->client);
    w->client = NULL;
    str_clear(&w->line);
    return client_open(&run->cli->place, &rq, &w->client, &w->err);
}

/* Where it is known which job was waited for, who waited goes on by its number. */
static int went_away(struct work *w)
{
    json_int_t id = cli_int(w->doc, "id");
    if (is_unrecorded(w))
        return err_set(&w->err, ERR_UNAVAILABLE, "teremd went away while it was at work");
    err_clear(&w->err);
    if (str_eq(cli_text(w->doc, "kind"), "bulk"))
        return err_set(&w->err, ERR_UNAVAILABLE,
                       "teremd went away; job %" JSON_INTEGER_FORMAT
                       " goes on when it is there again, and terem jobs wait %" JSON_INTEGER_FORMAT
                       " waits for it",
                       id, id);
    return err_set(&w->err, ERR_UNAVAILABLE,
                   "teremd went away while it was at work; terem jobs show %" JSON_INTEGER_FORMAT
                   " tells how it ended",
                   id);
}

/* The answer is whole.  A job that was only begun is waited for by a second request. */
static int answer_end(struct run *run, struct work *w)
{
    if (!w->ended && w->line.len) {
        auto_json json_t *doc = json_loadb(w->line.buf, w->line.len, JSON_ALLOW_NUL, NULL);
        if (!doc)
            return err_set(&w->err, ERR_CORRUPT, "the answer of teremd is not JSON");
        note(run, w, doc);
    }
    if (w->ended || run->no_wait || !is_job(w->doc)) {
        w->ended = true;
        return 0;
    }
    json_int_t id = cli_int(w->doc, "id");
    if (w->waiting)
        return went_away(w);
    char path[64];
    w->waiting = true;
    str_print(path, sizeof(path), "/v1/jobs/%" JSON_INTEGER_FORMAT "?wait=true", id);
    return open_request(run, w, "GET", path, NULL);
}

static int body_span(struct run *run, struct work *w, const char *span, size_t len)
{
    struct line_ctx ctx = {run, w};
    if (w->client->http.status < 400 && str_eq(w->client->http.type, "application/x-ndjson")) {
        w->waiting = true; /* the stream is the waiting */
        return work_lines(&w->line, span, len, on_line, &ctx, &w->err);
    }
    str_add_bytes(&w->line, span, len);
    return w->line.failed ? err_set(&w->err, ERR_CORRUPT, "the answer of teremd is too long") : 0;
}

/* Something can be read: takes all that has come. */
static void advance(struct run *run, struct work *w)
{
    for (unsigned reads = 1; !w->ended; reads = 0) {
        enum client_event ev;
        const char *span;
        size_t len;
        struct client *c = w->client;
        int r = client_step(c, reads, &ev, &span, &len, &w->err);
        if (r < 0 && c->eof && is_job(w->doc))
            r = went_away(w);
        if (r == 0 && ev == CLIENT_NEED)
            return;
        if (r == 0 && ev == CLIENT_BODY)
            r = body_span(run, w, span, len);
        if (r == 0 && ev == CLIENT_END) {
            if (c->http.status >= 400 && w->line.len == 0)
                r = err_set(&w->err, ERR_INTERNAL, "teremd answered %d", c->http.status);
            else
                r = answer_end(run, w);
            if (r == 0 && !w->ended)
                return;
        }
        if (r < 0)
            w->ended = true;
    }
}

static bool has_name_in_front(const struct work *w)
{
    size_t n = strlen(w->subject);
    return str_starts(w->err.text, w->subject) && (w->err.text[n] == ':' || w->err.text[n] == ' ');
}

/* "web1: started", or why not. */
static void tell(struct run *run, struct work *w)
{
    progress_wipe(&run->progress);
    run->progress.done++;
    if (w->err.kind != ERR_NONE) {
        if (run->n > 1 && has_name_in_front(w))
            cli_complain("%s", w->err.text);
        else if (run->n > 1)
            cli_complain("%s: %s", w->subject, w->err.text);
    } else if (run->no_wait && is_unrecorded(w)) {
        cli_complain("%s: begun, but not recorded: the node's registry cannot be written (is its "
                     "disk full?); there is no number to wait for it by",
                     w->subject);
    } else if (run->no_wait && is_job(w->doc)) {
        if (!run->cli->json)
            printf("%" JSON_INTEGER_FORMAT "\n", cli_int(w->doc, "id"));
    } else if (!w->item) {
        const json_t *result = json_object_get(w->doc, "result");
        const char *done = run->words->done;
        if (run->words->current && json_is_true(json_object_get(result, "current")))
            done = run->words->current;
        if (!done && !*(done = cli_text(w->doc, "text")))
            done = "done"; /* a job of before tells no more */
        cli_say(run->cli, "%s: %s", w->subject, done);
    }
    fflush(stdout);
    client_close(w->client);
    w->client = NULL;
}

/* Begins as many as there is room for; -ERR_UNAVAILABLE: there is no teremd. */
static int begin(struct run *run, size_t *next, size_t *open)
{
    for (; *next < run->n && *open < WORK_AT_ONCE; (*next)++) {
        struct work *w = &run->w[*next];
        int r = open_request(run, w, w->method, w->path, w->body);
        w->begun = r == 0;
        if (r == -ERR_UNAVAILABLE || r == -ERR_DENIED)
            return r;
        if (r < 0) {
            w->ended = true;
            tell(run, w);
        } else {
            (*open)++;
        }
    }
    return 0;
}

static int watch(struct run *run, const sigset_t *mask, struct err *err)
{
    struct pollfd fds[WORK_AT_ONCE];
    struct work *at[WORK_AT_ONCE];
    size_t next = 0, open = 0;
    for (;;) {
        int r = interrupted ? 0 : begin(run, &next, &open);
        if (r < 0) {
            *err = run->w[next].err;
            return r;
        }
        if (open == 0 || interrupted)
            return 0;
        size_t k = 0;
        for (size_t i = 0; i < next; i++)
            if (run->w[i].client) {
                fds[k] = (struct pollfd){.fd = run->w[i].client->fd, .events = POLLIN};
                at[k++] = &run->w[i];
            }
        if (ppoll(fds, k, NULL, mask) < 0) {
            if (errno == EINTR)
                continue;
            return err_sys(err, "cannot wait for teremd");
        }
        for (size_t i = 0; i < k; i++) {
            if (fds[i].revents)
                advance(run, at[i]);
            if (at[i]->ended) {
                tell(run, at[i]);
                open--;
            }
        }
    }
}

static void tell_interrupted(struct run *run)
{
    size_t idle = 0;
    progress_wipe(&run->progress);
    for (size_t i = 0; i < run->n; i++) {
        struct work *w = &run->w[i];
        if (!w->begun)
            idle++;
        else if (!w->ended && is_unrecorded(w))
            cli_complain("%s: it goes on, but is not recorded: the node's registry cannot be "
                         "written (is its disk full?); there is no number to wait for it by",
                         w->subject);
        else if (!w->ended && is_job(w->doc))
            cli_complain(
                "%s: job %" JSON_INTEGER_FORMAT " goes on; terem jobs wait %" JSON_INTEGER_FORMAT
                " waits for it again, terem jobs cancel %" JSON_INTEGER_FORMAT " ends it",
                w->subject, cli_int(w->doc, "id"), cli_int(w->doc, "id"), cli_int(w->doc, "id"));
        else if (!w->ended)
            cli_complain("%s: its job may have begun; see terem jobs", w->subject);
    }
    if (idle)
        cli_complain("%zu more %s not begun", idle, idle == 1 ? "was" : "were");
    run->cli->died_of = interrupted;
    run->cli->status = 128 + interrupted;
}

static json_t *outcome(const struct work *w)
{
    if (w->doc && (is_job(w->doc) || w->err.kind == ERR_NONE))
        return json_incref(w->doc);
    return json_pack("{s:s,s:s,s:{s:s,s:s}}", "subject", w->subject, "state",
                     w->ended ? "failed" : "unknown", "error", "kind", err_row(w->err.kind)->name,
                     "message", w->err.text);
}

static int print_json(struct run *run, bool many, struct err *err)
{
    if (run->n == 1 && !many) {
        /* A request that was refused has no document: the sentence on standard error is all. */
        auto_json json_t *one = run->w[0].doc && (run->w[0].item || run->w[0].err.kind == ERR_NONE)
                                    ? outcome(&run->w[0])
                                    : NULL;
        return one ? cli_out_json(run->cli, one, err) : 0;
    }
    auto_json json_t *all = json_array();
    for (size_t i = 0; i < run->n; i++)
        json_array_append_new(all, outcome(&run->w[i]));
    return cli_out_json(run->cli, all, err);
}

int work_run(struct cli *cli, struct work *w, size_t n, const struct work_words *words, bool many,
             bool no_wait, struct err *err)
{
    struct run run = {.cli = cli, .w = w, .n = n, .words = words, .no_wait = no_wait};
    run.progress =
        (struct progress){.live = cli->err_live, .silent = cli->quiet || no_wait, .total = n};
    struct sigaction sa = {.sa_handler = on_interrupt}, old_int, old_term;
    sigset_t block, mask;
    sigemptyset(&block);
    sigaddset(&block, SIGINT);
    sigaddset(&block, SIGTERM);
    sigprocmask(SIG_BLOCK, &block, &mask);
    sigaction(SIGINT, &sa, &old_int);
    sigaction(SIGTERM, &sa, &old_term);
    interrupted = 0;
    int r = watch(&run, &mask, err);
    progress_wipe(&run.progress);
    if (interrupted)
        tell_interrupted(&run);
    sigaction(SIGINT, &old_int, NULL);
    sigaction(SIGTERM, &old_term, NULL);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    if (r < 0)
        return r;
    if (cli->json && (r = print_json(&run, many, err)) < 0)
        return r;
    if (n == 1 && w[0].err.kind != ERR_NONE) {
        *err = w[0].err;
        return -err->kind;
    }
    for (size_t i = 0; i < n; i++)
        if (w[i].err.kind != ERR_NONE)
            return -ERR_SYSTEM; /* each was told */
    return interrupted ? -ERR_CANCELLED : 0;
}

int work_one(struct cli *cli, const char *subject, const char *method, char *path, json_t *body,
             const struct work_words *words, bool no_wait, struct err *err)
{
    struct work *w = work_new(1);
    int r;
    if (!w || !path) {
        free(path);
        json_decref(body);
        r = err_set(err, ERR_EXHAUSTED, "out of memory");
    } else {
        w->subject = subject;
        w->method = method;
        w->path = path;
        w->body = body;
        r = work_run(cli, w, 1, words, false, no_wait, err);
    }
    work_free(w, 1);
    return r;
}
