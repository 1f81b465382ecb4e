/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In either tree: class 1 has the node's rate, 2 below it is the host's and whoever has no leaf,
 * the leaves of VEs follow; those of local traffic hang beside class 1, as they share nothing with
 * anybody.  Which number a leaf has is written in the map of the programs alone, so that a new
 * teremd, or one that was killed between two steps, finds it there.
 */
#include "base/cleanup.h"
#include "network/shape_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RATE_FREE (UINT64_C(100000000000) / 8) /* where nobody has said what the node has */
#define BURST_MS  2 /* of a rate, may come at once; so long HTB's clock may be late */
#define BURST_MIN 3200
/* More than the largest packet (GSO, 64 KiB and headers): HTB takes one packet a turn at least, and
 * with a smaller quantum a leaf would owe the others the rest for ever. */
#define QUANTUM   70000
#define QUEUE_MS  10 /* of the ceiling */
#define QUEUE_MIN (256 << 10)
#define QUEUE_MAX (8 << 20)

bool shape_is_taken(const struct network_shape *s, enum tree t, unsigned minor)
{
    return s->taken[t][minor / 8] >> (minor % 8) & 1;
}

void shape_take(struct network_shape *s, enum tree t, unsigned minor, bool on)
{
    uint8_t bit = (uint8_t)(1u << (minor % 8));
    if (on)
        s->taken[t][minor / 8] |= bit;
    else
        s->taken[t][minor / 8] &= (uint8_t)~bit;
}

static struct leaf *find(struct network_shape *s, const struct classify_key *key)
{
    for (size_t i = 0; i < s->n; i++)
        if (memcmp(&s->leaves[i].key, key, sizeof(*key)) == 0)
            return &s->leaves[i];
    return NULL;
}

const char *network_shape_why(const struct network_node *n, bool in)
{
    const struct network_shape *s = n->shape;
    if (!s)
        return "no trees were asked for";
    return s->why[in ? IN : OUT][0] ? s->why[in ? IN : OUT] : NULL;
}

const char *network_shape_queue_why(const struct network_node *n)
{
    return n->shape && n->shape->no_codel
               ? "this kernel has no fq_codel: packets wait in bounded fifos"
               : NULL;
}

const char *network_shape_uplink(const struct network_node *n)
{
    return n->shape ? n->shape->uplink : "";
}

/* ---- classes ---- */

static uint32_t burst_of(uint64_t rate)
{
    uint64_t b = rate * BURST_MS / 1000;
    return b < BURST_MIN ? BURST_MIN : b > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)b;
}

static void put_class(const struct network_node *n, struct netlink *nl, enum tree t,
                      uint32_t parent, uint32_t minor, uint64_t rate, uint64_t ceil)
{
    rate = rate < TC_RATE_MIN ? TC_RATE_MIN : rate;
    ceil = ceil < rate ? rate : ceil;
    tc_class_put(nl, &(struct tc_class){
                         .ifindex = n->shape->ifindex[t],
                         .parent = HANDLE(n) | parent,
                         .id = HANDLE(n) | minor,
                         .rate = rate,
                         .ceil = ceil,
                         .burst = burst_of(rate),
                         .cburst = burst_of(ceil),
                         .quantum = QUANTUM,
                     });
}

static uint64_t node_rate(const struct network_shape *s, enum tree t)
{
    return s->rate[t] ? s->rate[t] : RATE_FREE;
}

/* The host always has something. */
static void put_host(const struct network_node *n, struct netlink *nl, enum tree t)
{
    uint64_t whole = node_rate(n->shape, t), promised = n->shape->promised[t];
    uint64_t rest = promised < whole ? whole - promised : 0;
    put_class(n, nl, t, MINOR_NODE, MINOR_HOST, rest < whole / 100 ? whole / 100 : rest, whole);
}

static uint32_t queue_of(uint64_t ceil)
{
    uint64_t b = ceil * QUEUE_MS / 1000;
    return b < QUEUE_MIN ? QUEUE_MIN : b > QUEUE_MAX ? QUEUE_MAX : (uint32_t)b;
}

/* fq_codel where the kernel has it; what fails for a want of the moment is tried again at the next
 * leaf. */
static int put_queue(struct network_node *n, struct netlink *nl, enum tree t, uint32_t minor,
                     uint64_t ceil, struct err *err)
{
    struct network_shape *s = n->shape;
    struct err why = {0};
    if (!s->no_codel) {
        tc_leaf_add(nl, s->ifindex[t], HANDLE(n) | minor, true, queue_of(ceil));
        if (netlink_commit(nl, &why) == 0)
            return 0;
    }
    tc_leaf_add(nl, s->ifindex[t], HANDLE(n) | minor, false, queue_of(ceil));
    int r = netlink_commit(nl, err);
    if (r == 0 && (why.sys == ENOENT || why.sys == EOPNOTSUPP))
        s->no_codel = true;
    return r;
}

/* ---- trees ---- */

/* Is the interface's discipline ours?  Somebody else's: ERR_EXISTS. */
int shape_look_at(struct network_node *n, struct netlink *nl, enum tree t, bool *ret_ours,
                  struct err *err)
{
    struct network_shape *s = n->shape;
    struct tc_root root;
    int r = tc_root_get(nl, s->ifindex[t], &root, err);
    if (r < 0)
        return r;
    *ret_ours = root.handle == HANDLE(n) && str_eq(root.kind, "htb");
    if (root.handle == 0 || *ret_ours)
        return 0;
    return err_set(err, ERR_EXISTS,
                   "%s has a queueing discipline that somebody else chose (%s %x:): take it away "
                   "with tc qdisc del dev %s root, or name another network.uplink in terem.conf",
                   t == OUT ? s->uplink : "the IFB", root.kind, root.handle >> 16,
                   t == OUT ? s->uplink : "it");
}

int shape_lay(struct network_node *n, enum tree t, struct err *err)
{
    struct network_shape *s = n->shape;
    struct netlink *nl;
    bool ours = false;
    uint64_t rate = node_rate(s, t);
    int r = network_socket(n, &nl, err);
    if (r == 0)
        r = shape_look_at(n, nl, t, &ours, err);
    if (r < 0)
        return r;
    if (!ours) {
        tc_htb_add(nl, s->ifindex[t], HANDLE(n), MINOR_HOST);
        if (netlink_commit(nl, err) < 0)
            return network_lacks(err, "HTB", "CONFIG_NET_SCH_HTB");
    }
    put_class(n, nl, t, 0, MINOR_NODE, rate, rate);
    put_host(n, nl, t);
    if (t == OUT)
        tc_filter_put(nl,
                      &(struct tc_filter){.ifindex = s->ifindex[t],
                                          .parent = HANDLE(n),
                                          .preference = 1,
                                          .program = classify_program(n->classify, CLASSIFY_UPLINK),
                                          .name = "terem_uplink"});
    r = netlink_commit(nl, err);
    if (r == 0)
        r = put_queue(n, nl, t, MINOR_HOST, rate, err);
    if (r < 0 && !ours) {
        tc_root_delete(nl, s->ifindex[t]);
        netlink_commit(nl, NULL);
    }
    if (r == 0)
        s->laid[t] = true;
    return r < 0 ? err_wrap(err, "cannot divide the bandwidth of %s",
                            t == OUT ? s->uplink : "what comes in")
                 : 0;
}

/* The uplink has its own discipline again when nobody needs ours. */
static void clear_away(struct network_node *n)
{
    struct network_shape *s = n->shape;
    struct netlink *nl;
    bool ours = false;
    if (s->rate[OUT] || !s->laid[OUT])
        return;
    for (size_t i = 0; i < s->n; i++)
        if (shape_tree_of(&s->leaves[i].key) == OUT)
            return;
    if (network_socket(n, &nl, NULL) < 0 || shape_look_at(n, nl, OUT, &ours, NULL) < 0 || !ours)
        return;
    tc_root_delete(nl, s->ifindex[OUT]);
    netlink_commit(nl, NULL);
    s->laid[OUT] = false;
}

/* ---- leaves ---- */

static int put_leaf(struct network_node *n, struct leaf *l, struct err *err)
{
    struct network_shape *s = n->shape;
    enum tree t = shape_tree_of(&l->key);
    struct netlink *nl;
    bool local = l->key.class == NETWORK_CLASS_LOCAL;
    int r = s->laid[t] ? 0 : shape_lay(n, t, err);
    if (r == 0)
        r = network_socket(n, &nl, err);
    if (r < 0)
        return r;
    put_class(n, nl, t, local ? 0 : MINOR_NODE, l->minor, local ? l->ceil : l->rate, l->ceil);
    r = netlink_commit(nl, err);
    if (r == 0)
        r = put_queue(n, nl, t, l->minor, l->ceil, err);
    return r < 0 ? r : classify_leaf_put(n->classify, &l->key, l->minor, err);
}

/* Packets are sent elsewhere before the class goes. */
static void drop_leaf(struct network_node *n, struct leaf *l)
{
    struct network_shape *s = n->shape;
    enum tree t = shape_tree_of(&l->key);
    struct netlink *nl;
    classify_leaf_delete(n->classify, &l->key, NULL);
    if (s->laid[t] && network_socket(n, &nl, NULL) == 0) {
        tc_class_delete(nl, s->ifindex[t], HANDLE(n) | l->minor);
        netlink_commit(nl, NULL);
    }
    shape_take(s, t, l->minor, false);
    *l = s->leaves[--s->n];
}

static int new_leaf(struct network_shape *s, const struct classify_key *key, struct leaf **ret,
                    struct err *err)
{
    enum tree t = shape_tree_of(key);
    unsigned minor = MINOR_FIRST;
    while (minor <= MINOR_LAST && shape_is_taken(s, t, minor))
        minor++;
    if (minor > MINOR_LAST)
        return err_set(err, ERR_EXHAUSTED,
                       "all VEs together have values for %d classes, as many as may be",
                       MINOR_LAST - MINOR_FIRST + 1);
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 64;
        struct leaf *more = reallocarray(s->leaves, cap, sizeof(*more));
        if (!more)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        s->leaves = more;
        s->cap = cap;
    }
    shape_take(s, t, minor, true);
    *ret = &s->leaves[s->n++];
    **ret = (struct leaf){.key = *key, .minor = (uint16_t)minor};
    return 0;
}

static uint64_t bytes_of(uint64_t bits)
{
    return bits == NETWORK_UNLIMITED ? NETWORK_UNLIMITED : bits / 8;
}

/* Writes one leaf; what failed is not remembered as written. */
static int write_one(struct network_node *n, int64_t id, const struct network_share *share,
                     struct err *err)
{
    struct network_shape *s = n->shape;
    struct classify_key key = {(uint64_t)id, share->class, share->in};
    enum tree t = shape_tree_of(&key);
    struct leaf *l = find(s, &key);
    uint64_t whole = node_rate(s, t), rate = bytes_of(share->guarantee),
             ceil = bytes_of(share->ceiling);
    ceil = ceil > whole && share->class != NETWORK_CLASS_LOCAL ? whole : ceil;
    ceil = ceil > RATE_FREE ? RATE_FREE : ceil < TC_RATE_MIN ? TC_RATE_MIN : ceil;
    if (s->why[t][0])
        return err_set(err, ERR_UNSUPPORTED, "%s", s->why[t]);
    if (l && l->rate == rate && l->ceil == ceil)
        return 0;
    bool made = !l;
    int r = l ? 0 : new_leaf(s, &key, &l, err);
    if (r < 0)
        return r;
    struct leaf old = *l;
    l->rate = rate;
    l->ceil = ceil;
    r = put_leaf(n, l, err);
    if (r == 0)
        return 0;
    if (made)
        drop_leaf(n, l);
    else
        *l = old;
    return r;
}

static bool wanted(const struct network_share *shares, size_t count, const struct classify_key *key)
{
    for (size_t i = 0; i < count; i++)
        if (shares[i].class == key->class && shares[i].in == key->in)
            return true;
    return false;
}

/* What the VE has now, so that it can be put back. */
static struct network_share *shares_of(const struct network_shape *s, int64_t id, size_t *ret_n)
{
    size_t n = 0;
    struct network_share *old = calloc(s->n + 1, sizeof(*old));
    for (size_t i = 0; old && i < s->n; i++)
        if (s->leaves[i].key.ve == (uint64_t)id && s->leaves[i].ceil)
            old[n++] = (struct network_share){.class = s->leaves[i].key.class,
                                              .in = s->leaves[i].key.in,
                                              .guarantee = s->leaves[i].rate * 8,
                                              .ceiling = s->leaves[i].ceil * 8};
    *ret_n = n;
    return old;
}

static int write_all(struct network_node *n, int64_t id, const struct network_share *shares,
                     size_t count, struct err *err)
{
    struct network_shape *s = n->shape;
    for (size_t i = 0; i < count; i++) {
        int r = write_one(n, id, &shares[i], err);
        if (r < 0)
            return r;
    }
    for (size_t i = s->n; i-- > 0;)
        if (s->leaves[i].key.ve == (uint64_t)id && !wanted(shares, count, &s->leaves[i].key))
            drop_leaf(n, &s->leaves[i]);
    clear_away(n);
    return 0;
}

int network_shape_apply(struct network_node *n, int64_t id, const struct network_share *shares,
                        size_t count, struct err *err)
{
    struct network_shape *s = n->shape;
    size_t all = count, had = 0;
    if (!s)
        return count ? err_set(err, ERR_UNSUPPORTED, "%s", network_shape_why(n, false)) : 0;
    /* One more each way for classes without values, where they share the node's rate. */
    auto_free struct network_share *list = calloc(count + TREES, sizeof(*list));
    auto_free struct network_share *old = shares_of(s, id, &had);
    if (!list || !old)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (count)
        memcpy(list, shares, count * sizeof(*list));
    for (int t = 0; t < TREES; t++)
        if (s->rate[t] && !s->why[t][0])
            list[all++] = (struct network_share){CLASSIFY_OTHERS, t == IN, 0, NETWORK_UNLIMITED};
    int r = write_all(n, id, list, all, err);
    if (r < 0)
        write_all(n, id, old, had, NULL);
    return r;
}

int network_shape_remove(struct network_node *n, int64_t id, struct err *err)
{
    return n->shape ? write_all(n, id, NULL, 0, err) : 0;
}

int network_shape_list(struct network_node *n, int64_t **ret, size_t *ret_n, struct err *err)
{
    const struct network_shape *s = n->shape;
    size_t k = 0;
    int64_t *ids = calloc(s ? s->n + 1 : 1, sizeof(*ids));
    if (!ids)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; s && i < s->n; i++) {
        size_t at = 0;
        while (at < k && ids[at] != (int64_t)s->leaves[i].key.ve)
            at++;
        if (at == k)
            ids[k++] = (int64_t)s->leaves[i].key.ve;
    }
    *ret = ids;
    *ret_n = k;
    return 0;
}

int network_shape_rest(struct network_node *n, uint64_t out, uint64_t in, struct err *err)
{
    struct network_shape *s = n->shape;
    struct netlink *nl;
    if (!s)
        return 0;
    s->promised[OUT] = out / 8;
    s->promised[IN] = in / 8;
    int r = network_socket(n, &nl, err);
    for (int t = 0; r == 0 && t < TREES; t++) {
        if (s->laid[t])
            put_host(n, nl, (enum tree)t);
        r = netlink_commit(nl, err);
    }
    return r;
}

/* ---- what was dropped ---- */

struct drop_walk {
    const struct network_shape *shape;
    enum tree tree;
    struct network_shape_drop *list;
    size_t n;
};

static int one_drop(void *ctx, const struct tc_class_now *c, struct err *err)
{
    struct drop_walk *w = ctx;
    for (size_t i = 0; i < w->shape->n; i++) {
        const struct leaf *l = &w->shape->leaves[i];
        if (l->minor != (c->id & 0xffff) || shape_tree_of(&l->key) != w->tree)
            continue;
        w->list[w->n++] = (struct network_shape_drop){.id = (int64_t)l->key.ve,
                                                      .class = l->key.class,
                                                      .in = l->key.in,
                                                      .packets = c->dropped};
        break;
    }
    return 0;
}

int network_shape_drops(struct network_node *n, struct network_shape_drop **ret, size_t *ret_n,
                        struct err *err)
{
    const struct network_shape *s = n->shape;
    struct drop_walk w = {.shape = s, .list = calloc(s ? s->n + 1 : 1, sizeof(*w.list))};
    struct netlink *nl;
    if (!w.list)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int r = s ? network_socket(n, &nl, err) : 0;
    for (int t = 0; s && r == 0 && t < TREES; t++) {
        w.tree = (enum tree)t;
        r = s->laid[t] ? tc_class_each(nl, s->ifindex[t], one_drop, &w, err) : 0;
    }
    if (r < 0) {
        free(w.list);
        return r;
    }
    *ret = w.list;
    *ret_n = w.n;
    return 0;
}
