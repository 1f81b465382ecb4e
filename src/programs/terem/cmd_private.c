/* SPDX-License-Identifier: GPL-2.0-or-later */
/* network private list, show, create, remove, join, leave. */
#include "base/cleanup.h"
#include "base/name.h"
#include "cli.h"
#include "command.h"
#include "text.h"

#include <string.h>

#define PRIVATE "/v1/network/private"
#define NOUN    "private network"

void private_cells(struct text_table *t, const json_t *network)
{
    auto_str struct str members = str_init(TEXT_MAX);
    size_t i;
    json_t *m;
    json_array_foreach(json_object_get(network, "members"), i, m)
    {
        str_add(&members, "%s", i ? ", " : "");
        text_add(&members, cli_text(m, "ve"));
    }
    text_cell(t, cli_text(network, "name"));
    text_cell(t, cli_text_or(network, "range4", "-"));
    text_cell(t, cli_text_or(network, "range6", "-"));
    text_cell(t, cli_text_or(network, "owner", "-"));
    text_cell(t, *str_c(&members) ? str_c(&members) : "-");
}

static int run_list(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct cli_list l = {
        .path = PRIVATE,
        .heads = {"NETWORK", "IPV4", "IPV6", "OWNER", "MEMBERS"},
        .cut = true,
        .empty = "There is no private network; terem network private create makes one.",
        .add = private_cells,
    };
    return cli_list(cli, &l, err);
}

command_row cmd_network_private_list = {
    .name = "network private list",
    .summary = "list the private networks",
    .usage = "",
    .run = run_list,
    .detail = "A private network is one that VEs of one owner share, and nobody else: not other "
              "VEs, not this machine, and not what is outside. A VE is in it with an interface "
              "of its own, eth1 to eth9, beside eth0.",
    .examples = {"terem network private list"},
};

static void member_lines(struct text_table *t, const json_t *member)
{
    const json_t *addresses = json_object_get(member, "addresses");
    for (size_t i = 0; i < json_array_size(addresses); i++) {
        text_cell(t, i ? "" : cli_text(member, "ve"));
        text_cell(t, i ? "" : cli_text(member, "state"));
        text_cell(t, i ? "" : cli_text(member, "interface"));
        text_cell(t, json_string_value(json_array_get(addresses, i)));
    }
}

static int run_show(struct cli *cli, const struct args *a, struct err *err)
{
    static const char *const heads[] = {"VE", "STATE", "INTERFACE", "ADDRESS"};
    static const char *const keys[] = {"range4", "range6", "owner"}, *const titles[] = {"IPv4   ",
                                                                                        "IPv6   ",
                                                                                        "owner  "};
    auto_str struct str path = str_init(256), out = str_init(TEXT_MAX);
    auto_table struct text_table t = {.columns = ARRAY_SIZE(heads)};
    auto_json json_t *network = NULL;
    json_t *member;
    size_t i;
    int r = cli_noun_path(&path, PRIVATE, NOUN, a->pos[0], err);
    if (r == 0)
        r = cli_call(cli, "GET", str_c(&path), NULL, &network, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, network, err);
    for (i = 0; i < ARRAY_SIZE(keys); i++) {
        str_add(&out, "%s", titles[i]);
        text_add(&out, cli_is_null(network, keys[i]) ? "none" : cli_text(network, keys[i]));
        str_add(&out, "\n");
    }
    for (i = 0; i < ARRAY_SIZE(heads); i++)
        text_cell(&t, heads[i]);
    json_array_foreach(json_object_get(network, "members"), i, member) member_lines(&t, member);
    str_add(&out, "\n");
    cli_add_table(cli, &out, &t, true,
                  i ? NULL : "No VE is in it; terem network private join brings one in.");
    return cli_out(&out, err);
}

command_row cmd_network_private_show = {
    .name = "network private show",
    .summary = "show one private network and who is in it",
    .usage = "NAME",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_PRIVATE,
    .run = run_show,
    .detail = "Its ranges and its owner, and of each VE in it the interface inside and the "
              "addresses.",
    .examples = {"terem network private show back"},
};

/* --range none: "" for the API. */
static int put_range(json_t *body, const char *key, const char *text, struct err *err)
{
    json_t *v = text ? json_string(str_eq(text, "none") ? "" : text) : json_null();
    if (!v)
        return err_set(err, ERR_USAGE, "its range is not valid UTF-8");
    json_object_set_new(body, key, v);
    return 0;
}

static int run_create(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *body = NULL, *network = NULL;
    if (name_check_ve(a->pos[0], err) < 0)
        return err_wrap(err, NOUN);
    body = json_pack("{s:s, s:s?}", "name", a->pos[0], "owner", args_get(a, "owner"));
    if (!body)
        return err_set(err, ERR_USAGE, NOUN " %s: the owner's name is not valid UTF-8", a->pos[0]);
    if (put_range(body, "range4", args_get(a, "range"), err) < 0 ||
        put_range(body, "range6", args_get(a, "range6"), err) < 0)
        return err_wrap(err, NOUN " %s", a->pos[0]);
    int r = cli_call(cli, "POST", PRIVATE, body, &network, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, network, err);
    bool v4 = !cli_is_null(network, "range4"), v6 = !cli_is_null(network, "range6");
    cli_say(cli, NOUN " %s: made, %s%s%s", a->pos[0], v4 ? cli_text(network, "range4") : "",
            v4 && v6 ? " and " : "", v6 ? cli_text(network, "range6") : "");
    return 0;
}

static const struct option_spec create_options[] = {
    {"range", 0, "PREFIX", "its IPv4 network, or none (default: one that is free)"},
    {"range6", 0, "PREFIX", "its IPv6 network, or none (default: one that is free)"},
    {"owner", 0, "OWNER", "whose VEs may be in it: their label owner (default: without one)"},
    END,
};

command_row cmd_network_private_create = {
    .name = "network private create",
    .summary = "make a private network",
    .usage = "NAME",
    .min = 1,
    .max = 1,
    .options = create_options,
    .run = run_create,
    .detail =
        "Only VEs whose label owner is OWNER can be in it; without --owner, those that have no "
        "such label. A range is a network that the internet does not route, of /16 to /30 and "
        "/64 to /120, and is refused when it overlaps one of another private network, an address "
        "pool, the network of VEs' own addresses, or one that this machine reaches. Without a "
        "word about it, 10.77.0.0/24 and fd54:6572:7076::/64, or the next that are free, are "
        "taken. Frames go between members only; nothing is routed, masqueraded or counted, and "
        "there is no DHCP, no router and no DNS: a VE's name does not resolve in other VEs, which "
        "use its address, a line of /etc/hosts, or a DNS of yours.",
    .examples = {"terem network private create back",
                 "terem network private create shop --owner acme --range 10.9.0.0/24"},
};

static int run_remove(struct cli *cli, const struct args *a, struct err *err)
{
    return cli_remove(cli, PRIVATE, NOUN, a->pos[0], err);
}

command_row cmd_network_private_remove = {
    .name = "network private remove",
    .summary = "remove a private network that no VE is in",
    .usage = "NAME",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_PRIVATE,
    .run = run_remove,
    .detail = "Refused while a VE is in it, running or not.",
    .examples = {"terem network private remove back"},
};

static int members_path(struct str *path, const struct args *a, struct err *err)
{
    if (name_check_ve(a->pos[0], err) < 0)
        return err_wrap(err, "VE");
    if (cli_noun_path(path, PRIVATE, NOUN, a->pos[1], err) < 0)
        return -err->kind;
    str_add(path, "/members");
    return 0;
}

static int run_join(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(512), addresses = str_init(256);
    auto_json json_t *body = NULL, *member = NULL;
    json_t *one;
    size_t i;
    int r = members_path(&path, a, err);
    if (r < 0)
        return r;
    body = json_pack("{s:s, s:s?}", "ve", a->pos[0], "address", args_get(a, "address"));
    if (!body)
        return err_set(err, ERR_USAGE, "%s: the address is not valid UTF-8", a->pos[0]);
    r = cli_call(cli, "POST", str_c(&path), body, &member, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, member, err);
    json_array_foreach(json_object_get(member, "addresses"), i, one)
        str_add(&addresses, "%s%s", i ? " and " : "", json_string_value(one));
    cli_say(cli, "%s: in " NOUN " %s by %s, %s", a->pos[0], a->pos[1],
            cli_text(member, "interface"), str_c(&addresses));
    return 0;
}

static const struct option_spec join_options[] = {
    {"address", 0, "ADDRESS", "its address there (default: the lowest that is free)"},
    END,
};

command_row cmd_network_private_join = {
    .name = "network private join",
    .summary = "bring a VE into a private network",
    .usage = "VE NAME",
    .min = 2,
    .max = 2,
    .complete = COMPLETE_VES,
    .complete_more = COMPLETE_PRIVATE,
    .options = join_options,
    .run = run_join,
    .detail =
        "The VE gets an interface inside, eth1 or the next that is free of those up to eth9, with "
        "an address of each range of the network, which has it at once and at each start. The "
        "IPv6 address follows from the IPv4 address, and the other way round. It can send there "
        "with these addresses and the MAC of the interface only. A clone is in the networks of "
        "its source with addresses of its own, and a backup that is restored in those that are "
        "there. net.packets holds for all private networks of a VE together, beside eth0; what is "
        "sent there costs no class and is not counted.",
    .examples = {"terem network private join web1 back",
                 "terem network private join db1 back --address 10.77.0.10"},
};

static int run_leave(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(512);
    auto_json json_t *answer = NULL;
    int r = members_path(&path, a, err);
    if (r < 0)
        return r;
    str_add(&path, "/%s", a->pos[0]);
    r = cli_call(cli, "DELETE", str_c(&path), NULL, &answer, err);
    if (r < 0)
        return r;
    return cli_answer(cli, answer, err, "%s: not in " NOUN " %s any more", a->pos[0], a->pos[1]);
}

command_row cmd_network_private_leave = {
    .name = "network private leave",
    .summary = "take a VE out of a private network",
    .usage = "VE NAME",
    .min = 2,
    .max = 2,
    .complete = COMPLETE_VES,
    .complete_more = COMPLETE_PRIVATE,
    .run = run_leave,
    .detail = "Its interface there goes with its addresses, at once if it runs.",
    .examples = {"terem network private leave web1 back"},
};
