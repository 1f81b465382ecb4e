/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fill — how a pool fills: when it has to grow, by how much, and when it is looked at again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define FILL_SHARE 5 /* a fifth free is enough */

struct fill { /* zeroed: never looked at */
    uint64_t size, free_bytes;
    int64_t at;    /* ms, when that was so */
    uint64_t rate; /* bytes that it lost a second, between the last two looks */
};

void fill_see(struct fill *f, uint64_t size, uint64_t free_bytes, int64_t now);
/* Less than a fifth is free, or what is would be gone within seconds. */
bool fill_is_low(const struct fill *f);
/* By how much it should grow: a fifth, or what half a minute takes if that is more. */
uint64_t fill_step(const struct fill *f);
/* Milliseconds until it may be low. */
uint64_t fill_next(const struct fill *f);
