/* SPDX-License-Identifier: GPL-2.0-or-later */
/* create, clone, set. */
#include "base/cleanup.h"
#include "base/name.h"
#include "bulk.h"
#include "cli.h"
#include "command.h"
#include "param/param.h"
#include "text.h"
#include "work.h"

#include <stdlib.h>
#include <string.h>

static json_t *words_of(const char *const *w, size_t n)
{
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(a, json_string(w[i]));
    return a;
}

/* Texts of the command line may be any bytes; JSON only takes UTF-8. */
static int put_text(json_t *o, const char *key, const char *value, const char *option,
                    struct err *err)
{
    if (json_object_set_new(o, key, json_string(value)) < 0)
        return err_set(err, ERR_USAGE, "the value of %s is not valid UTF-8", option);
    return 0;
}

/* Parameters are checked here already, by the same table, so that mistakes cost no request.  A
 * value of "default" takes the parameter back where `may_default`. */
int cli_param_put(json_t *params, const char *text, bool may_default, struct err *err)
{
    auto_free char *key = NULL;
    const char *value;
    struct param_value v;
    int r = cli_assignment(text, "a setting such as memory.limit=512M", &key, &value, err);
    if (r < 0)
        return r;
    const struct param_row *row = param_find_err(key, err);
    if (!row)
        return err ? -err->kind : -ERR_NOT_FOUND;
    if (may_default && str_eq(value, "default")) {
        json_object_set_new(params, key, json_null());
        return 0;
    }
    r = param_parse(row, key, value, &v, err);
    return r < 0 ? r : put_text(params, key, value, key, err);
}

static int check_restart(const char *text, struct err *err)
{
    if (!text || str_eq(text, "no") || str_eq(text, "on-failure") || str_eq(text, "always"))
        return 0;
    return err_set(err, ERR_USAGE, "--restart takes no, on-failure or always");
}

static int check_switch(const char *text, bool *ret, const char *option, struct err *err)
{
    *ret = str_eq(text, "on");
    if (*ret || str_eq(text, "off"))
        return 0;
    return err_set(err, ERR_USAGE, "%s takes on or off", option);
}

static int put_priority(json_t *o, const struct args *a, struct err *err)
{
    const char *text = args_get(a, "priority");
    uint64_t n;
    if (!text)
        return 0;
    if (number_parse(text, 0, 1000, &n, err) < 0)
        return err_wrap(err, "--priority");
    json_object_set_new(o, "priority", json_integer((json_int_t)n));
    return 0;
}

static int build_spec(const struct args *a, json_t *spec, struct err *err)
{
    static const char *const texts[] = {"user", "workdir", "restart"};
    const char *text;
    int r = cli_text_put(spec, "template",
                         args_has(a, "template") ? args_get(a, "template") : "busybox", err);
    if (r < 0 || (r = name_check_template(cli_text(spec, "template"), err)) < 0)
        return r;
    json_object_set_new(spec, "name", json_string(a->pos[0]));
    if ((text = args_get(a, "profile"))) {
        if (name_check_ve(text, err) < 0)
            return err_wrap(err, "--profile");
        json_object_set_new(spec, "profile", json_string(text));
    }
    if ((text = args_get(a, "pool"))) {
        if (name_check_ve(text, err) < 0)
            return err_wrap(err, "--pool");
        json_object_set_new(spec, "pool", json_string(text));
    }
    json_t *params = json_object();
    json_object_set_new(spec, "params", params);
    for (size_t i = 0; (text = args_each(a, "set", i)); i++)
        if ((r = cli_param_put(params, text, false, err)) < 0)
            return r;
    r = cli_labels_put(spec, a, err);
    if (r == 0 && args_has(a, "env"))
        r = cli_env_put(spec, a, err);
    if (r == 0)
        r = check_restart(args_get(a, "restart"), err);
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(texts); i++)
        r = cli_text_put(spec, texts[i], args_get(a, texts[i]), err);
    if (args_has(a, "app") || a->n_rest)
        json_object_set_new(spec, "kind", json_string("app"));
    if (a->n_rest) {
        json_t *command = words_of(a->rest, a->n_rest);
        json_object_set_new(spec, "command", command);
        if (json_array_size(command) != a->n_rest)
            return err_set(err, ERR_USAGE, "the command is not valid UTF-8");
    }
    json_object_set_new(spec, "autostart", json_boolean(args_has(a, "autostart")));
    if (r == 0)
        r = put_priority(spec, a, err);
    json_object_set_new(spec, "nesting", json_boolean(args_has(a, "nesting")));
    json_object_set_new(spec, "start", json_boolean(args_has(a, "start")));
    return r;
}

/* A VE whose first start failed is there nevertheless. */
static int tell_made(const struct work *w, int r, struct err *err)
{
    if (r == 0 || !w->doc || !str_eq(cli_text(w->doc, "kind"), "start"))
        return r;
    char why[sizeof(err->text)];
    str_print(why, sizeof(why), "%s", err->text);
    return err_set(err, (enum err_kind)err->kind,
                   "%.300s; it is created and stopped: terem start %s tries again, terem destroy "
                   "%s deletes it",
                   why, w->subject, w->subject);
}

static int run_create(struct cli *cli, const struct args *a, struct err *err)
{
    bool start = args_has(a, "start");
    char done[64];
    const struct work_words words = {start ? "starting" : "creating", done};
    auto_json json_t *spec = json_object();
    /* Who names no template may have meant another one. */
    str_print(done, sizeof(done), "created%s%s",
              args_has(a, "template") ? "" : " from template busybox", start ? " and started" : "");
    int r = name_check_ve(a->pos[0], err);
    if (r == 0)
        r = build_spec(a, spec, err);
    if (r < 0)
        return r;
    struct work *w = work_new(1);
    if (!w || !(w->path = strdup("/v1/ves")))
        r = err_set(err, ERR_EXHAUSTED, "out of memory");
    if (r == 0) {
        w->subject = a->pos[0];
        w->method = "POST";
        w->body = json_incref(spec);
        r = work_run(cli, w, 1, &words, false, args_has(a, "no-wait"), err);
        if (!args_has(a, "no-wait") && !cli->json)
            r = tell_made(w, r, err);
    }
    work_free(w, 1);
    return r;
}

static const struct option_spec create_options[] = {
    {"template", 't', "NAME", "the template it is made from (default: busybox)",
     COMPLETE_TEMPLATES},
    {"profile", 'p', "NAME", "the profile whose parameters it has where --set says nothing else",
     COMPLETE_PROFILES},
    {"set", 's', "KEY=VALUE", "a resource parameter (may be repeated)", COMPLETE_ASSIGNMENTS},
    {"pool", 0, "NAME", "where its files are (default: default)", COMPLETE_POOLS},
    {"label", 'l', "K=V", "a label (may be repeated)", COMPLETE_LABELS},
    {"app", 0, NULL, "an application VE: one command, no init of its own"},
    OPT_ENV,
    OPT_USER,
    OPT_WORKDIR,
    {"autostart", 0, NULL, "start it when the machine starts"},
    {"priority", 0, "N", "of those with autostart the highest start first: 0 to 1000"},
    {"restart", 0, "WHEN", "start it again when it ends: no, on-failure or always", COMPLETE_WORDS,
     "no on-failure always"},
    {"nesting", 0, NULL, "let it run containers of its own inside"},
    {"start", 0, NULL, "start it at once"},
    OPT_NO_WAIT,
    END,
};

command_row cmd_create = {
    .name = "create",
    .summary = "make a VE",
    .usage = "VE [-- COMMAND...]",
    .min = 1,
    .max = 1,
    .rest = REST_DASHES,
    .options = create_options,
    .run = run_create,
    .detail = "Makes a VE from a template. Its name is 1 to 63 of a-z, 0-9 and -. A system VE "
              "boots the init of its template; an application VE (--app, or a COMMAND) runs one "
              "command, by default that of its template.\n\n"
              "Parameters are those of terem-parameters(7).",
    .examples = {"terem create web1 --template debian-12 --start",
                 "terem create web1 -t debian-12 -s memory.limit=1G -s cpu.limit=50 -l tier=web",
                 "terem create job1 -t busybox --start -- /bin/sh -c 'echo hello'"},
};

static int run_clone(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct work_words made = {"cloning", "cloned"};
    static const struct work_words started = {"cloning", "cloned and started"};
    auto_str struct str path = str_init(256);
    auto_json json_t *body = json_object();
    json_t *params = json_object();
    const char *text;
    int r = cli_ve_path(&path, a->pos[0], "/clone", err);
    if (r == 0)
        r = name_check_ve(a->pos[1], err);
    json_object_set_new(body, "name", json_string(a->pos[1]));
    json_object_set_new(body, "params", params);
    for (size_t i = 0; r == 0 && (text = args_each(a, "set", i)); i++)
        r = cli_param_put(params, text, true, err);
    if (r == 0)
        r = cli_labels_put(body, a, err);
    if (r == 0 && (text = args_get(a, "snapshot")) && (r = name_check_ve(text, err)) == 0)
        json_object_set_new(body, "snapshot", json_string(text));
    if (r == 0 && (text = args_get(a, "pool")) && (r = name_check_ve(text, err)) == 0)
        json_object_set_new(body, "pool", json_string(text));
    json_object_set_new(body, "start", json_boolean(args_has(a, "start")));
    return r < 0 ? r
                 : work_one(cli, a->pos[1], "POST", str_steal(&path), json_incref(body),
                            args_has(a, "start") ? &started : &made, args_has(a, "no-wait"), err);
}

static const struct option_spec clone_options[] = {
    {"snapshot", 0, "NAME", "of this snapshot (default: of the files as they are)",
     COMPLETE_SNAPSHOTS},
    {"pool", 0, "NAME", "put its files into this pool (default: that of VE)", COMPLETE_POOLS},
    {"set", 's', "KEY=VALUE",
     "a parameter that is not that of VE; default takes one back (may be "
     "repeated)",
     COMPLETE_ASSIGNMENTS},
    {"label", 'l', "K=V", "a label beside those of VE (may be repeated)", COMPLETE_LABELS},
    {"start", 0, NULL, "start it at once"},
    OPT_NO_WAIT,
    END,
};

command_row cmd_clone = {
    .name = "clone",
    .summary = "make a VE from a copy of another's files",
    .usage = "VE NEW",
    .min = 2,
    .max = 2,
    .complete = COMPLETE_VES,
    .options = clone_options,
    .run = run_clone,
    .detail =
        "NEW has the parameters, profile, labels, template and schedule of snapshots of VE, and "
        "an identity of its own: ids, addresses, host name, machine-id, and SSH host keys. It "
        "has no snapshots. VE may run: it is frozen for the moment that the copy takes, and "
        "its files are of one instant. Where the pool shares blocks (btrfs) the copy takes "
        "no space until one of them writes. Into another pool (--pool) all its files are "
        "copied; only where "
        "the first one shares blocks VE goes on meanwhile.",
    .examples = {"terem clone web1 web2 --start", "terem clone web1 web3 --pool fast",
                 "terem clone web1 test --snapshot before-upgrade --set memory.limit=256M"},
};

/* "tier=web" sets, "tier" removes. */
static int put_label(json_t *changes, const char *text, struct err *err)
{
    auto_free char *key = strndup(text, strcspn(text, "="));
    if (!key)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int r = name_check_label(key, err);
    if (r < 0)
        return r;
    json_t *labels = json_object_get(changes, "labels");
    if (!labels) {
        labels = json_object();
        json_object_set_new(changes, "labels", labels);
    }
    if (!strchr(text, '=')) {
        json_object_set_new(labels, key, json_null());
        return 0;
    }
    return put_text(labels, key, strchr(text, '=') + 1, "--label", err);
}

/* "memory.limit 64M" is two words, and none of them a VE's name.  sure: nor can a parameter without
 * a '.' be one here. */
static int refuse_apart(const struct args *a, size_t names, bool sure, struct err *err)
{
    for (size_t i = 0; i < names; i++) {
        const char *key = a->pos[i];
        size_t next = i + 1 < a->n_pos && str_eq(a->pos[i + 1], "=") ? i + 2 : i + 1;
        auto_str struct str value = str_init(256);
        if (!param_find(key) || !(sure || strchr(key, '.')))
            continue;
        if (next >= a->n_pos || (next == i + 1 && strchr(a->pos[next], '=')))
            return err_set(err, ERR_USAGE, "%s needs a value: %s=VALUE", key, key);
        str_escape(&value, a->pos[next], strnlen(a->pos[next], 40));
        return err_set(err, ERR_USAGE, "%s and its value must be one word: write %s=%s", key, key,
                       str_c(&value));
    }
    if (!names && !sure && a->n_pos > 1 && name_check_ve(a->pos[a->n_pos - 1], NULL) == 0)
        return err_set(err, ERR_USAGE, "the VE comes first: terem set %s %.200s",
                       a->pos[a->n_pos - 1], a->pos[0]);
    return 0;
}

static int nothing_to_change(const struct args *a, size_t names, struct err *err)
{
    int r = refuse_apart(a, names, true, err);
    return r < 0 ? r
                 : err_set(err, ERR_USAGE,
                           "terem set needs something to change, such as memory.limit=512M");
}

/* "autostart=on": elsewhere a setting as any other. */
static int refuse_option(const struct args *a, const char *text, struct err *err)
{
    size_t n = strcspn(text, "=");
    for (const struct option_spec *o = a->command->options; o->name; o++)
        if (o->arg && strlen(o->name) == n && strncmp(o->name, text, n) == 0)
            return err_set(err, ERR_USAGE, "%s is no parameter; use --%s %.60s", o->name, o->name,
                           text + n + 1);
    return 0;
}

static int build_changes(const struct args *a, size_t names, json_t *changes, struct err *err)
{
    const char *text;
    int r = 0;
    json_t *params = json_object();
    for (size_t i = names; r == 0 && i < a->n_pos; i++)
        if ((r = refuse_option(a, a->pos[i], err)) == 0)
            r = cli_param_put(params, a->pos[i], true, err);
    if (json_object_size(params))
        json_object_set(changes, "params", params);
    json_decref(params);
    for (size_t i = 0; r == 0 && (text = args_each(a, "label", i)); i++)
        r = put_label(changes, text, err);
    if (r == 0 && (text = args_get(a, "autostart"))) {
        bool on;
        r = check_switch(text, &on, "--autostart", err);
        json_object_set_new(changes, "autostart", json_boolean(on));
    }
    if (r == 0)
        r = put_priority(changes, a, err);
    if (r == 0 && (text = args_get(a, "restart"))) {
        r = check_restart(text, err);
        json_object_set_new(changes, "restart", json_string(text));
    }
    if (r == 0 && (text = args_get(a, "profile"))) {
        bool none = str_eq(text, "none");
        if (!none && name_check_ve(text, err) < 0)
            return err_wrap(err, "--profile");
        json_object_set_new(changes, "profile", none ? json_null() : json_string(text));
    }
    if (r == 0 && (text = args_get(a, "name"))) {
        r = name_check_ve(text, err);
        json_object_set_new(changes, "name", json_string(text));
    }
    if (r == 0 && json_object_size(changes) == 0)
        r = nothing_to_change(a, names, err);
    if (args_has(a, "force"))
        json_object_set_new(changes, "force", json_true());
    return r;
}

/* Of what was changed now. */
static void say_pending(struct cli *cli, const json_t *ve, const json_t *changes)
{
    size_t i;
    json_t *key;
    json_array_foreach(
        json_object_get(ve, "pending"), i,
        key) if (json_object_get(json_object_get(changes, "params"), json_string_value(key)))
        cli_say(cli, "%s: %s takes effect at the next start", cli_text(ve, "name"),
                json_string_value(key));
}

/* What it has of its own, which a profile that it was given does not change. */
static void say_own(struct cli *cli, const json_t *ve)
{
    auto_str struct str s = str_init(TEXT_MAX);
    const char *key;
    json_t *v;
    json_object_foreach(json_object_get(ve, "params"), key,
                        v) if (json_object_get(json_object_get(ve, "profile_params"), key))
        str_add(&s, "%s%s", s.len ? ", " : "", key);
    if (s.len)
        cli_say(cli,
                "%s: its own values stay, before those of profile %s: %s; terem set %s KEY=default "
                "gives one up",
                cli_text(ve, "name"), cli_text(ve, "profile"), str_c(&s), cli_text(ve, "name"));
}

/* As say_pending(), of many: which of them run is not asked. */
static void say_restart(struct cli *cli, const json_t *changes)
{
    const char *key;
    json_t *v;
    json_object_foreach(json_object_get(changes, "params"), key, v)
    {
        const struct param_row *row = param_find(key);
        if (row && row->flags & PARAM_RESTART)
            cli_say(cli, "%s takes effect at the next start of each VE that runs", key);
    }
}

static int set_many(struct cli *cli, const struct args *a, size_t names, const json_t *changes,
                    struct err *err)
{
    const struct bulk bulk = {.verb = "set",
                              .words = {"changing", "set"},
                              .options = changes,
                              .names = names ? a->pos : NULL,
                              .n = names,
                              .label_option = "select"};
    if (json_object_get(changes, "name"))
        return err_set(err, ERR_USAGE, "many VEs cannot have one name");
    int r = bulk_run(cli, a, &bulk, err);
    if (r == 0 && !cli->json)
        say_restart(cli, changes);
    return r;
}

static int run_set(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_json json_t *changes = json_object(), *ve = NULL;
    size_t names = 0;
    while (names < a->n_pos && !strchr(a->pos[names], '='))
        names++;
    int r = refuse_apart(a, names, args_has(a, "all") || args_has(a, "select"), err);
    if (r == 0)
        r = bulk_is_meant(a, names, "select", err);
    bool many = r > 0;
    if (r >= 0)
        r = build_changes(a, names, changes, err);
    if (r == 0 && many)
        return set_many(cli, a, names, changes, err);
    if (r == 0)
        r = cli_ve_path(&path, a->pos[0], "", err);
    if (r == 0)
        r = cli_call(cli, "PATCH", str_c(&path), changes, &ve, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, ve, err);
    cli_say(cli, "%s: set", cli_text(ve, "name"));
    say_pending(cli, ve, changes);
    if (args_has(a, "profile"))
        say_own(cli, ve);
    return 0;
}

static const struct option_spec set_options[] = {
    {"profile", 'p', "NAME", "have the parameters of this profile; none: of no profile",
     COMPLETE_PROFILES},
    {"label", 'l', "K[=V]", "set a label; without =V remove it (may be repeated)", COMPLETE_LABELS},
    {"autostart", 0, "on|off", "start it when the machine starts", COMPLETE_WORDS, "on off"},
    {"priority", 0, "N", "of those with autostart the highest start first: 0 to 1000"},
    {"restart", 0, "WHEN", "start it again when it ends: no, on-failure or always", COMPLETE_WORDS,
     "no on-failure always"},
    {"name", 0, "NAME", "give it another name"},
    {"force", 'f', NULL, "also set a limit below what is in use, with what that does"},
    {"all", 'a', NULL, "every VE"},
    {"select", 's', "K=V", "every VE that has this label", COMPLETE_LABELS},
    OPT_STOP_ON_FAILURE,
    END,
};

command_row cmd_set = {
    .name = "set",
    .summary = "change parameters and settings of VEs",
    .usage = "VE... | --all | --select K=V [KEY=VALUE...]",
    .min = 0,
    .max = ARGS_MAX,
    .complete = COMPLETE_VES,
    .complete_more = COMPLETE_ASSIGNMENTS,
    .options = set_options,
    .run = run_set,
    .detail =
        "All changes are made together or not at all, and live unless terem-parameters(7) says "
        "otherwise. KEY=default takes the parameter's default again. A limit below what is in use "
        "is refused with what it would do; --force does it. Of several VEs each is changed by "
        "itself: one that fails is named, and the others are changed nevertheless.",
    .examples = {"terem set web1 memory.limit=1G cpu.limit=200", "terem set web1 --label tier=db",
                 "terem set --select tier=db memory.limit=4G",
                 "terem set web1 cpu.limit=default --autostart on"},
};
