/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The end of a VE that is up, in teremd's loop: it is asked to shut down, waited for, killed when
 * its time is over, and waited for again.  What waits has no worker and holds nobody else up: a
 * thousand are asked at once, and each has its own time.  Only what is left to be taken away
 * afterwards, and a question that has to be run inside, is a worker's.
 *
 *   ASKING ─ does it listen? ─▶ ASKED ─ its time ─▶ KILLED ─ KILL_MS ─▶ work()
 *        └ INSIDE (a worker) ─▶   └──────── it ends ───┴───────────────────▲
 */
#include "ve/jobs.h"

#include <inttypes.h>

#define STOP_TIMEOUT_S 30
#define STOP_MOST_S    86400
#define LISTEN_POLL_MS 10
#define LISTEN_WAIT_MS 2000
#define KILL_MS        5000 /* then a worker waits, and tells what it waits for */

struct asking {
    enum { ASKING, INSIDE, ASKED, KILLED } step;
    int64_t since, until;
    uv_timer_t *timer;
    const struct job_kind *kind; /* while step is INSIDE: the job's own */
};

static const struct job_kind job_ask;

static int64_t now_ms(const struct job *job)
{
    return (int64_t)uv_now(job->node->loop);
}

void asking_done(struct job *job)
{
    struct asking *a = job->asking;
    if (!a)
        return;
    ve_handle_close(&a->timer);
    free(a);
    job->asking = NULL;
}

static void go_on(struct job *job)
{
    asking_done(job);
    job_begin_worker(job);
}

static void on_timer(uv_timer_t *t);

static void wait_for(struct job *job, int64_t ms)
{
    uv_timer_start(job->asking->timer, on_timer, ms > 0 ? (uint64_t)ms : 0, 0);
}

static void kill_now(struct job *job)
{
    struct err e = {0};
    job->asking->step = KILLED;
    if (life_engine(job->ve)->kill(job->ve, true, &e) < 0 && e.kind != ERR_TIMEOUT)
        log_warn(job->ve->rec.name, job->rec.id, "%s", e.text);
    wait_for(job, KILL_MS);
}

/* Its time is over. */
static void give_up(struct job *job)
{
    str_print(job->text, sizeof(job->text), "did not shut down in time; killing it");
    ve_event_job(job, false);
    job->result[0] = 1;
    kill_now(job);
}

static void ask_inside(struct job *job)
{
    struct asking *a = job->asking;
    a->step = INSIDE;
    a->kind = job->kind;
    uv_timer_stop(a->timer);
    job->kind = &job_ask;
    job_begin_worker(job);
}

static void ask(struct job *job)
{
    struct asking *a = job->asking;
    struct err e = {0};
    bool anyway = now_ms(job) - a->since >= LISTEN_WAIT_MS;
    int r = life_engine(job->ve)->ask(job->ve, anyway, &e);
    if (r == -ERR_UNSUPPORTED) {
        ask_inside(job);
    } else if (r == -ERR_BUSY && now_ms(job) < a->until) {
        wait_for(job, LISTEN_POLL_MS);
    } else { /* also where it could not be asked: it may be ending already */
        a->step = ASKED;
        wait_for(job, a->until - now_ms(job));
    }
}

static void on_timer(uv_timer_t *t)
{
    struct job *job = t->data;
    switch (job->asking->step) {
    case ASKING:
        ask(job);
        break;
    case INSIDE:
        break;
    case ASKED:
        give_up(job);
        break;
    case KILLED:
        job->alone = true;
        go_on(job);
        break;
    }
}

/* Of a job that a crash did not leave half done: how long it may take, in milliseconds. */
static int64_t patience(const struct job *job)
{
    const json_t *t = json_object_get(job->options, "timeout");
    json_int_t seconds = json_is_integer(t) ? json_integer_value(t) : STOP_TIMEOUT_S;
    if (!job->kind->asks || json_is_true(json_object_get(job->options, "force")) ||
        job->node->stop_force) /* also one that waited for a start */
        return 0;
    uint64_t ms = (uint64_t)(seconds > STOP_MOST_S ? STOP_MOST_S : seconds) * 1000;
    uint64_t now = uv_now(job->node->loop), kills = ve_node_stop_kills(job->node);
    if (kills != UINT64_MAX && now + ms > kills)
        ms = kills - now;
    return (int64_t)ms;
}

bool asking_begin(struct job *job)
{
    struct ve *ve = job->ve;
    if (!job->kind->ends || ve->pidfd < 0 || ve->gone)
        return false;
    struct asking *a = calloc(1, sizeof(*a));
    if (!a || !(a->timer = calloc(1, sizeof(*a->timer)))) {
        free(a);
        return false; /* it is killed, by its worker */
    }
    uv_timer_init(job->node->loop, a->timer);
    a->timer->data = job;
    a->since = now_ms(job);
    a->until = a->since + patience(job);
    job->asking = a;
    /* What is meant is on the disk before the VE is touched; of one of many with the job over all
     * of them. */
    if (!job->item && !job->node->stopping)
        job_flush(&job, 1);
    if (a->until == a->since) {
        kill_now(job);
        return true;
    }
    str_print(job->text, sizeof(job->text), "asking it to shut down");
    ve_event_job(job, false);
    ask(job);
    return true;
}

void asking_ended(struct job *job)
{
    if (job->asking && job->asking->step != INSIDE)
        go_on(job);
}

bool asking_late(struct job *job)
{
    if (!job->asking || job->asking->step == INSIDE)
        return false;
    if (job->asking->step != KILLED)
        give_up(job);
    return true;
}

void asking_hurry(struct job *job)
{
    job->cancelled = job->failing = true;
    err_set(&job->error, ERR_CANCELLED, "cancelled");
    job->kind = &job_undo;
    kill_now(job);
}

/* ---- what has to be run inside ---- */

static int work_ask(struct job *job, struct err *err)
{
    int64_t left = job->asking->until - now_ms(job);
    struct err e = {0};
    if (life_engine(job->ve)->ask_inside(job->ve, left > 0 ? (int)left : 0, &e) < 0)
        log_debug(job->ve->rec.name, job->rec.id, "%s", e.text); /* then it is killed in time */
    return 0;
}

static int done_ask(struct job *job, struct err *err)
{
    struct asking *a = job->asking;
    job->kind = a->kind;
    a->step = ASKED;
    if (ve_commit(job->node, err) < 0)
        ve_abandon(job->node);
    if (job->ve->gone)
        go_on(job);
    else if (job->cancelled) /* a kill waits, which came too late for its worker */
        asking_hurry(job);
    else
        wait_for(job, a->until - now_ms(job));
    return 1;
}

static void failed_ask(struct job *job)
{
    asking_done(job);
    life_stop_failed(job);
}

static const struct job_kind job_ask = {
    .name = "ask",
    .of_ve = true,
    .hidden = true,
    .event = VE_EV_STOP,
    .want = JOB_AS_IT_IS,
    .work = work_ask,
    .done = done_ask,
    .failed = failed_ask,
};
