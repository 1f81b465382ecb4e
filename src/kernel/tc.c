/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/tc.h"

#include "base/str.h"
#include "kernel/netlink_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/gen_stats.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <string.h>

#define TICK_NS     64 /* PSCHED_SHIFT of the kernel: HTB's bursts are times in these */
#define NS          1000000000ull
#define CODEL_FLOWS 128 /* of fq_codel: 64 bytes each */

void tc_ifb_add(struct netlink *nl, const char *name)
{
    struct nlmsghdr *h =
        netlink_begin(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, "cannot make an IFB", EEXIST);
    mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
    mnl_attr_put_strz(h, IFLA_IFNAME, name);
    mnl_attr_put_u32(h, IFLA_NUM_TX_QUEUES, 1);
    mnl_attr_put_u32(h, IFLA_NUM_RX_QUEUES, 1);
    struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
    mnl_attr_put_strz(h, IFLA_INFO_KIND, "ifb");
    mnl_attr_nest_end(h, info);
    netlink_end(nl, h);
}

static struct nlmsghdr *tc_begin(struct netlink *nl, uint16_t type, uint16_t flags, int ifindex,
                                 uint32_t parent, uint32_t handle, const char *what, int fine)
{
    struct nlmsghdr *h = netlink_begin(nl, type, flags, what, fine);
    struct tcmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    m->tcm_ifindex = ifindex;
    m->tcm_parent = parent;
    m->tcm_handle = handle;
    return h;
}

void tc_clsact_add(struct netlink *nl, int ifindex)
{
    struct nlmsghdr *h =
        tc_begin(nl, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, ifindex, TC_H_CLSACT,
                 TC_H_MAKE(TC_H_CLSACT, 0), "cannot add clsact to an interface", EEXIST);
    mnl_attr_put_strz(h, TCA_KIND, "clsact");
    netlink_end(nl, h);
}

void tc_clsact_delete(struct netlink *nl, int ifindex)
{
    struct nlmsghdr *h =
        tc_begin(nl, RTM_DELQDISC, 0, ifindex, TC_H_CLSACT, TC_H_MAKE(TC_H_CLSACT, 0),
                 "cannot take clsact from an interface", EINVAL);
    netlink_end(nl, h);
}

static void put_redirect(struct nlmsghdr *h, int ifindex)
{
    struct tc_mirred m = {
        .action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = (uint32_t)ifindex};
    struct nlattr *actions = mnl_attr_nest_start(h, TCA_BPF_ACT);
    struct nlattr *first = mnl_attr_nest_start(h, 1);
    mnl_attr_put_strz(h, TCA_ACT_KIND, "mirred");
    struct nlattr *options = mnl_attr_nest_start(h, TCA_ACT_OPTIONS);
    mnl_attr_put(h, TCA_MIRRED_PARMS, sizeof(m), &m);
    mnl_attr_nest_end(h, options);
    mnl_attr_nest_end(h, first);
    mnl_attr_nest_end(h, actions);
}

void tc_filter_put(struct netlink *nl, const struct tc_filter *f)
{
    struct nlmsghdr *h = tc_begin(nl, RTM_NEWTFILTER, NLM_F_CREATE, f->ifindex, f->parent, 1,
                                  "cannot attach a program to an interface", 0);
    struct tcmsg *m = mnl_nlmsg_get_payload(h);
    m->tcm_info = TC_H_MAKE((uint32_t)f->preference << 16, htons(ETH_P_ALL));
    mnl_attr_put_strz(h, TCA_KIND, "bpf");
    struct nlattr *options = mnl_attr_nest_start(h, TCA_OPTIONS);
    mnl_attr_put_u32(h, TCA_BPF_FD, (uint32_t)f->program);
    mnl_attr_put_strz(h, TCA_BPF_NAME, f->name);
    if (f->redirect)
        put_redirect(h, f->redirect);
    mnl_attr_nest_end(h, options);
    netlink_end(nl, h);
}

/* ---- disciplines ---- */

struct root_walk {
    int ifindex;
    struct tc_root root;
};

static int find_root(void *ctx, const struct nlmsghdr *h, struct err *err)
{
    struct root_walk *w = ctx;
    const struct tcmsg *m = mnl_nlmsg_get_payload(h);
    const struct nlattr *a;
    if (h->nlmsg_type != RTM_NEWQDISC || m->tcm_ifindex != w->ifindex || m->tcm_parent != TC_H_ROOT)
        return 0;
    w->root.handle = m->tcm_handle;
    mnl_attr_for_each(a, h, sizeof(*m)) if (mnl_attr_get_type(a) == TCA_KIND)
        str_print(w->root.kind, sizeof(w->root.kind), "%s", mnl_attr_get_str(a));
    return 0;
}

int tc_root_get(struct netlink *nl, int ifindex, struct tc_root *ret, struct err *err)
{
    struct root_walk w = {.ifindex = ifindex};
    struct nlmsghdr *h = tc_begin(nl, RTM_GETQDISC, NLM_F_DUMP, ifindex, 0, 0,
                                  "cannot look at an interface's queueing disciplines", 0);
    netlink_end(nl, h);
    int r = netlink_ask(nl, find_root, &w, err);
    if (r == 0)
        *ret = w.root;
    return r;
}

void tc_htb_add(struct netlink *nl, int ifindex, uint32_t handle, uint16_t other)
{
    struct tc_htb_glob glob = {.version = TC_HTB_PROTOVER, .rate2quantum = 10, .defcls = other};
    struct nlmsghdr *h = tc_begin(nl, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, ifindex, TC_H_ROOT,
                                  handle, "cannot make HTB the discipline of an interface", 0);
    mnl_attr_put_strz(h, TCA_KIND, "htb");
    struct nlattr *options = mnl_attr_nest_start(h, TCA_OPTIONS);
    mnl_attr_put(h, TCA_HTB_INIT, sizeof(glob), &glob);
    mnl_attr_nest_end(h, options);
    netlink_end(nl, h);
}

void tc_root_delete(struct netlink *nl, int ifindex)
{
    struct nlmsghdr *h = tc_begin(nl, RTM_DELQDISC, 0, ifindex, TC_H_ROOT, 0,
                                  "cannot take an interface's discipline away", ENOENT);
    netlink_end(nl, h);
}

/* ---- classes ---- */

/* How long the rate takes for so many bytes, in ticks. */
static uint32_t ticks(uint64_t bytes, uint64_t rate)
{
    unsigned __int128 t = (unsigned __int128)bytes * NS / rate / TICK_NS;
    return t > UINT32_MAX ? UINT32_MAX : t < 1 ? 1 : (uint32_t)t;
}

/* The kernel's rate tables are not needed where the link layer is told. */
static struct tc_ratespec spec_of(uint64_t rate)
{
    return (struct tc_ratespec){.linklayer = TC_LINKLAYER_ETHERNET,
                                .rate = rate > UINT32_MAX ? UINT32_MAX : (uint32_t)rate};
}

void tc_class_put(struct netlink *nl, const struct tc_class *c)
{
    struct tc_htb_opt opt = {
        .rate = spec_of(c->rate),
        .ceil = spec_of(c->ceil),
        .buffer = ticks(c->burst, c->rate),
        .cbuffer = ticks(c->cburst, c->ceil),
        .quantum = c->quantum,
    };
    struct nlmsghdr *h = tc_begin(nl, RTM_NEWTCLASS, NLM_F_CREATE, c->ifindex, c->parent, c->id,
                                  "cannot write a class of HTB", 0);
    mnl_attr_put_strz(h, TCA_KIND, "htb");
    struct nlattr *options = mnl_attr_nest_start(h, TCA_OPTIONS);
    mnl_attr_put(h, TCA_HTB_PARMS, sizeof(opt), &opt);
    if (c->rate > UINT32_MAX)
        mnl_attr_put_u64(h, TCA_HTB_RATE64, c->rate);
    if (c->ceil > UINT32_MAX)
        mnl_attr_put_u64(h, TCA_HTB_CEIL64, c->ceil);
    mnl_attr_nest_end(h, options);
    netlink_end(nl, h);
}

void tc_class_delete(struct netlink *nl, int ifindex, uint32_t id)
{
    struct nlmsghdr *h =
        tc_begin(nl, RTM_DELTCLASS, 0, ifindex, 0, id, "cannot remove a class of HTB", ENOENT);
    netlink_end(nl, h);
}

void tc_leaf_add(struct netlink *nl, int ifindex, uint32_t parent, bool fq_codel, uint32_t bytes)
{
    struct tc_fifo_qopt fifo = {.limit = bytes};
    struct nlmsghdr *h = tc_begin(nl, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, ifindex, parent, 0,
                                  "cannot add a queue to a class", EEXIST);
    mnl_attr_put_strz(h, TCA_KIND, fq_codel ? "fq_codel" : "bfifo");
    if (!fq_codel) {
        mnl_attr_put(h, TCA_OPTIONS, sizeof(fifo), &fifo);
    } else {
        struct nlattr *options = mnl_attr_nest_start(h, TCA_OPTIONS);
        mnl_attr_put_u32(h, TCA_FQ_CODEL_FLOWS, CODEL_FLOWS);
        mnl_attr_put_u32(h, TCA_FQ_CODEL_MEMORY_LIMIT, 4 * bytes);
        mnl_attr_nest_end(h, options);
    }
    netlink_end(nl, h);
}

struct class_walk {
    int (*item)(void *ctx, const struct tc_class_now *c, struct err *err);
    void *ctx;
};

static void read_stats(const struct nlattr *stats, struct tc_class_now *c)
{
    const struct nlattr *a;
    mnl_attr_for_each_nested(a, stats)
    {
        struct gnet_stats_queue queue;
        if (mnl_attr_get_type(a) == TCA_STATS_QUEUE &&
            mnl_attr_get_payload_len(a) >= sizeof(queue)) {
            memcpy(&queue, mnl_attr_get_payload(a), sizeof(queue));
            c->dropped = queue.drops;
        }
    }
}

static int one_class(void *ctx, const struct nlmsghdr *h, struct err *err)
{
    struct class_walk *w = ctx;
    const struct tcmsg *m = mnl_nlmsg_get_payload(h);
    struct tc_class_now c = {.id = m->tcm_handle};
    const struct nlattr *a;
    bool htb = false;
    if (h->nlmsg_type != RTM_NEWTCLASS)
        return 0;
    mnl_attr_for_each(a, h, sizeof(*m))
    {
        if (mnl_attr_get_type(a) == TCA_KIND)
            htb = str_eq(mnl_attr_get_str(a), "htb");
        else if (mnl_attr_get_type(a) == TCA_STATS2)
            read_stats(a, &c);
    }
    return htb ? w->item(w->ctx, &c, err) : 0;
}

int tc_class_each(struct netlink *nl, int ifindex,
                  int (*item)(void *ctx, const struct tc_class_now *c, struct err *err), void *ctx,
                  struct err *err)
{
    struct class_walk w = {item, ctx};
    struct nlmsghdr *h = tc_begin(nl, RTM_GETTCLASS, NLM_F_DUMP, ifindex, 0, 0,
                                  "cannot look at the classes of an interface", 0);
    netlink_end(nl, h);
    return netlink_ask(nl, one_class, &w, err);
}
