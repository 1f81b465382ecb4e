/* SPDX-License-Identifier: GPL-2.0-or-later */
/* private — private networks, and who is in which.  Inside ve only. */
#pragma once

#include "ve/internal.h"

/* private.c */
int ve_privates_load(struct ve_node *node, struct err *err);
void ve_privates_done(struct ve_node *node);
/* Bridges and rules, when the VEs are known; also after somebody has deleted the rules. */
void ve_privates_lay(struct ve_node *node);
/* Does a range overlap one of them?  Yes: ERR_EXISTS. */
int ve_privates_clash(const struct ve_node *node, const struct network_range *range,
                      struct err *err);

const struct ve_private *ve_private_find(const struct ve_node *node, const char *name);
/* ERR_NOT_FOUND with "did you mean". */
int ve_private_find_err(struct ve_node *node, const char *name, const struct ve_private **ret,
                        struct err *err);
/* {"port","number"}; NULL: it is not in it. */
const json_t *ve_private_membership(const struct ve *ve, const char *network);
/* Of such a one; NULL: 0. */
unsigned ve_private_port(const json_t *membership);
uint32_t ve_private_number(const json_t *membership);
struct network_member ve_private_member(const struct ve *ve, const struct ve_private *p,
                                        const struct param_set *params);
/* {"interface","addresses"} */
json_t *ve_private_member_json(const struct network_member *m);
/* By interface; returns how many. */
size_t ve_privates_of(const struct ve *ve, const struct param_set *params,
                      struct network_member ret[NETWORK_PRIVATE_PORTS]);
/* [{"network","interface","addresses"}] */
json_t *ve_privates_json(const struct ve *ve);
/* Appends the names of its interfaces that its root has deleted; it runs. */
void ve_privates_deleted(const struct ve *ve, json_t *names);

/* privatemember.c */
/* After recovery: VEs that run have the interfaces that the registry says. */
void ve_privates_settle(struct ve_node *node);
/* Its interfaces, when it starts or has ended.  In workers, too. */
int ve_privates_plug(const struct ve *ve, int netns_fd, const struct param_set *params,
                     struct err *err);
int ve_privates_unplug(const struct ve *ve, struct err *err);
int ve_privates_limit(const struct ve *ve, const struct param_set *params, struct err *err);

/* Would it, with this specification, be of another owner than its networks?  Yes: ERR_STATE. */
int ve_privates_check(const struct ve *ve, const json_t *spec, struct err *err);
/* A copy of a VE, or one of a backup, is in the networks of `from` ("networks" of a specification)
 * as far as they are there, of its owner and not full, with a number of its own; an event warns of
 * those that it is not in.  Within the transaction that saves its record; then
 * ve_privates_joined(). */
void ve_privates_take(struct ve *ve, const json_t *from);
void ve_privates_joined(const struct ve *ve);
/* It is destroyed. */
void ve_privates_forget(const struct ve *ve);
