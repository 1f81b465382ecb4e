/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * placement — the arithmetic of cores: where each VE runs, and whether the guarantees fit there.
 *
 * I own what cpu.cores means for all VEs of a node together.  I use the table and admission.  I
 * never touch the kernel; ve/ knows the VEs, resource/ writes.
 *
 * Cores of an exclusive list are that VE's alone, while it is stopped too: then a start cannot
 * fail for want of them.  A list keeps what it names, a count gets the least loaded of the
 * cores that are nobody's alone, and keeps them as long as they stay free, for a VE that runs
 * should not wander.  Who has asked for nothing has all that are nobody's alone.
 *
 * Guarantees fit when processor time can be handed out core by core so that each VE gets its own
 * where it may run, and the node's reserve is left somewhere: a flow from VEs to cores, 100% each.
 */
#pragma once

#include "param/admission.h"

#include <sched.h>
#include <stddef.h>

struct placement_ve {
    const char *name; /* for sentences */
    const struct param_set *set;
    struct param_value want;    /* cpu.cores */
    uint64_t guarantee, weight; /* cpu.guarantee, cpu.weight */
    cpu_set_t cores; /* before: where a count was put earlier, or nothing; after: where it runs */
};
struct placement_ve placement_ve(const char *name, const struct param_set *set);

/* "0-3,6", as the kernel reads and writes lists of cores. */
#define PLACEMENT_TEXT 5120
const char *placement_format(const cpu_set_t *cores, char buf[PLACEMENT_TEXT]);
int placement_parse(const char *text, cpu_set_t *ret, struct err *err);

/* Can list[asks] have the cores that it names beside the others? */
int placement_check(const cpu_set_t *online, const struct placement_ve *list, size_t n, size_t asks,
                    struct err *err);
/* Gives every VE its cores.  A count that asks for more than there are gets all there are. */
void placement_make(const struct admission_node *node, const cpu_set_t *online,
                    struct placement_ve *list, size_t n);
/* The same, and moves counts where the guarantees would not fit otherwise.  *ret_spare: how much
 * above the guarantees the weights may hand out (admission_sum.withheld is the rest), so that each
 * guarantee is kept on its cores.  false: they do not fit, and the spare is 0. */
bool placement_fit(const struct admission_node *node, const cpu_set_t *online,
                   struct placement_ve *list, size_t n, uint64_t *ret_spare);
/* Why list[asks] cannot have what it asks for, after placement_fit() said no: always an error. */
int placement_why(const struct admission_node *node, const cpu_set_t *online,
                  struct placement_ve *list, size_t n, size_t asks, struct err *err);
