/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Other sockets, files and locks: what needs BPF LSM. */
#include "resource/test_bpf_stage.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

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

static int tests(void)
{
    const struct CMUnitTest list[] = {
        EACH(test_unix),
        EACH(test_files),
        EACH(test_locks),
        EACH(test_lock_swarm),
    };
    return cmocka_run_group_tests_name("bpf-files", list, NULL, NULL);
}

int main(void)
{
    return stage_main(tests);
}
