/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "archive/hash.h"

#include <nettle/sha2.h>

struct hash {
    struct sha256_ctx ctx;
};

struct hash *hash_new(void)
{
    struct hash *h = malloc(sizeof(*h));
    if (h)
        sha256_init(&h->ctx);
    return h;
}

void hash_free(struct hash *h)
{
    free(h);
}

void hash_add(struct hash *h, const void *p, size_t n)
{
    sha256_update(&h->ctx, n, p);
}

void hash_end_raw(struct hash *h, uint8_t ret[HASH_RAW])
{
    sha256_digest(&h->ctx, HASH_RAW, ret);
}

void hash_to_text(const uint8_t sum[HASH_RAW], char ret[HASH_TEXT])
{
    static const char hex[] = "0123456789abcdef";
    memcpy(ret, "sha256:", 7);
    for (unsigned i = 0; i < HASH_RAW; i++) {
        ret[7 + 2 * i] = hex[sum[i] >> 4];
        ret[8 + 2 * i] = hex[sum[i] & 15];
    }
    ret[HASH_TEXT - 1] = '\0';
}

void hash_end(struct hash *h, char ret[HASH_TEXT])
{
    uint8_t sum[HASH_RAW];
    hash_end_raw(h, sum);
    hash_to_text(sum, ret);
}

void hash_bytes(const void *a, size_t a_len, const void *b, size_t b_len, uint8_t ret[HASH_RAW])
{
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    if (a_len)
        sha256_update(&ctx, a_len, a);
    sha256_update(&ctx, b_len, b);
    sha256_digest(&ctx, HASH_RAW, ret);
}
