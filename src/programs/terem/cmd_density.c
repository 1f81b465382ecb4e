/* SPDX-License-Identifier: GPL-2.0-or-later */
/* density: where the memory of VEs goes. */
#include "base/cleanup.h"
#include "base/name.h"
#include "base/number.h"
#include "cli.h"
#include "command.h"
#include "text.h"

#include <inttypes.h>

static const struct {
    const char *head, *key; /* of a VE, or of its "processes" */
    bool process, bytes;
} columns[] = {
    {"TOTAL", "total", false, true},     {"OWN", "anonymous", true, true},
    {"FILES", "mapped", true, true},     {"SHARED", "shared", false, true},
    {"STACKS", "stacks", false, true},   {"TABLES", "tables", false, true},
    {"SLAB", "slab", false, true},       {"PERCPU", "percpu", false, true},
    {"REST", "rest", false, true},       {"CACHE", "cache", false, true},
    {"PROCESSES", "count", true, false}, {"CGROUPS", "cgroups", false, false},
    {"MOUNTS", "mounts", false, false},  {"SUPERBLOCKS", "superblocks", false, false},
};

static const json_t *value_of(const json_t *ve, size_t i)
{
    if (columns[i].process)
        ve = json_object_get(ve, "processes");
    const json_t *v = json_object_get(ve, columns[i].key);
    return json_is_integer(v) ? v : NULL;
}

/* Kilobytes, to the tenth: the parts of an idle VE are small. */
static void cell(struct text_table *t, size_t i, double n, bool known)
{
    if (!known)
        text_cell(t, "-");
    else if (columns[i].bytes)
        text_cellf(t, "%.1f", n / 1024);
    else
        text_cellf(t, "%.1f", n);
}

static void add_part(struct text_table *t, const json_t *ve, size_t i)
{
    const json_t *v = value_of(ve, i);
    json_int_t n = v ? json_integer_value(v) : 0;
    if (v && !columns[i].bytes)
        text_cellf(t, "%" JSON_INTEGER_FORMAT, n);
    else
        cell(t, i, (double)n, v != NULL);
}

static void add_ve(struct text_table *t, const json_t *ve)
{
    text_cell(t, cli_text(ve, "name"));
    for (size_t i = 0; i + 1 < t->columns; i++)
        add_part(t, ve, i);
}

/* Of one a line for each part: all of them are seen on the narrowest terminal. */
static int tell_one(struct cli *cli, const json_t *ve, struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX);
    auto_table struct text_table t = {.columns = 2, .right = 2};
    text_cell(&t, "PART (KB)");
    text_cell(&t, cli_text(ve, "name"));
    for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
        text_cell(&t, columns[i].head);
        add_part(&t, ve, i);
    }
    cli_add_table(cli, &out, &t, true, NULL);
    return cli_out(&out, err);
}

static void add_sum(struct text_table *t, const char *name, const json_t *ves, double share)
{
    text_cell(t, name);
    for (size_t i = 0; i + 1 < t->columns; i++) {
        size_t k;
        json_t *ve;
        double sum = 0;
        bool known = false;
        json_array_foreach((json_t *)ves, k, ve)
        {
            const json_t *v = value_of(ve, i);
            known |= v != NULL;
            sum += v ? (double)json_integer_value(v) : 0;
        }
        cell(t, i, sum * share, known);
    }
}

static int by_total(const void *a, const void *b)
{
    json_int_t x = cli_int(*(json_t *const *)a, "total"), y = cli_int(*(json_t *const *)b, "total");
    return (x < y) - (x > y);
}

static int sort_ves(json_t *ves, struct err *err)
{
    size_t n = json_array_size(ves);
    auto_free json_t **v = calloc(n + 1, sizeof(*v));
    if (!v)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < n; i++)
        v[i] = json_incref(json_array_get(ves, i));
    qsort(v, n, sizeof(*v), by_total);
    for (size_t i = 0; i < n; i++)
        json_array_set_new(ves, i, v[i]);
    return 0;
}

/* The first of the columns, of all VEs. */
static void add_ves(struct text_table *t, size_t shown, const json_t *ves)
{
    size_t i, n = json_array_size(ves);
    json_t *ve;
    *t = (struct text_table){.columns = shown + 1, .right = ~1u};
    text_cell(t, "VE (KB)");
    for (i = 0; i < shown; i++)
        text_cell(t, columns[i].head);
    if (n > 1) {
        add_sum(t, "average", ves, 1.0 / (double)n);
        add_sum(t, "sum", ves, 1);
    }
    json_array_foreach((json_t *)ves, i, ve) add_ve(t, ve);
}

/* Names what a terminal of this width has no room for. */
static void add_left_out(struct str *out, size_t shown, size_t width)
{
    auto_str struct str s = str_init(1024);
    for (size_t i = shown; i < ARRAY_SIZE(columns); i++)
        str_add(&s, "%s%s", i > shown ? ", " : "For ", columns[i].head);
    if (!s.len)
        return;
    str_add(&s, " there is no room here; terem density VE tells all of one VE.");
    text_add_wrapped(out, str_c(&s), 0, width);
    str_add(out, "\n");
}

static void tell_node(struct str *out, struct str *kernel_out, const json_t *doc)
{
    size_t i, n = json_array_size(json_object_get(doc, "ves"));
    const json_t *machine = json_object_get(doc, "machine");
    json_t *program;
    char buf[TEXT_SIZE];
    json_int_t sum = 0, kernel = 0, charged = 0;
    json_array_foreach(json_object_get(doc, "programs"), i, program)
    {
        json_int_t bytes = cli_int(program, "memory") + cli_int(program, "tables");
        str_add(out, "%s%s ", i ? ", " : "The node's programs: ", cli_text(program, "name"));
        str_add(out, "%s", text_size((uint64_t)bytes, buf));
        sum += bytes;
    }
    str_add(out, "; BPF maps %s", text_size((uint64_t)cli_int(doc, "maps"), buf));
    sum += cli_int(doc, "maps");
    if (n)
        str_add(out, "; together %s for each VE that runs", text_size((uint64_t)sum / n, buf));
    static const char *const kernels[] = {"slab", "percpu", "stacks", "tables"};
    for (i = 0; i < ARRAY_SIZE(kernels); i++)
        kernel += cli_int(machine, kernels[i]);
    json_array_foreach(json_object_get(doc, "ves"), i, program) charged +=
        cli_int(program, "kernel");
    str_add(out, ".");
    str_add(kernel_out, "The kernel has %s on the whole machine,",
            text_size((uint64_t)kernel, buf));
    str_add(kernel_out, " of which %s are charged to these VEs;",
            text_size((uint64_t)charged, buf));
    str_add(kernel_out, " in the rest are their cgroups, host ends of cables and nft rules, and "
                        "all that is not Terem's.");
}

static void add_node(const struct cli *cli, struct str *out, const json_t *doc)
{
    auto_str struct str programs = str_init(TEXT_MAX), kernel = str_init(TEXT_MAX);
    size_t width = cli->out_tty ? cli_columns(1) : 0;
    tell_node(&programs, &kernel, doc);
    text_add_wrapped(out, str_c(&programs), 0, width);
    str_add(out, "\n");
    text_add_wrapped(out, str_c(&kernel), 0, width);
    str_add(out, "\n");
}

static int run_density(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX), path = str_init(256);
    auto_table struct text_table t = {0};
    auto_json json_t *doc = NULL;
    size_t shown = ARRAY_SIZE(columns), width = cli->out_tty ? cli_columns(1) : 0;
    const char *label = args_get(a, "label");
    if (a->n_pos && label)
        return err_set(err, ERR_USAGE, "give a VE or --label, not both");
    if (a->n_pos && name_check_ve(a->pos[0], err) < 0)
        return -err->kind;
    str_add(&path, "/v1/density%s%s", a->n_pos ? "?ve=" : "", a->n_pos ? a->pos[0] : "");
    if (cli_label_query(&path, label, err) < 0)
        return -err->kind;
    int r = cli_call(cli, "GET", str_c(&path), NULL, &doc, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, doc, err);
    json_t *ves = json_object_get(doc, "ves");
    if (sort_ves(ves, err) < 0)
        return -err->kind;
    if (a->n_pos && json_array_size(ves) == 1)
        return tell_one(cli, json_array_get(ves, 0), err);
    if (a->n_pos)
        return err_set(err, ERR_STATE,
                       "%s: cannot tell where its memory goes: it does not run; start it",
                       a->pos[0]);
    add_ves(&t, shown, ves);
    while (width && shown > 1 && !text_table_fits(&t, width)) {
        text_table_done(&t);
        add_ves(&t, --shown, ves);
    }
    bool any = json_array_size(ves) > 0;
    cli_add_table(cli, &out, &t, true,
                  any     ? NULL
                  : label ? "No VE with this label runs."
                          : "No VE runs.");
    if (!cli->quiet && any)
        add_left_out(&out, shown, width);
    if (!cli->quiet && !label) /* it is the node's, of all its VEs */
        add_node(cli, &out, doc);
    return cli_out(&out, err);
}

static const struct option_spec density_options[] = {
    {"label", 'l', "K=V", "only VEs that have this label", COMPLETE_LABELS},
    END,
};

command_row cmd_density = {
    .name = "density",
    .summary = "tell where the memory of VEs goes",
    .usage = "[VE]",
    .max = 1,
    .complete = COMPLETE_VES,
    .options = density_options,
    .run = run_density,
    .detail =
        "In kilobytes, the largest VE first; of one VE, line by line. OWN are pages of its "
        "processes that no file backs, "
        "FILES those that one does, a page that several share counted by the share; SHARED is in "
        "memory file systems and shared segments; then what the kernel holds for it: STACKS of its "
        "threads, page TABLES, SLAB (inodes, directory entries, sockets, its network namespace), "
        "PERCPU and the REST; with cgroup v1 the kernel tells the sum of these alone, and STACKS "
        "and SLAB are derived from it. TOTAL is the sum of them. CACHE are other pages of files, "
        "which are taken back when they are wanted. Below stand the node's own programs and what "
        "the kernel does not tell apart. What each number is stands in docs/density.md, "
        "installed in " TEREM_DOCDIR ".",
    .examples = {"terem density", "terem density web1", "terem density --label tier=web"},
};
