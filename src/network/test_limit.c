/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Limits of connections and packets on a real kernel: what comes through and what is counted as
 * refused add up exactly, and a neighbour loses nothing. */
#include "base/cleanup.h"
#include "kernel/nft.h"
#include "network/test_stage.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <sys/socket.h>
#include <time.h>

#define PORT     7000
#define OUTSIDE  "203.0.113.2"
#define OUTSIDE6 "2001:db8::2"

static const struct network_limits none = {NETWORK_UNLIMITED, NETWORK_UNLIMITED, 0,
                                           NETWORK_UNLIMITED};

static void attach(struct stage *s, int i, const struct network_limits *l)
{
    ok(network_attach(s->node, i + 1, s->ve[i], &s->addr[i], l, err));
}

static int limits_up(void **state)
{
    stage_up(state);
    struct stage *s = *state;
    sysctl_write("netfilter/nf_conntrack_checksum", "1"); /* tracking is there in the namespace */
    ok(network_node_setup(s->node, err));
    /* The outside knows the way to VEs: nothing has to be masqueraded for it to answer. */
    int home = go(s->outside);
    auto_netlink struct netlink *nl = NULL;
    ok(netlink_open(&nl, err));
    netlink_route_add(nl, &(struct netlink_route){.dst = ip("10.88.0.0"),
                                                  .prefix = 16,
                                                  .via = ip("203.0.113.1"),
                                                  .protocol = RTPROT_STATIC});
    ok(netlink_commit(nl, err));
    back(home);
    return 0;
}

/* n connections of one packet each. */
static void new_flows(int netns, const char *to, uint16_t port, unsigned n)
{
    static uint16_t from = 20000; /* the kernel's own choice may come twice */
    struct netlink_ip where = ip(to);
    for (unsigned i = 0; i < n; i++) {
        int fd = udp(netns, NULL, where.family, from++);
        /* The host's own packet is refused to its face. */
        if (send_to(fd, where, port, 0) != 1 && errno != EPERM)
            fail_msg("cannot send to %s: %s", to, strerror(errno));
        close(fd);
    }
}

/* What has come: veth delivers before sendto() returns, or soon after. */
static unsigned arrived(int fd)
{
    unsigned n = 0;
    struct timeval brief = {.tv_usec = 500000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof(brief));
    while (receive(fd, 0).family)
        n++;
    return n;
}

static struct network_refused refused(struct stage *s, int64_t id)
{
    struct network_refused r = {0};
    ok(network_refused(s->node, id, &r, err));
    return r;
}

static uint64_t held(struct stage *s, uint32_t slot)
{
    uint64_t n = 0, all = 0;
    s->node->held6.at = 0;
    ok(network_held(s->node, slot, &n, err));
    s->node->held4.at = s->node->held6.at = 0;
    network_held_keep(s->node, true);
    ok(network_held(s->node, slot, &all, err));
    network_held_keep(s->node, false);
    assert_int_equal(n, all); /* whether one is asked for, or all */
    return n;
}

static void test_connections(void **state)
{
    struct stage *s = *state;
    struct network_limits five = none;
    five.connections = 5;
    attach(s, 0, &five);
    attach(s, 1, &none);
    auto_fd int out4 = udp(s->outside, NULL, AF_INET, PORT);
    auto_fd int out6 = udp(s->outside, OUTSIDE6, AF_INET6, PORT);
    new_flows(s->ve[0], OUTSIDE, PORT, 3);
    new_flows(s->ve[0], OUTSIDE6, PORT, 6);
    assert_int_equal(arrived(out4), 3);
    assert_int_equal(arrived(out6), 2);
    assert_int_equal(refused(s, 1).connections, 4);
    assert_int_equal(held(s, 1), 5);
    /* Towards it, too, from outside and from the host, and to the host. */
    auto_fd int in = udp(s->ve[0], NULL, AF_INET, PORT);
    auto_fd int host = udp(s->host, NULL, AF_INET, PORT);
    new_flows(s->outside, "10.88.0.2", PORT, 2);
    new_flows(s->host, "10.88.0.2", PORT, 2);
    new_flows(s->ve[0], "10.88.0.1", PORT, 1);
    assert_int_equal(arrived(in), 0);
    assert_int_equal(arrived(host), 0);
    assert_int_equal(refused(s, 1).connections, 9);
    /* What its neighbour opens is the neighbour's. */
    new_flows(s->ve[1], "10.88.0.2", PORT, 2);
    assert_int_equal(arrived(in), 2);
    assert_int_equal(refused(s, 1).connections, 9);
    assert_int_equal(held(s, 1), 5);
    assert_int_equal(held(s, 2), 2);
    /* The neighbour has no limit. */
    new_flows(s->ve[1], OUTSIDE, PORT, 20);
    assert_int_equal(arrived(out4), 20);
    assert_int_equal(refused(s, 2).connections, 0);
    assert_int_equal(held(s, 2), 22);
}

/* A connection is its first packet; those that follow are not asked again. */
static void test_one_flow_counts_once(void **state)
{
    struct stage *s = *state;
    struct network_limits l = none;
    l.connections = 2;
    l.rate = 2;
    attach(s, 0, &l);
    auto_fd int out4 = udp(s->outside, NULL, AF_INET, PORT);
    auto_fd int one = udp(s->ve[0], NULL, AF_INET, 0);
    for (int i = 0; i < 100; i++)
        send_to(one, ip(OUTSIDE), PORT, 0);
    assert_int_equal(arrived(out4), 100);
    assert_int_equal(refused(s, 1).connections, 0);
    assert_int_equal(refused(s, 1).rate, 0);
    assert_int_equal(held(s, 1), 1);
}

static void test_change(void **state)
{
    struct stage *s = *state;
    struct network_limits l = none;
    l.connections = 2;
    attach(s, 0, &l);
    auto_fd int out4 = udp(s->outside, NULL, AF_INET, PORT);
    new_flows(s->ve[0], OUTSIDE, PORT, 4);
    assert_int_equal(arrived(out4), 2);
    /* The same again changes nothing. */
    ok(network_limits_apply(s->node, 1, &l, err));
    new_flows(s->ve[0], OUTSIDE, PORT, 4);
    assert_int_equal(arrived(out4), 0);
    assert_int_equal(refused(s, 1).connections, 6);
    l.connections = 0;
    ok(network_limits_apply(s->node, 1, &l, err));
    new_flows(s->ve[0], OUTSIDE, PORT, 4);
    assert_int_equal(arrived(out4), 0);
    assert_int_equal(refused(s, 1).connections, 10);
    ok(network_limits_apply(s->node, 1, &none, err));
    new_flows(s->ve[0], OUTSIDE, PORT, 4);
    assert_int_equal(arrived(out4), 4);
    assert_int_equal(refused(s, 1).connections, 10);
}

/* teremd starts again, or its table is lost. */
static void test_laid_again(void **state)
{
    struct stage *s = *state;
    struct network_limits l = {3, 1000, 0, 100000};
    bool gone;
    int fd;
    attach(s, 0, &l);
    auto_fd int out4 = udp(s->outside, NULL, AF_INET, PORT);
    new_flows(s->ve[0], OUTSIDE, PORT, 4);
    assert_int_equal(arrived(out4), 3);
    ok(network_node_setup(s->node, err));
    ok(network_node_setup(s->node, err));
    ok(network_limits_apply(s->node, 1, &l, err));
    new_flows(s->ve[0], OUTSIDE, PORT, 4);
    assert_int_equal(arrived(out4), 0);
    assert_int_equal(refused(s, 1).connections, 5);
    /* A start of the VE begins its counters anew, and gives it no more connections. */
    attach(s, 0, &l);
    new_flows(s->ve[0], OUTSIDE, PORT, 4);
    assert_int_equal(arrived(out4), 0);
    assert_int_equal(refused(s, 1).connections, 4);

    ok(network_watch_fd(s->node, &fd, err));
    ok(nft_run("add table inet another\n", err));
    ok(network_watch_read(s->node, &gone, err));
    assert_false(gone);
    ok(nft_run("flush ruleset\n", err));
    ok(network_watch_read(s->node, &gone, err));
    assert_true(gone);
    struct err e = {0};
    assert_int_equal(network_limits_apply(s->node, 1, &l, &e), -ERR_STATE);
    assert_non_null(strstr(e.text, "terem_7 are gone"));
    ok(network_node_setup(s->node, err));
    ok(network_limits_apply(s->node, 1, &l, err));
    ok(network_watch_read(s->node, &gone, err));
    assert_false(gone);
    new_flows(s->ve[0], OUTSIDE, PORT, 4);
    assert_int_equal(arrived(out4), 3);
    assert_int_equal(refused(s, 1).connections, 1);
}

struct told {
    int64_t id;
    enum network_row row;
    bool outward;
    unsigned n;
};

static int on_told(void *ctx, int64_t id, enum network_row row, bool outward, struct err *e)
{
    struct told *t = ctx;
    *t = (struct told){id, row, outward, t->n + 1};
    return 0;
}

static void expect_told(struct stage *s, enum network_row row, bool outward)
{
    struct told t = {0};
    ok(network_refusals_read(s->node, on_told, &t, err));
    assert_int_equal(t.n, 1); /* of many */
    assert_int_equal(t.id, 1);
    assert_int_equal(t.row, row);
    assert_int_equal(t.outward, outward);
}

static void test_refusals_are_told(void **state)
{
    struct stage *s = *state;
    struct network_limits l = none;
    int fd;
    l.connections = 2;
    attach(s, 0, &l);
    new_flows(s->ve[0], OUTSIDE, PORT, 10); /* nobody listens yet */
    ok(network_refusals_fd(s->node, &fd, err));
    struct told t = {0};
    ok(network_refusals_read(s->node, on_told, &t, err));
    assert_int_equal(t.n, 0);
    usleep(1200000); /* what was told within a second is not told again */
    new_flows(s->ve[0], OUTSIDE, PORT, 10);
    new_flows(s->ve[0], OUTSIDE6, PORT, 10);
    expect_told(s, NETWORK_CONNECTIONS, true);
    l.connections = NETWORK_UNLIMITED;
    l.rate = 1;
    ok(network_limits_apply(s->node, 1, &l, err));
    new_flows(s->outside, "10.88.0.2", PORT, 10);
    expect_told(s, NETWORK_RATE, false);
    l.rate = NETWORK_UNLIMITED;
    l.packets = 1;
    ok(network_limits_apply(s->node, 1, &l, err));
    new_flows(s->outside, "10.88.0.2", PORT, 100);
    expect_told(s, NETWORK_PACKETS, false);
    /* Another teremd of this instance, by mistake. */
    auto_nfnl struct nfnl *second = NULL;
    struct err e = {0};
    assert_int_equal(nfnl_log_open(NETWORK_LOG_GROUP + 7, &second, &e), -ERR_DENIED);
}

/* Above 2047 they are counted in parts: never more than the limit, and not much less. */
static void test_parts(void **state)
{
    struct stage *s = *state;
    struct network_limits l = none;
    l.connections = 4096;
    attach(s, 0, &l);
    auto_fd int fd = udp(s->ve[0], NULL, AF_INET, 0);
    for (uint16_t port = 10000; port < 16000; port++)
        send_to(fd, ip(OUTSIDE), port, 0);
    uint64_t open = held(s, 1);
    assert_in_range(open, 4096 * 85 / 100, 4096);
    assert_int_equal(open + refused(s, 1).connections, 6000);
}

static void test_rate(void **state)
{
    struct stage *s = *state;
    struct network_limits l = none;
    l.rate = 3;
    attach(s, 0, &l);
    attach(s, 1, &none);
    auto_fd int out4 = udp(s->outside, NULL, AF_INET, PORT);
    new_flows(s->ve[0], OUTSIDE, PORT, 200);
    unsigned came = arrived(out4);
    assert_in_range(came, 3, 190); /* a second's worth at once, and what time has added */
    assert_int_equal(came + refused(s, 1).rate, 200);
    new_flows(s->ve[1], OUTSIDE, PORT, 200);
    assert_int_equal(arrived(out4), 200);
    assert_int_equal(refused(s, 2).rate, 0);
}

/* The node's capacity is used up by one; the other still has what it was promised. */
static void test_rate_guarantee(void **state)
{
    struct stage *s = *state;
    struct network_limits promised = none;
    promised.guarantee = 20;
    ok(network_rate_capacity(s->node, 5, err));
    attach(s, 0, &promised);
    attach(s, 1, &none);
    auto_fd int out4 = udp(s->outside, NULL, AF_INET, PORT);
    new_flows(s->ve[1], OUTSIDE, PORT, 200);
    unsigned came = arrived(out4);
    assert_in_range(came, 5, 190);
    assert_int_equal(came + refused(s, 2).rate, 200);
    new_flows(s->ve[0], OUTSIDE, PORT, 20);
    assert_int_equal(arrived(out4), 20);
    assert_int_equal(refused(s, 1).rate, 0);
    ok(network_rate_capacity(s->node, NETWORK_UNLIMITED, err));
    new_flows(s->ve[1], OUTSIDE, PORT, 50);
    assert_int_equal(arrived(out4), 50);
}

/* An IPv4 packet with any source, and any fragment field. */
static void raw4(int fd, const char *from, const char *to, uint16_t frag)
{
    struct {
        struct iphdr ip;
        uint8_t rest[24];
    } p = {.ip = {.version = 4,
                  .ihl = 5,
                  .ttl = 64,
                  .protocol = 253, /* for experiments */
                  .id = (uint16_t)random(),
                  .frag_off = htons(frag),
                  .tot_len = htons(sizeof(p)),
                  .saddr = ip(from).v4.s_addr,
                  .daddr = ip(to).v4.s_addr}};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = ip(to).v4};
    assert_int_equal(sendto(fd, &p, sizeof(p), 0, (void *)&a, sizeof(a)), sizeof(p));
}

static int raw4_open(int netns)
{
    int home = go(netns);
    int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    back(home);
    assert_true(fd >= 0);
    return fd;
}

/* The host's end of a cable reports its groups at any time: nobody is refused anything when there
 * is no room for that. */
static void test_reports(void **state)
{
    struct stage *s = *state;
    struct network_limits l = none;
    l.packets = 50;
    attach(s, 0, &l);
    int home = go(s->host);
    auto_fd int fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6);
    struct sockaddr_in6 to = {.sin6_family = AF_INET6,
                              .sin6_addr = ip("ff02::16").v6,
                              .sin6_scope_id = if_nametoindex("terem7-1")};
    struct icmp6_hdr report = {.icmp6_type = 143}; /* version 2 */
    unsigned dropped = 0;
    for (int i = 0; i < 500; i++)
        if (sendto(fd, &report, sizeof(report), 0, (void *)&to, sizeof(to)) < 0) {
            assert_int_equal(errno, EPERM);
            dropped++;
        }
    back(home);
    assert_in_range(dropped, 100, 499);
    assert_int_equal(refused(s, 1).packets, 0);
}

static void test_packets(void **state)
{
    struct stage *s = *state;
    struct network_limits l = none;
    l.packets = 50;
    int home = go(s->ve[0]); /* nothing is sent there by itself */
    sysctl_write("ipv6/conf/all/disable_ipv6", "1");
    sysctl_write("ipv6/conf/default/disable_ipv6", "1");
    back(home);
    s->addr[0].v6 = (struct in6_addr){0};
    attach(s, 0, &l);
    attach(s, 1, &none);
    auto_fd int out4 = udp(s->outside, NULL, AF_INET, PORT);
    auto_fd int one = udp(s->ve[0], NULL, AF_INET, PORT);
    for (int i = 0; i < 500; i++)
        send_to(one, ip(OUTSIDE), PORT, 0);
    unsigned came = arrived(out4);
    assert_in_range(came, 1, 400);
    assert_int_equal(came + refused(s, 1).packets, 500);
    /* Each way for itself: what it sends is not taken from what it may get. */
    auto_fd int outside = udp(s->outside, NULL, AF_INET, 0);
    uint64_t before = refused(s, 1).packets;
    for (int i = 0; i < 500; i++)
        send_to(outside, ip("10.88.0.2"), PORT, 0);
    came = arrived(one);
    assert_in_range(came, 1, 400);
    assert_int_equal(came + refused(s, 1).packets - before, 500);
    /* With others' addresses, it still spends its own. */
    auto_fd int raw = raw4_open(s->ve[0]);
    unsigned spoofed = counter("spoofed4");
    before = refused(s, 1).packets;
    for (int i = 0; i < 500; i++)
        raw4(raw, "10.88.0.3", OUTSIDE, 0);
    came = counter("spoofed4") - spoofed;
    assert_int_equal(came + refused(s, 1).packets - before, 500);
    assert_in_range(came, 0, 400);
    assert_int_equal(refused(s, 2).packets, 0);
}

/* The host holds fragments until the others come: few of one VE. */
static void test_fragments(void **state)
{
    struct stage *s = *state;
    attach(s, 0, &none);
    attach(s, 1, &none);
    auto_fd int raw = raw4_open(s->ve[0]);
    for (int i = 0; i < 3000; i++)
        raw4(raw, "10.88.0.2", OUTSIDE, IP_MF);
    assert_in_range(refused(s, 1).packets, 1000, 2600);
    auto_fd int out4 = udp(s->outside, NULL, AF_INET, PORT);
    auto_fd int other = udp(s->ve[1], NULL, AF_INET, 0);
    char big[4000] = {0};
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr = ip(OUTSIDE).v4};
    assert_int_equal(sendto(other, big, sizeof(big), 0, (void *)&a, sizeof(a)), sizeof(big));
    assert_int_equal(arrived(out4), 1);
    assert_int_equal(refused(s, 2).packets, 0);
}

static void test_removed(void **state)
{
    struct stage *s = *state;
    struct network_limits l = {3, 10, 5, 100};
    auto_free int64_t *ids = NULL;
    size_t n = 0;
    attach(s, 0, &l);
    attach(s, 1, &l);
    auto_fd int raw = raw4_open(s->ve[0]);
    raw4(raw, "10.88.0.2", OUTSIDE, IP_MF); /* the rules remember who sent fragments */
    ok(network_limits_list(s->node, &ids, &n, err));
    assert_int_equal(n, 2);
    ok(network_limits_remove(s->node, 1, err));
    ok(network_limits_remove(s->node, 1, err));
    auto_free char *rules = nft_text("list ruleset");
    assert_null(strstr(rules, "ve1-"));
    assert_null(strstr(rules, "terem7-1"));
    assert_non_null(strstr(rules, "ve2-rate_limit"));
    assert_non_null(strstr(rules, "connections-3-in"));
    struct network_refused r;
    struct err e = {0};
    assert_int_equal(network_refused(s->node, 1, &r, &e), -ERR_NOT_FOUND);
    /* A class that nobody uses goes with the next start of teremd. */
    ok(network_limits_remove(s->node, 2, err));
    ok(network_node_setup(s->node, err));
    auto_free char *after = nft_text("list ruleset");
    assert_null(strstr(after, "connections-3"));
    assert_null(strstr(after, "held-3"));
    ok(network_node_remove(s->node, err));
}

static void test_rules(void **state)
{
    struct stage *s = *state;
    uint64_t n = 99;
    ok(network_rules(s->node, s->ve[0], &n, err));
    assert_int_equal(n, 0);
    int home = go(s->ve[0]);
    ok(nft_run("table ip a {\n chain c {\n accept\n drop\n }\n}\n"
               "table inet b {\n chain c {\n accept\n }\n}\n",
               err));
    back(home);
    ok(network_rules(s->node, s->ve[0], &n, err));
    assert_int_equal(n, 3);
    ok(network_rules(s->node, s->ve[1], &n, err));
    assert_int_equal(n, 0);
}

static double now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

/* Tells what one VE more costs among a thousand; only the sums are asserted. */
static void test_thousand(void **state)
{
    struct stage *s = *state;
    struct network_limits l = {16384, 100, 10, 100000};
    double first = 1e9, last = 1e9, t;
    auto_free int64_t *ids = NULL;
    size_t n = 0;
    attach(s, 0, &l); /* makes the class */
    for (int i = 10; i < 1010; i++) {
        t = now_us();
        ok(network_limits_apply(s->node, i, &l, err));
        t = now_us() - t;
        if (i < 30 && t < first)
            first = t;
        else if (i >= 990 && t < last)
            last = t;
    }
    t = now_us();
    ok(network_limits_list(s->node, &ids, &n, err));
    double list = now_us() - t;
    t = now_us();
    for (size_t i = 0; i < n; i++)
        refused(s, ids[i]);
    print_message("# limits of one VE: first %.0f us, thousandth %.0f us; all listed %.1f ms; "
                  "counters of all read %.1f ms\n",
                  first, last, list / 1e3, (now_us() - t) / 1e3);
    assert_int_equal(n, 1001);
    t = now_us();
    for (int i = 0; i < 1000; i++) {
        uint64_t rules;
        ok(network_rules(s->node, s->ve[i % 2], &rules, err));
    }
    print_message("# rules of a VE's firewall counted in %.0f us\n", (now_us() - t) / 1e3);
    t = now_us();
    for (int i = 10; i < 1010; i++)
        ok(network_limits_remove(s->node, i, err));
    print_message("# removed in %.0f us each\n", (now_us() - t) / 1e3);
}

int main(void)
{
    if (!stage_own())
        return 0;
#define limit_test(t) cmocka_unit_test_setup_teardown(t, limits_up, stage_down)
    const struct CMUnitTest tests[] = {
        limit_test(test_connections),
        limit_test(test_one_flow_counts_once),
        limit_test(test_change),
        limit_test(test_laid_again),
        limit_test(test_refusals_are_told),
        limit_test(test_parts),
        limit_test(test_rate),
        limit_test(test_rate_guarantee),
        limit_test(test_packets),
        limit_test(test_reports),
        limit_test(test_fragments),
        limit_test(test_removed),
        limit_test(test_rules),
        limit_test(test_thousand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
