/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snapshot create, list, show, rename, note, rollback, delete, schedule. */
#include "base/cleanup.h"
#include "base/name.h"
#include "base/number.h"
#include "bulk.h"
#include "cli.h"
#include "command.h"
#include "text.h"
#include "ve_text.h"
#include "work.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEEP_MAX 1000

static int snapshot_path(struct str *path, const char *ve, const char *name, struct err *err)
{
    int r = cli_ve_path(path, ve, "/snapshots", err);
    if (r == 0 && name && (r = name_check_ve(name, err)) < 0)
        return err_wrap(err, "snapshot");
    if (r == 0 && name)
        str_add(path, "/%s", name);
    return r;
}

/* One job of one VE. */
static int run_one(struct cli *cli, const struct args *a, const char *suffix, json_t *body,
                   const struct work_words *words, struct err *err)
{
    auto_str struct str path = str_init(256);
    int r = cli_ve_path(&path, a->pos[0], suffix, err);
    return r < 0 ? r
                 : work_one(cli, a->pos[0], "POST", str_steal(&path), json_incref(body), words,
                            args_has(a, "no-wait"), err);
}

static int put_note(json_t *body, const char *note, struct err *err)
{
    if (note && json_object_set_new(body, "note", json_string(note)) < 0)
        return err_set(err, ERR_USAGE, "the note is not valid UTF-8");
    return 0;
}

/* Of many the only word is the snapshot's name. */
static int run_snapshot_create(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct work_words words = {"taking a snapshot", NULL};
    auto_json json_t *body = json_object();
    bool many = args_has(a, "all") || args_has(a, "label");
    int r = bulk_is_meant(a, many ? 0 : a->n_pos > 0, "label", err);
    const char *name = a->n_pos == 2 - (size_t)many ? a->pos[1 - many] : NULL;
    if (r >= 0 && many && a->n_pos > 1)
        r = err_set(err, ERR_USAGE, "with --all or --label only the snapshot's name may be given");
    if (r >= 0 && name && (r = name_check_ve(name, err)) < 0)
        return err_wrap(err, "snapshot");
    if (name)
        json_object_set_new(body, "name", json_string(name));
    if (r >= 0)
        r = put_note(body, args_get(a, "note"), err);
    if (r < 0 || !many)
        return r < 0 ? r : run_one(cli, a, "/snapshots", body, &words, err);
    const struct bulk bulk = {
        .verb = "snapshot", .words = words, .options = body, .label_option = "label"};
    return bulk_run(cli, a, &bulk, err);
}

static const struct option_spec snapshot_options[] = {
    {"note", 0, "TEXT", "what it was taken for"},
    {"all", 'a', NULL, "of every VE that runs or is stopped"},
    OPT_LABEL,
    OPT_STOP_ON_FAILURE,
    OPT_NO_WAIT,
    END,
};

command_row cmd_snapshot_create = {
    .name = "snapshot create",
    .summary = "take a snapshot of a VE's files",
    .usage = "VE | --all | --label K=V [NAME]",
    .min = 0,
    .max = 2,
    .complete = COMPLETE_VES,
    .options = snapshot_options,
    .run = run_snapshot_create,
    .detail = "A VE that runs goes on: its processes are frozen for the moment that it takes, so "
              "that all files are of one instant. Where the pool shares blocks (btrfs) that is "
              "some milliseconds whatever the size; else the files are copied, and the VE stands "
              "still until that is done. NAME is by default the time. Its parameters are not "
              "part of it. A VE that sleeps is woken for it: a packet that came meanwhile would "
              "let its processes go on.\n\n"
              "With --all or --label a snapshot of each of those VEs is taken, as one job, and of "
              "all NAME is the same. Each VE that fails is named on standard error, the others "
              "are done nevertheless (but with --stop-on-failure), and the exit status is 1.",
    .examples = {"terem snapshot create web1", "terem snapshot create web1 before-upgrade --note "
                                               "'nginx 1.22'"},
};

/* The template's layers go back with the files. */
static void say_earlier(struct cli *cli, const char *name)
{
    auto_str struct str path = str_init(256), says = str_init(1024);
    auto_json json_t *ve = NULL;
    if (cli_ve_path(&path, name, "", NULL) < 0 ||
        cli_call(cli, "GET", str_c(&path), NULL, &ve, NULL) < 0)
        return;
    cli_add_outdated(cli, &says, ve);
    if (says.len)
        cli_say(cli, "%s: %s", name, str_c(&says));
}

static int run_snapshot_rollback(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *body = json_object();
    if (name_check_ve(a->pos[1], err) < 0)
        return err_wrap(err, "snapshot");
    if (cli_timeout_put(body, a, err) < 0)
        return -err->kind;
    json_object_set_new(body, "snapshot", json_string(a->pos[1]));
    json_object_set_new(body, "start", json_boolean(args_has(a, "start")));
    json_object_set_new(body, "restart", json_boolean(args_has(a, "restart")));
    char done[NAME_SIZE + 40];
    bool starts = args_has(a, "start") || args_has(a, "restart");
    str_print(done, sizeof(done), "rolled back to %s%s", a->pos[1], starts ? " and started" : "");
    int r = run_one(cli, a, "/rollback", body, &(struct work_words){"rolling back", done}, err);
    if (r == 0 && cli->status < 0 && !cli->json && !cli->quiet && !args_has(a, "no-wait"))
        say_earlier(cli, a->pos[0]);
    return r;
}

static const struct option_spec rollback_options[] = {
    {"restart", 0, NULL, "also when it runs: stop it first, and start it afterwards"},
    {"start", 0, NULL, "start it afterwards"},
    {"timeout", 't', "TIME", "how long the VE may take to stop before it is killed (default: 30s)"},
    OPT_NO_WAIT,
    END,
};

command_row cmd_snapshot_rollback = {
    .name = "snapshot rollback",
    .summary = "make a VE's files those of a snapshot",
    .usage = "VE NAME",
    .min = 2,
    .max = 2,
    .complete = COMPLETE_VES,
    .complete_more = COMPLETE_SNAPSHOTS,
    .options = rollback_options,
    .run = run_snapshot_rollback,
    .detail = "What changed since then is lost, unless a snapshot has it. All snapshots stay, the "
              "later ones too; the next one is a child of NAME. Parameters, labels and addresses "
              "stay as they are now. A VE that runs is refused without --restart.",
    .examples = {"terem snapshot rollback web1 before-upgrade --start",
                 "terem snapshot rollback web1 before-upgrade --restart"},
};

/* ---- list: a tree ---- */

static void add_row(struct text_table *t, const char *lines, const json_t *snapshot)
{
    auto_str struct str name = str_init(TEXT_MAX), at = str_init(64), note = str_init(4096);
    str_add(&name, "%s%s", lines, cli_text(snapshot, "name"));
    text_add_time(&at, cli_int(snapshot, "created"));
    str_add(&note, "%s%s",
            json_is_true(json_object_get(snapshot, "damaged")) ? "(damaged: its files are missing) "
                                                               : "",
            cli_text(snapshot, "note"));
    text_cell(t, str_c(&name));
    text_cell(t, str_c(&at));
    cli_size_cell(t, snapshot, "own");
    cli_size_cell(t, snapshot, "shared");
    text_cell(t, cli_text_or(snapshot, "schedule", "-"));
    text_cell(t, str_c(&note));
}

static void add_now(struct text_table *t, const char *lines)
{
    auto_str struct str name = str_init(TEXT_MAX);
    str_add(&name, "%s(now)", lines);
    text_cell(t, str_c(&name));
    for (size_t i = 1; i < t->columns; i++)
        text_cell(t, "");
}

struct tree {
    struct text_table *table;
    const json_t *list;
};

static bool is_child(const json_t *s, const char *parent)
{
    return parent ? str_eq(cli_text(s, "parent"), parent) : cli_is_null(s, "parent");
}

/* Those whose parent is `parent` (NULL: none), each with its own below it, and last the VE itself
 * where it stands.  before: what stands in front of them all. */
static void add_branch(struct tree *t, const char *parent, const char *before, bool now)
{
    size_t i, left = now;
    const json_t *s;
    json_array_foreach(t->list, i, s) left += is_child(s, parent);
    json_array_foreach(t->list, i, s)
    {
        if (!is_child(s, parent))
            continue;
        bool last = --left == 0;
        auto_str struct str lines = str_init(TEXT_MAX), below = str_init(TEXT_MAX);
        str_add(&lines, "%s%s", before, !parent ? "" : last ? "└─ " : "├─ ");
        str_add(&below, "%s%s", before, !parent ? "" : last ? "   " : "│  ");
        add_row(t->table, str_c(&lines), s);
        add_branch(t, cli_text(s, "name"), str_c(&below),
                   json_is_true(json_object_get(s, "current")));
    }
    if (now) {
        auto_str struct str lines = str_init(TEXT_MAX);
        str_add(&lines, "%s%s", before, parent ? "└─ " : "");
        add_now(t->table, str_c(&lines));
    }
}

static int run_snapshot_list(struct cli *cli, const struct args *a, struct err *err)
{
    static const char *const heads[] = {"SNAPSHOT", "CREATED", "OWN", "SHARED", "SCHEDULE", "NOTE"};
    auto_str struct str path = str_init(256), out = str_init(TEXT_MAX);
    auto_table struct text_table table = {.columns = ARRAY_SIZE(heads), .right = 0xc};
    auto_json json_t *list = NULL;
    json_t *s;
    size_t i;
    bool stands = false;
    int r = snapshot_path(&path, a->pos[0], NULL, err);
    if (r == 0)
        r = cli_call(cli, "GET", str_c(&path), NULL, &list, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, list, err);
    if (json_array_size(list) == 0 && !cli->quiet) {
        str_add(&out, "%s has no snapshot; terem snapshot create %s takes one.\n", a->pos[0],
                a->pos[0]);
        return cli_out(&out, err);
    }
    for (i = 0; i < ARRAY_SIZE(heads); i++)
        text_cell(&table, heads[i]);
    json_array_foreach(list, i, s)
    {
        stands |= json_is_true(json_object_get(s, "current"));
        if (cli->quiet)
            str_add(&out, "%s\n", cli_text(s, "name"));
    }
    if (!cli->quiet)
        add_branch(&(struct tree){&table, list}, NULL, "", !stands);
    cli_add_table(cli, &out, &table, true, NULL);
    return cli_out(&out, err);
}

command_row cmd_snapshot_list = {
    .name = "snapshot list",
    .summary = "show a VE's snapshots as a tree",
    .usage = "VE",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_VES,
    .run = run_snapshot_list,
    .detail = "Each stands below the one that the VE's files came from when it was taken; (now) is "
              "the VE itself. OWN is what would be free if that snapshot went, SHARED what it has "
              "in common with others; - is not known. With --quiet only the names.",
    .examples = {"terem snapshot list web1"},
};

/* ---- show, rename, note ---- */

static void add_line(struct str *out, const char *head, const char *text)
{
    str_add(out, "%-11s ", head);
    text_add(out, text);
    str_add(out, "\n");
}

/* Going back to it takes the VE to the layers that it had then. */
static void add_template(struct cli *cli, struct str *out, const json_t *s)
{
    auto_str struct str path = str_init(256), text = str_init(512);
    auto_json json_t *t = NULL;
    str_add(&text, "%s", cli_text_or(s, "template", "-"));
    if (cli_template_path(&path, str_c(&text), NULL) == 0 &&
        cli_call(cli, "GET", str_c(&path), NULL, &t, NULL) == 0 &&
        !json_equal(json_object_get(s, "layers"), json_object_get(t, "layers")))
        str_add(&text, ", not the layers of its present revision %lld",
                (long long)cli_int(t, "revision"));
    add_line(out, "template", str_c(&text));
}

static int run_snapshot_show(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256), out = str_init(TEXT_MAX);
    auto_json json_t *s = NULL;
    int r = snapshot_path(&path, a->pos[0], a->pos[1], err);
    if (r == 0)
        r = cli_call(cli, "GET", str_c(&path), NULL, &s, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, s, err);
    add_line(&out, "name", cli_text(s, "name"));
    add_line(&out, "VE", cli_text(s, "ve"));
    add_line(&out, "parent", cli_text_or(s, "parent", "-"));
    str_add(&out, "%-11s ", "created");
    text_add_time(&out, cli_int(s, "created"));
    str_add(&out, " (");
    text_add_age(&out, cli_int(s, "created"), text_now());
    str_add(&out, ")\n");
    add_line(&out, "schedule", cli_text_or(s, "schedule", "-"));
    add_template(cli, &out, s);
    static const char *const sizes[] = {"own", "shared"};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        char buf[NUMBER_TEXT];
        const json_t *v = json_object_get(s, sizes[i]);
        add_line(&out, sizes[i],
                 json_is_integer(v) ? number_format_size((uint64_t)json_integer_value(v), buf)
                                    : "not known");
    }
    add_line(&out, "current",
             json_is_true(json_object_get(s, "current")) ? "yes: the VE stands on it" : "no");
    if (json_is_true(json_object_get(s, "damaged")))
        add_line(&out, "damaged", "its files are missing");
    if (*cli_text(s, "note"))
        add_line(&out, "note", cli_text(s, "note"));
    return cli_out(&out, err);
}

command_row cmd_snapshot_show = {
    .name = "snapshot show",
    .summary = "show one snapshot",
    .usage = "VE NAME",
    .min = 2,
    .max = 2,
    .complete = COMPLETE_VES,
    .complete_more = COMPLETE_SNAPSHOTS,
    .run = run_snapshot_show,
    .detail = "Prints its parent, when and why it was taken, and its sizes.",
    .examples = {"terem snapshot show web1 before-upgrade"},
};

static int change(struct cli *cli, const struct args *a, const json_t *body, const char *done,
                  struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_json json_t *s = NULL;
    int r = snapshot_path(&path, a->pos[0], a->pos[1], err);
    if (r == 0)
        r = cli_call(cli, "PATCH", str_c(&path), body, &s, err);
    if (r < 0)
        return r;
    return cli_answer(cli, s, err, "%s: snapshot %s %s", a->pos[0], a->pos[1], done);
}

static int run_snapshot_rename(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *body = json_object();
    char done[NAME_SIZE + 32];
    if (name_check_ve(a->pos[2], err) < 0)
        return err_wrap(err, "snapshot");
    json_object_set_new(body, "name", json_string(a->pos[2]));
    str_print(done, sizeof(done), "is called %s now", a->pos[2]);
    return change(cli, a, body, done, err);
}

command_row cmd_snapshot_rename = {
    .name = "snapshot rename",
    .summary = "give a snapshot another name",
    .usage = "VE NAME NEW",
    .min = 3,
    .max = 3,
    .complete = COMPLETE_VES,
    .complete_more = COMPLETE_SNAPSHOTS,
    .run = run_snapshot_rename,
    .detail = "One that a schedule took is still counted and deleted by that schedule.",
    .examples = {"terem snapshot rename web1 20261121-210430 good"},
};

static int run_snapshot_note(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *body = json_object();
    int r = put_note(body, a->pos[2], err);
    return r < 0 ? r : change(cli, a, body, "has the note", err);
}

command_row cmd_snapshot_note = {
    .name = "snapshot note",
    .summary = "change the note of a snapshot",
    .usage = "VE NAME TEXT",
    .min = 3,
    .max = 3,
    .complete = COMPLETE_VES,
    .complete_more = COMPLETE_SNAPSHOTS,
    .run = run_snapshot_note,
    .detail = "An empty TEXT takes the note away.",
    .examples = {"terem snapshot note web1 good 'the last one before the move'"},
};

/* ---- delete ---- */

/* Names of all that it has, when whoever is asked agrees. */
static int choose_all(struct cli *cli, const struct args *a, json_t *names, struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_json json_t *list = NULL;
    size_t i, n;
    const json_t *s;
    int r = snapshot_path(&path, a->pos[0], NULL, err);
    if (r == 0)
        r = cli_call(cli, "GET", str_c(&path), NULL, &list, err);
    json_array_foreach(list, i, s) json_array_append(names, json_object_get(s, "name"));
    n = json_array_size(names);
    if (r < 0)
        return r;
    if (n == 0)
        cli_say(cli, "%s has no snapshot", a->pos[0]);
    if (n == 0 || args_has(a, "yes") || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return 0;
    if (n == 1)
        fprintf(stderr, "Delete snapshot %s of %s? ", json_string_value(json_array_get(names, 0)),
                a->pos[0]);
    else
        fprintf(stderr, "Delete all %zu snapshots of %s? ", n, a->pos[0]);
    return cli_agreed() ? 0 : err_set(err, ERR_CANCELLED, "nothing was deleted");
}

static int choose_doomed(struct cli *cli, const struct args *a, json_t *names, struct err *err)
{
    bool all = args_has(a, "all");
    if (all && a->n_pos > 1)
        return err_set(err, ERR_USAGE, "name the snapshots, or give --all: not both");
    if (!all && a->n_pos == 1)
        return err_set(err, ERR_USAGE,
                       "name the snapshots, or give --all; terem snapshot list %s shows them",
                       a->pos[0]);
    for (size_t i = 1; i < a->n_pos; i++)
        if (json_array_append_new(names, json_string(a->pos[i])) < 0)
            return err_set(err, ERR_USAGE, "the name of a snapshot is not valid UTF-8");
    return all ? choose_all(cli, a, names, err) : 0;
}

static int run_snapshot_delete(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *gone = json_array(), *names = json_array();
    size_t i;
    json_t *name;
    int failed = 0, r = choose_doomed(cli, a, names, err);
    if (r < 0)
        return r;
    json_array_foreach(names, i, name)
    {
        auto_str struct str path = str_init(256);
        r = snapshot_path(&path, a->pos[0], json_string_value(name), err);
        if (r == 0)
            r = cli_call(cli, "DELETE", str_c(&path), NULL, NULL, err);
        if (r < 0 && json_array_size(names) == 1)
            return r;
        if (r < 0) {
            cli_complain("%s", err->text);
            failed = r;
            continue;
        }
        json_array_append(gone, name);
        if (!cli->json)
            cli_say(cli, "%s: snapshot %s deleted", a->pos[0], json_string_value(name));
    }
    if (err && failed < 0)
        err->text[0] = '\0'; /* each was told */
    if (cli->json && cli_out_json(cli, gone, err) < 0)
        return -err->kind;
    return failed;
}

static const struct option_spec delete_options[] = {
    {"all", 'a', NULL, "all that the VE has"},
    {"yes", 'y', NULL, "do not ask"},
    END,
};

command_row cmd_snapshot_delete = {
    .name = "snapshot delete",
    .summary = "delete snapshots",
    .usage = "VE NAME... | --all",
    .min = 1,
    .max = ARGS_MAX,
    .complete = COMPLETE_VES,
    .complete_more = COMPLETE_SNAPSHOTS,
    .options = delete_options,
    .run = run_snapshot_delete,
    .detail = "The snapshots below it become those of its parent, and keep all their files. The "
              "space is free a little later. With --all it asks first on a terminal, in a pipe it "
              "does not; the VE's files stay as they are.",
    .examples = {"terem snapshot delete web1 before-upgrade", "terem snapshot delete web1 --all"},
};

/* ---- schedule ---- */

void cli_add_schedule(struct str *s, const json_t *schedule)
{
    const char *key;
    json_t *v;
    bool first = true;
    json_object_foreach((json_t *)schedule, key, v)
    {
        str_add(s, "%s%s (%" JSON_INTEGER_FORMAT " kept)", first ? "" : ", ", key,
                json_integer_value(v));
        first = false;
    }
    if (first)
        str_add(s, "none");
}

static int merge_schedule(const struct args *a, const json_t *ve, json_t **ret, struct err *err)
{
    static const char *const kinds[] = {"hourly", "daily", "weekly"};
    const json_t *now = json_object_get(ve, "schedule");
    bool off = args_has(a, "off");
    size_t given = 0;
    json_t *schedule = json_is_object(now) && !off ? json_deep_copy(now) : json_object();
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        const char *text = args_get(a, kinds[i]);
        uint64_t n;
        if (!text)
            continue;
        given++;
        if (number_parse(text, 0, KEEP_MAX, &n, err) < 0) {
            json_decref(schedule);
            return err_wrap(err, "--%s", kinds[i]);
        }
        json_object_set_new(schedule, kinds[i], json_integer((json_int_t)n));
    }
    if (off && given) {
        json_decref(schedule);
        return err_set(err, ERR_USAGE, "--off stands alone");
    }
    *ret = json_pack("{s:o}", "schedule", schedule);
    return off || given;
}

static int run_snapshot_schedule(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256), words = str_init(256);
    auto_json json_t *ve = NULL, *body = NULL, *changed = NULL;
    int r = cli_ve_path(&path, a->pos[0], "", err);
    if (r == 0)
        r = cli_call(cli, "GET", str_c(&path), NULL, &ve, err);
    if (r < 0 || (r = merge_schedule(a, ve, &body, err)) < 0)
        return r;
    if (r > 0 && (r = cli_call(cli, "PATCH", str_c(&path), body, &changed, err)) < 0)
        return r;
    const json_t *schedule = json_object_get(changed ? changed : ve, "schedule");
    cli_add_schedule(&words, schedule);
    return cli_answer(cli, schedule, err, "%s: automatic snapshots: %s", a->pos[0], str_c(&words));
}

static const struct option_spec schedule_options[] = {
    {"hourly", 0, "COUNT", "take one every full hour, and keep so many of them; 0: none"},
    {"daily", 0, "COUNT", "the same at every midnight"},
    {"weekly", 0, "COUNT", "the same in the night to each Monday"},
    {"off", 0, NULL, "take none any more; those there are stay"},
    END,
};

command_row cmd_snapshot_schedule = {
    .name = "snapshot schedule",
    .summary = "take snapshots by the clock",
    .usage = "VE",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_VES,
    .options = schedule_options,
    .run = run_snapshot_schedule,
    .detail = "They are taken at low priority, by the local time of the node, and are called "
              "hourly-20261121-2100 and so on. Of each kind the newest COUNT are kept. What was "
              "missed while teremd was not there is taken once. One that fails is told as the "
              "event snapshot.failed and is tried at the next time. Where two kinds are due "
              "together one snapshot is taken, of the kind that is kept longer. A VE that sleeps "
              "is woken for each, and falls asleep again. Without an option it tells what is "
              "set.",
    .examples = {"terem snapshot schedule web1 --hourly 24 --daily 7 --weekly 4",
                 "terem snapshot schedule web1 --off"},
};
