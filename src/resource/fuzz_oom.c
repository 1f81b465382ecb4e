/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_oom — arbitrary bytes as records of the kernel's log, one after the other. */
#include "base/cleanup.h"
#include "resource/resource.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct resource_oom_log log = {0};
    if (size > 65536)
        return 0;
    auto_free char *text = calloc(1, size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    for (size_t at = 0; at < size; at += strlen(text + at) + 1) {
        struct resource_victim v = {0};
        if (!resource_oom_read(&log, "terem", text + at, &v))
            continue;
        if (v.pid < 0 || v.adj < -1000 || v.adj > 1000 ||
            strnlen(v.name, sizeof(v.name)) == sizeof(v.name))
            abort();
    }
    return 0;
}
