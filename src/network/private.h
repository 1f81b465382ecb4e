/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * network/private — networks of VEs of one owner, in which they share layer 2.
 *
 * I own the bridges "terem0.n3" (network 3 of instance 0), the ends "terem0.7.1" that lead from
 * them to eth1 of VE 7, and the nft table "bridge terem_0".  ve/ gives names, says who is in which
 * and with which number.
 *
 * A bridge has no address and the host takes nothing from it: frames to the host are dropped by the
 * table, and would find neither forwarding, nor ARP, nor IPv6, should somebody delete that.  So
 * nothing leaves a network but by a VE's own other interfaces.  A member has one address of each
 * family and one MAC, which follow from its number, and sends with no others: source MAC, source
 * address, ARP and neighbour discovery are held against them.  The bridge knows where each MAC is
 * and learns none.  Router advertisements, redirects,
 * answers of DHCP servers, VLANs and everything that is neither IP nor ARP are dropped, too.  What
 * a member does not send itself costs no rule: a frame is met by one look in a map and the few
 * rules of its sender, however many there are.
 *
 * The rules of a member stand as long as it is one, whether it runs or not; a frame from an end
 * without rules is dropped.
 */
#pragma once

#include "network/address.h"

#define NETWORK_PRIVATE_PORTS 9    /* eth1 … eth9 of a VE */
#define NETWORK_PRIVATE_SIZE  1000 /* members; the kernel's bridge has 1023 ports */

struct network_private {
    int64_t id;
    struct network_range v4, v6; /* base.family 0: none of that family */
};
/* Private networks of /16 to /30 and /64 to /120; either may be NULL. */
int network_private_parse(const char *range4, const char *range6, struct network_private *ret,
                          struct err *err);
bool network_private_overlaps(const struct network_private *a, const struct network_private *b);
/* NULL, or why this kernel cannot keep members apart from each other's addresses. */
const char *network_private_lack(struct network_node *n);

/* Members are numbered from 1: the addresses are base + number.  How many numbers there are. */
uint32_t network_private_numbers(const struct network_private *p);
/* The number that an address belongs to; 0: none. */
uint32_t network_private_number(const struct network_private *p, const struct netlink_ip *ip);

struct network_member {
    int64_t id;    /* of the VE */
    unsigned port; /* 1: eth1 */
    const struct network_private *in;
    uint32_t number;
    uint64_t packets; /* net.packets of the VE, for all its private networks together */
};
/* family 0: none. */
struct netlink_ip network_member_address(const struct network_member *m, int family);

/* These networks with these members, and no others; idempotent.  Ends of members that run stay as
 * they are. */
int network_privates_lay(struct network_node *n, const struct network_private *list, size_t count,
                         const struct network_member *members, size_t n_members, struct err *err);
/* All bridges, ends and rules. */
int network_privates_remove(struct network_node *n, struct err *err);

/* The rules of one more member. */
int network_member_add(struct network_node *n, const struct network_member *m, struct err *err);
/* Its end goes with its rules.  last: its VE is in no other. */
int network_member_remove(struct network_node *n, const struct network_member *m, bool last,
                          struct err *err);
/* net.packets has changed: of all memberships of one VE.  anew: what was refused is counted from 0,
 * as when it starts. */
int network_members_limit(struct network_node *n, const struct network_member *list, size_t count,
                          bool anew, struct err *err);

/* The interface inside, with its addresses; on failure nothing is left.  Runs in workers, too. */
int network_member_plug(struct network_node *n, const struct network_member *m, int netns_fd,
                        struct err *err);
/* None there: fine. */
int network_member_unplug(struct network_node *n, const struct network_member *m, struct err *err);
/* Is it whole? */
int network_member_plugged(struct network_node *n, const struct network_member *m, bool *ret,
                           struct err *err);
/* One that is whole, but of an earlier Terem, whose bridges learned MACs and whose programs are at
 * it: it is as of now, and goes on. */
int network_member_fix(struct network_node *n, const struct network_member *m, struct err *err);
