/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Further addresses of VEs: at both ends of their cables, and in the network beyond the uplink. */
#include "base/cleanup.h"
#include "kernel/announce.h"
#include "network/internal.h"

#include <inttypes.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

static struct netlink_ip own_of(const struct network_cable *c, int family)
{
    return family == AF_INET ? c->v4 : c->v6;
}

static struct netlink_ip gateway_of(int family)
{
    return family == AF_INET ? network_gateway4() : network_gateway6();
}

static bool is_public(const struct network_node *n, const struct netlink_ip *ip)
{
    const struct network_range *r = network_range_of(n, ip);
    return r && r->public;
}

/* What the VE speaks outward with when it has not, or no more, the address `except`. */
static struct netlink_ip preferred(const struct network_node *n, const struct network_cable *c,
                                   const struct network_address *have, int family,
                                   const struct netlink_ip *except)
{
    for (size_t i = 0; i < have->n_more; i++) {
        const struct netlink_ip *ip = &have->more[i];
        if (ip->family == family && is_public(n, ip) &&
            (!except || network_ip_compare(ip, except) != 0))
            return *ip;
    }
    return own_of(c, family);
}

/* ---- the host's end ---- */

static void proxy(const struct network_node *n, struct netlink *nl, struct netlink_ip ip, bool on)
{
    const struct network_range *r = network_range_of(n, &ip);
    if (!r || !r->link)
        return;
    struct netlink_proxy p = {.ifindex = r->link, .ip = ip, .protocol = NETWORK_PROTOCOL};
    if (on)
        netlink_proxy_add(nl, &p);
    else
        netlink_proxy_delete(nl, &p);
}

/* Who does not hear it, or of a link that knows no such thing, asks when its entry has aged. */
static void announce(const struct network_node *n, const struct netlink_ip *ip)
{
    const struct network_range *r = network_range_of(n, ip);
    if (r && r->link && n->announcer >= 0)
        announce_send(n->announcer, r->link, ip, NULL);
}

static int host_add(const struct network_node *n, struct netlink *nl, const struct network_cable *c,
                    struct netlink_ip ip, struct err *err)
{
    struct netlink_route r =
        network_cable_route(c, ip, ip.family == AF_INET ? n->pool4.gateway : n->pool6.gateway);
    netlink_neighbour_add(nl, c->host, ip, c->mac);
    netlink_route_add(nl, &r);
    proxy(n, nl, ip, true);
    int res = netlink_commit(nl, err);
    if (res == 0)
        announce(n, &ip);
    return res;
}

static int host_remove(const struct network_node *n, struct netlink *nl,
                       const struct network_cable *c, struct netlink_ip ip, struct err *err)
{
    struct netlink_route r = network_cable_route(c, ip, (struct netlink_ip){0});
    proxy(n, nl, ip, false);
    netlink_route_delete(nl, &r);
    netlink_neighbour_delete(nl, c->host, ip);
    return netlink_commit(nl, err);
}

/* ---- the VE's end ---- */

/* The default route names the address, so the address comes first. */
static int inner_add(const struct network_node *n, struct netlink *inner,
                     const struct network_cable *c, const struct network_address *have,
                     struct netlink_ip ip, struct err *err)
{
    network_inner_address(inner, c->inner, ip, (uint8_t)network_ip_bits(&ip), RT_SCOPE_UNIVERSE);
    if (is_public(n, &ip))
        network_inner_default(inner, c, gateway_of(ip.family),
                              preferred(n, c, have, ip.family, NULL));
    int r = netlink_commit(inner, err);
    if (r == 0 && ip.family == AF_INET6)
        netlink_address_wait(inner, ip);
    return r;
}

/* The kernel takes every route away that prefers an address that goes: the default route is
 * replaced first.  What the VE's root has undone before is as it shall be. */
static void inner_remove(const struct network_node *n, struct netlink *inner,
                         const struct network_cable *c, const struct network_address *have,
                         struct netlink_ip ip)
{
    struct netlink_address a = {.ifindex = c->inner,
                                .ip = ip,
                                .prefix = (uint8_t)network_ip_bits(&ip),
                                .scope = RT_SCOPE_UNIVERSE};
    if (is_public(n, &ip))
        network_inner_default(inner, c, gateway_of(ip.family),
                              preferred(n, c, have, ip.family, &ip));
    netlink_commit(inner, NULL);
    netlink_address_delete(inner, &a);
    netlink_commit(inner, NULL);
}

/* ---- cables that are laid ---- */

int network_more_attach(struct network_node *n, struct netlink *nl, const struct network_cable *c,
                        int netns_fd, const struct network_address *addr, struct err *err)
{
    auto_netlink struct netlink *inner = NULL;
    int r = addr->n_more ? netlink_open_in(netns_fd, &inner, err) : 0;
    for (size_t i = 0; r == 0 && i < addr->n_more; i++) {
        r = inner_add(n, inner, c, addr, addr->more[i], err);
        if (r == 0)
            r = host_add(n, nl, c, addr->more[i], err);
    }
    return r;
}

static int find_cable(struct network_node *n, int64_t id, const struct network_address *have,
                      struct netlink **ret_nl, struct network_cable *c, struct err *err)
{
    struct netlink_link l;
    network_cable_init(c, have);
    int r = network_end_name(n, id, c->name, err);
    if (r == 0)
        r = network_socket(n, ret_nl, err);
    if (r == 0)
        r = network_cable_find(*ret_nl, c->name, &l, err);
    if (r == -ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND,
                       "eth0 was deleted inside; restart the VE, which makes it anew");
    if (r < 0)
        return r;
    c->host = l.ifindex;
    c->inner = l.peer;
    return 0;
}

int network_address_add(struct network_node *n, int64_t id, int netns_fd,
                        const struct network_address *have, const struct netlink_ip *ip,
                        struct err *err)
{
    auto_netlink struct netlink *inner = NULL;
    struct netlink *nl;
    struct network_cable c = {0};
    char text[NETWORK_TEXT];
    int r = find_cable(n, id, have, &nl, &c, err);
    if (r == 0)
        r = netlink_open_in(netns_fd, &inner, err);
    if (r == 0)
        r = inner_add(n, inner, &c, have, *ip, err);
    if (r == 0)
        r = host_add(n, nl, &c, *ip, err);
    if (r == 0)
        return 0;
    if (inner) {
        host_remove(n, nl, &c, *ip, NULL);
        inner_remove(n, inner, &c, have, *ip);
    }
    return err_wrap(err, "cannot give it %s", network_ip_text(ip, -1, text));
}

int network_address_remove(struct network_node *n, int64_t id, int netns_fd,
                           const struct network_address *have, const struct netlink_ip *ip,
                           struct err *err)
{
    auto_netlink struct netlink *inner = NULL;
    struct netlink *nl;
    struct network_cable c = {0};
    char text[NETWORK_TEXT];
    int r = find_cable(n, id, have, &nl, &c, err);
    if (r == -ERR_NOT_FOUND) { /* the cable is gone, and took all with it */
        err_clear(err);
        return 0;
    }
    if (r == 0 && netlink_open_in(netns_fd, &inner, NULL) == 0)
        inner_remove(n, inner, &c, have, *ip);
    /* The last step, as it is that of adding: who is interrupted finds by the host's route what is
     * not undone. */
    if (r == 0)
        r = host_remove(n, nl, &c, *ip, err);
    return r < 0 ? err_wrap(err, "cannot take %s away", network_ip_text(ip, -1, text)) : 0;
}

int network_addresses_silence(struct network_node *n, const struct network_address *had,
                              struct err *err)
{
    struct netlink *nl;
    int r = had->n_more ? network_socket(n, &nl, err) : 0;
    for (size_t i = 0; r == 0 && i < had->n_more; i++) {
        proxy(n, nl, had->more[i], false);
        r = netlink_commit(nl, err);
    }
    return r;
}

/* ---- after a crash ---- */

struct found {
    int ifindex;
    struct netlink_ip ip;
};

struct findings {
    const struct network_node *n;
    struct found *v;
    size_t n_v, cap;
};

static int note(struct findings *f, int ifindex, struct netlink_ip ip, struct err *err)
{
    if (f->n_v == f->cap) {
        size_t cap = f->cap ? 2 * f->cap : 64;
        struct found *v = reallocarray(f->v, cap, sizeof(*v));
        if (!v)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        f->v = v;
        f->cap = cap;
    }
    f->v[f->n_v++] = (struct found){ifindex, ip};
    return 0;
}

/* Single addresses that go to host ends; which end is known by its index. */
static int find_given(void *ctx, const struct netlink_route *r, struct err *err)
{
    bool single = r->prefix == (r->family == AF_INET ? 32 : 128);
    if (r->protocol != NETWORK_PROTOCOL || r->type != RTN_UNICAST || !single || !r->ifindex ||
        (r->family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&r->dst.v6)))
        return 0;
    return note(ctx, r->ifindex, r->dst, err);
}

static int find_answered(void *ctx, const struct netlink_proxy *p, struct err *err)
{
    struct findings *f = ctx;
    if (p->protocol != NETWORK_PROTOCOL || !network_range_of(f->n, &p->ip))
        return 0;
    return note(f, p->ifindex, p->ip, err);
}

static bool has(const struct network_address *have, const struct netlink_ip *ip)
{
    for (size_t i = 0; i < have->n_more; i++)
        if (network_ip_compare(&have->more[i], ip) == 0)
            return true;
    return (ip->family == AF_INET && ip->v4.s_addr == have->v4.s_addr) ||
           (ip->family == AF_INET6 && IN6_ARE_ADDR_EQUAL(&ip->v6, &have->v6));
}

static bool is_given(const struct findings *given, int ifindex, const struct netlink_ip *ip)
{
    for (size_t i = 0; i < given->n_v; i++)
        if (given->v[i].ifindex == ifindex && network_ip_compare(&given->v[i].ip, ip) == 0)
            return true;
    return false;
}

/* What must go goes everywhere before anything comes: an address that was on its way from one VE
 * to another is never two VEs'.  Of the interface only its index is asked, in the way that does not
 * grow: with a thousand namespaces the kernel searches all of them to tell of one cable whole. */
static int settle_away(struct network_node *n, const struct network_settle *s,
                       const struct findings *given, struct err *err)
{
    char name[IFNAMSIZ];
    int r = network_end_name(n, s->id, name, err);
    int host = r == 0 ? (int)if_nametoindex(name) : 0;
    for (size_t i = 0; r == 0 && host && i < given->n_v; i++) {
        struct netlink_ip ip = given->v[i].ip;
        if (given->v[i].ifindex == host && !has(&s->have, &ip))
            r = network_address_remove(n, s->id, s->netns_fd, &s->have, &ip, err);
    }
    return r;
}

/* One that the host sends there is inside as well: it came there first, and what the VE's root has
 * made of it since is the VE's affair. */
static int settle_there(struct network_node *n, const struct network_settle *s,
                        const struct findings *given, struct err *err)
{
    struct netlink *nl;
    struct network_cable c = {0};
    int r = s->have.n_more ? find_cable(n, s->id, &s->have, &nl, &c, err) : 0;
    for (size_t i = 0; r == 0 && i < s->have.n_more; i++) {
        const struct netlink_ip *ip = &s->have.more[i];
        if (!is_given(given, c.host, ip)) {
            r = network_address_add(n, s->id, s->netns_fd, &s->have, ip, err);
        } else {
            proxy(n, nl, *ip, true);
            r = netlink_commit(nl, err);
        }
    }
    return r;
}

static int silence_others(struct network_node *n, const struct network_settle *list, size_t count,
                          struct err *err)
{
    struct findings f = {.n = n};
    struct netlink *nl;
    int r = network_socket(n, &nl, err);
    if (r == 0)
        r = netlink_proxy_each(nl, find_answered, &f, err);
    for (size_t i = 0; r == 0 && i < f.n_v; i++) {
        bool wanted = false;
        for (size_t k = 0; k < count && !wanted; k++)
            wanted = has(&list[k].have, &f.v[i].ip);
        struct netlink_proxy p = {.ifindex = f.v[i].ifindex, .ip = f.v[i].ip};
        if (!wanted) {
            netlink_proxy_delete(nl, &p);
            r = netlink_commit(nl, err);
        }
    }
    free(f.v);
    return r;
}

int network_addresses_settle(struct network_node *n, const struct network_settle *list,
                             size_t count, struct err *err)
{
    struct findings given = {.n = n};
    struct netlink *nl;
    struct err first = {0};
    int r = network_socket(n, &nl, err);
    if (r == 0)
        r = netlink_route_each(nl, AF_INET, find_given, &given, err);
    if (r == 0)
        r = netlink_route_each(nl, AF_INET6, find_given, &given, err);
    for (size_t i = 0; r == 0 && i < 2 * count; i++) {
        const struct network_settle *s = &list[i % count];
        struct err e = {0};
        if (s->netns_fd >= 0 &&
            (i < count ? settle_away(n, s, &given, &e) : settle_there(n, s, &given, &e)) < 0 &&
            !first.kind)
            first = e;
    }
    free(given.v);
    if (r == 0)
        r = silence_others(n, list, count, err);
    if (r == 0 && first.kind)
        return err_set(err, (enum err_kind)first.kind, "%s", first.text);
    return r;
}
