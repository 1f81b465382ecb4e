/* SPDX-License-Identifier: GPL-2.0-or-later */
/* usage — what a VE uses now, and how long it waits (Documentation/accounting/psi.rst). */
#include "base/cleanup.h"
#include "base/number.h"
#include "base/str.h"
#include "resource/node.h"

#include <string.h>

#define PSI_TEXT  256
#define CPU_STAT  4096
#define PATH_SIZE (VE_NAME_SIZE + 48)

/* A VE whose cgroups are read.  Files are opened by their path below the instance's cgroup: to open
 * the VE's own directory first would cost a third more. */
struct reading {
    const struct resource_node *node;
    int64_t id;
};

static const char *path_of(const struct reading *r, const char *file, char buf[PATH_SIZE])
{
    char name[VE_NAME_SIZE];
    str_print(buf, PATH_SIZE, "%s/%s", ve_name(r->id, name), file);
    return buf;
}

/* The file of a controller, by its name in v2 and in v1. */
static int read_text(const struct reading *r, const char *controller, const char *v2,
                     const char *v1, char *text, size_t size)
{
    char path[PATH_SIZE];
    const struct controller *c = node_controller_here(r->node, controller);
    if (!c)
        return -ERR_UNSUPPORTED;
    const char *file = c->where == RESOURCE_V2 ? v2 : v1;
    return cgroup_read(r->node->branch[c->branch].fd, path_of(r, file, path), text, size, NULL);
}

static bool read_number(const struct reading *r, const char *controller, const char *v2,
                        const char *v1, uint64_t *ret)
{
    char text[64];
    return read_text(r, controller, v2, v1, text, sizeof(text)) == 0 &&
           number_parse(text, 0, UINT64_MAX, ret, NULL) == 0;
}

/* What every v2 cgroup has, with a controller or without. */
static bool read_core(const struct reading *r, const char *file, char *text, size_t size)
{
    char path[PATH_SIZE];
    return cgroup_read(r->node->branch[0].fd, path_of(r, file, path), text, size, NULL) == 0;
}

static void read_memory(const struct reading *r, unsigned parts, struct resource_usage *u)
{
    char text[512];
    if (parts & RESOURCE_MEMORY)
        u->has_memory =
            read_number(r, "memory", "memory.current", "memory.usage_in_bytes", &u->memory_bytes);
    if (parts & RESOURCE_MEMORY_MAX)
        u->has_memory_max = read_number(r, "memory", "memory.peak", "memory.max_usage_in_bytes",
                                        &u->memory_max_bytes);
    if (parts & RESOURCE_OOM_KILLS &&
        read_text(r, "memory", "memory.events", "memory.oom_control", text, sizeof(text)) == 0)
        cgroup_key(text, "oom_kill", &u->oom_kills, NULL);
}

/* "some avg10=1.25 avg60=…": hundredths of a percent; -1 where the kernel does not tell. */
static int some_avg10(const char *text)
{
    char number[16];
    uint64_t whole, part;
    if (!str_starts(text, "some avg10="))
        return -1;
    str_print(number, sizeof(number), "%s", text + strlen("some avg10="));
    number[strcspn(number, " ")] = '\0';
    char *point = strchr(number, '.');
    if (!point || strlen(point) != 3)
        return -1;
    *point = '\0';
    if (number_parse(number, 0, 100, &whole, NULL) < 0 ||
        number_parse(point + 1, 0, 99, &part, NULL) < 0)
        return -1;
    return (int)(whole * 100 + part);
}

/* "full" of the processor's pressure: tasks of the group wait, and none of them runs. */
static bool full_total(const char *text, uint64_t *ret)
{
    const char *full = strstr(text, "full ");
    return full && number_after(full, "total=", UINT64_MAX, ret);
}

/* v2 groups have pressure without any controller, where the kernel counts it (psi=1 on its command
 * line). */
static void read_stalls(const struct reading *r, struct resource_usage *u)
{
    char text[PSI_TEXT];
    if (read_core(r, "cpu.pressure", text, sizeof(text))) {
        u->has_steal = full_total(text, &u->steal_usec);
        u->pressure.cpu = some_avg10(text);
    }
    if (read_core(r, "memory.pressure", text, sizeof(text)))
        u->pressure.memory = some_avg10(text);
    if (read_core(r, "io.pressure", text, sizeof(text)))
        u->pressure.io = some_avg10(text);
}

static void read_io(const struct reading *r, struct resource_usage *u)
{
    auto_fd int fd = -1;
    const struct controller *c = node_controller_here(r->node, "io");
    if (c && ve_open(r->node, c->branch, r->id, &fd, NULL) == 0)
        u->has_io =
            io_usage(r->node, c->where == RESOURCE_V2, fd, &u->read_bytes, &u->written_bytes);
}

/* Of one that is gone nothing can be read: that is told apart when nothing was. */
static int check_there(const struct reading *r, struct err *err)
{
    auto_fd int fd = -1;
    return ve_open(r->node, 0, r->id, &fd, err);
}

int resource_usage(struct resource_node *node, int64_t id, unsigned parts,
                   struct resource_usage *ret, struct err *err)
{
    struct resource_usage u = {.pressure = {-1, -1, -1}};
    struct reading r = {node, id};
    char text[CPU_STAT];
    read_memory(&r, parts, &u);
    if (parts & RESOURCE_PIDS)
        u.has_pids = read_number(&r, "pids", "pids.current", "pids.current", &u.pids);
    if (parts & RESOURCE_CPU && read_core(&r, "cpu.stat", text, sizeof(text)))
        u.has_cpu = cgroup_key(text, "usage_usec", &u.cpu_usec, NULL) == 0;
    if (parts & RESOURCE_IO)
        read_io(&r, &u);
    if (parts & RESOURCE_STALLS)
        read_stalls(&r, &u);
    bool any = u.has_memory || u.has_memory_max || u.has_pids || u.has_cpu || u.has_io;
    int there = any ? 0 : check_there(&r, err);
    if (there < 0)
        return there;
    *ret = u;
    return 0;
}

int resource_view(struct resource_node *node, int64_t id, struct resource_view *ret,
                  struct err *err)
{
    struct resource_view v = {0};
    struct reading r = {node, id};
    char stat[CGROUP_TEXT];
    const struct controller *memory = node_controller_here(node, "memory");
    int there = check_there(&r, err);
    if (there < 0)
        return there;
    v.has_tasks = read_number(&r, "pids", "pids.current", "pids.current", &v.tasks);
    v.has_memory = read_number(&r, "memory", "memory.current", "memory.usage_in_bytes", &v.memory);
    if (memory && read_text(&r, "memory", "memory.stat", "memory.stat", stat, sizeof(stat)) == 0) {
        bool v2 = memory->where == RESOURCE_V2;
        cgroup_key(stat, v2 ? "shmem" : "total_shmem", &v.shared, NULL);
        v.has_swap = v2 ? read_number(&r, "memory", "memory.swap.current", NULL, &v.swap)
                        : cgroup_key(stat, "total_swap", &v.swap, NULL) == 0;
    }
    *ret = v;
    return 0;
}
