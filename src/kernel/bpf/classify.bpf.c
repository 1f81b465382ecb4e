/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * classify — every packet of a VE gets the class of its other side, is counted there, and finds
 * the leaf of HTB where it waits its turn.
 *
 * terem_from_ve sees what a VE sends, when it comes out of the host's end of its cable: here it is
 * known whose it is, before masquerading hides that.  The leaf travels in skb->tc_index, which
 * forwarding leaves alone (it sets skb->priority from the TOS field), to terem_uplink, the filter
 * of the tree on the uplink.
 *
 * terem_to_ve sees what goes to a VE, when nothing but the cable is before it: here its address is
 * its own again.  What came in by the uplink waits in the tree of an IFB and comes here once more;
 * it is counted then, so that what the tree drops is not.
 *
 * The first two return 1 for a packet that their filter's action shall send to the IFB.  On the
 * second visit the kernel leaves the action out, and forgets that it shall: without a match it
 * would leave out the next one, inside the VE.
 *
 * A packet costs four or five hash lookups and one in a trie, however many VEs and prefixes there
 * are.
 *
 * Of VEs that are watched for use (idle.sleep) both stamp the time of packets, and the first one
 * that comes to a VE that sleeps is told to teremd.
 */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#include "kernel/bpf/classify.h"

#define IPV4     0x0008 /* ETH_P_IP and ETH_P_IPV6 in network order, as skb->protocol has them */
#define IPV6     0xdd86
#define ETHERNET 14

/* Numbers of protocols, and of TCP's flags the one that opens a connection (RFC 9293). */
#define ICMP   1
#define IGMP   2
#define TCP    6
#define ICMPV6 58
#define SYN    0x02

char LICENSE[] SEC("license") = "GPL";

/* Sizes, not types: of types that only an inner map names, BTF knows the names alone. */
struct trie4 {
    __uint(type, BPF_MAP_TYPE_LPM_TRIE);
    __uint(max_entries, CLASSIFY_PREFIXES_MAX);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(key_size, sizeof(struct classify_prefix4));
    __uint(value_size, sizeof(__u32));
};
struct trie6 {
    __uint(type, BPF_MAP_TYPE_LPM_TRIE);
    __uint(max_entries, CLASSIFY_PREFIXES_MAX);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(key_size, sizeof(struct classify_prefix6));
    __uint(value_size, sizeof(__u32));
};

/* The list in force; another one takes its place as a whole. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 1);
    __type(key, __u32);
    __array(values, struct trie4);
} prefixes4 SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 1);
    __type(key, __u32);
    __array(values, struct trie6);
} prefixes6 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, CLASSIFY_ENDS_MAX);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, __u32);
    __type(value, struct classify_end);
} ends SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, CLASSIFY_LEAVES_MAX);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct classify_key);
    __type(value, __u32);
} leaves SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, CLASSIFY_COUNTS_MAX);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct classify_key);
    __type(value, struct classify_count);
} counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct classify_settings);
} settings SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, CLASSIFY_STAMPS_MAX);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, __u64);
    __type(value, struct classify_stamp);
} stamps SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, CLASSIFY_STAMPS_MAX);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, __u64);
    __type(value, struct classify_sleep);
} asleep SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, CLASSIFY_WAKES_SIZE);
} wakes SEC(".maps");

/* ARP and the like do not leave the cable. */
static __always_inline __u32 class_of(struct __sk_buff *skb, bool in)
{
    __u32 zero = 0, *class = NULL;
    void *trie;
    if (skb->protocol == IPV4) {
        struct classify_prefix4 key = {.length = 32};
        trie = bpf_map_lookup_elem(&prefixes4, &zero);
        if (!trie || bpf_skb_load_bytes(skb, ETHERNET + (in ? 12 : 16), key.address, 4) < 0)
            return CLASSIFY_ANY;
        class = bpf_map_lookup_elem(trie, &key);
    } else if (skb->protocol == IPV6) {
        struct classify_prefix6 key = {.length = 128};
        trie = bpf_map_lookup_elem(&prefixes6, &zero);
        if (!trie || bpf_skb_load_bytes(skb, ETHERNET + (in ? 8 : 24), key.address, 16) < 0)
            return CLASSIFY_ANY;
        class = bpf_map_lookup_elem(trie, &key);
    } else {
        return CLASSIFY_LOCAL;
    }
    return class ? *class : CLASSIFY_ANY;
}

static __always_inline void count(const struct classify_key *key, __u32 bytes)
{
    static const struct classify_count none;
    struct classify_count *c = bpf_map_lookup_elem(&counts, key);
    if (!c) {
        /* Another processor may be faster: then its place is ours, too. */
        struct classify_count first = none;
        bpf_map_update_elem(&counts, key, &first, BPF_NOEXIST);
        c = bpf_map_lookup_elem(&counts, key);
    }
    if (!c)
        return;
    __sync_fetch_and_add(&c->bytes, bytes);
    __sync_fetch_and_add(&c->packets, 1);
}

static __always_inline __u32 leaf_of(const struct classify_key *key)
{
    struct classify_key others = {.ve = key->ve, .class = CLASSIFY_OTHERS, .in = key->in};
    __u32 *leaf = bpf_map_lookup_elem(&leaves, key);
    if (!leaf && key->class != CLASSIFY_LOCAL)
        leaf = bpf_map_lookup_elem(&leaves, &others);
    return leaf ? *leaf : 0;
}

/* TCP carries something: bytes, or the wish to connect.  What acknowledges, keeps alive or ends a
 * connection follows from what was use before, and the kernel answers it for a frozen VE. */
static __always_inline bool tcp_is_use(struct __sk_buff *skb, __u32 at)
{
    __u8 head[2];
    if (bpf_skb_load_bytes(skb, at + 12, head, sizeof(head)) < 0)
        return false;
    return (head[1] & SYN) || at + (head[0] >> 4) * 4 < skb->len;
}

/* Does somebody use the VE, or the VE somebody?  Not by ARP and neighbour discovery, multicast and
 * broadcast, nor by ICMP, which the kernel answers. */
static __always_inline bool is_use(struct __sk_buff *skb)
{
    __u8 head[40], protocol, to;
    __u32 at = ETHERNET;
    /* Frames to a group, whatever address the packet in them has: that of its network's broadcast
     * looks like any other. */
    if (bpf_skb_load_bytes(skb, 0, &to, sizeof(to)) < 0 || (to & 1))
        return false;
    if (skb->protocol == IPV4) {
        if (bpf_skb_load_bytes(skb, ETHERNET, head, 20) < 0 || head[16] >= 224)
            return false;
        protocol = head[9];
        at += (head[0] & 15) * 4;
        if ((head[6] & 0x1f) || head[7]) /* a fragment that is not the first */
            return protocol != ICMP;
    } else if (skb->protocol == IPV6) {
        if (bpf_skb_load_bytes(skb, ETHERNET, head, 40) < 0 || head[24] == 255)
            return false;
        protocol = head[6];
        at += 40;
    } else {
        return false;
    }
    if (protocol == ICMP || protocol == IGMP || protocol == ICMPV6)
        return false;
    return protocol != TCP || tcp_is_use(skb, at);
}

/* The stamp first, then the look whether it sleeps: teremd does it the other way round, so that one
 * of both sees a packet that comes in the moment when the VE is put to sleep.  Only what comes to
 * it wakes it: of what it sends while it is frozen its kernel is the author. */
static __always_inline void note(struct __sk_buff *skb, __u64 ve, bool in)
{
    struct classify_stamp *stamp = bpf_map_lookup_elem(&stamps, &ve);
    if (!stamp || !is_use(skb))
        return;
    stamp->used_ns = bpf_ktime_get_ns();
    struct classify_sleep *sleep = in ? bpf_map_lookup_elem(&asleep, &ve) : NULL;
    if (sleep && !sleep->told &&
        bpf_ringbuf_output(&wakes, &ve, sizeof(ve), BPF_RB_FORCE_WAKEUP) == 0)
        sleep->told = 1; /* else the next packet tells */
}

SEC("tc")
int terem_from_ve(struct __sk_buff *skb)
{
    __u32 index = skb->ifindex, zero = 0;
    struct classify_end *end = bpf_map_lookup_elem(&ends, &index);
    struct classify_settings *s = bpf_map_lookup_elem(&settings, &zero);
    skb->tc_index = 0;
    if (!end || !s)
        return 0;
    struct classify_key key = {.ve = end->ve, .class = class_of(skb, false)};
    count(&key, skb->len);
    note(skb, end->ve, false);
    __u32 leaf = leaf_of(&key);
    if (key.class == CLASSIFY_LOCAL && leaf) {
        skb->priority = s->handle | leaf;
        return 1;
    }
    skb->tc_index = leaf;
    return 0;
}

SEC("tc")
int terem_to_ve(struct __sk_buff *skb)
{
    __u32 index = skb->ifindex, zero = 0, leaf = 0;
    struct classify_end *end = bpf_map_lookup_elem(&ends, &index);
    struct classify_settings *s = bpf_map_lookup_elem(&settings, &zero);
    if (!end || !s)
        return 0;
    bool waited = s->lender && skb->ingress_ifindex == s->lender;
    struct classify_key key = {.ve = end->ve, .class = class_of(skb, true), .in = 1};
    if (!waited && (key.class == CLASSIFY_LOCAL || skb->ingress_ifindex == s->uplink))
        leaf = leaf_of(&key);
    if (leaf) {
        skb->priority = s->handle | leaf;
        return 1;
    }
    count(&key, skb->len);
    note(skb, end->ve, true);
    return waited;
}

/* At ends of private networks, where nothing is counted. */
static __always_inline int note_end(struct __sk_buff *skb, bool in)
{
    __u32 index = skb->ifindex;
    struct classify_end *end = bpf_map_lookup_elem(&ends, &index);
    if (end)
        note(skb, end->ve, in);
    return 0;
}

SEC("tc")
int terem_note_from(struct __sk_buff *skb)
{
    return note_end(skb, false);
}

SEC("tc")
int terem_note_to(struct __sk_buff *skb)
{
    return note_end(skb, true);
}

/* The number of a class is what this filter answers; 0: the tree's own default. */
SEC("tc")
int terem_uplink(struct __sk_buff *skb)
{
    __u32 zero = 0;
    struct classify_settings *s = bpf_map_lookup_elem(&settings, &zero);
    return s && skb->tc_index ? s->handle | skb->tc_index : 0;
}
