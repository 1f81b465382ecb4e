/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keep/keep.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "keep/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define START_MS  5000  /* for terem-keep to take a connection */
#define READY_MS  20000 /* and to begin: a machine may be busy, or emulated */
#define ANSWER_MS 1000  /* for an answer: the caller is an event loop */
#define PROBE_MS  10000

struct keep {
    int sock;
    uint32_t serial;
    bool stalled;     /* a deadline has passed, and nothing has come since */
    int64_t probe_at; /* while it is stalled: nobody waits before then */
};

static int open_socket(const char *path, int *ret, struct err *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (str_print(a.sun_path, sizeof(a.sun_path), "%s", path) < 0)
        return err_set(err, ERR_USAGE, "%s is too long for a Unix socket", path);
    auto_fd int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (s < 0)
        return err_sys(err, "cannot make a socket");
    /* Bounds connect(2) too, when the queue of the listener is full (unix(7), socket(7)). */
    struct timeval t = {.tv_sec = START_MS / 1000};
    setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
    if (connect(s, (struct sockaddr *)&a, sizeof(a)) < 0)
        return err_set(err, ERR_UNAVAILABLE, "terem-keep does not answer on %s: %s", path,
                       strerror(errno));
    int r = keep_check_peer(s, err);
    if (r < 0)
        return err_wrap(err, "%s", path);
    t.tv_sec = ANSWER_MS / 1000;
    setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
    *ret = steal_fd(&s);
    return 0;
}

/* In the child's child; only calls that are safe after fork. */
static void exec_program(const char *const *argv, int ready)
{
    setsid();
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    fd_close_others(&ready, 1);
    fcntl(ready, F_SETFD, 0);
    execv(argv[0], (char *const *)argv);
    static const char text[] = "it cannot be executed";
    ssize_t n = write(ready, text, sizeof(text) - 1);
    (void)n;
    _exit(127);
}

/* Waits for "ready\n" on the pipe; anything else is the reason why it did not start. */
static int wait_ready(int pipe, const char *program, struct err *err)
{
    char text[256];
    size_t len = 0;
    int64_t end = clock_ms() + READY_MS;
    for (;;) {
        int64_t left = end - clock_ms();
        struct pollfd p = {.fd = pipe, .events = POLLIN};
        int r = poll(&p, 1, left > 0 ? (int)left : 0);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return err_set(err, ERR_UNAVAILABLE, "%s does not get ready", program);
        ssize_t n = read(pipe, text + len, sizeof(text) - 1 - len);
        if (n > 0)
            len += (size_t)n;
        text[len] = '\0';
        if (str_starts(text, "ready\n"))
            return 0;
        if (n <= 0 || len == sizeof(text) - 1)
            return err_set(err, ERR_UNAVAILABLE, "cannot start %s: %s", program,
                           len ? text : "it ended at once");
    }
}

static int start(const char *program, const char *socket_path, struct err *err)
{
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_sys(err, "cannot make a pipe");
    auto_fd int from = p[0], to = p[1];
    char number[16];
    str_print(number, sizeof(number), "%d", to);
    const char *const argv[] = {program, "--socket", socket_path, "--ready", number, NULL};
    /* Two forks: it becomes init's child, so that it is nobody's zombie here. */
    pid_t pid = fork();
    if (pid < 0)
        return err_sys(err, "cannot start %s", program);
    if (pid == 0) {
        pid = fork();
        if (pid == 0)
            exec_program(argv, to);
        _exit(pid < 0);
    }
    close(steal_fd(&to));
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return wait_ready(from, program, err);
}

int keep_connect(const char *socket_path, const char *program, bool spawn, struct keep **ret,
                 struct err *err)
{
    auto_fd int sock = -1;
    struct err first = {0};
    int r = open_socket(socket_path, &sock, &first);
    if (r == -ERR_UNAVAILABLE && spawn) {
        err_clear(&first);
        struct err why = {0};
        int s = start(program, socket_path, &why);
        /* When it did not start, another caller's may have been first: ask once more. */
        r = open_socket(socket_path, &sock, &first);
        if (r < 0 && s < 0)
            first = why;
    }
    if (r < 0) {
        if (err)
            *err = first;
        return -first.kind;
    }
    struct keep *k = calloc(1, sizeof(*k));
    if (!k)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    k->sock = steal_fd(&sock);
    *ret = k;
    return 0;
}

void keep_close(struct keep *k)
{
    if (!k)
        return;
    close(k->sock);
    free(k);
}

void keep_close_p(struct keep **k)
{
    keep_close(*k);
    *k = NULL;
}

int keep_fd(const struct keep *k)
{
    return k->sock;
}

static int gone(struct err *err)
{
    return err_set(err, ERR_UNAVAILABLE, "terem-keep has ended");
}

static int stall(struct keep *k, const char *what, struct err *err)
{
    k->stalled = true;
    k->probe_at = clock_ms() + PROBE_MS;
    return err_set(err, ERR_UNAVAILABLE, "terem-keep %s", what);
}

static void close_all(const int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        close(fds[i]);
}

/* One message.  fds: room for KEEP_FDS. */
static int receive(struct keep *k, struct keep_answer *a, int *fds, size_t *n_fds, struct err *err)
{
    uint8_t in[KEEP_ANSWER_MAX];
    struct err e = {0};
    *n_fds = KEEP_FDS;
    ssize_t n = fd_recv(k->sock, in, sizeof(in), fds, n_fds, &e);
    if (n < 0)
        return e.sys == ECONNRESET ? gone(err) : err_set(err, e.kind, "terem-keep: %s", e.text);
    int r = n == 0 ? gone(err) : keep_answer_decode(in, (size_t)n, *n_fds, a, err);
    if (r < 0)
        close_all(fds, *n_fds);
    return r;
}

/* While terem-keep is stalled each call would cost the caller its deadline: only one in PROBE_MS
 * tries.  Whatever has come meanwhile is a late answer to who has given up; it says that terem-keep
 * goes on. */
static int look_for_life(struct keep *k, struct err *err)
{
    struct pollfd p = {.fd = k->sock, .events = POLLIN};
    while (k->stalled && poll(&p, 1, 0) > 0) {
        struct keep_answer a;
        int fds[KEEP_FDS];
        size_t n;
        int r = receive(k, &a, fds, &n, err);
        if (r < 0)
            return r;
        close_all(fds, n);
        k->stalled = false;
    }
    if (k->stalled && clock_ms() < k->probe_at)
        return err_set(err, ERR_UNAVAILABLE, "terem-keep does not answer");
    return 0;
}

/* The answer with this serial and verb; older ones are late and dropped. */
static int await(struct keep *k, const struct keep_request *q, struct keep_answer *a, int *fds,
                 size_t *n_fds, struct err *err)
{
    int64_t end = clock_ms() + ANSWER_MS;
    for (;;) {
        int64_t left = end - clock_ms();
        struct pollfd p = {.fd = k->sock, .events = POLLIN};
        int r = poll(&p, 1, left > 0 ? (int)left : 0);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return stall(k, "does not answer", err);
        r = receive(k, a, fds, n_fds, err);
        if (r < 0)
            return r;
        k->stalled = false;
        if (a->serial == q->serial && a->verb == q->verb)
            return 0;
        close_all(fds, *n_fds);
    }
}

/* One request, one answer; the refusal in an answer becomes the caller's error.  fds_in are
 * received descriptors (room for KEEP_FDS), closed here on failure. */
static int ask(struct keep *k, struct keep_request *q, const int *fds, size_t n_fds,
               struct keep_answer *a, int *fds_in, struct err *err)
{
    uint8_t out[KEEP_REQUEST_LEN];
    int got[KEEP_FDS];
    size_t n_got;
    int r = look_for_life(k, err);
    if (r < 0)
        return r;
    q->serial = ++k->serial;
    keep_request_encode(q, out);
    struct err e = {0};
    if (fd_send(k->sock, out, sizeof(out), fds, n_fds, &e) < 0) {
        if (e.sys == EAGAIN)
            return stall(k, "does not take requests", err);
        return e.sys == EPIPE || e.sys == ECONNRESET
                   ? gone(err)
                   : err_set(err, ERR_UNAVAILABLE, "terem-keep does not take requests: %s", e.text);
    }
    if ((r = await(k, q, a, got, &n_got, err)) < 0)
        return r;
    if (a->kind)
        r = err_set(err, (enum err_kind)a->kind, "%s", a->text);
    if (r < 0 || !fds_in)
        close_all(got, n_got);
    else
        memcpy(fds_in, got, n_got * sizeof(int));
    return r;
}

int keep_put(struct keep *k, int64_t id, int pidfd, int console_fd, int log_dir_fd, struct err *err)
{
    struct keep_request q = {.verb = KEEP_PUT, .id = id};
    struct keep_answer a;
    int fds[KEEP_FDS] = {pidfd};
    size_t n = 1;
    if (console_fd >= 0) {
        q.flags |= KEEP_HAS_CONSOLE;
        fds[n++] = console_fd;
    }
    if (log_dir_fd >= 0) {
        q.flags |= KEEP_HAS_LOG;
        fds[n++] = log_dir_fd;
    }
    return ask(k, &q, fds, n, &a, NULL, err);
}

int keep_get(struct keep *k, int64_t id, int *ret_pidfd, int *ret_console, struct err *err)
{
    struct keep_request q = {.verb = KEEP_GET, .id = id};
    struct keep_answer a;
    int fds[KEEP_FDS];
    int r = ask(k, &q, NULL, 0, &a, fds, err);
    if (r < 0)
        return r;
    *ret_pidfd = fds[0];
    *ret_console = a.flags & KEEP_HAS_CONSOLE ? fds[1] : -1;
    return 0;
}

int keep_drop(struct keep *k, int64_t id, struct err *err)
{
    struct keep_request q = {.verb = KEEP_DROP, .id = id};
    struct keep_answer a;
    return ask(k, &q, NULL, 0, &a, NULL, err);
}

int keep_list(struct keep *k, int64_t **ret, size_t *ret_n, struct err *err)
{
    struct keep_request q = {.verb = KEEP_LIST};
    struct keep_answer a;
    auto_free int64_t *ids = NULL;
    size_t n = 0;
    do {
        int r = ask(k, &q, NULL, 0, &a, NULL, err);
        if (r < 0)
            return r;
        int64_t *more = reallocarray(ids, n + a.count + 1, sizeof(*ids));
        if (!more)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        ids = more;
        memcpy(ids + n, a.ids, a.count * sizeof(*ids));
        n += a.count;
        if (a.count)
            q.id = a.ids[a.count - 1];
    } while (a.count && (a.flags & KEEP_HAS_MORE));
    *ret = steal_ptr(&ids);
    *ret_n = n;
    return 0;
}

int keep_attach(struct keep *k, int64_t id, int client_fd, struct err *err)
{
    struct keep_request q = {.verb = KEEP_ATTACH, .id = id};
    struct keep_answer a;
    auto_fd int fd = client_fd;
    return ask(k, &q, &fd, 1, &a, NULL, err);
}

int keep_put_filter(struct keep *k, int64_t id, int listener, struct err *err)
{
    struct keep_request q = {.verb = KEEP_PUT_FILTER, .id = id};
    struct keep_answer a;
    return ask(k, &q, &listener, 1, &a, NULL, err);
}

int keep_get_filter(struct keep *k, int64_t id, uint32_t *number, int *ret_listener,
                    struct err *err)
{
    struct keep_request q = {.verb = KEEP_GET_FILTER, .id = id, .flags = *number};
    struct keep_answer a;
    int fds[KEEP_FDS];
    int r = ask(k, &q, NULL, 0, &a, fds, err);
    if (r < 0)
        return r;
    *ret_listener = fds[0];
    *number = a.flags;
    return 0;
}

int keep_serve(struct keep *k, int page, struct err *err)
{
    struct keep_request q = {.verb = KEEP_SERVE};
    struct keep_answer a;
    return ask(k, &q, &page, 1, &a, NULL, err);
}

int keep_quit(struct keep *k, struct err *err)
{
    struct keep_request q = {.verb = KEEP_QUIT};
    struct keep_answer a;
    return ask(k, &q, NULL, 0, &a, NULL, err);
}

int keep_viewers(struct keep *k, int64_t id, size_t *ret, struct err *err)
{
    struct keep_request q = {.verb = KEEP_VIEWERS, .id = id};
    struct keep_answer a;
    int r = ask(k, &q, NULL, 0, &a, NULL, err);
    if (r == 0)
        *ret = a.flags;
    return r;
}
