/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What there is: elements, chains, counters, rules, tracked connections. */
#include "base/str.h"
#include "kernel/nfnl_internal.h"

#include <arpa/inet.h>
#include <endian.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <sys/socket.h>

static int find(struct nfnl *nf, struct nlmsghdr *h, const char *what, bool *ret, struct err *err)
{
    struct err why = {0};
    bool torn = false;
    int r = nfnl_ask(nf, h, nfnl_exists, NULL, &torn, what, &why);
    if (r < 0 && r != -ERR_NOT_FOUND) {
        if (err)
            *err = why;
        return r;
    }
    *ret = r == 0;
    return 0;
}

int nfnl_element_find(struct nfnl *nf, const char *map, const void *key, size_t len, bool *ret,
                      struct err *err)
{
    struct nlmsghdr *h = nfnl_question(nf, NFNL_SUBSYS_NFTABLES, NFT_MSG_GETSETELEM, 0, nf->family);
    nfnl_put_element(nf, h, map, key, len, NULL, NULL);
    return find(nf, h, "cannot look an element up", ret, err);
}

int nfnl_chain_find(struct nfnl *nf, const char *chain, bool *ret, struct err *err)
{
    struct nlmsghdr *h = nfnl_question(nf, NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN, 0, nf->family);
    mnl_attr_put_strz(h, NFTA_CHAIN_TABLE, nf->table);
    mnl_attr_put_strz(h, NFTA_CHAIN_NAME, chain);
    return find(nf, h, "cannot look a chain up", ret, err);
}

int nfnl_table_find(struct nfnl *nf, bool *ret, struct err *err)
{
    struct nlmsghdr *h = nfnl_question(nf, NFNL_SUBSYS_NFTABLES, NFT_MSG_GETTABLE, 0, nf->family);
    mnl_attr_put_strz(h, NFTA_TABLE_NAME, nf->table);
    return find(nf, h, "cannot look a table up", ret, err);
}

/* A dump, again while the ruleset changes under it: item() may be given the same twice. */
#define DUMPS_MAX 8
static int dump(struct nfnl *nf, uint16_t message, uint8_t family, uint16_t table_attribute,
                uint32_t object_type,
                int (*item)(void *ctx, const struct nlmsghdr *h, struct err *err), void *ctx,
                void (*again)(void *ctx), const char *what, struct err *err)
{
    for (int i = 0; i < DUMPS_MAX; i++) {
        bool torn = false;
        struct nlmsghdr *h = nfnl_question(nf, NFNL_SUBSYS_NFTABLES, message, NLM_F_DUMP, family);
        if (table_attribute)
            mnl_attr_put_strz(h, table_attribute, nf->table);
        if (object_type)
            mnl_attr_put_u32(h, NFTA_OBJ_TYPE, htonl(object_type));
        int r = nfnl_ask(nf, h, item, ctx, &torn, what, err);
        if (r < 0 || !torn)
            return r;
        if (again)
            again(ctx);
    }
    return err_set(err, ERR_BUSY, "%s: the rules change all the time", what);
}

/* ---- counters ---- */

static void read_counter(const struct nlattr *data, struct nfnl_counter *c)
{
    const struct nlattr *a;
    mnl_attr_for_each_nested(a, data)
    {
        if (mnl_attr_validate(a, MNL_TYPE_U64) < 0)
            continue;
        if (mnl_attr_get_type(a) == NFTA_COUNTER_PACKETS)
            c->packets = be64toh(mnl_attr_get_u64(a));
        else if (mnl_attr_get_type(a) == NFTA_COUNTER_BYTES)
            c->bytes = be64toh(mnl_attr_get_u64(a));
    }
}

/* Is it a counter of our table?  Older kernels do not leave out the others. */
static bool read_object(const struct nfnl *nf, const struct nlmsghdr *h, struct nfnl_counter *c)
{
    bool ours = false, counter = false;
    const struct nlattr *a;
    *c = (struct nfnl_counter){0};
    mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
    {
        switch (mnl_attr_get_type(a)) {
        case NFTA_OBJ_TABLE:
            ours = mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0 &&
                   str_eq(mnl_attr_get_str(a), nf->table);
            break;
        case NFTA_OBJ_NAME:
            if (mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
                c->name = mnl_attr_get_str(a);
            break;
        case NFTA_OBJ_TYPE:
            counter = mnl_attr_validate(a, MNL_TYPE_U32) >= 0 &&
                      ntohl(mnl_attr_get_u32(a)) == NFT_OBJECT_COUNTER;
            break;
        case NFTA_OBJ_DATA:
            read_counter(a, c);
            break;
        default:
            break;
        }
    }
    return ours && counter && c->name;
}

struct counter_visit {
    struct nfnl *nf;
    int (*item)(void *ctx, const struct nfnl_counter *c, struct err *err);
    void *ctx;
};

static int visit_counter(void *ctx, const struct nlmsghdr *h, struct err *err)
{
    const struct counter_visit *v = ctx;
    struct nfnl_counter c;
    return read_object(v->nf, h, &c) ? v->item(v->ctx, &c, err) : 0;
}

int nfnl_counter_each(struct nfnl *nf,
                      int (*item)(void *ctx, const struct nfnl_counter *c, struct err *err),
                      void *ctx, struct err *err)
{
    struct counter_visit v = {nf, item, ctx};
    return dump(nf, NFT_MSG_GETOBJ, nf->family, NFTA_OBJ_TABLE, NFT_OBJECT_COUNTER, visit_counter,
                &v, NULL, "cannot list packet counters", err);
}

static int one_counter(void *ctx, const struct nfnl_counter *c, struct err *err)
{
    *(struct nfnl_counter *)ctx = (struct nfnl_counter){NULL, c->packets, c->bytes};
    return 0;
}

int nfnl_counter_get(struct nfnl *nf, const char *name, struct nfnl_counter *ret, struct err *err)
{
    struct nfnl_counter c = {0};
    struct counter_visit v = {nf, one_counter, &c};
    struct nlmsghdr *h = nfnl_question(nf, NFNL_SUBSYS_NFTABLES, NFT_MSG_GETOBJ, 0, nf->family);
    mnl_attr_put_strz(h, NFTA_OBJ_TABLE, nf->table);
    mnl_attr_put_strz(h, NFTA_OBJ_NAME, name);
    mnl_attr_put_u32(h, NFTA_OBJ_TYPE, htonl(NFT_OBJECT_COUNTER));
    bool torn = false;
    int r = nfnl_ask(nf, h, visit_counter, &v, &torn, "cannot read a packet counter", err);
    if (r < 0)
        return r;
    *ret = (struct nfnl_counter){name, c.packets, c.bytes};
    return 0;
}

/* ---- chains, rules ---- */

struct chain_visit {
    struct nfnl *nf;
    int (*item)(void *ctx, const char *name, struct err *err);
    void *ctx;
};

static int visit_chain(void *ctx, const struct nlmsghdr *h, struct err *err)
{
    const struct chain_visit *v = ctx;
    const struct nlattr *a;
    const char *table = NULL, *name = NULL;
    mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
    {
        uint16_t type = mnl_attr_get_type(a);
        if ((type == NFTA_CHAIN_TABLE || type == NFTA_CHAIN_NAME) &&
            mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
            *(type == NFTA_CHAIN_TABLE ? &table : &name) = mnl_attr_get_str(a);
    }
    return name && str_eq(table, v->nf->table) ? v->item(v->ctx, name, err) : 0;
}

int nfnl_chain_each(struct nfnl *nf, int (*item)(void *ctx, const char *name, struct err *err),
                    void *ctx, struct err *err)
{
    struct chain_visit v = {nf, item, ctx};
    return dump(nf, NFT_MSG_GETCHAIN, nf->family, 0, 0, visit_chain, &v, NULL,
                "cannot list packet chains", err);
}

static int count_rule(void *ctx, const struct nlmsghdr *h, struct err *err)
{
    *(uint64_t *)ctx += h->nlmsg_type == (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE);
    return 0;
}

static void count_again(void *ctx)
{
    *(uint64_t *)ctx = 0;
}

int nfnl_rules(struct nfnl *nf, uint64_t *ret, struct err *err)
{
    uint64_t n = 0;
    int r = dump(nf, NFT_MSG_GETRULE, NFPROTO_UNSPEC, 0, 0, count_rule, &n, count_again,
                 "cannot list firewall rules", err);
    if (r == 0)
        *ret = n;
    return r;
}

/* ---- connections ---- */

static const void *tuple_source(const struct nlattr *tuple, int family)
{
    const struct nlattr *a, *b;
    uint16_t wanted = family == AF_INET ? CTA_IP_V4_SRC : CTA_IP_V6_SRC;
    mnl_attr_for_each_nested(a, tuple)
    {
        if (mnl_attr_get_type(a) != CTA_TUPLE_IP)
            continue;
        mnl_attr_for_each_nested(b, a)
        {
            if (mnl_attr_get_type(b) == wanted &&
                mnl_attr_get_payload_len(b) == (family == AF_INET ? 4 : 16))
                return mnl_attr_get_payload(b);
        }
    }
    return NULL;
}

static bool tcp_closed(const struct nlattr *info)
{
    const struct nlattr *a, *b;
    mnl_attr_for_each_nested(a, info)
    {
        if (mnl_attr_get_type(a) != CTA_PROTOINFO_TCP)
            continue;
        mnl_attr_for_each_nested(b, a)
        {
            if (mnl_attr_get_type(b) == CTA_PROTOINFO_TCP_STATE &&
                mnl_attr_validate(b, MNL_TYPE_U8) >= 0)
                return mnl_attr_get_u8(b) == TCP_CONNTRACK_TIME_WAIT ||
                       mnl_attr_get_u8(b) == TCP_CONNTRACK_CLOSE;
        }
    }
    return false;
}

struct connection_visit {
    int (*item)(void *ctx, const struct nfnl_connection *c, struct err *err);
    void *ctx;
};

static int visit_connection(void *ctx, const struct nlmsghdr *h, struct err *err)
{
    const struct connection_visit *v = ctx;
    const struct nfgenmsg *g = mnl_nlmsg_get_payload(h);
    struct nfnl_connection c = {.family = g->nfgen_family};
    const struct nlattr *a;
    if (c.family != AF_INET && c.family != AF_INET6)
        return 0;
    mnl_attr_for_each(a, h, sizeof(*g))
    {
        if (mnl_attr_get_type(a) == CTA_TUPLE_ORIG)
            c.original = tuple_source(a, c.family);
        else if (mnl_attr_get_type(a) == CTA_TUPLE_REPLY)
            c.reply = tuple_source(a, c.family);
        else if (mnl_attr_get_type(a) == CTA_PROTOINFO)
            c.closed = tcp_closed(a);
    }
    return c.original && c.reply ? v->item(v->ctx, &c, err) : 0;
}

/* The kernel's own name for it is in no header that it gives out (nf_internals.h). */
#define FILTER_IP_SOURCE 1u

static void put_side(struct nlmsghdr *h, const struct nfnl_side *side)
{
    bool v4 = side->family == AF_INET;
    struct nlattr *tuple = mnl_attr_nest_start(h, side->reply ? CTA_TUPLE_REPLY : CTA_TUPLE_ORIG);
    struct nlattr *address = mnl_attr_nest_start(h, CTA_TUPLE_IP);
    mnl_attr_put(h, v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, v4 ? 4 : 16, side->address);
    mnl_attr_nest_end(h, address);
    mnl_attr_nest_end(h, tuple);
    struct nlattr *filter = mnl_attr_nest_start(h, CTA_FILTER);
    mnl_attr_put_u32(h, CTA_FILTER_ORIG_FLAGS, side->reply ? 0 : FILTER_IP_SOURCE);
    mnl_attr_put_u32(h, CTA_FILTER_REPLY_FLAGS, side->reply ? FILTER_IP_SOURCE : 0);
    mnl_attr_nest_end(h, filter);
}

int nfnl_connection_each(struct nfnl *nf, const struct nfnl_side *side,
                         int (*item)(void *ctx, const struct nfnl_connection *c, struct err *err),
                         void *ctx, struct err *err)
{
    struct connection_visit v = {item, ctx};
    bool torn = false;
    struct nlmsghdr *h = nfnl_question(nf, NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET, NLM_F_DUMP,
                                       side ? (uint8_t)side->family : AF_UNSPEC);
    if (side && side->address)
        put_side(h, side);
    return nfnl_ask(nf, h, visit_connection, &v, &torn, "cannot list tracked connections", err);
}
