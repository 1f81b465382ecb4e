/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is looked up only when somebody asks: connections of VEs, rules of their firewalls; and
 * what the kernel tells by itself: that somebody deleted our table, that a VE was refused. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "network/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

#define HELD_FRESH_MS 250
#define HELD_REST     20 /* a look at a large table takes long: not more than this part of the time */
#define HELD_SLOTS    (1u << 20) /* 4 MiB of numbers, whatever addresses outsiders claim */

static uint32_t low_bits(int family, const void *address)
{
    uint32_t n;
    memcpy(&n, (const uint8_t *)address + (family == AF_INET ? 0 : 12), sizeof(n));
    return ntohl(n);
}

void network_owners_ask(struct network_node *n, const struct network_owners *owners)
{
    n->owners = *owners;
}

/* The slot whose address it is; 0: nobody's. */
static uint32_t slot_of(const struct network_node *n, int family, const void *address)
{
    const struct network_pool *p = family == AF_INET ? &n->pool4 : &n->pool6;
    struct netlink_ip ip = {.family = family};
    memcpy(&ip.v6, address, family == AF_INET ? 4 : 16);
    if (!network_pool_overlaps(p, &ip, (uint8_t)network_ip_bits(&ip)))
        return n->owners.slot ? n->owners.slot(n->owners.ctx, &ip) : 0;
    uint32_t offset = low_bits(family, address) - low_bits(family, &p->base.v6);
    return offset < 2 || offset > HELD_SLOTS ? 0 : offset - 1;
}

static int count_slot(struct network_held *h, uint32_t slot, struct err *err)
{
    if (slot == 0)
        return 0;
    if (slot >= h->len) {
        size_t len = (size_t)slot * 2 + 64;
        uint32_t *held = reallocarray(h->held, len, sizeof(*held));
        if (!held)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        memset(held + h->len, 0, (len - h->len) * sizeof(*held));
        h->held = held;
        h->len = len;
    }
    h->held[slot]++;
    return 0;
}

/* A connection of two VEs is the one's that opened it, as in the rules. */
static uint32_t owner(const struct network_node *n, const struct nfnl_connection *c)
{
    uint32_t from = slot_of(n, c->family, c->original);
    return from ? from : slot_of(n, c->family, c->reply);
}

static int count_any(void *ctx, const struct nfnl_connection *c, struct err *err)
{
    struct network_node *n = ctx;
    return c->closed ? 0
                     : count_slot(c->family == AF_INET ? &n->held4 : &n->held6, owner(n, c), err);
}

/* Looks at the whole table of a family, unless that was done lately. */
static void look(struct network_node *n, struct network_held *h, int family)
{
    struct nfnl *nf;
    int64_t began = clock_ms();
    if (h->at && began - h->at <= HELD_FRESH_MS + HELD_REST * h->cost)
        return;
    if (h->held)
        memset(h->held, 0, h->len * sizeof(*h->held));
    h->known =
        network_nfnl(n, &nf, NULL) == 0 &&
        nfnl_connection_each(nf, &(struct nfnl_side){.family = family}, count_any, n, NULL) == 0;
    h->at = clock_ms();
    h->cost = h->at - began;
}

/* The first that asks looks. */
void network_held_keep(struct network_node *n, bool keep)
{
    n->held_keep = keep;
    n->held_looked = false;
    network_refused_keep(n, keep);
}

struct own_count {
    struct network_node *n;
    uint32_t slot;
    bool to; /* those that others opened */
    uint64_t connections;
};

static int count_own(void *ctx, const struct nfnl_connection *c, struct err *err)
{
    struct own_count *own = ctx;
    own->connections += !c->closed && owner(own->n, c) == own->slot &&
                        own->to == (slot_of(own->n, c->family, c->original) == 0);
    return 0;
}

static int count_of(void *ctx, const struct netlink_ip *ip, struct err *err)
{
    struct own_count *own = ctx;
    struct nfnl *nf;
    int r = ip->family == AF_INET ? network_nfnl(own->n, &nf, err) : 0;
    for (int to = 0; r == 0 && ip->family == AF_INET && to < 2; to++) {
        own->to = to;
        r = nfnl_connection_each(nf, &(struct nfnl_side){AF_INET, &ip->v4, to}, count_own, own,
                                 err);
    }
    return r;
}

/* Of one VE alone: the kernel picks them out by address, those it opened and those that came. */
static int count4(struct network_node *n, uint32_t slot, uint64_t *ret, struct err *err)
{
    struct network_address a;
    struct own_count own = {.n = n, .slot = slot};
    int r = network_address_of(n, slot, &a, err);
    if (r == 0)
        r = count_of(&own, &(struct netlink_ip){.family = AF_INET, .v4 = a.v4}, err);
    if (r == 0 && n->owners.each)
        r = n->owners.each(n->owners.ctx, slot, count_of, &own, err);
    if (r == 0)
        *ret = own.connections;
    return r;
}

static uint64_t table_count(const struct network_held *h, uint32_t slot)
{
    return slot < h->len ? h->held[slot] : 0;
}

/* IPv6 is looked at as a whole always: up to 6.18 at least, the kernel asked for one address tells
 * all others instead (ctnetlink_filter_match_tuple() compares the wrong way round). */
int network_held(struct network_node *n, uint32_t slot, uint64_t *ret, struct err *err)
{
    bool has4 = n->pool4.base.family, has6 = n->pool6.base.family;
    uint64_t four = 0;
    int r = 0;
    if (has4 && n->held_keep && !n->held_looked)
        look(n, &n->held4, AF_INET);
    if (has6 && !n->held_looked)
        look(n, &n->held6, AF_INET6);
    n->held_looked = n->held_keep;
    if (n->held_keep)
        four = table_count(&n->held4, slot);
    else if (has4)
        r = count4(n, slot, &four, err);
    if (r < 0)
        return r;
    if ((has4 && n->held_keep && !n->held4.known) || (has6 && !n->held6.known))
        return err_set(err, ERR_UNSUPPORTED, "this kernel does not list tracked connections");
    *ret = four + table_count(&n->held6, slot);
    return 0;
}

/* ---- the VE's own firewall ---- */

/* The calling thread goes there and comes back once: each way costs some ten microseconds. */
int network_rules(struct network_node *n, int netns_fd, uint64_t *ret, struct err *err)
{
    auto_nfnl struct nfnl *nf = NULL;
    uint64_t rules = 0, legacy;
    if (n->home < 0) {
        n->home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        if (n->home < 0)
            return err_sys(err, "cannot open this process's network namespace");
        n->has_legacy4 = network_legacy_there(AF_INET);
        n->has_legacy6 = network_legacy_there(AF_INET6);
    }
    if (setns(netns_fd, CLONE_NEWNET) < 0)
        return err_sys(err, "cannot enter the network namespace");
    int r = nfnl_open("", &nf, err);
    legacy = (n->has_legacy4 ? network_legacy_rules(AF_INET) : 0) +
             (n->has_legacy6 ? network_legacy_rules(AF_INET6) : 0);
    if (setns(n->home, CLONE_NEWNET) < 0)
        return err_sys(err, "cannot come back from a network namespace");
    if (r == 0)
        r = nfnl_rules(nf, &rules, err);
    if (r == 0)
        *ret = rules + legacy;
    return r;
}

/* ---- the table ---- */

int network_watch_fd(struct network_node *n, int *ret, struct err *err)
{
    char table[NETWORK_TABLE];
    network_table_name(n, table);
    if (!n->watch) {
        int r = nfnl_watch_open(table, &n->watch, err);
        if (r < 0)
            return r;
    }
    *ret = nfnl_fd(n->watch);
    return 0;
}

/* That it was deleted says not that it is gone: our own setup may replace it. */
int network_watch_read(struct network_node *n, bool *ret_gone, struct err *err)
{
    struct nfnl *nf;
    bool deleted = false, there = true;
    int r = nfnl_watch_read(n->watch, &deleted, err);
    if (r == 0 && deleted)
        r = network_nfnl(n, &nf, err);
    if (r == 0 && deleted)
        r = nfnl_table_find(nf, &there, err);
    if (r == 0 && deleted && there && n->has_privates) {
        r = network_bridge_nfnl(n, &nf, err);
        if (r == 0)
            r = nfnl_table_find(nf, &there, err);
    }
    *ret_gone = r == 0 && !there;
    return r;
}

/* ---- refusals ---- */

int network_refusals_fd(struct network_node *n, int *ret, struct err *err)
{
    if (!n->log) {
        int r = nfnl_log_open((uint16_t)(NETWORK_LOG_GROUP + n->instance), &n->log, err);
        if (r < 0)
            return r;
    }
    *ret = nfnl_fd(n->log);
    return 0;
}

struct refusals {
    struct network_node *n;
    int (*item)(void *ctx, int64_t id, enum network_row row, bool outward, struct err *err);
    void *ctx;
};

static int one_refusal(void *ctx, const struct nfnl_logged *l, struct err *err)
{
    static const char *const rows[] = {[NETWORK_PACKETS] = "packets-",
                                       [NETWORK_RATE] = "rate-",
                                       [NETWORK_CONNECTIONS] = "connections-"};
    const struct refusals *all = ctx;
    bool outward = str_ends(l->prefix, "-out");
    char name[IFNAMSIZ];
    int64_t id;
    if (!if_indextoname(outward ? l->in : l->out, name) || !network_end_id(all->n, name, &id))
        return 0; /* gone meanwhile */
    for (int row = 0; row < NETWORK_ROWS; row++)
        if (str_starts(l->prefix, rows[row]))
            return all->item(all->ctx, id, (enum network_row)row, outward, err);
    return 0;
}

int network_refusals_read(struct network_node *n,
                          int (*item)(void *ctx, int64_t id, enum network_row row, bool outward,
                                      struct err *err),
                          void *ctx, struct err *err)
{
    struct refusals all = {n, item, ctx};
    return nfnl_log_read(n->log, one_refusal, &all, err);
}
