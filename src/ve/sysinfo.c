/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ve/sysinfo.h"

#include <linux/audit.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

#if defined __x86_64__
#define ARCH_NATIVE AUDIT_ARCH_X86_64
#define ARCH_32     AUDIT_ARCH_I386
#elif defined __aarch64__
#define ARCH_NATIVE AUDIT_ARCH_AARCH64
#define ARCH_32     AUDIT_ARCH_ARM
#else
#error "the layout of sysinfo(2) on this architecture is not known"
#endif

#define PAGE_32 4096u
#define NR_32   116 /* sysinfo(2) of 32-bit callers, on both */

/* struct compat_sysinfo of kernel/sys.c. */
struct sysinfo_32 {
    int32_t uptime;
    uint32_t loads[3];
    uint32_t totalram, freeram, sharedram, bufferram, totalswap, freeswap;
    uint16_t procs, pad;
    uint32_t totalhigh, freehigh, mem_unit;
    char fill[8];
};
_Static_assert(sizeof(struct sysinfo_32) == 64, "the 32-bit sysinfo has another size");

bool sysinfo_arch_is_native(uint32_t arch)
{
    return arch == ARCH_NATIVE;
}

bool sysinfo_is_call(uint32_t arch, int nr)
{
    return nr == (arch == ARCH_NATIVE ? SYS_sysinfo : NR_32);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t rest(uint64_t total, uint64_t used)
{
    return used < total ? total - used : 0;
}

struct sysinfo sysinfo_of(const struct sysinfo_parts *p)
{
    struct sysinfo s = p->machine;
    uint64_t unit = s.mem_unit ? s.mem_unit : 1;
    uint64_t total = s.totalram * unit, swap = s.totalswap * unit;
    if (p->memory_limited)
        total = least(total, p->memory_limit);
    if (p->swap_limited)
        swap = least(swap, p->swap_limit);
    s.totalram = total;
    s.freeram = p->has_memory ? rest(total, p->memory) : least(total, s.freeram * unit);
    s.sharedram = p->has_memory ? least(p->shared, total) : s.sharedram * unit;
    s.bufferram = p->has_memory ? 0 : s.bufferram * unit;
    s.totalswap = swap;
    s.freeswap = p->has_swap ? rest(swap, p->swap) : least(swap, s.freeswap * unit);
    s.totalhigh = s.freehigh = 0;
    s.mem_unit = 1;
    if (p->has_tasks)
        s.procs = (uint16_t)p->tasks; /* wraps as the kernel's does */
    if (p->uptime >= 0)
        s.uptime = p->uptime;
    return s;
}

static size_t encode_32(const struct sysinfo *s, uint8_t *buf)
{
    /* do_sysinfo() of the kernel: what does not fit is told in pages. */
    uint32_t unit = (s->totalram >> 32) || (s->totalswap >> 32) ? PAGE_32 : 1;
    struct sysinfo_32 t = {
        .uptime = (int32_t)s->uptime,
        .totalram = (uint32_t)(s->totalram / unit),
        .freeram = (uint32_t)(s->freeram / unit),
        .sharedram = (uint32_t)(s->sharedram / unit),
        .bufferram = (uint32_t)(s->bufferram / unit),
        .totalswap = (uint32_t)(s->totalswap / unit),
        .freeswap = (uint32_t)(s->freeswap / unit),
        .procs = s->procs,
        .mem_unit = unit,
    };
    for (int i = 0; i < 3; i++)
        t.loads[i] = (uint32_t)s->loads[i];
    memcpy(buf, &t, sizeof(t));
    return sizeof(t);
}

size_t sysinfo_encode(uint32_t arch, const struct sysinfo *s, uint8_t buf[SYSINFO_SIZE_MAX])
{
    _Static_assert(sizeof(*s) <= SYSINFO_SIZE_MAX, "sysinfo has grown");
    if (arch == ARCH_32)
        return encode_32(s, buf);
    if (arch != ARCH_NATIVE)
        return 0;
    memcpy(buf, s, sizeof(*s));
    return sizeof(*s);
}
