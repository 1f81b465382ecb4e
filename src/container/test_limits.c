/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a VE may take of things that namespaces, rlimits and mounts bound: over all its users, not
 * to be raised from inside, changed while it runs. */
#include "container/test_fixture.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MiB (UINT64_C(1) << 20)

static const struct container_limits small = {
    .namespaces = 3,
    .inotify_instances = 20,
    .inotify_watches = 30,
    .ipc_queues = 4,
    .ipc_semaphores = 50,
    .ipc_segments = 5,
    .shared = 4 * MiB,
    .signals = 40,
    .locked = 2 * MiB,
    .nofile = 60,
    .ptys = 3,
    .sockets = UINT64_MAX,
};

static int setup(void **state)
{
    static struct fixture f;
    const char *why = NULL;
    struct err e = {0};
    if (!fixture_make(&f, &why)) {
        print_error("%s\n", why);
    } else {
        struct container_plan plan = fixture_plan(&f);
        plan.limits = &small;
        *state = &f;
        if (fixture_boot(&f, &plan, &e) == 0)
            return 0;
        print_error("%s\n", e.text);
    }
    fixture_remove(&f);
    return -1;
}

static int teardown(void **state)
{
    fixture_remove(*state);
    return 0;
}

static void run(struct fixture *f, const struct container_limits *l, const char *what,
                const char *each, const char *users)
{
    struct err e = {0};
    const char *argv[] = {"use", what, each, users, NULL};
    struct container_exec x = fixture_exec_of(f, argv);
    x.limits = l;
    if (fixture_run(f, &x, &e) != 0)
        fail_msg("%s: %s%s", what, f->output, e.text);
}

static int got(struct fixture *f, const struct container_limits *l, const char *what,
               const char *each, const char *users)
{
    int n = -1;
    run(f, l, what, each, users);
    assert_int_equal(sscanf(f->output, "%d ", &n), 1);
    return n;
}

static void expect(struct fixture *f, const char *what, const char *each, const char *users,
                   const char *text)
{
    char line[64];
    str_print(line, sizeof(line), "%s\n", text);
    /* What the last ones had is given back a moment after their end (namespaces, by the kernel's
     * own threads, which get the more time the longer it takes: each try makes new ones). */
    for (int i = 0; i < 200; i++) {
        run(f, &small, what, each, users);
        if (str_eq(f->output, line))
            return;
        usleep(10000 << (i < 50 ? i / 10 : 5));
    }
    fail_msg("%s by %s users: \"%s\", not \"%s\"", what, users, f->output, text);
}

static void test_sums(void **state)
{
    struct fixture *f = *state;
    /* One user alone gets all, and ten get no more. */
    for (const char *users = "1"; users; users = str_eq(users, "1") ? "10" : NULL) {
        expect(f, "inotify", "100", users, "20 EMFILE");
        expect(f, "watches", "100", users, "30 ENOSPC");
        expect(f, "user", "100", users, "3 ENOSPC");
        expect(f, "signals", "100", users, "40 EAGAIN");
    }
    static const char *const types[] = {"net", "mnt", "ipc", "uts", "cgroup", "pid", "time"};
    for (size_t i = 0; i < ARRAY_SIZE(types); i++)
        expect(f, types[i], "100", "1", "3 ENOSPC");
}

/* Objects that outlive who made them: each is in the way of the next run. */
static void test_ipc(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    expect(f, "queues", "3", "10", "4 ENOSPC");
    expect(f, "posix-queues", "3", "10", "4 ENOSPC");
    expect(f, "semaphores", "3", "10", "5 ENOSPC"); /* of ten each */
    expect(f, "shared", "100", "1", "4 ENOSPC");
    struct container_ipc ipc;
    if (container_count_ipc(f->ve.pidfd, &ipc, &e) < 0)
        fail_msg("%s", e.text);
    assert_true(ipc.queues == 4 && ipc.semaphores == 50 && ipc.segments == 4);
    expect(f, "segments", "100", "1", "0 ENOSPC"); /* no page is left */
    assert_int_equal(fixture_exec(f, "cat /proc/sys/kernel/shmmni /proc/sys/kernel/shmmax", &e), 0);
    assert_string_equal(f->output, "5\n4194304\n");
}

static void test_locked_segments(void **state)
{
    struct fixture *f = *state;
    /* Of each user only: the kernel compares the pages of all with the limit in bytes (6.18,
     * user_shm_lock()). */
    run(f, &small, "locked-segments", "3", "1");
    assert_string_equal(f->output, "2 ENOMEM\n");
}

static void test_segments(void **state)
{
    struct fixture *f = *state;
    expect(f, "segments", "3", "10", "5 ENOSPC");
}

static void test_mounts_and_rlimits(void **state)
{
    struct fixture *f = *state;
    expect(f, "ptys", "100", "1", "3 ENOSPC");
    expect(f, "shm-files", "100", "1", "4 ENOSPC");
    expect(f, "locked", "100", "1", "2 ENOMEM");
    int n = got(f, &small, "files", "100", "1");
    assert_in_range(n, 40, 60);
    /* Each process has its own. */
    assert_int_equal(got(f, &small, "files", "100", "3"), 3 * n);
}

static void test_inside_cannot_raise(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    assert_int_equal(fixture_exec(f,
                                  "cd /proc/sys/user; for f in max_*; do "
                                  "echo 1000000 2>/dev/null >$f && echo $f; done; ulimit -n 1000 "
                                  "2>/dev/null && echo files; true",
                                  &e),
                     0);
    assert_string_equal(f->output, "files\n"); /* this exec had no limits of its own */
    expect(f, "inotify", "100", "10", "20 EMFILE");
    /* Where a root inside has every capability, in a namespace of its own: that one counts too. */
    if (fixture_exec(f,
                     "unshare -Ur sh -c 'echo 1000000 >/proc/sys/user/max_inotify_instances && "
                     "use inotify 100' 2>&1",
                     &e) != 0)
        fail_msg("%s%s", f->output, e.text);
    assert_string_equal(f->output, "20 EMFILE\n");
    expect(f, "user", "100", "10", "3 ENOSPC");
}

static void apply(struct fixture *f, const struct container_limits *old,
                  const struct container_limits *new)
{
    struct err e = {0};
    if (container_limits_apply(f->ve.pidfd, old, new, &e) < 0)
        fail_msg("%s", e.text);
}

static void test_live(void **state)
{
    struct fixture *f = *state;
    struct container_limits more = small, less = small;
    more.namespaces = 5;
    more.inotify_instances = 33;
    more.inotify_watches = 44;
    more.ipc_queues = 6;
    more.ipc_semaphores = 80;
    more.ipc_segments = 7;
    more.shared = 8 * MiB;
    less.inotify_instances = 2;
    less.shared = 1 * MiB;
    const struct container_limits *const olds[] = {&small, NULL};
    for (size_t i = 0; i < ARRAY_SIZE(olds); i++) {
        apply(f, olds[i], &more);
        expect(f, "inotify", "100", "10", "33 EMFILE");
        expect(f, "watches", "100", "10", "44 ENOSPC");
        expect(f, "user", "100", "10", "5 ENOSPC");
        expect(f, "net", "100", "1", "5 ENOSPC");
        expect(f, "shm-files", "100", "1", "8 ENOSPC");
        struct err e = {0};
        assert_int_equal(fixture_exec(f,
                                      "rm /dev/shm/*; cd /proc/sys; cat kernel/msgmni kernel/sem "
                                      "kernel/shmmni kernel/shmmax kernel/shmall "
                                      "fs/mqueue/queues_max",
                                      &e),
                         0);
        assert_string_equal(f->output, "6\n80\t80\t500\t80\n7\n8388608\n2048\n6\n");
        apply(f, i ? NULL : &more, &less);
        assert_int_equal(got(f, &small, "inotify", "100", "10"), 2);
        assert_int_equal(got(f, &small, "shm-files", "100", "1"), 1);
        assert_int_equal(fixture_exec(f, "rm /dev/shm/*", &e), 0);
    }
}

/* Files are in the way of a smaller /dev/shm: nothing else changes either. */
static void test_live_refused(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    struct container_limits less = small;
    less.inotify_instances = 50;
    less.shared = 1 * MiB;
    assert_int_equal(got(f, &small, "shm-files", "2", "1"), 2);
    assert_int_equal(container_limits_apply(f->ve.pidfd, &small, &less, &e), -ERR_STATE);
    assert_non_null(strstr(e.text, "memory.shared: files in its /dev/shm need more"));
    assert_int_equal(got(f, &small, "inotify", "100", "1"), 20);
    /* Its root hides /dev. */
    assert_int_equal(fixture_exec(f, "mount -t tmpfs t /dev && mkdir /dev/.terem /dev/pts", &e), 0);
    less.shared = 3 * MiB;
    assert_int_equal(container_limits_apply(f->ve.pidfd, &small, &less, &e), -ERR_STATE);
    assert_non_null(strstr(e.text, "is not what Terem mounted there"));
    assert_int_equal(fixture_exec(f, "umount /dev", &e), 0);
    apply(f, &small, &less);
    assert_int_equal(got(f, &small, "inotify", "100", "1"), 50);
}

static void test_check(void **state)
{
    struct container_limits l = small;
    struct err e = {0};
    assert_int_equal(container_limits_check(&l, &e), 0);
    l.namespaces = 2000000000;
    assert_int_equal(container_limits_check(&l, &e), -ERR_EXHAUSTED);
    assert_non_null(strstr(e.text, "namespaces: 2000000000 is above what this node gives"));
    l = small;
    l.namespaces = l.inotify_watches = l.locked = l.shared = UINT64_MAX;
    assert_int_equal(container_limits_check(&l, &e), 0);
    /* A node that may not raise its own. */
    struct rlimit now;
    assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &now), 0);
    l.locked = 1ull << 50;
    int r = container_limits_check(&l, &e);
    if (r < 0) {
        assert_int_equal(r, -ERR_EXHAUSTED);
        assert_non_null(strstr(e.text, "memory.locked: 1125899906842624 is above the"));
    }
}

/* From its first process on, and in what is run inside. */
static void test_dedup(void **state)
{
    static struct fixture f;
    const char *why = NULL;
    struct err e = {0};
    struct container_limits l = small;
    l.dedup = true;
    if (container_limits_check(&l, &e) < 0) {
        assert_int_equal(e.kind, ERR_UNSUPPORTED);
        assert_true(str_starts(e.text, "memory.dedup: this kernel cannot merge"));
        return;
    }
    assert_true(fixture_make(&f, &why));
    struct container_plan plan = fixture_plan(&f);
    plan.limits = &l;
    assert_int_equal(fixture_boot(&f, &plan, &e), 0);
    assert_int_equal(got(&f, &l, "merging", "1", "2"), 2);
    assert_int_equal(got(&f, &small, "merging", "1", "2"), 0);
    assert_int_equal(fixture_exec(&f, "! grep '^ksm_merge_any: no' /proc/1/ksm_stat", &e), 0);
    fixture_remove(&f);
}

static void test_gone(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    fixture_exec(f, "kill -9 -1", &e);
    struct container_started ve = f->ve;
    kill(ve.pid, SIGKILL);
    assert_int_equal(fd_pidfd_wait_exit(ve.pidfd, 60000, &e), 0);
    for (int i = 0; i < 2; i++) { /* as a zombie, and reaped */
        assert_int_equal(container_limits_apply(ve.pidfd, NULL, &small, &e), -ERR_STATE);
        assert_non_null(strstr(e.text, "it has stopped"));
        waitpid(ve.pid, NULL, 0);
    }
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_sums),
        EACH(test_ipc),
        EACH(test_segments),
        EACH(test_locked_segments),
        EACH(test_mounts_and_rlimits),
        EACH(test_inside_cannot_raise),
        EACH(test_live),
        EACH(test_live_refused),
        EACH(test_gone),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_dedup),
    };
    struct fixture f;
    const char *why = NULL;
    bool ok = fixture_make(&f, &why);
    fixture_remove(&f);
    if (!ok) {
        printf("1..0 # SKIP %s\n", why);
        return 0;
    }
    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
