/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs of pools: make one, remove one.
 *
 * The row is committed first, marked "making" or "removing".  After a crash in between
 * ve_pools_open() takes the first back and goes on with the second.
 */
#include "base/name.h"
#include "base/number.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/pools.h"
#include "ve/saved.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define BUSY_TRIES 100
#define BUSY_MS    100

/* ---- what a new one shall be ---- */

static bool below(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    return strncmp(path, dir, n) == 0 && (path[n] == '/' || !path[n]);
}

static int check_path(const char *path, const char *key, struct err *err)
{
    if (*path != '/' || strlen(path) >= PLACE_MAX)
        return err_set(err, ERR_USAGE, "%s must be an absolute path of at most %d bytes", key,
                       PLACE_MAX - 1);
    if (strstr(path, "//") || strstr(path, "/../") || strstr(path, "/./") ||
        path[strlen(path) - 1] == '/' || path[strlen(path) - 1] == '.')
        return err_set(err, ERR_USAGE,
                       "%s must be a plain path, without \"..\" and doubled or "
                       "trailing \"/\"",
                       key);
    return 0;
}

/* No pool within another one, and none over what is ours. */
static int check_apart(struct ve_node *node, const struct storage_spec *s, bool own_place,
                       struct err *err)
{
    const char *state = node->config.place.state;
    if (!own_place && (below(s->path, state) || below(state, s->path)))
        return err_set(err, ERR_USAGE,
                       "%s is in the way of this node's own files (%s); choose another path",
                       s->path, state);
    for (size_t i = 0; i < node->n_pools; i++) {
        auto_clean(ve_pool_spec_done) struct ve_pool_spec other = {0};
        if (ve_pool_spec(node, node->pools[i]->spec, &other, NULL) < 0)
            continue;
        if (below(s->path, other.path) || below(other.path, s->path))
            return err_set(err, ERR_EXISTS, "%s is in the way of pool %s (%s); choose another path",
                           s->path, node->pools[i]->name, other.path);
        if (s->image && other.image && str_eq(s->image, other.image))
            return err_set(err, ERR_EXISTS, "%s is the image of pool %s; choose another file",
                           s->image, node->pools[i]->name);
    }
    return 0;
}

/* Nothing of somebody else's is used or, should it fail in the middle, deleted. */
static int check_new(const struct storage_spec *s, struct err *err)
{
    struct stat st;
    auto_dir DIR *d = opendir(s->path);
    struct dirent *e;
    if (!d && errno != ENOENT)
        return err_sys(err, "cannot open %s", s->path);
    while (d && (e = readdir(d)))
        if (!str_eq(e->d_name, ".") && !str_eq(e->d_name, "..") && !str_eq(e->d_name, "lost+found"))
            return err_set(err, ERR_EXISTS, "%s is not empty (%s); choose an empty directory",
                           s->path, e->d_name);
    if (s->image && lstat(s->image, &st) == 0)
        return err_set(err, ERR_EXISTS, "%s is there already; choose another file, or remove it",
                       s->image);
    return 0;
}

static int parse_size(const json_t *v, const char *driver, uint64_t *ret, struct err *err)
{
    uint64_t least = storage_image_min(driver);
    char text[NUMBER_TEXT];
    if (json_is_integer(v) && json_integer_value(v) >= 0)
        *ret = (uint64_t)json_integer_value(v);
    else if (!json_is_string(v) || number_parse_size(json_string_value(v), ret, err) < 0)
        return json_is_string(v) ? err_wrap(err, "size")
                                 : err_set(err, ERR_USAGE, "size must be a text such as \"20G\"");
    if (*ret < least)
        return err_set(err, ERR_USAGE, "size: an image with %s has at least %s", driver,
                       number_format_size(least, text));
    return 0;
}

/* Free bytes of the file system that the image lies, or will lie, in. */
int ve_pool_host_free(const char *image, uint64_t *ret_free, uint64_t *ret_size, struct err *err)
{
    auto_free char *dir = strdup(image);
    struct statvfs v;
    if (!dir)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (char *cut; (cut = strrchr(dir, '/'));) { /* the nearest directory that is there */
        *cut = '\0';
        if (statvfs(*dir ? dir : "/", &v) == 0) {
            *ret_free = (uint64_t)v.f_bavail * v.f_frsize;
            *ret_size = (uint64_t)v.f_blocks * v.f_frsize;
            return 0;
        }
        if (errno != ENOENT)
            break;
    }
    return err_sys(err, "cannot look at the free space for %s", image);
}

/* What was asked for must fit; the size by default is at most a quarter of what is free. */
static int choose_size(struct ve_node *node, const json_t *wish, const struct storage_spec *s,
                       uint64_t *ret, struct err *err)
{
    uint64_t free_bytes = 0, all = 0, size = node->config.pool_size;
    char text[NUMBER_TEXT];
    if (ve_pool_host_free(s->image, &free_bytes, &all, err) < 0)
        return -err->kind;
    bool asked = wish && !json_is_null(wish);
    if (asked && parse_size(wish, s->driver, &size, err) < 0)
        return -err->kind;
    if (!asked && size > free_bytes / 4)
        size = free_bytes / 4 & ~((1ull << 20) - 1);
    if (size > free_bytes || size < storage_image_min(s->driver))
        return err_set(err, ERR_EXHAUSTED,
                       "there is no room for its image %s: the file system has %s free; choose a "
                       "smaller --size, or another place with --image",
                       s->image, number_format_size(free_bytes, text));
    *ret = size;
    return 0;
}

static int text_of(const json_t *rq, const char *key, const char **ret, struct err *err)
{
    const json_t *v = json_object_get(rq, key);
    *ret = json_string_value(v);
    if (v && !json_is_null(v) && (!*ret || !**ret || strlen(*ret) != json_string_length(v)))
        return err_set(err, ERR_USAGE, "%s must be a text", key);
    return 0;
}

/* Driver and image, where the request leaves them open. */
static int choose_driver(const json_t *rq, const char *path, bool own_place, const char **driver,
                         bool *image, char why[240], struct err *err)
{
    struct storage_choice c;
    const json_t *size = json_object_get(rq, "size");
    bool wants_image = *image || (size && !json_is_null(size));
    if (*driver && storage_driver_check(*driver, err) < 0)
        return -err->kind;
    if (str_eq(*driver, "dir") && wants_image)
        return err_set(err, ERR_USAGE,
                       "a pool of driver dir has no image and no size of its own; "
                       "leave --size and --image out, or choose btrfs or xfs");
    if (storage_choose(path, &c, err) < 0)
        return -err->kind;
    if (!*driver) {
        bool fits = c.image || !wants_image;
        *driver = !fits                       ? "btrfs"
                  : str_eq(c.driver, "btrfs") ? "btrfs"
                  : str_eq(c.driver, "xfs")   ? "xfs"
                                              : "dir";
        *image = wants_image || c.image;
        str_print(why, 240, "%s", fits ? c.why : "an image was asked for");
    } else {
        /* At a path of the operator's own it is his file system that is meant. */
        bool here = str_eq(c.driver, *driver) && !c.image;
        *image = wants_image || (own_place && !here && !str_eq(*driver, "dir"));
        str_print(why, 240, "it was asked for");
    }
    return 0;
}

int ve_pool_new_spec(struct ve_node *node, const char *name, const json_t *rq, json_t **ret,
                     struct err *err)
{
    const char *driver, *path, *image;
    char why[240], own_path[NAME_SIZE + 16], own_image[NAME_SIZE + 16];
    if (text_of(rq, "driver", &driver, err) < 0 || text_of(rq, "path", &path, err) < 0 ||
        text_of(rq, "image", &image, err) < 0 || (path && check_path(path, "path", err) < 0) ||
        (image && check_path(image, "image", err) < 0))
        return -err->kind;
    bool own_place = !path, has_image = image != NULL;
    str_print(own_path, sizeof(own_path), "pools/%s", name);
    str_print(own_image, sizeof(own_image), "pools/%s.img", name);
    json_t *spec = json_pack("{s:s, s:s}", "driver", "", "path", path ? path : own_path);
    auto_clean(ve_pool_spec_done) struct ve_pool_spec s = {0};
    int r = spec ? ve_pool_spec(node, spec, &s, err) : err_set(err, ERR_EXHAUSTED, "out of memory");
    if (r == 0)
        r = choose_driver(rq, s.path, own_place, &driver, &has_image, why, err);
    if (r == 0) {
        json_object_set_new(spec, "driver", json_string(driver));
        json_object_set_new(spec, "why", json_string(why));
        json_object_set_new(spec, "created", json_integer(ve_now_ms()));
        json_object_set_new(spec, "making", json_true());
        if (has_image)
            json_object_set_new(spec, "image", json_string(image ? image : own_image));
        ve_pool_spec_done(&s);
        r = ve_pool_spec(node, spec, &s, err);
    }
    if (r == 0)
        r = check_apart(node, &s.storage, own_place, err);
    if (r == 0)
        r = check_new(&s.storage, err);
    if (r == 0 && has_image) {
        r = choose_size(node, json_object_get(rq, "size"), &s.storage, &s.storage.size, err);
        json_object_set_new(spec, "size", json_integer((json_int_t)s.storage.size));
    }
    if (r < 0) {
        json_decref(spec);
        return r;
    }
    *ret = spec;
    return 0;
}

/* ---- making one ---- */

static int check_create(struct ve_node *node, const char *name, const json_t *options,
                        struct err *err)
{
    if (name_check_ve(name, err) < 0)
        return err_wrap(err, "pool");
    if (ve_pool_find(node, name))
        return err_set(err, ERR_EXISTS,
                       "there is a pool %s already; choose another name, or remove it", name);
    if (node->n_pools >= POOLS_MAX)
        return err_set(err, ERR_EXHAUSTED, "there are %d pools, which is the most", POOLS_MAX);
    json_t *spec = NULL;
    if (ve_pool_new_spec(node, name, options, &spec, err) < 0)
        return err_wrap(err, "pool %s", name);
    json_decref(spec);
    return 0;
}

static int begin_create(struct job *job, struct err *err)
{
    struct ve_pool *p;
    json_t *spec = NULL;
    const char *name = job->rec.subject;
    if (ve_pool_new_spec(job->node, name, job->options, &spec, err) < 0 ||
        ve_pool_add(job->node, name, spec, &p, err) < 0)
        return err_wrap(err, "pool %s", name);
    err_set(&p->why, ERR_BUSY, "pool %s is being made", name);
    if (ve_pool_save(job->node, p, true, err) < 0) {
        ve_pool_forget(job->node, p);
        return -err->kind;
    }
    job->aim = 1;
    return 0;
}

static void unbegun_create(struct job *job)
{
    ve_pool_forget(job->node, ve_pool_find(job->node, job->rec.subject));
}

static int work_create(struct job *job, struct err *err)
{
    struct ve_pool *p = ve_pool_find(job->node, job->rec.subject);
    auto_clean(ve_pool_spec_done) struct ve_pool_spec s = {0};
    struct storage_pool *pool = NULL;
    char text[NUMBER_TEXT], what[96] = "making its directories";
    if (!p || ve_pool_spec(job->node, p->spec, &s, err) < 0)
        return p ? -err->kind : err_set(err, ERR_INTERNAL, "the pool is not in the table");
    if (s.image)
        str_print(what, sizeof(what), "making an image of %s with %s",
                  number_format_size(s.storage.size, text), s.storage.driver);
    job_progress(job, -1, what);
    if (storage_make(&s.storage, err) < 0)
        return err_wrap(err, "pool %s", p->name);
    job_progress(job, -1, "opening it");
    int r = storage_pool_open(&s.storage, &pool, err);
    storage_pool_close(pool);
    return r < 0 ? err_wrap(err, "pool %s", p->name) : 0;
}

static int done_create(struct job *job, struct err *err)
{
    struct ve_pool *p = ve_pool_find(job->node, job->rec.subject);
    if (ve_pool_open_now(job->node, p, err) < 0)
        return -err->kind;
    json_object_del(p->spec, "making");
    if (ve_pool_save(job->node, p, false, err) < 0)
        return -err->kind;
    ve_pool_use_disk(job->node, p);
    ve_pool_watch(job->node);
    json_array_append_new(job->node->pending,
                          json_pack("{s:s, s:s, s:I}", "type", "pool.created", "pool", p->name,
                                    "job", (json_int_t)job->rec.id));
    return 0;
}

static void failed_create(struct job *job)
{
    struct ve_pool *p = ve_pool_find(job->node, job->rec.subject);
    if (p)
        ve_pool_take_back(job->node, p);
}

const struct job_kind job_pool_create = {
    .name = "pool-create",
    .of_pool = true,
    .limited = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .check_pool = check_create,
    .begin = begin_create,
    .unbegun = unbegun_create,
    .work = work_create,
    .done = done_create,
    .failed = failed_create,
};

/* ---- removing one ---- */

/* Who is in it, as "web1, web2 and 3 more". */
static size_t names_in(const struct ve_node *node, const struct ve_pool *p, struct str *names)
{
    size_t n = 0;
    for (size_t i = 0; i < node->n_ves; i++)
        if (str_eq(ve_pool_name(node->ves[i]), p->name))
            str_add_name(names, &n, node->ves[i]->rec.name);
    str_end_names(names, n);
    return n;
}

/* What a backup can be resumed from stays where it is when its VE moves. */
static int refuse_kept(const struct ve_node *node, const struct ve_pool *p, struct err *err)
{
    for (size_t i = 0; i < node->n_ves; i++)
        for (size_t k = 0; k < node->ves[i]->n_leases; k++)
            if (str_eq(backup_lease_pool(node->ves[i], &node->ves[i]->leases[k]), p->name))
                return err_set(err, ERR_STATE,
                               "pool %s cannot be removed: it has what a backup of %s that was cut "
                               "off is resumed from, for a day; end that by terem backup --resume",
                               p->name, node->ves[i]->rec.name);
    return 0;
}

/* A job that is on its way into it. */
static const struct job *job_into(const struct ve_node *node, const char *pool)
{
    for (size_t i = 0; i < node->n_open; i++)
        if (str_eq(json_string_value(json_object_get(node->open[i]->options, "pool")), pool))
            return node->open[i];
    return NULL;
}

static int check_remove(struct ve_node *node, const char *name, const json_t *options,
                        struct err *err)
{
    struct ve_pool *p;
    if (ve_pool_find_err(node, name, &p, err) < 0)
        return -err->kind;
    if (str_eq(name, "default"))
        return err_set(err, ERR_STATE,
                       "pool default cannot be removed: VEs that name no pool are made in it");
    auto_str struct str names = str_init(1024);
    if (names_in(node, p, &names))
        return err_set(err, ERR_STATE,
                       "pool %s cannot be removed: it has the files and snapshots of %s; move them "
                       "(terem pool move), or destroy them",
                       name, str_c(&names));
    if (refuse_kept(node, p, err) < 0)
        return -err->kind;
    const struct job *into = job_into(node, name);
    if (into)
        return err_set(err, ERR_BUSY,
                       "pool %s cannot be removed: job %" PRId64 " (%s %s) is at work in it; try "
                       "again when that has ended",
                       name, into->rec.id, into->rec.kind, into->rec.subject);
    return 0;
}

static int begin_remove(struct job *job, struct err *err)
{
    struct ve_pool *p = ve_pool_find(job->node, job->rec.subject);
    if (!p)
        return err_set(err, ERR_NOT_FOUND, "there is no pool %s any more", job->rec.subject);
    if (check_remove(job->node, p->name, job->options, err) < 0)
        return -err->kind;
    json_object_set_new(p->spec, "removing", json_true());
    if (ve_pool_save(job->node, p, false, err) < 0) {
        json_object_del(p->spec, "removing");
        return -err->kind;
    }
    /* Our own descriptors would keep its file system mounted. */
    storage_pool_close(p->pool);
    p->pool = NULL;
    err_set(&p->why, ERR_BUSY, "pool %s is being removed", p->name);
    if (job->node->trash_pid)
        kill(job->node->trash_pid, SIGKILL);
    job->aim = 1;
    return 0;
}

static void open_again(struct job *job)
{
    struct err e = {0};
    struct ve_pool *p = ve_pool_find(job->node, job->rec.subject);
    json_object_del(p->spec, "removing");
    if (ve_pool_open_now(job->node, p, &e) < 0)
        log_error(NULL, job->rec.id, "%s", e.text);
}

static int work_remove(struct job *job, struct err *err)
{
    struct ve_pool *p = ve_pool_find(job->node, job->rec.subject);
    auto_clean(ve_pool_spec_done) struct ve_pool_spec s = {0};
    if (!p || ve_pool_spec(job->node, p->spec, &s, err) < 0)
        return p ? -err->kind : err_set(err, ERR_INTERNAL, "the pool is not in the table");
    job_progress(job, -1, "deleting its directories");
    int r = -1;
    for (int i = 0; i < BUSY_TRIES; i++) {
        r = storage_destroy(&s.storage, err);
        if (r != -ERR_BUSY)
            break;
        usleep(BUSY_MS * 1000); /* workers that were forked before let go of it when they end */
    }
    return r < 0 ? err_wrap(err, "pool %s", p->name) : 0;
}

static int done_remove(struct job *job, struct err *err)
{
    struct ve_pool *p = ve_pool_find(job->node, job->rec.subject);
    if (registry_pool_delete(job->node->registry, p->name, err) < 0)
        return -err->kind;
    json_array_append_new(job->node->pending,
                          json_pack("{s:s, s:s, s:I}", "type", "pool.removed", "pool", p->name,
                                    "job", (json_int_t)job->rec.id));
    ve_pool_forget(job->node, p);
    ve_pool_watch(job->node);
    return 0;
}

static void failed_remove(struct job *job)
{
    struct err e = {0};
    struct ve_pool *p = ve_pool_find(job->node, job->rec.subject);
    open_again(job);
    if (ve_pool_save(job->node, p, false, &e) < 0)
        log_error(NULL, job->rec.id, "%s", e.text);
}

const struct job_kind job_pool_remove = {
    .name = "pool-remove",
    .of_pool = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .check_pool = check_remove,
    .begin = begin_remove,
    .unbegun = open_again,
    .work = work_remove,
    .done = done_remove,
    .failed = failed_remove,
};
