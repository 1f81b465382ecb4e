/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ve/budget.h"

#include <time.h>

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

bool budget_begin(struct budget *b, int64_t *ret_began)
{
    int64_t now = now_us();
    uint64_t tick = (uint64_t)now / (BUDGET_TICK_MS * 1000);
    if (b->tick != tick) {
        b->tick = tick;
        b->spent_us = 0;
    }
    *ret_began = now;
    return b->spent_us < BUDGET_US;
}

void budget_end(struct budget *b, int64_t began)
{
    b->spent_us += (uint64_t)(now_us() - began);
}
