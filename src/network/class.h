/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * network/class — destination classes: which class an address of the other side belongs to.
 *
 * I own the reading and ordering of prefixes.  A class is a number here; ve/ gives the names.  The
 * prefixes of all classes are one list, in which none stands twice; of those that hold an address
 * the longest decides, over all classes.  What no prefix holds is NETWORK_CLASS_ANY, the pools of
 * this node's VEs are NETWORK_CLASS_LOCAL, and both exist always without being in the list.
 *
 *     struct network_prefix p[2];
 *     network_prefix_parse("192.0.2.0/24", &p[0], err);
 *     network_prefix_parse("2001:db8::/32", &p[1], err);
 *     p[0].class = p[1].class = europe;
 *     network_prefixes_add(&all, p, 2, &clash, err);     // all or nothing
 */
#pragma once

#include "network/network.h"

#define NETWORK_CLASS_ANY      1u
#define NETWORK_CLASS_LOCAL    2u
#define NETWORK_CLASS_FIRST    16u /* of those that people make; numbers are never given again */
#define NETWORK_CLASSES_MAX    250 /* that exist at a time */
#define NETWORK_CLASS_NAME_MAX 31
/* About 100 bytes of the kernel's memory each, which no process may swap out. */
#define NETWORK_PREFIXES_MAX 131072
/* In one change: what a request of 1 MiB holds. */
#define NETWORK_PREFIXES_ONCE 32768

struct network_prefix {
    uint8_t family; /* 4 or 6 */
    uint8_t length;
    uint32_t class;
    uint8_t address[16]; /* IPv4: the first four, the others 0 */
};

/* By family, address and length, each once. */
struct network_prefixes {
    struct network_prefix *p;
    size_t n;
};
void network_prefixes_done(struct network_prefixes *list);

/* "192.0.2.0/24", "2001:db8::/32", or an address alone; leaves the class 0.  ERR_USAGE: it is none,
 * has bits behind its length, or is every address there is. */
int network_prefix_parse(const char *text, struct network_prefix *ret, struct err *err);
#define NETWORK_PREFIX_TEXT 64
const char *network_prefix_text(const struct network_prefix *p, char buf[NETWORK_PREFIX_TEXT]);
/* The same prefix, whatever the class; NULL: it is not there. */
const struct network_prefix *network_prefixes_find(const struct network_prefixes *list,
                                                   const struct network_prefix *p);

/* Adds n prefixes in any order.  ERR_EXISTS: *ret_clash is one that is there (or given twice: then
 * it is among `more`); the list is as it was then.  Sorts `more`. */
int network_prefixes_add(struct network_prefixes *list, struct network_prefix *more, size_t n,
                         const struct network_prefix **ret_clash, struct err *err);
/* Takes n prefixes of class `more[i].class` out.  ERR_NOT_FOUND: *ret_missing is not there in that
 * class, or given twice; the list is as it was then.  Sorts `more`. */
int network_prefixes_remove(struct network_prefixes *list, struct network_prefix *more, size_t n,
                            const struct network_prefix **ret_missing, struct err *err);
/* Takes out all of a class. */
void network_prefixes_drop(struct network_prefixes *list, uint32_t class);
/* The class of an address (4 or 16 bytes) by the list alone; 0: no prefix holds it.  For tests: the
 * kernel looks by itself. */
uint32_t network_prefixes_class(const struct network_prefixes *list, uint8_t family,
                                const uint8_t *address);

/* ERR_USAGE, naming it, where one of them lies in a pool of this node's VEs, or is link-local or
 * multicast: those are of the class local. */
int network_prefixes_refuse_local(const struct network_node *n, const struct network_prefix *list,
                                  size_t count, struct err *err);
/* The pools and what of address pools is this node's, as class local; *ret is freed by the caller.
 */
int network_prefixes_local(const struct network_node *n, struct network_prefix **ret, size_t *ret_n,
                           struct err *err);
