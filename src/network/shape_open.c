/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The trees found and laid when teremd begins, and taken away with the node. */
#include "base/cleanup.h"
#include "network/shape_internal.h"

#include <linux/if_link.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

/* An IFB of ours and its tree; the filters at host ends send there. */
static int open_lender(struct network_node *n, bool *ret_made, struct err *err)
{
    struct network_shape *s = n->shape;
    char name[IFNAMSIZ];
    struct netlink *nl;
    struct netlink_link l;
    int r = network_socket(n, &nl, err);
    if (r < 0)
        return r;
    if (str_print(name, sizeof(name), "%s.in", n->name) < 0)
        return err_set(err, ERR_INTERNAL, "an interface's name is too long");
    *ret_made = netlink_link_get(nl, name, &l, NULL) < 0;
    tc_ifb_add(nl, name);
    r = netlink_commit(nl, err);
    if (r == 0)
        r = netlink_link_get(nl, name, &l, err);
    if (r == 0 && !str_eq(l.kind, "ifb"))
        return err_set(err, ERR_EXISTS, "the interface %s is not Terem's: remove or rename it",
                       name);
    if (r < 0)
        return network_lacks(err, "IFB", "CONFIG_IFB");
    netlink_link_addrgen(nl, l.ifindex, IN6_ADDR_GEN_MODE_NONE);
    netlink_commit(nl, NULL); /* no IPv6: fine */
    netlink_link_up(nl, l.ifindex);
    r = netlink_commit(nl, err);
    s->ifindex[IN] = n->lender = l.ifindex;
    if (r == 0)
        r = shape_lay(n, IN, err);
    return r < 0 ? r : network_count_probe(n, err); /* now with the way to it */
}

/* Nothing waits on its way in. */
static void close_lender(struct network_node *n, const char *why)
{
    struct network_shape *s = n->shape;
    struct netlink *nl;
    str_print(s->why[IN], sizeof(s->why[IN]), "%s", why);
    if (n->lender && network_socket(n, &nl, NULL) == 0) {
        netlink_link_delete(nl, n->lender);
        netlink_commit(nl, NULL);
    }
    n->lender = s->ifindex[IN] = 0;
    s->laid[IN] = false;
}

static int find_uplink(struct network_node *n, const char *wish, struct err *err)
{
    struct network_shape *s = n->shape;
    struct netlink *nl;
    struct netlink_link l;
    if (!*wish && (!n->uplink || !if_indextoname((unsigned)n->uplink, s->uplink)))
        return err_set(err, ERR_NOT_FOUND,
                       "there is no default route: name the interface that leads out as "
                       "network.uplink in terem.conf");
    if (*wish && str_print(s->uplink, sizeof(s->uplink), "%s", wish) < 0)
        return err_set(err, ERR_USAGE,
                       "network.uplink of terem.conf: %s is too long for the name "
                       "of an interface",
                       wish);
    int r = network_socket(n, &nl, err);
    if (r == 0)
        r = netlink_link_get(nl, s->uplink, &l, err);
    if (r < 0)
        return err_wrap(err, "the uplink %s", s->uplink);
    s->ifindex[OUT] = l.ifindex;
    return 0;
}

static int load_leaves(struct network_node *n, struct err *err)
{
    struct network_shape *s = n->shape;
    auto_free struct classify_leaf *list = NULL;
    size_t count = 0;
    int r = classify_leaves(n->classify, &list, &count, err);
    if (r < 0)
        return r;
    s->leaves = calloc(count + 1, sizeof(*s->leaves));
    if (!s->leaves)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    s->cap = count + 1;
    for (size_t i = 0; i < count; i++) {
        if (list[i].leaf > MINOR_LAST)
            continue;
        s->leaves[s->n++] = (struct leaf){.key = list[i].key, .minor = (uint16_t)list[i].leaf};
        shape_take(s, shape_tree_of(&list[i].key), list[i].leaf, true);
    }
    return 0;
}

struct strays {
    const struct network_node *n;
    enum tree tree;
    uint32_t ids[1024];
    size_t len;
};

static int find_stray(void *ctx, const struct tc_class_now *c, struct err *err)
{
    struct strays *x = ctx;
    uint32_t minor = c->id & 0xffff;
    if (minor >= MINOR_FIRST && !shape_is_taken(x->n->shape, x->tree, minor) &&
        x->len < ARRAY_SIZE(x->ids))
        x->ids[x->len++] = c->id;
    return 0;
}

/* Classes that were made and not written down. */
static void remove_strays(struct network_node *n, enum tree t)
{
    struct strays x = {.n = n, .tree = t};
    struct netlink *nl;
    if (!n->shape->laid[t] || network_socket(n, &nl, NULL) < 0 ||
        tc_class_each(nl, n->shape->ifindex[t], find_stray, &x, NULL) < 0)
        return;
    for (size_t i = 0; i < x.len; i++) {
        tc_class_delete(nl, n->shape->ifindex[t], x.ids[i]);
        netlink_commit(nl, NULL);
    }
}

int network_shape_open(struct network_node *n, const struct network_shape_config *config,
                       struct err *err)
{
    struct err why = {0};
    bool made = false;
    struct network_shape *s = n->shape = calloc(1, sizeof(*s));
    if (!s)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    s->rate[OUT] = config->out / 8;
    s->rate[IN] = config->in / 8;
    if (network_count_why(n)) {
        for (int t = 0; t < TREES; t++)
            str_print(s->why[t], sizeof(s->why[t]), "%s", network_count_why(n));
        return 0;
    }
    int r = load_leaves(n, err);
    if (r < 0)
        return r;
    if (open_lender(n, &made, &why) < 0)
        close_lender(n, why.text);
    err_clear(&why);
    bool ours = false;
    struct netlink *nl;
    if (find_uplink(n, config->uplink, &why) < 0 || network_socket(n, &nl, &why) < 0 ||
        shape_look_at(n, nl, OUT, &ours, &why) < 0 ||
        ((s->rate[OUT] || ours) && shape_lay(n, OUT, &why) < 0))
        str_print(s->why[OUT], sizeof(s->why[OUT]), "%s", why.text);
    if (!s->why[IN][0] && !s->ifindex[OUT])
        str_print(s->why[IN], sizeof(s->why[IN]), "%s", why.text);
    for (int t = 0; t < TREES; t++)
        remove_strays(n, (enum tree)t);
    struct classify_settings settings = {
        .uplink = (uint32_t)s->ifindex[OUT], .lender = (uint32_t)n->lender, .handle = HANDLE(n)};
    r = classify_settings_put(n->classify, &settings, err);
    return r < 0 || !made ? r : network_count_renew(n, true, err);
}

void network_shape_close(struct network_node *n)
{
    if (n->shape)
        free(n->shape->leaves);
    free(n->shape);
    n->shape = NULL;
}

/* With the node: the trees and what is in them. */
int network_shape_clear(struct network_node *n, struct err *err)
{
    struct network_shape *s = n->shape;
    struct netlink *nl;
    bool ours = false;
    int r = s ? network_socket(n, &nl, err) : 0;
    if (!s || r < 0)
        return r;
    if (s->ifindex[OUT] && shape_look_at(n, nl, OUT, &ours, NULL) == 0 && ours)
        tc_root_delete(nl, s->ifindex[OUT]);
    if (n->lender)
        netlink_link_delete(nl, n->lender);
    r = netlink_commit(nl, err);
    while (s->n) {
        s->n--;
        classify_leaf_delete(n->classify, &s->leaves[s->n].key, NULL);
    }
    memset(s->taken, 0, sizeof(s->taken));
    s->laid[OUT] = s->laid[IN] = false;
    n->lender = 0;
    return r < 0 ? err_wrap(err, "cannot take away what divides the bandwidth") : 0;
}
