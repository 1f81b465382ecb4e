/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Address pools: names for ranges of addresses that reach this machine. */
#include "ve/address.h"
#include "ve/private.h"

#include <inttypes.h>

#define POOLS_MAX 1024

const struct ve_address_pool *ve_address_pool_of(const struct ve_node *node,
                                                 const struct netlink_ip *ip)
{
    for (size_t i = 0; i < node->addresses.n_pools; i++)
        if (network_range_has(&node->addresses.pools[i].range, ip))
            return &node->addresses.pools[i];
    return NULL;
}

static const char *next_name(void *ctx, size_t i)
{
    const struct ve_addresses *a = ctx;
    return i < a->n_pools ? a->pools[i].rec.name : NULL;
}

int ve_address_pool_find(struct ve_node *node, const char *name, const struct ve_address_pool **ret,
                         struct err *err)
{
    if (name_check_ve(name, err) < 0)
        return err_wrap(err, "address pool");
    for (size_t i = 0; i < node->addresses.n_pools; i++)
        if (str_eq(node->addresses.pools[i].rec.name, name)) {
            *ret = &node->addresses.pools[i];
            return 0;
        }
    const char *near = name_suggest(name, next_name, &node->addresses);
    if (near)
        return err_set(err, ERR_NOT_FOUND, "there is no address pool %s; did you mean %s?", name,
                       near);
    return err_set(err, ERR_NOT_FOUND,
                   "there is no address pool %s; terem network pool list shows them", name);
}

static int by_name(const void *a, const void *b)
{
    const struct ve_address_pool *x = a, *y = b;
    return strcmp(x->rec.name, y->rec.name);
}

static int append(struct ve_node *node, const struct ve_address_pool *pool, struct err *err)
{
    struct ve_addresses *a = &node->addresses;
    struct ve_address_pool *p = reallocarray(a->pools, a->n_pools + 1, sizeof(*p));
    if (!p)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    a->pools = p;
    p[a->n_pools++] = *pool;
    qsort(p, a->n_pools, sizeof(*p), by_name);
    return 0;
}

static void take_out(struct ve_node *node, const char *name)
{
    struct ve_addresses *a = &node->addresses;
    for (size_t i = 0; i < a->n_pools; i++)
        if (str_eq(a->pools[i].rec.name, name)) {
            memmove(&a->pools[i], &a->pools[i + 1], (a->n_pools - i - 1) * sizeof(*a->pools));
            a->n_pools--;
            return;
        }
}

/* ---- the registry ---- */

static int load_pool(void *ctx, const struct registry_address_pool *rec, struct err *err)
{
    struct ve_address_pool p = {.rec = *rec};
    char ends[2 * REGISTRY_ADDRESS + 2];
    str_print(ends, sizeof(ends), "%s-%s", rec->first, rec->last);
    if (network_range_parse(rec->prefix, ends, &p.range, err) < 0)
        return err_wrap(err, "address pool %s", rec->name);
    p.range.public = rec->public;
    return append(ctx, &p, err);
}

static int load_address(void *ctx, const struct registry_address *rec, struct err *err)
{
    struct ve_node *node = ctx;
    struct ve_addresses *a = &node->addresses;
    struct ve_address *v = reallocarray(a->v, a->n + 1, sizeof(*v));
    struct netlink_ip ip;
    bool found;
    if (!v)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    a->v = v;
    if (network_ip_parse(rec->address, &ip, err) < 0)
        return -err->kind;
    size_t at = ve_address_at(node, &ip, &found);
    memmove(&v[at + 1], &v[at], (a->n - at) * sizeof(*v));
    v[at] = (struct ve_address){*rec, ip};
    a->n++;
    return 0;
}

static int tell_ranges(struct ve_node *node, struct err *err)
{
    size_t n = node->addresses.n_pools;
    auto_free struct network_range *list = calloc(n + 1, sizeof(*list));
    if (!list)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < n; i++)
        list[i] = node->addresses.pools[i].range;
    return network_ranges_set(node->network, list, n, err);
}

int ve_addresses_load(struct ve_node *node, struct err *err)
{
    if (registry_address_pool_each(node->registry, load_pool, node, err) < 0 ||
        registry_address_each(node->registry, load_address, node, err) < 0 ||
        tell_ranges(node, err) < 0)
        return err_wrap(err, "cannot read the addresses of VEs");
    ve_addresses_own(node);
    return 0;
}

void ve_addresses_done(struct ve_node *node)
{
    free(node->addresses.pools);
    free(node->addresses.v);
    node->addresses = (struct ve_addresses){0};
}

/* One whose network somebody has taken meanwhile stays: VEs that run speak by it. */
int ve_addresses_lay(struct ve_node *node, struct err *err)
{
    for (size_t i = 0; i < node->addresses.n_pools; i++) {
        const struct ve_address_pool *p = &node->addresses.pools[i];
        struct err e = {0};
        if (network_range_check(node->network, &p->range, &e) < 0)
            log_warn(NULL, 0, "address pool %s: %s", p->rec.name, e.text);
    }
    return network_ranges_lay(node->network, err);
}

/* In memory and in the kernel, after the registry's commit; the prefixes of class local follow. */
static int lay(struct ve_node *node, struct err *err)
{
    int r = tell_ranges(node, err);
    if (r == 0)
        r = network_ranges_lay(node->network, err);
    return r < 0 ? r : network_count_prefixes(node->network, &node->classes.prefixes, err);
}

/* ---- as JSON ---- */

/* How many addresses there are; 0: more than a number holds. */
static uint64_t size_of(const struct network_range *r)
{
    uint64_t first, last;
    const uint8_t *a = r->first.v6.s6_addr, *b = r->last.v6.s6_addr;
    if (r->base.family == AF_INET)
        return (uint64_t)ntohl(r->last.v4.s_addr) - ntohl(r->first.v4.s_addr) + 1;
    if (memcmp(a, b, 8) != 0)
        return 0;
    memcpy(&first, a + 8, sizeof(first));
    memcpy(&last, b + 8, sizeof(last));
    uint64_t n = be64toh(last) - be64toh(first);
    return n < INT64_MAX ? n + 1 : 0;
}

static json_t *pool_json(const struct ve_node *node, const struct ve_address_pool *p)
{
    int64_t used = 0, reserved = 0;
    uint64_t size = size_of(&p->range);
    char link[IFNAMSIZ];
    for (size_t i = 0; i < node->addresses.n; i++) {
        const struct registry_address *a = &node->addresses.v[i].rec;
        used += str_eq(a->pool, p->rec.name) && a->ve;
        reserved += str_eq(a->pool, p->rec.name) && !a->ve;
    }
    int index = network_range_link(node->network, &p->range);
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:b, s:s?, s:I, s:I, s:o}", "name", p->rec.name,
                     "prefix", p->rec.prefix, "first", p->rec.first, "last", p->rec.last, "family",
                     p->range.base.family == AF_INET ? 4 : 6, "public", (int)p->rec.public,
                     "announced", index && if_indextoname((unsigned)index, link) ? link : NULL,
                     "used", (json_int_t)used, "reserved", (json_int_t)reserved, "free",
                     size ? json_integer((json_int_t)size - used - reserved) : json_null());
}

int ve_address_pool_list(struct ve_node *node, json_t **ret, struct err *err)
{
    *ret = json_array();
    for (size_t i = 0; i < node->addresses.n_pools; i++)
        json_array_append_new(*ret, pool_json(node, &node->addresses.pools[i]));
    return 0;
}

int ve_address_pool_show(struct ve_node *node, const char *name, json_t **ret, struct err *err)
{
    const struct ve_address_pool *p;
    if (ve_address_pool_find(node, name, &p, err) < 0)
        return -err->kind;
    *ret = pool_json(node, p);
    return 0;
}

/* ---- making and removing ---- */

static int check_new(struct ve_node *node, const struct ve_address_pool *new, struct err *err)
{
    const struct ve_addresses *a = &node->addresses;
    if (a->n_pools == POOLS_MAX)
        return err_set(err, ERR_EXHAUSTED,
                       "there are %d address pools, as many as may be; remove one", POOLS_MAX);
    for (size_t i = 0; i < a->n_pools; i++) {
        const struct ve_address_pool *p = &a->pools[i];
        if (str_eq(p->rec.name, new->rec.name))
            return err_set(err, ERR_EXISTS,
                           "there is an address pool of this name already; choose another name");
        if (network_range_overlaps(&p->range, &new->range))
            return err_set(err, ERR_EXISTS,
                           "the network %s overlaps %s of address pool %s; choose another",
                           new->rec.prefix, p->rec.prefix, p->rec.name);
    }
    if (ve_privates_clash(node, &new->range, err) < 0)
        return -err->kind;
    return network_range_check(node->network, &new->range, err);
}

static int read_new(struct ve_node *node, const json_t *spec, struct ve_address_pool *p,
                    struct err *err)
{
    const char *prefix = json_string_value(json_object_get(spec, "prefix")),
               *range = json_string_value(json_object_get(spec, "range"));
    const json_t *public = json_object_get(spec, "public");
    char text[NETWORK_TEXT];
    if (!prefix)
        return err_set(err, ERR_USAGE, "its prefix is missing, such as 203.0.113.16/28");
    if (network_range_parse(prefix, range, &p->range, err) < 0)
        return -err->kind;
    if (json_is_boolean(public))
        p->range.public = json_is_true(public);
    p->rec.public = p->range.public;
    str_print(p->rec.prefix, sizeof(p->rec.prefix), "%s",
              network_ip_text(&p->range.base, p->range.prefix, text));
    str_print(p->rec.first, sizeof(p->rec.first), "%s", network_ip_text(&p->range.first, -1, text));
    str_print(p->rec.last, sizeof(p->rec.last), "%s", network_ip_text(&p->range.last, -1, text));
    return check_new(node, p, err);
}

static int record(struct ve_node *node, const struct ve_address_pool *p, bool there,
                  struct err *err)
{
    int r = ve_begin(node, err);
    if (r == 0)
        r = there ? registry_address_pool_insert(node->registry, &p->rec, err)
                  : registry_address_pool_delete(node->registry, p->rec.name, err);
    if (r == 0)
        r = ve_commit(node, err);
    if (r < 0)
        ve_rollback(node);
    return r;
}

/* The registry, memory, then the kernel: what fails there is put back. */
static int put(struct ve_node *node, const struct ve_address_pool *p, bool there, struct err *err)
{
    int r = record(node, p, there, err);
    if (r < 0)
        return r;
    if (!there)
        take_out(node, p->rec.name);
    else
        r = append(node, p, err);
    if (r == 0)
        r = lay(node, err);
    if (r == 0)
        return 0;
    struct err e = {0};
    if (there)
        take_out(node, p->rec.name);
    else
        append(node, p, &e);
    if (lay(node, &e) < 0 || record(node, p, !there, &e) < 0)
        log_error(NULL, 0, "address pool %s: cannot put back what was before: %s", p->rec.name,
                  e.text);
    return r;
}

int ve_address_pool_create(struct ve_node *node, const json_t *spec, json_t **ret, struct err *err)
{
    struct ve_address_pool p = {0};
    const char *name = json_string_value(json_object_get(spec, "name"));
    if (!name)
        return err_set(err, ERR_USAGE, "address pool: its name is missing");
    if (name_check_ve(name, err) < 0)
        return err_wrap(err, "address pool");
    str_print(p.rec.name, sizeof(p.rec.name), "%s", name);
    if (read_new(node, spec, &p, err) < 0 || put(node, &p, true, err) < 0)
        return err_wrap(err, "address pool %s", name);
    *ret = pool_json(node, &p);
    ve_event_emit(node, json_pack("{s:s, s:s, s:s}", "type", "address-pool.created", "address_pool",
                                  name, "prefix", p.rec.prefix));
    return 0;
}

static int refuse_used(struct ve_node *node, const struct ve_address_pool *p, struct err *err)
{
    auto_str struct str users = str_init(4096);
    size_t n = 0;
    for (size_t i = 0; i < node->addresses.n; i++) {
        const struct registry_address *a = &node->addresses.v[i].rec;
        const struct ve *ve = a->ve ? ve_by_id(node, a->ve) : NULL;
        char user[REGISTRY_ADDRESS + NAME_SIZE + 3];
        if (!str_eq(a->pool, p->rec.name))
            continue;
        str_print(user, sizeof(user), "%s (%s)", a->address, ve ? ve->rec.name : "reserved");
        str_add_name(&users, &n, user);
    }
    str_end_names(&users, n);
    if (!n)
        return 0;
    return err_set(err, ERR_STATE,
                   "it is in use: %s; terem network address remove and release free them",
                   str_c(&users));
}

int ve_address_pool_remove(struct ve_node *node, const char *name, struct err *err)
{
    const struct ve_address_pool *p;
    if (ve_address_pool_find(node, name, &p, err) < 0)
        return -err->kind;
    struct ve_address_pool copy = *p;
    if (refuse_used(node, p, err) < 0 || put(node, &copy, false, err) < 0)
        return err_wrap(err, "address pool %s", name);
    ve_event_emit(node,
                  json_pack("{s:s, s:s}", "type", "address-pool.removed", "address_pool", name));
    return 0;
}
