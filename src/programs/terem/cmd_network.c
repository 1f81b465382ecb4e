/* SPDX-License-Identifier: GPL-2.0-or-later */
/* network show; network class list, show, add, remove. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "cli.h"
#include "command.h"
#include "param/param.h"
#include "text.h"

#include <fcntl.h>
#include <string.h>

#define LIST_MAX  32768      /* prefixes of one change: teremd takes no more */
#define FILE_SIZE (64 << 20) /* of a list with comments */
#define SHOWN_VES 5

static void add_ves(struct str *s, const json_t *ves)
{
    size_t i, n = json_array_size(ves);
    json_t *ve;
    json_array_foreach((json_t *)ves, i, ve)
    {
        if (i == SHOWN_VES)
            break;
        str_add(s, "%s", i ? ", " : "");
        text_add(s, json_string_value(ve));
    }
    if (n > SHOWN_VES)
        str_add(s, " and %zu more", n - SHOWN_VES);
}

static void add_class(struct text_table *t, const json_t *class)
{
    auto_str struct str ves = str_init(TEXT_MAX);
    add_ves(&ves, json_object_get(class, "ves"));
    text_cell(t, cli_text(class, "name"));
    text_cellf(t, "%" JSON_INTEGER_FORMAT, cli_int(class, "count"));
    text_cell(t, str_c(&ves));
}

static int run_class_list(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct cli_list list = {.path = "/v1/network/classes",
                                         .heads = {"CLASS", "PREFIXES", "USED BY"},
                                         .right = 0x2,
                                         .cut = true,
                                         .add = add_class};
    return cli_list(cli, &list, err);
}

command_row cmd_class_list = {
    .name = "network class list",
    .summary = "list the destination classes",
    .usage = "",
    .run = run_class_list,
    .detail = "A class is a named list of prefixes of the internet. local, the VEs of this node, "
              "and any, what no other class holds, exist always. Of the prefixes of all classes "
              "that hold an address the longest decides.",
    .examples = {"terem network class list"},
};

static int run_class_show(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256), out = str_init(TEXT_MAX);
    auto_json json_t *class = NULL;
    json_t *prefix;
    size_t i;
    int r = cli_noun_path(&path, "/v1/network/classes", "class", a->pos[0], err);
    if (r == 0)
        r = cli_call(cli, "GET", str_c(&path), NULL, &class, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, class, err);
    /* As a list that --file reads again. */
    if (!cli->quiet) {
        str_add(&out, "# class ");
        text_add(&out, cli_text(class, "name"));
        str_add(&out, "\n# used by ");
        add_ves(&out, json_object_get(class, "ves"));
        str_add(&out, "%s\n", json_array_size(json_object_get(class, "ves")) ? "" : "no VE");
    }
    json_array_foreach(json_object_get(class, "prefixes"), i, prefix)
    {
        text_add(&out, json_string_value(prefix));
        str_add(&out, "\n");
    }
    return cli_out(&out, err);
}

command_row cmd_class_show = {
    .name = "network class show",
    .summary = "show one class",
    .usage = "NAME",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_CLASSES,
    .run = run_class_show,
    .detail = "Prints its prefixes one a line, as terem network class add --file reads them.",
    .examples = {"terem network class show europe"},
};

static int put_prefix(json_t *list, const char *text, const char *from, struct err *err)
{
    if (json_array_size(list) >= LIST_MAX)
        return err_set(err, ERR_USAGE,
                       "%s%smore than %d prefixes, as many as one change may have; divide the list",
                       from ? from : "", from ? ": " : "", LIST_MAX);
    json_t *v = json_string(text); /* NULL: not UTF-8 */
    if (!v)
        return err_set(err, ERR_USAGE,
                       "%s%sa prefix such as 192.0.2.0/24 has only digits, letters, "
                       "'.', ':' and '/'",
                       from ? from : "", from ? ": " : "");
    json_array_append_new(list, v);
    return 0;
}

/* Prefixes between white space; "#" begins a comment; "-": standard input. */
static int read_list(const char *file, json_t *list, struct err *err)
{
    auto_free char *text = NULL;
    bool standard = str_eq(file, "-");
    int r = fd_read_file_at(AT_FDCWD, standard ? "/dev/stdin" : file, FILE_SIZE, &text, NULL, err);
    if (r < 0)
        return err_wrap(err, "cannot read the list");
    char *line_end;
    for (char *line = text; line; line = line_end ? line_end + 1 : NULL) {
        char *save = NULL;
        line_end = strchr(line, '\n');
        if (line_end)
            *line_end = '\0';
        line[strcspn(line, "#")] = '\0';
        for (char *w = strtok_r(line, " \t\r,;", &save); r == 0 && w;
             w = strtok_r(NULL, " \t\r,;", &save))
            r = put_prefix(list, w, file, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int prefixes_of(const struct args *a, json_t *list, struct err *err)
{
    const char *file;
    int r = 0;
    for (size_t i = 1; r == 0 && i < a->n_pos; i++)
        r = put_prefix(list, a->pos[i], NULL, err);
    for (size_t i = 0; r == 0 && (file = args_each(a, "file", i)); i++)
        r = read_list(file, list, err);
    return r;
}

static int change(struct cli *cli, const struct args *a, const char *what, json_t *list,
                  const char *done, struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_json json_t *body = json_object(), *class = NULL;
    size_t n = json_array_size(list);
    json_object_set(body, what, list);
    int r = cli_noun_path(&path, "/v1/network/classes", "class", a->pos[0], err);
    if (r == 0)
        r = cli_call(cli, "PATCH", str_c(&path), body, &class, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, class, err);
    cli_say(cli, "class %s: %zu prefix%s %s, %" JSON_INTEGER_FORMAT " in all", a->pos[0], n,
            n == 1 ? "" : "es", done, cli_int(class, "count"));
    return 0;
}

static int run_class_add(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *list = json_array();
    int r = prefixes_of(a, list, err);
    if (r == 0 && json_array_size(list) == 0)
        r = err_set(err, ERR_USAGE, "class %s: no prefix was given; name one such as 192.0.2.0/24",
                    a->pos[0]);
    return r < 0 ? r : change(cli, a, "add", list, "added", err);
}

static const struct option_spec class_options[] = {
    {"file", 'f', "FILE", "take the prefixes from a file, - for standard input (may be repeated)",
     COMPLETE_FILES},
    END,
};

command_row cmd_class_add = {
    .name = "network class add",
    .summary = "add prefixes to a class, and make it",
    .usage = "NAME [PREFIX...]",
    .min = 1,
    .max = ARGS_MAX,
    .complete = COMPLETE_CLASSES,
    .options = class_options,
    .run = run_class_add,
    .detail =
        "A prefix is 192.0.2.0/24, 2001:db8::/32 or one address. In a file they stand between "
        "white space, and # begins a comment. All are added or, when one of them cannot be, none: "
        "one that has bits behind its length, that is given twice or that a class has already, "
        "and prefixes of this node's VEs. One change has at most 32768, all classes together have "
        "131072.",
    .examples = {"terem network class add europe 192.0.2.0/24 2001:db8::/32",
                 "terem network class add europe --file ripe.txt"},
};

static int run_class_remove(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *list = json_array();
    int r = prefixes_of(a, list, err);
    if (r < 0)
        return r;
    if (a->n_pos > 1 || args_has(a, "file")) {
        if (json_array_size(list) == 0)
            return err_set(err, ERR_USAGE,
                           "class %s: no prefix was given; name one such as 192.0.2.0/24",
                           a->pos[0]);
        return change(cli, a, "remove", list, "removed", err);
    }
    return cli_remove(cli, "/v1/network/classes", "class", a->pos[0], err);
}

command_row cmd_class_remove = {
    .name = "network class remove",
    .summary = "remove prefixes from a class, or the class",
    .usage = "NAME [PREFIX...]",
    .min = 1,
    .max = ARGS_MAX,
    .complete = COMPLETE_CLASSES,
    .options = class_options,
    .run = run_class_remove,
    .detail = "With prefixes: those, all or none. Without: the class, unless a VE or a profile has "
              "a parameter of it. What was counted for it stays, and a class that is made again "
              "under its name goes on with it.",
    .examples = {"terem network class remove europe 192.0.2.0/24",
                 "terem network class remove europe"},
};

/* ---- network show ---- */

/* "5M:20M", as the parameter says. */
static void value_cell(struct text_table *t, const json_t *way, const char *key)
{
    const json_t *ceiling = json_object_get(way, "ceiling");
    struct param_value v = {.unlimited = json_is_null(ceiling),
                            .n = (uint64_t)json_integer_value(ceiling),
                            .n2 = (uint64_t)cli_int(way, "guarantee"),
                            .form = cli_int(way, "guarantee") ? PARAM_TWO : PARAM_PLAIN};
    char text[PARAM_TEXT];
    text_cell(t, ceiling ? param_format(param_find(key), v, text) : NULL);
}

static void bytes_cell(struct text_table *t, const json_t *way)
{
    char bytes[NUMBER_TEXT];
    text_cellf(t, "%s", number_format_size((uint64_t)cli_int(way, "bytes"), bytes));
}

static void class_cell(struct text_table *t, const char *class, const json_t *counts)
{
    text_cellf(t, "%s%s", class,
               json_is_true(json_object_get(counts, "removed")) ? " (removed)" : "");
}

static void uplink_line(struct str *out, const json_t *doc)
{
    static const char *const ways[] = {"out", "in"};
    if (cli_is_null(doc, "uplink"))
        return;
    str_add(out, "uplink  ");
    text_add(out, cli_text(doc, "uplink"));
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        struct param_value v = {.n = (uint64_t)cli_int(doc, ways[i])};
        char text[PARAM_TEXT];
        if (!cli_is_null(doc, ways[i]))
            str_add(out, ", %sbit/s %s", param_format(param_find("net.out.CLASS"), v, text),
                    ways[i]);
    }
    str_add(out, "\n\n");
}

/* "10.88.0.2", and "10.77.0.1 back" of a private network. */
static json_t *places_of(const json_t *ve)
{
    json_t *out = json_array(), *v, *network;
    size_t i, k;
    json_array_foreach(json_object_get(ve, "addresses"), i, v) json_array_append(out, v);
    json_array_foreach(json_object_get(ve, "networks"), i, network)
    {
        json_array_foreach(json_object_get(network, "addresses"), k, v) json_array_append_new(
            out, json_sprintf("%s %s", json_string_value(v), cli_text(network, "network")));
    }
    return out;
}

/* Addresses below each other on the left, classes on the right. */
static void ve_lines(struct text_table *t, json_t *ve)
{
    auto_json json_t *addresses = places_of(ve);
    json_t *classes = json_object_get(ve, "classes");
    size_t n = json_array_size(addresses);
    void *at = json_object_iter(classes);
    for (size_t i = 0; i == 0 || i < n || at; i++) {
        text_cell(t, i == 0 ? cli_text(ve, "name") : "");
        text_cell(t, i == 0 ? cli_text(ve, "state") : "");
        text_cell(t, i < n ? json_string_value(json_array_get(addresses, i)) : "");
        const json_t *counts = json_object_iter_value(at);
        if (!at) {
            for (int k = 0; k < 5; k++)
                text_cell(t, i == 0 ? NULL : "");
            continue;
        }
        class_cell(t, json_object_iter_key(at), counts);
        value_cell(t, json_object_get(counts, "out"), "net.out.CLASS");
        bytes_cell(t, json_object_get(counts, "out"));
        value_cell(t, json_object_get(counts, "in"), "net.in.CLASS");
        bytes_cell(t, json_object_get(counts, "in"));
        at = json_object_iter_next(classes, at);
    }
}

static void all_table(struct cli *cli, const json_t *doc, struct str *out)
{
    static const char *const heads[] = {"VE",  "STATE", "ADDRESS", "CLASS",
                                        "OUT", "SENT",  "IN",      "GOT"};
    auto_table struct text_table t = {.columns = ARRAY_SIZE(heads), .right = 0xf0};
    json_t *ve;
    size_t i;
    for (i = 0; i < ARRAY_SIZE(heads); i++)
        text_cell(&t, heads[i]);
    json_array_foreach(json_object_get(doc, "ves"), i, ve) ve_lines(&t, ve);
    cli_add_table(cli, out, &t, true,
                  json_array_size(json_object_get(doc, "ves"))
                      ? NULL
                      : "There is no VE here; terem create makes one.");
}

static void private_table(struct cli *cli, const json_t *list, struct str *out)
{
    static const char *const heads[] = {"NETWORK", "IPV4", "IPV6", "OWNER", "MEMBERS"};
    auto_table struct text_table t = {.columns = ARRAY_SIZE(heads)};
    size_t i;
    json_t *network;
    if (json_array_size(list) == 0)
        return;
    for (i = 0; i < ARRAY_SIZE(heads); i++)
        text_cell(&t, heads[i]);
    json_array_foreach((json_t *)list, i, network) private_cells(&t, network);
    str_add(out, "\n");
    cli_add_table(cli, out, &t, true, NULL);
}

/* One VE: two lines for each class, with all that is counted. */
static void one_table(struct cli *cli, const json_t *ve, struct str *out)
{
    static const char *const heads[] = {"CLASS", "WAY", "RATE", "BYTES", "PACKETS", "DROPPED"};
    static const char *const ways[] = {"out", "in"};
    static const char *const rows[] = {"net.out.CLASS", "net.in.CLASS"};
    auto_table struct text_table t = {.columns = ARRAY_SIZE(heads), .right = 0x3c};
    const char *class;
    auto_json json_t *addresses = places_of(ve);
    json_t *counts, *address;
    size_t i;
    str_add(out, "VE         ");
    text_add(out, cli_text(ve, "name"));
    str_add(out, ", %s\n", cli_text(ve, "state"));
    json_array_foreach(addresses, i, address)
    {
        str_add(out, "%s", i ? "           " : "addresses  ");
        text_add(out, json_string_value(address));
        str_add(out, "\n");
    }
    str_add(out, "\n");
    for (i = 0; i < ARRAY_SIZE(heads); i++)
        text_cell(&t, heads[i]);
    json_object_foreach(json_object_get(ve, "classes"), class, counts)
    {
        for (i = 0; i < ARRAY_SIZE(ways); i++) {
            const json_t *way = json_object_get(counts, ways[i]);
            if (i == 0)
                class_cell(&t, class, counts);
            else
                text_cell(&t, "");
            text_cell(&t, ways[i]);
            value_cell(&t, way, rows[i]);
            bytes_cell(&t, way);
            text_cellf(&t, "%" JSON_INTEGER_FORMAT, cli_int(way, "packets"));
            text_cellf(&t, "%" JSON_INTEGER_FORMAT, cli_int(way, "dropped"));
        }
    }
    if (json_object_size(json_object_get(ve, "classes")))
        cli_add_table(cli, out, &t, true, NULL);
    else if (json_is_object(json_object_get(ve, "classes")))
        str_add(out, "It has sent and got nothing yet.\n");
}

/* Of the document only this VE, or the API's own sentence about its name. */
static int only_one(struct cli *cli, const char *name, const json_t *doc, json_t **ret,
                    struct err *err)
{
    auto_str struct str path = str_init(256);
    size_t i;
    json_t *ve;
    json_array_foreach(json_object_get(doc, "ves"), i, ve)
    {
        if (str_eq(cli_text(ve, "name"), name)) {
            *ret = ve;
            return 0;
        }
    }
    int r = cli_ve_path(&path, name, "", err);
    if (r == 0)
        r = cli_call(cli, "GET", str_c(&path), NULL, NULL, err);
    return r < 0 ? r : err_set(err, ERR_NOT_FOUND, "%s: it was made just now; try again", name);
}

static int run_network_show(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX);
    auto_json json_t *doc = NULL;
    json_t *one = NULL, *ve;
    size_t i;
    int r = cli_call(cli, "GET", "/v1/network", NULL, &doc, err);
    if (r == 0 && a->n_pos)
        r = only_one(cli, a->pos[0], doc, &one, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, one ? one : doc, err);
    if (cli->quiet) {
        json_array_foreach(json_object_get(doc, "ves"), i, ve)
        {
            if (!one || ve == one)
                str_add(&out, "%s\n", cli_text(ve, "name"));
        }
        return cli_out(&out, err);
    }
    if (one) {
        one_table(cli, one, &out);
    } else {
        uplink_line(&out, doc);
        all_table(cli, doc, &out);
        private_table(cli, json_object_get(doc, "private"), &out);
    }
    if (!cli_is_null(doc, "not_counted")) {
        str_add(&out, "\nNot counted by class: ");
        text_add(&out, cli_text(doc, "not_counted"));
        str_add(&out, "\n");
    }
    return cli_out(&out, err);
}

command_row cmd_network_show = {
    .name = "network show",
    .summary = "show who is where, and what each VE sent and got",
    .usage = "[VE]",
    .max = 1,
    .complete = COMPLETE_VES,
    .run = run_network_show,
    .detail = "For each VE its addresses, those in private networks with their names, and by "
              "destination class what net.out.CLASS and "
              "net.in.CLASS give it (OUT, IN), and the bytes that crossed its cable (SENT, GOT) "
              "since the VE was made, whatever was restarted meanwhile. Of one VE also packets, "
              "and those that waited in vain for their class's share. Bytes are counted with "
              "Ethernet headers, as the interface inside counts them; segments that the kernel "
              "carries as one large packet count once.",
    .examples = {"terem network show", "terem network show web1", "terem network show --json"},
};
