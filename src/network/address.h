/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * network/address — pools of addresses beside the node's own, and what VEs have of them.
 *
 * I own: ranges of addresses that reach this machine, what the kernel has to know of them, and
 * further addresses of VEs on their cables.  ve/ gives names and remembers who has which.
 *
 * A further address is a route at the host's end of the VE's cable and an address of eth0 inside:
 * the packet rules ask the routes, so the VE may send with it at once and nobody else may.  What
 * leaves a private range is masqueraded.  Where a range lies in the uplink's own network, in which
 * others ask for addresses by ARP and ND, the machine answers for those that a VE has, and tells
 * once that it has a new one; else its addresses that nobody has are unreachable, not sent out.
 *
 * The first public address of a family is the one that a VE speaks outward with: the preferred
 * source of its default route.
 */
#pragma once

#include "kernel/netlink.h"
#include "network/network.h"

#define NETWORK_TEXT 64
/* "10.88.0.0/16"; prefix -1: the address alone. */
const char *network_ip_text(const struct netlink_ip *ip, int prefix, char buf[NETWORK_TEXT]);
/* ERR_USAGE: it is none. */
int network_ip_parse(const char *text, struct netlink_ip *ret, struct err *err);
/* IPv4 before IPv6, then by value: below, 0, above 0. */
int network_ip_compare(const struct netlink_ip *a, const struct netlink_ip *b);
struct netlink_ip network_ip_next(struct netlink_ip ip);

struct network_range {
    struct netlink_ip base; /* of the prefix */
    uint8_t prefix;
    struct netlink_ip first, last; /* what may be given away */
    bool public;
    int link; /* index of the interface in whose own network it lies; 0: it is routed to us */
    struct netlink_ip net; /* then that network's */
    uint8_t net_prefix;
};

/* prefix: "203.0.113.16/28"; range: "203.0.113.20-203.0.113.25" or NULL for all but the network's
 * own and its broadcast address.  Public unless the prefix is not routed on the internet. */
int network_range_parse(const char *prefix, const char *range, struct network_range *ret,
                        struct err *err);
bool network_range_overlaps(const struct network_range *a, const struct network_range *b);
/* Is it in the prefix, whether it may be given away or not? */
bool network_range_around(const struct network_range *r, const struct netlink_ip *ip);
/* May be given away. */
bool network_range_has(const struct network_range *r, const struct netlink_ip *ip);
/* Can this node have it?  No: its own networks or somebody's route are in the way, named with the
 * interface; IPv6 is off. */
int network_range_check(struct network_node *n, const struct network_range *r, struct err *err);
/* The interface in whose own network it was found to lie; 0: none. */
int network_range_link(const struct network_node *n, const struct network_range *r);
/* Can a VE have this address of it?  No: the machine itself, its gateway or its network has it. */
int network_range_allows(struct network_node *n, const struct network_range *r,
                         const struct netlink_ip *ip, struct err *err);

/* All ranges, in place of those before; nothing is laid yet. */
int network_ranges_set(struct network_node *n, const struct network_range *list, size_t count,
                       struct err *err);
/* Lays them; also takes away a route of one that is not among them.  Idempotent. */
int network_ranges_lay(struct network_node *n, struct err *err);

/* Whose they are is asked when connections are counted; of nobody while this is not told. */
struct network_owners {
    void *ctx;
    uint32_t (*slot)(void *ctx, const struct netlink_ip *ip); /* 0: nobody's */
    /* Every address of the VE with that slot; the first failure ends it. */
    int (*each)(void *ctx, uint32_t slot,
                int (*item)(void *item_ctx, const struct netlink_ip *ip, struct err *err),
                void *item_ctx, struct err *err);
};
void network_owners_ask(struct network_node *n, const struct network_owners *owners);

/* Of a VE that runs.  have: what it has then, with or without this one.  Adding fails whole;
 * after a removal the address is out of use, whatever the VE has made of its own end. */
int network_address_add(struct network_node *n, int64_t id, int netns_fd,
                        const struct network_address *have, const struct netlink_ip *ip,
                        struct err *err);
int network_address_remove(struct network_node *n, int64_t id, int netns_fd,
                           const struct network_address *have, const struct netlink_ip *ip,
                           struct err *err);
/* Of one whose cable is gone: nobody answers for its addresses any more. */
int network_addresses_silence(struct network_node *n, const struct network_address *had,
                              struct err *err);

/* After a crash: makes what each of these VEs has on its cable what it shall have; what is
 * answered for and is of none of them is answered for no more.  Goes on where one fails, and tells
 * the first failure. */
struct network_settle {
    int64_t id;
    int netns_fd; /* -1: it has no cable, or gets one now */
    struct network_address have;
};
int network_addresses_settle(struct network_node *n, const struct network_settle *list,
                             size_t count, struct err *err);
