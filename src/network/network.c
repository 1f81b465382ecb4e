/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "network/network.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "kernel/announce.h"
#include "kernel/classify.h"
#include "network/internal.h"
#include "network/shape.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/rtnetlink.h>

/* Locally administered.  Every host end has the same: each is alone with its peer, and a VE that
 * moves to another machine keeps the neighbour it knows. */
static const uint8_t host_mac[6] = {0x02, 'T', 'e', 'r', 'e', 'm'};

int network_socket(struct network_node *n, struct netlink **ret, struct err *err)
{
    pid_t me = getpid();
    if (n->nl && n->nl_owner != me) {
        netlink_close(n->nl);
        n->nl = NULL;
    }
    if (!n->nl) {
        int r = netlink_open(&n->nl, err);
        if (r < 0)
            return r;
        n->nl_owner = me;
    }
    *ret = n->nl;
    return 0;
}

int network_end_name(const struct network_node *n, int64_t id, char ret[IFNAMSIZ], struct err *err)
{
    if (id <= 0)
        return err_set(err, ERR_INTERNAL, "%" PRId64 " is not the id of a VE", id);
    if (str_print(ret, IFNAMSIZ, "%s-%" PRId64, n->name, id) < 0)
        return err_set(err, ERR_EXHAUSTED,
                       "the interface name %s-%" PRId64 " is longer than Linux allows", n->name,
                       id);
    return 0;
}

bool network_end_id(const struct network_node *n, const char *name, int64_t *ret_id)
{
    size_t len = strlen(n->name);
    uint64_t id;
    /* No leading zero: each id has one spelling, and a name of another spelling is not ours. */
    if (!str_starts(name, n->name) || name[len] != '-' || name[len + 1] == '0' ||
        number_parse(name + len + 1, 1, INT64_MAX, &id, NULL) < 0)
        return false;
    *ret_id = (int64_t)id;
    return true;
}

struct survey {
    struct network_node *n;
    int out4, out6; /* interfaces of the default routes */
    bool held;      /* the pool is in use by us already */
    struct err conflict;
};

static int survey_route(void *ctx, const struct netlink_route *r, struct err *err)
{
    struct survey *s = ctx;
    if (!r->dst.family || r->prefix == 0) {
        if (r->ifindex && r->type == RTN_UNICAST && r->table == RT_TABLE_MAIN)
            *(r->family == AF_INET ? &s->out4 : &s->out6) = r->ifindex;
        return 0;
    }
    const struct network_pool *p = r->family == AF_INET ? &s->n->pool4 : &s->n->pool6;
    if (!r->ifindex || (r->type != RTN_UNICAST && r->type != RTN_LOCAL) ||
        !network_pool_overlaps(p, &r->dst, r->prefix))
        return 0;
    char link[IFNAMSIZ], mine[NETWORK_TEXT], theirs[NETWORK_TEXT];
    int64_t id;
    if (!if_indextoname((unsigned)r->ifindex, link))
        return 0; /* gone meanwhile */
    if (str_eq(link, s->n->name))
        s->held = true;
    else if (!network_end_id(s->n, link, &id) && !s->conflict.kind)
        err_set(&s->conflict, ERR_EXISTS,
                "the network %s overlaps %s, which is reached through %s; choose another",
                network_ip_text(&p->base, p->prefix, mine),
                network_ip_text(&r->dst, r->prefix, theirs), link);
    return 0;
}

/* A pool that we hold already stays ours: teremd must be able to start again, and find its VEs,
 * when a VPN with a wide route came up meanwhile. */
static int survey_family(struct survey *s, struct netlink *nl, int family, struct err *err)
{
    s->held = false;
    err_clear(&s->conflict);
    int r = netlink_route_each(nl, family, survey_route, s, err);
    if (r < 0 || !s->conflict.kind || s->held)
        return r;
    return err_set(err, ERR_EXISTS, "%s", s->conflict.text);
}

/* Of that interface alone: with a thousand cables a list of all is long. */
static int survey_mtu(struct network_node *n, struct netlink *nl, int ifindex, struct err *err)
{
    char name[IFNAMSIZ];
    struct netlink_link l;
    if (!ifindex || !if_indextoname((unsigned)ifindex, name))
        return 0;
    int r = netlink_link_get(nl, name, &l, err);
    if (r == -ERR_NOT_FOUND) { /* gone meanwhile */
        err_clear(err);
        return 0;
    }
    if (r == 0 && !(l.flags & IFF_LOOPBACK) && l.mtu >= 1280 && (n->mtu == 0 || l.mtu < n->mtu))
        n->mtu = l.mtu;
    return r;
}

static int survey(struct network_node *n, struct err *err)
{
    struct survey s = {.n = n};
    struct netlink *nl;
    int r = network_socket(n, &nl, err);
    if (r == 0)
        r = survey_family(&s, nl, AF_INET, err);
    if (r == 0)
        r = survey_family(&s, nl, AF_INET6, err);
    if (r == 0)
        r = survey_mtu(n, nl, s.out4, err);
    if (r == 0 && s.out6 != s.out4)
        r = survey_mtu(n, nl, s.out6, err);
    n->has_way_out = s.out4 || s.out6;
    n->uplink = s.out4 ? s.out4 : s.out6;
    if (n->mtu == 0)
        n->mtu = 1500;
    return r;
}

/* Without IPv6 on the machine no interface takes such an address: VEs have IPv4 alone then. */
static int look_for_ipv6(struct network_node *n, struct err *err)
{
    static const struct {
        const char *path, *name;
    } offs[] = {
        {"/proc/sys/net/ipv6/conf/all/disable_ipv6", "on this machine: set net.ipv6.conf.all"},
        {"/proc/sys/net/ipv6/conf/default/disable_ipv6",
         "for new interfaces: set net.ipv6.conf.default"}};
    for (size_t i = 0; n->pool6.base.family && i < ARRAY_SIZE(offs); i++) {
        auto_free char *text = NULL;
        if (fd_read_file_at(AT_FDCWD, offs[i].path, 64, &text, NULL, NULL) < 0)
            str_print(n->why6, sizeof(n->why6),
                      "IPv6 is off: this kernel runs without it; start it without ipv6.disable=1");
        else if (str_trim(text)[0] == '1')
            str_print(n->why6, sizeof(n->why6),
                      "IPv6 is off %s.disable_ipv6 to 0 and restart teremd", offs[i].name);
        if (*n->why6)
            n->pool6 = (struct network_pool){0};
    }
    if (*n->why6 && !n->pool4.base.family)
        return err_set(err, ERR_UNSUPPORTED, "VEs have no IPv4, and %s", n->why6);
    return 0;
}

const char *network_ipv6_why(const struct network_node *n)
{
    return *n->why6 ? n->why6 : NULL;
}

static void node_freep(struct network_node **n)
{
    network_node_close(*n);
}

int network_node_open(const struct network_config *config, struct network_node **ret,
                      struct err *err)
{
    auto_clean(node_freep) struct network_node *n = calloc(1, sizeof(*n));
    if (!n)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    n->home = n->announcer = -1;
    n->instance = config->instance;
    /* Nine characters leave five digits for the id at least. */
    if (config->instance > 9999)
        return err_set(err, ERR_USAGE, "instance %u: only 0 to 9999 have interface names",
                       config->instance);
    str_print(n->name, sizeof(n->name), "terem%u", config->instance);
    if (str_print(n->state, sizeof(n->state), "%s", config->state ? config->state : "") < 0)
        return err_set(err, ERR_USAGE, "the path of the state directory is too long");
    int r = network_pool_parse(config->pool4, AF_INET, &n->pool4, err);
    if (r == 0)
        r = network_pool_parse(config->pool6, AF_INET6, &n->pool6, err);
    if (r == 0 && !n->pool4.base.family && !n->pool6.base.family)
        r = err_set(err, ERR_USAGE, "there is neither an IPv4 nor an IPv6 network for VEs");
    if (r == 0)
        r = look_for_ipv6(n, err);
    if (r == 0)
        r = network_resolv_config(n, config->dns, config->search, err);
    if (r == 0)
        r = survey(n, err);
    if (r < 0)
        return r;
    announce_open(&n->announcer, NULL);
    *ret = steal_ptr(&n);
    return 0;
}

void network_node_close(struct network_node *n)
{
    if (!n)
        return;
    free(n->ranges);
    netlink_close(n->nl);
    nfnl_close(n->nf);
    nfnl_close(n->nf_bridge);
    nfnl_close(n->watch);
    nfnl_close(n->log);
    network_shape_close(n);
    classify_close(n->classify);
    cleanup_fd(&n->home);
    cleanup_fd(&n->announcer);
    free(n->dns);
    free(n->search);
    free(n->held4.held);
    free(n->held6.held);
    free(n->refused);
    free(n);
}

uint32_t network_slots(const struct network_node *n)
{
    if (!n->pool4.base.family || !n->pool6.base.family)
        return n->pool4.slots + n->pool6.slots;
    return n->pool4.slots < n->pool6.slots ? n->pool4.slots : n->pool6.slots;
}

int network_address_of(const struct network_node *n, uint32_t slot, struct network_address *ret,
                       struct err *err)
{
    if (slot == 0)
        return err_set(err, ERR_INTERNAL, "slots count from 1");
    if (slot > network_slots(n))
        return err_set(err, ERR_EXHAUSTED, "the network has addresses for %u VEs, all are taken",
                       network_slots(n));
    struct network_address a = {0};
    if (n->pool4.base.family)
        a.v4 = network_pool_address(&n->pool4, (uint64_t)slot + 1).v4;
    if (n->pool6.base.family)
        a.v6 = network_pool_address(&n->pool6, (uint64_t)slot + 1).v6;
    *ret = a;
    return 0;
}

void network_cable_init(struct network_cable *c, const struct network_address *addr)
{
    if (addr->v4.s_addr)
        c->v4 = netlink_ip4(addr->v4);
    if (!IN6_IS_ADDR_UNSPECIFIED(&addr->v6))
        c->v6 = netlink_ip6(addr->v6);
    /* From the address, not at random: the VE keeps it over restarts and moves. */
    const uint8_t *unique = c->v4.family ? (const uint8_t *)&c->v4.v4 : &c->v6.v6.s6_addr[12];
    c->mac[0] = 0x02;
    c->mac[1] = c->v4.family ? '4' : '6';
    memcpy(c->mac + 2, unique, 4);
    c->link6 = network_mac_link(c->mac);
}

int network_cable_find(struct netlink *nl, const char *name, struct netlink_link *ret,
                       struct err *err)
{
    int r = netlink_link_get(nl, name, ret, err);
    if (r == 0 && !str_eq(ret->kind, "veth"))
        return err_set(err, ERR_EXISTS, "the interface %s is not a VE's: remove or rename it",
                       name);
    return r;
}

static int make_pair(struct network_node *n, struct netlink *nl, struct network_cable *c,
                     int netns_fd, struct err *err)
{
    struct netlink_link l;
    struct netlink_veth v = {.name = c->name,
                             .peer = "eth0",
                             .peer_netns = netns_fd,
                             .mac = host_mac,
                             .peer_mac = c->mac,
                             .mtu = n->mtu};
    netlink_veth_add(nl, &v);
    int r = netlink_commit(nl, err);
    if (r == -ERR_EXISTS) {
        /* A host end of an earlier run, whose namespace still dies, or has died since; or eth0 is
         * there inside, and the kernel says so again. */
        r = network_cable_find(nl, c->name, &l, err);
        if (r < 0 && r != -ERR_NOT_FOUND)
            return r;
        err_clear(err);
        if (r == 0)
            netlink_link_delete(nl, l.ifindex);
        netlink_veth_add(nl, &v);
        r = netlink_commit(nl, err);
    }
    if (r == 0)
        r = netlink_link_get(nl, c->name, &l, err);
    if (r < 0)
        return r;
    c->host = l.ifindex;
    c->inner = l.peer;
    return 0;
}

struct netlink_route network_cable_route(const struct network_cable *c, struct netlink_ip dst,
                                         struct netlink_ip src)
{
    return (struct netlink_route){
        .dst = dst,
        .prefix = (uint8_t)network_ip_bits(&dst),
        .src = src,
        .ifindex = c->host,
        .scope = dst.family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
        .protocol = NETWORK_PROTOCOL,
    };
}

static void host_route(struct netlink *nl, const struct network_cable *c, struct netlink_ip dst,
                       struct netlink_ip src)
{
    struct netlink_route r = network_cable_route(c, dst, src);
    netlink_route_add(nl, &r);
}

/*
 * The host's side.  Neighbours are permanent on both sides: nothing to ask for before the first
 * packet, nothing that a VE can claim, and no entry in the host's neighbour table that counts
 * against its limit (gc_thresh3 is shared by all namespaces).  For IPv6 the end has fe80::1 and
 * routes to the VE's addresses, link-local included, and no fe80::/64: so the one rule "routed
 * back to where it came from" also holds for link-local sources.
 */
static int lay_host_side(struct network_node *n, struct netlink *nl, const struct network_cable *c,
                         struct err *err)
{
    const struct netlink_devconf conf[] = {
        {IPV4_DEVCONF_RP_FILTER, 1},
        {IPV4_DEVCONF_ACCEPT_REDIRECTS, 0},
        {IPV4_DEVCONF_SEND_REDIRECTS, 0},
        {IPV4_DEVCONF_ACCEPT_SOURCE_ROUTE, 0},
        {IPV4_DEVCONF_ROUTE_LOCALNET, n->resolver.s_addr != 0},
        {IPV4_DEVCONF_FORWARDING, 1},
    };
    netlink_link_devconf4(nl, c->host, conf, ARRAY_SIZE(conf));
    netlink_link_addrgen(nl, c->host, IN6_ADDR_GEN_MODE_NONE);
    netlink_link_up(nl, c->host);
    if (c->v4.family) {
        netlink_neighbour_add(nl, c->host, c->v4, c->mac);
        host_route(nl, c, c->v4, n->pool4.gateway);
    }
    if (c->v6.family) {
        netlink_address_add(nl,
                            &(struct netlink_address){.ifindex = c->host,
                                                      .ip = network_gateway6(),
                                                      .prefix = 128,
                                                      .scope = RT_SCOPE_LINK,
                                                      .flags = IFA_F_NODAD | IFA_F_NOPREFIXROUTE});
        netlink_neighbour_add(nl, c->host, c->v6, c->mac);
        netlink_neighbour_add(nl, c->host, c->link6, c->mac);
        host_route(nl, c, c->v6, n->pool6.gateway);
        host_route(nl, c, c->link6, (struct netlink_ip){0});
    }
    return netlink_commit(nl, err);
}

void network_inner_default(struct netlink *nl, const struct network_cable *c, struct netlink_ip via,
                           struct netlink_ip src)
{
    netlink_neighbour_add(nl, c->inner, via, host_mac);
    netlink_route_add(nl, &(struct netlink_route){.family = via.family,
                                                  .via = via,
                                                  .src = src,
                                                  .ifindex = c->inner,
                                                  .protocol = RTPROT_BOOT,
                                                  .onlink = true});
}

void network_inner_address(struct netlink *nl, int inner, struct netlink_ip ip, uint8_t prefix,
                           uint8_t scope)
{
    netlink_address_add(nl, &(struct netlink_address){
                                .ifindex = inner,
                                .ip = ip,
                                .prefix = prefix,
                                .scope = scope,
                                .flags = ip.family == AF_INET6 ? IFA_F_NODAD : 0,
                            });
}

/* The VE's side.  Its link-local address is given by us too, so that nothing waits for duplicate
 * address detection; afterwards the kernel's usual way of making one is put back, for when the
 * VE's owner takes the interface down and up. */
static int lay_inner_side(const struct network_cable *c, int netns_fd, struct err *err)
{
    auto_netlink struct netlink *nl = NULL;
    int r = netlink_open_in(netns_fd, &nl, err);
    if (r < 0)
        return r;
    netlink_link_addrgen(nl, c->inner, IN6_ADDR_GEN_MODE_NONE);
    netlink_link_up(nl, c->inner);
    /* IPv6 first: its addresses take effect in the background while we go on. */
    if (c->v6.family) {
        network_inner_address(nl, c->inner, c->v6, 128, RT_SCOPE_UNIVERSE);
        network_inner_address(nl, c->inner, c->link6, 64, RT_SCOPE_LINK);
        network_inner_default(nl, c, network_gateway6(), c->v6);
    }
    if (c->v4.family) {
        network_inner_address(nl, c->inner, c->v4, 32, RT_SCOPE_UNIVERSE);
        network_inner_default(nl, c, network_gateway4(), c->v4);
    }
    netlink_link_addrgen(nl, c->inner, IN6_ADDR_GEN_MODE_EUI64);
    netlink_link_up(nl, 1); /* lo is always the first */
    r = netlink_commit(nl, err);
    if (r == 0 && c->v6.family)
        netlink_address_wait(nl, c->v6);
    return r;
}

int network_attach(struct network_node *n, int64_t id, int netns_fd,
                   const struct network_address *addr, const struct network_limits *limits,
                   struct err *err)
{
    struct network_cable c = {0};
    struct netlink *nl;
    network_cable_init(&c, addr);
    int r = network_end_name(n, id, c.name, err);
    if (r == 0)
        r = network_socket(n, &nl, err);
    if (r == 0)
        r = network_limits_begin(n, id, limits, err);
    if (r < 0)
        return r;
    r = make_pair(n, nl, &c, netns_fd, err);
    if (r < 0)
        network_limits_remove(n, id, NULL);
    if (r < 0)
        return err ? err_wrap(err, "cannot make the VE's network interface") : r;
    r = network_count_attach(n, nl, id, c.host, err);
    if (r == 0)
        r = lay_host_side(n, nl, &c, err);
    if (r == 0)
        r = lay_inner_side(&c, netns_fd, err);
    if (r == 0)
        r = network_more_attach(n, nl, &c, netns_fd, addr, err);
    /* The host's end had no carrier when it went up.  The inner end needs nothing: it went up with
     * its carrier. */
    if (r == 0)
        r = netlink_link_wait(nl, c.name, err);
    if (r < 0) {
        netlink_link_delete(nl, c.host);
        netlink_commit(nl, NULL);
        network_limits_remove(n, id, NULL);
        return err ? err_wrap(err, "cannot connect %s with the VE", c.name) : r;
    }
    return 0;
}

int network_detach(struct network_node *n, int64_t id, struct err *err)
{
    char name[IFNAMSIZ];
    struct netlink *nl;
    struct netlink_link l;
    int r = network_end_name(n, id, name, err);
    if (r == 0)
        r = network_socket(n, &nl, err);
    if (r == 0)
        r = netlink_link_get(nl, name, &l, err);
    if (r == -ERR_NOT_FOUND) {
        err_clear(err);
        return 0;
    }
    if (r < 0 || !str_eq(l.kind, "veth")) /* of another kind: not ours */
        return r;
    netlink_link_delete(nl, l.ifindex);
    return netlink_commit(nl, err);
}

struct id_list {
    const struct network_node *n;
    int64_t *ids;
    size_t len, cap;
};

static int collect_id(void *ctx, const struct netlink_link *l, struct err *err)
{
    struct id_list *list = ctx;
    int64_t id;
    if (!network_end_id(list->n, l->name, &id))
        return 0;
    if (list->len == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 16;
        int64_t *ids = reallocarray(list->ids, cap, sizeof(*ids));
        if (!ids)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        list->ids = ids;
        list->cap = cap;
    }
    list->ids[list->len++] = id;
    return 0;
}

int network_list(struct network_node *n, int64_t **ret, size_t *ret_n, struct err *err)
{
    struct id_list list = {.n = n};
    struct netlink *nl;
    int r = network_socket(n, &nl, err);
    if (r == 0)
        r = netlink_link_each(nl, "veth", collect_id, &list, err);
    if (r < 0) {
        free(list.ids);
        return r;
    }
    *ret = list.ids;
    *ret_n = list.len;
    return 0;
}

int network_counters(struct network_node *n, int64_t id, struct network_counters *ret,
                     struct err *err)
{
    char name[IFNAMSIZ];
    struct netlink *nl;
    struct netlink_link l;
    int r = network_end_name(n, id, name, err);
    if (r == 0)
        r = network_socket(n, &nl, err);
    if (r == 0)
        r = network_cable_find(nl, name, &l, err);
    if (r < 0)
        return r;
    /* What the host's end sends is what the VE gets. */
    *ret = (struct network_counters){.in_bytes = l.tx_bytes,
                                     .in_packets = l.tx_packets,
                                     .out_bytes = l.rx_bytes,
                                     .out_packets = l.rx_packets};
    return 0;
}
