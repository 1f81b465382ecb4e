/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/nfnl.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

#define BATCH_SIZE  16384
#define MESSAGE_MAX 512 /* no request of ours is longer */

struct nfnl {
    struct mnl_socket *sock;
    char table[32];
    uint32_t seq, first; /* first: of the batch's begin */
    size_t len;
    struct nlmsghdr *last;
    bool full;
    char question[MESSAGE_MAX] __attribute__((aligned(8)));
    char batch[BATCH_SIZE] __attribute__((aligned(8)));
    char answer[65536] __attribute__((aligned(8)));
};

static int open_groups(const char *table, unsigned groups, struct nfnl **ret, struct err *err)
{
    struct nfnl *nf = malloc(sizeof(*nf));
    if (!nf)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    nf->seq = 1;
    nf->len = 0;
    nf->last = NULL;
    nf->full = false;
    nf->sock = NULL;
    if (str_print(nf->table, sizeof(nf->table), "%s", table) < 0) {
        nfnl_close(nf);
        return err_set(err, ERR_INTERNAL, "the table's name %s is too long", table);
    }
    nf->sock = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | (groups ? SOCK_NONBLOCK : 0));
    if (!nf->sock || mnl_socket_bind(nf->sock, groups, MNL_SOCKET_AUTOPID) < 0) {
        int sys = errno;
        nfnl_close(nf);
        return err_sysno(err, sys, "cannot open a netlink socket to netfilter");
    }
    int one = 1;
    mnl_socket_setsockopt(nf->sock, NETLINK_CAP_ACK, &one, sizeof(one));
    *ret = nf;
    return 0;
}

int nfnl_open(const char *table, struct nfnl **ret, struct err *err)
{
    return open_groups(table, 0, ret, err);
}

void nfnl_close(struct nfnl *nf)
{
    if (!nf)
        return;
    if (nf->sock)
        mnl_socket_close(nf->sock);
    free(nf);
}

static struct nlmsghdr *put(struct nfnl *nf, char *where, uint16_t type, uint16_t flags,
                            uint8_t family, uint16_t res_id)
{
    struct nlmsghdr *h = mnl_nlmsg_put_header(where);
    h->nlmsg_type = type;
    h->nlmsg_flags = NLM_F_REQUEST | flags;
    h->nlmsg_seq = nf->seq++;
    struct nfgenmsg *g = mnl_nlmsg_put_extra_header(h, sizeof(*g));
    g->nfgen_family = family;
    g->version = NFNETLINK_V0;
    g->res_id = htons(res_id);
    return h;
}

static void end(struct nfnl *nf, struct nlmsghdr *h)
{
    nf->len += NLMSG_ALIGN(h->nlmsg_len);
    nf->last = h;
}

/* A request of the transaction, which the first one opens.  One that is too long is told by the
 * commit. */
static struct nlmsghdr *begin(struct nfnl *nf, uint16_t message, uint16_t flags)
{
    if (nf->len + 2 * MESSAGE_MAX > BATCH_SIZE) {
        nf->full = true;
        nf->len = 0; /* somewhere to write to; nothing of it is sent */
    }
    if (nf->len == 0) {
        nf->first = nf->seq;
        end(nf, put(nf, nf->batch, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
    }
    return put(nf, nf->batch + nf->len, NFNL_SUBSYS_NFTABLES << 8 | message, flags, NFPROTO_INET,
               0);
}

static struct nlmsghdr *object(struct nfnl *nf, uint16_t message, uint16_t flags, uint32_t type,
                               const char *name)
{
    struct nlmsghdr *h = begin(nf, message, flags);
    mnl_attr_put_strz(h, NFTA_OBJ_TABLE, nf->table);
    mnl_attr_put_strz(h, NFTA_OBJ_NAME, name);
    mnl_attr_put_u32(h, NFTA_OBJ_TYPE, htonl(type));
    return h;
}

void nfnl_counter_add(struct nfnl *nf, const char *name)
{
    struct nlmsghdr *h = object(nf, NFT_MSG_NEWOBJ, NLM_F_CREATE, NFT_OBJECT_COUNTER, name);
    struct nlattr *data = mnl_attr_nest_start(h, NFTA_OBJ_DATA);
    mnl_attr_nest_end(h, data);
    end(nf, h);
}

void nfnl_limit_add(struct nfnl *nf, const char *name, uint64_t rate, uint32_t burst, bool over)
{
    struct nlmsghdr *h = object(nf, NFT_MSG_NEWOBJ, NLM_F_CREATE, NFT_OBJECT_LIMIT, name);
    struct nlattr *data = mnl_attr_nest_start(h, NFTA_OBJ_DATA);
    mnl_attr_put_u64(h, NFTA_LIMIT_RATE, htobe64(rate));
    mnl_attr_put_u64(h, NFTA_LIMIT_UNIT, htobe64(1));
    mnl_attr_put_u32(h, NFTA_LIMIT_BURST, htonl(burst));
    mnl_attr_put_u32(h, NFTA_LIMIT_TYPE, htonl(NFT_LIMIT_PKTS));
    mnl_attr_put_u32(h, NFTA_LIMIT_FLAGS, htonl(over ? NFT_LIMIT_F_INV : 0));
    mnl_attr_nest_end(h, data);
    end(nf, h);
}

void nfnl_counter_delete(struct nfnl *nf, const char *name)
{
    end(nf, object(nf, NFT_MSG_DELOBJ, 0, NFT_OBJECT_COUNTER, name));
}

void nfnl_limit_delete(struct nfnl *nf, const char *name)
{
    end(nf, object(nf, NFT_MSG_DELOBJ, 0, NFT_OBJECT_LIMIT, name));
}

static void put_key(struct nlmsghdr *h, const void *key, size_t len)
{
    struct nlattr *k = mnl_attr_nest_start(h, NFTA_SET_ELEM_KEY);
    mnl_attr_put(h, NFTA_DATA_VALUE, len, key);
    mnl_attr_nest_end(h, k);
}

/* One element; its value is an object's name, or a chain's, or none. */
static void put_element(struct nfnl *nf, struct nlmsghdr *h, const char *map, const void *key,
                        size_t len, const char *object, const char *chain)
{
    mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_TABLE, nf->table);
    mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, map);
    struct nlattr *list = mnl_attr_nest_start(h, NFTA_SET_ELEM_LIST_ELEMENTS);
    struct nlattr *one = mnl_attr_nest_start(h, NFTA_LIST_ELEM);
    put_key(h, key, len);
    if (object)
        mnl_attr_put_strz(h, NFTA_SET_ELEM_OBJREF, object);
    if (chain) {
        struct nlattr *data = mnl_attr_nest_start(h, NFTA_SET_ELEM_DATA);
        struct nlattr *verdict = mnl_attr_nest_start(h, NFTA_DATA_VERDICT);
        mnl_attr_put_u32(h, NFTA_VERDICT_CODE, htonl((uint32_t)NFT_JUMP));
        mnl_attr_put_strz(h, NFTA_VERDICT_CHAIN, chain);
        mnl_attr_nest_end(h, verdict);
        mnl_attr_nest_end(h, data);
    }
    mnl_attr_nest_end(h, one);
    mnl_attr_nest_end(h, list);
}

void nfnl_element_add(struct nfnl *nf, const char *map, const void *key, size_t len,
                      const char *object)
{
    struct nlmsghdr *h = begin(nf, NFT_MSG_NEWSETELEM, NLM_F_CREATE);
    put_element(nf, h, map, key, len, object, NULL);
    end(nf, h);
}

void nfnl_element_jump(struct nfnl *nf, const char *map, const void *key, size_t len,
                       const char *chain)
{
    struct nlmsghdr *h = begin(nf, NFT_MSG_NEWSETELEM, NLM_F_CREATE);
    put_element(nf, h, map, key, len, NULL, chain);
    end(nf, h);
}

void nfnl_element_delete(struct nfnl *nf, const char *map, const void *key, size_t len)
{
    struct nlmsghdr *h = begin(nf, NFT_MSG_DELSETELEM, 0);
    put_element(nf, h, map, key, len, NULL, NULL);
    end(nf, h);
}

void nfnl_chain_delete(struct nfnl *nf, const char *chain)
{
    struct nlmsghdr *h = begin(nf, NFT_MSG_DELCHAIN, 0);
    mnl_attr_put_strz(h, NFTA_CHAIN_TABLE, nf->table);
    mnl_attr_put_strz(h, NFTA_CHAIN_NAME, chain);
    end(nf, h);
}

void nfnl_set_delete(struct nfnl *nf, const char *set)
{
    struct nlmsghdr *h = begin(nf, NFT_MSG_DELSET, 0);
    mnl_attr_put_strz(h, NFTA_SET_TABLE, nf->table);
    mnl_attr_put_strz(h, NFTA_SET_NAME, set);
    end(nf, h);
}

void nfnl_forget(struct nfnl *nf)
{
    nf->len = 0;
    nf->full = false;
}

/*
 * The kernel has answered everything when sendto() returns: each refused request, the last one's
 * acknowledgement, or, when the transaction as a whole failed, a refusal of its begin.
 */
int nfnl_commit(struct nfnl *nf, struct err *err)
{
    if (nf->full) {
        nf->full = false;
        nf->len = 0;
        return err_set(err, ERR_INTERNAL, "too many requests to netfilter at once");
    }
    if (nf->len == 0)
        return 0;
    nf->last->nlmsg_flags |= NLM_F_ACK;
    uint32_t final = nf->last->nlmsg_seq;
    end(nf, put(nf, nf->batch + nf->len, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
    size_t len = nf->len;
    nf->len = 0;
    if (mnl_socket_sendto(nf->sock, nf->batch, len) < 0)
        return err_sys(err, "cannot send a transaction to netfilter");
    int result = 0;
    bool answered = false;
    for (;;) {
        ssize_t got =
            recv(mnl_socket_get_fd(nf->sock), nf->answer, sizeof(nf->answer), MSG_DONTWAIT);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            break;
        if (got < 0)
            return err_sys(err, "cannot read netfilter's answers");
        int left = (int)got;
        for (struct nlmsghdr *h = (void *)nf->answer; mnl_nlmsg_ok(h, left);
             h = mnl_nlmsg_next(h, &left)) {
            const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
            if (h->nlmsg_type != NLMSG_ERROR || h->nlmsg_seq < nf->first || h->nlmsg_seq > final)
                continue;
            answered = true;
            if (e->error && result == 0)
                result = err_sysno(err, -e->error, "netfilter refused a change");
        }
    }
    return answered ? result : err_set(err, ERR_SYSTEM, "netfilter did not answer");
}

/* Sends one request and hands each answer to item().  *torn: the ruleset changed meanwhile. */
static int ask(struct nfnl *nf, struct nlmsghdr *request,
               int (*item)(void *ctx, const struct nlmsghdr *h, struct err *err), void *ctx,
               bool *torn, const char *what, struct err *err)
{
    bool dump = (request->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
    uint32_t seq = request->nlmsg_seq;
    if (mnl_socket_sendto(nf->sock, request, request->nlmsg_len) < 0)
        return err_sys(err, "%s", what);
    int result = 0;
    for (;;) {
        ssize_t got = mnl_socket_recvfrom(nf->sock, nf->answer, sizeof(nf->answer));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_sys(err, "%s", what);
        int left = (int)got;
        for (struct nlmsghdr *h = (void *)nf->answer; mnl_nlmsg_ok(h, left);
             h = mnl_nlmsg_next(h, &left)) {
            if (h->nlmsg_seq != seq)
                continue;
            *torn |= (h->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
            if (h->nlmsg_type == NLMSG_DONE)
                return result;
            if (h->nlmsg_type == NLMSG_ERROR) {
                const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
                return e->error ? err_sysno(err, -e->error, "%s", what) : result;
            }
            /* Even after item() failed the rest is read: the socket must be clean. */
            if (result == 0)
                result = item(ctx, h, err);
            if (!dump)
                return result;
        }
    }
}

/* A request outside of a transaction; what is queued stays queued. */
static struct nlmsghdr *question(struct nfnl *nf, uint16_t subsystem, uint16_t message,
                                 uint16_t flags, uint8_t family)
{
    return put(nf, nf->question, (uint16_t)(subsystem << 8 | message), flags, family, 0);
}

static int exists(void *ctx, const struct nlmsghdr *h, struct err *err)
{
    return 0;
}

static int find(struct nfnl *nf, struct nlmsghdr *h, const char *what, bool *ret, struct err *err)
{
    struct err why = {0};
    bool torn;
    int r = ask(nf, h, exists, NULL, &torn, what, &why);
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
    struct nlmsghdr *h = question(nf, NFNL_SUBSYS_NFTABLES, NFT_MSG_GETSETELEM, 0, NFPROTO_INET);
    put_element(nf, h, map, key, len, NULL, NULL);
    return find(nf, h, "cannot look an element up", ret, err);
}

int nfnl_chain_find(struct nfnl *nf, const char *chain, bool *ret, struct err *err)
{
    struct nlmsghdr *h = question(nf, NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN, 0, NFPROTO_INET);
    mnl_attr_put_strz(h, NFTA_CHAIN_TABLE, nf->table);
    mnl_attr_put_strz(h, NFTA_CHAIN_NAME, chain);
    return find(nf, h, "cannot look a chain up", ret, err);
}

int nfnl_table_find(struct nfnl *nf, bool *ret, struct err *err)
{
    struct nlmsghdr *h = question(nf, NFNL_SUBSYS_NFTABLES, NFT_MSG_GETTABLE, 0, NFPROTO_INET);
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
        struct nlmsghdr *h = question(nf, NFNL_SUBSYS_NFTABLES, message, NLM_F_DUMP, family);
        if (table_attribute)
            mnl_attr_put_strz(h, table_attribute, nf->table);
        if (object_type)
            mnl_attr_put_u32(h, NFTA_OBJ_TYPE, htonl(object_type));
        int r = ask(nf, h, item, ctx, &torn, what, err);
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
    return dump(nf, NFT_MSG_GETOBJ, NFPROTO_INET, NFTA_OBJ_TABLE, NFT_OBJECT_COUNTER, visit_counter,
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
    struct nlmsghdr *h = question(nf, NFNL_SUBSYS_NFTABLES, NFT_MSG_GETOBJ, 0, NFPROTO_INET);
    mnl_attr_put_strz(h, NFTA_OBJ_TABLE, nf->table);
    mnl_attr_put_strz(h, NFTA_OBJ_NAME, name);
    mnl_attr_put_u32(h, NFTA_OBJ_TYPE, htonl(NFT_OBJECT_COUNTER));
    bool torn;
    int r = ask(nf, h, visit_counter, &v, &torn, "cannot read a packet counter", err);
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
    return dump(nf, NFT_MSG_GETCHAIN, NFPROTO_INET, 0, 0, visit_chain, &v, NULL,
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

int nfnl_connection_each(struct nfnl *nf,
                         int (*item)(void *ctx, const struct nfnl_connection *c, struct err *err),
                         void *ctx, struct err *err)
{
    struct connection_visit v = {item, ctx};
    bool torn = false;
    struct nlmsghdr *h =
        question(nf, NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET, NLM_F_DUMP, AF_UNSPEC);
    return ask(nf, h, visit_connection, &v, &torn, "cannot list tracked connections", err);
}

/* ---- what others do to the ruleset ---- */

int nfnl_watch_open(const char *table, struct nfnl **ret, struct err *err)
{
    return open_groups(table, 1u << (NFNLGRP_NFTABLES - 1), ret, err);
}

int nfnl_fd(const struct nfnl *nf)
{
    return mnl_socket_get_fd(nf->sock);
}

static bool deletes(const struct nfnl *nf, const struct nlmsghdr *h)
{
    const struct nlattr *a;
    const struct nfgenmsg *g = mnl_nlmsg_get_payload(h);
    if (h->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE) ||
        g->nfgen_family != NFPROTO_INET)
        return false;
    mnl_attr_for_each(a, h, sizeof(*g))
    {
        if (mnl_attr_get_type(a) == NFTA_TABLE_NAME &&
            mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0 &&
            str_eq(mnl_attr_get_str(a), nf->table))
            return true;
    }
    return false;
}

int nfnl_watch_read(struct nfnl *nf, bool *ret, struct err *err)
{
    *ret = false;
    for (;;) {
        ssize_t got = mnl_socket_recvfrom(nf->sock, nf->answer, sizeof(nf->answer));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return 0;
        if (got < 0 && errno == ENOBUFS) {
            *ret = true;
            continue;
        }
        if (got < 0)
            return err_sys(err, "cannot hear of changes of the packet rules");
        int left = (int)got;
        for (struct nlmsghdr *h = (void *)nf->answer; mnl_nlmsg_ok(h, left);
             h = mnl_nlmsg_next(h, &left))
            *ret |= deletes(nf, h);
    }
}
