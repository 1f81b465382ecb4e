/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lock — counts file locks: flock(2), and those of fcntl(2) and lockf(3), leases not.
 *
 * BPF LSM is asked before a lock and can refuse it, but does not learn what became of it; the
 * function that adds a lock is inlined everywhere.  So:
 *   - the request takes one (a token of its task) when it is asked for, and so as many requests at
 *     once as there are places get through;
 *   - two tracepoints tell that an attempt has ended.  flock: a file has one lock or none.  fcntl:
 *     the locks of this owner on the inode are counted anew, as one call can join or cut them.
 *     The token becomes the first of what is new, else it is given back.
 * A request that waits for another's lock keeps its token.
 */
#include "kernel/bpf/charge.bpf.h"

#define ENOLCK   37
#define F_UNLCK  2
#define DEFERRED 1 /* FILE_LOCK_DEFERRED: it waits */
#define FL_FLOCK 2
#define WALK_MAX 65536
#define WALKS    3
#define FILE_BIT 1 /* kernel objects are aligned: these make other keys of their addresses */
#define TASK_BIT 2

char LICENSE[] SEC("license") = "GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct list_head {
    struct list_head *next;
};
struct file_lock_context {
    struct list_head flc_posix;
};
struct inode {
    struct file_lock_context *i_flctx;
};
struct file_lock___old { /* up to 6.8 */
    struct list_head fl_list;
    void *fl_owner;
    unsigned fl_flags;
    unsigned char fl_type;
    struct file *fl_file;
};
struct file_lock_core { /* a file_lock begins with it */
    struct list_head flc_list;
    void *flc_owner;
    unsigned flc_flags;
    unsigned char flc_type;
    struct file *flc_file;
};
#pragma clang attribute pop

/* By the address of what was counted, with one of the bits above. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 1);
    __type(key, __u64);
    __type(value, struct counts_owner);
} objects SEC(".maps");

struct holder {
    __u64 context, owner;
};
struct holding {
    __u64 ve, n;
};
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, COUNTS_HOLDERS_MAX);
    __type(key, struct holder);
    __type(value, struct holding);
} holders SEC(".maps");

#define OLD_OR_NEW(fl, old, new)                             \
    (bpf_core_type_exists(struct file_lock_core)             \
         ? BPF_CORE_READ((struct file_lock_core *)(fl), new) \
         : BPF_CORE_READ((struct file_lock___old *)(fl), old))

/* Was there one?  It is taken out, and counted still. */
static __always_inline bool take_out(__u64 key, __u64 *ret_ve)
{
    struct counts_owner *o = bpf_map_lookup_elem(&objects, &key);
    if (!o)
        return false;
    *ret_ve = o->ve;
    return bpf_map_delete_elem(&objects, &key) == 0;
}

static __always_inline void drop(__u64 key)
{
    __u64 ve;
    if (take_out(key, &ve))
        give_back(ve, COUNTS_LOCKS);
}

static __always_inline __u64 token(void)
{
    return (__u64)me() | TASK_BIT;
}

SEC("lsm/file_lock")
int BPF_PROG(terem_lock, struct file *file, unsigned cmd, int ret)
{
    __u64 key = token(), ve = bpf_get_current_ancestor_cgroup_id(VE_LEVEL);
    struct counts_owner mine = {.ve = ve, .row = COUNTS_LOCKS};
    if (ret || !known(ve))
        return ret;
    drop(key); /* of a request that was interrupted */
    if (cmd == F_UNLCK)
        return 0;
    if (!charge(ve, COUNTS_LOCKS, me(), false))
        return -ENOLCK;
    if (bpf_map_update_elem(&objects, &key, &mine, BPF_ANY) < 0)
        give_back(ve, COUNTS_LOCKS);
    return 0;
}

SEC("lsm/task_free")
int BPF_PROG(terem_task_free, struct task_struct *task)
{
    drop((__u64)task + TASK_BIT); /* the verifier takes no | of a pointer */
    return 0;
}

/* n new ones: the first is paid for by the token, if there is one. */
static __always_inline void grow(__u64 ve, __u64 n)
{
    __u64 paid;
    if (n && take_out(token(), &paid))
        n--;
    struct counts_ve *c = bpf_map_lookup_elem(&counts, &ve);
    if (c && n) {
        __u64 now = __sync_fetch_and_add(&c->row[COUNTS_LOCKS].held, n) + n;
        if (now > c->row[COUNTS_LOCKS].maxheld)
            c->row[COUNTS_LOCKS].maxheld = now;
    }
}

SEC("tp_btf/flock_lock_inode")
int BPF_PROG(terem_flock, struct inode *inode, void *lock, int ret)
{
    __u64 ve = bpf_get_current_ancestor_cgroup_id(VE_LEVEL);
    if (!lock) /* newer verifiers ask for it */
        return 0;
    unsigned char type = OLD_OR_NEW(lock, fl_type, flc_type);
    __u64 key = (__u64)OLD_OR_NEW(lock, fl_file, flc_file) | FILE_BIT;
    struct counts_owner mine = {.ve = ve, .row = COUNTS_LOCKS};
    if (ret == DEFERRED || !known(ve))
        return 0;
    if (ret == 0 && type != F_UNLCK && !bpf_map_lookup_elem(&objects, &key) &&
        bpf_map_update_elem(&objects, &key, &mine, BPF_NOEXIST) == 0)
        grow(ve, 1);
    drop(token());
    return 0;
}

/* Of those that flock(2) made: the others are counted by their owner. */
SEC("fentry/locks_unlink_lock_ctx")
int BPF_PROG(terem_unlock, void *lock)
{
    if (OLD_OR_NEW(lock, fl_flags, flc_flags) & FL_FLOCK)
        drop((__u64)OLD_OR_NEW(lock, fl_file, flc_file) | FILE_BIT);
    return 0;
}

/* The verifier does not know that it is 0: with a number that it knows it would follow each turn
 * of the loop below to its end (Linux 6.12). */
__u64 nothing;

struct walk {
    __u64 head, at, owner, n;
    bool whole;
};

static long step(__u32 i, struct walk *w)
{
    struct list_head *at = (struct list_head *)w->at;
    if (w->at == w->head) {
        w->whole = true;
        return 1;
    }
    __u64 in = bpf_core_type_exists(struct file_lock_core)
                   ? bpf_core_field_offset(struct file_lock_core, flc_list)
                   : bpf_core_field_offset(struct file_lock___old, fl_list);
    void *lock = (void *)(w->at - in);
    __u64 next = (__u64)BPF_CORE_READ(at, next);
    if ((__u64)OLD_OR_NEW(lock, fl_owner, flc_owner) == w->owner)
        w->n++;
    if (!next || next == w->at)
        return 1; /* it was taken out meanwhile */
    w->at = next;
    return 0;
}

SEC("tp_btf/posix_lock_inode")
int BPF_PROG(terem_posix, struct inode *inode, void *lock, int ret)
{
    if (!inode || !lock)
        return 0;
    struct file_lock_context *context = BPF_CORE_READ(inode, i_flctx);
    struct holder key = {.context = (__u64)context,
                         .owner = (__u64)OLD_OR_NEW(lock, fl_owner, flc_owner)};
    struct holding *before = bpf_map_lookup_elem(&holders, &key);
    struct holding now = {.ve = before ? before->ve : bpf_get_current_ancestor_cgroup_id(VE_LEVEL)};
    if (ret == DEFERRED || !known(now.ve))
        return 0;
    struct list_head *head = context ? __builtin_preserve_access_index(&context->flc_posix) : NULL;
    struct walk w = {.whole = !head};
    for (int i = 0; i < WALKS && !w.whole; i++) {
        w = (struct walk){.head = (__u64)head, .owner = key.owner, .n = nothing};
        w.at = (__u64)BPF_CORE_READ(head, next);
        bpf_loop(WALK_MAX, step, &w, 0);
    }
    __u64 had = before ? before->n : 0;
    now.n = w.whole ? w.n : had;
    if (now.n && bpf_map_update_elem(&holders, &key, &now, BPF_ANY) < 0)
        now.n = had;
    if (!now.n && before)
        bpf_map_delete_elem(&holders, &key);
    if (now.n > had)
        grow(now.ve, now.n - had);
    struct counts_ve *c = bpf_map_lookup_elem(&counts, &now.ve);
    if (c && now.n < had)
        __sync_fetch_and_sub(&c->row[COUNTS_LOCKS].held, had - now.n);
    drop(token());
    return 0;
}
