/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What terem-keep holds: processes, consoles, their logs, across ends of teremd. */
#include "keep/test_keep_stage.h"

static void test_hold(void **state)
{
    size_t viewers = 0;
    struct err e = {0};
    int p = -1, c = -1;
    assert_int_equal(keep_get(keep, 7, &p, &c, &e), -ERR_NOT_FOUND);
    struct ve v = make_ve(7);
    auto_fd int q = -1;
    pid_t other = sleeper(&q);
    assert_int_equal(keep_put(keep, 3, q, -1, -1, &e), 0);
    int64_t *ids = NULL;
    size_t n = 0;
    assert_int_equal(keep_list(keep, &ids, &n, &e), 0);
    assert_int_equal(n, 2);
    assert_int_equal(ids[0], 3);
    assert_int_equal(ids[1], 7);
    free(ids);
    assert_int_equal(keep_get(keep, 3, &p, &c, &e), 0);
    assert_int_equal(c, -1);
    assert_int_equal(fd_pidfd_kill(p, 0, &e), 0);
    close(p);
    assert_int_equal(keep_get(keep, 7, &p, &c, &e), 0);
    unsigned a = 0, b = 1;
    ioctl(v.master, TIOCGPTN, &a);
    ioctl(c, TIOCGPTN, &b);
    assert_int_equal(a, b);
    close(p);
    close(c);
    assert_int_equal(keep_quit(keep, &e), -ERR_STATE);
    assert_non_null(strstr(e.text, "2 VEs"));
    /* Wrong things are refused by name. */
    auto_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(keep_put(keep, 9, null, -1, -1, &e), -ERR_USAGE);
    assert_int_equal(keep_put(keep, 9, q, null, -1, &e), -ERR_USAGE);
    assert_int_equal(keep_put(keep, 9, q, -1, null, &e), -ERR_USAGE);
    assert_int_equal(keep_put(keep, 0, q, -1, -1, &e), -ERR_CORRUPT);
    assert_int_equal(keep_put(keep, -4, q, -1, -1, &e), -ERR_CORRUPT);
    assert_int_equal(keep_attach(keep, 7, dup(null), &e), -ERR_USAGE);
    assert_int_equal(keep_attach(keep, 7, dup(keep_fd(keep)), &e), -ERR_USAGE);
    assert_int_equal(keep_attach(keep, 3, dup(null), &e), -ERR_STATE);
    assert_int_equal(keep_attach(keep, 8, dup(null), &e), -ERR_NOT_FOUND);
    assert_int_equal(keep_viewers(keep, 8, &viewers, &e), -ERR_NOT_FOUND);
    assert_int_equal(keep_viewers(keep, 7, &viewers, &e), 0);
    assert_int_equal(viewers, 0);
    assert_int_equal(keep_drop(keep, 7, &e), 0);
    assert_int_equal(keep_drop(keep, 7, &e), -ERR_NOT_FOUND);
    assert_int_equal(keep_drop(keep, 3, &e), 0);
    assert_int_equal(keep_quit(keep, &e), 0);
    struct pollfd gone = {.fd = keep_fd(keep), .events = POLLIN};
    assert_int_equal(poll(&gone, 1, 60000), 1);
    assert_int_equal(keep_list(keep, &ids, &n, &e), -ERR_UNAVAILABLE);
    assert_int_equal(access(sock_path, F_OK), -1);
    end(other);
    end_ve(&v);
}

static void test_console(void **state)
{
    struct ve v = make_ve(1);
    say(v.slave, "early\r\n");
    struct client *a = attach(1);
    expect(a, "early\r\n"); /* from the log, or as it comes */
    struct client *b = attach(1);
    expect(b, "early\r\n");
    say(v.slave, "both");
    expect(a, "both");
    expect(b, "both");
    /* Input, from each. */
    assert_int_equal(frame_write(a->fd, FRAME_STDIN, "from a", 6, NULL), 0);
    expect_input(v.slave, "from a");
    assert_int_equal(frame_write(b->fd, FRAME_STDIN, "", 0, NULL), 0);
    assert_int_equal(frame_write(b->fd, (enum frame_type)99, "skipped", 7, NULL), 0);
    assert_int_equal(frame_write(b->fd, FRAME_STDIN, "from b", 6, NULL), 0);
    expect_input(v.slave, "from b");
    /* Size. */
    uint8_t size[4] = {0, 50, 0, 132};
    assert_int_equal(frame_write(a->fd, FRAME_RESIZE, size, 4, NULL), 0);
    assert_int_equal(frame_write(a->fd, FRAME_RESIZE, size, 3, NULL), 0);
    assert_int_equal(frame_write(a->fd, FRAME_STDIN, "!", 1, NULL), 0);
    expect_input(v.slave, "!");
    struct winsize w;
    assert_int_equal(ioctl(v.slave, TIOCGWINSZ, &w), 0);
    assert_int_equal(w.ws_row, 50);
    assert_int_equal(w.ws_col, 132);
    /* One leaves, the other stays. */
    detach(a);
    say(v.slave, "one left");
    expect(b, "one left");
    /* An impossible frame. */
    struct client *c = attach(1);
    assert_int_equal(fd_write_all(c->fd, "\0\xff\xff\xff\xff", 5, NULL), 0);
    struct frame f;
    while (next(c, &f) && f.type == FRAME_STDOUT)
        ;
    assert_int_equal(f.type, FRAME_ERROR);
    assert_int_equal(f.data[0], ERR_CORRUPT);
    assert_false(next(c, &f));
    detach(c);
    /* The end. */
    say(v.slave, "last words");
    end(v.pid);
    expect(b, "last words");
    assert_true(next(b, &f));
    assert_int_equal(f.type, FRAME_EXIT);
    assert_int_equal(f.len, 2);
    assert_false(next(b, &f));
    detach(b);
    int p[2];
    struct err e = {0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p), 0);
    assert_int_equal(keep_attach(keep, 1, p[1], &e), -ERR_STATE);
    close(p[0]);
    close(v.pidfd);
    close(v.master);
    close(v.slave);
}

/* A put of the same id ends the old console for those who watch. */
static void test_replace(void **state)
{
    struct ve v = make_ve(1);
    struct client *c = attach(1);
    struct ve w = make_ve(1);
    struct frame f;
    assert_true(next(c, &f));
    assert_int_equal(f.type, FRAME_EXIT);
    detach(c);
    c = attach(1);
    say(w.slave, "new");
    expect(c, "new");
    detach(c);
    end_ve(&v);
    end_ve(&w);
}

static void flood(int slave, size_t bytes)
{
    char line[64];
    memset(line, 'x', sizeof(line));
    line[62] = '\r';
    line[63] = '\n';
    for (size_t i = 0; i < bytes; i += sizeof(line))
        assert_int_equal(fd_write_all(slave, line, sizeof(line), NULL), 0);
}

/* A client that does not read is dismissed, and the VE never waits for it. */
static void test_slow_client(void **state)
{
    struct ve v = make_ve(1);
    size_t viewers = 0;
    struct client *slow = attach(1);
    assert_int_equal(keep_viewers(keep, 1, &viewers, NULL), 0);
    assert_int_equal(viewers, 1);
    flood(v.slave, 4 << 20); /* would never return if somebody waited */
    struct client *c = attach(1);
    say(v.slave, "goes on");
    expect(c, "goes on");
    detach(c);
    struct frame f;
    size_t got = 0;
    while (next(slow, &f) && f.type == FRAME_STDOUT)
        got += f.len;
    assert_int_equal(f.type, FRAME_ERROR);
    assert_true(got > 4096 && got < 1 << 20);
    assert_false(next(slow, &f));
    detach(slow);
    end_ve(&v);
}

static off_t size_of(const char *name)
{
    struct stat st;
    auto_free char *path = str_format("%s/%s", dir, name);
    return stat(path, &st) == 0 ? st.st_size : -1;
}

static void test_log(void **state)
{
    struct ve v = make_ve(5);
    flood(v.slave, (5 << 20) + (1 << 19)); /* so that the last file is half full */
    say(v.slave, "the end\r\n");
    struct client *c = attach(5);
    expect(c, "the end\r\n");
    detach(c);
    assert_true(size_of("5.log") > 0 && size_of("5.log") <= 1 << 20);
    assert_true(size_of("5.log.1") > 900000 && size_of("5.log.1") <= 1 << 20);
    assert_int_equal(size_of("5.log.2"), -1);
    struct stat st;
    auto_free char *path = str_format("%s/5.log", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    /* A new client gets the last lines, whole, and not more than 4 KB. */
    c = attach(5);
    struct frame f;
    assert_true(next(c, &f));
    assert_true(f.len <= 4096 && f.len > 3000);
    assert_int_equal(f.data[0], 'x');
    assert_memory_equal(f.data + f.len - 9, "the end\r\n", 9);
    detach(c);
    end_ve(&v);
    /* A link in the place of the log is not followed. */
    auto_free char *victim = str_format("%s/victim", dir), *link = str_format("%s/6.log", dir);
    assert_int_equal(symlink(victim, link), 0);
    v = make_ve(6);
    say(v.slave, "x");
    c = attach(6);
    say(v.slave, "y");
    expect(c, "y");
    assert_int_equal(size_of("victim"), -1);
    detach(c);
    end_ve(&v);
}

/* Input for a VE that does not read it waits without loss, and nobody else waits for it. */
static void test_input_waits(void **state)
{
    struct ve v = make_ve(1), w = make_ve(2);
    struct client *c = attach(1), *d = attach(2);
    enum { TOTAL = 1 << 20 };
    pid_t writer = fork();
    if (writer == 0) {
        char buf[1024];
        for (int sent = 0; sent < TOTAL; sent += (int)sizeof(buf)) {
            for (size_t i = 0; i < sizeof(buf); i++)
                buf[i] = (char)('a' + (sent / 1024 + (int)i) % 26);
            if (frame_write(c->fd, FRAME_STDIN, buf, sizeof(buf), NULL) < 0)
                _exit(1);
        }
        _exit(0);
    }
    usleep(100000); /* until everything is full; what follows is right at any time */
    say(w.slave, "alive");
    expect(d, "alive");
    say(v.slave, "output all the same");
    expect(c, "output all the same");
    char buf[4096];
    for (int got = 0; got < TOTAL;) {
        struct pollfd p = {.fd = v.slave, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 60000), 1);
        ssize_t n = read(v.slave, buf, sizeof(buf));
        assert_true(n > 0);
        for (ssize_t i = 0; i < n; i++, got++)
            assert_int_equal(buf[i], 'a' + (got / 1024 + got % 1024) % 26);
    }
    int status;
    waitpid(writer, &status, 0);
    assert_int_equal(status, 0);
    detach(c);
    detach(d);
    end_ve(&v);
    end_ve(&w);
}

/* A console whose other side nobody has open must not keep it awake, and comes back. */
static void test_hangup(void **state)
{
    struct ve v = make_ve(1);
    struct client *c = attach(1);
    char name[64];
    assert_int_equal(ptsname_r(v.master, name, sizeof(name)), 0);
    for (int i = 0; i < 5; i++) {
        auto_free char *text = str_format("getty %d", i);
        say(v.slave, text);
        close(v.slave);
        expect(c, text);
        assert_int_equal(frame_write(c->fd, FRAME_STDIN, "lost", 4, NULL), 0);
        if (i == 2)
            assert_asleep();
        v.slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
        assert_true(v.slave >= 0);
        tcflush(v.slave, TCIFLUSH);
    }
    detach(c);
    end(v.pid);
    close(v.slave);
    assert_asleep(); /* with a dead process and a hung-up console */
    close(v.master);
    close(v.pidfd);
}

/* teremd is killed and comes again: everything is as it was. */
static void test_reconnect(void **state)
{
    struct ve v = make_ve(1);
    struct client *c = attach(1);
    pid_t pid = fork();
    if (pid == 0) {
        struct keep *k = NULL;
        uint8_t q[KEEP_REQUEST_LEN];
        if (keep_connect(sock_path, NULL, false, &k, NULL) < 0)
            _exit(1);
        /* Dies with an answer under way. */
        keep_request_encode(&(struct keep_request){.verb = KEEP_GET, .id = 1}, q);
        _exit(send(keep_fd(k), q, sizeof(q), 0) != sizeof(q));
    }
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    keep_close(keep);
    keep = NULL;
    say(v.slave, "meanwhile");
    expect(c, "meanwhile");
    struct err e = {0};
    assert_int_equal(keep_connect(sock_path, program, true, &keep, &e), 0);
    int p, m;
    assert_int_equal(keep_get(keep, 1, &p, &m, &e), 0);
    close(p);
    close(m);
    detach(c);
    end_ve(&v);
}

struct exit_info {
    uint64_t mask, cgroup;
    uint32_t ids[11];
    int32_t exit_code;
};

static int64_t elapsed_ms(const struct timespec *since)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - since->tv_sec) * 1000 + (now.tv_nsec - since->tv_nsec) / 1000000;
}

static size_t count_fds(void)
{
    size_t n = 0;
    for (int fd = 0; fd < 1000; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* How often this process has waited for something. */
static long waits(void)
{
    struct rusage u;
    assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
    return u.ru_nvcsw;
}

/* One call waits a second, the others do not wait; its late answers are nobody else's. */
static void test_stalled(void **state)
{
    struct ve v = make_ve(7);
    struct err e = {0};
    int pidfd = -1, console = -1, p[2];
    struct timespec begun;
    size_t fds = count_fds();
    kill(keep_pid, SIGSTOP);
    clock_gettime(CLOCK_MONOTONIC, &begun);
    assert_int_equal(keep_get(keep, 7, &pidfd, &console, &e), -ERR_UNAVAILABLE);
    assert_true(elapsed_ms(&begun) >= 900);
    long before = waits();
    for (int i = 0; i < 100; i++) {
        int64_t *ids = NULL;
        size_t n = 0;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p), 0);
        assert_int_equal(keep_attach(keep, 7, p[1], &e), -ERR_UNAVAILABLE);
        close(p[0]);
        assert_int_equal(keep_put(keep, 8, v.pidfd, -1, -1, &e), -ERR_UNAVAILABLE);
        assert_int_equal(keep_get(keep, 7, &pidfd, &console, &e), -ERR_UNAVAILABLE);
        assert_int_equal(keep_drop(keep, 7, &e), -ERR_UNAVAILABLE);
        assert_int_equal(keep_list(keep, &ids, &n, &e), -ERR_UNAVAILABLE);
        assert_int_equal(keep_quit(keep, &e), -ERR_UNAVAILABLE);
    }
    assert_in_range(waits() - before, 0, 100); /* of 700 calls; some locks of the kernel */
    assert_true(count_fds() == fds);
    kill(keep_pid, SIGCONT);
    struct pollfd wait = {.fd = keep_fd(keep), .events = POLLIN};
    assert_int_equal(poll(&wait, 1, 60000), 1);
    /* The late answer carries descriptors of VE 7: they are closed, and not given for VE 9. */
    assert_int_equal(keep_get(keep, 9, &pidfd, &console, &e), -ERR_NOT_FOUND);
    assert_true(count_fds() == fds);
    assert_int_equal(keep_get(keep, 7, &pidfd, &console, &e), 0);
    cleanup_fd(&pidfd);
    cleanup_fd(&console);
    assert_int_equal(keep_get(keep, 8, &pidfd, &console, &e), -ERR_NOT_FOUND); /* never sent */
    end_ve(&v);
}

/* The process ended while nobody but terem-keep held its descriptor. */
static void test_exit_status(void **state)
{
    int pidfd;
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    assert_int_equal(fd_pidfd_open(pid, &pidfd, NULL), 0);
    assert_int_equal(keep_put(keep, 1, pidfd, -1, -1, NULL), 0);
    close(pidfd);
    keep_close(keep);
    keep = NULL;
    kill(pid, SIGUSR1);
    waitpid(pid, NULL, 0);
    assert_int_equal(keep_connect(sock_path, NULL, false, &keep, NULL), 0);
    int c;
    assert_int_equal(keep_get(keep, 1, &pidfd, &c, NULL), 0);
    assert_int_equal(fd_pidfd_wait_exit(pidfd, 0, NULL), 0);
    struct exit_info x = {.mask = 1u << 3};
    int r = ioctl(pidfd, _IOWR(0xFF, 11, struct exit_info), &x);
    close(pidfd);
    if (r < 0 || !(x.mask & (1u << 3))) {
        print_message("# skipped: kernels before 6.15 keep no exit status\n");
        return;
    }
    assert_true(WIFSIGNALED(x.exit_code));
    assert_int_equal(WTERMSIG(x.exit_code), SIGUSR1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        T(test_hold),    T(test_console),     T(test_replace), T(test_slow_client),
        T(test_log),     T(test_input_waits), T(test_hangup),  T(test_reconnect),
        T(test_stalled), T(test_exit_status),
    };
    return stage_main(argc, argv) < 0 ? 2 : cmocka_run_group_tests(tests, NULL, NULL);
}
