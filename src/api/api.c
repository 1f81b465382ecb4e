/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/api.h"

#include "api/listen.h"
#include "api/request.h"
#include "api/schema.h"
#include "base/cleanup.h"
#include "base/path.h"

#include <fcntl.h>

#define CONNECTION_MEMORY (32 * 1024) /* of one: its head, and the block of its body */
#define LEAVING_MOST      100         /* passes in which last words are written */

/* ---- libmicrohttpd on libuv: its epoll descriptor in ours, its timeout in a timer ---- */

static void on_timer(uv_timer_t *timer);

static void pump(struct api *api)
{
    if (api->closing)
        return;
    unsigned had = api->n_conns;
    api->kicked = false;
    MHD_run(api->mhd);
    /* Out of descriptors it does not look at the listening socket, and only its next run after a
     * connection has gone looks again (seen with 0.9.75). */
    if (api->n_conns < had)
        api->kicked = true;
    MHD_UNSIGNED_LONG_LONG ms = 0;
    if (api->kicked || MHD_get_timeout(api->mhd, &ms) == MHD_YES)
        uv_timer_start(&api->timer, on_timer, ms, 0);
    else
        uv_timer_stop(&api->timer);
    bool more = api->kicked || (uv_is_active((uv_handle_t *)&api->timer) && ms == 0);
    if (api->leaving && (!more || ++api->leaving > LEAVING_MOST))
        uv_stop(api->loop);
}

static void on_timer(uv_timer_t *timer)
{
    pump(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    pump(poll->data);
}

void api_kick(struct api *api)
{
    /* Without a thread of its own libmicrohttpd has nothing to wake itself with when a
     * connection is resumed or an upgraded one is let go (seen with 0.9.75). */
    api->kicked = true;
    if (!api->closing)
        uv_timer_start(&api->timer, on_timer, 0, 0);
}

int api_tmpfile(struct api *api, int *ret_fd, struct err *err)
{
    int fd = open(api->tmp, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && errno == ENOENT) { /* somebody tidied up */
        int r = path_make_dirs(api->tmp, 0700, err);
        if (r < 0)
            return r;
        fd = open(api->tmp, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    }
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
        char name[PLACE_MAX + 16];
        str_print(name, sizeof(name), "%s/XXXXXX", api->tmp);
        fd = mkostemp(name, O_CLOEXEC);
        if (fd >= 0)
            unlink(name);
    }
    if (fd < 0)
        return err_sys(err, "cannot make a temporary file in %s", api->tmp);
    *ret_fd = fd;
    return 0;
}

/* ---- life ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct api *api = handle->data;
    if (--api->handles)
        return;
    schema_free(api->schema);
    free(api);
}

static void close_handles(struct api *api)
{
    uv_close((uv_handle_t *)&api->poll, on_handle_closed);
    uv_close((uv_handle_t *)&api->timer, on_handle_closed);
    uv_close((uv_handle_t *)&api->tell_timer, on_handle_closed);
}

/* The address goes to the handlers as it came: url.c decodes it. */
static size_t keep_escapes(void *cls, struct MHD_Connection *conn, char *s)
{
    return strlen(s);
}

static struct MHD_Daemon *start_daemon(struct api *api, int fd)
{
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE, 0, crowd_accept, api,
        request_on_data, api, MHD_OPTION_NOTIFY_CONNECTION, crowd_on_connection, api,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_URI_LOG_CALLBACK, request_on_uri, api,
        MHD_OPTION_NOTIFY_COMPLETED, request_on_end, api, MHD_OPTION_UNESCAPE_CALLBACK,
        keep_escapes, api, MHD_OPTION_CONNECTION_LIMIT, crowd_max(api),
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
        MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
        MHD_OPTION_END);
}

int api_open(uv_loop_t *loop, struct ve_node *node, const struct place *place, struct api **ret,
             struct err *err)
{
    auto_free struct api *api = calloc(1, sizeof(*api));
    auto_fd int fd = -1;
    bool ours = false;
    if (!api)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    api->loop = loop;
    api->node = node;
    if (str_print(api->tmp, sizeof(api->tmp), "%s/tmp", place->state) < 0)
        return err_set(err, ERR_USAGE, "%s is too long", place->state);
    int rc = path_make_dirs(api->tmp, 0700, err);
    if (rc == 0)
        rc = schema_open(&api->schema, err);
    if (rc == 0)
        rc = listen_open(place->api, &fd, &ours, err);
    if (rc < 0) {
        schema_free(api->schema);
        return err_wrap(err, "cannot open the API");
    }
    if (ours)
        str_print(api->socket_path, sizeof(api->socket_path), "%s", place->api);
    crowd_init(api);
    api->mhd = start_daemon(api, fd);
    const union MHD_DaemonInfo *info =
        api->mhd ? MHD_get_daemon_info(api->mhd, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (!info || uv_poll_init(loop, &api->poll, info->epoll_fd) < 0) {
        if (api->mhd)
            MHD_stop_daemon(api->mhd), steal_fd(&fd);
        if (ours)
            unlink(api->socket_path);
        schema_free(api->schema);
        return err_set(err, ERR_INTERNAL, "cannot open the API: libmicrohttpd does not start");
    }
    steal_fd(&fd); /* MHD_stop_daemon closes it */
    uv_timer_init(loop, &api->timer);
    uv_timer_init(loop, &api->tell_timer);
    api->poll.data = api->timer.data = api->tell_timer.data = api;
    api->handles = 3;
    uv_poll_start(&api->poll, UV_READABLE, on_poll);
    *ret = steal_ptr(&api);
    return 0;
}

/* libmicrohttpd does not stop while a connection is suspended. */
static void abort_requests(struct api *api)
{
    for (struct request *r = api->requests; r; r = r->next) {
        r->aborted = true;
        request_resume(r);
    }
}

void api_close(struct api *api)
{
    if (!api || api->closing)
        return;
    api->closing = true;
    abort_requests(api);
    MHD_run(api->mhd);
    MHD_stop_daemon(api->mhd);
    if (*api->socket_path)
        unlink(api->socket_path);
    close_handles(api);
}
