/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * serving — a page that teremd and terem-keep share: who answers calls at the listeners of VEs.
 *
 * Both hold every listener (kernel/seccomp.h).  teremd answers; while it is not there, or has not
 * looked for STAND_IN_MS, terem-keep lets the kernel carry the calls out, so that nobody in a VE
 * hangs.  Two things must hold whenever either is stopped or killed:
 *
 * - Only one of them receives at a time, since who receives a call that the other has taken waits
 *   for the next.  Each says that it is about to, and then looks whether the other has said so.
 * - A call that teremd received and did not answer any more is passed on by terem-keep.  So teremd
 *   receives straight into a slot of this page, and clears it when the call is answered.
 * - Nor does teremd write into the memory of a caller that terem-keep has let go on: whoever turns
 *   the slot's state from RECEIVED decides about the call.
 */
#pragma once

#include "base/err.h"

#include <linux/seccomp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SERVING_SLOTS 16
#define SERVING_SIZE  4096
#define STAND_IN_MS   1000

struct serving_slot {
    int64_t ve;
    struct seccomp_notif call; /* .id 0: free */
};

enum serving_state {
    SERVING_FREE,
    SERVING_RECEIVED,
    SERVING_ANSWERING, /* teremd is writing the answer */
    SERVING_PASSED_ON, /* terem-keep has let the kernel carry it out */
};

struct serving {
    atomic_uint receiving;      /* teremd is */
    atomic_uint standing_in;    /* terem-keep is */
    atomic_uint_fast64_t turns; /* rises whenever teremd looks at a listener */
    struct serving_slot slots[SERVING_SLOTS];
    atomic_uint states[SERVING_SLOTS]; /* always SERVING_FREE: a teremd that knows of none */
};
_Static_assert(sizeof(struct serving) <= SERVING_SIZE, "serving takes more than its page");

/* teremd: a new page; *ret_fd goes to terem-keep.  Processes forked later do not have it. */
int serving_make(struct serving **ret, int *ret_fd, struct err *err);
/* terem-keep: what it was given. */
int serving_map(int fd, struct serving **ret, struct err *err);
void serving_unmap(struct serving *s);

/* teremd: receives the next call of this listener, if there is one, into a free slot.
 * NULL: there is none, no slot is free, or terem-keep is at it. */
struct serving_slot *serving_receive(struct serving *s, int64_t ve, int listener);
/* teremd, in any thread: may this call be answered?  False: terem-keep has passed it on. */
bool serving_answer(struct serving *s, const struct serving_slot *slot);
/* teremd: that call is answered. */
void serving_release(struct serving *s, struct serving_slot *slot);
/* terem-keep: takes a call that was received and is not being answered, to pass it on.  Returns
 * its id, or 0. */
uint64_t serving_take(struct serving *s, size_t slot);

/* terem-keep: receives and passes on at most `max` calls.  s may be NULL: there is no teremd.
 * False: teremd is at it. */
bool serving_pass_on(struct serving *s, int listener, unsigned max, bool *ret_ended);
