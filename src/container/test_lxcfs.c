/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A real lxcfs: its files at birth, its death, its return, and a VE that moved /proc away. */
#include "container/test_assert.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct lxcfs {
    struct fixture f;
    pid_t pid;
    char dir[80], pidfile[80];
    int fd;
};

static bool start(struct lxcfs *l)
{
    l->pid = fork();
    if (l->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        dup2(null, 1);
        dup2(null, 2);
        execl("/usr/bin/lxcfs", "lxcfs", "-f", "-p", l->pidfile, l->dir, NULL);
        _exit(127);
    }
    for (int i = 0; i < 6000; i++) {
        cleanup_fd(&l->fd);
        l->fd = open(l->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (l->fd >= 0 && faccessat(l->fd, "proc/meminfo", R_OK, 0) == 0)
            return true;
        usleep(10000);
    }
    return false;
}

static void stop(struct lxcfs *l, int sig)
{
    if (l->pid > 0) {
        kill(l->pid, sig);
        waitpid(l->pid, NULL, 0);
    }
    l->pid = -1;
    cleanup_fd(&l->fd);
    umount2(l->dir, MNT_DETACH | UMOUNT_NOFOLLOW); /* what a killed one leaves */
}

static int setup(void **state)
{
    static struct lxcfs l;
    const char *why = NULL;
    l.pid = l.fd = -1;
    bool ok = fixture_make(&l.f, &why);
    str_print(l.dir, sizeof(l.dir), "%s/lxcfs", l.f.dir);
    str_print(l.pidfile, sizeof(l.pidfile), "%s/lxcfs.pid", l.f.dir);
    *state = &l;
    if (ok && mkdir(l.dir, 0755) == 0 && start(&l))
        return 0;
    print_error("%s\n", ok ? "lxcfs does not start" : why);
    stop(&l, SIGTERM);
    fixture_remove(&l.f);
    return -1;
}

static int teardown(void **state)
{
    struct lxcfs *l = *state;
    fixture_kill(&l->f);
    stop(l, SIGTERM);
    fixture_remove(&l->f);
    return 0;
}

#define COUNT_FUSE "test $(grep -c 'fuse.lxcfs' /proc/mounts) = 8"

static void test_lxcfs(void **state)
{
    struct lxcfs *l = *state;
    struct fixture *f = &l->f;
    struct err e = {0};
    struct container_plan plan = fixture_plan(f);
    plan.lxcfs = l->fd;
    assert_ok(fixture_boot(f, &plan, &e), &e);
    assert_int_equal(fixture_exec(f, COUNT_FUSE " && cat /proc/meminfo >/dev/null", &e), 0);

    stop(l, SIGKILL);
    assert_int_equal(fixture_exec(f, "cat /proc/meminfo 2>/dev/null", &e), 1);
    assert_true(start(l));
    assert_ok(container_mount_lxcfs(f->ve.pidfd, l->fd, &e), &e);
    assert_int_equal(fixture_exec(f,
                                  COUNT_FUSE " && cat /proc/meminfo >/dev/null && "
                                             "cat /sys/devices/system/cpu/online",
                                  &e),
                     0);
    /* Again, over living ones: nothing heaps up. */
    assert_ok(container_mount_lxcfs(f->ve.pidfd, l->fd, &e), &e);
    assert_int_equal(fixture_exec(f, COUNT_FUSE, &e), 0);
}

static void test_moved_proc(void **state)
{
    struct lxcfs *l = *state;
    struct fixture *f = &l->f;
    struct err e = {0};
    struct container_plan plan = fixture_plan(f);
    static const char *const lines[] = {"mount -t tmpfs t /proc", "mount -o bind / /proc",
                                        "mount -o bind /proc/sys /proc"};
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        assert_ok(fixture_boot(f, &plan, &e), &e);
        assert_int_equal(fixture_exec(f, lines[i], &e), 0);
        assert_int_equal(container_mount_lxcfs(f->ve.pidfd, l->fd, &e), -ERR_STATE);
        fixture_kill(f);
    }
    assert_int_equal(container_mount_lxcfs(-1, -1, &e), -ERR_UNAVAILABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lxcfs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_moved_proc, setup, teardown),
    };
    struct fixture f;
    const char *why = NULL;
    bool ok = fixture_make(&f, &why);
    fixture_remove(&f);
    if (ok && access("/usr/bin/lxcfs", X_OK) < 0) {
        ok = false;
        why = "lxcfs is not installed";
    }
    if (!ok) {
        printf("1..0 # SKIP %s\n", why);
        return 0;
    }
    return cmocka_run_group_tests_name("lxcfs", tests, NULL, NULL);
}
