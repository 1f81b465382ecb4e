/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshots by the clock: spec.schedule is {"hourly":24,"daily":7,"weekly":4}, how many of each
 * kind are kept.
 *
 * spec.scheduled holds when each kind was taken or tried last; what became due since then, for
 * instance while teremd was not there, is taken once.  Of kinds that are due together one snapshot
 * is taken, of the kind that is kept longest.  One timer is armed for what is due next.
 */
#include "base/json.h"
#include "ve/due.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/saved.h"

#define AT_ONCE    2                /* copying takes the disk from VEs' own work */
#define LOOK_AGAIN (60 * 1000)      /* while one that is due is busy with something else */
#define SLEEP_MAX  (60 * 60 * 1000) /* the clock may be set meanwhile */
#define KEEP_MAX   1000

static json_int_t keep_of(const struct ve *ve, enum due_kind kind)
{
    return json_integer_value(
        json_object_get(json_object_get(ve->spec, "schedule"), due_names[kind]));
}

static void mark(json_t *spec, enum due_kind kind, int64_t now)
{
    json_t *all = json_object_get(spec, "scheduled");
    if (!json_is_object(all)) {
        all = json_object();
        json_object_set_new(spec, "scheduled", all);
    }
    json_object_set_new(all, due_names[kind], json_integer(now));
}

static bool is_due(const struct ve *ve, enum due_kind kind, int64_t now)
{
    const json_t *all = json_object_get(ve->spec, "scheduled");
    return keep_of(ve, kind) > 0 &&
           due_is(kind, json_integer_value(json_object_get(all, due_names[kind])), now);
}

/* ---- what is asked for ---- */

int schedule_set(json_t *spec, const json_t *value, struct err *err)
{
    const char *key;
    json_t *v;
    if (!json_is_object(value) && !json_is_null(value))
        return err_set(err, ERR_USAGE, "schedule must be an object or null");
    json_object_del(spec, "schedule");
    auto_json json_t *all = json_object();
    json_object_foreach((json_t *)value, key, v)
    {
        enum due_kind kind = 0;
        while (kind < DUE__COUNT && !str_eq(key, due_names[kind]))
            kind++;
        if (kind == DUE__COUNT)
            return err_set(err, ERR_USAGE,
                           "there is no schedule \"%.60s\"; there are hourly, daily and weekly",
                           key);
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > KEEP_MAX)
            return err_set(err, ERR_USAGE, "%s must be how many snapshots are kept, from 0 to %d",
                           key, KEEP_MAX);
        if (json_integer_value(v) == 0)
            continue;
        json_object_set(all, key, v);
        /* From the next hour on, not for the one that has begun. */
        mark(spec, kind, ve_now_ms());
    }
    if (json_object_size(all))
        json_object_set(spec, "schedule", all);
    return 0;
}

/* ---- what became of it ---- */

/* What was due is dealt with until its next time. */
static void settle(struct ve *ve, const char *kind, struct err *err)
{
    int64_t now = ve_now_ms();
    json_t *spec = json_deep_copy(ve->spec);
    for (enum due_kind i = 0; i < DUE__COUNT; i++)
        if (str_eq(kind, due_names[i]) || is_due(ve, i, now))
            mark(spec, i, now);
    ve_spec_put(ve, spec);
    if (ve_begin(ve->node, err) == 0)
        ve_record_save(ve, err);
}

static struct ve_snapshot *oldest_beyond(const struct ve *ve, enum due_kind kind)
{
    struct ve_snapshot *oldest = NULL;
    json_int_t n = 0;
    for (size_t i = ve->n_snapshots; i-- > 0;) {
        struct ve_snapshot *s = &ve->snapshots[i];
        if (!str_eq(json_string_value(json_object_get(s->spec, "schedule")), due_names[kind]))
            continue;
        oldest = s;
        n++;
    }
    return keep_of(ve, kind) > 0 && n > keep_of(ve, kind) ? oldest : NULL;
}

void schedule_taken(struct ve *ve, const char *kind)
{
    struct err e = {0};
    struct ve_snapshot *s;
    settle(ve, kind, &e);
    for (enum due_kind i = 0; i < DUE__COUNT && e.kind == ERR_NONE; i++)
        while (e.kind == ERR_NONE && (s = oldest_beyond(ve, i)))
            snapshot_drop(ve, s, &e);
    if (e.kind != ERR_NONE)
        log_error(ve->rec.name, 0, "old snapshots are not deleted: %s", e.text);
}

void schedule_failed(struct ve *ve, const char *kind, const char *why)
{
    struct err e = {0};
    struct ve_node *node = ve->node;
    bool own = !node->in_transaction;
    settle(ve, kind, &e);
    json_array_append_new(node->pending,
                          json_pack("{s:s, s:s, s:s, s:s}", "type", "snapshot.failed", "ve",
                                    ve->rec.name, "schedule", kind, "text", why ? why : ""));
    if (own && (e.kind != ERR_NONE || ve_commit(node, &e) < 0))
        ve_abandon(node);
    if (e.kind != ERR_NONE)
        log_error(ve->rec.name, 0, "%s", e.text);
}

/* ---- the timer ---- */

static size_t at_work(const struct ve_node *node)
{
    size_t n = 0;
    for (size_t i = 0; i < node->n_open; i++)
        n += json_object_get(node->open[i]->options, "schedule") != NULL;
    return n;
}

/* The kind that is kept longest of those that are due; DUE__COUNT: none is. */
static enum due_kind due_kind_of(const struct ve *ve, int64_t now)
{
    for (enum due_kind kind = DUE__COUNT; kind-- > 0;)
        if (is_due(ve, kind, now))
            return kind;
    return DUE__COUNT;
}

static void begin(struct ve *ve, enum due_kind kind)
{
    struct err e = {0};
    int64_t id;
    json_t *options = json_pack("{s:s}", "schedule", due_names[kind]);
    if (ve_job_begin(ve->node, job_snapshot.name, ve->rec.name, options, &id, &e) < 0) {
        log_warn(ve->rec.name, 0, "%s", e.text);
        schedule_failed(ve, due_names[kind], e.text);
    }
    json_decref(options);
}

static void on_timer(uv_timer_t *t)
{
    schedule_run(t->data);
}

static void arm(struct ve_node *node, int64_t now)
{
    int64_t next = INT64_MAX;
    for (enum due_kind kind = 0; kind < DUE__COUNT; kind++)
        for (size_t i = 0; i < node->n_ves; i++)
            if (keep_of(node->ves[i], kind) > 0) {
                int64_t at = due_period(kind, now, true);
                next = at < next ? at : next;
                break;
            }
    if (next == INT64_MAX) {
        ve_handle_close(&node->schedule_timer);
        return;
    }
    int64_t ms = node->schedule_waits ? LOOK_AGAIN : SLEEP_MAX;
    ms = next - now < ms ? next - now + 1 : ms;
    if (!node->schedule_timer) {
        node->schedule_timer = calloc(1, sizeof(*node->schedule_timer));
        if (!node->schedule_timer)
            return;
        uv_timer_init(node->loop, node->schedule_timer);
        node->schedule_timer->data = node;
    }
    uv_update_time(node->loop);
    uv_timer_start(node->schedule_timer, on_timer, (uint64_t)ms, 0);
}

void schedule_run(struct ve_node *node)
{
    int64_t now = ve_now_ms();
    size_t n = at_work(node);
    if (node->closing || node->stopping)
        return;
    node->schedule_waits = false;
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        enum due_kind kind = due_kind_of(ve, now);
        if (kind == DUE__COUNT)
            continue;
        if (ve->job || ve->transfers || n >= AT_ONCE) {
            node->schedule_waits = true;
            continue;
        }
        begin(ve, kind);
        n++;
    }
    arm(node, now);
}
