/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How many at once under which pressure. */
#include "ve/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define GIB ((uint64_t)1 << 30)

static void test_width(void **state)
{
    struct pace_pressure calm = {.available = 8 * GIB, .total = 16 * GIB};
    struct pace_pressure unknown = {0}, full = calm, short_of = calm, slow = calm;
    full.memory = 10;
    short_of.available = GIB / 2;
    slow.io = 60;
    /* One more at a time, never more than asked for. */
    assert_int_equal(pace_width(&calm, 1, 4), 2);
    assert_int_equal(pace_width(&calm, 4, 4), 4);
    assert_int_equal(pace_width(&calm, 9, 4), 4);
    assert_int_equal(pace_width(&unknown, 3, 4), 4);
    /* Where memory runs out, one; behind a slow disk, half as many; never none. */
    assert_int_equal(pace_width(&full, 64, 64), 1);
    assert_int_equal(pace_width(&short_of, 64, 64), 1);
    assert_int_equal(pace_width(&slow, 64, 64), 32);
    assert_int_equal(pace_width(&slow, 1, 64), 1);
}

static void test_read(void **state)
{
    struct pace_pressure p;
    pace_read(&p);
    assert_true(p.total > 0 && p.available > 0 && p.available <= p.total);
    assert_true(p.memory <= 100 && p.io <= 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_width), cmocka_unit_test(test_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
