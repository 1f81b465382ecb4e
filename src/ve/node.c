/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The node: opening and closing the rooms, the table of VEs, what is done at once. */
#include "base/fd.h"
#include "base/name.h"
#include "base/path.h"
#include "ve/disk.h"
#include "ve/instance.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/layers.h"
#include "ve/net.h"
#include "ve/pools.h"
#include "ve/rows.h"
#include "ve/saved.h"
#include "ve/setup.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

int64_t ve_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void freed(uv_handle_t *h)
{
    free(h);
}

void ve_handle_close_impl(void **slot)
{
    uv_handle_t *h = *slot;
    *slot = NULL;
    if (h)
        uv_close(h, freed);
}

/* ---- transactions ---- */

/* Still no room: they stay marked, and this transaction will most likely fail too. */
static void save_unsaved(struct ve_node *node)
{
    struct err e = {0};
    for (size_t i = 0; i < node->n_ves; i++)
        if (node->ves[i]->unsaved && ve_record_save(node->ves[i], &e) < 0)
            return;
    for (size_t i = 0; i < node->n_late; i++)
        if (registry_job_update(node->registry, &node->late[i], &e) < 0 && e.kind != ERR_NOT_FOUND)
            return;
    if (node->boot_late && registry_meta_set(node->registry, "boot", node->boot_id, &e) < 0)
        return;
    node->saving_unsaved = true;
}

void ve_late_done(struct ve_node *node)
{
    for (size_t i = 0; i < node->n_late; i++)
        registry_job_done(&node->late[i]);
    cleanup_free(&node->late);
    node->n_late = 0;
    node->boot_late = false;
}

static void unsaved_are_saved(struct ve_node *node)
{
    for (size_t i = 0; i < node->n_ves && node->saving_unsaved; i++)
        node->ves[i]->unsaved = false;
    if (node->saving_unsaved) {
        node->some_unsaved = false;
        ve_late_done(node);
    }
    node->saving_unsaved = false;
}

static int begin(struct ve_node *node, bool light, struct err *err)
{
    if (node->in_transaction)
        return 0;
    if ((light ? registry_begin_light : registry_begin)(node->registry, err) < 0)
        return -err->kind;
    node->in_transaction = true;
    if (node->some_unsaved)
        save_unsaved(node);
    return 0;
}

int ve_begin(struct ve_node *node, struct err *err)
{
    return begin(node, false, err);
}

int ve_begin_light(struct ve_node *node, struct err *err)
{
    return begin(node, true, err);
}

void ve_mark_unsaved(struct ve *ve)
{
    ve->unsaved = ve->node->some_unsaved = true;
}

void ve_job_late(struct ve_node *node, const struct registry_job *rec)
{
    struct registry_job *more = reallocarray(node->late, node->n_late + 1, sizeof(*more));
    if (!more)
        return;
    node->late = more;
    more[node->n_late] = *rec;
    more[node->n_late].request = rec->request ? strdup(rec->request) : NULL;
    more[node->n_late++].error = rec->error ? strdup(rec->error) : NULL;
    node->some_unsaved = true;
}

void ve_boot_late(struct ve_node *node)
{
    node->boot_late = node->some_unsaved = true;
}

const struct registry_job *ve_job_as_ended(const struct ve_node *node,
                                           const struct registry_job *rec)
{
    for (size_t i = 0; i < node->n_late; i++)
        if (node->late[i].id == rec->id)
            return &node->late[i];
    return rec;
}

static void emit_pending(struct ve_node *node)
{
    size_t i;
    json_t *e, *list = node->pending;
    if (json_array_size(list) == 0)
        return;
    node->pending = json_array();
    json_array_foreach(list, i, e) ve_event_emit(node, json_incref(e));
    json_decref(list);
}

int ve_commit(struct ve_node *node, struct err *err)
{
    if (!node->in_transaction)
        return err_set(err, ERR_INTERNAL, "a commit without a transaction");
    if (registry_commit(node->registry, err) < 0)
        return -err->kind;
    node->in_transaction = false;
    unsaved_are_saved(node);
    emit_pending(node);
    return 0;
}

void ve_abandon(struct ve_node *node)
{
    if (node->in_transaction)
        registry_rollback(node->registry);
    node->in_transaction = node->saving_unsaved = false;
    emit_pending(node);
}

void ve_rollback(struct ve_node *node)
{
    if (node->in_transaction)
        registry_rollback(node->registry);
    node->in_transaction = node->saving_unsaved = false;
    json_array_clear(node->pending);
}

/* ---- the table of VEs ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct ve *const *)a)->rec.name, (*(struct ve *const *)b)->rec.name);
}

void ve_node_sort(struct ve_node *node)
{
    qsort(node->ves, node->n_ves, sizeof(*node->ves), by_name);
}

/* First index whose name is not before `name`. */
static size_t lower_bound(struct ve_node *node, const char *name)
{
    size_t lo = 0, hi = node->n_ves;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(node->ves[mid]->rec.name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct ve *ve_find(struct ve_node *node, const char *name)
{
    size_t i = lower_bound(node, name);
    return i < node->n_ves && str_eq(node->ves[i]->rec.name, name) ? node->ves[i] : NULL;
}

struct ve *ve_by_id(struct ve_node *node, int64_t id)
{
    for (size_t i = 0; i < node->n_ves; i++)
        if (node->ves[i]->rec.id == id)
            return node->ves[i];
    return NULL;
}

static const char *name_at(void *ctx, size_t i)
{
    struct ve_node *node = ctx;
    return i < node->n_ves ? node->ves[i]->rec.name : NULL;
}

int ve_find_err(struct ve_node *node, const char *name, struct ve **ret, struct err *err)
{
    if (name_check_ve(name, err) < 0)
        return -err->kind;
    struct ve *ve = ve_find(node, name);
    if (ve) {
        *ret = ve;
        return 0;
    }
    const char *near = name_suggest(name, name_at, node);
    if (near)
        return err_set(err, ERR_NOT_FOUND, "%s: there is no such VE; did you mean %s?", name, near);
    return err_set(err, ERR_NOT_FOUND, "%s: there is no such VE; terem list shows those there are",
                   name);
}

int ve_node_add(struct ve_node *node, struct ve *ve, struct err *err)
{
    if (node->n_ves == node->cap_ves) {
        size_t cap = node->cap_ves ? node->cap_ves * 2 : 64;
        struct ve **p = realloc(node->ves, cap * sizeof(*p));
        if (!p)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        node->ves = p;
        node->cap_ves = cap;
    }
    size_t i = lower_bound(node, ve->rec.name);
    memmove(&node->ves[i + 1], &node->ves[i], (node->n_ves - i) * sizeof(*node->ves));
    node->ves[i] = ve;
    node->n_ves++;
    return 0;
}

void ve_node_forget(struct ve *ve)
{
    struct ve_node *node = ve->node;
    for (size_t i = 0; i < node->n_ves; i++) {
        if (node->ves[i] != ve)
            continue;
        memmove(&node->ves[i], &node->ves[i + 1], (node->n_ves - i - 1) * sizeof(*node->ves));
        node->n_ves--;
        break;
    }
    /* They end for want of it, as soon as the one that has taken it away has ended. */
    for (struct job *job = ve->next_job; job; job = job->next)
        job->ve = NULL;
    ve_unwatch_process(ve);
    ve_handle_close(&ve->restart_timer);
    ve_record_free(ve);
}

uid_t ve_id_base(const struct ve *ve)
{
    return ve_instance_id_base(ve->node->instance, ve->rec.slot);
}

uint32_t ve_slot_max(const struct ve_node *node)
{
    uint32_t ids = ve_instance_slots(node->instance), net = network_slots(node->network);
    return ids < net ? ids : net;
}

static size_t add_layers(const char **list, size_t n, const json_t *layers)
{
    size_t i;
    json_t *item;
    json_array_foreach(layers, i, item)
    {
        if (n == 0 || !str_eq(list[n - 1], json_string_value(item)))
            list[n++] = json_string_value(item);
    }
    return n;
}

/* Digests that VEs and their snapshots stand on; pointers into their records.  Duplicates are
 * harmless. */
int ve_used_layers(struct ve_node *node, const char ***ret, size_t *ret_n, struct err *err)
{
    size_t n = 0, max = 0;
    for (size_t i = 0; i < node->n_ves; i++) {
        const struct ve *ve = node->ves[i];
        max += json_array_size(json_object_get(ve->spec, "layers")) +
               json_array_size(json_object_get(ve->run, "rescue"));
        for (size_t k = 0; k < ve->n_snapshots; k++)
            max += json_array_size(json_object_get(ve->snapshots[k].spec, "layers"));
    }
    for (size_t i = 0; i < node->n_open; i++)
        if (node->open[i]->fresh)
            max += json_array_size(json_object_get(node->open[i]->fresh->spec, "layers"));
    const char **list = calloc(max + 1, sizeof(*list));
    if (!list)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < node->n_ves; i++) {
        const struct ve *ve = node->ves[i];
        n = add_layers(list, n, json_object_get(ve->spec, "layers"));
        n = add_layers(list, n, json_object_get(ve->run, "rescue"));
        for (size_t k = 0; k < ve->n_snapshots; k++)
            n = add_layers(list, n, json_object_get(ve->snapshots[k].spec, "layers"));
    }
    for (size_t i = 0; i < node->n_open; i++)
        if (node->open[i]->fresh)
            n = add_layers(list, n, json_object_get(node->open[i]->fresh->spec, "layers"));
    *ret = list;
    *ret_n = n;
    return 0;
}

/* ---- at once: reading, creating, changing ---- */

bool ve_has_label(const struct ve *ve, const char *label)
{
    if (!label)
        return true;
    const char *eq = strchr(label, '=');
    auto_free char *key = eq ? strndup(label, (size_t)(eq - label)) : strdup(label);
    const char *value =
        json_string_value(json_object_get(json_object_get(ve->spec, "labels"), key ? key : ""));
    return value && (!eq || str_eq(value, eq + 1));
}

int ve_add_new(struct ve_node *node, const char *name, json_t *spec, const struct param_set *params,
               struct ve **ret, struct err *err)
{
    struct ve *ve = calloc(1, sizeof(*ve));
    if (!ve) {
        json_decref(spec);
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    ve->node = node;
    ve->pidfd = -1;
    ve->state = VE_STOPPED;
    ve->rec.want = ve_name_hidden(name) ? VE_ABSENT : VE_STOPPED;
    ve->rec.created = ve_now_ms();
    ve->spec = spec;
    ve->run = json_object();
    str_print(ve->rec.name, sizeof(ve->rec.name), "%s", name);
    bool tree = false;
    if (ve_params_put(ve, params, err) < 0 || ve_begin(node, err) < 0 ||
        ve_record_save(ve, err) < 0 || ve_pool_need(ve, err) < 0 ||
        storage_create(ve_pool(ve), ve->rec.id, err) < 0 || !(tree = true) ||
        ve_disk_limit(ve, err) < 0 || ve_node_add(node, ve, err) < 0)
        goto undo;
    json_array_append_new(node->pending,
                          json_pack("{s:s, s:s}", "type", "ve.created", "ve", ve->rec.name));
    if (ve_commit(node, err) < 0)
        goto undo;
    ve_guarantee_settle(node);
    ve_disk_settle(node);
    ve_pool_look(node);
    *ret = ve;
    return 0;
undo:
    ve_rollback(node);
    if (tree)
        storage_remove(ve_pool(ve), ve->rec.id, NULL);
    ve_node_forget(ve);
    return -err->kind;
}

void ve_hidden_forget(struct ve *ve)
{
    struct ve_node *node = ve->node;
    struct err e = {0};
    int64_t id = ve->rec.id;
    struct storage_pool *pool = ve_pool(ve);
    if (ve_begin(node, &e) < 0 || registry_ve_delete(node->registry, id, &e) < 0 ||
        ve_commit(node, &e) < 0) {
        ve_rollback(node);
        log_error(NULL, 0, "a VE of a job is forgotten at the next start only: %s", e.text);
        return;
    }
    /* A tree without a row is nobody's, should we end here. */
    if (pool && storage_remove(pool, id, &e) < 0)
        log_error(NULL, 0, "%s", e.text);
    ve_node_forget(ve);
    ve_usage_soon(node);
    ve_guarantee_settle(node);
    ve_trash_later(node);
}

int ve_create(struct ve_node *node, const json_t *request, json_t **ret, struct err *err)
{
    json_t *spec = NULL;
    struct param_set params;
    struct ve *ve = NULL;
    const char *name = json_string_value(json_object_get(request, "name"));
    if (node->stopping)
        return err_set(err, ERR_STATE, "the node is stopping");
    if (ve_record_check(node, request, &spec, &params, err) < 0)
        return -err->kind;
    if (ve_guarantee_admit(node, NULL, &params, err) < 0) {
        json_decref(spec);
        return err_wrap(err, "%s", name);
    }
    if (ve_add_new(node, name, spec, &params, &ve, err) < 0)
        return err_wrap(err, "%s: cannot create", name);
    *ret = ve_record_json(ve);
    return 0;
}

json_t *ve_node_info(struct ve_node *node)
{
    size_t running = 0, n = 0;
    char host[256] = "";
    gethostname(host, sizeof(host) - 1);
    for (size_t i = 0; i < node->n_ves; i++) {
        running += ve_state_is_up(node->ves[i]->state);
        n += !ve_hidden(node->ves[i]);
    }
    return json_pack("{s:s, s:s, s:i, s:I, s:I, s:I, s:s, s:o, s:o}", "name", host, "version",
                     TEREM_VERSION, "instance", (int)node->instance, "ves", (json_int_t)n,
                     "running", (json_int_t)running, "jobs", (json_int_t)node->n_open, "state",
                     node->stopping ? "stopping" : "serving", "resources", ve_oversell_json(node),
                     "zram", ve_setup_json(node));
}

int ve_logs_open(struct ve_node *node, const char *name, int ret_fds[2], struct err *err)
{
    struct ve *ve;
    char file[48];
    if (ve_find_err(node, name, &ve, err) < 0)
        return -err->kind;
    str_print(file, sizeof(file), "%lld.log.1", (long long)ve->rec.id);
    ret_fds[0] = openat(node->logs_fd, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    str_print(file, sizeof(file), "%lld.log", (long long)ve->rec.id);
    ret_fds[1] = openat(node->logs_fd, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return 0;
}
