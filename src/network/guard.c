/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The nftables table of the instance: what is the same for all VEs.
 *
 * One VE is a few elements in maps keyed by the name of its host end, which nothing inside can
 * choose, and the objects that they name (limit.c).  So a packet costs a look in a map, and a VE's
 * coming or going touches nothing of the others.
 *
 * The table is laid again at each start of teremd, and its maps, counters and the connections
 * that it has counted stay: only rules are replaced.
 */
#include "base/cleanup.h"
#include "kernel/nfnl.h"
#include "kernel/nft.h"
#include "network/internal.h"

#include <arpa/inet.h>

/* What a machine tells routers of the groups that it is in; of no use on a link of two. */
#define REPORTS "icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report }"

/* A header of IPv4 without options, no fragment, TCP: nothing but its source is asked about. */
#define PLAIN_TCP4 "@nh,0,8 0x45 @nh,48,32 & 0x3fff00ff 0x00000006"

/* Whatever has rules. */
static const char *const chains[] = {
    "refuse_packet_out",
    "refuse_packet_in",
    "refuse_rate_out",
    "refuse_rate_in",
    "refuse_connection_out",
    "refuse_connection_in",
    "fragment_out",
    "answers",
    "options4",
    "headers6",
    "first6",
    "rate_out",
    "rate_in",
    "counted",
    "guard4",
    "guard6",
    "source4",
    "source6",
    "from_ve",
    "early",
    "known",
    "tracked",
    "begin",
    "late",
    "confirm",
    "confirm_host",
    "outward",
    "publish",
    "published",
    "published_host",
};

/* %1$s: the table.  Nothing in here changes what is there already. */
static const char frame_text[] =
    "table inet %1$s {\n"
    "    counter spoofed4 {\n    }\n"
    "    counter spoofed6 {\n    }\n"
    "    counter rogue {\n    }\n"
    "    counter stale {\n    }\n"
    "    map packets_out { type ifname : limit; }\n"
    "    map packets_in { type ifname : limit; }\n"
    "    map packets_refused { type ifname : counter; }\n"
    "    map rate_limit { type ifname : limit; }\n"
    "    map rate_guaranteed { type ifname : limit; }\n"
    "    map rate_free { type nf_proto : limit; }\n"
    "    map rate_refused { type ifname : counter; }\n"
    "    map connections_out { type ifname : verdict; }\n"
    "    map connections_in { type ifname : verdict; }\n"
    "    map connections_refused { type ifname : counter; }\n"
    "    set private4 { type ipv4_addr; flags interval; }\n"
    "    set private6 { type ipv6_addr; flags interval; }\n"
    "    set fragments { type ifname; size 65536; flags dynamic; }\n"
    "    set told_packets { type ifname; size 65536; flags dynamic,timeout; timeout 1s; }\n"
    "    set told_rate { type ifname; size 65536; flags dynamic,timeout; timeout 1s; }\n"
    "    set told_connections { type ifname; size 65536; flags dynamic,timeout; timeout 1s; }\n"
    "    chain refuse_packet_out { }\n"
    "    chain refuse_packet_in { }\n"
    "    chain refuse_rate_out { }\n"
    "    chain refuse_rate_in { }\n"
    "    chain refuse_connection_out { }\n"
    "    chain refuse_connection_in { }\n"
    "    chain fragment_out { }\n"
    "    chain answers { }\n"
    "    chain options4 { }\n"
    "    chain headers6 { }\n"
    "    chain first6 { }\n"
    "    chain rate_out { }\n"
    "    chain rate_in { }\n"
    "    chain counted { }\n"
    "    chain guard4 { }\n"
    "    chain guard6 { }\n"
    "    chain source4 { }\n"
    "    chain source6 { }\n"
    "    chain from_ve { }\n"
    "    chain early { type filter hook prerouting priority -450; policy accept; }\n"
    "    chain late { type filter hook postrouting priority -450; policy accept; }\n"
    "    chain known { }\n"
    "    chain tracked { type filter hook prerouting priority -149; policy accept; }\n"
    "    chain begin { type nat hook prerouting priority -199; policy accept; }\n"
    "    chain confirm { type nat hook postrouting priority -199; policy accept; }\n"
    "    chain confirm_host { type nat hook input priority -199; policy accept; }\n"
    "    chain outward { type nat hook postrouting priority srcnat; policy accept; }\n"
    "    map published4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; "
    "}\n"
    "    map published6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; "
    "}\n"
    "    map published4_all { type inet_proto . inet_service : ipv4_addr . inet_service; }\n"
    "    map published6_all { type inet_proto . inet_service : ipv6_addr . inet_service; }\n"
    "    set selves4 { type ipv4_addr . ipv4_addr; }\n"
    "    set selves6 { type ipv6_addr . ipv6_addr; }\n"
    "    chain publish { }\n"
    "    chain published { type nat hook prerouting priority dstnat; policy accept; }\n"
    "    chain published_host { type nat hook output priority -100; policy accept; }\n"
    "}\n";

/*
 * %1$s: the table, %2$s: how names of host ends begin.
 *
 * What a VE sends is met before anything is done for it: `early` stands before fragments are put
 * together (-400) and before connection tracking (-200), so what is over net.packets, and a spoofed
 * packet, cost some comparisons and, the latter, a route lookup, and no memory.
 *
 * Everything from a host end must be routed back to that same end; that also holds for link-local
 * sources (see lay_host_side()).  Sources of VEs that nobody may claim are the same as those that
 * are not routed: 0.0.0.0, 127.0.0.1, multicast.  From :: comes only duplicate address detection.
 * Multicast listener reports are of no use on a link of two and are no refusal.  Router
 * advertisements, redirects and DHCP answers are the host's to give, neighbours are asked for and
 * told of on the cable only, and nobody leads packets on by way of the host (source routes).  Of
 * fragments the first tells what it is: in IPv6 it has to hold what stands behind the extension
 * headers (RFC 7112), the first eight bytes of it at least.
 *
 * Fragments that the host holds until the others come (4 MiB for all by default) are bounded by
 * VE: 200 a second, each held 30 s at most.
 *
 * `begin`, `confirm` and `confirm_host` are asked as chains of NAT are, of a connection's first
 * packet alone: what belongs to one that is known costs nothing there.  They stand before whatever
 * else translates, as the first that does ends the asking.  `confirm` sees a packet that no filter
 * before it has refused, so that connections that come to be are counted as held; what a filter
 * behind it (postrouting) refuses ct count forgets.  What goes to a VE is known by its route only.
 * Connections that a helper of the host's expects (ct helper, which nobody has unasked) have their
 * translation already and are not asked about.
 *
 * `known`: what belongs to no connection would leave with the address that it has inside, as
 * nothing translates it.  A connection that was reset counts no more (10 s are left to it then,
 * nf_conntrack_tcp_timeout_close, and to none in another state), so nothing but resets may follow:
 * else one that resets its own, in packets that end on the way, would have as many as it likes.
 *
 * A connection of two VEs is the one's that opens it: else it could use up its neighbour's.
 *
 * Frames within a private network come here only where br_netfilter shows them to the rules for IP
 * (net.bridge.bridge-nf-call-iptables): the host's table of connections is not for them.
 */
static const char rules_text[] =
    "table inet %1$s {\n"
    "    chain fragment_out {\n"
    "        add @fragments { meta iifname limit rate over 200/second burst 400 packets } "
    "goto refuse_packet_out\n"
    "    }\n"
    "    chain rate_out {\n"
    "        limit name meta iifname map @rate_limit goto refuse_rate_out\n"
    "        limit name meta iifname map @rate_guaranteed return\n"
    "        limit name meta nfproto map @rate_free goto refuse_rate_out\n"
    "    }\n"
    "    chain rate_in {\n"
    "        limit name meta oifname map @rate_limit goto refuse_rate_in\n"
    "        limit name meta oifname map @rate_guaranteed return\n"
    "        limit name meta nfproto map @rate_free goto refuse_rate_in\n"
    "    }\n"
    "    chain answers {\n"
    "        udp sport . udp dport { 67 . 68, 547 . 546 } counter name \"rogue\" drop\n"
    "        icmpv6 type { nd-router-advert, nd-redirect } counter name \"rogue\" drop\n"
    "        icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } "
    "fib daddr type unicast counter name \"rogue\" drop\n"
    "    }\n"
    "    chain options4 {\n"
    "        ip option lsrr exists counter name \"rogue\" drop\n"
    "        ip option ssrr exists counter name \"rogue\" drop\n"
    "    }\n"
    "    chain first6 {\n"
    "        @th,0,8 >= 0 return\n"
    "        counter name \"rogue\" drop\n"
    "    }\n"
    "    chain headers6 {\n"
    "        exthdr frag exists jump fragment_out\n"
    "        frag frag-off 0 jump first6\n"
    "        exthdr rt exists fib daddr type local counter name \"rogue\" drop\n"
    "    }\n"
    "    chain guard4 {\n"
    "        ip frag-off & 0x3fff != 0 jump fragment_out\n"
    "        ip hdrlength > 5 jump options4\n"
    "        jump answers\n"
    "        goto source4\n"
    "    }\n"
    "    chain source4 {\n"
    "        @nh,128,8 127 counter name \"spoofed4\" drop\n"
    "        fib saddr . iif oif missing counter name \"spoofed4\" drop\n"
    "    }\n"
    "    chain guard6 {\n"
    "        ip6 nexthdr tcp goto source6\n"
    "        ip6 nexthdr { 0, 43, 44, 51, 60, 135, 139, 140 } jump headers6\n"
    "        jump answers\n"
    "        " REPORTS " drop\n"
    "        ip6 saddr :: icmpv6 type nd-neighbor-solicit accept\n"
    "        goto source6\n"
    "    }\n"
    "    chain source6 {\n"
    "        fib saddr . iif oif missing counter name \"spoofed6\" drop\n"
    "    }\n"
    "    chain from_ve {\n"
    "        limit name meta iifname map @packets_out goto refuse_packet_out\n"
    "        " PLAIN_TCP4 " goto source4\n"
    "        meta nfproto ipv4 goto guard4\n"
    "        meta nfproto ipv6 goto guard6\n"
    "    }\n"
    "    chain counted {\n"
    "        meta iifname vmap @connections_out\n"
    "        iifname \"%2$s-*\" return\n"
    "        meta oifname vmap @connections_in\n"
    "    }\n"
    "    chain early {\n"
    "        iifname \"%2$s-*\" goto from_ve\n"
    "        iifname \"%2$s.n*\" notrack\n"
    "    }\n"
    "    chain late {\n"
    "        oifname \"%2$s-*\" limit name meta oifname map @packets_in goto refuse_packet_in\n"
    "    }\n"
    "    chain known {\n"
    "        meta l4proto tcp ct expiration > 10s accept\n"
    "        ct state invalid counter name \"stale\" drop\n"
    "        ct state established tcp flags & rst == 0 counter name \"stale\" drop\n"
    "    }\n"
    "    chain tracked {\n"
    "        iifname \"%2$s-*\" goto known\n"
    "    }\n"
    "    chain begin {\n"
    "        iifname \"%2$s-*\" goto rate_out\n"
    "    }\n"
    "    chain confirm {\n"
    "        iifname != \"%2$s-*\" oifname \"%2$s-*\" jump rate_in\n"
    "        goto counted\n"
    "    }\n"
    "    chain confirm_host {\n"
    "        meta iifname vmap @connections_out\n"
    "    }\n"
    "    chain publish {\n"
    "        dnat ip to ip daddr . meta l4proto . th dport map @published4\n"
    "        dnat ip6 to ip6 daddr . meta l4proto . th dport map @published6\n"
    "        fib daddr type != local return\n"
    "        meta nfproto ipv4 dnat ip to meta l4proto . th dport map @published4_all\n"
    "        meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @published6_all\n"
    "    }\n"
    "    chain published {\n"
    "        meta l4proto { tcp, udp } goto publish\n"
    "    }\n"
    "    chain published_host {\n"
    "        oif lo ip daddr 127.0.0.0/8 return\n"
    "        oif lo ip6 daddr ::1 return\n"
    "        meta l4proto { tcp, udp } goto publish\n"
    "    }\n"
    "    chain outward {\n"
    "        ip saddr . ip daddr @selves4 masquerade\n"
    "        ip6 saddr . ip6 daddr @selves6 masquerade\n";

void network_table_name(const struct network_node *n, char ret[NETWORK_TABLE])
{
    str_print(ret, NETWORK_TABLE, "terem_%u", n->instance);
}

/* A public pool keeps its addresses outside; only private ones need the host's. */
static void add_masquerade(struct str *s, const struct network_node *n,
                           const struct network_pool *p)
{
    char text[NETWORK_TEXT];
    if (p->base.family && p->private)
        str_add(s, "        %s saddr %s oifname != \"%s\" oifname != \"%s-*\" masquerade\n",
                p->base.family == AF_INET ? "ip" : "ip6",
                network_ip_text(&p->base, p->prefix, text), n->name, n->name);
}

/*
 * A resolver on the host's loopback is met at 169.254.1.1.  It sees 127.0.0.1 as the asker, since
 * by default such servers answer nobody else.  Other ports of 127.0.0.0/8 stay shut: the guard
 * drops what is sent there, and it stands before this.
 */
static void add_resolver(struct str *s, const struct network_node *n, const char *table)
{
    char addr[INET_ADDRSTRLEN];
    static const char frame[] =
        "table inet %1$s {\n"
        "    chain resolver { type nat hook prerouting priority dstnat; policy accept; }\n"
        "    chain resolver_asker { type nat hook input priority 100; policy accept; }\n"
        "}\n"
        "%2$s chain inet %1$s resolver\n"
        "%2$s chain inet %1$s resolver_asker\n";
    if (!n->resolver.s_addr || !inet_ntop(AF_INET, &n->resolver, addr, sizeof(addr))) {
        str_add(s, frame, table, "delete"); /* of an earlier setup, or just made */
        return;
    }
    str_add(s, frame, table, "flush");
    str_add(s,
            "table inet %3$s {\n"
            "    chain resolver {\n"
            "        iifname \"%1$s-*\" ip daddr " NETWORK_GATEWAY4
            " meta l4proto { tcp, udp } th dport 53 dnat ip to %2$s\n"
            "    }\n"
            "    chain resolver_asker {\n"
            "        iifname \"%1$s-*\" ip daddr %2$s snat ip to 127.0.0.1\n"
            "    }\n"
            "}\n",
            n->name, addr, table);
}

/*
 * What is refused is counted, told once a second for each VE and row, and dropped.  Each is a rule
 * of its own, as a counter that is not there would also skip what follows it.  The host's own
 * reports to a VE are the only packets that nobody sent.
 */
static void add_refusals(struct str *s, const struct network_node *n, const char *table, bool tell)
{
    static const struct {
        const char *chain, *row;
    } rows[] = {{"packet", "packets"}, {"rate", "rate"}, {"connection", "connections"}};
    str_add(s, "table inet %s {\n", table);
    for (size_t i = 0; i < 2 * ARRAY_SIZE(rows); i++) {
        const char *row = rows[i / 2].row, *way = i % 2 ? "in" : "out",
                   *end = i % 2 ? "oifname" : "iifname";
        str_add(s,
                "    chain refuse_%1$s_%2$s {\n"
                "%5$s"
                "        counter name meta %3$s map @%4$s_refused\n",
                rows[i / 2].chain, way, end, row, i == 1 ? "        " REPORTS " drop\n" : "");
        if (tell)
            str_add(s,
                    "        meta %1$s @told_%2$s drop\n"
                    "        add @told_%2$s { meta %1$s timeout 1s } log prefix \"%2$s-%3$s\" "
                    "group %4$u snaplen 1 queue-threshold 1\n",
                    end, row, way, NETWORK_LOG_GROUP + n->instance);
        str_add(s, "        drop\n    }\n");
    }
    str_add(s, "}\n");
}

int network_guard_text(const struct network_node *n, bool anew, bool tell, struct str *s,
                       struct err *err)
{
    char table[NETWORK_TABLE];
    network_table_name(n, table);
    if (anew)
        str_add(s, "add table inet %1$s\ndelete table inet %1$s\n", table);
    str_add(s, frame_text, table);
    for (size_t i = 0; i < ARRAY_SIZE(chains); i++)
        str_add(s, "flush chain inet %s %s\n", table, chains[i]);
    add_refusals(s, n, table, tell);
    str_add(s, rules_text, table, n->name);
    add_masquerade(s, n, &n->pool4);
    add_masquerade(s, n, &n->pool6);
    for (int v = 4; v <= 6; v += 2)
        str_add(s, "        %s saddr @private%d oifname != \"%s\" oifname != \"%s-*\" masquerade\n",
                v == 4 ? "ip" : "ip6", v, n->name, n->name);
    str_add(s, "    }\n}\n");
    network_ranges_text(n, s);
    add_resolver(s, n, table);
    return s->failed ? err_set(err, ERR_EXHAUSTED, "out of memory") : 0;
}

static int lay(const struct network_node *n, bool anew, bool tell, struct err *err)
{
    auto_str struct str s = str_init(1 << 20);
    int r = network_guard_text(n, anew, tell, &s, err);
    return r < 0 ? r : nft_run(str_c(&s), err);
}

int network_guard_lay(struct network_node *n, struct err *err)
{
    /* A kernel may not know how to tell of refusals (nfnetlink_log).  And a table that an older
     * Terem laid may have other maps: then all of it goes, and what was counted with it; the
     * caller writes the limits of every VE again. */
    static const struct {
        bool anew, tell;
    } ways[] = {{false, true}, {false, false}, {true, true}, {true, false}};
    int r = -1;
    for (size_t i = 0; r < 0 && i < ARRAY_SIZE(ways); i++) {
        err_clear(err);
        r = lay(n, ways[i].anew, ways[i].tell, err);
    }
    if (r == 0)
        r = network_classes_lay(n, err);
    return r < 0 ? err_wrap(err, "cannot lay the packet rules terem_%u", n->instance) : 0;
}

int network_guard_remove(const struct network_node *n, struct err *err)
{
    char table[NETWORK_TABLE], text[128];
    network_table_name(n, table);
    str_print(text, sizeof(text), "add table inet %1$s\ndelete table inet %1$s\n", table);
    int r = nft_run(text, err);
    return r < 0 ? err_wrap(err, "cannot remove the packet rules %s", table) : 0;
}
