/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/schema.h"

#include "base/cleanup.h"
#include "base/name.h"
#include "base/str.h"
#include "param/param.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define REF     "#/components/schemas/"
#define PATH_IN 200 /* a path longer than this is cut in the sentence */

extern const char schema_text[];

struct schema {
    json_t *components;
};

/* What is being checked: the schemas, and where in the document we are. */
struct walk {
    struct schema *s;
    char path[PATH_IN];
};

static int add_params(json_t *components, const char *name, bool changes)
{
    json_t *properties = json_object();
    for (size_t i = 0; i < param_table_size; i++) {
        const struct param_row *row = &param_table[i];
        if (row->kind == PARAM_COUNTER || str_ends(row->key, ".CLASS"))
            continue;
        json_t *type = changes ? json_pack("[ss]", "string", "null") : json_string("string");
        json_object_set_new(properties, row->key,
                            json_pack("{s:o,s:s}", "type", type, "description", row->summary));
    }
    json_t *rest = changes ? json_pack("{s:[ss]}", "type", "string", "null")
                           : json_pack("{s:s}", "type", "string");
    return json_object_set_new(components, name,
                               json_pack("{s:s,s:s,s:b,s:o,s:o}", "type", "object", "description",
                                         changes ? "Resource parameters; null: back to the default."
                                                 : "Resource parameters, as in GET /v1/params.",
                                         "x-terem-params", 1, "properties", properties,
                                         "additionalProperties", rest));
}

int schema_open(struct schema **ret, struct err *err)
{
    struct schema *s = calloc(1, sizeof(*s));
    if (s)
        s->components = json_loads(schema_text, JSON_REJECT_DUPLICATES, NULL);
    if (!s || !s->components || add_params(s->components, "Params", false) < 0 ||
        add_params(s->components, "ParamChanges", true) < 0) {
        schema_free(s);
        return err_set(err, ERR_EXHAUSTED, "out of memory for the schemas of the API");
    }
    *ret = s;
    return 0;
}

void schema_free(struct schema *s)
{
    if (!s)
        return;
    json_decref(s->components);
    free(s);
}

json_t *schema_components(struct schema *s)
{
    return s->components;
}

static const char *next_key(void *ctx, size_t i)
{
    void *it = json_object_iter(ctx);
    while (it && i--)
        it = json_object_iter_next(ctx, it);
    return it ? json_object_iter_key(it) : NULL;
}

/* "the document" at the top, else the path. */
static const char *where(const struct walk *w)
{
    return *w->path ? w->path : "the body";
}

static const char *type_of(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "integer";
    case JSON_REAL:
        return "number";
    case JSON_NULL:
        return "null";
    default:
        return "boolean";
    }
}

static bool type_fits(const json_t *types, const json_t *v)
{
    const char *have = type_of(v);
    if (json_is_string(types))
        return str_eq(json_string_value(types), have);
    size_t i;
    const json_t *t;
    json_array_foreach((json_t *)types, i, t) if (str_eq(json_string_value(t), have)) return true;
    return false;
}

static int check_type(struct walk *w, const json_t *schema, const json_t *v, struct err *err)
{
    const json_t *types = json_object_get(schema, "type");
    if (!types || type_fits(types, v))
        return 0;
    if (json_is_string(types))
        return err_set(err, ERR_USAGE, "%s must be of type %s, not %s", where(w),
                       json_string_value(types), type_of(v));
    return err_set(err, ERR_USAGE, "%s must be of type %s or %s, not %s", where(w),
                   json_string_value(json_array_get(types, 0)),
                   json_string_value(json_array_get(types, 1)), type_of(v));
}

static int check_enum(struct walk *w, const json_t *schema, const json_t *v, struct err *err)
{
    const json_t *choices = json_object_get(schema, "enum"), *c;
    if (!choices)
        return 0;
    auto_str struct str list = str_init(256);
    size_t i;
    json_array_foreach((json_t *)choices, i, c)
    {
        if (json_equal(c, v))
            return 0;
        str_add(&list, "%s%s",
                i == 0                              ? ""
                : i + 1 == json_array_size(choices) ? " or "
                                                    : ", ",
                json_string_value(c));
    }
    return err_set(err, ERR_USAGE, "%s must be %s", where(w), str_c(&list));
}

/* Is `n` within the bounds that the keywords `low` and `high` give? */
static int check_bounds(struct walk *w, const json_t *schema, const char *low, const char *high,
                        json_int_t n, const char *what, struct err *err)
{
    const json_t *min = json_object_get(schema, low), *max = json_object_get(schema, high);
    if (min && n < json_integer_value(min))
        return err_set(err, ERR_USAGE, "%s %s at least %lld", where(w), what,
                       (long long)json_integer_value(min));
    if (max && n > json_integer_value(max))
        return err_set(err, ERR_USAGE, "%s %s at most %lld", where(w), what,
                       (long long)json_integer_value(max));
    return 0;
}

static int check(struct walk *w, const json_t *schema, const json_t *v, struct err *err);

static int check_inside(struct walk *w, const json_t *schema, const json_t *v, const char *key,
                        size_t index, struct err *err)
{
    size_t n = strlen(w->path);
    /* Cut paths are harmless: they only make the sentence shorter. */
    if (key)
        str_print(w->path + n, sizeof(w->path) - n, "%s%s", n ? "." : "", key);
    else
        str_print(w->path + n, sizeof(w->path) - n, "[%zu]", index);
    int rc = check(w, schema, v, err);
    w->path[n] = '\0';
    return rc;
}

static int unknown_field(struct walk *w, json_t *properties, const char *key, struct err *err)
{
    const char *near = name_suggest(key, next_key, properties);
    auto_str struct str safe = str_init(1024);
    str_escape(&safe, key, strnlen(key, 64));
    return err_set(err, ERR_USAGE, "%s has no field \"%s\"%s%s%s", where(w), str_c(&safe),
                   near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int check_object(struct walk *w, const json_t *schema, const json_t *v, struct err *err)
{
    json_t *properties = json_object_get(schema, "properties");
    const json_t *rest = json_object_get(schema, "additionalProperties");
    bool params = json_is_true(json_object_get(schema, "x-terem-params"));
    const char *key;
    json_t *item;
    size_t i;
    int rc = check_bounds(w, schema, "minProperties", "maxProperties",
                          (json_int_t)json_object_size(v), "must have", err);
    if (rc < 0)
        return rc;
    json_object_foreach((json_t *)v, key, item)
    {
        const json_t *sub = json_object_get(properties, key);
        if (params && !param_find_err(key, err))
            return -err->kind;
        if (!sub && json_is_false(rest))
            return unknown_field(w, properties, key, err);
        if (!sub)
            sub = rest;
        rc = sub ? check_inside(w, sub, item, key, 0, err) : 0;
        if (rc < 0)
            return rc;
    }
    json_array_foreach(
        json_object_get(schema, "required"), i,
        item) if (!json_object_get(v,
                                   json_string_value(
                                       item))) return err_set(err, ERR_USAGE,
                                                              "%s needs the field \"%s\"", where(w),
                                                              json_string_value(item));
    return 0;
}

static int check_array(struct walk *w, const json_t *schema, const json_t *v, struct err *err)
{
    const json_t *items = json_object_get(schema, "items");
    json_t *item;
    size_t i;
    int rc = check_bounds(w, schema, "minItems", "maxItems", (json_int_t)json_array_size(v),
                          "must have", err);
    if (rc < 0 || !items)
        return rc;
    json_array_foreach((json_t *)v, i, item)
    {
        rc = check_inside(w, items, item, NULL, i, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int check(struct walk *w, const json_t *schema, const json_t *v, struct err *err)
{
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    if (ref && str_starts(ref, REF))
        schema = json_object_get(w->s->components, ref + strlen(REF));
    if (!json_is_object(schema))
        return err_set(err, ERR_INTERNAL, "there is no schema for %s", where(w));
    int rc = check_type(w, schema, v, err);
    if (rc == 0)
        rc = check_enum(w, schema, v, err);
    if (rc < 0)
        return rc;
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return check_object(w, schema, v, err);
    case JSON_ARRAY:
        return check_array(w, schema, v, err);
    case JSON_STRING:
        return check_bounds(w, schema, "minLength", "maxLength", (json_int_t)json_string_length(v),
                            "must be of length", err);
    case JSON_INTEGER:
        return check_bounds(w, schema, "minimum", "maximum", json_integer_value(v), "must be", err);
    default:
        return 0;
    }
}

int schema_check(struct schema *s, const char *name, const json_t *value, struct err *err)
{
    struct walk w = {.s = s};
    struct err own = {0};
    const json_t *schema = json_object_get(s->components, name);
    return check(&w, schema, value, err ? err : &own);
}

int schema_parse(struct schema *s, const char *name, const char *text, size_t len, json_t **ret,
                 struct err *err)
{
    json_error_t why;
    /* jansson bounds the depth (JSON_PARSER_MAX_DEPTH, 2048) and refuses NUL and bad UTF-8. */
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    if (!value)
        return err_set(err, ERR_USAGE, "the body is not usable JSON: line %d, column %d: %s",
                       why.line, why.column, why.text);
    int rc = schema_check(s, name, value, err);
    if (rc < 0) {
        json_decref(value);
        return rc;
    }
    *ret = value;
    return 0;
}
