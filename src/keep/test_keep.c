/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The real terem-keep, in a directory of the test's own, with ptys and processes of its own. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "keep/frame.h"
#include "keep/keep.h"
#include "keep/protocol.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

#include <cmocka.h>

static const char *program;
static char dir[64], sock_path[96];
static struct keep *keep;
static pid_t keep_pid;

static int begin(void)
{
    struct err e = {0};
    if (keep_connect(sock_path, program, true, &keep, &e) < 0) {
        print_error("%s\n", e.text);
        return -1;
    }
    struct ucred c;
    socklen_t len = sizeof(c);
    getsockopt(keep_fd(keep), SOL_SOCKET, SO_PEERCRED, &c, &len);
    keep_pid = c.pid;
    return 0;
}

static int setup(void **state)
{
    str_print(dir, sizeof(dir), "/tmp/terem-keep-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    str_print(sock_path, sizeof(sock_path), "%s/keep.sock", dir);
    return begin();
}

/* The test's process is its subreaper, so that its end is seen. */
static int teardown(void **state)
{
    keep_close(keep);
    keep = NULL;
    if (keep_pid > 0) {
        kill(keep_pid, SIGKILL);
        waitpid(keep_pid, NULL, 0);
    }
    return path_remove_tree_at(AT_FDCWD, dir, NULL);
}

/* A process that lives until it is killed, and its pidfd. */
static pid_t sleeper(int *ret_pidfd)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    assert_int_equal(fd_pidfd_open(pid, ret_pidfd, NULL), 0);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void raw_pty(int *master, int *slave)
{
    struct termios t;
    assert_int_equal(openpty(master, slave, NULL, NULL, NULL), 0);
    tcgetattr(*slave, &t);
    cfmakeraw(&t);
    tcsetattr(*slave, TCSANOW, &t);
}

/* A VE with a console: its process, both sides of its pty. */
struct ve {
    pid_t pid;
    int pidfd, master, slave;
};

static struct ve make_ve(int64_t id)
{
    struct ve v;
    struct err e = {0};
    v.pid = sleeper(&v.pidfd);
    raw_pty(&v.master, &v.slave);
    auto_fd int d = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (keep_put(keep, id, v.pidfd, v.master, d, &e) < 0)
        fail_msg("%s", e.text);
    return v;
}

static void end_ve(struct ve *v)
{
    end(v->pid);
    cleanup_fd(&v->pidfd);
    cleanup_fd(&v->master);
    cleanup_fd(&v->slave);
}

struct client {
    int fd;
    struct frame_reader reader;
};

static struct client *attach(int64_t id)
{
    int p[2];
    struct err e = {0};
    struct client *c = calloc(1, sizeof(*c));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p), 0);
    if (keep_attach(keep, id, p[1], &e) < 0)
        fail_msg("%s", e.text);
    c->fd = p[0];
    return c;
}

static void detach(struct client *c)
{
    close(c->fd);
    free(c);
}

/* The next frame within 5 seconds; false at the end of file. */
static bool next(struct client *c, struct frame *f)
{
    bool bad;
    while (!frame_next(&c->reader, f, &bad)) {
        assert_false(bad);
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 5000), 1);
        if (frame_reader_fill(&c->reader, c->fd, NULL) <= 0)
            return false;
    }
    return true;
}

/* Reads output until `text` came. */
static void expect(struct client *c, const char *text)
{
    auto_str struct str s = str_init(1 << 20);
    struct frame f;
    while (!strstr(str_c(&s), text)) {
        assert_true(next(c, &f));
        assert_int_equal(f.type, FRAME_STDOUT);
        str_add_bytes(&s, f.data, f.len);
    }
}

static void say(int fd, const char *text)
{
    assert_int_equal(fd_write_all(fd, text, strlen(text), NULL), 0);
}

/* What comes out at the VE's side. */
static void expect_input(int slave, const char *text)
{
    char buf[256] = "";
    size_t len = 0;
    while (len < strlen(text)) {
        struct pollfd p = {.fd = slave, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 5000), 1);
        ssize_t n = read(slave, buf + len, sizeof(buf) - 1 - len);
        assert_true(n > 0);
        len += (size_t)n;
    }
    buf[len] = '\0';
    assert_string_equal(buf, text);
}

static void test_hold(void **state)
{
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
    assert_int_equal(keep_drop(keep, 7, &e), 0);
    assert_int_equal(keep_drop(keep, 7, &e), -ERR_NOT_FOUND);
    assert_int_equal(keep_drop(keep, 3, &e), 0);
    assert_int_equal(keep_quit(keep, &e), 0);
    struct pollfd gone = {.fd = keep_fd(keep), .events = POLLIN};
    assert_int_equal(poll(&gone, 1, 5000), 1);
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
    struct client *slow = attach(1);
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
    flood(v.slave, 5 << 20);
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
        assert_int_equal(poll(&p, 1, 5000), 1);
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

static long field(const char *file, const char *name)
{
    char path[64];
    auto_free char *text = NULL;
    str_print(path, sizeof(path), "/proc/%d/%s", keep_pid, file);
    assert_int_equal(fd_read_file_at(AT_FDCWD, path, 1 << 20, &text, NULL, NULL), 0);
    char *at = strstr(text, name);
    assert_non_null(at);
    long v = -1;
    assert_int_equal(sscanf(at + strlen(name), " %ld", &v), 1);
    return v;
}

/* How often it was given the processor, by its own will or not; and that it waits. */
static long turns(void)
{
    return field("status", "\nvoluntary_ctxt_switches:") +
           field("status", "\nnonvoluntary_ctxt_switches:");
}

/* Processor time in ticks of the kernel's clock. */
static long ticks(void)
{
    char path[64];
    unsigned long user, kernel;
    auto_free char *text = NULL;
    str_print(path, sizeof(path), "/proc/%d/stat", keep_pid);
    assert_int_equal(fd_read_file_at(AT_FDCWD, path, 4096, &text, NULL, NULL), 0);
    char *at = strrchr(text, ')');
    assert_non_null(at);
    assert_int_equal(at[2], 'S'); /* sleeps */
    assert_int_equal(
        sscanf(at + 4, "%*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel), 2);
    return (long)(user + kernel);
}

/* Counted, not timed: it slept in one epoll_wait all the while. */
static void assert_asleep(void)
{
    usleep(50000);
    long before = turns(), spent = ticks();
    usleep(300000);
    assert_int_equal(ticks(), spent);
    assert_int_equal(turns(), before);
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

/* The process ended while nobody but terem-keep held its descriptor. */
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
    assert_in_range(elapsed_ms(&begun), 900, 2000);
    assert_true(count_fds() == fds);
    kill(keep_pid, SIGCONT);
    struct pollfd wait = {.fd = keep_fd(keep), .events = POLLIN};
    assert_int_equal(poll(&wait, 1, 5000), 1);
    /* The late answer carries descriptors of VE 7: they are closed, and not given for VE 9. */
    assert_int_equal(keep_get(keep, 9, &pidfd, &console, &e), -ERR_NOT_FOUND);
    assert_true(count_fds() == fds);
    assert_int_equal(keep_get(keep, 7, &pidfd, &console, &e), 0);
    cleanup_fd(&pidfd);
    cleanup_fd(&console);
    assert_int_equal(keep_get(keep, 8, &pidfd, &console, &e), -ERR_NOT_FOUND); /* never sent */
    end_ve(&v);
}

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
    if (r < 0 || !(x.mask & (1u << 3)))
        skip(); /* kernels before 6.15 do not keep it */
    assert_true(WIFSIGNALED(x.exit_code));
    assert_int_equal(WTERMSIG(x.exit_code), SIGUSR1);
}

static void test_second(void **state)
{
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 2);
        alarm(10); /* should it serve after all */
        execl(program, program, "--socket", sock_path, (char *)NULL);
        _exit(127);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    struct keep *k = NULL;
    assert_int_equal(keep_connect(sock_path, NULL, false, &k, NULL), 0);
    keep_close(k);
    /* One that was killed leaves its socket behind; the next takes its place. */
    kill(keep_pid, SIGKILL);
    waitpid(keep_pid, NULL, 0);
    keep_close(keep);
    keep = NULL;
    struct err e = {0};
    assert_int_equal(keep_connect(sock_path, NULL, false, &k, &e), -ERR_UNAVAILABLE);
    assert_int_equal(keep_connect(sock_path, "/nowhere/terem-keep", true, &k, &e),
                     -ERR_UNAVAILABLE);
    assert_non_null(strstr(e.text, "cannot be executed"));
    assert_int_equal(begin(), 0);
}

/* stdio, lock, socket, epoll, the spare one, and the test's connection. */
#define DESCRIPTORS 8

/* It closes what it needs no longer right after it answered, so we give it a moment. */
static void assert_descriptors(int wanted)
{
    char path[64];
    str_print(path, sizeof(path), "/proc/%d/fd", keep_pid);
    for (int i = 0;; i++) {
        auto_dir DIR *d = opendir(path);
        assert_non_null(d);
        int n = 0;
        for (struct dirent *e; (e = readdir(d));)
            n += e->d_name[0] != '.';
        if (n == wanted)
            return;
        if (i == 500)
            fail_msg("%d descriptors where %d belong", n, wanted);
        usleep(10000);
    }
}

static void test_privileges(void **state)
{
    char path[64];
    auto_free char *text = NULL;
    str_print(path, sizeof(path), "/proc/%d/status", keep_pid);
    assert_int_equal(fd_read_file_at(AT_FDCWD, path, 65536, &text, NULL, NULL), 0);
    assert_non_null(strstr(text, "CapPrm:\t0000000000000000"));
    assert_non_null(strstr(text, "CapEff:\t0000000000000000"));
    assert_non_null(strstr(text, "CapBnd:\t0000000000000000"));
    assert_non_null(strstr(text, "NoNewPrivs:\t1"));
    assert_non_null(strstr(text, "Threads:\t1\n"));
    assert_descriptors(DESCRIPTORS);
    struct stat st;
    assert_int_equal(stat(sock_path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(getsid(keep_pid), keep_pid);
    kill(keep_pid, SIGHUP);
    kill(keep_pid, SIGPIPE);
    size_t count;
    int64_t *ids = NULL;
    assert_int_equal(keep_list(keep, &ids, &count, NULL), 0);
    free(ids);
}

/* With no descriptor left it refuses, sleeps, and goes on when there is room again. */
static void test_no_descriptors(void **state)
{
    struct ve v = make_ve(1);
    struct client *c = attach(1);
    struct err e = {0};
    assert_descriptors(DESCRIPTORS + 5); /* process, console, directory, log, client */
    struct rlimit old, none = {.rlim_cur = DESCRIPTORS + 5};
    assert_int_equal(prlimit(keep_pid, RLIMIT_NOFILE, NULL, &old), 0);
    none.rlim_max = old.rlim_max;
    assert_int_equal(prlimit(keep_pid, RLIMIT_NOFILE, &none, NULL), 0);
    assert_int_equal(keep_put(keep, 2, v.pidfd, v.master, -1, &e), -ERR_EXHAUSTED);
    assert_non_null(strstr(e.text, "too many descriptors"));
    struct keep *k = NULL;
    int64_t *ids = NULL;
    size_t n;
    assert_int_equal(keep_connect(sock_path, NULL, false, &k, &e), 0); /* by the kernel */
    assert_int_equal(keep_list(k, &ids, &n, &e), -ERR_UNAVAILABLE);
    keep_close(k);
    assert_asleep();
    say(v.slave, "still here");
    expect(c, "still here");
    assert_int_equal(prlimit(keep_pid, RLIMIT_NOFILE, &old, NULL), 0);
    assert_int_equal(keep_put(keep, 2, v.pidfd, -1, -1, &e), 0);
    detach(c);
    end_ve(&v);
}

static void test_many(void **state)
{
    enum { N = 1000 };
    int pidfd, master, slave;
    pid_t pid = sleeper(&pidfd);
    auto_fd int d = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct err e = {0};
    for (int i = N; i >= 1; i--) {
        if (openpty(&master, &slave, NULL, NULL, NULL) < 0)
            fail_msg("no more ptys at %d", i);
        if (keep_put(keep, i, pidfd, master, d, &e) < 0)
            fail_msg("%d: %s", i, e.text);
        close(master);
        close(slave);
    }
    int64_t *ids = NULL;
    size_t n = 0;
    assert_int_equal(keep_list(keep, &ids, &n, &e), 0);
    assert_int_equal(n, N);
    for (int i = 0; i < N; i++)
        assert_int_equal(ids[i], i + 1);
    free(ids);
    assert_asleep();
    long dirty = field("smaps_rollup", "Private_Dirty:");
    print_message("# %d VEs: %ld KB of its own\n", N, dirty);
#ifndef __SANITIZE_ADDRESS__ /* whose shadow is not ours */
    assert_true(dirty < 1024);
#endif
    for (int i = 1; i <= N; i++)
        assert_int_equal(keep_drop(keep, i, &e), 0);
    assert_asleep();
    close(pidfd);
    end(pid);
}

/* Anything may come over the socket: it is refused or the connection ends, never terem-keep. */
static void test_junk(void **state)
{
    unsigned seed = 1;
    for (int i = 0; i < 3000; i++) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        str_print(a.sun_path, sizeof(a.sun_path), "%s", sock_path);
        auto_fd int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(s, (struct sockaddr *)&a, sizeof(a)), 0);
        uint8_t m[64];
        size_t len = sizeof(m);
        for (size_t k = 0; k < sizeof(m); k++)
            m[k] = (uint8_t)(rand_r(&seed) >> 7);
        if (i % 2) {
            struct keep_request q = {.verb = (enum keep_verb)(rand_r(&seed) % KEEP__END),
                                     .flags = (uint32_t)rand_r(&seed) % 5,
                                     .id = rand_r(&seed) % 3};
            keep_request_encode(&q, m);
            if (q.verb == KEEP_QUIT)
                continue;
            len = KEEP_REQUEST_LEN;
        } else if (i % 4) {
            len = (size_t)rand_r(&seed) % sizeof(m);
        }
        int fds[6] = {s, s, s, s, s, s};
        fd_send(s, m, len, fds, (size_t)rand_r(&seed) % 7, NULL);
    }
    size_t n;
    int64_t *ids = NULL;
    struct err e = {0};
    if (keep_list(keep, &ids, &n, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(n, 0);
    free(ids);
    assert_descriptors(DESCRIPTORS); /* nothing that came along was kept */
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    program = argv[1];
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGPIPE, SIG_IGN);
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_hold),           T(test_console),   T(test_replace),
        T(test_slow_client),    T(test_log),       T(test_input_waits),
        T(test_hangup),         T(test_reconnect), T(test_stalled),
        T(test_exit_status),    T(test_second),    T(test_privileges),
        T(test_no_descriptors), T(test_many),      T(test_junk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
