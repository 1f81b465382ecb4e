/* SPDX-License-Identifier: GPL-2.0-or-later */
/* restore, backup show, backup verify: they read one; what happens on the connection is
 * docs/backup.md. */
#include "backup/backup.h"
#include "backup_layers.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "cli.h"
#include "command.h"
#include "link.h"
#include "text.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* ---- restore ---- */

struct source { /* one file, or standard input */
    const char *name;
    int fd;
    uint64_t size;   /* 0: not known */
    struct str head; /* of standard input: what was read to know the manifest */
    struct backup_info info;
};

struct restore {
    struct cli *cli;
    struct source *files;
    size_t n;
    uint64_t total, sent;
    struct link *link;
};

static void restore_done(struct restore *r)
{
    for (size_t i = 0; r->files && i < r->n; i++) {
        cleanup_fd(&r->files[i].fd);
        str_done(&r->files[i].head);
        backup_info_done(&r->files[i].info);
    }
    free(r->files);
    link_close(r->link);
}

static ssize_t read_and_keep(void *ctx, void *buf, size_t size, struct err *err)
{
    struct source *s = ctx;
    ssize_t n = backup_read_fd(&s->fd, buf, size, err);
    if (n > 0)
        str_add_bytes(&s->head, buf, (size_t)n);
    return n;
}

static int open_source(struct source *s, const char *name, struct err *err)
{
    struct stat st;
    *s = (struct source){.name = name, .fd = -1, .head = str_init((size_t)64 << 20)};
    s->fd = str_eq(name, "-") ? fd_again(STDIN_FILENO) : open(name, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0 || fstat(s->fd, &st) < 0)
        return err_sys(err, "cannot open %s", name);
    if (S_ISREG(st.st_mode))
        s->size = (uint64_t)st.st_size;
    const struct backup_in in = {read_and_keep, s};
    if (backup_show(&in, &s->info, err) < 0)
        return err_wrap(err, "%s", name);
    return s->head.failed ? err_set(err, ERR_EXHAUSTED, "out of memory") : 0;
}

static int open_sources(struct restore *r, const struct args *a, size_t n, struct err *err)
{
    r->files = calloc(n, sizeof(*r->files));
    if (!r->files)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (r->n = 0; r->n < n; r->total += r->files[r->n++].size) {
        int e = open_source(&r->files[r->n], a->pos[r->n], err);
        if (e < 0) {
            r->n++; /* to be closed */
            return e;
        }
    }
    return 0;
}

static int restore_request(struct restore *r, const struct args *a, json_t *rq, struct err *err)
{
    json_t *manifests = json_array(), *params = json_object();
    const char *text;
    json_object_set_new(rq, "name", json_string(a->pos[r->n]));
    json_object_set_new(rq, "manifests", manifests);
    json_object_set_new(rq, "params", params);
    for (size_t i = 0; i < r->n; i++)
        json_array_append_new(manifests, json_string(r->files[i].info.manifest));
    for (size_t i = 0; (text = args_each(a, "set", i)); i++) {
        int e = cli_param_put(params, text, true, err);
        if (e < 0)
            return e;
    }
    if (args_get(a, "pool"))
        json_object_set_new(rq, "pool", json_string(args_get(a, "pool")));
    if (args_has(a, "start"))
        json_object_set_new(rq, "start", json_true());
    if (args_has(a, "no-nesting"))
        json_object_set_new(rq, "nesting", json_false());
    return 0;
}

/* The file gives it more than a VE has by itself. */
static bool may_nest(const struct restore *r, const struct args *a)
{
    auto_json json_t *m = json_loads(r->files[r->n - 1].info.manifest, 0, NULL);
    const json_t *spec = json_object_get(json_object_get(m, "ve"), "spec");
    return !args_has(a, "no-nesting") && json_is_true(json_object_get(spec, "nesting"));
}

static int send_source(struct restore *r, struct source *s, struct err *err)
{
    static uint8_t buf[1 << 16];
    int e = link_send(r->link, str_c(&s->head), s->head.len, err);
    r->sent += s->head.len;
    while (e == 0) {
        ssize_t n = backup_read_fd(&s->fd, buf, sizeof(buf), err);
        if (n < 0)
            return err_wrap(err, "%s", s->name);
        e = n ? link_send(r->link, buf, (size_t)n, err) : link_send_end(r->link, err);
        if (n == 0)
            return e;
        r->sent += (size_t)n;
        link_show(r->link, r->total ? (int)(r->sent * 100 / r->total) : -1, "sending the backup");
    }
    return e;
}

static int run_restore(struct cli *cli, const struct args *a, struct err *err)
{
    auto_clean(restore_done) struct restore r = {.cli = cli};
    auto_json json_t *rq = json_object();
    const char *name = a->pos[a->n_pos - 1];
    int e = open_sources(&r, a, a->n_pos - 1, err);
    if (e < 0 || (e = restore_request(&r, a, rq, err)) < 0 ||
        (e = link_open(cli, "/v1/restore", rq, &r.link, err)) < 0)
        return e;
    link_listen(r.link, name, NULL, NULL);
    char parting[256];
    str_print(parting, sizeof(parting),
              "%s: the restore was interrupted; nothing of it stays, unless it was whole by then",
              name);
    if ((e = link_interrupted_says(r.link, parting, NULL, err)) < 0)
        return e;
    if (args_has(a, "progress"))
        link_loud(r.link);
    for (size_t i = 0; e == 0 && i < r.n; i++)
        e = send_source(&r, &r.files[i], err);
    /* It may have refused before all was sent: its reason is what counts. */
    if (e < 0 && err->kind != ERR_UNAVAILABLE)
        return e;
    if ((e = link_finish(r.link, err)) < 0)
        return e;
    cli_say(cli, "%s: %s", name, args_has(a, "start") ? "restored and started" : "restored");
    if (may_nest(&r, a))
        cli_say(cli,
                "%s: it may run containers of its own (nesting), as the backup says; give that "
                "to whom you would give a shell, else restore with --no-nesting",
                name);
    if (!cli->json)
        return 0;
    auto_str struct str path = str_init(256);
    auto_json json_t *ve = NULL;
    if ((e = cli_ve_path(&path, name, "", err)) < 0 ||
        (e = cli_call(cli, "GET", str_c(&path), NULL, &ve, err)) < 0)
        return e;
    return cli_out_json(cli, ve, err);
}

static const struct option_spec restore_options[] = {
    {"set", 's', "KEY=VALUE", "set a parameter differently (may be repeated)",
     COMPLETE_ASSIGNMENTS},
    {"pool", 0, "POOL", "put its files into this pool (default: the one it was in, or default)",
     COMPLETE_POOLS},
    {"start", 0, NULL, "start it as well"},
    {"no-nesting", 0, NULL, "let it run no containers of its own, though the backup says so"},
    {"progress", 0, NULL, "show progress even with --quiet"},
    END,
};

command_row cmd_restore = {
    .name = "restore",
    .summary = "make a new VE from backups",
    .usage = "FILE... NEW",
    .min = 2,
    .max = ARGS_MAX,
    .complete = COMPLETE_FILES,
    .complete_more = COMPLETE_FILES,
    .options = restore_options,
    .run = run_restore,
    .detail = "NEW gets the files, parameters, labels and schedule of snapshots of the VE that was "
              "backed up, and an id and addresses of its own. FILE is a full backup, or - for "
              "standard input; behind it "
              "come those that were made --since it, in their order. NEW is there when every byte "
              "was read and found right, and not before.\n\n"
              "The layers that the VE stood on, of that revision of its template, must be on this "
              "node, or be in the file (backup --embed); terem backup show tells.",
    .examples = {"terem restore web1.tzst web2", "terem restore web1.tzst monday.tzst web2 --start",
                 "ssh vault cat web1.tzst | terem restore - web1"},
};

/* ---- verify and show ---- */

static json_t *describe(const char *file, const struct backup_info *info)
{
    json_t *m = json_loads(info->manifest, 0, NULL), *ve = json_object_get(m, "ve");
    json_t *out = json_pack("{s:s, s:s, s:s}", "file", file, "id", info->id, "kind",
                            *info->since ? "incremental" : "full");
    json_object_set_new(out, "since", *info->since ? json_string(info->since) : json_null());
    json_object_set(out, "ve", json_object_get(ve, "name"));
    json_object_set(out, "template", json_object_get(json_object_get(ve, "spec"), "template"));
    json_object_set(out, "created", json_object_get(m, "created"));
    json_object_set(out, "tree", json_object_get(m, "tree"));
    json_object_set(out, "layers", json_object_get(m, "layers"));
    json_object_set_new(out, "independent",
                        json_boolean(backup_layers_within(json_object_get(m, "layers"))));
    json_decref(m);
    return out;
}

static void say_backup(const struct cli *cli, const json_t *doc, const char *more)
{
    auto_str struct str s = str_init(1024);
    const char *since = cli_text(doc, "since");
    str_add(&s, "%s: %sbackup %.8s of %s, ", cli_text(doc, "file"), more, cli_text(doc, "id"),
            cli_text(doc, "ve"));
    if (*since)
        str_add(&s, "incremental to %.8s, ", since);
    else
        str_add(&s, "full, ");
    text_add_time(&s, cli_int(doc, "created"));
    cli_say(cli, "%s", str_c(&s));
}

/* Its manifest is at the beginning, and is there also when the rest is not. */
static int check_end(const struct source *s, struct err *err)
{
    auto_free char *list = NULL;
    size_t len;
    if (!s->size || backup_list(s->fd, &list, &len, err) == 0)
        return 0;
    struct err why = *err;
    return err_set(err, (enum err_kind)why.kind,
                   "%s: unfinished or damaged at its end: terem backup verify tells where, and "
                   "terem backup --resume goes on with one that was interrupted",
                   s->name);
}

static int run_backup_show(struct cli *cli, const struct args *a, struct err *err)
{
    struct source s = {.fd = -1};
    char size[TEXT_SIZE];
    int r = open_source(&s, a->pos[0], err);
    if (r == 0 && cli->json) {
        auto_json json_t *m = json_loads(s.info.manifest, 0, NULL);
        r = cli_out_json(cli, m, err);
    } else if (r == 0) {
        auto_json json_t *doc = describe(a->pos[0], &s.info);
        const json_t *tree = json_object_get(doc, "tree");
        say_backup(cli, doc, "");
        cli_say(cli, "%lld files and directories, %s", (long long)cli_int(tree, "entries"),
                text_size((uint64_t)cli_int(tree, "bytes"), size));
        backup_layers_say(cli, a->pos[0], cli_text(doc, "template"),
                          json_object_get(doc, "layers"));
    }
    if (r == 0)
        r = check_end(&s, err);
    cleanup_fd(&s.fd);
    str_done(&s.head);
    backup_info_done(&s.info);
    return r;
}

command_row cmd_backup_show = {
    .name = "backup show",
    .summary = "tell what a backup is",
    .usage = "FILE",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_FILES,
    .run = run_backup_show,
    .detail = "Prints what its manifest says, and whether this node has the layers that it needs; "
              "with --json, the manifest. Of the rest of a file only its end is read: one that is "
              "unfinished or cut off is told, with exit status 1.",
    .examples = {"terem backup show web1.tzst"},
};

static bool has_id(const json_t *docs, const char *id)
{
    size_t i;
    const json_t *doc;
    json_array_foreach(docs, i, doc) if (str_eq(cli_text(doc, "id"), id)) return true;
    return false;
}

/* docs: what was verified before it; files: of the last of these. */
static int verify_one(struct cli *cli, const char *file, json_t *docs, struct backup_files *files,
                      struct err *err)
{
    auto_fd int fd = str_eq(file, "-") ? fd_again(STDIN_FILENO) : open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open %s", file);
    const struct backup_in in = {backup_read_fd, &fd};
    const struct backup_restore rs = {.root = -1, .any = true, .files = files};
    struct backup_info info = {0};
    if (backup_read(&in, &rs, &info, err) < 0)
        return err_wrap(err, "%s", file);
    auto_json json_t *m = json_loads(info.manifest, 0, NULL);
    if (backup_manifest_check(m, err) < 0) {
        backup_info_done(&info);
        return err_wrap(err, "%s", file);
    }
    auto_json json_t *doc = describe(file, &info);
    const char *since = cli_text(doc, "since");
    bool loose = *since && !has_id(docs, since);
    json_object_set_new(doc, "bytes", json_integer((json_int_t)info.packed));
    json_object_set_new(doc, "entries", json_integer((json_int_t)info.entries));
    backup_info_done(&info);
    if (loose && json_array_size(docs))
        return err_set(
            err, ERR_USAGE,
            "%s: the backup stands on backup %.8s, which is none of the files before it; "
            "terem backup show tells which file that is",
            file, since);
    say_backup(cli, doc, "whole: ");
    if (loose)
        cli_say(cli, "%s: to be restored it needs backup %.8s, which was not checked", file, since);
    backup_layers_say(cli, file, cli_text(doc, "template"), json_object_get(doc, "layers"));
    json_array_append(docs, doc);
    return 0;
}

static int run_backup_verify(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *docs = json_array();
    auto_clean(backup_files_done) struct backup_files files = {0};
    for (size_t i = 0; i < a->n_pos; i++) {
        int r = verify_one(cli, a->pos[i], docs, &files, err);
        if (r < 0)
            return r;
    }
    return cli->json ? cli_out_json(cli, docs, err) : 0;
}

command_row cmd_backup_verify = {
    .name = "backup verify",
    .summary = "check that backups are whole",
    .usage = "FILE...",
    .min = 1,
    .max = ARGS_MAX,
    .complete = COMPLETE_FILES,
    .complete_more = COMPLETE_FILES,
    .run = run_backup_verify,
    .detail =
        "Reads every byte and needs no teremd. Of several, each is a full one or stands on one "
        "before it. A VE of this name is backed up as: terem backup -- verify FILE.",
    .examples = {"terem backup verify web1.tzst", "terem backup verify web1.tzst monday.tzst"},
};
