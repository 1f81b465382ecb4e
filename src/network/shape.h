/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * network/shape — guarantees and ceilings of VEs and destination classes, both ways.
 *
 * I own two trees of HTB: one is the queueing discipline of the uplink, for what VEs and the host
 * send there; the other is that of an IFB ("terem0.in"), where what came in by the uplink waits
 * before it goes to its VE, and what a VE sends to its neighbours or gets from them, if that has a
 * ceiling.  A leaf is a VE and class.  Guarantees come first; what they leave, and what is not
 * used of them, goes in equal parts to the leaves that want it, up to their ceilings.
 *
 * A discipline of the uplink that somebody else chose is never touched: what needs it is refused
 * with its name.  The uplink has ours while it has a rate, or a VE a ceiling there.
 *
 * Used by teremd alone, not by its workers.  Needs network/count.h opened before.
 */
#pragma once

#include "network/count.h"

/* Bits a second; 0: nobody has said.  uplink: "" is that of the default route. */
struct network_shape_config {
    const char *uplink;
    uint64_t out, in;
};
/* Finds what stands already, lays what the rates need.  What the kernel lacks, or somebody else
 * has, is no failure here: network_shape_why() tells it. */
int network_shape_open(struct network_node *n, const struct network_shape_config *config,
                       struct err *err);
void network_shape_close(struct network_node *n);
/* NULL, or why this direction cannot be shaped. */
const char *network_shape_why(const struct network_node *n, bool in);
/* NULL, or why packets of one leaf do not take turns by flow. */
const char *network_shape_queue_why(const struct network_node *n);
/* Name of the uplink; "" when there is none. */
const char *network_shape_uplink(const struct network_node *n);

struct network_share {
    uint32_t class;
    bool in;
    uint64_t guarantee, ceiling; /* bits a second; NETWORK_UNLIMITED: no ceiling */
};
/* A VE has these and no others, whatever it had before; all or nothing.  One without a guarantee
 * and ceiling of a class has its part of what the node's rate leaves. */
int network_shape_apply(struct network_node *n, int64_t id, const struct network_share *shares,
                        size_t count, struct err *err);
/* Its traffic does not wait any more; none there: fine. */
int network_shape_remove(struct network_node *n, int64_t id, struct err *err);
/* Ids that have leaves; freed by the caller. */
int network_shape_list(struct network_node *n, int64_t **ret, size_t *ret_n, struct err *err);
/* What all VEs are guaranteed: the host has at least the rest of the uplink. */
int network_shape_rest(struct network_node *n, uint64_t out, uint64_t in, struct err *err);
/* What waiting packets of a VE and class were dropped, since their leaf was made. */
struct network_shape_drop {
    int64_t id;
    uint32_t class; /* 0: of classes without values */
    bool in;
    uint64_t packets;
};
int network_shape_drops(struct network_node *n, struct network_shape_drop **ret, size_t *ret_n,
                        struct err *err);
