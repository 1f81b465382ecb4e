/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What netfilter tells by itself. */
#include "base/cleanup.h"
#include "base/str.h"
#include "kernel/nfnl_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <sys/socket.h>

/* ---- what others do to the ruleset ---- */

int nfnl_watch_open(const char *table, struct nfnl **ret, struct err *err)
{
    return nfnl_socket(table, 1u << (NFNLGRP_NFTABLES - 1), SOCK_NONBLOCK, ret, err);
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
        (g->nfgen_family != NFPROTO_INET && g->nfgen_family != NFPROTO_BRIDGE))
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

/* What waits in a socket, at most READS_MAX times a buffer: others of the loop have their turn. */
#define READS_MAX 16
static int drain(struct nfnl *nf, void (*item)(void *ctx, const struct nlmsghdr *h), void *ctx,
                 bool *lost, const char *what, struct err *err)
{
    for (int i = 0; i < READS_MAX; i++) {
        ssize_t got = mnl_socket_recvfrom(nf->sock, nf->answer, sizeof(nf->answer));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return 0;
        if (got < 0 && errno == ENOBUFS) {
            *lost = true;
            continue;
        }
        if (got < 0)
            return err_sys(err, "%s", what);
        int left = (int)got;
        for (struct nlmsghdr *h = (void *)nf->answer; mnl_nlmsg_ok(h, left);
             h = mnl_nlmsg_next(h, &left))
            item(ctx, h);
    }
    return 0;
}

struct watch {
    const struct nfnl *nf;
    bool deleted;
};

static void watch_message(void *ctx, const struct nlmsghdr *h)
{
    struct watch *w = ctx;
    w->deleted |= deletes(w->nf, h);
}

int nfnl_watch_read(struct nfnl *nf, bool *ret, struct err *err)
{
    struct watch w = {.nf = nf};
    bool lost = false;
    int r = drain(nf, watch_message, &w, &lost, "cannot hear of changes of the packet rules", err);
    *ret = w.deleted || lost;
    return r;
}

/* ---- logged packets ---- */

int nfnl_log_open(uint16_t group, struct nfnl **ret, struct err *err)
{
    static const char what[] = "cannot hear of refused packets";
    const struct nfulnl_msg_config_cmd bind = {.command = NFULNL_CFG_CMD_BIND};
    const struct nfulnl_msg_config_mode mode = {.copy_mode = NFULNL_COPY_META};
    auto_nfnl struct nfnl *nf = NULL;
    bool torn = false;
    int r = nfnl_socket("", 0, 0, &nf, err);
    if (r < 0)
        return r;
    struct nlmsghdr *h =
        nfnl_question(nf, NFNL_SUBSYS_ULOG, NFULNL_MSG_CONFIG, NLM_F_ACK, AF_UNSPEC);
    ((struct nfgenmsg *)mnl_nlmsg_get_payload(h))->res_id = htons(group);
    mnl_attr_put(h, NFULA_CFG_CMD, sizeof(bind), &bind);
    mnl_attr_put(h, NFULA_CFG_MODE, sizeof(mode), &mode);
    mnl_attr_put_u32(h, NFULA_CFG_QTHRESH, htonl(1));
    r = nfnl_ask(nf, h, nfnl_exists, NULL, &torn, what, err);
    if (r < 0)
        return r;
    int one = 1, fd = mnl_socket_get_fd(nf->sock);
    mnl_socket_setsockopt(nf->sock, NETLINK_NO_ENOBUFS, &one, sizeof(one));
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
        return err_sys(err, "%s", what);
    *ret = steal_ptr(&nf);
    return 0;
}

struct log_visit {
    int (*item)(void *ctx, const struct nfnl_logged *l, struct err *err);
    void *ctx;
    struct err *err;
    int result;
};

static void log_message(void *ctx, const struct nlmsghdr *h)
{
    struct log_visit *v = ctx;
    struct nfnl_logged l = {.prefix = ""};
    const struct nlattr *a;
    if (h->nlmsg_type != (NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET) || v->result < 0)
        return;
    mnl_attr_for_each(a, h, sizeof(struct nfgenmsg))
    {
        uint16_t type = mnl_attr_get_type(a);
        if (type == NFULA_PREFIX && mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
            l.prefix = mnl_attr_get_str(a);
        else if (type == NFULA_IFINDEX_INDEV && mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
            l.in = ntohl(mnl_attr_get_u32(a));
        else if (type == NFULA_IFINDEX_OUTDEV && mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
            l.out = ntohl(mnl_attr_get_u32(a));
    }
    v->result = v->item(v->ctx, &l, v->err);
}

int nfnl_log_read(struct nfnl *nf,
                  int (*item)(void *ctx, const struct nfnl_logged *l, struct err *err), void *ctx,
                  struct err *err)
{
    struct log_visit v = {item, ctx, err, 0};
    bool lost;
    int r = drain(nf, log_message, &v, &lost, "cannot hear of refused packets", err);
    return r < 0 ? r : v.result;
}
