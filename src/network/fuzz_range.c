/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_range — arbitrary bytes as a range of addresses, "PREFIX" or "PREFIX FIRST-LAST": what is
 * taken lies in order within its prefix, reads back as the same, and is exactly its parts. */
#include "base/fuzz.h"
#include "network/internal.h"

#include <stdlib.h>

#define must(x)      \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

/* The parts of a range in the uplink's network follow one another from its first address to its
 * last. */
static void check_parts(struct network_range r)
{
    struct network_prefix parts[NETWORK_PARTS];
    r.link = 1;
    size_t n = network_range_parts(&r, parts);
    struct netlink_ip next = r.first, last = {0};
    must(n > 0 && n < NETWORK_PARTS);
    for (size_t i = 0; i < n; i++) {
        struct netlink_ip at = {.family = r.base.family};
        memcpy(&at.v6, parts[i].address, network_ip_bits(&at) / 8);
        must(network_ip_compare(&at, &next) == 0);
        last = network_ip_last(&at, parts[i].length);
        next = network_ip_next(last);
    }
    must(network_ip_compare(&last, &r.last) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct network_range r = {0}, again = {0};
    struct err e = {0};
    char prefix[NETWORK_TEXT], first[NETWORK_TEXT], last[NETWORK_TEXT], ends[2 * NETWORK_TEXT];
    auto_free char *text = fuzz_texts(data, size, 4096, 1);
    if (!text)
        return 0;
    char *space = strchr(text, ' ');
    if (space)
        *space = '\0';
    int res = network_range_parse(text, space ? space + 1 : NULL, &r, &e);
    must(res == 0 || ((int)e.kind == -res && e.text[0]));
    if (res < 0)
        return 0;
    must(network_ip_compare(&r.first, &r.last) <= 0 && network_range_has(&r, &r.first) &&
         network_range_has(&r, &r.last) && network_range_overlaps(&r, &r));
    must(network_ip_in(&r.first, &r.base, r.prefix) && network_ip_in(&r.last, &r.base, r.prefix));
    str_print(ends, sizeof(ends), "%s-%s", network_ip_text(&r.first, -1, first),
              network_ip_text(&r.last, -1, last));
    must(network_range_parse(network_ip_text(&r.base, r.prefix, prefix), ends, &again, NULL) == 0);
    must(network_ip_compare(&r.base, &again.base) == 0 && r.prefix == again.prefix &&
         network_ip_compare(&r.first, &again.first) == 0 &&
         network_ip_compare(&r.last, &again.last) == 0 && r.public == again.public);
    check_parts(r);
    return 0;
}
