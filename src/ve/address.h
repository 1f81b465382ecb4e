/* SPDX-License-Identifier: GPL-2.0-or-later */
/* address — address pools, and addresses of VEs beside their own pair.  Inside ve only. */
#pragma once

#include "ve/internal.h"

/* addresspool.c */
/* From the registry; before the network is set up. */
int ve_addresses_load(struct ve_node *node, struct err *err);
void ve_addresses_done(struct ve_node *node);
/* When the uplink is known. */
int ve_addresses_lay(struct ve_node *node, struct err *err);
/* ERR_NOT_FOUND with "did you mean". */
int ve_address_pool_find(struct ve_node *node, const char *name, const struct ve_address_pool **ret,
                         struct err *err);
/* In which it may be given away; NULL. */
const struct ve_address_pool *ve_address_pool_of(const struct ve_node *node,
                                                 const struct netlink_ip *ip);

/* address.c */
/* Does it run, so that a change reaches it at once? */
bool ve_has_cable(const struct ve *ve);
/* Where it is in node->addresses.v, or would be. */
size_t ve_address_at(const struct ve_node *node, const struct netlink_ip *ip, bool *ret_found);
/* Its own pair and the others, in the order in which it got them. */
int ve_addresses_of(const struct ve *ve, struct network_address *ret, struct err *err);
void ve_addresses_free(struct network_address *a); /* for auto_clean() */
/* Lets the network ask whose they are. */
void ve_addresses_own(struct ve_node *node);
/* A VE is destroyed: those that are reserved stay so, the others are free.  In its transaction. */
int ve_addresses_forget(const struct ve *ve, struct err *err);
/* After recovery: the kernel has what the registry says. */
void ve_addresses_settle(struct ve_node *node);
