/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keep/keep.h"

#include "base/cleanup.h"
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
#include <time.h>

#define DEADLINE_MS 5000

struct keep {
    int sock;
    uint32_t serial;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int open_socket(const char *path, int *ret, struct err *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (str_print(a.sun_path, sizeof(a.sun_path), "%s", path) < 0)
        return err_set(err, ERR_USAGE, "%s is too long for a Unix socket", path);
    auto_fd int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (s < 0)
        return err_sys(err, "cannot make a socket");
    /* Bounds connect(2) too, when the queue of the listener is full (unix(7), socket(7)). */
    struct timeval t = {.tv_sec = DEADLINE_MS / 1000};
    setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
    if (connect(s, (struct sockaddr *)&a, sizeof(a)) < 0)
        return err_set(err, ERR_UNAVAILABLE, "terem-keep does not answer on %s: %s", path,
                       strerror(errno));
    int r = keep_check_peer(s, err);
    if (r < 0)
        return err_wrap(err, "%s", path);
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
    int64_t end = now_ms() + DEADLINE_MS;
    for (;;) {
        int64_t left = end - now_ms();
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

/* One request, one answer; the refusal in an answer becomes the caller's error.  fds_in are
 * received descriptors (room for KEEP_FDS), closed here on failure. */
static int ask(struct keep *k, struct keep_request *q, const int *fds, size_t n_fds,
               struct keep_answer *a, int *fds_in, struct err *err)
{
    uint8_t out[KEEP_REQUEST_LEN], in[KEEP_ANSWER_MAX];
    q->serial = ++k->serial;
    keep_request_encode(q, out);
    struct err e = {0};
    if (fd_send(k->sock, out, sizeof(out), fds, n_fds, &e) < 0)
        return e.sys == EPIPE || e.sys == ECONNRESET
                   ? gone(err)
                   : err_set(err, ERR_UNAVAILABLE, "terem-keep does not take requests: %s", e.text);
    int64_t end = now_ms() + DEADLINE_MS;
    for (;;) {
        int64_t left = end - now_ms();
        struct pollfd p = {.fd = k->sock, .events = POLLIN};
        int r = poll(&p, 1, left > 0 ? (int)left : 0);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return err_set(err, ERR_UNAVAILABLE, "terem-keep does not answer");
        size_t n_in = KEEP_FDS;
        int got[KEEP_FDS];
        ssize_t n = fd_recv(k->sock, in, sizeof(in), got, &n_in, &e);
        if (n == 0 || (n < 0 && e.sys == ECONNRESET)) {
            for (size_t i = 0; n == 0 && i < n_in; i++)
                close(got[i]);
            return gone(err);
        }
        if (n < 0)
            return err_set(err, e.kind, "terem-keep: %s", e.text);
        r = keep_answer_decode(in, (size_t)n, n_in, a, err);
        /* An older serial: the late answer to a request whose deadline had passed. */
        bool mine = r < 0 || (a->serial == q->serial && a->verb == q->verb);
        if (r == 0 && mine && a->kind)
            r = err_set(err, (enum err_kind)a->kind, "%s", a->text);
        if (r == 0 && mine && fds_in) {
            memcpy(fds_in, got, n_in * sizeof(int));
            n_in = 0;
        }
        for (size_t i = 0; i < n_in; i++)
            close(got[i]);
        if (mine)
            return r;
    }
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

int keep_quit(struct keep *k, struct err *err)
{
    struct keep_request q = {.verb = KEEP_QUIT};
    struct keep_answer a;
    return ask(k, &q, NULL, 0, &a, NULL, err);
}
