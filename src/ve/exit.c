/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The end of a VE's first process: how it is heard of and told, and what follows from it. */
#include "kernel/process.h"
#include "ve/beside.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/rows.h"

#include <fcntl.h>

#define EXIT_REASON     160
#define EXIT_ASK_MS     5   /* how its first process ended is asked for again so soon, */
#define EXIT_ASKS_MAX   200 /* and so often, */
#define EXIT_WAIT_MS    50  /* or waited for so long by who must know now */
#define RESTART_MIN_MS  100
#define RESTART_MAX_MS  60000
#define RESTART_GOOD_MS 60000 /* a VE that ran this long begins to count anew */

/* ---- heard of ---- */

void ve_unwatch_process(struct ve *ve)
{
    ve_handle_close(&ve->exit_poll);
    ve_handle_close(&ve->exit_timer);
    cleanup_fd(&ve->pidfd);
    answer_drop(ve);
    inside_unwatch(ve);
    refusal_unwatch(ve);
}

static bool is_system(const struct ve *ve)
{
    return ve_in_repair(ve) ||
           str_eq(json_string_value(json_object_get(ve->spec, "kind")), "system");
}

/* reboot(2) in a pid namespace ends its init by SIGHUP, halt and power-off by SIGINT (reboot(2),
 * "Behavior inside PID namespaces"). */
static const char *exit_how(const struct ve *ve, const struct kernel_exit *x)
{
    if (!x->known)
        return "unknown";
    if (is_system(ve) && x->signal == SIGINT)
        return "poweroff";
    if (is_system(ve) && x->signal == SIGHUP)
        return "reboot";
    return x->signal ? "killed" : "exited";
}

/* Destroying a running VE by force stops it, too. */
static bool asked_to_stop(const struct ve *ve)
{
    return ve->state == VE_STOPPING || ve->rec.want == VE_ABSENT;
}

static void exit_reason(const struct ve *ve, const struct kernel_exit *x, char reason[EXIT_REASON])
{
    struct resource_usage u;
    char limit[PARAM_TEXT];
    const struct param_row *row = param_find("memory.limit");
    if (x->signal == SIGKILL && !asked_to_stop(ve) &&
        resource_usage(ve->node->resources, ve->rec.id, RESOURCE_OOM_KILLS, &u, NULL) == 0 &&
        u.oom_kills > 0)
        str_print(reason, EXIT_REASON, "out of memory (memory.limit=%s)",
                  param_format(row, param_set_get(ve->params, "memory.limit"), limit));
    else if (!asked_to_stop(ve) && is_system(ve) && !ve_in_repair(ve) && x->known)
        str_print(reason, EXIT_REASON, "its init ended by itself; terem repair %s opens its files",
                  ve->rec.name);
    else
        str_print(reason, EXIT_REASON, "%s",
                  asked_to_stop(ve) ? "asked to stop" : "ended by itself");
}

static void record_exit(struct ve *ve, const struct kernel_exit *x)
{
    const char *how = exit_how(ve, x);
    bool asked_inside = str_eq(how, "poweroff") || str_eq(how, "reboot");
    char reason[EXIT_REASON];
    exit_reason(ve, x, reason);
    json_t *e = json_pack("{s:s, s:i, s:s, s:I}", "how", how, "status",
                          !x->known      ? -1
                          : asked_inside ? 0
                                         : x->status,
                          "reason", reason, "time", (json_int_t)ve_now_ms());
    json_object_set_new(e, "signal",
                        x->signal && !asked_inside ? ve_signal_json(x->signal) : json_null());
    json_object_set_new(ve->run, "last_exit", e);
    json_array_append_new(ve->node->pending, json_pack("{s:s, s:s, s:O}", "type", "ve.exit", "ve",
                                                       ve->rec.name, "last_exit", e));
}

static void on_exit_timer(uv_timer_t *t)
{
    struct ve *ve = t->data;
    ve->exit_asked++;
    ve_first_process_ended(ve);
}

/* Its descriptor tells of its end before its parent has reaped it, and of how only after that: the
 * worker that it was born from may be about to end itself, and so it is about to become our child,
 * and after a restart of teremd its parent is the machine's init.  False: enough of asking. */
static bool ask_again(struct ve *ve)
{
    if (ve->exit_asked >= EXIT_ASKS_MAX)
        return false;
    if (ve->exit_timer)
        return true;
    ve->exit_timer = calloc(1, sizeof(*ve->exit_timer));
    if (!ve->exit_timer)
        return false;
    if (ve->exit_poll)
        uv_poll_stop(ve->exit_poll);
    uv_timer_init(ve->node->loop, ve->exit_timer);
    ve->exit_timer->data = ve;
    uv_timer_start(ve->exit_timer, on_exit_timer, EXIT_ASK_MS, EXIT_ASK_MS);
    return true;
}

/* Reads how it ended; called when the pidfd says so and when SIGCHLD names it. */
void ve_first_process_ended(struct ve *ve)
{
    if (ve->gone || ve->pidfd < 0)
        return;
    struct kernel_exit x = {0};
    if (!kernel_process_ended(ve->pidfd, &x) || (x.later && ask_again(ve)))
        return;
    ve->gone = true;
    if (ve->exit_poll)
        uv_poll_stop(ve->exit_poll);
    ve_handle_close(&ve->exit_timer);
    record_exit(ve, &x);
    if (!ve->job)
        ve_exited(ve);
    else
        asking_ended(ve->job);
}

static void on_exit_poll(uv_poll_t *poll, int status, int events)
{
    ve_first_process_ended(poll->data);
}

int ve_watch_process(struct ve *ve, int pidfd, struct err *err)
{
    ve_unwatch_process(ve);
    ve->gone = false;
    ve->exit_asked = 0;
    ve->pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, ve->node->fd_floor);
    ve->exit_poll = calloc(1, sizeof(*ve->exit_poll));
    if (ve->pidfd < 0 || !ve->exit_poll) {
        free(ve->exit_poll);
        ve->exit_poll = NULL;
        return err_sys(err, "cannot watch its first process");
    }
    uv_poll_init(ve->node->loop, ve->exit_poll, ve->pidfd);
    ve->exit_poll->data = ve;
    uv_poll_start(ve->exit_poll, UV_READABLE, on_exit_poll);
    return 0;
}

void life_see_end(struct ve *ve)
{
    for (int ms = 0; ms < EXIT_WAIT_MS && ve->pidfd >= 0 && !ve->gone; ms++) {
        if (ms)
            usleep(1000);
        ve_first_process_ended(ve);
    }
    ve->exit_asked = EXIT_ASKS_MAX;
    ve_first_process_ended(ve);
}

/* ---- what follows ---- */

static bool wants_restart(struct ve *ve)
{
    const json_t *x = json_object_get(ve->run, "last_exit");
    const char *how = json_string_value(json_object_get(x, "how"));
    const char *policy = json_string_value(json_object_get(ve->spec, "restart"));
    bool good = json_integer_value(json_object_get(x, "status")) == 0;
    if (ve_in_repair(ve)) /* the policy is about its own init; reboot means to try that again */
        return str_eq(how, "reboot");
    return str_eq(how, "reboot") || str_eq(policy, "always") ||
           (str_eq(policy, "on-failure") && !good);
}

static void schedule_restart(struct ve *ve, int64_t ran);

static void on_restart_timer(uv_timer_t *t)
{
    struct ve *ve = t->data;
    struct err e;
    int64_t id;
    ve_handle_close(&ve->restart_timer);
    if (ve->state != VE_STOPPED || ve->job || ve->node->stopping ||
        ve_job_begin(ve->node, "start", ve->rec.name, NULL, &id, &e) == 0)
        return;
    log_error(ve->rec.name, 0, "cannot restart: %s", e.text);
    if (e.kind == ERR_BUSY) /* it is being cloned */
        schedule_restart(ve, 0);
}

static void schedule_restart(struct ve *ve, int64_t ran)
{
    if (ran > RESTART_GOOD_MS)
        ve->restarts = 0;
    uint64_t delay = ve->restarts > 9 ? RESTART_MAX_MS : (uint64_t)RESTART_MIN_MS << ve->restarts;
    if (delay > RESTART_MAX_MS)
        delay = RESTART_MAX_MS;
    ve->restarts++;
    ve->restart_timer = calloc(1, sizeof(*ve->restart_timer));
    if (!ve->restart_timer)
        return;
    uv_timer_init(ve->node->loop, ve->restart_timer);
    ve->restart_timer->data = ve;
    ve->restart_at = ve_now_ms() + (int64_t)delay;
    uv_timer_start(ve->restart_timer, on_restart_timer, delay, 0);
}

static int done_exit(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    bool again = wants_restart(ve) && !ve->node->stopping;
    int64_t ran = ve_now_ms() - json_integer_value(json_object_get(ve->run, "started"));
    if (!again)
        ve->rec.want = VE_STOPPED;
    if (life_stopped(job, err) < 0)
        return -err->kind;
    if (again)
        schedule_restart(ve, ran);
    return 0;
}

void ve_exited(struct ve *ve)
{
    struct err e;
    int64_t id;
    if (job_begin(ve->node, &job_exit, ve->rec.name, ve, NULL, &id, &e) < 0)
        log_error(ve->rec.name, 0, "cannot clean up after its end: %s", e.text);
}

const struct job_kind job_exit = {
    .name = "exit",
    .of_ve = true,
    .asleep = true,
    .hidden = true,
    .crewed = true,
    .event = VE_EV_STOP,
    .want = JOB_AS_IT_IS,
    .work = life_kill,
    .done = done_exit,
    .failed = life_stop_failed,
};
