/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cleanup.h"
#include "base/str.h"
#include "ve/instance.h"
#include "ve/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void test_every_state_and_event(void **state)
{
    for (int s = 0; s < VE_STATE__COUNT; s++) {
        assert_string_not_equal(ve_state_name((enum ve_state)s), "unknown");
        for (int e = 0; e < VE_EVENT__COUNT; e++) {
            struct err err = {0};
            enum ve_state next = ve_state_next((enum ve_state)s, (enum ve_event)e);
            int r = ve_state_check("web1", (enum ve_state)s, (enum ve_event)e, NULL, &err);
            if (next == VE_STATE__COUNT) {
                assert_int_equal(r, -ERR_STATE);
                assert_true(str_starts(err.text, "web1: cannot "));
            } else {
                assert_int_equal(r, 0);
                assert_true(next < VE_STATE__COUNT);
            }
        }
    }
    assert_int_equal(ve_state_next(VE_STATE__COUNT, VE_EV_START), VE_STATE__COUNT);
    assert_int_equal(ve_state_next(VE_STOPPED, VE_EVENT__COUNT), VE_STATE__COUNT);
}

static void test_walks(void **state)
{
    static const struct {
        enum ve_event event;
        enum ve_state after;
    } life[] = {{VE_EV_CREATE, VE_STOPPED}, {VE_EV_START, VE_STARTING}, {VE_EV_STARTED, VE_RUNNING},
                {VE_EV_PAUSE, VE_PAUSED},   {VE_EV_RESUME, VE_RUNNING}, {VE_EV_STOP, VE_STOPPING},
                {VE_EV_BREAK, VE_BROKEN},   {VE_EV_STOP, VE_STOPPING},  {VE_EV_STOPPED, VE_STOPPED},
                {VE_EV_DESTROY, VE_ABSENT}};
    enum ve_state s = VE_ABSENT;
    for (size_t i = 0; i < ARRAY_SIZE(life); i++) {
        s = ve_state_next(s, life[i].event);
        assert_int_equal(s, life[i].after);
    }
    assert_int_equal(ve_state_next(VE_RUNNING, VE_EV_DESTROY), VE_STATE__COUNT);
    assert_int_equal(ve_state_next(VE_STOPPED, VE_EV_STOP), VE_STATE__COUNT);
}

/* No two VEs of any two instances share an id, and none touches an ordinary user's. */
static void test_id_ranges(void **state)
{
    uint64_t end = 0;
    for (unsigned n = 0; n <= VE_INSTANCE_MAX; n++) {
        uint64_t first = ve_instance_id_base(n, 1);
        uint64_t last = (uint64_t)ve_instance_id_base(n, ve_instance_slots(n)) + 65535;
        assert_true(first >= end);
        assert_true(first > 0x80000);
        assert_true(last < UINT32_MAX - 1);
        assert_int_equal(ve_instance_id_base(n, 2) - first, 65536);
        end = last + 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_state_and_event),
        cmocka_unit_test(test_walks),
        cmocka_unit_test(test_id_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
