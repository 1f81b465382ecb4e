/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/nft.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

#include <cmocka.h>

#define RUNS      300
#define SIGNAL_US 50

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
    signals++;
}

/* teremd is told of each child that ends by a signal, at any time. */
static void test_signals_refuse_nothing(void **state)
{
    struct err err = {0};
    struct sigaction handle = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, SIGNAL_US}, {0, SIGNAL_US}}, none = {{0}};
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    if (nft_run("add table inet terem-test", &err) < 0)
        fail_msg("%s", err.text);
    sigaction(SIGALRM, &handle, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    int r = 0;
    for (int i = 0; r == 0 && i < RUNS; i++)
        r = nft_run("add chain inet terem-test c; delete chain inet terem-test c", &err);
    setitimer(ITIMER_REAL, &none, NULL);
    if (r < 0)
        fail_msg("%s", err.text);
    assert_true(signals > RUNS / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signals_refuse_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
