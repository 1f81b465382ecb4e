/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * network/internal — what the files of this room share; nobody else includes it.
 */
#pragma once

#include "base/str.h"
#include "kernel/netlink.h"
#include "kernel/nfnl.h"
#include "network/address.h"
#include "network/class.h"
#include "network/idle.h"

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
    char why6[160]; /* VEs have no IPv6 although it was asked for; or "" */
    char state[PATH_MAX];
    unsigned mtu;            /* of the link that leads out */
    bool has_way_out;        /* there is a default route */
    struct in_addr resolver; /* of the host's loopback, when it has no other: VEs get a way there */
    char *dns, *search;      /* of the settings, as lines of resolv.conf; "": the host's */
    struct netlink *nl;
    pid_t nl_owner; /* the process that opened nl: a forked worker needs its own */
    struct nfnl *nf;
    pid_t nf_owner;
    struct nfnl *nf_bridge; /* of private networks' table */
    pid_t nf_bridge_owner;
    bool has_privates;         /* laid by this process */
    struct nfnl *log;          /* hears of refusals */
    struct nfnl *watch;        /* hears of changes of the packet rules */
    bool probed, lacks_count;  /* see network_connections_lack() */
    struct classify *classify; /* NULL: nothing is counted by class, and classify_why says why */
    char classify_why[256];
    network_wake_fn wake; /* idle.c */
    void *wake_ctx;
    int lender; /* index of the IFB where packets wait, 0: there is none */
    int uplink; /* index of the interface of the default route, 0: there is none */
    struct network_shape *shape;
    struct network_held held4, held6;
    bool held_keep, held_looked;  /* see network_held_keep() */
    int announcer;                /* see announce_open(); -1: this kernel has no such sockets */
    struct network_range *ranges; /* address pools */
    size_t n_ranges;
    struct network_owners owners;
    struct refused_item *refused; /* meanwhile, of all VEs by rising id; or NULL */
    size_t n_refused;
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

/* ip.c */
unsigned network_ip_bits(const struct netlink_ip *ip);
uint8_t *network_ip_bytes(struct netlink_ip *ip);
/* Its last `bits` bits all 0, or all 1. */
struct netlink_ip network_ip_edge(struct netlink_ip ip, unsigned bits, bool last);
/* The last address of a prefix. */
struct netlink_ip network_ip_last(const struct netlink_ip *base, uint8_t prefix);
/* Are the first n bits the same? */
bool network_bits_same(const uint8_t *a, const uint8_t *b, unsigned n);
bool network_ip_in(const struct netlink_ip *ip, const struct netlink_ip *base, uint8_t prefix);
bool network_prefixes_overlap(const struct netlink_ip *a, uint8_t a_prefix,
                              const struct netlink_ip *b, uint8_t b_prefix);

/* legacy.c: the older iptables, of the calling thread's network namespace. */
bool network_legacy_there(int family);
/* Entries of all its tables, without those that every table has. */
uint64_t network_legacy_rules(int family);
/* What is forwarded is dropped there, unless a rule lets it pass. */
bool network_legacy_drops(int family);

/* pool.c: "10.88.0.0/16"; NULL and "" give an empty pool. */
int network_pool_parse(const char *text, int family, struct network_pool *ret, struct err *err);
/* base + offset */
struct netlink_ip network_pool_address(const struct network_pool *p, uint64_t offset);
bool network_pool_overlaps(const struct network_pool *p, const struct netlink_ip *dst,
                           uint8_t prefix);
/* What pools of slots and ranges of further addresses are alike in: not slots nor gateway. */
int network_pool_read(const char *text, int family, unsigned least, unsigned most,
                      struct network_pool *ret, struct err *err);

/* range.c */
/* The range that holds it; NULL. */
const struct network_range *network_range_of(const struct network_node *n,
                                             const struct netlink_ip *ip);
/* What of a range is this node's, as prefixes; returns how many, at most NETWORK_PARTS. */
#define NETWORK_PARTS 256
size_t network_range_parts(const struct network_range *r, struct network_prefix ret[NETWORK_PARTS]);
/* The elements of the sets of private ranges, as text for nft. */
void network_ranges_text(const struct network_node *n, struct str *s);
/* node.c: the unreachable routes of pools and ranges, and no others. */
int network_unreachable_lay(struct network_node *n, struct netlink *nl, struct err *err);
/* Is the route the "unreachable" of one of the ranges? */
bool network_is_range(const struct network_node *n, const struct netlink_route *r);

/* network.c */
/* The VE's side of one cable. */
struct network_cable {
    char name[IFNAMSIZ];
    int host, inner; /* indexes, each in its own namespace */
    uint8_t mac[6];
    struct netlink_ip v4, v6; /* family 0: none */
    struct netlink_ip link6;  /* link-local, made from mac (RFC 4291, appendix A) */
};
/* What follows from the VE's own pair; not the name, nor the indexes. */
void network_cable_init(struct network_cable *c, const struct network_address *addr);
/* ERR_NOT_FOUND: there is no host end of that name. */
int network_cable_find(struct netlink *nl, const char *name, struct netlink_link *ret,
                       struct err *err);
/* The route to an address of the VE at the host's end, which has a neighbour there, too. */
struct netlink_route network_cable_route(const struct network_cable *c, struct netlink_ip dst,
                                         struct netlink_ip src);
void network_inner_address(struct netlink *nl, int inner, struct netlink_ip ip, uint8_t prefix,
                           uint8_t scope);
/* The default route inside, with a preferred source. */
void network_inner_default(struct netlink *nl, const struct network_cable *c, struct netlink_ip via,
                           struct netlink_ip src);

/* address.c */
/* The VE's further addresses, at both ends of a cable that is laid. */
int network_more_attach(struct network_node *n, struct netlink *nl, const struct network_cable *c,
                        int netns_fd, const struct network_address *addr, struct err *err);

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
/* Reads what was refused to all VEs for the calls of network_refused() that come; or lets go. */
void network_refused_keep(struct network_node *n, bool keep);
/* The netfilter socket of this process, opened at first use. */
int network_nfnl(struct network_node *n, struct nfnl **ret, struct err *err);
int network_bridge_nfnl(struct network_node *n, struct nfnl **ret, struct err *err);
/* Chains that count connections: those in use are made again, the others go. */
int network_classes_lay(struct network_node *n, struct err *err);
/* What a VE that is born gets: its counters begin at 0. */
int network_limits_begin(struct network_node *n, int64_t id, const struct network_limits *limits,
                         struct err *err);

/* count.c */
/* At a new host end: what crosses it is counted. */
int network_count_attach(struct network_node *n, struct netlink *nl, int64_t id, int ifindex,
                         struct err *err);
/* Does the kernel have what a cable needs?  Met at the bridge, which is laid. */
int network_count_probe(struct network_node *n, struct err *err);
/* Nothing is counted any more, and why. */
void network_count_give_up(struct network_node *n, const char *why);
/* A failure for want of a part of the kernel is told as that; returns its kind. */
int network_lacks(struct err *err, const char *part, const char *config);
/* The VE's cable is gone, or goes. */
void network_count_detached(struct network_node *n, int64_t id);
/* Programs that were loaded anew, or always, take the place of those that hang at cables. */
int network_count_renew(struct network_node *n, bool always, struct err *err);
/* idle.c: use of a VE is seen at another end, too, where nothing is counted; and that goes. */
int network_idle_attach(struct network_node *n, struct netlink *nl, int64_t id, int ifindex,
                        struct err *err);
void network_idle_detach(struct network_node *n, int ifindex);
/* class.c: of the class local. */
struct network_prefix network_prefix_local(const struct netlink_ip *base, unsigned length);
/* Is the other a part of it, or the same? */
bool network_prefix_holds(const struct network_prefix *wide, const struct network_prefix *p);
/* What is local whatever people say: the pools and what never leaves a cable. */
int network_prefixes_fixed(const struct network_node *n, struct network_prefix **ret, size_t *ret_n,
                           struct err *err);

/* private.c */
struct network_member;
/* "terem0.7.1", zero-padded. */
int network_member_name(const struct network_node *n, const struct network_member *m,
                        char ret[IFNAMSIZ], struct err *err);
void network_member_mac(const struct network_member *m, uint8_t ret[6]);
/* The link-local address that the kernel makes of a MAC (RFC 4291, appendix A). */
struct netlink_ip network_mac_link(const uint8_t mac[6]);
/* Of names in arrays of one length, for qsort() and bsearch(). */
int network_compare_names(const void *a, const void *b);
/* Is it the name of a private network's bridge or end? */
bool network_private_link(const struct network_node *n, const char *name);

/* privateguard.c: the rules of all members and no others; none at all. */
int network_members_lay(struct network_node *n, const struct network_member *list, size_t count,
                        struct err *err);
int network_members_clear(struct network_node *n, struct err *err);

/* shape.c */
int network_shape_clear(struct network_node *n, struct err *err);

/* forward.c: forwarding on, with a memory of what was; and back. */
int network_forward_on(struct network_node *n, struct err *err);
bool network_forwards(bool six);
int network_forward_off(struct network_node *n, bool others_need_it, struct err *err);

/* resolv.c: one file's text; adds usable servers (at most 3 in all) and the other lines. */
struct network_resolv {
    struct str servers, others;
    unsigned n_servers;
    bool unusable;           /* there were servers that a VE cannot reach */
    struct in_addr loopback; /* the first of those on 127.0.0.0/8 */
};
/* Sets n->dns and n->search; NULL or "": none.  Its pools are known. */
int network_resolv_config(struct network_node *n, const char *servers, const char *search,
                          struct err *err);
/* The host's own resolver on loopback if that is all it has; else 0.0.0.0. */
struct in_addr network_resolv_loopback(const struct network_node *n);
void network_resolv_read(const char *text, bool has_v4, bool has_v6, struct network_resolv *r);
