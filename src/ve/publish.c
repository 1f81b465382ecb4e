/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ports of the machine that lead to VEs.
 *
 * A change is committed before the kernel is told.  Where the kernel refuses it, both are put back;
 * where teremd ends in between, ve_publish_settle() tells the kernel all of it at the next start.
 */
#include "ve/publish.h"

#include "base/number.h"

#include <inttypes.h>

#define PUBLISH_MAX 4096 /* each holds a descriptor */

struct ve_publish {
    char key[NAME_SIZE]; /* "tcp:80", "udp:203.0.113.1:53": of the registry and the API */
    int64_t ve;
    struct network_publish net;
    int fd; /* holds the port; -1: somebody else has it */
};

static const char *protocol_name(const struct network_publish *p)
{
    return p->protocol == IPPROTO_UDP ? "udp" : "tcp";
}

static void key_of(const struct network_publish *p, char ret[NAME_SIZE])
{
    char text[NETWORK_TEXT] = "";
    if (p->address.family)
        network_ip_text(&p->address, -1, text);
    str_print(ret, NAME_SIZE, "%s:%s%s%u", protocol_name(p), text, *text ? ":" : "", p->port);
}

/* ---- reading ---- */

static int read_protocol(const char *text, uint8_t *ret, struct err *err)
{
    if (str_eq(text, "tcp") || str_eq(text, "udp")) {
        *ret = *text == 'u' ? IPPROTO_UDP : IPPROTO_TCP;
        return 0;
    }
    return err_set(err, ERR_USAGE, "\"%.20s\" is no protocol that has ports; say tcp or udp", text);
}

/* The inverse of key_of(). */
static int read_key(const char *key, struct network_publish *ret, struct err *err)
{
    char text[NAME_SIZE], *port, *address;
    uint64_t n;
    *ret = (struct network_publish){0};
    if (str_print(text, sizeof(text), "%s", key) >= 0 && (port = strrchr(text, ':')) &&
        number_parse(port + 1, 1, UINT16_MAX, &n, NULL) == 0) {
        *port = '\0';
        ret->port = (uint16_t)n;
        if ((address = strchr(text, ':')))
            *address++ = '\0';
        if (read_protocol(text, &ret->protocol, NULL) == 0 &&
            (!address || network_ip_parse(address, &ret->address, NULL) == 0))
            return 0;
    }
    return err_set(err, ERR_USAGE,
                   "\"%.60s\" is no published port such as tcp:80 or udp:203.0.113.5:53", key);
}

static int read_port(const json_t *request, const char *field, uint16_t *ret, struct err *err)
{
    const json_t *v = json_object_get(request, field);
    json_int_t n = json_integer_value(v);
    if (!json_is_integer(v) || n < 1 || n > UINT16_MAX)
        return err_set(err, ERR_USAGE, "%s: a port is a number from 1 to 65535", field);
    *ret = (uint16_t)n;
    return 0;
}

/* The kernel leads nothing of the loopback to another network namespace. */
static int refuse_loopback(const struct netlink_ip *ip, struct err *err)
{
    bool loopback = ip->family == AF_INET    ? ntohl(ip->v4.s_addr) >> 24 == IN_LOOPBACKNET
                    : ip->family == AF_INET6 ? IN6_IS_ADDR_LOOPBACK(&ip->v6)
                                             : false;
    return loopback ? err_set(err, ERR_USAGE,
                              "a loopback address leads to no VE; leave the address out, or give "
                              "one of the machine's others")
                    : 0;
}

static int read_request(struct ve_node *node, const json_t *request, struct ve_publish *ret,
                        struct err *err)
{
    const char *name = json_string_value(json_object_get(request, "ve")),
               *address = json_string_value(json_object_get(request, "address")),
               *protocol = json_string_value(json_object_get(request, "protocol"));
    struct ve *ve;
    *ret = (struct ve_publish){.fd = -1};
    if (!name)
        return err_set(err, ERR_USAGE, "the field \"ve\" is missing");
    if (ve_find_err(node, name, &ve, err) < 0)
        return -err->kind;
    if (read_protocol(protocol ? protocol : "tcp", &ret->net.protocol, err) < 0 ||
        read_port(request, "port", &ret->net.port, err) < 0 ||
        read_port(request, "to", &ret->net.to_port, err) < 0 ||
        (address && network_ip_parse(address, &ret->net.address, err) < 0) ||
        refuse_loopback(&ret->net.address, err) < 0)
        return err_wrap(err, "%s", name);
    ret->ve = ve->rec.id;
    ret->net.slot = ve->rec.slot;
    key_of(&ret->net, ret->key);
    return 0;
}

/* ---- the list ---- */

static struct ve_publish *find(struct ve_node *node, const char *key)
{
    for (size_t i = 0; i < node->n_published; i++)
        if (str_eq(node->published[i].key, key))
            return &node->published[i];
    return NULL;
}

static int append(struct ve_node *node, const struct ve_publish *p, struct err *err)
{
    if (node->n_published >= PUBLISH_MAX)
        return err_set(err, ERR_EXHAUSTED, "%d ports are published, as many as may be",
                       PUBLISH_MAX);
    struct ve_publish *v = reallocarray(node->published, node->n_published + 1, sizeof(*v));
    if (!v)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    node->published = v;
    v[node->n_published++] = *p;
    return 0;
}

static void drop(struct ve_node *node, struct ve_publish *p)
{
    size_t i = (size_t)(p - node->published);
    if (p->fd >= 0)
        close(p->fd);
    node->n_published--;
    memmove(p, p + 1, (node->n_published - i) * sizeof(*p));
}

void ve_publish_done(struct ve_node *node)
{
    while (node->n_published)
        drop(node, &node->published[node->n_published - 1]);
    free(node->published);
    node->published = NULL;
}

static json_t *publish_json(struct ve_node *node, const struct ve_publish *p)
{
    char text[NETWORK_TEXT];
    const struct ve *ve = ve_by_id(node, p->ve);
    return json_pack("{s:s, s:s, s:s?, s:i, s:s?, s:i}", "id", p->key, "protocol",
                     protocol_name(&p->net), "address",
                     p->net.address.family ? network_ip_text(&p->net.address, -1, text) : NULL,
                     "port", p->net.port, "ve", ve ? ve->rec.name : NULL, "to", p->net.to_port);
}

int ve_publish_list(struct ve_node *node, const char *ve_name, json_t **ret, struct err *err)
{
    struct ve *ve = NULL;
    if (ve_name && ve_find_err(node, ve_name, &ve, err) < 0)
        return -err->kind;
    *ret = json_array();
    for (size_t i = 0; i < node->n_published; i++)
        if (!ve || node->published[i].ve == ve->rec.id)
            json_array_append_new(*ret, publish_json(node, &node->published[i]));
    return 0;
}

/* ---- changing ---- */

static int record(struct ve_node *node, const struct ve_publish *p, bool add, struct err *err)
{
    char spec[64];
    str_print(spec, sizeof(spec), "{\"ve\":%" PRId64 ",\"to\":%u}", p->ve, p->net.to_port);
    int r = ve_begin(node, err);
    if (r == 0)
        r = add ? registry_publish_insert(node->registry, p->key, spec, err)
                : registry_publish_delete(node->registry, p->key, err);
    if (r == 0)
        r = ve_commit(node, err);
    if (r < 0)
        ve_rollback(node);
    return r;
}

static void tell(struct ve_node *node, const struct ve_publish *p, const char *type)
{
    const struct ve *ve = ve_by_id(node, p->ve);
    ve_event_emit(node, json_pack("{s:s, s:s, s:s?, s:i}", "type", type, "port", p->key, "ve",
                                  ve ? ve->rec.name : NULL, "to", p->net.to_port));
}

static int refuse_clash(struct ve_node *node, const struct ve_publish *p, struct err *err)
{
    for (size_t i = 0; i < node->n_published; i++) {
        const struct ve_publish *o = &node->published[i];
        const struct ve *ve = ve_by_id(node, o->ve);
        if (network_publish_clashes(&o->net, &p->net))
            return err_set(err, ERR_EXISTS,
                           "%s leads to port %u of %s already; terem unpublish %s frees it", o->key,
                           o->net.to_port, ve ? ve->rec.name : "a VE", o->key);
    }
    return 0;
}

int ve_publish_add(struct ve_node *node, const json_t *request, json_t **ret, struct err *err)
{
    struct ve_publish p;
    if (read_request(node, request, &p, err) < 0 || refuse_clash(node, &p, err) < 0 ||
        network_publish_hold(&p.net, &p.fd, err) < 0)
        return -err->kind;
    if (append(node, &p, err) < 0 || record(node, &p, true, err) < 0) {
        struct ve_publish *there = find(node, p.key);
        if (there)
            drop(node, there);
        else
            close(p.fd);
        return -err->kind;
    }
    if (network_publish_add(node->network, &p.net, err) < 0) {
        struct err e = {0};
        if (record(node, &p, false, &e) < 0)
            log_error(NULL, 0, "%s: cannot put back what was before: %s", p.key, e.text);
        drop(node, find(node, p.key));
        return -err->kind;
    }
    tell(node, &p, "port.published");
    *ret = publish_json(node, &p);
    return 0;
}

int ve_publish_remove(struct ve_node *node, const char *key, struct err *err)
{
    struct network_publish net;
    char own[NAME_SIZE];
    if (read_key(key, &net, err) < 0)
        return -err->kind;
    key_of(&net, own);
    struct ve_publish *p = find(node, own);
    if (!p)
        return err_set(err, ERR_NOT_FOUND, "%s is not published; terem network ports shows what is",
                       own);
    struct ve_publish was = *p;
    if (record(node, p, false, err) < 0)
        return -err->kind;
    drop(node, p);
    tell(node, &was, "port.unpublished");
    struct err e = {0};
    if (network_publish_remove(node->network, &was.net, &e) < 0)
        ve_publish_lay(node);
    return 0;
}

int ve_publish_forget(const struct ve *ve, struct err *err)
{
    struct ve_node *node = ve->node;
    bool any = false;
    for (size_t i = node->n_published; i-- > 0;) {
        struct ve_publish *p = &node->published[i];
        if (p->ve != ve->rec.id)
            continue;
        if (registry_publish_delete(node->registry, p->key, err) < 0)
            return err_wrap(err, "cannot free port %s", p->key);
        drop(node, p);
        any = true;
    }
    if (any)
        ve_publish_lay(node);
    return 0;
}

/* ---- at a start ---- */

void ve_publish_lay(struct ve_node *node)
{
    struct err e = {0};
    auto_free struct network_publish *list = calloc(node->n_published + 1, sizeof(*list));
    for (size_t i = 0; list && i < node->n_published; i++)
        list[i] = node->published[i].net;
    if (list && network_publish_lay(node->network, list, node->n_published, &e) < 0)
        log_error(NULL, 0, "published ports lead nowhere: %s; restart teremd", e.text);
}

static int load(void *ctx, const char *key, const char *spec, struct err *err)
{
    struct ve_node *node = ctx;
    struct ve_publish p = {.fd = -1};
    struct err e = {0};
    json_t *doc = json_loads(spec, 0, NULL);
    const struct ve *ve = ve_by_id(node, json_integer_value(json_object_get(doc, "ve")));
    bool good =
        ve && read_key(key, &p.net, &e) == 0 && read_port(doc, "to", &p.net.to_port, &e) == 0;
    json_decref(doc);
    if (!good) {
        log_warn(NULL, 0, "the published port %s leads nowhere; it is left out", key);
        return 0;
    }
    str_print(p.key, sizeof(p.key), "%s", key);
    p.ve = ve->rec.id;
    p.net.slot = ve->rec.slot;
    if (network_publish_hold(&p.net, &p.fd, &e) < 0)
        log_warn(ve->rec.name, 0, "%s is published, but %s", key, e.text);
    return append(node, &p, err);
}

void ve_publish_settle(struct ve_node *node)
{
    struct err e = {0};
    if (registry_publish_each(node->registry, load, node, &e) < 0)
        log_error(NULL, 0, "published ports cannot be read: %s", e.text);
    ve_publish_lay(node);
}
