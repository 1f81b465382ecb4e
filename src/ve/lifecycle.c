/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What each kind of job does: in its worker, and in teremd when that has ended. */
#include "base/fd.h"
#include "kernel/process.h"
#include "ve/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define STOP_TIMEOUT_S  30
#define TRASH_DELAY_MS  500 /* so that destroying many costs one process */
#define RESTART_MIN_MS  100
#define RESTART_MAX_MS  60000
#define RESTART_GOOD_MS 60000 /* a VE that ran this long begins to count anew */

static const struct engine_ops *engine_of(const struct ve *ve)
{
    return &engine_container;
}

/* ---- moving ---- */

int ve_move(struct ve *ve, enum ve_event event, struct job *job, struct err *err)
{
    enum ve_state from = ve->state, to = ve_state_next(from, event);
    if (ve_state_check(ve->rec.name, from, event, NULL, err) < 0)
        return -err->kind;
    ve->state = to;
    if (ve_record_save(ve, err) < 0) {
        err_wrap(err, "%s: cannot record that it is %s", ve->rec.name, ve_state_name(to));
        if (event == VE_EV_START || event == VE_EV_STOP) { /* a wish: its asker decides */
            ve->state = from;
            return -err->kind;
        }
        log_error(ve->rec.name, job ? job->rec.id : 0, "%s", err->text); /* a fact: it stands */
        ve_mark_unsaved(ve);
        err_clear(err);
    }
    json_t *e = json_pack("{s:s, s:s, s:s, s:s}", "type", "ve.state", "ve", ve->rec.name, "from",
                          ve_state_name(from), "to", ve_state_name(to));
    if (job)
        json_object_set_new(e, "job", json_integer(job->rec.id));
    json_array_append_new(ve->node->pending, e);
    return 0;
}

/* ---- the first process ---- */

void ve_unwatch_process(struct ve *ve)
{
    ve_handle_close(&ve->exit_poll);
    cleanup_fd(&ve->pidfd);
    answer_drop(ve);
    inside_unwatch(ve);
}

static bool is_system(const struct ve *ve)
{
    return str_eq(json_string_value(json_object_get(ve->spec, "kind")), "system");
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

static void exit_reason(const struct ve *ve, const struct kernel_exit *x, char reason[96])
{
    struct resource_usage u;
    char limit[PARAM_TEXT];
    const struct param_row *row = param_find("memory.limit");
    if (x->signal == SIGKILL && !asked_to_stop(ve) &&
        resource_usage(ve->node->resources, ve->rec.id, &u, NULL) == 0 && u.oom_kills > 0)
        str_print(reason, 96, "out of memory (memory.limit=%s)",
                  param_format(row, param_set_get(&ve->params, "memory.limit"), limit));
    else
        str_print(reason, 96, "%s", asked_to_stop(ve) ? "asked to stop" : "ended by itself");
}

static void record_exit(struct ve *ve, const struct kernel_exit *x)
{
    const char *how = exit_how(ve, x);
    bool asked_inside = str_eq(how, "poweroff") || str_eq(how, "reboot");
    char reason[96];
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

/* Reads how it ended; called when the pidfd says so and when SIGCHLD names it. */
void ve_first_process_ended(struct ve *ve)
{
    if (ve->gone || ve->pidfd < 0)
        return;
    struct kernel_exit x = {0};
    if (!kernel_process_ended(ve->pidfd, &x))
        return;
    ve->gone = true;
    if (ve->exit_poll)
        uv_poll_stop(ve->exit_poll);
    record_exit(ve, &x);
    if (!ve->job)
        ve_exited(ve);
}

static void on_exit_poll(uv_poll_t *poll, int status, int events)
{
    ve_first_process_ended(poll->data);
}

int ve_watch_process(struct ve *ve, int pidfd, struct err *err)
{
    ve_unwatch_process(ve);
    ve->gone = false;
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

/* ---- start ---- */

static int start_step(void *ctx, const char *what, struct err *err)
{
    job_progress(ctx, -1, what);
    return job_check_cancelled(ctx, err);
}

static int work_start(struct job *job, struct err *err)
{
    struct engine_started s;
    if (engine_of(job->ve)->start(job->ve, start_step, job, &s, err) < 0)
        return err_wrap(err, "%s: cannot start", job->ve->rec.name);
    job->result[0] = s.pid;
    job->result_fds[0] = s.pidfd;
    job->n_result_fds = 1;
    job->result[1] = s.console >= 0;
    if (s.console >= 0)
        job->result_fds[job->n_result_fds++] = s.console;
    job->result[2] = s.listener >= 0;
    if (s.listener >= 0)
        job->result_fds[job->n_result_fds++] = s.listener;
    return 0;
}

static int done_start(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    struct ve_node *node = ve->node;
    size_t n = 1;
    if (job->n_result_fds != 1u + !!job->result[1] + !!job->result[2])
        return err_set(err, ERR_INTERNAL, "%s: its worker sent no process", ve->rec.name);
    int console = job->result[1] ? job->result_fds[n++] : -1;
    int listener = job->result[2] ? job->result_fds[n] : -1;
    if (keep_put(node->keep, ve->rec.id, job->result_fds[0], console, node->logs_fd, err) < 0) {
        /* Without terem-keep the VE runs, but its console would end with us. */
        log_error(ve->rec.name, job->rec.id, "its console is not kept: %s", err->text);
        err_clear(err);
    }
    if (ve_watch_process(ve, job->result_fds[0], err) < 0)
        return err_wrap(err, "%s", ve->rec.name);
    if (listener >= 0)
        answer_keep(ve, listener);
    inside_watch(ve);
    json_object_set_new(ve->run, "pid", json_integer(job->result[0]));
    json_object_set_new(ve->run, "started", json_integer(ve_now_ms()));
    json_object_set_new(ve->run, "boot", json_string(node->boot_id));
    json_object_del(ve->run, "broken");
    json_object_del(ve->run, "applying");
    json_object_set_new(ve->run, "restart_rows", ve_apply_restart_rows(&ve->params));
    if (param_set_get(&ve->params, "memory.dedup").n)
        ve_sysctls_dedup(node);
    ve->weight = 0;
    CPU_ZERO(&ve->cores_written);
    ve->cores_owned = false;
    ve_guarantee_settle(node); /* others may have changed since its worker was forked */
    return ve_move(ve, VE_EV_STARTED, job, err);
}

static void mark_broken(struct ve *ve, struct job *job, const char *why)
{
    struct err e;
    json_object_set_new(ve->run, "broken", json_string(why));
    if (ve_state_next(ve->state, VE_EV_BREAK) != VE_STATE__COUNT &&
        ve_move(ve, VE_EV_BREAK, job, &e) < 0)
        log_error(ve->rec.name, job->rec.id, "%s", e.text);
}

static void failed_start(struct job *job)
{
    struct err e;
    struct ve *ve = job->ve;
    ve_unwatch_process(ve);
    if (ve->state == VE_STARTING) {
        ve->rec.want = VE_STOPPED;
        if (ve_move(ve, VE_EV_STOPPED, job, &e) < 0)
            log_error(ve->rec.name, job->rec.id, "%s", e.text);
    }
}

/* ---- stop, kill, and what is left after an end ---- */

static int end_and_clean(struct ve *ve, bool after_crash, struct err *err)
{
    const struct engine_ops *engine = engine_of(ve);
    if (engine->kill(ve, err) < 0 || engine->clean(ve, after_crash, err) < 0)
        return err_wrap(err, "%s: cannot stop", ve->rec.name);
    return 0;
}

static int work_kill(struct job *job, struct err *err)
{
    return end_and_clean(job->ve, job->kind == &job_undo, err);
}

static int work_stop(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    const json_t *t = json_object_get(job->options, "timeout");
    json_int_t seconds = json_is_integer(t) ? json_integer_value(t) : STOP_TIMEOUT_S;
    bool force = json_is_true(json_object_get(job->options, "force"));
    if (ve->pidfd >= 0 && !force && seconds > 0) {
        struct err e = {0};
        job_progress(job, -1, "asking it to shut down");
        engine_of(ve)->freeze(ve, false, &e); /* a paused VE has to run to shut down */
        int r = engine_of(ve)->shutdown(ve, (int)(seconds > 86400 ? 86400 : seconds) * 1000, &e);
        if (r < 0)
            job_progress(job, -1, "did not shut down in time; killing it");
        job->result[0] = r < 0;
    }
    return end_and_clean(ve, false, err);
}

static int done_stop(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    struct err e;
    if (!ve->gone)
        ve_first_process_ended(ve);
    if (keep_drop(ve->node->keep, ve->rec.id, &e) < 0 && e.kind != ERR_NOT_FOUND)
        log_warn(ve->rec.name, job->rec.id, "%s", e.text);
    ve_unwatch_process(ve);
    json_object_del(ve->run, "pid");
    json_object_del(ve->run, "started");
    json_object_del(ve->run, "broken");
    if (job->result[0])
        json_object_set_new(json_object_get(ve->run, "last_exit"), "reason",
                            json_string("killed after it did not shut down in time"));
    if (ve->state == VE_STOPPED)
        return 0;
    return ve_move(ve, VE_EV_STOPPED, job, err);
}

static void failed_stop(struct job *job)
{
    if (job->ve->state == VE_STOPPING)
        mark_broken(job->ve, job, job->rec.error ? job->rec.error : "cannot stop");
}

static int done_restart(struct job *job, struct err *err)
{
    if (done_stop(job, err) < 0)
        return -err->kind;
    job_continue(job, job_kind_find("start", NULL));
    return 1;
}

/* ---- a VE that ended by itself ---- */

static bool wants_restart(struct ve *ve)
{
    const json_t *x = json_object_get(ve->run, "last_exit");
    const char *how = json_string_value(json_object_get(x, "how"));
    const char *policy = json_string_value(json_object_get(ve->spec, "restart"));
    bool good = json_integer_value(json_object_get(x, "status")) == 0;
    return str_eq(how, "reboot") || str_eq(policy, "always") ||
           (str_eq(policy, "on-failure") && !good);
}

static void on_restart_timer(uv_timer_t *t)
{
    struct ve *ve = t->data;
    struct err e;
    int64_t id;
    ve_handle_close(&ve->restart_timer);
    if (ve->state == VE_STOPPED && !ve->job && !ve->node->stopping &&
        ve_job_begin(ve->node, "start", ve->rec.name, NULL, &id, &e) < 0)
        log_error(ve->rec.name, 0, "cannot restart: %s", e.text);
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
    if (done_stop(job, err) < 0)
        return -err->kind;
    if (again)
        schedule_restart(ve, ran);
    return 0;
}

void ve_exited(struct ve *ve)
{
    struct err e;
    int64_t id;
    const struct job_kind *kind = job_kind_find("exit", NULL);
    if (job_begin(ve->node, kind, ve->rec.name, ve, NULL, &id, &e) < 0)
        log_error(ve->rec.name, 0, "cannot clean up after its end: %s", e.text);
}

/* ---- pause ---- */

static int work_pause(struct job *job, struct err *err)
{
    if (engine_of(job->ve)->freeze(job->ve, true, err) < 0) {
        struct err ignored;
        engine_of(job->ve)->freeze(job->ve, false, &ignored);
        return err_wrap(err, "%s: cannot pause", job->ve->rec.name);
    }
    return 0;
}

static int work_resume(struct job *job, struct err *err)
{
    if (engine_of(job->ve)->freeze(job->ve, false, err) < 0)
        return err_wrap(err, "%s: cannot resume", job->ve->rec.name);
    return 0;
}

static int done_pause(struct job *job, struct err *err)
{
    return ve_move(job->ve, VE_EV_PAUSE, job, err);
}

static int done_resume(struct job *job, struct err *err)
{
    return ve_move(job->ve, VE_EV_RESUME, job, err);
}

/* ---- destroy ---- */

static int work_destroy(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    char log[48];
    if (ve->state != VE_STOPPED && end_and_clean(ve, false, err) < 0)
        return -err->kind;
    if (storage_remove(ve->node->pool, ve->rec.id, err) < 0)
        return err_wrap(err, "%s: cannot destroy", ve->rec.name);
    str_print(log, sizeof(log), "%" PRId64 ".log", ve->rec.id);
    unlinkat(ve->node->logs_fd, log, 0);
    str_print(log, sizeof(log), "%" PRId64 ".log.1", ve->rec.id);
    unlinkat(ve->node->logs_fd, log, 0);
    return 0;
}

static int done_destroy(struct job *job, struct err *err)
{
    struct ve *ve = job->ve;
    struct ve_node *node = ve->node;
    if (registry_ve_delete(node->registry, ve->rec.id, err) < 0)
        return err_wrap(err, "%s", ve->rec.name);
    keep_drop(node->keep, ve->rec.id, &(struct err){0});
    json_array_append_new(node->pending, json_pack("{s:s, s:s, s:I}", "type", "ve.destroyed", "ve",
                                                   ve->rec.name, "job", (json_int_t)job->rec.id));
    job->ve = NULL;
    ve_node_forget(ve);
    ve_guarantee_settle(node);
    ve_trash_later(node);
    return 0;
}

static void failed_destroy(struct job *job)
{
    struct err e;
    job->ve->rec.want = VE_STOPPED;
    if (ve_record_save(job->ve, &e) < 0)
        log_error(job->ve->rec.name, job->rec.id, "%s", e.text);
}

static bool has_trash(struct ve_node *node)
{
    return storage_has_trash(node->pool) || template_has_trash(node->templates);
}

static void trash_begin(struct ve_node *node)
{
    if (node->trash_pid || node->closing || !has_trash(node))
        return;
    pid_t pid = ve_fork(node, NULL, 0, true);
    if (pid == 0) {
        setpriority(PRIO_PROCESS, 0, 19);
        syscall(SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, 3 << 13 /* IOPRIO_CLASS_IDLE */);
        storage_empty_trash(node->pool, &(struct err){0});
        template_empty_trash(node->templates, &(struct err){0});
        _exit(0);
    }
    node->trash_pid = pid > 0 ? pid : 0;
}

static void on_trash_timer(uv_timer_t *t)
{
    struct ve_node *node = t->data;
    ve_handle_close(&node->trash_timer);
    trash_begin(node);
}

void ve_trash_later(struct ve_node *node)
{
    if (node->trash_timer || node->closing || !has_trash(node))
        return;
    node->trash_timer = calloc(1, sizeof(*node->trash_timer));
    if (!node->trash_timer)
        return;
    uv_timer_init(node->loop, node->trash_timer);
    node->trash_timer->data = node;
    uv_timer_start(node->trash_timer, on_trash_timer, TRASH_DELAY_MS, 0);
}

/* ---- templates ---- */

static int template_step(void *ctx, int percent, const char *text)
{
    return job_progress(ctx, percent, text);
}

static struct template_request request_of(struct job *job)
{
    return (struct template_request){
        .name = job->rec.subject,
        .source = json_string_value(json_object_get(job->options, "import")),
        .progress = template_step,
        .ctx = job,
    };
}

static int work_template_build(struct job *job, struct err *err)
{
    struct template_request rq = request_of(job);
    const json_t *include = json_object_get(job->options, "include");
    auto_str struct str list = str_init(65536);
    size_t i;
    json_t *item;
    json_array_foreach(include, i, item)
        str_add(&list, "%s%s", i ? "," : "", json_string_value(item));
    rq.include = list.len ? str_c(&list) : NULL;
    return template_build(job->node->templates,
                          json_string_value(json_object_get(job->options, "build")), &rq, err);
}

static int work_template_import(struct job *job, struct err *err)
{
    struct template_request rq = request_of(job);
    return template_import(job->node->templates, &rq, err);
}

static int work_template_remove(struct job *job, struct err *err)
{
    auto_free const char **used = NULL;
    size_t n = 0;
    if (ve_used_layers(job->node, &used, &n, err) < 0)
        return -err->kind;
    return template_remove(job->node->templates, job->rec.subject, used, n, err);
}

static int done_template(struct job *job, struct err *err)
{
    json_array_append_new(job->node->pending,
                          json_pack("{s:s, s:s}", "type",
                                    str_eq(job->rec.kind, "template-remove") ? "template.removed"
                                                                             : "template.created",
                                    "template", job->rec.subject));
    return 0;
}

/* A worker that died in the middle leaves a half-made layer. */
static void failed_template(struct job *job)
{
    auto_free const char **used = NULL;
    size_t n = 0;
    struct err e;
    for (size_t i = 0; i < job->node->n_open; i++)
        if (job->node->open[i] != job && !job->node->open[i]->kind->of_ve)
            return; /* another one is at work: its unfinished layer is not ours to remove */
    if (ve_used_layers(job->node, &used, &n, &e) < 0 ||
        template_recover(job->node->templates, used, n, &e) < 0)
        log_error(job->rec.subject, job->rec.id, "%s", e.text);
    ve_trash_later(job->node);
}

/* ---- the table ---- */

#define NO_EVENT VE_EVENT__COUNT
#define AS_IT_IS VE_STATE__COUNT

static const struct job_kind kinds[] = {
    {.name = "start",
     .of_ve = true,
     .limited = true,
     .cancellable = true,
     .event = VE_EV_START,
     .want = VE_RUNNING,
     .work = work_start,
     .done = done_start,
     .failed = failed_start},
    {.name = "stop",
     .of_ve = true,
     .event = VE_EV_STOP,
     .want = VE_STOPPED,
     .work = work_stop,
     .done = done_stop,
     .failed = failed_stop},
    {.name = "restart",
     .of_ve = true,
     .event = VE_EV_STOP,
     .want = VE_RUNNING,
     .work = work_stop,
     .done = done_restart,
     .failed = failed_stop},
    {.name = "kill",
     .of_ve = true,
     .event = VE_EV_STOP,
     .want = VE_STOPPED,
     .work = work_kill,
     .done = done_stop,
     .failed = failed_stop},
    {.name = "exit",
     .of_ve = true,
     .hidden = true,
     .event = VE_EV_STOP,
     .want = AS_IT_IS,
     .work = work_kill,
     .done = done_exit,
     .failed = failed_stop},
    {.name = "pause",
     .of_ve = true,
     .event = NO_EVENT,
     .want = AS_IT_IS,
     .work = work_pause,
     .done = done_pause},
    {.name = "resume",
     .of_ve = true,
     .event = NO_EVENT,
     .want = AS_IT_IS,
     .work = work_resume,
     .done = done_resume},
    {.name = "squeeze",
     .of_ve = true,
     .limited = true,
     .cancellable = true,
     .event = NO_EVENT,
     .want = AS_IT_IS,
     .work = squeeze_work,
     .done = squeeze_done},
    {.name = "destroy",
     .of_ve = true,
     .inline_stopped = true,
     .event = NO_EVENT,
     .want = VE_ABSENT,
     .work = work_destroy,
     .done = done_destroy,
     .failed = failed_destroy},
    {.name = "template-build",
     .limited = true,
     .cancellable = true,
     .event = NO_EVENT,
     .want = AS_IT_IS,
     .work = work_template_build,
     .done = done_template,
     .failed = failed_template},
    {.name = "template-import",
     .limited = true,
     .cancellable = true,
     .event = NO_EVENT,
     .want = AS_IT_IS,
     .work = work_template_import,
     .done = done_template,
     .failed = failed_template},
    {.name = "template-remove",
     .event = NO_EVENT,
     .want = AS_IT_IS,
     .work = work_template_remove,
     .done = done_template},
};

const struct job_kind job_undo = {
    .name = "undo",
    .of_ve = true,
    .hidden = true,
    .event = NO_EVENT,
    .want = AS_IT_IS,
    .work = work_kill,
    .done = done_stop,
    .failed = failed_stop,
};

const struct job_kind *job_kind_find(const char *name, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        if (str_eq(kinds[i].name, name))
            return &kinds[i];
    err_set(err, ERR_USAGE, "there is no operation \"%.40s\"", name);
    return NULL;
}
