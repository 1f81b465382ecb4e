/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "network/idle.h"

#include "kernel/classify.h"
#include "kernel/tc.h"
#include "network/count.h"
#include "network/internal.h"

#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>

static int need(const struct network_node *n, struct err *err)
{
    return n->classify ? 0 : err_set(err, ERR_UNSUPPORTED, "%s", network_count_why(n));
}

static void put_filter(const struct network_node *n, struct netlink *nl, int ifindex, bool to)
{
    tc_filter_put(nl, &(struct tc_filter){
                          .ifindex = ifindex,
                          .parent = TC_H_MAKE(TC_H_CLSACT, to ? TC_H_MIN_EGRESS : TC_H_MIN_INGRESS),
                          .preference = 1,
                          .program = classify_program(n->classify,
                                                      to ? CLASSIFY_NOTE_TO : CLASSIFY_NOTE_FROM),
                          .name = to ? "terem_note_to" : "terem_note_from",
                      });
}

int network_idle_attach(struct network_node *n, struct netlink *nl, int64_t id, int ifindex,
                        struct err *err)
{
    struct classify_end end = {.ve = (uint64_t)id};
    if (!n->classify)
        return 0;
    int r = classify_end_put(n->classify, ifindex, &end, err);
    if (r < 0)
        return r;
    tc_clsact_add(nl, ifindex);
    put_filter(n, nl, ifindex, false);
    put_filter(n, nl, ifindex, true);
    r = netlink_commit(nl, err);
    return r < 0 ? err_wrap(err, "cannot watch the VE's packets") : 0;
}

void network_idle_detach(struct network_node *n, int ifindex)
{
    if (n->classify)
        classify_end_delete(n->classify, ifindex, NULL);
}

int network_idle_watch(struct network_node *n, int64_t id, struct err *err)
{
    int r = need(n, err);
    return r < 0 ? r : classify_stamp_begin(n->classify, (uint64_t)id, err);
}

void network_idle_forget(struct network_node *n, int64_t id)
{
    network_idle_awake(n, id);
    if (n->classify)
        classify_stamp_end(n->classify, (uint64_t)id, NULL);
}

bool network_idle_used(struct network_node *n, int64_t id, uint64_t *ret_ns)
{
    return n->classify && classify_stamp_get(n->classify, (uint64_t)id, ret_ns);
}

int network_idle_sleep(struct network_node *n, int64_t id, uint64_t used_ns, struct err *err)
{
    int r = need(n, err);
    return r < 0 ? r : classify_sleep_put(n->classify, (uint64_t)id, used_ns, err);
}

void network_idle_awake(struct network_node *n, int64_t id)
{
    if (n->classify)
        classify_sleep_delete(n->classify, (uint64_t)id, NULL);
}

bool network_idle_sleeps(struct network_node *n, int64_t id)
{
    struct classify_sleep sleep;
    uint64_t used;
    return network_idle_used(n, id, &used) &&
           classify_sleep_get(n->classify, (uint64_t)id, &sleep) && !sleep.told &&
           sleep.used_ns == used;
}

static void on_wake(void *ctx, uint64_t ve)
{
    struct network_node *n = ctx;
    n->wake(n->wake_ctx, (int64_t)ve);
}

int network_idle_listen(struct network_node *n, network_wake_fn fn, void *ctx, int *ret_fd,
                        struct err *err)
{
    int r = need(n, err);
    n->wake = fn;
    n->wake_ctx = ctx;
    return r < 0 ? r : classify_wakes_listen(n->classify, on_wake, n, ret_fd, err);
}

int network_idle_hear(struct network_node *n, struct err *err)
{
    return n->classify ? classify_wakes_hear(n->classify, err) : 0;
}
