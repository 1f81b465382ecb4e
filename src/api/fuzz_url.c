/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_url — arbitrary bytes as a request's target. */
#include "api/url.h"
#include "base/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    auto_free char *text = fuzz_texts(data, size, SIZE_MAX, 1);
    if (!text)
        return 0;
    struct err err = {0};
    auto_url struct url url = {0};
    int rc = url_parse(text, &url, &err);
    if (rc > 0 || (rc < 0 && (err.kind != -rc || !*err.text)))
        abort();
    for (size_t i = 0; i < url.n_segments; i++)
        for (const char *c = url.segments[i]; *c; c++)
            if (*c == '/' || (unsigned char)*c < 0x20)
                abort();
    for (size_t i = 0; i < url.n_query; i++)
        if (url_query(&url, url.query[i].key) != url.query[i].value)
            abort();
    return 0;
}
