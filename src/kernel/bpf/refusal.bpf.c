/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * refusal — names the process to which the kernel itself refused something: a fork at pids.max.
 *
 * cgroup_file_notify() runs when such a counter has risen, with the refused process as the
 * current one.  Up to 6.10 it told the cgroup that asked, which may be deep inside the VE, from
 * then on each one from that which refused up to the root.
 */
#include "kernel/bpf/charge.bpf.h"

char LICENSE[] SEC("license") = "GPL";

static __always_inline bool is_full(struct cgroup *ve)
{
    int index = bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id);
    struct cgroup_subsys_state *css = NULL;
    char *at = (char *)__builtin_preserve_access_index(&ve->subsys);
    if (bpf_probe_read_kernel(&css, sizeof(css), at + index * sizeof(css)) < 0 || !css)
        return false;
    struct pids_cgroup *pids = (struct pids_cgroup *)css; /* css is its first member */
    return BPF_CORE_READ(pids, counter.counter) >= BPF_CORE_READ(pids, limit.counter);
}

SEC("fentry/cgroup_file_notify")
int BPF_PROG(terem_notify, struct cgroup_file *file)
{
    static const char wanted[] = "pids.events";
    char name[sizeof(wanted) + 1] = {0};
    struct kernfs_node *kn = BPF_CORE_READ(file, kn), *parent;
    bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(kn, name));
    for (unsigned i = 0; i < sizeof(wanted); i++)
        if (name[i] != wanted[i])
            return 0;
    struct task_struct *task = me();
    struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp), *ve = NULL;
    __u64 id = cgroup_ve(cgroup);
    if (!known(id))
        return 0;
    if (bpf_core_field_exists(struct kernfs_node___old, parent))
        parent = BPF_CORE_READ((struct kernfs_node___old *)kn, parent);
    else
        parent = BPF_CORE_READ((struct kernfs_node___new *)kn, __parent);
    bpf_core_read(&ve, sizeof(ve), &cgroup->ancestors[VE_LEVEL]);
    bool ours = bpf_core_field_exists(struct pids_cgroup, events_local_file)
                    ? BPF_CORE_READ(parent, id) == id
                    : is_full(ve);
    if (!ours)
        return 0;
    struct counts_ve *c = bpf_map_lookup_elem(&counts, &id);
    if (c)
        refuse(c, id, COUNTS_PROCESSES, task);
    return 0;
}
