/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ranges of addresses: what they hold, what is in their way, what the kernel knows of them. */
#include "base/cleanup.h"
#include "kernel/nft.h"
#include "network/internal.h"
#include "network/shape.h"

#include <linux/rtnetlink.h>

/* The network's own address, in IPv6 the anycast of its routers, and IPv4's broadcast. */
static bool is_edge(const struct netlink_ip *ip, const struct netlink_ip *net, uint8_t prefix)
{
    struct netlink_ip last = network_ip_last(net, prefix);
    return network_ip_bits(net) - prefix > 1 &&
           (network_ip_compare(ip, net) == 0 ||
            (ip->family == AF_INET && network_ip_compare(ip, &last) == 0));
}

static int parse_ends(const char *text, struct network_range *r, struct err *err)
{
    char word[2 * INET6_ADDRSTRLEN + 2], whole[NETWORK_TEXT];
    char *dash = str_print(word, sizeof(word), "%s", text) < 0 ? NULL : strchr(word, '-');
    if (!dash)
        return err_set(err, ERR_USAGE, "\"%.60s\" is not a range such as 203.0.113.20-203.0.113.25",
                       text);
    *dash = '\0';
    if (network_ip_parse(word, &r->first, err) < 0 || network_ip_parse(dash + 1, &r->last, err) < 0)
        return -err->kind;
    if (!network_ip_in(&r->first, &r->base, r->prefix) ||
        !network_ip_in(&r->last, &r->base, r->prefix))
        return err_set(err, ERR_USAGE, "the range %s is not within %s", text,
                       network_ip_text(&r->base, r->prefix, whole));
    if (network_ip_compare(&r->first, &r->last) > 0)
        return err_set(err, ERR_USAGE, "the range %s ends before it begins", text);
    return 0;
}

int network_range_parse(const char *prefix, const char *range, struct network_range *ret,
                        struct err *err)
{
    struct network_pool p;
    int family = strchr(prefix, ':') ? AF_INET6 : AF_INET;
    int r = network_pool_read(prefix, family, family == AF_INET ? 8 : 16,
                              family == AF_INET ? 32 : 128, &p, err);
    if (r < 0)
        return r;
    struct network_range x = {.base = p.base, .prefix = p.prefix, .public = !p.private};
    x.first = x.base;
    x.last = network_ip_last(&x.base, x.prefix);
    if (range) {
        r = parse_ends(range, &x, err);
        if (r < 0)
            return r;
    } else if (network_ip_bits(&x.base) - x.prefix > 1) {
        x.first = network_ip_next(x.first);
        if (family == AF_INET) /* one less than broadcast: the last bit is 1 */
            network_ip_bytes(&x.last)[3] &= 0xfe;
    }
    *ret = x;
    return 0;
}

bool network_range_overlaps(const struct network_range *a, const struct network_range *b)
{
    return network_prefixes_overlap(&a->base, a->prefix, &b->base, b->prefix);
}

bool network_range_around(const struct network_range *r, const struct netlink_ip *ip)
{
    return network_ip_in(ip, &r->base, r->prefix);
}

bool network_range_has(const struct network_range *r, const struct netlink_ip *ip)
{
    return ip->family == r->base.family && network_ip_compare(&r->first, ip) <= 0 &&
           network_ip_compare(ip, &r->last) <= 0;
}

const struct network_range *network_range_of(const struct network_node *n,
                                             const struct netlink_ip *ip)
{
    for (size_t i = 0; i < n->n_ranges; i++)
        if (network_range_has(&n->ranges[i], ip))
            return &n->ranges[i];
    return NULL;
}

int network_range_link(const struct network_node *n, const struct network_range *r)
{
    const struct network_range *laid = network_range_of(n, &r->first);
    return laid ? laid->link : 0;
}

/* The largest blocks that fit, from the first address on. */
size_t network_range_parts(const struct network_range *r, struct network_prefix ret[NETWORK_PARTS])
{
    size_t n = 0;
    struct netlink_ip at = r->first, end;
    if (!r->link) {
        ret[0] = network_prefix_local(&r->base, r->prefix);
        return 1;
    }
    do {
        unsigned bits = 0;
        for (; bits < network_ip_bits(&at); bits++) {
            struct netlink_ip head = network_ip_edge(at, bits + 1, false),
                              tail = network_ip_edge(at, bits + 1, true);
            if (network_ip_compare(&head, &at) != 0 || network_ip_compare(&tail, &r->last) > 0)
                break;
        }
        end = network_ip_edge(at, bits, true);
        ret[n++] = network_prefix_local(&at, network_ip_bits(&at) - bits);
        at = network_ip_next(end);
    } while (n < NETWORK_PARTS && network_ip_compare(&end, &r->last) < 0);
    return n;
}

/* ---- what is there already ---- */

struct look {
    const struct network_node *n;
    struct network_range *r;
    int out[2]; /* interfaces of the default routes of both families */
    const char *uplink;
    struct err conflict;
};

static int find_out(void *ctx, const struct netlink_route *route, struct err *err)
{
    struct look *l = ctx;
    if ((!route->dst.family || route->prefix == 0) && route->ifindex &&
        route->type == RTN_UNICAST && route->table == RT_TABLE_MAIN)
        l->out[route->family == AF_INET6] = route->ifindex;
    return 0;
}

static void tell(struct look *l, const struct netlink_route *route, const char *how)
{
    char mine[NETWORK_TEXT], theirs[NETWORK_TEXT];
    if (!l->conflict.kind)
        err_set(&l->conflict, ERR_EXISTS, "the network %s overlaps %s, which %s; choose another",
                network_ip_text(&l->r->base, l->r->prefix, mine),
                network_ip_text(&route->dst, route->prefix, theirs), how);
}

static int look_at(void *ctx, const struct netlink_route *route, struct err *err)
{
    struct look *l = ctx;
    struct network_range *r = l->r;
    char link[IFNAMSIZ] = "", how[IFNAMSIZ + 32];
    int64_t id;
    if (!route->dst.family || route->prefix == 0 ||
        !network_prefixes_overlap(&r->base, r->prefix, &route->dst, route->prefix))
        return 0;
    if (route->type == RTN_UNREACHABLE) {
        if (route->protocol == NETWORK_PROTOCOL && route->metric != NETWORK_METRIC + l->n->instance)
            tell(l, route, "another instance of Terem has");
        return 0;
    }
    /* The machine's own single addresses are refused one by one. */
    if (route->type != RTN_UNICAST || !route->ifindex ||
        !if_indextoname((unsigned)route->ifindex, link) || str_eq(link, l->n->name) ||
        network_end_id(l->n, link, &id))
        return 0;
    if ((route->ifindex == l->out[0] || route->ifindex == l->out[1] || str_eq(link, l->uplink)) &&
        !route->via.family && route->prefix <= r->prefix) {
        if (!r->link || route->prefix > r->net_prefix) {
            r->link = route->ifindex;
            r->net = route->dst;
            r->net_prefix = route->prefix;
        }
        return 0;
    }
    str_print(how, sizeof(how), "is reached through %s", link);
    tell(l, route, how);
    return 0;
}

/* Finds the network that it lies in, and what is in its way. */
static int look_around(struct network_node *n, struct network_range *r, struct err *conflict,
                       struct err *err)
{
    struct netlink *nl;
    struct look l = {.n = n, .r = r, .uplink = network_shape_uplink(n)};
    r->link = 0;
    int res = network_socket(n, &nl, err);
    if (res == 0)
        res = netlink_route_each(nl, AF_INET, find_out, &l, err);
    if (res == 0)
        res = netlink_route_each(nl, AF_INET6, find_out, &l, err);
    if (res == 0)
        res = netlink_route_each(nl, r->base.family, look_at, &l, err);
    *conflict = l.conflict;
    return res;
}

/* No: why. */
static int check_family(const struct network_node *n, int family, struct err *err)
{
    if (family == AF_INET ? n->pool4.base.family : n->pool6.base.family)
        return 0;
    if (family == AF_INET6 && *n->why6)
        return err_set(err, ERR_UNSUPPORTED, "%s", n->why6);
    return err_set(err, ERR_STATE,
                   "VEs have no IPv%d here: set network.pool%d in terem.conf and restart teremd",
                   family == AF_INET ? 4 : 6, family == AF_INET ? 4 : 6);
}

int network_range_check(struct network_node *n, const struct network_range *r, struct err *err)
{
    const struct network_pool *own = r->base.family == AF_INET ? &n->pool4 : &n->pool6;
    struct network_range found = *r;
    struct err conflict = {0};
    char mine[NETWORK_TEXT], theirs[NETWORK_TEXT];
    int res = check_family(n, r->base.family, err);
    if (res < 0)
        return res;
    if (network_prefixes_overlap(&r->base, r->prefix, &own->base, own->prefix))
        return err_set(err, ERR_EXISTS,
                       "the network %s overlaps %s, which is that of VEs' own addresses; choose "
                       "another",
                       network_ip_text(&r->base, r->prefix, mine),
                       network_ip_text(&own->base, own->prefix, theirs));
    res = look_around(n, &found, &conflict, err);
    if (res == 0 && conflict.kind)
        return err_set(err, ERR_EXISTS, "%s", conflict.text);
    return res;
}

static int is_gateway(void *ctx, const struct netlink_route *route, struct err *err)
{
    const struct netlink_ip *ip = ctx;
    return network_ip_compare(&route->via, ip) == 0
               ? err_set(err, ERR_EXISTS, "it is a gateway of this machine; choose another")
               : 0;
}

int network_range_allows(struct network_node *n, const struct network_range *r,
                         const struct netlink_ip *ip, struct err *err)
{
    struct netlink *nl;
    struct netlink_route to = {0};
    struct netlink_ip asked = *ip;
    char text[NETWORK_TEXT];
    const struct network_range *laid = network_range_of(n, ip);
    int res = network_socket(n, &nl, err);
    if (res < 0)
        return res;
    if (laid && laid->link && is_edge(ip, &laid->net, laid->net_prefix))
        return err_set(err, ERR_EXISTS, "it is %s of the network %s; choose another",
                       network_ip_compare(ip, &laid->net) == 0 ? "the own address"
                                                               : "the broadcast address",
                       network_ip_text(&laid->net, laid->net_prefix, text));
    /* An unreachable route is an error here, and means that nobody has it. */
    if (netlink_route_of(nl, *ip, &to, &(struct err){0}) == 0 &&
        (to.type == RTN_LOCAL || to.type == RTN_BROADCAST))
        return err_set(err, ERR_EXISTS, "it is an address of this machine itself; choose another");
    return netlink_route_each(nl, ip->family, is_gateway, &asked, err);
}

/* ---- laying ---- */

int network_ranges_set(struct network_node *n, const struct network_range *list, size_t count,
                       struct err *err)
{
    struct network_range *copy = calloc(count + 1, sizeof(*copy));
    if (!copy)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (count)
        memcpy(copy, list, count * sizeof(*copy));
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < n->n_ranges; k++)
            if (network_ip_compare(&copy[i].base, &n->ranges[k].base) == 0) {
                copy[i].link = n->ranges[k].link;
                copy[i].net = n->ranges[k].net;
                copy[i].net_prefix = n->ranges[k].net_prefix;
            }
    free(n->ranges);
    n->ranges = copy;
    n->n_ranges = count;
    return 0;
}

void network_ranges_text(const struct network_node *n, struct str *s)
{
    char table[NETWORK_TABLE], text[NETWORK_TEXT];
    network_table_name(n, table);
    for (int v = 4; v <= 6; v += 2)
        str_add(s, "flush set inet %s private%d\n", table, v);
    for (size_t i = 0; i < n->n_ranges; i++) {
        const struct network_range *r = &n->ranges[i];
        if (!r->public)
            str_add(s, "add element inet %s private%d { %s }\n", table,
                    r->base.family == AF_INET ? 4 : 6, network_ip_text(&r->base, r->prefix, text));
    }
}

bool network_is_range(const struct network_node *n, const struct netlink_route *route)
{
    for (size_t i = 0; i < n->n_ranges; i++)
        if (network_ip_compare(&n->ranges[i].base, &route->dst) == 0 &&
            n->ranges[i].prefix == route->prefix)
            return !n->ranges[i].link;
    return false;
}

int network_ranges_lay(struct network_node *n, struct err *err)
{
    auto_str struct str text = str_init(1 << 20);
    struct netlink *nl;
    int r = network_socket(n, &nl, err);
    for (size_t i = 0; r == 0 && i < n->n_ranges; i++) {
        struct err conflict;
        r = look_around(n, &n->ranges[i], &conflict, err);
    }
    network_ranges_text(n, &text);
    if (r == 0 && text.failed)
        r = err_set(err, ERR_EXHAUSTED, "out of memory");
    if (r == 0)
        r = nft_run(str_c(&text), err);
    if (r == 0)
        r = network_unreachable_lay(n, nl, err);
    if (r == 0)
        r = network_forward_on(n, err); /* also what answers for IPv6 addresses */
    return r < 0 ? err_wrap(err, "cannot lay the address pools") : 0;
}
