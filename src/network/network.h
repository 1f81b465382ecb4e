/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * network — a routed cable for each VE, addresses from a pool, no shared layer 2.
 *
 * I own the interfaces, the nft table and the routes that carry this instance's prefix: with
 * instance 0 the port-less bridge "terem0" (it only holds the gateway addresses), host ends
 * "terem0-<id>", nft table "terem_0"; with instance 3 "terem3", "terem3-<id>", "terem_3".
 * I use kernel/ (netlink with libmnl, nft with libnftables).  I never touch other tables, and set
 * only the forwarding sysctls, which are put back by network_node_remove() if we changed them.
 *
 * Per VE: a veth pair whose inner end is born in the VE's namespace as eth0 with its addresses
 * and default routes already there (IPv4 through a link-local gateway, IPv6 through fe80::1);
 * on the host a /32 and a /128 route to the host end.  No nft rule and no process per VE: one
 * static rule in prerouting drops what comes from a host end with a source address that is not
 * routed back to that same end (fib saddr . iif), v4 and v6; one masquerades what leaves, if the
 * pool is of a private range; a VE's limits are elements of maps.  Neighbours are permanent on both
 * sides: there is no ARP or ND to wait for, to forge, or to fill the host's tables with.  Refused
 * packets are counted in the table's counters spoofed4, spoofed6 and rogue (router advertisements,
 * redirects, DHCP answers, neighbour discovery that is for another link, source routes by way of
 * the host, IPv6 fragments that hide what they are), and stale (of no connection, or of one that
 * was reset).
 *
 * VEs may reach each other and the host: they are separate servers on one internet, and each has
 * its own firewall.  Addresses of the pools that no VE has are unreachable, not sent out.
 */
#pragma once

#include "base/err.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct network_node;

struct network_config {
    unsigned instance;
    const char *pool4; /* "10.88.0.0/16": the first address is the gateway's */
    const char *pool6; /* "fd54:6572:656d::/64"; either may be NULL or "": none of that family */
    const char *dns, *search; /* servers and domains for VEs, with commas or blanks between; NULL or
                                 "": the host's */
    const char *state; /* the instance's state directory: network.json there remembers what the
                          sysctls were.  NULL: setup and remove are refused */
};

struct netlink_ip;
struct network_address {
    struct in_addr v4;  /* 0.0.0.0: none */
    struct in6_addr v6; /* ::: none */
    /* Further ones of network/address.h, borrowed; network_address_of() gives none. */
    const struct netlink_ip *more;
    size_t n_more;
};

/* Checks the pools (overlap with a route that is there: ERR_EXISTS with that interface's name,
 * unless we hold the pool already)
 * but touches nothing yet.  Where IPv6 is off, pool6 counts as none. */
int network_node_open(const struct network_config *config, struct network_node **ret,
                      struct err *err);
void network_node_close(struct network_node *n);
/* Why VEs have no IPv6 although there is a pool6, and what to do; or NULL. */
const char *network_ipv6_why(const struct network_node *n);
/* Bridge, nft table, sysctls: idempotent; done at start of teremd. */
int network_node_setup(struct network_node *n, struct err *err);
/* Takes all of it away; VEs' interfaces left: they are removed too. */
int network_node_remove(struct network_node *n, struct err *err);

/* For doctor: what on this machine keeps VEs from the network, one sentence each (a kernel without
 * a needed nftables expression, another table that drops what is forwarded, forwarding turned off,
 * no IPv6, no default route, no resolver that VEs can reach).  Touches nothing. */
int network_check(struct network_node *n,
                  int (*item)(void *ctx, const char *sentence, struct err *err), void *ctx,
                  struct err *err);

/* The address pair of slot k (1, 2, …): pure arithmetic.  Past the pool: ERR_EXHAUSTED. */
int network_address_of(const struct network_node *n, uint32_t slot, struct network_address *ret,
                       struct err *err);
/* How many slots the pools have. */
uint32_t network_slots(const struct network_node *n);

/* What a VE may ask of the node's packet path; NETWORK_UNLIMITED: no limit. */
#define NETWORK_UNLIMITED UINT64_MAX
struct network_limits {
    uint64_t connections; /* tracked at a time, either direction, IPv4 and IPv6 together; one
                             between two VEs is the one's that opens it, here and below */
    uint64_t rate;        /* new ones a second; a second's worth may come at once */
    uint64_t guarantee; /* of these, those that network_rate_capacity() does not refuse; 0: none */
    uint64_t packets;   /* a second, each way; a tenth of a second's worth may come at once */
};
#define NETWORK_LIMITS_NONE \
    ((struct network_limits){NETWORK_UNLIMITED, NETWORK_UNLIMITED, 0, NETWORK_UNLIMITED})
/* Writes the limits whatever stood there, as one transaction; what was counted stays.  A limit of
 * connections that is changed counts anew: those that are open are not counted against it. */
int network_limits_apply(struct network_node *n, int64_t id, const struct network_limits *limits,
                         struct err *err);
/* Takes away limits and counters; none there: fine. */
int network_limits_remove(struct network_node *n, int64_t id, struct err *err);
/* NULL, or why this kernel cannot count connections: a limit of them is refused then. */
const char *network_connections_lack(struct network_node *n);
/* New connections a second of all VEs beyond their guarantees; NETWORK_UNLIMITED: not bounded. */
int network_rate_capacity(struct network_node *n, uint64_t rate, struct err *err);

/* Wires the namespace: runs in a job's worker, while the VE's first process waits.  The limits
 * stand before the cable does.  On failure nothing is left.  A host end of that id that is there
 * already is replaced. */
int network_attach(struct network_node *n, int64_t id, int netns_fd,
                   const struct network_address *addr, const struct network_limits *limits,
                   struct err *err);
/* Removes the host end (its peer goes with it); not there: fine.  Takes about 30 ms, as the kernel
 * waits for readers of the old device; not needed when the VE's last process is gone, because the
 * end of its namespace removes both ends in the background. */
int network_detach(struct network_node *n, int64_t id, struct err *err);
/* Ids that have a host end. */
int network_list(struct network_node *n, int64_t **ret, size_t *ret_n, struct err *err);

/* Text for /etc/resolv.conf inside: of the settings, else the host's resolvers that a VE can reach;
 * freed by caller. */
int network_resolv_conf(const struct network_node *n, char **ret, struct err *err);

struct network_counters {
    uint64_t in_bytes, in_packets, out_bytes, out_packets; /* in: towards the VE */
};
int network_counters(struct network_node *n, int64_t id, struct network_counters *ret,
                     struct err *err);

/* Refused since the VE was started. */
struct network_refused {
    uint64_t connections, rate, packets;
};
int network_refused(struct network_node *n, int64_t id, struct network_refused *ret,
                    struct err *err);
/* Ids that have limits. */
int network_limits_list(struct network_node *n, int64_t **ret, size_t *ret_n, struct err *err);
/* Tracked connections of the VE with that slot that are not closed.  ERR_UNSUPPORTED where the
 * kernel does not tell. */
int network_held(struct network_node *n, uint32_t slot, uint64_t *ret, struct err *err);
/* Between true and false one look at the whole table serves all VEs, also an earlier one, as far as
 * looking takes less than a twentieth of the time. */
void network_held_keep(struct network_node *n, bool keep);
/* Rules of the firewalls inside a network namespace: of nftables, and entries of what the older
 * iptables ("legacy") made. */
int network_rules(struct network_node *n, int netns_fd, uint64_t *ret, struct err *err);

/* Somebody else may delete our table ("nft flush ruleset").  The descriptor becomes readable when
 * rules have changed; network_watch_read() tells whether ours are gone, and then
 * network_node_setup(), network_limits_apply() for every VE and network_privates_lay() lay them
 * again. */
int network_watch_fd(struct network_node *n, int *ret, struct err *err);
int network_watch_read(struct network_node *n, bool *ret_gone, struct err *err);

/* The same of every host end at once, by rising id; *ret is freed by the caller. */
struct network_traffic {
    int64_t id;
    struct network_counters counters;
};
int network_traffic_all(struct network_node *n, struct network_traffic **ret, size_t *ret_n,
                        struct err *err);
/* In such a list; NULL when it has no cable. */
const struct network_counters *network_traffic_of(const struct network_traffic *t, size_t n,
                                                  int64_t id);

/* The descriptor becomes readable when a VE was refused something, once a second at most for each
 * row of it; nothing is sent while nobody listens. */
enum network_row { NETWORK_PACKETS, NETWORK_RATE, NETWORK_CONNECTIONS, NETWORK_ROWS };
int network_refusals_fd(struct network_node *n, int *ret, struct err *err);
/* outward: it sent what was refused. */
int network_refusals_read(struct network_node *n,
                          int (*item)(void *ctx, int64_t id, enum network_row row, bool outward,
                                      struct err *err),
                          void *ctx, struct err *err);
