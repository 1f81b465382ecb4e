/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ucount — the most that a VE held of the things that the kernel counts by user namespace, and
 * who was refused: namespaces, inotify, queued signals; and ptys, which it counts by their file
 * system.
 */
#include "kernel/bpf/ucount.bpf.h"
#include "kernel/bpf/charge.bpf.h"

char LICENSE[] SEC("license") = "GPL";

#define ENOSPC      28
#define PTYS_NO_MAX (1 << 20) /* NR_UNIX98_PTY_MAX: the file system has no bound of its own */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct super_block {
    struct user_namespace *s_user_ns;
};
struct pts_mount_opts {
    int max;
};
struct pts_fs_info {
    struct pts_mount_opts mount_opts;
    struct super_block *sb;
};
#pragma clang attribute pop

/* The row of a type; COUNTS_ROWS: none. */
static __always_inline __u32 row_of(__u32 type)
{
    if (type <= bpf_core_enum_value(enum ucount_type, UCOUNT_TIME_NAMESPACES))
        return type < COUNTS_NAMESPACE_TYPES ? COUNTS_NAMESPACES + type : COUNTS_ROWS;
    if (type == bpf_core_enum_value(enum ucount_type, UCOUNT_INOTIFY_INSTANCES))
        return COUNTS_INOTIFY;
    if (type == bpf_core_enum_value(enum ucount_type, UCOUNT_INOTIFY_WATCHES))
        return COUNTS_WATCHES;
    return COUNTS_ROWS;
}

/* The current process took what makes `held`, or was refused: by a bound of the VE when that is
 * full, else by one that the VE or the host has set elsewhere. */
static __always_inline void note(__u32 row, bool taken, long held, long most)
{
    struct task_struct *task = me();
    __u64 ve = cgroup_ve(BPF_CORE_READ(task, cgroups, dfl_cgrp));
    struct counts_ve *c = known(ve) ? bpf_map_lookup_elem(&counts, &ve) : NULL;
    if (c && taken)
        raise_maxheld(c, row, held < 0 ? 0 : held);
    else if (c && held >= most)
        refuse(c, ve, row, task);
}

/* struct ucounts *inc_ucount(struct user_namespace *ns, kuid_t uid, enum ucount_type type) */
SEC("fexit/inc_ucount")
int terem_inc_ucount(unsigned long long *ctx)
{
    __u32 type = (__u32)ctx[2], row = row_of(type);
    struct user_namespace *inner = inner_of((struct user_namespace *)ctx[0]);
    if (row >= COUNTS_ROWS || !inner)
        return 0;
    struct user_namespace *outer = BPF_CORE_READ(inner, parent);
    note(row, ctx[3], held_ucount(inner, type),
         read_long((char *)__builtin_preserve_access_index(&outer->ucount_max[0]), type));
    return 0;
}

/* long inc_rlimit_get_ucounts(struct ucounts *ucounts, enum rlimit_type type …): 0 is a refusal.
 * The bound of the VE is kept where its own namespace begins, not in the one around it. */
SEC("fexit/inc_rlimit_get_ucounts")
int terem_inc_rlimit(unsigned long long *ctx)
{
    __u32 type = (__u32)ctx[1];
    __u64 got = 0;
    if (type != bpf_core_enum_value(enum rlimit_type, UCOUNT_RLIMIT_SIGPENDING))
        return 0;
    struct user_namespace *inner = inner_of(BPF_CORE_READ((struct ucounts *)ctx[0], ns));
    if (!inner || bpf_get_func_ret(ctx, &got) < 0)
        return 0;
    note(COUNTS_SIGNALS, got, held_rlimit(inner, type),
         read_long((char *)__builtin_preserve_access_index(&inner->rlimit_max[0]), type));
    return 0;
}

/* int devpts_new_index(struct pts_fs_info *fsi): the lowest number that is free, so the highest
 * one ever given tells how many there were at once; number 0 is the VE's console.  Containers
 * inside with user namespaces of their own have their own bounds. */
SEC("fexit/devpts_new_index")
int terem_new_pty(unsigned long long *ctx)
{
    struct pts_fs_info *fs = (struct pts_fs_info *)ctx[0];
    int got = (int)ctx[1], max = BPF_CORE_READ(fs, mount_opts.max);
    struct user_namespace *ns = BPF_CORE_READ(fs, sb, s_user_ns);
    if ((got < 0 && got != -ENOSPC) || BPF_CORE_READ(ns, level) != INNER_LEVEL)
        return 0;
    if (got >= 0)
        note(COUNTS_PTYS, true, got, 0);
    else if (max < PTYS_NO_MAX)
        note(COUNTS_PTYS, false, max, max);
    return 0;
}
