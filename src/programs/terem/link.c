/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "link.h"

#include "base/cleanup.h"
#include "keep/frame.h"
#include "progress.h"
#include "text.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct link {
    struct client *client;
    struct frame_reader reader;
    struct progress progress;
    char *shown; /* the last text: elsewhere than on a terminal a line is a change of it */
    const char *subject;
    int (*data)(void *ctx, const void *buf, size_t len, struct err *err);
    void *ctx;
    bool ended, closed;
    struct err end; /* what the last frame said */
};

int link_open(struct cli *cli, const char *path, const json_t *request, struct link **ret,
              struct err *err)
{
    auto_client struct client *c = NULL;
    const char *rest;
    int r = client_upgrade(&cli->place, "POST", path, request, &c, err);
    if (r < 0)
        return r;
    struct link *l = calloc(1, sizeof(*l));
    if (!l)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    l->reader.have = client_rest(c, &rest);
    memcpy(l->reader.buf, rest, l->reader.have);
    l->progress = (struct progress){.live = cli->err_live, .silent = cli->quiet, .total = 1};
    l->client = steal_ptr(&c);
    *ret = l;
    return 0;
}

void link_close(struct link *l)
{
    if (!l)
        return;
    progress_wipe(&l->progress);
    client_close(l->client);
    free(l->shown);
    free(l);
}

void link_listen(struct link *l, const char *subject,
                 int (*data)(void *ctx, const void *buf, size_t len, struct err *err), void *ctx)
{
    l->subject = subject;
    l->data = data;
    l->ctx = ctx;
}

/* What the handler needs, made before: it may call what signal-safety(7) lists, and no more. */
static struct {
    char *text, *file;
    size_t len;
} parting;

static void part(int sig)
{
    struct stat st;
    if (parting.file && stat(parting.file, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0)
        unlink(parting.file);
    (void)!write(STDERR_FILENO, parting.text, parting.len);
    signal(sig, SIG_DFL);
    raise(sig); /* comes when the handler returns: a shell ends its loop, too */
}

int link_interrupted_says(struct link *l, const char *sentence, const char *file, struct err *err)
{
    static const int signals[] = {SIGINT, SIGTERM};
    struct str s = str_init(TEXT_MAX);
    struct sigaction sa = {.sa_handler = part}, old;
    if (l->progress.live)
        str_add(&s, "\r\x1b[K");
    str_add(&s, "terem: ");
    text_add(&s, sentence);
    str_add(&s, "\n");
    parting.file = file ? strdup(file) : NULL;
    if (s.failed || (file && !parting.file)) {
        str_done(&s);
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    parting.len = s.len;
    parting.text = s.buf;
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &sa, NULL);
    return 0;
}

void link_loud(struct link *l)
{
    l->progress.silent = false;
}

void link_show(struct link *l, int percent, const char *text)
{
    bool same = str_eq(l->shown, text);
    if (!same) {
        free(l->shown);
        l->shown = strdup(text);
    }
    if (!same || l->progress.live)
        progress_show(&l->progress, l->subject, percent, text);
}

static void show_line(struct link *l, const struct frame *f)
{
    json_t *j = json_loadb((const char *)f->data, f->len, 0, NULL);
    const json_t *percent = json_object_get(j, "percent");
    if (json_is_string(json_object_get(j, "warning"))) {
        progress_wipe(&l->progress);
        cli_complain("%s: %s", l->subject, cli_text(j, "warning"));
    }
    if (json_is_string(json_object_get(j, "text")))
        link_show(l, json_is_integer(percent) ? (int)json_integer_value(percent) : -1,
                  cli_text(j, "text"));
    json_decref(j);
}

static int take_frame(struct link *l, const struct frame *f, struct err *err)
{
    switch (f->type) {
    case FRAME_STDOUT:
        return l->data ? l->data(l->ctx, f->data, f->len, err) : 0;
    case FRAME_STDERR:
        show_line(l, f);
        return 0;
    case FRAME_EXIT:
        l->ended = true;
        return 0;
    case FRAME_ERROR: {
        int kind = f->len && f->data[0] < ERR__COUNT && f->data[0] ? f->data[0] : ERR_INTERNAL;
        l->ended = true;
        err_set(&l->end, (enum err_kind)kind, "%.*s", f->len ? (int)f->len - 1 : 0,
                f->len ? (const char *)f->data + 1 : "");
        return 0;
    }
    default: /* unknown types are skipped (keep/frame.h) */
        return 0;
    }
}

/* Takes what is there; waits for more first when there is no whole frame. */
static int take(struct link *l, struct err *err)
{
    struct frame f;
    bool bad = false;
    int r = frame_reader_fill(&l->reader, l->client->fd, err);
    if (r == -ERR_BUSY)
        return 0;
    if (r < 0)
        return r;
    l->closed = r == 0;
    while (!l->ended && frame_next(&l->reader, &f, &bad))
        if ((r = take_frame(l, &f, err)) < 0)
            return r;
    if (bad)
        return err_set(err, ERR_CORRUPT, "teremd sent a damaged frame");
    return 0;
}

static int no_more(struct err *err)
{
    return err_set(err, ERR_UNAVAILABLE, "teremd ended the transfer before its end");
}

static int send_all(struct link *l, const uint8_t *p, size_t len, struct err *err)
{
    while (len) {
        if (l->ended || l->closed)
            return no_more(err);
        ssize_t n = send(l->client->fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            p += n;
            len -= (size_t)n;
            continue;
        }
        if (errno == EPIPE || errno == ECONNRESET)
            return no_more(err);
        if (errno != EAGAIN && errno != EINTR)
            return err_sys(err, "cannot send to teremd");
        struct pollfd fds = {.fd = l->client->fd, .events = POLLIN | POLLOUT};
        if (poll(&fds, 1, -1) < 0 && errno != EINTR)
            return err_sys(err, "cannot wait for teremd");
        int r = fds.revents & (POLLIN | POLLHUP) ? take(l, err) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

static int send_frame(struct link *l, const void *buf, size_t len, struct err *err)
{
    uint8_t head[FRAME_HEAD];
    frame_head(head, FRAME_STDIN, len);
    int r = send_all(l, head, sizeof(head), err);
    return r < 0 || len == 0 ? r : send_all(l, buf, len, err);
}

int link_send(struct link *l, const void *buf, size_t len, struct err *err)
{
    const uint8_t *p = buf;
    int r = 0;
    while (len && r == 0) {
        size_t n = len < FRAME_MAX ? len : FRAME_MAX;
        r = send_frame(l, p, n, err);
        p += n;
        len -= n;
    }
    return r;
}

int link_send_end(struct link *l, struct err *err)
{
    return send_frame(l, NULL, 0, err);
}

int link_finish(struct link *l, struct err *err)
{
    struct frame f;
    bool bad = false;
    int r = 0;
    err_clear(err);
    while (r == 0 && !l->ended && frame_next(&l->reader, &f, &bad)) /* came with the head */
        r = take_frame(l, &f, err);
    while (r == 0 && !l->ended && !l->closed) {
        struct pollfd fds = {.fd = l->client->fd, .events = POLLIN};
        if (poll(&fds, 1, -1) < 0 && errno != EINTR)
            return err_sys(err, "cannot wait for teremd");
        if (fds.revents)
            r = take(l, err);
    }
    progress_wipe(&l->progress);
    if (r < 0)
        return r;
    if (!l->ended)
        return no_more(err);
    if (l->end.kind == ERR_NONE)
        return 0;
    *err = l->end;
    return -err->kind;
}
