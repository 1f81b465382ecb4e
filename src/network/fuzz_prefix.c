/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_prefix — arbitrary bytes as a prefix: what is taken reads back as the same. */
#include "base/fuzz.h"
#include "network/class.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct network_prefix p, again;
    struct err e = {0};
    char back[NETWORK_PREFIX_TEXT];
    auto_free char *text = fuzz_texts(data, size, 4096, 1);
    if (!text)
        return 0;
    int r = network_prefix_parse(text, &p, &e);
    if (r < 0 && (e.kind != -r || !e.text[0]))
        abort();
    if (r == 0 && (p.length < 1 || p.length > (p.family == 4 ? 32 : 128) ||
                   network_prefix_parse(network_prefix_text(&p, back), &again, NULL) < 0 ||
                   memcmp(&p, &again, sizeof(p)) != 0))
        abort();
    return 0;
}
