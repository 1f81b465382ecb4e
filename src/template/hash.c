/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/hash.h"

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

bool hash_end(struct hash *h, char ret[HASH_TEXT])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char sum[SHA256_DIGEST_SIZE];
    sha256_digest(&h->ctx, sizeof(sum), sum);
    memcpy(ret, "sha256:", 7);
    for (unsigned i = 0; i < sizeof(sum); i++) {
        ret[7 + 2 * i] = hex[sum[i] >> 4];
        ret[8 + 2 * i] = hex[sum[i] & 15];
    }
    ret[HASH_TEXT - 1] = '\0';
    return true;
}
