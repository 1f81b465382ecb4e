/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pools in images grow: when they are asked to, and by themselves when they run full.  They are
 * looked at when something begins that may write, and the more often the fuller they are (fill.h).
 *
 * An image has its space set aside; what one may still take that has not (its file system gives
 * none ahead) is counted as taken.  A reserve is kept for the host's own files.
 */
#include "base/number.h"
#include "ve/disk.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/layers.h"
#include "ve/pools.h"
#include "ve/saved.h"

#include <sys/stat.h>
#include <unistd.h>

#define LOOK_MS      60000   /* at most so long between two looks */
#define FULL_MS      10000   /* while one is full and cannot grow */
#define WORK_MS      1000    /* while jobs or transfers are at work */
#define TELL_MS      3600000 /* pool.full at most so often */
#define ROOM_WAIT_MS 3000    /* while nothing becomes free */
#define ROOM_LOOK_MS 100
#define STEP_MIN     (64ull << 20)
#define STEP_ONE     (1ull << 20)
#define RESERVE      20           /* a twentieth of the host's file system, … */
#define RESERVE_1    (1ull << 30) /* … at least this, if that is not more than a tenth of it */

static const char *image_of(const struct ve_pool *p)
{
    return json_string_value(json_object_get(p->spec, "image"));
}

/* What images in the file system of `dev` may still take. */
static uint64_t promised(const struct ve_node *node, dev_t dev)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < node->n_pools; i++) {
        auto_clean(ve_pool_spec_done) struct ve_pool_spec s = {0};
        struct stat st;
        if (!image_of(node->pools[i]) || ve_pool_spec(node, node->pools[i]->spec, &s, NULL) < 0 ||
            stat(s.image, &st) < 0 || st.st_dev != dev)
            continue;
        uint64_t has = (uint64_t)st.st_blocks * 512;
        if ((uint64_t)st.st_size > has)
            sum += (uint64_t)st.st_size - has;
    }
    return sum;
}

/* How much larger the image may become. */
static int room(const struct ve_node *node, const char *image, uint64_t *ret_size,
                uint64_t *ret_room, struct err *err)
{
    struct stat st;
    uint64_t free_bytes = 0, all = 0;
    if (stat(image, &st) < 0)
        return err_sys(err, "cannot look at %s", image);
    if (ve_pool_host_free(image, &free_bytes, &all, err) < 0)
        return -err->kind;
    uint64_t keep = all / RESERVE > RESERVE_1 ? all / RESERVE
                    : all / 10 > RESERVE_1    ? RESERVE_1
                                              : all / 10;
    uint64_t taken = promised(node, st.st_dev);
    *ret_size = (uint64_t)st.st_size;
    *ret_room = free_bytes > keep && free_bytes - keep > taken ? free_bytes - keep - taken : 0;
    return 0;
}

/* ---- the job ---- */

static int new_size(const json_t *options, uint64_t *ret, struct err *err)
{
    const json_t *v = json_object_get(options, "size");
    if (json_is_integer(v) && json_integer_value(v) > 0) {
        *ret = (uint64_t)json_integer_value(v);
        return 0;
    }
    if (!json_is_string(v))
        return err_set(err, ERR_USAGE, "size must be a text such as \"40G\"");
    return number_parse_size(json_string_value(v), ret, err) < 0 ? err_wrap(err, "size") : 0;
}

static int check_grow(struct ve_node *node, const char *name, const json_t *options,
                      struct err *err)
{
    struct ve_pool *p;
    auto_clean(ve_pool_spec_done) struct ve_pool_spec s = {0};
    uint64_t size, now, more;
    char have[NUMBER_TEXT], most[NUMBER_TEXT];
    if (ve_pool_find_err(node, name, &p, err) < 0 || new_size(options, &size, err) < 0)
        return -err->kind;
    if (!image_of(p))
        return err_set(err, ERR_STATE,
                       "pool %s cannot grow: it is a directory in a file system and has all of "
                       "that; make the file system larger",
                       name);
    if (ve_pool_try(node, p, err) < 0 || ve_pool_spec(node, p->spec, &s, err) < 0 ||
        room(node, s.image, &now, &more, err) < 0)
        return -err->kind;
    if (size <= now)
        return err_set(err, ERR_USAGE, "pool %s cannot shrink: it has %s; choose more than that",
                       name, number_format_size(now, have));
    if (size - now > more)
        return err_set(err, ERR_EXHAUSTED,
                       "pool %s cannot grow so far: the file system of %s has room for %s in all, "
                       "with what other pools may still take and a reserve left out",
                       name, s.image, number_format_size((now + more) & ~(STEP_ONE - 1), most));
    return 0;
}

static int work_grow(struct job *job, struct err *err)
{
    struct ve_pool *p = ve_pool_find(job->node, job->rec.subject);
    uint64_t size;
    char text[NUMBER_TEXT], what[64];
    if (!p || !p->pool)
        return err_set(err, ERR_UNAVAILABLE, "pool %s is not open", job->rec.subject);
    if (new_size(job->options, &size, err) < 0)
        return -err->kind;
    str_print(what, sizeof(what), "growing it to %s", number_format_size(size, text));
    job_progress(job, -1, what);
    return storage_grow(p->pool, size, err) < 0 ? err_wrap(err, "pool %s", p->name) : 0;
}

int ve_pool_grown(struct job *job, struct ve_pool *p, uint64_t size, bool by_itself,
                  struct err *err)
{
    json_object_set_new(p->spec, "size", json_integer((json_int_t)size));
    if (ve_pool_save(job->node, p, false, err) < 0)
        return -err->kind;
    json_array_append_new(job->node->pending,
                          json_pack("{s:s, s:s, s:I, s:b, s:I}", "type", "pool.grown", "pool",
                                    p->name, "size", (json_int_t)size, "by_itself", by_itself,
                                    "job", (json_int_t)job->rec.id));
    return 0;
}

void ve_pool_note_growth(struct job *job, struct ve_pool *p)
{
    struct err e = {0};
    uint64_t size = (uint64_t)job->result[0];
    job->result[0] = 0;
    if (p && size && ve_pool_grown(job, p, size, true, &e) < 0)
        log_error(job->rec.subject, job->rec.id, "%s", e.text);
}

static int done_grow(struct job *job, struct err *err)
{
    struct ve_pool *p = ve_pool_find(job->node, job->rec.subject);
    uint64_t size = 0;
    new_size(job->options, &size, err);
    return ve_pool_grown(job, p, size, json_is_true(json_object_get(job->options, "by_itself")),
                         err);
}

/* ---- for what is about to be written ---- */

void ve_pool_wait(struct job *job, struct storage_pool *pool, uint64_t want)
{
    uint64_t size, now, best = 0;
    int64_t since = ve_now_ms();
    while (storage_free(pool, &size, &now, NULL) == 0 && now < want + size / POOL_ROOM_PARTS) {
        if (now > best) {
            best = now;
            since = ve_now_ms();
        }
        if (storage_has_trash(pool))
            storage_empty_trash(pool, &(struct err){0});
        else if (ve_now_ms() - since > ROOM_WAIT_MS)
            return;
        if (job_progress(job, -1, "waiting for the space of what was removed"))
            return;
        usleep(ROOM_LOOK_MS * 1000);
    }
}

/* By what is missing, or as far as its file system lets it. */
static int grow_by(struct job *job, struct ve_pool *p, uint64_t missing, uint64_t *ret_size,
                   struct err *err)
{
    auto_clean(ve_pool_spec_done) struct ve_pool_spec s = {0};
    uint64_t size, more, step = missing > STEP_MIN ? missing + STEP_ONE : STEP_MIN;
    if (ve_pool_spec(job->node, p->spec, &s, err) < 0 ||
        room(job->node, s.image, &size, &more, err) < 0)
        return -err->kind;
    step = (step < more ? step : more) & ~(STEP_ONE - 1);
    if (step == 0)
        return 0;
    job_progress(job, -1, "growing the pool that it goes to");
    if (storage_grow(p->pool, size + step, err) < 0)
        return -err->kind;
    *ret_size = size + step;
    return 0;
}

static int no_room(const struct ve_pool *p, uint64_t want, uint64_t now, bool grows,
                   struct err *err)
{
    char need[NUMBER_TEXT], have[NUMBER_TEXT], next[NAME_SIZE + 160];
    if (!image_of(p))
        str_print(next, sizeof(next),
                  "remove VEs or snapshots in it, free some in its file system, or choose another "
                  "pool");
    else if (grows)
        str_print(next, sizeof(next),
                  "its image cannot grow so far: remove VEs or snapshots in it, free some of the "
                  "file system that it lies in, or choose another pool");
    else
        str_print(next, sizeof(next),
                  "remove VEs or snapshots in it, or terem pool grow %s SIZE makes room (pool.grow "
                  "is off)",
                  p->name);
    return err_set(err, ERR_EXHAUSTED, "that needs %s in pool %s, where %s is free; %s",
                   number_format_size(want, need), p->name, number_format_size(now, have), next);
}

int ve_tree_size(struct ve *ve, struct storage_pool *to, uint64_t *ret, struct err *err)
{
    struct storage_usage u = {0};
    bool frozen = false;
    if (ve->state == VE_RUNNING && disk_usage(ve, &u) && u.space_known) {
        *ret = u.space;
        return 0;
    }
    int r = ve_still(ve, &frozen, err);
    if (r == 0)
        r = storage_move_size(ve_pool(ve), to, ve->rec.id, false, ret, err);
    if (frozen)
        ve_go_on(ve);
    return r;
}

int ve_pool_make_room(struct job *job, struct ve_pool *p, uint64_t want, uint64_t *ret_size,
                      struct err *err)
{
    bool grows = image_of(p) && job->node->config.pool_grow;
    uint64_t size, now, ample = want + want / 16 + STEP_MIN / 2; /* what describes the files, too */
    if (storage_has_trash(p->pool))
        ve_pool_wait(job, p->pool, want);
    if (storage_free(p->pool, &size, &now, err) < 0)
        return -err->kind;
    if (now < ample && grows &&
        (grow_by(job, p, ample - now, ret_size, err) < 0 ||
         storage_free(p->pool, &size, &now, err) < 0))
        return -err->kind;
    return now < want ? no_room(p, want, now, grows, err) : 0;
}

/* ---- by themselves ---- */

static void tell_full(struct ve_node *node, struct ve_pool *p, const char *cause)
{
    int64_t now = ve_now_ms();
    if (p->full_told && now - p->full_told < TELL_MS)
        return;
    p->full_told = now;
    log_warn(NULL, 0, "pool %s is nearly full: %s", p->name, cause);
    ve_event_emit(node, json_pack("{s:s, s:s, s:I, s:s}", "type", "pool.full", "pool", p->name,
                                  "free", (json_int_t)p->fill.free_bytes, "cause", cause));
}

static void failed_grow(struct job *job)
{
    struct ve_pool *p = ve_pool_find(job->node, job->rec.subject);
    if (!p || !json_is_true(json_object_get(job->options, "by_itself")))
        return;
    p->grow_failed = ve_now_ms();
    tell_full(job->node, p, job->rec.error ? job->rec.error : "it could not grow");
}

static void grow(struct ve_node *node, struct ve_pool *p)
{
    auto_clean(ve_pool_spec_done) struct ve_pool_spec s = {0};
    struct err e = {0};
    uint64_t size, more, step = fill_step(&p->fill);
    int64_t id;
    if (!node->config.pool_grow) {
        tell_full(node, p, "the setting pool.grow is off");
        return;
    }
    if (ve_pool_spec(node, p->spec, &s, &e) < 0 || room(node, s.image, &size, &more, &e) < 0) {
        tell_full(node, p, e.text);
        return;
    }
    if (step < STEP_MIN)
        step = STEP_MIN;
    if (step > more)
        step = more;
    step &= ~(STEP_ONE - 1);
    if (step < STEP_MIN) {
        tell_full(node, p, "the file system of its image has no more room to grow it");
        return;
    }
    json_t *options = json_pack("{s:I, s:b}", "size", (json_int_t)(size + step), "by_itself", 1);
    if (ve_job_begin(node, job_pool_grow.name, p->name, options, &id, &e) < 0 && e.kind != ERR_BUSY)
        tell_full(node, p, e.text);
    json_decref(options);
}

/* Without a VE that runs in it only jobs write to it, and they are looked at by themselves. */
static bool has_writer(const struct ve_node *node, const struct ve_pool *p)
{
    if (node->n_open || node->transfers)
        return true;
    for (size_t i = 0; i < node->n_ves; i++)
        if (node->ves[i]->state != VE_STOPPED && str_eq(ve_pool_name(node->ves[i]), p->name))
            return true;
    return false;
}

/* Ends with the milliseconds until it is looked at again. */
static uint64_t look_at(struct ve_node *node, struct ve_pool *p)
{
    uint64_t size, free_bytes;
    int64_t now = ve_now_ms();
    if (!p->pool || storage_free(p->pool, &size, &free_bytes, NULL) < 0)
        return LOOK_MS;
    fill_see(&p->fill, size, free_bytes, now);
    if (storage_is_short(p->pool)) /* it was full, and may have had to give up what is held back */
        ve_trash_later(node);
    if (!image_of(p)) {
        if (free_bytes < size / RESERVE)
            tell_full(node, p, "it has all of its file system; make that larger, or move VEs");
        else
            p->full_told = 0;
        return LOOK_MS;
    }
    if (!fill_is_low(&p->fill))
        p->full_told = 0;
    else if (!p->grow_failed || now - p->grow_failed > LOOK_MS)
        grow(node, p);
    return p->full_told ? FULL_MS : has_writer(node, p) ? fill_next(&p->fill) : LOOK_MS;
}

static void on_timer(uv_timer_t *t)
{
    struct ve_node *node = t->data;
    uint64_t next = LOOK_MS;
    if (node->stopping || node->closing)
        return;
    for (size_t i = 0; i < node->n_pools; i++) {
        uint64_t ms = look_at(node, node->pools[i]);
        next = ms < next ? ms : next;
    }
    if ((node->n_open || node->transfers) && next > WORK_MS)
        next = WORK_MS;
    uv_timer_start(t, on_timer, next, 0);
}

void ve_pool_watch(struct ve_node *node)
{
    if (!node->pool_timer && (node->pool_timer = calloc(1, sizeof(*node->pool_timer)))) {
        uv_timer_init(node->loop, node->pool_timer);
        node->pool_timer->data = node;
    }
    ve_pool_look(node);
}

void ve_pool_look(struct ve_node *node)
{
    if (node->pool_timer)
        uv_timer_start(node->pool_timer, on_timer, 0, 0);
}

const struct job_kind job_pool_grow = {
    .name = "pool-grow",
    .of_pool = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .check_pool = check_grow,
    .work = work_grow,
    .done = done_grow,
    .failed = failed_grow,
};
