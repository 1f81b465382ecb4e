/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keep/server.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

static void unlink_from(struct viewer **list, struct viewer *v)
{
    if (v->prev)
        v->prev->next = v->next;
    else
        *list = v->next;
    if (v->next)
        v->next->prev = v->prev;
    v->next = v->prev = NULL;
}

static void link_to(struct viewer **list, struct viewer *v)
{
    v->next = *list;
    if (v->next)
        v->next->prev = v;
    *list = v;
}

void viewer_close(struct server *s, struct viewer *v)
{
    if (v->thing.buried)
        return;
    if (v->entry) {
        unlink_from(&v->entry->viewers, v);
        v->entry->n_viewers--;
    } else {
        unlink_from(&s->leaving, v);
        s->n_leaving--;
    }
    s->n_viewers--;
    /* What is unread when a Unix socket is closed turns the peer's end of file into ECONNRESET. */
    for (int i = 0; i < 4; i++)
        if (recv(v->source.fd, v->reader.buf, sizeof(v->reader.buf), MSG_DONTWAIT) <= 0)
            break;
    server_unwatch(s, &v->source);
    close(v->source.fd);
    server_bury(s, &v->thing);
}

static void watch(struct server *s, struct viewer *v)
{
    uint32_t events = v->out_at < v->out_end ? (uint32_t)EPOLLOUT : 0;
    if (v->entry && !v->paused)
        events |= EPOLLIN;
    /* With 0 the end of the client is still reported: EPOLLHUP always is (epoll_ctl(2)). */
    if (events != v->source.events)
        server_watch(s, &v->source, events);
}

/* Sends what is queued; false: the client is gone. */
static bool flush(struct viewer *v)
{
    while (v->out_at < v->out_end) {
        ssize_t n = send(v->source.fd, v->out + v->out_at, v->out_end - v->out_at,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        v->out_at += (size_t)n;
    }
    v->out_at = v->out_end = 0;
    return true;
}

static size_t room(const struct viewer *v)
{
    return sizeof(v->out) - (v->out_end - v->out_at);
}

/* There is room for it. */
static void enqueue(struct viewer *v, const void *buf, size_t len)
{
    if (sizeof(v->out) - v->out_end < len) {
        memmove(v->out, v->out + v->out_at, v->out_end - v->out_at);
        v->out_end -= v->out_at;
        v->out_at = 0;
    }
    if (len)
        memcpy(v->out + v->out_end, buf, len);
    v->out_end += len;
}

void viewer_finish(struct server *s, struct viewer *v, enum frame_type type, const void *buf,
                   size_t len)
{
    uint8_t head[FRAME_HEAD];
    if (v->thing.buried || !v->entry)
        return;
    if (len > VIEWER_LAST_WORD - FRAME_HEAD)
        len = VIEWER_LAST_WORD - FRAME_HEAD;
    frame_head(head, type, len);
    enqueue(v, head, sizeof(head));
    enqueue(v, buf, len);
    if (!flush(v) || v->out_at == v->out_end) {
        viewer_close(s, v);
        return;
    }
    unlink_from(&v->entry->viewers, v);
    v->entry->n_viewers--;
    v->entry = NULL;
    link_to(&s->leaving, v);
    s->n_leaving++;
    watch(s, v);
    if (s->n_leaving > VIEWERS_LEAVING_MAX) {
        struct viewer *oldest = s->leaving;
        while (oldest->next)
            oldest = oldest->next;
        viewer_close(s, oldest);
    }
}

static void finish_error(struct server *s, struct viewer *v, enum err_kind kind, const char *text)
{
    uint8_t buf[VIEWER_LAST_WORD - FRAME_HEAD];
    size_t len = strnlen(text, sizeof(buf) - 1);
    buf[0] = (uint8_t)kind;
    memcpy(buf + 1, text, len);
    viewer_finish(s, v, FRAME_ERROR, buf, 1 + len);
}

void viewer_output(struct server *s, struct viewer *v, const uint8_t *buf, size_t len)
{
    if (!len)
        return;
    if (FRAME_HEAD + len + VIEWER_LAST_WORD > room(v)) {
        finish_error(s, v, ERR_EXHAUSTED,
                     "the console writes more than this client reads; attach again");
        return;
    }
    uint8_t head[FRAME_HEAD];
    size_t done = 0;
    frame_head(head, FRAME_STDOUT, len);
    if (v->out_at == v->out_end) {
        struct iovec iov[2] = {{head, sizeof(head)}, {(void *)buf, len}};
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
        ssize_t n = sendmsg(v->source.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            viewer_close(s, v);
            return;
        }
        done = n > 0 ? (size_t)n : 0;
    }
    if (done < sizeof(head)) {
        enqueue(v, head + done, sizeof(head) - done);
        done = sizeof(head);
    }
    done -= sizeof(head);
    enqueue(v, buf + done, len - done);
    watch(s, v);
}

/* Writes on with the frame at hand; false: the console takes no more now. */
static bool push_input(struct viewer *v)
{
    while (v->input_done < v->input.len) {
        ssize_t n = write(v->entry->console.fd, v->input.data + v->input_done,
                          v->input.len - v->input_done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n <= 0) /* nobody at the other side: as on a line that is not connected */
            break;
        v->input_done += (size_t)n;
    }
    v->input = (struct frame){0};
    v->input_done = 0;
    return true;
}

static void take_frame(struct viewer *v, const struct frame *f)
{
    int console = v->entry->console.fd;
    if (f->type == FRAME_STDIN) {
        v->input = *f;
        v->input_done = 0;
    } else if (f->type == FRAME_RESIZE && f->len == 4) {
        struct winsize w = {.ws_row = (unsigned short)(f->data[0] << 8 | f->data[1]),
                            .ws_col = (unsigned short)(f->data[2] << 8 | f->data[3])};
        if (w.ws_row && w.ws_col)
            ioctl(console, TIOCSWINSZ, &w);
    } else if (f->type == FRAME_SIGNAL && f->len == 1) {
        /* To the console's foreground; the kernel takes INT, QUIT and TSTP only (TIOCSIG). */
        ioctl(console, TIOCSIG, (int)f->data[0]);
    }
}

static void take_frames(struct server *s, struct viewer *v)
{
    struct frame f;
    bool bad = false;
    for (;;) {
        if (!push_input(v)) {
            v->paused = true;
            entry_watch_console(s, v->entry);
            break;
        }
        if (!frame_next(&v->reader, &f, &bad))
            break;
        take_frame(v, &f);
    }
    if (bad)
        finish_error(s, v, ERR_CORRUPT, "a frame is longer than frames may be");
    else
        watch(s, v);
}

void viewer_resume(struct server *s, struct viewer *v)
{
    if (!v->paused)
        return;
    v->paused = false;
    take_frames(s, v);
}

void viewer_event(struct server *s, struct viewer *v, uint32_t events)
{
    if ((events & EPOLLOUT) && !flush(v)) {
        viewer_close(s, v);
        return;
    }
    if (!v->entry) {
        if (v->out_at == v->out_end || (events & (EPOLLHUP | EPOLLERR)))
            viewer_close(s, v);
        return;
    }
    if ((events & EPOLLIN) && !v->paused) {
        struct err e = {0};
        int n = frame_reader_fill(&v->reader, v->source.fd, &e);
        if (n == 0 || (n < 0 && n != -ERR_BUSY))
            viewer_close(s, v);
        else
            take_frames(s, v);
        return;
    }
    if (events & (EPOLLHUP | EPOLLERR))
        viewer_close(s, v);
    else
        watch(s, v);
}

int viewer_add(struct server *s, struct entry *e, int fd, struct err *err)
{
    auto_fd int sock = fd;
    int type = 0;
    socklen_t len = sizeof(type);
    if (getsockopt(sock, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM)
        return err_set(err, ERR_USAGE, "what was handed over is not a stream socket");
    if (e->n_viewers >= VIEWERS_PER_VE || s->n_viewers >= VIEWERS_MAX)
        return err_set(err, ERR_EXHAUSTED, "too many clients watch consoles already");
    int r = fd_set_nonblock(sock, err);
    if (r < 0)
        return r;
    struct viewer *v = calloc(1, sizeof(*v));
    if (!v)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    v->source = (struct source){.kind = SOURCE_VIEWER, .fd = sock, .owner = &v->thing};
    if (server_watch(s, &v->source, EPOLLIN) < 0) {
        free(v);
        return err_sys(err, "cannot watch a client");
    }
    steal_fd(&sock);
    v->entry = e;
    link_to(&e->viewers, v);
    e->n_viewers++;
    s->n_viewers++;
    char last[SCROLLBACK];
    viewer_output(s, v, (uint8_t *)last, console_log_tail(&e->log, last, sizeof(last)));
    return 0;
}
