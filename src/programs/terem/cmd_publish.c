/* SPDX-License-Identifier: GPL-2.0-or-later */
/* publish, unpublish, network ports. */
#include "base/cleanup.h"
#include "base/name.h"
#include "base/number.h"
#include "cli.h"
#include "command.h"
#include "text.h"

#include <string.h>

#define PORTS     "/v1/network/ports"
#define SPEC_TEXT 80

struct port { /* "203.0.113.5:80:8080/udp", "[2001:db8::5]:80"; pointers into text */
    char text[SPEC_TEXT];
    const char *protocol, *address; /* address: NULL, each */
    uint64_t port, to;              /* to: 0, not said */
};

static int bad(const char *text, bool wants_to, struct err *err)
{
    auto_str struct str s = str_init(512);
    str_escape(&s, text, strnlen(text, SPEC_TEXT));
    return err_set(err, ERR_USAGE, "\"%s\" is no port such as %s", str_c(&s),
                   wants_to ? "80:8080, 53:53/udp or 203.0.113.5:80:8080"
                            : "80, 53/udp or 203.0.113.5:80");
}

static char *cut(char *text, int at)
{
    char *found = text ? strrchr(text, at) : NULL;
    if (found)
        *found++ = '\0';
    return found;
}

/* [ADDRESS:]PORT[:TO][/PROTOCOL] */
static int parse(const char *text, bool wants_to, struct port *ret, struct err *err)
{
    *ret = (struct port){.protocol = "tcp"};
    if (str_print(ret->text, sizeof(ret->text), "%s", text) < 0)
        return bad(text, wants_to, err);
    char *rest = ret->text, *protocol = cut(rest, '/'), *to = wants_to ? cut(rest, ':') : NULL,
         *port = cut(rest, ':');
    if (protocol)
        ret->protocol = protocol;
    if (port)
        ret->address = rest;
    if (port && *rest == '[' && str_ends(rest, "]")) {
        ret->address = rest + 1;
        rest[strlen(rest) - 1] = '\0';
    }
    if ((!str_eq(ret->protocol, "tcp") && !str_eq(ret->protocol, "udp")) ||
        number_parse(port ? port : rest, 1, 65535, &ret->port, NULL) < 0 ||
        (wants_to && (!to || number_parse(to, 1, 65535, &ret->to, NULL) < 0)))
        return bad(text, wants_to, err);
    return 0;
}

static int run_publish(struct cli *cli, const struct args *a, struct err *err)
{
    struct port p;
    auto_json json_t *answer = NULL;
    if (name_check_ve(a->pos[0], err) < 0)
        return err_wrap(err, "VE");
    if (parse(a->pos[1], true, &p, err) < 0)
        return -err->kind;
    auto_json json_t *body =
        json_pack("{s:s, s:s, s:s?, s:I, s:I}", "ve", a->pos[0], "protocol", p.protocol, "address",
                  p.address, "port", (json_int_t)p.port, "to", (json_int_t)p.to);
    if (!body)
        return bad(a->pos[1], true, err);
    int r = cli_call(cli, "POST", PORTS, body, &answer, err);
    if (r < 0)
        return r;
    return cli_answer(cli, answer, err,
                      "%s: leads to port %d of %s, by this machine's addresses, not by localhost",
                      cli_text(answer, "id"), (int)p.to, a->pos[0]);
}

command_row cmd_publish = {
    .name = "publish",
    .summary = "lead a port of the machine to a VE",
    .usage = "VE [ADDRESS:]PORT:TO[/udp]",
    .min = 2,
    .max = 2,
    .complete = COMPLETE_VES,
    .run = run_publish,
    .detail = "Who connects to PORT of the machine, from outside, from the machine itself (by an "
              "address, not by localhost) or from a VE, comes to port TO of the VE, which sees who "
              "it is. Without ADDRESS that holds for each address of the machine, IPv4 and IPv6; "
              "an IPv6 address stands in brackets. It goes on over restarts of the VE and of "
              "teremd, until terem unpublish or the VE's end. A port that a program of the machine "
              "has is refused, and none can take it meanwhile.",
    .examples = {"terem publish web1 80:8080", "terem publish dns 203.0.113.5:53:53/udp",
                 "terem publish web1 [2001:db8::5]:443:443"},
};

static int run_unpublish(struct cli *cli, const struct args *a, struct err *err)
{
    struct port p;
    auto_str struct str path = str_init(256);
    auto_json json_t *answer = NULL;
    const char *text = a->pos[0];
    bool is_id = str_starts(text, "tcp:") || str_starts(text, "udp:");
    if (is_id && text[strspn(text, "0123456789abcdeftcpudABCDEF.:")])
        return bad(text, false, err);
    if (!is_id && parse(text, false, &p, err) < 0)
        return -err->kind;
    if (is_id)
        str_add(&path, "%s/%s", PORTS, text);
    else
        str_add(&path, "%s/%s:%s%s%d", PORTS, p.protocol, p.address ? p.address : "",
                p.address ? ":" : "", (int)p.port);
    int r = cli_call(cli, "DELETE", str_c(&path), NULL, &answer, err);
    if (r < 0)
        return r;
    return cli_answer(cli, answer, err, "%s: published no more", str_c(&path) + sizeof(PORTS));
}

command_row cmd_unpublish = {
    .name = "unpublish",
    .summary = "let a published port of the machine go",
    .usage = "[ADDRESS:]PORT[/udp]",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_PORTS,
    .run = run_unpublish,
    .detail = "As it was published, or as terem network ports names it. Connections that are open "
              "go on.",
    .examples = {"terem unpublish 80", "terem unpublish udp:203.0.113.5:53"},
};

static void port_cells(struct text_table *t, const json_t *port)
{
    text_cell(t, cli_text(port, "id"));
    text_cell(t, cli_text(port, "ve"));
    text_cellf(t, "%d", (int)cli_int(port, "to"));
}

static int run_ports(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256);
    if (a->n_pos && name_check_ve(a->pos[0], err) < 0)
        return err_wrap(err, "VE");
    str_add(&path, "%s%s%s", PORTS, a->n_pos ? "?ve=" : "", a->n_pos ? a->pos[0] : "");
    const struct cli_list l = {.path = str_c(&path),
                               .heads = {"PORT", "VE", "TO"},
                               .right = 0x4,
                               .cut = true,
                               .empty = "No port is published; terem publish does that.",
                               .add = port_cells};
    return cli_list(cli, &l, err);
}

command_row cmd_network_ports = {
    .name = "network ports",
    .summary = "list the published ports of the machine",
    .usage = "[VE]",
    .max = 1,
    .complete = COMPLETE_VES,
    .run = run_ports,
    .detail = "tcp:80 is a port of each address of the machine, tcp:203.0.113.5:80 of one.",
    .examples = {"terem network ports", "terem network ports web1"},
};
