/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/record.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>

#define RECORD_VERSION 2 /* 1: without revision and recipe */

static const char *const start_names[] = {[TEMPLATE_SYSTEM] = "system", [TEMPLATE_APP] = "app"};
static const char *const init_names[] = {
    [TEMPLATE_INIT_NONE] = "none",
    [TEMPLATE_INIT_SYSTEMD] = "systemd",
    [TEMPLATE_INIT_BUSYBOX] = "busybox",
    [TEMPLATE_INIT_SYSV] = "sysv",
};

static int find(const char *const *names, size_t n, const char *word)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq(names[i], word))
            return (int)i;
    return -1;
}

const char *template_init_name(enum template_init init)
{
    return init_names[init];
}

bool template_init_find(const char *name, enum template_init *ret)
{
    int i = name ? find(init_names, ARRAY_SIZE(init_names), name) : -1;
    if (i >= 0)
        *ret = (enum template_init)i;
    return i >= 0;
}

void strings_free(char **list)
{
    for (size_t i = 0; list && list[i]; i++)
        free(list[i]);
    free(list);
}

void template_free(struct template *t)
{
    if (!t)
        return;
    free(t->init_path);
    strings_free(t->command);
    strings_free(t->env);
    free(t->workdir);
    free(t->user);
    free(t->source);
    free(t->recipe);
    free(t);
}

bool digest_ok(const char *digest)
{
    return digest && str_starts(digest, "sha256:") && strlen(digest) == TEMPLATE_DIGEST - 1 &&
           strspn(digest + 7, "0123456789abcdef") == 64;
}

static json_t *text_or_null(const char *s)
{
    return s ? json_string(s) : json_null();
}

static json_t *list_or_null(char *const *list)
{
    if (!list)
        return json_null();
    json_t *a = json_array();
    for (size_t i = 0; a && list[i]; i++)
        if (json_array_append_new(a, json_string(list[i])) < 0) {
            json_decref(a);
            return NULL;
        }
    return a;
}

static json_t *recipe_or_null(const char *text)
{
    return text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : json_null();
}

int record_write(const struct template *t, char **ret, struct err *err)
{
    auto_json json_t *layers = json_array();
    for (size_t i = 0; i < t->n_layers; i++)
        json_array_append_new(layers, json_string(t->layers[i]));
    /* "o" takes its value over, and fails as a whole if one of them is NULL. */
    auto_json json_t *j = json_pack(
        "{s:i, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:I, s:I, s:O}", "version",
        RECORD_VERSION, "name", t->name, "start", start_names[t->start], "init",
        init_names[t->init], "init_path", text_or_null(t->init_path), "command",
        list_or_null(t->command), "env", list_or_null(t->env), "workdir", text_or_null(t->workdir),
        "user", text_or_null(t->user), "source", text_or_null(t->source), "recipe",
        recipe_or_null(t->recipe), "revision", (int)(t->revision ? t->revision : 1), "created",
        (json_int_t)t->created, "size", (json_int_t)t->size, "layers", layers);
    char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
    if (!text)
        return err_set(err, ERR_CORRUPT, "cannot write down template %s: a text in it is not UTF-8",
                       t->name);
    if (strlen(text) >= RECORD_MAX) {
        free(text);
        return err_set(err, ERR_CORRUPT, "the command and environment of %s are too long", t->name);
    }
    *ret = text;
    return 0;
}

static int bad(struct err *err, const char *what)
{
    return err_set(err, ERR_CORRUPT, "the file is damaged: %s", what);
}

static int read_text(const json_t *j, const char *what, char **ret, struct err *err)
{
    if (json_is_null(j))
        return 0;
    if (!json_is_string(j))
        return bad(err, what);
    *ret = strdup(json_string_value(j));
    return *ret ? 0 : err_set(err, ERR_EXHAUSTED, "out of memory");
}

static int read_list(const json_t *j, const char *what, char ***ret, struct err *err)
{
    if (json_is_null(j))
        return 0;
    if (!json_is_array(j))
        return bad(err, what);
    size_t n = json_array_size(j);
    char **list = calloc(n + 1, sizeof(*list));
    if (!list)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    *ret = list; /* template_free() releases it, half filled or not */
    for (size_t i = 0; i < n; i++) {
        const char *s = json_string_value(json_array_get(j, i));
        if (!s)
            return bad(err, what);
        if (!(list[i] = strdup(s)))
            return err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    return 0;
}

static int read_layers(const json_t *j, struct template *t, struct err *err)
{
    if (!json_is_array(j) || json_array_size(j) == 0 || json_array_size(j) > TEMPLATE_LAYERS_MAX)
        return bad(err, "layers");
    for (size_t i = 0; i < json_array_size(j); i++) {
        const char *digest = json_string_value(json_array_get(j, i));
        if (!digest_ok(digest))
            return bad(err, "layers");
        str_print(t->layers[i], TEMPLATE_DIGEST, "%s", digest);
        t->n_layers++;
    }
    return 0;
}

int record_read(const char *text, size_t len, const char *name, struct template **ret,
                struct err *err)
{
    json_error_t je;
    auto_json json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
    if (!j)
        return err_set(err, ERR_CORRUPT, "the file is damaged: line %d: %s", je.line, je.text);
    int version = (int)json_integer_value(json_object_get(j, "version"));
    if (version > RECORD_VERSION)
        return err_set(
            err, ERR_UNSUPPORTED,
            "the file is of version %d and this Terem reads up to %d; use the newer Terem", version,
            RECORD_VERSION);
    const char *said, *start, *init;
    json_t *init_path, *command, *env, *workdir, *user, *source, *layers, *recipe = NULL;
    json_int_t created, size, revision = 1;
    if (json_unpack_ex(
            j, &je, JSON_STRICT,
            "{s:i, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s?o, s?I, s:I, s:I, s:o}",
            "version", &version, "name", &said, "start", &start, "init", &init, "init_path",
            &init_path, "command", &command, "env", &env, "workdir", &workdir, "user", &user,
            "source", &source, "recipe", &recipe, "revision", &revision, "created", &created,
            "size", &size, "layers", &layers) < 0)
        return bad(err, je.text);
    auto_template struct template *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int s = find(start_names, ARRAY_SIZE(start_names), start);
    bool told = recipe && revision > 0 && revision <= INT_MAX;
    if (version < 1 || (version > 1 && !told) || s < 0 || !template_init_find(init, &t->init) ||
        created < 0 || size < 0)
        return bad(err, "a value that no Terem writes");
    if (!str_eq(said, name) || str_print(t->name, sizeof(t->name), "%s", said) < 0)
        return bad(err, "it is of another template");
    t->start = (enum template_start)s;
    t->created = created;
    t->revision = (unsigned)revision;
    if (recipe && !json_is_null(recipe) &&
        (!json_is_object(recipe) || !(t->recipe = json_dumps(recipe, JSON_COMPACT))))
        return bad(err, "recipe");
    t->size = (uint64_t)size;
    int r;
    if ((r = read_text(init_path, "init_path", &t->init_path, err)) < 0 ||
        (r = read_list(command, "command", &t->command, err)) < 0 ||
        (r = read_list(env, "env", &t->env, err)) < 0 ||
        (r = read_text(workdir, "workdir", &t->workdir, err)) < 0 ||
        (r = read_text(user, "user", &t->user, err)) < 0 ||
        (r = read_text(source, "source", &t->source, err)) < 0 ||
        (r = read_layers(layers, t, err)) < 0)
        return r;
    *ret = steal_ptr(&t);
    return 0;
}
