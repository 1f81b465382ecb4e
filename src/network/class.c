/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "network/class.h"

#include "base/cleanup.h"
#include "base/number.h"
#include "network/internal.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

static unsigned bits_of(uint8_t family)
{
    return family == 4 ? 32 : 128;
}

static int af_of(uint8_t family)
{
    return family == 4 ? AF_INET : AF_INET6;
}

/* Empties what stands behind the length. */
static void cut(struct network_prefix *p)
{
    for (unsigned i = p->length; i < bits_of(p->family); i++)
        p->address[i / 8] &= (uint8_t) ~(0x80u >> (i % 8));
}

const char *network_prefix_text(const struct network_prefix *p, char buf[NETWORK_PREFIX_TEXT])
{
    char address[INET6_ADDRSTRLEN] = "?";
    inet_ntop(af_of(p->family), p->address, address, sizeof(address));
    str_print(buf, NETWORK_PREFIX_TEXT, "%s/%u", address, p->length);
    return buf;
}

int network_prefix_parse(const char *text, struct network_prefix *ret, struct err *err)
{
    struct network_prefix p = {.family = strchr(text, ':') ? 6 : 4};
    const char *slash = strchr(text, '/');
    char address[INET6_ADDRSTRLEN], whole[NETWORK_PREFIX_TEXT];
    uint64_t length = bits_of(p.family);
    size_t n = slash ? (size_t)(slash - text) : strlen(text);
    if (n >= sizeof(address) || str_print(address, sizeof(address), "%.*s", (int)n, text) < 0 ||
        inet_pton(af_of(p.family), address, p.address) != 1 ||
        (slash && number_parse(slash + 1, 0, bits_of(p.family), &length, NULL) < 0)) {
        auto_str struct str shown = str_init(256);
        str_escape(&shown, text, strnlen(text, 60));
        return err_set(err, ERR_USAGE,
                       "\"%s\" is not a prefix such as 192.0.2.0/24 or 2001:db8::/32",
                       str_c(&shown));
    }
    p.length = (uint8_t)length;
    if (p.length == 0)
        return err_set(err, ERR_USAGE,
                       "%s is every address: what no prefix of a class holds is the class any",
                       text);
    struct network_prefix clean = p;
    cut(&clean);
    if (memcmp(clean.address, p.address, sizeof(p.address)) != 0)
        return err_set(err, ERR_USAGE, "%s has bits set behind its length; did you mean %s?", text,
                       network_prefix_text(&clean, whole));
    *ret = p;
    return 0;
}

static int compare(const void *a, const void *b)
{
    const struct network_prefix *x = a, *y = b;
    if (x->family != y->family)
        return x->family - y->family;
    int d = memcmp(x->address, y->address, sizeof(x->address));
    return d ? d : x->length - y->length;
}

void network_prefixes_done(struct network_prefixes *list)
{
    free(list->p);
    *list = (struct network_prefixes){0};
}

const struct network_prefix *network_prefixes_find(const struct network_prefixes *list,
                                                   const struct network_prefix *p)
{
    return list->n ? bsearch(p, list->p, list->n, sizeof(*p), compare) : NULL;
}

/* Sorted; NULL: each is there once. */
static const struct network_prefix *twice(struct network_prefix *p, size_t n)
{
    if (n)
        qsort(p, n, sizeof(*p), compare);
    for (size_t i = 1; i < n; i++)
        if (compare(&p[i - 1], &p[i]) == 0)
            return &p[i];
    return NULL;
}

int network_prefixes_add(struct network_prefixes *list, struct network_prefix *more, size_t n,
                         const struct network_prefix **ret_clash, struct err *err)
{
    const struct network_prefix *clash = twice(more, n);
    for (size_t i = 0; !clash && i < n; i++)
        clash = network_prefixes_find(list, &more[i]);
    if (clash) {
        *ret_clash = clash;
        return err_set(err, ERR_EXISTS, "a prefix is there already");
    }
    if (list->n + n > NETWORK_PREFIXES_MAX)
        return err_set(err, ERR_EXHAUSTED,
                       "all classes together have at most %d prefixes: %zu are there, and %zu more "
                       "were given; leave out those that a shorter one of the same class holds",
                       NETWORK_PREFIXES_MAX, list->n, n);
    struct network_prefix *p = calloc(list->n + n + 1, sizeof(*p));
    if (!p)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    size_t a = 0, b = 0, k = 0;
    while (a < list->n || b < n) {
        bool old = b == n || (a < list->n && compare(&list->p[a], &more[b]) < 0);
        p[k++] = old ? list->p[a++] : more[b++];
    }
    free(list->p);
    *list = (struct network_prefixes){p, k};
    return 0;
}

int network_prefixes_remove(struct network_prefixes *list, struct network_prefix *more, size_t n,
                            const struct network_prefix **ret_missing, struct err *err)
{
    const struct network_prefix *missing = twice(more, n), *there;
    for (size_t i = 0; !missing && i < n; i++)
        if (!(there = network_prefixes_find(list, &more[i])) || there->class != more[i].class)
            missing = &more[i];
    if (missing) {
        *ret_missing = missing;
        return err_set(err, ERR_NOT_FOUND, "a prefix is not there");
    }
    size_t k = 0, b = 0;
    for (size_t a = 0; a < list->n; a++) {
        if (b < n && compare(&list->p[a], &more[b]) == 0)
            b++;
        else
            list->p[k++] = list->p[a];
    }
    list->n = k;
    return 0;
}

void network_prefixes_drop(struct network_prefixes *list, uint32_t class)
{
    size_t k = 0;
    for (size_t a = 0; a < list->n; a++)
        if (list->p[a].class != class)
            list->p[k++] = list->p[a];
    list->n = k;
}

uint32_t network_prefixes_class(const struct network_prefixes *list, uint8_t family,
                                const uint8_t *address)
{
    for (unsigned length = bits_of(family); length > 0; length--) {
        struct network_prefix p = {.family = family, .length = (uint8_t)length};
        memcpy(p.address, address, family == 4 ? 4 : 16);
        cut(&p);
        const struct network_prefix *found = network_prefixes_find(list, &p);
        if (found)
            return found->class;
    }
    return 0;
}

struct network_prefix network_prefix_local(const struct netlink_ip *base, unsigned length)
{
    struct network_prefix p = {.family = base->family == AF_INET ? 4 : 6,
                               .length = (uint8_t)length,
                               .class = NETWORK_CLASS_LOCAL};
    memcpy(p.address, &base->v6, network_ip_bits(base) / 8);
    return p;
}

int network_prefixes_local(const struct network_node *n, struct network_prefix **ret, size_t *ret_n,
                           struct err *err)
{
    size_t k = 0;
    struct network_prefix parts[NETWORK_PARTS], *list = calloc(2, sizeof(*list));
    if (!list)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (n->pool4.base.family)
        list[k++] = network_prefix_local(&n->pool4.base, n->pool4.prefix);
    if (n->pool6.base.family)
        list[k++] = network_prefix_local(&n->pool6.base, n->pool6.prefix);
    for (size_t i = 0; i < n->n_ranges; i++) {
        size_t more = network_range_parts(&n->ranges[i], parts);
        struct network_prefix *p = reallocarray(list, k + more, sizeof(*p));
        if (!p) {
            free(list);
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        }
        list = p;
        memcpy(list + k, parts, more * sizeof(*list));
        k += more;
    }
    *ret = list;
    *ret_n = k;
    return 0;
}

bool network_prefix_holds(const struct network_prefix *wide, const struct network_prefix *p)
{
    return p->family == wide->family && p->length >= wide->length &&
           network_bits_same(p->address, wide->address, wide->length);
}

int network_prefixes_refuse_local(const struct network_node *n, const struct network_prefix *list,
                                  size_t count, struct err *err)
{
    auto_free struct network_prefix *local = NULL;
    char text[NETWORK_PREFIX_TEXT];
    size_t k = 0;
    int r = network_prefixes_fixed(n, &local, &k, err);
    for (size_t i = 0; r == 0 && i < count * k; i++)
        if (network_prefix_holds(&local[i % k], &list[i / k]))
            r = err_set(err, ERR_USAGE,
                        "%s does not leave this node: its VEs, link-local addresses and multicast "
                        "are the class local always",
                        network_prefix_text(&list[i / k], text));
    return r;
}
