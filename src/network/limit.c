/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One VE's limits: objects named after its id, and elements in the maps of guard.c keyed by the
 * name of its host end.
 *
 * Connections are counted by the kernel's ct count, which looks at each connection it knows when a
 * new one comes (about 0.1 µs each, measured on 6.18), so above CLASS_PART of them they are counted
 * in parts, told apart by the connection's id: the parts' limits add up to the VE's, and as they
 * fill unevenly refusals begin at about nine tenths of it.  All VEs with one limit share a class:
 * two chains and a set of counts, keyed by the VE's name, which outlive a start of the VE, so that
 * it gains nothing by one.  A part that was found full stays shut for 100 ms: a flood of refused
 * connections then costs no counting, nor memory for attempts that the kernel takes for connections
 * until it looks again.
 */
#include "base/cleanup.h"
#include "base/number.h"
#include "kernel/nft.h"
#include "network/internal.h"

#include <inttypes.h>
#include <linux/netfilter.h>

#define CLASS_PART  1024
#define CLASS_PARTS 65536
#define NAME        48
#define TRIES       3

static int open_table(struct network_node *n, struct nfnl **nf, pid_t *owner, bool bridge,
                      struct nfnl **ret, struct err *err)
{
    char table[NETWORK_TABLE];
    pid_t me = getpid();
    if (*nf && *owner != me) {
        nfnl_close(*nf);
        *nf = NULL;
    }
    network_table_name(n, table);
    if (!*nf) {
        int r = bridge ? nfnl_open_bridge(table, nf, err) : nfnl_open(table, nf, err);
        if (r < 0)
            return r;
        *owner = me;
    }
    *ret = *nf;
    return 0;
}

int network_nfnl(struct network_node *n, struct nfnl **ret, struct err *err)
{
    return open_table(n, &n->nf, &n->nf_owner, false, ret, err);
}

int network_bridge_nfnl(struct network_node *n, struct nfnl **ret, struct err *err)
{
    return open_table(n, &n->nf_bridge, &n->nf_bridge_owner, true, ret, err);
}

/* ---- classes: chains that count up to a number ---- */

static const char *class_name(uint64_t limit, bool out, char buf[NAME])
{
    str_print(buf, NAME, "connections-%" PRIu64 "-%s", limit, out ? "out" : "in");
    return buf;
}

static bool class_limit(const char *chain, uint64_t *ret)
{
    static const char head[] = "connections-", tail[] = "-out";
    char text[NAME];
    if (!str_starts(chain, head) || !str_ends(chain, tail))
        return false;
    str_print(text, sizeof(text), "%s", chain + sizeof(head) - 1);
    text[strlen(text) - (sizeof(tail) - 1)] = '\0';
    return number_parse(text, 0, UINT64_MAX, ret, NULL) == 0;
}

static uint64_t class_parts(uint64_t limit)
{
    uint64_t parts = 1;
    while (limit / (parts * 2) >= CLASS_PART && parts < CLASS_PARTS)
        parts *= 2;
    return parts;
}

static void class_rules(struct str *s, uint64_t limit, bool out)
{
    uint64_t parts = class_parts(limit);
    const char *way = out ? "out" : "in", *end = out ? "iifname" : "oifname";
    char key[64];
    str_print(key, sizeof(key), "meta %s . ct id and 0x%" PRIx64, end, parts - 1);
    str_add(s,
            "    chain connections-%1$" PRIu64 "-%2$s {\n"
            "        %3$s @closed-%1$" PRIu64 " goto refuse_connection_%2$s\n"
            "        add @held-%1$" PRIu64 " { %3$s ct count over %4$" PRIu64 " } "
            "add @closed-%1$" PRIu64 " { %3$s timeout 100ms } goto refuse_connection_%2$s\n"
            "    }\n",
            limit, way, key, limit / parts);
}

/* verb: "create" fails when there is one, "flush" empties one whose rules are written again. */
static int class_lay(const struct network_node *n, uint64_t limit, const char *verb,
                     struct err *err)
{
    auto_str struct str s = str_init(4096);
    char table[NETWORK_TABLE], out[NAME], in[NAME];
    network_table_name(n, table);
    class_name(limit, true, out);
    class_name(limit, false, in);
    str_add(&s, "%1$s chain inet %2$s %3$s\n%1$s chain inet %2$s %4$s\n", verb, table, out, in);
    str_add(&s,
            "table inet %1$s {\n"
            "    set held-%2$" PRIu64 " { typeof meta iifname . ct id; size 1048576; "
            "flags dynamic; }\n"
            "    set closed-%2$" PRIu64 " { typeof meta iifname . ct id; size 1048576; "
            "flags dynamic,timeout; timeout 100ms; }\n",
            table, limit);
    class_rules(&s, limit, true);
    class_rules(&s, limit, false);
    str_add(&s, "}\n");
    return s.failed ? err_set(err, ERR_EXHAUSTED, "out of memory") : nft_run(str_c(&s), err);
}

/* Two starts at once may need the same new class: one makes it. */
static int class_need(struct network_node *n, struct nfnl *nf, uint64_t limit, struct err *err)
{
    char chain[NAME];
    bool there = false;
    int r = nfnl_chain_find(nf, class_name(limit, false, chain), &there, err);
    if (r < 0 || there)
        return r;
    struct err why = {0};
    r = class_lay(n, limit, "create", &why);
    if (r < 0 && nfnl_chain_find(nf, chain, &there, err) == 0 && there)
        return 0;
    if (r < 0 && err)
        *err = why;
    return r < 0 ? err_wrap(err, "cannot count connections") : 0;
}

struct class_list {
    uint64_t limits[4096]; /* more than that stay as they are */
    size_t n;
};

static int add_class(void *ctx, const char *chain, struct err *err)
{
    struct class_list *l = ctx;
    uint64_t limit;
    if (!class_limit(chain, &limit) || l->n == ARRAY_SIZE(l->limits))
        return 0;
    for (size_t i = 0; i < l->n; i++)
        if (l->limits[i] == limit)
            return 0;
    l->limits[l->n++] = limit;
    return 0;
}

int network_classes_lay(struct network_node *n, struct err *err)
{
    auto_free struct class_list *list = calloc(1, sizeof(*list));
    struct nfnl *nf;
    char name[NAME];
    if (!list)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int r = network_nfnl(n, &nf, err);
    if (r == 0)
        r = nfnl_chain_each(nf, add_class, list, err);
    for (size_t i = 0; r == 0 && i < list->n; i++) {
        struct err in_use = {0};
        uint64_t limit = list->limits[i];
        nfnl_chain_delete(nf, class_name(limit, true, name));
        nfnl_chain_delete(nf, class_name(limit, false, name));
        str_print(name, sizeof(name), "held-%" PRIu64, limit);
        nfnl_set_delete(nf, name);
        str_print(name, sizeof(name), "closed-%" PRIu64, limit);
        nfnl_set_delete(nf, name);
        if (nfnl_commit(nf, &in_use) < 0)
            r = class_lay(n, limit, "flush", err);
    }
    return r;
}

const char *network_connections_lack(struct network_node *n)
{
    static const char text[] =
        "table inet terem_probe {\n    set s { type ifname; flags dynamic; }\n"
        "    chain c {\n        add @s { meta iifname ct count over 1 } drop\n"
        "    }\n}\n";
    if (!n->probed) {
        n->lacks_count = nft_try(text, NULL) < 0;
        n->probed = true;
    }
    return n->lacks_count ? "this kernel cannot count connections (nft's ct count, "
                            "CONFIG_NFT_CONNLIMIT)"
                          : NULL;
}

/* ---- a VE ---- */

/* Objects of a VE are called ve7-… ; the same name may be a limit and a counter. */
static const char *object_name(int64_t id, const char *what, char buf[NAME])
{
    str_print(buf, NAME, "ve%" PRId64 "-%s", id, what);
    return buf;
}

static const struct {
    const char *map, *object;
    bool over;
} limit_maps[] = {
    {"packets_out", "packets_out", true},
    {"packets_in", "packets_in", true},
    {"rate_limit", "rate_limit", true},
    {"rate_guaranteed", "rate_guaranteed", false},
};
static const struct {
    const char *map, *object;
} counter_maps[] = {
    {"packets_refused", "packets"},
    {"rate_refused", "rate"},
    {"connections_refused", "connections"},
};
static const char *const class_maps[] = {"connections_out", "connections_in"};

static uint64_t limit_value(const struct network_limits *l, size_t i)
{
    const uint64_t values[] = {l->packets, l->packets, l->rate,
                               l->guarantee ? l->guarantee : NETWORK_UNLIMITED};
    return values[i];
}

static uint32_t limit_burst(uint64_t rate, size_t i)
{
    uint64_t burst = i < 2 ? rate / 10 : rate;
    if (i < 2 && burst < 10)
        burst = 10;
    return burst > UINT32_MAX ? UINT32_MAX : burst < 1 ? 1 : (uint32_t)burst;
}

struct own { /* one VE's names */
    int64_t id;
    char key[IFNAMSIZ]; /* zero-padded, as the kernel compares it */
};

static int own_init(const struct network_node *n, int64_t id, struct own *ret, struct err *err)
{
    *ret = (struct own){.id = id};
    return network_end_name(n, id, ret->key, err);
}

/* Queues the end of what is there in a map; *r gathers the first failure. */
static bool drop_element(struct nfnl *nf, const struct own *o, const char *map, int *r,
                         struct err *err)
{
    bool there = false;
    if (*r == 0)
        *r = nfnl_element_find(nf, map, o->key, sizeof(o->key), &there, err);
    if (*r == 0 && there)
        nfnl_element_delete(nf, map, o->key, sizeof(o->key));
    return *r == 0 && there;
}

static void put_limits(struct nfnl *nf, const struct own *o, const struct network_limits *l, int *r,
                       struct err *err)
{
    char name[NAME];
    for (size_t i = 0; i < ARRAY_SIZE(limit_maps); i++) {
        const char *map = limit_maps[i].map;
        uint64_t value = l ? limit_value(l, i) : NETWORK_UNLIMITED;
        object_name(o->id, limit_maps[i].object, name);
        if (drop_element(nf, o, map, r, err))
            nfnl_limit_delete(nf, name);
        if (value == NETWORK_UNLIMITED)
            continue;
        nfnl_limit_add(nf, name, value, limit_burst(value, i), limit_maps[i].over);
        nfnl_element_add(nf, map, o->key, sizeof(o->key), name);
    }
    for (size_t i = 0; i < ARRAY_SIZE(class_maps); i++) {
        drop_element(nf, o, class_maps[i], r, err);
        if (l && l->connections != NETWORK_UNLIMITED)
            nfnl_element_jump(nf, class_maps[i], o->key, sizeof(o->key),
                              class_name(l->connections, i == 0, name));
    }
}

static void put_counters(struct nfnl *nf, const struct own *o, bool drop, bool add, int *r,
                         struct err *err)
{
    char name[NAME];
    for (size_t i = 0; i < ARRAY_SIZE(counter_maps); i++) {
        object_name(o->id, counter_maps[i].object, name);
        if (drop && drop_element(nf, o, counter_maps[i].map, r, err))
            nfnl_counter_delete(nf, name);
        if (!add)
            continue;
        nfnl_counter_add(nf, name);
        nfnl_element_add(nf, counter_maps[i].map, o->key, sizeof(o->key), name);
    }
}

static int change_once(struct network_node *n, const struct own *o, const struct network_limits *l,
                       bool counters_anew, struct err *why)
{
    struct nfnl *nf;
    int r = network_nfnl(n, &nf, why);
    if (r < 0)
        return r;
    if (l && l->connections != NETWORK_UNLIMITED)
        r = class_need(n, nf, l->connections, why);
    put_limits(nf, o, l, &r, why);
    put_counters(nf, o, counters_anew, l != NULL, &r, why);
    if (!l)
        drop_element(nf, o, "fragments", &r, why);
    if (r < 0)
        nfnl_forget(nf);
    else
        r = nfnl_commit(nf, why);
    return r;
}

static bool is_laid(struct network_node *n)
{
    struct nfnl *nf;
    bool laid = true;
    return network_nfnl(n, &nf, NULL) < 0 || nfnl_table_find(nf, &laid, NULL) < 0 || laid;
}

/* Somebody may delete the table at any moment, and teremd lays it again: nothing of the VE is in
 * it then. */
static int change(struct network_node *n, int64_t id, const struct network_limits *l,
                  bool counters_anew, struct err *err)
{
    struct own o;
    struct err why = {0};
    bool laid = true;
    int r = own_init(n, id, &o, err);
    if (r < 0)
        return r;
    for (int tries = 0; tries < TRIES; tries++) {
        err_clear(&why);
        r = change_once(n, &o, l, counters_anew, &why);
        laid = r == 0 || is_laid(n);
        if (r == 0 || (!laid && !l))
            return 0;
        if (r != -ERR_NOT_FOUND || !laid)
            break;
    }
    if (!laid)
        err_set(&why, ERR_STATE,
                "the node's packet rules terem_%u are gone; teremd lays them again: try again",
                n->instance);
    if (err)
        *err = why;
    return err_wrap(err, "cannot write the limits of %s", o.key);
}

int network_limits_apply(struct network_node *n, int64_t id, const struct network_limits *limits,
                         struct err *err)
{
    return change(n, id, limits, false, err);
}

int network_limits_begin(struct network_node *n, int64_t id, const struct network_limits *limits,
                         struct err *err)
{
    return change(n, id, limits, true, err);
}

int network_limits_remove(struct network_node *n, int64_t id, struct err *err)
{
    network_count_detached(n, id);
    return change(n, id, NULL, true, err);
}

int network_rate_capacity(struct network_node *n, uint64_t rate, struct err *err)
{
    static const uint8_t protocols[] = {NFPROTO_IPV4, NFPROTO_IPV6};
    static const char map[] = "rate_free";
    struct nfnl *nf;
    bool there = false;
    int r = network_nfnl(n, &nf, err);
    if (r == 0)
        r = nfnl_element_find(nf, map, &protocols[0], 1, &there, err);
    if (r < 0)
        return r;
    for (size_t i = 0; there && i < ARRAY_SIZE(protocols); i++)
        nfnl_element_delete(nf, map, &protocols[i], 1);
    if (there)
        nfnl_limit_delete(nf, map);
    if (rate != NETWORK_UNLIMITED) {
        nfnl_limit_add(nf, map, rate ? rate : 1, limit_burst(rate, 2), true);
        for (size_t i = 0; i < ARRAY_SIZE(protocols); i++)
            nfnl_element_add(nf, map, &protocols[i], 1, map);
    }
    r = nfnl_commit(nf, err);
    return r < 0 ? err_wrap(err, "cannot bound new connections of all VEs") : 0;
}

/* ---- what was counted ---- */

struct refused_item {
    int64_t id;
    struct network_refused refused;
    uint64_t in_private; /* of its packets, in private networks */
};
struct refused_list {
    struct refused_item *items;
    size_t len, cap;
    bool in_private; /* it is their table that is read */
};

/* "ve7-rate" */
static bool object_id(const char *name, const char *object, int64_t *ret)
{
    char text[NAME];
    uint64_t id;
    size_t len = strlen(name), tail = strlen(object) + 1;
    if (!str_starts(name, "ve") || len < 2 + tail || name[len - tail] != '-' ||
        !str_eq(name + len - tail + 1, object) ||
        str_print(text, sizeof(text), "%.*s", (int)(len - 2 - tail), name + 2) < 0 ||
        number_parse(text, 1, INT64_MAX, &id, NULL) < 0)
        return false;
    *ret = (int64_t)id;
    return true;
}

static int add_refused(void *ctx, const struct nfnl_counter *c, struct err *err)
{
    struct refused_list *list = ctx;
    struct refused_item item = {0};
    uint64_t *const fields[] = {&item.refused.packets, &item.refused.rate,
                                &item.refused.connections};
    for (size_t i = 0; i < ARRAY_SIZE(counter_maps) && !item.id; i++)
        if (object_id(c->name, counter_maps[i].object, &item.id))
            *(list->in_private ? &item.in_private : fields[i]) = c->packets;
    if (!item.id)
        return 0;
    if (list->len == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        struct refused_item *items = reallocarray(list->items, cap, sizeof(*items));
        if (!items)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        list->items = items;
        list->cap = cap;
    }
    list->items[list->len++] = item;
    return 0;
}

static int by_id(const void *a, const void *b)
{
    const struct refused_item *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static void raise_to(uint64_t *to, uint64_t from)
{
    *to = from > *to ? from : *to;
}

/* Four objects of each VE become one item. */
static size_t merge(struct refused_item *items, size_t n)
{
    size_t out = 0;
    qsort(items, n, sizeof(*items), by_id);
    for (size_t i = 0; i < n; i++) {
        if (out == 0 || items[out - 1].id != items[i].id) {
            items[out++] = items[i];
            continue;
        }
        /* A dump that was disturbed by a change may tell of one twice. */
        struct refused_item *to = &items[out - 1], *from = &items[i];
        raise_to(&to->refused.packets, from->refused.packets);
        raise_to(&to->refused.rate, from->refused.rate);
        raise_to(&to->refused.connections, from->refused.connections);
        raise_to(&to->in_private, from->in_private);
    }
    return out;
}

void network_refused_keep(struct network_node *n, bool keep)
{
    struct refused_list list = {0};
    struct nfnl *nf;
    cleanup_free(&n->refused);
    if (!keep || network_nfnl(n, &nf, NULL) < 0)
        return;
    int r = nfnl_counter_each(nf, add_refused, &list, NULL);
    list.in_private = true;
    if (r < 0 || !list.items || network_bridge_nfnl(n, &nf, NULL) < 0 ||
        nfnl_counter_each(nf, add_refused, &list, NULL) < 0) {
        free(list.items); /* then each is asked for itself */
        return;
    }
    n->refused = list.items;
    n->n_refused = merge(list.items, list.len);
}

static uint64_t refused_in_private(struct network_node *n, int64_t id)
{
    struct nfnl *nf;
    struct nfnl_counter c = {0};
    char name[NAME];
    if (network_bridge_nfnl(n, &nf, NULL) < 0 ||
        nfnl_counter_get(nf, object_name(id, "packets", name), &c, NULL) < 0)
        return 0;
    return c.packets;
}

int network_refused(struct network_node *n, int64_t id, struct network_refused *ret,
                    struct err *err)
{
    struct nfnl *nf;
    if (n->refused) {
        struct refused_item *item = bsearch(&(struct refused_item){.id = id}, n->refused,
                                            n->n_refused, sizeof(*n->refused), by_id);
        if (!item)
            return err_set(err, ERR_NOT_FOUND, "nothing is counted of it");
        *ret = item->refused;
        ret->packets += item->in_private;
        return 0;
    }
    struct nfnl_counter c[ARRAY_SIZE(counter_maps)];
    char name[NAME];
    int r = network_nfnl(n, &nf, err);
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(counter_maps); i++)
        r = nfnl_counter_get(nf, object_name(id, counter_maps[i].object, name), &c[i], err);
    if (r == 0)
        *ret = (struct network_refused){.packets = c[0].packets + refused_in_private(n, id),
                                        .rate = c[1].packets,
                                        .connections = c[2].packets};
    return r;
}

struct id_list {
    int64_t *ids;
    size_t len, cap;
};

static int add_id(void *ctx, const struct nfnl_counter *c, struct err *err)
{
    struct id_list *list = ctx;
    int64_t id;
    if (!object_id(c->name, counter_maps[0].object, &id))
        return 0;
    if (list->len == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        int64_t *ids = reallocarray(list->ids, cap, sizeof(*ids));
        if (!ids)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        list->ids = ids;
        list->cap = cap;
    }
    list->ids[list->len++] = id;
    return 0;
}

int network_limits_list(struct network_node *n, int64_t **ret, size_t *ret_n, struct err *err)
{
    struct id_list list = {0};
    struct nfnl *nf;
    int r = network_nfnl(n, &nf, err);
    if (r == 0)
        r = nfnl_counter_each(nf, add_id, &list, err);
    if (r < 0) {
        free(list.ids);
        return r;
    }
    *ret = list.ids;
    *ret_n = list.len;
    return 0;
}
