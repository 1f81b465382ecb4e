/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A command whose output is collected: a session whose client is teremd itself. */
#include "base/fd.h"
#include "keep/frame.h"
#include "ve/internal.h"

#include <errno.h>
#include <sys/socket.h>

#define OUTPUT_MAX (1024 * 1024)
#define INPUT_MAX  (1024 * 1024)

struct collect {
    struct collect *next;
    struct ve_node *node;
    int fd;
    uv_poll_t poll;
    struct frame_reader in;
    struct str to_send, out, error;
    size_t sent;
    bool truncated;
    ve_result_fn fn;
    void *ctx;
};

static void collect_freed(uv_handle_t *h)
{
    struct collect *c = h->data;
    cleanup_fd(&c->fd);
    str_done(&c->to_send);
    str_done(&c->out);
    str_done(&c->error);
    free(c);
}

/* Bytes as a JSON text: what is not UTF-8 becomes U+FFFD. */
static json_t *text_json(const struct str *s)
{
    json_t *whole = json_stringn(str_c(s), s->len);
    if (whole)
        return whole;
    auto_str struct str t = str_init(s->len * 3 + 1);
    const char *p = str_c(s);
    for (size_t i = 0; i < s->len;) {
        size_t n = 1;
        unsigned char c = (unsigned char)p[i];
        if (c >= 0xc2)
            n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
        json_t *one = i + n <= s->len ? json_stringn(p + i, n) : NULL;
        if (one)
            str_add_bytes(&t, p + i, n);
        else {
            str_add(&t, "\xef\xbf\xbd");
            n = 1;
        }
        json_decref(one);
        i += n;
    }
    return json_stringn(str_c(&t), t.len);
}

static void finish(struct collect *c, const struct frame *last)
{
    struct err e = {0};
    json_t *result = NULL;
    if (!last) {
        err_set(&e, ERR_INTERNAL, "the command's session ended without a result");
    } else if (last->type == FRAME_ERROR) {
        err_set(&e, last->len ? (enum err_kind)last->data[0] : ERR_INTERNAL, "%.*s",
                last->len ? (int)last->len - 1 : 0, (const char *)last->data + 1);
    } else {
        bool killed = last->len == 2 && last->data[0];
        int code = last->len == 2 ? last->data[1] : 255;
        result =
            json_pack("{s:i, s:o, s:o, s:o, s:b}", "exit", killed ? 128 + code : code, "signal",
                      killed ? ve_signal_json(code) : json_null(), "stdout", text_json(&c->out),
                      "stderr", text_json(&c->error), "truncated", c->truncated);
    }
    uv_poll_stop(&c->poll);
    for (struct collect **at = &c->node->collects; *at; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    c->fn(c->ctx, result, result ? NULL : &e);
    uv_close((uv_handle_t *)&c->poll, collect_freed);
}

static void add_output(struct collect *c, struct str *s, const struct frame *f)
{
    size_t room = OUTPUT_MAX - s->len;
    c->truncated |= f->len > room;
    str_add_bytes(s, f->data, f->len > room ? room : f->len);
}

static void on_collect(uv_poll_t *poll, int status, int events)
{
    struct collect *c = poll->data;
    struct frame f;
    bool bad = false;
    if ((events & UV_WRITABLE) && c->sent < c->to_send.len) {
        ssize_t n = send(c->fd, str_c(&c->to_send) + c->sent, c->to_send.len - c->sent,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0)
            c->sent += (size_t)n;
        else if (n < 0 && errno != EAGAIN && errno != EINTR)
            c->sent = c->to_send.len;
        if (c->sent == c->to_send.len)
            uv_poll_start(poll, UV_READABLE, on_collect);
    }
    if (!(events & UV_READABLE) && status == 0)
        return;
    int n = frame_reader_fill(&c->in, c->fd, NULL);
    while (frame_next(&c->in, &f, &bad)) {
        if (f.type == FRAME_STDOUT)
            add_output(c, &c->out, &f);
        else if (f.type == FRAME_STDERR)
            add_output(c, &c->error, &f);
        else if (f.type == FRAME_EXIT || f.type == FRAME_ERROR) {
            finish(c, &f);
            return;
        }
    }
    if (bad || n == 0 || (n < 0 && n != -ERR_BUSY))
        finish(c, NULL);
}

static int add_stdin(struct collect *c, const json_t *text, struct err *err)
{
    if (text && !json_is_null(text) && !json_is_string(text))
        return err_set(err, ERR_USAGE, "stdin must be a text");
    const char *p = json_string_value(text);
    size_t left = p ? json_string_length(text) : 0;
    uint8_t head[FRAME_HEAD];
    if (left > INPUT_MAX)
        return err_set(err, ERR_USAGE, "stdin is longer than 1 MiB; use the stream instead");
    while (left) {
        size_t n = left < 32768 ? left : 32768;
        frame_head(head, FRAME_STDIN, n);
        str_add_bytes(&c->to_send, head, sizeof(head));
        str_add_bytes(&c->to_send, p, n);
        p += n;
        left -= n;
    }
    frame_head(head, FRAME_STDIN, 0);
    str_add_bytes(&c->to_send, head, sizeof(head));
    return c->to_send.failed ? err_set(err, ERR_EXHAUSTED, "out of memory") : 0;
}

int ve_exec_collect(struct ve_node *node, const char *name, const json_t *request, ve_result_fn fn,
                    void *ctx, struct err *err)
{
    int sv[2];
    struct collect *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    *c = (struct collect){.node = node, .fd = -1, .fn = fn, .ctx = ctx};
    c->to_send = str_init(2 * INPUT_MAX);
    c->out = str_init(OUTPUT_MAX);
    c->error = str_init(OUTPUT_MAX);
    int r = add_stdin(c, json_object_get(request, "stdin"), err);
    if (r == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
        r = err_sys(err, "%s: cannot make a socket pair", name);
    if (r == 0) {
        c->fd = sv[0];
        r = ve_exec_stream(node, name, request, sv[1], NULL, NULL, err);
        close(sv[1]);
    }
    if (r < 0) {
        cleanup_fd(&c->fd);
        str_done(&c->to_send);
        free(c);
        return r;
    }
    fd_set_nonblock(c->fd, NULL);
    uv_poll_init(node->loop, &c->poll, c->fd);
    c->poll.data = c;
    uv_poll_start(&c->poll, UV_READABLE | UV_WRITABLE, on_collect);
    c->next = node->collects;
    node->collects = c;
    return 0;
}

static void ignore(void *ctx, json_t *result, const struct err *failed)
{
    json_decref(result);
}

void ve_exec_forget(struct ve_node *node, const void *ctx)
{
    for (struct collect *c = node->collects; c; c = c->next)
        if (c->ctx == ctx)
            c->fn = ignore;
}

void ve_exec_signal(struct ve_node *node, const void *ctx, int sig)
{
    uint8_t frame[FRAME_HEAD + 1];
    frame_head(frame, FRAME_SIGNAL, 1);
    frame[FRAME_HEAD] = (uint8_t)sig;
    for (struct collect *c = node->collects; c; c = c->next) {
        if (c->ctx != ctx)
            continue;
        str_add_bytes(&c->to_send, frame, sizeof(frame));
        uv_poll_start(&c->poll, UV_READABLE | UV_WRITABLE, on_collect);
    }
}
