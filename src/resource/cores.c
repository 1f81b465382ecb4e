/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cores — on which cores a VE runs, and what this node's VEs weigh among the machine's groups. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "param/placement.h"
#include "resource/node.h"

#include <fcntl.h>

#define CPUS           "cpuset.cpus"
#define MEMS           "cpuset.mems"
#define EXCLUSIVE      CPUS ".exclusive" /* from 6.7 on */
#define PARTITION      CPUS ".partition"
#define SHARES_DEFAULT 1024
#define SHARES_MAX     262144 /* MAX_SHARES of kernel/sched/sched.h */
#define WEIGHT_MAX     10000

/* v1 gives a new cpuset nothing, and nobody can enter one without cores and memory: the parent has
 * all there are, and its children begin with what it has.  cpu_exclusive is left alone: it would
 * make other programs' cpusets beside ours fail. */
int cores_prepare_v1(const struct branch *b, struct err *err)
{
    static const char *const files[] = {CPUS, MEMS};
    char text[CORES_TEXT];
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(files); i++) {
        r = cgroup_read(b->top, files[i], text, sizeof(text), err);
        if (r == 0)
            r = cgroup_write(b->fd, files[i], err, "%s\n", text);
    }
    return r < 0 ? r : cgroup_write(b->fd, "cgroup.clone_children", err, "1\n");
}

int resource_cores(struct resource_node *node, int64_t id, const char *list, struct err *err)
{
    const struct controller *c = node_controller_here(node, "cpuset");
    auto_fd int fd = -1;
    char all[CORES_TEXT] = "";
    if (!c)
        return list ? err_set(err, ERR_UNSUPPORTED,
                              "cpu.cores cannot be enforced here: cgroup controller cpuset is not "
                              "available, %s",
                              resource_why_absent(node, "cpuset"))
                    : 0;
    int r = ve_open(node, c->branch, id, &fd, err);
    /* v2: nothing means what the groups above have, but a group with processes that had a list
     * does not take nothing (ENOSPC, seen on 6.12). */
    if (r == 0 && !list && c->where == RESOURCE_V2 && cgroup_write(fd, CPUS, NULL, "\n") == 0)
        return 0;
    if (r == 0 && !list)
        r = cgroup_read(node->branch[c->branch].fd,
                        c->where == RESOURCE_V1 ? CPUS : CPUS ".effective", all, sizeof(all), err);
    if (r == 0)
        r = cgroup_write(fd, CPUS, err, "%s\n", list ? list : all);
    return r < 0 ? err_wrap(err, "cpu.cores") : 0;
}

/* v1 forgets cores that go offline: the parent gets back what has returned. */
static int there_v1(const struct branch *b, char *buf, size_t size, struct err *err)
{
    char own[CORES_TEXT];
    int r = cgroup_read(b->top, CPUS, buf, size, err);
    if (r == 0)
        r = cgroup_read(b->fd, CPUS, own, sizeof(own), err);
    return r < 0 || str_eq(own, buf) ? r : cores_prepare_v1(b, err);
}

/* What the group has, and what it has handed to partitions below. */
static int there_v2(const struct branch *b, cpu_set_t *ret, struct err *err)
{
    char text[CORES_TEXT];
    cpu_set_t handed;
    int r = cgroup_read(b->fd, CPUS ".effective", text, sizeof(text), err);
    if (r == 0)
        r = placement_parse(text, ret, err);
    if (r == 0 && cgroup_read(b->fd, EXCLUSIVE ".effective", text, sizeof(text), NULL) == 0 &&
        placement_parse(text, &handed, NULL) == 0)
        CPU_OR(ret, ret, &handed);
    return r;
}

int resource_cores_there(struct resource_node *node, cpu_set_t *ret, struct err *err)
{
    static const char online[] = "/sys/devices/system/cpu/online";
    const struct controller *c = node_controller_here(node, "cpuset");
    auto_free char *text = NULL;
    char buf[CORES_TEXT] = "";
    if (c && c->where == RESOURCE_V2)
        return there_v2(&node->branch[c->branch], ret, err);
    int r = c ? there_v1(&node->branch[c->branch], buf, sizeof(buf), err)
              : fd_read_file_at(AT_FDCWD, online, CORES_TEXT, &text, NULL, err);
    return r < 0 ? r : placement_parse(text ? str_trim(text) : buf, ret, err);
}

static bool has_partitions(const struct resource_node *node, const struct controller *c)
{
    return c && c->where == RESOURCE_V2 &&
           faccessat(node->branch[c->branch].fd, EXCLUSIVE, W_OK, 0) == 0;
}

int resource_cores_may_own(struct resource_node *node, const char *list, struct err *err)
{
    const struct controller *c = node_controller_here(node, "cpuset");
    if (!has_partitions(node, c))
        return 0;
    return cgroup_write(node->branch[c->branch].fd, EXCLUSIVE, err, "%s\n", list);
}

int resource_cores_own(struct resource_node *node, int64_t id, const char *list, struct err *err)
{
    const struct controller *c = node_controller_here(node, "cpuset");
    auto_fd int fd = -1;
    char state[128] = "";
    if (!has_partitions(node, c))
        return list ? err_set(err, ERR_UNSUPPORTED, "this kernel cannot keep them off") : 0;
    int r = ve_open(node, c->branch, id, &fd, err);
    if (r == 0 && list)
        r = cgroup_write(fd, EXCLUSIVE, err, "%s\n", list);
    if (r == 0 && list)
        r = cgroup_write(fd, PARTITION, err, "root\n");
    /* What does not fit is taken, and found invalid: "root invalid (…)". */
    if (r == 0 && list)
        r = cgroup_read(fd, PARTITION, state, sizeof(state), err);
    if (r == 0 && list && str_eq(state, "root"))
        return 0;
    if (r == 0 && list)
        r = err_set(err, ERR_UNSUPPORTED, "the kernel says %s", state);
    if (fd >= 0) {
        cgroup_write(fd, PARTITION, NULL, "member\n");
        cgroup_write(fd, EXCLUSIVE, NULL, "\n");
    }
    return r;
}

int resource_cores_read(struct resource_node *node, int64_t id, char *buf, size_t size,
                        struct err *err)
{
    const struct controller *c = node_controller_here(node, "cpuset");
    auto_fd int fd = -1;
    if (!c)
        return err_set(err, ERR_UNSUPPORTED, "cgroup controller cpuset is not available");
    int r = ve_open(node, c->branch, id, &fd, err);
    return r < 0 ? r : cgroup_read(fd, CPUS, buf, size, err);
}

int resource_weigh(struct resource_node *node, uint64_t weight, struct err *err)
{
    const struct controller *c = node_controller_here(node, "cpu");
    if (!c)
        return 0;
    bool v2 = c->where == RESOURCE_V2;
    uint64_t most = v2 ? WEIGHT_MAX : SHARES_MAX;
    uint64_t n = v2 || weight > SHARES_MAX ? weight : weight * SHARES_DEFAULT / 100;
    return cgroup_write(node->branch[c->branch].fd, v2 ? "cpu.weight" : "cpu.shares", err, "%llu\n",
                        (unsigned long long)(n < most ? n : most));
}
