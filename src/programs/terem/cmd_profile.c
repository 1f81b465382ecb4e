/* SPDX-License-Identifier: GPL-2.0-or-later */
/* profile list, show, create, set, remove. */
#include "base/cleanup.h"
#include "base/name.h"
#include "cli.h"
#include "command.h"
#include "param/param.h"
#include "text.h"
#include "ve_text.h"

static int profile_path(struct str *path, const char *name, struct err *err)
{
    int r = name_check_ve(name, err);
    if (r < 0)
        return err_wrap(err, "profile");
    str_add(path, "/v1/profiles/%s", name);
    return 0;
}

int cmd_profile_list(struct cli *cli, const struct args *a, struct err *err)
{
    static const char *const heads[] = {"PROFILE", "VES", "PARAMETERS"};
    auto_str struct str out = str_init(TEXT_MAX);
    auto_table struct text_table t = {.columns = 3, .right = 0x2};
    auto_json json_t *list = NULL;
    json_t *profile;
    size_t i;
    int r = cli_call(cli, "GET", "/v1/profiles", NULL, &list, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, list, err);
    for (i = 0; i < ARRAY_SIZE(heads); i++)
        text_cell(&t, heads[i]);
    json_array_foreach(list, i, profile)
    {
        auto_str struct str pairs = str_init(TEXT_MAX);
        if (cli->quiet) {
            text_add(&out, cli_text(profile, "name"));
            str_add(&out, "\n");
            continue;
        }
        ve_text_pairs(&pairs, json_object_get(profile, "params"), " ");
        text_cell(&t, cli_text(profile, "name"));
        text_cellf(&t, "%zu", json_array_size(json_object_get(profile, "ves")));
        text_cell(&t, str_c(&pairs));
    }
    if (!cli->quiet)
        text_table_render(&t, &out, cli->out_tty ? cli_columns(1) : 0);
    return cli_out(&out, err);
}

int cmd_profile_show(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_str struct str out = str_init(TEXT_MAX);
    auto_json json_t *profile = NULL;
    size_t i;
    json_t *ve;
    int r = profile_path(&path, a->pos[0], err);
    if (r == 0)
        r = cli_call(cli, "GET", str_c(&path), NULL, &profile, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, profile, err);
    str_add(&out, "name        ");
    text_add(&out, cli_text(profile, "name"));
    str_add(&out, "\nparameters  ");
    ve_text_pairs(&out, json_object_get(profile, "params"), "\n            ");
    str_add(&out, "\nused by     ");
    json_array_foreach(json_object_get(profile, "ves"), i, ve)
    {
        str_add(&out, "%s", i ? "\n            " : "");
        text_add(&out, json_string_value(ve));
    }
    str_add(&out, i ? "\n" : "no VE\n");
    return cli_out(&out, err);
}

static int put_params(const struct args *a, bool may_default, json_t *body, struct err *err)
{
    json_t *params = json_object();
    json_object_set_new(body, "params", params);
    for (size_t i = 1; i < a->n_pos; i++) {
        int r = cli_param_put(params, a->pos[i], may_default, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int tell(struct cli *cli, const json_t *profile, const char *done, struct err *err)
{
    size_t n = json_array_size(json_object_get(profile, "ves"));
    if (cli->json)
        return cli_out_json(cli, profile, err);
    if (n)
        cli_say(cli, "profile %s: %s, and applied to %zu VE%s", cli_text(profile, "name"), done, n,
                n == 1 ? "" : "s");
    else
        cli_say(cli, "profile %s: %s", cli_text(profile, "name"), done);
    return 0;
}

/* Of what was changed now: keys that wait for the next start, and in how many VEs. */
static int say_pending(struct cli *cli, const struct args *a, const json_t *params, struct err *err)
{
    auto_json json_t *list = NULL;
    const char *key;
    json_t *value, *ve, *wait;
    size_t i, k;
    json_object_foreach((json_t *)params, key, value)
    {
        const struct param_row *row = param_find(key);
        size_t n = 0;
        if (!row || !(row->flags & PARAM_RESTART))
            continue;
        int r = list ? 0 : cli_call(cli, "GET", "/v1/ves", NULL, &list, err);
        if (r < 0)
            return r;
        json_array_foreach(list, i, ve)
        {
            if (!str_eq(cli_text(ve, "profile"), a->pos[0]))
                continue;
            json_array_foreach(json_object_get(ve, "pending"), k, wait) n +=
                str_eq(json_string_value(wait), key);
        }
        if (n)
            cli_say(cli, "profile %s: %s takes effect at the next start of %zu VE%s that run%s",
                    a->pos[0], key, n, n == 1 ? "" : "s", n == 1 ? "s" : "");
    }
    return 0;
}

int cmd_profile_create(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *body = json_object(), *profile = NULL;
    if (name_check_ve(a->pos[0], err) < 0)
        return err_wrap(err, "profile");
    json_object_set_new(body, "name", json_string(a->pos[0]));
    int r = put_params(a, false, body, err);
    if (r == 0)
        r = cli_call(cli, "POST", "/v1/profiles", body, &profile, err);
    return r < 0 ? r : tell(cli, profile, "created", err);
}

int cmd_profile_set(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_json json_t *body = json_object(), *profile = NULL;
    int r = profile_path(&path, a->pos[0], err);
    if (r == 0)
        r = put_params(a, true, body, err);
    if (r < 0)
        return r;
    json_object_set_new(body, "force", json_boolean(args_has(a, "force")));
    r = cli_call(cli, "PATCH", str_c(&path), body, &profile, err);
    if (r == 0)
        r = tell(cli, profile, "set", err);
    return r < 0 || cli->json ? r : say_pending(cli, a, json_object_get(body, "params"), err);
}

int cmd_profile_remove(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_json json_t *answer = NULL;
    int r = profile_path(&path, a->pos[0], err);
    if (r == 0)
        r = cli_call(cli, "DELETE", str_c(&path), NULL, &answer, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, answer, err);
    cli_say(cli, "profile %s: removed", a->pos[0]);
    return 0;
}
