/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What terem-keep is bounded by: one of it, no privileges, few descriptors, any input. */
#include "keep/test_keep_stage.h"

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
    const struct CMUnitTest tests[] = {
        T(test_second), T(test_privileges), T(test_no_descriptors), T(test_many), T(test_junk),
    };
    return stage_main(argc, argv) < 0 ? 2 : cmocka_run_group_tests(tests, NULL, NULL);
}
