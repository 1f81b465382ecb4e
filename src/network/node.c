/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a node has once: the bridge that holds the gateway addresses, the routes that keep unused
 * addresses of the pools from leaving, and the nftables table.
 */
#include "base/cleanup.h"
#include "kernel/nft.h"
#include "network/internal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>

/*
 * The guard stands before connection tracking, so that a spoofed packet costs two comparisons
 * and a route lookup.  Everything from a host end must be routed back to that same end; that
 * also holds for link-local sources (see lay_host_side()).  Sources of VEs that nobody may claim
 * are the same as those that are not routed: 0.0.0.0, 127.0.0.1, multicast.
 *
 * From :: comes only duplicate address detection.  Multicast listener reports are of no use on a
 * link of two and are no refusal.  Router advertisements, redirects and DHCP answers are the
 * host's to give.
 */
static const char guard_text[] =
    "add table inet %1$s\n"
    "delete table inet %1$s\n"
    "table inet %1$s {\n"
    "    counter spoofed4 {\n    }\n"
    "    counter spoofed6 {\n    }\n"
    "    counter rogue {\n    }\n"
    "    chain guard4 {\n"
    "        udp sport 67 udp dport 68 counter name \"rogue\" drop\n"
    "        ip daddr 127.0.0.0/8 counter name \"spoofed4\" drop\n"
    "        fib saddr . iif oif missing counter name \"spoofed4\" drop\n"
    "    }\n"
    "    chain guard6 {\n"
    "        icmpv6 type { nd-router-advert, nd-redirect } counter name \"rogue\" drop\n"
    "        udp sport 547 udp dport 546 counter name \"rogue\" drop\n"
    "        icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report } drop\n"
    "        ip6 saddr :: icmpv6 type nd-neighbor-solicit accept\n"
    "        fib saddr . iif oif missing counter name \"spoofed6\" drop\n"
    "    }\n"
    "    chain guard {\n"
    "        type filter hook prerouting priority raw; policy accept;\n"
    "        iifname \"%2$s-*\" meta nfproto ipv4 goto guard4\n"
    "        iifname \"%2$s-*\" meta nfproto ipv6 goto guard6\n"
    "    }\n"
    "    chain outward {\n"
    "        type nat hook postrouting priority srcnat; policy accept;\n";

static int table_name(const struct network_node *n, char *buf, size_t size)
{
    return str_print(buf, size, "terem_%u", n->instance);
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
static void add_resolver(struct str *s, const struct network_node *n)
{
    char addr[INET_ADDRSTRLEN];
    if (!n->resolver.s_addr || !inet_ntop(AF_INET, &n->resolver, addr, sizeof(addr)))
        return;
    str_add(s,
            "    chain resolver {\n"
            "        type nat hook prerouting priority dstnat; policy accept;\n"
            "        iifname \"%1$s-*\" ip daddr " NETWORK_GATEWAY4
            " meta l4proto { tcp, udp } th dport 53 dnat ip to %2$s\n"
            "    }\n"
            "    chain resolver_asker {\n"
            "        type nat hook input priority 100; policy accept;\n"
            "        iifname \"%1$s-*\" ip daddr %2$s snat ip to 127.0.0.1\n"
            "    }\n",
            n->name, addr);
}

int network_guard_text(const struct network_node *n, struct str *s, struct err *err)
{
    char table[32];
    table_name(n, table, sizeof(table));
    str_add(s, guard_text, table, n->name);
    add_masquerade(s, n, &n->pool4);
    add_masquerade(s, n, &n->pool6);
    str_add(s, "    }\n");
    add_resolver(s, n);
    str_add(s, "}\n");
    return s->failed ? err_set(err, ERR_EXHAUSTED, "out of memory") : 0;
}

static int lay_guard(const struct network_node *n, struct err *err)
{
    auto_str struct str s = str_init(8192);
    int r = network_guard_text(n, &s, err);
    if (r == 0 && (r = nft_run(str_c(&s), err)) < 0)
        return err_wrap(err, "cannot lay the packet rules terem_%u", n->instance);
    return r;
}

/* What the bridge holds: both gateways, and the address that VEs ask for by ARP should they have
 * lost the permanent neighbour that network_attach() gave them. */
static size_t gateways(const struct network_node *n, int bridge, struct netlink_address ret[3])
{
    size_t k = 0;
    if (n->pool4.base.family) {
        ret[k++] = (struct netlink_address){
            .ifindex = bridge, .ip = n->pool4.gateway, .prefix = 32, .scope = RT_SCOPE_UNIVERSE};
        ret[k++] = (struct netlink_address){
            .ifindex = bridge, .ip = network_gateway4(), .prefix = 32, .scope = RT_SCOPE_LINK};
    }
    if (n->pool6.base.family)
        ret[k++] = (struct netlink_address){.ifindex = bridge,
                                            .ip = n->pool6.gateway,
                                            .prefix = 128,
                                            .flags = IFA_F_NODAD | IFA_F_NOPREFIXROUTE};
    return k;
}

/* Addresses and routes that an earlier setup with other pools left. */
struct stale {
    const struct network_node *n;
    int bridge;
    struct netlink_address wanted[3];
    size_t n_wanted;
    struct netlink_address addresses[8];
    struct netlink_route routes[8];
    size_t n_addresses, n_routes;
};

static bool same_ip(const struct netlink_ip *a, const struct netlink_ip *b)
{
    return a->family == b->family && (a->family == AF_INET ? a->v4.s_addr == b->v4.s_addr
                                                           : IN6_ARE_ADDR_EQUAL(&a->v6, &b->v6));
}

static int find_stale_address(void *ctx, const struct netlink_address *a, struct err *err)
{
    struct stale *s = ctx;
    if (a->ifindex != s->bridge || s->n_addresses == ARRAY_SIZE(s->addresses))
        return 0;
    for (size_t i = 0; i < s->n_wanted; i++)
        if (same_ip(&a->ip, &s->wanted[i].ip) && a->prefix == s->wanted[i].prefix)
            return 0;
    s->addresses[s->n_addresses++] = *a;
    return 0;
}

static bool is_pool(const struct network_pool *p, const struct netlink_route *r)
{
    return p->base.family && same_ip(&p->base, &r->dst) && p->prefix == r->prefix;
}

static int find_stale_route(void *ctx, const struct netlink_route *r, struct err *err)
{
    struct stale *s = ctx;
    if (r->protocol == NETWORK_PROTOCOL && r->metric == NETWORK_METRIC + s->n->instance &&
        r->type == RTN_UNREACHABLE && s->n_routes < ARRAY_SIZE(s->routes) &&
        !is_pool(&s->n->pool4, r) && !is_pool(&s->n->pool6, r))
        s->routes[s->n_routes++] = *r;
    return 0;
}

static int remove_stale(struct netlink *nl, struct stale *s, struct err *err)
{
    int r = netlink_address_each(nl, find_stale_address, s, err);
    if (r == 0)
        r = netlink_route_each(nl, AF_INET, find_stale_route, s, err);
    if (r == 0)
        r = netlink_route_each(nl, AF_INET6, find_stale_route, s, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < s->n_addresses; i++)
        netlink_address_delete(nl, &s->addresses[i]);
    for (size_t i = 0; i < s->n_routes; i++)
        netlink_route_delete(nl, &s->routes[i]);
    return netlink_commit(nl, err);
}

/* An address of the pool that no VE has: answered "unreachable" here, not sent out. */
static struct netlink_route unreachable(const struct network_node *n, const struct network_pool *p)
{
    return (struct netlink_route){.dst = p->base,
                                  .prefix = p->prefix,
                                  .type = RTN_UNREACHABLE,
                                  .protocol = NETWORK_PROTOCOL,
                                  .metric = NETWORK_METRIC + n->instance};
}

static int open_bridge(struct network_node *n, struct netlink *nl, int *ret_ifindex,
                       struct err *err)
{
    const uint8_t mac[6] = {0x02, 'T', 'e', 'r', (uint8_t)(n->instance >> 8), (uint8_t)n->instance};
    struct netlink_link l;
    int r = netlink_link_get(nl, n->name, &l, err);
    if (r == -ERR_NOT_FOUND) {
        err_clear(err);
        netlink_bridge_add(nl, n->name, mac);
        r = netlink_commit(nl, err);
        if (r == 0)
            r = netlink_link_get(nl, n->name, &l, err);
    }
    if (r < 0)
        return r;
    if (!str_eq(l.kind, "bridge"))
        return err_set(err, ERR_EXISTS, "the interface %s is not Terem's: remove or rename it",
                       n->name);
    *ret_ifindex = l.ifindex;
    return 0;
}

static int lay_bridge(struct network_node *n, struct err *err)
{
    struct stale s = {.n = n};
    struct netlink *nl;
    int r = network_socket(n, &nl, err);
    if (r == 0)
        r = open_bridge(n, nl, &s.bridge, err);
    if (r < 0)
        return r;
    s.n_wanted = gateways(n, s.bridge, s.wanted);
    r = remove_stale(nl, &s, err);
    if (r < 0)
        return r;
    netlink_link_addrgen(nl, s.bridge, IN6_ADDR_GEN_MODE_NONE);
    netlink_link_up(nl, s.bridge);
    for (size_t i = 0; i < s.n_wanted; i++)
        netlink_address_add(nl, &s.wanted[i]);
    struct netlink_route v4 = unreachable(n, &n->pool4), v6 = unreachable(n, &n->pool6);
    if (v4.dst.family)
        netlink_route_add(nl, &v4);
    if (v6.dst.family)
        netlink_route_add(nl, &v6);
    r = netlink_commit(nl, err);
    if (r == 0 && v6.dst.family)
        netlink_address_wait(nl, n->pool6.gateway);
    return r;
}

static int need_state(const struct network_node *n, struct err *err)
{
    if (!*n->state)
        return err_set(err, ERR_INTERNAL, "network: no state directory was given");
    return 0;
}

int network_node_setup(struct network_node *n, struct err *err)
{
    int r = need_state(n, err);
    if (r < 0)
        return r;
    n->resolver = network_resolv_loopback(n);
    /* The guard first: forwarding is never on without it. */
    r = lay_guard(n, err);
    if (r == 0 && (r = lay_bridge(n, err)) < 0 && err)
        return err_wrap(err, "cannot lay the bridge %s", n->name);
    return r < 0 ? r : network_forward_on(n, err);
}

static int remove_ends(struct network_node *n, struct err *err)
{
    auto_free int64_t *ids = NULL;
    size_t count;
    int r = network_list(n, &ids, &count, err);
    for (size_t i = 0; r == 0 && i < count; i++)
        r = network_detach(n, ids[i], err);
    return r;
}

struct others {
    const struct network_node *n;
    bool found;
};

/* "terem" and a number, not ours: another instance on this machine. */
static int find_other(void *ctx, const struct netlink_link *l, struct err *err)
{
    struct others *o = ctx;
    const char *p = l->name + 5;
    if (!str_starts(l->name, "terem") || !*p || str_eq(l->name, o->n->name))
        return 0;
    while (isdigit((unsigned char)*p))
        p++;
    o->found |= !*p;
    return 0;
}

static int remove_bridge(struct network_node *n, struct others *o, struct err *err)
{
    struct netlink *nl;
    struct netlink_link l;
    int r = network_socket(n, &nl, err);
    if (r == 0)
        r = netlink_link_each(nl, "bridge", find_other, o, err);
    if (r < 0)
        return r;
    /* With no pool, every route of this instance is stale. */
    struct network_node none = *n;
    none.pool4 = none.pool6 = (struct network_pool){0};
    struct stale s = {.n = &none, .bridge = -1};
    r = remove_stale(nl, &s, err);
    if (r < 0)
        return r;
    r = netlink_link_get(nl, n->name, &l, err);
    if (r == -ERR_NOT_FOUND) {
        err_clear(err);
        return 0;
    }
    if (r < 0 || !str_eq(l.kind, "bridge"))
        return r;
    netlink_link_delete(nl, l.ifindex);
    return netlink_commit(nl, err);
}

int network_node_remove(struct network_node *n, struct err *err)
{
    struct others o = {.n = n};
    char table[32], text[128];
    int r = need_state(n, err);
    if (r == 0)
        r = remove_ends(n, err);
    if (r == 0)
        r = remove_bridge(n, &o, err);
    /* Forwarding ends before the guard goes. */
    if (r == 0)
        r = network_forward_off(n, o.found, err);
    if (r < 0)
        return r;
    table_name(n, table, sizeof(table));
    str_print(text, sizeof(text), "add table inet %s\ndelete table inet %s\n", table, table);
    r = nft_run(text, err);
    return r < 0 ? err_wrap(err, "cannot remove the packet rules %s", table) : 0;
}
