/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshots: a row in the registry and a saved tree in the VE's pool, of one number.
 *
 * spec of a row: {"parent": number or 0, "note", "created", "schedule": "hourly" or absent, "size",
 * and what the tree needs to be started: "template", "layers", "init", "init_path"}.
 *
 * A VE stands on the snapshot that its tree came from, as storage_parents() tells: when that one is
 * deleted, on the one before it.
 */
#include "base/name.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/layers.h"
#include "ve/pools.h"
#include "ve/saved.h"

#include <inttypes.h>

static const char *const kept[] = {"template", "layers", "init", "init_path"};

static int64_t parent_of(const struct ve_snapshot *s)
{
    return json_integer_value(json_object_get(s->spec, "parent"));
}

struct ve_snapshot *snapshot_by_id(const struct ve *ve, int64_t id)
{
    for (size_t i = 0; i < ve->n_snapshots; i++)
        if (ve->snapshots[i].rec.id == id)
            return &ve->snapshots[i];
    return NULL;
}

int64_t snapshot_current(const struct ve *ve)
{
    int64_t list[STORAGE_PARENTS];
    size_t n = ve_pool(ve) ? storage_parents(ve_pool(ve), ve->rec.id, list) : 0;
    for (size_t i = 0; i < n; i++) {
        const struct ve_snapshot *lease = backup_lease(ve, list[i]);
        /* Saved last, but no snapshot: it stands where that one does. */
        int64_t id = lease ? parent_of(lease) : list[i];
        if (lease || snapshot_by_id(ve, id))
            return snapshot_by_id(ve, id) ? id : 0;
    }
    return 0;
}

static struct ve_snapshot *find(const struct ve *ve, const char *name)
{
    for (size_t i = 0; i < ve->n_snapshots; i++)
        if (str_eq(ve->snapshots[i].rec.name, name))
            return &ve->snapshots[i];
    return NULL;
}

static const char *name_at(void *ctx, size_t i)
{
    const struct ve *ve = ctx;
    return i < ve->n_snapshots ? ve->snapshots[i].rec.name : NULL;
}

int snapshot_find(struct ve *ve, const char *name, struct ve_snapshot **ret, struct err *err)
{
    if (name_check_ve(name, err) < 0)
        return err_wrap(err, "%s: snapshot", ve->rec.name);
    if ((*ret = find(ve, name)))
        return 0;
    const char *near = name_suggest(name, name_at, ve);
    if (near)
        return err_set(err, ERR_NOT_FOUND, "%s: it has no snapshot %s; did you mean %s?",
                       ve->rec.name, name, near);
    return err_set(err, ERR_NOT_FOUND,
                   "%s: it has no snapshot %s; terem snapshot list %s shows those it has",
                   ve->rec.name, name, ve->rec.name);
}

bool snapshot_has_tree(const struct ve *ve, const struct ve_snapshot *s)
{
    auto_fd int fd = -1;
    return ve_pool(ve) && storage_saved_open(ve_pool(ve), s->rec.id, &fd, &(struct err){0}) == 0;
}

/* ---- rows ---- */

int snapshot_save(struct ve *ve, struct ve_snapshot *s, struct err *err)
{
    auto_free char *text = json_dumps(s->spec, JSON_COMPACT);
    if (!text)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    struct registry_snapshot rec = s->rec;
    rec.spec = text;
    int r = rec.id ? registry_snapshot_update(ve->node->registry, &rec, err)
                   : registry_snapshot_insert(ve->node->registry, &rec, err);
    s->rec.id = rec.id;
    return r;
}

json_t *snapshot_spec(const struct ve *ve, const char *note, const char *schedule)
{
    json_t *spec = json_pack("{s:I, s:s, s:I}", "parent", (json_int_t)snapshot_current(ve), "note",
                             note ? note : "", "created", (json_int_t)ve_now_ms());
    if (schedule)
        json_object_set_new(spec, "schedule", json_string(schedule));
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
        json_t *v = json_object_get(ve->spec, kept[i]);
        if (v)
            json_object_set_new(spec, kept[i], json_deep_copy(v));
    }
    return spec;
}

void snapshot_put_back(json_t *spec, const struct ve_snapshot *s)
{
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
        json_t *v = json_object_get(s->spec, kept[i]);
        if (v)
            json_object_set_new(spec, kept[i], json_deep_copy(v));
    }
}

bool snapshot_is_like(const struct ve_snapshot *s, const json_t *spec)
{
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
        const json_t *was = json_object_get(s->spec, kept[i]), *is = json_object_get(spec, kept[i]);
        if (was && !json_equal(was, is))
            return false;
    }
    return true;
}

static int snapshot_add(struct ve *ve, const struct ve_snapshot *s, struct err *err)
{
    struct ve_snapshot *p = reallocarray(ve->snapshots, ve->n_snapshots + 1, sizeof(*p));
    if (!p)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    ve->snapshots = p;
    p[ve->n_snapshots++] = *s;
    return 0;
}

static void forget(struct ve *ve, struct ve_snapshot *s)
{
    json_decref(s->spec);
    ve->n_snapshots--;
    memmove(s, s + 1, (size_t)(&ve->snapshots[ve->n_snapshots] - s) * sizeof(*s));
}

int snapshot_keep(struct ve *ve, const struct ve_snapshot *s, struct err *err)
{
    if (snapshot_add(ve, s, err) < 0) {
        json_decref(s->spec);
        return -err->kind;
    }
    if (snapshot_save(ve, &ve->snapshots[ve->n_snapshots - 1], err) == 0)
        return 0;
    snapshot_unkeep(ve, s->rec.id);
    return -err->kind;
}

void snapshot_unkeep(struct ve *ve, int64_t id)
{
    struct ve_snapshot *s = snapshot_by_id(ve, id);
    if (s)
        forget(ve, s);
}

void snapshots_free(struct ve *ve)
{
    while (ve->n_snapshots)
        forget(ve, &ve->snapshots[ve->n_snapshots - 1]);
    free(ve->snapshots);
    ve->snapshots = NULL;
    backup_leases_free(ve);
}

/* ---- deleting ---- */

/* Children become those of its parent, and its row goes, in one commit; then the tree.  A crash in
 * between leaves a saved tree without a row, which recovery removes. */
static int commit_drop(struct ve *ve, const struct ve_snapshot *s, struct err *err)
{
    struct ve_node *node = ve->node;
    int r = ve_begin(node, err);
    for (size_t i = 0; r == 0 && i < ve->n_snapshots; i++) {
        struct ve_snapshot child = ve->snapshots[i];
        if (parent_of(&child) != s->rec.id)
            continue;
        child.spec = json_copy(child.spec);
        json_object_set(child.spec, "parent", json_object_get(s->spec, "parent"));
        r = snapshot_save(ve, &child, err);
        json_decref(child.spec);
    }
    if (r == 0 && (r = registry_snapshot_delete(node->registry, s->rec.id, err)) == 0) {
        json_array_append_new(node->pending,
                              json_pack("{s:s, s:s, s:s}", "type", "snapshot.deleted", "ve",
                                        ve->rec.name, "snapshot", s->rec.name));
        r = ve_commit(node, err);
    }
    if (r < 0)
        ve_rollback(node);
    return r;
}

int snapshot_drop(struct ve *ve, struct ve_snapshot *s, struct err *err)
{
    int64_t id = s->rec.id;
    if (commit_drop(ve, s, err) < 0)
        return -err->kind;
    for (size_t i = 0; i < ve->n_snapshots; i++)
        if (parent_of(&ve->snapshots[i]) == id)
            json_object_set(ve->snapshots[i].spec, "parent", json_object_get(s->spec, "parent"));
    for (size_t i = 0; i < ve->n_leases; i++)
        if (parent_of(&ve->leases[i]) == id)
            json_object_set(ve->leases[i].spec, "parent", json_object_get(s->spec, "parent"));
    forget(ve, s);
    int r = storage_saved_remove(ve_pool(ve), id, err);
    ve_trash_later(ve->node);
    return r < 0 ? err_wrap(err, "its files are deleted at the next start of teremd") : 0;
}

static int check_free(const struct ve *ve, const char *verb, struct err *err)
{
    if (ve->job)
        return err_set(err, ERR_BUSY,
                       "%s: cannot %s: job %" PRId64 " (%s) is at work; try again when it has "
                       "ended",
                       ve->rec.name, verb, ve->job->rec.id, ve->job->rec.kind);
    if (ve->transfers)
        return err_set(err, ERR_BUSY,
                       "%s: cannot %s: its files are being copied; try again when that has ended",
                       ve->rec.name, verb);
    return 0;
}

int ve_snapshot_delete(struct ve_node *node, const char *ve_name, const char *name, struct err *err)
{
    struct ve *ve;
    struct ve_snapshot *s;
    char verb[NAME_SIZE + 32];
    if (ve_find_err(node, ve_name, &ve, err) < 0 || snapshot_find(ve, name, &s, err) < 0)
        return -err->kind;
    str_print(verb, sizeof(verb), "delete snapshot %s", name);
    if (check_free(ve, verb, err) < 0 || ve_pool_need(ve, err) < 0)
        return -err->kind;
    return snapshot_drop(ve, s, err) < 0
               ? err_wrap(err, "%s: cannot delete snapshot %s", ve_name, name)
               : 0;
}

/* ---- telling ---- */

/* own: what would be free if it went; shared: what it has in common with others. */
static void put_sizes(const struct ve *ve, const struct ve_snapshot *s, json_t *out)
{
    struct storage_pool *pool = ve_pool(ve);
    const json_t *size = json_object_get(s->spec, "size");
    uint64_t own = UINT64_MAX, total = UINT64_MAX;
    if (pool && storage_can(pool)->counts)
        storage_saved_usage(pool, s->rec.id, &own, &total, &(struct err){0});
    else if (json_is_integer(size)) /* written when it was taken: nothing of it is shared */
        own = total = (uint64_t)json_integer_value(size);
    bool both = own != UINT64_MAX && total != UINT64_MAX;
    json_object_set_new(out, "own",
                        own == UINT64_MAX ? json_null() : json_integer((json_int_t)own));
    json_object_set_new(out, "shared",
                        both ? json_integer((json_int_t)(total > own ? total - own : 0))
                             : json_null());
}

static json_t *snapshot_json(const struct ve *ve, const struct ve_snapshot *s, int64_t current)
{
    const struct ve_snapshot *parent = snapshot_by_id(ve, parent_of(s));
    const json_t *schedule = json_object_get(s->spec, "schedule");
    json_t *out =
        json_pack("{s:I, s:s, s:s, s:O, s:O, s:b}", "id", (json_int_t)s->rec.id, "name",
                  s->rec.name, "ve", ve->rec.name, "created", json_object_get(s->spec, "created"),
                  "note", json_object_get(s->spec, "note"), "current", s->rec.id == current);
    json_object_set_new(out, "parent", parent ? json_string(parent->rec.name) : json_null());
    json_object_set(out, "schedule", schedule ? (json_t *)schedule : json_null());
    json_object_set(out, "template", json_object_get(s->spec, "template"));
    json_object_set(out, "layers", json_object_get(s->spec, "layers"));
    json_object_set_new(out, "damaged", json_boolean(ve_pool(ve) && !snapshot_has_tree(ve, s)));
    put_sizes(ve, s, out);
    return out;
}

json_t *snapshot_tell(const struct ve *ve, const struct ve_snapshot *s)
{
    return snapshot_json(ve, s, snapshot_current(ve));
}

int ve_snapshot_list(struct ve_node *node, const char *ve_name, json_t **ret, struct err *err)
{
    struct ve *ve;
    if (ve_find_err(node, ve_name, &ve, err) < 0)
        return -err->kind;
    int64_t current = snapshot_current(ve);
    json_t *out = json_array();
    for (size_t i = 0; i < ve->n_snapshots; i++)
        json_array_append_new(out, snapshot_json(ve, &ve->snapshots[i], current));
    *ret = out;
    return 0;
}

int ve_snapshot_show(struct ve_node *node, const char *ve_name, const char *name, json_t **ret,
                     struct err *err)
{
    struct ve *ve;
    struct ve_snapshot *s;
    if (ve_find_err(node, ve_name, &ve, err) < 0 || snapshot_find(ve, name, &s, err) < 0)
        return -err->kind;
    *ret = snapshot_tell(ve, s);
    return 0;
}

/* ---- name and note ---- */

int snapshot_name_check(struct ve *ve, const char *name, struct err *err)
{
    if (name_check_ve(name, err) < 0)
        return err_wrap(err, "%s: snapshot", ve->rec.name);
    if (find(ve, name))
        return err_set(err, ERR_EXISTS,
                       "%s: it has a snapshot %s already; choose another name or delete that one",
                       ve->rec.name, name);
    return 0;
}

int ve_snapshot_change(struct ve_node *node, const char *ve_name, const char *name,
                       const json_t *changes, json_t **ret, struct err *err)
{
    struct ve *ve;
    struct ve_snapshot *s;
    if (ve_find_err(node, ve_name, &ve, err) < 0 || snapshot_find(ve, name, &s, err) < 0)
        return -err->kind;
    const char *new_name = json_string_value(json_object_get(changes, "name"));
    const json_t *note = json_object_get(changes, "note");
    struct ve_snapshot next = {.rec = s->rec};
    if (new_name && !str_eq(new_name, name) && snapshot_name_check(ve, new_name, err) < 0)
        return -err->kind;
    if (new_name)
        str_print(next.rec.name, sizeof(next.rec.name), "%s", new_name);
    next.spec = json_deep_copy(s->spec);
    if (json_is_string(note))
        json_object_set(next.spec, "note", (json_t *)note);
    if (ve_begin(node, err) < 0 || snapshot_save(ve, &next, err) < 0 ||
        json_array_append_new(node->pending,
                              json_pack("{s:s, s:s, s:s, s:O}", "type", "snapshot.updated", "ve",
                                        ve_name, "snapshot", name, "changes", changes)) < 0 ||
        ve_commit(node, err) < 0) {
        ve_rollback(node);
        json_decref(next.spec);
        return err_wrap(err, "%s: cannot change snapshot %s", ve_name, name);
    }
    json_decref(s->spec);
    *s = next;
    *ret = snapshot_tell(ve, s);
    return 0;
}

/* ---- the node's start ---- */

static int load_one(void *ctx, const struct registry_snapshot *rec, struct err *err)
{
    struct ve_node *node = ctx;
    struct ve *ve = ve_by_id(node, rec->ve);
    json_error_t je;
    if (!ve || rec->state == REGISTRY_SNAPSHOT_MAKING)
        return registry_snapshot_delete(node->registry, rec->id, err); /* and its tree: below */
    struct ve_snapshot s = {.rec = *rec, .spec = json_loads(rec->spec, 0, &je)};
    s.rec.spec = NULL;
    if (!json_is_object(s.spec)) {
        log_error(ve->rec.name, 0, "snapshot %s: its record in the registry cannot be read",
                  rec->name);
        json_decref(s.spec);
        s.spec = json_pack("{s:i, s:s, s:i}", "parent", 0, "note", "", "created", 0);
    }
    int r = rec->state == REGISTRY_SNAPSHOT_LEASE ? backup_lease_add(ve, &s, err)
                                                  : snapshot_add(ve, &s, err);
    if (r < 0)
        json_decref(s.spec);
    return r;
}

int snapshots_load(struct ve_node *node, struct err *err)
{
    if (registry_snapshot_each(node->registry, 0, load_one, node, err) < 0)
        return err_wrap(err, "cannot read the snapshots");
    return 0;
}

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Numbers of the saved trees that belong to somebody in this pool, in order; freed by the caller.
 * NULL: out of memory. */
static int64_t *known_in(const struct ve_node *node, const char *pool, size_t *ret_n)
{
    size_t n = 0;
    for (size_t i = 0; i < node->n_ves; i++)
        n += node->ves[i]->n_snapshots + node->ves[i]->n_leases;
    int64_t *list = calloc(n + 1, sizeof(*list));
    n = 0;
    for (size_t i = 0; list && i < node->n_ves; i++) {
        const struct ve *ve = node->ves[i];
        for (size_t k = 0; k < ve->n_snapshots && str_eq(ve_pool_name(ve), pool); k++)
            list[n++] = ve->snapshots[k].rec.id;
        for (size_t k = 0; k < ve->n_leases; k++)
            if (str_eq(backup_lease_pool(ve, &ve->leases[k]), pool))
                list[n++] = ve->leases[k].rec.id;
    }
    if (list)
        qsort(list, n, sizeof(*list), by_number);
    *ret_n = n;
    return list;
}

void snapshots_recover(struct ve_node *node, const char *pool_name, struct storage_pool *pool)
{
    struct err e = {0};
    auto_free int64_t *ids = NULL;
    size_t n = 0, n_known = 0;
    auto_free int64_t *known = known_in(node, pool_name, &n_known);
    if (storage_saved_list(pool, &ids, &n, &e) < 0)
        log_error(NULL, 0, "pool %s: %s", pool_name, e.text);
    for (size_t i = 0; known && i < n; i++)
        if (!bsearch(&ids[i], known, n_known, sizeof(*known), by_number) &&
            storage_saved_remove(pool, ids[i], &e) < 0)
            log_error(NULL, 0, "pool %s: %s", pool_name, e.text);
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        if (!str_eq(ve_pool_name(ve), pool_name))
            continue;
        for (size_t k = 0; k < ve->n_snapshots; k++)
            if (!snapshot_has_tree(ve, &ve->snapshots[k]))
                log_error(ve->rec.name, 0, "snapshot %s is damaged: its files are missing",
                          ve->snapshots[k].rec.name);
    }
}

int snapshots_remove_trees(struct ve *ve, struct err *err)
{
    for (size_t i = 0; ve_pool(ve) && i < ve->n_snapshots; i++)
        if (storage_saved_remove(ve_pool(ve), ve->snapshots[i].rec.id, err) < 0)
            return err_wrap(err, "snapshot %s", ve->snapshots[i].rec.name);
    for (size_t i = 0; i < ve->n_leases; i++) {
        struct storage_pool *pool = backup_tree_pool(ve, ve->leases[i].rec.id);
        if (pool && storage_saved_remove(pool, ve->leases[i].rec.id, err) < 0)
            return err_wrap(err, "what was kept for a backup");
    }
    return 0;
}
