/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changing a VE's record: what is asked for is merged, checked, applied and recorded. */
#include "base/name.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/pools.h"
#include "ve/private.h"
#include "ve/rows.h"
#include "ve/saved.h"
#include "ve/sleep.h"

static int merge_labels(json_t *spec, const json_t *changes, struct err *err)
{
    const char *key;
    json_t *value, *labels = json_object_get(spec, "labels");
    if (!changes || json_is_null(changes))
        return 0;
    if (!json_is_object(changes))
        return err_set(err, ERR_USAGE, "labels must be an object");
    if (ve_labels_check(changes, err) < 0)
        return -err->kind;
    json_object_foreach((json_t *)changes, key, value)
    {
        if (json_is_null(value))
            json_object_del(labels, key);
        else
            json_object_set(labels, key, value);
    }
    return 0;
}

int ve_params_merge(json_t *params, const json_t *changes, struct err *err)
{
    const char *key;
    json_t *value;
    if (changes && !json_is_null(changes) && !json_is_object(changes))
        return err_set(err, ERR_USAGE, "params must be an object");
    json_object_foreach((json_t *)changes, key, value)
    {
        const struct param_row *row = param_find_err(key, err);
        struct param_value v;
        char text[PARAM_TEXT];
        if (!row)
            return -err->kind;
        if (json_is_null(value)) {
            json_object_del(params, key);
            continue;
        }
        if (!json_is_string(value))
            return err_set(err, ERR_USAGE, "%s must be a text such as \"512M\"", key);
        if (param_parse(row, key, json_string_value(value), &v, err) < 0)
            return -err->kind;
        json_object_set_new(params, key, json_string(param_format(row, v, text)));
    }
    return 0;
}

/* "small" or null. */
static int merge_profile(const struct ve_node *node, json_t *spec, const json_t *change,
                         struct err *err)
{
    if (!change)
        return 0;
    if (json_is_null(change)) {
        json_object_del(spec, "profile");
        return 0;
    }
    if (!json_is_string(change))
        return err_set(err, ERR_USAGE, "profile must be a name or null");
    if (ve_profile_check(node, json_string_value(change), err) < 0)
        return -err->kind;
    json_object_set(spec, "profile", (json_t *)change);
    return 0;
}

static int merge_rest(struct ve *ve, json_t *spec, const json_t *changes, char name[NAME_SIZE],
                      struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)changes, key, value)
    {
        if (str_eq(key, "params") || str_eq(key, "labels") || str_eq(key, "profile"))
            continue;
        if (str_eq(key, "force")) {
            if (!json_is_boolean(value))
                return err_set(err, ERR_USAGE, "force must be true or false");
            continue;
        }
        if (str_eq(key, "autostart")) {
            if (!json_is_boolean(value))
                return err_set(err, ERR_USAGE, "autostart must be true or false");
            json_object_set(spec, key, value);
        } else if (str_eq(key, "priority")) {
            if (ve_priority_check(value, err) < 0)
                return -err->kind;
            json_object_set(spec, key, value);
        } else if (str_eq(key, "restart")) {
            const char *text = json_string_value(value);
            if (!str_eq(text, "no") && !str_eq(text, "on-failure") && !str_eq(text, "always"))
                return err_set(err, ERR_USAGE, "restart must be no, on-failure or always");
            json_object_set(spec, key, value);
        } else if (str_eq(key, "schedule")) {
            if (schedule_set(spec, value, err) < 0)
                return -err->kind;
        } else if (str_eq(key, "name")) {
            const char *text = json_string_value(value);
            if (!text || name_check_ve(text, err) < 0)
                return text ? -err->kind : err_set(err, ERR_USAGE, "name must be a text");
            if (ve_find(ve->node, text) && ve_find(ve->node, text) != ve)
                return err_set(err, ERR_EXISTS,
                               "there is a VE named %s already; choose another name", text);
            if (ve->state != VE_STOPPED && !str_eq(text, ve->rec.name))
                return err_set(err, ERR_STATE, "stop it before it is renamed");
            str_print(name, NAME_SIZE, "%s", text);
        } else {
            return err_set(err, ERR_USAGE, "\"%.60s\" cannot be changed", key);
        }
    }
    return 0;
}

int ve_changes_check(struct ve_node *node, const json_t *changes, struct err *err)
{
    const json_t *schedule = json_object_get(changes, "schedule");
    json_t *spec = json_pack("{s:{}, s:{}}", "labels", "params");
    int r = merge_labels(spec, json_object_get(changes, "labels"), err);
    if (r == 0)
        r = ve_params_merge(json_object_get(spec, "params"), json_object_get(changes, "params"),
                            err);
    if (r == 0)
        r = ve_params_here(node, json_object_get(spec, "params"), err);
    if (r == 0)
        r = merge_profile(node, spec, json_object_get(changes, "profile"), err);
    if (r == 0 && schedule)
        r = schedule_set(spec, schedule, err);
    json_decref(spec);
    return r;
}

/* Before the kernel is touched: after a crash in the middle, recovery writes every row of the
 * record again, so that all values are the old ones. */
static int mark_applying(struct ve *ve, bool applying, struct err *err)
{
    json_object_set_new(ve->run, "applying", json_boolean(applying));
    int r = ve_begin(ve->node, err);
    if (r == 0)
        r = ve_record_save(ve, err);
    if (r == 0)
        r = ve_commit(ve->node, err);
    if (r == 0)
        return 0;
    json_object_del(ve->run, "applying");
    ve_rollback(ve->node);
    return r;
}

static int commit_update(struct ve *ve, const json_t *changes, struct err *err)
{
    int r = ve_begin(ve->node, err);
    json_object_del(ve->run, "applying");
    if (r == 0)
        r = ve_record_save(ve, err);
    if (r == 0) {
        json_array_append_new(ve->node->pending, json_pack("{s:s, s:s, s:O}", "type", "ve.updated",
                                                           "ve", ve->rec.name, "changes", changes));
        r = ve_commit(ve->node, err);
    }
    if (r < 0)
        ve_rollback(ve->node);
    return r;
}

bool ve_params_differ(const struct param_set *a, const struct param_set *b)
{
    return !param_set_same(a, b);
}

/* The kernel first, then the registry; a failure puts both back.  Steals spec. */
static int update_to(struct ve *ve, json_t *spec, const struct param_set *params, const char *name,
                     const json_t *changes, bool force, struct err *err)
{
    const struct param_set *old = ve->params, *new = NULL;
    const json_t *old_spec = ve->spec;
    char old_name[NAME_SIZE];
    bool runs = ve_state_is_up(ve->state);
    bool live = runs ? ve_params_differ(old, params) : ve_disk_differs(old, params);
    if (param_share(&ve->node->shelf, params, &new, err) < 0) {
        json_decref(spec);
        return -err->kind;
    }
    if (live && ((runs && !force && ve_apply_room(ve, params, err) < 0) ||
                 mark_applying(ve, true, err) < 0 || ve_apply(ve, old, params, force, err) < 0)) {
        json_decref(spec);
        param_unshare(&ve->node->shelf, new);
        if (json_is_true(json_object_get(ve->run, "applying")))
            mark_applying(ve, false, &(struct err){0});
        return -err->kind;
    }
    ve->spec = spec;
    ve->params = new;
    memcpy(old_name, ve->rec.name, sizeof(old_name));
    str_print(ve->rec.name, sizeof(ve->rec.name), "%s", name);
    if (commit_update(ve, changes, err) == 0) {
        json_decref((json_t *)old_spec);
        param_unshare(&ve->node->shelf, old);
        return 0;
    }
    ve->spec = old_spec;
    ve->params = old;
    memcpy(ve->rec.name, old_name, sizeof(old_name));
    json_decref(spec);
    if (live)
        ve_apply(ve, params, old, true, &(struct err){0});
    param_unshare(&ve->node->shelf, new);
    return -err->kind;
}

/* One transaction: all is checked, then the kernel, then the registry; a failure puts back. */
int ve_update(struct ve_node *node, const char *name, const json_t *changes, json_t **ret,
              struct err *err)
{
    struct ve *ve;
    struct param_set params;
    char new_name[NAME_SIZE];
    if (ve_find_err(node, name, &ve, err) < 0)
        return -err->kind;
    if (!json_is_object(changes))
        return err_set(err, ERR_USAGE, "%s: the request must be an object", name);
    if (ve_refuse_busy(ve, err) < 0)
        return -err->kind;
    str_print(new_name, sizeof(new_name), "%s", name);
    bool force = json_is_true(json_object_get(changes, "force"));
    json_t *spec = json_deep_copy(ve->spec);
    if (merge_labels(spec, json_object_get(changes, "labels"), err) < 0 ||
        ve_params_merge(json_object_get(spec, "params"), json_object_get(changes, "params"), err) <
            0 ||
        merge_profile(node, spec, json_object_get(changes, "profile"), err) < 0 ||
        ve_params_effective(node, spec, &params, err) < 0 ||
        merge_rest(ve, spec, changes, new_name, err) < 0 || ve_privates_check(ve, spec, err) < 0 ||
        ve_apply_check(node, &params, err) < 0 ||
        ve_disk_check(node, ve_pool_name(ve), &params, err) < 0 ||
        ve_guarantee_admit(node, ve, &params, err) < 0) {
        json_decref(spec);
        return err_wrap(err, "%s", name);
    }
    if (update_to(ve, spec, &params, new_name, changes, force, err) < 0)
        return err_wrap(err, "%s", name);
    ve->weight = 0; /* it may have been written above */
    ve_guarantee_settle(node);
    ve_disk_changed(ve);
    ve_sleep_changed(ve);
    ve_node_sort(node);
    if (json_object_get(changes, "schedule"))
        schedule_run(node);
    *ret = ve_record_json(ve);
    return 0;
}
