/* SPDX-License-Identifier: GPL-2.0-or-later */
/* net — bounds, shares, classes and counts of the network.  Inside ve only. */
#pragma once

#include "ve/internal.h"

/* netlimit.c */
void ve_netlimit_of(struct ve_node *node, const struct param_set *set, struct network_limits *ret);
uint64_t ve_netlimit_packets(const struct param_set *set); /* a second */
int ve_netlimit_check(struct ve_node *node, const struct param_set *set, struct err *err);
int ve_netlimit_apply(struct ve *ve, const struct param_set *old_set,
                      const struct param_set *new_set, bool force, struct err *err);
int ve_netlimit_counters(struct ve *ve, struct param_counters *list, struct err *err);
/* What is left of capacity.connections is for whoever asks first. */
void ve_netlimit_settle(struct ve_node *node, uint64_t guaranteed);
/* Limits of VEs that are gone go, those that the table lost are written: before recovery begins any
 * worker, as a start and an end write and remove their VE's limits in theirs. */
void ve_netlimit_recover(struct ve_node *node);
void ve_netlimit_started(struct ve *ve); /* was the table laid again meanwhile? */
/* After recovery: the table is laid again if it is deleted, and refusals are told. */
void ve_netlimit_begin(struct ve_node *node);
void ve_netlimit_end(struct ve_node *node);

/* netclass.c */
int ve_classes_load(struct ve_node *node, struct err *err);
void ve_classes_done(struct ve_node *node);
/* Also one that was removed; NULL: there never was one. */
const struct ve_class *ve_class_of_id(const struct ve_node *node, uint32_t id);

/* One that is there or was removed; NULL. */
const struct ve_class *ve_class_find(const struct ve_node *node, const char *name);
/* Not there: ERR_NOT_FOUND with "did you mean". */
int ve_class_check(struct ve_node *node, const char *name, struct err *err);

/* netshape.c */
int ve_netshape_open(struct ve_node *node, struct err *err); /* before VEs start */
void ve_netshape_begin(struct ve_node *node);                /* after recovery */
int ve_netshape_check(struct ve_node *node, const struct param_set *set, struct err *err);
int ve_netshape_apply(struct ve *ve, const struct param_set *old_set,
                      const struct param_set *new_set, bool force, struct err *err);
int ve_netshape_start(struct ve *ve, struct err *err);
void ve_netshape_stopped(struct ve *ve);
/* What all VEs are promised, in bits a second. */
void ve_netshape_settle(struct ve_node *node, uint64_t out, uint64_t in);

/* usagelog.c */
struct usage_log;
/* After recovery; takes over what was counted meanwhile. */
int ve_usage_begin(struct ve_node *node, struct err *err);
void ve_usage_end(struct ve_node *node);
/* A VE was destroyed: what it used last is written, and then forgotten by the kernel. */
void ve_usage_soon(struct ve_node *node);
/* At once, as the counters will be taken away. */
void ve_usage_flush(struct ve_node *node);

/* netcount.c */
void ve_netcount_begin(struct ve_node *node);
/* What was counted of all VEs is read once for all that follows until the drop. */
void ve_netcount_load(struct ve_node *node);
void ve_netcount_drop(struct ve_node *node);
/* {"europe":{"out":{"bytes","packets"},"in":{…},"removed"}}; null: not counted here. */
json_t *ve_netcount_json(struct ve *ve);
typedef void (*ve_netcount_fn)(void *ctx, const struct ve_class *class,
                               const struct network_count *out, const struct network_count *in);
/* The classes in which a VE has sent or got anything; either is NULL when it is nothing. */
void ve_netcount_each(const struct ve_node *node, int64_t id, ve_netcount_fn fn, void *ctx);
