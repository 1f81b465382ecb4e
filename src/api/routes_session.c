/* SPDX-License-Identifier: GPL-2.0-or-later */
/* routes_session — commands, the console and its log. */
#include "api/request.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "keep/frame.h"

#include <fcntl.h>
#include <sys/stat.h>

#define LOG_PART_MAX  (4 << 20) /* of one part; terem-keep rotates at 1 MiB */
#define LINES_DEFAULT 100

/* The client waits for frames: the error is one. */
static void send_error(int fd, const struct err *why)
{
    uint8_t body[1 + sizeof(why->text)];
    size_t n = strlen(why->text);
    body[0] = (uint8_t)why->kind;
    memcpy(body + 1, why->text, n);
    frame_write(fd, FRAME_ERROR, body, n + 1, NULL);
}

static void on_upgrade(void *cls, struct MHD_Connection *conn, void *ctx, const char *extra,
                       size_t extra_size, MHD_socket sock, struct MHD_UpgradeResponseHandle *handle)
{
    struct request *r = cls; /* lives until the connection is let go, below */
    struct api *api = r->api;
    struct err err = {0};
    /* Whoever takes the descriptor shares its flags and expects the common ones. */
    int flags = fcntl(sock, F_GETFL);
    if (flags >= 0)
        fcntl(sock, F_SETFL, flags & ~O_NONBLOCK);
    int rc;
    if (extra_size)
        rc = err_set(&err, ERR_USAGE, "frames came before the answer to the upgrade");
    else
        rc = r->take(r, sock, &err);
    if (rc < 0)
        send_error(sock, &err);
    /* Closes our descriptor without shutdown(2): the session goes on over its duplicate. */
    MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
    api_kick(api);
}

static bool wants_upgrade(struct request *r)
{
    const char *connection = request_header(r, MHD_HTTP_HEADER_CONNECTION);
    const char *upgrade = request_header(r, MHD_HTTP_HEADER_UPGRADE);
    return connection && upgrade && strcasestr(connection, "upgrade") &&
           str_eq(upgrade, FRAME_PROTOCOL);
}

static int upgrade(struct request *r, session_take *take, struct err *err)
{
    struct MHD_Response *response = MHD_create_response_for_upgrade(on_upgrade, r);
    if (!response)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    r->take = take;
    MHD_add_response_header(response, MHD_HTTP_HEADER_UPGRADE, FRAME_PROTOCOL);
    request_response(r, MHD_HTTP_SWITCHING_PROTOCOLS, response);
    return 0;
}

int session_upgrade(struct request *r, const char *what, session_take *take, struct err *err)
{
    if (wants_upgrade(r))
        return upgrade(r, take, err);
    struct err why = {0};
    err_set(&why, ERR_USAGE, "%s needs \"Connection: Upgrade\" and \"Upgrade: " FRAME_PROTOCOL "\"",
            what);
    request_fail(r, MHD_HTTP_UPGRADE_REQUIRED, &why);
    if (r->response)
        MHD_add_response_header(r->response, MHD_HTTP_HEADER_UPGRADE, FRAME_PROTOCOL);
    return 0;
}

/* ---- commands ---- */

static int take_exec(struct request *r, int sock, struct err *err)
{
    return ve_exec_stream(r->api->node, r->name, r->json, sock, NULL, NULL, err);
}

int on_exec(struct request *r, struct err *err)
{
    bool stream = wants_upgrade(r);
    if (stream && json_object_get(r->json, "stdin"))
        return err_set(err, ERR_USAGE, "\"stdin\" is for requests without an upgrade: send frames");
    if (!stream && json_is_true(json_object_get(r->json, "tty")))
        return err_set(err, ERR_USAGE, "a terminal needs \"Upgrade: " FRAME_PROTOCOL "\"");
    int rc = ve_exec_check(r->api->node, r->name, r->json, err);
    if (rc < 0)
        return rc;
    if (stream)
        return upgrade(r, take_exec, err);
    if ((rc = crowd_claim(r, err)) < 0)
        return rc;
    struct pending *p = request_pending(r, -1);
    if (!p)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    rc = ve_exec_collect(r->api->node, r->name, r->json, pending_answer, p, err);
    if (rc < 0)
        pending_take(p, NULL);
    return rc;
}

/* ---- the console ---- */

static int take_console(struct request *r, int sock, struct err *err)
{
    return ve_console(r->api->node, r->name, sock, err);
}

int on_console(struct request *r, struct err *err)
{
    int rc = ve_console_check(r->api->node, r->name, err);
    return rc < 0 ? rc : session_upgrade(r, "the console", take_console, err);
}

/* One part of the log, as much as there is now: terem-keep goes on writing. */
static int read_part(int fd, struct str *text, struct err *err)
{
    struct stat st;
    if (fd < 0)
        return 0;
    if (fstat(fd, &st) < 0)
        return err_sys(err, "cannot read the log");
    size_t left = st.st_size > LOG_PART_MAX ? LOG_PART_MAX : (size_t)st.st_size;
    off_t at = st.st_size - (off_t)left;
    char block[16384];
    while (left) {
        ssize_t n = pread(fd, block, left < sizeof(block) ? left : sizeof(block), at);
        if (n < 0)
            return err_sys(err, "cannot read the log");
        if (n == 0)
            break; /* rotated meanwhile */
        str_add_bytes(text, block, (size_t)n);
        left -= (size_t)n;
        at += n;
    }
    return text->failed ? err_set(err, ERR_EXHAUSTED, "out of memory for the log") : 0;
}

/* Where the last `lines` lines begin; a last line without its end counts. */
static size_t tail_of(const char *text, size_t len, uint64_t lines)
{
    size_t at = len;
    if (lines == 0)
        return len;
    if (at && text[at - 1] == '\n')
        at--;
    for (; at; at--)
        if (text[at - 1] == '\n' && --lines == 0)
            break;
    return at;
}

int on_logs(struct request *r, struct err *err)
{
    uint64_t lines = request_count(r, "lines", LINES_DEFAULT);
    int fds[2] = {-1, -1};
    int rc = ve_logs_open(r->api->node, r->name, fds, err);
    if (rc < 0)
        return rc;
    auto_fd int older = fds[0], newer = fds[1];
    auto_str struct str text = str_init(2 * LOG_PART_MAX);
    rc = read_part(older, &text, err);
    if (rc == 0)
        rc = read_part(newer, &text, err);
    if (rc < 0)
        return rc;
    size_t from = tail_of(str_c(&text), text.len, lines);
    struct MHD_Response *response = MHD_create_response_from_buffer(
        text.len - from, (void *)(str_c(&text) + from), MHD_RESPMEM_MUST_COPY);
    if (!response)
        return err_set(err, ERR_EXHAUSTED, "out of memory for the log");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain; charset=utf-8");
    request_response(r, MHD_HTTP_OK, response);
    return 0;
}
