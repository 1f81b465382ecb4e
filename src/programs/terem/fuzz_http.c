/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_http — the first byte chooses how the rest is cut into reads; every cut must give the same
 * body.
 */
#include "base/cleanup.h"
#include "http.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run(const char *p, size_t len, size_t step, uint64_t *ret_sum, size_t *ret_len)
{
    struct http_reader r = {0};
    uint64_t sum = 0;
    size_t total = 0;
    while (len && !http_done(&r) && !http_upgraded(&r)) {
        size_t part = len < step ? len : step, used, n;
        const char *body;
        struct err err = {0};
        if (http_feed(&r, p, part, &used, &body, &n, &err) < 0)
            return -1;
        if (used == 0 || used > part || n > used || (n && (body < p || body + n > p + used)))
            abort();
        for (size_t i = 0; i < n; i++)
            sum = sum * 31 + (unsigned char)body[i];
        total += n;
        p += used;
        len -= used;
    }
    *ret_sum = sum;
    *ret_len = total;
    return http_eof(&r, NULL) < 0 ? -2 : r.status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    auto_free char *copy = malloc(size);
    if (!copy)
        return 0;
    memcpy(copy, data + 1, size - 1);
    uint64_t sum_a = 0, sum_b = 0;
    size_t len_a = 0, len_b = 0;
    int a = run(copy, size - 1, SIZE_MAX, &sum_a, &len_a);
    int b = run(copy, size - 1, 1 + data[0] % 17, &sum_b, &len_b);
    if (a != b || (a >= 0 && (sum_a != sum_b || len_a != len_b)))
        abort();
    return 0;
}
