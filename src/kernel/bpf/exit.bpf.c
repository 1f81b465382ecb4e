/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * exit — what disk quotas refuse, on kernels where quota.bpf.c cannot be attached: a system call
 * that ends with EDQUOT.
 *
 * Every system call of the machine then takes about 0.1 µs longer (a call of getppid(2) 230 ns in
 * place of 137, on 6.18), and faults on mapped pages and the ENOSPC of xfs are not seen.
 */
#include "kernel/bpf/charge.bpf.h"

#include <asm/unistd.h>
#include <linux/errno.h>

char LICENSE[] SEC("license") = "GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct pt_regs___x86 {
    unsigned long orig_ax;
};
struct pt_regs___arm {
    int syscallno;
};
#pragma clang attribute pop

static __always_inline long number(void *regs)
{
    if (bpf_core_field_exists(struct pt_regs___x86, orig_ax))
        return (long)BPF_CORE_READ((struct pt_regs___x86 *)regs, orig_ax);
    return BPF_CORE_READ((struct pt_regs___arm *)regs, syscallno);
}

SEC("raw_tp/sys_exit")
int terem_sys_exit(struct bpf_raw_tracepoint_args *ctx)
{
    if ((long)ctx->args[1] != -EDQUOT)
        return 0;
    long nr = number((void *)ctx->args[0]);
    if (nr == __NR_add_key || nr == __NR_keyctl || nr == __NR_request_key)
        return 0; /* another quota */
    struct task_struct *task = me();
    __u64 ve = cgroup_ve(BPF_CORE_READ(task, cgroups, dfl_cgrp));
    struct counts_ve *c = known(ve) ? bpf_map_lookup_elem(&counts, &ve) : NULL;
    if (c)
        refuse(c, ve, COUNTS_SPACE, task);
    return 0;
}
