/* SPDX-License-Identifier: GPL-2.0-or-later */
/* template build, update, import, list, show, log, remove, prune. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/name.h"
#include "base/number.h"
#include "cli.h"
#include "command.h"
#include "text.h"
#include "work.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define SCRIPT_MAX   ((size_t)256 << 10)
#define SCRIPT_LINES 20 /* that are shown */

static void put_include(json_t *body, const struct args *a)
{
    json_t *include = json_array();
    const char *package;
    for (size_t i = 0; (package = args_each(a, "include", i)); i++) {
        while (*package) {
            size_t n = strcspn(package, ",");
            if (n)
                json_array_append_new(include, json_stringn(package, n));
            package += n;
            package += *package == ',';
        }
    }
    if (args_has(a, "include"))
        json_object_set(body, "include", include);
    json_decref(include);
}

/* The text of the script; "-": from standard input. */
static int put_script(json_t *body, const char *file, struct err *err)
{
    auto_free char *text = NULL;
    size_t len;
    auto_fd int fd = -1;
    bool from_stdin = str_eq(file, "-");
    if (!from_stdin && (fd = open(file, O_RDONLY | O_CLOEXEC)) < 0)
        return err_sys(err, "cannot open %s", file);
    int r = fd_read_all(from_stdin ? STDIN_FILENO : fd, SCRIPT_MAX, &text, &len, err);
    if (r < 0)
        return err_wrap(err, "cannot read %s", file);
    if (json_object_set_new(body, "run", json_stringn(text, len)) < 0)
        return err_set(err, ERR_USAGE, "%s is not UTF-8", file);
    return 0;
}

/* How an application template is made. */
static int put_recipe(json_t *body, const struct args *a, struct err *err)
{
    const char *script = args_get(a, "run"), *text;
    const char *command = args_get(a, "cmd");
    json_t *params = json_object();
    json_object_set_new(body, "params", params);
    int r = script ? put_script(body, script, err) : 0;
    if (r < 0 || (r = cli_env_put(body, a, err)) < 0)
        return r;
    for (size_t i = 0; (text = args_each(a, "set", i)); i++)
        if ((r = cli_param_put(params, text, false, err)) < 0)
            return r;
    if (command &&
        json_object_set_new(body, "command", json_pack("[s,s,s]", "/bin/sh", "-c", command)) < 0)
        return err_set(err, ERR_USAGE, "the command is not valid UTF-8");
    return cli_timeout_put(body, a, err);
}

static int run_template_build(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct work_words words = {"building", "built"};
    static const char *const of_from[] = {"run", "env", "cmd", "set", "timeout"};
    const char *base = a->pos[0], *name = args_get(a, "name"), *from = args_get(a, "from");
    for (size_t i = 0; i < ARRAY_SIZE(of_from) && !from; i++)
        if (args_has(a, of_from[i]))
            return err_set(err, ERR_USAGE, "--%s goes with --from", of_from[i]);
    if (from && name)
        return err_set(err, ERR_USAGE, "with --from the name is %s; leave --name out", base);
    if (!name)
        name = base;
    int r = name_check_template(name, err);
    if (r < 0)
        return r;
    auto_json json_t *body =
        json_pack("{s:s,s:s}", "name", name, from ? "from" : "build", from ? from : base);
    if (!body)
        return err_set(err, ERR_USAGE, "the name is not valid UTF-8");
    put_include(body, a);
    if (from && !args_has(a, "run") && !args_has(a, "include"))
        return err_set(err, ERR_USAGE, "--from needs --run or --include");
    if (from && (r = put_recipe(body, a, err)) < 0)
        return r;
    return work_one(cli, name, "POST", strdup("/v1/templates"), json_incref(body), &words,
                    args_has(a, "no-wait"), err);
}

/* How a script is run, and what application VEs made from its template run. */
/* clang-format off */
#define OPTS_OF_SCRIPT                                                                             \
    OPT_ENV,                                                                                       \
    {"cmd", 0, "COMMAND", "what application VEs made from it run, as a line of the shell"},        \
    {"set", 's', "KEY=VALUE", "a resource parameter of the VE that it is built in",                \
     COMPLETE_ASSIGNMENTS},                                                                        \
    {"timeout", 't', "TIME", "how long the script may take (default: 1h)"}
/* clang-format on */

static const struct option_spec build_options[] = {
    {"include", 'i', "PKG,...", "packages to install on top (may be repeated)"},
    {"name", 0, "NAME", "what the template is called (default: the name of its base)"},
    {"from", 0, "TEMPLATE", "stand on the layers of this template, with one more on top",
     COMPLETE_TEMPLATES},
    {"run", 0, "FILE", "the script that writes that layer; - reads standard input", COMPLETE_FILES},
    OPTS_OF_SCRIPT,
    OPT_NO_WAIT,
    END,
};

command_row cmd_template_build = {
    .name = "template build",
    .summary = "build a template from packages or on another one",
    .usage = "BASE | NAME --from TEMPLATE",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_BASES,
    .options = build_options,
    .run = run_template_build,
    .detail =
        "BASE is busybox, debian-12 or debian-13. The packages come from the package "
        "archive that this machine is set up for. It is built as a job: one that fails or "
        "is cancelled leaves nothing behind. SIGINT (Ctrl-C) ends the waiting, not the job: terem "
        "jobs cancel ends that.\n\n"
        "With --from, packages and a script are put on top of another template: in a VE of its "
        "own, as its root, on that template's layers, with at most 2G of memory and 2000 "
        "processes unless --set says otherwise. The packages come first, by the template's own "
        "package manager (apt-get, apk or dnf) from where it is set up for. What was written "
        "becomes one layer more, which all VEs made from the new template share; /tmp, /run, "
        "caches of packages, machine-id and SSH host keys are left out. --env is set for the "
        "script, and for application VEs made from it. What the script says is shown as it comes; "
        "when it fails, terem template log shows all of it.",
    .examples = {"terem template build debian-12",
                 "terem template build debian-12 --include nginx,openssh-server --name web",
                 "terem template build shop --from debian-12 --include nginx --run ./shop.sh",
                 "terem template build hello --from busybox --run ./hello.sh --cmd /bin/hello"},
};

/* What was not given stays as it was. */
static void forget_empty(json_t *body)
{
    static const char *const sets[] = {"env", "params"};
    for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
        if (json_object_size(json_object_get(body, sets[i])) == 0)
            json_object_del(body, sets[i]);
}

static void say_outdated(struct cli *cli, const char *name)
{
    auto_str struct str path = str_init(256);
    auto_json json_t *v = NULL;
    if (cli_template_path(&path, name, NULL) < 0 ||
        cli_call(cli, "GET", str_c(&path), NULL, &v, NULL) < 0)
        return;
    size_t n = json_array_size(json_object_get(v, "outdated"));
    if (n)
        cli_say(cli,
                "%s: %zu VE%s on an earlier revision; terem update moves them to this one, and "
                "with --check tells before what would be in conflict",
                name, n, n == 1 ? " stays" : "s stay");
}

static int run_template_update(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct work_words words = {"building again", "built again"};
    auto_str struct str path = str_init(256);
    auto_json json_t *body = json_object();
    int r = cli_template_path(&path, a->pos[0], err);
    if (r < 0 || (r = put_recipe(body, a, err)) < 0)
        return r;
    put_include(body, a);
    forget_empty(body);
    str_add(&path, "/update");
    r = work_one(cli, a->pos[0], "POST", str_steal(&path), json_incref(body), &words,
                 args_has(a, "no-wait"), err);
    if (r == 0 && cli->status < 0 && !cli->json && !cli->quiet && !args_has(a, "no-wait"))
        say_outdated(cli, a->pos[0]);
    return r;
}

static const struct option_spec update_options[] = {
    {"include", 'i', "PKG,...", "packages instead of those so far (may be repeated)"},
    {"run", 0, "FILE", "this script instead of the one so far; - reads standard input",
     COMPLETE_FILES},
    OPTS_OF_SCRIPT,
    OPT_NO_WAIT,
    END,
};

command_row cmd_template_update = {
    .name = "template update",
    .summary = "build a template again, as its next revision",
    .usage = "NAME",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_TEMPLATES,
    .options = update_options,
    .run = run_template_update,
    .detail = "The way it was made is recorded: a base system with its packages, an import, or "
              "packages and a script on another template, whose present revision it then stands "
              "on. VEs stay on the layers that they have, and terem template show tells which; "
              "terem update moves them.\n\n"
              "A template on another one can be made differently from then on: --run and --cmd, "
              "and --include with all its packages, stand instead of what was given before; --env "
              "and --set are put beside it. Of a base system --include can be changed. When it "
              "fails, the template stays as it was.",
    .examples = {"terem template update debian-12",
                 "terem template update shop --run shop.sh --include nginx,php-fpm"},
};

static int run_template_prune(struct cli *cli, const struct args *a, struct err *err)
{
    auto_json json_t *job = NULL;
    char buf[TEXT_SIZE];
    int r = cli_call(cli, "POST", "/v1/prune?wait=true", NULL, &job, err);
    if (r < 0 || cli->json)
        return r < 0 ? r : cli_out_json(cli, job, err);
    const json_t *freed = json_object_get(job, "result");
    json_int_t layers = cli_int(freed, "layers");
    if (layers == 0 && cli_is_null(freed, "waits_for"))
        cli_say(cli, "nothing to delete: every layer is in use");
    else
        cli_say(cli, "%lld layer%s deleted, %s freed", (long long)layers, layers == 1 ? "" : "s",
                text_size((uint64_t)cli_int(freed, "bytes"), buf));
    if (layers)
        cli_say(cli, "backups that stand on them and were made without --embed cannot be restored "
                     "on this node any more");
    if (!cli_is_null(freed, "waits_for"))
        cli_say(cli, "job %lld is at work: what it uses is looked at when it has ended",
                (long long)cli_int(freed, "waits_for"));
    return 0;
}

command_row cmd_template_prune = {
    .name = "template prune",
    .summary = "delete at once the layers that nobody uses",
    .usage = "",
    .run = run_template_prune,
    .detail = "Layers that no template, VE or snapshot stands on, and what was half made, are "
              "deleted in the background anyway; this does not wait for it and tells what was "
              "freed. While a template is being built nothing is taken away. A backup made without "
              "--embed cannot be restored once its layers are gone.",
    .examples = {"terem template prune"},
};

static char *absolute_source(const char *source, struct err *err)
{
    if (str_starts(source, "oci:")) {
        auto_free char *path = cli_absolute(source + 4, err);
        char *ret = path ? str_format("oci:%s", path) : NULL;
        if (path && !ret)
            err_set(err, ERR_EXHAUSTED, "out of memory");
        return ret;
    }
    auto_free char *path = cli_absolute(source, err);
    if (path && access(path, F_OK) < 0) {
        err_sys(err, "cannot open %s", source);
        return NULL;
    }
    return steal_ptr(&path);
}

static int run_template_import(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct work_words words = {"importing", "imported"};
    int r = name_check_template(a->pos[0], err);
    if (r < 0)
        return r;
    auto_free char *source = absolute_source(a->pos[1], err);
    if (!source)
        return err ? -err->kind : -ERR_SYSTEM;
    json_t *body = json_pack("{s:s,s:s}", "name", a->pos[0], "import", source);
    if (!body)
        return err_set(err, ERR_USAGE, "the path is not valid UTF-8");
    return work_one(cli, a->pos[0], "POST", strdup("/v1/templates"), body, &words,
                    args_has(a, "no-wait"), err);
}

command_row cmd_template_import = {
    .name = "template import",
    .summary = "make a template of an archive, directory or OCI image",
    .usage = "NAME SOURCE",
    .min = 2,
    .max = 2,
    .complete_more = COMPLETE_FILES,
    .options = command_no_wait_options,
    .run = run_template_import,
    .detail = "SOURCE is an archive of a root file system (.tar, .tar.gz, .tar.xz, .tar.zst), a "
              "directory, or oci:PATH[:TAG], an OCI image as a layout directory or as an archive. "
              "teremd opens it: the path is one of this machine.",
    .examples = {"terem template import alpine ./alpine-rootfs.tar.gz",
                 "terem template import nginx oci:./nginx.tar"},
};

static void add_template(struct text_table *t, const json_t *v)
{
    auto_str struct str when = str_init(64);
    char buf[NUMBER_TEXT];
    text_add_time(&when, cli_int(v, "created"));
    text_cell(t, cli_text(v, "name"));
    text_cell(t, cli_text(v, "kind"));
    text_cell(t, cli_text_or(v, "init", "-"));
    text_cellf(t, "%lld", (long long)cli_int(v, "revision"));
    text_cell(t, number_format_size((uint64_t)cli_int(v, "size"), buf));
    text_cellf(t, "%zu", json_array_size(json_object_get(v, "ves")));
    text_cellf(t, "%zu", json_array_size(json_object_get(v, "outdated")));
    text_cell(t, str_c(&when));
}

static int run_template_list(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct cli_list list = {
        .path = "/v1/templates",
        .heads = {"NAME", "KIND", "INIT", "REV", "SIZE", "VES", "OLD", "CREATED"},
        .right = 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6,
        .cut = true,
        .empty = "There is no template; terem template build busybox makes one.",
        .add = add_template};
    return cli_list(cli, &list, err);
}

command_row cmd_template_list = {
    .name = "template list",
    .summary = "list the templates",
    .usage = "",
    .run = run_template_list,
    .detail =
        "SIZE is that of its layers' files. Layers are shared: templates with common "
        "layers need less than the sum. OLD of its VES stand on an earlier revision than REV; "
        "terem update moves them.",
    .examples = {"terem template list"},
};

static void show_words(struct str *out, const char *head, const json_t *array, const char *between)
{
    size_t i;
    json_t *v;
    if (json_array_size(array) == 0)
        return;
    str_add(out, "%-9s ", head);
    json_array_foreach(array, i, v)
    {
        str_add(out, "%s", i ? between : "");
        text_add(out, json_string_value(v));
    }
    str_add(out, "\n");
}

/* On a terminal only what tells one digest from another. */
static void show_layers(struct str *out, const json_t *layers, bool brief)
{
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)layers, i, v)
    {
        str_add(out, "%-9s %.*s\n", i ? "" : "layers", brief ? TEXT_DIGEST : INT_MAX,
                json_string_value(v));
    }
}

/* The script that it is made by; --json has all of it. */
static void show_script(struct str *out, const char *script)
{
    size_t n = 0;
    for (const char *p = script; p && *p; n++) {
        size_t len = strcspn(p, "\n");
        if (n < SCRIPT_LINES) {
            auto_free char *line = strndup(p, len);
            str_add(out, "%-9s ", n ? "" : "script");
            text_add(out, line);
            str_add(out, "\n");
        }
        p += len + (p[len] == '\n');
    }
    if (n > SCRIPT_LINES)
        str_add(out, "%-9s and %zu more line%s: --json has them\n", "", n - SCRIPT_LINES,
                n == SCRIPT_LINES + 1 ? "" : "s");
}

static int run_template_show(struct cli *cli, const struct args *a, struct err *err)
{
    static const char *const texts[] = {"name", "kind", "init", "source"};
    auto_str struct str path = str_init(256), out = str_init(TEXT_MAX);
    auto_json json_t *v = NULL;
    char buf[NUMBER_TEXT];
    int r = cli_template_path(&path, a->pos[0], err);
    if (r == 0)
        r = cli_call(cli, "GET", str_c(&path), NULL, &v, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, v, err);
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        str_add(&out, "%-9s ", texts[i]);
        text_add(&out, cli_text_or(v, texts[i], "-"));
        str_add(&out, "\n");
    }
    str_add(&out, "%-9s %lld%s\n", "revision", (long long)cli_int(v, "revision"),
            json_is_true(json_object_get(v, "base_is_newer"))
                ? ", and the template that it stands on is newer: terem template update"
                : "");
    str_add(&out, "%-9s %s\n", "size", number_format_size((uint64_t)cli_int(v, "size"), buf));
    str_add(&out, "%-9s ", "created");
    text_add_time(&out, cli_int(v, "created"));
    str_add(&out, "\n");
    show_words(&out, "command", json_object_get(v, "command"), " ");
    const json_t *recipe = json_object_get(v, "recipe");
    show_words(&out, "packages", json_object_get(recipe, "include"), " ");
    show_script(&out, json_string_value(json_object_get(recipe, "run")));
    show_words(&out, "VEs", json_object_get(v, "ves"), " ");
    show_words(&out, "outdated", json_object_get(v, "outdated"), " ");
    show_layers(&out, json_object_get(v, "layers"), cli->out_tty);
    return cli_out(&out, err);
}

command_row cmd_template_show = {
    .name = "template show",
    .summary = "show one template",
    .usage = "NAME",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_TEMPLATES,
    .run = run_template_show,
    .detail = "Prints how it starts, where it came from, its layers, and the VEs made from it.",
    .examples = {"terem template show debian-12"},
};

static int run_template_remove(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct work_words words = {"removing", "removed"};
    auto_str struct str path = str_init(256);
    int r = cli_template_path(&path, a->pos[0], err);
    if (args_has(a, "force"))
        str_add(&path, "?force=true");
    return r < 0 ? r
                 : work_one(cli, a->pos[0], "DELETE", str_steal(&path), NULL, &words,
                            args_has(a, "no-wait"), err);
}

static const struct option_spec template_remove_options[] = {
    {"force", 'f', NULL, "also when VEs or other templates were made from it"}, OPT_NO_WAIT, END};

command_row cmd_template_remove = {
    .name = "template remove",
    .summary = "remove a template",
    .usage = "NAME",
    .min = 1,
    .max = 1,
    .complete = COMPLETE_TEMPLATES,
    .options = template_remove_options,
    .run = run_template_remove,
    .detail = "One that VEs or other templates were made from is kept, unless --force is given: "
              "without it they cannot be brought up to date. They keep their layers; layers that "
              "nobody needs are deleted.",
    .examples = {"terem template remove debian-12"},
};
