/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * object — counts what only BPF LSM sees: open files, and sockets of other than the Internet
 * families.
 *
 * One file or socket of the kernel is one, from where it is made until it is freed: copies of a
 * descriptor (dup, fork, a message over a Unix socket) are none.  The VE that made it pays for it
 * wherever it goes; a connection over a Unix socket is the listener's.
 */
#include "kernel/bpf/charge.bpf.h"

#define AF_INET      2
#define AF_INET6     10
#define ENFILE       23
#define ENOBUFS      105
#define ECONNREFUSED 111

char LICENSE[] SEC("license") = "GPL";

/* By the address of what was counted.  The loader sets how many. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1);
    __type(key, __u64);
    __type(value, struct counts_owner);
} objects SEC(".maps");

/* 0, or -1: refused.  When the table is full the thing goes uncounted: whoever filled it must not
 * stop the neighbours. */
static __always_inline int take(__u64 ve, __u32 row, const void *object)
{
    __u64 key = (__u64)object;
    struct counts_owner mine = {.ve = ve, .row = row};
    struct counts_owner *other = bpf_map_lookup_elem(&objects, &key);
    if (other && other->ve == ve && other->row == row)
        return 0; /* another edition of this program was here before us */
    if (other)
        give_back(other->ve, other->row); /* the kernel gave up after we had counted it */
    if (!charge(ve, row, me(), false)) {
        if (other)
            bpf_map_delete_elem(&objects, &key);
        return -1;
    }
    if (bpf_map_update_elem(&objects, &key, &mine, BPF_ANY) < 0)
        give_back(ve, row);
    return 0;
}

static __always_inline void drop(const void *object)
{
    __u64 key = (__u64)object;
    struct counts_owner *owner = bpf_map_lookup_elem(&objects, &key);
    if (!owner)
        return;
    __u64 ve = owner->ve;
    __u32 row = owner->row;
    if (bpf_map_delete_elem(&objects, &key) == 0)
        give_back(ve, row);
}

SEC("lsm/file_alloc_security")
int BPF_PROG(terem_file, struct file *file, int ret)
{
    struct task_struct *task = me();
    __u64 ve = bpf_get_current_ancestor_cgroup_id(VE_LEVEL);
    if (ret || !known(ve))
        return ret;
    /* The kernel itself opens another file behind this one, as overlay does. */
    if (BPF_CORE_READ(task, cred) != BPF_CORE_READ(task, real_cred))
        return 0;
    return take(ve, COUNTS_FILES, file) < 0 ? -ENFILE : 0;
}

SEC("lsm/file_free_security")
int BPF_PROG(terem_file_free, struct file *file)
{
    drop(file);
    return 0;
}

SEC("lsm/socket_post_create")
int BPF_PROG(terem_socket, struct socket *sock, int family, int type, int protocol, int kern,
             int ret)
{
    __u64 ve = bpf_get_current_ancestor_cgroup_id(VE_LEVEL);
    struct sock *sk = sock->sk;
    if (ret || kern || !sk || family == AF_INET || family == AF_INET6 || !known(ve))
        return ret;
    return take(ve, COUNTS_OTHER, sk) < 0 ? -ENOBUFS : 0;
}

SEC("lsm/unix_stream_connect")
int BPF_PROG(terem_unix, struct sock *sk, struct sock *other, struct sock *newsk, int ret)
{
    __u64 ve = sock_ve(other);
    if (ret || !known(ve))
        return ret;
    return take(ve, COUNTS_OTHER, newsk) < 0 ? -ECONNREFUSED : 0;
}

SEC("lsm/sk_free_security")
int BPF_PROG(terem_sock_free, struct sock *sk)
{
    drop(sk);
    return 0;
}
