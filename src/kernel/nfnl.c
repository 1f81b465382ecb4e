/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cleanup.h"
#include "base/str.h"
#include "kernel/nfnl_internal.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>
#include <sys/socket.h>

int nfnl_socket(const char *table, unsigned groups, int flags, struct nfnl **ret, struct err *err)
{
    struct nfnl *nf = malloc(sizeof(*nf));
    if (!nf)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    nf->seq = 1;
    nf->len = 0;
    nf->last = NULL;
    nf->full = false;
    nf->sock = NULL;
    nf->family = NFPROTO_INET;
    if (str_print(nf->table, sizeof(nf->table), "%s", table) < 0) {
        nfnl_close(nf);
        return err_set(err, ERR_INTERNAL, "the table's name %s is too long", table);
    }
    nf->sock = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | flags);
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
    return nfnl_socket(table, 0, 0, ret, err);
}

int nfnl_open_bridge(const char *table, struct nfnl **ret, struct err *err)
{
    int r = nfnl_open(table, ret, err);
    if (r == 0)
        (*ret)->family = NFPROTO_BRIDGE;
    return r;
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
    return put(nf, nf->batch + nf->len, NFNL_SUBSYS_NFTABLES << 8 | message, flags, nf->family, 0);
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

void nfnl_put_element(struct nfnl *nf, struct nlmsghdr *h, const char *map, const void *key,
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
    nfnl_put_element(nf, h, map, key, len, object, NULL);
    end(nf, h);
}

void nfnl_element_jump(struct nfnl *nf, const char *map, const void *key, size_t len,
                       const char *chain)
{
    struct nlmsghdr *h = begin(nf, NFT_MSG_NEWSETELEM, NLM_F_CREATE);
    nfnl_put_element(nf, h, map, key, len, NULL, chain);
    end(nf, h);
}

void nfnl_element_delete(struct nfnl *nf, const char *map, const void *key, size_t len)
{
    struct nlmsghdr *h = begin(nf, NFT_MSG_DELSETELEM, 0);
    nfnl_put_element(nf, h, map, key, len, NULL, NULL);
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

int nfnl_ask(struct nfnl *nf, struct nlmsghdr *request,
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

struct nlmsghdr *nfnl_question(struct nfnl *nf, uint16_t subsystem, uint16_t message,
                               uint16_t flags, uint8_t family)
{
    return put(nf, nf->question, (uint16_t)(subsystem << 8 | message), flags, family, 0);
}

int nfnl_exists(void *ctx, const struct nlmsghdr *h, struct err *err)
{
    return 0;
}
