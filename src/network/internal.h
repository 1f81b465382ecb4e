/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * network/internal — what the files of this room share; nobody else includes it.
 */
#pragma once

#include "base/str.h"
#include "kernel/netlink.h"
#include "kernel/nfnl.h"
#include "network/network.h"

#include <limits.h>
#include <sys/types.h>

/* One pool, either family: base with `prefix` fixed bits; the gateway is base + 1. */
struct network_pool {
    struct netlink_ip base; /* family 0: there is no such pool */
    uint8_t prefix;
    struct netlink_ip gateway;
    uint32_t slots;
    bool private; /* not routed on the internet: what leaves is masqueraded */
};

/* Connections by slot, when last looked at. */
struct network_held {
    uint32_t *held;
    size_t len;
    int64_t at, cost; /* milliseconds; at: of the monotonic clock, 0: never */
    bool known;
};

struct network_node {
    unsigned instance;
    char name[IFNAMSIZ]; /* "terem0": the bridge, and what host ends begin with */
    struct network_pool pool4, pool6;
    char state[PATH_MAX];
    unsigned mtu;            /* of the link that leads out */
    bool has_way_out;        /* there is a default route */
    struct in_addr resolver; /* of the host's loopback, when it has no other: VEs get a way there */
    struct netlink *nl;
    pid_t nl_owner; /* the process that opened nl: a forked worker needs its own */
    struct nfnl *nf;
    pid_t nf_owner;
    struct nfnl *log;         /* hears of refusals */
    struct nfnl *watch;       /* hears of changes of the packet rules */
    bool probed, lacks_count; /* see network_connections_lack() */
    struct network_held held4, held6;
    bool held_keep, held_looked;   /* see network_held_keep() */
    int home;                      /* the node's own network namespace, once opened; else -1 */
    bool has_legacy4, has_legacy6; /* the kernel has the older iptables; looked with `home` */
};

/* Marks our routes, so that they can be told from others' and routing daemons can leave them
 * alone: a number that no other program has registered (rt_protos of iproute2). */
#define NETWORK_PROTOCOL 84
/* The unreachable routes of the pools stand behind any other; instance k's metric is this + k. */
#define NETWORK_METRIC 84000000

/* What VEs send to, the same in each; 169.254.1.1 is also where a loopback resolver is met. */
#define NETWORK_GATEWAY4 "169.254.1.1"
static inline struct netlink_ip network_gateway4(void)
{
    return netlink_ip4((struct in_addr){htonl(0xa9fe0101)});
}
static inline struct netlink_ip network_gateway6(void)
{
    return netlink_ip6((struct in6_addr){.s6_addr = {0xfe, 0x80, [15] = 1}});
}

/* The netlink socket of this process, opened at first use. */
int network_socket(struct network_node *n, struct netlink **ret, struct err *err);
/* "terem0-7" */
int network_end_name(const struct network_node *n, int64_t id, char ret[IFNAMSIZ], struct err *err);
/* Is it the name of one of our host ends?  Then its id. */
bool network_end_id(const struct network_node *n, const char *name, int64_t *ret_id);

/* pool.c: "10.88.0.0/16"; NULL and "" give an empty pool. */
int network_pool_parse(const char *text, int family, struct network_pool *ret, struct err *err);
/* base + offset */
struct netlink_ip network_pool_address(const struct network_pool *p, uint64_t offset);
bool network_pool_overlaps(const struct network_pool *p, const struct netlink_ip *dst,
                           uint8_t prefix);
/* "10.88.0.0/16" */
#define NETWORK_TEXT 64
const char *network_ip_text(const struct netlink_ip *ip, int prefix, char buf[NETWORK_TEXT]);

/* guard.c */
#define NETWORK_TABLE 32
void network_table_name(const struct network_node *n, char ret[NETWORK_TABLE]);
/* Groups of netfilter's log to which instances' refusals go; instance k has this + k. */
#define NETWORK_LOG_GROUP 0x5465
/* The table as text for nft; anew: without what an earlier one has counted; tell: of refusals. */
int network_guard_text(const struct network_node *n, bool anew, bool tell, struct str *s,
                       struct err *err);
int network_guard_lay(struct network_node *n, struct err *err);
int network_guard_remove(const struct network_node *n, struct err *err);

/* limit.c */
/* The netfilter socket of this process, opened at first use. */
int network_nfnl(struct network_node *n, struct nfnl **ret, struct err *err);
/* Chains that count connections: those in use are made again, the others go. */
int network_classes_lay(struct network_node *n, struct err *err);
/* What a VE that is born gets: its counters begin at 0. */
int network_limits_begin(struct network_node *n, int64_t id, const struct network_limits *limits,
                         struct err *err);

/* forward.c: forwarding on, with a memory of what was; and back. */
int network_forward_on(struct network_node *n, struct err *err);
int network_forward_off(struct network_node *n, bool others_need_it, struct err *err);

/* resolv.c: one file's text; adds usable servers (at most 3 in all) and the other lines. */
struct network_resolv {
    struct str servers, others;
    unsigned n_servers;
    bool unusable;           /* there were servers that a VE cannot reach */
    struct in_addr loopback; /* the first of those on 127.0.0.0/8 */
};
/* The host's own resolver on loopback if that is all it has; else 0.0.0.0. */
struct in_addr network_resolv_loopback(const struct network_node *n);
void network_resolv_read(const char *text, bool has_v4, bool has_v6, struct network_resolv *r);
