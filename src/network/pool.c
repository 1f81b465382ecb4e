/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "network/internal.h"

#include "base/cleanup.h"
#include "base/number.h"

#include <arpa/inet.h>

static const char *family_name(int family)
{
    return family == AF_INET ? "IPv4" : "IPv6";
}

static bool within(const struct network_pool *p, const char *net, uint8_t prefix)
{
    struct netlink_ip ip = {.family = p->base.family};
    return inet_pton(ip.family, net, &ip.v4) == 1 && p->prefix >= prefix &&
           network_ip_in(&p->base, &ip, prefix);
}

struct range {
    int family;
    const char *net;
    uint8_t prefix;
};

static bool within_any(const struct network_pool *p, const struct range *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (list[i].family == p->base.family && within(p, list[i].net, list[i].prefix))
            return true;
    return false;
}

/* IANA's special-purpose registries (RFC 6890): ranges that the internet does not route … */
static const struct range private_ranges[] = {
    {AF_INET, "10.0.0.0", 8},      {AF_INET, "172.16.0.0", 12},  {AF_INET, "192.168.0.0", 16},
    {AF_INET, "100.64.0.0", 10},   {AF_INET, "198.18.0.0", 15},  {AF_INET, "192.0.2.0", 24},
    {AF_INET, "198.51.100.0", 24}, {AF_INET, "203.0.113.0", 24}, {AF_INET6, "fc00::", 7},
    {AF_INET6, "2001:db8::", 32},
};
/* … and ranges that cannot be a VE's. */
static const struct range forbidden_ranges[] = {
    {AF_INET, "0.0.0.0", 8},   {AF_INET, "127.0.0.0", 8}, {AF_INET, "169.254.0.0", 16},
    {AF_INET, "224.0.0.0", 3}, {AF_INET6, "fe80::", 10},  {AF_INET6, "ff00::", 8},
    {AF_INET6, "::", 8},
};

struct netlink_ip network_pool_address(const struct network_pool *p, uint64_t offset)
{
    struct netlink_ip ip = p->base;
    uint8_t *b = network_ip_bytes(&ip);
    /* The base has no bit set where the offset has: the pool is larger than any offset. */
    for (unsigned i = network_ip_bits(&ip) / 8; offset; offset >>= 8)
        b[--i] |= (uint8_t)offset;
    return ip;
}

bool network_pool_overlaps(const struct network_pool *p, const struct netlink_ip *dst,
                           uint8_t prefix)
{
    return p->base.family && network_prefixes_overlap(&p->base, p->prefix, dst, prefix);
}

static int parse_prefix(const char *text, struct network_pool *p, struct err *err)
{
    const char *slash = strchr(text, '/');
    char addr[INET6_ADDRSTRLEN];
    uint64_t prefix;
    if (!slash || str_print(addr, sizeof(addr), "%.*s", (int)(slash - text), text) < 0 ||
        inet_pton(p->base.family, addr, &p->base.v4) != 1 ||
        number_parse(slash + 1, 0, network_ip_bits(&p->base), &prefix, NULL) < 0)
        return err_set(err, ERR_USAGE, "\"%.60s\" is not an %s network such as %s", text,
                       family_name(p->base.family),
                       p->base.family == AF_INET ? "10.88.0.0/16" : "fd54:6572:656d::/64");
    p->prefix = (uint8_t)prefix;
    return 0;
}

int network_pool_read(const char *text, int family, unsigned least, unsigned most,
                      struct network_pool *ret, struct err *err)
{
    struct network_pool p = {.base.family = family};
    int r = parse_prefix(text, &p, err);
    if (r < 0)
        return r;
    if (p.prefix < least || p.prefix > most)
        return err_set(err, ERR_USAGE, "%s: choose a prefix length from %u to %u", text, least,
                       most);
    struct netlink_ip base = network_ip_edge(p.base, network_ip_bits(&p.base) - p.prefix, false);
    if (network_ip_compare(&base, &p.base) != 0) {
        char whole[NETWORK_TEXT];
        return err_set(err, ERR_USAGE, "%s has bits set behind its prefix; did you mean %s?", text,
                       network_ip_text(&base, p.prefix, whole));
    }
    if (within_any(&p, forbidden_ranges, ARRAY_SIZE(forbidden_ranges)))
        return err_set(err, ERR_USAGE, "%s cannot be used for VEs: choose a private network", text);
    p.private = within_any(&p, private_ranges, ARRAY_SIZE(private_ranges));
    *ret = p;
    return 0;
}

int network_pool_parse(const char *text, int family, struct network_pool *ret, struct err *err)
{
    struct network_pool p = {0};
    if (!text || !*text) {
        *ret = p;
        return 0;
    }
    /* Smaller than /30 has no room for a VE; IPv6 keeps at least a byte of slots. */
    unsigned least = family == AF_INET ? 8 : 32, most = family == AF_INET ? 30 : 120;
    int r = network_pool_read(text, family, least, most, &p, err);
    if (r < 0)
        return r;
    unsigned bits = network_ip_bits(&p.base) - p.prefix;
    uint64_t all = bits < 32 ? UINT64_C(1) << bits : UINT64_C(1) << 32;
    /* Network (in IPv6 the anycast of routers), gateway, broadcast (IPv4) are nobody's. */
    p.slots = (uint32_t)(all - 3);
    p.gateway = network_pool_address(&p, 1);
    *ret = p;
    return 0;
}
