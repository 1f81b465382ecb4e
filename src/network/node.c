/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a node has once: the bridge that holds the gateway addresses, and the routes that keep
 * unused addresses of the pools from leaving.  Its nftables table is in guard.c.
 */
#include "base/cleanup.h"
#include "base/fd.h"
#include "network/internal.h"
#include "network/private.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>

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

static int find_stale_address(void *ctx, const struct netlink_address *a, struct err *err)
{
    struct stale *s = ctx;
    if (a->ifindex != s->bridge || s->n_addresses == ARRAY_SIZE(s->addresses))
        return 0;
    for (size_t i = 0; i < s->n_wanted; i++)
        if (network_ip_compare(&a->ip, &s->wanted[i].ip) == 0 && a->prefix == s->wanted[i].prefix)
            return 0;
    s->addresses[s->n_addresses++] = *a;
    return 0;
}

static bool is_pool(const struct network_pool *p, const struct netlink_route *r)
{
    return p->base.family && network_ip_compare(&p->base, &r->dst) == 0 && p->prefix == r->prefix;
}

static int find_stale_route(void *ctx, const struct netlink_route *r, struct err *err)
{
    struct stale *s = ctx;
    if (r->protocol == NETWORK_PROTOCOL && r->metric == NETWORK_METRIC + s->n->instance &&
        r->type == RTN_UNREACHABLE && s->n_routes < ARRAY_SIZE(s->routes) &&
        !is_pool(&s->n->pool4, r) && !is_pool(&s->n->pool6, r) && !network_is_range(s->n, r))
        s->routes[s->n_routes++] = *r;
    return 0;
}

/* A few at a time: there are as many as there were address pools. */
static int remove_stale_routes(struct netlink *nl, struct stale *s, struct err *err)
{
    do {
        s->n_routes = 0;
        int r = netlink_route_each(nl, AF_INET, find_stale_route, s, err);
        if (r == 0)
            r = netlink_route_each(nl, AF_INET6, find_stale_route, s, err);
        for (size_t i = 0; r == 0 && i < s->n_routes; i++)
            netlink_route_delete(nl, &s->routes[i]);
        if (r == 0)
            r = netlink_commit(nl, err);
        if (r < 0)
            return r;
    } while (s->n_routes == ARRAY_SIZE(s->routes));
    return 0;
}

static int remove_stale(struct netlink *nl, struct stale *s, struct err *err)
{
    int r = netlink_address_each(nl, find_stale_address, s, err);
    for (size_t i = 0; r == 0 && i < s->n_addresses; i++)
        netlink_address_delete(nl, &s->addresses[i]);
    if (r == 0)
        r = netlink_commit(nl, err);
    return r < 0 ? r : remove_stale_routes(nl, s, err);
}

/* An address of the pool that no VE has: answered "unreachable" here, not sent out. */
static struct netlink_route unreachable(const struct network_node *n, struct netlink_ip base,
                                        uint8_t prefix)
{
    return (struct netlink_route){.dst = base,
                                  .prefix = prefix,
                                  .type = RTN_UNREACHABLE,
                                  .protocol = NETWORK_PROTOCOL,
                                  .metric = NETWORK_METRIC + n->instance};
}

int network_unreachable_lay(struct network_node *n, struct netlink *nl, struct err *err)
{
    struct stale s = {.n = n, .bridge = -1};
    int r = remove_stale_routes(nl, &s, err);
    for (size_t i = 0; r == 0 && i < n->n_ranges; i++) {
        struct netlink_route route = unreachable(n, n->ranges[i].base, n->ranges[i].prefix);
        if (n->ranges[i].link)
            continue;
        netlink_route_add(nl, &route);
        r = netlink_commit(nl, err);
    }
    return r;
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
    if (n->pool6.base.family) { /* one that was made while IPv6 was off for new interfaces */
        char path[64];
        str_print(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", n->name);
        fd_write_value_at(AT_FDCWD, path, NULL, "0");
    }
    netlink_link_addrgen(nl, s.bridge, IN6_ADDR_GEN_MODE_NONE);
    netlink_link_up(nl, s.bridge);
    for (size_t i = 0; i < s.n_wanted; i++)
        netlink_address_add(nl, &s.wanted[i]);
    struct netlink_route v4 = unreachable(n, n->pool4.base, n->pool4.prefix),
                         v6 = unreachable(n, n->pool6.base, n->pool6.prefix);
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
    struct err why = {0};
    n->resolver = network_resolv_loopback(n);
    /* The guard first: forwarding is never on without it. */
    r = network_guard_lay(n, err);
    if (r == 0 && (r = lay_bridge(n, err)) < 0 && err)
        return err_wrap(err, "cannot lay the bridge %s", n->name);
    if (r == 0 && network_count_probe(n, &why) < 0)
        network_count_give_up(n, why.text);
    if (r == 0)
        r = network_count_renew(n, false, err);
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
    none.n_ranges = 0;
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
    int r = need_state(n, err);
    if (r == 0)
        r = remove_ends(n, err);
    if (r == 0)
        r = network_privates_remove(n, err);
    if (r == 0)
        r = network_shape_clear(n, err);
    if (r == 0)
        r = remove_bridge(n, &o, err);
    /* Forwarding ends before the guard goes. */
    if (r == 0)
        r = network_forward_off(n, o.found, err);
    if (r < 0)
        return r;
    return network_guard_remove(n, err);
}
