/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * classify — the BPF programs that sort and count the packets of VEs, and their maps.
 *
 * I own the programs of kernel/bpf/classify.bpf.c and what of them is pinned in a bpffs: maps and
 * programs outlive the process that opened them, and are found again.  I use base and libbpf.  I
 * never attach a program (kernel/tc.h does) and know no name of a VE or class.
 *
 * Synopsis
 *     struct classify *c = NULL;
 *     classify_open("/run/terem/bpf", &c, err);
 *     tc_filter_put(nl, …, classify_program(c, CLASSIFY_FROM_VE), …);
 *     classify_end_put(c, ifindex, &end, err);
 *     classify_counts(c, &list, &n, err);
 *
 * The bits of numbers and addresses are in kernel/bpf/classify.h.
 */
#pragma once

#include "base/err.h"
#include "kernel/bpf/classify.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct classify;

enum classify_program {
    CLASSIFY_FROM_VE,
    CLASSIFY_TO_VE,
    CLASSIFY_UPLINK,
    CLASSIFY_NOTE_FROM, /* where nothing is counted, and VEs are watched for use */
    CLASSIFY_NOTE_TO,
    CLASSIFY_PROGRAMS
};

/* dir: of a bpffs, mounted there if it is not.  ERR_UNSUPPORTED: this kernel refuses them. */
int classify_open(const char *dir, struct classify **ret, struct err *err);
void classify_close(struct classify *c);
int classify_program(const struct classify *c, enum classify_program which);
/* This open loaded programs that were not there: what was attached before are others. */
bool classify_fresh(const struct classify *c);

int classify_settings_put(struct classify *c, const struct classify_settings *s, struct err *err);

/* By family, as in network/class.h. */
struct classify_prefix {
    uint8_t family, length; /* 4 or 6 */
    uint32_t class;
    const uint8_t *address;
};
/* The whole list, which takes the place of the one before in one step for each family.  prefix(ctx,
 * i) gives the i-th of n. */
int classify_prefixes_put(struct classify *c, struct classify_prefix (*prefix)(void *ctx, size_t i),
                          void *ctx, size_t n, struct err *err);

int classify_end_put(struct classify *c, int ifindex, const struct classify_end *end,
                     struct err *err);
/* Not there: fine. */
int classify_end_delete(struct classify *c, int ifindex, struct err *err);
int classify_end_each(struct classify *c,
                      int (*item)(void *ctx, int ifindex, const struct classify_end *end,
                                  struct err *err),
                      void *ctx, struct err *err);

int classify_leaf_put(struct classify *c, const struct classify_key *key, uint32_t leaf,
                      struct err *err);
int classify_leaf_delete(struct classify *c, const struct classify_key *key, struct err *err);
struct classify_leaf {
    struct classify_key key;
    uint32_t leaf;
};
/* All of them, in no order; freed by the caller. */
int classify_leaves(struct classify *c, struct classify_leaf **ret, size_t *ret_n, struct err *err);

struct classify_counted {
    struct classify_key key;
    struct classify_count count;
};
/* All that was counted, in no order; freed by the caller. */
int classify_counts(struct classify *c, struct classify_counted **ret, size_t *ret_n,
                    struct err *err);
/* The kernel's number of the map, which it gives to no other before the next boot. */
uint32_t classify_counts_id(const struct classify *c);
/* False: nothing was counted under this key. */
bool classify_count_get(struct classify *c, const struct classify_key *key,
                        struct classify_count *ret);
int classify_count_delete(struct classify *c, const struct classify_key *key, struct err *err);

/* ---- who is used, and who sleeps ---- */

/* From now on packets of this VE are stamped; begins at this moment, unless it has a stamp. */
int classify_stamp_begin(struct classify *c, uint64_t ve, struct err *err);
int classify_stamp_end(struct classify *c, uint64_t ve, struct err *err);
/* When the last packet came or went that is use (CLOCK_MONOTONIC); false: it is not stamped. */
bool classify_stamp_get(struct classify *c, uint64_t ve, uint64_t *ret_ns);

/* From now on the first packet to it is told.  used_ns: of its stamp, when that was decided. */
int classify_sleep_put(struct classify *c, uint64_t ve, uint64_t used_ns, struct err *err);
int classify_sleep_delete(struct classify *c, uint64_t ve, struct err *err);
bool classify_sleep_get(struct classify *c, uint64_t ve, struct classify_sleep *ret);

/* Who is told.  *ret_fd becomes readable; then classify_wakes_hear() calls fn for each VE.  What
 * nobody has heard yet is kept, also while nobody listens. */
typedef void (*classify_wake_fn)(void *ctx, uint64_t ve);
int classify_wakes_listen(struct classify *c, classify_wake_fn fn, void *ctx, int *ret_fd,
                          struct err *err);
int classify_wakes_hear(struct classify *c, struct err *err);
