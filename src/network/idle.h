/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * network/idle — when a VE was last used over the network, and who is called while it sleeps.
 *
 * I own the stamps that the programs at host ends (network/count.h) write for VEs that are watched,
 * and their word that a packet has come for one that sleeps.  Nothing is asked of a VE: a stamp is
 * one lookup in a map, and a wake is one record in a ring.  All of it outlives teremd.
 *
 * Use is what comes to the VE or goes from it by TCP with bytes or with a SYN, and by UDP and any
 * other protocol of IP but ICMP, to a unicast address.  ARP, neighbour discovery, multicast,
 * broadcast, pings, acknowledgements, keep-alives and ends of connections are none.
 *
 * To put a VE to sleep without losing a packet: network_idle_used(), network_idle_sleep(), freeze
 * it, network_idle_used() again: another answer means that it is used, and it is to be woken.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct network_node;

/* Watches it from now on, at once as used now; again is fine. */
int network_idle_watch(struct network_node *n, int64_t id, struct err *err);
void network_idle_forget(struct network_node *n, int64_t id);
/* When it was last used, in nanoseconds of CLOCK_MONOTONIC; false: it is not watched. */
bool network_idle_used(struct network_node *n, int64_t id, uint64_t *ret_ns);

/* From now on the first packet to it is told.  used_ns: what network_idle_used() had said. */
int network_idle_sleep(struct network_node *n, int64_t id, uint64_t used_ns, struct err *err);
void network_idle_awake(struct network_node *n, int64_t id);
/* Has network_idle_sleep() been called for it, and was it not used since? */
bool network_idle_sleeps(struct network_node *n, int64_t id);

/* *ret_fd becomes readable when somebody has called; then network_idle_hear() calls fn.  Calls of
 * the time when nobody listened come at once. */
typedef void (*network_wake_fn)(void *ctx, int64_t id);
int network_idle_listen(struct network_node *n, network_wake_fn fn, void *ctx, int *ret_fd,
                        struct err *err);
int network_idle_hear(struct network_node *n, struct err *err);
