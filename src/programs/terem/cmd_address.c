/* SPDX-License-Identifier: GPL-2.0-or-later */
/* network pool list, show, create, remove; network address list, add, remove, move, reserve,
 * release, set. */
#include "base/cleanup.h"
#include "base/name.h"
#include "cli.h"
#include "command.h"
#include "text.h"

#include <string.h>

#define POOLS     "/v1/network/pools"
#define ADDRESSES "/v1/network/addresses"

/* ---- pools ---- */

static void pool_cells(struct text_table *t, const json_t *pool)
{
    text_cell(t, cli_text(pool, "name"));
    text_cell(t, cli_text(pool, "prefix"));
    text_cell(t, json_is_true(json_object_get(pool, "public")) ? "public" : "private");
    text_cellf(t, "%" JSON_INTEGER_FORMAT, cli_int(pool, "used"));
    text_cellf(t, "%" JSON_INTEGER_FORMAT, cli_int(pool, "reserved"));
    if (cli_is_null(pool, "free"))
        text_cell(t, "many");
    else
        text_cellf(t, "%" JSON_INTEGER_FORMAT, cli_int(pool, "free"));
    text_cell(t, cli_text_or(pool, "announced", "-"));
}

static int run_list(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct cli_list l = {
        .path = POOLS,
        .heads = {"POOL", "PREFIX", "KIND", "USED", "RESERVED", "FREE", "ANNOUNCED"},
        .right = 0x38,
        .cut = true,
        .empty = "There is no address pool; terem network pool create makes one.",
        .add = pool_cells,
    };
    return cli_list(cli, &l, err);
}

command_row cmd_network_pool_list = {
    .name = "network pool list",
    .summary = "list the address pools",
    .usage = "",
    .run = run_list,
    .detail = "A pool is a range of addresses that reach this machine. Each VE has one pair of "
              "addresses of its own, of network.pool4 and network.pool6 of terem.conf, which are "
              "no pools of this list; it gets others with terem network address add. ANNOUNCED is "
              "the interface in whose own network a pool lies, and on which the machine answers "
              "for its addresses by ARP and ND; the addresses of other pools are routed here.",
    .examples = {"terem network pool list"},
};

static int run_show(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256), out = str_init(TEXT_MAX);
    auto_json json_t *pool = NULL;
    int r = cli_noun_path(&path, POOLS, "address pool", a->pos[0], err);
    if (r == 0)
        r = cli_call(cli, "GET", str_c(&path), NULL, &pool, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, pool, err);
    str_add(&out, "name       %s\nprefix     %s\nrange      %s-%s\nkind       %s\n",
            cli_text(pool, "name"), cli_text(pool, "prefix"), cli_text(pool, "first"),
            cli_text(pool, "last"),
            json_is_true(json_object_get(pool, "public")) ? "public" : "private");
    str_add(&out,
            "used       %" JSON_INTEGER_FORMAT "\nreserved   %" JSON_INTEGER_FORMAT "\nfree       ",
            cli_int(pool, "used"), cli_int(pool, "reserved"));
    if (cli_is_null(pool, "free"))
        str_add(&out, "many");
    else
        str_add(&out, "%" JSON_INTEGER_FORMAT, cli_int(pool, "free"));
    str_add(&out, "\nannounced  ");
    text_add(&out, cli_is_null(pool, "announced")
                       ? "no: its addresses must be routed to this machine"
                       : cli_text(pool, "announced"));
    str_add(&out, "\n");
    return cli_out(&out, err);
}

command_row cmd_network_pool_show = {
    .name = "network pool show",
    .summary = "show one address pool",
    .usage = "NAME",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_ADDRESS_POOLS,
    .run = run_show,
    .detail = "Its range, and how many of its addresses VEs have, are reserved without a VE, and "
              "are free.",
    .examples = {"terem network pool show front"},
};

static int run_create(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *body = NULL, *pool = NULL;
    const char *range = args_get(a, "range");
    bool public = args_has(a, "public"), private = args_has(a, "private");
    if (name_check_ve(a->pos[0], err) < 0)
        return err_wrap(err, "address pool");
    if (public && private)
        return err_set(err, ERR_USAGE, "address pool %s: --public or --private, not both",
                       a->pos[0]);
    body = json_pack("{s:s, s:s, s:s?}", "name", a->pos[0], "prefix", a->pos[1], "range", range);
    if (!body)
        return err_set(err, ERR_USAGE, "address pool %s: its prefix is not valid UTF-8", a->pos[0]);
    if (public || private)
        json_object_set_new(body, "public", json_boolean(public));
    int r = cli_call(cli, "POST", POOLS, body, &pool, err);
    if (r < 0)
        return r;
    return cli_answer(cli, pool, err, "address pool %s: made, %s to %s, %s, %s%s", a->pos[0],
                      cli_text(pool, "first"), cli_text(pool, "last"),
                      json_is_true(json_object_get(pool, "public"))
                          ? "public"
                          : "private (what leaves is masqueraded; --public makes a public one)",
                      cli_is_null(pool, "announced") ? "routed to this machine" : "announced on ",
                      cli_is_null(pool, "announced") ? "" : cli_text(pool, "announced"));
}

static const struct option_spec create_options[] = {
    {"range", 0, "FIRST-LAST", "give away only these addresses of the prefix"},
    {"public", 0, NULL, "its addresses are met on the internet as they are"},
    {"private", 0, NULL, "what leaves is masqueraded as the machine's own address"},
    END,
};

command_row cmd_network_pool_create = {
    .name = "network pool create",
    .summary = "make an address pool",
    .usage = "NAME PREFIX",
    .min = 2,
    .max = 2,
    .options = create_options,
    .run = run_create,
    .detail =
        "PREFIX is a network such as 203.0.113.16/28 or 2001:db8:1::/64 that is routed to this "
        "machine, or a part of the network on its uplink: there the machine answers for those "
        "addresses that a VE has. Without --range all of it is given away but the network's own "
        "address and, for IPv4, its broadcast address. It is private when its prefix is of a "
        "range that the internet does not route (RFC 6890; those for documentation, which the "
        "examples here have, are such), else public, unless it is said. A "
        "prefix is refused that overlaps another pool, the network of VEs' own addresses, or "
        "one that is reached through another interface.",
    .examples = {"terem network pool create front 203.0.113.16/28",
                 "terem network pool create lan 192.168.5.0/24 --range "
                 "192.168.5.8-192.168.5.99"},
};

static int run_remove(struct cli *cli, const struct args *a, struct err *err)
{
    return cli_remove(cli, POOLS, "address pool", a->pos[0], err);
}

command_row cmd_network_pool_remove = {
    .name = "network pool remove",
    .summary = "remove an address pool of which nothing is in use",
    .usage = "NAME",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_ADDRESS_POOLS,
    .run = run_remove,
    .detail = "Refused while a VE has an address of it, or one is reserved.",
    .examples = {"terem network pool remove front"},
};

/* ---- addresses ---- */

static void address_cells(struct text_table *t, const json_t *address)
{
    text_cell(t, cli_text(address, "address"));
    text_cell(t, cli_text(address, "pool"));
    text_cell(t, cli_text_or(address, "ve", "-"));
    text_cell(t, json_is_true(json_object_get(address, "reserved")) ? "reserved" : "-");
    text_cell(t, cli_text_or(address, "name", "-"));
    text_cell(t, cli_text_or(address, "reverse", "-"));
}

static int run_addresses(struct cli *cli, const struct args *a, struct err *err)
{
    static const char *const heads[] = {"ADDRESS", "POOL", "VE", "KEPT", "NAME", "REVERSE"};
    auto_str struct str path = str_init(512), out = str_init(TEXT_MAX);
    auto_table struct text_table t = {.columns = ARRAY_SIZE(heads)};
    auto_json json_t *list = NULL;
    const char *pool = args_get(a, "pool");
    json_t *address;
    size_t i;
    if ((a->n_pos && name_check_ve(a->pos[0], err) < 0) || (pool && name_check_ve(pool, err) < 0))
        return -err->kind;
    str_add(&path, "%s", ADDRESSES);
    if (a->n_pos)
        str_add(&path, "?ve=%s", a->pos[0]);
    if (pool)
        str_add(&path, "%cpool=%s", a->n_pos ? '&' : '?', pool);
    int r = cli_call(cli, "GET", str_c(&path), NULL, &list, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, list, err);
    for (i = 0; i < ARRAY_SIZE(heads); i++)
        text_cell(&t, heads[i]);
    json_array_foreach(list, i, address)
    {
        if (cli->quiet)
            str_add(&out, "%s\n", cli_text(address, "address"));
        else
            address_cells(&t, address);
    }
    cli_add_table(cli, &out, &t, true,
                  json_array_size(list) ? NULL
                  : a->n_pos || pool
                      ? "No such address is given or reserved."
                      : "No address is given or reserved; terem network address add gives one.");
    return cli_out(&out, err);
}

static const struct option_spec list_options[] = {
    {"pool", 0, "POOL", "only those of this address pool", COMPLETE_ADDRESS_POOLS},
    END,
};

command_row cmd_network_address_list = {
    .name = "network address list",
    .summary = "list the addresses that are given or reserved",
    .usage = "[VE]",
    .max = 1,
    .complete = COMPLETE_VES,
    .options = list_options,
    .run = run_addresses,
    .detail = "Those of address pools; each VE's own pair is in terem show and terem network show. "
              "With --quiet only the addresses, one a line.",
    .examples = {"terem network address list", "terem network address list web1"},
};

static int put_text(json_t *body, const char *key, const char *text, struct err *err)
{
    json_t *v = text && *text ? json_string(text) : json_null();
    if (!v)
        return err_set(err, ERR_USAGE, "--%s: it is not valid UTF-8", key);
    json_object_set_new(body, key, v);
    return 0;
}

/* name, reverse and reserved, as they were given. */
static int put_rest(json_t *body, const struct args *a, struct err *err)
{
    static const char *const keys[] = {"name", "reverse"};
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(keys); i++)
        if (args_has(a, keys[i]))
            r = put_text(body, keys[i], args_get(a, keys[i]), err);
    if (args_has(a, "reserve"))
        json_object_set_new(body, "reserved", json_true());
    return r;
}

/* POST: a new one; else one that is there, by address or name. */
static int send(struct cli *cli, const char *address, json_t *body, json_t **ret, struct err *err)
{
    static const char fine[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEF.:-";
    auto_str struct str path = str_init(512);
    if (address && (!*address || address[strspn(address, fine)]))
        return err_set(err, ERR_USAGE,
                       "\"%.60s\" is no address, such as 203.0.113.5, and no name of one", address);
    str_add(&path, "%s%s%s", ADDRESSES, address ? "/" : "", address ? address : "");
    return cli_call(cli, address ? "PATCH" : "POST", str_c(&path), body, ret, err);
}

static int answer(struct cli *cli, const json_t *address, const char *what, struct err *err)
{
    return cli_answer(cli, address, err, "%s: %s", cli_text(address, "address"), what);
}

static int run_add(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *body = json_object(), *address = NULL;
    char what[128];
    if (name_check_ve(a->pos[0], err) < 0)
        return err_wrap(err, "VE");
    json_object_set_new(body, "ve", json_string(a->pos[0]));
    int r = a->n_pos > 1 ? put_text(body, "address", a->pos[1], err) : 0;
    if (r == 0 && args_has(a, "pool"))
        r = put_text(body, "pool", args_get(a, "pool"), err);
    if (r == 0)
        r = put_rest(body, a, err);
    if (r == 0)
        r = send(cli, NULL, body, &address, err);
    if (r < 0)
        return r;
    str_print(what, sizeof(what), "given to %s", a->pos[0]);
    return answer(cli, address, what, err);
}

#define OPT_POOL                                                                                  \
    {                                                                                             \
        "pool", 0, "POOL", "the next free address of this pool (default: the only one there is)", \
            COMPLETE_ADDRESS_POOLS                                                                \
    }
#define OPT_NAME                                                                        \
    {                                                                                   \
        "name", 0, "NAME", "a name for it, which may stand for it in all commands here" \
    }
#define OPT_REVERSE                                                                \
    {                                                                              \
        "reverse", 0, "HOST", "its name in the DNS, kept for who serves that zone" \
    }

static const struct option_spec add_options[] = {
    OPT_POOL,    OPT_NAME,
    OPT_REVERSE, {"reserve", 0, NULL, "keep it reserved when the VE has it no more"},
    END,
};

command_row cmd_network_address_add = {
    .name = "network address add",
    .summary = "give a VE an address, at once if it runs",
    .usage = "VE [ADDRESS]",
    .min = 1,
    .max = 2,
    .complete = COMPLETE_VES,
    .complete_more = COMPLETE_ADDRESSES,
    .options = add_options,
    .run = run_add,
    .detail =
        "ADDRESS is one of an address pool, or the name of a reserved one; without it the next "
        "free one is given. A reserved address is given only by itself or by its name. It is on "
        "eth0 inside at once, beside the VE's own pair, which it keeps. The first public address "
        "of a family that a VE got is the one that it speaks outward with. A clone gets none; a "
        "VE that is destroyed gives its addresses back, and those that are reserved stay so.",
    .examples = {"terem network address add web1 --pool front",
                 "terem network address add web1 203.0.113.20 --name www --reverse "
                 "example.org"},
};

static int run_patch(struct cli *cli, const struct args *a, const char *key, json_t *value,
                     const char *what, struct err *err)
{
    auto_json json_t *body = json_object(), *address = NULL;
    json_object_set_new(body, key, value);
    int r = send(cli, a->pos[0], body, &address, err);
    return r < 0 ? r : answer(cli, address, what, err);
}

static int run_take(struct cli *cli, const struct args *a, struct err *err)
{
    return run_patch(cli, a, "ve", json_null(), "taken away; no VE has it", err);
}

command_row cmd_network_address_remove = {
    .name = "network address remove",
    .summary = "take an address from the VE that has it",
    .usage = "ADDRESS",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_ADDRESSES,
    .run = run_take,
    .detail = "At once if the VE runs. One that is reserved stays so, without a VE; any other is "
              "free again.",
    .examples = {"terem network address remove 203.0.113.20", "terem network address remove www"},
};

static int run_move(struct cli *cli, const struct args *a, struct err *err)
{
    char what[128];
    if (name_check_ve(a->pos[1], err) < 0)
        return err_wrap(err, "VE");
    str_print(what, sizeof(what), "given to %s", a->pos[1]);
    return run_patch(cli, a, "ve", json_string(a->pos[1]), what, err);
}

command_row cmd_network_address_move = {
    .name = "network address move",
    .summary = "give an address to another VE, while both run",
    .usage = "ADDRESS VE",
    .min = 2,
    .max = 2,
    .complete = COMPLETE_ADDRESSES,
    .complete_more = COMPLETE_VES,
    .run = run_move,
    .detail = "The VE that had it has it no more before the other one gets it: never do two have "
              "it.",
    .examples = {"terem network address move www web2"},
};

static int run_reserve(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *body = json_object(), *address = NULL;
    json_object_set_new(body, "reserved", json_true());
    int r = put_rest(body, a, err);
    if (r < 0)
        return r;
    /* One that a VE has is kept from then on; else it is a new one. */
    if (a->n_pos && (r = send(cli, a->pos[0], body, &address, err)) == -ERR_NOT_FOUND) {
        err_clear(err);
        r = put_text(body, "address", a->pos[0], err);
    }
    if (r == 0 && !address && args_has(a, "pool"))
        r = put_text(body, "pool", args_get(a, "pool"), err);
    if (r == 0 && !address)
        r = send(cli, NULL, body, &address, err);
    return r < 0 ? r : answer(cli, address, "reserved", err);
}

static const struct option_spec reserve_options[] = {OPT_POOL, OPT_NAME, OPT_REVERSE, END};

command_row cmd_network_address_reserve = {
    .name = "network address reserve",
    .summary = "keep an address from being given away",
    .usage = "[ADDRESS]",
    .max = 1,
    .complete = COMPLETE_ADDRESSES,
    .options = reserve_options,
    .run = run_reserve,
    .detail = "Without ADDRESS the next free one. A reserved address is given only by itself or by "
              "its name, and stays reserved when its VE is destroyed.",
    .examples = {"terem network address reserve 203.0.113.20 --name www",
                 "terem network address reserve --pool front"},
};

static int run_release(struct cli *cli, const struct args *a, struct err *err)
{
    return run_patch(cli, a, "reserved", json_false(), "not reserved any more", err);
}

command_row cmd_network_address_release = {
    .name = "network address release",
    .summary = "end the reservation of an address",
    .usage = "ADDRESS",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_ADDRESSES,
    .run = run_release,
    .detail = "A VE that has it keeps it; else it is free.",
    .examples = {"terem network address release www"},
};

static int run_set(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *body = json_object(), *address = NULL;
    int r = put_rest(body, a, err);
    if (r == 0 && json_object_size(body) == 0)
        r = err_set(err, ERR_USAGE, "%.60s: neither --name nor --reverse was given; give one",
                    a->pos[0]);
    if (r == 0)
        r = send(cli, a->pos[0], body, &address, err);
    return r < 0 ? r : answer(cli, address, "changed", err);
}

static const struct option_spec set_options[] = {OPT_NAME, OPT_REVERSE, END};

command_row cmd_network_address_set = {
    .name = "network address set",
    .summary = "change the name and the reverse name of an address",
    .usage = "ADDRESS",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_ADDRESSES,
    .options = set_options,
    .run = run_set,
    .detail = "An empty NAME or HOST takes it away. Reverse names are kept for who serves the "
              "zone of the addresses; Terem serves none.",
    .examples = {"terem network address set 203.0.113.20 --name www --reverse www.example.org",
                 "terem network address set www --reverse \"\""},
};
