/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/hash.h"

#include <openssl/evp.h>

struct hash {
    EVP_MD_CTX *ctx;
    bool failed;
};

struct hash *hash_new(void)
{
    struct hash *h = calloc(1, sizeof(*h));
    if (h && (h->ctx = EVP_MD_CTX_new()) && EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) == 1)
        return h;
    hash_free(h);
    return NULL;
}

void hash_free(struct hash *h)
{
    if (h)
        EVP_MD_CTX_free(h->ctx);
    free(h);
}

void hash_add(struct hash *h, const void *p, size_t n)
{
    h->failed |= EVP_DigestUpdate(h->ctx, p, n) != 1;
}

bool hash_end(struct hash *h, char ret[HASH_TEXT])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (h->failed || EVP_DigestFinal_ex(h->ctx, sum, &n) != 1 || n != 32)
        return false;
    memcpy(ret, "sha256:", 7);
    for (unsigned i = 0; i < n; i++) {
        ret[7 + 2 * i] = hex[sum[i] >> 4];
        ret[8 + 2 * i] = hex[sum[i] & 15];
    }
    ret[HASH_TEXT - 1] = '\0';
    return true;
}
