/* SPDX-License-Identifier: GPL-2.0-or-later */
/* template build, import, list, show, remove. */
#include "base/cleanup.h"
#include "base/name.h"
#include "base/number.h"
#include "cli.h"
#include "command.h"
#include "text.h"
#include "work.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int one_job(struct cli *cli, const struct args *a, const char *name, const char *method,
                   char *path, json_t *body, const struct work_words *words, struct err *err)
{
    struct work *w = work_new(1);
    int r;
    if (!w || !path) {
        free(path);
        json_decref(body);
        r = err_set(err, ERR_EXHAUSTED, "out of memory");
    } else {
        w->subject = name;
        w->method = method;
        w->path = path;
        w->body = body;
        r = work_run(cli, w, 1, words, false, args_has(a, "no-wait"), err);
    }
    work_free(w, 1);
    return r;
}

int cmd_template_build(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct work_words words = {"building", "built"};
    const char *base = a->pos[0], *name = args_get(a, "name"), *package;
    if (!name)
        name = base;
    int r = name_check_template(name, err);
    if (r < 0)
        return r;
    json_t *body = json_pack("{s:s,s:s}", "name", name, "build", base);
    json_t *include = json_array();
    for (size_t i = 0; (package = args_each(a, "include", i)); i++) {
        while (*package) {
            size_t n = strcspn(package, ",");
            if (n)
                json_array_append_new(include, json_stringn(package, n));
            package += n;
            package += *package == ',';
        }
    }
    if (!body) {
        json_decref(include);
        return err_set(err, ERR_USAGE, "the name is not valid UTF-8");
    }
    if (json_array_size(include))
        json_object_set(body, "include", include);
    json_decref(include);
    return one_job(cli, a, name, "POST", strdup("/v1/templates"), body, &words, err);
}

/* teremd opens the file by itself: relative paths are made absolute against our directory. */
static char *absolute_source(const char *source, struct err *err)
{
    bool oci = str_starts(source, "oci:");
    const char *path = oci ? source + 4 : source;
    char *ret;
    if (*path == '/') {
        ret = strdup(source);
    } else {
        auto_free char *cwd = getcwd(NULL, 0);
        if (!cwd) {
            err_sys(err, "cannot tell the current directory");
            return NULL;
        }
        ret = str_format("%s%s/%s", oci ? "oci:" : "", cwd, path);
    }
    if (!ret)
        err_set(err, ERR_EXHAUSTED, "out of memory");
    else if (!oci && access(ret, F_OK) < 0) {
        err_sys(err, "cannot open %s", source);
        free(ret);
        return NULL;
    }
    return ret;
}

int cmd_template_import(struct cli *cli, const struct args *a, struct err *err)
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
    return one_job(cli, a, a->pos[0], "POST", strdup("/v1/templates"), body, &words, err);
}

int cmd_template_list(struct cli *cli, const struct args *a, struct err *err)
{
    auto_table struct text_table t = {.columns = 6, .right = 1u << 3 | 1u << 4};
    auto_str struct str out = str_init(TEXT_MAX);
    auto_json json_t *list = NULL;
    char buf[NUMBER_TEXT];
    size_t i;
    json_t *v;
    int r = cli_call(cli, "GET", "/v1/templates", NULL, &list, err);
    if (r < 0)
        return r;
    if (cli->json)
        return cli_out_json(cli, list, err);
    static const char *const heads[] = {"NAME", "KIND", "INIT", "SIZE", "VES", "CREATED"};
    for (i = 0; i < ARRAY_SIZE(heads) && !cli->quiet; i++)
        text_cell(&t, heads[i]);
    json_array_foreach(list, i, v)
    {
        if (cli->quiet) {
            text_add(&out, cli_text(v, "name"));
            str_add(&out, "\n");
            continue;
        }
        auto_str struct str when = str_init(64);
        text_add_time(&when, cli_int(v, "created"));
        text_cell(&t, cli_text(v, "name"));
        text_cell(&t, cli_text(v, "kind"));
        text_cell(&t, cli_text_or(v, "init", "-"));
        text_cell(&t, number_format_size((uint64_t)cli_int(v, "size"), buf));
        text_cellf(&t, "%zu", json_array_size(json_object_get(v, "ves")));
        text_cell(&t, str_c(&when));
    }
    if (!cli->quiet)
        text_table_render(&t, &out, 0);
    return cli_out(&out, err);
}

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

int cmd_template_show(struct cli *cli, const struct args *a, struct err *err)
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
    str_add(&out, "%-9s %s\n", "size", number_format_size((uint64_t)cli_int(v, "size"), buf));
    str_add(&out, "%-9s ", "created");
    text_add_time(&out, cli_int(v, "created"));
    str_add(&out, "\n");
    show_words(&out, "command", json_object_get(v, "command"), " ");
    show_words(&out, "VEs", json_object_get(v, "ves"), " ");
    show_words(&out, "layers", json_object_get(v, "layers"), "\n          ");
    return cli_out(&out, err);
}

int cmd_template_remove(struct cli *cli, const struct args *a, struct err *err)
{
    static const struct work_words words = {"removing", "removed"};
    auto_str struct str path = str_init(256);
    int r = cli_template_path(&path, a->pos[0], err);
    return r < 0 ? r : one_job(cli, a, a->pos[0], "DELETE", str_steal(&path), NULL, &words, err);
}
