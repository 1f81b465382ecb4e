/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * network/publish — ports of this machine that lead to VEs.
 *
 * I own the maps published4 … of the instance's nft table.  Who connects to a published port, from
 * outside, from the machine itself or from a VE, is led to the VE's own pair of addresses; the VE
 * sees the address of who connects, but this machine's when it connects to itself.  A packet
 * costs a look in a map, however many are published.  127.0.0.1 and ::1 lead nowhere: their
 * packets do not leave the machine.
 *
 * A port is held by a socket that is bound and never read, so that no program of the machine can
 * take it meanwhile, and one that has it is found.
 */
#pragma once

#include "kernel/netlink.h"
#include "network/network.h"

struct network_publish {
    uint8_t protocol;          /* IPPROTO_TCP or IPPROTO_UDP */
    struct netlink_ip address; /* of this machine; family 0: each that it has */
    uint16_t port, to_port;
    uint32_t slot; /* of the VE, see network_address_of() */
};

/* Do they want the same port of the same address? */
bool network_publish_clashes(const struct network_publish *a, const struct network_publish *b);
/* Binds it; the caller closes *ret_fd when it is published no more.  ERR_EXISTS: a program of this
 * machine has it; ERR_NOT_FOUND: the machine has no such address. */
int network_publish_hold(const struct network_publish *p, int *ret_fd, struct err *err);

int network_publish_add(struct network_node *n, const struct network_publish *p, struct err *err);
/* Connections that are open go on. */
int network_publish_remove(struct network_node *n, const struct network_publish *p,
                           struct err *err);
/* These and no others. */
int network_publish_lay(struct network_node *n, const struct network_publish *list, size_t count,
                        struct err *err);
