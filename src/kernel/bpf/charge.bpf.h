/* SPDX-License-Identifier: GPL-2.0-or-later */
/* charge — the maps, and the one way in which something is counted, given back or refused. */
#pragma once

#include "kernel/bpf/counts.h"
#include "kernel/bpf/types.bpf.h"

/* A VE's cgroup is two below the root of cgroup v2: terem[-N]/ve-<id>. */
#define VE_LEVEL 2
/* Tries to change a counter that other processors change, too. */
#define TRIES 64

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, COUNTS_VES_MAX);
    __type(key, __u64);
    __type(value, struct counts_ve);
} counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, COUNTS_VES_MAX);
    __type(key, __u64);
    __type(value, struct counts_limits);
} limits SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, COUNTS_RING_SIZE);
} events SEC(".maps");

/* Events for which the ring had no room. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} lost SEC(".maps");

static __always_inline __u64 cgroup_ve(struct cgroup *cgroup)
{
    struct cgroup *ve = NULL;
    if (BPF_CORE_READ(cgroup, level) < VE_LEVEL)
        return 0;
    bpf_core_read(&ve, sizeof(ve), &cgroup->ancestors[VE_LEVEL]);
    return BPF_CORE_READ(ve, kn, id);
}

static __always_inline __u64 sock_ve(struct sock *sk)
{
    return cgroup_ve(BPF_CORE_READ(sk, sk_cgrp_data.cgroup));
}

/* NULL: there is no room, and that is counted. */
static __always_inline struct counts_event *event(__u64 ve, __u32 row, __u64 failcnt)
{
    struct counts_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
    if (!e) {
        __u32 zero = 0;
        __u64 *n = bpf_map_lookup_elem(&lost, &zero);
        if (n)
            __sync_fetch_and_add(n, 1);
        return NULL;
    }
    __builtin_memset(e, 0, sizeof(*e));
    e->ve = ve;
    e->boot_ns = bpf_ktime_get_boot_ns();
    e->failcnt = failcnt;
    e->row = row;
    return e;
}

/* The number of its process in the PID namespace below the host's, which is the VE's; 0: in none.
 * The size of numbers[] is the running kernel's. */
static __always_inline __u32 pid_inside(struct task_struct *task)
{
    __u32 nr = 0;
    struct pid *pid = BPF_CORE_READ(task, group_leader, thread_pid);
    if (BPF_CORE_READ(pid, level) >= 1) {
        char *at = (char *)__builtin_preserve_access_index(&pid->numbers[0]);
        bpf_core_read(&nr, sizeof(nr),
                      &((struct upid *)(at + bpf_core_type_size(struct upid)))->nr);
    }
    return nr;
}

static __always_inline void say(__u64 ve, __u32 row, __u64 failcnt, struct task_struct *task)
{
    struct counts_event *e = event(ve, row, failcnt);
    if (!e)
        return;
    if (task) {
        e->pid = (__u32)BPF_CORE_READ(task, tgid);
        BPF_CORE_READ_STR_INTO(&e->comm, task, comm);
        e->pid_inside = pid_inside(task);
    }
    bpf_ringbuf_submit(e, 0);
}

/* Counts a refusal, and tells it.  task: who asked; NULL: nobody did, a packet came. */
static __always_inline void refuse(struct counts_ve *c, __u64 ve, __u32 row,
                                   struct task_struct *task)
{
    __u64 now = bpf_ktime_get_boot_ns();
    barrier_var(row); /* see charge() */
    if (row >= COUNTS_ROWS)
        return;
    __u64 failcnt = __sync_fetch_and_add(&c->row[row].failcnt, 1) + 1;
    __u64 said = *(volatile __u64 *)&c->row[row].said_ns;
    if (said && now - said < COUNTS_SPACE_NS)
        return;
    if (__sync_val_compare_and_swap(&c->row[row].said_ns, said, now) == said)
        say(ve, row, failcnt, task);
}

static __always_inline struct task_struct *me(void)
{
    return (struct task_struct *)bpf_get_current_task();
}

static __always_inline void raise_maxheld(struct counts_ve *c, __u32 row, __u64 held)
{
    barrier_var(row); /* see charge() */
    for (int i = 0; i < TRIES && row < COUNTS_ROWS; i++) {
        __u64 most = *(volatile __u64 *)&c->row[row].maxheld;
        if (most >= held || __sync_val_compare_and_swap(&c->row[row].maxheld, most, held) == most)
            break;
    }
}

/* Takes one of the row: true, and it must be given back once; or it is refused and said so.
 * force: it exists already, whatever the limit says.  A VE that is not ours is never refused. */
static __always_inline bool charge(__u64 ve, __u32 row, struct task_struct *task, bool force)
{
    struct counts_limits *l = bpf_map_lookup_elem(&limits, &ve);
    struct counts_ve *c = bpf_map_lookup_elem(&counts, &ve);
    barrier_var(row); /* or clang drops the check, and the verifier of 6.1 has forgotten it */
    if (!l || !c || row >= COUNTS_ROWS)
        return true;
    __u64 limit = force ? COUNTS_UNLIMITED : l->limit[row], now = 0;
    bool done = false;
    /* Never above the limit, not for an instant: another processor would refuse wrongly. */
    for (int i = 0; i < TRIES && !done; i++) {
        now = *(volatile __u64 *)&c->row[row].held;
        if (now >= limit)
            break;
        done = __sync_val_compare_and_swap(&c->row[row].held, now, now + 1) == now;
    }
    if (!done) {
        refuse(c, ve, row, task);
        return false;
    }
    raise_maxheld(c, row, now + 1);
    return true;
}

static __always_inline void give_back(__u64 ve, __u32 row)
{
    struct counts_ve *c = bpf_map_lookup_elem(&counts, &ve);
    if (c && row < COUNTS_ROWS)
        __sync_fetch_and_sub(&c->row[row].held, 1);
}

static __always_inline bool known(__u64 ve)
{
    return ve && bpf_map_lookup_elem(&limits, &ve);
}
