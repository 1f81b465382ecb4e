/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ve/fill.h"

#define SOON_S    10 /* what lasts no longer than this is as good as gone */
#define AHEAD_S   30
#define IDLE_MS   10000
#define LOW_MS    2000 /* it grows meanwhile */
#define NEAR_MS   1000
#define FILLS_MS  500
#define FAST_DISK (UINT64_C(1) << 20) /* bytes that a fast one takes in a millisecond */

void fill_see(struct fill *f, uint64_t size, uint64_t free_bytes, int64_t now)
{
    struct fill was = *f;
    int64_t ms = now - was.at;
    bool less = was.at && ms > 0 && size == was.size && free_bytes < was.free_bytes;
    *f = (struct fill){size, free_bytes, now, 0};
    if (less)
        f->rate = (was.free_bytes - free_bytes) / (uint64_t)ms * 1000;
}

bool fill_is_low(const struct fill *f)
{
    return f->free_bytes < f->size / FILL_SHARE ||
           (f->free_bytes < f->size / 2 && f->free_bytes / SOON_S < f->rate);
}

uint64_t fill_step(const struct fill *f)
{
    uint64_t fifth = f->size / FILL_SHARE;
    uint64_t ahead = f->rate < f->size / AHEAD_S ? f->rate * AHEAD_S : f->size;
    return ahead > fifth ? ahead : fifth;
}

uint64_t fill_next(const struct fill *f)
{
    uint64_t enough = f->size / FILL_SHARE, span, ms;
    if (f->free_bytes <= enough)
        return LOW_MS;
    span = f->free_bytes - enough;
    ms = span / FAST_DISK;
    ms = ms > IDLE_MS ? IDLE_MS : ms < NEAR_MS ? NEAR_MS : ms;
    if (f->rate && span / f->rate < IDLE_MS / 500) /* half of the way */
        ms = span * 500 / f->rate < ms ? span * 500 / f->rate : ms;
    return ms > FILLS_MS ? ms : FILLS_MS;
}
