/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private networks, and who is in which.
 *
 * A network is a row of the registry; that a VE is in it stands in the VE's specification:
 * "networks": {"back": {"port": 1, "number": 5}}, so that it is saved with the VE's record and goes
 * with it.  A change is committed before the kernel is touched; what the kernel refuses is put back
 * in both, and where teremd ends in between ve_privates_settle() makes the kernel agree.
 *
 * A network is of one owner, the value of the label `owner` of the VEs in it, or of those without
 * one.
 */
#include "ve/private.h"

#include "base/name.h"
#include "ve/address.h"
#include "ve/jobs.h"
#include "ve/net.h"

#include <inttypes.h>

#define NETWORKS_MAX 1024
/* What a network gets that nobody chose ranges for: the first of 256 that is free. */
#define DEFAULT4 "10.77.%u.0/24"
#define DEFAULT6 "fd54:6572:7076:%x::/64"

/* ---- who is where ---- */

const struct ve_private *ve_private_find(const struct ve_node *node, const char *name)
{
    for (size_t i = 0; i < node->n_privates; i++)
        if (str_eq(node->privates[i]->name, name))
            return node->privates[i];
    return NULL;
}

static const char *next_name(void *ctx, size_t i)
{
    const struct ve_node *node = ctx;
    return i < node->n_privates ? node->privates[i]->name : NULL;
}

int ve_private_find_err(struct ve_node *node, const char *name, const struct ve_private **ret,
                        struct err *err)
{
    if (name_check_ve(name, err) < 0)
        return err_wrap(err, "private network");
    *ret = ve_private_find(node, name);
    if (*ret)
        return 0;
    const char *near = name_suggest(name, next_name, node);
    if (near)
        return err_set(err, ERR_NOT_FOUND, "there is no private network %s; did you mean %s?", name,
                       near);
    return err_set(err, ERR_NOT_FOUND,
                   "there is no private network %s; terem network private list shows them", name);
}

unsigned ve_private_port(const json_t *membership)
{
    return (unsigned)json_integer_value(json_object_get(membership, "port"));
}

uint32_t ve_private_number(const json_t *membership)
{
    return (uint32_t)json_integer_value(json_object_get(membership, "number"));
}

const json_t *ve_private_membership(const struct ve *ve, const char *network)
{
    return json_object_get(json_object_get(ve->spec, "networks"), network);
}

struct network_member ve_private_member(const struct ve *ve, const struct ve_private *p,
                                        const struct param_set *params)
{
    const json_t *m = ve_private_membership(ve, p->name);
    return (struct network_member){.id = ve->rec.id,
                                   .port = ve_private_port(m),
                                   .in = &p->net,
                                   .number = ve_private_number(m),
                                   .packets = ve_netlimit_packets(params)};
}

size_t ve_privates_of(const struct ve *ve, const struct param_set *params,
                      struct network_member ret[NETWORK_PRIVATE_PORTS])
{
    const json_t *all = json_object_get(ve->spec, "networks");
    const char *name;
    json_t *m;
    size_t n = 0;
    for (unsigned port = 1; port <= NETWORK_PRIVATE_PORTS; port++)
        json_object_foreach((json_t *)all, name, m)
        {
            const struct ve_private *p =
                ve_private_port(m) == port ? ve_private_find(ve->node, name) : NULL;
            if (p && n < NETWORK_PRIVATE_PORTS)
                ret[n++] = ve_private_member(ve, p, params);
        }
    return n;
}

/* Those of all VEs; freed by the caller. */
static struct network_member *all_members(const struct ve_node *node, size_t *ret_n)
{
    struct network_member *list = calloc(node->n_ves * NETWORK_PRIVATE_PORTS + 1, sizeof(*list));
    *ret_n = 0;
    for (size_t i = 0; list && i < node->n_ves; i++)
        *ret_n += ve_privates_of(node->ves[i], node->ves[i]->params, list + *ret_n);
    return list;
}

/* ---- as JSON ---- */

json_t *ve_private_member_json(const struct network_member *m)
{
    json_t *addresses = json_array();
    char port[16], text[NETWORK_TEXT];
    static const int families[] = {AF_INET, AF_INET6};
    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        struct netlink_ip ip = network_member_address(m, families[i]);
        if (ip.family)
            json_array_append_new(addresses, json_string(network_ip_text(&ip, -1, text)));
    }
    str_print(port, sizeof(port), "eth%u", m->port);
    return json_pack("{s:s, s:o}", "interface", port, "addresses", addresses);
}

static const char *name_of(const struct ve_node *node, const struct network_private *net)
{
    for (size_t i = 0; i < node->n_privates; i++)
        if (&node->privates[i]->net == net)
            return node->privates[i]->name;
    return "";
}

json_t *ve_privates_json(const struct ve *ve)
{
    struct network_member list[NETWORK_PRIVATE_PORTS];
    size_t n = ve_privates_of(ve, ve->params, list);
    json_t *out = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *one = ve_private_member_json(&list[i]);
        json_object_set_new(one, "network", json_string(name_of(ve->node, list[i].in)));
        json_array_append_new(out, one);
    }
    return out;
}

void ve_privates_deleted(const struct ve *ve, json_t *names)
{
    struct network_member list[NETWORK_PRIVATE_PORTS];
    size_t n = ve_privates_of(ve, ve->params, list);
    for (size_t i = 0; i < n; i++) {
        bool is = true;
        struct err e = {0};
        if (network_member_plugged(ve->node->network, &list[i], &is, &e) == 0 && !is)
            json_array_append_new(names, json_sprintf("eth%u", list[i].port));
    }
}

static json_t *range_json(const struct network_range *r)
{
    char text[NETWORK_TEXT];
    return r->base.family ? json_string(network_ip_text(&r->base, r->prefix, text)) : json_null();
}

static json_t *private_json(const struct ve_node *node, const struct ve_private *p)
{
    json_t *members = json_array();
    for (size_t i = 0; i < node->n_ves; i++) {
        const struct ve *ve = node->ves[i];
        if (ve_hidden(ve) || !ve_private_membership(ve, p->name))
            continue;
        struct network_member m = ve_private_member(ve, p, ve->params);
        json_t *one = ve_private_member_json(&m);
        json_object_set_new(one, "ve", json_string(ve->rec.name));
        json_object_set_new(one, "state", json_string(ve_state_text(ve)));
        json_array_append_new(members, one);
    }
    return json_pack("{s:s, s:o, s:o, s:s?, s:o}", "name", p->name, "range4",
                     range_json(&p->net.v4), "range6", range_json(&p->net.v6), "owner",
                     *p->owner ? p->owner : NULL, "members", members);
}

int ve_private_list(struct ve_node *node, json_t **ret, struct err *err)
{
    *ret = json_array();
    for (size_t i = 0; i < node->n_privates; i++)
        json_array_append_new(*ret, private_json(node, node->privates[i]));
    return 0;
}

int ve_private_show(struct ve_node *node, const char *name, json_t **ret, struct err *err)
{
    const struct ve_private *p;
    if (ve_private_find_err(node, name, &p, err) < 0)
        return -err->kind;
    *ret = private_json(node, p);
    return 0;
}

/* ---- the list ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct ve_private *const *)a)->name, (*(struct ve_private *const *)b)->name);
}

static int append(struct ve_node *node, const struct ve_private *new, struct err *err)
{
    struct ve_private **list =
        reallocarray(node->privates, node->n_privates + 1, sizeof(struct ve_private *));
    struct ve_private *copy = list ? malloc(sizeof(*copy)) : NULL;
    if (list)
        node->privates = list;
    if (!copy)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    *copy = *new;
    list[node->n_privates++] = copy;
    qsort(list, node->n_privates, sizeof(*list), by_name);
    return 0;
}

static void take_out(struct ve_node *node, const char *name)
{
    for (size_t i = 0; i < node->n_privates; i++)
        if (str_eq(node->privates[i]->name, name)) {
            free(node->privates[i]);
            memmove(&node->privates[i], &node->privates[i + 1],
                    (node->n_privates - i - 1) * sizeof(*node->privates));
            node->n_privates--;
            return;
        }
}

static int load(void *ctx, int64_t id, const char *name, const char *spec, struct err *err)
{
    struct ve_private p = {0};
    json_t *doc = json_loads(spec, 0, NULL);
    const char *owner = json_string_value(json_object_get(doc, "owner"));
    int r = network_private_parse(json_string_value(json_object_get(doc, "range4")),
                                  json_string_value(json_object_get(doc, "range6")), &p.net, err);
    str_print(p.name, sizeof(p.name), "%s", name);
    str_print(p.owner, sizeof(p.owner), "%s", owner ? owner : "");
    p.net.id = id;
    json_decref(doc);
    return r < 0 ? err_wrap(err, "private network %s", name) : append(ctx, &p, err);
}

int ve_privates_load(struct ve_node *node, struct err *err)
{
    int r = registry_private_each(node->registry, load, node, err);
    return r < 0 ? err_wrap(err, "cannot read the private networks") : 0;
}

void ve_privates_done(struct ve_node *node)
{
    for (size_t i = 0; i < node->n_privates; i++)
        free(node->privates[i]);
    free(node->privates);
    node->privates = NULL;
    node->n_privates = 0;
}

static int lay(struct ve_node *node, struct err *err)
{
    size_t n;
    auto_free struct network_member *members = all_members(node, &n);
    auto_free struct network_private *list = calloc(node->n_privates + 1, sizeof(*list));
    if (!members || !list)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < node->n_privates; i++)
        list[i] = node->privates[i]->net;
    return network_privates_lay(node->network, list, node->n_privates, members, n, err);
}

void ve_privates_lay(struct ve_node *node)
{
    struct err e = {0};
    if (lay(node, &e) < 0)
        log_error(NULL, 0, "%s; restart teremd", e.text);
}

/* ---- making and removing ---- */

static int refuse_range(struct ve_node *node, const struct network_range *r, struct err *err)
{
    char text[NETWORK_TEXT];
    if (!r->base.family)
        return 0;
    for (size_t i = 0; i < node->addresses.n_pools; i++) {
        const struct ve_address_pool *p = &node->addresses.pools[i];
        if (network_range_overlaps(&p->range, r))
            return err_set(err, ERR_EXISTS,
                           "the network %s overlaps %s of address pool %s; choose another",
                           network_ip_text(&r->base, r->prefix, text), p->rec.prefix, p->rec.name);
    }
    if (ve_privates_clash(node, r, err) < 0)
        return -err->kind;
    return network_range_check(node->network, r, err);
}

int ve_privates_clash(const struct ve_node *node, const struct network_range *range,
                      struct err *err)
{
    char mine[NETWORK_TEXT], theirs[NETWORK_TEXT];
    for (size_t i = 0; i < node->n_privates; i++) {
        const struct ve_private *p = node->privates[i];
        const struct network_range *r = range->base.family == AF_INET ? &p->net.v4 : &p->net.v6;
        if (r->base.family && network_range_overlaps(r, range))
            return err_set(err, ERR_EXISTS,
                           "the network %s overlaps %s of private network %s; choose another",
                           network_ip_text(&range->base, range->prefix, mine),
                           network_ip_text(&r->base, r->prefix, theirs), p->name);
    }
    return 0;
}

/* Without a word about a family it gets the first range that is free of those that are meant for
 * it, as far as VEs have that family here. */
static int choose_range(struct ve_node *node, int family, struct network_range *ret,
                        struct err *err)
{
    bool v6 = family == AF_INET6;
    for (unsigned i = 0; i < 256; i++) {
        struct network_private p;
        struct err e = {0};
        char text[NETWORK_TEXT];
        if (v6)
            str_print(text, sizeof(text), DEFAULT6, i);
        else
            str_print(text, sizeof(text), DEFAULT4, i);
        if (network_private_parse(v6 ? NULL : text, v6 ? text : NULL, &p, err) < 0)
            return -err->kind;
        const struct network_range *r = v6 ? &p.v6 : &p.v4;
        int res = refuse_range(node, r, &e);
        if (res == 0)
            *ret = *r;
        if (res != -ERR_EXISTS) /* else there is no such family here */
            return 0;
    }
    return err_set(err, ERR_EXHAUSTED,
                   "none of the networks that are meant for it is free; say which with --range%s",
                   v6 ? "6" : "");
}

/* "range4": text, "" for none, null for any that is free. */
static const char *asked_range(const json_t *spec, const char *key, bool *ret_any)
{
    const char *text = json_string_value(json_object_get(spec, key));
    *ret_any = !text;
    return text && *text ? text : NULL;
}

static int read_new(struct ve_node *node, const json_t *spec, struct ve_private *p, struct err *err)
{
    bool any4, any6;
    const char *v4 = asked_range(spec, "range4", &any4), *v6 = asked_range(spec, "range6", &any6),
               *owner = json_string_value(json_object_get(spec, "owner")),
               *lack = network_private_lack(node->network);
    if (ve_private_find(node, p->name))
        return err_set(err, ERR_EXISTS,
                       "there is a private network of this name already; choose another name");
    if (node->n_privates == NETWORKS_MAX)
        return err_set(err, ERR_EXHAUSTED,
                       "there are %d private networks, as many as may be; remove one",
                       NETWORKS_MAX);
    if (lack)
        return err_set(err, ERR_UNSUPPORTED, "%s", lack);
    if ((v4 || v6 || (!any4 && !any6)) && network_private_parse(v4, v6, &p->net, err) < 0)
        return -err->kind;
    if (refuse_range(node, &p->net.v4, err) < 0 || refuse_range(node, &p->net.v6, err) < 0 ||
        (any4 && choose_range(node, AF_INET, &p->net.v4, err) < 0) ||
        (any6 && choose_range(node, AF_INET6, &p->net.v6, err) < 0))
        return -err->kind;
    if (str_print(p->owner, sizeof(p->owner), "%s", owner ? owner : "") < 0)
        return err_set(err, ERR_USAGE, "the owner's name is longer than 255 bytes");
    json_t *label = json_pack("{s:s}", "owner", p->owner); /* which it is compared with */
    int r = label ? ve_labels_check(label, err) : err_set(err, ERR_EXHAUSTED, "out of memory");
    json_decref(label);
    return r;
}

static int record(struct ve_node *node, struct ve_private *p, bool there, struct err *err)
{
    json_t *doc = json_pack("{s:o, s:o, s:s}", "range4", range_json(&p->net.v4), "range6",
                            range_json(&p->net.v6), "owner", p->owner);
    auto_free char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    json_decref(doc);
    if (!text)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int r = ve_begin(node, err);
    if (r == 0)
        r = there ? registry_private_insert(node->registry, p->name, text, &p->net.id, err)
                  : registry_private_delete(node->registry, p->name, err);
    if (r == 0)
        r = ve_commit(node, err);
    if (r < 0)
        ve_rollback(node);
    return r;
}

int ve_private_create(struct ve_node *node, const json_t *spec, json_t **ret, struct err *err)
{
    struct ve_private p = {0};
    const char *name = json_string_value(json_object_get(spec, "name"));
    if (!name)
        return err_set(err, ERR_USAGE, "private network: its name is missing");
    if (name_check_ve(name, err) < 0)
        return err_wrap(err, "private network");
    str_print(p.name, sizeof(p.name), "%s", name);
    if (read_new(node, spec, &p, err) < 0 || record(node, &p, true, err) < 0)
        return err_wrap(err, "private network %s", name);
    if (append(node, &p, err) < 0 || lay(node, err) < 0) {
        struct err e = {0};
        take_out(node, name);
        if (record(node, &p, false, &e) < 0)
            log_error(NULL, 0, "private network %s: cannot put back what was before: %s", name,
                      e.text);
        ve_privates_lay(node);
        return err_wrap(err, "private network %s", name);
    }
    *ret = private_json(node, ve_private_find(node, name));
    ve_event_emit(node,
                  json_pack("{s:s, s:s}", "type", "private-network.created", "network", name));
    return 0;
}

static int refuse_used(struct ve_node *node, const struct ve_private *p, struct err *err)
{
    auto_str struct str users = str_init(4096);
    size_t n = 0;
    for (size_t i = 0; i < node->n_ves; i++)
        if (ve_private_membership(node->ves[i], p->name))
            str_add_name(&users, &n, node->ves[i]->rec.name);
    str_end_names(&users, n);
    return n ? err_set(err, ERR_STATE,
                       "%s %s in it; terem network private leave takes a VE out of it",
                       str_c(&users), n > 1 ? "are" : "is")
             : 0;
}

int ve_private_remove(struct ve_node *node, const char *name, struct err *err)
{
    const struct ve_private *p;
    if (ve_private_find_err(node, name, &p, err) < 0)
        return -err->kind;
    struct ve_private was = *p;
    if (refuse_used(node, p, err) < 0 || record(node, &was, false, err) < 0)
        return err_wrap(err, "private network %s", name);
    take_out(node, was.name);
    ve_privates_lay(node);
    ve_event_emit(node,
                  json_pack("{s:s, s:s}", "type", "private-network.removed", "network", was.name));
    return 0;
}
