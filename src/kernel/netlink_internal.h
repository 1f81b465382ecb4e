/* SPDX-License-Identifier: GPL-2.0-or-later */
/* netlink_internal — inside the room: how requests are put into a batch, and asked. */
#pragma once

#include "kernel/netlink.h"

#include <linux/netlink.h>

/* Begins a request in the batch; netlink_end() ends it.  A batch that is full is told by the
 * commit.  what: "cannot add a route", a literal; fine: errno that means success, or 0. */
struct nlmsghdr *netlink_begin(struct netlink *nl, uint16_t type, uint16_t flags, const char *what,
                               int fine);
void netlink_end(struct netlink *nl, struct nlmsghdr *h);
/* Sends the one request that is queued and hands each answer to item(). */
int netlink_ask(struct netlink *nl,
                int (*item)(void *ctx, const struct nlmsghdr *h, struct err *err), void *ctx,
                struct err *err);
/* The one way to a MAC is this port of a bridge, whatever other ports claim. */
void netlink_station_add(struct netlink *nl, int port, const uint8_t mac[6]);
/* An address as an attribute; none: nothing is put, and what is none is read as none. */
struct nlattr;
void netlink_put_ip(struct nlmsghdr *h, uint16_t type, const struct netlink_ip *ip);
struct netlink_ip netlink_get_ip(const struct nlattr *a);
/* Between looks at what the kernel does in the background; *ns: 0 before the first.  False: that
 * was the last. */
bool netlink_pause(long *ns);
