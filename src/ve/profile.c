/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Profiles: named sets of parameters.  What a VE has is defaults ← profile ← its own; its record
 * keeps the profile's name and its own.
 *
 * A change of a profile is one transaction over all VEs that use it: all are checked and admitted
 * together, marked as applying in one commit, written one after the other, and committed with the
 * profile in one commit.  Killed in between, recovery writes the records' rows again, which are
 * all the old ones or all the new ones.
 */
#include "base/name.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/pools.h"
#include "ve/rows.h"
#include "ve/sleep.h"

/* One change of one profile, and whom it concerns. */
struct change {
    struct ve_node *node;
    const char *name;
    json_t *params; /* new ones of the profile */
    struct ve **ves;
    struct param_set *sets; /* new ones of each */
    const struct param_set *
        *shared; /* the same on the node's shelf; after the change the old ones */
    size_t n, n_applied;
};

static void change_done(struct change *c)
{
    for (size_t i = 0; c->shared && i < c->n; i++)
        param_unshare(&c->node->shelf, c->shared[i]);
    free(c->shared);
    json_decref(c->params);
    free(c->ves);
    free(c->sets);
}

/* ---- what a VE has ---- */

const json_t *ve_profile_params(const struct ve_node *node, const char *name)
{
    return name ? json_object_get(node->profiles, name) : NULL;
}

const char *ve_profile_of(const json_t *spec)
{
    return json_string_value(json_object_get(spec, "profile"));
}

static int merge(const json_t *profile, const json_t *own, struct param_set *ret, struct err *err)
{
    json_t *all = profile ? json_copy((json_t *)profile) : json_object();
    if (own)
        json_object_update(all, (json_t *)own);
    int r = ve_params_parse(all, ret, err);
    json_decref(all);
    return r;
}

/* Would the VE's own parameters alone be refused with the same sentence? */
static bool fails_alone(const json_t *own, const struct err *err)
{
    struct param_set alone;
    struct err e = {0};
    return merge(NULL, own, &alone, &e) < 0 && str_eq(e.text, err->text);
}

int ve_params_effective(const struct ve_node *node, const json_t *spec, struct param_set *ret,
                        struct err *err)
{
    const char *name = ve_profile_of(spec);
    const json_t *profile = ve_profile_params(node, name);
    const json_t *own = json_object_get(spec, "params");
    int r = merge(profile, own, ret, err);
    return r < 0 && profile && !fails_alone(own, err) ? err_wrap(err, "with profile %s", name) : r;
}

static const char *next_name(void *ctx, size_t i)
{
    void *it = json_object_iter(ctx);
    while (it && i--)
        it = json_object_iter_next(ctx, it);
    return it ? json_object_iter_key(it) : NULL;
}

int ve_profile_check(const struct ve_node *node, const char *name, struct err *err)
{
    if (name_check_ve(name, err) < 0)
        return err_wrap(err, "profile");
    if (ve_profile_params(node, name))
        return 0;
    const char *near = name_suggest(name, next_name, node->profiles);
    if (near)
        return err_set(err, ERR_NOT_FOUND, "there is no profile %s; did you mean %s?", name, near);
    return err_set(err, ERR_NOT_FOUND, "there is no profile %s; terem profile list shows them",
                   name);
}

/* ---- the registry ---- */

static int load_one(void *ctx, const char *name, const char *params, struct err *err)
{
    struct ve_node *node = ctx;
    json_error_t je;
    json_t *value = json_loads(params ? params : "", JSON_REJECT_DUPLICATES, &je);
    if (json_is_object(value)) {
        json_object_set_new(node->profiles, name, value);
        return 0;
    }
    json_decref(value);
    log_warn(NULL, 0,
             "profile %s cannot be read: VEs that use it have their own parameters only; terem "
             "profile create %s makes it again",
             name, name);
    return 0;
}

int ve_profiles_load(struct ve_node *node, struct err *err)
{
    if (!(node->profiles = json_object()))
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    return registry_profile_each(node->registry, load_one, node, err);
}

/* ---- as JSON ---- */

static bool uses(const struct ve *ve, const char *name)
{
    return str_eq(ve_profile_of(ve->spec), name);
}

static json_t *profile_json(struct ve_node *node, const char *name)
{
    json_t *ves = json_array();
    for (size_t i = 0; i < node->n_ves; i++)
        if (uses(node->ves[i], name))
            json_array_append_new(ves, json_string(node->ves[i]->rec.name));
    return json_pack("{s:s, s:O, s:o}", "name", name, "params",
                     json_object_get(node->profiles, name), "ves", ves);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int ve_profile_list(struct ve_node *node, json_t **ret, struct err *err)
{
    size_t n = 0;
    const char *key;
    json_t *value, *out = json_array();
    auto_free const char **names = calloc(json_object_size(node->profiles) + 1, sizeof(*names));
    if (!names)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    json_object_foreach(node->profiles, key, value) names[n++] = key;
    if (n)
        qsort(names, n, sizeof(*names), by_text);
    for (size_t i = 0; i < n; i++)
        json_array_append_new(out, profile_json(node, names[i]));
    *ret = out;
    return 0;
}

int ve_profile_show(struct ve_node *node, const char *name, json_t **ret, struct err *err)
{
    if (ve_profile_check(node, name, err) < 0)
        return -err->kind;
    *ret = profile_json(node, name);
    return 0;
}

/* ---- one change ---- */

/* The VEs that use it, and what each would have. */
static int gather(struct change *c, struct err *err)
{
    c->ves = calloc(c->node->n_ves + 1, sizeof(*c->ves));
    for (size_t i = 0; c->ves && i < c->node->n_ves; i++)
        if (uses(c->node->ves[i], c->name))
            c->ves[c->n++] = c->node->ves[i];
    c->sets = calloc(c->n + 1, sizeof(*c->sets));
    c->shared = calloc(c->n + 1, sizeof(*c->shared));
    if (!c->ves || !c->sets || !c->shared)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < c->n; i++)
        if (merge(c->params, json_object_get(c->ves[i]->spec, "params"), &c->sets[i], err) < 0 ||
            param_share(&c->node->shelf, &c->sets[i], &c->shared[i], err) < 0)
            return err_wrap(err, "%s", c->ves[i]->rec.name);
    return 0;
}

static bool is_up(const struct ve *ve)
{
    return ve_state_is_up(ve->state);
}

/* Something is written for it outside of its record. */
static bool is_live(const struct change *c, size_t i)
{
    const struct ve *ve = c->ves[i];
    return is_up(ve) ? ve_params_differ(ve->params, &c->sets[i])
                     : ve_disk_differs(ve->params, &c->sets[i]);
}

/* All that can be told before anything is written. */
static int check(struct change *c, bool force, struct err *err)
{
    struct param_set alone;
    if (merge(c->params, NULL, &alone, err) < 0 || ve_apply_check(c->node, &alone, err) < 0 ||
        gather(c, err) < 0)
        return -err->kind;
    for (size_t i = 0; i < c->n; i++) {
        struct ve *ve = c->ves[i];
        if (ve_refuse_busy(ve, err) < 0)
            return -err->kind;
        if (ve_apply_check(c->node, &c->sets[i], err) < 0 ||
            ve_disk_check(c->node, ve_pool_name(ve), &c->sets[i], err) < 0 ||
            (is_up(ve) && is_live(c, i) && !force && ve_apply_room(ve, &c->sets[i], err) < 0))
            return err_wrap(err, "%s", ve->rec.name);
    }
    return ve_guarantee_admit_all(c->node, c->ves, c->sets, c->n, err);
}

/* Adds the records of those that run to the transaction, marked or not. */
static int save_marked(struct change *c, bool applying, struct err *err)
{
    for (size_t i = 0; i < c->n; i++) {
        struct ve *ve = c->ves[i];
        if (!is_live(c, i) && !json_object_get(ve->run, "applying"))
            continue;
        if (applying)
            json_object_set_new(ve->run, "applying", json_true());
        else
            json_object_del(ve->run, "applying");
        if (ve_record_save(ve, err) < 0)
            return -err->kind;
    }
    return 0;
}

static void unmark(struct change *c)
{
    struct err e = {0};
    for (size_t i = 0; i < c->n; i++)
        json_object_del(c->ves[i]->run, "applying");
    ve_rollback(c->node);
    /* What cannot be saved stays marked on disk: at the next start its rows are written again. */
    if (ve_begin(c->node, &e) < 0 || save_marked(c, false, &e) < 0 || ve_commit(c->node, &e) < 0)
        ve_rollback(c->node);
}

static void put_back(struct change *c)
{
    while (c->n_applied--) {
        struct ve *ve = c->ves[c->n_applied];
        struct err e = {0};
        if (is_live(c, c->n_applied) &&
            ve_apply(ve, &c->sets[c->n_applied], ve->params, true, &e) < 0)
            log_error(ve->rec.name, 0, "its parameters could not be put back: %s", e.text);
        ve->weight = 0;
    }
}

static int apply(struct change *c, bool force, struct err *err)
{
    for (; c->n_applied < c->n; c->n_applied++) {
        size_t i = c->n_applied;
        if (is_live(c, i) && ve_apply(c->ves[i], c->ves[i]->params, &c->sets[i], force, err) < 0)
            return err_wrap(err, "%s", c->ves[i]->rec.name);
    }
    return 0;
}

static int commit(struct change *c, const char *event, struct err *err)
{
    auto_free char *text = json_dumps(c->params, JSON_COMPACT);
    if (!text)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (ve_begin(c->node, err) < 0 ||
        registry_profile_put(c->node->registry, c->name, text, err) < 0 ||
        save_marked(c, false, err) < 0)
        return -err->kind;
    json_array_append_new(c->node->pending,
                          json_pack("{s:s, s:s, s:O, s:I}", "type", event, "profile", c->name,
                                    "params", c->params, "ves", (json_int_t)c->n));
    return ve_commit(c->node, err);
}

/* The kernel first, then the registry; a failure puts both back. */
static int change_all(struct change *c, const char *event, bool force, struct err *err)
{
    if (check(c, force, err) < 0)
        return -err->kind;
    if (ve_begin(c->node, err) < 0 || save_marked(c, true, err) < 0 ||
        ve_commit(c->node, err) < 0 || apply(c, force, err) < 0 || commit(c, event, err) < 0) {
        put_back(c);
        unmark(c);
        ve_guarantee_settle(c->node);
        return -err->kind;
    }
    json_object_set(c->node->profiles, c->name, c->params);
    for (size_t i = 0; i < c->n; i++) {
        const struct param_set *old = c->ves[i]->params;
        c->ves[i]->params = c->shared[i];
        c->shared[i] = old;
        c->ves[i]->weight = 0; /* it may have been written above */
    }
    ve_guarantee_settle(c->node);
    for (size_t i = 0; i < c->n; i++)
        ve_disk_changed(c->ves[i]);
    ve_sleep_settle(c->node);
    return 0;
}

int ve_profile_create(struct ve_node *node, const json_t *spec, json_t **ret, struct err *err)
{
    const char *name = json_string_value(json_object_get(spec, "name"));
    auto_clean(change_done) struct change c = {.node = node, .name = name, .params = json_object()};
    if (!name || name_check_ve(name, err) < 0)
        return name ? -err->kind : err_set(err, ERR_USAGE, "a profile needs a name");
    if (str_eq(name, "none"))
        return err_set(err, ERR_USAGE, "a profile cannot be called none: that takes a profile off");
    if (ve_profile_params(node, name))
        return err_set(err, ERR_EXISTS,
                       "there is a profile %s already; terem profile set changes it", name);
    if (ve_params_merge(c.params, json_object_get(spec, "params"), err) < 0 ||
        change_all(&c, "profile.created", false, err) < 0)
        return err_wrap(err, "profile %s", name);
    *ret = profile_json(node, name);
    return 0;
}

int ve_profile_update(struct ve_node *node, const char *name, const json_t *changes, json_t **ret,
                      struct err *err)
{
    if (ve_profile_check(node, name, err) < 0)
        return -err->kind;
    auto_clean(change_done) struct change c = {
        .node = node, .name = name, .params = json_copy((json_t *)ve_profile_params(node, name))};
    bool force = json_is_true(json_object_get(changes, "force"));
    if (ve_params_merge(c.params, json_object_get(changes, "params"), err) < 0 ||
        change_all(&c, "profile.updated", force, err) < 0)
        return err_wrap(err, "profile %s", name);
    *ret = profile_json(node, name);
    return 0;
}

int ve_profile_remove(struct ve_node *node, const char *name, struct err *err)
{
    auto_str struct str users = str_init(8192);
    size_t n = 0;
    if (ve_profile_check(node, name, err) < 0)
        return -err->kind;
    for (size_t i = 0; i < node->n_ves; i++)
        if (uses(node->ves[i], name))
            str_add_name(&users, &n, node->ves[i]->rec.name);
    str_end_names(&users, n);
    if (n)
        return err_set(err, ERR_STATE,
                       "profile %s is used by %s; give them another one, or none, with terem set "
                       "VE --profile",
                       name, str_c(&users));
    if (ve_begin(node, err) < 0 || registry_profile_delete(node->registry, name, err) < 0)
        goto undo;
    json_array_append_new(node->pending,
                          json_pack("{s:s, s:s}", "type", "profile.removed", "profile", name));
    if (ve_commit(node, err) < 0)
        goto undo;
    json_object_del(node->profiles, name);
    return 0;
undo:
    ve_rollback(node);
    return err_wrap(err, "profile %s", name);
}
