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

static int check_nft(const struct network_node *n, const struct teller *t, struct err *err)
{
    auto_str struct str guard = str_init(8192);
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
                           "reach"),
                err);
}

int network_check(struct network_node *n,
                  int (*item)(void *ctx, const char *sentence, struct err *err), void *ctx,
                  struct err *err)
{
    struct teller t = {item, ctx};
    int r = check_nft(n, &t, err);
    if (r == 0)
        r = check_resolver(n, &t, err);
    const char *lack = network_connections_lack(n);
    if (r == 0 && lack)
        r = tell(&t, str_format("the parameter connections is refused: %s", lack), err);
    if (r == 0 && !n->has_way_out)
        r = tell(&t, str_format("VEs have no way out: the host has no default route"), err);
    return r;
}
