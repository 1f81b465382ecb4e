/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/sum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <string.h>

static int open_state(struct sum *s, struct err *err)
{
    if (!s->state)
        s->state = XXH3_createState();
    return s->state ? 0 : err_set(err, ERR_EXHAUSTED, "out of memory");
}

void sum_done(struct sum *s)
{
    XXH3_freeState(s->state);
    s->state = NULL;
}

static void digest(XXH128_hash_t sum, uint64_t ret[2])
{
    ret[0] = sum.high64;
    ret[1] = sum.low64;
}

int sum_begin(struct sum *s, struct err *err)
{
    int r = open_state(s, err);
    if (r == 0)
        XXH3_128bits_reset(s->state);
    return r;
}

void sum_stretch(struct sum *s, uint64_t from, uint64_t to)
{
    const uint64_t where[2] = {from, to};
    XXH3_128bits_update(s->state, where, sizeof(where));
}

void sum_bytes(struct sum *s, const void *buf, size_t len)
{
    XXH3_128bits_update(s->state, buf, len);
}

void sum_end(struct sum *s, uint64_t ret[2])
{
    digest(XXH3_128bits_digest(s->state), ret);
}

void sum_target(const char *to, size_t len, uint64_t ret[2])
{
    digest(XXH3_128bits(to, len), ret);
}

int sum_begin_attrs(struct sum *s, struct err *err)
{
    int r = open_state(s, err);
    if (r == 0)
        XXH3_64bits_reset(s->state);
    return r;
}

void sum_attr(struct sum *s, const char *name, const void *value, size_t len)
{
    uint64_t size = len;
    XXH3_64bits_update(s->state, name, strlen(name) + 1);
    XXH3_64bits_update(s->state, &size, sizeof(size));
    XXH3_64bits_update(s->state, value, len);
}

uint64_t sum_end_attrs(struct sum *s)
{
    return XXH3_64bits_digest(s->state);
}
