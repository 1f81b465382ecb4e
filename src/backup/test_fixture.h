/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test_fixture — two trees, a backup between them, and what was said of it.
 */
#pragma once

#include "backup/test_make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define ID  "00000000000000000000000000000001"
#define ID2 "00000000000000000000000000000002"

struct fixture {
    char from_path[64], to_path[64];
    int from, to;
    struct memory m;
    struct err err;
    struct backup_info info;
};

int setup(void **state);
int teardown(void **state);
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#define OK(f, call)                                   \
    do {                                              \
        if ((call) != 0)                              \
            fail_msg("%s: %s", #call, (f)->err.text); \
    } while (0)
