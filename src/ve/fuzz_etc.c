/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_etc — arbitrary bytes as a VE's /etc/hosts and interfaces: what was made stays as it is. */
#include "base/fuzz.h"
#include "base/str.h"
#include "ve/etc.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char name[] = "192.0.2.1\tweb1\n";
    auto_str struct str hosts = str_init(1 << 20), again = str_init(1 << 20),
                        links = str_init(1 << 20), none = str_init(1 << 20);
    auto_free char *text = fuzz_texts(data, size, 65536, 1);
    if (!text)
        return 0;
    if (!etc_hosts(text, true, name, &hosts) || !strstr(str_c(&hosts), name) ||
        !etc_hosts(str_c(&hosts), true, name, &again) || !str_eq(str_c(&hosts), str_c(&again)))
        abort();
    if (etc_interfaces(text, true, "auto lo\n", &links) &&
        etc_interfaces(str_c(&links), true, "auto lo\n", &none))
        abort();
    return 0;
}
