/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_oom — arbitrary bytes as records of the kernel's log, one after the other. */
#include "base/fuzz.h"
#include "resource/resource.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct resource_oom_log log = {0};
    auto_free char *text = fuzz_texts(data, size, 65536, 1);
    if (!text)
        return 0;
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
