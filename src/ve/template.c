/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs of templates: build, import, update, remove.  Those that stand on another one: build.c.
 */
#include "base/name.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/layers.h"

static struct template_request request_of(struct job *job, const char *recipe)
{
    return (struct template_request){
        .name = job->rec.subject,
        .recipe = recipe,
        .replace = json_is_true(json_object_get(job->options, "update")),
        .source = json_string_value(json_object_get(job->options, "import")),
        .progress = job_progress,
        .ctx = job,
    };
}

char *ve_recipe_of(const json_t *options)
{
    json_t *copy = json_deep_copy(options);
    json_object_del(copy, "update");
    json_object_del(copy, "name");
    char *text = json_dumps(copy, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(copy);
    return text;
}

static int work_template_build(struct job *job, struct err *err)
{
    auto_free char *recipe = ve_recipe_of(job->options);
    struct template_request rq = request_of(job, recipe);
    const json_t *include = json_object_get(job->options, "include");
    auto_str struct str list = str_init(65536);
    size_t i;
    json_t *item;
    json_array_foreach(include, i, item)
        str_add(&list, "%s%s", i ? "," : "", json_string_value(item));
    rq.include = list.len ? str_c(&list) : NULL;
    return template_build(job->node->templates,
                          json_string_value(json_object_get(job->options, "build")), &rq, err);
}

static int work_template_import(struct job *job, struct err *err)
{
    auto_free char *recipe = ve_recipe_of(job->options);
    struct template_request rq = request_of(job, recipe);
    return template_import(job->node->templates, &rq, err);
}

static int work_template_remove(struct job *job, struct err *err)
{
    return template_remove(job->node->templates, job->rec.subject, err);
}

static void tell(struct job *job, const char *type)
{
    json_array_append_new(job->node->pending,
                          json_pack("{s:s, s:s}", "type", type, "template", job->rec.subject));
}

static int done_template(struct job *job, struct err *err)
{
    tell(job, json_is_true(json_object_get(job->options, "update")) ? "template.updated"
                                                                    : "template.created");
    ve_trash_later(job->node); /* layers of the one before may be nobody's now */
    return 0;
}

static int done_template_remove(struct job *job, struct err *err)
{
    tell(job, "template.removed");
    return ve_sweep(job);
}

/* A worker that died in the middle leaves a half-made layer. */
static void failed_template(struct job *job)
{
    ve_trash_later(job->node);
}

const struct job_kind job_template_build = {
    .name = "template-build",
    .limited = true,
    .cancellable = true,
    .layers = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .work = work_template_build,
    .done = done_template,
    .failed = failed_template,
};

const struct job_kind job_template_import = {
    .name = "template-import",
    .limited = true,
    .cancellable = true,
    .layers = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .work = work_template_import,
    .done = done_template,
    .failed = failed_template,
};

/* ---- update: the same again ---- */

/* Templates of the first version have no recipe; what they came from tells. */
static json_t *recipe_of_source(const char *source)
{
    static const struct {
        const char *source, *base;
    } bases[] = {{"built-in", "busybox"},
                 {"mmdebstrap bookworm", "debian-12"},
                 {"mmdebstrap trixie", "debian-13"}};
    for (size_t i = 0; source && i < ARRAY_SIZE(bases); i++) {
        size_t n = strlen(bases[i].source);
        if (strncmp(source, bases[i].source, n) != 0 || (source[n] && source[n] != ' '))
            continue;
        json_t *include = json_array();
        const char *p = str_starts(source + n, " with ") ? source + n + 6 : "";
        for (size_t len; *p; p += len + (p[len] == ',')) {
            len = strcspn(p, ",");
            json_array_append_new(include, json_stringn(p, len));
        }
        return json_pack("{s:s, s:o}", "build", bases[i].base, "include", include);
    }
    if (source && (str_starts(source, "tar:") || str_starts(source, "oci:")))
        return json_pack("{s:s}", "import", str_starts(source, "tar:") ? source + 4 : source);
    return NULL;
}

int ve_template_recipe(struct ve_node *node, const char *name, json_t **ret, struct err *err)
{
    auto_template struct template *t = NULL;
    if (name_check_template(name, err) < 0 || template_get(node->templates, name, &t, err) < 0)
        return -err->kind;
    json_t *recipe = t->recipe ? json_loads(t->recipe, 0, NULL) : recipe_of_source(t->source);
    if (!json_is_object(recipe))
        return err_set(err, ERR_UNSUPPORTED,
                       "template %s: it is not recorded how it was made; remove it and make it "
                       "again",
                       name);
    json_object_set_new(recipe, "update", json_true());
    *ret = recipe;
    return 0;
}

int ve_template_recipe_change(json_t *recipe, const char *name, const json_t *changes,
                              struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)changes, key, value)
    {
        json_t *own = json_object_get(recipe, key);
        if (!json_object_get(recipe, "from") &&
            (!str_eq(key, "include") || !json_object_get(recipe, "build")))
            return err_set(
                err, ERR_USAGE,
                json_object_get(recipe, "import")
                    ? "template %s was imported: change what it was imported from, and "
                      "update it without options"
                    : "template %s is a base system: of how it is made only its packages "
                      "can be changed; terem template build NEW --from %s puts a script "
                      "on top",
                name, name);
        if (json_is_object(value) && json_is_object(own)) /* env, params */
            json_object_update(own, value);
        else
            json_object_set(recipe, key, value);
    }
    return 0;
}

static int work_template_update(struct job *job, struct err *err)
{
    return json_object_get(job->options, "import") ? work_template_import(job, err)
                                                   : work_template_build(job, err);
}

const struct job_kind job_template_update = {
    .name = "template-update",
    .limited = true,
    .cancellable = true,
    .layers = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .work = work_template_update,
    .done = done_template,
    .failed = failed_template,
};

const struct job_kind job_template_remove = {
    .name = "template-remove",
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .work = work_template_remove,
    .done = done_template_remove,
};

/* ---- what there is ---- */

bool ve_layers_are(const json_t *layers, const struct template *t)
{
    bool same = json_array_size(layers) == t->n_layers;
    for (size_t i = 0; same && i < t->n_layers; i++)
        same = str_eq(json_string_value(json_array_get(layers, i)), t->layers[i]);
    return same;
}

/* Names of the VEs made from it; outdated: only those on layers of an earlier revision. */
static json_t *ves_of(struct ve_node *node, const struct template *t, bool outdated)
{
    json_t *list = json_array();
    for (size_t i = 0; i < node->n_ves; i++) {
        const struct ve *ve = node->ves[i];
        if (ve_hidden(ve) ||
            !str_eq(json_string_value(json_object_get(ve->spec, "template")), t->name) ||
            (outdated && ve_layers_are(json_object_get(ve->spec, "layers"), t)))
            continue;
        json_array_append_new(list, json_string(ve->rec.name));
    }
    return list;
}

/* "web1, web2 and 3 more" */
static void add_names(struct str *s, const json_t *list)
{
    size_t n = 0;
    while (n < json_array_size(list))
        str_add_name(s, &n, json_string_value(json_array_get(list, n)));
    str_end_names(s, n);
}

/* Names of the templates whose recipe begins with it. */
static int templates_on(struct ve_node *node, const char *name, json_t *list, struct err *err)
{
    char **names;
    size_t n;
    if (template_list(node->templates, &names, &n, err) < 0)
        return -err->kind;
    for (size_t i = 0; i < n; i++) {
        auto_template struct template *t = NULL;
        if (template_get(node->templates, names[i], &t, NULL) < 0 || !t->recipe)
            continue;
        json_t *recipe = json_loads(t->recipe, 0, NULL);
        if (str_eq(json_string_value(json_object_get(recipe, "from")), name))
            json_array_append_new(list, json_string(names[i]));
        json_decref(recipe);
    }
    template_names_free(names, n);
    return 0;
}

int ve_template_check_unused(struct ve_node *node, const struct template *t, struct err *err)
{
    auto_str struct str users = str_init(8192);
    json_t *ves = ves_of(node, t, false), *templates = json_array();
    size_t n_ves = json_array_size(ves);
    int r = templates_on(node, t->name, templates, err);
    size_t n_templates = json_array_size(templates);
    if (n_ves)
        str_add(&users, "VE%s ", n_ves == 1 ? "" : "s");
    add_names(&users, ves);
    if (n_templates)
        str_add(&users, "%stemplate%s ", n_ves ? ", and " : "", n_templates == 1 ? "" : "s");
    add_names(&users, templates);
    json_decref(ves);
    json_decref(templates);
    if (r < 0 || n_ves + n_templates == 0)
        return r;
    return err_set(err, ERR_STATE,
                   "template %s cannot be removed: %s %s made from it and could not be brought up "
                   "to date any more; --force removes it all the same, and they keep their layers",
                   t->name, str_c(&users), n_ves + n_templates == 1 ? "is" : "are");
}

/* Has the template that it stands on been made again since? */
static bool base_is_newer(struct ve_node *node, const struct template *t, const json_t *recipe)
{
    const char *from = json_string_value(json_object_get(recipe, "from"));
    auto_template struct template *base = NULL;
    if (!from || template_get(node->templates, from, &base, NULL) < 0)
        return false;
    bool same = base->n_layers + 1 == t->n_layers;
    for (size_t i = 0; same && i < base->n_layers; i++)
        same = str_eq(base->layers[i], t->layers[i]);
    return !same;
}

static json_t *template_json(struct ve_node *node, const struct template *t)
{
    json_t *layers = json_array(), *command = json_null();
    json_t *recipe = t->recipe ? json_loads(t->recipe, 0, NULL) : NULL;
    for (size_t i = 0; i < t->n_layers; i++)
        json_array_append_new(layers, json_string(t->layers[i]));
    if (t->command) {
        command = json_array();
        for (char **p = t->command; *p; p++)
            json_array_append_new(command, json_string(*p));
    }
    return json_pack("{s:s, s:s, s:s, s:o, s:I, s:I, s:s, s:o, s:o, s:o, s:i, s:b, s:o}", "name",
                     t->name, "kind", t->start == TEMPLATE_SYSTEM ? "system" : "app", "init",
                     template_init_name(t->init), "layers", layers, "size", (json_int_t)t->size,
                     "created", (json_int_t)t->created * 1000, "source", t->source ? t->source : "",
                     "command", command, "ves", ves_of(node, t, false), "outdated",
                     ves_of(node, t, true), "revision", (int)t->revision, "base_is_newer",
                     base_is_newer(node, t, recipe), "recipe", recipe ? recipe : json_null());
}

bool ve_layer_is_here(struct ve_node *node, const char *digest)
{
    static const char start[] = "sha256:";
    const char *hex = digest + strlen(start);
    return str_starts(digest, start) && strspn(hex, "0123456789abcdef") == strlen(hex) &&
           template_has_layer(node->templates, digest);
}

int ve_template_show(struct ve_node *node, const char *name, json_t **ret, struct err *err)
{
    auto_template struct template *t = NULL;
    if (name_check_template(name, err) < 0 || template_get(node->templates, name, &t, err) < 0)
        return -err->kind;
    *ret = template_json(node, t);
    return 0;
}

int ve_template_list(struct ve_node *node, json_t **ret, struct err *err)
{
    char **names;
    size_t n;
    if (template_list(node->templates, &names, &n, err) < 0)
        return -err->kind;
    json_t *out = json_array();
    for (size_t i = 0; i < n; i++) {
        auto_template struct template *t = NULL;
        if (template_get(node->templates, names[i], &t, NULL) == 0)
            json_array_append_new(out, template_json(node, t));
    }
    template_names_free(names, n);
    *ret = out;
    return 0;
}
