/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cleanup.h"
#include "network/internal.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static const char *ip_text(const struct netlink_ip *ip)
{
    static char buf[NETWORK_TEXT];
    return network_ip_text(ip, -1, buf);
}

static void test_pool_refusals(void **state)
{
    static const char *const bad4[] = {
        "10.88.0.0",
        "10.88.0.0/",
        "10.88.0.0/33",
        "10.88.0.0/x",
        "/16",
        "10.88.0.5/16",
        "10.88.0.0/31",
        "10.0.0.0/7",
        "fd54::/64",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/8",
        "0.0.0.0/8",
        "10.88.0.0/16 ",
        "10.88.0.0/-1",
        "10.88.0/16",
        "255.0.0.0/8",
        " 10.88.0.0/16",
        "1111111111111111111111111111111111111111111111111111111111111111111111111111111111/8",
    };
    static const char *const bad6[] = {"fd54::",     "fd54::1/64",   "fd54::/129",
                                       "fd54::/121", "fe80::/64",    "ff02::/64",
                                       "::/64",      "10.88.0.0/16", "fd54::/16"};
    struct network_pool p;
    struct err e = {0};
    for (size_t i = 0; i < ARRAY_SIZE(bad4); i++)
        assert_int_equal(network_pool_parse(bad4[i], AF_INET, &p, &e), -ERR_USAGE);
    for (size_t i = 0; i < ARRAY_SIZE(bad6); i++)
        assert_int_equal(network_pool_parse(bad6[i], AF_INET6, &p, &e), -ERR_USAGE);
    network_pool_parse("10.88.0.5/16", AF_INET, &p, &e);
    assert_string_equal(e.text,
                        "10.88.0.5/16 has bits set behind its prefix; did you mean 10.88.0.0/16?");
}

static void test_pool_arithmetic(void **state)
{
    struct network_pool p;
    assert_int_equal(network_pool_parse(NULL, AF_INET, &p, NULL), 0);
    assert_int_equal(p.base.family, 0);

    assert_int_equal(network_pool_parse("10.88.0.0/16", AF_INET, &p, NULL), 0);
    assert_int_equal(p.slots, 65533);
    assert_true(p.private);
    assert_string_equal(ip_text(&p.gateway), "10.88.0.1");
    struct netlink_ip ip = network_pool_address(&p, 65534);
    assert_string_equal(ip_text(&ip), "10.88.255.254");

    assert_int_equal(network_pool_parse("198.200.7.64/30", AF_INET, &p, NULL), 0);
    assert_int_equal(p.slots, 1);
    assert_false(p.private);
    ip = network_pool_address(&p, 2);
    assert_string_equal(ip_text(&ip), "198.200.7.66");

    assert_int_equal(network_pool_parse("fd54:6572:656d::/64", AF_INET6, &p, NULL), 0);
    assert_true(p.private);
    assert_true(p.slots == UINT32_MAX - 2);
    ip = network_pool_address(&p, 0x12345678);
    assert_string_equal(ip_text(&ip), "fd54:6572:656d::1234:5678");
    assert_int_equal(network_pool_parse("2a00:1450::/120", AF_INET6, &p, NULL), 0);
    assert_int_equal(p.slots, 253);
    assert_false(p.private);
}

static void test_pool_overlap(void **state)
{
    static const struct {
        const char *net;
        uint8_t prefix;
        bool overlaps;
    } rows[] = {{"10.88.0.0", 16, true},   {"10.88.7.1", 32, true}, {"10.0.0.0", 8, true},
                {"10.89.0.0", 16, false},  {"10.88.0.0", 15, true}, {"192.168.0.0", 16, false},
                {"10.87.255.0", 24, false}};
    struct network_pool p, none = {0};
    assert_int_equal(network_pool_parse("10.88.0.0/16", AF_INET, &p, NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct netlink_ip ip = {.family = AF_INET};
        inet_pton(AF_INET, rows[i].net, &ip.v4);
        assert_int_equal(network_pool_overlaps(&p, &ip, rows[i].prefix), rows[i].overlaps);
        assert_false(network_pool_overlaps(&none, &ip, rows[i].prefix));
    }
}

static void test_slots(void **state)
{
    struct network_node n = {0};
    struct network_address a;
    assert_int_equal(network_pool_parse("10.88.0.0/29", AF_INET, &n.pool4, NULL), 0);
    assert_int_equal(network_slots(&n), 5);
    assert_int_equal(network_pool_parse("fd54::/64", AF_INET6, &n.pool6, NULL), 0);
    assert_int_equal(network_slots(&n), 5);
    assert_int_equal(network_address_of(&n, 5, &a, NULL), 0);
    assert_int_equal(ntohl(a.v4.s_addr), 0x0a580006);
    assert_int_equal(a.v6.s6_addr[15], 6);
    assert_int_equal(network_address_of(&n, 6, &a, NULL), -ERR_EXHAUSTED);
    assert_int_equal(network_address_of(&n, 0, &a, NULL), -ERR_INTERNAL);
    n.pool4 = (struct network_pool){0};
    assert_int_equal(network_address_of(&n, 6, &a, NULL), 0);
    assert_int_equal(a.v4.s_addr, 0);
}

static void test_end_names(void **state)
{
    struct network_node n = {.name = "terem3"};
    char name[IFNAMSIZ];
    int64_t id = 0;
    assert_int_equal(network_end_name(&n, 12345678, name, NULL), 0);
    assert_string_equal(name, "terem3-12345678");
    assert_true(network_end_id(&n, name, &id));
    assert_true(id == 12345678);
    assert_int_equal(network_end_name(&n, 123456789, name, NULL), -ERR_EXHAUSTED);
    assert_int_equal(network_end_name(&n, 0, name, NULL), -ERR_INTERNAL);
    static const char *const foreign[] = {"terem3",    "terem3-",   "terem3-0",  "terem3-01",
                                          "terem3-x",  "terem3-1x", "terem33-1", "terem-1",
                                          "terem3--1", "Terem3-1"};
    for (size_t i = 0; i < ARRAY_SIZE(foreign); i++)
        assert_false(network_end_id(&n, foreign[i], &id));
}

static void test_ranges(void **state)
{
    static const struct {
        const char *prefix, *range, *first, *last;
        bool public;
    } good[] = {
        {"203.0.113.16/28", NULL, "203.0.113.17", "203.0.113.30", false},
        {"198.51.100.7/32", NULL, "198.51.100.7", "198.51.100.7", false},
        {"8.8.8.0/31", NULL, "8.8.8.0", "8.8.8.1", true},
        {"8.8.8.0/24", "8.8.8.0-8.8.8.255", "8.8.8.0", "8.8.8.255", true},
        {"192.168.5.0/24", "192.168.5.9-192.168.5.9", "192.168.5.9", "192.168.5.9", false},
        {"2a00:1::/64", NULL, "2a00:1::1", "2a00:1::ffff:ffff:ffff:ffff", true},
        {"fd00::/127", NULL, "fd00::", "fd00::1", false},
        {"2a00:1::5/128", NULL, "2a00:1::5", "2a00:1::5", true},
    };
    static const struct {
        const char *prefix, *range;
    } bad[] = {
        {"0.0.0.0/0", NULL},
        {"::/0", NULL},
        {"10.0.0.0/7", NULL},
        {"8.8.8.1/24", NULL},
        {"8.8.8.0", NULL},
        {"127.0.0.0/16", NULL},
        {"fe80::/64", NULL},
        {"ff02::/64", NULL},
        {"8.8.8.0/24", ""},
        {"8.8.8.0/24", "8.8.8.1"},
        {"8.8.8.0/24", "-"},
        {"8.8.8.0/24", "8.8.8.1-"},
        {"8.8.8.0/24", "8.8.8.9-8.8.8.8"},
        {"8.8.8.0/24", "8.8.7.1-8.8.8.8"},
        {"8.8.8.0/24", "8.8.8.1-8.8.9.8"},
        {"8.8.8.0/24", "2a00::1-2a00::2"},
        {"8.8.8.0/24", "8.8.8.1-8.8.8.2-8.8.8.3"},
    };
    struct network_range r;
    struct err e = {0};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        if (network_range_parse(good[i].prefix, good[i].range, &r, &e) < 0)
            fail_msg("%s: %s", good[i].prefix, e.text);
        assert_string_equal(ip_text(&r.first), good[i].first);
        assert_string_equal(ip_text(&r.last), good[i].last);
        assert_int_equal(r.public, good[i].public);
        assert_true(network_range_has(&r, &r.first) && network_range_has(&r, &r.last));
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (network_range_parse(bad[i].prefix, bad[i].range, &r, &e) != -ERR_USAGE)
            fail_msg("%s %s", bad[i].prefix, bad[i].range ? bad[i].range : "");
}

/* What is local of a range in the uplink's network: exactly its addresses. */
static void test_range_parts(void **state)
{
    static const char *const parts[] = {"192.168.5.5/32", "192.168.5.6/31", "192.168.5.8/29",
                                        "192.168.5.16/32"};
    struct network_prefix p[NETWORK_PARTS];
    struct network_range r;
    char text[NETWORK_PREFIX_TEXT];
    assert_int_equal(network_range_parse("192.168.5.0/24", "192.168.5.5-192.168.5.16", &r, NULL),
                     0);
    assert_int_equal(network_range_parts(&r, p), 1);
    assert_string_equal(network_prefix_text(&p[0], text), "192.168.5.0/24");
    r.link = 1;
    assert_int_equal(network_range_parts(&r, p), ARRAY_SIZE(parts));
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        assert_string_equal(network_prefix_text(&p[i], text), parts[i]);
    assert_int_equal(network_range_parse("8.0.0.0/8", "8.0.0.0-8.255.255.255", &r, NULL), 0);
    r.link = 1;
    assert_int_equal(network_range_parts(&r, p), 1);
    assert_int_equal(network_range_parse("2a00::/16",
                                         "2a00::1-2a00:ffff:ffff:ffff:ffff:ffff:ffff:"
                                         "fffe",
                                         &r, NULL),
                     0);
    r.link = 1;
    assert_int_equal(network_range_parts(&r, p), 2 * (128 - 16) - 2);
}

static void expect_resolv(const char *text, bool v4, bool v6, const char *servers,
                          const char *others, bool unusable)
{
    struct network_resolv r = {.servers = str_init(4096), .others = str_init(4096)};
    network_resolv_read(text, v4, v6, &r);
    assert_string_equal(str_c(&r.servers), servers);
    assert_string_equal(str_c(&r.others), others);
    assert_int_equal(r.unusable, unusable);
    str_done(&r.servers);
    str_done(&r.others);
}

static void test_resolv(void **state)
{
    expect_resolv("nameserver 192.0.2.53\nsearch a.example b.example\n", true, true,
                  "nameserver 192.0.2.53\n", "search a.example b.example\n", false);
    expect_resolv("# x\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n", true, true, "",
                  "options edns0 trust-ad\nsearch .\n", true);
    expect_resolv("nameserver\t::1\nnameserver fe80::1%eth0\nnameserver ::ffff:127.0.0.1\n"
                  "nameserver 2001:db8::53 # comment\nnameserver 0.0.0.0\nnameserver 300.1.1.1\n",
                  true, true, "nameserver 2001:db8::53\n", "", true);
    expect_resolv("nameserver 2001:db8::53\nnameserver 192.0.2.1", true, false,
                  "nameserver 192.0.2.1\n", "", true);
    expect_resolv("nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"
                  "nameserver 192.0.2.4\nnameserverx 192.0.2.5\n\n\nnameserver",
                  true, true, "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n",
                  "", false);
    expect_resolv("", true, true, "", "", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pool_refusals), cmocka_unit_test(test_pool_arithmetic),
        cmocka_unit_test(test_pool_overlap),  cmocka_unit_test(test_slots),
        cmocka_unit_test(test_end_names),     cmocka_unit_test(test_resolv),
        cmocka_unit_test(test_ranges),        cmocka_unit_test(test_range_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
