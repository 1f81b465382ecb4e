/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test_bpf — rows that BPF counts, on the kernel at hand, as root: cgroups named
 * terem-test-<pid>, processes in them, sockets in a network namespace of this test.
 *
 * A child runs the tests; its parent removes all that they made, however the child ended.
 */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "resource/bpf.h"
#include "resource/node.h"

#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#define ID  7
#define ALL UINT64_MAX

static char name[NAME_SIZE], dir[128];
static struct resource_node *node;
static struct resource_bpf *bpf;
static struct resource_cgroups cgroups = RESOURCE_CGROUPS_NONE;

struct box { /* shared with the children */
    volatile int phase, done, got, refused, wrong, error;
    volatile uint16_t port;
};
static struct box *box;

static void pause_ms(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static struct param_set set_of(uint64_t tcp, uint64_t other, uint64_t files)
{
    const char *const keys[] = {"sockets.tcp", "sockets.other", "files"};
    const uint64_t values[] = {tcp, other, files};
    struct param_set set;
    param_set_init(&set);
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        param_set_put(&set, param_find(keys[i]),
                      (struct param_value){.unlimited = values[i] == ALL,
                                           .n = values[i] == ALL ? 0 : values[i]});
    return set;
}

static void limit(uint64_t tcp, uint64_t other, uint64_t files)
{
    struct param_set set = set_of(tcp, other, files);
    struct err e = {0};
    if (resource_bpf_apply(bpf, ID, &set, true, &e) < 0)
        fail_msg("%s", e.text);
}

static struct param_counter counter(const char *key)
{
    struct param_counters list = {0};
    struct err e = {0};
    if (resource_bpf_counters(bpf, ID, &list, &e) < 0)
        fail_msg("%s", e.text);
    return *param_counters_of(&list, param_find(key));
}

static uint64_t held(const char *key)
{
    struct param_counter c = counter(key);
    assert_true(c.held.known && c.maxheld.known && c.failcnt.known);
    return c.held.n;
}

static uint64_t failed(const char *key)
{
    return counter(key).failcnt.n;
}

/* The kernel frees some sockets a little later (RCU). */
static void expect_held(const char *key, uint64_t n)
{
    for (int i = 0; i < 400 && held(key) != n; i++)
        pause_ms(5);
    assert_int_equal(held(key), n);
}

static void open_bpf(void)
{
    struct err e = {0};
    if (resource_bpf_open(node, dir, &bpf, &e) < 0)
        fail_msg("%s", e.text);
}

/* Is all of the row counted here?  cmocka reports skip() in TAP as a failure. */
static bool works(const char *key)
{
    const char *why;
    if (resource_bpf_row(bpf, param_find(key), &why) == RESOURCE_BPF_LIMITED)
        return true;
    print_message("# skipped: %s: %s; the VM tier has it\n", key, why);
    return false;
}

static int setup(void **state)
{
    struct param_set set;
    struct err e = {0};
    param_set_init(&set);
    memset(box, 0, sizeof(*box));
    if (resource_create(node, ID, &set, 0, 0, &cgroups, &e) < 0) {
        print_message("# %s\n", e.text);
        return -1;
    }
    limit(ALL, ALL, ALL);
    return 0;
}

static int teardown(void **state)
{
    resource_kill(node, ID, 5000, NULL);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    resource_bpf_forget(bpf, ID, NULL);
    resource_remove(node, ID, NULL);
    resource_cgroups_done(&cgroups);
    return 0;
}

static pid_t inside(void (*body)(void))
{
    pid_t pid = fork();
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(60);
    if (cgroup_write(cgroups.v2, "cgroup.procs", NULL, "0") < 0)
        _exit(100);
    body();
    _exit(0);
}

static void next_phase(int phase)
{
    box->phase = phase;
}

static void wait_phase(int phase)
{
    while (box->phase < phase)
        pause_ms(1);
}

static void wait_done(int done)
{
    for (int i = 0; i < 20000 && box->done < done; i++)
        pause_ms(1);
    assert_true(box->done >= done);
}

static void ends(pid_t pid)
{
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void body_tcp(void)
{
    int fds[20];
    for (int i = 0; i < 20; i++) {
        fds[i] = socket(i % 2 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
        if (fds[i] >= 0)
            box->got++;
        else if (errno == ENOBUFS)
            box->refused++;
    }
    /* Neither a copy nor a child's copy is another socket. */
    close(dup(fds[0]));
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    box->done = 1;
    wait_phase(1);
    for (int i = 0; i < 5; i++)
        close(fds[i]);
    box->done = 2;
    wait_phase(2);
    for (int i = 0; i < 5; i++)
        box->got += socket(AF_INET, SOCK_STREAM, 0) >= 0;
    box->done = 3;
    wait_phase(3);
}

static void test_tcp(void **state)
{
    limit(12, ALL, ALL);
    pid_t pid = inside(body_tcp);
    wait_done(1);
    assert_int_equal(box->got, 12);
    assert_int_equal(box->refused, 8);
    assert_int_equal(held("sockets.tcp"), 12);
    assert_int_equal(failed("sockets.tcp"), 8);
    next_phase(1);
    wait_done(2);
    expect_held("sockets.tcp", 7);
    limit(9, ALL, ALL); /* live */
    next_phase(2);
    wait_done(3);
    assert_int_equal(box->got, 14);
    assert_int_equal(held("sockets.tcp"), 9);
    assert_int_equal(failed("sockets.tcp"), 11);
    assert_int_equal(counter("sockets.tcp").maxheld.n, 12);
    kill(pid, SIGKILL); /* nobody closes anything */
    waitpid(pid, NULL, 0);
    expect_held("sockets.tcp", 0);
}

static int listen_any(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) < 0 || listen(fd, 64) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &len) < 0)
        return -1;
    box->port = ntohs(a.sin_port);
    return fd;
}

/* *ret_now: the handshake ended within 300 ms (a dropped SYN is sent again after a second). */
static int connect_to(uint16_t port, bool *ret_now)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    assert_true(fd >= 0);
    int r = connect(fd, (struct sockaddr *)&a, sizeof(a));
    *ret_now = r == 0 || (errno == EINPROGRESS && poll(&p, 1, 300) == 1);
    return fd;
}

static void reset(int fd)
{
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    close(fd);
}

static void body_listen(void)
{
    int fd = listen_any(), taken[8];
    box->done = 1;
    wait_phase(1);
    for (int i = 0; i < 3; i++)
        if ((taken[i] = accept(fd, NULL, NULL)) >= 0)
            box->got++;
    box->done = 2;
    wait_phase(2);
    for (int i = 0; i < 3; i++)
        close(taken[i]);
    box->done = 3;
    wait_phase(3);
    close(fd);
    box->done = 4;
    wait_phase(4);
}

static void test_accepted(void **state)
{
    bool now;
    int fds[6];
    pid_t pid = inside(body_listen);
    wait_done(1);
    for (int i = 0; i < 6; i++) {
        fds[i] = connect_to(box->port, &now);
        assert_true(now);
    }
    assert_int_equal(held("sockets.tcp"), 7); /* in the queue, not accepted by anybody yet */
    reset(fds[0]);                            /* before accept(): the VE holds it still */
    next_phase(1);
    wait_done(2);
    assert_int_equal(box->got, 3);
    next_phase(2);
    wait_done(3);
    for (int i = 1; i < 3; i++)
        close(fds[i]);
    expect_held("sockets.tcp", 4);
    next_phase(3);
    wait_done(4); /* the listener is closed with three in its queue */
    expect_held("sockets.tcp", 0);
    for (int i = 3; i < 6; i++)
        close(fds[i]);
    next_phase(4);
    ends(pid);
    assert_int_equal(failed("sockets.tcp"), 0);
}

static void test_accepted_limit(void **state)
{
    bool now;
    int fds[8], opened = 0;
    limit(4, ALL, ALL); /* the listener and three */
    pid_t pid = inside(body_listen);
    wait_done(1);
    for (int i = 0; i < 8; i++) {
        fds[i] = connect_to(box->port, &now);
        opened += now;
        assert_true(held("sockets.tcp") <= 4);
    }
    assert_int_equal(opened, 3);
    assert_true(failed("sockets.tcp") >= 5); /* the clients try again */
    assert_int_equal(counter("sockets.tcp").maxheld.n, 4);
    for (int i = 0; i < 8; i++)
        reset(fds[i]);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    expect_held("sockets.tcp", 0);
}

#define SWARM 100
static void body_swarm(void)
{
    for (int i = 0; i < SWARM; i++)
        if (fork() == 0) {
            alarm(60);
            wait_phase(1);
            for (int k = 0; k < 30; k++) {
                int fd = socket(AF_INET, SOCK_STREAM, 0);
                __sync_fetch_and_add(fd >= 0 ? &box->got : &box->refused, 1);
                if (fd >= 0 && k % 3 == 0) {
                    close(fd);
                    __sync_fetch_and_add(&box->wrong, 1); /* of those that were closed */
                }
            }
            __sync_fetch_and_add(&box->done, 1);
            wait_phase(2);
            _exit(0);
        }
    while (wait(NULL) > 0)
        ;
}

static void test_swarm(void **state)
{
    limit(333, ALL, ALL);
    pid_t pid = inside(body_swarm);
    next_phase(1);
    uint64_t most = 0;
    for (int i = 0; i < 20000 && box->done < SWARM; i++) {
        uint64_t n = held("sockets.tcp");
        most = n > most ? n : most;
        pause_ms(1);
    }
    assert_int_equal(box->done, SWARM);
    assert_true(most <= 333);
    expect_held("sockets.tcp", (uint64_t)(box->got - box->wrong));
    assert_true(box->got - box->wrong <= 333);
    assert_true(counter("sockets.tcp").maxheld.n <= 333);
    assert_int_equal(failed("sockets.tcp"), box->refused);
    assert_int_equal(box->got + box->refused, SWARM * 30);
    next_phase(2);
    ends(pid);
    expect_held("sockets.tcp", 0);
}

static void body_udp(void)
{
    int one = socket(AF_INET, SOCK_DGRAM, 0), two = socket(AF_INET6, SOCK_DGRAM, 0);
    box->refused = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) < 0 && errno == ENOBUFS;
    close(two);
    box->got = one >= 0 && socket(AF_INET, SOCK_RAW, IPPROTO_TCP) >= 0; /* not one of TCP */
    box->done = 1;
    wait_phase(1);
}

static void test_udp(void **state)
{
    limit(ALL, 2, ALL);
    pid_t pid = inside(body_udp);
    wait_done(1);
    assert_true(box->got && box->refused);
    assert_int_equal(held("sockets.other"), 2);
    assert_int_equal(held("sockets.tcp"), 0);
    assert_int_equal(failed("sockets.other"), 1);
    next_phase(1);
    ends(pid);
    expect_held("sockets.other", 0);
}

/* What happens while nobody of Terem is alive is counted, and what was counted is found again. */
static void test_survives(void **state)
{
    limit(12, ALL, ALL);
    pid_t pid = inside(body_tcp);
    wait_done(1);
    resource_bpf_close(bpf);
    bpf = NULL;
    next_phase(1);
    wait_done(2);
    next_phase(2); /* five are closed and five made */
    wait_done(3);
    open_bpf();
    expect_held("sockets.tcp", 12);
    assert_int_equal(failed("sockets.tcp"), 8);
    limit(11, ALL, ALL); /* a recovered VE gets its limits again; that loses no count */
    assert_int_equal(held("sockets.tcp"), 12);
    assert_int_equal(failed("sockets.tcp"), 8);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    expect_held("sockets.tcp", 0);
}

/* The instance's programs are there once, however often it was opened. */
static void test_once(void **state)
{
    for (int i = 0; i < 3; i++) {
        resource_bpf_close(bpf);
        open_bpf();
    }
    limit(ALL, 2, ALL);
    pid_t pid = inside(body_udp);
    wait_done(1);
    assert_int_equal(held("sockets.other"), 2);
    next_phase(1);
    ends(pid);
    expect_held("sockets.other", 0);
}

static int rewrite(const char *path)
{
    char text[256];
    auto_fd int fd = open(path, O_RDWR | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));
    if (n <= 0)
        return -1;
    return pwrite(fd, text, (size_t)n, 0) == n ? 0 : errno;
}

static void body_sysctl(void)
{
    static const char *const guarded[] = {"/proc/sys/user/max_user_namespaces",
                                          "/proc/sys/kernel/shmmni", "/proc/sys/kernel/msgmni",
                                          "/proc/sys/kernel/sem", "/proc/sys/fs/mqueue/queues_max"};
    /* As root of a VE has it. */
    if (unshare(CLONE_NEWUSER | CLONE_NEWIPC | CLONE_NEWNET) < 0 ||
        fd_write_value_at(AT_FDCWD, "/proc/self/uid_map", NULL, "0 0 1") < 0)
        box->wrong = 101;
    for (size_t i = 0; i < ARRAY_SIZE(guarded); i++)
        if (access(guarded[i], F_OK) == 0 && rewrite(guarded[i]) != EPERM)
            box->wrong = (int)i + 1;
    if (rewrite("/proc/sys/net/ipv4/ip_default_ttl") != 0)
        box->wrong = 100;
    box->done = 1;
}

static void test_sysctl(void **state)
{
    ends(inside(body_sysctl));
    assert_int_equal(box->wrong, 0);
    struct param_set set = set_of(ALL, ALL, ALL);
    assert_int_equal(resource_bpf_apply(bpf, ID, &set, false, NULL), 0);
    ends(inside(body_sysctl)); /* as in a birth */
    assert_int_equal(box->wrong, 5);
    pid_t pid = fork(); /* from outside it goes */
    if (pid == 0)
        _exit(unshare(CLONE_NEWIPC) < 0 || rewrite("/proc/sys/kernel/shmmni") != 0);
    ends(pid);
}

static struct resource_refusal last;
static int heard;

static void hear(void *ctx, const struct resource_refusal *r)
{
    last = *r;
    heard++;
}

static void body_refused(void)
{
    prctl(PR_SET_NAME, "greedy");
    box->got = (int)getpid();
    for (int i = 0; i < 3; i++)
        box->refused += socket(AF_INET, SOCK_STREAM, 0) < 0;
}

static void test_events(void **state)
{
    int fd;
    struct timespec before, after;
    assert_int_equal(resource_bpf_listen(bpf, hear, NULL, &fd, NULL), 0);
    resource_bpf_hear(bpf, NULL);
    heard = 0;
    limit(0, ALL, ALL);
    clock_gettime(CLOCK_BOOTTIME, &before);
    ends(inside(body_refused));
    clock_gettime(CLOCK_BOOTTIME, &after);
    assert_int_equal(box->refused, 3);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 1000), 1);
    resource_bpf_hear(bpf, NULL);
    assert_true(heard >= 1); /* those close together are told by the next one's count */
    assert_int_equal(last.id, ID);
    assert_string_equal(last.row->key, "sockets.tcp");
    assert_int_equal(last.pid, box->got);
    assert_string_equal(last.comm, "greedy");
    assert_true(last.failcnt >= 1 && last.failcnt <= 3);
    assert_true(last.boot_ns / 1000000000 >= before.tv_sec);
    assert_true(last.boot_ns / 1000000000 <= after.tv_sec);
    assert_int_equal(resource_bpf_lost(bpf), 0);
}

static void body_unix(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "\0terem-test"};
    int fds[20];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0); /* 1 */
    bind(fd, (struct sockaddr *)&a, sizeof(sa_family_t) + 11);
    listen(fd, 16);
    socketpair(AF_UNIX, SOCK_DGRAM, 0, fds); /* 3 */
    socket(AF_NETLINK, SOCK_RAW, 0);         /* 4 */
    for (int i = 0; i < 8; i++) {            /* two each: itself, and the listener's */
        fds[i] = socket(AF_UNIX, SOCK_STREAM, 0);
        if (fds[i] < 0)
            box->refused += errno == ENOBUFS;
        else if (connect(fds[i], (struct sockaddr *)&a, sizeof(sa_family_t) + 11) == 0)
            box->got++;
        else
            box->wrong += errno == ECONNREFUSED;
    }
    box->done = 1;
    wait_phase(1);
}

static void test_unix(void **state)
{
    if (!works("sockets.other"))
        return;
    limit(ALL, 11, ALL);
    pid_t pid = inside(body_unix);
    wait_done(1);
    assert_int_equal(box->got, 3); /* 4, then 6, 8, 10, then 11 without its connection */
    assert_int_equal(box->wrong, 1);
    assert_int_equal(box->refused, 4);
    assert_int_equal(held("sockets.other"), 11);
    assert_int_equal(failed("sockets.other"), 5);
    next_phase(1);
    ends(pid);
    expect_held("sockets.other", 0);
}

static void body_files(void)
{
    int pair[2];
    struct rlimit r = {4096, 4096};
    setrlimit(RLIMIT_NOFILE, &r);
    wait_phase(1);
    for (int i = 0; i < 100; i++)
        if (open("/dev/null", O_RDONLY) >= 0)
            box->got++;
        else
            box->refused += errno == ENFILE;
    for (int i = 0; i < 10; i++) /* no file of its own */
        box->wrong += dup(0) < 0;
    for (int i = 0; i < 5; i++)
        if (fork() == 0)
            pause();
    box->wrong += pipe(pair) == 0 || errno != ENFILE;
    box->done = 1;
    wait_phase(2);
    _exit(0); /* the children have them still */
}

static void test_files(void **state)
{
    if (!works("files"))
        return;
    pid_t pid = inside(body_files);
    pause_ms(50);
    uint64_t before = held("files");
    limit(ALL, ALL, before + 64);
    next_phase(1);
    wait_done(1);
    assert_int_equal(box->got, 64);
    assert_int_equal(box->refused, 36);
    assert_int_equal(box->wrong, 0);
    assert_int_equal(held("files"), before + 64);
    assert_int_equal(failed("files"), 37); /* with the pipe */
    limit(ALL, ALL, ALL);
    resource_bpf_close(bpf); /* nobody of Terem is alive */
    next_phase(2);
    ends(pid);
    open_bpf();
    assert_int_equal(held("files"), before + 64);
    assert_int_equal(resource_kill(node, ID, 5000, NULL), 0);
    expect_held("files", 0);
}

static int range(int fd, int command, short type, long start, long len)
{
    struct flock f = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(fd, command, &f);
}

static int scratch(void)
{
    return open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static void body_locks(void)
{
    int a = scratch(), b = scratch();
    box->wrong += flock(a, LOCK_SH) != 0;                    /* 1 */
    box->wrong += flock(a, LOCK_SH) != 0;                    /* has it already */
    box->wrong += flock(a, LOCK_EX) != 0;                    /* another one for it */
    box->wrong += range(a, F_SETLK, F_WRLCK, 0, 10) != 0;    /* 2 */
    box->wrong += range(a, F_SETLK, F_WRLCK, 20, 10) != 0;   /* 3 */
    box->wrong += range(b, F_OFD_SETLK, F_RDLCK, 0, 1) != 0; /* 4 */
    box->done = 1;
    wait_phase(1);
    box->refused += range(b, F_SETLK, F_WRLCK, 50, 1) < 0 && errno == ENOLCK;
    box->refused += flock(b, LOCK_EX) < 0 && errno == ENOLCK;
    box->wrong += range(a, F_SETLK, F_UNLCK, 4, 2) != 0; /* 5: cut in two */
    box->done = 2;
    wait_phase(2);
    box->wrong += range(a, F_SETLK, F_WRLCK, 0, 0) != 0; /* 3: joined */
    box->done = 3;
    wait_phase(3);
    pid_t pid = fork();
    if (pid == 0) { /* waits for its parent's, and is ended */
        range(a, F_SETLKW, F_WRLCK, 0, 1);
        _exit(0);
    }
    box->error = pid;
    box->done = 4;
    wait_phase(4);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    box->done = 5;
    wait_phase(5);
    close(a);
    box->done = 6;
    wait_phase(6);
}

static void test_locks(void **state)
{
    struct param_set set = set_of(ALL, ALL, ALL);
    if (!works("file-locks"))
        return;
    pid_t pid = inside(body_locks);
    wait_done(1);
    assert_int_equal(box->wrong, 0);
    assert_int_equal(held("file-locks"), 4);
    param_set_put(&set, param_find("file-locks"), (struct param_value){.n = 4});
    assert_int_equal(resource_bpf_apply(bpf, ID, &set, true, NULL), 0);
    next_phase(1);
    wait_done(2);
    assert_int_equal(box->refused, 2);
    assert_int_equal(failed("file-locks"), 2);
    assert_int_equal(held("file-locks"), 5);
    limit(ALL, ALL, ALL);
    next_phase(2);
    wait_done(3);
    assert_int_equal(box->wrong, 0);
    assert_int_equal(held("file-locks"), 3);
    next_phase(3);
    wait_done(4);
    expect_held("file-locks", 4); /* one waits */
    next_phase(4);
    wait_done(5);
    expect_held("file-locks", 3);
    next_phase(5);
    wait_done(6);
    expect_held("file-locks", 1);
    next_phase(6);
    ends(pid); /* with what it has */
    expect_held("file-locks", 0);
}

static void body_lock_swarm(void)
{
    for (int i = 0; i < SWARM; i++)
        if (fork() == 0) {
            int fd = scratch();
            alarm(60);
            wait_phase(1);
            bool got = i % 2 ? flock(fd, LOCK_EX) == 0 : range(fd, F_SETLK, F_WRLCK, 0, 1) == 0;
            __sync_fetch_and_add(got ? &box->got : &box->refused, 1);
            __sync_fetch_and_add(&box->done, 1);
            wait_phase(2);
            _exit(0);
        }
    while (wait(NULL) > 0)
        ;
}

static void test_lock_swarm(void **state)
{
    struct param_set set = set_of(ALL, ALL, ALL);
    if (!works("file-locks"))
        return;
    param_set_put(&set, param_find("file-locks"), (struct param_value){.n = 33});
    assert_int_equal(resource_bpf_apply(bpf, ID, &set, true, NULL), 0);
    pid_t pid = inside(body_lock_swarm);
    next_phase(1);
    wait_done(SWARM);
    assert_int_equal(box->got, 33);
    assert_int_equal(counter("file-locks").held.n, 33);
    assert_int_equal(counter("file-locks").maxheld.n, 33);
    assert_int_equal(failed("file-locks"), SWARM - 33);
    next_phase(2);
    ends(pid);
    expect_held("file-locks", 0);
}

/* What a birth and a look at many VEs cost; printed, not judged. */
static void test_speed(void **state)
{
    enum { N = 1000 };
    struct param_set set = set_of(100, 100, 1000);
    struct timespec t[3];
    clock_gettime(CLOCK_MONOTONIC, &t[0]);
    for (int i = 0; i < N; i++)
        assert_int_equal(resource_bpf_apply(bpf, ID, &set, true, NULL), 0);
    clock_gettime(CLOCK_MONOTONIC, &t[1]);
    for (int i = 0; i < N; i++)
        counter("sockets.tcp");
    clock_gettime(CLOCK_MONOTONIC, &t[2]);
    for (int i = 0; i < 2; i++)
        print_message("# %s: %.1f us\n", i ? "counters" : "apply",
                      ((double)(t[i + 1].tv_sec - t[i].tv_sec) * 1e9 +
                       (double)(t[i + 1].tv_nsec - t[i].tv_nsec)) /
                          1e3 / N);
}

static int lo_up(void)
{
    struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    auto_fd int fd = socket(AF_INET, SOCK_DGRAM, 0);
    return fd < 0 ? -1 : ioctl(fd, SIOCSIFFLAGS, &r);
}

#define EACH(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
static int run_all(void)
{
    struct err e = {0};
    box = mmap(NULL, sizeof(*box), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (box == MAP_FAILED || unshare(CLONE_NEWNET) < 0 || lo_up() < 0) {
        printf("1..0 # SKIP needs root\n");
        return 0;
    }
    if (resource_node_open(name, &node, &e) < 0 || resource_bpf_open(node, dir, &bpf, &e) < 0) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    const char *why;
    if (resource_bpf_row(bpf, param_find("sockets.tcp"), &why) != RESOURCE_BPF_LIMITED)
        fprintf(stderr, "# sockets.tcp: %s\n", why);
    const struct CMUnitTest tests[] = {
        EACH(test_tcp),        EACH(test_accepted), EACH(test_accepted_limit), EACH(test_swarm),
        EACH(test_udp),        EACH(test_survives), EACH(test_once),           EACH(test_sysctl),
        EACH(test_events),     EACH(test_unix),     EACH(test_files),          EACH(test_locks),
        EACH(test_lock_swarm), EACH(test_speed),
    };
    int r = cmocka_run_group_tests_name("bpf", tests, NULL, NULL);
    resource_bpf_close(bpf);
    resource_node_close(node);
    return r;
}

static int clean_up(void)
{
    struct err e = {0};
    if (resource_node_open(name, &node, &e) < 0)
        return 0;
    resource_kill(node, ID, 5000, NULL);
    resource_remove(node, ID, NULL);
    bool left = resource_bpf_remove(dir, &e) < 0 || resource_node_remove(node, &e) < 0;
    if (left)
        fprintf(stderr, "%s\n", e.text);
    resource_node_close(node);
    return left;
}

int main(void)
{
    str_print(name, sizeof(name), "terem-test-%d", (int)getpid());
    str_print(dir, sizeof(dir), "/tmp/%s-bpf", name);
    signal(SIGTERM, SIG_IGN); /* of a test runner that gave up: the child dies of it, we clean */
    signal(SIGINT, SIG_IGN);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGTERM, SIG_DFL);
        signal(SIGINT, SIG_DFL);
        int r = run_all();
        fflush(NULL);
        _exit(r ? 1 : 0);
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 1;
    return clean_up() || !WIFEXITED(status) || WEXITSTATUS(status);
}
