/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/pack.h"

#include "base/cleanup.h"

#include <pthread.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

#define LEVEL       3
#define THREADS_MAX 64
#define POLL_NS     100000000L /* how long a cancelled maker may wait at most */

enum slot_state { SLOT_FREE, SLOT_FULL, SLOT_PACKED };

struct slot {
    enum slot_state state;
    struct frame_info info;
    uint8_t *plain, *packed;
};

struct pack {
    const struct backup_request *rq;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t threads[THREADS_MAX + 1];
    unsigned n_threads; /* that run: packers, then the writer */
    struct slot *slots;
    size_t n_slots;
    uint64_t filled, taken, written; /* frames, by number */
    bool closing, failed;
    struct err err;
    /* the maker's */
    struct frame_info now;
    bool now_used; /* its name is set */
    char name[FRAME_NAME + 1];
    uint64_t plain;
    /* the writer's, and after its end the maker's */
    uint8_t chain[HASH_RAW];
    struct backup_row *rows;
    size_t n_rows, cap_rows;
    uint64_t packed;
};

static void fail(struct pack *p, const struct err *why)
{
    pthread_mutex_lock(&p->lock);
    if (!p->failed)
        p->err = *why;
    p->failed = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

static struct slot *slot_of(struct pack *p, uint64_t number)
{
    return &p->slots[number % p->n_slots];
}

/* ---- packers ---- */

static int pack_one(ZSTD_CCtx *z, struct slot *s, struct err *err)
{
    size_t n = ZSTD_compress2(z, s->packed, FRAME_PACKED, s->plain, s->info.plain);
    if (ZSTD_isError(n))
        return err_set(err, ERR_INTERNAL, "cannot compress: %s", ZSTD_getErrorName(n));
    s->info.packed = (uint32_t)n;
    hash_bytes(NULL, 0, s->packed, n, s->info.sum);
    return 0;
}

static void *packer(void *ctx)
{
    struct pack *p = ctx;
    struct err err = {0};
    ZSTD_CCtx *z = ZSTD_createCCtx();
    if (!z || ZSTD_isError(ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, LEVEL)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1))) {
        err_set(&err, ERR_EXHAUSTED, "out of memory for compressing");
        fail(p, &err);
    }
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->failed && p->taken == p->filled && !p->closing)
            pthread_cond_wait(&p->changed, &p->lock);
        if (p->failed || p->taken == p->filled)
            break;
        struct slot *s = slot_of(p, p->taken++);
        pthread_mutex_unlock(&p->lock);
        if (pack_one(z, s, &err) < 0)
            fail(p, &err);
        pthread_mutex_lock(&p->lock);
        s->state = SLOT_PACKED;
        pthread_cond_broadcast(&p->changed);
    }
    pthread_mutex_unlock(&p->lock);
    ZSTD_freeCCtx(z);
    return NULL;
}

/* ---- the writer ---- */

static int put(struct pack *p, const void *buf, size_t len, struct err *err)
{
    p->packed += len;
    return p->rq->write(p->rq->ctx, buf, len, err);
}

static int add_row(struct pack *p, const struct backup_row *row, struct err *err)
{
    return format_row_add(&p->rows, &p->n_rows, &p->cap_rows, row, err);
}

static int write_frame(struct pack *p, const struct slot *s, struct err *err)
{
    uint8_t head[FRAME_HEAD_MAX];
    size_t len = format_frame(head, &s->info, p->chain);
    struct backup_row row = {s->info.packed, s->info.plain, (uint32_t)len};
    int r = put(p, head, len, err);
    if (r == 0)
        r = put(p, s->packed, s->info.packed, err);
    return r < 0 ? r : add_row(p, &row, err);
}

static void *writer(void *ctx)
{
    struct pack *p = ctx;
    struct err err = {0};
    pthread_mutex_lock(&p->lock);
    for (;;) {
        struct slot *s = slot_of(p, p->written);
        while (!p->failed && s->state != SLOT_PACKED && !(p->closing && p->written == p->filled))
            pthread_cond_wait(&p->changed, &p->lock);
        if (p->failed || s->state != SLOT_PACKED)
            break;
        pthread_mutex_unlock(&p->lock);
        if (write_frame(p, s, &err) < 0)
            fail(p, &err);
        pthread_mutex_lock(&p->lock);
        s->state = SLOT_FREE;
        p->written++;
        pthread_cond_broadcast(&p->changed);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- the maker ---- */

static int begin_file(struct pack *p, struct err *err)
{
    const struct backup_part *part = p->rq->part;
    if (part && part->n_rows) {
        memcpy(p->chain, part->chain, HASH_RAW);
        for (size_t i = 0; i < part->n_rows; i++) {
            int r = add_row(p, &part->rows[i], err);
            if (r < 0)
                return r;
        }
        p->filled = p->taken = p->written = part->n_rows;
        return 0;
    }
    uint8_t head[FILE_HEAD];
    format_head(head, p->rq->id, p->chain);
    return put(p, head, sizeof(head), err);
}

static int begin_threads(struct pack *p, struct err *err)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = p->rq->threads ? p->rq->threads : cpus > 0 ? (unsigned)cpus : 1;
    n = n < THREADS_MAX ? n : THREADS_MAX;
    p->n_slots = n + 2;
    p->slots = calloc(p->n_slots, sizeof(*p->slots));
    for (size_t i = 0; p->slots && i < p->n_slots; i++) {
        p->slots[i].plain = malloc(FRAME_PLAIN);
        p->slots[i].packed = malloc(FRAME_PACKED);
        if (!p->slots[i].plain || !p->slots[i].packed)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
    }
    if (!p->slots)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (unsigned i = 0; i <= n; i++, p->n_threads++) {
        int sys = pthread_create(&p->threads[i], NULL, i < n ? packer : writer, p);
        if (sys)
            return err_sysno(err, sys, "cannot begin a thread");
    }
    return 0;
}

int pack_open(const struct backup_request *rq, struct pack **ret, struct err *err)
{
    auto_pack struct pack *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    p->rq = rq;
    pthread_condattr_t attr;
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->changed, &attr);
    pthread_condattr_destroy(&attr);
    int r = begin_file(p, err);
    if (r < 0 || (r = begin_threads(p, err)) < 0)
        return r;
    *ret = steal_ptr(&p);
    return 0;
}

static void join(struct pack *p)
{
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    while (p->n_threads)
        pthread_join(p->threads[--p->n_threads], NULL);
}

void pack_free(struct pack *p)
{
    if (!p)
        return;
    fail(p, &(struct err){.kind = ERR_CANCELLED});
    join(p);
    for (size_t i = 0; p->slots && i < p->n_slots; i++) {
        free(p->slots[i].plain);
        free(p->slots[i].packed);
    }
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p->slots);
    free(p->rows);
    free(p);
}

static bool skipped(const struct pack *p)
{
    return p->rq->part && p->now.number < p->rq->part->n_rows;
}

/* Waits until the slot of the frame that is being filled is free. */
static int wait_slot(struct pack *p, struct err *err)
{
    struct slot *s = slot_of(p, p->now.number);
    int r = 0;
    pthread_mutex_lock(&p->lock);
    while (r == 0 && !p->failed && s->state != SLOT_FREE) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += POLL_NS;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_nsec -= 1000000000L;
            until.tv_sec++;
        }
        if (pthread_cond_timedwait(&p->changed, &p->lock, &until) != 0 && p->rq->progress &&
            p->rq->progress(p->rq->ctx, UINT64_MAX) != 0)
            r = err_set(err, ERR_CANCELLED, "it was cancelled");
    }
    if (r == 0 && p->failed) {
        *err = p->err;
        r = -err->kind;
    }
    pthread_mutex_unlock(&p->lock);
    return r;
}

void pack_entry(struct pack *p, const char *name)
{
    str_print(p->name, sizeof(p->name), "%s", name);
    if (p->now.plain == 0) {
        memcpy(p->now.name, p->name, sizeof(p->name));
        p->now_used = true;
    }
}

int pack_cut(struct pack *p, struct err *err)
{
    if (p->now.plain == 0)
        return 0;
    memcpy(p->now.last, p->name, sizeof(p->name));
    if (skipped(p)) {
        if (p->rq->part->rows[p->now.number].plain != p->now.plain)
            return err_set(err, ERR_STATE,
                           "the files are no longer as they were when the backup was begun; begin "
                           "a new one");
    } else {
        struct slot *s = slot_of(p, p->now.number);
        pthread_mutex_lock(&p->lock);
        s->info = p->now;
        s->state = SLOT_FULL;
        p->filled++;
        pthread_cond_broadcast(&p->changed);
        pthread_mutex_unlock(&p->lock);
    }
    p->now = (struct frame_info){.number = p->now.number + 1};
    p->now_used = false;
    if (p->now.number >= BACKUP_FRAMES_MAX)
        return err_set(err, ERR_EXHAUSTED, "it is larger than a backup can be");
    return 0;
}

int pack_add(struct pack *p, const void *buf, size_t len, struct err *err)
{
    const uint8_t *from = buf;
    p->plain += len;
    while (len) {
        int r;
        if (p->now.plain == 0 && !skipped(p) && (r = wait_slot(p, err)) < 0)
            return r;
        if (!p->now_used) { /* it goes on with what the last one ended with */
            memcpy(p->now.name, p->name, sizeof(p->name));
            p->now_used = true;
        }
        size_t n = FRAME_PLAIN - p->now.plain;
        n = n < len ? n : len;
        if (!skipped(p))
            memcpy(slot_of(p, p->now.number)->plain + p->now.plain, from, n);
        p->now.plain += (uint32_t)n;
        from += n;
        len -= n;
        if (p->now.plain == FRAME_PLAIN && (r = pack_cut(p, err)) < 0)
            return r;
    }
    return 0;
}

uint64_t pack_plain(const struct pack *p)
{
    return p->plain;
}

int pack_end(struct pack *p, uint64_t list_at, uint64_t list_size, uint64_t *ret_packed,
             struct err *err)
{
    int r = pack_cut(p, err);
    if (r < 0)
        return r;
    join(p);
    if (p->failed) {
        *err = p->err;
        return -err->kind;
    }
    const struct trailer t = {p->n_rows, p->plain, list_at, list_size};
    size_t len;
    auto_free uint8_t *bytes = format_trailer(&t, p->rows, p->chain, &len);
    if (!bytes)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if ((r = put(p, bytes, len, err)) < 0)
        return r;
    *ret_packed = p->packed;
    return 0;
}
