/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cleanup.h"
#include "kernel/nft.h"
#include "network/internal.h"

struct teller {
    int (*item)(void *ctx, const char *sentence, struct err *err);
    void *ctx;
};

static int tell(const struct teller *t, char *sentence, struct err *err)
{
    auto_free char *text = sentence;
    if (!text)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    return t->item(t->ctx, text, err);
}

/*
 * Base chains of "nft list chains": a table's line, then in it a chain's, then its hook and policy.
 * An accept of ours cannot overrule another table's drop, so the operator must be told.
 */
static int find_droppers(const struct network_node *n, char *text, const struct teller *t,
                         struct err *err)
{
    char table[128] = "", chain[128] = "", ours[32];
    str_print(ours, sizeof(ours), "inet terem_%u", n->instance);
    int r = 0;
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line && r == 0;
         line = strtok_r(NULL, "\n", &save)) {
        line = str_trim(line);
        int name = (int)strcspn(line, "{");
        while (name > 0 && line[name - 1] == ' ')
            name--;
        if (str_starts(line, "table "))
            str_print(table, sizeof(table), "%.*s", name - 6, line + 6);
        else if (str_starts(line, "chain "))
            str_print(chain, sizeof(chain), "%.*s", name - 6, line + 6);
        else if (strstr(line, "hook forward") && strstr(line, "policy drop") &&
                 !str_eq(table, ours))
            r = tell(t,
                     str_format("the nftables table \"%s\" drops what is forwarded (chain %s): let "
                                "packets from and to %s-* pass there; Docker's chain for that is "
                                "DOCKER-USER",
                                table, chain, n->name),
                     err);
    }
    return r;
}

/* nft tells nothing of the older iptables' tables. */
static int check_legacy(const struct network_node *n, const struct teller *t, struct err *err)
{
    static const struct {
        int family;
        const char *command;
    } rows[] = {{AF_INET, "iptables-legacy"}, {AF_INET6, "ip6tables-legacy"}};
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(rows); i++)
        if (network_legacy_drops(rows[i].family))
            r = tell(t,
                     str_format("the policy of the chain FORWARD of the older iptables drops what "
                                "is forwarded: let packets from and to %s-+ pass there (%s -I "
                                "FORWARD; Docker's chain for that is DOCKER-USER)",
                                n->name, rows[i].command),
                     err);
    return r;
}

static int check_nft(const struct network_node *n, const struct teller *t, struct err *err)
{
    auto_str struct str guard = str_init(1 << 20);
    auto_free char *chains = NULL;
    struct err why = {0};
    int r = network_guard_text(n, false, false, &guard, err);
    if (r < 0)
        return r;
    if (nft_try(str_c(&guard), &why) < 0)
        return tell(t, str_format("the packet rules do not work on this kernel: %s", why.text),
                    err);
    r = nft_list("list chains", &chains, err);
    return r < 0 ? r : find_droppers(n, chains, t, err);
}

static int check_resolver(const struct network_node *n, const struct teller *t, struct err *err)
{
    auto_free char *text = NULL;
    int r = network_resolv_conf(n, &text, err);
    if (r < 0 || text[0] != '#' || network_resolv_loopback(n).s_addr)
        return r;
    return tell(t,
                str_format("VEs resolve no names: /etc/resolv.conf has no server that they can "
                           "reach; name one in terem.conf with network.dns"),
                err);
}

/* Once the node is set up: somebody has turned it off since. */
static int check_forwarding(const struct network_node *n, const struct teller *t, struct err *err)
{
    const struct {
        bool wanted;
        const char *sysctl;
    } rows[] = {{n->pool4.base.family, "net.ipv4.ip_forward"},
                {n->pool6.base.family, "net.ipv6.conf.all.forwarding"}};
    int r = 0;
    for (size_t i = 0; r == 0 && if_nametoindex(n->name) && i < ARRAY_SIZE(rows); i++)
        if (rows[i].wanted && !network_forwards(i == 1))
            r = tell(t,
                     str_format("packets of VEs are not forwarded: %s is 0; look for who sets it, "
                                "then restart teremd",
                                rows[i].sysctl),
                     err);
    return r;
}

int network_check(struct network_node *n,
                  int (*item)(void *ctx, const char *sentence, struct err *err), void *ctx,
                  struct err *err)
{
    struct teller t = {item, ctx};
    int r = check_nft(n, &t, err);
    if (r == 0)
        r = check_legacy(n, &t, err);
    if (r == 0)
        r = check_forwarding(n, &t, err);
    if (r == 0)
        r = check_resolver(n, &t, err);
    const char *lack = network_connections_lack(n);
    if (r == 0 && lack)
        r = tell(&t, str_format("the parameter connections is refused: %s", lack), err);
    if (r == 0 && network_ipv6_why(n))
        r = tell(&t, str_format("VEs have no IPv6: %s", network_ipv6_why(n)), err);
    if (r == 0 && !n->has_way_out)
        r = tell(&t, str_format("VEs have no way out: the host has no default route"), err);
    return r;
}
