/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * held — reads for the first process of a VE, or of every VE, what the VE holds of the things that
 * the kernel counts by user namespace, when somebody asks.  It is attached to nothing.
 */
#include "kernel/bpf/charge.bpf.h"
#include "kernel/bpf/ucount.bpf.h"

char LICENSE[] SEC("license") = "GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct seq_file;
struct bpf_iter_meta {
    struct seq_file *seq;
};
struct bpf_iter__task {
    struct bpf_iter_meta *meta;
    struct task_struct *task;
};
struct cred {
    struct user_namespace *user_ns;
};
struct ipc_ids {
    int in_use;
};
struct ipc_namespace {
    struct ipc_ids ids[3]; /* semaphores, queues, segments (ipc/util.h) */
    int used_sems;
};
struct nsproxy {
    struct ipc_namespace *ipc_ns;
};
struct task_struct___ns {
    struct nsproxy *nsproxy;
};
#pragma clang attribute pop

#define UCOUNT(name) bpf_core_enum_value(enum ucount_type, UCOUNT_##name)

SEC("iter/task")
int terem_held(struct bpf_iter__task *ctx)
{
    struct counts_held out = {0};
    struct task_struct *task = ctx->task;
    if (!task || pid_inside(task) != 1 || BPF_CORE_READ(task, pid) != BPF_CORE_READ(task, tgid))
        return 0;
    out.ve = cgroup_ve(BPF_CORE_READ(task, cgroups, dfl_cgrp));
    struct user_namespace *inner = inner_of(BPF_CORE_READ(task, real_cred, user_ns));
    if (!inner)
        return 0;
    for (__u32 i = 0; i < COUNTS_NAMESPACE_TYPES; i++)
        if (i <= UCOUNT(TIME_NAMESPACES))
            out.row[COUNTS_NAMESPACES + i] = held_ucount(inner, i);
    out.row[COUNTS_INOTIFY] = held_ucount(inner, UCOUNT(INOTIFY_INSTANCES));
    out.row[COUNTS_WATCHES] = held_ucount(inner, UCOUNT(INOTIFY_WATCHES));
    out.row[COUNTS_SIGNALS] =
        held_rlimit(inner, bpf_core_enum_value(enum rlimit_type, UCOUNT_RLIMIT_SIGPENDING));
    struct ipc_namespace *ipc =
        BPF_CORE_READ((struct task_struct___ns *)(void *)task, nsproxy, ipc_ns);
    out.queues = (__u32)BPF_CORE_READ(ipc, ids[1].in_use);
    out.semaphores = (__u32)BPF_CORE_READ(ipc, used_sems);
    out.segments = (__u32)BPF_CORE_READ(ipc, ids[2].in_use);
    bpf_seq_write(ctx->meta->seq, &out, sizeof(out));
    return 0;
}
