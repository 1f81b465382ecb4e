/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pools as others see them: lists, the doctor, numbers for who watches. */
#include "base/number.h"
#include "ve/internal.h"
#include "ve/pools.h"

/* Whose files are in it, and how many snapshots they have. */
static json_t *ves_json(struct ve_node *node, const struct ve_pool *p, size_t *ret_snapshots)
{
    json_t *out = json_array();
    *ret_snapshots = 0;
    for (size_t i = 0; i < node->n_ves; i++) {
        const struct ve *ve = node->ves[i];
        if (!str_eq(ve_pool_name(ve), p->name))
            continue;
        json_array_append_new(out, json_string(ve->rec.name));
        *ret_snapshots += ve->n_snapshots;
    }
    return out;
}

static const char *state_of(const struct ve_pool *p)
{
    return json_is_true(json_object_get(p->spec, "making"))     ? "making"
           : json_is_true(json_object_get(p->spec, "removing")) ? "removing"
           : p->pool                                            ? "open"
                                                                : "unavailable";
}

static void add_can(json_t *out, struct storage_pool *pool)
{
    const struct storage_can *can = storage_can(pool);
    json_object_set_new(out, "can",
                        json_pack("{s:b, s:b, s:b, s:b, s:b}", "space", can->space, "inodes",
                                  can->inodes, "own_df", can->own_df, "cheap_copies",
                                  can->cheap_copies, "shares_data", can->shares_data));
    json_object_set_new(out, "why_space", json_string(can->space ? "" : can->why_space));
    json_object_set_new(out, "why_inodes", json_string(can->inodes ? "" : can->why_inodes));
}

static json_t *pool_json(struct ve_node *node, const struct ve_pool *p)
{
    auto_clean(ve_pool_spec_done) struct ve_pool_spec s = {0};
    struct storage_space space = {0};
    size_t snapshots;
    const char *why = json_string_value(json_object_get(p->spec, "why"));
    json_t *ves = ves_json(node, p, &snapshots);
    ve_pool_spec(node, p->spec, &s, NULL);
    json_t *out = json_pack(
        "{s:s, s:s, s:s, s:s, s:s?, s:o, s:I, s:I, s:s}", "name", p->name, "state", state_of(p),
        "driver", s.storage.driver ? s.storage.driver : "", "path", s.path ? s.path : "", "image",
        s.image, "ves", ves, "snapshots", (json_int_t)snapshots, "created",
        json_integer_value(json_object_get(p->spec, "created")), "why", why ? why : "");
    if (!p->pool) {
        json_object_set_new(out, "reason", json_string(p->why.text));
        return out;
    }
    if (storage_space(p->pool, &space, NULL) == 0) {
        json_object_set_new(out, "size", json_integer((json_int_t)space.size_bytes));
        json_object_set_new(out, "free", json_integer((json_int_t)space.free_bytes));
        json_object_set_new(out, "inodes", json_integer((json_int_t)space.inodes));
        json_object_set_new(out, "inodes_free", json_integer((json_int_t)space.inodes_free));
        json_object_set_new(out, "file_system", json_string(space.file_system));
    }
    add_can(out, p->pool);
    return out;
}

int ve_pool_list(struct ve_node *node, json_t **ret, struct err *err)
{
    json_t *out = json_array();
    for (size_t i = 0; i < node->n_pools; i++)
        json_array_append_new(out, pool_json(node, node->pools[i]));
    *ret = out;
    return 0;
}

int ve_pool_show(struct ve_node *node, const char *name, json_t **ret, struct err *err)
{
    struct ve_pool *p;
    if (ve_pool_find_err(node, name, &p, err) < 0)
        return -err->kind;
    *ret = pool_json(node, p);
    return 0;
}

void ve_pool_each(struct ve_node *node,
                  void (*fn)(void *ctx, const char *name, uint64_t size, uint64_t free_bytes),
                  void *ctx)
{
    struct storage_space space;
    for (size_t i = 0; i < node->n_pools; i++)
        if (node->pools[i]->pool && storage_space(node->pools[i]->pool, &space, NULL) == 0)
            fn(ctx, node->pools[i]->name, space.size_bytes, space.free_bytes);
}

/* ---- the doctor ---- */

/* "btrfs in an image on ext4, 12G of 20G free; chosen because …" */
static void found_text(const struct ve_node *node, const struct ve_pool *p,
                       const struct storage_space *space, struct str *s)
{
    auto_clean(ve_pool_spec_done) struct ve_pool_spec spec = {0};
    struct err e = {0};
    bool image = ve_pool_spec(node, p->spec, &spec, &e) == 0 && spec.image;
    char left[NUMBER_TEXT], size[NUMBER_TEXT];
    const char *driver = json_string_value(json_object_get(p->spec, "driver"));
    const char *why = json_string_value(json_object_get(p->spec, "why"));
    str_add(s, "%s%s on %s, %s of %s free", driver ? driver : "", image ? " in an image" : "",
            image ? storage_file_system(spec.image) : space->file_system,
            number_format_size(space->free_bytes, left),
            number_format_size(space->size_bytes, size));
    if (why && *why)
        str_add(s, "; chosen because %s", why);
}

static void costs_text(const struct storage_can *can, struct str *s)
{
    if (!can->space)
        str_add(s, "disk.space is refused: %s", can->why_space);
    if (!can->inodes && can->space)
        str_add(s, "disk.inodes is refused: %s", can->why_inodes);
    else if (!can->inodes)
        str_add(s,
                str_eq(can->why_space, can->why_inodes) ? "; so is disk.inodes"
                                                        : "; disk.inodes: %s",
                can->why_inodes);
    if (!can->cheap_copies)
        str_add(s, "%sa snapshot takes %s the VE has written, which stands still meanwhile",
                s->len ? "; " : "",
                can->shares_data ? "time and a little space for each file that"
                                 : "the time and the space of what");
}

/* What would change it: where the file system could and does not, that; else another pool. */
static void hint_text(const struct ve_pool *p, const struct storage_can *can,
                      const struct storage_space *space, struct str *s)
{
    bool dir = str_eq(json_string_value(json_object_get(p->spec, "driver")), "dir");
    if (dir && !can->space && str_eq(space->file_system, "ext4"))
        str_add(s, "where the kernel has CONFIG_QFMT_V2: tune2fs -O project,quota on its unmounted "
                   "device, and the mount option prjquota; or ");
    if (dir && !can->space && str_eq(space->file_system, "xfs"))
        str_add(s, "where the kernel has CONFIG_XFS_QUOTA: the mount option prjquota; or ");
    if (dir)
        str_add(s, "terem pool create NAME --driver btrfs, and terem pool move");
    else if (!can->space)
        str_add(s, "see the reason");
}

void ve_pool_doctor(const struct ve_node *node, const struct ve_pool *p, ve_check_fn check,
                    json_t *list)
{
    struct storage_space space;
    struct err e = p->why;
    char name[NAME_SIZE + 8];
    auto_str struct str found = str_init(1024), costs = str_init(1024), hint = str_init(1024);
    str_print(name, sizeof(name), "pool %s", p->name);
    if (!p->pool || storage_space(p->pool, &space, &e) < 0) {
        check(list, name, false, e.text, "its VEs cannot start", "see the reason");
        return;
    }
    const struct storage_can *can = storage_can(p->pool);
    found_text(node, p, &space, &found);
    if (!space.overlay_upper_ok) {
        check(list, name, false, str_c(&found),
              "writable trees cannot be the upper layer of an overlay",
              "put it on ext4, xfs or btrfs");
        return;
    }
    costs_text(can, &costs);
    hint_text(p, can, &space, &hint);
    check(list, name, can->space && can->cheap_copies, str_c(&found), str_c(&costs), str_c(&hint));
}
