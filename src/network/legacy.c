/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The older iptables ("legacy"), of the network namespace of the calling thread.
 *
 * Tables that nobody has used are not in the list of those that are there: asking for one would
 * make it.
 */
#include "base/cleanup.h"
#include "base/fd.h"
#include "network/internal.h"

#include <fcntl.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <string.h>
#include <sys/socket.h>

/* The calls have the same numbers and structures in both families, but for an entry's head. */
_Static_assert(IPT_SO_GET_INFO == IP6T_SO_GET_INFO && IPT_SO_GET_ENTRIES == IP6T_SO_GET_ENTRIES &&
                   sizeof(struct ipt_getinfo) == sizeof(struct ip6t_getinfo) &&
                   sizeof(struct ipt_get_entries) == sizeof(struct ip6t_get_entries),
               "one code for both");

#define FILTER "filter"

static const char *names_path(int family)
{
    return family == AF_INET ? "/proc/thread-self/net/ip_tables_names"
                             : "/proc/thread-self/net/ip6_tables_names";
}

bool network_legacy_there(int family)
{
    return access(names_path(family), F_OK) == 0;
}

/* Calls item() with each table that is in use. */
static void each_table(int family, void (*item)(void *ctx, int sock, int family, const char *table),
                       void *ctx)
{
    auto_free char *names = NULL;
    auto_fd int sock = -1;
    if (fd_read_file_at(AT_FDCWD, names_path(family), 4096, &names, NULL, NULL) < 0 || !*names ||
        (sock = socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW)) < 0)
        return;
    for (char *save = NULL, *name = strtok_r(names, "\n", &save); name;
         name = strtok_r(NULL, "\n", &save))
        item(ctx, sock, family, name);
}

static bool get_info(int sock, int family, const char *table, struct ipt_getinfo *ret)
{
    socklen_t len = sizeof(*ret);
    *ret = (struct ipt_getinfo){0};
    str_print(ret->name, sizeof(ret->name), "%s", table);
    return getsockopt(sock, family == AF_INET ? SOL_IP : SOL_IPV6, IPT_SO_GET_INFO, ret, &len) == 0;
}

/* Those that every table has are not counted: a policy for each hook, and the end. */
static void count_entries(void *ctx, int sock, int family, const char *table)
{
    struct ipt_getinfo info;
    uint64_t *n = ctx;
    if (!get_info(sock, family, table, &info))
        return;
    unsigned own = (unsigned)__builtin_popcount(info.valid_hooks) + 1;
    *n += info.num_entries > own ? info.num_entries - own : 0;
}

uint64_t network_legacy_rules(int family)
{
    uint64_t n = 0;
    each_table(family, count_entries, &n);
    return n;
}

/* The policy is the last entry of a hook's chain. */
static void find_policy(void *ctx, int sock, int family, const char *table)
{
    struct ipt_getinfo info;
    bool *drops = ctx;
    if (!str_eq(table, FILTER) || !get_info(sock, family, table, &info) ||
        !(info.valid_hooks & 1u << NF_INET_FORWARD))
        return;
    socklen_t len = (socklen_t)(sizeof(struct ipt_get_entries) + info.size);
    auto_free struct ipt_get_entries *all = calloc(1, len);
    if (!all)
        return;
    str_print(all->name, sizeof(all->name), "%s", table);
    all->size = info.size; /* changed meanwhile: the kernel refuses */
    if (getsockopt(sock, family == AF_INET ? SOL_IP : SOL_IPV6, IPT_SO_GET_ENTRIES, all, &len) < 0)
        return;
    const char *entry = (const char *)all->entrytable + info.underflow[NF_INET_FORWARD];
    const void *target =
        entry + (family == AF_INET ? ((const struct ipt_entry *)entry)->target_offset
                                   : ((const struct ip6t_entry *)entry)->target_offset);
    *drops = ((const struct xt_standard_target *)target)->verdict == -NF_DROP - 1;
}

bool network_legacy_drops(int family)
{
    bool drops = false;
    each_table(family, find_policy, &drops);
    return drops;
}
