/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * network/count — bytes and packets of every VE, by direction and destination class.
 *
 * I own the BPF programs at host ends and what they count (kernel/classify).  Both stay when
 * nobody of Terem is alive, and what was counted stays until the VE is destroyed: it outlives its
 * restarts.  A kernel that refuses the programs counts nothing, and network_count_why() says why.
 *
 * Counted is what crosses the VE's cable, as the interface's own counters do: Ethernet headers
 * too, and segments that the kernel carries as one large packet once.  So the classes of a VE add
 * up to what its cable carried, and to what tcpdump sees inside.  What a guard or a tree drops
 * after the VE has sent it was sent; what they drop before the VE gets it is not counted.
 *
 * The class follows from the other side's address alone.  Of class local are also ARP, link-local
 * addresses, multicast and the gateways, which never leave the cable.
 */
#pragma once

#include "network/class.h"

/* dir: the instance's bpffs.  Never fails for what the kernel lacks.  Before workers are forked. */
int network_count_open(struct network_node *n, const char *dir, struct err *err);
/* NULL, or why this kernel does not count by class. */
const char *network_count_why(const struct network_node *n);

/* The prefixes of all classes, in place of those before. */
int network_count_prefixes(struct network_node *n, const struct network_prefixes *list,
                           struct err *err);

struct network_count {
    int64_t id;
    uint32_t class;
    bool in; /* towards the VE */
    uint64_t bytes, packets;
};
/* Another number than before: all counters have begun at 0 since then, or this is another boot. */
uint32_t network_counts_epoch(const struct network_node *n);
/* All that was counted, of all VEs at once, by id, class and direction; *ret is freed by the
 * caller.  ERR_UNSUPPORTED: this kernel does not. */
int network_counts(struct network_node *n, struct network_count **ret, size_t *ret_n,
                   struct err *err);
/* Of one VE, class and direction; false: nothing was counted. */
bool network_count_of(struct network_node *n, int64_t id, uint32_t class, bool in,
                      struct network_count *ret);
/* Where those of a VE begin in such a list, and how many they are. */
const struct network_count *network_counts_of(const struct network_count *list, size_t n,
                                              int64_t id, size_t *ret_n);
/* Of a VE that was destroyed, when nobody will ask for it any more. */
int network_count_forget(struct network_node *n, int64_t id, uint32_t class, bool in,
                         struct err *err);
