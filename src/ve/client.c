/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A job's client over an upgraded connection (keep/frame.h): backups go out, backups come in.
 *
 * The worker reads and writes; it waits for the client only while nobody has cancelled the job.
 * The end of the job is teremd's to tell (client_end), which never waits.
 */
#include "ve/client.h"
#include "base/fd.h"
#include "keep/frame.h"
#include "ve/jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#define WAIT_MS 200
/* A frame that has begun is ended, if the client takes it at all; then the reason can follow.  Less
 * than the time after which a cancelled worker is killed. */
#define PATIENCE_MS 2000
#define TOLD        "the client knows"

static int wait_for(int fd, short events, int patience, struct err *err)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = events};
        int n = poll(&p, 1, WAIT_MS);
        if (job_cancel_flag && n <= 0 && (patience -= WAIT_MS) <= 0)
            return err_set(err, ERR_CANCELLED, "it was cancelled");
        if (n < 0 && errno != EINTR)
            return err_sys(err, "cannot wait for the client");
        if (n > 0)
            return 0;
    }
}

static int gone(struct err *err)
{
    return err_set(err, ERR_UNAVAILABLE, "the client went away");
}

static int send_all(int fd, const void *buf, size_t len, struct err *err)
{
    const uint8_t *p = buf;
    while (len) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
            return gone(err);
        if (n < 0 && errno == EAGAIN) {
            int r = wait_for(fd, POLLOUT, PATIENCE_MS, err);
            if (r < 0)
                return r;
            continue;
        }
        if (n < 0 && errno != EINTR)
            return err_sys(err, "cannot write to the client");
        p += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int send_frame(int fd, enum frame_type type, const void *buf, size_t len, struct err *err)
{
    uint8_t head[FRAME_HEAD];
    if (job_cancel_flag && type != FRAME_ERROR)
        return err_set(err, ERR_CANCELLED, "it was cancelled");
    frame_head(head, type, len);
    int r = send_all(fd, head, sizeof(head), err);
    return r < 0 ? r : send_all(fd, buf, len, err);
}

int client_write(int fd, const void *buf, size_t len, struct err *err)
{
    const uint8_t *p = buf;
    int r = 0;
    while (len && r == 0) {
        size_t n = len < FRAME_MAX ? len : FRAME_MAX;
        r = send_frame(fd, FRAME_STDOUT, p, n, err);
        p += n;
        len -= n;
    }
    return r;
}

static int send_line(int fd, json_t *j, struct err *err)
{
    auto_free char *line = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    return line ? send_frame(fd, FRAME_STDERR, line, strlen(line), err)
                : err_set(err, ERR_EXHAUSTED, "out of memory");
}

int client_tell(int fd, int percent, const char *text, struct err *err)
{
    return send_line(fd, json_pack("{s:i, s:s}", "percent", percent, "text", text), err);
}

int client_warn(int fd, const char *text, struct err *err)
{
    return send_line(fd, json_pack("{s:s}", "warning", text), err);
}

ssize_t client_read(struct client_in *in, void *buf, size_t size, struct err *err)
{
    while (in->at == in->frame.len) {
        bool bad = false;
        if (frame_next(&in->reader, &in->frame, &bad)) {
            in->at = 0;
            if (in->frame.type == FRAME_STDIN && in->frame.len == 0)
                return 0;
            if (in->frame.type != FRAME_STDIN)
                in->frame.len = 0;
            continue;
        }
        if (bad)
            return err_set(err, ERR_CORRUPT, "the client sent a damaged frame");
        in->at = in->frame.len = 0;
        int r = wait_for(in->fd, POLLIN, 0, err);
        if (r < 0)
            return r;
        if ((r = frame_reader_fill(&in->reader, in->fd, err)) < 0)
            return r;
        if (r == 0)
            return gone(err);
    }
    size_t n = in->frame.len - in->at;
    n = n < size ? n : size;
    memcpy(buf, in->frame.data + in->at, n);
    in->at += n;
    return (ssize_t)n;
}

int client_read_all(struct client_in *in, void *buf, size_t len, struct err *err)
{
    uint8_t *p = buf;
    while (len) {
        ssize_t n = client_read(in, p, len, err);
        if (n <= 0)
            return n < 0 ? (int)n
                         : err_set(err, ERR_CORRUPT, "the client sent less than it had announced");
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static size_t error_body(const struct err *error, uint8_t out[1 + sizeof(error->text)])
{
    size_t n = strlen(error->text);
    out[0] = (uint8_t)error->kind;
    memcpy(out + 1, error->text, n);
    return n + 1;
}

void client_fail(struct job *job, const struct err *error)
{
    uint8_t body[1 + sizeof(error->text)];
    struct err e = {0};
    if (error->kind != ERR_UNAVAILABLE &&
        send_frame(job->client, FRAME_ERROR, body, error_body(error, body), &e) == 0)
        str_print(job->said, sizeof(job->said), TOLD);
}

void client_end(struct job *job, const struct err *error)
{
    uint8_t bytes[FRAME_HEAD + 1 + sizeof(error->text)];
    size_t len = error ? 1 + strlen(error->text) : 2;
    if (job->client < 0)
        return;
    if (error && str_eq(job->said, TOLD)) {
        cleanup_fd(&job->client);
        return;
    }
    frame_head(bytes, error ? FRAME_ERROR : FRAME_EXIT, len);
    memset(bytes + FRAME_HEAD, 0, 2);
    if (error)
        error_body(error, bytes + FRAME_HEAD);
    /* Its worker waited until all else had gone into the socket; if this does not fit there any
     * more the client sees that the connection ends. */
    send(job->client, bytes, FRAME_HEAD + len, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(job->client, SHUT_WR);
    cleanup_fd(&job->client);
}

int client_flush(int fd, struct err *err)
{
    return wait_for(fd, POLLOUT, 0, err);
}

int client_take(struct ve_node *node, int fd, int *ret_fd, struct err *err)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, node->fd_floor);
    if (own < 0)
        return err_sys(err, "cannot keep the client's connection");
    *ret_fd = own;
    return 0;
}
