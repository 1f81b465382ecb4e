/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "session.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "keep/frame.h"
#include "terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

struct state {
    struct session *s;
    int fd;
    bool input_open, ended, detached, interrupted;
    int status;
    unsigned asked;         /* how often a signal has asked the command to end */
    size_t out_at, out_len; /* bytes of out that teremd has not taken yet */
    uint8_t out[FRAME_HEAD + 16384 + 64];
    struct frame_reader reader;
};

/* Bit n: signal n came.  Signals that a command without a terminal is to get are passed on. */
static volatile sig_atomic_t resized;
static volatile sig_atomic_t caught;
static const int passed[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

static void on_resize(int sig)
{
    resized = 1;
}

static void on_signal(int sig)
{
    caught |= 1 << sig;
}

static void queue(struct state *st, enum frame_type type, const void *buf, size_t len)
{
    if (len > sizeof(st->out) - FRAME_HEAD - st->out_len)
        return; /* only resizes and signals can meet a full buffer: the next one will do */
    frame_head(st->out + st->out_len, type, len);
    if (len)
        memcpy(st->out + st->out_len + FRAME_HEAD, buf, len);
    st->out_len += FRAME_HEAD + len;
}

static void queue_size(struct state *st)
{
    struct winsize ws;
    resized = 0;
    if (ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) < 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) < 0)
        return;
    if (ws.ws_row == 0 || ws.ws_col == 0)
        return;
    uint8_t size[4] = {(uint8_t)(ws.ws_row >> 8), (uint8_t)ws.ws_row, (uint8_t)(ws.ws_col >> 8),
                       (uint8_t)ws.ws_col};
    queue(st, FRAME_RESIZE, size, sizeof(size));
}

static void queue_signals(struct state *st)
{
    for (size_t i = 0; i < ARRAY_SIZE(passed); i++) {
        uint8_t sig = (uint8_t)passed[i];
        if (!(caught & 1 << sig))
            continue;
        caught &= ~(1 << sig);
        queue(st, FRAME_SIGNAL, &sig, 1);
        /* The command does not listen, or there is none: the second time it is meant for us. */
        if ((sig == SIGINT || sig == SIGTERM) && ++st->asked > 1) {
            st->ended = true;
            st->interrupted = sig == SIGINT;
            st->status = 128 + sig;
        }
    }
}

static int send_some(struct state *st, struct err *err)
{
    while (st->out_at < st->out_len) {
        ssize_t n = send(st->fd, st->out + st->out_at, st->out_len - st->out_at,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
            /* The command has ended; what it said last is still to be read. */
            st->input_open = false;
            break;
        }
        if (n < 0)
            return err_sys(err, "cannot send to teremd");
        st->out_at += (size_t)n;
    }
    st->out_at = st->out_len = 0;
    return 0;
}

static void read_input(struct state *st)
{
    uint8_t buf[16384];
    ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        st->input_open = false;
        queue(st, FRAME_STDIN, NULL, 0);
        return;
    }
    const uint8_t *key =
        st->s->detach_key == SESSION_NO_KEY ? NULL : memchr(buf, st->s->detach_key, (size_t)n);
    if (key) {
        n = key - buf;
        st->ended = st->detached = true;
    }
    if (n)
        queue(st, FRAME_STDIN, buf, (size_t)n);
}

static int put_output(struct state *st, int fd, const struct frame *f, struct err *err)
{
    if (st->s->output)
        return st->s->output(st->s->ctx, f->data, f->len, err);
    int r = fd_write_all(fd, f->data, f->len, err);
    return r < 0 ? err_wrap(err, "cannot write to standard %s", fd == 1 ? "output" : "error") : 0;
}

static int take_frame(struct state *st, const struct frame *f, struct err *err)
{
    switch (f->type) {
    case FRAME_STDOUT:
        return put_output(st, STDOUT_FILENO, f, err);
    case FRAME_STDERR:
        return put_output(st, STDERR_FILENO, f, err);
    case FRAME_EXIT:
        if (f->len < 2)
            return err_set(err, ERR_CORRUPT, "teremd sent a damaged frame");
        st->status = f->data[0] ? 128 + f->data[1] : f->data[1];
        st->interrupted = f->data[0] && f->data[1] == SIGINT;
        st->ended = true;
        return 0;
    case FRAME_ERROR: {
        int kind = f->len && f->data[0] < ERR__COUNT && f->data[0] ? f->data[0] : ERR_INTERNAL;
        st->ended = true;
        return err_set(err, (enum err_kind)kind, "%.*s", f->len ? (int)f->len - 1 : 0,
                       f->len ? (const char *)f->data + 1 : "");
    }
    default: /* unknown types are skipped (keep/frame.h) */
        return 0;
    }
}

static int take_frames(struct state *st, struct err *err)
{
    struct frame f;
    bool bad = false;
    while (!st->ended && frame_next(&st->reader, &f, &bad)) {
        int r = take_frame(st, &f, err);
        if (r < 0)
            return r;
    }
    return bad ? err_set(err, ERR_CORRUPT, "teremd sent a damaged frame") : 0;
}

static int read_frames(struct state *st, struct err *err)
{
    int r = frame_reader_fill(&st->reader, st->fd, err);
    if (r == -ERR_BUSY)
        return 0;
    if (r < 0)
        return r;
    if (r == 0)
        return err_set(err, ERR_UNAVAILABLE, "teremd closed the session before its end");
    return take_frames(st, err);
}

static int loop(struct state *st, const sigset_t *mask, struct err *err)
{
    int r = take_frames(st, err); /* those that came with the head */
    while (r == 0 && !st->ended) {
        if (resized && st->s->tty)
            queue_size(st);
        queue_signals(st);
        if ((r = send_some(st, err)) < 0 || st->ended)
            break;
        bool want_input = st->input_open && st->out_len == 0;
        struct pollfd fds[2] = {
            {.fd = st->fd, .events = (short)(POLLIN | (st->out_len ? POLLOUT : 0))},
            {.fd = want_input ? STDIN_FILENO : -1, .events = POLLIN},
        };
        if (ppoll(fds, 2, NULL, mask) < 0) {
            if (errno != EINTR)
                r = err_sys(err, "cannot wait for input");
            continue;
        }
        if (fds[0].revents & (POLLIN | POLLHUP | POLLERR))
            r = read_frames(st, err);
        if (r == 0 && !st->ended && fds[1].revents)
            read_input(st);
    }
    /* Keys typed before the detach key in one read. */
    if (st->detached)
        send_some(st, NULL);
    return r;
}

/* Signals are blocked except inside ppoll(): none is missed between a look and the wait. */
static void catch_signals(const struct session *s, sigset_t *ret_mask)
{
    struct sigaction resize = {.sa_handler = on_resize}, pass = {.sa_handler = on_signal}, old;
    sigset_t block;
    sigemptyset(&block);
    resized = 1;
    caught = 0;
    if (s->tty) {
        sigaddset(&block, SIGWINCH);
        sigaction(SIGWINCH, &resize, NULL);
    }
    bool passes = !s->tty && !s->no_input && !s->no_command;
    for (size_t i = 0; passes && i < ARRAY_SIZE(passed); i++) {
        if (sigaction(passed[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN)
            continue; /* nohup */
        sigaddset(&block, passed[i]);
        sigaction(passed[i], &pass, NULL);
    }
    sigprocmask(SIG_BLOCK, &block, ret_mask);
}

int session_run(struct session *s, enum session_end *ret_end, int *ret_status, struct err *err)
{
    auto_free struct state *st = calloc(1, sizeof(*st));
    const char *rest;
    sigset_t mask;
    if (!st)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    st->s = s;
    st->fd = s->client->fd;
    st->input_open = !s->no_input;
    st->reader.have = client_rest(s->client, &rest);
    memcpy(st->reader.buf, rest, st->reader.have);
    bool raw = s->tty && isatty(STDIN_FILENO);
    int r = raw ? terminal_raw(STDIN_FILENO, 0, err) : 0;
    if (r < 0)
        return r;
    catch_signals(s, &mask);
    r = loop(st, &mask, err);
    if (raw)
        terminal_restore();
    sigprocmask(SIG_SETMASK, &mask, NULL);
    if (r < 0)
        return r;
    *ret_end = st->detached      ? SESSION_DETACHED
               : st->interrupted ? SESSION_INTERRUPTED
                                 : SESSION_EXITED;
    *ret_status = st->status;
    return 0;
}
