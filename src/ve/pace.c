/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ve/pace.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"

#include <fcntl.h>

#define MEMORY_STALLS 10 /* percent: one at a time */
#define IO_STALLS     60 /* percent: half as many */
#define MEMORY_LEFT   20 /* one part in so many: less than that is available: one at a time */

size_t pace_width(const struct pace_pressure *p, size_t now, size_t most)
{
    if (p->memory >= MEMORY_STALLS || (p->total && p->available < p->total / MEMORY_LEFT))
        return 1;
    if (p->io >= IO_STALLS)
        return now > 2 ? now / 2 : 1;
    return now < most ? now + 1 : most;
}

/* "full avg10=1.23 …"; a kernel without it tells nothing. */
static unsigned read_full(const char *path)
{
    auto_free char *text = NULL;
    uint64_t percent;
    if (fd_read_file_at(AT_FDCWD, path, 4096, &text, NULL, NULL) < 0)
        return 0;
    return number_after(text, "full avg10=", 100, &percent) ? (unsigned)percent : 0;
}

static uint64_t read_kib(const char *meminfo, const char *key)
{
    uint64_t kib;
    return number_after(meminfo, key, UINT64_MAX / 1024, &kib) ? kib * 1024 : 0;
}

void pace_read(struct pace_pressure *ret)
{
    auto_free char *text = NULL;
    *ret = (struct pace_pressure){.memory = read_full("/proc/pressure/memory"),
                                  .io = read_full("/proc/pressure/io")};
    if (fd_read_file_at(AT_FDCWD, "/proc/meminfo", 65536, &text, NULL, NULL) < 0)
        return;
    ret->available = read_kib(text, "MemAvailable:");
    ret->total = read_kib(text, "MemTotal:");
}
