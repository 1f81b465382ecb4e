/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One timer serves all VEs with idle.sleep: it fires when the first of them may have been idle for
 * long enough, looks at the time of its last packet (a lookup in a map that BPF programs write,
 * network/idle.h) and only then, if that is long ago, at its processor time.  Nothing of a VE that
 * is used is read more than a few times in its idle.sleep.
 *
 * Falling asleep is committed first; then packets are told, then it is frozen, then the time of its
 * last packet is read once more.  A packet in between is seen by one or the other, and data that
 * came meanwhile waits in its sockets.  A VE that is VE_SLEEPING in the registry and of which no
 * packets are told has not been frozen yet, or a packet has come: recovery wakes it.
 *
 * Its memory is pushed out by a process of its own, one VE at a time, which is killed when the VE
 * wakes.
 */
#include "ve/sleep.h"

#include "network/idle.h"
#include "ve/jobs.h"

#include <sys/wait.h>
#include <unistd.h>

#define NS_PER_MS 1000000

#define ROUND     16 /* looks are put together that are so close: a part of idle.sleep, … */
#define ROUND_MIN 50
#define ROUND_MAX 10000 /* … and at most this, in ms */
#define QUIET     4     /* after this part without packets the processor is looked at */
#define AGAIN_MS  1000  /* one that could not be woken is tried again */

/* Processor time that is no use: cron, timers of a service manager, garbage collectors. */
#define CPU_PART    500   /* of the time: 0.2% of a core */
#define CPU_LEAST   20000 /* us: one tick of cron in a short time */
#define CPU_UNKNOWN UINT64_MAX

struct ve_idle {
    uint64_t sleep;   /* ms; 0: it is not put to sleep */
    uint64_t due;     /* when it is looked at next; 0: never */
    uint64_t cpu;     /* us that it had used … */
    uint64_t cpu_at;  /* … at this time; 0: not looked at since its last packet */
    uint64_t cpu_for; /* ms from then on in which it must use nothing */
    bool pressed;     /* it sleeps, and its memory is pushed out */
    bool told;        /* it could not be put to sleep, which is tried again and again */
    const char *by;   /* who wanted one that could not be woken; NULL: nobody has to wait */
    uint64_t woken;   /* when it was woken last, by whatever it was; 0: not yet */
};

struct sleep_watch {
    uv_timer_t *timer;
    uint64_t at; /* when that fires; 0: it does not */
    uv_poll_t *poll;
    pid_t press_pid;
    int64_t press_ve;
};

static uint64_t now_ms(void)
{
    return uv_hrtime() / NS_PER_MS;
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- the timer ---- */

static void on_timer(uv_timer_t *timer);

static void arm(struct ve_node *node, uint64_t due)
{
    struct sleep_watch *w = node->sleep;
    uint64_t now = now_ms();
    if (!w || !w->timer || !due || (w->at && w->at <= due))
        return;
    w->at = due;
    uv_update_time(node->loop);
    uv_timer_start(w->timer, on_timer, due > now ? due - now : 0, 0);
}

static void look_at(struct ve *ve, uint64_t due)
{
    uint64_t round = ve->idle->sleep / ROUND;
    round = round < ROUND_MIN ? ROUND_MIN : round > ROUND_MAX ? ROUND_MAX : round;
    ve->idle->due = (later(due, now_ms() + 1) + round - 1) / round * round;
    arm(ve->node, ve->idle->due);
}

/* ---- memory ---- */

static void press_main(struct ve *ve) __attribute__((noreturn));
static void press_main(struct ve *ve)
{
    struct resource_squeeze q = {0};
    struct resource_squeezed s;
    struct err e = {0};
    worker_be_idle();
    if (resource_squeeze(ve->node->resources, ve->rec.id, &q, &s, &e) < 0)
        log_warn(ve->rec.name, 0, "it sleeps, and its memory stays where it is: %s", e.text);
    _exit(0);
}

static void press_next(struct ve_node *node)
{
    struct sleep_watch *w = node->sleep;
    if (!w || w->press_pid || node->closing || node->stopping)
        return;
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        if (ve->state != VE_SLEEPING || !ve->idle || ve->idle->pressed)
            continue;
        ve->idle->pressed = true;
        pid_t pid = ve_fork(node, NULL, 0, true);
        if (pid == 0)
            press_main(ve);
        if (pid < 0)
            continue;
        w->press_pid = pid;
        w->press_ve = ve->rec.id;
        return;
    }
}

bool ve_sleep_child_ended(struct ve_node *node, pid_t pid)
{
    struct sleep_watch *w = node->sleep;
    if (!w || pid != w->press_pid)
        return false;
    w->press_pid = 0;
    press_next(node);
    return true;
}

/* ---- falling asleep, and waking ---- */

static int commit_move(struct ve *ve, enum ve_event event, json_t *told, struct err *err)
{
    int r = ve_begin_light(ve->node, err); /* a power cut takes the VE with it */
    if (r == 0)
        r = ve_move(ve, event, NULL, err);
    if (r == 0) {
        json_array_append(ve->node->pending, told);
        r = ve_commit(ve->node, err);
    }
    return r;
}

static void fall_asleep(struct ve *ve, uint64_t used)
{
    struct err e = {0};
    uint64_t again = 0, since = later(used / NS_PER_MS, ve->idle->woken);
    json_t *told = json_pack("{s:s, s:s, s:I}", "type", "ve.asleep", "ve", ve->rec.name, "idle",
                             (json_int_t)(now_ms() - since));
    json_object_set_new(ve->run, "asleep", json_integer(ve_now_ms()));
    int r = commit_move(ve, VE_EV_SLEEP, told, &e);
    json_decref(told);
    if (r < 0) {
        ve_rollback(ve->node);
        ve->state = VE_RUNNING;
        json_object_del(ve->run, "asleep");
        look_at(ve, now_ms() + ve->idle->sleep);
        if (!ve->idle->told)
            log_error(ve->rec.name, 0, "it cannot be put to sleep yet: %s", e.text);
        ve->idle->told = true;
        return;
    }
    ve->idle->told = false;
    if (network_idle_sleep(ve->node->network, ve->rec.id, used, &e) < 0 ||
        resource_freeze_begin(ve->node->resources, ve->rec.id, true, &e) < 0) {
        log_error(ve->rec.name, 0, "it cannot be put to sleep: %s", e.text);
        ve_wake(ve, "failure");
    } else if (!network_idle_used(ve->node->network, ve->rec.id, &again) || again != used) {
        ve_wake(ve, "packet");
    } else {
        press_next(ve->node);
    }
}

/* First of all: what is recorded as awake runs.  A packet is told once, so it is tried again. */
static int thaw(struct ve *ve, const char *by)
{
    struct err e = {0};
    if (resource_freeze_begin(ve->node->resources, ve->rec.id, false, &e) == 0 ||
        e.kind == ERR_NOT_FOUND)
        return 0;
    if (!ve->idle || !ve->idle->by)
        log_error(ve->rec.name, 0, "it cannot be woken yet: %s", e.text);
    if (ve->idle) {
        ve->idle->by = by;
        ve->idle->due = now_ms() + AGAIN_MS;
        arm(ve->node, ve->idle->due);
    }
    return -e.kind;
}

void ve_wake(struct ve *ve, const char *by)
{
    struct ve_node *node = ve->node;
    struct err e = {0};
    if (ve->state != VE_SLEEPING || thaw(ve, by) < 0)
        return;
    int64_t slept = ve_now_ms() - json_integer_value(json_object_get(ve->run, "asleep"));
    json_t *told = json_pack("{s:s, s:s, s:s, s:I}", "type", "ve.awake", "ve", ve->rec.name, "by",
                             by, "slept", (json_int_t)(slept > 0 ? slept : 0));
    if (commit_move(ve, VE_EV_RESUME, told, &e) < 0) { /* it runs all the same */
        ve_abandon(node);
        if (ve->state == VE_SLEEPING) { /* the registry did not even begin */
            ve->state = VE_RUNNING;
            ve_sleep_moved(ve, VE_SLEEPING);
        }
        ve_mark_unsaved(ve);
        log_error(ve->rec.name, 0, "cannot record that it is awake: %s", e.text);
    }
    json_decref(told);
}

/* ---- looking ---- */

static bool is_at_work(const struct ve *ve)
{
    if (ve->job || ve->transfers || ve->gone || ve_in_repair(ve) || ve->node->stopping)
        return true;
    return ve_transfers(ve) || session_attends(ve);
}

/* What its processes have used, in us. */
static uint64_t cpu_of(struct ve *ve)
{
    struct resource_usage u;
    if (resource_usage(ve->node->resources, ve->rec.id, RESOURCE_CPU, &u, NULL) < 0 || !u.has_cpu)
        return CPU_UNKNOWN;
    return u.cpu_usec;
}

/* Has it been at rest for long enough by now?  If not, when it is worth looking again. */
static bool is_at_rest(struct ve *ve, uint64_t now, uint64_t *ret_due)
{
    struct ve_idle *x = ve->idle;
    uint64_t cpu = cpu_of(ve), past = now - x->cpu_at;
    *ret_due = now + x->sleep;
    if (cpu == CPU_UNKNOWN)
        return false;
    if (!x->cpu_at || cpu - x->cpu > past * 1000 / CPU_PART + CPU_LEAST) {
        x->cpu_for = x->cpu_at ? x->sleep : x->sleep - x->sleep / QUIET;
        x->cpu = cpu;
        x->cpu_at = now;
        past = 0;
    }
    *ret_due = x->cpu_at + x->cpu_for;
    return past >= x->cpu_for;
}

static void look(struct ve *ve)
{
    struct ve_idle *x = ve->idle;
    uint64_t now = now_ms(), used, due;
    x->due = 0;
    if (ve->state == VE_SLEEPING) {
        ve_wake(ve, x->by);
        return;
    }
    if (ve->state != VE_RUNNING || !network_idle_used(ve->node->network, ve->rec.id, &used))
        return;
    uint64_t last = used / NS_PER_MS;
    if (now < last + x->sleep / QUIET) {
        x->cpu_at = 0;
        look_at(ve, last + x->sleep / QUIET);
        return;
    }
    if (x->cpu_at && x->cpu_at < last)
        x->cpu_at = 0;
    bool rests = is_at_rest(ve, now, &due);
    if (!rests || now < last + x->sleep)
        look_at(ve, later(due, last + x->sleep));
    else if (is_at_work(ve))
        look_at(ve, now + x->sleep / QUIET);
    else
        fall_asleep(ve, used);
}

static void on_timer(uv_timer_t *timer)
{
    struct ve_node *node = timer->data;
    uint64_t next = 0, now = now_ms();
    node->sleep->at = 0;
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        if (!ve->idle || !ve->idle->due)
            continue;
        if (ve->idle->due <= now)
            look(ve);
        if (ve->idle && ve->idle->due && (!next || ve->idle->due < next))
            next = ve->idle->due;
    }
    arm(node, next);
}

/* ---- who is watched ---- */

int ve_sleep_check(struct ve_node *node, const struct param_set *set, struct err *err)
{
    const char *why = network_count_why(node->network);
    uint64_t sleep = param_set_get(set, "idle.sleep").n;
    if (!why || !sleep)
        return 0;
    return err_set(err, ERR_UNSUPPORTED, "idle.sleep cannot be enforced here: %s", why);
}

/* Stays known while it sleeps, whatever its row has become. */
void ve_sleep_changed(struct ve *ve)
{
    struct err e = {0};
    uint64_t sleep = param_set_get(ve->params, "idle.sleep").n;
    bool wanted = ve->state == VE_SLEEPING || (ve->state == VE_RUNNING && sleep);
    if (!ve->node->sleep || (!wanted && !ve->idle))
        return;
    if (!wanted) {
        network_idle_forget(ve->node->network, ve->rec.id);
        cleanup_free(&ve->idle);
        return;
    }
    if (!ve->idle && (!(ve->idle = calloc(1, sizeof(*ve->idle))) ||
                      network_idle_watch(ve->node->network, ve->rec.id, &e) < 0)) {
        cleanup_free(&ve->idle);
        log_warn(ve->rec.name, 0, "it is not put to sleep: %s", e.text);
        return;
    }
    if (ve->idle->sleep == sleep && ve->idle->due)
        return;
    ve->idle->sleep = sleep;
    ve->idle->cpu_at = 0;
    if (ve->state == VE_RUNNING)
        look_at(ve, now_ms() + sleep / QUIET);
    else if (!sleep)
        ve_wake(ve, "idle.sleep");
}

void ve_sleep_settle(struct ve_node *node)
{
    for (size_t i = 0; i < node->n_ves; i++)
        ve_sleep_changed(node->ves[i]);
}

void ve_sleep_moved(struct ve *ve, enum ve_state from)
{
    struct sleep_watch *w = ve->node->sleep;
    if (from == VE_SLEEPING) {
        json_object_del(ve->run, "asleep");
        network_idle_awake(ve->node->network, ve->rec.id);
        if (ve->idle)
            ve->idle->woken = now_ms();
        if (w && w->press_pid && w->press_ve == ve->rec.id)
            kill(w->press_pid, SIGKILL);
    }
    if (ve->idle) {
        ve->idle->due = 0;
        ve->idle->by = NULL;
        ve->idle->pressed = false;
    }
    ve_sleep_changed(ve);
}

/* ---- packets ---- */

static void heard(void *ctx, int64_t id)
{
    struct ve *ve = ve_by_id(ctx, id);
    if (ve)
        ve_wake(ve, "packet");
}

static void on_wakes(uv_poll_t *poll, int status, int events)
{
    struct ve_node *node = poll->data;
    struct err e = {0};
    if (network_idle_hear(node->network, &e) == 0)
        return;
    log_error(NULL, 0, "packets do not wake VEs any more: %s", e.text);
    uv_poll_stop(poll);
}

static void listen_to_packets(struct ve_node *node)
{
    struct sleep_watch *w = node->sleep;
    struct err e = {0};
    int fd;
    if (network_idle_listen(node->network, heard, node, &fd, &e) < 0) {
        if (e.kind != ERR_UNSUPPORTED) /* doctor tells that */
            log_error(NULL, 0, "packets do not wake VEs: %s", e.text);
        return;
    }
    w->poll = calloc(1, sizeof(*w->poll));
    if (!w->poll)
        return;
    uv_poll_init(node->loop, w->poll, fd);
    w->poll->data = node;
    uv_poll_start(w->poll, UV_READABLE, on_wakes);
}

void ve_sleep_begin(struct ve_node *node)
{
    struct err e = {0};
    struct sleep_watch *w = node->sleep = calloc(1, sizeof(*w));
    if (!w || !(w->timer = calloc(1, sizeof(*w->timer))))
        return;
    uv_timer_init(node->loop, w->timer);
    w->timer->data = node;
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        if (ve->state == VE_SLEEPING && !network_idle_sleeps(node->network, ve->rec.id))
            ve_wake(ve, "packet");
        else if (ve->state == VE_SLEEPING &&
                 resource_freeze_begin(node->resources, ve->rec.id, true, &e) < 0)
            log_error(ve->rec.name, 0, "%s", e.text);
    }
    ve_sleep_settle(node);
    listen_to_packets(node);
    press_next(node);
}

void ve_sleep_end(struct ve_node *node)
{
    struct sleep_watch *w = node->sleep;
    if (!w)
        return;
    ve_handle_close(&w->timer);
    ve_handle_close(&w->poll);
    if (w->press_pid) {
        kill(w->press_pid, SIGKILL);
        waitpid(w->press_pid, NULL, 0);
    }
    free(w);
    node->sleep = NULL;
}

void ve_sleep_doctor(const struct ve_node *node, ve_check_fn check, json_t *list)
{
    char names[80];
    const char *why = network_count_why(node->network);
    bool swaps = resource_swaps(names, sizeof(names));
    check(list, "sleep of idle VEs", !why, why ? why : "packets wake them", "idle.sleep is refused",
          "a kernel with CONFIG_NET_CLS_BPF and CONFIG_BPF_SYSCALL");
    check(list, "swap", swaps, swaps ? names : "none",
          "a VE that sleeps gives back its page cache, and keeps the rest of its memory",
          "terem node setup makes swap in compressed memory (zram)");
}
