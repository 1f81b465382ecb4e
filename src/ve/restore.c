/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Backups from a client into a new VE.
 *
 * The VE's row is committed first, wanted absent, so that a crash leaves nothing; its tree is a
 * draft until every byte was read and found right.  Only then the VE is one of the node's.
 */
#include "backup/backup.h"

#include "base/number.h"
#include "ve/client.h"
#include "ve/jobs.h"
#include "ve/layers.h"
#include "ve/pools.h"
#include "ve/private.h"
#include "ve/rows.h"
#include "ve/saved.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#define FILES_MAX   1000
#define LOGICAL_MAX (UINT64_MAX / 2) /* of all files, holes included, which cost nothing */
#define ENTRIES_MAX ((uint64_t)1 << 32)

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

/* ---- what the manifests say ---- */

/* The manifests as objects; each must stand on the one before. */
static int read_manifests(const json_t *request, json_t *ret, struct err *err)
{
    const json_t *texts = json_object_get(request, "manifests");
    const char *before = NULL;
    size_t i;
    json_t *text;
    if (json_array_size(texts) == 0 || json_array_size(texts) > FILES_MAX)
        return err_set(err, ERR_USAGE, "the manifests of 1 to %d backups are needed", FILES_MAX);
    json_array_foreach((json_t *)texts, i, text)
    {
        json_error_t je;
        json_t *m = json_loads(json_string_value(text) ? json_string_value(text) : "",
                               JSON_REJECT_DUPLICATES, &je);
        const char *id = text_of(m, "id"), *since = text_of(m, "since");
        json_array_append_new(ret, m ? m : json_null());
        if (!backup_id_ok(id))
            return err_set(err, ERR_CORRUPT, "the manifest of backup %zu cannot be read", i + 1);
        if (backup_manifest_check(m, err) < 0)
            return -err->kind;
        if (i == 0 && since)
            return err_set(err, ERR_USAGE,
                           "backup %.8s is incremental and stands on backup %.8s; give the full "
                           "one first, then those that stand on it, in their order (terem backup "
                           "show tells which a file is)",
                           id, since);
        if (i > 0 && !str_eq(since, before))
            return err_set(err, ERR_USAGE,
                           "backup %.8s does not stand on the one before it (%.8s); give the full "
                           "one first, then those that stand on it, in their order",
                           id, before);
        before = id;
    }
    return 0;
}

static const char *embedded(const json_t *manifests, const char *digest)
{
    size_t i, k;
    json_t *m, *layer;
    json_array_foreach((json_t *)manifests, i, m)
    {
        json_array_foreach(json_object_get(m, "layers"), k, layer)
        {
            const char *own = text_of(json_object_get(layer, "embedded"), "digest");
            if (own && str_eq(text_of(layer, "digest"), digest))
                return own;
        }
    }
    return NULL;
}

static int pick_layers(struct ve_node *node, const json_t *manifests, const json_t *spec,
                       struct template *t, struct err *err)
{
    const json_t *layers = json_object_get(spec, "layers");
    size_t i;
    json_t *layer;
    if (json_array_size(layers) > TEMPLATE_LAYERS_MAX)
        return err_set(err, ERR_CORRUPT, "the backup's manifest names more than %d layers",
                       TEMPLATE_LAYERS_MAX);
    json_array_foreach((json_t *)layers, i, layer)
    {
        const char *digest = json_string_value(layer);
        const char *use =
            template_has_layer(node->templates, digest) ? digest : embedded(manifests, digest);
        if (!use)
            return err_set(err, ERR_NOT_FOUND,
                           "the backup stands on template %s, and this node does not have that "
                           "very revision of it (layer %.19s); on a node that still has it, "
                           "restore the file and back up that VE with --embed, which puts the "
                           "layers into the new file",
                           t->name, digest);
        for (size_t k = 0; k < t->n_layers; k++)
            if (str_eq(t->layers[k], use))
                return err_set(err, ERR_CORRUPT, "the backup's manifest names a layer twice");
        str_print(t->layers[t->n_layers++], TEMPLATE_DIGEST, "%s", use);
    }
    return 0;
}

/* A template as the VE had it; what is borrowed is the specification's. */
static int template_of(struct ve_node *node, const json_t *manifests, const json_t *spec,
                       struct template *t, struct err *err)
{
    const char *name = text_of(spec, "template"), *path = text_of(spec, "init_path");
    *t = (struct template){
        .start = str_eq(text_of(spec, "kind"), "app") ? TEMPLATE_APP : TEMPLATE_SYSTEM,
        .init_path = (char *)path,
    };
    template_init_find(text_of(spec, "init"), &t->init);
    if (name_check_template(name, err) < 0)
        return err_set(err, ERR_CORRUPT, "the backup's manifest does not describe a VE");
    str_print(t->name, sizeof(t->name), "%s", name);
    return pick_layers(node, manifests, spec, t, err);
}

/* Its own parameters; those of a profile that is not here become its own. */
static json_t *params_of(struct ve_node *node, const json_t *ve, const json_t *spec,
                         const json_t *changes, json_t *rq)
{
    const char *profile = text_of(spec, "profile");
    json_t *params = json_object();
    if (profile && ve_profile_params(node, profile))
        json_object_set_new(rq, "profile", json_string(profile));
    else if (profile && json_is_object(json_object_get(ve, "profile_params")))
        json_object_update(params, json_object_get(ve, "profile_params"));
    if (json_is_object(json_object_get(spec, "params")))
        json_object_update(params, json_object_get(spec, "params"));
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)changes, key, value)
    {
        if (json_is_null(value))
            json_object_del(params, key);
        else
            json_object_set(params, key, value);
    }
    return params;
}

/* The one that was asked for, else the one it was in if there is one of that name here. */
static const char *pool_of(const struct ve_node *node, const json_t *request, const json_t *spec)
{
    const char *asked = text_of(request, "pool"), *was = text_of(spec, "pool");
    return asked ? asked : was && ve_pool_find(node, was) ? was : "default";
}

/* As if somebody asked for a new VE like this one. */
static json_t *request_of(struct ve_node *node, const json_t *request, const json_t *ve,
                          const json_t *spec)
{
    static const char *const same[] = {"labels",  "env",       "user",    "workdir",
                                       "restart", "autostart", "nesting", "priority"};
    json_t *rq = json_pack("{s:O, s:s}", "name", json_object_get(request, "name"), "pool",
                           pool_of(node, request, spec));
    for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
        json_t *v = json_object_get(spec, same[i]);
        if (v && !json_is_null(v))
            json_object_set(rq, same[i], v);
    }
    if (json_is_false(json_object_get(request, "nesting")))
        json_object_set_new(rq, "nesting", json_false());
    if (str_eq(text_of(spec, "kind"), "app")) {
        json_object_set_new(rq, "kind", json_string("app"));
        json_object_set(rq, "command", json_object_get(spec, "command"));
    }
    json_object_set_new(rq, "params",
                        params_of(node, ve, spec, json_object_get(request, "params"), rq));
    return rq;
}

static int describe(struct ve_node *node, const json_t *request, json_t *manifests, json_t **ret,
                    struct param_set *ret_params, struct err *err)
{
    struct template t;
    int r = read_manifests(request, manifests, err);
    if (r < 0)
        return r;
    const json_t *last = json_array_get(manifests, json_array_size(manifests) - 1);
    const json_t *ve = json_object_get(last, "ve"), *spec = json_object_get(ve, "spec");
    if ((r = template_of(node, manifests, spec, &t, err)) < 0)
        return r;
    json_t *rq = request_of(node, request, ve, spec);
    r = ve_record_build(node, rq, &t, ret, ret_params, err);
    json_decref(rq);
    const json_t *schedule = json_object_get(spec, "schedule");
    if (r == 0 && json_is_object(schedule) && (r = schedule_set(*ret, schedule, err)) < 0) {
        json_decref(*ret);
        *ret = NULL;
        err_wrap(err, "the backup's manifest: its field \"schedule\"");
    }
    return r;
}

static int prepare(struct ve_node *node, const json_t *request, struct ve **ret, struct err *err)
{
    const char *name = text_of(request, "name");
    json_t *manifests = json_array(), *spec = NULL;
    struct param_set params;
    if (!name || name_check_ve(name, err) < 0) {
        json_decref(manifests);
        return name ? -err->kind : err_set(err, ERR_USAGE, "a VE needs a name");
    }
    int r = node->stopping ? err_set(err, ERR_STATE, "the node is stopping")
                           : describe(node, request, manifests, &spec, &params, err);
    json_decref(manifests);
    if (r == 0)
        r = ve_guarantee_admit(node, NULL, &params, err);
    struct ve *ve = r == 0 ? calloc(1, sizeof(*ve)) : NULL;
    if (!ve) {
        json_decref(spec);
        if (r == 0)
            r = err_set(err, ERR_EXHAUSTED, "out of memory");
        return str_starts(err->text, name) ? r : err_wrap(err, "%s: cannot restore", name);
    }
    ve->node = node;
    ve->pidfd = -1;
    ve->state = VE_STOPPED;
    ve->rec.want = VE_ABSENT;
    ve->rec.created = ve_now_ms();
    ve->spec = spec;
    ve->run = json_object();
    str_print(ve->rec.name, sizeof(ve->rec.name), "%s", name);
    if (ve_params_put(ve, &params, err) < 0) {
        ve_record_free(ve);
        return err_wrap(err, "%s: cannot restore", name);
    }
    *ret = ve;
    return 0;
}

/* ---- the worker ---- */

struct taking {
    struct job *job;
    struct client_in in;
    size_t file; /* which one is read */
    uint64_t total;
    int percent;
};

static ssize_t read_in(void *ctx, void *buf, size_t size, struct err *err)
{
    struct taking *t = ctx;
    return client_read(&t->in, buf, size, err);
}

static int on_progress(void *ctx, uint64_t bytes)
{
    struct taking *t = ctx;
    int percent = bytes >= t->total ? 99 : (int)((double)bytes / (double)t->total * 100.0);
    size_t n = json_array_size(json_object_get(t->job->options, "manifests"));
    char text[64] = "unpacking";
    if (percent == t->percent)
        return job_cancel_flag;
    t->percent = percent;
    if (n > 1)
        str_print(text, sizeof(text), "unpacking backup %zu of %zu", t->file + 1, n);
    return job_progress(t->job, percent, text);
}

/* Bytes that the file which is read now unpacks to in the pool, as its maker counted them; t->total
 * has those of the layers in it, too. */
static uint64_t wanted(struct taking *t)
{
    const json_t *texts = json_object_get(t->job->options, "manifests");
    const char *text = json_string_value(json_array_get(texts, t->file));
    json_t *m = json_loads(text ? text : "", 0, NULL), *layer;
    json_int_t bytes = json_integer_value(json_object_get(json_object_get(m, "tree"), "bytes"));
    uint64_t tree = bytes > 0 ? (uint64_t)bytes : 1;
    size_t i;
    t->total = tree;
    json_array_foreach(json_object_get(m, "layers"), i, layer)
    {
        json_t *size = json_object_get(json_object_get(layer, "embedded"), "size");
        t->total += json_integer_value(size) > 0 ? (uint64_t)json_integer_value(size) : 0;
    }
    json_decref(m);
    return tree;
}

/* What teremd decided by is what the file says. */
static int on_manifest(void *ctx, const struct backup_info *info, struct err *err)
{
    struct taking *t = ctx;
    const json_t *texts = json_object_get(t->job->options, "manifests");
    const char *text = json_string_value(json_array_get(texts, t->file));
    return str_eq(text, info->manifest)
               ? 0
               : err_set(err, ERR_USAGE,
                         "the manifest in the request is not that of the backup that was sent");
}

static bool is_needed(const struct taking *t, const char *digest)
{
    size_t i;
    json_t *layer;
    json_array_foreach(json_object_get(t->job->fresh->spec, "layers"), i, layer)
    {
        if (str_eq(json_string_value(layer), digest))
            return !template_has_layer(t->job->node->templates, digest);
    }
    return false;
}

static int on_layer(void *ctx, const char *digest, uint64_t size, int *ret_fd, struct err *err)
{
    struct taking *t = ctx;
    if (!backup_digest_ok(digest) || !is_needed(t, digest))
        return 0;
    return template_layer_file(t->job->node->templates, digest, size, ret_fd, err);
}

static int on_layer_end(void *ctx, const char *digest, int fd, struct err *err)
{
    struct taking *t = ctx;
    const struct template_request rq = {.progress = job_progress, .ctx = t->job};
    int r = template_layer_import(t->job->node->templates, fd, digest, &rq, err);
    close(fd);
    return r;
}

static int limits_of(struct storage_pool *pool, struct tree_limits *ret, struct err *err)
{
    struct storage_space s;
    if (storage_space(pool, &s, err) < 0)
        return -err->kind;
    uint64_t keep = s.size_bytes / POOL_ROOM_PARTS;
    *ret = (struct tree_limits){
        .bytes = s.free_bytes > keep ? s.free_bytes - keep : 0,
        .logical = LOGICAL_MAX,
        .entries = s.inodes ? s.inodes_free : ENTRIES_MAX,
    };
    return 0;
}

static int take_files(struct taking *t, int upper, struct err *err)
{
    struct storage_pool *pool = ve_pool(t->job->fresh);
    const struct backup_in in = {read_in, t};
    size_t n = json_array_size(json_object_get(t->job->options, "manifests"));
    auto_clean(backup_files_done) struct backup_files files = {0};
    char since[BACKUP_ID] = "";
    int r = 0;
    for (t->file = 0; r == 0 && t->file < n; t->file++) {
        struct backup_info info = {0};
        struct backup_restore rs = {
            .root = upper,
            .since = t->file ? since : NULL,
            .files = &files,
            .manifest = on_manifest,
            .layer = on_layer,
            .layer_end = on_layer_end,
            .progress = on_progress,
            .ctx = t,
        };
        ve_pool_wait(t->job, pool, wanted(t));
        if ((r = limits_of(pool, &rs.limits, err)) < 0 ||
            (r = backup_read(&in, &rs, &info, err)) < 0)
            break;
        memcpy(since, info.id, sizeof(since));
        backup_info_done(&info);
    }
    if (r < 0 && n > 1)
        err_wrap(err, "file %zu of %zu", t->file + 1, n);
    return r;
}

static int no_room(struct storage_pool *pool, struct err *err)
{
    int sys = err->sys;
    err_set(err, ERR_EXHAUSTED, "its files do not fit");
    err->sys = sys;
    return storage_full(pool, err);
}

static int work_restore(struct job *job, struct err *err)
{
    struct taking t = {.job = job, .in = {.fd = job->client}, .percent = -1, .total = 1};
    struct storage_pool *pool = ve_pool(job->fresh);
    auto_fd int tree = -1;
    auto_fd int upper = -1;
    const char *name = job->rec.subject;
    (void)!nice(10);
    if (!pool)
        return err_set(err, ERR_UNAVAILABLE, "%s: cannot restore: its pool is not there", name);
    int r = storage_draft(pool, job->aim, &tree, err);
    if (r == 0 && (upper = openat(tree, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        r = err_sys(err, "cannot open its tree");
    if (r == 0 && (r = take_files(&t, upper, err)) == 0)
        r = storage_draft_finish(pool, job->aim, err);
    else if (r == -ERR_EXHAUSTED && err->sys) /* what unpacks speaks of another file system */
        r = no_room(pool, err);
    if (r == 0)
        r = ve_disk_limit(job->fresh, err);
    return r < 0 ? err_wrap(err, "%s: cannot restore", name) : 0;
}

/* ---- the job ---- */

static int begin_restore(struct job *job, struct err *err)
{
    int r = ve_record_save(job->fresh, err);
    job->aim = job->fresh->rec.id;
    return r;
}

/* Others may have asked for the same since. */
static int check_again(struct ve *ve, struct err *err)
{
    size_t i;
    json_t *layer;
    if (ve_find(ve->node, ve->rec.name))
        return err_set(err, ERR_EXISTS, "there is a VE of this name meanwhile");
    json_array_foreach(json_object_get(ve->spec, "layers"), i, layer)
    {
        if (!template_has_layer(ve->node->templates, json_string_value(layer)))
            return err_set(err, ERR_BUSY, "its template was removed meanwhile; try again");
    }
    return ve_guarantee_admit(ve->node, NULL, ve->params, err);
}

static void take_back(struct job *job)
{
    struct ve *ve = job->fresh;
    struct err e = {0};
    if (!ve || !job->aim)
        return;
    if ((ve_pool(ve) && storage_remove(ve_pool(ve), job->aim, &e) < 0) ||
        registry_ve_delete(job->node->registry, job->aim, &e) < 0)
        log_error(ve->rec.name, job->rec.id, "%s; it is tried again at the next start", e.text);
    ve_trash_later(job->node);
}

/* Those that it was in when the last of the backups was made. */
static void take_networks(struct job *job)
{
    const json_t *texts = json_object_get(job->options, "manifests");
    const char *text = json_string_value(json_array_get(texts, json_array_size(texts) - 1));
    json_t *m = json_loads(text ? text : "", 0, NULL);
    const json_t *spec = json_object_get(json_object_get(m, "ve"), "spec");
    ve_privates_take(job->fresh, json_object_get(spec, "networks"));
    json_decref(m);
}

static int done_restore(struct job *job, struct err *err)
{
    struct ve *ve = job->fresh;
    struct ve_node *node = job->node;
    bool start = json_is_true(json_object_get(job->options, "start")) && !node->stopping;
    if (check_again(ve, err) < 0)
        return err_wrap(err, "%s: cannot restore", ve->rec.name);
    json_array_append_new(node->pending,
                          json_pack("{s:s, s:s}", "type", "ve.created", "ve", ve->rec.name));
    /* Committed here: one that the registry could not take would be destroyed at the next start. */
    json_object_set_new(ve->run, "filled", json_true()); /* its tree is not to be made anew */
    ve->rec.want = VE_STOPPED;
    take_networks(job);
    if (ve_record_save(ve, err) < 0 || ve_commit(node, err) < 0) {
        ve_rollback(node);
        return err_wrap(err, "%s: cannot restore", ve->rec.name);
    }
    if (ve_node_add(node, ve, err) < 0)
        return err_wrap(err, "%s: cannot restore", ve->rec.name);
    job->fresh = NULL;
    ve_privates_joined(ve);
    ve_guarantee_settle(node);
    ve_disk_settle(node);
    if (json_object_get(ve->spec, "schedule"))
        node->schedule_waits = true; /* its timer is armed when this job has ended */
    str_print(job->text, sizeof(job->text), "restored");
    if (!start)
        return 0;
    ve->rec.want = VE_RUNNING;
    job->ve = ve;
    job->rec.ve = ve->rec.id;
    ve->job = job;
    if (ve_begin(node, err) < 0)
        return err_wrap(err, "%s: restored, but cannot start", ve->rec.name);
    job_continue(job, &job_start);
    return 1;
}

const struct job_kind job_restore = {
    .name = "restore",
    .hidden = true, /* it needs a client: ve_restore() */
    .cancellable = true,
    .layers = true, /* those that it brings, and those that it found: no record names it yet */
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .begin = begin_restore,
    .work = work_restore,
    .done = done_restore,
    .failed = take_back,
};

int ve_restore_check(struct ve_node *node, const json_t *request, struct err *err)
{
    struct ve *ve = NULL;
    int r = prepare(node, request, &ve, err);
    ve_record_free(ve);
    return r;
}

int ve_restore(struct ve_node *node, const json_t *request, int client_fd, struct err *err)
{
    struct ve *ve = NULL;
    int client = -1;
    int64_t id;
    int r = prepare(node, request, &ve, err);
    if (r == 0 && (r = client_take(node, client_fd, &client, err)) < 0)
        ve_record_free(ve);
    if (r < 0)
        return r;
    return job_begin_with(node, &job_restore, ve->rec.name, NULL, request, client, ve, &id, err);
}
