/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a VE's files become at its start. */
#include "base/cleanup.h"
#include "base/str.h"
#include "ve/etc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BEGIN "# Terem: its own name, written at every start up to the next such line\n"
#define END   "# Terem: the end\n"
#define BLOCK BEGIN "192.0.2.1\tweb1\n" END
#define WAS   "# Terem sets this up from outside; this was: "

typedef bool (*merge)(const char *now, bool own, const char *text, struct str *ret);

/* expected NULL: it is left. */
static void expect(merge fn, const char *now, bool own, const char *text, const char *expected)
{
    auto_str struct str s = str_init(1 << 20);
    assert_true(fn(now, own, text, &s) == (expected != NULL));
    if (expected)
        assert_string_equal(str_c(&s), expected);
}

static void test_hosts(void **state)
{
    static const struct {
        const char *now, *expected;
    } rows[] = {
        {"", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" BLOCK},
        {" \n", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n \n" BLOCK},
        {"192.0.2.9 db\n", "192.0.2.9 db\n" BLOCK},
        {"192.0.2.9 db", "192.0.2.9 db\n" BLOCK},
        {"192.0.2.9 db\n" BLOCK "192.0.2.8 mail", "192.0.2.9 db\n" BLOCK "192.0.2.8 mail"},
        {"a\n" BEGIN "192.0.2.5 old\n" END "b\n", "a\n" BLOCK "b\n"},
        {"a\n" BLOCK "b\n" BLOCK "c\n", "a\n" BLOCK "b\nc\n"},
        /* Somebody took the end away: nothing of what follows is lost. */
        {"a\n" BEGIN "192.0.2.5 old\nb\n", "a\n192.0.2.5 old\nb\n" BLOCK},
        {"a\n" END "b\n", "a\n" END "b\n" BLOCK},
        {"a\n#" BEGIN END, "a\n#" BEGIN END BLOCK},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        expect(etc_hosts, rows[i].now, i % 2, "192.0.2.1\tweb1\n", rows[i].expected);
}

/* As many marks as a file can have: in the time of one look. */
static void test_many_marks(void **state)
{
    auto_str struct str s = str_init(8 << 20), ret = str_init(16 << 20);
    for (size_t i = 0; i < 100000; i++)
        str_add(&s, BEGIN);
    assert_true(etc_hosts(str_c(&s), true, "x\n", &ret));
    assert_string_equal(str_c(&ret), BEGIN "x\n" END);
}

static void test_marked(void **state)
{
    static const char text[] = ETC_MARK "nameserver 192.0.2.53\n";
    expect(etc_marked, "", true, text, text);
    expect(etc_marked, "\n", true, text, text);
    expect(etc_marked, ETC_MARK "nameserver 192.0.2.1\n", true, text, text);
    expect(etc_marked, "nameserver 192.0.2.1\n", false, text, text); /* of whoever built it */
    expect(etc_marked, "nameserver 192.0.2.1\n", true, text, NULL);
}

static void test_interfaces(void **state)
{
    static const struct {
        const char *now, *expected;
    } rows[] = {
        {"", "auto lo\n"},
        {"source /etc/network/interfaces.d/*\n", NULL},
        {"auto lo\niface lo inet manual\n# auto eth0\nauto eth1 eth00\niface eth1 inet dhcp\n",
         NULL},
        {"auto lo\nauto eth0\niface eth0 inet dhcp\n  up true\niface eth0 inet6 auto",
         "auto lo\n" WAS "auto eth0\n" WAS "iface eth0 inet dhcp\niface eth0 inet manual\n"
         "  up true\n" WAS "iface eth0 inet6 auto\niface eth0 inet6 manual\n"},
        {"auto lo \\\n\teth0=home \\\n eth1\nallow-hotplug  eth0\n",
         WAS "auto lo eth0=home eth1\nauto lo eth1\n" WAS "allow-hotplug eth0\n"},
        {"iface lo inet loopback\n", WAS "iface lo inet loopback\niface lo inet manual\n"},
        {"auto eth0 \\", WAS "auto eth0\n"},
        {"auto x\\ eth0\nauto lo\n", WAS "auto x\\ eth0\nauto x\\ \nauto lo\n"},
        {"# \\\nauto eth0\n", "# \\\n" WAS "auto eth0\n"},
        {"iface eth0 inet manual\n", NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        expect(etc_interfaces, rows[i].now, true, "auto lo\n", rows[i].expected);
        if (rows[i].expected)
            expect(etc_interfaces, rows[i].expected, true, "auto lo\n", NULL);
    }
    expect(etc_interfaces, " \n", true, "", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_many_marks),
        cmocka_unit_test(test_marked),
        cmocka_unit_test(test_interfaces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
