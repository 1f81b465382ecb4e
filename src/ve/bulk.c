/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One job over many VEs.  It has no worker: it begins a job (or what is done at once) for each VE,
 * as many at a time as the machine bears (pace.h), and hears of their ends.
 *
 * What is to be done stands in rows of its own that are committed with the job's; how each ended is
 * committed with its end.  After a crash recovery hands the job back (bulk_resume), and it goes on
 * with those that have no end.
 */
#include "ve/bulk.h"

#include "base/name.h"
#include "ve/jobs.h"

#include <inttypes.h>
#include <stdlib.h>

#define BOOT "boot" /* in the request of what Terem began itself after a boot */

#define IN(state) (1u << (state))
#define AWAKE     (IN(VE_RUNNING) | IN(VE_SLEEPING))
#define UP        (AWAKE | IN(VE_PAUSED))
#define EVERY     (~0u)

static int check_snapshot(struct ve_node *node, const json_t *options, struct err *err)
{
    const char *name = json_string_value(json_object_get(options, "name"));
    return name && name_check_ve(name, err) < 0 ? err_wrap(err, "snapshot") : 0;
}

static const struct bulk_verb verbs[] = {
    {"start", IN(VE_STOPPED) | IN(VE_BROKEN), UP, .crewed = true, .repair = true},
    {"stop", UP | IN(VE_STARTING), IN(VE_STOPPED), .ends = true, .repair = true},
    {"restart", AWAKE, 0, .wide = true, .repair = true},
    {"kill", UP | IN(VE_STARTING) | IN(VE_STOPPING), IN(VE_STOPPED), .ends = true, .repair = true},
    {"pause", AWAKE, IN(VE_PAUSED), .repair = true},
    {"resume", IN(VE_PAUSED) | IN(VE_SLEEPING), IN(VE_RUNNING), .repair = true},
    {"squeeze", UP, 0, .repair = true, .check = ve_squeeze_check},
    {"snapshot", UP | IN(VE_STOPPED), 0, .check = check_snapshot},
    {"update", IN(VE_STOPPED), 0, .check = ve_renew_check},
    {"destroy", IN(VE_STOPPED) | IN(VE_BROKEN), IN(VE_ABSENT), .crewed = true, .repair = true},
    {"set", EVERY, 0, .repair = true, .check = ve_changes_check},
    {"exec", AWAKE, 0, .wide = true, .repair = true, .check = ve_exec_check_request},
};

static const struct bulk_verb *verb_find(const char *name)
{
    for (size_t i = 0; name && i < ARRAY_SIZE(verbs); i++)
        if (str_eq(verbs[i].name, name))
            return &verbs[i];
    return NULL;
}

static bool is_true(const json_t *options, const char *key)
{
    return json_is_true(json_object_get(options, key));
}

/* ---- which VEs ---- */

static unsigned states_of(const struct bulk_verb *verb, const json_t *options)
{
    if (str_eq(verb->name, "update") && is_true(options, "check"))
        return verb->from | UP | IN(VE_BROKEN);
    if (str_eq(verb->name, "update") && is_true(options, "restart"))
        return verb->from | UP;
    if (str_eq(verb->name, "destroy") && is_true(options, "force"))
        return EVERY;
    if (str_eq(verb->name, "stop") && is_true(options, "force"))
        return verb->from | IN(VE_STOPPING);
    return verb->from;
}

static bool verb_fits(const struct bulk_verb *verb, const json_t *options, const struct ve *ve)
{
    bool restarts = ve->restart_timer /* by policy */ || (ve->job && ve->job->kind == &job_restart);
    return ((states_of(verb, options) & IN(ve->state)) || (verb->ends && restarts)) &&
           (verb->repair || !ve_in_repair(ve));
}

static struct bulk_item *add_item(struct bulk *b, int64_t id, const char *name)
{
    struct bulk_item *item = &b->items[b->n];
    *item = (struct bulk_item){.bulk = b, .row = {.item = (int64_t)b->n, .ve = id}};
    item->row.state = JOB_QUEUED;
    str_print(item->row.name, sizeof(item->row.name), "%s", name);
    b->n++;
    return item;
}

static int select_named(struct bulk *b, struct ve_node *node, const json_t *names, struct err *err)
{
    json_t *seen = json_object();
    size_t i;
    const json_t *v;
    int r = seen ? 0 : err_set(err, ERR_EXHAUSTED, "out of memory");
    json_array_foreach(names, i, v)
    {
        const char *name = json_string_value(v);
        if (r == 0 && (!name || strlen(name) >= NAME_SIZE))
            r = err_set(err, ERR_USAGE, "ves must be a list of names");
        if (r < 0 || json_object_get(seen, name))
            continue;
        const struct ve *ve = ve_find(node, name);
        json_object_set_new(seen, name, json_true());
        add_item(b, ve ? ve->rec.id : 0, name);
        b->matched += ve != NULL;
    }
    json_decref(seen);
    return r;
}

static void select_fitting(struct bulk *b, struct ve_node *node, const char *label)
{
    for (size_t i = 0; i < node->n_ves; i++) {
        const struct ve *ve = node->ves[i];
        if (ve_hidden(ve) || !ve_has_label(ve, label))
            continue;
        b->matched++;
        if (verb_fits(b->verb, b->options, ve))
            add_item(b, ve->rec.id, ve->rec.name);
        else if (str_eq(b->verb->name, "update") && (IN(ve->state) & UP))
            b->left++;
    }
}

static void bulk_free_p(struct bulk **b)
{
    bulk_free(*b);
}

static struct bulk *bulk_new(const struct bulk_verb *verb, const json_t *options, size_t room,
                             struct err *err)
{
    struct bulk *b = calloc(1, sizeof(*b));
    if (b)
        b->items = calloc(room + 1, sizeof(*b->items));
    if (!b || !b->items) {
        free(b);
        err_set(err, ERR_EXHAUSTED, "out of memory");
        return NULL;
    }
    b->verb = verb;
    b->options = options;
    b->width = 1;
    return b;
}

void bulk_free(struct bulk *b)
{
    if (!b)
        return;
    ve_handle_close(&b->timer);
    for (size_t i = 0; i < b->n; i++) {
        if (b->items[i].at_work)
            ve_exec_forget(b->job->node, &b->items[i]);
        json_decref(b->items[i].result);
        free(b->items[i].row.error);
    }
    free(b->items);
    free(b);
}

static int begin_rows(struct job *job, struct err *err)
{
    struct bulk *b = job->bulk;
    for (size_t i = 0; i < b->n; i++) {
        b->items[i].row.job = job->rec.id;
        if (registry_bulk_insert(job->node->registry, &b->items[i].row, err) < 0)
            return -err->kind;
    }
    return 0;
}

bool bulk_unrecorded(struct bulk *b)
{
    for (size_t i = 0; i < b->n && b->verb->ends; i++)
        b->items[i].row.job = 0; /* the number that they had will be another's */
    return b->verb->ends;
}

int ve_bulk(struct ve_node *node, const json_t *request, int64_t *ret_job, struct err *err)
{
    const char *name = json_string_value(json_object_get(request, "verb"));
    const char *label = json_string_value(json_object_get(request, "label"));
    const json_t *names = json_object_get(request, "ves");
    const json_t *options = json_object_get(request, "options");
    const struct bulk_verb *verb = verb_find(name);
    if (!verb)
        return err_set(err, ERR_USAGE, "there is no operation \"%.40s\" on many VEs",
                       name ? name : "");
    if (json_is_array(names) + !!label + is_true(request, "all") != 1)
        return err_set(err, ERR_USAGE, "give one of \"ves\", \"label\" and \"all\"");
    if (node->stopping && !verb->ends)
        return err_set(err, ERR_STATE, "the node is stopping");
    if (verb->check && verb->check(node, options, err) < 0)
        return -err->kind;
    size_t room = names ? json_array_size(names) : node->n_ves;
    auto_clean(bulk_free_p) struct bulk *b = bulk_new(verb, options, room, err);
    if (!b)
        return -err->kind;
    if (names && select_named(b, node, names, err) < 0)
        return -err->kind;
    if (!names)
        select_fitting(b, node, label);
    int r = job_begin_bulk(node, &job_bulk, verb->name, steal_ptr(&b), request, ret_job, err);
    if (r == 0 && verb->ends && !names)
        bulk_forgo_starts(node, label);
    return r;
}

/* ---- after a crash ---- */

static int count_row(void *ctx, const struct registry_bulk *row, struct err *err)
{
    ++*(size_t *)ctx;
    return 0;
}

static int load_row(void *ctx, const struct registry_bulk *row, struct err *err)
{
    struct bulk *b = ctx;
    struct bulk_item *item = add_item(b, row->ve, row->name);
    item->row.job = row->job;
    item->row.item = row->item;
    bulk_note(item, (enum job_state)row->state, row->error_kind, row->error);
    b->ended += row->state == JOB_DONE || row->state == JOB_FAILED || row->state == JOB_CANCELLED;
    b->failed += row->state == JOB_FAILED;
    b->cancelled += row->state == JOB_CANCELLED;
    return 0;
}

void bulk_resume(struct ve_node *node, const struct registry_job *rec, bool booted)
{
    auto_clean(bulk_free_p) struct bulk *b = NULL;
    json_t *request = json_loads(rec->request ? rec->request : "", 0, NULL);
    const struct bulk_verb *verb = verb_find(json_string_value(json_object_get(request, "verb")));
    struct err e = {0};
    size_t n = 0;
    if (!verb)
        err_set(&e, ERR_CORRUPT, "its request cannot be read");
    else if (booted && is_true(request, BOOT))
        err_set(&e, ERR_UNAVAILABLE, "the machine was started again");
    if (!e.kind && registry_bulk_each(node->registry, rec->id, count_row, &n, &e) == 0)
        b = bulk_new(verb, NULL, n, &e);
    if (b && registry_bulk_each(node->registry, rec->id, load_row, b, &e) == 0) {
        b->resumed = true;
        b->ordered = is_true(request, BOOT);
        b->stop = is_true(request, BULK_CANCELLED);
        struct bulk *at = b;
        if (job_resume_bulk(node, &job_bulk, rec, steal_ptr(&b), request, &e) == 0)
            bulk_forgo_stopped(at);
    }
    if (e.kind) {
        struct registry_job failed = *rec;
        log_error(NULL, rec->id, "cannot go on with %s of many VEs: %s", rec->subject, e.text);
        failed.state = JOB_FAILED;
        failed.ended = ve_now_ms();
        failed.error_kind = e.kind;
        failed.error = e.text;
        registry_job_update(node->registry, &failed, &(struct err){0});
    }
    json_decref(request);
}

static bool has_open(const struct ve_node *node, const struct ve *ve)
{
    for (size_t i = 0; i < node->n_open; i++) {
        const struct bulk *b = node->open[i]->bulk;
        for (size_t k = 0; b && k < b->n; k++)
            if (b->items[k].row.ve == ve->rec.id && b->items[k].row.state == JOB_QUEUED)
                return true;
    }
    return false;
}

static json_int_t priority_of(const struct ve *ve)
{
    return json_integer_value(json_object_get(ve->spec, "priority"));
}

static int by_priority(const void *a, const void *b)
{
    const struct ve *x = *(struct ve *const *)a, *y = *(struct ve *const *)b;
    json_int_t p = priority_of(x), q = priority_of(y);
    return p != q ? (p < q) - (p > q) : strcmp(x->rec.name, y->rec.name);
}

void bulk_boot(struct ve_node *node)
{
    auto_free struct ve **list = calloc(node->n_ves + 1, sizeof(struct ve *));
    json_t *request = json_pack("{s:s, s:b}", "verb", "start", BOOT, 1);
    struct err e = {0};
    struct bulk *b = list && request ? bulk_new(verb_find("start"), NULL, node->n_ves, &e) : NULL;
    size_t n = 0;
    int64_t id;
    for (size_t i = 0; b && i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        if (!ve_hidden(ve) && is_true(ve->spec, "autostart") && ve->rec.want != VE_ABSENT &&
            !has_open(node, ve))
            list[n++] = ve;
    }
    if (n)
        qsort(list, n, sizeof(*list), by_priority);
    for (size_t i = 0; i < n; i++)
        add_item(b, list[i]->rec.id, list[i]->rec.name);
    if (!b || n == 0) {
        bulk_free(b);
    } else {
        b->resumed = b->ordered = true; /* what recovery is at work on is waited for */
        b->matched = n;
        job_begin_bulk(node, &job_bulk, "start", b, request, &id, &e);
    }
    if (e.kind)
        log_error(NULL, 0, "cannot start those that start by themselves: %s", e.text);
    json_decref(request);
}

const struct job_kind job_bulk = {
    .name = "bulk",
    .hidden = true,
    .cancellable = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .begin = begin_rows,
    .run = bulk_run,
};
