/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses and prefixes of both families as numbers and as text. */
#include "network/internal.h"

#include <arpa/inet.h>

const char *network_ip_text(const struct netlink_ip *ip, int prefix, char buf[NETWORK_TEXT])
{
    char addr[INET6_ADDRSTRLEN] = "?";
    inet_ntop(ip->family, &ip->v4, addr, sizeof(addr));
    if (prefix >= 0)
        str_print(buf, NETWORK_TEXT, "%s/%d", addr, prefix);
    else
        str_print(buf, NETWORK_TEXT, "%s", addr);
    return buf;
}

unsigned network_ip_bits(const struct netlink_ip *ip)
{
    return ip->family == AF_INET ? 32 : 128;
}

uint8_t *network_ip_bytes(struct netlink_ip *ip)
{
    return ip->v6.s6_addr; /* IPv4's begin there, too */
}

int network_ip_parse(const char *text, struct netlink_ip *ret, struct err *err)
{
    struct netlink_ip ip = {.family = strchr(text, ':') ? AF_INET6 : AF_INET};
    if (inet_pton(ip.family, text, &ip.v4) != 1)
        return err_set(err, ERR_USAGE,
                       "\"%.60s\" is not an address such as 203.0.113.5 or 2001:db8::5", text);
    *ret = ip;
    return 0;
}

int network_ip_compare(const struct netlink_ip *a, const struct netlink_ip *b)
{
    if (a->family != b->family)
        return a->family == AF_INET ? -1 : 1;
    return memcmp(&a->v6, &b->v6, network_ip_bits(a) / 8);
}

struct netlink_ip network_ip_next(struct netlink_ip ip)
{
    for (unsigned i = network_ip_bits(&ip) / 8; i-- > 0;)
        if (++network_ip_bytes(&ip)[i])
            break;
    return ip;
}

struct netlink_ip network_ip_edge(struct netlink_ip ip, unsigned bits, bool last)
{
    unsigned all = network_ip_bits(&ip);
    for (unsigned i = all - bits; i < all; i++) {
        uint8_t bit = (uint8_t)(0x80u >> (i % 8)), *b = &network_ip_bytes(&ip)[i / 8];
        *b = last ? *b | bit : *b & (uint8_t)~bit;
    }
    return ip;
}

struct netlink_ip network_ip_last(const struct netlink_ip *base, uint8_t prefix)
{
    return network_ip_edge(*base, network_ip_bits(base) - prefix, true);
}

bool network_bits_same(const uint8_t *a, const uint8_t *b, unsigned n)
{
    unsigned whole = n / 8, rest = n % 8;
    return memcmp(a, b, whole) == 0 && (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

bool network_ip_in(const struct netlink_ip *ip, const struct netlink_ip *base, uint8_t prefix)
{
    return ip->family && ip->family == base->family &&
           network_bits_same(ip->v6.s6_addr, base->v6.s6_addr, prefix);
}

bool network_prefixes_overlap(const struct netlink_ip *a, uint8_t a_prefix,
                              const struct netlink_ip *b, uint8_t b_prefix)
{
    return network_ip_in(a, b, a_prefix < b_prefix ? a_prefix : b_prefix);
}
