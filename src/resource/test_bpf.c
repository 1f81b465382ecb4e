/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sockets of TCP and UDP, refusals told as events, and what BPF keeps from being written. */
#include "resource/test_bpf_stage.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

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

/* Terem was upgraded: what the kernel refused of an earlier edition is not kept. */
static void test_upgraded(void **state)
{
    static const char *const refused[] = {"refused-object-0", "refused-lock-0", "refused-refusal-0",
                                          "refused-ucount-0"};
    auto_fd int fd = open(bpffs(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    assert_true(fd >= 0);
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
        assert_int_equal(symlinkat("the reason", fd, refused[i]), 0);
    resource_bpf_close(bpf);
    open_bpf();
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
        assert_int_equal(fstatat(fd, refused[i], &st, AT_SYMLINK_NOFOLLOW), -1);
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

static int tests(void)
{
    const struct CMUnitTest list[] = {
        EACH(test_tcp),    EACH(test_accepted), EACH(test_accepted_limit), EACH(test_swarm),
        EACH(test_udp),    EACH(test_survives), EACH(test_once),           EACH(test_sysctl),
        EACH(test_events), EACH(test_speed),    EACH(test_upgraded),
    };
    return cmocka_run_group_tests_name("bpf", list, NULL, NULL);
}

int main(void)
{
    return stage_main(tests);
}
