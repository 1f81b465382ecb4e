/* SPDX-License-Identifier: GPL-2.0-or-later */
/* node setup. */
#include "base/cleanup.h"
#include "base/number.h"
#include "cli.h"
#include "command.h"
#include "work.h"

#include <string.h>
#include <unistd.h>

static int ask(const struct args *a, const char *what, struct err *err)
{
    if (args_has(a, "yes"))
        return 0;
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return err_set(err, ERR_USAGE,
                       "node setup asks before it changes the machine, and there is "
                       "no terminal to ask at; give --yes");
    fprintf(stderr, "%s ", what);
    return cli_agreed() ? 0 : err_set(err, ERR_CANCELLED, "nothing was changed");
}

static int set_up(struct cli *cli, uint64_t size, struct err *err)
{
    static const struct work_words words = {"setting up", NULL};
    json_t *body = json_pack("{s:I}", "zram", (json_int_t)size);
    return work_one(cli, "node", "POST", strdup("/v1/node/setup"), body, &words, false, err);
}

static int run_node_setup(struct cli *cli, const struct args *a, struct err *err)
{
    const char *text = args_get(a, "zram");
    char what[300], buf[NUMBER_TEXT];
    auto_json json_t *node = NULL;
    uint64_t size = 0;
    if (text && args_has(a, "no-zram"))
        return err_set(err, ERR_USAGE, "--zram and --no-zram contradict each other; give one");
    if (text && number_parse_size(text, &size, err) < 0)
        return err_wrap(err, "--zram");
    int r = cli_call(cli, "GET", "/v1", NULL, &node, err);
    if (r < 0)
        return r;
    const json_t *resources = json_object_get(node, "resources");
    uint64_t swap =
        (uint64_t)json_number_value(json_object_get(json_object_get(resources, "swap"), "total"));
    bool ours = !cli_is_null(node, "zram");
    if (args_has(a, "no-zram")) {
        if (!ours)
            return cli_answer(cli, node, err,
                              "node: has no swap of Terem's; nothing is to be done");
        r = ask(a, "Take away the swap in compressed memory, and bring back what is in it?", err);
        return r < 0 ? r : set_up(cli, 0, err);
    }
    if (!text && (swap || ours))
        return cli_answer(cli, node, err,
                          "node: has %s of swap already; nothing is to be done (--zram SIZE makes "
                          "more)",
                          number_format_size(swap, buf));
    if (!text)
        size = (uint64_t)json_number_value(
                   json_object_get(json_object_get(resources, "memory"), "total")) /
               2;
    str_print(what, sizeof(what),
              "Make %s of swap in compressed memory (zram)? Memory of VEs that sleep or are "
              "squeezed goes there; it takes memory as it fills, about a third of what it holds.",
              number_format_size(size, buf));
    r = ask(a, what, err);
    return r < 0 ? r : set_up(cli, size, err);
}

static const struct option_spec setup_options[] = {
    {"zram", 0, "SIZE", "so much swap in compressed memory (default: half of the memory)"},
    {"no-zram", 0, NULL, "take it away again"},
    {"yes", 'y', NULL, "do not ask"},
    END,
};

command_row cmd_node_setup = {
    .name = "node setup",
    .summary = "make of this machine what VEs can use, if you agree",
    .usage = "",
    .options = setup_options,
    .run = run_node_setup,
    .detail =
        "Makes swap in compressed memory (zram), where the machine has no swap: without any, VEs "
        "that sleep (idle.sleep) and terem squeeze give back page cache alone. It asks before it "
        "changes anything; in a pipe give --yes. The swap is made again at each boot when teremd "
        "starts, and stays when the node is stopped, until --no-zram takes it away; what is in it "
        "must fit into memory then. SIZE is what it can hold, before it is compressed.",
    .examples = {"terem node setup", "terem node setup --zram 8G --yes",
                 "terem node setup --no-zram"},
};
