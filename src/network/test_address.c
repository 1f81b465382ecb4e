/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Further addresses of VEs on a real kernel: reached from outside, spoken with, moved, put right.
 */
#include "base/cleanup.h"
#include "network/test_stage.h"

#include <unistd.h>

#define NEAR4  "203.0.113.100" /* in the uplink's own network */
#define NEAR6  "2001:db8::105"
#define LAN    "192.168.77.5" /* of a private range */
#define ROUTED "198.51.100.9" /* of a public one that is routed here */

static void ranges(struct stage *s)
{
    struct network_range list[4];
    static const char *const prefixes[] = {"203.0.113.96/28", "2001:db8::100/120",
                                           "192.168.77.0/24", "198.51.100.0/24"};
    for (size_t i = 0; i < 4; i++) {
        ok(network_range_parse(prefixes[i], NULL, &list[i], err));
        list[i].public = i != 2;
        ok(network_range_check(s->node, &list[i], err));
    }
    ok(network_ranges_set(s->node, list, 4, err));
    ok(network_node_setup(s->node, err));
    ok(network_ranges_lay(s->node, err));
}

static void attach_both(struct stage *s)
{
    for (int i = 0; i < 2; i++)
        ok(network_attach(s->node, i + 1, s->ve[i], &s->addr[i], &NETWORK_LIMITS_NONE, err));
}

/* What VE v has, beside its pair, from now on. */
static void have(struct stage *s, int v, const struct netlink_ip *more, size_t n)
{
    s->addr[v].more = more;
    s->addr[v].n_more = n;
}

static void give(struct stage *s, int v, const char *text)
{
    static struct netlink_ip more[2];
    more[v] = ip(text);
    have(s, v, &more[v], 1);
    ok(network_address_add(s->node, v + 1, s->ve[v], &s->addr[v], &more[v], err));
}

static void take(struct stage *s, int v, const char *text)
{
    struct netlink_ip one = ip(text);
    have(s, v, NULL, 0);
    ok(network_address_remove(s->node, v + 1, s->ve[v], &s->addr[v], &one, err));
}

/* Does what the outside sends to it come to VE v, in one of so many tries of two seconds? */
static bool comes(struct stage *s, int v, const char *text, int tries)
{
    int family = strchr(text, ':') ? AF_INET6 : AF_INET;
    auto_fd int in = udp(s->ve[v], NULL, family, 7300), out = udp(s->outside, NULL, family, 7301);
    for (int i = 0; i < tries; i++) {
        send_to(out, ip(text), 7300, 0);
        if (receive(in, 0).family)
            return true;
    }
    return false;
}

static bool reaches(struct stage *s, int v, const char *text)
{
    return comes(s, v, text, 3);
}

static bool stays_away(struct stage *s, int v, const char *text)
{
    return !comes(s, v, text, 1);
}

/* Whom the outside takes for the sender when VE v says nothing about that. */
static void speaks_as(struct stage *s, int v, const char *to, const char *who)
{
    int family = strchr(to, ':') ? AF_INET6 : AF_INET;
    auto_fd int in = udp(s->outside, NULL, family, 7400), out = udp(s->ve[v], NULL, family, 7401);
    assert_int_equal(send_to(out, ip(to), 7400, 0), 1);
    expect_from(in, who);
}

static void test_near(void **state)
{
    struct stage *s = *state;
    ranges(s);
    attach_both(s);
    speaks_as(s, 0, "203.0.113.2", "203.0.113.1");
    assert_true(stays_away(s, 0, NEAR4));
    give(s, 0, NEAR4);
    assert_true(reaches(s, 0, NEAR4));
    speaks_as(s, 0, "203.0.113.2", NEAR4);
    /* The neighbour may not take it. */
    address_in(s->ve[1], "eth0", NEAR4, 32);
    auto_fd int thief = udp(s->ve[1], NEAR4, AF_INET, 7100);
    unsigned before = counter("spoofed4");
    assert_int_equal(send_to(thief, ip("203.0.113.2"), 7000, 0), 1);
    assert_true(counter_passes("spoofed4", before));
    address_gone(s->ve[1], "eth0", NEAR4, 32);

    take(s, 0, NEAR4);
    speaks_as(s, 0, "203.0.113.2", "203.0.113.1");
    assert_true(stays_away(s, 0, NEAR4));
}

static void test_near6(void **state)
{
    struct stage *s = *state;
    ranges(s);
    attach_both(s);
    give(s, 0, NEAR6);
    assert_true(reaches(s, 0, NEAR6));
    speaks_as(s, 0, "2001:db8::2", NEAR6);
    sysctl_expect("ipv6/conf/up0/proxy_ndp", "1");
    sysctl_expect("ipv6/neigh/up0/proxy_delay", "0");
    sysctl_expect("ipv4/neigh/up0/proxy_delay", "0");
    take(s, 0, NEAR6);
    assert_true(stays_away(s, 0, NEAR6));
    ok(network_node_remove(s->node, err));
    sysctl_expect("ipv6/conf/up0/proxy_ndp", "0");
    sysctl_expect("ipv6/neigh/up0/proxy_delay", "80");
    sysctl_expect("ipv4/neigh/up0/proxy_delay", "80");
}

static void test_private(void **state)
{
    struct stage *s = *state;
    ranges(s);
    attach_both(s);
    give(s, 0, LAN);
    auto_fd int in = udp(s->outside, NULL, AF_INET, 7400), out = udp(s->ve[0], LAN, AF_INET, 7401);
    assert_int_equal(send_to(out, ip("203.0.113.2"), 7400, 0), 1);
    expect_from(in, "203.0.113.1");
    /* Between VEs nothing is masqueraded. */
    auto_fd int peer = udp(s->ve[1], NULL, AF_INET, 7402);
    assert_int_equal(send_to(out, ip("10.88.0.3"), 7402, 0), 1);
    expect_from(peer, LAN);
}

static void test_at_start(void **state)
{
    struct stage *s = *state;
    const struct netlink_ip more[] = {ip(LAN), ip(NEAR4), ip(NEAR6), ip(ROUTED)};
    ranges(s);
    have(s, 0, more, 4);
    attach_both(s);
    assert_true(reaches(s, 0, NEAR4));
    assert_true(reaches(s, 0, NEAR6));
    speaks_as(s, 0, "203.0.113.2", NEAR4); /* the first that is public */
    default_route_in(s->outside, "up0", "203.0.113.1");
    assert_true(reaches(s, 0, ROUTED));
    assert_true(reaches(s, 0, LAN));
}

static unsigned proxies;

static int count_proxy(void *ctx, const struct netlink_proxy *p, struct err *e)
{
    proxies++;
    return 0;
}

static unsigned answered(void)
{
    auto_netlink struct netlink *nl = NULL;
    proxies = 0;
    ok(netlink_open(&nl, err));
    ok(netlink_proxy_each(nl, count_proxy, NULL, err));
    return proxies;
}

static void test_move_and_settle(void **state)
{
    struct stage *s = *state;
    ranges(s);
    attach_both(s);
    give(s, 0, NEAR4);
    take(s, 0, NEAR4);
    give(s, 1, NEAR4);
    assert_true(reaches(s, 1, NEAR4));
    assert_int_equal(answered(), 1);

    /* It ended when the first had lost it, in the registry, and the second not got it. */
    const struct netlink_ip both[] = {ip(NEAR4), ip(LAN)};
    struct network_settle list[] = {{.id = 1, .netns_fd = s->ve[0], .have = s->addr[0]},
                                    {.id = 2, .netns_fd = s->ve[1], .have = s->addr[1]}};
    list[0].have.more = both;
    list[0].have.n_more = 2;
    list[1].have.n_more = 0;
    ok(network_addresses_settle(s->node, list, 2, err));
    assert_true(reaches(s, 0, NEAR4));
    speaks_as(s, 0, "203.0.113.2", NEAR4);
    speaks_as(s, 1, "203.0.113.2", "203.0.113.1");
    assert_int_equal(answered(), 1);
    /* What the VE's root makes of it meanwhile is left to it. */
    address_gone(s->ve[0], "eth0", NEAR4, 32);
    ok(network_addresses_settle(s->node, list, 2, err));
    assert_true(stays_away(s, 0, NEAR4));
    address_in(s->ve[0], "eth0", NEAR4, 32);
    assert_true(reaches(s, 0, NEAR4));
    /* Nobody's any more, and nobody answers for it. */
    list[0].have.n_more = 0;
    ok(network_addresses_settle(s->node, list, 2, err));
    assert_int_equal(answered(), 0);
    assert_true(stays_away(s, 0, NEAR4));
    speaks_as(s, 0, "203.0.113.2", "203.0.113.1");
}

/* A VE without IPv6 gets no such address, and nothing of it stays. */
static void test_failure(void **state)
{
    struct stage *s = *state;
    struct netlink_ip near6 = ip(NEAR6);
    ranges(s);
    attach_both(s);
    int home = go(s->ve[0]);
    sysctl_write("ipv6/conf/eth0/disable_ipv6", "1");
    back(home);
    have(s, 0, &near6, 1);
    struct err e = {0};
    assert_true(network_address_add(s->node, 1, s->ve[0], &s->addr[0], &near6, &e) < 0);
    assert_non_null(strstr(e.text, NEAR6));
    assert_int_equal(answered(), 0);
    auto_free char *routes = NULL;
    auto_netlink struct netlink *nl = NULL;
    struct netlink_route r = {0};
    ok(netlink_open(&nl, err));
    ok(netlink_route_of(nl, near6, &r, err));
    char link[IFNAMSIZ];
    assert_string_equal(if_indextoname((unsigned)r.ifindex, link), "up0");
}

static void refused(struct stage *s, const char *prefix, const char *why)
{
    struct network_range r;
    struct err e = {0};
    ok(network_range_parse(prefix, NULL, &r, err));
    assert_true(network_range_check(s->node, &r, &e) < 0);
    if (!strstr(e.text, why))
        fail_msg("%s: %s", prefix, e.text);
}

static void not_given(struct stage *s, const struct network_range *r, const char *text,
                      const char *why)
{
    struct err e = {0};
    struct netlink_ip one = ip(text);
    assert_true(network_range_allows(s->node, r, &one, &e) < 0);
    if (!strstr(e.text, why))
        fail_msg("%s: %s", text, e.text);
}

static void test_refusals(void **state)
{
    struct stage *s = *state;
    ok(network_node_setup(s->node, err));
    address_in(s->host, "up1", "192.0.2.1", 24);
    refused(s, "192.0.2.0/25", "overlaps 192.0.2.0/24, which is reached through up1");
    refused(s, "192.0.0.0/16", "reached through up1");
    refused(s, "10.88.7.0/24", "which is that of VEs' own addresses");
    refused(s, "fd54:7::/80", "which is that of VEs' own addresses");
    refused(s, "203.0.0.0/16", "reached through up0"); /* more than the uplink's network */

    struct network_range r;
    ok(network_range_parse("203.0.113.0/24", "203.0.113.0-203.0.113.255", &r, err));
    ok(network_range_check(s->node, &r, err));
    ok(network_ranges_set(s->node, &r, 1, err));
    ok(network_ranges_lay(s->node, err));
    not_given(s, &r, "203.0.113.0", "the own address of the network 203.0.113.0/24");
    not_given(s, &r, "203.0.113.255", "the broadcast address of the network 203.0.113.0/24");
    not_given(s, &r, "203.0.113.1", "an address of this machine itself");
    not_given(s, &r, "203.0.113.2", "a gateway of this machine");
    struct netlink_ip fine = ip("203.0.113.3");
    ok(network_range_allows(s->node, &r, &fine, err));
}

/* Pools of a machine without IPv6 are IPv4's alone; without any there is no node. */
static void test_ipv6_off(void **state)
{
    struct network_node *n = NULL;
    struct network_config c = config;
    struct network_address a;
    struct err e = {0};
    sysctl_write("ipv6/conf/default/disable_ipv6", "1");
    ok(network_node_open(&c, &n, err));
    assert_non_null(strstr(network_ipv6_why(n), "net.ipv6.conf.default.disable_ipv6"));
    ok(network_address_of(n, 1, &a, err));
    assert_true(a.v4.s_addr && IN6_IS_ADDR_UNSPECIFIED(&a.v6));
    network_node_close(n);
    c.pool4 = NULL;
    assert_true(network_node_open(&c, &n, &e) == -ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "VEs have no IPv4, and IPv6 is off"));
    sysctl_write("ipv6/conf/default/disable_ipv6", "0");
    ok(network_node_open(&config, &n, err));
    assert_null(network_ipv6_why(n));
    network_node_close(n);
}

int main(void)
{
    if (!stage_own())
        return 0;
#define stage_test(t) cmocka_unit_test_setup_teardown(t, stage_up, stage_down)
    const struct CMUnitTest tests[] = {
        stage_test(test_near),     stage_test(test_near6),           stage_test(test_private),
        stage_test(test_at_start), stage_test(test_move_and_settle), stage_test(test_failure),
        stage_test(test_refusals), stage_test(test_ipv6_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
