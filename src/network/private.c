/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Private networks: numbers and addresses, bridges, and the ends that lead to VEs. */
#include "network/private.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "network/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/rtnetlink.h>

/* ---- arithmetic ---- */

static int read_range(const char *text, int family, struct network_range *ret, struct err *err)
{
    unsigned least = family == AF_INET ? 16 : 64, most = family == AF_INET ? 30 : 120;
    if (!text)
        return 0;
    if ((strchr(text, ':') != NULL) != (family == AF_INET6))
        return err_set(err, ERR_USAGE, "\"%.60s\" is not an %s network", text,
                       family == AF_INET ? "IPv4" : "IPv6");
    struct network_range r;
    if (network_range_parse(text, NULL, &r, err) < 0)
        return -err->kind;
    if (r.prefix < least || r.prefix > most)
        return err_set(err, ERR_USAGE, "%s: choose a prefix length from %u to %u", text, least,
                       most);
    if (r.public)
        return err_set(err, ERR_USAGE,
                       "%s is routed on the internet, which its members could not reach any more; "
                       "choose a private network such as %s",
                       text, family == AF_INET ? "10.77.0.0/24" : "fd54:6572:7000::/64");
    *ret = r;
    return 0;
}

int network_private_parse(const char *range4, const char *range6, struct network_private *ret,
                          struct err *err)
{
    struct network_private p = {0};
    if (!range4 && !range6)
        return err_set(err, ERR_USAGE, "it has neither an IPv4 nor an IPv6 range");
    if (read_range(range4, AF_INET, &p.v4, err) < 0 || read_range(range6, AF_INET6, &p.v6, err) < 0)
        return -err->kind;
    *ret = p;
    return 0;
}

bool network_private_overlaps(const struct network_private *a, const struct network_private *b)
{
    return (a->v4.base.family && b->v4.base.family && network_range_overlaps(&a->v4, &b->v4)) ||
           (a->v6.base.family && b->v6.base.family && network_range_overlaps(&a->v6, &b->v6));
}

static uint32_t numbers_of(const struct network_range *r)
{
    unsigned bits = network_ip_bits(&r->base) - r->prefix;
    if (!r->base.family || bits >= 16)
        return UINT16_MAX - 1;
    return (UINT32_C(1) << bits) - 2; /* the base is nobody's, nor IPv4's broadcast address */
}

uint32_t network_private_numbers(const struct network_private *p)
{
    uint32_t v4 = numbers_of(&p->v4), v6 = numbers_of(&p->v6);
    return v4 < v6 ? v4 : v6;
}

static struct netlink_ip address_of(const struct network_range *r, uint32_t number)
{
    struct network_pool p = {.base = r->base};
    return r->base.family ? network_pool_address(&p, number) : (struct netlink_ip){0};
}

struct netlink_ip network_member_address(const struct network_member *m, int family)
{
    return address_of(family == AF_INET ? &m->in->v4 : &m->in->v6, m->number);
}

uint32_t network_private_number(const struct network_private *p, const struct netlink_ip *ip)
{
    const struct network_range *r = ip->family == AF_INET ? &p->v4 : &p->v6;
    const uint8_t *b = ip->family == AF_INET ? (const uint8_t *)&ip->v4 + 2 : &ip->v6.s6_addr[14];
    if (!r->base.family || !network_range_has(r, ip))
        return 0;
    uint32_t mask = numbers_of(r) >= UINT16_MAX - 1 ? UINT16_MAX : numbers_of(r) + 1;
    uint32_t number = ((uint32_t)b[0] << 8 | b[1]) & mask;
    struct netlink_ip back = address_of(r, number);
    return number <= network_private_numbers(p) && network_ip_compare(&back, ip) == 0 ? number : 0;
}

void network_member_mac(const struct network_member *m, uint8_t ret[6])
{
    const uint8_t mac[6] = {0x02,
                            'P',
                            (uint8_t)(m->in->id >> 8),
                            (uint8_t)m->in->id,
                            (uint8_t)(m->number >> 8),
                            (uint8_t)m->number};
    memcpy(ret, mac, sizeof(mac));
}

struct netlink_ip network_mac_link(const uint8_t m[6])
{
    return netlink_ip6((struct in6_addr){.s6_addr = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, m[0] ^ 2, m[1],
                                                     m[2], 0xff, 0xfe, m[3], m[4], m[5]}});
}

/* ---- names ---- */

static int name_fits(const struct network_node *n, char ret[IFNAMSIZ], const char *tail,
                     struct err *err)
{
    if (str_print(ret, IFNAMSIZ, "%s.%s", n->name, tail) < 0)
        return err_set(err, ERR_EXHAUSTED, "the interface name %s.%s is longer than Linux allows",
                       n->name, tail);
    return 0;
}

static int bridge_name(const struct network_node *n, int64_t id, char ret[IFNAMSIZ],
                       struct err *err)
{
    char tail[32];
    str_print(tail, sizeof(tail), "n%" PRId64, id);
    return name_fits(n, ret, tail, err);
}

/* "7"; from a million on "xlfls", to the base of 36, or the name would not fit. */
static void id_text(int64_t id, char ret[20])
{
    char digits[20];
    size_t n = sizeof(digits);
    if (id < 1000000) {
        str_print(ret, 20, "%" PRId64, id);
        return;
    }
    digits[--n] = '\0';
    for (int64_t left = id; left && n > 1; left /= 36)
        digits[--n] = "0123456789abcdefghijklmnopqrstuvwxyz"[left % 36];
    str_print(ret, 20, "x%s", digits + n);
}

int network_member_name(const struct network_node *n, const struct network_member *m,
                        char ret[IFNAMSIZ], struct err *err)
{
    char id[20], tail[40];
    memset(ret, 0, IFNAMSIZ);
    id_text(m->id, id);
    str_print(tail, sizeof(tail), "%s.%u", id, m->port);
    return name_fits(n, ret, tail, err);
}

bool network_private_link(const struct network_node *n, const char *name)
{
    size_t len = strlen(n->name);
    return str_starts(name, n->name) && name[len] == '.';
}

/* ---- bridges ---- */

/* What would keep the host from taking part, should the packet rules be gone. */
static int seal(struct netlink *nl, const char *name, int ifindex, struct err *err)
{
    const struct netlink_devconf conf[] = {
        {IPV4_DEVCONF_FORWARDING, 0},
        {IPV4_DEVCONF_RP_FILTER, 1},
        {IPV4_DEVCONF_ARP_IGNORE, 8},
        {IPV4_DEVCONF_ACCEPT_REDIRECTS, 0},
    };
    char path[64 + IFNAMSIZ];
    struct err e = {0};
    str_print(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
    if (fd_write_value_at(AT_FDCWD, path, &e, "1") < 0 && e.kind != ERR_NOT_FOUND)
        return err_set(err, (enum err_kind)e.kind, "%s", e.text);
    netlink_link_devconf4(nl, ifindex, conf, ARRAY_SIZE(conf));
    netlink_link_addrgen(nl, ifindex, IN6_ADDR_GEN_MODE_NONE);
    int r = netlink_commit(nl, err);
    if (r < 0)
        return r;
    netlink_link_up(nl, ifindex);
    return netlink_commit(nl, err);
}

static int lay_bridge(struct network_node *n, struct netlink *nl, int64_t id, struct err *err)
{
    const uint8_t mac[6] = {0x02, 'T', 'e', 'p', (uint8_t)(id >> 8), (uint8_t)id};
    char name[IFNAMSIZ];
    struct netlink_link l;
    int r = bridge_name(n, id, name, err);
    if (r < 0)
        return r;
    r = netlink_link_get(nl, name, &l, err);
    if (r == -ERR_NOT_FOUND) {
        err_clear(err);
        netlink_bridge_add(nl, name, mac);
        r = netlink_commit(nl, err);
        if (r == 0)
            r = netlink_link_get(nl, name, &l, err);
    }
    if (r == 0 && !str_eq(l.kind, "bridge"))
        r = err_set(err, ERR_EXISTS, "the interface %s is not Terem's: remove or rename it", name);
    return r < 0 ? r : seal(nl, name, l.ifindex, err);
}

/* ---- ends ---- */

struct unwanted {
    const struct network_node *n;
    char (*wanted)[IFNAMSIZ]; /* by name */
    size_t n_wanted;
    int found[64];
    size_t n_found;
};

int network_compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

static bool is_wanted(const struct unwanted *u, const struct netlink_link *l)
{
    return bsearch(l->name, u->wanted, u->n_wanted, sizeof(*u->wanted), network_compare_names) !=
           NULL;
}

static int names_wanted(struct unwanted *u, const struct network_private *list, size_t count,
                        const struct network_member *members, size_t n_members, struct err *err)
{
    u->wanted = calloc(count + n_members + 1, sizeof(*u->wanted));
    if (!u->wanted)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < count; i++)
        u->n_wanted += bridge_name(u->n, list[i].id, u->wanted[u->n_wanted], NULL) == 0;
    for (size_t i = 0; i < n_members; i++)
        u->n_wanted += network_member_name(u->n, &members[i], u->wanted[u->n_wanted], NULL) == 0;
    qsort(u->wanted, u->n_wanted, sizeof(*u->wanted), network_compare_names);
    return 0;
}

static int find_unwanted(void *ctx, const struct netlink_link *l, struct err *err)
{
    struct unwanted *u = ctx;
    if (network_private_link(u->n, l->name) && u->n_found < ARRAY_SIZE(u->found) &&
        (str_eq(l->kind, "veth") || str_eq(l->kind, "bridge")) && !is_wanted(u, l))
        u->found[u->n_found++] = l->ifindex;
    return 0;
}

/* A few at a time. */
static int remove_unwanted(struct netlink *nl, struct unwanted *u, struct err *err)
{
    do {
        u->n_found = 0;
        int r = netlink_link_each(nl, NULL, find_unwanted, u, err);
        for (size_t i = 0; r == 0 && i < u->n_found; i++) {
            netlink_link_delete(nl, u->found[i]);
            r = netlink_commit(nl, err);
        }
        if (r < 0)
            return r;
    } while (u->n_found == ARRAY_SIZE(u->found));
    return 0;
}

int network_privates_lay(struct network_node *n, const struct network_private *list, size_t count,
                         const struct network_member *members, size_t n_members, struct err *err)
{
    struct unwanted u = {.n = n};
    struct netlink *nl;
    int r = network_socket(n, &nl, err);
    /* The rules first: no frame passes without them. */
    if (r == 0 && count)
        r = network_members_lay(n, members, n_members, err);
    n->has_privates = count > 0;
    for (size_t i = 0; r == 0 && i < count; i++)
        r = lay_bridge(n, nl, list[i].id, err);
    if (r == 0)
        r = names_wanted(&u, list, count, members, n_members, err);
    if (r == 0)
        r = remove_unwanted(nl, &u, err);
    free(u.wanted);
    return r < 0 ? err_wrap(err, "cannot lay the private networks") : 0;
}

int network_privates_remove(struct network_node *n, struct err *err)
{
    int r = network_privates_lay(n, NULL, 0, NULL, 0, err);
    return r < 0 ? r : network_members_clear(n, err);
}

static int find_end(struct network_node *n, const struct network_member *m, struct netlink **ret_nl,
                    char name[IFNAMSIZ], struct netlink_link *ret, struct err *err)
{
    int r = network_member_name(n, m, name, err);
    if (r == 0)
        r = network_socket(n, ret_nl, err);
    return r < 0 ? r : network_cable_find(*ret_nl, name, ret, err);
}

int network_member_unplug(struct network_node *n, const struct network_member *m, struct err *err)
{
    struct netlink *nl;
    struct netlink_link l;
    char name[IFNAMSIZ];
    int r = find_end(n, m, &nl, name, &l, err);
    if (r == -ERR_NOT_FOUND) {
        err_clear(err);
        return 0;
    }
    if (r == 0) {
        network_idle_detach(n, l.ifindex);
        netlink_link_delete(nl, l.ifindex);
        r = netlink_commit(nl, err);
    }
    return r < 0 ? err_wrap(err, "cannot remove eth%u", m->port) : 0;
}

/* It is put into the bridge and brought up last. */
int network_member_plugged(struct network_node *n, const struct network_member *m, bool *ret,
                           struct err *err)
{
    struct netlink *nl;
    struct netlink_link l, bridge;
    char name[IFNAMSIZ];
    *ret = false;
    int r = find_end(n, m, &nl, name, &l, err);
    if (r == 0)
        r = bridge_name(n, m->in->id, name, err);
    if (r == 0)
        r = netlink_link_get(nl, name, &bridge, err);
    if (r == -ERR_NOT_FOUND) {
        err_clear(err);
        return 0;
    }
    if (r == 0)
        *ret = l.master == bridge.ifindex && (l.flags & IFF_UP);
    return r;
}

int network_member_fix(struct network_node *n, const struct network_member *m, struct err *err)
{
    struct netlink *nl;
    struct netlink_link l;
    char name[IFNAMSIZ];
    uint8_t mac[6];
    int r = find_end(n, m, &nl, name, &l, err);
    if (r == 0) {
        network_member_mac(m, mac);
        netlink_port_fix(nl, l.ifindex, mac);
        r = netlink_commit(nl, err);
    }
    if (r == 0)
        r = network_idle_attach(n, nl, m->id, l.ifindex, err);
    return r < 0 ? err_wrap(err, "cannot set eth%u right", m->port) : 0;
}

static int make_pair(struct network_node *n, struct netlink *nl, const struct network_member *m,
                     int netns_fd, struct netlink_link *ret, struct err *err)
{
    static const uint8_t host_mac[6] = {0x02, 'T', 'e', 'r', 'e', 'p'};
    char name[IFNAMSIZ], peer[IFNAMSIZ];
    uint8_t mac[6];
    int r = network_member_unplug(n, m, err); /* of an earlier run, or half made */
    if (r == 0)
        r = network_member_name(n, m, name, err);
    if (r < 0)
        return r;
    str_print(peer, sizeof(peer), "eth%u", m->port);
    network_member_mac(m, mac);
    netlink_veth_add(nl, &(struct netlink_veth){.name = name,
                                                .peer = peer,
                                                .peer_netns = netns_fd,
                                                .mac = host_mac,
                                                .peer_mac = mac,
                                                .mtu = n->mtu});
    r = netlink_commit(nl, err);
    if (r == -ERR_EXISTS) /* the host's end is gone: it is the other that is in the way */
        return err_set(err, ERR_EXISTS,
                       "the VE has an interface of that name of its own; rename or delete it there "
                       "(ip link)");
    return r < 0 ? r : netlink_link_get(nl, name, ret, err);
}

/* As with its cable, the VE's side is ready without asking anybody. */
static int lay_inner(const struct network_member *m, struct netlink *nl, int inner, struct err *err)
{
    uint8_t mac[6];
    network_member_mac(m, mac);
    netlink_link_addrgen(nl, inner, IN6_ADDR_GEN_MODE_NONE);
    netlink_link_up(nl, inner);
    if (m->in->v4.base.family)
        network_inner_address(nl, inner, network_member_address(m, AF_INET), m->in->v4.prefix,
                              RT_SCOPE_UNIVERSE);
    if (m->in->v6.base.family) {
        network_inner_address(nl, inner, network_member_address(m, AF_INET6), m->in->v6.prefix,
                              RT_SCOPE_UNIVERSE);
        network_inner_address(nl, inner, network_mac_link(mac), 64, RT_SCOPE_LINK);
        netlink_link_addrgen(nl, inner, IN6_ADDR_GEN_MODE_EUI64);
    }
    return netlink_commit(nl, err);
}

static int join_bridge(struct network_node *n, struct netlink *nl, const struct network_member *m,
                       const struct netlink_link *end, struct err *err)
{
    char name[IFNAMSIZ];
    uint8_t mac[6];
    struct netlink_link bridge;
    int r = bridge_name(n, m->in->id, name, err);
    if (r == 0)
        r = netlink_link_get(nl, name, &bridge, err);
    if (r < 0)
        return r;
    network_member_mac(m, mac);
    netlink_link_addrgen(nl, end->ifindex, IN6_ADDR_GEN_MODE_NONE);
    netlink_link_master(nl, end->ifindex, bridge.ifindex);
    netlink_port_fix(nl, end->ifindex, mac);
    netlink_link_up(nl, end->ifindex);
    r = netlink_commit(nl, err);
    return r < 0 ? r : netlink_link_wait(nl, end->name, err);
}

int network_member_plug(struct network_node *n, const struct network_member *m, int netns_fd,
                        struct err *err)
{
    auto_netlink struct netlink *inner = NULL;
    struct netlink *nl;
    struct netlink_link end = {0};
    struct netlink_ip v6 = network_member_address(m, AF_INET6);
    int r = network_socket(n, &nl, err);
    if (r == 0)
        r = make_pair(n, nl, m, netns_fd, &end, err);
    if (r == 0)
        r = netlink_open_in(netns_fd, &inner, err);
    if (r == 0)
        r = lay_inner(m, inner, end.peer, err);
    if (r == 0)
        r = network_idle_attach(n, nl, m->id, end.ifindex, err);
    if (r == 0)
        r = join_bridge(n, nl, m, &end, err);
    if (r == 0 && v6.family)
        netlink_address_wait(inner, v6);
    if (r == 0)
        return 0;
    if (end.ifindex) {
        netlink_link_delete(nl, end.ifindex);
        netlink_commit(nl, NULL);
    }
    return err_wrap(err, "cannot make eth%u", m->port);
}
