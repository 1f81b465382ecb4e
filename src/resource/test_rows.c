/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the rows of cgroups hold back, how they are changed while the VE runs, what is told of them.
 */
#include "resource/test_stage.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void body_spin(void *ctx)
{
    for (;;)
        ++*ticks;
}

static void body_bomb(void *ctx)
{
    for (unsigned n = 0; n < 1000; n++) {
        pid_t pid = fork();
        if (pid < 0) {
            *ticks = errno == EAGAIN ? n + 1 : 9999;
            break;
        }
        if (pid == 0)
            break;
    }
    for (;;)
        pause();
}

static void body_hold(void *ctx)
{
    size_t size = *(size_t *)ctx;
    volatile char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        _exit(102);
    for (size_t i = 0; i < size; i += 4096)
        p[i] = 1;
    ++*ticks;
    for (;;)
        pause();
}

static void test_fork_bomb(void **state)
{
    if (!has("pids"))
        return;
    struct resource_cgroups c;
    struct resource_usage u;
    struct param_set set = set_of("processes=20", NULL, NULL);
    make(1, &set, &c);
    pid_t pid = run(&c, true, body_bomb, NULL);
    wait_ticks(1);
    assert_int_equal(*ticks, 20); /* itself and 19 children; the 20th fork was refused */
    assert_int_equal(resource_usage(node, 1, RESOURCE_ALL, &u, NULL), 0);
    assert_true(u.has_pids);
    assert_int_equal(u.pids, 20);
    assert_true(resource_populated(node, 1));
    assert_int_equal(resource_kill(node, 1, 60000, NULL), 0);
    assert_false(resource_populated(node, 1));
    reap(pid, NULL);
    assert_int_equal(resource_remove(node, 1, NULL), 0);
    resource_cgroups_done(&c);
}

static void test_memory_hog(void **state)
{
    if (!has("memory"))
        return;
    struct resource_cgroups c;
    struct resource_usage u;
    size_t much = 256 * MIB;
    int status;
    struct param_set set = set_of("memory.limit=32M", NULL, NULL);
    make(2, &set, &c);
    pid_t quiet = run(&c, true, body_tick, NULL);
    wait_ticks(1);
    pid_t hog = run(&c, true, body_hold, &much);
    reap(hog, &status);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(resource_usage(node, 2, RESOURCE_ALL, &u, NULL), 0);
    assert_true(u.has_memory && u.memory_max_bytes <= 32 * MIB && u.memory_max_bytes > 16 * MIB);
    assert_int_equal(u.oom_kills, 1);
    assert_int_equal(kill(quiet, 0), 0); /* the small neighbour in the VE lives on */
    assert_int_equal(resource_kill(node, 2, 60000, NULL), 0);
    reap(quiet, NULL);
    resource_cgroups_done(&c);
}

/* Of 100 ms each, in which the kernel gave the VE its quota anew. */
static double periods(int64_t id)
{
    char text[2000];
    double n = -1;
    read_ve(id, "cpu", "cpu.stat", "cpu.stat", text, sizeof(text));
    const char *line = strstr(text, "nr_periods ");
    assert_non_null(line);
    assert_int_equal(sscanf(line, "nr_periods %lf", &n), 1);
    return n;
}

static void test_cpu_limit(void **state)
{
    if (!has("cpu"))
        return;
    struct resource_cgroups c;
    struct resource_usage before, after;
    char text[64];
    pid_t pids[2];
    struct param_set set = set_of("cpu.limit=20", NULL, NULL);
    make(3, &set, &c);
    read_ve(3, "cpu", "cpu.max", "cpu.cfs_quota_us", text, sizeof(text));
    assert_true(str_eq(text, "20000") || str_eq(text, "20000 100000"));
    for (size_t i = 0; i < 2; i++)
        pids[i] = run(&c, true, body_spin, NULL);
    wait_ticks(1);
    double start = periods(3);
    resource_usage(node, 3, RESOURCE_ALL, &before, NULL);
    pause_ms(1000);
    resource_usage(node, 3, RESOURCE_ALL, &after, NULL);
    double given = periods(3) - start, used = (double)(after.cpu_usec - before.cpu_usec) / 1e6;
    assert_true(before.has_cpu && after.has_cpu);
    print_message("# cpu.limit=20: %.3f s used in %.0f periods\n", used, given);
    /* By the kernel's own clock: an emulated machine may stand still for a while.  One period more
     * at either edge, and a slice of 5 ms that each of two cores may have taken along. */
    assert_true(used < 0.020 * (given + 2) + 0.010);
    assert_int_equal(resource_kill(node, 3, 60000, NULL), 0);
    for (size_t i = 0; i < 2; i++)
        reap(pids[i], NULL);
    resource_cgroups_done(&c);
}

static void test_apply(void **state)
{
    if (!has("pids") || !has("cpu"))
        return;
    struct resource_cgroups c;
    char text[64];
    struct param_set one = set_of("cpu.limit=50", "processes=30", NULL);
    struct param_set two = set_of("cpu.limit=12.5", "processes=unlimited", "memory.limit=64M");
    struct param_set none = set_of("cpu.limit=unlimited", "memory.limit=unlimited", NULL);
    make(4, &one, &c);
    assert_int_equal(resource_apply(node, 4, &one, &two, false, NULL), 0);
    read_ve(4, "cpu", "cpu.max", "cpu.cfs_quota_us", text, sizeof(text));
    assert_true(str_starts(text, "12500"));
    read_ve(4, "pids", "pids.max", "pids.max", text, sizeof(text));
    assert_string_equal(text, "max");
    read_ve(4, "memory", "memory.max", "memory.limit_in_bytes", text, sizeof(text));
    assert_string_equal(text, "67108864");
    assert_int_equal(resource_apply(node, 4, &two, &none, false, NULL), 0);
    read_ve(4, "cpu", "cpu.max", "cpu.cfs_quota_us", text, sizeof(text));
    assert_true(str_eq(text, "-1") || str_eq(text, "max 100000"));
    read_ve(4, "pids", "pids.max", "pids.max", text, sizeof(text));
    assert_string_equal(text, "4096"); /* the default, since it was not given */
    assert_int_equal(resource_apply(node, 44, &one, &two, false, NULL), -ERR_NOT_FOUND);
    resource_cgroups_done(&c);
}

static void test_apply_rolls_back(void **state)
{
    if (!has("memory") || !has("cpu"))
        return;
    struct resource_cgroups c;
    struct err e = {0};
    char text[64];
    size_t held = 64 * MIB;
    struct param_set one = set_of("cpu.limit=50", "memory.limit=128M", "processes=30");
    struct param_set two = set_of("cpu.limit=20", "memory.limit=16M", "processes=40");
    struct param_set three = set_of("cpu.limit=20", "memory.limit=96M", "processes=40");
    make(5, &one, &c);
    pid_t pid = run(&c, true, body_hold, &held);
    wait_ticks(1);
    assert_int_equal(resource_apply(node, 5, &one, &two, false, &e), -ERR_STATE);
    print_message("# %s\n", e.text);
    assert_true(str_starts(e.text, "memory.limit 16M is below the 6"));
    assert_non_null(
        strstr(e.text, "M in use, which cannot be given back: processes inside would be killed"));
    read_ve(5, "cpu", "cpu.max", "cpu.cfs_quota_us", text, sizeof(text));
    assert_true(str_starts(text, "50000"));
    read_ve(5, "memory", "memory.max", "memory.limit_in_bytes", text, sizeof(text));
    assert_string_equal(text, "134217728");
    read_ve(5, "pids", "pids.max", "pids.max", text, sizeof(text));
    assert_string_equal(text, "30");
    assert_int_equal(kill(pid, 0), 0);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0); /* it was not killed */
    assert_int_equal(resource_apply(node, 5, &one, &three, false, NULL), 0);
    assert_int_equal(resource_kill(node, 5, 60000, NULL), 0);
    reap(pid, NULL);
    resource_cgroups_done(&c);
}

/* A burst is bounded by the quota, and v1's memsw is above the limit: either order must work. */
static void test_rows_that_bound_each_other(void **state)
{
    if (!has("cpu") || !has("memory"))
        return;
    struct resource_cgroups c;
    struct err e = {0};
    char text[64];
    struct param_set high = set_of("cpu.limit=80", "cpu.burst=70ms", "memory.limit=128M");
    struct param_set low = set_of("cpu.limit=10", "cpu.burst=5ms", "memory.limit=64M");
    struct param_set bad = low;
    for (int i = 0; i < 2; i++)
        assert_int_equal(param_set_parse(i ? &low : &high, "swap.limit=8M", NULL), 0);
    if (resource_check(node, &low, NULL) < 0) { /* swap is not accounted here */
        high = set_of("cpu.limit=80", "cpu.burst=70ms", "memory.limit=128M");
        low = bad;
    }
    assert_int_equal(param_set_parse(&bad, "cpu.burst=11ms", NULL), 0); /* rules.c refuses it */
    make(14, &low, &c);
    for (int i = 0; i < 3; i++) {
        if (resource_apply(node, 14, &low, &high, false, &e) < 0 ||
            resource_apply(node, 14, &high, &low, false, &e) < 0)
            fail_msg("%s", e.text);
    }
    assert_int_equal(resource_apply(node, 14, &low, &high, false, NULL), 0);
    assert_true(resource_apply(node, 14, &high, &bad, false, &e) < 0);
    assert_true(str_starts(e.text, "cpu."));
    read_ve(14, "cpu", "cpu.max.burst", "cpu.cfs_burst_us", text, sizeof(text));
    assert_string_equal(text, "70000");
    read_ve(14, "memory", "memory.max", "memory.limit_in_bytes", text, sizeof(text));
    assert_string_equal(text, "134217728"); /* all is as it was */
    resource_cgroups_done(&c);
}

static void nobody_hears(void *ctx, int64_t id, const struct param_row *row, uint64_t now)
{
}

static int refusals_without(const char *what, const struct param_set *set, char *text)
{
    char path[64];
    struct err e = {0};
    struct resource_refusals *r = NULL;
    int fd;
    str_print(path, sizeof(path), "/proc/sys/user/max_inotify_%s", what);
    if (unshare(CLONE_NEWUSER) < 0 || fd_write_value_at(AT_FDCWD, path, &e, "0") < 0 ||
        (resource_refusals_open(node, nobody_hears, NULL, &r, &fd, &e) == 0 &&
         resource_refusals_watch(r, 1, set, &e) == 0))
        return 1;
    str_print(text, 4096, "%s", e.text);
    return e.kind != ERR_EXHAUSTED;
}

/* In a user namespace of its own, which may have none of either. */
static void test_inotify_runs_out(void **state)
{
    struct param_set set = set_of("hugepages.limit=0", NULL, NULL);
    struct resource_cgroups c;
    static const char *const whats[] = {"instances", "watches"};
    char *text = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!has("hugetlb"))
        return;
    assert_ptr_not_equal(text, MAP_FAILED);
    make(1, &set, &c);
    resource_cgroups_done(&c);
    for (size_t i = 0; i < ARRAY_SIZE(whats); i++) {
        char wanted[80];
        int status = 0;
        pid_t pid = fork();
        if (pid == 0)
            _exit(refusals_without(whats[i], &set, text));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        str_print(wanted, sizeof(wanted), "; raise the sysctl fs.inotify.max_user_%s", whats[i]);
        assert_non_null(strstr(text, wanted));
    }
    munmap(text, 4096);
}

/* A failure of ours is not taken for a VE that is gone. */
static void test_usage_fails(void **state)
{
    struct param_set set = set_of("processes=20", NULL, NULL);
    struct resource_cgroups c;
    struct resource_usage u;
    struct rlimit was, none;
    make(1, &set, &c);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    none = (struct rlimit){0, was.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int r = resource_usage(node, 1, RESOURCE_ALL, &u, NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    assert_int_equal(r, -ERR_EXHAUSTED);
    assert_int_equal(resource_usage(node, 44, RESOURCE_ALL, &u, NULL), -ERR_NOT_FOUND);
    resource_cgroups_done(&c);
}

static int tests(void)
{
    const struct CMUnitTest list[] = {
        EACH(test_fork_bomb),        EACH(test_memory_hog),
        EACH(test_cpu_limit),        EACH(test_apply),
        EACH(test_apply_rolls_back), EACH(test_rows_that_bound_each_other),
        EACH(test_inotify_runs_out), EACH(test_usage_fails),
    };
    return cmocka_run_group_tests_name("resource-rows", list, NULL, NULL);
}

int main(void)
{
    return stage_main(tests);
}
