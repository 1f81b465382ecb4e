/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "network/internal.h"

#include "base/cleanup.h"
#include "base/number.h"

#include <arpa/inet.h>

static const char *family_name(int family)
{
    return family == AF_INET ? "IPv4" : "IPv6";
}

static unsigned family_bits(int family)
{
    return family == AF_INET ? 32 : 128;
}

static const uint8_t *bytes_of(const struct netlink_ip *ip)
{
    return ip->family == AF_INET ? (const uint8_t *)&ip->v4 : ip->v6.s6_addr;
}

/* Are the first n bits of both the same? */
static bool same_bits(const struct netlink_ip *a, const struct netlink_ip *b, unsigned n)
{
    const uint8_t *x = bytes_of(a), *y = bytes_of(b);
    if (memcmp(x, y, n / 8) != 0)
        return false;
    unsigned rest = n % 8;
    return rest == 0 || ((x[n / 8] ^ y[n / 8]) >> (8 - rest)) == 0;
}

static bool within(const struct network_pool *p, const char *net, uint8_t prefix)
{
    struct netlink_ip ip = {.family = p->base.family};
    return inet_pton(ip.family, net, &ip.v4) == 1 && p->prefix >= prefix &&
           same_bits(&p->base, &ip, prefix);
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
    uint8_t *b = ip.family == AF_INET ? (uint8_t *)&ip.v4 : ip.v6.s6_addr;
    /* The base has no bit set where the offset has: the pool is larger than any offset. */
    for (int i = ip.family == AF_INET ? 3 : 15; offset; i--, offset >>= 8)
        b[i] |= (uint8_t)offset;
    return ip;
}

const char *network_ip_text(const struct netlink_ip *ip, int prefix, char buf[NETWORK_TEXT])
{
    char addr[INET6_ADDRSTRLEN] = "?";
    inet_ntop(ip->family, bytes_of(ip), addr, sizeof(addr));
    if (prefix >= 0)
        str_print(buf, NETWORK_TEXT, "%s/%d", addr, prefix);
    else
        str_print(buf, NETWORK_TEXT, "%s", addr);
    return buf;
}

bool network_pool_overlaps(const struct network_pool *p, const struct netlink_ip *dst,
                           uint8_t prefix)
{
    return p->base.family && p->base.family == dst->family &&
           same_bits(&p->base, dst, prefix < p->prefix ? prefix : p->prefix);
}

static int parse_prefix(const char *text, struct network_pool *p, struct err *err)
{
    const char *slash = strchr(text, '/');
    char addr[INET6_ADDRSTRLEN];
    uint64_t prefix;
    if (!slash || str_print(addr, sizeof(addr), "%.*s", (int)(slash - text), text) < 0 ||
        inet_pton(p->base.family, addr, &p->base.v4) != 1 ||
        number_parse(slash + 1, 0, family_bits(p->base.family), &prefix, NULL) < 0)
        return err_set(err, ERR_USAGE, "\"%.60s\" is not an %s network such as %s", text,
                       family_name(p->base.family),
                       p->base.family == AF_INET ? "10.88.0.0/16" : "fd54:6572:656d::/64");
    p->prefix = (uint8_t)prefix;
    return 0;
}

int network_pool_parse(const char *text, int family, struct network_pool *ret, struct err *err)
{
    struct network_pool p = {0};
    if (!text || !*text) {
        *ret = p;
        return 0;
    }
    p.base.family = family;
    int r = parse_prefix(text, &p, err);
    if (r < 0)
        return r;

    /* Smaller than /30 has no room for a VE; IPv6 keeps at least a byte of slots. */
    uint8_t least = family == AF_INET ? 8 : 32, most = family == AF_INET ? 30 : 120;
    if (p.prefix < least || p.prefix > most)
        return err_set(err, ERR_USAGE, "%s: choose a prefix length from %u to %u", text, least,
                       most);
    struct netlink_ip base = p.base;
    uint8_t *b = family == AF_INET ? (uint8_t *)&base.v4 : base.v6.s6_addr;
    for (unsigned i = p.prefix; i < family_bits(family); i++)
        b[i / 8] &= (uint8_t) ~(0x80u >> (i % 8));
    if (!same_bits(&base, &p.base, family_bits(family))) {
        char whole[NETWORK_TEXT];
        return err_set(err, ERR_USAGE, "%s has bits set behind its prefix; did you mean %s?", text,
                       network_ip_text(&base, p.prefix, whole));
    }
    if (within_any(&p, forbidden_ranges, ARRAY_SIZE(forbidden_ranges)))
        return err_set(err, ERR_USAGE, "%s cannot be used for VEs: choose a private network", text);

    unsigned bits = family_bits(family) - p.prefix;
    uint64_t all = bits < 32 ? UINT64_C(1) << bits : UINT64_C(1) << 32;
    /* Network (in IPv6 the anycast of routers), gateway, broadcast (IPv4) are nobody's. */
    p.slots = (uint32_t)(all - 3);
    p.private = within_any(&p, private_ranges, ARRAY_SIZE(private_ranges));
    p.gateway = network_pool_address(&p, 1);
    *ret = p;
    return 0;
}
