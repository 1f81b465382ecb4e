/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table "bridge terem_0": who sends what in private networks.
 *
 * A member has a chain, which the map `members` leads to by the name of its end, and objects that
 * hold what its VE may send and get.
 */
#include "base/cleanup.h"
#include "kernel/nft.h"
#include "network/internal.h"
#include "network/private.h"

#include <inttypes.h>

#define TEXT_MAX (64 << 20)

/* Whatever has rules; and what members put into. */
static const char *const chains[] = {"refuse_out", "refuse_in", "spoof",       "stray",
                                     "first6",     "headers6",  "from_member", "early",
                                     "between",    "to_host",   "from_host"};
static const char *const maps[] = {"members", "packets_out", "packets_in", "packets_refused"};

/* %1$s: the table.  Nothing in here changes what is there already. */
static const char frame_text[] =
    "table bridge %1$s {\n"
    "    counter spoofed {\n    }\n"
    "    counter rogue {\n    }\n"
    "    map members { type ifname : verdict; }\n"
    "    map packets_out { type ifname : limit; }\n"
    "    map packets_in { type ifname : limit; }\n"
    "    map packets_refused { type ifname : counter; }\n"
    "    chain refuse_out { }\n"
    "    chain refuse_in { }\n"
    "    chain spoof { }\n"
    "    chain stray { }\n"
    "    chain first6 { }\n"
    "    chain headers6 { }\n"
    "    chain from_member { }\n"
    "    chain early { type filter hook prerouting priority -300; policy accept; }\n"
    "    chain between { type filter hook forward priority -300; policy accept; }\n"
    "    chain to_host { type filter hook input priority -300; policy accept; }\n"
    "    chain from_host { type filter hook output priority -300; policy accept; }\n"
    "}\n";

/*
 * %1$s: the table, %2$s: how names of bridges and ends begin.  `ether type` is what stands in the
 * frame: of one with a VLAN's tag it is that of the tag, also where the kernel has taken it out.
 * Neighbour discovery in fragments no receiver takes (RFC 6980), but the first fragment has to tell
 * what it is (RFC 7112).  Where the kernel stops to look for what a packet is (authentication,
 * mobility, host identity, shim6: each begins with the number of what follows), there must not
 * follow what would hide router advertisements and neighbour discovery.
 */
static const char rules_text[] =
    "table bridge %1$s {\n"
    "    chain refuse_out {\n"
    "        counter name meta iifname map @packets_refused\n"
    "        drop\n"
    "    }\n"
    "    chain refuse_in {\n"
    "        counter name meta oifname map @packets_refused\n"
    "        drop\n"
    "    }\n"
    "    chain spoof {\n"
    "        counter name \"spoofed\" drop\n"
    "    }\n"
    "    chain stray {\n"
    "        counter name \"rogue\" drop\n"
    "    }\n"
    "    chain first6 {\n"
    "        @th,0,8 >= 0 return\n"
    "        goto stray\n"
    "    }\n"
    "    chain headers6 {\n"
    "        frag frag-off 0 jump first6\n"
    "        meta l4proto { 51, 135, 139, 140 } @th,0,8 { 0, 43, 44, 51, 58, 60, 135, 139, 140 } "
    "goto stray\n"
    "    }\n"
    "    chain from_member {\n"
    "        limit name meta iifname map @packets_out goto refuse_out\n"
    "        ether type != { arp, ip, ip6 } goto stray\n"
    "        ether daddr 01:80:c2:00:00:00-01:80:c2:00:00:0f goto stray\n"
    "        ip6 nexthdr { 0, 43, 44, 51, 60, 135, 139, 140 } jump headers6\n"
    "        udp sport . udp dport { 67 . 68, 547 . 546 } goto stray\n"
    "        icmpv6 type { nd-router-advert, nd-redirect } goto stray\n"
    "        meta iifname vmap @members\n"
    "        goto spoof\n"
    "    }\n"
    "    chain early {\n"
    "        iifname \"%2$s.*\" goto from_member\n"
    "    }\n"
    "    chain between {\n"
    "        oifname \"%2$s.*\" limit name meta oifname map @packets_in goto refuse_in\n"
    "    }\n"
    "    chain to_host {\n"
    "        iifname \"%2$s.*\" drop\n"
    "    }\n"
    "    chain from_host {\n"
    "        oifname \"%2$s.*\" drop\n"
    "    }\n"
    "}\n";

struct names {
    char table[NETWORK_TABLE], end[IFNAMSIZ];
};

static int names_of(const struct network_node *n, const struct network_member *m, struct names *ret,
                    struct err *err)
{
    network_table_name(n, ret->table);
    return m ? network_member_name(n, m, ret->end, err) : 0;
}

static void add_hex(struct str *s, const struct netlink_ip *ip)
{
    str_add(s, "0x");
    for (size_t i = 0; i < 16; i++)
        str_add(s, "%02x", ip->v6.s6_addr[i]);
}

static void add_mac(struct str *s, const uint8_t m[6])
{
    str_add(s, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
}

static void add_rules4(struct str *s, const struct network_member *m)
{
    char ip[NETWORK_TEXT];
    struct netlink_ip v4 = network_member_address(m, AF_INET);
    if (!v4.family) {
        str_add(s, "        ether type { arp, ip } goto spoof\n");
        return;
    }
    network_ip_text(&v4, -1, ip);
    /* Who asks whether an address is free may ask for its own. */
    str_add(s,
            "        arp htype != 1 goto spoof\n"
            "        arp ptype != ip goto spoof\n"
            "        arp hlen != 6 goto spoof\n"
            "        arp plen != 4 goto spoof\n"
            "        arp saddr ip 0.0.0.0 arp daddr ip %1$s accept\n"
            "        arp saddr ip != %1$s goto spoof\n"
            "        ether type arp accept\n"
            "        ip saddr != %1$s goto spoof\n"
            "        ether type ip accept\n",
            ip);
}

static void add_rules6(struct str *s, const struct network_member *m, const uint8_t mac[6])
{
    char ip[NETWORK_TEXT], link_text[NETWORK_TEXT];
    struct netlink_ip v6 = network_member_address(m, AF_INET6), link = network_mac_link(mac);
    if (!v6.family) {
        str_add(s, "        goto spoof\n");
        return;
    }
    str_add(s, "        icmpv6 type nd-neighbor-advert @th,64,128 != { ");
    add_hex(s, &v6);
    str_add(s, ", ");
    add_hex(s, &link);
    str_add(s, " } goto spoof\n        ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,128 { ");
    add_hex(s, &v6);
    str_add(s, ", ");
    add_hex(s, &link);
    str_add(s,
            " } accept\n"
            "        ip6 saddr != { %s, %s } goto spoof\n"
            "        accept\n",
            network_ip_text(&v6, -1, ip), network_ip_text(&link, -1, link_text));
}

static void add_counter(struct str *s, const struct names *names, const struct network_member *m)
{
    str_add(s,
            "add counter bridge %1$s ve%2$" PRId64 "-packets\n"
            "add element bridge %1$s packets_refused { \"%3$s\" : \"ve%2$" PRId64 "-packets\" }\n",
            names->table, m->id, names->end);
}

/* It is there.  last: no other end of the VE has it. */
static void drop_counter(struct str *s, const struct names *names, const struct network_member *m,
                         bool last)
{
    str_add(s, "delete element bridge %s packets_refused { \"%s\" }\n", names->table, names->end);
    if (last)
        str_add(s, "delete counter bridge %s ve%" PRId64 "-packets\n", names->table, m->id);
}

static void add_member(struct str *s, const struct names *names, const struct network_member *m)
{
    uint8_t mac[6];
    network_member_mac(m, mac);
    str_add(s,
            "add chain bridge %1$s ve%2$" PRId64 ".%3$u\nflush chain bridge %1$s ve%2$" PRId64
            ".%3$u\ntable bridge %1$s {\n    chain ve%2$" PRId64 ".%3$u {\n"
            "        ether saddr != ",
            names->table, m->id, m->port);
    add_mac(s, mac);
    str_add(s, " goto spoof\n        arp saddr ether != ");
    add_mac(s, mac);
    str_add(s, " goto spoof\n");
    add_rules4(s, m);
    add_rules6(s, m, mac);
    str_add(s,
            "    }\n}\n"
            "add element bridge %1$s members { \"%2$s\" : goto ve%3$" PRId64 ".%4$u }\n",
            names->table, names->end, m->id, m->port);
    add_counter(s, names, m);
}

static const char *const ways[] = {"out", "in"};

static void add_limits(struct str *s, const struct names *names, const struct network_member *m)
{
    uint64_t burst = m->packets / 10 < 10 ? 10 : m->packets / 10;
    if (m->packets == NETWORK_UNLIMITED)
        return;
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
        str_add(s,
                "add limit bridge %1$s ve%2$" PRId64 "-%3$s { rate over %4$" PRIu64
                "/second burst %5$" PRIu64 " packets ; }\n"
                "add element bridge %1$s packets_%3$s { \"%6$s\" : \"ve%2$" PRId64 "-%3$s\" }\n",
                names->table, m->id, ways[i], m->packets, burst > UINT32_MAX ? UINT32_MAX : burst,
                names->end);
}

/* The elements go; with `last` also the objects that other ends of the VE would use.  What is not
 * there is made first, as to delete nothing is an error. */
static void drop_limits(struct str *s, const struct names *names, const struct network_member *m,
                        bool last)
{
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        str_add(s,
                "add limit bridge %1$s ve%2$" PRId64 "-%3$s { rate over 1/second ; }\n"
                "add element bridge %1$s packets_%3$s { \"%4$s\" : \"ve%2$" PRId64 "-%3$s\" }\n"
                "delete element bridge %1$s packets_%3$s { \"%4$s\" }\n",
                names->table, m->id, ways[i], names->end);
        if (last)
            str_add(s, "delete limit bridge %s ve%" PRId64 "-%s\n", names->table, m->id, ways[i]);
    }
}

static int run(const struct str *s, struct err *err)
{
    return s->failed ? err_set(err, ERR_EXHAUSTED, "out of memory") : nft_run(str_c(s), err);
}

const char *network_private_lack(struct network_node *n)
{
    auto_str struct str s = str_init(1 << 16);
    str_add(&s, frame_text, "terem_probe");
    str_add(&s, rules_text, "terem_probe", n->name);
    return nft_try(str_c(&s), NULL) < 0 ? "this kernel has no packet rules for bridges "
                                          "(CONFIG_NF_TABLES_BRIDGE, CONFIG_NFT_BRIDGE_META)"
                                        : NULL;
}

/* ---- what is nobody's ---- */

/* Of an object, as nft lists it: "chain ve7.1". */
typedef char listed_name[48];

/* Sorted.  Two for each member, some of them twice: limits are none, as one that is there keeps its
 * rate when it is added. */
static listed_name *wanted_of(const struct network_member *list, size_t count, size_t *ret_n)
{
    listed_name *wanted = calloc(2 * count + 1, sizeof(*wanted));
    size_t n = 0;
    for (size_t i = 0; wanted && i < count; i++) {
        str_print(wanted[n++], sizeof(*wanted), "chain ve%" PRId64 ".%u", list[i].id, list[i].port);
        str_print(wanted[n++], sizeof(*wanted), "counter ve%" PRId64 "-packets", list[i].id);
    }
    if (wanted)
        qsort(wanted, n, sizeof(*wanted), network_compare_names);
    *ret_n = n;
    return wanted;
}

/* Each line of a list that names an object of a member which is none any more. */
static void drop_listed(struct str *s, const char *table, char *text, const listed_name *wanted,
                        size_t n)
{
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line && !str_eq(line, "}");
         line = strtok_r(NULL, "\n", &save)) {
        listed_name name = "";
        const char *object = strchr(line, ' ');
        char *end = strstr(line, " {");
        if (line[0] != '\t' || !end || !str_starts(object, " ve"))
            continue;
        *end = '\0';
        if (str_print(name, sizeof(name), "%s", line + 1) < 0 ||
            bsearch(name, wanted, n, sizeof(*wanted), network_compare_names))
            continue;
        if (str_starts(name, "chain "))
            str_add(s, "flush chain bridge %s%s\n", table, object);
        str_add(s, "delete %.*s bridge %s%s\n", (int)strcspn(name, " "), name, table, object);
    }
}

/* What a crash, or a refusal of the kernel, has left; the maps that led to it are empty by now. */
static int drop_unwanted(struct str *s, const char *table, const struct network_member *list,
                         size_t count, struct err *err)
{
    /* Of chains it lists those of all tables. */
    static const char *const kinds[] = {"chains bridge", "counters table bridge ",
                                        "limits table bridge "};
    size_t n;
    auto_free listed_name *wanted = wanted_of(list, count, &n);
    if (!wanted)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        auto_free char *text = NULL;
        char command[64], head[64];
        str_print(command, sizeof(command), "list %s%s", kinds[i], i > 0 ? table : "");
        str_print(head, sizeof(head), "table bridge %s {", table);
        if (nft_list(command, &text, NULL) < 0)
            return 0; /* it has not been laid yet */
        char *mine = strstr(text, head);
        if (mine)
            drop_listed(s, table, mine + strlen(head), wanted, n);
    }
    return 0;
}

static int lay(struct network_node *n, bool anew, const struct network_member *list, size_t count,
               struct err *err)
{
    auto_str struct str s = str_init(TEXT_MAX);
    struct names names;
    names_of(n, NULL, &names, NULL);
    if (anew)
        str_add(&s, "add table bridge %1$s\ndelete table bridge %1$s\n", names.table);
    str_add(&s, frame_text, names.table);
    for (size_t i = 0; i < ARRAY_SIZE(chains); i++)
        str_add(&s, "flush chain bridge %s %s\n", names.table, chains[i]);
    for (size_t i = 0; i < ARRAY_SIZE(maps); i++)
        str_add(&s, "flush map bridge %s %s\n", names.table, maps[i]);
    if (!anew && drop_unwanted(&s, names.table, list, count, err) < 0)
        return -err->kind;
    str_add(&s, rules_text, names.table, n->name);
    for (size_t i = 0; i < count; i++) {
        if (names_of(n, &list[i], &names, err) < 0)
            return -err->kind;
        add_member(&s, &names, &list[i]);
        add_limits(&s, &names, &list[i]);
    }
    return run(&s, err);
}

/* A table that an older Terem laid may have other maps: then all of it goes. */
int network_members_lay(struct network_node *n, const struct network_member *list, size_t count,
                        struct err *err)
{
    struct err e = {0};
    int r = lay(n, false, list, count, &e);
    return r < 0 ? lay(n, true, list, count, err) : 0;
}

int network_members_clear(struct network_node *n, struct err *err)
{
    char table[NETWORK_TABLE], text[128];
    network_table_name(n, table);
    str_print(text, sizeof(text), "add table bridge %1$s\ndelete table bridge %1$s\n", table);
    if (nft_try(text, NULL) < 0) /* a kernel without them has none of ours */
        return 0;
    return nft_run(text, err);
}

int network_members_limit(struct network_node *n, const struct network_member *list, size_t count,
                          bool anew, struct err *err)
{
    auto_str struct str s = str_init(1 << 20);
    struct names names;
    for (size_t i = 0; i < count; i++) {
        if (names_of(n, &list[i], &names, err) < 0)
            return -err->kind;
        drop_limits(&s, &names, &list[i], i + 1 == count);
        if (anew)
            drop_counter(&s, &names, &list[i], i + 1 == count);
    }
    for (size_t i = 0; i < count; i++) {
        names_of(n, &list[i], &names, NULL);
        add_limits(&s, &names, &list[i]);
        add_counter(&s, &names, &list[i]);
    }
    int r = count ? run(&s, err) : 0;
    return r < 0 ? err_wrap(err, "cannot limit its private networks") : 0;
}

int network_member_add(struct network_node *n, const struct network_member *m, struct err *err)
{
    auto_str struct str s = str_init(1 << 16);
    struct names names;
    if (names_of(n, m, &names, err) < 0)
        return -err->kind;
    add_member(&s, &names, m);
    add_limits(&s, &names, m);
    int r = run(&s, err);
    return r < 0 ? err_wrap(err, "cannot write the rules of %s", names.end) : 0;
}

int network_member_remove(struct network_node *n, const struct network_member *m, bool last,
                          struct err *err)
{
    auto_str struct str s = str_init(1 << 16);
    struct names names;
    if (names_of(n, m, &names, err) < 0 || network_member_unplug(n, m, err) < 0)
        return -err->kind;
    add_member(&s, &names, m);
    drop_limits(&s, &names, m, last || m->packets == NETWORK_UNLIMITED);
    str_add(&s,
            "delete element bridge %1$s members { \"%2$s\" }\n"
            "flush chain bridge %1$s ve%3$" PRId64 ".%4$u\n"
            "delete chain bridge %1$s ve%3$" PRId64 ".%4$u\n",
            names.table, names.end, m->id, m->port);
    drop_counter(&s, &names, m, last);
    int r = run(&s, err);
    return r < 0 ? err_wrap(err, "cannot take the rules of %s away", names.end) : 0;
}
