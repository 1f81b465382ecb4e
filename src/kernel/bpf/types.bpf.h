/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * types — what Terem's BPF programs read of the kernel's own structures, and no more.
 *
 * preserve_access_index: offsets are taken from the running kernel's BTF when a program is
 * loaded, so the order and size of members here mean nothing.
 */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
    const char *name;
    __u64 id;
};
/* Whose directory it is in: "parent" up to 6.14. */
struct kernfs_node___old {
    struct kernfs_node *parent;
};
struct kernfs_node___new {
    struct kernfs_node *__parent;
};
enum cgroup_subsys_id {
    pids_cgrp_id,
};
struct cgroup_subsys_state {
    struct cgroup *cgroup;
};
typedef struct {
    __s64 counter;
} atomic64_t;
struct cgroup {
    int level;
    struct kernfs_node *kn;
    struct cgroup_subsys_state *subsys[16];
    struct cgroup *ancestors[]; /* 6.1 and later */
};
struct cgroup_file {
    struct kernfs_node *kn;
};
struct pids_cgroup {
    struct cgroup_subsys_state css;
    atomic64_t counter, limit;
    struct cgroup_file events_local_file; /* 6.11 and later */
};
struct css_set {
    struct cgroup *dfl_cgrp;
};
struct upid {
    int nr;
};
struct pid {
    unsigned level;
    struct upid numbers[];
};
struct cred;
struct file;
struct task_struct {
    int pid, tgid;
    const struct cred *real_cred, *cred;
    char comm[16];
    struct css_set *cgroups;
    struct task_struct *group_leader;
    struct pid *thread_pid;
};
struct sock_cgroup_data {
    struct cgroup *cgroup;
};
struct sock {
    struct sock_cgroup_data sk_cgrp_data;
};
struct socket {
    struct sock *sk;
};

#pragma clang attribute pop
