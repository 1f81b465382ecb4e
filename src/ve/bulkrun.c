/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A job over many VEs goes on: begins, hears of ends, tells. */
#include "ve/bulk.h"

#include "ve/pace.h"

#include <inttypes.h>
#include <malloc.h>

#define PACE_MS   500
#define WIDE      64 /* what waits for VEs more than it works */
#define BURST     64 /* that are begun before others are served */
#define TIME_LEFT 3  /* seconds after which the time left is told */

#define TRIM_FROM   10000              /* items whose memory is given back to the kernel */
#define OUTPUT_EACH ((size_t)64 << 10) /* of a command, of its output and of its errors */
#define OUTPUT_ALL  ((size_t)8 << 20)

/* ---- telling ---- */

static json_t *item_json(const struct bulk_item *item)
{
    const struct registry_bulk *r = &item->row;
    json_t *out = json_pack("{s:s, s:s, s:o}", "ve", r->name, "state",
                            job_state_name((enum job_state)r->state), "error",
                            job_error_json(r->error_kind, r->error));
    if (item->result)
        json_object_set(out, "result", item->result);
    return out;
}

/* "web1, web2": who is waited for when nothing more is begun. */
static void add_at_work(struct str *s, const struct bulk *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n && n < b->at_work; i++)
        if (b->items[i].at_work)
            str_add_name(s, &n, b->items[i].row.name);
    str_end_names(s, n);
}

/* "412 of 1000 done, 4 at work, 3 failed, 35 s left", and the same in numbers; of one that was
 * cancelled "cancelling: 412 of 1000 done, 2 at work: web1, web2". */
static void tell_progress(struct bulk *b)
{
    struct job *job = b->job;
    auto_str struct str s = str_init(1024);
    bool cancelling = job->cancelled && b->at_work;
    double seconds = (double)(ve_now_ms() - b->begun) / 1000;
    size_t since = b->ended - b->before, done = b->ended - b->failed - b->cancelled;
    job->percent = b->n ? (int)(b->ended * 100 / b->n) : 100;
    str_add(&s, "%s%zu of %zu done, %zu at work", cancelling ? "cancelling: " : "", done, b->n,
            b->at_work);
    if (b->failed)
        str_add(&s, ", %zu failed", b->failed);
    if (seconds >= TIME_LEFT && since && b->ended < b->n && !b->stop)
        str_add(&s, ", %.0f s left", seconds / (double)since * (double)(b->n - b->ended));
    if (cancelling) {
        str_add(&s, ": ");
        add_at_work(&s, b);
    }
    str_print(job->text, sizeof(job->text), "%s", str_c(&s));
    json_decref(job->answer);
    job->answer = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "total", (json_int_t)b->n, "done",
                            (json_int_t)done, "failed", (json_int_t)b->failed, "cancelled",
                            (json_int_t)b->cancelled, "matched", (json_int_t)b->matched, "left",
                            (json_int_t)b->left);
}

/* Those that were never begun are cancelled. */
static void tell_result(struct bulk *b)
{
    json_t *list = json_array();
    for (size_t i = 0; i < b->n; i++) {
        struct bulk_item *item = &b->items[i];
        if (item->row.state == JOB_QUEUED) {
            item->row.state = JOB_CANCELLED;
            item->unbegun = true;
            b->cancelled++;
            b->ended++;
        }
        b->unbegun += item->unbegun && item->row.state == JOB_CANCELLED;
        json_array_append_new(list, item_json(item));
    }
    tell_progress(b);
    json_object_set_new(b->job->answer, "items", list);
}

struct history {
    json_t *items;
    json_int_t count[3]; /* done, failed, cancelled */
};

static int add_ended(void *ctx, const struct registry_bulk *row, struct err *err)
{
    struct history *h = ctx;
    struct bulk_item item = {.row = *row};
    if (row->state != JOB_DONE && row->state != JOB_FAILED)
        item.row.state = JOB_CANCELLED;
    h->count[item.row.state - JOB_DONE]++;
    return json_array_append_new(h->items, item_json(&item)) < 0
               ? err_set(err, ERR_EXHAUSTED, "out of memory")
               : 0;
}

int bulk_result(struct ve_node *node, int64_t job, json_t **ret, struct err *err)
{
    struct history h = {.items = json_array()};
    if (registry_bulk_each(node->registry, job, add_ended, &h, err) < 0) {
        json_decref(h.items);
        return -err->kind;
    }
    *ret = json_pack("{s:I, s:I, s:I, s:I, s:o}", "total", (json_int_t)json_array_size(h.items),
                     "done", h.count[0], "failed", h.count[1], "cancelled", h.count[2], "items",
                     h.items);
    return 0;
}

/* ---- going on ---- */

static void bulk_step(struct bulk *b);

static void on_timer(uv_timer_t *t)
{
    struct bulk *b = t->data;
    b->again = false;
    bulk_step(b);
}

/* From the loop, so that others are served between two that are done at once. */
static void step_later(struct bulk *b)
{
    if (b->again)
        return;
    if (!b->timer) {
        b->timer = calloc(1, sizeof(*b->timer));
        if (!b->timer)
            abort(); /* a job that would never go on */
        uv_timer_init(b->job->node->loop, b->timer);
        b->timer->data = b;
    }
    b->again = true;
    uv_timer_start(b->timer, on_timer, 0, 0);
}

/* How it ended; whoever calls writes the row. */
void bulk_note(struct bulk_item *item, enum job_state state, int error_kind, const char *error)
{
    item->row.state = (int)state;
    item->row.error_kind = error_kind;
    free(item->row.error);
    item->row.error = error ? strdup(error) : NULL;
}

/* May end the job: the caller touches neither b nor item any more.  told: what goes out with the
 * event and is not kept, or NULL. */
static void item_ended(struct bulk_item *item, const json_t *told)
{
    struct bulk *b = item->bulk;
    item->at_work = false;
    b->at_work--;
    b->ended++;
    b->cancelled += item->row.state == JOB_CANCELLED;
    if (item->row.state == JOB_FAILED) {
        b->failed++;
        b->stop |= b->stop_on_failure;
    }
    tell_progress(b);
    b->job->news = item_json(item);
    json_object_update_missing(b->job->news, (json_t *)told);
    ve_event_job(b->job, false);
    json_decref(b->job->news);
    b->job->news = NULL;
    if (b->stepping)
        step_later(b);
    else
        bulk_step(b);
}

void bulk_record(struct bulk_item *item, enum job_state state, const struct registry_job *rec)
{
    struct err e;
    if (item->waits)
        return;
    bulk_note(item, state, rec->error_kind, rec->error);
    if (registry_bulk_update(item->bulk->job->node->registry, &item->row, &e) < 0)
        log_error(item->row.name, item->row.job, "%s", e.text);
}

static void begin_item(struct bulk_item *item);

static bool is_settled(const struct bulk_item *item, const struct ve *ve);
static void end_now(struct bulk_item *item, const struct err *error);

/* What recovery did to its VE has ended. */
static void go_on(struct bulk_item *item)
{
    struct bulk *b = item->bulk;
    item->waits = false;
    if (b->stop && is_settled(item, ve_by_id(b->job->node, item->row.ve))) {
        end_now(item, NULL);
        return;
    }
    item->at_work = false;
    b->at_work--;
    if (b->stop || b->ordered)
        step_later(b);
    else
        begin_item(item);
}

void bulk_job_ended(struct bulk_item *item, const json_t *doc)
{
    if (item->waits) {
        go_on(item);
        return;
    }
    json_t *told = json_pack("{s:O, s:O}", "job", json_object_get(doc, "id"), "text",
                             json_object_get(doc, "text"));
    item->result = json_incref(json_object_get(doc, "result"));
    item_ended(item, told);
    json_decref(told);
}

/* A row of what has no job of its own. */
static int save_row(struct bulk_item *item, struct err *err)
{
    struct ve_node *node = item->bulk->job->node;
    if (ve_begin_light(node, err) < 0 ||
        registry_bulk_update(node->registry, &item->row, err) < 0 || ve_commit(node, err) < 0) {
        ve_rollback(node);
        return -err->kind;
    }
    return 0;
}

static void end_now(struct bulk_item *item, const struct err *error)
{
    struct err e;
    bulk_note(item, job_state_after(error), error ? error->kind : ERR_NONE,
              error ? error->text : NULL);
    if (save_row(item, &e) < 0)
        log_error(item->row.name, item->row.job, "%s", e.text);
    item_ended(item, NULL);
}

/* What commands print is told with the job, and so it is bounded, for each and for all. */
static void cut_output(struct bulk *b, json_t *result, const char *key)
{
    const json_t *text = json_object_get(result, key);
    const char *p = json_string_value(text);
    size_t len = json_string_length(text), room = OUTPUT_ALL - b->output;
    if (room > OUTPUT_EACH)
        room = OUTPUT_EACH;
    if (len > room) {
        while (room && ((unsigned char)p[room] & 0xc0) == 0x80) /* no half characters */
            room--;
        json_object_set_new(result, key, json_stringn(p, len = room));
        json_object_set_new(result, "truncated", json_true());
    }
    b->output += len;
}

/* The result is ours. */
static void on_exec(void *ctx, json_t *result, const struct err *failed)
{
    struct bulk_item *item = ctx;
    struct err e = {0};
    json_int_t status = json_integer_value(json_object_get(result, "exit"));
    const char *signal = json_string_value(json_object_get(result, "signal"));
    if (failed)
        e = *failed;
    else if (signal && item->bulk->job->cancelled)
        err_set(&e, ERR_CANCELLED, "%s: the command was cancelled", item->row.name);
    else if (signal)
        err_set(&e, ERR_STATE, "%s: the command was killed by SIG%s", item->row.name, signal);
    else if (status)
        err_set(&e, ERR_STATE, "%s: the command ended with status %" JSON_INTEGER_FORMAT,
                item->row.name, status);
    if (result) {
        cut_output(item->bulk, result, "stdout");
        cut_output(item->bulk, result, "stderr");
    }
    item->result = result;
    end_now(item, e.kind ? &e : NULL);
}

/* Whether a command ran that a crash interrupted nobody would know: that it was begun is written
 * before. */
static int begin_exec(struct bulk_item *item, const char *name, struct err *err)
{
    struct bulk *b = item->bulk;
    if (ve_exec_check(b->job->node, name, b->options, err) < 0)
        return -err->kind;
    item->row.state = JOB_RUNNING;
    if (save_row(item, err) < 0)
        return -err->kind;
    return ve_exec_collect(b->job->node, name, b->options, on_exec, item, err);
}

static bool is_settled(const struct bulk_item *item, const struct ve *ve)
{
    unsigned state = 1u << (ve ? ve->state : VE_ABSENT);
    return item->row.ve && (item->bulk->verb->already & state);
}

/* After a crash recovery has begun what follows from the VE's record: a restart goes on so; what
 * else comes of it is seen at its end. */
static bool join_recovery(struct bulk_item *item, struct ve *ve)
{
    if (!ve || !ve->job || ve->job->item)
        return false;
    item->waits = !str_eq(item->bulk->verb->name, "restart") || ve->job->kind == &job_exit;
    ve->job->item = item;
    return true;
}

static void end_unknown(struct bulk_item *item)
{
    struct err e;
    err_set(&e, ERR_UNAVAILABLE, "%s: teremd ended while the command ran", item->row.name);
    end_now(item, &e);
}

/* After a crash.  False: it is to be begun as any other. */
static bool settle(struct bulk_item *item, struct ve *ve)
{
    if (item->row.state == JOB_RUNNING)
        end_unknown(item);
    else if (join_recovery(item, ve))
        return true;
    else if (is_settled(item, ve))
        end_now(item, NULL);
    else
        return false;
    return true;
}

static void begin_item(struct bulk_item *item)
{
    struct bulk *b = item->bulk;
    struct ve_node *node = b->job->node;
    struct ve *ve = item->row.ve ? ve_by_id(node, item->row.ve) : NULL;
    const char *name = ve ? ve->rec.name : item->row.name; /* it may have another since */
    struct err e = {0};
    json_t *said = NULL;
    int64_t id;
    int r;
    item->at_work = true;
    b->at_work++;
    if (b->resumed && settle(item, ve))
        return;
    if (item->row.ve && !ve) { /* another may have its name by now, which is not meant */
        err_set(&e, ERR_NOT_FOUND, "%s: cannot %s it: it is gone already", name, b->verb->name);
        end_now(item, &e);
        return;
    }
    if (str_eq(b->verb->name, "set")) {
        r = ve_update(node, name, b->options, &said, &e);
        json_decref(said);
        end_now(item, r < 0 ? &e : NULL);
        return;
    }
    if (str_eq(b->verb->name, "exec")) {
        r = begin_exec(item, name, &e);
    } else {
        node->begun_for = item;
        r = ve_job_begin(node, b->verb->name, name, b->options, &id, &e);
        node->begun_for = NULL;
    }
    if (r < 0)
        end_now(item, &e);
}

/* ---- the job ---- */

/* Of one that was cancelled, and has left some out; that came too late where it has not. */
static void tell_cancelled(const struct bulk *b, struct err *err)
{
    auto_str struct str s = str_init(sizeof(err->text));
    size_t at_work = b->cancelled - b->unbegun;
    str_add(&s, "cancelled: %zu of %zu were done", b->n - b->failed - b->cancelled, b->n);
    if (b->failed)
        str_add(&s, ", %zu failed", b->failed);
    if (at_work)
        str_add(&s, ", %zu were cancelled at work", at_work);
    if (b->unbegun)
        str_add(&s, ", %zu were not begun", b->unbegun);
    err_set(err, ERR_CANCELLED, "%s", str_c(&s));
}

static void end(struct bulk *b)
{
    struct job *job = b->job;
    struct err e = {0};
    size_t begun = b->ended;
    life_settle(job->node);
    tell_result(b);
    if (job->cancelled && b->cancelled)
        tell_cancelled(b, &e);
    for (size_t i = 0; i < b->n && b->failed && !e.kind; i++)
        if (b->items[i].row.state == JOB_FAILED)
            err_set(&e, (enum err_kind)b->items[i].row.error_kind, "%zu of %zu failed%s; first %s",
                    b->failed, b->n, begun < b->n ? ", the rest were not begun" : "",
                    b->items[i].row.error ? b->items[i].row.error : b->items[i].row.name);
    if (b->cancelled && !e.kind) /* by themselves, such as a stop by a kill that came later */
        err_set(&e, ERR_CANCELLED, "%zu of %zu were cancelled", b->cancelled, b->n);
    bool many = b->n >= TRIM_FROM;
    job_work_ended(job, e.kind ? &e : NULL);
    if (many)
        malloc_trim(0);
}

static void set_width(struct bulk *b)
{
    int64_t now = ve_now_ms();
    struct pace_pressure p;
    if (b->paced && now - b->paced < PACE_MS && now >= b->paced)
        return;
    b->width = b->paced ? b->width : b->most;
    b->paced = now;
    if (b->verb->ends) /* whoever ends gives back what others wait for */
        return;
    pace_read(&p);
    b->width = pace_width(&p, b->width, b->most);
}

/* Begins as many as there is room for; of those that are done at once one. */
static void bulk_step(struct bulk *b)
{
    struct ve_node *node = b->job->node;
    size_t before = b->at_work;
    b->stepping = node->gathering = true;
    set_width(b);
    for (size_t begun = 0; !b->stop && !b->again && b->next < b->n && b->at_work < b->width;) {
        struct bulk_item *item = &b->items[b->next];
        if (!item->at_work && (item->row.state == JOB_QUEUED || item->row.state == JOB_RUNNING))
            begin_item(item);
        if (b->ordered && item->waits)
            break;
        b->next++;
        if (++begun == BURST)
            step_later(b);
    }
    node->gathering = false;
    crews_go(node); /* may end some at once */
    b->stepping = false;
    if (b->at_work == 0 && !b->again && (b->stop || b->next == b->n)) {
        end(b);
    } else if (b->at_work > before) {
        tell_progress(b);
        ve_event_job(b->job, false);
    }
}

/* What was at work when a cancelled one was interrupted: nothing is begun any more. */
static void end_interrupted(struct bulk *b)
{
    b->stepping = true;
    for (size_t i = 0; i < b->n; i++) {
        struct bulk_item *item = &b->items[i];
        int state = item->row.state;
        if (state != JOB_RUNNING && state != JOB_QUEUED)
            continue;
        item->at_work = true;
        b->at_work++;
        if (state == JOB_RUNNING) {
            end_unknown(item);
        } else if (!join_recovery(item, ve_by_id(b->job->node, item->row.ve))) {
            item->at_work = false;
            b->at_work--;
        }
    }
    b->stepping = false;
}

void bulk_run(struct job *job)
{
    struct bulk *b = job->bulk;
    b->job = job;
    b->options = json_object_get(job->options, "options");
    b->stop_on_failure = json_is_true(json_object_get(job->options, "stop_on_failure"));
    b->begun = ve_now_ms();
    b->most = b->verb->ends     ? b->n
              : b->verb->wide   ? WIDE
              : b->verb->crewed ? job->node->workers_max * CREW_MAX
                                : job->node->workers_max;
    b->before = b->ended;
    if (b->stop) {
        job->cancelled = true;
        end_interrupted(b);
    }
    b->stop |= b->stop_on_failure && b->failed;
    tell_progress(b);
    step_later(b); /* whoever asked hears its number first */
}

/* A crash does not bring back what was cancelled. */
static void save_cancelled(struct bulk *b)
{
    struct ve_node *node = b->job->node;
    struct err e;
    json_object_set_new(b->job->options, BULK_CANCELLED, json_true());
    if (!b->job->stored) /* the disk was full: nothing of it would come back */
        return;
    if (ve_begin(node, &e) < 0 || job_save_request(b->job, &e) < 0 || ve_commit(node, &e) < 0) {
        ve_rollback(node);
        log_error(NULL, b->job->rec.id, "%s", e.text);
    }
}

static bool job_has_begun(const struct job *job)
{
    return job->state != JOB_QUEUED && (!job->kind->crewed || job->begun);
}

void bulk_cancel(struct bulk *b)
{
    struct ve_node *node = b->job->node;
    b->stop = b->stepping = true;
    save_cancelled(b);
    for (size_t i = 0; i < b->n; i++) {
        struct bulk_item *item = &b->items[i];
        struct err e;
        if (item->at_work)
            ve_exec_signal(node, item, SIGTERM);
        /* Half a restart would leave one stopped that ran; what ends cannot be called back. */
        bool goes_on = b->verb->ends || str_eq(b->verb->name, "restart");
        for (size_t k = 0; item->at_work && !goes_on && k < node->n_open; k++)
            if (node->open[k]->item == item) {
                item->unbegun = !job_has_begun(node->open[k]);
                ve_job_cancel(node, node->open[k]->rec.id, &e); /* or it goes on to its end */
                break;
            }
    }
    b->stepping = false;
    tell_progress(b);
    ve_event_job(b->job, false);
    step_later(b);
}

static void forgo(struct bulk *b, const char *label, bool stopped)
{
    struct ve_node *node = b->job->node;
    struct err e = {0};
    int r = ve_begin(node, &e);
    for (size_t i = 0; i < b->n; i++) {
        struct bulk_item *item = &b->items[i];
        const struct ve *ve = ve_by_id(node, item->row.ve);
        if (item->at_work || item->row.state != JOB_QUEUED || !ve || !ve_has_label(ve, label) ||
            (stopped && !ve->stop_waited))
            continue;
        struct err why;
        err_set(&why, ERR_CANCELLED, "%s: not started: it was to be stopped meanwhile",
                item->row.name);
        bulk_note(item, JOB_CANCELLED, ERR_CANCELLED, why.text);
        b->cancelled++;
        b->ended++;
        if (r == 0)
            r = registry_bulk_update(node->registry, &item->row, &e);
    }
    if (r < 0 || ve_commit(node, &e) < 0) {
        ve_rollback(node);
        log_error(NULL, b->job->rec.id, "%s", e.text);
    }
}

void bulk_forgo_starts(struct ve_node *node, const char *label)
{
    for (size_t i = 0; i < node->n_open; i++) {
        struct bulk *b = node->open[i]->bulk;
        if (b && str_eq(b->verb->name, "start"))
            forgo(b, label, false);
    }
}

void bulk_forgo_stopped(struct bulk *b)
{
    if (str_eq(b->verb->name, "start"))
        forgo(b, NULL, true);
}

void bulk_kill(struct bulk *b)
{
    for (size_t i = 0; i < b->n; i++)
        if (b->items[i].at_work)
            ve_exec_signal(b->job->node, &b->items[i], SIGKILL);
}
