/* SPDX-License-Identifier: GPL-2.0-or-later */
/* start, stop, restart, kill, pause, resume, squeeze, update, destroy: of VEs by name, by label, or
 * all. */
#include "base/cleanup.h"
#include "bulk.h"
#include "cli.h"
#include "command.h"
#include "text.h"
#include "work.h"

#include "base/name.h"
#include "base/number.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct life {
    const char *verb;
    struct work_words words;
};

static const struct life lives[] = {
    {"start", {"starting", "started"}},
    {"stop", {"stopping", "stopped"}},
    {"restart", {"restarting", "restarted"}},
    {"kill", {"killing", "killed"}},
    {"pause", {"pausing", "paused"}},
    {"resume", {"resuming", "resumed"}},
    {"squeeze", {"squeezing", NULL}},
    {"destroy", {"destroying", NULL}},
    {"update", {"updating", "updated", "left as it is"}},
};
static const struct work_words checking = {"checking", "checked"}; /* update --check */

static void free_names(char ***names)
{
    for (size_t i = 0; *names && (*names)[i]; i++)
        free((*names)[i]);
    free(*names);
    *names = NULL;
}

struct spared { /* by destroy --all or --label, as they run */
    struct str names;
    size_t n;
};

static void spared_done(struct spared *s)
{
    str_done(&s->names);
}

/* "web1, web2 and 3 more are not stopped; terem destroy --all --force destroys them, too" */
static void add_spared(struct str *out, struct spared *s, const char *label)
{
    str_end_names(&s->names, s->n);
    str_add(out, "%s %s not stopped; terem destroy %s%s --force destroys %s, too", str_c(&s->names),
            s->n == 1 ? "is" : "are", label ? "--label " : "--all", label ? label : "",
            s->n == 1 ? "it" : "them");
}

/* The VEs that destroy --all or --label means: who is asked sees their names. */
static int select_doomed(struct cli *cli, const struct args *a, char ***ret, size_t *ret_n,
                         struct spared *spared, struct err *err)
{
    auto_json json_t *ves = NULL;
    const char *label = args_get(a, "label");
    int r = cli_list_ves(cli, label, "name,state", &ves, err);
    if (r < 0)
        return r;
    size_t n = json_array_size(ves), k = 0;
    auto_clean(free_names) char **names = calloc(n + 1, sizeof(*names));
    for (size_t i = 0; names && i < n; i++) {
        const json_t *ve = json_array_get(ves, i);
        const char *state = cli_text(ve, "state");
        if (!args_has(a, "force") && !str_eq(state, "stopped") && !str_eq(state, "broken")) {
            str_add_name(&spared->names, &spared->n, cli_text(ve, "name"));
            continue;
        }
        if (!(names[k++] = strdup(cli_text(ve, "name"))))
            return err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    if (!names)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (label && n == 0 && !cli->quiet) /* as bulk.c tells it of the others */
        cli_complain("no VE has the label %s", label);
    else if (k == 0 && spared->n == 0)
        cli_say(cli, "no VE to destroy");
    *ret = steal_ptr(&names);
    *ret_n = k;
    return 0;
}

/* The body of stop, restart and squeeze, query of destroy. */
static int options_of(const struct args *a, json_t **ret_body, struct err *err)
{
    const char *to = args_get(a, "to");
    uint64_t bytes;
    bool update = str_eq(a->command->name, "update");
    bool force = args_has(a, "force") || args_has(a, "fast");
    if (args_has(a, "timeout") || to || update || force)
        *ret_body = json_object();
    if (update) {
        if (cli_text_put(*ret_body, "to", to, err) < 0)
            return -err->kind;
        json_object_set_new(*ret_body, "check", json_boolean(args_has(a, "check")));
        json_object_set_new(*ret_body, "restart", json_boolean(args_has(a, "restart")));
    } else if (to) {
        int r = number_parse_size(to, &bytes, err);
        if (r < 0)
            return err_wrap(err, "--to");
        json_object_set_new(*ret_body, "to", json_string(to));
    }
    if (force)
        json_object_set_new(*ret_body, "force", json_true());
    return cli_seconds_put(*ret_body, "timeout", a, err);
}

static json_int_t count_snapshots(struct cli *cli, const char *const *names, size_t n)
{
    auto_json json_t *ves = NULL;
    json_int_t sum = 0;
    size_t i;
    json_t *ve;
    if (cli_list_ves(cli, NULL, "name,snapshots", &ves, &(struct err){0}) < 0)
        return 0;
    json_array_foreach(ves, i, ve)
    {
        for (size_t k = 0; k < n; k++)
            if (str_eq(cli_text(ve, "name"), names[k]))
                sum += cli_int(ve, "snapshots");
    }
    return sum;
}

static int confirm_destroy(struct cli *cli, const struct args *a, const char *const *names,
                           size_t n, struct err *err)
{
    char snapshots[48] = "";
    if (args_has(a, "yes") || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return 0;
    json_int_t with = count_snapshots(cli, names, n);
    if (with)
        str_print(snapshots, sizeof(snapshots), ", with %" JSON_INTEGER_FORMAT " snapshot%s", with,
                  with == 1 ? "" : "s");
    if (n == 1)
        fprintf(stderr, "Destroy %s and all its files%s? ", names[0], snapshots);
    else
        fprintf(stderr, "Destroy these %zu VEs and all their files%s?\n", n, snapshots);
    for (size_t i = 0; n > 1 && i < n; i++)
        fprintf(stderr, "%s%s", names[i], i + 1 < n ? " " : "\n");
    return cli_agreed() ? 0 : err_set(err, ERR_CANCELLED, "nothing was destroyed");
}

/* Of update --check: what is still to be done. */
static void add_next(struct cli *cli, struct str *out, const char *name, const char *template)
{
    auto_str struct str path = str_init(256);
    auto_json json_t *ve = NULL;
    if (cli_ve_path(&path, name, "", NULL) < 0 ||
        cli_call(cli, "GET", str_c(&path), NULL, &ve, NULL) < 0)
        return;
    bool runs = !str_eq(cli_text(ve, "state"), "stopped");
    str_add(out, "; it was not moved: %sterem update %s%s", runs ? "it runs, and " : "",
            runs ? "--restart " : "", name);
    if (!str_eq(cli_text(ve, "template"), template)) {
        str_add(out, " --to ");
        text_add(out, template);
    }
    str_add(out, " does that");
}

/* Of update: what of a VE's own hides what has changed below it. */
static int show_conflicts(struct cli *cli, const char *name, const json_t *report, struct err *err)
{
    auto_str struct str out = str_init(TEXT_MAX);
    const json_t *list = json_object_get(report, "conflicts");
    json_int_t count = cli_int(report, "count");
    size_t i;
    json_t *v;
    if (!report || cli->json)
        return 0;
    str_add(&out, "%s: ", name);
    if (json_is_true(json_object_get(report, "current")))
        str_add(&out, "it has what template ");
    else if (count == 0)
        str_add(&out, "no file of its own hides what has changed in template ");
    else
        str_add(&out, "%lld file%s of its own hide%s what has changed in template ",
                (long long)count, count == 1 ? "" : "s", count == 1 ? "s" : "");
    text_add(&out, cli_text(report, "template"));
    bool current = json_is_true(json_object_get(report, "current"));
    str_add(&out, "%s (revision %lld)", current ? " has now" : "",
            (long long)cli_int(report, "revision"));
    if (!current && !json_is_true(json_object_get(report, "updated")))
        add_next(cli, &out, name, cli_text(report, "template"));
    str_add(&out, "\n");
    json_array_foreach(list, i, v)
    {
        str_add(&out, "  %-9s ", cli_text(v, "kind"));
        text_add(&out, cli_text(v, "path"));
        str_add(&out, "\n");
    }
    if ((size_t)count > json_array_size(list))
        str_add(&out, "  and %lld more\n", (long long)count - (long long)json_array_size(list));
    return cli_out(&out, err);
}

static int show_item_conflicts(struct cli *cli, const json_t *item, struct err *err)
{
    return show_conflicts(cli, cli_text(item, "ve"), json_object_get(item, "result"), err);
}

static int run_one(struct cli *cli, const struct args *a, const struct bulk *bulk, json_t *body,
                   struct err *err)
{
    auto_str struct str path = str_init(512);
    const char *name = a->pos[0];
    bool destroy = str_eq(bulk->verb, "destroy");
    int r = cli_ve_path(&path, name, destroy ? "" : "/", err);
    if (r < 0)
        return r;
    str_add(&path, "%s", !destroy ? bulk->verb : args_has(a, "force") ? "?force=true" : "");
    struct work *w = work_new(1);
    if (w) {
        w->subject = name;
        w->method = destroy ? "DELETE" : "POST";
        w->path = str_steal(&path);
        w->body = destroy ? NULL : json_incref(body);
    }
    if (!w || !w->path)
        r = err_set(err, ERR_EXHAUSTED, "out of memory");
    else
        r = work_run(cli, w, 1, &bulk->words, true, args_has(a, "no-wait"), err);
    if (r == 0 && str_eq(bulk->verb, "update") && !args_has(a, "no-wait"))
        r = show_conflicts(cli, name, json_object_get(w->doc, "result"), err);
    work_free(w, 1);
    return r;
}

/* Those that run are left out of what all means, which is told at the end; where only they are
 * left nothing was done, and that is an error. */
static int destroy_chosen(struct cli *cli, const struct args *a, struct bulk *bulk, struct err *err)
{
    auto_clean(free_names) char **chosen = NULL;
    auto_clean(spared_done) struct spared spared = {.names = str_init(TEXT_MAX)};
    auto_str struct str left = str_init(TEXT_MAX);
    if (select_doomed(cli, a, &chosen, &bulk->n, &spared, err) < 0)
        return -err->kind;
    if (spared.n)
        add_spared(&left, &spared, args_get(a, "label"));
    if (bulk->n == 0 && spared.n)
        return err_set(err, ERR_STATE, "nothing was destroyed: %s", str_c(&left));
    if (bulk->n == 0 && !cli->json)
        return 0;
    bulk->names = (const char *const *)chosen;
    if (bulk->n && confirm_destroy(cli, a, bulk->names, bulk->n, err) < 0)
        return -err->kind;
    int r = bulk_run(cli, a, bulk, err);
    if (spared.n && !cli->died_of && !args_has(a, "no-wait")) /* which prints a number alone */
        cli_say(cli, "%s", str_c(&left));
    return r;
}

static const struct life *life_find(const char *verb)
{
    for (size_t i = 0; i < ARRAY_SIZE(lives); i++)
        if (str_eq(lives[i].verb, verb))
            return &lives[i];
    return NULL;
}

/* Each of these commands is called as its verb is. */
static int run_life(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *body = NULL;
    const struct life *life = life_find(a->command->name);
    if (!life)
        return err_set(err, ERR_INTERNAL, "%s has no row of its words", a->command->name);
    bool destroy = str_eq(life->verb, "destroy"), update = str_eq(life->verb, "update");
    struct bulk bulk = {.verb = life->verb, .words = life->words, .label_option = "label"};
    int many = bulk_is_meant(a, a->n_pos, "label", err);
    if (many < 0 || options_of(a, &body, err) < 0)
        return -err->kind;
    bulk.options = body;
    bulk.names = a->n_pos ? a->pos : NULL;
    bulk.n = a->n_pos;
    if (update)
        bulk.item = show_item_conflicts;
    if (update && args_has(a, "check"))
        bulk.words = checking;
    if (destroy && !bulk.names)
        return destroy_chosen(cli, a, &bulk, err);
    if (destroy && bulk.n && confirm_destroy(cli, a, bulk.names, bulk.n, err) < 0)
        return -err->kind;
    return many ? bulk_run(cli, a, &bulk, err) : run_one(cli, a, &bulk, body, err);
}

void life_bulk(const char *verb, struct bulk *bulk)
{
    const struct life *life = life_find(verb);
    if (!life)
        return;
    bulk->words = life->words;
    if (str_eq(verb, "update")) { /* or only looked, which its items tell */
        bulk->words.done = "done";
        bulk->item = show_item_conflicts;
    }
}

#define LIFE_USAGE "VE... | --all | --label K=V"
#define LIFE                                                                  \
    .usage = LIFE_USAGE, .min = 0, .max = ARGS_MAX, .complete = COMPLETE_VES, \
    .complete_more = COMPLETE_VES
#define LIFE_DETAIL                                                                              \
    "Several VEs are one job of teremd, which works on as many at a time as the machine bears: " \
    "fewer while memory or disks stall. VEs that fail or are cancelled are named on standard "   \
    "error at the end, those of one cause together, the first five of them; terem jobs show "    \
    "JOB --json names each. The others are done nevertheless (but with --stop-on-failure), and " \
    "the exit status "                                                                           \
    "is 1. With --all or --label there may be none: that is told, and is no failure. The job "   \
    "goes on after a crash of teremd.\n\n"                                                       \
    "SIGINT (Ctrl-C) ends the waiting, not the work: terem jobs wait waits for it "              \
    "again, and terem jobs cancel ends it."

#define NO_MORE_STARTS                                                              \
    "With --all or --label a start of many that is under way begins none of those " \
    "VEs any more."

static const struct option_spec life_options[] = {OPT_ALL, OPT_LABEL, OPT_STOP_ON_FAILURE,
                                                  OPT_NO_WAIT, END};

command_row cmd_start = {
    .name = "start",
    .summary = "start VEs",
    LIFE,
    .options = life_options,
    .run = run_life,
    .detail = LIFE_DETAIL,
    .examples = {"terem start web1 web2", "terem start --label tier=web"},
};

static const struct option_spec stop_options[] = {
    OPT_ALL,
    OPT_LABEL,
    OPT_STOP_ON_FAILURE,
    {"timeout", 't', "TIME", "how long the VE may take before it is killed (default: 30s)"},
    {"force", 'f', NULL, "kill it at once"},
    {"fast", 0, NULL, "the same as --force"},
    OPT_NO_WAIT,
    END,
};

command_row cmd_stop = {
    .name = "stop",
    .summary = "shut VEs down",
    LIFE,
    .options = stop_options,
    .run = run_life,
    .detail = "Asks the VE's init to power off, and kills what is left when the time is "
              "over. " NO_MORE_STARTS "\n\n" LIFE_DETAIL,
    .examples = {"terem stop web1", "terem stop --all --timeout 2m", "terem stop --all --fast"},
};

command_row cmd_restart = {
    .name = "restart",
    .summary = "shut VEs down and start them again",
    LIFE,
    .options = stop_options,
    .run = run_life,
    .detail = LIFE_DETAIL,
    .examples = {"terem restart web1"},
};

command_row cmd_kill = {
    .name = "kill",
    .summary = "kill every process of VEs at once",
    LIFE,
    .options = life_options,
    .run = run_life,
    .detail = "Like pulling the plug: nothing inside is asked. " NO_MORE_STARTS "\n\n" LIFE_DETAIL,
    .examples = {"terem kill web1"},
};

command_row cmd_pause = {
    .name = "pause",
    .summary = "freeze VEs where they stand",
    LIFE,
    .options = life_options,
    .run = run_life,
    .detail = "The processes keep their memory and get no processor time.\n\n" LIFE_DETAIL,
    .examples = {"terem pause web1"},
};

command_row cmd_resume = {
    .name = "resume",
    .summary = "let paused VEs go on",
    LIFE,
    .options = life_options,
    .run = run_life,
    .detail = LIFE_DETAIL,
    .examples = {"terem resume web1"},
};

static int run_squeeze(struct cli *cli, const struct args *a, struct err *err)
{
    /* No VE has capital letters in its name. */
    for (size_t i = 0; i < a->n_pos; i++) {
        size_t digits = strspn(a->pos[i], "0123456789.");
        if (digits && a->pos[i][digits] && strchr("KMGTP", a->pos[i][digits]) &&
            !a->pos[i][digits + 1])
            return err_set(err, ERR_USAGE, "%s is a size and no VE; use --to %s", a->pos[i],
                           a->pos[i]);
    }
    return run_life(cli, a, err);
}

static const struct option_spec squeeze_options[] = {
    OPT_ALL,
    OPT_LABEL,
    OPT_STOP_ON_FAILURE,
    {"to", 0, "SIZE", "how much memory the VE may keep (default: what it uses now)"},
    OPT_NO_WAIT,
    END,
};

command_row cmd_squeeze = {
    .name = "squeeze",
    .summary = "push cold memory of VEs to swap",
    LIFE,
    .options = squeeze_options,
    .run = run_squeeze,
    .detail = "What an idle VE holds and does not use is given back to the node: memory of its "
              "processes goes to swap or zram, what was used longest ago first, and page cache "
              "is dropped; it comes back when it is used again. It ends when what was given back "
              "is wanted again at once, or, with --to, when the VE holds no more than that. The "
              "work is done at idle priority. Where the node has no swap, or swap.limit is 0, "
              "only page cache is given back. With zram a part of what went there is still in "
              "memory, compressed, and no longer counted as the VE's.\n\n" LIFE_DETAIL,
    .examples = {"terem squeeze web1", "terem squeeze --all --to 64M"},
};

static const struct option_spec destroy_options[] = {
    OPT_ALL,
    OPT_LABEL,
    OPT_STOP_ON_FAILURE,
    {"force", 'f', NULL, "also when it runs: kill it first"},
    {"yes", 'y', NULL, "do not ask"},
    OPT_NO_WAIT,
    END,
};

command_row cmd_destroy = {
    .name = "destroy",
    .summary = "delete VEs with all their files",
    LIFE,
    .options = destroy_options,
    .run = run_life,
    .detail =
        "There is no way back. On a terminal it asks first, in a pipe it does not. A VE "
        "that runs is refused without --force; --all and --label mean those that are "
        "stopped or broken, with --force all. Those that are left out are named at the end; where "
        "there are only such nothing is done, and the exit status is 1.\n\n" LIFE_DETAIL,
    .examples = {"terem destroy web1", "terem destroy --label tier=test --force --yes"},
};

static const struct option_spec update_options[] = {
    OPT_ALL,
    OPT_LABEL,
    OPT_STOP_ON_FAILURE,
    {"to", 0, "TEMPLATE", "to this template (default: the one that it was made from)",
     COMPLETE_TEMPLATES},
    {"check", 0, NULL, "only report what would be in conflict"},
    {"restart", 0, NULL, "stop those that run, and start them again"},
    {"timeout", 't', "TIME", "how long such a VE may take to stop (default: 30s)"},
    OPT_NO_WAIT,
    END,
};

command_row cmd_update = {
    .name = "update",
    .summary = "move VEs to the present revision of their template",
    LIFE,
    .options = update_options,
    .run = run_life,
    .detail =
        "A VE stays on the layers that its template had when it was made. After terem template "
        "update this moves it to the new ones, or with --to to those of another template; what it "
        "wrote itself stays on top. Files of its own that hide one which differs between the old "
        "layers and the new are listed: modified in the new layers, added there, removed there, "
        "deleted here and modified there, or of another type. Nothing is merged: what the VE "
        "shows there is its own file. The list of installed packages is such a file in "
        "every VE that has installed some.\n\n"
        "A VE that runs is refused without --restart. One that has what its template has now is "
        "left alone, also with --restart. An application VE keeps its command and "
        "environment.\n\n" LIFE_DETAIL,
    .examples = {"terem update --check web1", "terem update --restart --label tier=web",
                 "terem update web1 --to debian-13"},
};
