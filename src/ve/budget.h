/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * budget — how much of the loop's time what VEs ask for may take: a fifth, in ticks of 10 ms.
 * What is over it waits for the next tick, so that whoever asks without end cannot keep teremd
 * from its other work.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define BUDGET_TICK_MS 10
#define BUDGET_US      2000

struct budget {
    uint64_t tick, spent_us;
};

/* False: spent, for this tick.  *ret_began goes to budget_end(). */
bool budget_begin(struct budget *b, int64_t *ret_began);
void budget_end(struct budget *b, int64_t began);
