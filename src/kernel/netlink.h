/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kernel/netlink — links, addresses, neighbours and routes, several requests in one system call.
 *
 * I own the rtnetlink socket.  I use libmnl.  I decide nothing: names, addresses and flags are
 * the caller's.
 *
 *     auto_netlink struct netlink *nl = NULL;
 *     netlink_open(&nl, err);
 *     netlink_link_up(nl, ifindex);                 // queued, nothing sent yet
 *     netlink_route_add(nl, &(struct netlink_route){…});
 *     netlink_commit(nl, err);                      // one sendmsg; the first refusal is told
 *
 * A batch is not a transaction: the kernel goes on after a refused request, so a caller whose
 * commit failed takes away what it had begun.  Errors carry the kernel's own explanation
 * (extended acknowledgement) where there is one.
 *
 * A socket belongs to the namespace it was opened in, for good.
 */
#pragma once

#include "base/err.h"

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct netlink;
#define auto_netlink __attribute__((cleanup(netlink_closep)))

int netlink_open(struct netlink **ret, struct err *err);
/* The same inside another network namespace: the calling thread goes there and comes back. */
int netlink_open_in(int netns_fd, struct netlink **ret, struct err *err);
void netlink_close(struct netlink *nl);
static inline void netlink_closep(struct netlink **nl)
{
    netlink_close(*nl);
    *nl = NULL;
}
/* Sends what is queued and empties the queue, also on failure. */
int netlink_commit(struct netlink *nl, struct err *err);

/* family 0: no address at all. */
struct netlink_ip {
    int family;
    union {
        struct in_addr v4;
        struct in6_addr v6;
    };
};
static inline struct netlink_ip netlink_ip4(struct in_addr a)
{
    return (struct netlink_ip){.family = AF_INET, .v4 = a};
}
static inline struct netlink_ip netlink_ip6(struct in6_addr a)
{
    return (struct netlink_ip){.family = AF_INET6, .v6 = a};
}

/* Links.  The queued verbs return nothing; netlink_commit() tells. */
struct netlink_veth {
    const char *name, *peer; /* at most IFNAMSIZ - 1 */
    int peer_netns;          /* the peer is born there */
    const uint8_t *mac, *peer_mac;
    unsigned mtu;
};
void netlink_veth_add(struct netlink *nl, const struct netlink_veth *v);
/* One that floods multicast: without a querier, snooping would lose members after a while. */
void netlink_bridge_add(struct netlink *nl, const char *name, const uint8_t mac[6]);
/* Makes the link a port of a bridge. */
void netlink_link_master(struct netlink *nl, int ifindex, int bridge);
/* A port with one station, for good: the bridge learns nothing from its frames and forgets what it
 * had, other unicast is not sent there, and frames to the groups that bridges keep to themselves
 * (01:80:c2:00:00:00 to 0f) are frames as all others.  Set again: fine. */
void netlink_port_fix(struct netlink *nl, int port, const uint8_t mac[6]);
void netlink_link_up(struct netlink *nl, int ifindex);
void netlink_link_delete(struct netlink *nl, int ifindex);
/* IN6_ADDR_GEN_MODE_NONE before the link goes up: no link-local address of its own making. */
void netlink_link_addrgen(struct netlink *nl, int ifindex, uint8_t mode);
/* net.ipv4.conf.LINK.* without a trip through /proc/sys; id is IPV4_DEVCONF_… */
struct netlink_devconf {
    uint16_t id;
    uint32_t value;
};
void netlink_link_devconf4(struct netlink *nl, int ifindex, const struct netlink_devconf *conf,
                           size_t n);

struct netlink_link {
    int ifindex;
    int peer;   /* of a veth: its index in the other namespace */
    int master; /* the bridge that it is a port of; 0: none */
    char name[IFNAMSIZ];
    char kind[16]; /* "veth", "bridge"; "" for hardware and lo */
    unsigned flags, mtu;
    uint8_t operstate;                                   /* of linux/if.h; 6 is up */
    uint64_t rx_bytes, rx_packets, tx_bytes, tx_packets; /* not from netlink_link_each() */
};
/* ERR_NOT_FOUND when there is none of that name. */
int netlink_link_get(struct netlink *nl, const char *name, struct netlink_link *ret,
                     struct err *err);
/* Until a link that is up, and whose other end is, sends packets; at most a third of a second.  The
 * kernel makes it ready from a work queue and drops what is sent before; asking for the link does
 * that at once since 6.7, but not in 6.1. */
int netlink_link_wait(struct netlink *nl, const char *name, struct err *err);
/* All links of a kind, or all when kind is NULL. */
int netlink_link_each(struct netlink *nl, const char *kind,
                      int (*item)(void *ctx, const struct netlink_link *l, struct err *err),
                      void *ctx, struct err *err);

/* With their counters, which cost the kernel some time for each. */
int netlink_link_each_counted(struct netlink *nl, const char *kind,
                              int (*item)(void *ctx, const struct netlink_link *l, struct err *err),
                              void *ctx, struct err *err);

struct netlink_address {
    int ifindex;
    struct netlink_ip ip;
    uint8_t prefix, scope;
    uint32_t flags; /* IFA_F_NODAD, … */
};
/* There already: fine. */
void netlink_address_add(struct netlink *nl, const struct netlink_address *a);
void netlink_address_delete(struct netlink *nl, const struct netlink_address *a);
/* Until the address takes packets, at most a third of a second: an IPv6 address that was added,
 * even without duplicate address detection, gets its local route later, from a work queue
 * (addrconf.c of Linux 6.18, addrconf_dad_work()). */
void netlink_address_wait(struct netlink *nl, struct netlink_ip ip);
int netlink_address_each(struct netlink *nl,
                         int (*item)(void *ctx, const struct netlink_address *a, struct err *err),
                         void *ctx, struct err *err);

/* A permanent neighbour: never asked for, never replaced by what the other side claims. */
void netlink_neighbour_add(struct netlink *nl, int ifindex, struct netlink_ip ip,
                           const uint8_t mac[6]);
/* None there: fine. */
void netlink_neighbour_delete(struct netlink *nl, int ifindex, struct netlink_ip ip);

/* "I have that address": what is asked for it on this link by ARP or ND is answered by this
 * machine, as far as it forwards between the link and where the address is, and for IPv6 with
 * net.ipv6.conf.LINK.proxy_ndp.  protocol: a mark, as of routes.  Deleting none: fine. */
struct netlink_proxy {
    int ifindex;
    struct netlink_ip ip;
    uint8_t protocol;
};
void netlink_proxy_add(struct netlink *nl, const struct netlink_proxy *p);
void netlink_proxy_delete(struct netlink *nl, const struct netlink_proxy *p);
int netlink_proxy_each(struct netlink *nl,
                       int (*item)(void *ctx, const struct netlink_proxy *p, struct err *err),
                       void *ctx, struct err *err);

struct netlink_route {
    int family;            /* needed when dst is a default route */
    struct netlink_ip dst; /* family 0: default */
    uint8_t prefix;
    struct netlink_ip via;         /* or none */
    struct netlink_ip src;         /* preferred source, or none */
    int ifindex;                   /* 0: none */
    uint8_t type, scope, protocol; /* RTN_…, RT_SCOPE_…, RTPROT_… */
    uint32_t table;                /* 0: main */
    uint32_t metric;
    bool onlink;
};
/* One of the same destination and metric is replaced. */
void netlink_route_add(struct netlink *nl, const struct netlink_route *r);
void netlink_route_delete(struct netlink *nl, const struct netlink_route *r);
/* Every route of every table, cloned ones not. */
int netlink_route_each(struct netlink *nl, int family,
                       int (*item)(void *ctx, const struct netlink_route *r, struct err *err),
                       void *ctx, struct err *err);
/* Where a packet to the address would go now.  No way there: an error. */
int netlink_route_of(struct netlink *nl, struct netlink_ip ip, struct netlink_route *ret,
                     struct err *err);
