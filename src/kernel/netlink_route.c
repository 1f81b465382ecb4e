/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses of interfaces, and routes. */
#include "kernel/netlink_internal.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

/* ---- addresses ---- */

static void address_request(struct netlink *nl, uint16_t type, uint16_t flags,
                            const struct netlink_address *a, const char *what, int fine)
{
    struct nlmsghdr *h = netlink_begin(nl, type, flags, what, fine);
    struct ifaddrmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    m->ifa_family = (uint8_t)a->ip.family;
    m->ifa_prefixlen = a->prefix;
    m->ifa_scope = a->scope;
    m->ifa_index = (unsigned)a->ifindex;
    netlink_put_ip(h, IFA_LOCAL, &a->ip);
    netlink_put_ip(h, IFA_ADDRESS, &a->ip);
    if (a->flags)
        mnl_attr_put_u32(h, IFA_FLAGS, a->flags);
    netlink_end(nl, h);
}

void netlink_address_add(struct netlink *nl, const struct netlink_address *a)
{
    address_request(nl, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, a, "cannot add an address", EEXIST);
}

void netlink_address_delete(struct netlink *nl, const struct netlink_address *a)
{
    address_request(nl, RTM_DELADDR, 0, a, "cannot remove an address", EADDRNOTAVAIL);
}

struct address_visit {
    int (*item)(void *ctx, const struct netlink_address *a, struct err *err);
    void *ctx;
};

static int visit_address(void *ctx, const struct nlmsghdr *h, struct err *err)
{
    const struct address_visit *v = ctx;
    const struct ifaddrmsg *m = mnl_nlmsg_get_payload(h);
    if (h->nlmsg_type != RTM_NEWADDR)
        return 0;
    struct netlink_address addr = {.ifindex = (int)m->ifa_index,
                                   .prefix = m->ifa_prefixlen,
                                   .scope = m->ifa_scope,
                                   .flags = m->ifa_flags};
    const struct nlattr *a;
    mnl_attr_for_each(a, h, sizeof(*m))
    {
        uint16_t type = mnl_attr_get_type(a);
        /* IPv4 tells the own address in LOCAL and perhaps a peer in ADDRESS. */
        if (type == IFA_LOCAL || (type == IFA_ADDRESS && addr.ip.family == 0))
            addr.ip = netlink_get_ip(a);
        else if (type == IFA_FLAGS)
            addr.flags = mnl_attr_get_u32(a);
    }
    return v->item(v->ctx, &addr, err);
}

int netlink_address_each(struct netlink *nl,
                         int (*item)(void *ctx, const struct netlink_address *a, struct err *err),
                         void *ctx, struct err *err)
{
    struct nlmsghdr *h = netlink_begin(nl, RTM_GETADDR, NLM_F_DUMP, "cannot list addresses", 0);
    mnl_nlmsg_put_extra_header(h, sizeof(struct ifaddrmsg));
    netlink_end(nl, h);
    struct address_visit v = {item, ctx};
    return netlink_ask(nl, visit_address, &v, err);
}

/* ---- routes ---- */

static void route_request(struct netlink *nl, uint16_t type, uint16_t flags,
                          const struct netlink_route *r, const char *what, int fine)
{
    struct nlmsghdr *h = netlink_begin(nl, type, flags, what, fine);
    struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    m->rtm_family = (uint8_t)(r->dst.family ? r->dst.family : r->family);
    m->rtm_dst_len = r->prefix;
    m->rtm_table = RT_TABLE_MAIN;
    m->rtm_protocol = r->protocol;
    m->rtm_scope = r->scope;
    m->rtm_type = r->type ? r->type : RTN_UNICAST;
    if (r->onlink)
        m->rtm_flags |= RTNH_F_ONLINK;
    if (r->table)
        mnl_attr_put_u32(h, RTA_TABLE, r->table);
    netlink_put_ip(h, RTA_DST, &r->dst);
    netlink_put_ip(h, RTA_GATEWAY, &r->via);
    netlink_put_ip(h, RTA_PREFSRC, &r->src);
    if (r->ifindex)
        mnl_attr_put_u32(h, RTA_OIF, (uint32_t)r->ifindex);
    if (r->metric)
        mnl_attr_put_u32(h, RTA_PRIORITY, r->metric);
    netlink_end(nl, h);
}

void netlink_route_add(struct netlink *nl, const struct netlink_route *r)
{
    route_request(nl, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, r, "cannot add a route", 0);
}

void netlink_route_delete(struct netlink *nl, const struct netlink_route *r)
{
    route_request(nl, RTM_DELROUTE, 0, r, "cannot remove a route", ESRCH);
}

struct route_visit {
    int (*item)(void *ctx, const struct netlink_route *r, struct err *err);
    void *ctx;
};

static void read_multipath(const struct nlattr *a, struct netlink_route *r)
{
    const struct rtnexthop *hop = mnl_attr_get_payload(a);
    if (mnl_attr_get_payload_len(a) >= sizeof(*hop))
        r->ifindex = hop->rtnh_ifindex;
}

static struct netlink_route read_route(const struct nlmsghdr *h)
{
    const struct rtmsg *m = mnl_nlmsg_get_payload(h);
    struct netlink_route r = {.family = m->rtm_family,
                              .prefix = m->rtm_dst_len,
                              .type = m->rtm_type,
                              .scope = m->rtm_scope,
                              .protocol = m->rtm_protocol,
                              .table = m->rtm_table};
    const struct nlattr *a;
    mnl_attr_for_each(a, h, sizeof(*m))
    {
        switch (mnl_attr_get_type(a)) {
        case RTA_DST:
            r.dst = netlink_get_ip(a);
            break;
        case RTA_GATEWAY:
            r.via = netlink_get_ip(a);
            break;
        case RTA_OIF:
            r.ifindex = (int)mnl_attr_get_u32(a);
            break;
        case RTA_MULTIPATH:
            read_multipath(a, &r);
            break;
        case RTA_PRIORITY:
            r.metric = mnl_attr_get_u32(a);
            break;
        case RTA_TABLE:
            r.table = mnl_attr_get_u32(a);
            break;
        default:
            break;
        }
    }
    return r;
}

static int visit_route(void *ctx, const struct nlmsghdr *h, struct err *err)
{
    const struct route_visit *v = ctx;
    const struct rtmsg *m = mnl_nlmsg_get_payload(h);
    if (h->nlmsg_type != RTM_NEWROUTE || (m->rtm_flags & RTM_F_CLONED))
        return 0;
    struct netlink_route r = read_route(h);
    return v->item(v->ctx, &r, err);
}

int netlink_route_each(struct netlink *nl, int family,
                       int (*item)(void *ctx, const struct netlink_route *r, struct err *err),
                       void *ctx, struct err *err)
{
    struct nlmsghdr *h = netlink_begin(nl, RTM_GETROUTE, NLM_F_DUMP, "cannot list routes", 0);
    struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    m->rtm_family = (uint8_t)family;
    netlink_end(nl, h);
    struct route_visit v = {item, ctx};
    return netlink_ask(nl, visit_route, &v, err);
}

static int one_route(void *ctx, const struct nlmsghdr *h, struct err *err)
{
    struct netlink_route *r = ctx;
    *r = read_route(h);
    return 0;
}

int netlink_route_of(struct netlink *nl, struct netlink_ip ip, struct netlink_route *ret,
                     struct err *err)
{
    struct nlmsghdr *h = netlink_begin(nl, RTM_GETROUTE, 0, "cannot look a route up", 0);
    struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    m->rtm_family = (uint8_t)ip.family;
    netlink_put_ip(h, RTA_DST, &ip);
    netlink_end(nl, h);
    return netlink_ask(nl, one_route, ret, err);
}

void netlink_address_wait(struct netlink *nl, struct netlink_ip ip)
{
    long pause = 0;
    do {
        struct netlink_route r = {0};
        if (netlink_route_of(nl, ip, &r, NULL) == 0 && r.type == RTN_LOCAL)
            return;
    } while (netlink_pause(&pause));
}
