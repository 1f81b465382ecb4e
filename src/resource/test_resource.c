/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The life of a VE's cgroups: made, found again, frozen, killed, delegated, removed. */
#include "resource/test_stage.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

static int tests(void)
{
    const struct CMUnitTest list[] = {
        EACH(test_freeze_and_kill), EACH(test_kill_half_born),  EACH(test_remove_nested),
        EACH(test_delegation),      EACH(test_list_and_reopen), EACH(test_half_made),
        EACH(test_modes),           EACH(test_speed),
    };
    return cmocka_run_group_tests_name("resource", list, NULL, NULL);
}

int main(void)
{
    return stage_main(tests);
}
