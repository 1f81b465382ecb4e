/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Neighbours that are known for good, and addresses that this machine answers for. */
#include "kernel/netlink_internal.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

static struct nlmsghdr *begin(struct netlink *nl, uint16_t type, uint16_t flags, int ifindex,
                              const struct netlink_ip *ip, const char *what, int fine)
{
    struct nlmsghdr *h = netlink_begin(nl, type, flags, what, fine);
    struct ndmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    m->ndm_family = (uint8_t)ip->family;
    m->ndm_ifindex = ifindex;
    m->ndm_state = NUD_PERMANENT;
    netlink_put_ip(h, NDA_DST, ip);
    return h;
}

void netlink_neighbour_add(struct netlink *nl, int ifindex, struct netlink_ip ip,
                           const uint8_t mac[6])
{
    struct nlmsghdr *h = begin(nl, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, ifindex, &ip,
                               "cannot add a neighbour", 0);
    mnl_attr_put(h, NDA_LLADDR, 6, mac);
    netlink_end(nl, h);
}

void netlink_neighbour_delete(struct netlink *nl, int ifindex, struct netlink_ip ip)
{
    struct nlmsghdr *h =
        begin(nl, RTM_DELNEIGH, 0, ifindex, &ip, "cannot remove a neighbour", ENOENT);
    netlink_end(nl, h);
}

void netlink_station_add(struct netlink *nl, int port, const uint8_t mac[6])
{
    struct nlmsghdr *h = netlink_begin(nl, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE,
                                       "cannot tell a bridge where a MAC is", 0);
    struct ndmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    m->ndm_family = AF_BRIDGE;
    m->ndm_ifindex = port;
    m->ndm_flags = NTF_MASTER | NTF_STICKY;
    m->ndm_state = NUD_NOARP; /* static; NUD_PERMANENT would be the bridge's own */
    mnl_attr_put(h, NDA_LLADDR, 6, mac);
    netlink_end(nl, h);
}

static void proxy_request(struct netlink *nl, uint16_t type, uint16_t flags,
                          const struct netlink_proxy *p, const char *what, int fine)
{
    struct nlmsghdr *h = begin(nl, type, flags, p->ifindex, &p->ip, what, fine);
    ((struct ndmsg *)mnl_nlmsg_get_payload(h))->ndm_flags = NTF_PROXY;
    if (p->protocol)
        mnl_attr_put_u8(h, NDA_PROTOCOL, p->protocol);
    netlink_end(nl, h);
}

void netlink_proxy_add(struct netlink *nl, const struct netlink_proxy *p)
{
    proxy_request(nl, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, p, "cannot announce an address",
                  0);
}

void netlink_proxy_delete(struct netlink *nl, const struct netlink_proxy *p)
{
    proxy_request(nl, RTM_DELNEIGH, 0, p, "cannot end the announcement of an address", ENOENT);
}

struct proxy_visit {
    int (*item)(void *ctx, const struct netlink_proxy *p, struct err *err);
    void *ctx;
};

static int visit(void *ctx, const struct nlmsghdr *h, struct err *err)
{
    const struct proxy_visit *v = ctx;
    const struct ndmsg *m = mnl_nlmsg_get_payload(h);
    if (h->nlmsg_type != RTM_NEWNEIGH || !(m->ndm_flags & NTF_PROXY))
        return 0;
    struct netlink_proxy p = {.ifindex = m->ndm_ifindex};
    const struct nlattr *a;
    mnl_attr_for_each(a, h, sizeof(*m))
    {
        if (mnl_attr_get_type(a) == NDA_DST)
            p.ip = netlink_get_ip(a);
        else if (mnl_attr_get_type(a) == NDA_PROTOCOL)
            p.protocol = mnl_attr_get_u8(a);
    }
    return v->item(v->ctx, &p, err);
}

int netlink_proxy_each(struct netlink *nl,
                       int (*item)(void *ctx, const struct netlink_proxy *p, struct err *err),
                       void *ctx, struct err *err)
{
    struct nlmsghdr *h = netlink_begin(nl, RTM_GETNEIGH, NLM_F_DUMP, "cannot list neighbours", 0);
    struct ndmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    m->ndm_flags = NTF_PROXY;
    netlink_end(nl, h);
    struct proxy_visit v = {item, ctx};
    return netlink_ask(nl, visit, &v, err);
}
