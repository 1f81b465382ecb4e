/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sysinfo — the answer of sysinfo(2) inside a VE: pure values, so that it can be tested alone.
 *
 * It says what lxcfs says in /proc/meminfo and /proc/uptime: "free" is what is left below the
 * limit, page cache counts as used, there are no buffers.
 */
#pragma once

#include <linux/sysinfo.h> /* the kernel's own; the C library's is the same */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sysinfo_parts {
    struct sysinfo machine; /* what the kernel says of the machine */
    bool memory_limited, swap_limited;
    uint64_t memory_limit, swap_limit;    /* bytes */
    bool has_memory, has_swap, has_tasks; /* the next ones are known */
    uint64_t memory, shared, swap, tasks; /* used */
    int64_t uptime;                       /* seconds; negative: unknown */
};
/* mem_unit is 1 in the result. */
struct sysinfo sysinfo_of(const struct sysinfo_parts *p);

/* Is this sysinfo(2), of a caller of this architecture (AUDIT_ARCH_…)? */
bool sysinfo_is_call(uint32_t arch, int nr);
bool sysinfo_arch_is_native(uint32_t arch);
#define SYSINFO_SIZE_MAX 128
/* As a caller of this architecture expects it; 0: not known here. */
size_t sysinfo_encode(uint32_t arch, const struct sysinfo *s, uint8_t buf[SYSINFO_SIZE_MAX]);
