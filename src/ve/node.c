/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The node: opening and closing the rooms, the table of VEs, what is done at once. */
#include "base/fd.h"
#include "base/name.h"
#include "base/path.h"
#include "ve/instance.h"
#include "ve/internal.h"

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
    struct err e;
    for (size_t i = 0; i < node->n_ves; i++)
        if (node->ves[i]->unsaved && ve_record_save(node->ves[i], &e) < 0)
            return;
    node->saving_unsaved = true;
}

static void unsaved_are_saved(struct ve_node *node)
{
    for (size_t i = 0; i < node->n_ves && node->saving_unsaved; i++)
        node->ves[i]->unsaved = false;
    if (node->saving_unsaved)
        node->some_unsaved = false;
    node->saving_unsaved = false;
}

int ve_begin(struct ve_node *node, struct err *err)
{
    if (node->in_transaction)
        return 0;
    if (registry_begin(node->registry, err) < 0)
        return -err->kind;
    node->in_transaction = true;
    if (node->some_unsaved)
        save_unsaved(node);
    return 0;
}

void ve_mark_unsaved(struct ve *ve)
{
    ve->unsaved = ve->node->some_unsaved = true;
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

/* Digests that VEs stand on; pointers into their records.  Duplicates are harmless. */
int ve_used_layers(struct ve_node *node, const char ***ret, size_t *ret_n, struct err *err)
{
    size_t n = 0, max = 0;
    for (size_t i = 0; i < node->n_ves; i++)
        max += json_array_size(json_object_get(node->ves[i]->spec, "layers"));
    const char **list = calloc(max + 1, sizeof(*list));
    if (!list)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < node->n_ves; i++) {
        size_t k;
        json_t *item;
        json_array_foreach(json_object_get(node->ves[i]->spec, "layers"), k, item)
        {
            if (n == 0 || !str_eq(list[n - 1], json_string_value(item)))
                list[n++] = json_string_value(item);
        }
    }
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

int ve_list(struct ve_node *node, const char *label, json_t **ret, struct err *err)
{
    json_t *out = json_array();
    ve_traffic_load(node);
    for (size_t i = 0; i < node->n_ves; i++)
        if (ve_has_label(node->ves[i], label))
            json_array_append_new(out, ve_record_json(node->ves[i]));
    ve_traffic_drop(node);
    *ret = out;
    return 0;
}

int ve_show(struct ve_node *node, const char *name, json_t **ret, struct err *err)
{
    struct ve *ve;
    if (ve_find_err(node, name, &ve, err) < 0)
        return -err->kind;
    *ret = ve_record_json(ve);
    return 0;
}

int ve_create(struct ve_node *node, const json_t *request, json_t **ret, struct err *err)
{
    json_t *spec = NULL;
    struct param_set params;
    if (node->stopping)
        return err_set(err, ERR_STATE, "the node is stopping");
    if (ve_record_check(node, request, &spec, &params, err) < 0)
        return -err->kind;
    if (ve_guarantee_admit(node, NULL, &params, err) < 0) {
        json_decref(spec);
        return err_wrap(err, "%s", json_string_value(json_object_get(request, "name")));
    }
    struct ve *ve = calloc(1, sizeof(*ve));
    if (!ve) {
        json_decref(spec);
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    ve->node = node;
    ve->pidfd = -1;
    ve->state = VE_STOPPED;
    ve->rec.want = VE_STOPPED;
    ve->rec.created = ve_now_ms();
    ve->spec = spec;
    ve->run = json_object();
    ve->params = params;
    str_print(ve->rec.name, sizeof(ve->rec.name), "%s",
              json_string_value(json_object_get(request, "name")));
    bool tree = false;
    if (ve_begin(node, err) < 0 || ve_record_save(ve, err) < 0 ||
        storage_create(node->pool, ve->rec.id, err) < 0 || !(tree = true) ||
        ve_node_add(node, ve, err) < 0)
        goto undo;
    json_array_append_new(node->pending,
                          json_pack("{s:s, s:s}", "type", "ve.created", "ve", ve->rec.name));
    if (ve_commit(node, err) < 0)
        goto undo;
    ve_guarantee_settle(node);
    *ret = ve_record_json(ve);
    return 0;
undo:
    ve_rollback(node);
    err_wrap(err, "%s: cannot create", ve->rec.name);
    if (tree)
        storage_remove(node->pool, ve->rec.id, NULL);
    ve_node_forget(ve);
    return -err->kind;
}

json_t *ve_node_info(struct ve_node *node)
{
    size_t running = 0;
    char host[256] = "";
    gethostname(host, sizeof(host) - 1);
    for (size_t i = 0; i < node->n_ves; i++)
        running += node->ves[i]->state == VE_RUNNING || node->ves[i]->state == VE_PAUSED;
    return json_pack("{s:s, s:s, s:i, s:I, s:I, s:I, s:s, s:o}", "name", host, "version",
                     TEREM_VERSION, "instance", (int)node->instance, "ves", (json_int_t)node->n_ves,
                     "running", (json_int_t)running, "jobs", (json_int_t)node->n_open, "state",
                     node->stopping ? "stopping" : "serving", "resources", ve_oversell_json(node));
}

static json_t *template_json(struct ve_node *node, const struct template *t)
{
    static const char *const inits[] = {"none", "systemd", "busybox", "sysv"};
    json_t *layers = json_array(), *ves = json_array(), *command = json_null();
    for (size_t i = 0; i < t->n_layers; i++)
        json_array_append_new(layers, json_string(t->layers[i]));
    for (size_t i = 0; i < node->n_ves; i++)
        if (str_eq(json_string_value(json_object_get(node->ves[i]->spec, "template")), t->name))
            json_array_append_new(ves, json_string(node->ves[i]->rec.name));
    if (t->command) {
        command = json_array();
        for (char **p = t->command; *p; p++)
            json_array_append_new(command, json_string(*p));
    }
    return json_pack("{s:s, s:s, s:s, s:o, s:I, s:I, s:s, s:o, s:o}", "name", t->name, "kind",
                     t->start == TEMPLATE_SYSTEM ? "system" : "app", "init", inits[t->init],
                     "layers", layers, "size", (json_int_t)t->size, "created",
                     (json_int_t)t->created * 1000, "source", t->source ? t->source : "", "command",
                     command, "ves", ves);
}

int ve_template_show(struct ve_node *node, const char *name, json_t **ret, struct err *err)
{
    auto_template struct template *t = NULL;
    if (name_check_template(name, err) < 0 || template_get(node->templates, name, &t, err) < 0)
        return -err->kind;
    *ret = template_json(node, t);
    return 0;
}

int ve_template_list(struct ve_node *node, json_t **ret, struct err *err)
{
    char **names;
    size_t n;
    if (template_list(node->templates, &names, &n, err) < 0)
        return -err->kind;
    json_t *out = json_array();
    for (size_t i = 0; i < n; i++) {
        auto_template struct template *t = NULL;
        if (template_get(node->templates, names[i], &t, NULL) == 0)
            json_array_append_new(out, template_json(node, t));
    }
    template_names_free(names, n);
    *ret = out;
    return 0;
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
