/* SPDX-License-Identifier: GPL-2.0-or-later */
/* profile list, show, create, set, remove. */
#include "base/cleanup.h"
#include "base/name.h"
#include "cli.h"
#include "command.h"
#include "param/param.h"
#include "text.h"
#include "ve_text.h"

static void add_profile(struct text_table *t, const json_t *profile)
{
    auto_str struct str pairs = str_init(TEXT_MAX);
    ve_text_pairs(&pairs, json_object_get(profile, "params"), " ");
    text_cell(t, cli_text(profile, "name"));
    text_cellf(t, "%zu", json_array_size(json_object_get(profile, "ves")));
    text_cell(t, str_c(&pairs));
}

static int run_profile_list(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct cli_list list = {.path = "/v1/profiles",
                                         .heads = {"PROFILE", "VES", "PARAMETERS"},
                                         .right = 0x2,
                                         .cut = true,
                                         .empty = "There is no profile; terem profile create "
                                                  "makes one.",
                                         .add = add_profile};
    return cli_list(cli, &list, err);
}

command_row cmd_profile_list = {
    .name = "profile list",
    .summary = "list the profiles",
    .usage = "",
    .run = run_profile_list,
    .detail = "A profile is a named set of parameters. A VE that uses it has them where it has no "
              "value of its own: terem create --profile, terem set --profile. The profiles small, "
              "medium and large are there from the beginning, to be changed or removed.",
    .examples = {"terem profile list", "terem create web1 --profile small"},
};

static int run_profile_show(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_str struct str out = str_init(TEXT_MAX);
    auto_json json_t *profile = NULL;
    size_t i;
    json_t *ve;
    int r = cli_noun_path(&path, "/v1/profiles", "profile", a->pos[0], err);
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

command_row cmd_profile_show = {
    .name = "profile show",
    .summary = "show one profile",
    .usage = "NAME",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_PROFILES,
    .run = run_profile_show,
    .detail = "Prints its parameters and the VEs that use it.",
    .examples = {"terem profile show small"},
};

static int put_params(const struct args *a, bool may_default, json_t *body, struct err *err)
{
    json_t *params = json_object();
    json_object_set_new(body, "params", params);
    for (size_t i = 1; i < a->n_pos; i++) {
        int r = cli_param_put(params, a->pos[i], may_default, err);
        if (r < 0)
            return r;
    }
    const char *text;
    for (size_t i = 0; (text = args_each(a, "set", i)); i++) {
        int r = cli_param_put(params, text, may_default, err);
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
        int r = list ? 0 : cli_list_ves(cli, NULL, "profile,pending", &list, err);
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

static int run_profile_create(struct cli *cli, const struct args *a, struct err *err)
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

static const struct option_spec profile_create_options[] = {
    {"set", 's', "KEY=VALUE", "a parameter, as a word of its own is (may be repeated)",
     COMPLETE_ASSIGNMENTS},
    END,
};

command_row cmd_profile_create = {
    .name = "profile create",
    .summary = "make a profile",
    .usage = "NAME [KEY=VALUE...]",
    .min = 1,
    .max = ARGS_MAX,
    .complete_more = COMPLETE_ASSIGNMENTS,
    .options = profile_create_options,
    .run = run_profile_create,
    .detail = "Its name is like that of a VE. Parameters are those of terem-parameters(7).",
    .examples = {"terem profile create web memory.limit=1G cpu.limit=150 processes=300"},
};

static int run_profile_set(struct cli *cli, const struct args *a, struct err *err)
{
    auto_str struct str path = str_init(256);
    auto_json json_t *body = json_object(), *profile = NULL;
    int r = cli_noun_path(&path, "/v1/profiles", "profile", a->pos[0], err);
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

static const struct option_spec profile_set_options[] = {
    {"force", 'f', NULL, "also set a limit below what a VE uses, with what that does"},
    END,
};

command_row cmd_profile_set = {
    .name = "profile set",
    .summary = "change a profile, and all VEs that use it",
    .usage = "NAME KEY=VALUE...",
    .min = 2,
    .max = ARGS_MAX,
    .complete = COMPLETE_PROFILES,
    .complete_more = COMPLETE_ASSIGNMENTS,
    .options = profile_set_options,
    .run = run_profile_set,
    .detail = "The new parameters are checked for, and applied to, every VE that uses the "
              "profile, live, together or not at all: when one cannot have them it is named and "
              "nothing is changed. A VE's own parameters stay. KEY=default takes a parameter out "
              "of the profile.",
    .examples = {"terem profile set small memory.limit=768M", "terem profile set web "
                                                              "cpu.limit=default"},
};

static int run_profile_remove(struct cli *cli, const struct args *a, struct err *err)
{
    return cli_remove(cli, "/v1/profiles", "profile", a->pos[0], err);
}

command_row cmd_profile_remove = {
    .name = "profile remove",
    .summary = "remove a profile that no VE uses",
    .usage = "NAME",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_PROFILES,
    .run = run_profile_remove,
    .detail = "One that is in use is refused, with the names of its VEs.",
    .examples = {"terem profile remove web"},
};
