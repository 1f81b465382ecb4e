/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test_resource — on the kernel at hand, as root, in cgroups named terem-test-<pid>.
 *
 * A child runs the tests; its parent removes every cgroup and process of theirs, however the
 * child ended.
 */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "resource/node.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#define VE_UID 1700000
#define MIB    (1024 * 1024)

static char node_name[NAME_SIZE];
static struct resource_node *node;
static volatile unsigned *ticks; /* shared with the children */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void pause_ms(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static struct param_set set_of(const char *a, const char *b, const char *c)
{
    const char *all[] = {a, b, c};
    struct param_set set;
    param_set_init(&set);
    for (size_t i = 0; i < 3; i++)
        if (all[i])
            assert_int_equal(param_set_parse(&set, all[i], NULL), 0);
    return set;
}

static void make(int64_t id, const struct param_set *set, struct resource_cgroups *ret)
{
    struct err e = {0};
    if (resource_create(node, id, set, VE_UID, VE_UID, ret, &e) < 0)
        fail_msg("%s", e.text);
}

/* Runs body() in the VE's cgroups. */
static pid_t run(const struct resource_cgroups *c, bool v2_too, void (*body)(void *), void *ctx)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* should the code under test not kill us */
    alarm(60);
    for (size_t i = 0; i < c->n_v1; i++)
        if (write(c->v1_procs[i], "0", 1) != 1)
            _exit(100);
    if (v2_too && cgroup_write(c->v2, "cgroup.procs", NULL, "0") < 0)
        _exit(101);
    body(ctx);
    _exit(0);
}

static void reap(pid_t pid, int *ret_status)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (ret_status)
        *ret_status = status;
}

static void wait_ticks(unsigned least)
{
    for (int i = 0; i < 60000 && *ticks < least; i++)
        pause_ms(1);
    assert_true(*ticks >= least);
}

static void read_ve(int64_t id, const char *controller, const char *v2_file, const char *v1_file,
                    char *buf, size_t size)
{
    for (size_t i = 0; i < node->n_controllers; i++) {
        auto_fd int fd = -1;
        const struct controller *c = &node->controller[i];
        if (strcmp(c->name, controller) != 0)
            continue;
        assert_int_equal(ve_open(node, c->branch, id, &fd, NULL), 0);
        assert_int_equal(
            cgroup_read(fd, c->where == RESOURCE_V2 ? v2_file : v1_file, buf, size, NULL), 0);
    }
}

static bool has(const char *controller)
{
    if (resource_controller(node, controller) != RESOURCE_ABSENT)
        return true;
    print_message("# skipped: controller %s: %s\n", controller,
                  resource_why_absent(node, controller));
    return false;
}

static int each_setup(void **state)
{
    *ticks = 0;
    return 0;
}

static int each_teardown(void **state)
{
    auto_free int64_t *ids = NULL;
    size_t n = 0;
    resource_list(node, &ids, &n, NULL);
    for (size_t i = 0; i < n; i++) {
        resource_kill(node, ids[i], 60000, NULL);
        resource_remove(node, ids[i], NULL);
    }
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    return 0;
}

static void body_tick(void *ctx)
{
    for (;;) {
        ++*ticks;
        pause_ms(1);
    }
}

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

static void test_freeze_and_kill(void **state)
{
    struct resource_cgroups c;
    struct param_set set = set_of(NULL, NULL, NULL);
    make(6, &set, &c);
    pid_t pid = run(&c, true, body_tick, NULL);
    wait_ticks(3);
    assert_int_equal(resource_freeze(node, 6, true, 60000, NULL), 0);
    unsigned at = *ticks;
    pause_ms(50);
    assert_int_equal(*ticks, at);
    assert_int_equal(resource_freeze(node, 6, false, 60000, NULL), 0);
    wait_ticks(at + 3);
    assert_int_equal(resource_freeze(node, 6, true, 60000, NULL), 0);
    double start = now();
    assert_int_equal(resource_kill(node, 6, 60000, NULL), 0);
    print_message("# killing a frozen VE: %.2f ms\n", (now() - start) * 1000);
    int status;
    reap(pid, &status);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(resource_remove(node, 6, NULL), 0);
    assert_int_equal(resource_kill(node, 6, 100, NULL), 0); /* nothing there, nothing to kill */
    assert_int_equal(resource_freeze(node, 6, true, 100, NULL), -ERR_NOT_FOUND);
    resource_cgroups_done(&c);
}

/* A process whose birth was cut short is in v1 alone: cgroup.kill does not reach it. */
static void test_kill_half_born(void **state)
{
    struct resource_cgroups c;
    struct param_set set = set_of(NULL, NULL, NULL);
    make(7, &set, &c);
    if (c.n_v1 == 0) {
        print_message("# skipped: no cgroup of version 1 here; the host's unit tests have them\n");
        resource_cgroups_done(&c);
        return;
    }
    pid_t pid = run(&c, false, body_tick, NULL);
    wait_ticks(1);
    assert_true(resource_populated(node, 7));
    struct err e = {0};
    assert_int_equal(resource_remove(node, 7, &e), -ERR_BUSY);
    assert_int_equal(resource_kill(node, 7, 60000, NULL), 0);
    reap(pid, NULL);
    assert_int_equal(resource_remove(node, 7, NULL), 0);
    resource_cgroups_done(&c);
}

static void make_below(int fd, unsigned depth)
{
    static const char *const names[] = {"init.scope", "system.slice", "user.slice"};
    for (size_t i = 0; depth && i < ARRAY_SIZE(names); i++) {
        auto_fd int child = -1;
        assert_int_equal(cgroup_make(fd, names[i], &child, NULL), 0);
        make_below(child, depth - 1);
    }
}

static void test_remove_nested(void **state)
{
    struct resource_cgroups c, again;
    struct err e = {0};
    struct param_set set = set_of(NULL, NULL, NULL);
    make(8, &set, &c);
    make_below(c.v2, 4);
    pid_t pid = run(&c, true, body_tick, NULL);
    wait_ticks(1);
    assert_int_equal(resource_remove(node, 8, &e), -ERR_BUSY);
    assert_non_null(strstr(e.text, "there are processes in it"));
    assert_int_equal(faccessat(c.v2, "user.slice/user.slice", F_OK, 0), 0); /* nothing was taken */
    kill(pid, SIGKILL);
    assert_int_equal(resource_remove(node, 8, NULL), 0); /* while it is dying */
    reap(pid, NULL);
    assert_int_equal(resource_open(node, 8, &again, NULL), -ERR_NOT_FOUND);
    assert_int_equal(resource_remove(node, 8, NULL), 0);
    resource_cgroups_done(&c);
}

static void body_delegate(void *ctx)
{
    const struct resource_cgroups *c = ctx;
    if (setresgid(VE_UID, VE_UID, VE_UID) < 0 || setresuid(VE_UID, VE_UID, VE_UID) < 0)
        _exit(1);
    if (mkdirat(c->v2, "mine", 0755) < 0 || cgroup_write(c->v2, "mine/cgroup.procs", NULL, "0") < 0)
        _exit(2);
    /* Not ours: the limits, the parent, the bounds. */
    if (mkdirat(c->v2, "../ve-99", 0755) == 0)
        _exit(3);
    if (cgroup_write(c->v2, "cgroup.freeze", NULL, "1") == 0 ||
        cgroup_write(c->v2, "cgroup.kill", NULL, "1") == 0 ||
        cgroup_write(c->v2, "cgroup.max.descendants", NULL, "max") == 0 ||
        cgroup_write(c->v2, "../cgroup.procs", NULL, "0") == 0)
        _exit(4);
    /* And no end of cgroups. */
    for (int i = 0;; i++) {
        char name[32];
        str_print(name, sizeof(name), "mine/%d", i);
        if (mkdirat(c->v2, name, 0755) < 0)
            _exit(errno == EAGAIN && i > 100 && i < 4000 ? 0 : 5);
    }
}

static void test_delegation(void **state)
{
    struct resource_cgroups c;
    int status;
    struct param_set set = set_of(NULL, NULL, NULL);
    make(9, &set, &c);
    pid_t pid = run(&c, true, body_delegate, &c);
    reap(pid, &status);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    double start = now();
    assert_int_equal(resource_remove(node, 9, NULL), 0);
    print_message("# removing 2048 cgroups: %.0f ms\n", (now() - start) * 1000);
    resource_cgroups_done(&c);
}

static void test_list_and_reopen(void **state)
{
    struct resource_cgroups c = RESOURCE_CGROUPS_NONE, d = RESOURCE_CGROUPS_NONE;
    struct err e = {0};
    auto_free int64_t *ids = NULL;
    size_t n;
    struct param_set set = set_of("processes=33", NULL, NULL), other = set_of(NULL, NULL, NULL);
    char text[64];
    make(300, &set, &c);
    make(20, &set, &d);
    resource_cgroups_done(&d);
    resource_cgroups_done(&d);
    assert_int_equal(resource_create(node, 300, &other, 0, 0, &d, &e), -ERR_EXISTS);
    assert_int_equal(resource_open(node, 300, &d, NULL), 0);
    assert_int_equal(c.n_v1, d.n_v1);
    if (resource_controller(node, "pids") != RESOURCE_ABSENT) {
        read_ve(300, "pids", "pids.max", "pids.max", text, sizeof(text));
        assert_string_equal(text, "33");
    }
    assert_int_equal(resource_list(node, &ids, &n, NULL), 0);
    assert_int_equal(n, 2);
    assert_int_equal(ids[0], 20);
    assert_int_equal(ids[1], 300);
    assert_int_equal(resource_node_remove(node, &e), -ERR_BUSY);
    assert_non_null(strstr(e.text, "still holds 2 VEs"));
    assert_false(resource_populated(node, 300));
    assert_false(resource_populated(node, 301));
    resource_cgroups_done(&c);
    resource_cgroups_done(&d);
    struct resource_cgroups zeroed = {0};
    resource_cgroups_done(&zeroed);
    assert_true(fcntl(0, F_GETFD) >= 0); /* standard input is still open */
}

/* The VE's root must be able to search the way to its own cgroup. */
static void test_modes(void **state)
{
    struct resource_cgroups c;
    struct param_set set = set_of(NULL, NULL, NULL);
    mode_t mask = umask(077);
    make(11, &set, &c);
    umask(mask);
    for (size_t i = 0; i < node->n_branches; i++) {
        auto_fd int fd = -1;
        struct stat st;
        assert_int_equal(ve_open(node, i, 11, &fd, NULL), 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0755);
    }
    struct stat st;
    assert_int_equal(fstat(c.v2, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    resource_cgroups_done(&c);
}

/* Left behind in one hierarchy by a crash: found, and removed. */
static void test_half_made(void **state)
{
    struct resource_cgroups c;
    struct param_set set = set_of(NULL, NULL, NULL);
    auto_free int64_t *ids = NULL;
    size_t n, last = node->n_branches - 1;
    assert_int_equal(mkdirat(node->branch[last].fd, "ve-10", 0755), 0);
    assert_int_equal(resource_list(node, &ids, &n, NULL), 0);
    assert_int_equal(n, 1);
    assert_int_equal(resource_open(node, 10, &c, NULL), -ERR_NOT_FOUND);
    assert_int_equal(resource_create(node, 10, &set, 0, 0, &c, NULL), -ERR_EXISTS);
    /* What was there stays, what was made on the way is gone. */
    assert_int_equal(faccessat(node->branch[last].fd, "ve-10", F_OK, 0), 0);
    if (last)
        assert_int_equal(faccessat(node->branch[0].fd, "ve-10", F_OK, 0), -1);
    assert_int_equal(resource_remove(node, 10, NULL), 0);
    assert_int_equal(faccessat(node->branch[last].fd, "ve-10", F_OK, 0), -1);
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void test_speed(void **state)
{
    enum { ROUNDS = 100 };
    double made[ROUNDS], removed[ROUNDS];
    struct param_set set = set_of("processes=50", "memory.limit=64M", "cpu.limit=50");
    for (int i = 0; i < ROUNDS; i++) {
        struct resource_cgroups c;
        double start = now();
        make(1000 + i, &set, &c);
        made[i] = now() - start;
        resource_cgroups_done(&c);
        start = now();
        assert_int_equal(resource_remove(node, 1000 + i, NULL), 0);
        removed[i] = now() - start;
    }
    qsort(made, ROUNDS, sizeof(double), compare_double);
    qsort(removed, ROUNDS, sizeof(double), compare_double);
    print_message("# median create %.0f us, remove %.0f us\n", made[ROUNDS / 2] * 1e6,
                  removed[ROUNDS / 2] * 1e6);
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

static int run_all(void)
{
    struct err e = {0};
    if (resource_node_open(node_name, &node, &e) < 0) {
        printf("1..0 # SKIP %s\n", e.text);
        return 0;
    }
    ticks = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
#define EACH(f) cmocka_unit_test_setup_teardown(f, each_setup, each_teardown)
    const struct CMUnitTest tests[] = {
        EACH(test_fork_bomb),
        EACH(test_memory_hog),
        EACH(test_cpu_limit),
        EACH(test_apply),
        EACH(test_apply_rolls_back),
        EACH(test_rows_that_bound_each_other),
        EACH(test_freeze_and_kill),
        EACH(test_kill_half_born),
        EACH(test_remove_nested),
        EACH(test_delegation),
        EACH(test_list_and_reopen),
        EACH(test_half_made),
        EACH(test_modes),
        EACH(test_speed),
        EACH(test_inotify_runs_out),
        EACH(test_usage_fails),
    };
    int r = cmocka_run_group_tests_name("resource", tests, NULL, NULL);
    resource_node_close(node);
    return r;
}

static int clean_up(void)
{
    struct err e = {0};
    if (resource_node_open(node_name, &node, &e) < 0)
        return 0;
    each_teardown(NULL);
    int r = resource_node_remove(node, &e);
    if (r < 0)
        fprintf(stderr, "%s\n", e.text);
    resource_node_close(node);
    return r < 0;
}

int main(void)
{
    str_print(node_name, sizeof(node_name), "terem-test-%d", (int)getpid());
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
