/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VE's record: from a request to a specification, to and from the registry, out as JSON. */
#include "base/name.h"
#include "ve/instance.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/pools.h"
#include "ve/rows.h"
#include "ve/saved.h"

#include <arpa/inet.h>

#define PRIORITY_MAX 1000

#define TEXT_MAX  4096 /* one command word, value, label */
#define ITEMS_MAX 256

static int need(const json_t *v, json_type type, const char *key, struct err *err)
{
    if (!v || json_typeof(v) == type || json_is_null(v))
        return 0;
    if ((type == JSON_TRUE || type == JSON_FALSE) && json_is_boolean(v))
        return 0;
    static const char *const names[] = {
        [JSON_OBJECT] = "an object",    [JSON_ARRAY] = "a list",  [JSON_STRING] = "a text",
        [JSON_INTEGER] = "a number",    [JSON_REAL] = "a number", [JSON_TRUE] = "true or false",
        [JSON_FALSE] = "true or false", [JSON_NULL] = "null"};
    return err_set(err, ERR_USAGE, "%s must be %s", key, names[type]);
}

static int check_strings(const json_t *v, const char *key, struct err *err)
{
    size_t i;
    json_t *item;
    if (json_array_size(v) > ITEMS_MAX)
        return err_set(err, ERR_USAGE, "%s has more than %d items", key, ITEMS_MAX);
    json_array_foreach(v, i, item)
    {
        if (!json_is_string(item) || json_string_length(item) > TEXT_MAX ||
            strlen(json_string_value(item)) != json_string_length(item))
            return err_set(err, ERR_USAGE, "%s must be a list of texts of at most %d bytes", key,
                           TEXT_MAX);
    }
    if (json_array_size(v) && !*json_string_value(json_array_get(v, 0)))
        return err_set(err, ERR_USAGE, "%s begins with an empty text", key);
    return 0;
}

static int check_env(const json_t *v, struct err *err)
{
    const char *key;
    json_t *value;
    if (json_object_size(v) > ITEMS_MAX)
        return err_set(err, ERR_USAGE, "env has more than %d variables", ITEMS_MAX);
    json_object_foreach((json_t *)v, key, value)
    {
        if (!*key || strchr(key, '='))
            return err_set(err, ERR_USAGE, "\"%.60s\" cannot name a variable", key);
        if (!json_is_string(value) || json_string_length(value) > TEXT_MAX ||
            strlen(json_string_value(value)) != json_string_length(value))
            return err_set(err, ERR_USAGE, "env.%.60s must be a text of at most %d bytes", key,
                           TEXT_MAX);
    }
    return 0;
}

int ve_record_lists_check(const json_t *rq, struct err *err)
{
    int r = check_strings(json_object_get(rq, "command"), "command", err);
    return r < 0 ? r : check_env(json_object_get(rq, "env"), err);
}

int ve_labels_check(const json_t *labels, struct err *err)
{
    const char *key;
    json_t *value;
    if (json_object_size(labels) > 64)
        return err_set(err, ERR_USAGE, "more than 64 labels");
    json_object_foreach((json_t *)labels, key, value)
    {
        if (name_check_label(key, err) < 0)
            return err_wrap(err, "label");
        if (json_is_null(value))
            continue;
        const char *text = json_string_value(value);
        if (!text || strlen(text) != json_string_length(value) || strlen(text) > 255)
            return err_set(err, ERR_USAGE, "label %s must be a text of at most 255 bytes", key);
        for (const char *p = text; *p; p++)
            if ((unsigned char)*p < 0x20 || *p == 0x7f)
                return err_set(err, ERR_USAGE, "label %s has a control character", key);
    }
    return 0;
}

int ve_params_parse(const json_t *params, struct param_set *ret, struct err *err)
{
    const char *key;
    json_t *value;
    param_set_init(ret);
    json_object_foreach((json_t *)params, key, value)
    {
        const struct param_row *row = param_find_err(key, err);
        struct param_value v;
        if (!row)
            return -err->kind;
        if (!json_is_string(value))
            return err_set(err, ERR_USAGE, "%s must be a text such as \"512M\"", key);
        if (param_parse(row, key, json_string_value(value), &v, err) < 0)
            return -err->kind;
        if (param_set_put_key(ret, row, key, v, err) < 0)
            return -err->kind;
    }
    /* The clock is read from /proc/cpuinfo, which asks every core: only for whom it concerns. */
    int r = param_set_in_mhz(ret) ? param_set_resolve(ret, ve_guarantee_clock_mhz(), err) : 0;
    return r < 0 ? r : param_set_check(ret, err);
}

static json_t *list_json(char **list)
{
    json_t *out = json_array();
    for (char **p = list; p && *p; p++)
        json_array_append_new(out, json_string(*p));
    return out;
}

/* The template's environment first, then the request's over it. */
static json_t *env_json(char **list, const json_t *own)
{
    json_t *out = json_object();
    for (char **p = list; p && *p; p++) {
        char *eq = strchr(*p, '=');
        if (!eq || eq == *p)
            continue;
        auto_free char *key = strndup(*p, (size_t)(eq - *p));
        if (key)
            json_object_set_new(out, key, json_string(eq + 1));
    }
    if (own)
        json_object_update(out, (json_t *)own);
    return out;
}

static int from_template(const struct template *t, const json_t *rq, json_t *spec, struct err *err)
{
    const char *kind = json_string_value(json_object_get(rq, "kind"));
    const json_t *command = json_object_get(rq, "command");
    bool has_command = json_array_size(command) > 0;
    bool system = kind ? str_eq(kind, "system") : t->start == TEMPLATE_SYSTEM && !has_command;
    if (kind && !system && !str_eq(kind, "app"))
        return err_set(err, ERR_USAGE, "kind must be \"system\" or \"app\"");
    if (system && t->start != TEMPLATE_SYSTEM)
        return err_set(err, ERR_USAGE,
                       "template %s has no init of its own; create it as an application VE",
                       t->name);
    if (system && has_command)
        return err_set(err, ERR_USAGE,
                       "a system VE boots its own init and takes no command; "
                       "leave the command out or create it as an application");
    if (!system && !has_command && (!t->command || !t->command[0]))
        return err_set(err, ERR_USAGE, "template %s names no command to run; give one", t->name);
    json_object_set_new(spec, "kind", json_string(system ? "system" : "app"));
    json_object_set_new(spec, "template", json_string(t->name));
    json_t *layers = json_array();
    for (size_t i = 0; i < t->n_layers; i++)
        json_array_append_new(layers, json_string(t->layers[i]));
    json_object_set_new(spec, "layers", layers);
    json_object_set_new(spec, "init",
                        json_string(template_init_name(system ? t->init : TEMPLATE_INIT_NONE)));
    json_object_set_new(spec, "init_path",
                        system && t->init_path ? json_string(t->init_path) : json_null());
    json_object_set_new(spec, "command",
                        system        ? json_null()
                        : has_command ? json_deep_copy(command)
                                      : list_json(t->command));
    json_object_set_new(spec, "env", env_json(system ? NULL : t->env, json_object_get(rq, "env")));
    const json_t *user = json_object_get(rq, "user"), *dir = json_object_get(rq, "workdir");
    json_object_set_new(spec, "user",
                        json_is_string(user) ? json_deep_copy(user)
                        : !system && t->user ? json_string(t->user)
                                             : json_null());
    json_object_set_new(spec, "workdir",
                        json_is_string(dir)     ? json_deep_copy(dir)
                        : !system && t->workdir ? json_string(t->workdir)
                                                : json_null());
    return 0;
}

int ve_priority_check(const json_t *priority, struct err *err)
{
    json_int_t n = json_integer_value(priority);
    if (priority && (!json_is_integer(priority) || n < 0 || n > PRIORITY_MAX))
        return err_set(err, ERR_USAGE, "priority must be a number from 0 to %d", PRIORITY_MAX);
    return 0;
}

static int check_types(const json_t *rq, struct err *err)
{
    static const struct {
        const char *key;
        json_type type;
    } fields[] = {{"name", JSON_STRING},     {"template", JSON_STRING}, {"params", JSON_OBJECT},
                  {"labels", JSON_OBJECT},   {"kind", JSON_STRING},     {"command", JSON_ARRAY},
                  {"env", JSON_OBJECT},      {"user", JSON_STRING},     {"workdir", JSON_STRING},
                  {"autostart", JSON_TRUE},  {"restart", JSON_STRING},  {"nesting", JSON_TRUE},
                  {"start", JSON_TRUE},      {"profile", JSON_STRING},  {"pool", JSON_STRING},
                  {"priority", JSON_INTEGER}};
    const char *key;
    json_t *value;
    if (!json_is_object(rq))
        return err_set(err, ERR_USAGE, "the request must be an object");
    json_object_foreach((json_t *)rq, key, value)
    {
        size_t i = 0;
        while (i < ARRAY_SIZE(fields) && !str_eq(fields[i].key, key))
            i++;
        if (i == ARRAY_SIZE(fields))
            return err_set(err, ERR_USAGE, "there is no field \"%.60s\" in a VE", key);
        if (need(value, fields[i].type, key, err) < 0)
            return -err->kind;
        if (json_is_string(value) &&
            (strlen(json_string_value(value)) != json_string_length(value)))
            return err_set(err, ERR_USAGE, "%s has a NUL character", key);
    }
    return 0;
}

static const char *restart_ok(const char *text)
{
    static const char *const known[] = {"no", "on-failure", "always"};
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (!text || str_eq(known[i], text))
            return known[i];
    return NULL;
}

/* Its own parameters and its profile's name, and what comes of both. */
static int params_spec(const struct ve_node *node, const json_t *rq, json_t *spec,
                       struct param_set *ret, struct err *err)
{
    json_t *own = json_object();
    const json_t *profile = json_object_get(rq, "profile");
    json_object_set_new(spec, "params", own);
    if (ve_params_merge(own, json_object_get(rq, "params"), err) < 0)
        return -err->kind;
    if (json_is_string(profile)) {
        if (ve_profile_check(node, json_string_value(profile), err) < 0)
            return -err->kind;
        json_object_set(spec, "profile", (json_t *)profile);
    }
    return ve_params_effective(node, spec, ret, err);
}

int ve_record_build(struct ve_node *node, const json_t *rq, const struct template *t,
                    json_t **ret_spec, struct param_set *ret_params, struct err *err)
{
    if (check_types(rq, err) < 0)
        return -err->kind;
    const char *name = json_string_value(json_object_get(rq, "name"));
    const char *template_name = json_string_value(json_object_get(rq, "template"));
    if (!name)
        return err_set(err, ERR_USAGE, "a VE needs a name");
    if (name_check_ve(name, err) < 0)
        return -err->kind;
    if (ve_find(node, name))
        return err_set(err, ERR_EXISTS,
                       "%s: there is a VE of this name already; choose another name or destroy it",
                       name);
    auto_template struct template *named = NULL;
    if (!t &&
        (name_check_template(template_name ? template_name : "busybox", err) < 0 ||
         template_get(node->templates, template_name ? template_name : "busybox", &named, err) < 0))
        return err_wrap(err, "%s", name);
    t = t ? t : named;
    const char *pool_name = json_string_value(json_object_get(rq, "pool"));
    struct ve_pool *pool = NULL;
    if (ve_pool_find_err(node, pool_name ? pool_name : "default", &pool, err) < 0 ||
        ve_pool_try(node, pool, err) < 0)
        return err_wrap(err, "%s", name);
    const char *restart = restart_ok(json_string_value(json_object_get(rq, "restart")));
    if (!restart)
        return err_set(err, ERR_USAGE, "%s: restart must be no, on-failure or always", name);
    if (ve_record_lists_check(rq, err) < 0 ||
        ve_labels_check(json_object_get(rq, "labels"), err) < 0 ||
        ve_priority_check(json_object_get(rq, "priority"), err) < 0)
        return err_wrap(err, "%s", name);

    json_t *spec = json_object();
    if (params_spec(node, rq, spec, ret_params, err) < 0 ||
        ve_apply_check(node, ret_params, err) < 0 ||
        ve_disk_check_new(node, pool->name, ret_params, err) < 0 ||
        from_template(t, rq, spec, err) < 0) {
        json_decref(spec);
        return err_wrap(err, "%s", name);
    }
    json_object_set_new(spec, "pool", json_string(pool->name));
    const json_t *labels = json_object_get(rq, "labels");
    json_object_set_new(spec, "labels",
                        json_is_object(labels) ? json_deep_copy(labels) : json_object());
    json_object_set_new(spec, "restart", json_string(restart));
    json_object_set_new(spec, "autostart",
                        json_boolean(json_is_true(json_object_get(rq, "autostart"))));
    json_object_set_new(spec, "priority",
                        json_integer(json_integer_value(json_object_get(rq, "priority"))));
    json_object_set_new(spec, "nesting",
                        json_boolean(json_is_true(json_object_get(rq, "nesting"))));
    *ret_spec = spec;
    return 0;
}

int ve_record_check(struct ve_node *node, const json_t *rq, json_t **ret_spec,
                    struct param_set *ret_params, struct err *err)
{
    return ve_record_build(node, rq, NULL, ret_spec, ret_params, err);
}

void ve_record_free(struct ve *ve)
{
    if (!ve)
        return;
    json_decref((json_t *)ve->spec);
    json_decref(ve->run);
    json_decref(ve->redo);
    snapshots_free(ve);
    param_unshare(&ve->node->shelf, ve->params);
    registry_ve_done(&ve->rec);
    cleanup_fd(&ve->pidfd);
    free(ve->refused);
    free(ve->idle);
    free(ve);
}

int ve_params_put(struct ve *ve, const struct param_set *set, struct err *err)
{
    const struct param_set *new = NULL;
    if (param_share(&ve->node->shelf, set, &new, err) < 0)
        return -err->kind;
    param_unshare(&ve->node->shelf, ve->params);
    ve->params = new;
    return 0;
}

/* A row that this version no longer takes, or a profile that is gone, must not keep the VE from
 * loading. */
static int load_params(struct ve *ve, struct err *err)
{
    struct err e = {0};
    struct param_set set;
    const char *profile = ve_profile_of(ve->spec);
    if (profile && !ve_profile_params(ve->node, profile))
        log_warn(ve->rec.name, 0, "its profile %s is gone: it has its own parameters only",
                 profile);
    if (ve_params_effective(ve->node, ve->spec, &set, &e) == 0)
        return ve_params_put(ve, &set, err);
    log_warn(ve->rec.name, 0, "its parameters are not all known here: %s", e.text);
    if (profile && ve_params_parse(json_object_get(ve->spec, "params"), &set, &e) < 0)
        log_warn(ve->rec.name, 0, "its own parameters are not all known here: %s", e.text);
    return ve_params_put(ve, &set, err);
}

int ve_record_load(struct ve_node *node, const struct registry_ve *rec, struct ve **ret,
                   struct err *err)
{
    struct ve *ve = calloc(1, sizeof(*ve));
    json_error_t je;
    if (!ve)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    ve->node = node;
    ve->pidfd = -1;
    ve->rec = *rec;
    ve->rec.spec = ve->rec.run = NULL;
    ve->state = (enum ve_state)rec->state;
    ve->spec = rec->spec ? json_loads(rec->spec, 0, &je) : NULL;
    ve->run = rec->run ? json_loads(rec->run, 0, &je) : json_object();
    if (!ve->run)
        ve->run = json_object();
    if (!json_is_object(ve->spec) || rec->state <= VE_ABSENT || rec->state >= VE_STATE__COUNT) {
        ve_record_free(ve);
        return err_set(err, ERR_CORRUPT, "%s: its record in the registry cannot be read",
                       rec->name);
    }
    if (load_params(ve, err) < 0) {
        ve_record_free(ve);
        return -err->kind;
    }
    alike_share(ve);
    *ret = ve;
    return 0;
}

int ve_record_save(struct ve *ve, struct err *err)
{
    auto_free char *spec = json_dumps(ve->spec, JSON_COMPACT);
    auto_free char *run = json_dumps(ve->run, JSON_COMPACT);
    if (!spec || !run)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    struct registry_ve rec = ve->rec;
    rec.spec = spec;
    rec.run = run;
    rec.state = ve->rec.state = (int)ve->state;
    int r = rec.id ? registry_ve_update(ve->node->registry, &rec, err)
                   : registry_ve_insert(ve->node->registry, &rec, ve_slot_max(ve->node), err);
    if (r == -ERR_EXHAUSTED && !rec.id &&
        ve_slot_max(ve->node) < ve_instance_slots(ve->node->instance))
        return err_set(err, ERR_EXHAUSTED,
                       "all %u places for VEs on this node are taken; destroy one first, or give "
                       "the node a larger network.pool4",
                       ve_slot_max(ve->node));
    if (r < 0)
        return r;
    ve->rec.id = rec.id;
    ve->rec.slot = rec.slot;
    ve->rec.created = rec.created;
    alike_later(ve);
    return 0;
}
