/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Private networks on a real kernel: who reaches whom, and what a member cannot send. */
#include "network/private.h"

#include "base/cleanup.h"
#include "kernel/nft.h"
#include "network/test_stage.h"

#include <arpa/inet.h>
#include <linux/if_bridge.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static struct network_private back_net, other_net;
static struct network_member members[3];

/* VEs 1 and 2 are in the first network, VE 1 in the second, too. */
static void lay(struct stage *s)
{
    ok(network_private_parse("10.77.0.0/24", "fd77::/64", &back_net, err));
    ok(network_private_parse("10.78.0.0/24", NULL, &other_net, err));
    back_net.id = 3;
    other_net.id = 4;
    const struct network_private nets[] = {back_net, other_net};
    const struct network_member all[] = {{1, 1, &back_net, 1, NETWORK_UNLIMITED},
                                         {2, 1, &back_net, 2, NETWORK_UNLIMITED},
                                         {1, 2, &other_net, 1, NETWORK_UNLIMITED}};
    memcpy(members, all, sizeof(all));
    stage_attach_both(s);
    ok(network_privates_lay(s->node, nets, 2, members, 3, err));
    ok(network_member_plug(s->node, &members[0], s->ve[0], err));
    ok(network_member_plug(s->node, &members[1], s->ve[1], err));
    ok(network_member_plug(s->node, &members[2], s->ve[0], err));
}

static bool comes(int from, const char *as, int to, const char *text)
{
    int family = strchr(text, ':') ? AF_INET6 : AF_INET;
    auto_fd int in = udp(to, NULL, family, 7300), out = udp(from, as, family, 7301);
    send_to(out, ip(text), 7300, 0);
    return receive(in, 0).family != 0;
}

static unsigned bridge_counter(const char *name)
{
    char command[128];
    unsigned n = 0;
    str_print(command, sizeof(command), "list counter bridge terem_7 %s", name);
    auto_free char *text = nft_text(command);
    const char *counts = strstr(strstr(text, name), " {");
    assert_int_equal(sscanf(counts, " { packets %u", &n), 1);
    return n;
}

/* ---- frames by hand ---- */

struct frame {
    uint8_t bytes[256];
    size_t len;
};

static void put(struct frame *f, const void *bytes, size_t n)
{
    memcpy(f->bytes + f->len, bytes, n);
    f->len += n;
}

static void put16(struct frame *f, uint16_t v)
{
    uint16_t wire = htons(v);
    put(f, &wire, 2);
}

static void begin(struct frame *f, const uint8_t from[6], uint16_t type)
{
    static const uint8_t all[6] = {255, 255, 255, 255, 255, 255};
    *f = (struct frame){.len = 0};
    put(f, all, 6);
    put(f, from, 6);
    put16(f, type);
}

static void arp(struct frame *f, const uint8_t from[6], const uint8_t says[6], const char *who)
{
    struct netlink_ip a = ip(who), b = ip("10.77.0.2");
    static const uint8_t zero[6];
    begin(f, from, ETHERTYPE_ARP);
    put16(f, 1);
    put16(f, 0x0800);
    put16(f, 0x0604);
    put16(f, 2);
    put(f, says, 6);
    put(f, &a.v4, 4);
    put(f, zero, 6);
    put(f, &b.v4, 4);
}

static void ip4(struct frame *f, const uint8_t from[6], const char *src)
{
    static const uint8_t head[12] = {0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17};
    struct netlink_ip a = ip(src), b = ip("10.77.0.2");
    begin(f, from, ETHERTYPE_IP);
    put(f, head, 12);
    put(f, &a.v4, 4);
    put(f, &b.v4, 4);
    put16(f, 1000);
    put16(f, 1000);
    put16(f, 8);
    put16(f, 0);
    /* br_netfilter drops a head with a wrong sum, and so hides whether the rules would have. */
    uint32_t sum = 0;
    for (size_t i = 14; i < 34; i += 2)
        sum += (uint32_t)f->bytes[i] << 8 | f->bytes[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~((sum & 0xffff) + (sum >> 16));
    f->bytes[24] = (uint8_t)(sum >> 8);
    f->bytes[25] = (uint8_t)sum;
}

/* An ICMPv6 message about `target`. */
static void icmp6(struct frame *f, const uint8_t from[6], const char *src, uint8_t type,
                  const char *target)
{
    const uint8_t head[8] = {0x60, 0, 0, 0, 0, 24, 58, 255}, icmp[8] = {type};
    struct netlink_ip a = ip(src), b = ip("ff02::1"), t = ip(target);
    begin(f, from, ETHERTYPE_IPV6);
    put(f, head, 8);
    put(f, &a.v6, 16);
    put(f, &b.v6, 16);
    put(f, icmp, 8);
    put(f, &t.v6, 16);
}

/* Its contents behind an extension header, which names them. */
static void behind(struct frame *f, uint8_t kind, uint8_t names, uint8_t more)
{
    const uint8_t head[8] = {names, 0, kind == 60, kind == 60 ? 4 : more};
    memmove(f->bytes + 62, f->bytes + 54, f->len - 54);
    memcpy(f->bytes + 54, head, sizeof(head));
    f->bytes[20] = kind;
    f->bytes[19] = (uint8_t)(f->bytes[19] + sizeof(head));
    f->len += sizeof(head);
}

/* What came through a packet socket is ours if it is the frame, byte by byte. */
static bool passes(struct stage *s, const struct frame *f)
{
    int home = go(s->ve[0]);
    int out = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
    struct sockaddr_ll to = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(ETH_P_ALL),
                             .sll_ifindex = (int)if_nametoindex("eth1")};
    back(home);
    home = go(s->ve[1]);
    int in = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
    struct sockaddr_ll at = to;
    at.sll_ifindex = (int)if_nametoindex("eth1");
    back(home);
    assert_true(out >= 0 && in >= 0 && to.sll_ifindex && at.sll_ifindex);
    assert_int_equal(bind(in, (void *)&at, sizeof(at)), 0);
    /* One that is let through for sure comes after it: then it has come, or will not. */
    static const uint8_t own[6] = {2, 'P', 0, 3, 0, 1};
    struct frame last;
    arp(&last, own, own, "10.77.0.1");
    last.bytes[last.len - 1] ^= 1; /* for another than 10.77.0.2 */
    bool found = false;
    assert_true(sendto(out, f->bytes, f->len, 0, (void *)&to, sizeof(to)) > 0);
    assert_true(sendto(out, last.bytes, last.len, 0, (void *)&to, sizeof(to)) > 0);
    for (;;) {
        uint8_t got[512];
        ssize_t n = recv(in, got, sizeof(got), 0);
        assert_true(n > 0);
        if ((size_t)n >= last.len && memcmp(got, last.bytes, last.len) == 0)
            break;
        found |= (size_t)n >= f->len && memcmp(got, f->bytes, f->len) == 0;
    }
    close(in);
    close(out);
    return found;
}

/* ---- tests ---- */

static void test_reach(void **state)
{
    struct stage *s = *state;
    lay(s);
    assert_true(comes(s->ve[0], NULL, s->ve[1], "10.77.0.2"));
    assert_true(comes(s->ve[1], NULL, s->ve[0], "10.77.0.1"));
    assert_true(comes(s->ve[0], NULL, s->ve[1], "fd77::2"));
    assert_true(comes(s->ve[1], NULL, s->ve[0], "fd77::1"));
    bool is = false;
    ok(network_member_plugged(s->node, &members[0], &is, err));
    assert_true(is);
    /* Laid again, nothing is lost. */
    const struct network_private nets[] = {back_net, other_net};
    ok(network_privates_lay(s->node, nets, 2, members, 3, err));
    assert_true(comes(s->ve[0], NULL, s->ve[1], "10.77.0.2"));
    /* Somebody deletes the rules. */
    bool gone = true;
    int fd;
    ok(network_watch_fd(s->node, &fd, err));
    free(nft_text("delete table bridge terem_7"));
    ok(network_watch_read(s->node, &gone, err));
    assert_true(gone);
    ok(network_privates_lay(s->node, nets, 2, members, 3, err));
    ok(network_watch_read(s->node, &gone, err));
    assert_false(gone);
    /* Who has left reaches nobody, and the others go on. */
    ok(network_member_remove(s->node, &members[1], true, err));
    ok(network_member_plugged(s->node, &members[1], &is, err));
    assert_false(is);
    assert_false(comes(s->ve[0], NULL, s->ve[1], "10.77.0.2"));
    assert_true(comes(s->ve[0], NULL, s->ve[1], "10.88.0.3"));
}

/* The host takes nothing and asks for nothing, also when somebody has deleted the rules. */
static void test_host(void **state)
{
    struct stage *s = *state;
    /* The bridge's, the end's, and groups whose frames a bridge hands to the machine. */
    static const uint8_t macs[][6] = {{2, 'T', 'e', 'p', 0, 3},
                                      {2, 'T', 'e', 'r', 'e', 'p'},
                                      {1, 0x80, 0xc2, 0, 0, 0x0e},
                                      {1, 0x80, 0xc2, 0, 0, 3}};
    lay(s);
    for (size_t i = 0; i < 2 * ARRAY_SIZE(macs); i++) {
        auto_fd int in = udp(s->host, NULL, AF_INET, 7500),
                    in6 = udp(s->host, NULL, AF_INET6, 7501);
        auto_fd int outside = udp(s->outside, NULL, AF_INET, 7502);
        auto_netlink struct netlink *nl = NULL;
        ok(netlink_open_in(s->ve[0], &nl, err));
        struct netlink_link l;
        ok(netlink_link_get(nl, "eth1", &l, err));
        static const char *const goals[] = {"203.0.113.1", "203.0.113.2", "2001:db8::1"};
        for (size_t k = 0; k < 3; k++) {
            struct netlink_ip goal = ip(goals[k]);
            netlink_neighbour_add(nl, l.ifindex, goal, macs[i % ARRAY_SIZE(macs)]);
            netlink_route_add(nl,
                              &(struct netlink_route){.dst = goal,
                                                      .prefix = goal.family == AF_INET ? 32 : 128,
                                                      .ifindex = l.ifindex});
        }
        ok(netlink_commit(nl, err));
        auto_fd int out = udp(s->ve[0], "10.77.0.1", AF_INET, 7503),
                    out6 = udp(s->ve[0], "fd77::1", AF_INET6, 7504);
        assert_int_equal(send_to(out, ip("203.0.113.1"), 7500, 0), 1);
        assert_int_equal(send_to(out, ip("203.0.113.2"), 7502, 0), 1);
        assert_int_equal(send_to(out6, ip("2001:db8::1"), 7501, 0), 1);
        assert_int_equal(receive(in, 0).family, 0);
        assert_int_equal(receive(outside, 0).family, 0);
        assert_int_equal(receive(in6, 0).family, 0);
        if (i == ARRAY_SIZE(macs) - 1)
            free(nft_text("delete table bridge terem_7"));
    }
}

static void test_spoof(void **state)
{
    struct stage *s = *state;
    static const uint8_t own[6] = {2, 'P', 0, 3, 0, 1}, peer[6] = {2, 'P', 0, 3, 0, 2};
    static const char link[] = "fe80::50:ff:fe03:1";
    struct frame f;
    lay(s);
    /* What is its own passes, so what does not is not lost for another reason. */
    arp(&f, own, own, "10.77.0.1");
    assert_true(passes(s, &f));
    ip4(&f, own, "10.77.0.1");
    assert_true(passes(s, &f));
    icmp6(&f, own, "fd77::1", 136, "fd77::1");
    assert_true(passes(s, &f));
    icmp6(&f, own, link, 136, link);
    assert_true(passes(s, &f));
    icmp6(&f, own, "fd77::1", 135, "fd77::2");
    assert_true(passes(s, &f));
    icmp6(&f, own, "::", 135, "fd77::1");
    assert_true(passes(s, &f));
    icmp6(&f, own, "fd77::1", 136, "fd77::1");
    behind(&f, 60, 58, 0);
    assert_true(passes(s, &f));
    icmp6(&f, own, "fd77::1", 128, "fd77::1");
    behind(&f, 51, 17, 0);
    assert_true(passes(s, &f));

    unsigned before = bridge_counter("spoofed"), n = 0;
#define refused(...)                 \
    do {                             \
        __VA_ARGS__;                 \
        n++;                         \
        assert_false(passes(s, &f)); \
    } while (0)
    refused(arp(&f, peer, own, "10.77.0.1"));
    refused(arp(&f, own, peer, "10.77.0.1"));
    refused(arp(&f, own, own, "10.77.0.2"));
    refused(arp(&f, own, own, "10.77.0.9"));
    refused(arp(&f, own, own, "0.0.0.0"));
    refused(ip4(&f, peer, "10.77.0.1"));
    refused(ip4(&f, own, "10.77.0.9"));
    refused(ip4(&f, own, "10.88.0.2"));
    refused(ip4(&f, own, "0.0.0.0"));
    refused(icmp6(&f, own, "fd77::9", 128, "fd77::9"));
    refused(icmp6(&f, own, "fd77::1", 136, "fd77::2"));
    refused(icmp6(&f, own, "fd77::2", 136, "fd77::2"));
    refused(icmp6(&f, own, "::", 135, "fd77::2"));
    refused(icmp6(&f, own, "fe80::1", 136, link));
    refused(arp(&f, own, own, "10.77.0.1"); f.bytes[18] = 8);
    refused(arp(&f, own, own, "10.77.0.1"); f.bytes[19] = 16);
    assert_int_equal(bridge_counter("spoofed"), before + n);

    before = bridge_counter("rogue");
    n = 0;
    refused(icmp6(&f, own, link, 134, link));
    refused(icmp6(&f, own, link, 137, link));
    static const uint8_t hide[] = {51, 135, 139, 140, 60};
    for (size_t i = 0; i < sizeof(hide); i++)
        refused(icmp6(&f, own, link, 134, link); behind(&f, hide[i], 58, 0));
    refused(icmp6(&f, own, link, 134, link); behind(&f, 60, 58, 0); behind(&f, 51, 60, 0));
    refused(icmp6(&f, own, link, 134, link); behind(&f, 51, 58, 0); behind(&f, 60, 51, 0));
    /* A first fragment that ends before what it is. */
    refused(icmp6(&f, own, link, 134, link); f.len = 54; f.bytes[19] = 0; behind(&f, 60, 58, 0);
            behind(&f, 44, 60, 1));
    refused(ip4(&f, own, "10.77.0.1"); f.bytes[35] = 67; f.bytes[34] = 0; f.bytes[37] = 68;
            f.bytes[36] = 0);
    refused(begin(&f, own, 0x88cc); put16(&f, 1); f.len = 60);
    /* A VLAN's tag, which the kernel may take out of the frame. */
    refused(begin(&f, own, 0x8100); put16(&f, 5); put16(&f, ETHERTYPE_ARP); f.len = 60);
    assert_int_equal(bridge_counter("rogue"), before + n);
    /* In the other network it has another address. */
    assert_false(comes(s->ve[0], "10.78.0.1", s->ve[1], "10.77.0.2"));
}

static bool known(const struct __fdb_entry *list, int n, const struct __fdb_entry *one)
{
    for (int i = 0; i < n; i++)
        if (memcmp(list[i].mac_addr, one->mac_addr, 6) == 0)
            return true;
    return false;
}

/* Stations that the bridge of the first network knows, at most 256.  A kernel with VLANs in bridges
 * (Debian's) tells each for the one that is there by default, too. */
static int stations(void)
{
    struct __fdb_entry found[256];
    unsigned long args[] = {BRCTL_GET_FDB_ENTRIES, (unsigned long)found, ARRAY_SIZE(found), 0};
    struct ifreq request = {.ifr_name = "terem7.n3", .ifr_data = (char *)args};
    auto_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int count = ioctl(fd, SIOCDEVPRIVATE, &request), n = 0;
    assert_in_range(count, 0, ARRAY_SIZE(found));
    for (int i = 0; i < count; i++)
        n += !found[i].is_local && !known(found, i, &found[i]);
    return n;
}

/* A raw socket of VE 1 in the first network. */
static int raw(struct stage *s)
{
    int home = go(s->ve[0]);
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex("eth1")};
    assert_int_equal(bind(fd, (void *)&at, sizeof(at)), 0);
    back(home);
    return fd;
}

static void send_group(int fd, uint8_t group, const uint8_t from[6])
{
    const uint8_t to[6] = {1, 0x80, 0xc2, 0, 0, group};
    struct frame f;
    begin(&f, from, 0x88cc);
    memcpy(f.bytes, to, 6);
    f.len = 60;
    assert_int_equal(send(fd, f.bytes, f.len, 0), f.len);
}

/* Frames to the groups that bridges keep to themselves are met by the rules, and no frame tells the
 * bridge where a MAC is. */
static void test_learns_nothing(void **state)
{
    struct stage *s = *state;
    static const uint8_t peer[6] = {2, 'P', 0, 3, 0, 2};
    lay(s);
    assert_int_equal(stations(), 2);
    assert_true(comes(s->ve[0], NULL, s->ve[1], "10.77.0.2")); /* from here on nobody asks */
    auto_fd int out = raw(s);
    for (int i = 0; i < 2; i++) {
        for (uint8_t group = 0; group < 16; group++) {
            unsigned before = i ? 0 : bridge_counter("rogue");
            send_group(out, group, peer);
            if (i == 0 && group != 1) /* pauses of a link: the kernel drops them */
                assert_int_equal(bridge_counter("rogue"), before + 1);
            assert_true(comes(s->ve[0], NULL, s->ve[1], "10.77.0.2"));
        }
        for (uint32_t k = 0; k < 20000; k++) {
            const uint8_t from[6] = {2, 2, 0, (uint8_t)(k >> 16), (uint8_t)(k >> 8), (uint8_t)k};
            send_group(out, 14, from);
        }
        assert_int_equal(stations(), 2);
        if (i == 0)
            free(nft_text("delete table bridge terem_7"));
    }
}

/* A network of before, whose bridge has learned what a member made up. */
static void test_learned(void **state)
{
    struct stage *s = *state;
    static const char *const ends[] = {"terem7.1.1", "terem7.2.1"};
    static const uint8_t peer[6] = {2, 'P', 0, 3, 0, 2};
    auto_netlink struct netlink *nl = NULL;
    struct netlink_link bridge, l;
    bool is = false;
    lay(s);
    auto_fd int out = raw(s);
    ok(netlink_open(&nl, err));
    ok(netlink_link_get(nl, "terem7.n3", &bridge, err));
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) { /* as ports are without more said */
        ok(netlink_link_get(nl, ends[i], &l, err));
        netlink_link_master(nl, l.ifindex, 0);
        netlink_link_master(nl, l.ifindex, bridge.ifindex);
        ok(netlink_commit(nl, err));
        ok(netlink_link_wait(nl, ends[i], err));
    }
    assert_true(comes(s->ve[0], NULL, s->ve[1], "10.77.0.2"));
    send_group(out, 14, (const uint8_t[6]){2, 2, 2, 2, 2, 2});
    send_group(out, 14, peer);
    assert_int_equal(stations(), 3);
    assert_false(comes(s->ve[0], NULL, s->ve[1], "10.77.0.2"));
    for (size_t i = 0; i < 2; i++) {
        ok(network_member_plugged(s->node, &members[i], &is, err));
        assert_true(is);
        ok(network_member_fix(s->node, &members[i], err));
        ok(network_member_fix(s->node, &members[i], err));
    }
    assert_int_equal(stations(), 2);
    send_group(out, 14, peer);
    assert_true(comes(s->ve[0], NULL, s->ve[1], "10.77.0.2"));
}

static void test_limit(void **state)
{
    struct stage *s = *state;
    lay(s);
    members[0].packets = members[2].packets = 20;
    const struct network_member own[] = {members[2], members[0]};
    assert_true(comes(s->ve[0], NULL, s->ve[1], "10.77.0.2"));
    ok(network_members_limit(s->node, own, 2, false, err));
    auto_fd int out = udp(s->ve[0], NULL, AF_INET, 7600);
    for (int i = 0; i < 200; i++)
        send_to(out, ip("10.77.0.2"), 7601, 0);
    assert_in_range(bridge_counter("ve1-packets"), 1, 199); /* a burst passes */
    for (int keep = 0; keep < 2; keep++) {
        /* Its kernel reports its groups at any time, also between two looks. */
        struct network_refused no;
        unsigned least = bridge_counter("ve1-packets");
        network_refused_keep(s->node, keep);
        ok(network_refused(s->node, 1, &no, err));
        network_refused_keep(s->node, false);
        assert_in_range(no.packets, least, bridge_counter("ve1-packets"));
    }
    /* Gone again. */
    struct network_member none[] = {members[2], members[0]};
    none[0].packets = none[1].packets = NETWORK_UNLIMITED;
    ok(network_members_limit(s->node, none, 2, false, err));
    unsigned before = bridge_counter("ve1-packets");
    for (int i = 0; i < 200; i++)
        send_to(out, ip("10.77.0.2"), 7601, 0);
    assert_int_equal(bridge_counter("ve1-packets"), before);
    ok(network_members_limit(s->node, none, 2, true, err));
    assert_int_equal(bridge_counter("ve1-packets"), 0);
    ok(network_member_remove(s->node, &members[0], false, err));
    ok(network_member_remove(s->node, &members[2], true, err));
    auto_free char *table = nft_text("list table bridge terem_7");
    assert_null(strstr(table, "ve1"));
}

static void test_leaves_nothing(void **state)
{
    struct stage *s = *state;
    auto_free char *before = stage_snapshot();
    lay(s);
    /* Half made, it is not whole, and is made again. */
    bool is = true;
    auto_netlink struct netlink *nl = NULL;
    struct netlink_link l;
    ok(netlink_open(&nl, err));
    ok(netlink_link_get(nl, "terem7.2.1", &l, err));
    netlink_link_master(nl, l.ifindex, 0);
    ok(netlink_commit(nl, err));
    ok(network_member_plugged(s->node, &members[1], &is, err));
    assert_false(is);
    ok(network_member_plug(s->node, &members[1], s->ve[1], err));
    assert_true(comes(s->ve[0], NULL, s->ve[1], "10.77.0.2"));
    /* Ends and bridges of nobody go. */
    ok(network_privates_lay(s->node, &other_net, 1, &members[2], 1, err));
    assert_int_equal(netlink_link_get(nl, "terem7.2.1", &l, &(struct err){0}), -ERR_NOT_FOUND);
    assert_int_equal(netlink_link_get(nl, "terem7.n3", &l, &(struct err){0}), -ERR_NOT_FOUND);
    ok(netlink_link_get(nl, "terem7.1.2", &l, err));
    ok(network_node_remove(s->node, err));
    auto_free char *after = stage_snapshot();
    assert_string_equal(after, before);
}

/* A crash between the registry's word and the kernel's leaves rules of members that are none. */
static void test_left(void **state)
{
    struct stage *s = *state;
    lay(s);
    struct network_member left = members[1];
    left.packets = 20;
    ok(network_members_limit(s->node, &left, 1, false, err));
    ok(nft_run("table bridge terem_77 {\n counter ve2-packets {\n }\n chain ve2.1 {\n }\n}", err));
    ok(network_privates_lay(s->node, &back_net, 1, members, 1, err));
    auto_free char *table = nft_text("list table bridge terem_7");
    assert_null(strstr(table, "ve2"));
    assert_null(strstr(table, "ve1.2"));
    assert_non_null(strstr(table, "chain ve1.1"));
    assert_non_null(strstr(table, "counter ve1-packets"));
    auto_free char *other = nft_text("list table bridge terem_77");
    assert_non_null(strstr(other, "counter ve2-packets"));
    assert_non_null(strstr(other, "chain ve2.1"));
    ok(nft_run("delete table bridge terem_77", err));
}

static void test_left_limits(void **state)
{
    struct stage *s = *state;
    lay(s);
    ok(network_member_remove(s->node, &members[2], false, err)); /* VE 1 stays in the other */
    auto_free char *none = nft_text("list limits table bridge terem_7");
    assert_null(strstr(none, "ve1"));
    members[0].packets = 20;
    ok(network_privates_lay(s->node, &back_net, 1, members, 2, err));
    members[0].packets = 30;
    ok(network_privates_lay(s->node, &back_net, 1, members, 2, err));
    auto_free char *table = nft_text("list limits table bridge terem_7");
    assert_non_null(strstr(table, "30/second"));
    assert_null(strstr(table, "20/second"));
}

/* eth1 is there already: one sentence, and nothing stays. */
static void test_taken(void **state)
{
    struct stage *s = *state;
    struct netlink_link l;
    struct err e = {0};
    lay(s);
    ok(network_member_unplug(s->node, &members[0], err));
    auto_netlink struct netlink *inner = NULL, *nl = NULL;
    ok(netlink_open(&nl, err));
    ok(netlink_open_in(s->ve[0], &inner, err));
    netlink_bridge_add(inner, "eth1", (const uint8_t[6]){2, 2, 2, 2, 2, 2});
    ok(netlink_commit(inner, err));
    assert_int_equal(network_member_plug(s->node, &members[0], s->ve[0], &e), -ERR_EXISTS);
    assert_non_null(strstr(e.text, "cannot make eth1"));
    assert_int_equal(netlink_link_get(nl, "terem7.1.1", &l, &e), -ERR_NOT_FOUND);
}

static void bad(const char *v4, const char *v6, const char *why)
{
    struct network_private p;
    struct err e = {0};
    assert_int_equal(network_private_parse(v4, v6, &p, &e), -ERR_USAGE);
    if (!strstr(e.text, why))
        fail_msg("%s", e.text);
}

/* Numbers of VEs are never given twice: they grow as long as the node lives. */
static void test_names(void **state)
{
    static const struct network_node node = {.name = "terem9"};
    static const struct {
        int64_t id;
        const char *name;
    } rows[] = {{7, "terem9.7.1"},
                {999999, "terem9.999999.1"},
                {1000000, "terem9.xlfls.1"},
                {1679616, "terem9.x10000.1"},
                {60466175, "terem9.xzzzzz.1"}};
    char name[IFNAMSIZ];
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct network_member m = {.id = rows[i].id, .port = 1};
        ok(network_member_name(&node, &m, name, err));
        assert_string_equal(name, rows[i].name);
    }
    struct network_member m = {.id = 60466176, .port = 1};
    struct err e;
    assert_int_equal(network_member_name(&node, &m, name, &e), -ERR_EXHAUSTED);
}

static void test_numbers(void **state)
{
    struct network_private p, q;
    ok(network_private_parse("10.77.0.0/24", "fd77::/64", &p, err));
    ok(network_private_parse("10.77.0.128/25", NULL, &q, err));
    assert_true(network_private_overlaps(&p, &q));
    ok(network_private_parse("10.78.0.0/16", "fd77::100/120", &q, err));
    assert_true(network_private_overlaps(&p, &q));
    assert_int_equal(network_private_numbers(&p), 254);
    assert_int_equal(network_private_numbers(&q), 254);
    const struct {
        const char *text;
        uint32_t number;
    } cases[] = {{"10.77.0.1", 1}, {"10.77.0.254", 254}, {"10.77.0.255", 0}, {"10.77.0.0", 0},
                 {"10.77.1.1", 0}, {"fd77::fe", 254},    {"fd77::1:1", 0},   {"fd78::1", 0}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct netlink_ip one = ip(cases[i].text);
        assert_int_equal(network_private_number(&p, &one), cases[i].number);
    }
    ok(network_private_parse("10.80.0.0/16", NULL, &p, err));
    assert_int_equal(network_private_numbers(&p), 65534);
    struct netlink_ip far = ip("10.80.3.7");
    assert_int_equal(network_private_number(&p, &far), 0x307);
    bad(NULL, NULL, "neither");
    bad("10.77.0.0/8", NULL, "prefix");
    bad("10.77.0.0/31", NULL, "from 16 to 30");
    bad("8.8.8.0/24", NULL, "routed on the internet");
    bad("fd77::/64", NULL, "not an IPv4 network");
    bad(NULL, "fd77::/48", "from 64 to 120");
    bad("10.77.0.5/24", NULL, "did you mean 10.77.0.0/24");
}

int main(void)
{
    if (!stage_own())
        return 0;
#define stage_test(t) cmocka_unit_test_setup_teardown(t, stage_up, stage_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),  cmocka_unit_test(test_names),    stage_test(test_reach),
        stage_test(test_host),           stage_test(test_spoof),          stage_test(test_limit),
        stage_test(test_leaves_nothing), stage_test(test_taken),          stage_test(test_left),
        stage_test(test_left_limits),    stage_test(test_learns_nothing), stage_test(test_learned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
