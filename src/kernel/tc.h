/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kernel/tc — queueing disciplines, classes of HTB and BPF filters, by the socket of
 * kernel/netlink.
 *
 * I own nothing.  I use libmnl.  I decide nothing: which numbers and rates is the caller's.  Queued
 * verbs return nothing; netlink_commit() tells.
 */
#pragma once

#include "kernel/netlink.h"

#include <linux/pkt_sched.h>

/* "ifb": what is sent to it comes back where it was taken from. */
void tc_ifb_add(struct netlink *nl, const char *name);

/* Where filters of an interface hang that are no discipline; there already: fine. */
void tc_clsact_add(struct netlink *nl, int ifindex);
/* With its filters; none there: fine. */
void tc_clsact_delete(struct netlink *nl, int ifindex);

/* A program of type sched_cls.  redirect: index of the interface to which the filter's action sends
 * what the program matches (returns 1 for), 0: the filter has no action and its answer is a class.
 * One that stands at this parent with the same preference is replaced at once. */
struct tc_filter {
    int ifindex;
    uint32_t parent; /* TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS), a discipline's handle */
    uint16_t preference;
    int program;
    const char *name;
    int redirect;
};
void tc_filter_put(struct netlink *nl, const struct tc_filter *f);

struct tc_root {
    char kind[16];   /* "htb" */
    uint32_t handle; /* 0: nobody chose it, it is the kernel's default */
};
int tc_root_get(struct netlink *nl, int ifindex, struct tc_root *ret, struct err *err);
/* other: minor number of the class of what no filter knows. */
void tc_htb_add(struct netlink *nl, int ifindex, uint32_t handle, uint16_t other);
void tc_root_delete(struct netlink *nl, int ifindex);

/* Rates in bytes a second, at least TC_RATE_MIN; bursts and quantum in bytes. */
#define TC_RATE_MIN 125
struct tc_class {
    int ifindex;
    uint32_t parent, id; /* major and minor number */
    uint64_t rate, ceil;
    uint32_t burst, cburst, quantum;
};
/* There already: its values are changed, nothing that waits is lost. */
void tc_class_put(struct netlink *nl, const struct tc_class *c);
/* With what waits in it; not there: fine. */
void tc_class_delete(struct netlink *nl, int ifindex, uint32_t id);

/* A queue below a class: fq_codel, or without it bfifo of so many bytes.  There already: stays. */
void tc_leaf_add(struct netlink *nl, int ifindex, uint32_t parent, bool fq_codel, uint32_t bytes);

/* Every class of HTB of an interface. */
struct tc_class_now {
    uint32_t id;
    uint64_t dropped; /* packets */
};
int tc_class_each(struct netlink *nl, int ifindex,
                  int (*item)(void *ctx, const struct tc_class_now *c, struct err *err), void *ctx,
                  struct err *err);
