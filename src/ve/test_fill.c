/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How pools fill: when they are low, what they get, and when somebody looks again. */
#include "ve/fill.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define G (UINT64_C(1) << 30)

static struct fill seen(uint64_t size, uint64_t before, uint64_t now_free, int64_t ms)
{
    struct fill f = {0};
    fill_see(&f, size, before, 1000);
    fill_see(&f, size, now_free, 1000 + ms);
    return f;
}

static void test_low(void **state)
{
    struct fill f = seen(10 * G, 3 * G, 3 * G, 1000);
    assert_false(fill_is_low(&f));
    f = seen(10 * G, 2 * G - 1, 2 * G - 1, 1000);
    assert_true(fill_is_low(&f));
    f = seen(10 * G, 5 * G, 4 * G, 1000); /* gone in four seconds */
    assert_true(fill_is_low(&f));
    f = seen(10 * G, 5 * G, 4 * G, 60000);
    assert_false(fill_is_low(&f));
    f = seen(10 * G, 9 * G, 8 * G, 1000); /* more than half is free: a burst */
    assert_false(fill_is_low(&f));
    fill_see(&f, 20 * G, 5 * G, 3000); /* it has grown meanwhile: nothing is known of the rate */
    assert_int_equal(f.rate, 0);
    f = seen(10 * G, 3 * G, 4 * G, 1000); /* something was deleted */
    assert_int_equal(f.rate, 0);
    f = seen(10 * G, 3 * G, 2 * G + 5, -1000); /* the clock was set back */
    assert_int_equal(f.rate, 0);
}

static void test_step(void **state)
{
    struct fill f = seen(10 * G, G, G, 1000);
    assert_int_equal(fill_step(&f), 2 * G);
    f = seen(10 * G, G, G - G / 8, 1000);
    assert_in_range(fill_step(&f), 3 * G, 4 * G);
    f = seen(10 * G, 5 * G, G, 1000); /* at most twice what it is */
    assert_int_equal(fill_step(&f), 10 * G);
}

static void test_next(void **state)
{
    struct fill f = seen(100 * G, 80 * G, 80 * G, 1000);
    assert_int_equal(fill_next(&f), 10000);
    f = seen(10 * G, 5 * G, 5 * G, 1000); /* what a fast disk could take, */
    assert_in_range(fill_next(&f), 3000, 3100);
    f = seen(G / 4, G / 5, G / 5, 1000);
    assert_int_equal(fill_next(&f), 1000);
    f = seen(10 * G, 9 * G, 8 * G, 1000); /* or half of what it takes at this rate */
    assert_in_range(fill_next(&f), 2900, 3100);
    f = seen(10 * G, 4 * G, 2 * G + 1, 1000);
    assert_int_equal(fill_next(&f), 500);
    f = seen(10 * G, G, G, 1000);
    assert_int_equal(fill_next(&f), 2000);
    f = seen(0, 0, 0, 1000);
    assert_int_equal(fill_next(&f), 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_low),
        cmocka_unit_test(test_step),
        cmocka_unit_test(test_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
