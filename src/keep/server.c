/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keep/server.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "keep/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* A connection of teremd. */
struct control {
    struct thing thing;
    struct source source;
    struct control *next;
};

int server_watch(struct server *s, struct source *source, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = source};
    if (epoll_ctl(s->epoll, source->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, source->fd, &ev) < 0)
        return -1;
    source->added = true;
    source->events = events;
    return 0;
}

void server_unwatch(struct server *s, struct source *source)
{
    if (source->added)
        epoll_ctl(s->epoll, EPOLL_CTL_DEL, source->fd, NULL);
    source->added = false;
}

void server_bury(struct server *s, struct thing *t)
{
    t->buried = true;
    t->next = s->graves;
    s->graves = t;
}

static void close_control(struct server *s, struct control *c)
{
    struct control **p = &s->controls;
    while (*p != c)
        p = &(*p)->next;
    *p = c->next;
    s->n_controls--;
    if (s->server == c)
        filter_teremd_gone(s);
    close(c->source.fd);
    server_bury(s, &c->thing);
}

static void accept_control(struct server *s)
{
    auto_fd int fd = accept4(s->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
        /* Left in the queue it would wake us for ever: the spare descriptor turns it away. */
        cleanup_fd(&s->spare);
        fd = accept4(s->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        cleanup_fd(&fd);
        s->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
        return;
    }
    if (fd < 0 || keep_check_peer(fd, NULL) < 0 || s->n_controls >= CONTROLS_MAX)
        return;
    struct control *c = calloc(1, sizeof(*c));
    if (!c)
        return;
    c->source = (struct source){.kind = SOURCE_CONTROL, .fd = fd, .owner = &c->thing};
    if (server_watch(s, &c->source, EPOLLIN) < 0) {
        free(c);
        return;
    }
    steal_fd(&fd);
    c->next = s->controls;
    s->controls = c;
    s->n_controls++;
}

static int list(struct server *s, int64_t above, struct keep_answer *a)
{
    size_t i = 0;
    while (i < s->n_entries && s->entries[i]->id <= above)
        i++;
    while (i < s->n_entries && a->count < KEEP_LIST_MAX)
        a->ids[a->count++] = s->entries[i++]->id;
    if (i < s->n_entries)
        a->flags |= KEEP_HAS_MORE;
    return 0;
}

static int quit(struct server *s, struct err *err)
{
    size_t alive = 0;
    for (size_t i = 0; i < s->n_entries; i++)
        alive += !s->entries[i]->ended;
    if (alive)
        return err_set(err, ERR_STATE, "%zu VEs still run", alive);
    s->quit = true;
    return 0;
}

/* fds: what came along; those that were taken over are -1 afterwards.  out, n_out: to send. */
static int serve(struct server *s, struct control *c, const struct keep_request *q,
                 int fds[KEEP_FDS], struct keep_answer *a, int out[2], size_t *n_out,
                 struct err *err)
{
    bool console = q->flags & KEEP_HAS_CONSOLE, log = q->flags & KEEP_HAS_LOG;
    switch (q->verb) {
    case KEEP_PUT: {
        int log_dir = log ? steal_fd(&fds[1 + console]) : -1;
        int pty = console ? steal_fd(&fds[1]) : -1;
        return entry_put(s, q->id, steal_fd(&fds[0]), pty, log_dir, err);
    }
    case KEEP_LIST:
        return list(s, q->id, a);
    case KEEP_QUIT:
        return quit(s, err);
    case KEEP_SERVE:
        return filter_serve(s, c, steal_fd(&fds[0]), err);
    default:
        break;
    }
    struct entry *e = entry_find(s, q->id);
    if (!e)
        return err_set(err, ERR_NOT_FOUND, "terem-keep holds nothing of this VE");
    switch (q->verb) {
    case KEEP_GET:
        out[(*n_out)++] = e->process.fd;
        if (e->console.fd >= 0) {
            out[(*n_out)++] = e->console.fd;
            a->flags |= KEEP_HAS_CONSOLE;
        }
        return 0;
    case KEEP_DROP:
        entry_drop(s, e);
        return 0;
    case KEEP_ATTACH:
        if (e->console.fd < 0 || e->ended)
            return err_set(err, ERR_STATE, e->ended ? "the VE has ended" : "it has no console");
        return viewer_add(s, e, steal_fd(&fds[0]), err);
    case KEEP_VIEWERS:
        a->flags = (uint32_t)e->n_viewers;
        return 0;
    case KEEP_PUT_FILTER:
        return filter_add(s, e, steal_fd(&fds[0]), err);
    case KEEP_GET_FILTER: {
        struct filter *f = filter_after(e, q->flags);
        if (!f)
            return err_set(err, ERR_NOT_FOUND, "terem-keep holds no further listener");
        out[(*n_out)++] = f->source.fd;
        a->flags = f->serial;
        return 0;
    }
    default:
        return err_set(err, ERR_INTERNAL, "a request without code");
    }
}

static void control_event(struct server *s, struct control *c)
{
    static struct keep_answer a; /* large; one thread */
    static uint8_t buf[KEEP_ANSWER_MAX];
    struct keep_request q = {0};
    struct err e = {0};
    int fds[KEEP_FDS] = {-1, -1, -1}, out[2];
    size_t n_fds = KEEP_FDS, n_out = 0;
    memset(buf, 0, KEEP_REQUEST_LEN);
    ssize_t n = fd_recv(c->source.fd, buf, KEEP_REQUEST_LEN, fds, &n_fds, &e);
    if (n < 0 && e.sys == EAGAIN)
        return;
    bool cut = n < 0 && (e.kind == ERR_CORRUPT || e.sys == EMFILE);
    if (n < 0)
        n_fds = 0;
    if (n == 0 || (n < 0 && !cut)) {
        for (size_t i = 0; i < n_fds; i++) /* an empty message may carry some */
            cleanup_fd(&fds[i]);
        close_control(s, c);
        return;
    }
    a = (struct keep_answer){0};
    if (cut) {
        /* The bytes are there all the same, and tell whom to answer. */
        keep_request_decode(buf, KEEP_REQUEST_LEN, 0, &q, NULL);
        err_set(&e, ERR_EXHAUSTED,
                "terem-keep cannot take the request: it has too many "
                "descriptors open already, or came with too many");
    } else if (keep_request_decode(buf, (size_t)n, n_fds, &q, &e) == 0) {
        serve(s, c, &q, fds, &a, out, &n_out, &e);
    }
    for (size_t i = 0; i < n_fds; i++)
        cleanup_fd(&fds[i]);
    a.verb = q.verb;
    a.serial = q.serial;
    a.kind = e.kind;
    if (e.kind) {
        a.count = 0;
        a.flags = 0;
        n_out = 0;
        str_print(a.text, sizeof(a.text), "%s", e.text);
    }
    /* Who does not read its answers is no client to wait for. */
    if (fd_send(c->source.fd, buf, keep_answer_encode(&a, buf), out, n_out, NULL) < 0)
        close_control(s, c);
}

static int take_lock(struct server *s, const char *path, struct err *err)
{
    auto_free char *name = str_format("%s.lock", path);
    if (!name)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    auto_fd int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_sys(err, "cannot open %s", name);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK
                   ? err_set(err, ERR_BUSY, "another terem-keep serves %s already", path)
                   : err_sys(err, "cannot lock %s", name);
    s->lock = steal_fd(&fd);
    return 0;
}

static int listen_on(struct server *s, const char *path, struct err *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (str_print(a.sun_path, sizeof(a.sun_path), "%s", path) < 0)
        return err_set(err, ERR_USAGE, "%s is too long for a Unix socket", path);
    /* The lock is ours: what lies there was left by one that was killed. */
    if (unlink(path) < 0 && errno != ENOENT)
        return err_sys(err, "cannot remove the old %s", path);
    auto_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(err, "cannot make a socket");
    mode_t mask = umask(0177);
    int r = bind(fd, (struct sockaddr *)&a, sizeof(a));
    umask(mask);
    if (r < 0 || listen(fd, 64) < 0)
        return err_sys(err, "cannot listen on %s", path);
    s->listener = (struct source){.kind = SOURCE_LISTENER, .fd = steal_fd(&fd)};
    return 0;
}

int server_open(struct server *s, const char *path, struct err *err)
{
    *s = (struct server){.epoll = -1, .lock = -1, .spare = -1, .listener.fd = -1};
    s->path = strdup(path);
    if (!s->path)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int r = take_lock(s, path, err);
    if (r == 0)
        r = listen_on(s, path, err);
    if (r < 0)
        return r;
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll < 0 || server_watch(s, &s->listener, EPOLLIN) < 0)
        return err_sys(err, "cannot watch the socket");
    s->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return 0;
}

static void dispatch(struct server *s, struct source *source, uint32_t events)
{
    if (source->kind == SOURCE_LISTENER) {
        accept_control(s);
        return;
    }
    if (source->owner->buried)
        return;
    switch (source->kind) {
    case SOURCE_CONTROL:
        control_event(s, (struct control *)source->owner);
        break;
    case SOURCE_PROCESS:
        entry_process_event(s, (struct entry *)source->owner);
        break;
    case SOURCE_CONSOLE:
        entry_console_event(s, (struct entry *)source->owner, events);
        break;
    case SOURCE_VIEWER:
        viewer_event(s, (struct viewer *)source->owner, events);
        break;
    case SOURCE_FILTER:
        filter_event(s, (struct filter *)source->owner);
        break;
    case SOURCE_LISTENER:
        break;
    }
}

static void free_graves(struct server *s)
{
    while (s->graves) {
        struct thing *t = s->graves;
        s->graves = t->next;
        free(t); /* begins every struct that is buried */
    }
}

int server_run(struct server *s, struct err *err)
{
    struct epoll_event ev[32];
    while (!s->quit) {
        int n = epoll_wait(s->epoll, ev, (int)ARRAY_SIZE(ev), filter_timeout(s));
        if (n < 0 && errno != EINTR)
            return err_sys(err, "cannot wait for events");
        for (int i = 0; i < n; i++)
            dispatch(s, ev[i].data.ptr, ev[i].events);
        filter_look(s);
        free_graves(s);
    }
    return 0;
}

void server_close(struct server *s)
{
    while (s->n_entries)
        entry_drop(s, s->entries[s->n_entries - 1]);
    /* The connections last: who sees one end may start the next instance at once.  The lock's
     * file stays: were it removed, two could hold "the" lock. */
    if (s->listener.fd >= 0)
        unlink(s->path);
    cleanup_fd(&s->listener.fd);
    cleanup_fd(&s->lock);
    while (s->controls)
        close_control(s, s->controls);
    while (s->leaving)
        viewer_close(s, s->leaving);
    free_graves(s);
    cleanup_fd(&s->epoll);
    cleanup_fd(&s->spare);
    free(s->entries);
    free(s->path);
    s->entries = NULL;
    s->path = NULL;
}
