/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "container/test_fixture.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_ok(int r, const struct err *e)
{
    if (r < 0)
        fail_msg("%s", e->text);
}

static int setup(void **state)
{
    static struct fixture f;
    const char *why = NULL;
    if (!fixture_make(&f, &why)) {
        fixture_remove(&f);
        print_error("%s\n", why);
        return -1;
    }
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    fixture_remove(*state);
    return 0;
}

static void test_boot_and_exec(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    struct container_plan plan = fixture_plan(f);
    assert_ok(fixture_boot(f, &plan, &e), &e);
    assert_int_equal(fixture_exec(f, "true", &e), 0);
    assert_int_equal(fixture_exec(f, "false", &e), 1);
    assert_int_equal(fixture_exec(f, "id; hostname; cat /proc/1/comm", &e), 0);
    assert_string_equal(f->output, "uid=0(root) gid=0(root)\nweb1\ninit\n");
}

/* Where it cannot run, it says so instead of failing. */
static const char *why_not(void)
{
    struct fixture f;
    const char *why = NULL;
    bool ok = fixture_make(&f, &why);
    fixture_remove(&f);
    return ok ? NULL : why;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_boot_and_exec, setup, teardown),
    };
    const char *why = why_not();
    if (why) {
        printf("1..0 # SKIP %s\n", why);
        return 0;
    }
    return cmocka_run_group_tests_name("container", tests, NULL, NULL);
}
