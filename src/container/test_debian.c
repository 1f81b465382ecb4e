/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Boots the systemd root in $TEREM_TEST_DEBIAN (a directory with ids 0–65535): it must come to
 * "running" with no failed unit, take a command, and shut down cleanly.
 */
#include "container/test_fixture.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* Somebody must read a console, else what is written there blocks init. */
static pid_t read_console(int console)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    char buf[4096];
    ssize_t n;
    /* Reading fails with EIO whenever nobody inside has the console open: one always has. */
    ioctl(console, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    const char *log = getenv("TEREM_TEST_CONSOLE");
    int out = log ? open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;
    while ((n = read(console, buf, sizeof(buf))) > 0)
        if (out >= 0 && write(out, buf, (size_t)n) < 0)
            break;
    _exit(0);
}

static void boot(bool old_way)
{
    struct fixture f;
    struct err e = {0};
    const char *why = NULL;
    if (!fixture_make(&f, &why)) {
        fixture_remove(&f);
        fail_msg("%s", why);
    }
    int debian = open(getenv("TEREM_TEST_DEBIAN"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    const struct container_file files[] = {{"/etc/hostname", "web1\n"},
                                           {"/etc/resolv.conf", "nameserver 192.0.2.1\n"}};
    struct container_plan plan = fixture_plan(&f);
    plan.layers = &debian;
    plan.old_overlay = old_way;
    plan.files = files;
    plan.n_files = ARRAY_SIZE(files);
    struct timespec t0, t1;
    clock_gettime(CLOCK_MONOTONIC, &t0);
    int r = fixture_boot(&f, &plan, &e);
    pid_t reader = r == 0 ? read_console(f.ve.console) : -1;
    int state = -1, failed = -1, host = -1, gone = -1;
    char text[200] = "", units[2000] = "";
    if (r == 0) {
        for (int i = 0; i < 100; i++) { /* its bus is not there at once */
            state = fixture_exec(&f, "systemctl is-system-running --wait 2>&1", &e);
            snprintf(text, sizeof(text), "%.199s", f.output);
            if (!strstr(text, "bus") && !strstr(text, "offline"))
                break;
            usleep(50000);
        }
        clock_gettime(CLOCK_MONOTONIC, &t1);
        failed = fixture_exec(&f, "systemctl --failed --plain --no-legend; systemd-analyze", &e);
        snprintf(units, sizeof(units), "%.1999s", f.output);
        host =
            fixture_exec(&f, "test $(hostname) = web1 && grep -q 192.0.2.1 /etc/resolv.conf", &e);
        fd_pidfd_kill(f.ve.pidfd, SIGRTMIN + 4, NULL);
        gone = fd_pidfd_wait_exit(f.ve.pidfd, 20000, &e);
    }
    fixture_remove(&f);
    if (reader > 0) {
        kill(reader, SIGKILL);
        waitpid(reader, NULL, 0);
    }
    close(debian);
    if (r < 0)
        fail_msg("%s", e.text);
    print_message("%s after %.2f s; %s\n", text,
                  (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9, units);
    assert_string_equal(text, "running\n");
    assert_int_equal(state, 0);
    assert_int_equal(failed, 0);
    assert_int_equal(host, 0);
    assert_int_equal(gone, 0);
}

static void test_debian(void **state)
{
    boot(false);
}

static void test_debian_old_overlay(void **state)
{
    boot(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_debian),
        cmocka_unit_test(test_debian_old_overlay),

    };
    if (!getenv("TEREM_TEST_DEBIAN") || geteuid() != 0) {
        printf("1..0 # SKIP %s\n",
               geteuid() ? "not root"
                         : "needs a Debian root: tests/test_templates.py runs it with one");
        return 0;
    }
    return cmocka_run_group_tests_name("debian", tests, NULL, NULL);
}
