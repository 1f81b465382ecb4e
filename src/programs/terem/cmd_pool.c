/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pool list, show, create, grow, remove, move. */
#include "base/cleanup.h"
#include "base/name.h"
#include "base/number.h"
#include "cli.h"
#include "command.h"
#include "text.h"
#include "work.h"

#include <string.h>
#include <unistd.h>

/* "space, files", "space", "no" */
static const char *limits_of(const json_t *pool)
{
    const json_t *can = json_object_get(pool, "can");
    bool space = json_is_true(json_object_get(can, "space"));
    bool inodes = json_is_true(json_object_get(can, "inodes"));
    return !can              ? "-"
           : space && inodes ? "space, files"
           : space           ? "space"
           : inodes          ? "files"
                             : "no";
}

static void add_pool(struct text_table *t, const json_t *pool)
{
    text_cell(t, cli_text(pool, "name"));
    text_cell(t, cli_text(pool, "state"));
    text_cell(t, cli_text(pool, "driver"));
    cli_size_cell(t, pool, "size");
    cli_size_cell(t, pool, "free");
    text_cellf(t, "%zu", json_array_size(json_object_get(pool, "ves")));
    text_cell(t, limits_of(pool));
}

static int run_pool_list(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct cli_list list = {
        .path = "/v1/pools",
        .heads = {"POOL", "STATE", "DRIVER", "SIZE", "FREE", "VES", "LIMITS"},
        .right = 1u << 3 | 1u << 4 | 1u << 5,
        .add = add_pool};
    return cli_list(cli, &list, err);
}

command_row cmd_pool_list = {
    .name = "pool list",
    .summary = "list the pools",
    .usage = "",
    .run = run_pool_list,
    .detail = "LIMITS tells what the pool can limit for each VE: space (disk.space), files "
              "(disk.inodes). terem pool show says why it cannot.",
    .examples = {"terem pool list"},
};

static void line(struct str *out, const char *head, const char *value)
{
    if (!*value)
        return;
    str_add(out, "%-11s ", head);
    text_add_wrapped(out, value, 12, isatty(STDOUT_FILENO) ? cli_columns(STDOUT_FILENO) : 0);
    str_add(out, "\n");
}

static void line_can(struct str *out, const json_t *pool, const char *key, const char *head,
                     const char *why)
{
    bool can = json_is_true(json_object_get(json_object_get(pool, "can"), key));
    auto_str struct str text = str_init(1024);
    str_add(&text, "%s", can ? "yes" : "no");
    if (!can && *cli_text(pool, why))
        str_add(&text, ": %s", cli_text(pool, why));
    line(out, head, str_c(&text));
}

static void lines_open(struct str *out, const json_t *pool)
{
    char size[NUMBER_TEXT], left[NUMBER_TEXT];
    const json_t *can = json_object_get(pool, "can");
    str_add(out, "%-11s %s, %s free\n", "size",
            number_format_size((uint64_t)cli_int(pool, "size"), size),
            number_format_size((uint64_t)cli_int(pool, "free"), left));
    if (cli_int(pool, "inodes"))
        str_add(out, "%-11s %" JSON_INTEGER_FORMAT ", %" JSON_INTEGER_FORMAT " free\n", "files",
                cli_int(pool, "inodes"), cli_int(pool, "inodes_free"));
    line_can(out, pool, "space", "disk.space", "why_space");
    line_can(out, pool, "inodes", "disk.inodes", "why_inodes");
    line(out, "snapshots",
         json_is_true(json_object_get(can, "cheap_copies"))
             ? "share what did not change: at once, and without space of their own"
         : json_is_true(json_object_get(can, "shares_data"))
             ? "share data until they change: time and a little space for each file that "
               "the VE has written, which stands still meanwhile"
             : "are copies: the time and the space of what the VE has written, which stands "
               "still meanwhile");
}

static int run_pool_show(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256), out = str_init(TEXT_MAX);
    auto_json json_t *pool = NULL;
    size_t i;
    json_t *ve;
    int r = cli_noun_path(&path, "/v1/pools", "pool", a->pos[0], err);
    if (r == 0)
        r = cli_call(cli, "GET", str_c(&path), NULL, &pool, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, pool, err);
    line(&out, "name", cli_text(pool, "name"));
    line(&out, "state", cli_text(pool, "state"));
    line(&out, "reason", cli_text(pool, "reason"));
    line(&out, "driver", cli_text(pool, "driver"));
    line(&out, "because", cli_text(pool, "why"));
    line(&out, "path", cli_text(pool, "path"));
    line(&out, "image", cli_text(pool, "image"));
    line(&out, "file system", cli_text(pool, "file_system"));
    if (json_object_get(pool, "can"))
        lines_open(&out, pool);
    if (cli_int(pool, "created")) {
        str_add(&out, "%-11s ", "created");
        text_add_time(&out, cli_int(pool, "created"));
        str_add(&out, "\n");
    }
    str_add(&out, "%-11s ", "VEs");
    json_array_foreach(json_object_get(pool, "ves"), i, ve)
    {
        str_add(&out, "%s", i ? "\n            " : "");
        text_add(&out, json_string_value(ve));
    }
    str_add(&out, "%s", i ? "\n" : "none\n");
    if (cli_int(pool, "snapshots"))
        str_add(&out, "%-11s %" JSON_INTEGER_FORMAT "\n", "saved", cli_int(pool, "snapshots"));
    return cli_out(&out, err);
}

command_row cmd_pool_show = {
    .name = "pool show",
    .summary = "show one pool",
    .usage = "POOL",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_POOLS,
    .run = run_pool_show,
    .detail = "Prints where it lies, how full it is, what it can limit and what not and why, what "
              "snapshots cost in it, and whose files are in it.",
    .examples = {"terem pool show default"},
};

static int check_size(const char *text, struct err *err)
{
    uint64_t size;
    return number_parse_size(text, &size, err) < 0 ? err_wrap(err, "the size") : 0;
}

static int put_path(json_t *body, const char *key, const char *path, struct err *err)
{
    auto_free char *absolute = cli_absolute(path, err);
    return absolute ? cli_text_put(body, key, absolute, err) : -err->kind;
}

static int run_pool_create(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct work_words words = {"creating", "created"};
    static const char *const paths[] = {"path", "image"};
    const char *name = a->pos[0], *driver = args_get(a, "driver"), *size = args_get(a, "size");
    int r = name_check_ve(name, err);
    if (r < 0 || (size && (r = check_size(size, err)) < 0))
        return err_wrap(err, "pool");
    auto_json json_t *body = json_pack("{s:s}", "name", name);
    if ((r = cli_text_put(body, "driver", driver, err)) < 0)
        return r;
    if (size)
        json_object_set_new(body, "size", json_string(size));
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        if (args_has(a, paths[i]) && (r = put_path(body, paths[i], args_get(a, paths[i]), err)) < 0)
            return r;
    return work_one(cli, name, "POST", strdup("/v1/pools"), json_incref(body), &words,
                    args_has(a, "no-wait"), err);
}

static const struct option_spec pool_create_options[] = {
    {"driver", 0, "NAME", "dir, btrfs or xfs (default: what serves best there)", COMPLETE_WORDS,
     "dir btrfs xfs"},
    {"path", 0, "DIR", "an empty directory, or one that is made (default: in the node's state)",
     COMPLETE_FILES},
    {"size", 's', "SIZE",
     "of its image, at least 256M, with xfs 320M (default: pool.size of terem.conf)"},
    {"image", 0, "FILE", "the file that it lives in (default: in the node's state)",
     COMPLETE_FILES},
    OPT_NO_WAIT,
    END,
};

command_row cmd_pool_create = {
    .name = "pool create",
    .summary = "make a pool",
    .usage = "POOL",
    .min = 1,
    .max = 1,
    .options = pool_create_options,
    .run = run_pool_create,
    .detail =
        "A pool is where the files of VEs are. There are three drivers: dir takes a directory of "
        "any file system and limits space and files where that has project quotas (ext4, xfs); "
        "btrfs makes snapshots and clones that cost nothing until something changes, and limits "
        "space; xfs is like dir, and copies every file of a snapshot or clone, whose data are "
        "shared until they change.\n\n"
        "Where the file system at --path is not of that kind, or --size or --image is given, the "
        "pool lives in an image: a file with a file system of its own, whose space is set aside "
        "at once, and which grows by itself when it runs full (terem.conf(5), pool.grow).",
    .examples = {"terem pool create fast --driver btrfs --size 40G",
                 "terem pool create disk2 --path /srv/disk2/terem"},
};

static int run_pool_grow(struct cli *cli, const struct args *a, struct err *err)
{
    char grown[64];
    const struct work_words words = {"growing", grown};
    auto_str struct str path = str_init(256);
    str_print(grown, sizeof(grown), "grown to %s", a->pos[1]);
    int r = cli_noun_path(&path, "/v1/pools", "pool", a->pos[0], err);
    if (r < 0 || (r = check_size(a->pos[1], err)) < 0)
        return r;
    return work_one(cli, a->pos[0], "PATCH", str_steal(&path),
                    json_pack("{s:s}", "size", a->pos[1]), &words, args_has(a, "no-wait"), err);
}

command_row cmd_pool_grow = {
    .name = "pool grow",
    .summary = "make a pool's image larger",
    .usage = "POOL SIZE",
    .min = 2,
    .max = 2,
    .complete = COMPLETE_POOLS,
    .options = command_no_wait_options,
    .run = run_pool_grow,
    .detail = "VEs may run in it. A pool without an image has all of its file system. What other "
              "images may still take is not given away twice.",
    .examples = {"terem pool grow fast 80G"},
};

static int run_pool_remove(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct work_words words = {"removing", "removed"};
    auto_str struct str path = str_init(256);
    int r = cli_noun_path(&path, "/v1/pools", "pool", a->pos[0], err);
    return r < 0 ? r
                 : work_one(cli, a->pos[0], "DELETE", str_steal(&path), NULL, &words,
                            args_has(a, "no-wait"), err);
}

command_row cmd_pool_remove = {
    .name = "pool remove",
    .summary = "remove a pool that nothing is in",
    .usage = "POOL",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_POOLS,
    .options = command_no_wait_options,
    .run = run_pool_remove,
    .detail = "Refused while it has files or snapshots of VEs.",
    .examples = {"terem pool remove fast"},
};

/* The pool is the last word. */
static int run_pool_move(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct work_words words = {"moving", "moved"};
    size_t n = a->n_pos - 1;
    const char *pool = a->pos[n];
    int r = name_check_ve(pool, err);
    if (r < 0)
        return err_wrap(err, "pool");
    auto_json json_t *body =
        json_pack("{s:s,s:b}", "pool", pool, "restart", args_has(a, "restart"));
    if (cli_timeout_put(body, a, err) < 0)
        return -err->kind;
    struct work *w = work_new(n);
    for (size_t i = 0; w && r == 0 && i < n; i++) {
        if ((r = name_check_ve(a->pos[i], err)) < 0)
            break;
        w[i].subject = a->pos[i];
        w[i].method = "POST";
        w[i].path = str_format("/v1/ves/%s/move", a->pos[i]);
        w[i].body = json_incref(body);
        if (!w[i].path)
            r = err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    if (!w)
        r = err_set(err, ERR_EXHAUSTED, "out of memory");
    if (r == 0)
        r = work_run(cli, w, n, &words, true, args_has(a, "no-wait"), err);
    work_free(w, n);
    return r;
}

static const struct option_spec pool_move_options[] = {
    {"restart", 'r', NULL, "also VEs that run: stop, move and start them"},
    {"timeout", 't', "TIME", "how long such a VE may take to stop (default: 30s)"},
    OPT_NO_WAIT,
    END,
};

command_row cmd_pool_move = {
    .name = "pool move",
    .summary = "move VEs into another pool",
    .usage = "VE... POOL",
    .min = 2,
    .max = ARGS_MAX,
    .complete = COMPLETE_VES,
    .complete_more = COMPLETE_VES_AND_POOLS,
    .options = pool_move_options,
    .run = run_pool_move,
    .detail =
        "Copies the VE's files and all its snapshots, and removes them from where they were "
        "when all is there. A VE that runs is refused without --restart. Interrupted at any "
        "point, the VE is whole in one of the two pools. Each snapshot is copied as a whole, also "
        "between pools on btrfs: what snapshots shared takes its space once for each of them "
        "afterwards.\n\n"
        "SIGINT (Ctrl-C) ends the waiting, not the work: terem jobs wait waits for it again, and "
        "terem jobs cancel ends it.",
    .examples = {"terem pool move web1 web2 fast", "terem pool move web1 default --restart"},
};
