/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "client.h"

#include "base/cleanup.h"
#include "keep/frame.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static int connect_to(const struct place *place, struct client *c, struct err *err)
{
    const char *socket_path = place->api;
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (str_print(sa.sun_path, sizeof(sa.sun_path), "%s", socket_path) < 0)
        return err_set(err, ERR_USAGE, "the path of the socket is too long: %s", socket_path);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        return err_sys(err, "cannot make a socket");
    struct timeval t = {.tv_sec = CLIENT_DEADLINE}, none = {0};
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t)); /* of connect(2), too: unix(7) */
    if (connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)) == 0) {
        setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
        return 0;
    }
    int sys = errno;
    if (sys == EAGAIN)
        return err_set(
            err, ERR_TIMEOUT,
            "teremd at %s takes no connections; look whether it is stopped or overloaded",
            socket_path);
    if (sys == EACCES || sys == EPERM)
        return err_set(
            err, ERR_DENIED,
            "cannot reach teremd at %s: %s; run this as root or as a member of the group "
            "terem",
            socket_path, strerror(sys));
    return err_set(err, ERR_UNAVAILABLE, "cannot reach teremd at %s: %s; start it with %s%s",
                   socket_path, strerror(sys),
                   *place->root ? "teremd --root " : "systemctl start terem", place->root);
}

/* MSG_NOSIGNAL: SIGPIPE is for standard output only. */
static int send_all(int fd, const char *p, size_t n, struct err *err)
{
    while (n) {
        ssize_t w = send(fd, p, n, MSG_NOSIGNAL);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return err_sys(err, "cannot send to teremd");
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

static int send_request(struct client *c, const struct request *rq, struct err *err)
{
    auto_str struct str s = str_init(CLIENT_BODY_MAX);
    auto_free char *body = NULL;
    if (rq->body) {
        body = json_dumps(rq->body, JSON_COMPACT | JSON_ENCODE_ANY);
        if (!body)
            return err_set(err, ERR_USAGE, "the request is not valid UTF-8");
    }
    str_add(&s, "%s %s HTTP/1.1\r\nHost: terem\r\nAccept: %s\r\n", rq->method, rq->path,
            rq->stream ? "application/x-ndjson" : "application/json");
    if (rq->upgrade)
        str_add(&s, "Connection: Upgrade\r\nUpgrade: %s\r\n", FRAME_PROTOCOL);
    if (body)
        str_add(&s, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
    else if (rq->upload && rq->upload_size >= 0)
        str_add(&s, "Content-Type: %s\r\nContent-Length: %" PRId64 "\r\n", rq->upload,
                rq->upload_size);
    else if (rq->upload)
        str_add(&s, "Content-Type: %s\r\nTransfer-Encoding: chunked\r\n", rq->upload);
    else if (!str_eq(rq->method, "GET"))
        str_add(&s, "Content-Length: 0\r\n");
    str_add(&s, "\r\n");
    if (body)
        str_add_bytes(&s, body, strlen(body));
    if (s.failed)
        return err_set(err, ERR_EXHAUSTED, "the request is too long");
    c->chunked_upload = rq->upload && rq->upload_size < 0;
    return send_all(c->fd, s.buf, s.len, err);
}

int client_open(const struct place *place, const struct request *rq, struct client **ret,
                struct err *err)
{
    /* Not calloc: buf need not be touched. */
    auto_client struct client *c = malloc(sizeof(*c));
    if (!c)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    c->fd = -1;
    memset(&c->http, 0, offsetof(struct http_reader, line));
    c->head_told = c->chunked_upload = c->eof = false;
    c->at = c->have = 0;
    c->deadline = rq->deadline;
    int r = connect_to(place, c, err);
    if (r < 0)
        return r;
    r = send_request(c, rq, err);
    if (r < 0)
        return r;
    *ret = steal_ptr(&c);
    return 0;
}

void client_close(struct client *c)
{
    if (!c)
        return;
    cleanup_fd(&c->fd);
    free(c);
}

static int fill(struct client *c, struct err *err)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    int ready;
    do
        ready = c->deadline ? poll(&p, 1, (int)c->deadline * 1000) : 1;
    while (ready < 0 && errno == EINTR);
    if (ready == 0)
        return err_set(err, ERR_TIMEOUT,
                       "teremd has not answered within %u seconds; look whether it is stopped or "
                       "overloaded",
                       c->deadline);
    c->deadline = 0;
    ssize_t n;
    do
        n = read(c->fd, c->buf, sizeof(c->buf));
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno != ECONNRESET)
        return err_sys(err, "cannot read from teremd");
    c->at = 0;
    c->have = n > 0 ? (size_t)n : 0;
    c->eof = n <= 0;
    return 0;
}

int client_step(struct client *c, unsigned reads, enum client_event *ev, const char **span,
                size_t *len, struct err *err)
{
    *span = NULL;
    *len = 0;
    for (;;) {
        if (http_has_head(&c->http) && !c->head_told) {
            c->head_told = true;
            *ev = CLIENT_HEAD;
            return 0;
        }
        if (http_done(&c->http) || http_upgraded(&c->http)) {
            *ev = CLIENT_END;
            return 0;
        }
        if (c->at < c->have) {
            size_t used;
            int r = http_feed(&c->http, c->buf + c->at, c->have - c->at, &used, span, len, err);
            if (r < 0)
                return r;
            c->at += used;
            if (*len) {
                *ev = CLIENT_BODY;
                return 0;
            }
            continue;
        }
        int r = 0;
        if (c->eof) {
            r = http_eof(&c->http, err);
        } else if (reads) {
            reads -= reads != CLIENT_BLOCK;
            r = fill(c, err);
        } else {
            *ev = CLIENT_NEED;
            return 0;
        }
        if (r < 0)
            return c->eof ? err_wrap(err, "teremd went away") : r;
    }
}

bool client_error(const json_t *doc, struct err *err)
{
    const json_t *e = json_object_get(doc, "error");
    const char *kind = json_string_value(json_object_get(e, "kind"));
    const char *text = json_string_value(json_object_get(e, "message"));
    if (!kind || !text)
        return false;
    int k = err_kind_from_name(kind);
    err_set(err, k == ERR_NONE ? ERR_INTERNAL : (enum err_kind)k, "%s", text);
    return true;
}

static int whole_body(struct client *c, json_t **ret, struct err *err)
{
    auto_str struct str s = str_init(CLIENT_BODY_MAX);
    const char *span;
    ssize_t n;
    while ((n = client_body(c, &span, err)) > 0)
        str_add_bytes(&s, span, (size_t)n);
    if (n < 0)
        return (int)n;
    if (s.failed)
        return err_set(err, ERR_EXHAUSTED, "the answer of teremd is too long");
    json_error_t je;
    *ret = s.len ? json_loadb(s.buf, s.len, JSON_DECODE_ANY, &je) : NULL;
    if (s.len && !*ret)
        return err_set(err, ERR_CORRUPT, "the answer of teremd is not JSON: %s", je.text);
    return 0;
}

int client_head(struct client *c, struct err *err)
{
    enum client_event ev = CLIENT_NEED;
    const char *span;
    size_t len;
    if (!c->head_told) {
        int r = client_step(c, CLIENT_BLOCK, &ev, &span, &len, err);
        if (r < 0)
            return r;
    }
    if (c->http.status < 400)
        return 0;
    json_t *doc = NULL;
    if (whole_body(c, &doc, NULL) < 0 || !client_error(doc, err))
        err_set(err, ERR_INTERNAL, "teremd answered %d", c->http.status);
    json_decref(doc);
    return err ? -err->kind : -ERR_INTERNAL;
}

ssize_t client_body(struct client *c, const char **span, struct err *err)
{
    enum client_event ev;
    size_t len;
    do {
        int r = client_step(c, CLIENT_BLOCK, &ev, span, &len, err);
        if (r < 0)
            return r;
    } while (ev == CLIENT_HEAD);
    return ev == CLIENT_BODY ? (ssize_t)len : 0;
}

int client_json(struct client *c, json_t **ret, struct err *err)
{
    int r = client_head(c, err);
    return r < 0 ? r : whole_body(c, ret, err);
}

size_t client_rest(const struct client *c, const char **ret)
{
    *ret = c->buf + c->at;
    return c->have - c->at;
}

/* True when teremd has said something (or hung up) before the upload's end. */
static bool answered(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};
    while (poll(&p, 1, -1) < 0 && errno == EINTR)
        ;
    return (p.revents & (POLLIN | POLLHUP | POLLERR)) != 0;
}

static int upload_bytes(struct client *c, const char *p, size_t n, struct err *err)
{
    while (n) {
        if (answered(c->fd))
            return err_set(err, ERR_CANCELLED, "teremd answered before the end of the upload");
        ssize_t w = send(c->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (w < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (w < 0)
            return err_sys(err, "cannot send to teremd");
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

int client_upload(struct client *c, const void *buf, size_t len, struct err *err)
{
    if (len == 0)
        return 0;
    if (!c->chunked_upload)
        return upload_bytes(c, buf, len, err);
    char size[24];
    str_print(size, sizeof(size), "%zx\r\n", len);
    int r = upload_bytes(c, size, strlen(size), err);
    if (r == 0)
        r = upload_bytes(c, buf, len, err);
    return r < 0 ? r : upload_bytes(c, "\r\n", 2, err);
}

int client_upload_end(struct client *c, struct err *err)
{
    return c->chunked_upload ? upload_bytes(c, "0\r\n\r\n", 5, err) : 0;
}

void client_encode(struct str *s, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                     (*p >= '0' && *p <= '9') || strchr("-._~", *p);
        if (plain)
            str_add_bytes(s, p, 1);
        else
            str_add(s, "%%%02X", *p);
    }
}

int client_upgrade(const struct place *place, const char *method, const char *path,
                   const json_t *body, struct client **ret, struct err *err)
{
    auto_client struct client *c = NULL;
    struct request rq = {
        .method = method, .path = path, .body = body, .upgrade = true, .deadline = CLIENT_DEADLINE};
    int r = client_open(place, &rq, &c, err);
    if (r == 0)
        r = client_head(c, err);
    if (r < 0)
        return r;
    if (!http_upgraded(&c->http))
        return err_set(err, ERR_CORRUPT, "teremd did not begin the session (status %d)",
                       c->http.status);
    *ret = steal_ptr(&c);
    return 0;
}
