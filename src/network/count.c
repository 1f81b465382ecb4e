/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "network/count.h"

#include "base/cleanup.h"
#include "kernel/classify.h"
#include "kernel/tc.h"
#include "network/internal.h"
#include "network/private.h"

#include <errno.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(NETWORK_CLASS_ANY == CLASSIFY_ANY && NETWORK_CLASS_LOCAL == CLASSIFY_LOCAL,
               "the programs know these numbers");
/* Of address pools there is room for as many again; one that finds none is refused. */
_Static_assert(2 * NETWORK_PREFIXES_MAX <= CLASSIFY_PREFIXES_MAX, "the tries take them all");

/* Where our filters stand among others' of an interface. */
#define PREFERENCE 1

int network_count_open(struct network_node *n, const char *dir, struct err *err)
{
    struct err why = {0};
    if (classify_open(dir, &n->classify, &why) < 0)
        str_print(n->classify_why, sizeof(n->classify_why), "%s", why.text);
    return 0;
}

const char *network_count_why(const struct network_node *n)
{
    if (n->classify)
        return NULL;
    return *n->classify_why ? n->classify_why : "no BPF programs were asked for";
}

/* ---- prefixes ---- */

/* What a VE sends there stays on its cable, or on the node. */
static const char *const on_cable[] = {"169.254.0.0/16", "224.0.0.0/3", "fe80::/10", "ff00::/8"};

struct all_prefixes {
    const struct network_prefixes *list;
    const struct network_prefix *local;
    size_t n_local;
};

int network_prefixes_fixed(const struct network_node *n, struct network_prefix **ret, size_t *ret_n,
                           struct err *err)
{
    auto_free struct network_prefix *list = NULL;
    size_t k;
    int r = network_prefixes_local(n, &list, &k, err);
    struct network_prefix *p =
        r < 0 ? NULL : reallocarray(list, k + ARRAY_SIZE(on_cable), sizeof(*p));
    if (!p)
        return r < 0 ? r : err_set(err, ERR_EXHAUSTED, "out of memory");
    list = NULL; /* it is p now */
    for (size_t i = 0; i < ARRAY_SIZE(on_cable); i++)
        if (network_prefix_parse(on_cable[i], &p[k], NULL) == 0)
            p[k++].class = NETWORK_CLASS_LOCAL;
    *ret = p;
    *ret_n = k;
    return 0;
}

/* The longest prefix decides: what a class has in a pool that was made later is local, too. */
static struct classify_prefix prefix_at(void *ctx, size_t i)
{
    const struct all_prefixes *all = ctx;
    const struct network_prefix *p =
        i < all->list->n ? &all->list->p[i] : &all->local[i - all->list->n];
    uint32_t class = p->class;
    for (size_t k = 0; k < all->n_local && class != NETWORK_CLASS_LOCAL; k++)
        if (network_prefix_holds(&all->local[k], p))
            class = NETWORK_CLASS_LOCAL;
    return (struct classify_prefix){p->family, p->length, class, p->address};
}

int network_count_prefixes(struct network_node *n, const struct network_prefixes *list,
                           struct err *err)
{
    auto_free struct network_prefix *local = NULL;
    size_t n_local = 0;
    if (!n->classify)
        return 0;
    int r = network_prefixes_fixed(n, &local, &n_local, err);
    struct all_prefixes all = {list, local, n_local};
    return r < 0 ? r : classify_prefixes_put(n->classify, prefix_at, &all, list->n + n_local, err);
}

/* ---- host ends ---- */

static void put_filters(struct network_node *n, struct netlink *nl, int ifindex)
{
    tc_clsact_add(nl, ifindex);
    tc_filter_put(nl, &(struct tc_filter){
                          .ifindex = ifindex,
                          .parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS),
                          .preference = PREFERENCE,
                          .program = classify_program(n->classify, CLASSIFY_FROM_VE),
                          .name = "terem_from_ve",
                          .redirect = n->lender,
                      });
    tc_filter_put(nl, &(struct tc_filter){
                          .ifindex = ifindex,
                          .parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS),
                          .preference = PREFERENCE,
                          .program = classify_program(n->classify, CLASSIFY_TO_VE),
                          .name = "terem_to_ve",
                          .redirect = n->lender,
                      });
}

int network_lacks(struct err *err, const char *part, const char *config)
{
    if (err->sys != ENOENT && err->sys != EOPNOTSUPP)
        return -(int)err->kind;
    return err_set(err, ERR_UNSUPPORTED, "this kernel has no %s; choose one with %s", part, config);
}

int network_count_probe(struct network_node *n, struct err *err)
{
    int bridge = (int)if_nametoindex(n->name);
    struct netlink *nl;
    int r = network_socket(n, &nl, err);
    if (r < 0 || !n->classify)
        return r;
    tc_clsact_add(nl, bridge);
    r = netlink_commit(nl, err);
    if (r < 0)
        return network_lacks(err, "clsact", "CONFIG_NET_SCH_INGRESS");
    put_filters(n, nl, bridge);
    r = netlink_commit(nl, err);
    if (r < 0)
        r = n->lender ? network_lacks(err, "mirred action", "CONFIG_NET_ACT_MIRRED")
                      : network_lacks(err, "BPF classifier", "CONFIG_NET_CLS_BPF");
    tc_clsact_delete(nl, bridge);
    netlink_commit(nl, NULL);
    return r;
}

void network_count_give_up(struct network_node *n, const char *why)
{
    str_print(n->classify_why, sizeof(n->classify_why), "%s", why);
    classify_close(n->classify);
    n->classify = NULL;
}

int network_count_attach(struct network_node *n, struct netlink *nl, int64_t id, int ifindex,
                         struct err *err)
{
    if (!n->classify)
        return 0;
    struct classify_end end = {.ve = (uint64_t)id};
    int r = classify_end_put(n->classify, ifindex, &end, err);
    if (r < 0)
        return r;
    put_filters(n, nl, ifindex);
    r = netlink_commit(nl, err);
    return r < 0 ? err_wrap(err, "cannot count the VE's packets") : 0;
}

struct ends_of {
    uint64_t ve;
    int ifindex[1 + NETWORK_PRIVATE_PORTS];
    size_t n;
};

static int collect_end(void *ctx, int ifindex, const struct classify_end *end, struct err *err)
{
    struct ends_of *e = ctx;
    if (end->ve == e->ve && e->n < ARRAY_SIZE(e->ifindex))
        e->ifindex[e->n++] = ifindex;
    return 0;
}

void network_count_detached(struct network_node *n, int64_t id)
{
    struct ends_of e = {.ve = (uint64_t)id};
    if (!n->classify || classify_end_each(n->classify, collect_end, &e, NULL) < 0)
        return;
    for (size_t i = 0; i < e.n; i++)
        classify_end_delete(n->classify, e.ifindex[i], NULL);
}

struct cables {
    const struct network_node *n;
    struct cable_end {
        int64_t id;
        int ifindex;
    } * v;
    size_t len, cap;
};

static int collect_cable(void *ctx, const struct netlink_link *l, struct err *err)
{
    struct cables *c = ctx;
    int64_t id;
    if (!network_end_id(c->n, l->name, &id))
        return 0;
    if (c->len == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 64;
        struct cable_end *v = reallocarray(c->v, cap, sizeof(*v));
        if (!v)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        c->v = v;
        c->cap = cap;
    }
    c->v[c->len++] = (struct cable_end){id, l->ifindex};
    return 0;
}

int network_count_renew(struct network_node *n, bool always, struct err *err)
{
    struct cables c = {.n = n};
    struct netlink *nl;
    if (!n->classify || (!always && !classify_fresh(n->classify)))
        return 0;
    int r = network_socket(n, &nl, err);
    if (r == 0)
        r = netlink_link_each(nl, "veth", collect_cable, &c, err);
    for (size_t i = 0; r == 0 && i < c.len; i++)
        r = network_count_attach(n, nl, c.v[i].id, c.v[i].ifindex, err);
    free(c.v);
    return r;
}

/* ---- what was counted ---- */

static int compare(const void *a, const void *b)
{
    const struct network_count *x = a, *y = b;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    if (x->class != y->class)
        return x->class < y->class ? -1 : 1;
    return x->in - y->in;
}

int network_counts(struct network_node *n, struct network_count **ret, size_t *ret_n,
                   struct err *err)
{
    auto_free struct classify_counted *all = NULL;
    size_t len = 0;
    if (!n->classify)
        return err_set(err, ERR_UNSUPPORTED, "%s", network_count_why(n));
    int r = classify_counts(n->classify, &all, &len, err);
    if (r < 0)
        return r;
    struct network_count *list = calloc(len + 1, sizeof(*list));
    if (!list)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < len; i++)
        list[i] = (struct network_count){.id = (int64_t)all[i].key.ve,
                                         .class = all[i].key.class,
                                         .in = all[i].key.in,
                                         .bytes = all[i].count.bytes,
                                         .packets = all[i].count.packets};
    qsort(list, len, sizeof(*list), compare);
    *ret = list;
    *ret_n = len;
    return 0;
}

uint32_t network_counts_epoch(const struct network_node *n)
{
    return n->classify ? classify_counts_id(n->classify) : 0;
}

bool network_count_of(struct network_node *n, int64_t id, uint32_t class, bool in,
                      struct network_count *ret)
{
    struct classify_key key = {(uint64_t)id, class, in};
    struct classify_count count;
    if (!n->classify || !classify_count_get(n->classify, &key, &count))
        return false;
    *ret = (struct network_count){id, class, in, count.bytes, count.packets};
    return true;
}

const struct network_count *network_counts_of(const struct network_count *list, size_t n,
                                              int64_t id, size_t *ret_n)
{
    size_t low = 0, high = n, len = 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (list[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    while (low + len < n && list[low + len].id == id)
        len++;
    *ret_n = len;
    return list + low;
}

int network_count_forget(struct network_node *n, int64_t id, uint32_t class, bool in,
                         struct err *err)
{
    struct classify_key key = {(uint64_t)id, class, in};
    return n->classify ? classify_count_delete(n->classify, &key, err) : 0;
}
