/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ucount — what a VE holds of the things that the kernel counts by user namespace, and who was
 * refused: namespaces, inotify.
 *
 * The kernel keeps these counters to itself.  A VE's own user namespace is the second below the
 * host's (container/outer.c): what is counted there or deeper is the VE's, and is bounded in the
 * namespace around it.  Taken by a process of the VE; given back by whoever comes to it, often a
 * thread of the kernel, so the VE is found by its user namespace then.
 */
#include "kernel/bpf/charge.bpf.h"

char LICENSE[] SEC("license") = "GPL";

#define INNER_LEVEL 2
#define DEPTH_MAX   32 /* as the kernel nests user namespaces */

enum ucount_type {
    UCOUNT_TIME_NAMESPACES,
    UCOUNT_INOTIFY_INSTANCES,
    UCOUNT_INOTIFY_WATCHES,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct user_namespace;
typedef struct {
    long counter;
} atomic_long_t;
struct ucounts {
    struct user_namespace *ns;
    atomic_long_t ucount[16];
};
struct user_namespace {
    struct user_namespace *parent;
    int level;
    struct ucounts *ucounts;
    long ucount_max[16];
};
#pragma clang attribute pop

/* The VE's own user namespace, by its address → the id of the VE's cgroup. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, COUNTS_VES_MAX);
    __type(key, __u64);
    __type(value, __u64);
} owners SEC(".maps");

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

static __always_inline struct user_namespace *inner_of(struct user_namespace *ns)
{
    for (int i = 0; i < DEPTH_MAX && ns; i++) {
        int level = BPF_CORE_READ(ns, level);
        if (level <= INNER_LEVEL)
            return level == INNER_LEVEL ? ns : NULL;
        ns = BPF_CORE_READ(ns, parent);
    }
    return NULL;
}

/* Was it the bound of the VE, and not one that it or the host has set elsewhere? */
static __always_inline bool is_full(struct user_namespace *inner, __u32 type)
{
    long now = 0, most = 0;
    struct ucounts *u = BPF_CORE_READ(inner, ucounts);
    struct user_namespace *outer = BPF_CORE_READ(inner, parent);
    char *at = (char *)__builtin_preserve_access_index(&u->ucount[0]);
    char *max = (char *)__builtin_preserve_access_index(&outer->ucount_max[0]);
    if (type >= 16 || bpf_probe_read_kernel(&now, sizeof(now), at + type * sizeof(long)) < 0 ||
        bpf_probe_read_kernel(&most, sizeof(most), max + type * sizeof(long)) < 0)
        return false;
    return now >= most;
}

/* struct ucounts *inc_ucount(struct user_namespace *ns, kuid_t uid, enum ucount_type type) */
SEC("fexit/inc_ucount")
int terem_inc_ucount(unsigned long long *ctx)
{
    __u32 type = (__u32)ctx[2], row = row_of(type);
    struct user_namespace *inner = inner_of((struct user_namespace *)ctx[0]);
    if (row >= COUNTS_ROWS || !inner)
        return 0;
    struct task_struct *task = me();
    __u64 ve = cgroup_ve(BPF_CORE_READ(task, cgroups, dfl_cgrp)), key = (__u64)inner;
    if (!known(ve))
        return 0;
    struct counts_ve *c = bpf_map_lookup_elem(&counts, &ve);
    if (ctx[3]) {
        bpf_map_update_elem(&owners, &key, &ve, BPF_ANY);
        charge(ve, row, task, true);
    } else if (c && is_full(inner, type)) {
        refuse(c, ve, row, task);
    }
    return 0;
}

/* void dec_ucount(struct ucounts *ucounts, enum ucount_type type) */
SEC("fentry/dec_ucount")
int terem_dec_ucount(unsigned long long *ctx)
{
    __u32 row = row_of((__u32)ctx[1]);
    struct user_namespace *inner = inner_of(BPF_CORE_READ((struct ucounts *)ctx[0], ns));
    __u64 key = (__u64)inner;
    __u64 *ve = inner ? bpf_map_lookup_elem(&owners, &key) : NULL;
    if (row < COUNTS_ROWS && ve)
        give_back(*ve, row);
    return 0;
}
