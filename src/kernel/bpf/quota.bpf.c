/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * quota — what disk quotas refuse the processes of a VE, once for each request.
 *
 * Where a quota says no, the file system may try again (btrfs and xfs give back first what is
 * reserved and not used), or do a part of what was asked and succeed: a look at the quota's own
 * functions counts too much.  So what counts is what the caller is told: the end of overlay's
 * functions, through which all changes of a VE's files go, and of faults on mapped pages, which
 * go to the file system below.
 *
 * Two things only the quota's functions know, and they leave it as a note for the end of the same
 * call: whether it was space or inodes (ext4, xfs), and that ENOSPC was a quota's (xfs says that
 * for projects) or the end of a fault was (the process gets SIGBUS for any reason).
 *
 * Functions that this kernel has not, or not yet (modules), are left out by bpf_load.c.
 */
#include "kernel/bpf/charge.bpf.h"

#include <linux/errno.h>

char LICENSE[] SEC("license") = "GPL";

#define FAULT_SIGBUS 2 /* VM_FAULT_SIGBUS */
#define CALLERS_MAX  4096

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct xfs_dquot_res {
    __u64 reserved, hardlimit;
};
struct xfs_dquot {
    struct xfs_dquot_res q_ino;
};
#pragma clang attribute pop

/* By thread: which row's quota has just refused it. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, CALLERS_MAX);
    __type(key, __u64);
    __type(value, __u32);
} noted SEC(".maps");

static __always_inline int returned(void *ctx)
{
    __u64 value = 0;
    bpf_get_func_ret(ctx, &value);
    return (int)value;
}

static __always_inline void note(__u32 row)
{
    __u64 key = bpf_get_current_pid_tgid();
    bpf_map_update_elem(&noted, &key, &row, BPF_ANY);
}

/* It has ended with this; of a fault: whether it was refused. */
static __always_inline int ended(int r, bool fault)
{
    __u64 key = bpf_get_current_pid_tgid();
    __u32 *row;
    if (r >= 0 && !fault)
        return 0;
    row = bpf_map_lookup_elem(&noted, &key);
    __u32 at = row ? *row : COUNTS_SPACE;
    if (row)
        bpf_map_delete_elem(&noted, &key);
    if (fault ? !row || !(r & FAULT_SIGBUS) : r != -EDQUOT && (r != -ENOSPC || !row))
        return 0;
    struct task_struct *task = me();
    __u64 ve = cgroup_ve(BPF_CORE_READ(task, cgroups, dfl_cgrp));
    struct counts_ve *c = known(ve) ? bpf_map_lookup_elem(&counts, &ve) : NULL;
    if (c && at < COUNTS_ROWS)
        refuse(c, ve, at, task);
    return 0;
}

#define CALL(function)                      \
    SEC("fexit/" #function)                 \
    int terem_##function(void *ctx)         \
    {                                       \
        return ended(returned(ctx), false); \
    }

#define FAULT(function)                    \
    SEC("fexit/" #function)                \
    int terem_##function(void *ctx)        \
    {                                      \
        return ended(returned(ctx), true); \
    }

/* clang-format off */
CALL(ovl_write_iter)
CALL(ovl_splice_write)
CALL(ovl_fallocate)
CALL(ovl_copy_file_range)
CALL(ovl_remap_file_range)
CALL(ovl_open)
CALL(ovl_create)
CALL(ovl_tmpfile)
CALL(ovl_mkdir)
CALL(ovl_mknod)
CALL(ovl_symlink)
CALL(ovl_link)
CALL(ovl_rename)
CALL(ovl_unlink)
CALL(ovl_rmdir)
CALL(ovl_setattr)
CALL(ovl_set_acl)
CALL(ovl_fileattr_set)
CALL(ovl_xattr_set)
FAULT(btrfs_page_mkwrite)
FAULT(ext4_page_mkwrite)
FAULT(xfs_filemap_page_mkwrite)
/* clang-format on */

SEC("fexit/btrfs_qgroup_reserve_data")
int terem_qgroup_data(void *ctx)
{
    if (returned(ctx) == -EDQUOT)
        note(COUNTS_SPACE);
    return 0;
}

SEC("fexit/__btrfs_qgroup_reserve_meta")
int terem_qgroup_meta(void *ctx)
{
    if (returned(ctx) == -EDQUOT)
        note(COUNTS_SPACE);
    return 0;
}

SEC("fexit/__dquot_alloc_space")
int terem_dquot_space(void *ctx)
{
    if (returned(ctx) == -EDQUOT)
        note(COUNTS_SPACE);
    return 0;
}

SEC("fexit/dquot_alloc_inode")
int terem_dquot_inode(void *ctx)
{
    if (returned(ctx) == -EDQUOT)
        note(COUNTS_INODES);
    return 0;
}

/* (tp, mp, dqp, nblks, ninos, flags): refuses one or the other. */
SEC("fexit/xfs_trans_dqresv")
int terem_xfs_dqresv(unsigned long long *ctx)
{
    int r = returned(ctx);
    struct xfs_dquot *d = (struct xfs_dquot *)ctx[2];
    __s64 inodes = (__s64)ctx[4];
    if (r != -EDQUOT && r != -ENOSPC)
        return 0;
    __u64 most = BPF_CORE_READ(d, q_ino.hardlimit), now = BPF_CORE_READ(d, q_ino.reserved);
    note(inodes > 0 && most && now + (__u64)inodes > most ? COUNTS_INODES : COUNTS_SPACE);
    return 0;
}
