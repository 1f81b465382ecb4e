/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pools of the instance: their rows in the registry, and the open ones.
 *
 * A row's spec is {"driver","path","image","size","created","why","making"}; path and image are
 * absolute, or lie below STATE, so that an instance can be carried elsewhere whole.  "making": its
 * row is committed, its files may not be whole yet.
 *
 * A pool that cannot be opened (its disk is gone) keeps nobody else from anything: VEs in it are
 * shown with the reason and refuse with it, and every use tries again.
 */
#include "base/name.h"
#include "base/path.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/layers.h"
#include "ve/pools.h"
#include "ve/rows.h"
#include "ve/saved.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define UNMOUNT_TRIES 5 /* each waits for some seconds */

const char *ve_pool_name(const struct ve *ve)
{
    const char *name = json_string_value(json_object_get(ve->spec, "pool"));
    return name ? name : POOL_DEFAULT;
}

struct ve_pool *ve_pool_find(const struct ve_node *node, const char *name)
{
    for (size_t i = 0; i < node->n_pools; i++)
        if (str_eq(node->pools[i]->name, name))
            return node->pools[i];
    return NULL;
}

static const char *name_at(void *ctx, size_t i)
{
    const struct ve_node *node = ctx;
    return i < node->n_pools ? node->pools[i]->name : NULL;
}

int ve_pool_find_err(struct ve_node *node, const char *name, struct ve_pool **ret, struct err *err)
{
    if (name_check_ve(name, err) < 0)
        return err_wrap(err, "pool");
    if ((*ret = ve_pool_find(node, name)))
        return 0;
    const char *near = name_suggest(name, name_at, node);
    if (near)
        return err_set(err, ERR_NOT_FOUND, "there is no pool %s; did you mean %s?", name, near);
    return err_set(err, ERR_NOT_FOUND, "there is no pool %s; terem pool list shows them", name);
}

/* ---- opening ---- */

static char *in_state(const struct ve_node *node, const char *path)
{
    return *path == '/' ? strdup(path) : str_format("%s/%s", node->config.place.state, path);
}

int ve_pool_spec(const struct ve_node *node, const json_t *spec, struct ve_pool_spec *ret,
                 struct err *err)
{
    const char *driver = json_string_value(json_object_get(spec, "driver"));
    const char *path = json_string_value(json_object_get(spec, "path"));
    const char *image = json_string_value(json_object_get(spec, "image"));
    *ret = (struct ve_pool_spec){0};
    if (!driver || !path)
        return err_set(err, ERR_CORRUPT, "its record in the registry cannot be read");
    ret->path = in_state(node, path);
    ret->image = image ? in_state(node, image) : NULL;
    if (!ret->path || (image && !ret->image))
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    ret->storage = (struct storage_spec){
        .driver = driver,
        .path = ret->path,
        .image = ret->image,
        .size = (uint64_t)json_integer_value(json_object_get(spec, "size")),
    };
    return 0;
}

void ve_pool_spec_done(struct ve_pool_spec *s)
{
    cleanup_free(&s->path);
    cleanup_free(&s->image);
}

/* Opening makes what is not there.  In an empty mount point that would be a new pool, and all VEs
 * of the old one without their files. */
static int check_there(const struct storage_spec *s, struct err *err)
{
    struct stat st;
    auto_free char *mark = str_format("%s/.trash", s->path);
    if (!mark)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (s->image && stat(s->image, &st) < 0)
        return err_set(err, ERR_UNAVAILABLE,
                       "its image %s is not there (%s); mount its disk, or put the image back",
                       s->image, strerror(errno));
    if (!s->image && stat(mark, &st) < 0)
        return err_set(err, ERR_UNAVAILABLE, "there is no pool at %s (%s); mount its disk", s->path,
                       strerror(errno));
    return 0;
}

static int open_pool(struct ve_node *node, struct ve_pool *p)
{
    auto_clean(ve_pool_spec_done) struct ve_pool_spec s = {0};
    err_clear(&p->why);
    int r = ve_pool_spec(node, p->spec, &s, &p->why);
    s.storage.name = p->name;
    if (r == 0 && check_there(&s.storage, &p->why) == 0 &&
        storage_pool_open(&s.storage, &p->pool, &p->why) == 0)
        return 0;
    return err_wrap(&p->why, "pool %s cannot be opened", p->name);
}

int ve_pool_open_now(struct ve_node *node, struct ve_pool *p, struct err *err)
{
    if (!p->pool && open_pool(node, p) < 0) {
        *err = p->why;
        return -err->kind;
    }
    return 0;
}

static bool half_way(const struct ve_pool *p)
{
    return json_is_true(json_object_get(p->spec, "making")) ||
           json_is_true(json_object_get(p->spec, "removing"));
}

int ve_pool_try(struct ve_node *node, struct ve_pool *p, struct err *err)
{
    if (p->pool)
        return 0;
    if (half_way(p)) { /* a job is at work on it */
        *err = p->why;
        return -err->kind;
    }
    if (ve_pool_open_now(node, p, err) < 0)
        return -err->kind;
    log_info(NULL, 0, "pool %s is open again", p->name);
    ve_pool_use_disk(node, p);
    ve_pool_recover(node, p);
    return 0;
}

struct storage_pool *ve_pool(const struct ve *ve)
{
    struct ve_pool *p = ve_pool_find(ve->node, ve_pool_name(ve));
    return p ? p->pool : NULL;
}

int ve_pool_need(const struct ve *ve, struct err *err)
{
    struct ve_pool *p = ve_pool_find(ve->node, ve_pool_name(ve));
    if (!p)
        return err_set(err, ERR_UNAVAILABLE,
                       "%s: the node has no pool %s any more, and its files are in it; terem pool "
                       "list shows those there are",
                       ve->rec.name, ve_pool_name(ve));
    return ve_pool_try(ve->node, p, err) < 0 ? err_wrap(err, "%s", ve->rec.name) : 0;
}

void ve_pool_use_disk(struct ve_node *node, const struct ve_pool *p)
{
    auto_clean(ve_pool_spec_done) struct ve_pool_spec s = {0};
    if (p->pool && ve_pool_spec(node, p->spec, &s, NULL) == 0)
        resource_use_disk(node->resources, s.path);
}

void ve_pool_take_back(struct ve_node *node, struct ve_pool *p)
{
    auto_clean(ve_pool_spec_done) struct ve_pool_spec s = {0};
    struct err e = {0};
    storage_pool_close(p->pool);
    p->pool = NULL;
    int r = ve_pool_spec(node, p->spec, &s, &e);
    if (r == 0)
        r = storage_destroy(&s.storage, &e);
    if (r < 0)
        log_error(NULL, 0, "pool %s cannot be taken away: %s", p->name, e.text);
    /* One that was being made is none, whatever of it is left. */
    if (r == 0 || json_is_true(json_object_get(p->spec, "making"))) {
        if (registry_pool_delete(node->registry, p->name, &e) < 0)
            log_error(NULL, 0, "pool %s: %s", p->name, e.text);
        ve_pool_forget(node, p);
        return;
    }
    json_object_del(p->spec, "removing");
    if (ve_pool_save(node, p, false, &e) < 0 || ve_pool_open_now(node, p, &e) < 0)
        log_error(NULL, 0, "pool %s: %s", p->name, e.text);
}

/* ---- the node's start and end ---- */

int ve_pool_add(struct ve_node *node, const char *name, json_t *spec, struct ve_pool **ret,
                struct err *err)
{
    struct ve_pool **list = reallocarray(node->pools, node->n_pools + 1, sizeof(*list));
    if (list)
        node->pools = list;
    struct ve_pool *p = list ? calloc(1, sizeof(*p)) : NULL;
    if (!p || !spec) {
        json_decref(spec);
        free(p);
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    str_print(p->name, sizeof(p->name), "%s", name);
    p->spec = spec;
    size_t i = node->n_pools++;
    for (; i > 0 && strcmp(list[i - 1]->name, name) > 0; i--)
        list[i] = list[i - 1];
    list[i] = p;
    if (ret)
        *ret = p;
    return 0;
}

static void pool_free(struct ve_pool *p)
{
    storage_pool_close(p->pool);
    json_decref(p->spec);
    free(p);
}

void ve_pool_forget(struct ve_node *node, struct ve_pool *p)
{
    for (size_t i = 0; i < node->n_pools; i++) {
        if (node->pools[i] != p)
            continue;
        memmove(&node->pools[i], &node->pools[i + 1],
                (node->n_pools - i - 1) * sizeof(*node->pools));
        node->n_pools--;
        break;
    }
    pool_free(p);
}

static int load_one(void *ctx, const char *name, const char *spec, struct err *err)
{
    json_error_t je;
    json_t *value = spec ? json_loads(spec, JSON_REJECT_DUPLICATES, &je) : NULL;
    return ve_pool_add(ctx, name, value ? value : json_object(), NULL, err);
}

int ve_pool_save(struct ve_node *node, const struct ve_pool *p, bool fresh, struct err *err)
{
    auto_free char *text = json_dumps(p->spec, JSON_COMPACT);
    if (!text)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    return fresh ? registry_pool_insert(node->registry, p->name, text, err)
                 : registry_pool_update(node->registry, p->name, text, err);
}

int ve_pools_open(struct ve_node *node, struct err *err)
{
    if (registry_pool_each(node->registry, load_one, node, err) < 0)
        return -err->kind;
    if (!ve_pool_find(node, POOL_DEFAULT) && ve_pool_first(node, err) < 0)
        return -err->kind;
    for (size_t i = node->n_pools; i-- > 0;) {
        struct ve_pool *p = node->pools[i];
        bool first = str_eq(p->name, POOL_DEFAULT);
        if (half_way(p) && !first)
            ve_pool_take_back(node, p);
        else if (half_way(p) && ve_pool_make_first(node, p, &p->why) < 0)
            log_error(NULL, 0, "pool default cannot be made: %s", p->why.text);
        else if (open_pool(node, p) < 0)
            log_error(NULL, 0, "%s", p->why.text);
    }
    return 0;
}

void ve_pools_close(struct ve_node *node)
{
    for (size_t i = 0; i < node->n_pools; i++)
        pool_free(node->pools[i]);
    free(node->pools);
    node->pools = NULL;
    node->n_pools = 0;
}

/* One that could not be stopped may still have processes in it. */
static bool has_broken(const struct ve_node *node, const struct ve_pool *p)
{
    for (size_t i = 0; i < node->n_ves; i++)
        if (node->ves[i]->state == VE_BROKEN && str_eq(ve_pool_name(node->ves[i]), p->name))
            return true;
    return false;
}

/* Mounts of VEs that have just ended go in the background, on a busy machine slowly, and whoever
 * makes a mount namespace meanwhile has ours for a moment: so it is out of the table while we wait
 * for the file system to end. */
static int unmount_one(const struct ve_node *node, const struct ve_pool *p, struct err *err)
{
    auto_clean(ve_pool_spec_done) struct ve_pool_spec s = {0};
    int r = ve_pool_spec(node, p->spec, &s, err);
    if (r < 0 || !s.image)
        return r;
    if (!has_broken(node, p))
        umount2(s.path, UMOUNT_NOFOLLOW);
    r = -ERR_BUSY;
    for (int i = 0; i < UNMOUNT_TRIES && r == -ERR_BUSY; i++)
        r = storage_unmount(&s.storage, err);
    return r;
}

void ve_pools_unmount(struct ve_node *node)
{
    struct err e = {0};
    if (node->trash_pid) { /* it holds all of them */
        kill(node->trash_pid, SIGKILL);
        waitpid(node->trash_pid, NULL, 0);
        node->trash_pid = 0;
    }
    for (size_t i = 0; i < node->n_pools; i++) {
        storage_pool_close(node->pools[i]->pool);
        node->pools[i]->pool = NULL;
        if (unmount_one(node, node->pools[i], &e) == 0)
            continue;
        log_error(NULL, 0, "pool %s stays in use: %s", node->pools[i]->name, e.text);
        if (!node->left)
            node->left = json_array();
        json_array_append_new(node->left,
                              json_pack("{s:s, s:s}", "pool", node->pools[i]->name, "why", e.text));
    }
}

/* ---- recovery of one pool ---- */

static struct ve *owner(struct ve_node *node, const struct ve_pool *p, int64_t id)
{
    struct ve *ve = ve_by_id(node, id);
    return ve && str_eq(ve_pool_name(ve), p->name) ? ve : NULL;
}

static void drop_trees(struct ve_node *node, struct ve_pool *p)
{
    struct err e = {0};
    auto_free int64_t *ids = NULL;
    size_t n = 0;
    if (storage_list(p->pool, &ids, &n, &e) < 0)
        log_error(NULL, 0, "pool %s: %s", p->name, e.text);
    for (size_t i = 0; i < n; i++)
        if (!owner(node, p, ids[i]) && storage_remove(p->pool, ids[i], &e) < 0)
            log_error(NULL, 0, "pool %s: %s", p->name, e.text);
}

bool ve_tree_is_missing(const struct ve *ve)
{
    auto_fd int fd = -1;
    struct storage_pool *pool = ve_pool(ve);
    return pool && storage_open(pool, ve->rec.id, &fd, &(struct err){0}) == -ERR_NOT_FOUND;
}

bool ve_tree_is_filled(const struct ve *ve)
{
    return json_is_true(json_object_get(ve->run, "filled")) || ve->n_snapshots > 0;
}

void ve_tree_filled(struct ve *ve)
{
    struct err e = {0};
    if (ve_tree_is_filled(ve))
        return;
    json_object_set_new(ve->run, "filled", json_true());
    if (ve_begin(ve->node, &e) < 0 || ve_record_save(ve, &e) < 0 || ve_commit(ve->node, &e) < 0) {
        ve_rollback(ve->node);
        ve_mark_unsaved(ve);
    }
}

void ve_tree_lost(struct ve *ve, struct job *job)
{
    struct err e = {0};
    auto_free char *why = str_format(
        "its files are not in pool %s: they were deleted there, or the pool is an older copy of "
        "itself; put them back and start teremd again, or stop it and go back to a snapshot (terem "
        "snapshot rollback), or restore a backup (terem restore), or destroy it",
        ve_pool_name(ve));
    json_object_set_new(ve->run, "lost", json_true());
    json_object_set_new(ve->run, "broken", json_string(why ? why : "its files are not there"));
    log_error(ve->rec.name, job ? job->rec.id : 0, "%s", why ? why : "its files are not there");
    if (ve_move(ve, VE_EV_BREAK, job, &e) < 0)
        log_error(ve->rec.name, 0, "%s", e.text);
}

/* Its row is committed before its tree is on disk: a power cut between leaves the row.  Nothing in
 * it was on disk either, since fsync(2) of a file takes the directories above it along. */
static void make_tree_again(struct ve *ve)
{
    struct err e = {0};
    if (storage_create(ve_pool(ve), ve->rec.id, &e) < 0 || ve_disk_limit(ve, &e) < 0)
        log_error(ve->rec.name, 0, "its tree was not there and cannot be made: %s", e.text);
    else
        log_warn(ve->rec.name, 0, "its tree was not there yet, and is made again");
}

static void settle_tree(struct ve *ve)
{
    struct err e = {0};
    bool lost = json_is_true(json_object_get(ve->run, "lost"));
    bool missing = ve_tree_is_missing(ve);
    if (ve->rec.want == VE_ABSENT || ve->redo || (!missing && !lost))
        return;
    if (missing && !ve_tree_is_filled(ve) && !resource_populated(ve->node->resources, ve->rec.id)) {
        make_tree_again(ve);
        return;
    }
    if (ve->state != VE_STOPPED && ve->state != VE_BROKEN)
        return; /* one that shall run is looked at when it starts */
    if (missing == (ve->state == VE_BROKEN) || ve_begin(ve->node, &e) < 0)
        return;
    if (missing) {
        ve_tree_lost(ve, NULL);
    } else {
        json_object_del(ve->run, "lost");
        json_object_del(ve->run, "broken");
        log_info(ve->rec.name, 0, "its files are there again");
        if (ve_move(ve, VE_EV_STOP, NULL, &e) < 0 || ve_move(ve, VE_EV_STOPPED, NULL, &e) < 0)
            log_error(ve->rec.name, 0, "%s", e.text);
    }
    if (ve_commit(ve->node, &e) < 0) {
        ve_abandon(ve->node);
        ve_mark_unsaved(ve);
        log_error(ve->rec.name, 0, "%s", e.text);
    }
}

void ve_pool_recover(struct ve_node *node, struct ve_pool *p)
{
    if (!p->pool)
        return;
    drop_trees(node, p);
    for (size_t i = 0; i < node->n_ves; i++)
        if (str_eq(ve_pool_name(node->ves[i]), p->name))
            settle_tree(node->ves[i]);
    snapshots_recover(node, p->name, p->pool);
    ve_trash_later(node);
}

void ve_pools_recover(struct ve_node *node)
{
    for (size_t i = 0; i < node->n_pools; i++)
        ve_pool_recover(node, node->pools[i]);
}
