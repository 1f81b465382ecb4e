/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "network/publish.h"

#include "base/cleanup.h"
#include "kernel/nft.h"
#include "network/internal.h"

#include <errno.h>
#include <sys/socket.h>

bool network_publish_clashes(const struct network_publish *a, const struct network_publish *b)
{
    return a->protocol == b->protocol && a->port == b->port &&
           (!a->address.family || !b->address.family ||
            network_ip_compare(&a->address, &b->address) == 0);
}

static const char *protocol_name(const struct network_publish *p)
{
    return p->protocol == IPPROTO_UDP ? "udp" : "tcp";
}

static int bind_to(const struct network_publish *p, int family, struct err *err)
{
    union {
        struct sockaddr sa;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a = {.sa.sa_family = (sa_family_t)family};
    if (family == AF_INET)
        a.v4.sin_addr = p->address.v4, a.v4.sin_port = htons(p->port);
    else
        a.v6.sin6_addr = p->address.v6, a.v6.sin6_port = htons(p->port);
    auto_fd int fd =
        socket(family, (p->protocol == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_sys(err, "cannot make a socket");
    if (bind(fd, &a.sa, family == AF_INET ? sizeof(a.v4) : sizeof(a.v6)) == 0)
        return steal_fd(&fd);
    if (errno == EADDRINUSE)
        return err_set(err, ERR_EXISTS,
                       "a program of this machine has port %u/%s; choose another port, or end "
                       "that program",
                       p->port, protocol_name(p));
    char text[NETWORK_TEXT];
    if (errno == EADDRNOTAVAIL)
        return err_set(err, ERR_NOT_FOUND,
                       "this machine does not have the address %s; ip address shows those it has",
                       network_ip_text(&p->address, -1, text));
    return err_sys(err, "cannot hold port %u/%s", p->port, protocol_name(p));
}

int network_publish_hold(const struct network_publish *p, int *ret_fd, struct err *err)
{
    struct err own = {0};
    err = err ? err : &own;
    /* One of IPv6 holds that of IPv4, too (ipv6(7), IPV6_V6ONLY). */
    int fd = bind_to(p, p->address.family ? p->address.family : AF_INET6, err);
    if (fd < 0 && err->sys == EAFNOSUPPORT && !p->address.family) {
        err_clear(err);
        fd = bind_to(p, AF_INET, err);
    }
    if (fd < 0)
        return fd;
    *ret_fd = fd;
    return 0;
}

/* "VERB element inet terem_0 published4 { 203.0.113.1 . tcp . 80 : 10.88.0.2 . 8080 }" and what
 * lets the VE meet itself; of one family. */
static void add_element(const struct network_node *n, const struct network_publish *p,
                        const struct netlink_ip *to, bool add, struct str *s)
{
    char table[NETWORK_TABLE], from[NETWORK_TEXT] = "", own[NETWORK_TEXT];
    int v = to->family == AF_INET ? 4 : 6;
    network_table_name(n, table);
    network_ip_text(to, -1, own);
    if (p->address.family)
        network_ip_text(&p->address, -1, from);
    str_add(s, "%s element inet %s published%d%s { %s%s%s . %u%s", add ? "add" : "delete", table, v,
            *from ? "" : "_all", from, *from ? " . " : "", protocol_name(p), p->port,
            add ? "" : " }\n");
    if (add)
        str_add(s, " : %s . %u }\nadd element inet %s selves%d { %s . %s }\n", own, p->to_port,
                table, v, own, own);
}

static int add_text(const struct network_node *n, const struct network_publish *p, bool add,
                    struct str *s, struct err *err)
{
    struct network_address a;
    int r = network_address_of(n, p->slot, &a, err);
    if (r < 0)
        return r;
    struct netlink_ip to4 = netlink_ip4(a.v4), to6 = netlink_ip6(a.v6);
    bool four = n->pool4.base.family && p->address.family != AF_INET6,
         six = n->pool6.base.family && p->address.family != AF_INET;
    if (!four && !six)
        return err_set(err, ERR_UNSUPPORTED, "VEs of this node have no address of that family");
    if (four)
        add_element(n, p, &to4, add, s);
    if (six)
        add_element(n, p, &to6, add, s);
    return 0;
}

static int run(const struct str *s, struct err *err)
{
    int r = s->failed ? err_set(err, ERR_EXHAUSTED, "out of memory") : nft_run(str_c(s), err);
    return r < 0 ? err_wrap(err, "cannot change which ports are published") : 0;
}

int network_publish_add(struct network_node *n, const struct network_publish *p, struct err *err)
{
    auto_str struct str s = str_init(1024);
    int r = add_text(n, p, true, &s, err);
    return r < 0 ? r : run(&s, err);
}

int network_publish_remove(struct network_node *n, const struct network_publish *p, struct err *err)
{
    auto_str struct str s = str_init(1024);
    int r = add_text(n, p, false, &s, err);
    return r < 0 ? r : run(&s, err);
}

int network_publish_lay(struct network_node *n, const struct network_publish *list, size_t count,
                        struct err *err)
{
    static const char *const names[] = {"map published4",     "map published6",
                                        "map published4_all", "map published6_all",
                                        "set selves4",        "set selves6"};
    auto_str struct str s = str_init(1 << 20);
    char table[NETWORK_TABLE];
    network_table_name(n, table);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        str_add(&s, "flush %.3s inet %s %s\n", names[i], table, names[i] + 4);
    for (size_t i = 0; i < count; i++) {
        int r = add_text(n, &list[i], true, &s, err);
        if (r < 0)
            return r;
    }
    return run(&s, err);
}
