/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses of VEs beside their own pair: who has which.
 *
 * A change is committed before the kernel is touched.  Where the kernel refuses it, both are put
 * back; where teremd ends in between, ve_addresses_settle() makes the kernel agree with the
 * registry when it starts again.
 */
#include "ve/address.h"

#include "ve/jobs.h"

#include <ctype.h>
#include <inttypes.h>

#define ADDRESSES_MAX 65536

size_t ve_address_at(const struct ve_node *node, const struct netlink_ip *ip, bool *ret_found)
{
    const struct ve_addresses *a = &node->addresses;
    size_t low = 0, high = a->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (network_ip_compare(&a->v[middle].ip, ip) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_found = low < a->n && network_ip_compare(&a->v[low].ip, ip) == 0;
    return low;
}

static int by_id(const void *a, const void *b)
{
    int64_t x = (*(const struct ve_address *const *)a)->rec.id,
            y = (*(const struct ve_address *const *)b)->rec.id;
    return (x > y) - (x < y);
}

/* Those of one VE in the order in which it got them; freed by the caller. */
static const struct ve_address **list_of(const struct ve *ve, size_t *ret_n)
{
    const struct ve_addresses *a = &ve->node->addresses;
    size_t n = 0;
    for (size_t i = 0; i < a->n; i++)
        n += a->v[i].rec.ve == ve->rec.id;
    const struct ve_address **list = calloc(n + 1, sizeof(*list));
    *ret_n = list ? n : 0;
    for (size_t i = 0, k = 0; list && k < n; i++)
        if (a->v[i].rec.ve == ve->rec.id)
            list[k++] = &a->v[i];
    if (n > 1 && list)
        qsort(list, n, sizeof(*list), by_id);
    return list;
}

int ve_addresses_of(const struct ve *ve, struct network_address *ret, struct err *err)
{
    size_t n;
    struct network_address a;
    if (network_address_of(ve->node->network, ve->rec.slot, &a, err) < 0)
        return -err->kind;
    auto_free const struct ve_address **list = list_of(ve, &n);
    struct netlink_ip *more = list ? calloc(n + 1, sizeof(*more)) : NULL;
    if (!more)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < n; i++)
        more[i] = list[i]->ip;
    a.more = more;
    a.n_more = n;
    *ret = a;
    return 0;
}

void ve_addresses_free(struct network_address *a)
{
    free((void *)a->more);
    a->more = NULL;
    a->n_more = 0;
}

void ve_addresses_add_json(const struct ve *ve, json_t *list)
{
    size_t n;
    auto_free const struct ve_address **mine = list_of(ve, &n);
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_string(mine[i]->rec.address));
}

static json_t *address_json(struct ve_node *node, const struct registry_address *a)
{
    const struct ve *ve = a->ve ? ve_by_id(node, a->ve) : NULL;
    return json_pack("{s:s, s:s, s:s?, s:b, s:s?, s:s?}", "address", a->address, "pool", a->pool,
                     "ve", ve ? ve->rec.name : NULL, "reserved", (int)a->reserved, "name",
                     *a->name ? a->name : NULL, "reverse", *a->reverse ? a->reverse : NULL);
}

int ve_address_list(struct ve_node *node, const char *ve_name, const char *pool, json_t **ret,
                    struct err *err)
{
    struct ve *ve = NULL;
    const struct ve_address_pool *p = NULL;
    if ((ve_name && ve_find_err(node, ve_name, &ve, err) < 0) ||
        (pool && ve_address_pool_find(node, pool, &p, err) < 0))
        return -err->kind;
    *ret = json_array();
    for (size_t i = 0; i < node->addresses.n; i++) {
        const struct registry_address *a = &node->addresses.v[i].rec;
        if ((!ve || a->ve == ve->rec.id) && (!p || str_eq(a->pool, p->rec.name)))
            json_array_append_new(*ret, address_json(node, a));
    }
    return 0;
}

/* ---- whose they are ---- */

static uint32_t owner_slot(void *ctx, const struct netlink_ip *ip)
{
    struct ve_node *node = ctx;
    bool found;
    size_t at = ve_address_at(node, ip, &found);
    const struct ve *ve = found ? ve_by_id(node, node->addresses.v[at].rec.ve) : NULL;
    return ve ? ve->rec.slot : 0;
}

static int owner_each(void *ctx, uint32_t slot,
                      int (*item)(void *item_ctx, const struct netlink_ip *ip, struct err *err),
                      void *item_ctx, struct err *err)
{
    const struct ve_node *node = ctx;
    int64_t id = 0;
    for (size_t i = 0; i < node->n_ves && !id; i++)
        if (node->ves[i]->rec.slot == slot)
            id = node->ves[i]->rec.id;
    int r = 0;
    for (size_t i = 0; r == 0 && id && i < node->addresses.n; i++)
        if (node->addresses.v[i].rec.ve == id)
            r = item(item_ctx, &node->addresses.v[i].ip, err);
    return r;
}

void ve_addresses_own(struct ve_node *node)
{
    network_owners_ask(node->network, &(struct network_owners){node, owner_slot, owner_each});
}

/* ---- finding ---- */

static bool is_ip(const char *text)
{
    return strchr(text, '.') || strchr(text, ':');
}

static struct ve_address *find_named(struct ve_node *node, const char *name)
{
    for (size_t i = 0; i < node->addresses.n; i++)
        if (*name && str_eq(node->addresses.v[i].rec.name, name))
            return &node->addresses.v[i];
    return NULL;
}

/* By address or name. */
static int find(struct ve_node *node, const char *text, struct ve_address **ret, struct err *err)
{
    struct netlink_ip ip;
    bool found;
    if (!is_ip(text)) {
        *ret = find_named(node, text);
        return *ret ? 0
                    : err_set(err, ERR_NOT_FOUND,
                              "no address is named %.63s; terem network address list shows them",
                              text);
    }
    if (network_ip_parse(text, &ip, err) < 0)
        return -err->kind;
    size_t at = ve_address_at(node, &ip, &found);
    if (!found)
        return err_set(err, ERR_NOT_FOUND,
                       "%s: no VE has it and it is not reserved; terem network "
                       "address list shows those",
                       text);
    *ret = &node->addresses.v[at];
    return 0;
}

int ve_address_show(struct ve_node *node, const char *text, json_t **ret, struct err *err)
{
    struct ve_address *a;
    if (find(node, text, &a, err) < 0)
        return -err->kind;
    *ret = address_json(node, &a->rec);
    return 0;
}

static int next_free(struct ve_node *node, const struct ve_address_pool *p, struct netlink_ip *ret,
                     struct err *err)
{
    struct netlink_ip ip = p->range.first;
    for (;; ip = network_ip_next(ip)) {
        bool taken;
        ve_address_at(node, &ip, &taken);
        if (!taken && network_range_allows(node->network, &p->range, &ip, &(struct err){0}) == 0)
            break;
        if (network_ip_compare(&ip, &p->range.last) == 0)
            return err_set(err, ERR_EXHAUSTED,
                           "address pool %s has no free address; remove or release one, or make "
                           "another pool",
                           p->rec.name);
    }
    *ret = ip;
    return 0;
}

static int default_pool(struct ve_node *node, const struct ve_address_pool **ret, struct err *err)
{
    const struct ve_addresses *a = &node->addresses;
    if (a->n_pools == 0)
        return err_set(err, ERR_NOT_FOUND,
                       "there is no address pool; terem network pool create makes one");
    if (a->n_pools > 1)
        return err_set(err, ERR_USAGE, "there are %zu address pools; say which, or the address",
                       a->n_pools);
    *ret = &a->pools[0];
    return 0;
}

static int in_no_pool(const struct ve_node *node, const struct netlink_ip *ip, const char *text,
                      struct err *err)
{
    for (size_t i = 0; i < node->addresses.n_pools; i++) {
        const struct registry_address_pool *p = &node->addresses.pools[i].rec;
        const struct network_range *r = &node->addresses.pools[i].range;
        if (network_range_around(r, ip))
            return err_set(err, ERR_NOT_FOUND,
                           "%s is %s%s, of which address pool %s gives %s to %s; choose one of "
                           "these",
                           text,
                           network_ip_compare(ip, &r->base) == 0 ? "the own address of the network "
                                                                 : "in ",
                           p->prefix, p->name, p->first, p->last);
    }
    return err_set(err, ERR_NOT_FOUND,
                   "%s is in no address pool; terem network pool list shows them", text);
}

/* The address that a request means, which may be nobody's yet. */
static int choose(struct ve_node *node, const json_t *request, struct registry_address *ret,
                  struct err *err)
{
    const char *text = json_string_value(json_object_get(request, "address")),
               *pool = json_string_value(json_object_get(request, "pool"));
    const struct ve_address_pool *p = NULL;
    struct ve_address *a;
    struct netlink_ip ip;
    bool found;
    if (pool && ve_address_pool_find(node, pool, &p, err) < 0)
        return -err->kind;
    if (!text) {
        if ((!p && default_pool(node, &p, err) < 0) || next_free(node, p, &ip, err) < 0)
            return -err->kind;
    } else if (!is_ip(text)) {
        if (find(node, text, &a, err) < 0)
            return -err->kind;
        ip = a->ip;
    } else if (network_ip_parse(text, &ip, err) < 0) {
        return -err->kind;
    }
    size_t at = ve_address_at(node, &ip, &found);
    if (found) {
        *ret = node->addresses.v[at].rec;
        return 0;
    }
    const struct ve_address_pool *of = ve_address_pool_of(node, &ip);
    if (p && of != p)
        return err_set(err, ERR_NOT_FOUND, "%s is not in address pool %s, which has %s to %s", text,
                       p->rec.name, p->rec.first, p->rec.last);
    if (!of)
        return in_no_pool(node, &ip, text, err);
    if (text && network_range_allows(node->network, &of->range, &ip, err) < 0)
        return err_wrap(err, "%s", text);
    char buf[NETWORK_TEXT];
    *ret = (struct registry_address){0};
    str_print(ret->address, sizeof(ret->address), "%s", network_ip_text(&ip, -1, buf));
    str_print(ret->pool, sizeof(ret->pool), "%s", of->rec.name);
    return 0;
}

/* ---- changing ---- */

/* As in the DNS: labels of letters, digits, '-' and '_', at most 253 characters. */
static int check_host(const char *host, struct err *err)
{
    size_t len = strlen(host), label = 0;
    bool good = len > 0 && len <= 253;
    for (size_t i = 0; i < len && good; i++) {
        if (host[i] == '.')
            good = label > 0 && host[i - 1] != '-';
        else
            good = (isalnum((unsigned char)host[i]) || host[i] == '_' ||
                    (host[i] == '-' && label > 0)) &&
                   label < 63;
        label = host[i] == '.' ? 0 : label + 1;
    }
    if (good && host[len - 1] != '-')
        return 0;
    return err_set(err, ERR_USAGE, "\"%.60s\" is not a host name such as mail.example.org", host);
}

/* name, reverse, reserved of a request. */
static int read_rest(struct ve_node *node, const json_t *request, struct registry_address *a,
                     struct err *err)
{
    const json_t *name = json_object_get(request, "name"),
                 *reverse = json_object_get(request, "reverse"),
                 *reserved = json_object_get(request, "reserved");
    const char *text = json_string_value(name), *host = json_string_value(reverse);
    const struct ve_address *other = text ? find_named(node, text) : NULL;
    if (text && name_check_ve(text, err) < 0)
        return err_wrap(err, "%s", a->address);
    if (other && !str_eq(other->rec.address, a->address))
        return err_set(err, ERR_EXISTS, "%s: %s is named %s already; choose another name",
                       a->address, other->rec.address, text);
    if (host && check_host(host, err) < 0)
        return err_wrap(err, "%s", a->address);
    if (name)
        str_print(a->name, sizeof(a->name), "%s", text ? text : "");
    if (reverse)
        str_print(a->reverse, sizeof(a->reverse), "%s", host ? host : "");
    if (reserved)
        a->reserved = json_is_true(reserved);
    return 0;
}

static bool is_nothing(const struct registry_address *a)
{
    return !a->ve && !a->reserved;
}

static int record(struct ve_node *node, const struct registry_address *old,
                  struct registry_address *new, struct err *err)
{
    int r = ve_begin(node, err);
    if (r == 0 && is_nothing(new))
        r = registry_address_delete(node->registry, new->address, err);
    else if (r == 0 && new->ve == old->ve && !is_nothing(old))
        r = registry_address_update(node->registry, new, err);
    else if (r == 0 && (is_nothing(old) ||
                        (r = registry_address_delete(node->registry, new->address, err)) == 0))
        r = registry_address_insert(node->registry, new, err); /* the last that it got */
    if (r == 0)
        r = ve_commit(node, err);
    if (r < 0)
        ve_rollback(node);
    return r;
}

/* There is room for one more, since before the registry was told. */
static void remember(struct ve_node *node, const struct netlink_ip *ip,
                     const struct registry_address *new)
{
    struct ve_addresses *a = &node->addresses;
    bool found;
    size_t at = ve_address_at(node, ip, &found);
    if (found && is_nothing(new)) {
        memmove(&a->v[at], &a->v[at + 1], (a->n - at - 1) * sizeof(*a->v));
        a->n--;
    } else if (found) {
        a->v[at].rec = *new;
    } else if (!is_nothing(new)) {
        memmove(&a->v[at + 1], &a->v[at], (a->n - at) * sizeof(*a->v));
        a->v[at] = (struct ve_address){*new, *ip};
        a->n++;
    }
}

bool ve_has_cable(const struct ve *ve)
{
    return ve->pidfd >= 0 && !ve->gone && ve_state_is_up(ve->state);
}

/* What the VE has now it has in the kernel, too, or no more. */
static int apply(struct ve_node *node, int64_t id, const struct netlink_ip *ip, bool add,
                 struct err *err)
{
    struct ve *ve = id ? ve_by_id(node, id) : NULL;
    auto_clean(ve_addresses_free) struct network_address have = {0};
    if (!ve || !ve_has_cable(ve))
        return 0;
    if (ve_addresses_of(ve, &have, err) < 0)
        return -err->kind;
    int r = add ? network_address_add(node->network, id, ve->pidfd, &have, ip, err)
                : network_address_remove(node->network, id, ve->pidfd, &have, ip, err);
    return r < 0 ? err_wrap(err, "%s", ve->rec.name) : 0;
}

static int make_room(struct ve_node *node, struct err *err)
{
    struct ve_addresses *a = &node->addresses;
    struct ve_address *v = a->n < ADDRESSES_MAX ? reallocarray(a->v, a->n + 1, sizeof(*v)) : NULL;
    if (!v)
        return err_set(err, ERR_EXHAUSTED,
                       "there are %zu addresses that are given or reserved, as many as may be; "
                       "remove or release one",
                       a->n);
    a->v = v;
    return 0;
}

/* From what it was to what it shall be, or nothing. */
static int change(struct ve_node *node, const struct registry_address *was,
                  struct registry_address *new, struct err *err)
{
    struct registry_address old = *was; /* `was` may lie in the list */
    struct netlink_ip ip;
    bool moves = old.ve != new->ve;
    if (network_ip_parse(new->address, &ip, err) < 0 || make_room(node, err) < 0 ||
        (moves && (ve_refuse_busy(ve_by_id(node, old.ve), err) < 0 ||
                   ve_refuse_busy(ve_by_id(node, new->ve), err) < 0)) ||
        record(node, &old, new, err) < 0)
        return -err->kind;
    remember(node, &ip, new);
    if (!moves ||
        (apply(node, old.ve, &ip, false, err) == 0 && apply(node, new->ve, &ip, true, err) == 0))
        return 0;
    struct err e = {0};
    if (record(node, new, &old, &e) == 0) {
        remember(node, &ip, &old);
        apply(node, old.ve, &ip, true, &e);
    }
    if (e.kind)
        log_error(NULL, 0, "%s: cannot put back what was before: %s", old.address, e.text);
    return -err->kind;
}

static const char *name_of(struct ve_node *node, int64_t id)
{
    const struct ve *ve = id ? ve_by_id(node, id) : NULL;
    return ve ? ve->rec.name : NULL;
}

static void tell(struct ve_node *node, const struct registry_address *old,
                 const struct registry_address *new)
{
    const char *type = "address.updated";
    if (old->ve != new->ve)
        type = !old->ve ? "address.added" : !new->ve ? "address.removed" : "address.moved";
    else if (old->reserved != new->reserved)
        type = new->reserved ? "address.reserved" : "address.released";
    ve_event_emit(node, json_pack("{s:s, s:s, s:s?, s:s?}", "type", type, "address", new->address,
                                  "from", old->ve != new->ve ? name_of(node, old->ve) : NULL, "ve",
                                  name_of(node, new->ve)));
}

int ve_address_add(struct ve_node *node, const json_t *request, json_t **ret, struct err *err)
{
    struct registry_address old, new;
    struct ve *ve = NULL;
    const char *name = json_string_value(json_object_get(request, "ve"));
    if ((name && ve_find_err(node, name, &ve, err) < 0) || choose(node, request, &old, err) < 0)
        return -err->kind;
    const char *owner = name_of(node, old.ve);
    if (owner && ve && old.ve == ve->rec.id)
        return err_set(err, ERR_EXISTS, "%s has %s already", owner, old.address);
    if (owner)
        return err_set(err, ERR_EXISTS, "%s is %s's; terem network address %s", old.address, owner,
                       ve ? "move gives it to another"
                          : "set --reserve keeps it when that is gone");
    if (!ve && old.reserved)
        return err_set(err, ERR_EXISTS, "%s is reserved already", old.address);
    new = old;
    if (read_rest(node, request, &new, err) < 0)
        return -err->kind;
    new.ve = ve ? ve->rec.id : 0;
    new.reserved |= !ve;
    if (change(node, &old, &new, err) < 0)
        return -err->kind;
    tell(node, &old, &new);
    *ret = address_json(node, &new);
    return 0;
}

int ve_address_change(struct ve_node *node, const char *text, const json_t *changes, json_t **ret,
                      struct err *err)
{
    struct ve_address *a;
    struct ve *ve = NULL;
    const json_t *to = json_object_get(changes, "ve");
    if (find(node, text, &a, err) < 0 ||
        (json_is_string(to) && ve_find_err(node, json_string_value(to), &ve, err) < 0))
        return -err->kind;
    struct registry_address old = a->rec, new = a->rec;
    if (read_rest(node, changes, &new, err) < 0)
        return -err->kind;
    if (to)
        new.ve = ve ? ve->rec.id : 0;
    if (ve && old.ve == new.ve)
        return err_set(err, ERR_EXISTS, "%s has %s already", ve->rec.name, old.address);
    if (json_is_null(to) && !old.ve)
        return err_set(err, ERR_STATE, "%s is no VE's; terem network address release frees it",
                       old.address);
    if (change(node, &old, &new, err) < 0)
        return -err->kind;
    tell(node, &old, &new);
    *ret = address_json(node, &new);
    return 0;
}

int ve_addresses_forget(const struct ve *ve, struct err *err)
{
    struct ve_node *node = ve->node;
    for (size_t i = node->addresses.n; i-- > 0;) {
        struct ve_address a = node->addresses.v[i];
        if (a.rec.ve != ve->rec.id)
            continue;
        a.rec.ve = 0;
        if ((a.rec.reserved ? registry_address_update(node->registry, &a.rec, err)
                            : registry_address_delete(node->registry, a.rec.address, err)) < 0)
            return err_wrap(err, "cannot free %s", a.rec.address);
        remember(node, &a.ip, &a.rec);
    }
    return 0;
}

/* ---- after a crash ---- */

void ve_addresses_settle(struct ve_node *node)
{
    auto_free struct network_settle *list = calloc(node->n_ves + 1, sizeof(*list));
    size_t n = 0;
    struct err e = {0};
    for (size_t i = 0; list && i < node->n_ves; i++) {
        const struct ve *ve = node->ves[i];
        list[n] = (struct network_settle){.id = ve->rec.id,
                                          .netns_fd = ve_has_cable(ve) ? ve->pidfd : -1};
        if (ve_addresses_of(ve, &list[n].have, &e) == 0)
            n++;
        else
            log_error(ve->rec.name, 0, "%s", e.text);
    }
    if (list && network_addresses_settle(node->network, list, n, &e) < 0)
        log_error(NULL, 0, "addresses of VEs could not be put in order: %s", e.text);
    for (size_t i = 0; i < n; i++)
        ve_addresses_free(&list[i].have);
}
