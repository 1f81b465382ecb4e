/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/netlink.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "kernel/netlink_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH_SIZE     8192
#define BATCH_REQUESTS 32
#define MESSAGE_MAX    512 /* no request of ours is longer */

/* Between looks at what the kernel does in the background: 10 µs, 20 µs, … 164 ms, 0.33 s in all.
 */
#define PAUSE_MIN_NS 10000
#define PAUSE_MAX_NS 163840000

/* linux/if.h, which does not go together with net/if.h */
#define IF_OPER_UP 6

struct request {
    const char *what; /* "cannot add a route": a literal */
    int fine;         /* errno that means success, or 0 */
};

struct netlink {
    struct mnl_socket *sock;
    uint32_t seq;
    uint32_t first; /* sequence number of requests[0] */
    size_t len, n;
    struct nlmsghdr *last;
    bool full;
    struct request requests[BATCH_REQUESTS];
    char batch[BATCH_SIZE] __attribute__((aligned(8)));
    char answer[32768] __attribute__((aligned(8)));
};

int netlink_open(struct netlink **ret, struct err *err)
{
    struct netlink *nl = malloc(sizeof(*nl));
    if (!nl)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    nl->seq = 1;
    nl->len = nl->n = 0;
    nl->last = NULL;
    nl->full = false;
    nl->sock = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    if (!nl->sock || mnl_socket_bind(nl->sock, 0, MNL_SOCKET_AUTOPID) < 0) {
        int sys = errno;
        netlink_close(nl);
        return err_sysno(err, sys, "cannot open a netlink socket");
    }
    int one = 1;
    mnl_socket_setsockopt(nl->sock, NETLINK_EXT_ACK, &one, sizeof(one));
    mnl_socket_setsockopt(nl->sock, NETLINK_CAP_ACK, &one, sizeof(one));
    *ret = nl;
    return 0;
}

int netlink_open_in(int netns_fd, struct netlink **ret, struct err *err)
{
    auto_fd int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0)
        return err_sys(err, "cannot open this process's network namespace");
    if (setns(netns_fd, CLONE_NEWNET) < 0)
        return err_sys(err, "cannot enter the network namespace");
    struct netlink *nl = NULL;
    int r = netlink_open(&nl, err);
    if (setns(home, CLONE_NEWNET) < 0) {
        netlink_close(nl);
        return err_sys(err, "cannot come back from a network namespace");
    }
    if (r < 0)
        return r;
    *ret = nl;
    return 0;
}

void netlink_close(struct netlink *nl)
{
    if (!nl)
        return;
    if (nl->sock)
        mnl_socket_close(nl->sock);
    free(nl);
}

/* Begins a request in the batch.  A batch that is full is told by the commit. */
struct nlmsghdr *netlink_begin(struct netlink *nl, uint16_t type, uint16_t flags, const char *what,
                               int fine)
{
    if (nl->n == BATCH_REQUESTS || nl->len + MESSAGE_MAX > BATCH_SIZE) {
        nl->full = true;
        nl->n = nl->len = 0; /* somewhere to write to; nothing of it is sent */
    }
    struct nlmsghdr *h = mnl_nlmsg_put_header(nl->batch + nl->len);
    h->nlmsg_type = type;
    h->nlmsg_flags = NLM_F_REQUEST | flags;
    h->nlmsg_seq = nl->seq++;
    if (nl->n == 0)
        nl->first = h->nlmsg_seq;
    nl->requests[nl->n++] = (struct request){what, fine};
    nl->last = h;
    return h;
}

void netlink_end(struct netlink *nl, struct nlmsghdr *h)
{
    nl->len += NLMSG_ALIGN(h->nlmsg_len);
}

/* The kernel's own words from an extended acknowledgement, or NULL. */
static const char *ack_text(const struct nlmsghdr *h)
{
    const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
    if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
        return NULL;
    size_t offset = sizeof(*e);
    if (!(h->nlmsg_flags & NLM_F_CAPPED))
        offset += mnl_nlmsg_get_payload_len(&e->msg);
    const struct nlattr *a;
    mnl_attr_for_each(a, h, offset)
    {
        if (mnl_attr_get_type(a) == NLMSGERR_ATTR_MSG &&
            mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
            return mnl_attr_get_str(a);
    }
    return NULL;
}

static int refusal(const struct nlmsghdr *h, const char *what, struct err *err)
{
    const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
    const char *why = ack_text(h);
    return why ? err_sysno(err, -e->error, "%s (%s)", what, why)
               : err_sysno(err, -e->error, "%s", what);
}

/*
 * Only the last request asks for an acknowledgement: a refusal is always answered, and answers
 * come in order, so the last one's answer means that all have been dealt with.
 */
int netlink_commit(struct netlink *nl, struct err *err)
{
    size_t n = nl->n, len = nl->len;
    nl->n = nl->len = 0;
    if (nl->full) {
        nl->full = false;
        return err_set(err, ERR_INTERNAL, "too many netlink requests at once");
    }
    if (n == 0)
        return 0;
    nl->last->nlmsg_flags |= NLM_F_ACK;
    uint32_t final = nl->last->nlmsg_seq;
    if (mnl_socket_sendto(nl->sock, nl->batch, len) < 0)
        return err_sys(err, "cannot send netlink requests");

    int result = 0;
    for (;;) {
        ssize_t got = mnl_socket_recvfrom(nl->sock, nl->answer, sizeof(nl->answer));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_sys(err, "cannot read netlink answers");
        int left = (int)got;
        for (struct nlmsghdr *h = (void *)nl->answer; mnl_nlmsg_ok(h, left);
             h = mnl_nlmsg_next(h, &left)) {
            uint32_t i = h->nlmsg_seq - nl->first;
            if (h->nlmsg_type != NLMSG_ERROR || i >= n)
                continue; /* left over from an earlier failure */
            const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
            if (e->error && -e->error != nl->requests[i].fine && result == 0)
                result = refusal(h, nl->requests[i].what, err);
            if (h->nlmsg_seq == final)
                return result;
        }
    }
}

/* Sends the one request that is queued and hands each answer to item(). */
int netlink_ask(struct netlink *nl,
                int (*item)(void *ctx, const struct nlmsghdr *h, struct err *err), void *ctx,
                struct err *err)
{
    const char *what = nl->requests[0].what;
    uint32_t seq = nl->last->nlmsg_seq;
    bool dump = nl->last->nlmsg_flags & NLM_F_DUMP;
    size_t len = nl->len;
    nl->n = nl->len = 0;
    if (mnl_socket_sendto(nl->sock, nl->batch, len) < 0)
        return err_sys(err, "%s", what);
    int result = 0;
    for (;;) {
        ssize_t got = mnl_socket_recvfrom(nl->sock, nl->answer, sizeof(nl->answer));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_sys(err, "%s", what);
        int left = (int)got;
        for (struct nlmsghdr *h = (void *)nl->answer; mnl_nlmsg_ok(h, left);
             h = mnl_nlmsg_next(h, &left)) {
            if (h->nlmsg_seq != seq)
                continue;
            if (h->nlmsg_type == NLMSG_DONE)
                return result;
            if (h->nlmsg_type == NLMSG_ERROR)
                return refusal(h, what, err);
            /* Even after item() failed the rest is read: the socket must be clean. */
            if (result == 0)
                result = item(ctx, h, err);
            if (!dump)
                return result;
        }
    }
}

void netlink_put_ip(struct nlmsghdr *h, uint16_t type, const struct netlink_ip *ip)
{
    if (ip->family == AF_INET)
        mnl_attr_put(h, type, sizeof(ip->v4), &ip->v4);
    else if (ip->family == AF_INET6)
        mnl_attr_put(h, type, sizeof(ip->v6), &ip->v6);
}

struct netlink_ip netlink_get_ip(const struct nlattr *a)
{
    struct netlink_ip ip = {0};
    if (mnl_attr_get_payload_len(a) == sizeof(ip.v4)) {
        ip.family = AF_INET;
        memcpy(&ip.v4, mnl_attr_get_payload(a), sizeof(ip.v4));
    } else if (mnl_attr_get_payload_len(a) == sizeof(ip.v6)) {
        ip.family = AF_INET6;
        memcpy(&ip.v6, mnl_attr_get_payload(a), sizeof(ip.v6));
    }
    return ip;
}

static struct ifinfomsg *link_begin(struct netlink *nl, uint16_t type, uint16_t flags, int ifindex,
                                    const char *what, int fine)
{
    struct nlmsghdr *h = netlink_begin(nl, type, flags, what, fine);
    struct ifinfomsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    m->ifi_index = ifindex;
    return m;
}

static void put_end(struct nlmsghdr *h, const char *name, const uint8_t *mac, unsigned mtu)
{
    mnl_attr_put_strz(h, IFLA_IFNAME, name);
    mnl_attr_put(h, IFLA_ADDRESS, 6, mac);
    if (mtu)
        mnl_attr_put_u32(h, IFLA_MTU, mtu);
    /* The kernel would make a queue for each possible processor (seen on 6.18); a veth is
     * lockless with one, so more only cost memory. */
    mnl_attr_put_u32(h, IFLA_NUM_TX_QUEUES, 1);
    mnl_attr_put_u32(h, IFLA_NUM_RX_QUEUES, 1);
}

void netlink_veth_add(struct netlink *nl, const struct netlink_veth *v)
{
    link_begin(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, "cannot make a veth pair", 0);
    struct nlmsghdr *h = nl->last;
    put_end(h, v->name, v->mac, v->mtu);
    struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
    mnl_attr_put_strz(h, IFLA_INFO_KIND, "veth");
    struct nlattr *data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
    struct nlattr *peer = mnl_attr_nest_start(h, VETH_INFO_PEER);
    mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
    put_end(h, v->peer, v->peer_mac, v->mtu);
    mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)v->peer_netns);
    mnl_attr_nest_end(h, peer);
    mnl_attr_nest_end(h, data);
    mnl_attr_nest_end(h, info);
    netlink_end(nl, h);
}

void netlink_bridge_add(struct netlink *nl, const char *name, const uint8_t mac[6])
{
    link_begin(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, "cannot make a bridge", 0);
    struct nlmsghdr *h = nl->last;
    mnl_attr_put_strz(h, IFLA_IFNAME, name);
    mnl_attr_put(h, IFLA_ADDRESS, 6, mac);
    struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
    mnl_attr_put_strz(h, IFLA_INFO_KIND, "bridge");
    struct nlattr *data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
    mnl_attr_put_u8(h, IFLA_BR_MCAST_SNOOPING, 0);
    mnl_attr_nest_end(h, data);
    mnl_attr_nest_end(h, info);
    netlink_end(nl, h);
}

void netlink_link_master(struct netlink *nl, int ifindex, int bridge)
{
    link_begin(nl, RTM_NEWLINK, 0, ifindex, "cannot put an interface into a bridge", 0);
    mnl_attr_put_u32(nl->last, IFLA_MASTER, (uint32_t)bridge);
    netlink_end(nl, nl->last);
}

/* Frames to 01:80:c2:00:00:01, the pauses of a link, the kernel drops in any case. */
#define ALL_GROUPS (UINT16_MAX & ~(1U << 1))

void netlink_port_fix(struct netlink *nl, int port, const uint8_t mac[6])
{
    link_begin(nl, RTM_NEWLINK, 0, port, "cannot set what a bridge learns from a port", 0);
    struct nlmsghdr *h = nl->last;
    struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
    mnl_attr_put_strz(h, IFLA_INFO_SLAVE_KIND, "bridge");
    struct nlattr *data = mnl_attr_nest_start(h, IFLA_INFO_SLAVE_DATA);
    mnl_attr_put_u8(h, IFLA_BRPORT_LEARNING, 0);
    mnl_attr_put_u8(h, IFLA_BRPORT_UNICAST_FLOOD, 0);
    mnl_attr_put_u16(h, IFLA_BRPORT_GROUP_FWD_MASK, ALL_GROUPS);
    mnl_attr_put(h, IFLA_BRPORT_FLUSH, 0, NULL);
    mnl_attr_nest_end(h, data);
    mnl_attr_nest_end(h, info);
    netlink_end(nl, h);
    netlink_station_add(nl, port, mac);
}

void netlink_link_up(struct netlink *nl, int ifindex)
{
    struct ifinfomsg *m =
        link_begin(nl, RTM_NEWLINK, 0, ifindex, "cannot bring an interface up", 0);
    m->ifi_flags = m->ifi_change = IFF_UP;
    netlink_end(nl, nl->last);
}

void netlink_link_delete(struct netlink *nl, int ifindex)
{
    link_begin(nl, RTM_DELLINK, 0, ifindex, "cannot remove an interface", ENODEV);
    netlink_end(nl, nl->last);
}

void netlink_link_addrgen(struct netlink *nl, int ifindex, uint8_t mode)
{
    link_begin(nl, RTM_NEWLINK, 0, ifindex, "cannot set how an interface makes IPv6 addresses", 0);
    struct nlmsghdr *h = nl->last;
    struct nlattr *spec = mnl_attr_nest_start(h, IFLA_AF_SPEC);
    struct nlattr *v6 = mnl_attr_nest_start(h, AF_INET6);
    mnl_attr_put_u8(h, IFLA_INET6_ADDR_GEN_MODE, mode);
    mnl_attr_nest_end(h, v6);
    mnl_attr_nest_end(h, spec);
    netlink_end(nl, h);
}

void netlink_link_devconf4(struct netlink *nl, int ifindex, const struct netlink_devconf *conf,
                           size_t n)
{
    link_begin(nl, RTM_NEWLINK, 0, ifindex, "cannot set an interface's IPv4 rules", 0);
    struct nlmsghdr *h = nl->last;
    struct nlattr *spec = mnl_attr_nest_start(h, IFLA_AF_SPEC);
    struct nlattr *v4 = mnl_attr_nest_start(h, AF_INET);
    struct nlattr *list = mnl_attr_nest_start(h, IFLA_INET_CONF);
    for (size_t i = 0; i < n; i++)
        mnl_attr_put_u32(h, conf[i].id, conf[i].value);
    mnl_attr_nest_end(h, list);
    mnl_attr_nest_end(h, v4);
    mnl_attr_nest_end(h, spec);
    netlink_end(nl, h);
}

static void read_kind(const struct nlattr *info, struct netlink_link *l)
{
    const struct nlattr *a;
    mnl_attr_for_each_nested(a, info)
    {
        if (mnl_attr_get_type(a) == IFLA_INFO_KIND &&
            mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
            str_print(l->kind, sizeof(l->kind), "%s", mnl_attr_get_str(a));
    }
}

static void read_link(const struct nlmsghdr *h, struct netlink_link *l)
{
    const struct ifinfomsg *m = mnl_nlmsg_get_payload(h);
    *l =
        (struct netlink_link){.ifindex = m->ifi_index, .peer = m->ifi_index, .flags = m->ifi_flags};
    const struct nlattr *a;
    mnl_attr_for_each(a, h, sizeof(*m))
    {
        switch (mnl_attr_get_type(a)) {
        case IFLA_IFNAME:
            if (mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
                str_print(l->name, sizeof(l->name), "%s", mnl_attr_get_str(a));
            break;
        case IFLA_MTU:
            l->mtu = mnl_attr_get_u32(a);
            break;
        case IFLA_OPERSTATE:
            l->operstate = mnl_attr_get_u8(a);
            break;
        case IFLA_LINK: /* left out by the kernel when both indexes happen to be equal */
            l->peer = (int)mnl_attr_get_u32(a);
            break;
        case IFLA_MASTER:
            l->master = (int)mnl_attr_get_u32(a);
            break;
        case IFLA_LINKINFO:
            read_kind(a, l);
            break;
        case IFLA_STATS64: {
            struct rtnl_link_stats64 s = {0};
            size_t n = mnl_attr_get_payload_len(a);
            memcpy(&s, mnl_attr_get_payload(a), n < sizeof(s) ? n : sizeof(s));
            l->rx_bytes = s.rx_bytes;
            l->rx_packets = s.rx_packets;
            l->tx_bytes = s.tx_bytes;
            l->tx_packets = s.tx_packets;
            break;
        }
        default:
            break;
        }
    }
}

static int one_link(void *ctx, const struct nlmsghdr *h, struct err *err)
{
    read_link(h, ctx);
    return 0;
}

int netlink_link_get(struct netlink *nl, const char *name, struct netlink_link *ret,
                     struct err *err)
{
    link_begin(nl, RTM_GETLINK, 0, 0, "cannot look an interface up", 0);
    mnl_attr_put_strz(nl->last, IFLA_IFNAME, name);
    netlink_end(nl, nl->last);
    struct netlink_link l;
    int r = netlink_ask(nl, one_link, &l, err);
    if (r < 0)
        return err_wrap(err, "%s", name);
    *ret = l;
    return 0;
}

bool netlink_pause(long *ns)
{
    *ns = *ns ? 2 * *ns : PAUSE_MIN_NS;
    if (*ns > PAUSE_MAX_NS)
        return false;
    nanosleep(&(struct timespec){.tv_nsec = *ns}, NULL);
    return true;
}

int netlink_link_wait(struct netlink *nl, const char *name, struct err *err)
{
    long pause = 0;
    do {
        struct netlink_link l;
        int r = netlink_link_get(nl, name, &l, err);
        if (r < 0 || l.operstate == IF_OPER_UP)
            return r;
    } while (netlink_pause(&pause));
    return 0;
}

struct link_visit {
    const char *kind;
    int (*item)(void *ctx, const struct netlink_link *l, struct err *err);
    void *ctx;
};

static int visit_link(void *ctx, const struct nlmsghdr *h, struct err *err)
{
    const struct link_visit *v = ctx;
    struct netlink_link l;
    if (h->nlmsg_type != RTM_NEWLINK)
        return 0;
    read_link(h, &l);
    if (v->kind && !str_eq(v->kind, l.kind))
        return 0;
    return v->item(v->ctx, &l, err);
}

static int each_link(struct netlink *nl, const char *kind, bool counted, struct link_visit *v,
                     struct err *err)
{
    link_begin(nl, RTM_GETLINK, NLM_F_DUMP, 0, "cannot list interfaces", 0);
    struct nlmsghdr *h = nl->last;
    if (!counted)
        mnl_attr_put_u32(h, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    if (kind) { /* the kernel leaves out the others; older ones may not, so we look too */
        struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
        mnl_attr_put_strz(h, IFLA_INFO_KIND, kind);
        mnl_attr_nest_end(h, info);
    }
    netlink_end(nl, h);
    return netlink_ask(nl, visit_link, v, err);
}

int netlink_link_each(struct netlink *nl, const char *kind,
                      int (*item)(void *ctx, const struct netlink_link *l, struct err *err),
                      void *ctx, struct err *err)
{
    return each_link(nl, kind, false, &(struct link_visit){kind, item, ctx}, err);
}

int netlink_link_each_counted(struct netlink *nl, const char *kind,
                              int (*item)(void *ctx, const struct netlink_link *l, struct err *err),
                              void *ctx, struct err *err)
{
    return each_link(nl, kind, true, &(struct link_visit){kind, item, ctx}, err);
}
