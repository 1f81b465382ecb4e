/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clock — for how long, and until when: time that nobody sets. */
#pragma once

#include <stdint.h>
#include <time.h>

/* Milliseconds since a moment that is the same until the next boot. */
static inline int64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
