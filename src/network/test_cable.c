/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The whole room on a real kernel. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "kernel/nft.h"
#include "network/test_stage.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <netinet/icmp6.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static void test_reach_host(void **state)
{
    struct stage *s = *state;
    ok(network_node_setup(s->node, err));
    ok(network_attach(s->node, 1, s->ve[0], &s->addr[0], &NETWORK_LIMITS_NONE, err));
    /* At once: no address is tentative and no neighbour unknown. */
    auto_fd int in6 = udp(s->ve[0], "fd54:7::2", AF_INET6, 7000);
    auto_fd int out6 = udp(s->host, NULL, AF_INET6, 7001);
    assert_int_equal(send_to(out6, ip("fd54:7::2"), 7000, 0), 1);
    expect_from(in6, "fd54:7::1");
    assert_int_equal(send_to(in6, ip("fd54:7::1"), 7001, 0), 1);
    expect_from(out6, "fd54:7::2");

    auto_fd int in4 = udp(s->ve[0], NULL, AF_INET, 7000);
    auto_fd int out4 = udp(s->host, NULL, AF_INET, 7001);
    assert_int_equal(send_to(out4, ip("10.88.0.2"), 7000, 0), 1);
    expect_from(in4, "10.88.0.1");
    assert_int_equal(send_to(in4, ip("10.88.0.1"), 7001, 0), 1);
    expect_from(out4, "10.88.0.2");
    assert_int_equal(send_to(in4, ip("169.254.1.1"), 7001, 0), 1);
    expect_from(out4, "10.88.0.2");
    assert_int_equal(counter("spoofed4") + counter("spoofed6") + counter("rogue"), 0);

    /* lo inside is up, and the link is as wide as the uplink. */
    auto_fd int self = udp(s->ve[0], "127.0.0.1", AF_INET, 7002);
    assert_int_equal(send_to(self, ip("127.0.0.1"), 7002, 0), 1);
    expect_from(self, "127.0.0.1");
    auto_netlink struct netlink *nl = NULL;
    struct netlink_link l;
    ok(netlink_open_in(s->ve[0], &nl, err));
    ok(netlink_link_get(nl, "eth0", &l, err));
    assert_int_equal(l.mtu, 1400);
    assert_true(l.flags & IFF_RUNNING);
}

static void test_reach_each_other_and_outside(void **state)
{
    struct stage *s = *state;
    stage_attach_both(s);
    auto_fd int a4 = udp(s->ve[0], NULL, AF_INET, 7000);
    auto_fd int b4 = udp(s->ve[1], NULL, AF_INET, 7000);
    auto_fd int a6 = udp(s->ve[0], NULL, AF_INET6, 7006);
    auto_fd int b6 = udp(s->ve[1], NULL, AF_INET6, 7006);
    assert_int_equal(send_to(a4, ip("10.88.0.3"), 7000, 0), 1);
    expect_from(b4, "10.88.0.2");
    assert_int_equal(send_to(b6, ip("fd54:7::2"), 7006, 0), 1);
    expect_from(a6, "fd54:7::3");

    auto_fd int out4 = udp(s->outside, NULL, AF_INET, 7000);
    auto_fd int out6 = udp(s->outside, NULL, AF_INET6, 7006);
    assert_int_equal(send_to(a4, ip("203.0.113.2"), 7000, 0), 1);
    expect_from(out4, "203.0.113.1"); /* masqueraded, and the answer finds its way back */
    assert_int_equal(send_to(out4, ip("203.0.113.1"), 7000, 0), 1);
    expect_from(a4, "203.0.113.2");
    assert_int_equal(send_to(a6, ip("2001:db8::2"), 7006, 0), 1);
    expect_from(out6, "2001:db8::1");
    assert_int_equal(send_to(out6, ip("2001:db8::1"), 7006, 0), 1);
    expect_from(a6, "2001:db8::2");

    /* An address of the pool that nobody has is refused at once and does not leave. */
    auto_fd int lost = udp(s->ve[0], NULL, AF_INET, 7003);
    int one = 1; /* without it a UDP socket ignores what may pass, such as this */
    setsockopt(lost, IPPROTO_IP, IP_RECVERR, &one, sizeof(one));
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(9), .sin_addr = ip("10.88.9.9").v4};
    assert_int_equal(connect(lost, (void *)&to, sizeof(to)), 0);
    assert_int_equal(send(lost, "x", 1, 0), 1);
    char byte;
    assert_int_equal(recv(lost, &byte, 1, 0), -1);
    assert_int_equal(errno, EHOSTUNREACH);
}

/* The VE's root takes an address that is not its own and sends from it to `to`. */
static void spoof(struct stage *s, const char *as, const char *to, int listener,
                  const char *refusal)
{
    address_in(s->ve[0], "eth0", as, strchr(as, ':') ? 128 : 32);
    auto_fd int fd = udp(s->ve[0], as, strchr(as, ':') ? AF_INET6 : AF_INET, 7100);
    unsigned before = counter(refusal);
    int home = go(s->ve[0]);
    unsigned scope = if_nametoindex("eth0");
    back(home);
    assert_int_equal(send_to(fd, ip(to), 7000, scope), 1);
    if (!counter_passes(refusal, before))
        fail_msg("a packet from %s was not refused", as);
    if (receive(listener, MSG_DONTWAIT).family)
        fail_msg("a packet from %s arrived", as);
    address_gone(s->ve[0], "eth0", as, strchr(as, ':') ? 128 : 32);
}

/* TCP without options takes a shorter way through the rules. */
static void spoof_segment(struct stage *s, int family, const char *as, const char *to,
                          const char *refusal)
{
    static const uint8_t segment[20] = {0x1b, 0x58, 0x1b, 0x58, [12] = 0x50, [13] = 0x02};
    uint8_t prefix = family == AF_INET ? 32 : 128;
    address_in(s->ve[0], "eth0", as, prefix);
    int home = go(s->ve[0]);
    auto_fd int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_TCP);
    back(home);
    struct sockaddr_in a4 = {.sin_family = AF_INET}, b4 = a4;
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6}, b6 = a6;
    a4.sin_addr = ip(as).v4, b4.sin_addr = ip(to).v4;
    a6.sin6_addr = ip(as).v6, b6.sin6_addr = ip(to).v6;
    bool v4 = family == AF_INET;
    assert_int_equal(v4 ? bind(fd, (void *)&a4, sizeof(a4)) : bind(fd, (void *)&a6, sizeof(a6)), 0);
    unsigned before = counter(refusal);
    assert_int_equal(sendto(fd, segment, sizeof(segment), 0, v4 ? (void *)&b4 : (void *)&b6,
                            v4 ? sizeof(b4) : sizeof(b6)),
                     sizeof(segment));
    if (!counter_passes(refusal, before))
        fail_msg("a TCP segment from %s was not refused", as);
    address_gone(s->ve[0], "eth0", as, prefix);
}

static void test_spoofing(void **state)
{
    struct stage *s = *state;
    stage_attach_both(s);
    auto_fd int host4 = udp(s->host, NULL, AF_INET, 7000);
    auto_fd int host6 = udp(s->host, "fd54:7::1", AF_INET6, 7000);
    auto_fd int link6 = udp(s->host, NULL, AF_INET6, 7001);
    auto_fd int peer4 = udp(s->ve[1], NULL, AF_INET, 7000);
    auto_fd int peer6 = udp(s->ve[1], NULL, AF_INET6, 7000);
    auto_fd int out4 = udp(s->outside, NULL, AF_INET, 7000);

    spoof(s, "10.88.0.3", "10.88.0.1", host4, "spoofed4");   /* the neighbour's */
    spoof(s, "203.0.113.2", "10.88.0.1", host4, "spoofed4"); /* somebody's outside */
    spoof(s, "8.8.8.8", "10.88.0.3", peer4, "spoofed4");     /* behind the default route */
    spoof(s, "10.88.0.1", "10.88.0.3", peer4, "spoofed4");   /* the gateway's */
    spoof(s, "10.88.77.7", "203.0.113.2", out4, "spoofed4"); /* of the pool, nobody's */
    spoof(s, "fd54:7::3", "fd54:7::1", host6, "spoofed6");
    spoof(s, "fd54:7::1", "fd54:7::3", peer6, "spoofed6");
    spoof(s, "2001:db8::2", "fd54:7::3", peer6, "spoofed6");
    spoof(s, "2a00::1", "fd54:7::1", host6, "spoofed6");
    spoof(s, "fe80::bad", "fe80::1", host6, "spoofed6");

    spoof_segment(s, AF_INET, "10.88.0.3", "10.88.0.1", "spoofed4");
    spoof_segment(s, AF_INET, "8.8.8.8", "203.0.113.2", "spoofed4");
    spoof_segment(s, AF_INET6, "fd54:7::3", "fd54:7::1", "spoofed6");
    spoof_segment(s, AF_INET6, "2a00::1", "2001:db8::2", "spoofed6");

    /* Its own still pass: global and link-local. */
    auto_fd int own = udp(s->ve[0], "10.88.0.2", AF_INET, 7101);
    assert_int_equal(send_to(own, ip("10.88.0.1"), 7000, 0), 1);
    expect_from(host4, "10.88.0.2");
    auto_fd int own6 = udp(s->ve[0], "fe80::34:aff:fe58:2", AF_INET6, 7102);
    int home = go(s->ve[0]);
    unsigned scope = if_nametoindex("eth0");
    back(home);
    assert_int_equal(send_to(own6, ip("fe80::1"), 7001, scope), 1);
    expect_from(link6, "fe80::34:aff:fe58:2");

    /* The host's loopback is not to be reached by the cable. */
    address_gone(s->ve[0], "lo", "127.0.0.1", 8);
    home = go(s->ve[0]);
    sysctl_write("ipv4/conf/eth0/route_localnet", "1");
    back(home);
    sysctl_write("ipv4/conf/terem7-1/route_localnet", "1");
    unsigned before = counter("spoofed4");
    assert_int_equal(send_to(own, ip("127.0.0.1"), 7000, 0), 1);
    assert_true(counter_passes("spoofed4", before));
    assert_int_equal(receive(host4, MSG_DONTWAIT).family, 0);
}

/* ICMPv6 of the VE's own making to all nodes, hop limit 255. */
static void icmp6_from(struct stage *s, const void *message, size_t len)
{
    int home = go(s->ve[0]), hops = 255;
    unsigned eth0 = if_nametoindex("eth0");
    auto_fd int fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6);
    back(home);
    assert_true(fd >= 0);
    setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof(hops));
    struct sockaddr_in6 to = {
        .sin6_family = AF_INET6, .sin6_addr = ip("ff02::1").v6, .sin6_scope_id = eth0};
    assert_int_equal(sendto(fd, message, len, 0, (void *)&to, sizeof(to)), len);
}

static int count_ra_routes(void *ctx, const struct netlink_route *r, struct err *e)
{
    if (r->protocol == RTPROT_RA)
        ++*(int *)ctx;
    return 0;
}

static void test_rogue_router(void **state)
{
    struct stage *s = *state;
    stage_attach_both(s);
    /* A host that would believe it. */
    sysctl_write("ipv6/conf/terem7-1/accept_ra", "2");
    struct __attribute__((packed)) {
        struct nd_router_advert ra;
        struct nd_opt_prefix_info prefix;
    } m = {.ra = {.nd_ra_hdr = {.icmp6_type = ND_ROUTER_ADVERT}, .nd_ra_router_lifetime = 0xffff},
           .prefix = {.nd_opt_pi_type = ND_OPT_PREFIX_INFORMATION,
                      .nd_opt_pi_len = 4,
                      .nd_opt_pi_prefix_len = 64,
                      .nd_opt_pi_flags_reserved = 0xc0,
                      .nd_opt_pi_valid_time = 0xffff,
                      .nd_opt_pi_preferred_time = 0xffff,
                      .nd_opt_pi_prefix = ip("2001:db8:bad::").v6}};
    icmp6_from(s, &m, sizeof(m));
    assert_true(counter_passes("rogue", 0));
    auto_netlink struct netlink *nl = NULL;
    int n = 0;
    ok(netlink_open(&nl, err));
    ok(netlink_route_each(nl, AF_INET6, count_ra_routes, &n, err));
    assert_int_equal(n, 0);

    auto_fd int server = udp(s->ve[0], NULL, AF_INET, 67);
    assert_int_equal(send_to(server, ip("10.88.0.1"), 68, 0), 1);
    assert_true(counter_passes("rogue", 1));
}

/* What an owner may do: take the interface down and up and write the routes again. */
static void test_owner_restarts_interface(void **state)
{
    struct stage *s = *state;
    stage_attach_both(s);
    auto_netlink struct netlink *nl = NULL;
    ok(netlink_open_in(s->ve[0], &nl, err));
    int home = go(s->ve[0]);
    struct ifreq rq = {.ifr_name = "eth0"};
    auto_fd int ctl = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(ioctl(ctl, SIOCSIFFLAGS, &rq), 0);
    back(home);
    address_in(s->ve[0], "eth0", "10.88.0.2", 32);
    address_in(s->ve[0], "eth0", "fd54:7::2", 128);
    default_route_in(s->ve[0], "eth0", "169.254.1.1");
    default_route_in(s->ve[0], "eth0", "fe80::1");
    auto_fd int host4 = udp(s->host, NULL, AF_INET, 7000);
    auto_fd int host6 = udp(s->host, NULL, AF_INET6, 7006);
    auto_fd int in4 = udp(s->ve[0], NULL, AF_INET, 7000);
    auto_fd int in6 = udp(s->ve[0], NULL, AF_INET6, 7006);
    assert_int_equal(send_to(in4, ip("10.88.0.1"), 7000, 0), 1);
    expect_from(host4, "10.88.0.2");
    assert_int_equal(send_to(in6, ip("fd54:7::1"), 7006, 0), 1);
    expect_from(host6, "fd54:7::2");
}

static void test_setup_and_remove(void **state)
{
    struct stage *s = *state;
    ok(nft_run("table inet foreign {\n chain c {\n type filter hook input priority 0;\n "
               "udp dport 9 drop\n }\n }\n",
               err));
    /* Forwarding on one interface only, redirects refused: both would be lost by the masters. */
    sysctl_write("ipv4/conf/up1/forwarding", "1");
    sysctl_write("ipv4/conf/all/accept_redirects", "0");
    auto_free char *before = stage_snapshot();
    ok(network_node_setup(s->node, err));
    auto_free char *once = stage_snapshot();
    ok(network_node_setup(s->node, err));
    auto_free char *twice = stage_snapshot();
    assert_string_equal(once, twice);
    assert_string_not_equal(before, once);
    sysctl_expect("ipv4/ip_forward", "1");
    sysctl_expect("ipv6/conf/all/forwarding", "1");
    sysctl_expect("ipv6/conf/up0/accept_ra", "2");
    auto_free char *foreign = nft_text("list table inet foreign");
    assert_non_null(strstr(once, foreign));

    ok(network_attach(s->node, 1, s->ve[0], &s->addr[0], &NETWORK_LIMITS_NONE, err));
    /* Another process, later, knows what was. */
    network_node_close(s->node);
    s->node = NULL;
    ok(network_node_open(&config, &s->node, err));
    ok(network_node_setup(s->node, err));
    ok(network_node_remove(s->node, err));
    auto_free char *after = stage_snapshot();
    assert_string_equal(before, after);
    assert_int_equal(access(STATE "/network.json", F_OK), -1);
    ok(network_node_remove(s->node, err));
}

static void test_other_pool(void **state)
{
    struct stage *s = *state;
    auto_free char *before = stage_snapshot();
    ok(network_node_setup(s->node, err));
    struct network_config other = config;
    other.pool4 = "10.99.0.0/24";
    other.pool6 = "";
    network_node_close(s->node);
    s->node = NULL;
    ok(network_node_open(&other, &s->node, err));
    ok(network_node_setup(s->node, err));
    auto_free char *text = stage_snapshot();
    assert_null(strstr(text, "10.88."));
    assert_null(strstr(text, "fd54:"));
    assert_non_null(strstr(text, "route 10.99.0.0/24 type 7"));
    ok(network_node_remove(s->node, err));
    auto_free char *after = stage_snapshot();
    assert_string_equal(before, after);
}

static void test_two_instances(void **state)
{
    struct stage *s = *state;
    struct network_config c3 = {
        .instance = 3, .pool4 = "10.89.0.0/16", .pool6 = "fd54:3::/64", .state = "/tmp/state3"};
    struct network_node *three = NULL;
    struct err e = {0};
    mkdir(c3.state, 0700);
    ok(network_node_setup(s->node, err));
    ok(network_node_open(&c3, &three, err));
    ok(network_node_setup(three, err));
    ok(network_node_remove(s->node, err));
    sysctl_expect("ipv4/ip_forward", "1"); /* the other still needs it */
    auto_free char *rules = nft_text("list ruleset");
    assert_non_null(strstr(rules, "terem_3"));
    assert_null(strstr(rules, "terem_7"));
    network_node_close(three);
    /* Its network is taken now. */
    c3.instance = 4;
    assert_int_equal(network_node_open(&c3, &three, &e), -ERR_EXISTS);
    assert_non_null(strstr(e.text, "terem3"));
}

static void test_overlap(void **state)
{
    struct stage *s = *state;
    struct network_node *n = NULL;
    struct network_config c = config;
    struct err e = {0};
    c.pool4 = "203.0.112.0/20";
    assert_int_equal(network_node_open(&c, &n, &e), -ERR_EXISTS);
    assert_non_null(strstr(e.text, "up0"));
    c.pool4 = NULL;
    c.pool6 = "2001:db8::/64";
    assert_int_equal(network_node_open(&c, &n, &e), -ERR_EXISTS);
    assert_non_null(strstr(e.text, "up0"));
    c.pool6 = "";
    assert_int_equal(network_node_open(&c, &n, &e), -ERR_USAGE);
    assert_null(n);

    /* A pool that is ours already stays so, whatever wide route comes up. */
    auto_netlink struct netlink *nl = NULL;
    struct netlink_link l;
    ok(network_node_setup(s->node, err));
    ok(netlink_open(&nl, err));
    ok(netlink_link_get(nl, "up0", &l, err));
    netlink_route_add(nl, &(struct netlink_route){.dst = ip("10.0.0.0"),
                                                  .prefix = 8,
                                                  .ifindex = l.ifindex,
                                                  .scope = RT_SCOPE_LINK,
                                                  .protocol = RTPROT_STATIC});
    ok(netlink_commit(nl, err));
    ok(network_node_open(&config, &n, err));
    network_node_close(n);
    c = config;
    c.instance = 8;
    assert_int_equal(network_node_open(&c, &n, &e), -ERR_EXISTS);
    ok(network_node_remove(s->node, err));
    assert_int_equal(network_node_open(&config, &n, &e), -ERR_EXISTS);
}

static bool has_link(int netns, const char *name)
{
    auto_netlink struct netlink *nl = NULL;
    struct netlink_link l;
    ok(netlink_open_in(netns, &nl, err));
    return netlink_link_get(nl, name, &l, NULL) == 0;
}

static void foreign_link(struct stage *s, const char *name, bool bridge)
{
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
    auto_netlink struct netlink *nl = NULL;
    ok(netlink_open(&nl, err));
    if (bridge)
        netlink_bridge_add(nl, name, mac);
    else
        netlink_veth_add(
            nl,
            &(struct netlink_veth){
                .name = name, .peer = name, .peer_netns = s->outside, .mac = mac, .peer_mac = mac});
    ok(netlink_commit(nl, err));
}

static void test_stale_and_foreign_ends(void **state)
{
    struct stage *s = *state;
    struct err e = {0};
    ok(network_node_setup(s->node, err));
    ok(network_attach(s->node, 1, s->ve[0], &s->addr[0], &NETWORK_LIMITS_NONE, err));
    ok(network_attach(s->node, 1, s->ve[1], &s->addr[1], &NETWORK_LIMITS_NONE, err));
    assert_false(has_link(s->ve[0], "eth0"));
    assert_true(has_link(s->ve[1], "eth0"));

    /* eth0 is there inside already: nothing is left outside. */
    assert_int_equal(network_attach(s->node, 5, s->ve[1], &s->addr[0], &NETWORK_LIMITS_NONE, &e),
                     -ERR_EXISTS);
    assert_false(has_link(s->host, "terem7-5"));
    ok(network_detach(s->node, 1, err));
    ok(network_detach(s->node, 1, err));
    assert_false(has_link(s->ve[1], "eth0"));

    /* A failure after the pair was made leaves nothing: without setup the gateway's address is
     * not the host's, and no route can prefer it as source. */
    ok(network_node_remove(s->node, err));
    assert_int_not_equal(
        network_attach(s->node, 1, s->ve[1], &s->addr[1], &NETWORK_LIMITS_NONE, &e), 0);
    assert_false(has_link(s->host, "terem7-1"));
    assert_false(has_link(s->ve[1], "eth0"));
}

static void test_list(void **state)
{
    struct stage *s = *state;
    auto_free int64_t *ids = NULL;
    size_t n = 9;
    struct err e = {0};
    ok(network_list(s->node, &ids, &n, err));
    assert_int_equal(n, 0);
    foreign_link(s, "terem7-9", true);
    foreign_link(s, "terem7-x", false);
    foreign_link(s, "terem7-01", false);
    foreign_link(s, "terem77-1", false);
    foreign_link(s, "terem7x", false);
    stage_attach_both(s);
    ok(network_list(s->node, &ids, &n, err));
    assert_int_equal(n, 2);
    assert_true((ids[0] == 1 && ids[1] == 2) || (ids[0] == 2 && ids[1] == 1));

    auto_fd int ns = netns_new();
    assert_int_equal(network_attach(s->node, 9, ns, &s->addr[0], &NETWORK_LIMITS_NONE, &e),
                     -ERR_EXISTS);
    assert_non_null(strstr(e.text, "terem7-9"));
    ok(network_detach(s->node, 9, err)); /* not ours, so not there */
    assert_true(has_link(s->host, "terem7-9"));
    struct network_counters c;
    assert_int_equal(network_counters(s->node, 9, &c, &e), -ERR_EXISTS);
    assert_int_equal(network_counters(s->node, 8, &c, &e), -ERR_NOT_FOUND);
    ok(network_node_remove(s->node, err));
    static const char *const foreign[] = {"terem7-9", "terem7-x", "terem7-01", "terem77-1"};
    for (size_t i = 0; i < ARRAY_SIZE(foreign); i++)
        assert_true(has_link(s->host, foreign[i]));
}

static void test_counters(void **state)
{
    struct stage *s = *state;
    stage_attach_both(s);
    struct network_counters before, after;
    auto_fd int host = udp(s->host, NULL, AF_INET, 7000);
    auto_fd int in = udp(s->ve[0], NULL, AF_INET, 7000);
    ok(network_counters(s->node, 1, &before, err));
    for (int i = 0; i < 10; i++)
        assert_int_equal(send_to(host, ip("10.88.0.2"), 7000, 0), 1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(send_to(in, ip("10.88.0.1"), 7000, 0), 1);
    for (int i = 0; i < 5; i++)
        expect_from(host, "10.88.0.2");
    for (int i = 0; i < 10; i++)
        expect_from(in, "10.88.0.1");
    ok(network_counters(s->node, 1, &after, err));
    assert_true(after.in_packets - before.in_packets >= 10);
    assert_true(after.in_packets - before.in_packets < 15);
    assert_true(after.out_packets - before.out_packets >= 5);
    assert_true(after.out_packets - before.out_packets < 10);
    assert_true(after.in_bytes - before.in_bytes >= 10 * 43);
}

static int compare_double(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* In a forked process, as a job's worker does it; and how long it takes. */
static void test_worker(void **state)
{
    struct stage *s = *state;
    ok(network_node_setup(s->node, err));
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        double t[40];
        for (int i = 0; i < 40; i++) {
            int ns = netns_new();
            double start = now_ms();
            if (network_attach(s->node, 100 + i, ns, &s->addr[0], &NETWORK_LIMITS_NONE, NULL) < 0)
                _exit(1);
            t[i] = now_ms() - start;
            if (network_detach(s->node, 100 + i, NULL) < 0)
                _exit(2);
            close(ns);
        }
        qsort(t, 40, sizeof(t[0]), compare_double);
        printf("# attach: median %.2f ms, best %.2f, worst %.2f\n", t[20], t[0], t[39]);
        fflush(stdout);
        _exit(0);
    }
    int64_t *ids = NULL;
    size_t n;
    for (int i = 0; i < 20; i++) {
        ok(network_list(s->node, &ids, &n, err));
        free(ids);
    }
    int status = 1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* The namespace dies: its host end goes by itself, and the same id can come again meanwhile. */
static void test_namespace_dies(void **state)
{
    struct stage *s = *state;
    ok(network_node_setup(s->node, err));
    for (int i = 0; i < 10; i++) {
        auto_fd int ns = netns_new();
        ok(network_attach(s->node, 1, ns, &s->addr[0], &NETWORK_LIMITS_NONE, err));
        auto_fd int host = udp(s->host, NULL, AF_INET, 7001);
        auto_fd int in = udp(ns, NULL, AF_INET, 7000);
        assert_int_equal(send_to(host, ip("10.88.0.2"), 7000, 0), 1);
        expect_from(in, "10.88.0.1");
    }
}

int main(void)
{
    if (!stage_own())
        return 0;
#define stage_test(t) cmocka_unit_test_setup_teardown(t, stage_up, stage_down)
    const struct CMUnitTest tests[] = {
        stage_test(test_reach_host),
        stage_test(test_reach_each_other_and_outside),
        stage_test(test_spoofing),
        stage_test(test_rogue_router),
        stage_test(test_owner_restarts_interface),
        stage_test(test_setup_and_remove),
        stage_test(test_other_pool),
        stage_test(test_two_instances),
        stage_test(test_overlap),
        stage_test(test_stale_and_foreign_ends),
        stage_test(test_list),
        stage_test(test_counters),
        stage_test(test_worker),
        stage_test(test_namespace_dies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
