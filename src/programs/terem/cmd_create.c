/* SPDX-License-Identifier: GPL-2.0-or-later */
/* create, set. */
#include "base/cleanup.h"
#include "base/name.h"
#include "cli.h"
#include "command.h"
#include "param/param.h"
#include "work.h"

#include <stdlib.h>
#include <string.h>

static json_t *words(const char *const *w, size_t n)
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
    r = param_parse(row, value, &v, err);
    return r < 0 ? r : put_text(params, key, value, key, err);
}

static int put_pairs(json_t *spec, const char *member, const struct args *a, const char *option,
                     const char *what, struct err *err)
{
    const char *text;
    json_t *o = json_object();
    json_object_set_new(spec, member, o);
    for (size_t i = 0; (text = args_each(a, option, i)); i++) {
        auto_free char *key = NULL;
        const char *value;
        int r = cli_assignment(text, what, &key, &value, err);
        if (r == 0 && str_eq(option, "label"))
            r = name_check_label(key, err);
        if (r == 0)
            r = put_text(o, key, value, option, err);
        if (r < 0)
            return r;
    }
    return 0;
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

static int build_spec(const struct args *a, json_t *spec, struct err *err)
{
    static const char *const texts[] = {"user", "workdir", "restart"};
    const char *text;
    int r =
        put_text(spec, "template", args_has(a, "template") ? args_get(a, "template") : "busybox",
                 "--template", err);
    if (r < 0 || (r = name_check_template(cli_text(spec, "template"), err)) < 0)
        return r;
    json_object_set_new(spec, "name", json_string(a->pos[0]));
    if ((text = args_get(a, "profile"))) {
        if (name_check_ve(text, err) < 0)
            return err_wrap(err, "--profile");
        json_object_set_new(spec, "profile", json_string(text));
    }
    json_t *params = json_object();
    json_object_set_new(spec, "params", params);
    for (size_t i = 0; (text = args_each(a, "set", i)); i++)
        if ((r = cli_param_put(params, text, false, err)) < 0)
            return r;
    r = put_pairs(spec, "labels", a, "label", "a label such as tier=web", err);
    if (r == 0 && args_has(a, "env"))
        r = put_pairs(spec, "env", a, "env", "a variable such as LANG=C.UTF-8", err);
    if (r == 0)
        r = check_restart(args_get(a, "restart"), err);
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(texts); i++)
        if ((text = args_get(a, texts[i])))
            r = put_text(spec, texts[i], text, texts[i], err);
    if (args_has(a, "app") || a->n_rest)
        json_object_set_new(spec, "kind", json_string("app"));
    if (a->n_rest) {
        json_t *command = words(a->rest, a->n_rest);
        json_object_set_new(spec, "command", command);
        if (json_array_size(command) != a->n_rest)
            return err_set(err, ERR_USAGE, "the command is not valid UTF-8");
    }
    json_object_set_new(spec, "autostart", json_boolean(args_has(a, "autostart")));
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

int cmd_create(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct work_words made = {"creating", "created"};
    static const struct work_words started = {"starting", "created and started"};
    auto_json json_t *spec = json_object();
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
        r = work_run(cli, w, 1, args_has(a, "start") ? &started : &made, false,
                     args_has(a, "no-wait"), err);
        if (!args_has(a, "no-wait") && !cli->json)
            r = tell_made(w, r, err);
    }
    work_free(w, 1);
    return r;
}

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

static int build_changes(const struct args *a, json_t *changes, struct err *err)
{
    const char *text;
    int r = 0;
    json_t *params = json_object();
    for (size_t i = 1; r == 0 && i < a->n_pos; i++)
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
        r = err_set(err, ERR_USAGE,
                    "terem set needs something to change, such as memory.limit=512M");
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

int cmd_set(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_json json_t *changes = json_object(), *ve = NULL;
    int r = cli_ve_path(&path, a->pos[0], "", err);
    if (r == 0)
        r = build_changes(a, changes, err);
    if (r == 0)
        r = cli_call(cli, "PATCH", str_c(&path), changes, &ve, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, ve, err);
    cli_say(cli, "%s: set", cli_text(ve, "name"));
    say_pending(cli, ve, changes);
    return 0;
}
