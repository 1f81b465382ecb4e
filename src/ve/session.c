/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A command inside a VE and the connection it talks over, in a process of their own.
 *
 * The process that copies between the two outlives teremd, so open terminals go on when teremd
 * is restarted.  It stays outside of the VE; only the command is inside.
 */
#include "base/fd.h"
#include "base/title.h"
#include "keep/frame.h"
#include "kernel/seccomp.h"
#include "ve/beside.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/rows.h"
#include "ve/sleep.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>

#define WORDS_MAX 4096

struct request { /* pointers into the request's JSON */
    struct container_exec x;
    struct container_limits limits;
    const char **argv;
    char **env;
};

static void request_done(struct request *r)
{
    free(r->argv);
    for (char **p = r->env; p && *p; p++)
        free(*p);
    free(r->env);
}

static int want_text(const json_t *rq, const char *key, const char **ret, struct err *err)
{
    const json_t *v = json_object_get(rq, key);
    if (v && !json_is_null(v) &&
        (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v)))
        return err_set(err, ERR_USAGE, "%s must be a text", key);
    *ret = json_string_value(v);
    return 0;
}

static int want_size(const json_t *rq, const char *key, uint16_t *ret, struct err *err)
{
    const json_t *v = json_object_get(rq, key);
    json_int_t n = json_is_integer(v) ? json_integer_value(v) : 0;
    if (v && !json_is_null(v) && (!json_is_integer(v) || n < 0 || n > 65535))
        return err_set(err, ERR_USAGE, "%s must be a number from 0 to 65535", key);
    *ret = (uint16_t)n;
    return 0;
}

int ve_exec_check_request(struct ve_node *node, const json_t *rq, struct err *err)
{
    const json_t *command = json_object_get(rq, "command"), *env = json_object_get(rq, "env");
    size_t i, n = json_array_size(command);
    json_t *item, *value;
    const char *key;
    if (n == 0 || n > WORDS_MAX)
        return err_set(err, ERR_USAGE, "command must be a list of 1 to %d texts", WORDS_MAX);
    json_array_foreach(command, i, item)
    {
        if (!json_is_string(item) || strlen(json_string_value(item)) != json_string_length(item))
            return err_set(err, ERR_USAGE, "command must be a list of texts");
    }
    if (!*json_string_value(json_array_get(command, 0)))
        return err_set(err, ERR_USAGE, "the command is empty");
    if (env && !json_is_null(env) && !json_is_object(env))
        return err_set(err, ERR_USAGE, "env must be an object");
    json_object_foreach((json_t *)env, key, value)
    {
        if (!*key || strchr(key, '=') || !json_is_string(value))
            return err_set(err, ERR_USAGE, "env must map names to texts");
    }
    return 0;
}

static int parse(const struct ve *ve, const json_t *rq, struct request *ret, struct err *err)
{
    const json_t *command = json_object_get(rq, "command"), *env = json_object_get(rq, "env");
    size_t i, n = json_array_size(command);
    json_t *item, *value, *own = ve_in_repair(ve) ? NULL : json_object_get(ve->spec, "env");
    const char *key;
    if (ve_exec_check_request(ve->node, rq, err) < 0)
        return -err->kind;
    ret->argv = calloc(n + 1, sizeof(*ret->argv));
    ret->env = calloc(json_object_size(env) + json_object_size(own) + 1, sizeof(*ret->env));
    if (!ret->argv || !ret->env)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    json_array_foreach(command, i, item) ret->argv[i] = json_string_value(item);
    i = 0;
    json_object_foreach(own, key, value) if (!json_object_get(env, key)) ret->env[i++] =
        str_format("%s=%s", key, json_string_value(value));
    json_object_foreach((json_t *)env, key, value) ret->env[i++] =
        str_format("%s=%s", key, json_string_value(value));
    ret->x.argv = ret->argv;
    ret->x.env = (const char *const *)ret->env;
    ret->x.tty = json_is_true(json_object_get(rq, "tty"));
    ret->x.pidfd = ve->pidfd;
    ve_limits_in_force(ve, &ret->limits);
    ve_bpf_files(ve, &ret->limits);
    ret->x.limits = &ret->limits;
    ret->x.nesting = json_is_true(json_object_get(ve->spec, "nesting"));
    ret->x.own_init =
        ve_in_repair(ve) || str_eq(json_string_value(json_object_get(ve->spec, "kind")), "system");
    ret->x.new_privileges = ret->x.own_init;
    if (want_text(rq, "user", &ret->x.user, err) < 0 ||
        want_text(rq, "workdir", &ret->x.workdir, err) < 0 ||
        want_size(rq, "rows", &ret->x.rows, err) < 0)
        return -err->kind;
    return want_size(rq, "columns", &ret->x.columns, err);
}

static int find_running(struct ve_node *node, const char *name, struct ve **ret, struct err *err)
{
    if (ve_find_err(node, name, ret, err) < 0)
        return -err->kind;
    struct ve *ve = *ret;
    ve_wake(ve, "exec");
    if (ve->state == VE_PAUSED)
        return err_set(err, ERR_STATE, "%s: it is paused; resume it first", name);
    /* What has ended is stopping until that is seen to. */
    if ((ve->gone && ve->state == VE_RUNNING) || ve->state == VE_STARTING ||
        ve->state == VE_STOPPING)
        return err_set(err, ERR_STATE, "%s: it is %s; try again when that has ended", name,
                       ve->state == VE_STARTING ? "starting" : "stopping");
    if (ve->state != VE_RUNNING || ve->pidfd < 0)
        return err_set(err, ERR_STATE, "%s: it is %s; start it first", name,
                       ve_state_name(ve->state));
    return 0;
}

int ve_exec_check(struct ve_node *node, const char *name, const json_t *rq, struct err *err)
{
    struct ve *ve;
    struct request r __attribute__((cleanup(request_done))) = {0};
    if (find_running(node, name, &ve, err) < 0)
        return -err->kind;
    return parse(ve, rq, &r, err) < 0 ? err_wrap(err, "%s", name) : 0;
}

/* ---- the process that copies ---- */

#define OUT_MAX (2 * (FRAME_HEAD + 16384)) /* what a client that does not read may hold up */

struct relay {
    int client;
    int handover;     /* to teremd, until it has said that it has the listener; or -1 */
    const char *keep; /* terem-keep's socket */
    int64_t ve;
    bool tty, client_gone;
    struct container_process p;
    uint8_t pending[FRAME_MAX]; /* input that the command has not taken yet */
    size_t have, sent;
    bool input_ended;
    uint8_t out[OUT_MAX]; /* frames that the client has not taken yet */
    size_t out_have, out_sent;
};

/* The command's system call filter has a listener, and somebody has to have it open as long as its
 * processes run.  We give it to teremd; should that end before it says that it has it, to
 * terem-keep ourselves. */
static void offer_listener(struct relay *r)
{
    if (r->p.listener < 0)
        cleanup_fd(&r->handover);
    else if (r->handover >= 0)
        fd_send(r->handover, "", 1, &r->p.listener, 1, NULL);
}

/* Waits for teremd's word, unless it is nobody's business any more: a command that has ended and
 * left no process behind. */
static void end_handover(struct relay *r)
{
    struct keep *k = NULL;
    bool ended = false;
    char word;
    if (r->handover < 0)
        return;
    seccomp_pending(r->p.listener, &ended);
    if (!ended && recv(r->handover, &word, 1, 0) <= 0 &&
        keep_connect(r->keep, "", false, &k, NULL) == 0) {
        keep_put_filter(k, r->ve, r->p.listener, NULL);
        keep_close(k);
    }
    cleanup_fd(&r->handover);
    cleanup_fd(&r->p.listener);
}

static void relay_resize(struct relay *r, const struct frame *f)
{
    if (r->tty && f->len == 4) {
        struct winsize w = {.ws_row = (unsigned short)(f->data[0] << 8 | f->data[1]),
                            .ws_col = (unsigned short)(f->data[2] << 8 | f->data[3])};
        ioctl(r->p.in, TIOCSWINSZ, &w);
    }
}

/* Sends what waits; the client's socket never blocks us: who waits for the client cannot reap
 * the command, and a VE with an unreaped process cannot end. */
static void relay_send(struct relay *r)
{
    while (r->out_sent < r->out_have && !r->client_gone) {
        ssize_t n = send(r->client, r->out + r->out_sent, r->out_have - r->out_sent,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0)
            r->out_sent += (size_t)n;
        else if (n < 0 && errno == EAGAIN)
            return;
        else if (n < 0 && errno != EINTR)
            r->client_gone = true;
    }
    r->out_have = r->out_sent = 0;
}

/* There is room for one more frame of 16 KiB. */
static bool relay_has_room(const struct relay *r)
{
    return OUT_MAX - r->out_have >= FRAME_HEAD + 16384;
}

static void relay_add(struct relay *r, enum frame_type type, const void *buf, size_t len)
{
    if (r->client_gone || OUT_MAX - r->out_have < FRAME_HEAD + len)
        return;
    frame_head(r->out + r->out_have, type, len);
    memcpy(r->out + r->out_have + FRAME_HEAD, buf, len);
    r->out_have += FRAME_HEAD + len;
    relay_send(r);
}

/* One frame from the client; input is taken only while `pending` is empty. */
static void relay_frame(struct relay *r, const struct frame *f)
{
    switch (f->type) {
    case FRAME_STDIN:
        if (f->len == 0) {
            r->input_ended = true;
        } else if (!r->input_ended) {
            memcpy(r->pending, f->data, f->len);
            r->have = f->len;
            r->sent = 0;
        }
        break;
    case FRAME_RESIZE:
        relay_resize(r, f);
        break;
    case FRAME_SIGNAL:
        if (f->len == 1 && f->data[0] > 0 && f->data[0] < NSIG)
            fd_pidfd_kill(r->p.pidfd, f->data[0], NULL);
        break;
    default:
        break;
    }
}

static void relay_push(struct relay *r)
{
    if (r->have > r->sent && r->p.in >= 0) {
        ssize_t n = write(r->p.in, r->pending + r->sent, r->have - r->sent);
        if (n > 0)
            r->sent += (size_t)n;
        else if (n < 0 && errno != EAGAIN && errno != EINTR)
            r->have = r->sent = 0;
    }
    if (r->sent == r->have)
        r->have = r->sent = 0;
    if (r->have == 0 && r->input_ended && r->p.in >= 0) {
        if (r->tty) {
            ssize_t n = write(r->p.in, "\x04", 1); /* VEOF: a pty has no half-close */
            (void)n;
            r->input_ended = false;
        } else {
            cleanup_fd(&r->p.in);
        }
    }
}

/* False at end of file. */
static bool relay_pull(struct relay *r, int fd, enum frame_type type)
{
    char buf[16384];
    ssize_t n = read(fd, buf, sizeof(buf));
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0)
        return false;
    relay_add(r, type, buf, (size_t)n);
    return true;
}

/* Every frame that was read, as far as the command takes its input: nothing but this asks for
 * those again, because poll(2) tells of what is in the socket, and not of what is in our memory. */
static void relay_input(struct relay *r, struct frame_reader *in)
{
    struct frame f;
    bool bad = false;
    relay_push(r);
    while (r->have == 0 && !r->client_gone && frame_next(in, &f, &bad)) {
        relay_frame(r, &f);
        relay_push(r);
    }
    if (bad)
        r->client_gone = true;
}

static void relay_client(struct relay *r, struct frame_reader *in)
{
    int n = frame_reader_fill(in, r->client, NULL);
    if (n == 0 || (n < 0 && n != -ERR_BUSY))
        r->client_gone = true;
    relay_input(r, in);
}

static void add_exit(struct relay *r, int status)
{
    uint8_t x[2] = {WIFSIGNALED(status) ? 1 : 0,
                    (uint8_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status))};
    relay_add(r, FRAME_EXIT, x, sizeof(x));
}

static bool has_input(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return fd >= 0 && poll(&p, 1, 0) > 0 && (p.revents & POLLIN);
}

/* After the end of the command, which is reaped: hands over what is left, as the client takes it.
 * A background child may hold the pipes open: what is there now is what there is. */
static void relay_finish(struct relay *r, int out, int status)
{
    bool told = false;
    while (!r->client_gone) {
        while (relay_has_room(r) && has_input(out) && relay_pull(r, out, FRAME_STDOUT))
            ;
        while (relay_has_room(r) && has_input(r->p.error) &&
               relay_pull(r, r->p.error, FRAME_STDERR))
            ;
        if (!told && relay_has_room(r)) {
            add_exit(r, status);
            told = true;
        }
        relay_send(r);
        if (told && r->out_have == 0)
            return;
        struct pollfd p = {.fd = r->client, .events = POLLOUT};
        if (poll(&p, 1, -1) < 0 && errno != EINTR)
            return;
        if (p.revents & (POLLHUP | POLLERR))
            return;
    }
}

static void relay_run(struct relay *r)
{
    struct frame_reader *in = calloc(1, sizeof(*in));
    bool ended = false;
    int out = r->tty ? r->p.in : r->p.out, status = 0;
    if (!in)
        return;
    if (r->p.in >= 0)
        fd_set_nonblock(r->p.in, NULL);
    while (!ended) {
        relay_input(r, in);
        bool want_in = r->have > r->sent && r->p.in >= 0, room = relay_has_room(r);
        short client = (short)((r->have ? 0 : POLLIN) | (r->out_have ? POLLOUT : 0));
        struct pollfd p[6] = {
            {.fd = r->client_gone ? -1 : r->client, .events = client},
            {.fd = room ? out : -1, .events = POLLIN},
            {.fd = room && !r->tty ? r->p.error : -1, .events = POLLIN},
            {.fd = want_in ? r->p.in : -1, .events = POLLOUT},
            {.fd = r->p.pidfd, .events = POLLIN},
            {.fd = r->handover, .events = POLLIN},
        };
        if (poll(p, 6, -1) < 0 && errno != EINTR)
            break;
        if (p[5].revents)
            end_handover(r);
        if (p[0].revents & POLLOUT)
            relay_send(r);
        if (p[0].revents & (POLLHUP | POLLERR))
            r->client_gone = true;
        else if (p[0].revents & POLLIN)
            relay_client(r, in);
        if (p[1].revents && !relay_pull(r, out, FRAME_STDOUT))
            out = -1;
        if (p[2].revents && relay_has_room(r) && !relay_pull(r, r->p.error, FRAME_STDERR))
            cleanup_fd(&r->p.error);
        ended = p[4].revents != 0;
        if (r->client_gone && !ended) { /* like a terminal that hung up */
            fd_pidfd_kill(r->p.pidfd, SIGHUP, NULL);
            break;
        }
    }
    if (ended && waitpid(r->p.pid, &status, 0) > 0)
        relay_finish(r, out, status);
    end_handover(r);
    free(in);
}

static void send_error(int client, const struct err *e)
{
    auto_str struct str s = str_init(sizeof(e->text) + 1);
    char kind = (char)e->kind;
    str_add_bytes(&s, &kind, 1);
    str_add(&s, "%s", e->text);
    frame_write(client, FRAME_ERROR, str_c(&s), s.len, NULL);
}

static void session_main(const struct ve *ve, struct request *rq, struct resource_cgroups *c,
                         int client, int handover) __attribute__((noreturn));
static void session_main(const struct ve *ve, struct request *rq, struct resource_cgroups *c,
                         int client, int handover)
{
    const char *name = ve->rec.name;
    struct err e = {0};
    struct relay *r = calloc(1, sizeof(*r));
    setsid();
    title_set("terem-session", name);
    if (!r)
        _exit(1);
    r->client = client;
    r->tty = rq->x.tty;
    r->handover = handover;
    r->keep = ve->node->config.place.keep;
    r->ve = ve->rec.id;
    if (container_exec(&rq->x, &r->p, &e) < 0) {
        if (e.kind == ERR_TIMEOUT && resource_is_frozen(c)) /* not from inside */
            err_set(&e, ERR_STATE,
                    "it was paused, or is frozen while its files are copied, before the command "
                    "began; resume it, or try again when that has ended");
        err_wrap(&e, "%s", name);
        send_error(client, &e);
    } else {
        resource_cgroups_done(c);
        offer_listener(r);
        relay_run(r);
    }
    shutdown(client, SHUT_RDWR);
    _exit(0);
}

static void close_handover(struct session *s)
{
    ve_handle_close(&s->poll);
    cleanup_fd(&s->handover);
}

void session_free(struct session *s)
{
    if (s)
        close_handover(s);
    free(s);
}

static void session_free_p(struct session **s)
{
    session_free(*s);
}

static void on_handover(uv_poll_t *poll, int status, int events)
{
    struct session *s = poll->data;
    auto_fd int listener = -1;
    size_t n = 1;
    char word;
    struct err e = {0};
    ssize_t len = fd_recv(s->handover, &word, 1, &listener, &n, &e);
    if (len < 0 && e.sys == EAGAIN)
        return;
    struct ve *ve = len > 0 && n == 1 ? ve_by_id(s->node, s->ve) : NULL;
    bool ended = true;
    if (ve && ve->pidfd >= 0)
        seccomp_pending(listener, &ended);
    if (!ended) /* short commands have by now */
        answer_keep(ve, listener);
    if (len > 0)
        fd_send(s->handover, "", 1, NULL, 0, NULL);
    close_handover(s);
}

static int session_listen(struct session *s, int *ret_theirs, struct err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(err, "cannot make a socket pair");
    *ret_theirs = pair[1];
    s->handover = pair[0];
    s->poll = calloc(1, sizeof(*s->poll));
    if (!s->poll || fd_set_nonblock(s->handover, err) < 0)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    uv_poll_init(s->node->loop, s->poll, s->handover);
    s->poll->data = s;
    uv_poll_start(s->poll, UV_READABLE, on_handover);
    return 0;
}

/* ---- who is inside ---- */

/* A byte for each VE, locked by every process that copies for a command in it: locks of open file
 * descriptions outlive teremd with them. */
static int attended_open(const struct ve_node *node)
{
    char path[PLACE_MAX + 16];
    str_print(path, sizeof(path), "%s/attended", node->config.place.run);
    return open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static int attend(const struct ve *ve)
{
    struct flock lock = {.l_type = F_RDLCK, .l_start = ve->rec.id, .l_len = 1};
    int fd = attended_open(ve->node);
    if (fd >= 0)
        fcntl(fd, F_OFD_SETLK, &lock);
    return fd;
}

bool session_attends(const struct ve *ve)
{
    struct flock lock = {.l_type = F_WRLCK, .l_start = ve->rec.id, .l_len = 1};
    auto_fd int fd = attended_open(ve->node);
    struct err e = {0};
    size_t viewers = 0;
    return (fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK) ||
           (keep_viewers(ve->node->keep, ve->rec.id, &viewers, &e) == 0 && viewers);
}

int ve_exec_stream(struct ve_node *node, const char *name, const json_t *request, int client_fd,
                   void (*done)(void *ctx), void *ctx, struct err *err)
{
    struct ve *ve;
    struct request rq __attribute__((cleanup(request_done))) = {0};
    struct resource_cgroups c __attribute__((cleanup(resource_cgroups_done))) = {.v2 = -1};
    if (find_running(node, name, &ve, err) < 0)
        return -err->kind;
    if (parse(ve, request, &rq, err) < 0 || resource_open(node->resources, ve->rec.id, &c, err) < 0)
        return err_wrap(err, "%s", name);
    auto_clean(session_free_p) struct session *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    *s = (struct session){.node = node, .ve = ve->rec.id, .handover = -1, .done = done, .ctx = ctx};
    auto_fd int theirs = -1;
    rq.x.listen = answer_listens(node);
    rq.x.listen_disk = ve_disk_tells(ve);
    if (rq.x.listen && session_listen(s, &theirs, err) < 0)
        return err_wrap(err, "%s", name);
    auto_fd int attending = attend(ve);
    int keep[RESOURCE_V1_MAX + 5] = {client_fd, ve->pidfd, c.v2, theirs, attending};
    rq.x.cgroup = c.v2;
    rq.x.n_cgroup_procs = c.n_v1;
    for (size_t i = 0; i < c.n_v1; i++)
        keep[5 + i] = rq.x.cgroup_procs[i] = c.v1_procs[i];
    s->pid = ve_fork(node, keep, 5 + c.n_v1, false);
    if (s->pid == 0)
        session_main(ve, &rq, &c, client_fd, theirs);
    if (s->pid < 0)
        return err_sys(err, "%s: cannot fork", name);
    s->next = node->sessions;
    node->sessions = steal_ptr(&s);
    return 0;
}

void session_child_ended(struct ve_node *node, pid_t pid)
{
    for (struct session **p = &node->sessions; *p; p = &(*p)->next) {
        struct session *s = *p;
        if (s->pid != pid)
            continue;
        *p = s->next;
        if (s->done)
            s->done(s->ctx);
        session_free(s);
        return;
    }
}

/* ---- console ---- */

int ve_console_check(struct ve_node *node, const char *name, struct err *err)
{
    struct ve *ve;
    if (ve_find_err(node, name, &ve, err) < 0)
        return -err->kind;
    if (!ve_state_is_up(ve->state))
        return err_set(err, ERR_STATE, "%s: it is %s; start it first", name,
                       ve_state_name(ve->state));
    return 0;
}

int ve_console(struct ve_node *node, const char *name, int client_fd, struct err *err)
{
    struct ve *ve;
    if (ve_console_check(node, name, err) < 0 || ve_find_err(node, name, &ve, err) < 0)
        return -err->kind;
    ve_wake(ve, "console");
    int fd = fcntl(client_fd, F_DUPFD_CLOEXEC, node->fd_floor);
    if (fd < 0)
        return err_sys(err, "%s: cannot hand the connection over", name);
    if (keep_attach(node->keep, ve->rec.id, fd, err) < 0)
        return err_wrap(err, "%s: cannot join its console", name);
    return 0;
}
