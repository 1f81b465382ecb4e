/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/url.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    struct err err = {0};
    auto_url struct url url = {0};
    if (url_parse(text, &url, &err) < 0) {
        if (err.kind == ERR_NONE || !*err.text)
            abort();
    } else {
        for (size_t i = 0; i < url.n_segments; i++)
            if (strchr(url.segments[i], '/'))
                abort();
    }
    free(text);
    return 0;
}
