/* SPDX-License-Identifier: GPL-2.0-or-later */
/* shape_internal — what the files of the trees share. */
#pragma once

#include "kernel/classify.h"
#include "kernel/tc.h"
#include "network/internal.h"
#include "network/shape.h"

#define MINOR_NODE  1
#define MINOR_HOST  2
#define MINOR_FIRST 16
#define MINOR_LAST  0xfffe

/* Instance k's trees have this major number and k: far from those that the kernel gives (0x8000
 * up). */
#define HANDLE(n) ((uint32_t)(0x5000 + (n)->instance) << 16)

enum tree { OUT, IN, TREES };

struct leaf {
    struct classify_key key;
    uint16_t minor;
    uint64_t rate, ceil; /* bytes a second, as written; 0: not known */
};

struct network_shape {
    char uplink[IFNAMSIZ];
    int ifindex[TREES];
    uint64_t rate[TREES];     /* bytes a second; 0: nobody has said */
    uint64_t promised[TREES]; /* to all VEs: the host has the rest */
    bool laid[TREES];
    bool no_codel;
    char why[TREES][320];
    struct leaf *leaves;
    size_t n, cap;
    uint8_t taken[TREES][65536 / 8];
};

static inline enum tree shape_tree_of(const struct classify_key *key)
{
    return key->in || key->class == NETWORK_CLASS_LOCAL ? IN : OUT;
}

bool shape_is_taken(const struct network_shape *s, enum tree t, unsigned minor);
void shape_take(struct network_shape *s, enum tree t, unsigned minor, bool on);
/* Is the interface's discipline ours?  Somebody else's: ERR_EXISTS. */
int shape_look_at(struct network_node *n, struct netlink *nl, enum tree t, bool *ret_ours,
                  struct err *err);
int shape_lay(struct network_node *n, enum tree t, struct err *err);
