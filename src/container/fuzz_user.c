/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_user — arbitrary bytes as a user, /etc/passwd and /etc/group, parted by NUL bytes.
 */
#include "base/fuzz.h"
#include "container/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    auto_free char *text = fuzz_texts(data, size, 65536, 3);
    if (!text)
        return 0;
    const char *passwd = text + strlen(text) + 1;
    const char *group = passwd + strlen(passwd) + 1;
    struct user u;
    struct err err = {0};
    int r = user_parse(text, passwd, group, &u, &err);
    if (r < 0 ? err.kind != -r || !err.text[0]
              : u.uid >= CONTAINER_ID_COUNT || u.gid >= CONTAINER_ID_COUNT ||
                    u.n_groups > USER_GROUPS_MAX || u.home[0] != '/' || u.shell[0] != '/')
        abort();
    for (size_t i = 0; r == 0 && i < u.n_groups; i++)
        if (u.groups[i] >= CONTAINER_ID_COUNT)
            abort();
    return 0;
}
