/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests with a throw-away VE say often. */
#pragma once

#include "container/test_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static inline void assert_ok(int r, const struct err *e)
{
    if (r < 0)
        fail_msg("%s", e->text);
}

static inline void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" is not in:\n%s", part, text);
}

static inline void assert_lacks(const char *text, const char *part)
{
    if (strstr(text, part))
        fail_msg("\"%s\" is in:\n%s", part, text);
}

/* The state of a test is a fixture whose VE does not run yet. */
static inline int fixture_setup(void **state)
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

static inline int fixture_teardown(void **state)
{
    fixture_remove(*state);
    return 0;
}

/* What the VE has written itself. */
static inline int upper_of(const struct fixture *f)
{
    return openat(f->tree, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}
