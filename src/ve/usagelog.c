/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log of usage: what the kernel has counted is taken over at the end of each period, when
 * teremd starts, soon after a VE was destroyed, and before the node takes its counters away.
 *
 * Counters are read in the loop, where the table of VEs stands still; SQLite works in a thread of
 * libuv's pool, as a period of a thousand VEs is 4,000 records.  Takes are in the order in which
 * counters were read: an older one that comes late is left out.  Who reads the log does it by a
 * connection of his own, in a thread too.
 */
#include "ve/internal.h"
#include "ve/net.h"

#include "registry/usage.h"

#include <pthread.h>

#define SOON        200          /* ms: VEs are often destroyed in numbers */
#define PAGE_MAX    5000         /* records of an answer */
#define SUMS_MAX    10000        /* sums of one */
#define PRUNED_MIN  1000         /* old records that one take deletes at most, and */
#define PRUNED_EACH 2            /* so many for each that it wrote */
#define YEAR_9999   253402300800 /* seconds */

struct usage_log {
    struct ve_node *node; /* NULL: it is closed, and the last thread frees this */
    uv_timer_t *timer;
    char state[PLACE_MAX];
    unsigned threads;
    uint64_t order;     /* of the last reading */
    bool failing;       /* told already */
    bool taking, again; /* a take is at work; and another one is wanted */
    pthread_mutex_t lock;
    struct usage *db; /* under the lock, like the next; or NULL: not open yet */
    uint64_t taken;   /* order of the last reading that was written */
};

static void log_free(struct usage_log *l)
{
    if (l->node || l->threads)
        return;
    usage_close(l->db);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* ---- taking over ---- */

struct taking {
    uv_work_t work;
    struct usage_log *log;
    uint64_t order;
    int64_t keep; /* seconds */
    char epoch[96], (*names)[NAME_SIZE];
    struct usage_reading *readings;
    struct usage_ve *ves;
    size_t n, n_ves;
    bool counted; /* the counters could be opened */
    int64_t now;
    uint32_t interval;
    struct err err;
};

static void taking_free(struct taking *t)
{
    if (t) {
        free(t->names);
        free(t->readings);
        free(t->ves);
    }
    free(t);
}

/* Counters that this teremd could not open go on counting, and the next one may open them: nothing
 * is known of them then, which is not that they are gone or began anew. */
static int read_counters(struct ve_node *node, struct taking *t, struct err *err)
{
    auto_free struct network_count *list = NULL;
    size_t n = 0;
    uint32_t epoch = network_counts_epoch(node->network);
    int r = network_counts(node->network, &list, &n, err);
    if (r < 0 && r != -ERR_UNSUPPORTED)
        return r;
    err_clear(err);
    t->counted = r == 0 && epoch != 0;
    str_print(t->epoch, sizeof(t->epoch), "%s/%u", node->boot_id, epoch);
    t->readings = calloc(n + 1, sizeof(*t->readings));
    if (!t->readings)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < n; i++)
        t->readings[i] = (struct usage_reading){.ve = list[i].id,
                                                .meter = list[i].in ? USAGE_NET_IN : USAGE_NET_OUT,
                                                .class = list[i].class,
                                                .amount = list[i].bytes,
                                                .packets = list[i].packets};
    t->n = n;
    return 0;
}

static int list_ves(struct ve_node *node, struct taking *t, struct err *err)
{
    t->ves = calloc(node->n_ves + 1, sizeof(*t->ves));
    t->names = calloc(node->n_ves + 1, sizeof(*t->names));
    if (!t->ves || !t->names)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < node->n_ves; i++) {
        str_print(t->names[i], sizeof(t->names[i]), "%s", node->ves[i]->rec.name);
        t->ves[i] = (struct usage_ve){node->ves[i]->rec.id, t->names[i]};
    }
    t->n_ves = node->n_ves;
    return 0;
}

static int taking_new(struct ve_node *node, struct taking **ret, struct err *err)
{
    struct usage_log *l = node->usage_log;
    struct taking *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    t->work.data = t;
    t->log = l;
    t->now = ve_now_ms() / 1000;
    t->interval = (uint32_t)(node->config.usage_interval_ms / 1000);
    t->keep = (int64_t)(node->config.usage_keep_ms / 1000);
    int r = read_counters(node, t, err);
    if (r == 0)
        r = list_ves(node, t, err);
    if (r < 0) {
        taking_free(t);
        return r;
    }
    t->order = ++l->order;
    *ret = t;
    return 0;
}

/* A clock that is wrong for a while must not take the log away: no more goes at once than what a
 * period or two brought. */
static int write_all(struct usage *db, const struct taking *t, struct err *err)
{
    size_t written = 0;
    struct usage_take take = {.now = t->now,
                              .interval = t->interval,
                              .epoch = t->epoch,
                              .readings = t->readings,
                              .n = t->n,
                              .ves = t->ves,
                              .n_ves = t->n_ves};
    int r = usage_take(db, &take, &written, err);
    if (r == 0 && usage_prune(db, t->now - t->keep, PRUNED_MIN + PRUNED_EACH * written, err) < 0)
        r = -err->kind;
    return r;
}

/* In a thread, or in the loop when there is no time for one. */
static void do_take(struct taking *t)
{
    struct usage_log *l = t->log;
    pthread_mutex_lock(&l->lock);
    if (t->order > l->taken) {
        int r = l->db ? 0 : usage_open(l->state, false, &l->db, &t->err);
        if (r == 0 && t->counted)
            r = write_all(l->db, t, &t->err);
        if (r == 0)
            l->taken = t->order;
    }
    pthread_mutex_unlock(&l->lock);
}

static void take_work(uv_work_t *w)
{
    do_take(w->data);
}

static bool was_there(const struct taking *t, int64_t id)
{
    for (size_t i = 0; i < t->n_ves; i++)
        if (t->ves[i].id == id)
            return true;
    return false;
}

/* Of VEs that were not there any more when counters were read.  One whose counter has moved since
 * is left to the next take, like one that was destroyed since. */
static void forget_gone(struct ve_node *node, const struct taking *t)
{
    bool gone = false;
    for (size_t i = 0; i < t->n; i++) {
        struct err e = {0};
        struct network_count now;
        const struct usage_reading *r = &t->readings[i];
        bool in = r->meter == USAGE_NET_IN;
        if (i == 0 || t->readings[i - 1].ve != r->ve)
            gone = !ve_by_id(node, r->ve) && !was_there(t, r->ve);
        if (!gone || !network_count_of(node->network, r->ve, r->class, in, &now) ||
            now.bytes != r->amount || now.packets != r->packets)
            continue;
        if (network_count_forget(node->network, r->ve, r->class, in, &e) < 0)
            log_warn(NULL, 0, "%s", e.text);
    }
}

static void tell(struct usage_log *l, const struct err *e)
{
    if (e->kind != ERR_NONE && !l->failing)
        log_error(NULL, 0, "what VEs use is not written, and counted on until it can be: %s",
                  e->text);
    else if (e->kind == ERR_NONE && l->failing)
        log_info(NULL, 0, "what VEs use is written again");
    l->failing = e->kind != ERR_NONE;
}

static void on_timer(uv_timer_t *timer);

static void arm(struct usage_log *l)
{
    uint64_t interval = l->node->config.usage_interval_ms;
    uv_update_time(l->node->loop);
    /* A clock that was set meanwhile is noticed then. */
    uv_timer_start(l->timer, on_timer, interval - (uint64_t)ve_now_ms() % interval, 0);
}

static void take_done(uv_work_t *w, int status)
{
    struct taking *t = w->data;
    struct usage_log *l = t->log;
    l->threads--;
    l->taking = false;
    if (l->node && status == 0) {
        tell(l, &t->err);
        if (t->err.kind == ERR_NONE)
            forget_gone(l->node, t);
        if (l->again)
            ve_usage_soon(l->node);
    }
    taking_free(t);
    log_free(l);
}

static void begin_take(struct usage_log *l)
{
    struct taking *t = NULL;
    struct err e = {0};
    l->again = l->taking;
    if (l->taking)
        return;
    if (taking_new(l->node, &t, &e) < 0) {
        tell(l, &e);
        return;
    }
    if (uv_queue_work(l->node->loop, &t->work, take_work, take_done) < 0) {
        taking_free(t);
        return;
    }
    l->threads++;
    l->taking = true;
}

static void on_timer(uv_timer_t *timer)
{
    struct usage_log *l = timer->data;
    begin_take(l);
    arm(l);
}

void ve_usage_soon(struct ve_node *node)
{
    struct usage_log *l = node->usage_log;
    if (l && l->timer && uv_timer_get_due_in(l->timer) > SOON)
        uv_timer_start(l->timer, on_timer, SOON, 0);
}

int ve_usage_begin(struct ve_node *node, struct err *err)
{
    struct usage_log *l = calloc(1, sizeof(*l));
    if (l)
        l->timer = calloc(1, sizeof(*l->timer));
    if (!l || !l->timer) {
        free(l);
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    l->node = node;
    str_print(l->state, sizeof(l->state), "%s", node->config.place.state);
    pthread_mutex_init(&l->lock, NULL);
    uv_timer_init(node->loop, l->timer);
    l->timer->data = l;
    node->usage_log = l;
    on_timer(l->timer);
    return 0;
}

void ve_usage_flush(struct ve_node *node)
{
    struct taking *t = NULL;
    struct err e = {0};
    if (!node->usage_log)
        return;
    if (taking_new(node, &t, &e) < 0) {
        log_error(NULL, 0, "what VEs used in the last minutes is lost: %s", e.text);
        return;
    }
    do_take(t);
    if (t->err.kind != ERR_NONE)
        log_error(NULL, 0, "what VEs used in the last minutes is lost: %s", t->err.text);
    taking_free(t);
}

void ve_usage_end(struct ve_node *node)
{
    struct usage_log *l = node->usage_log;
    if (!l)
        return;
    node->usage_log = NULL;
    l->node = NULL;
    ve_handle_close(&l->timer);
    log_free(l);
}

/* ---- reading ---- */

struct asking {
    uv_work_t work;
    struct usage_log *log;
    bool sums, known;
    int64_t after;
    size_t most;
    struct usage_query query;
    char name[NAME_SIZE];
    json_t *list;
    int64_t last;
    ve_result_fn fn;
    void *ctx;
    struct err err;
};

static const char *const meters[USAGE_METERS] = {
    [USAGE_NET_OUT] = "net.out",
    [USAGE_NET_IN] = "net.in",
};

/* The class is still a number: its name is known in the loop. */
static int add_record(void *ctx, const struct usage_record *r, struct err *err)
{
    struct asking *a = ctx;
    const char *meter = r->meter < USAGE_METERS ? meters[r->meter] : NULL;
    json_t *v = json_pack("{s:I, s:s?, s:s?, s:I, s:I, s:I, s:I}", "ve", (json_int_t)r->ve, "name",
                          r->name, "meter", meter, "class", (json_int_t)r->class, "start",
                          (json_int_t)r->start * 1000, "amount", (json_int_t)r->amount, "packets",
                          (json_int_t)r->packets);
    if (!v)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (!a->sums) {
        json_object_set_new(v, "number", json_integer((json_int_t)r->number));
        json_object_set_new(v, "seconds", json_integer((json_int_t)r->seconds));
        a->last = r->number;
    }
    json_array_append_new(a->list, v);
    return 0;
}

static void ask_work(uv_work_t *w)
{
    struct asking *a = w->data;
    auto_clean(usage_close_p) struct usage *db = NULL;
    int r = usage_open(a->log->state, true, &db, &a->err);
    if (r == 0 && !a->sums)
        r = usage_each(db, a->after, a->most, add_record, a, &a->err);
    else if (r == 0)
        r = usage_sums(db, &a->query, a->most + 1, add_record, a, &a->err);
    if (r == 0 && a->query.ve)
        usage_knows(db, a->query.ve, &a->known, &a->err);
    if (r == 0 && a->sums && json_array_size(a->list) > a->most)
        err_set(&a->err, ERR_USAGE,
                "there are more than %zu sums; name a VE, a shorter time, or add up by longer ones",
                a->most);
}

static void name_classes(const struct ve_node *node, json_t *list)
{
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v)
    {
        uint32_t id = (uint32_t)json_integer_value(json_object_get(v, "class"));
        const struct ve_class *class = ve_class_of_id(node, id);
        json_object_set_new(v, "class", class ? json_string(class->name) : json_null());
    }
}

static json_t *answer_of(struct asking *a)
{
    name_classes(a->log->node, a->list);
    if (a->sums)
        return json_incref(a->list);
    return json_pack("{s:O, s:I, s:b}", "records", a->list, "last", (json_int_t)a->last, "more",
                     json_array_size(a->list) == a->most);
}

static void ask_done(uv_work_t *w, int status)
{
    struct asking *a = w->data;
    struct usage_log *l = a->log;
    struct ve *ve;
    l->threads--;
    if (l->node) {
        if (a->err.kind == ERR_NONE && a->query.ve && !a->known)
            ve_find_err(l->node, a->query.ve, &ve, &a->err);
        a->fn(a->ctx, a->err.kind == ERR_NONE ? answer_of(a) : NULL, &a->err);
    } else {
        struct err ended = {0};
        err_set(&ended, ERR_STATE, "the node is stopping");
        a->fn(a->ctx, NULL, &ended);
    }
    json_decref(a->list);
    free(a);
    log_free(l);
}

static int ask(struct ve_node *node, const struct asking *what, struct err *err)
{
    struct asking *a = calloc(1, sizeof(*a));
    if (!a)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    *a = *what;
    a->work.data = a;
    a->log = node->usage_log;
    a->list = json_array();
    if (a->query.ve) {
        str_print(a->name, sizeof(a->name), "%s", a->query.ve);
        a->query.ve = a->name;
    }
    if (!a->list || uv_queue_work(node->loop, &a->work, ask_work, ask_done) < 0) {
        json_decref(a->list);
        free(a);
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    node->usage_log->threads++;
    return 0;
}

int ve_usage_records(struct ve_node *node, int64_t after, size_t limit, ve_result_fn fn, void *ctx,
                     struct err *err)
{
    if (limit < 1 || limit > PAGE_MAX)
        return err_set(err, ERR_USAGE, "limit must be from 1 to %d", PAGE_MAX);
    struct asking a = {.after = after, .last = after, .most = limit, .fn = fn, .ctx = ctx};
    return ask(node, &a, err);
}

int ve_usage_sums(struct ve_node *node, const struct ve_usage_query *q, ve_result_fn fn, void *ctx,
                  struct err *err)
{
    static const char *const names[] = {[USAGE_BY_RECORD] = "5m",
                                        [USAGE_BY_HOUR] = "hour",
                                        [USAGE_BY_DAY] = "day",
                                        [USAGE_BY_MONTH] = "month"};
    struct asking a = {.sums = true, .most = SUMS_MAX, .fn = fn, .ctx = ctx};
    size_t by = 0;
    while (by < ARRAY_SIZE(names) && !str_eq(names[by], q->by ? q->by : "month"))
        by++;
    if (by == ARRAY_SIZE(names))
        return err_set(err, ERR_USAGE, "usage is added up by 5m, hour, day or month, not by %.32s",
                       q->by);
    if (q->ve && name_check_ve(q->ve, err) < 0)
        return -err->kind;
    a.query = (struct usage_query){.ve = q->ve,
                                   .from = q->from / 1000,
                                   .to = q->to ? (q->to + 999) / 1000 : YEAR_9999,
                                   .by = (enum usage_by)by};
    return ask(node, &a, err);
}
