/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kernel/nfnl_internal — what the files of nfnl share; nobody else includes it. */
#pragma once

#include "kernel/nfnl.h"

#include <netinet/in.h> /* before those of linux/, which then leave out the same */

#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#define BATCH_SIZE  16384
#define MESSAGE_MAX 512 /* no request of ours is longer */

struct nfnl {
    struct mnl_socket *sock;
    char table[32];
    uint8_t family;      /* of the table */
    uint32_t seq, first; /* first: of the batch's begin */
    size_t len;
    struct nlmsghdr *last;
    bool full;
    char question[MESSAGE_MAX] __attribute__((aligned(8)));
    char batch[BATCH_SIZE] __attribute__((aligned(8)));
    char answer[65536] __attribute__((aligned(8)));
};

int nfnl_socket(const char *table, unsigned groups, int flags, struct nfnl **ret, struct err *err);
/* A request outside of a transaction; what is queued stays queued. */
struct nlmsghdr *nfnl_question(struct nfnl *nf, uint16_t subsystem, uint16_t message,
                               uint16_t flags, uint8_t family);
/* Sends one request and hands each answer to item().  *torn: the ruleset changed meanwhile. */
int nfnl_ask(struct nfnl *nf, struct nlmsghdr *request,
             int (*item)(void *ctx, const struct nlmsghdr *h, struct err *err), void *ctx,
             bool *torn, const char *what, struct err *err);
/* An item() for who wants to know only whether there is an answer. */
int nfnl_exists(void *ctx, const struct nlmsghdr *h, struct err *err);
/* One element of a map; its value is an object's name, or a chain's, or none. */
void nfnl_put_element(struct nfnl *nf, struct nlmsghdr *h, const char *map, const void *key,
                      size_t len, const char *object, const char *chain);
