/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When schedules are due; host keys that are made. */
#include "base/str.h"
#include "ve/due.h"
#include "ve/hostkey.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define HOUR (3600 * (int64_t)1000)

static void set_zone(const char *zone)
{
    setenv("TZ", zone, 1);
    tzset();
}

static int64_t at(int year, int month, int day, int hour, int minute, int isdst)
{
    struct tm tm = {.tm_year = year - 1900,
                    .tm_mon = month - 1,
                    .tm_mday = day,
                    .tm_hour = hour,
                    .tm_min = minute,
                    .tm_isdst = isdst};
    return (int64_t)mktime(&tm) * 1000;
}

static void test_periods(void **state)
{
    set_zone("UTC0");
    int64_t now = at(2026, 11, 21, 21, 43, 0) + 12345; /* a Saturday */
    assert_int_equal(due_period(DUE_HOURLY, now, false), at(2026, 11, 21, 21, 0, 0));
    assert_int_equal(due_period(DUE_HOURLY, now, true), at(2026, 11, 21, 22, 0, 0));
    assert_int_equal(due_period(DUE_DAILY, now, false), at(2026, 11, 21, 0, 0, 0));
    assert_int_equal(due_period(DUE_DAILY, now, true), at(2026, 11, 22, 0, 0, 0));
    assert_int_equal(due_period(DUE_WEEKLY, now, false), at(2026, 11, 16, 0, 0, 0));
    assert_int_equal(due_period(DUE_WEEKLY, now, true), at(2026, 11, 23, 0, 0, 0));
    /* At the instant itself the new one has begun. */
    assert_int_equal(due_period(DUE_WEEKLY, at(2026, 11, 23, 0, 0, 0), false),
                     at(2026, 11, 23, 0, 0, 0));
    /* Over the end of a year. */
    assert_int_equal(due_period(DUE_WEEKLY, at(2026, 12, 31, 5, 0, 0), true),
                     at(2027, 1, 4, 0, 0, 0));
    set_zone("IST-5:30");
    now = at(2026, 11, 21, 21, 43, 0);
    assert_int_equal(due_period(DUE_HOURLY, now, false), at(2026, 11, 21, 21, 0, 0));
}

/* The clocks of Berlin: a day of 23 hours, one of 25, and an hour that is shown twice. */
static void test_summer_time(void **state)
{
    set_zone("CET-1CEST,M3.5.0,M10.5.0/3");
    int64_t spring = at(2026, 3, 29, 0, 0, 0), autumn = at(2026, 10, 25, 0, 0, 1);
    assert_int_equal(due_period(DUE_DAILY, spring, true) - spring, 23 * HOUR);
    assert_int_equal(due_period(DUE_DAILY, autumn, true) - autumn, 25 * HOUR);
    int64_t first = at(2026, 10, 25, 2, 30, 1), hours = 0;
    assert_int_equal(due_period(DUE_HOURLY, first, true), at(2026, 10, 25, 2, 0, 0));
    for (int64_t t = autumn; t < due_period(DUE_DAILY, autumn, true);
         t = due_period(DUE_HOURLY, t, true))
        hours++;
    assert_int_equal(hours, 25);
}

static void test_due(void **state)
{
    set_zone("UTC0");
    int64_t now = at(2026, 11, 21, 21, 0, 0);
    assert_true(due_is(DUE_HOURLY, now - 1, now));
    assert_false(due_is(DUE_HOURLY, now, now));
    assert_false(due_is(DUE_HOURLY, now, now + HOUR - 1));
    assert_true(due_is(DUE_HOURLY, now, now + HOUR));
    assert_true(due_is(DUE_HOURLY, now, now + 90 * HOUR)); /* missed often: due once */
    assert_false(due_is(DUE_DAILY, now, now + 2 * HOUR));
    assert_true(due_is(DUE_DAILY, now, now + 3 * HOUR));
    assert_true(due_is(DUE_DAILY, now + HOUR, now)); /* the clock was set back */
    assert_true(due_is(DUE_WEEKLY, 0, now));
}

static void test_hostkeys(void **state)
{
    static const struct {
        const char *type;
        unsigned bits;
        const char *begins;
    } rows[] = {{"ed25519", 0, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"},
                {"ecdsa", 0, "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTY"},
                {"ecdsa", 521, "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjE"},
                {"rsa", 1024, "ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB"}};
    struct err err = {0};
    char *private = NULL, *public = NULL;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(
            hostkey_make(rows[i].type, rows[i].bits, "root@web1", &private, &public, &err), 0);
        assert_true(str_starts(public, rows[i].begins));
        assert_true(str_ends(public, " root@web1\n"));
        assert_true(
            str_starts(private, "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE"));
        assert_true(str_ends(private, "\n-----END OPENSSH PRIVATE KEY-----\n"));
        free(private);
        free(public);
    }
    assert_int_equal(hostkey_make("dsa", 0, "x", &private, &public, &err), -ERR_UNSUPPORTED);
    assert_int_equal(hostkey_make("ecdsa", 123, "x", &private, &public, &err), -ERR_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_periods),
        cmocka_unit_test(test_summer_time),
        cmocka_unit_test(test_due),
        cmocka_unit_test(test_hostkeys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
