/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kernel/nfnl — objects and elements of one nftables table, and the connection tracking table.
 *
 * I own a netlink socket to netfilter.  I use libmnl.  I decide nothing: tables, maps, names and
 * keys are the caller's, who laid them with kernel/nft.  Unlike libnftables, which first fetches
 * what the whole ruleset consists of, a request here costs the same however much there is.
 *
 *     auto_nfnl struct nfnl *nf = NULL;
 *     nfnl_open("terem_0", &nf, err);
 *     nfnl_counter_add(nf, "ve7-packets");              // queued, nothing sent yet
 *     nfnl_element_add(nf, "packets_refused", key, sizeof(key), "ve7-packets");
 *     nfnl_commit(nf, err);                             // all of it or nothing
 *
 * The table's family is inet, or bridge.  A socket belongs to the namespace it was opened in, for
 * good.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nfnl;
#define auto_nfnl __attribute__((cleanup(nfnl_closep)))

/* table: at most 31 bytes. */
int nfnl_open(const char *table, struct nfnl **ret, struct err *err);
int nfnl_open_bridge(const char *table, struct nfnl **ret, struct err *err);
void nfnl_close(struct nfnl *nf);
static inline void nfnl_closep(struct nfnl **nf)
{
    nfnl_close(*nf);
    *nf = NULL;
}

/* Queued verbs return nothing; nfnl_commit() tells.  What is there already stays as it is; what is
 * to be deleted and is not there fails the transaction. */
void nfnl_counter_add(struct nfnl *nf, const char *name);
/* Matches what is over `rate` packets a second after a burst; inverted: what is not over. */
void nfnl_limit_add(struct nfnl *nf, const char *name, uint64_t rate, uint32_t burst, bool over);
void nfnl_counter_delete(struct nfnl *nf, const char *name);
void nfnl_limit_delete(struct nfnl *nf, const char *name);
/* key → the object of that name */
void nfnl_element_add(struct nfnl *nf, const char *map, const void *key, size_t len,
                      const char *object);
/* key → jump chain */
void nfnl_element_jump(struct nfnl *nf, const char *map, const void *key, size_t len,
                       const char *chain);
void nfnl_element_delete(struct nfnl *nf, const char *map, const void *key, size_t len);
void nfnl_chain_delete(struct nfnl *nf, const char *chain);
void nfnl_set_delete(struct nfnl *nf, const char *set);
int nfnl_commit(struct nfnl *nf, struct err *err);
/* Empties the queue. */
void nfnl_forget(struct nfnl *nf);

/* Is there such an element?  There is none in a map, or table, that does not exist. */
int nfnl_element_find(struct nfnl *nf, const char *map, const void *key, size_t len, bool *ret,
                      struct err *err);
int nfnl_chain_find(struct nfnl *nf, const char *chain, bool *ret, struct err *err);
int nfnl_table_find(struct nfnl *nf, bool *ret, struct err *err);

struct nfnl_counter {
    const char *name;
    uint64_t packets, bytes;
};
/* ERR_NOT_FOUND when there is none of that name. */
int nfnl_counter_get(struct nfnl *nf, const char *name, struct nfnl_counter *ret, struct err *err);
/* Every named counter of the table. */
int nfnl_counter_each(struct nfnl *nf,
                      int (*item)(void *ctx, const struct nfnl_counter *c, struct err *err),
                      void *ctx, struct err *err);
/* Every chain of the table, by name. */
int nfnl_chain_each(struct nfnl *nf, int (*item)(void *ctx, const char *name, struct err *err),
                    void *ctx, struct err *err);
/* How many rules all tables of all families have. */
int nfnl_rules(struct nfnl *nf, uint64_t *ret, struct err *err);

/* Who talks with whom: the source of either direction, of which one is a VE's when a VE takes
 * part. */
struct nfnl_connection {
    int family;
    const void *original, *reply; /* 4 or 16 bytes */
    bool closed; /* kept for stray packets; the kernel's ct count leaves it out, too */
};
/* Tracked connections of this namespace: all, those of a family (address NULL), or those whose
 * first (or answering) side has that source address, which the kernel picks out itself (not with
 * IPv6: see network_held()).  Each told costs about 2 µs. */
struct nfnl_side {
    int family;
    const void *address; /* 4 or 16 bytes */
    bool reply;          /* of the answers */
};
int nfnl_connection_each(struct nfnl *nf, const struct nfnl_side *side,
                         int (*item)(void *ctx, const struct nfnl_connection *c, struct err *err),
                         void *ctx, struct err *err);

/* ---- what others do to the ruleset: a socket of its own, non-blocking ---- */
int nfnl_watch_open(const char *table, struct nfnl **ret, struct err *err);
int nfnl_fd(const struct nfnl *nf);
/* Reads what has come.  *ret: a table of this name, inet or bridge, was deleted, or too much came
 * to know. */
int nfnl_watch_read(struct nfnl *nf, bool *ret, struct err *err);

/* ---- packets that rules log to a group: a socket of its own, non-blocking ---- */

struct nfnl_logged {
    const char *prefix; /* as the rule says; "" when it says none */
    unsigned in, out;   /* indexes of interfaces, 0: none */
};
/* ERR_DENIED: another program has that group. */
int nfnl_log_open(uint16_t group, struct nfnl **ret, struct err *err);
int nfnl_log_read(struct nfnl *nf,
                  int (*item)(void *ctx, const struct nfnl_logged *l, struct err *err), void *ctx,
                  struct err *err);
