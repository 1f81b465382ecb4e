/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * admission — the arithmetic of guarantees: what is left to promise, and the weights that keep it.
 *
 * I own the two sums that may never exceed the node, and the formula of weights.  I use the table.
 * I never touch the kernel; ve/ knows the VEs, resource/ writes.
 *
 * Weights.  Let A be the node's processor time less its reserve, g a VE's guarantee and w its
 * cpu.weight.  When every VE wants all it can get, it shall get
 *     g + (A - Σg) · w/Σw,
 * its own and its part of what is above the guarantees.  These amounts add up to A, so they are
 * the weights themselves.  Sums go over all VEs, stopped ones too: then a start or a stop changes
 * nobody's weight, and those that run get more.
 */
#pragma once

#include "param/param.h"

#include <stdint.h>

/* Memory in bytes, processor in hundredths of a percent of one core. */
struct admission_node {
    uint64_t memory, memory_reserve;
    uint64_t cpu, cpu_reserve;
    uint64_t connections;     /* new ones a second; 0: nobody has said how many */
    uint64_t net_out, net_in; /* bits a second of the uplink; 0: nobody has said how many */
};
struct admission_sum {
    uint64_t memory, cpu; /* guaranteed */
    uint64_t connections;
    uint64_t net_out, net_in;     /* of all classes but local */
    uint64_t weight;              /* all cpu.weight */
    uint64_t cpu_max, weight_max; /* the largest of one VE */
    uint64_t withheld;            /* of A - Σg: what cpu.cores keeps from being shared evenly */
};

void admission_add(struct admission_sum *sum, const struct param_set *set);
/* Takes what is guaranteed to one VE out of the sum again; weights stay. */
void admission_take(struct admission_sum *sum, const struct param_set *set);
/* Can the node keep what `set` guarantees beside the others?  old_set (or NULL) is what this VE
 * has now: what does not grow is not refused, though the node may have shrunk. */
int admission_check(const struct admission_node *node, const struct admission_sum *others,
                    const struct param_set *old_set, const struct param_set *set, struct err *err);
/* A - Σg, less what is withheld. */
uint64_t admission_spare(const struct admission_node *node, const struct admission_sum *sum);
/* The VE's cpu.weight for the kernel, 1 to 10000; sum: all VEs, this one too.  Where nobody has a
 * guarantee it is cpu.weight itself. */
uint64_t admission_weight(const struct admission_node *node, const struct admission_sum *sum,
                          const struct param_set *set);
/* The weight of all VEs together among the node's other groups, which have 100 each: those keep
 * about the reserve when everybody is busy.  Without guarantees it is 100 as well;
 * it may be more than a kernel takes. */
uint64_t admission_node_weight(const struct admission_node *node, const struct admission_sum *sum);
