/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ucount — where the kernel keeps what a VE holds of things that it counts by user namespace:
 * namespaces, inotify, queued signals.
 *
 * A VE's own user namespace is the second below the host's (container/outer.c).  What is taken
 * there or deeper is counted, once more, for the owner of that namespace in the one around it:
 * that is the VE's sum, and what its bound is compared with.
 */
#pragma once

#include "kernel/bpf/counts.h"
#include "kernel/bpf/types.bpf.h"

#define INNER_LEVEL 2
#define DEPTH_MAX   32 /* as the kernel nests user namespaces */
#define TYPES_MAX   16

enum ucount_type {
    UCOUNT_TIME_NAMESPACES,
    UCOUNT_INOTIFY_INSTANCES,
    UCOUNT_INOTIFY_WATCHES,
};
enum rlimit_type {
    UCOUNT_RLIMIT_SIGPENDING,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct user_namespace;
typedef struct {
    long counter;
} atomic_long_t;
struct ucounts {
    struct user_namespace *ns;
    atomic_long_t ucount[TYPES_MAX];
    atomic_long_t rlimit[4];
};
struct user_namespace {
    struct user_namespace *parent;
    int level;
    struct ucounts *ucounts;
    long ucount_max[TYPES_MAX];
    long rlimit_max[4];
};
#pragma clang attribute pop

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

static __always_inline long read_long(const char *array, __u32 i)
{
    long n = 0;
    if (i >= TYPES_MAX ||
        bpf_probe_read_kernel(&n, sizeof(n), array + (unsigned long)i * sizeof(n)) < 0)
        return 0;
    return n;
}

/* What the VE with this user namespace has of a type. */
static __always_inline long held_ucount(struct user_namespace *inner, __u32 type)
{
    struct ucounts *u = BPF_CORE_READ(inner, ucounts);
    return read_long((char *)__builtin_preserve_access_index(&u->ucount[0]), type);
}

static __always_inline long held_rlimit(struct user_namespace *inner, __u32 type)
{
    struct ucounts *u = BPF_CORE_READ(inner, ucounts);
    return read_long((char *)__builtin_preserve_access_index(&u->rlimit[0]), type);
}
