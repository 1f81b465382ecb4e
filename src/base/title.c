/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/title.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/prctl.h>

/* Field n (from 1) of /proc/self/stat, whose second may hold anything between parentheses. */
static uintptr_t stat_field(const char *stat, int n)
{
    const char *p = strrchr(stat, ')');
    uintptr_t v = 0;
    for (int i = 2; p && i < n; i++)
        p = strchr(p + 1, ' ');
    for (p = p ? p + 1 : ""; *p >= '0' && *p <= '9'; p++)
        v = v * 10 + (uintptr_t)(*p - '0');
    return v;
}

void title_set(const char *name, const char *what)
{
    auto_free char *stat = NULL;
    prctl(PR_SET_NAME, name);
    if (fd_read_file_at(AT_FDCWD, "/proc/self/stat", 4096, &stat, NULL, NULL) < 0)
        return;
    char *start = (char *)stat_field(stat, 48);
    char *end = (char *)stat_field(stat, 49);
    if (!start || end <= start + 1)
        return;
    memset(start, 0, (size_t)(end - start));
    str_print(start, (size_t)(end - start), "%s: %s", name, what);
}
