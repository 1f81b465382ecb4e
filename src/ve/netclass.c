/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Destination classes: names for lists of prefixes, kept in the registry. */
#include "base/name.h"
#include "ve/internal.h"
#include "ve/net.h"

static struct ve_class *find(const struct ve_node *node, const char *name)
{
    for (size_t i = 0; i < node->classes.n; i++)
        if (str_eq(node->classes.v[i].name, name))
            return &node->classes.v[i];
    return NULL;
}

const struct ve_class *ve_class_find(const struct ve_node *node, const char *name)
{
    return find(node, name);
}

const struct ve_class *ve_class_of_id(const struct ve_node *node, uint32_t id)
{
    for (size_t i = 0; i < node->classes.n; i++)
        if (node->classes.v[i].id == id)
            return &node->classes.v[i];
    return NULL;
}

static int append(struct ve_node *node, uint32_t id, const char *name, bool removed,
                  struct err *err)
{
    struct ve_classes *c = &node->classes;
    struct ve_class *v = reallocarray(c->v, c->n + 1, sizeof(*v));
    if (!v)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    c->v = v;
    v[c->n] = (struct ve_class){.id = id, .removed = removed};
    str_print(v[c->n++].name, sizeof(v->name), "%s", name);
    return 0;
}

void ve_classes_done(struct ve_node *node)
{
    network_prefixes_done(&node->classes.prefixes);
    free(node->classes.v);
    node->classes = (struct ve_classes){0};
}

/* ---- names ---- */

static const char *next_name(void *ctx, size_t i)
{
    const struct ve_classes *c = ctx;
    for (size_t k = 0; k < c->n; k++)
        if (!c->v[k].removed && i-- == 0)
            return c->v[k].name;
    return NULL;
}

static int find_err(struct ve_node *node, const char *name, struct ve_class **ret, struct err *err)
{
    if (name_check_ve(name, err) < 0)
        return err_wrap(err, "class");
    struct ve_class *c = find(node, name);
    if (c && !c->removed) {
        *ret = c;
        return 0;
    }
    const char *near = name_suggest(name, next_name, &node->classes);
    if (near)
        return err_set(err, ERR_NOT_FOUND, "there is no class %s; did you mean %s?", name, near);
    return err_set(err, ERR_NOT_FOUND, "there is no class %s; terem network class list shows them",
                   name);
}

int ve_class_check(struct ve_node *node, const char *name, struct err *err)
{
    struct ve_class *c;
    return find_err(node, name, &c, err);
}

/* Of a class that people make. */
static int check_name(const char *name, struct err *err)
{
    if (name_check_ve(name, err) < 0)
        return err_wrap(err, "class");
    if (str_eq(name, "any"))
        return err_set(err, ERR_USAGE,
                       "class any is what no prefix of another class holds: it has no list");
    if (str_eq(name, "local"))
        return err_set(err, ERR_USAGE,
                       "class local is this node's VEs: its prefixes are network.pool4 and "
                       "network.pool6 of terem.conf");
    if (strlen(name) > NETWORK_CLASS_NAME_MAX)
        return err_set(err, ERR_USAGE, "class %s: its name has at most %d characters", name,
                       NETWORK_CLASS_NAME_MAX);
    return 0;
}

/* ---- lists of prefixes ---- */

struct prefix_list {
    struct network_prefix *p;
    size_t n;
};

static void prefix_list_done(struct prefix_list *l)
{
    free(l->p);
}

static int parse_list(const json_t *texts, uint32_t class, struct prefix_list *ret, struct err *err)
{
    size_t i, n = json_array_size(texts);
    json_t *text;
    if (texts && !json_is_array(texts))
        return err_set(err, ERR_USAGE, "prefixes must be a list of texts");
    if (n > NETWORK_PREFIXES_ONCE)
        return err_set(err, ERR_USAGE,
                       "%zu prefixes are more than the %d of one change; divide them", n,
                       NETWORK_PREFIXES_ONCE);
    ret->p = calloc(n + 1, sizeof(*ret->p));
    if (!ret->p)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    json_array_foreach(texts, i, text)
    {
        if (!json_is_string(text))
            return err_set(err, ERR_USAGE, "a prefix must be a text such as \"192.0.2.0/24\"");
        if (network_prefix_parse(json_string_value(text), &ret->p[i], err) < 0)
            return -err->kind;
        ret->p[i].class = class;
    }
    ret->n = n;
    return 0;
}

static int tell_clash(const struct ve_node *node, const struct prefix_list *more,
                      const struct network_prefix *p, struct err *err)
{
    char text[NETWORK_PREFIX_TEXT];
    const struct ve_class *c = ve_class_of_id(node, p->class);
    network_prefix_text(p, text);
    if (p >= more->p && p < more->p + more->n)
        return err_set(err, ERR_USAGE, "%s is given twice; leave one out", text);
    return err_set(err, ERR_EXISTS, "%s is in class %s already; %s", text, c ? c->name : "?",
                   more->p[0].class == p->class ? "leave it out" : "take it out there first");
}

/* The list as it shall be. */
static int change_list(const struct ve_node *node, struct prefix_list *add,
                       struct prefix_list *away, struct network_prefixes *list, struct err *err)
{
    char text[NETWORK_PREFIX_TEXT];
    const struct network_prefix *p = NULL;
    if (network_prefixes_remove(list, away->p, away->n, &p, err) < 0) {
        if (p)
            err_set(err, ERR_NOT_FOUND,
                    "it has no prefix %s, or that was given twice; terem network class show tells "
                    "what it has",
                    network_prefix_text(p, text));
        return -err->kind;
    }
    if (network_prefixes_add(list, add->p, add->n, &p, err) < 0)
        return p ? tell_clash(node, add, p, err) : -err->kind;
    return 0;
}

static int copy_list(const struct network_prefixes *from, struct network_prefixes *ret,
                     struct err *err)
{
    ret->p = calloc(from->n + 1, sizeof(*ret->p));
    if (!ret->p)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (from->n)
        memcpy(ret->p, from->p, from->n * sizeof(*from->p));
    ret->n = from->n;
    return 0;
}

static json_t *texts_of(const struct ve_node *node, uint32_t class)
{
    char text[NETWORK_PREFIX_TEXT];
    auto_free struct network_prefix *local = NULL;
    json_t *out = json_array();
    const struct network_prefixes *list = &node->classes.prefixes;
    size_t n = 0;
    if (class == NETWORK_CLASS_LOCAL)
        network_prefixes_local(node->network, &local, &n, NULL);
    for (size_t i = 0; i < n; i++)
        json_array_append_new(out, json_string(network_prefix_text(&local[i], text)));
    for (size_t i = 0; i < list->n; i++)
        if (list->p[i].class == class)
            json_array_append_new(out, json_string(network_prefix_text(&list->p[i], text)));
    return out;
}

static char *registry_text(const struct network_prefixes *list, uint32_t class)
{
    char text[NETWORK_PREFIX_TEXT];
    json_t *out = json_array();
    for (size_t i = 0; i < list->n; i++)
        if (list->p[i].class == class)
            json_array_append_new(out, json_string(network_prefix_text(&list->p[i], text)));
    char *s = json_dumps(out, JSON_COMPACT);
    json_decref(out);
    return s;
}

/* ---- the registry ---- */

static int load_one(void *ctx, int64_t id, const char *name, const char *prefixes, struct err *err)
{
    struct ve_node *node = ctx;
    json_error_t je;
    auto_clean(prefix_list_done) struct prefix_list l = {0};
    const struct network_prefix *clash;
    struct err e = {0};
    if (append(node, (uint32_t)id, name, !prefixes, err) < 0)
        return -err->kind;
    json_t *texts = prefixes ? json_loads(prefixes, 0, &je) : NULL;
    if (prefixes && (!json_is_array(texts) || parse_list(texts, (uint32_t)id, &l, &e) < 0 ||
                     network_prefixes_add(&node->classes.prefixes, l.p, l.n, &clash, &e) < 0))
        log_warn(NULL, 0,
                 "class %s cannot be read and holds nothing%s%s; add its prefixes again with terem "
                 "network class add",
                 name, e.kind ? ": " : "", e.text);
    json_decref(texts);
    return 0;
}

int ve_classes_load(struct ve_node *node, struct err *err)
{
    if (append(node, NETWORK_CLASS_ANY, "any", false, err) < 0 ||
        append(node, NETWORK_CLASS_LOCAL, "local", false, err) < 0)
        return -err->kind;
    return registry_class_each(node->registry, load_one, node, err);
}

/* ---- as JSON ---- */

static json_t *users_of(struct ve_node *node, const char *class)
{
    json_t *out = json_array();
    for (size_t i = 0; i < node->n_ves; i++)
        if (param_set_has_class(node->ves[i]->params, class))
            json_array_append_new(out, json_string(node->ves[i]->rec.name));
    return out;
}

static size_t count_of(const struct ve_node *node, uint32_t class)
{
    auto_free struct network_prefix *local = NULL;
    size_t n = 0;
    if (class == NETWORK_CLASS_LOCAL)
        network_prefixes_local(node->network, &local, &n, NULL);
    for (size_t i = 0; i < node->classes.prefixes.n; i++)
        n += node->classes.prefixes.p[i].class == class;
    return n;
}

static json_t *class_json(struct ve_node *node, const struct ve_class *c)
{
    return json_pack("{s:s, s:I, s:o}", "name", c->name, "count", (json_int_t)count_of(node, c->id),
                     "ves", users_of(node, c->name));
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct ve_class *const *)a)->name,
                  (*(const struct ve_class *const *)b)->name);
}

int ve_class_list(struct ve_node *node, json_t **ret, struct err *err)
{
    size_t n = 0;
    auto_free const struct ve_class **list = calloc(node->classes.n + 1, sizeof(*list));
    if (!list)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < node->classes.n; i++)
        if (!node->classes.v[i].removed)
            list[n++] = &node->classes.v[i];
    qsort(list, n, sizeof(*list), by_name);
    *ret = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(*ret, class_json(node, list[i]));
    return 0;
}

int ve_class_show(struct ve_node *node, const char *name, json_t **ret, struct err *err)
{
    struct ve_class *c;
    if (find_err(node, name, &c, err) < 0)
        return -err->kind;
    *ret = class_json(node, c);
    json_object_set_new(*ret, "prefixes", texts_of(node, c->id));
    return 0;
}

/* ---- changing ---- */

/* A new class has no number before it is in the registry: its prefixes get it then. */
static void number(struct network_prefixes *list, uint32_t id)
{
    for (size_t i = 0; i < list->n; i++)
        if (list->p[i].class == 0)
            list->p[i].class = id;
}

/* *id 0: a new one.  The kernel has the new list before the registry's commit, and gets the old one
 * again when that fails; teremd gives it the registry's when it starts. */
static int save(struct ve_node *node, const char *name, struct network_prefixes *list, bool there,
                uint32_t *id, json_t *event, struct err *err)
{
    int64_t made = *id;
    bool sorted = false;
    auto_free char *text = there ? registry_text(list, *id) : NULL;
    int r = there && !text ? err_set(err, ERR_EXHAUSTED, "out of memory") : ve_begin(node, err);
    if (r == 0 && !*id)
        r = registry_class_insert(node->registry, NETWORK_CLASS_FIRST, name, text, &made, err);
    else if (r == 0)
        r = registry_class_update(node->registry, *id, text, err);
    if (r == 0) {
        number(list, (uint32_t)made);
        r = network_count_prefixes(node->network, list, err);
        sorted = true;
    }
    if (r == 0) {
        json_array_append(node->pending, event);
        r = ve_commit(node, err);
    }
    json_decref(event);
    if (r == 0) {
        *id = (uint32_t)made;
        return 0;
    }
    ve_rollback(node);
    if (sorted)
        network_count_prefixes(node->network, &node->classes.prefixes, &(struct err){0});
    return r;
}

static int room_for(const struct ve_node *node, const char *name, struct err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < node->classes.n; i++)
        n += !node->classes.v[i].removed;
    if (n < NETWORK_CLASSES_MAX)
        return 0;
    return err_set(err, ERR_EXHAUSTED,
                   "cannot make it: there are %d classes, as many as may be; remove one",
                   NETWORK_CLASSES_MAX);
}

static int change(struct ve_node *node, const char *name, const json_t *changes, struct err *err)
{
    struct ve_class *c = find(node, name);
    uint32_t id = c ? c->id : 0;
    bool there = c && !c->removed;
    auto_clean(prefix_list_done) struct prefix_list add = {0};
    auto_clean(prefix_list_done) struct prefix_list away = {0};
    auto_clean(network_prefixes_done) struct network_prefixes list = {0};
    if (parse_list(json_object_get(changes, "add"), id, &add, err) < 0 ||
        parse_list(json_object_get(changes, "remove"), id, &away, err) < 0)
        return -err->kind;
    if (add.n == 0 && away.n == 0)
        return err_set(err, ERR_USAGE, "no prefix was given; name one such as 192.0.2.0/24");
    if (!there && add.n == 0)
        return err_set(err, ERR_NOT_FOUND,
                       "there is no such class; terem network class list shows them");
    if ((!there && room_for(node, name, err) < 0) ||
        network_prefixes_refuse_local(node->network, add.p, add.n, err) < 0 ||
        copy_list(&node->classes.prefixes, &list, err) < 0 ||
        change_list(node, &add, &away, &list, err) < 0 ||
        (!c && append(node, 0, name, true, err) < 0))
        return -err->kind;
    json_t *event = json_pack("{s:s, s:s, s:I, s:I}", "type", "class.changed", "class", name,
                              "added", (json_int_t)add.n, "removed", (json_int_t)away.n);
    if (save(node, name, &list, true, &id, event, err) < 0) {
        node->classes.n -= !c;
        return -err->kind;
    }
    c = find(node, name);
    c->id = id;
    c->removed = false;
    network_prefixes_done(&node->classes.prefixes);
    node->classes.prefixes = list;
    list = (struct network_prefixes){0};
    return 0;
}

int ve_class_change(struct ve_node *node, const char *name, const json_t *changes, json_t **ret,
                    struct err *err)
{
    if (check_name(name, err) < 0)
        return -err->kind;
    if (!json_is_object(changes))
        return err_set(err, ERR_USAGE, "class %s: the request must be an object", name);
    if (change(node, name, changes, err) < 0)
        return err_wrap(err, "class %s", name);
    *ret = class_json(node, find(node, name));
    return 0;
}

static int refuse_used(struct ve_node *node, const char *name, struct err *err)
{
    auto_str struct str users = str_init(8192);
    json_t *ves = users_of(node, name), *ve, *params;
    const char *profile, *key;
    size_t i, n = 0;
    json_t *value;
    json_array_foreach(ves, i, ve) str_add_name(&users, &n, json_string_value(ve));
    json_decref(ves);
    str_end_names(&users, n);
    json_object_foreach(node->profiles, profile, params) json_object_foreach(params, key, value)
    {
        const char *class = param_class_of(param_find(key), key);
        if (!n && class && str_eq(class, name))
            str_add(&users, "%sprofile %s", users.len ? ", " : "", profile);
    }
    if (!users.len)
        return 0;
    return err_set(err, ERR_STATE,
                   "class %s is used by %s; take net.out.%s and net.in.%s off first (=default)",
                   name, str_c(&users), name, name);
}

int ve_class_remove(struct ve_node *node, const char *name, struct err *err)
{
    struct ve_class *c;
    if (check_name(name, err) < 0 || find_err(node, name, &c, err) < 0 ||
        refuse_used(node, name, err) < 0)
        return -err->kind;
    auto_clean(network_prefixes_done) struct network_prefixes list = {0};
    if (copy_list(&node->classes.prefixes, &list, err) < 0)
        return -err->kind;
    network_prefixes_drop(&list, c->id);
    json_t *event = json_pack("{s:s, s:s}", "type", "class.removed", "class", name);
    if (save(node, name, &list, false, &c->id, event, err) < 0)
        return err_wrap(err, "class %s", name);
    c->removed = true;
    network_prefixes_drop(&node->classes.prefixes, c->id);
    return 0;
}
