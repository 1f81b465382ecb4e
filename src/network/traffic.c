/* SPDX-License-Identifier: GPL-2.0-or-later */
/* traffic — bytes and packets of every VE's cable, from one answer of the kernel. */
#include "base/cleanup.h"
#include "network/internal.h"

struct traffic_list {
    const struct network_node *n;
    struct network_traffic *t;
    size_t len, cap;
};

static int collect(void *ctx, const struct netlink_link *l, struct err *err)
{
    struct traffic_list *list = ctx;
    int64_t id;
    if (!network_end_id(list->n, l->name, &id))
        return 0;
    if (list->len == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        struct network_traffic *t = reallocarray(list->t, cap, sizeof(*t));
        if (!t)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        list->t = t;
        list->cap = cap;
    }
    /* What the host's end sends is what the VE gets. */
    list->t[list->len++] = (struct network_traffic){
        .id = id,
        .counters = {.in_bytes = l->tx_bytes,
                     .in_packets = l->tx_packets,
                     .out_bytes = l->rx_bytes,
                     .out_packets = l->rx_packets},
    };
    return 0;
}

static int compare_id(const void *a, const void *b)
{
    const struct network_traffic *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

int network_traffic_all(struct network_node *n, struct network_traffic **ret, size_t *ret_n,
                        struct err *err)
{
    struct traffic_list list = {.n = n};
    struct netlink *nl;
    int r = network_socket(n, &nl, err);
    if (r == 0)
        r = netlink_link_each_counted(nl, "veth", collect, &list, err);
    if (r < 0) {
        free(list.t);
        return r;
    }
    if (list.len)
        qsort(list.t, list.len, sizeof(*list.t), compare_id);
    *ret = list.t;
    *ret_n = list.len;
    return 0;
}

const struct network_counters *network_traffic_of(const struct network_traffic *t, size_t n,
                                                  int64_t id)
{
    struct network_traffic key = {.id = id};
    const struct network_traffic *found = n ? bsearch(&key, t, n, sizeof(*t), compare_id) : NULL;
    return found ? &found->counters : NULL;
}
