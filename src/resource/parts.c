/* SPDX-License-Identifier: GPL-2.0-or-later */
/* parts — what the memory of a VE is made of: its processes (proc_pid_smaps(5)), and what the
 * memory controller says (cgroup-v2.rst, memory.stat; cgroup-v1/memory.rst, memory.kmem). */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/str.h"
#include "resource/node.h"

#include <fcntl.h>
#include <string.h>

#define PROC_TEXT 8192
#define DEPTH_MAX 64 /* of cgroups below a VE: twice what it may make */

void resource_roots_done(struct resource_roots *roots)
{
    cleanup_fd(&roots->v2);
    cleanup_fd(&roots->memory);
}

/* What one thread has in the kernel: all of them by how many there are. */
static uint64_t stack_of_thread(void)
{
    auto_free char *memory = NULL, *load = NULL;
    uint64_t kib, threads;
    if (fd_read_file_at(AT_FDCWD, "/proc/meminfo", PROC_TEXT, &memory, NULL, NULL) < 0 ||
        fd_read_file_at(AT_FDCWD, "/proc/loadavg", PROC_TEXT, &load, NULL, NULL) < 0 ||
        !number_after(memory, "KernelStack:", UINT64_MAX >> 10, &kib) ||
        !number_after(load, "/", UINT32_MAX, &threads) || threads == 0)
        return 0;
    /* It is a power of two of pages; threads come and go between the two texts. */
    uint64_t each = (kib << 10) / threads, size = 4096;
    while (size * 3 / 2 < each)
        size *= 2;
    return size;
}

int resource_roots_open(const struct resource_node *node, struct resource_roots *ret,
                        struct err *err)
{
    const struct controller *memory = node_controller_here(node, "memory");
    struct resource_roots r = RESOURCE_ROOTS_NONE;
    r.branches = node->n_branches;
    r.stack = stack_of_thread();
    r.v2 = fd_again(node->branch[0].fd);
    if (r.v2 < 0)
        return err_sys(err, "cannot duplicate a descriptor");
    if (memory) {
        r.memory_v2 = memory->where == RESOURCE_V2;
        r.memory = fd_again(node->branch[memory->branch].fd);
        if (r.memory < 0) {
            resource_roots_done(&r);
            return err_sys(err, "cannot duplicate a descriptor");
        }
    }
    *ret = r;
    return 0;
}

static uint64_t bytes_after(const char *text, const char *word)
{
    uint64_t kib = 0;
    return text && number_after(text, word, UINT64_MAX >> 10, &kib) ? kib << 10 : 0;
}

void resource_parts_add_process(pid_t pid, struct resource_parts *p)
{
    auto_free char *smaps = NULL, *status = NULL;
    char path[48];
    uint64_t threads;
    str_print(path, sizeof(path), "/proc/%d/status", (int)pid);
    if (fd_read_file_at(AT_FDCWD, path, PROC_TEXT, &status, NULL, NULL) < 0)
        return;
    p->processes++;
    p->threads += number_after(status, "\nThreads:", UINT32_MAX, &threads) ? threads : 1;
    p->tables += bytes_after(status, "\nVmPTE:");
    str_print(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    if (fd_read_file_at(AT_FDCWD, path, PROC_TEXT, &smaps, NULL, NULL) < 0)
        return;
    p->anonymous += bytes_after(smaps, "\nPss_Anon:");
    p->mapped += bytes_after(smaps, "\nPss_File:");
    p->shared += bytes_after(smaps, "\nPss_Shmem:");
}

struct walk {
    struct resource_parts *parts;
    pid_t first;
    unsigned depth;
};

static int add_process(void *ctx, pid_t pid)
{
    struct walk *w = ctx;
    w->parts->first_seen |= pid == w->first;
    resource_parts_add_process(pid, w->parts);
    return 0;
}

static int walk_child(void *ctx, int parent, const char *name, struct err *err);

static int walk(struct walk *w, int fd)
{
    w->parts->cgroups++;
    cgroup_each_process(fd, add_process, w, NULL); /* EOPNOTSUPP in a threaded one: its parent has
                                                    * them */
    if (++w->depth < DEPTH_MAX)
        cgroup_each_child(fd, walk_child, w, NULL);
    w->depth--;
    return 0;
}

static int walk_child(void *ctx, int parent, const char *name, struct err *err)
{
    auto_fd int fd = -1;
    if (cgroup_open(parent, name, &fd, NULL) == 0)
        walk(ctx, fd);
    return 0;
}

static uint64_t key_of(const char *text, const char *key)
{
    uint64_t n = 0;
    return cgroup_key(text, key, &n, NULL) == 0 ? n : 0;
}

static uint64_t less(uint64_t n, uint64_t by)
{
    return n > by ? n - by : 0;
}

static void read_v2(const char *stat, struct resource_parts *p)
{
    p->charged = p->split = cgroup_key(stat, "kernel", &p->kernel, NULL) == 0; /* 5.18 */
    if (!p->split)
        return;
    p->stacks = key_of(stat, "kernel_stack");
    p->tables = key_of(stat, "pagetables") + key_of(stat, "sec_pagetables");
    p->slab = key_of(stat, "slab");
    p->percpu = key_of(stat, "percpu");
    p->rest = less(p->kernel, p->stacks + p->tables + p->slab + p->percpu);
    p->shared = key_of(stat, "shmem");
    p->cache = less(key_of(stat, "file"), p->shared + p->mapped);
}

/* Of the kernel's memory v1 tells the sum. */
static void read_v1(int fd, const char *stat, struct resource_parts *p)
{
    p->charged = cgroup_read_number(fd, "memory.kmem.usage_in_bytes", &p->kernel, NULL) == 0;
    p->slab = less(p->kernel, p->stacks + p->tables);
    p->shared = key_of(stat, "total_shmem");
    p->cache = less(key_of(stat, "total_cache"), p->shared + p->mapped);
}

int resource_parts(const struct resource_roots *roots, int64_t id, pid_t first,
                   struct resource_parts *ret, struct err *err)
{
    struct resource_parts p = {0};
    struct walk w = {.parts = &p, .first = first};
    char name[VE_NAME_SIZE], stat[CGROUP_TEXT];
    auto_fd int fd = -1, memory = -1;
    int r = cgroup_open(roots->v2, ve_name(id, name), &fd, err);
    if (r < 0)
        return r;
    walk(&w, fd);
    p.cgroups += roots->branches - 1;
    p.stacks = p.threads * roots->stack;
    if (roots->memory >= 0 && cgroup_open(roots->memory, name, &memory, NULL) == 0 &&
        cgroup_read(memory, "memory.stat", stat, sizeof(stat), NULL) == 0) {
        if (roots->memory_v2)
            read_v2(stat, &p);
        else
            read_v1(memory, stat, &p);
    }
    if (!p.charged)
        p.kernel = p.stacks + p.tables;
    *ret = p;
    return 0;
}
