/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "container/internal.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static const char passwd[] = "root:x:0:0:root:/root:/bin/bash\n"
                             "short:x:1\n"
                             "nohome:x:7:8:::\n"
                             "big:x:65536:0::/:/bin/sh\n"
                             "neg:x:-1:0::/:/bin/sh\n"
                             "web:x:33:34:Web, Server:/var/www:/bin/sh\n"
                             "web:x:99:99::/second:/bin/sh";
static const char group[] =
    "root:x:0:\nwww:x:34:\nsu:x:27:web,root\nweb2:x:28:web2,xweb\nlast:x:29:"
    "root,web";

static void test_users(void **state)
{
    struct user u;
    struct err e = {0};
    assert_int_equal(user_parse(NULL, passwd, group, &u, &e), 0);
    assert_int_equal(u.uid, 0);
    assert_string_equal(u.shell, "/bin/bash");
    assert_int_equal(user_parse("web", passwd, group, &u, &e), 0);
    assert_int_equal(u.uid, 33);
    assert_int_equal(u.gid, 34);
    assert_string_equal(u.home, "/var/www");
    assert_int_equal(u.n_groups, 2);
    assert_int_equal(u.groups[0], 27);
    assert_int_equal(u.groups[1], 29);
    assert_int_equal(user_parse("33:su", passwd, group, &u, &e), 0);
    assert_int_equal(u.gid, 27);
    assert_int_equal(u.n_groups, 0);
    assert_int_equal(user_parse("1234", passwd, group, &u, &e), 0);
    assert_int_equal(u.uid, 1234);
    assert_int_equal(u.gid, 0);
    assert_string_equal(u.name, "");
    assert_string_equal(u.home, "/");
    assert_int_equal(user_parse("nohome", passwd, group, &u, &e), 0);
    assert_string_equal(u.home, "/");
    assert_string_equal(u.shell, "/bin/sh");
}

static void test_refused(void **state)
{
    static const struct {
        const char *spec;
        int kind;
    } rows[] = {{"", ERR_USAGE},    {":0", ERR_USAGE},  {"web:", ERR_USAGE},  {"none", ERR_USAGE},
                {"big", ERR_USAGE}, {"neg", ERR_USAGE}, {"short", ERR_USAGE}, {"65536", ERR_USAGE},
                {"-1", ERR_USAGE},  {"0x1", ERR_USAGE}, {"web:no", ERR_USAGE}};
    struct err e = {0};
    struct user u = {.uid = 7};
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_int_equal(user_parse(rows[i].spec, passwd, group, &u, &e), -rows[i].kind);
    assert_int_equal(u.uid, 7);
}

/* More groups than there is room for, and a line longer than a line may be. */
static void test_bounds(void **state)
{
    auto_str struct str groups = str_init(1 << 20), line = str_init(1 << 20);
    struct err e = {0};
    struct user u;
    for (int i = 0; i < 1000; i++)
        str_add(&groups, "g%d:x:%d:web\n", i, i);
    assert_int_equal(user_parse("web", passwd, str_c(&groups), &u, &e), 0);
    assert_int_equal(u.n_groups, USER_GROUPS_MAX);
    str_add(&line, "long:x:1:1:");
    for (int i = 0; i < 5000; i++)
        str_add(&line, "x");
    str_add(&line, ":/:/bin/sh\nafter:x:5:5::/:/bin/sh\n");
    assert_int_equal(user_parse("long", str_c(&line), "", &u, &e), -ERR_USAGE);
    assert_int_equal(user_parse("after", str_c(&line), "", &u, &e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests_name("user", tests, NULL, NULL);
}
