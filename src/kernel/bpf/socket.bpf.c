/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * socket — counts sockets of the Internet families, and keeps a VE from raising limits of its
 * namespaces.
 *
 * The programs of cgroups are attached to the instance's cgroup and so run for each VE below it;
 * terem_opening alone is attached to the VEs that have a limit of TCP sockets, as it sees every
 * packet.  Everything here loads on a kernel without BPF LSM and without its trampolines.
 *
 * A TCP socket is counted from socket() (or, when a client connected, from the end of the
 * handshake, accepted or not) until the kernel frees it: one that was closed and still sends is
 * the VE's, too.  Others are counted from socket() to the last close().  What was counted carries
 * a tag, so it is given back once and by nobody else, whoever holds or closes it.
 */
#include "kernel/bpf/charge.bpf.h"

#define AF_INET     2
#define AF_INET6    10
#define STREAM      1
#define TCP         6
#define ENOBUFS     105
#define IPV4        0x0008 /* ETH_P_IP and ETH_P_IPV6 in network order, as skb->protocol has them */
#define IPV6        0xdd86
#define FLAG_SYN    0x02
#define FLAG_RST    0x04
#define FLAG_ACK    0x10
#define SYSCTL_NAME 64

char LICENSE[] SEC("license") = "GPL";

struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct counts_owner);
} tags SEC(".maps");

/* The connection that this processor is about to open: charged when the packet that ends its
 * handshake passes, so that two of them never take the last place.  Both happen in one softirq;
 * what is still here when the next such packet comes was not opened and is given back. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} opening SEC(".maps");

SEC("cgroup/sock_create")
int terem_create(struct bpf_sock *ctx)
{
    __u64 ve = bpf_get_current_ancestor_cgroup_id(VE_LEVEL);
    if (!known(ve))
        return 1;
    struct counts_owner *tag = bpf_sk_storage_get(&tags, ctx, NULL, BPF_SK_STORAGE_GET_F_CREATE);
    if (tag && tag->ve)
        return 1; /* another edition of this program was here before us */
    /* A raw socket may have TCP's number and is none: tcp_destroy_sock() never sees it. */
    __u32 row = ctx->type == STREAM && ctx->protocol == TCP ? COUNTS_TCP : COUNTS_OTHER;
    if (!tag || !charge(ve, row, me(), false)) {
        bpf_set_retval(-ENOBUFS);
        return 0;
    }
    tag->row = row;
    tag->ve = ve;
    return 1;
}

SEC("cgroup/sock_release")
int terem_release(struct bpf_sock *ctx)
{
    struct counts_owner *tag = bpf_sk_storage_get(&tags, ctx, NULL, 0);
    if (!tag || tag->row == COUNTS_TCP)
        return 1;
    __u64 ve = __sync_lock_test_and_set(&tag->ve, 0);
    if (ve)
        give_back(ve, tag->row);
    return 1;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(terem_destroy, struct sock *sk)
{
    struct counts_owner *tag = bpf_sk_storage_get(&tags, sk, NULL, 0);
    if (!tag || tag->row != COUNTS_TCP)
        return 0;
    __u64 ve = __sync_lock_test_and_set(&tag->ve, 0);
    if (ve)
        give_back(ve, COUNTS_TCP);
    return 0;
}

SEC("sockops")
int terem_accept(struct bpf_sock_ops *ctx)
{
    if (ctx->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
        return 1;
    struct bpf_sock *sk = ctx->sk;
    if (!sk)
        return 1;
    struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
    if (!tcp)
        return 1;
    __u32 zero = 0;
    __u64 ve = sock_ve((struct sock *)tcp), *open = bpf_map_lookup_elem(&opening, &zero);
    if (!known(ve))
        return 1;
    struct counts_owner *tag = bpf_sk_storage_get(&tags, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
    if (!tag || tag->ve)
        return 1;
    /* Without a charge of terem_opening: the VE has no limit. */
    if (open && *open == ve)
        *open = 0;
    else
        charge(ve, COUNTS_TCP, NULL, true);
    tag->row = COUNTS_TCP;
    tag->ve = ve;
    return 1;
}

/* The flags of TCP's header; 0 when there is none such. */
static __always_inline __u8 tcp_flags(struct __sk_buff *skb)
{
    __u8 first = 0, next = 0, flags = 0;
    __u32 at;
    if (skb->protocol == IPV4) {
        if (bpf_skb_load_bytes(skb, 0, &first, 1) < 0)
            return 0;
        at = (first & 0xf) * 4;
    } else if (skb->protocol == IPV6) {
        at = 40;
        if (bpf_skb_load_bytes(skb, 6, &next, 1) < 0)
            return 0;
        /* Extension headers: 8 + 8 * length bytes each. */
        for (int i = 0; i < 4 && next != TCP; i++) {
            __u8 head[2];
            if (bpf_skb_load_bytes(skb, at, head, 2) < 0)
                return 0;
            next = head[0];
            at += 8 + 8 * head[1];
        }
    } else {
        return 0;
    }
    if (bpf_skb_load_bytes(skb, at + 13, &flags, 1) < 0)
        return 0;
    return flags;
}

SEC("cgroup_skb/ingress")
int terem_opening(struct __sk_buff *skb)
{
    struct bpf_sock *sk = skb->sk;
    if (!sk || sk->state != BPF_TCP_LISTEN)
        return 1;
    sk = bpf_sk_fullsock(sk);
    if (!sk || sk->protocol != TCP)
        return 1;
    __u8 flags = tcp_flags(skb);
    if (flags & FLAG_RST)
        return 1;
    __u64 ve = bpf_skb_ancestor_cgroup_id(skb, VE_LEVEL);
    struct counts_limits *l = bpf_map_lookup_elem(&limits, &ve);
    struct counts_ve *c = bpf_map_lookup_elem(&counts, &ve);
    __u32 zero = 0;
    __u64 *open = bpf_map_lookup_elem(&opening, &zero);
    if (!l || !c || !open)
        return 1;
    if (*open)
        give_back(*open, COUNTS_TCP);
    *open = 0;
    if (flags & FLAG_SYN) {
        if (*(volatile __u64 *)&c->row[COUNTS_TCP].held < l->limit[COUNTS_TCP])
            return 1;
        refuse(c, ve, COUNTS_TCP, NULL);
        return 0;
    }
    if (!charge(ve, COUNTS_TCP, NULL, false))
        return 0;
    *open = ve;
    return 1;
}

static __always_inline bool starts(const char *name, const char *with, int n)
{
    for (int i = 0; i < n; i++)
        if (name[i] != with[i])
            return false;
    return true;
}
#define STARTS(name, with) starts(name, with, sizeof(with) - 1)

/* Root of a VE owns these files, and Terem has written limits to them: at its birth, before this
 * guards it, and later from outside of its cgroup. */
SEC("cgroup/sysctl")
int terem_sysctl(struct bpf_sysctl *ctx)
{
    char name[SYSCTL_NAME] = {0};
    __u64 ve = bpf_get_current_ancestor_cgroup_id(VE_LEVEL);
    struct counts_limits *l = bpf_map_lookup_elem(&limits, &ve);
    if (!ctx->write || !l || !l->guarded || bpf_sysctl_get_name(ctx, name, sizeof(name), 0) < 0)
        return 1;
    if (STARTS(name, "net/ipv4/tcp_rmem") || STARTS(name, "net/ipv4/tcp_wmem"))
        return !(l->guarded & COUNTS_GUARD_BUFFERS);
    return !(STARTS(name, "user/max_") || STARTS(name, "kernel/shm") ||
             STARTS(name, "kernel/msg") || STARTS(name, "kernel/sem") ||
             STARTS(name, "fs/mqueue/"));
}
