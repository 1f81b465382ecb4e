/* SPDX-License-Identifier: GPL-2.0-or-later */
/* view — what a VE uses of what it is shown as its machine. */
#include "base/cleanup.h"
#include "base/str.h"
#include "resource/node.h"

static int open_controller(const struct resource_node *node, int64_t id, const char *name,
                           bool *ret_v2, int *ret_fd)
{
    for (size_t i = 0; i < node->n_controllers; i++) {
        const struct controller *c = &node->controller[i];
        if (!str_eq(c->name, name) || c->where == RESOURCE_ABSENT)
            continue;
        *ret_v2 = c->where == RESOURCE_V2;
        return ve_open(node, c->branch, id, ret_fd, NULL);
    }
    return -1;
}

int resource_view(struct resource_node *node, int64_t id, struct resource_view *ret,
                  struct err *err)
{
    struct resource_view v = {0};
    auto_fd int base = -1, memory = -1, pids = -1;
    bool v2;
    int r = ve_open(node, 0, id, &base, err);
    if (r < 0)
        return r;
    if (open_controller(node, id, "memory", &v2, &memory) == 0) {
        v.has_memory = cgroup_read_number(memory, v2 ? "memory.current" : "memory.usage_in_bytes",
                                          &v.memory, NULL) == 0;
        cgroup_read_key(memory, "memory.stat", v2 ? "shmem" : "total_shmem", &v.shared, NULL);
        v.has_swap = v2 ? cgroup_read_number(memory, "memory.swap.current", &v.swap, NULL) == 0
                        : cgroup_read_key(memory, "memory.stat", "total_swap", &v.swap, NULL) == 0;
    }
    if (open_controller(node, id, "pids", &v2, &pids) == 0)
        v.has_tasks = cgroup_read_number(pids, "pids.current", &v.tasks, NULL) == 0;
    *ret = v;
    return 0;
}
