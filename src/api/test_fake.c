/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A stand-in for the room ve: one VE, "web1", jobs that take a few milliseconds, and what is said
 * to it while it runs.  What only ever gives one answer is in test_fake_answers.c. */
#include "test_fake.h"

#include "base/fd.h"
#include "base/str.h"
#include "keep/frame.h"

#include <assert.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define JOBS_MAX 64

struct ve_watch {
    struct ve_watch *next;
    struct ve_node *node;
    int64_t job; /* 0: events */
    ve_job_fn on_job;
    ve_event_fn on_event;
    void *ctx;
};

struct ve_node {
    uv_loop_t *loop;
    uv_timer_t timer;
    struct ve_watch *watches;
    struct {
        int64_t id;
        int steps; /* 2: began, 1: half done, 0: ended */
        bool fails;
        char kind[32];
    } jobs[JOBS_MAX];
    size_t n_jobs;
    struct {
        ve_result_fn fn;
        void *ctx;
        int fd;
    } later;
    void (*stopped)(void *ctx);
    void *stopped_ctx;
};

static json_t *job_json(struct ve_node *n, int64_t id)
{
    int steps = n->jobs[id - 1].steps;
    bool fails = n->jobs[id - 1].fails;
    json_t *error = steps || !fails ? json_null()
                                    : json_pack("{s:s,s:s}", "kind", "exhausted", "message",
                                                "web1: there is no room");
    return json_pack("{s:I,s:s,s:s,s:s,s:i,s:o,s:o}", "id", (json_int_t)id, "kind",
                     n->jobs[id - 1].kind, "subject", "web1", "state",
                     steps   ? "running"
                     : fails ? "failed"
                             : "done",
                     "percent", 100 - 50 * steps, "ended", steps ? json_null() : json_integer(99),
                     "error", error);
}

static void tell(struct ve_node *n, const json_t *event)
{
    for (struct ve_watch *w = n->watches, *next; w; w = next) {
        next = w->next;
        if (w->on_event)
            w->on_event(w->ctx, event);
    }
}

static void tell_job(struct ve_node *n, int64_t id)
{
    json_t *job = job_json(n, id);
    bool ended = n->jobs[id - 1].steps == 0;
    for (struct ve_watch **at = &n->watches, *w; (w = *at);) {
        if (w->job != id) {
            at = &w->next;
            continue;
        }
        if (ended)
            *at = w->next;
        else
            at = &w->next;
        w->on_job(w->ctx, job, ended);
        if (ended)
            free(w);
    }
    json_t *event = json_pack("{s:i,s:s,s:o}", "time", 1, "type", "job", "job", job);
    tell(n, event);
    json_decref(event);
}

static void on_step(uv_timer_t *timer)
{
    struct ve_node *n = timer->data;
    bool more = false;
    for (size_t i = 0; i < n->n_jobs; i++) {
        if (n->jobs[i].steps == 0)
            continue;
        n->jobs[i].steps--;
        tell_job(n, n->jobs[i].id);
        more |= n->jobs[i].steps > 0;
    }
    if (n->later.fn) {
        ve_result_fn fn = n->later.fn;
        n->later.fn = NULL;
        if (n->later.fd >= 0)
            (void)!pwrite(n->later.fd, "pulled\n", 7, 0);
        fn(n->later.ctx,
           json_pack("{s:i,s:n,s:s,s:s,s:b,s:b,s:s}", "exit", 0, "signal", "stdout", "hello\n",
                     "stderr", "", "truncated", 0, "archive", 0, "mode", "0640"),
           NULL);
    }
    if (n->stopped) {
        void (*fn)(void *) = n->stopped;
        n->stopped = NULL;
        fn(n->stopped_ctx);
    }
    if (more)
        uv_timer_start(&n->timer, on_step, 10, 0);
}

static void soon(struct ve_node *n)
{
    uv_timer_start(&n->timer, on_step, 10, 0);
}

struct ve_node *fake_open(uv_loop_t *loop)
{
    struct ve_node *n = calloc(1, sizeof(*n));
    n->loop = loop;
    uv_timer_init(loop, &n->timer);
    n->timer.data = n;
    return n;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

size_t fake_close(struct ve_node *n)
{
    size_t left = 0;
    for (struct ve_watch *w = n->watches; w; w = w->next)
        left++;
    uv_close((uv_handle_t *)&n->timer, on_closed);
    return left;
}

int fake_missing(const char *name, struct err *err)
{
    if (strcmp(name, "web1") == 0)
        return 0;
    return err_set(err, ERR_NOT_FOUND, "%s: there is no such VE; did you mean web1?", name);
}

/* ---- the contract ---- */

int ve_list(struct ve_node *n, const char *label, const char *fields, struct str *out,
            struct err *err)
{
    str_add(
        out,
        "[{\"name\":\"web1\",\"label\":\"%s\",\"fields\":\"%s\",\"state\":\"running\",\"usage\":"
        "{\"memory\":4096,\"cpu_usec\":1500000}}]",
        label ? label : "", fields ? fields : "");
    return 0;
}

int ve_show(struct ve_node *n, const char *name, json_t **ret, struct err *err)
{
    int rc = fake_missing(name, err);
    if (rc == 0)
        *ret = json_pack("{s:s}", "name", name);
    return rc;
}

int ve_counters(struct ve_node *n, const char *name, json_t **ret, struct err *err)
{
    int rc = fake_missing(name, err);
    if (rc == 0)
        *ret = json_array();
    return rc;
}

json_t *ve_node_info(struct ve_node *n)
{
    size_t watches = 0;
    for (struct ve_watch *w = n->watches; w; w = w->next)
        watches++;
    return json_pack("{s:s,s:i}", "name", "fake", "watches", (int)watches);
}

json_t *ve_doctor(struct ve_node *n)
{
    return json_pack("{s:[]}", "checks");
}

int ve_create(struct ve_node *n, const json_t *spec, json_t **ret, struct err *err)
{
    if (fake_missing(json_string_value(json_object_get(spec, "name")), NULL) == 0)
        return err_set(err, ERR_EXISTS, "web1: there is one already");
    *ret = json_deep_copy(spec);
    return 0;
}

int ve_update(struct ve_node *n, const char *name, const json_t *changes, json_t **ret,
              struct err *err)
{
    int rc = fake_missing(name, err);
    if (rc == 0)
        *ret = json_deep_copy(changes);
    return rc;
}

int ve_job_begin(struct ve_node *n, const char *kind, const char *subject, const json_t *options,
                 int64_t *ret_job, struct err *err)
{
    if (n->n_jobs == JOBS_MAX)
        return err_set(err, ERR_EXHAUSTED, "too many jobs");
    int64_t id = (int64_t)++n->n_jobs;
    n->jobs[id - 1].id = id;
    n->jobs[id - 1].steps = 2;
    n->jobs[id - 1].fails = strcmp(kind, "pause") == 0;
    snprintf(n->jobs[id - 1].kind, sizeof(n->jobs[0].kind), "%s", kind);
    soon(n);
    *ret_job = id;
    return 0;
}

static int no_job(struct ve_node *n, int64_t id, struct err *err)
{
    return id >= 1 && (size_t)id <= n->n_jobs
               ? 0
               : err_set(err, ERR_NOT_FOUND, "there is no job %lld", (long long)id);
}

int ve_job_show(struct ve_node *n, int64_t id, json_t **ret, struct err *err)
{
    int rc = no_job(n, id, err);
    if (rc == 0)
        *ret = job_json(n, id);
    return rc;
}

int ve_job_list(struct ve_node *n, bool only_open, json_t **ret, struct err *err)
{
    *ret = json_pack("[{s:b}]", "open", only_open);
    return 0;
}

int ve_job_cancel(struct ve_node *n, int64_t id, struct err *err)
{
    return no_job(n, id, err);
}

static int watch(struct ve_node *n, struct ve_watch w, struct ve_watch **ret)
{
    struct ve_watch *copy = malloc(sizeof(*copy));
    *copy = w;
    copy->node = n;
    copy->next = n->watches;
    n->watches = copy;
    *ret = copy;
    return 0;
}

int ve_job_watch(struct ve_node *n, int64_t id, ve_job_fn fn, void *ctx, struct ve_watch **ret,
                 struct err *err)
{
    int rc = no_job(n, id, err);
    if (rc < 0)
        return rc;
    if (n->jobs[id - 1].steps == 0) {
        json_t *job = job_json(n, id);
        fn(ctx, job, true);
        json_decref(job);
        return 0;
    }
    return watch(n, (struct ve_watch){.job = id, .on_job = fn, .ctx = ctx}, ret);
}

int ve_event_watch(struct ve_node *n, ve_event_fn fn, void *ctx, struct ve_watch **ret,
                   struct err *err)
{
    return watch(n, (struct ve_watch){.on_event = fn, .ctx = ctx}, ret);
}

void ve_unwatch(struct ve_watch *w)
{
    if (!w)
        return;
    for (struct ve_watch **at = &w->node->watches; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            free(w);
            return;
        }
}

int ve_exec_check(struct ve_node *n, const char *name, const json_t *request, struct err *err)
{
    return fake_missing(name, err);
}

int ve_exec_stream(struct ve_node *n, const char *name, const json_t *request, int client_fd,
                   void (*done)(void *ctx), void *ctx, struct err *err)
{
    const char *word = json_string_value(json_array_get(json_object_get(request, "command"), 0));
    if (strcmp(word, "fail") == 0)
        return err_set(err, ERR_STATE, "web1: it is stopped");
    int fd = dup(client_fd);
    if (fork() == 0) {
        /* Later than api has let go of its own descriptor. */
        usleep(50 * 1000);
        frame_write(fd, FRAME_STDOUT, word, strlen(word), NULL);
        frame_write(fd, FRAME_EXIT, "\0\0", 2, NULL);
        _exit(0);
    }
    close(fd);
    return 0;
}

static int answer_later(struct ve_node *n, ve_result_fn fn, void *ctx, int fd, struct err *err)
{
    if (n->later.fn)
        return err_set(err, ERR_BUSY, "web1: busy");
    n->later.fn = fn;
    n->later.ctx = ctx;
    n->later.fd = fd;
    soon(n);
    return 0;
}

int ve_exec_collect(struct ve_node *n, const char *name, const json_t *request, ve_result_fn fn,
                    void *ctx, struct err *err)
{
    return answer_later(n, fn, ctx, -1, err);
}

int ve_console_check(struct ve_node *n, const char *name, struct err *err)
{
    return fake_missing(name, err);
}

int ve_console(struct ve_node *n, const char *name, int client_fd, struct err *err)
{
    return frame_write(client_fd, FRAME_STDOUT, "login: ", 7, err);
}

int ve_logs_open(struct ve_node *n, const char *name, int ret_fds[2], struct err *err)
{
    int rc = fake_missing(name, err);
    if (rc < 0)
        return rc;
    for (int i = 0; i < 2; i++) {
        ret_fds[i] = memfd_create("log", MFD_CLOEXEC);
        (void)!write(ret_fds[i], i ? "three\nfour\n" : "one\ntwo\n", i ? 11 : 8);
    }
    return 0;
}

int ve_push(struct ve_node *n, const char *name, const json_t *options, int data_fd,
            ve_result_fn fn, void *ctx, struct err *err)
{
    const char *path, *mode;
    int uid, gid, archive;
    struct err echo = {0};
    assert(json_unpack((json_t *)options, "{s:s,s:s,s:i,s:i,s:b}", "path", &path, "mode", &mode,
                       "uid", &uid, "gid", &gid, "archive", &archive) == 0);
    if (strncmp(path, "/echo", 5) == 0)
        err_set(&echo, ERR_CORRUPT, "%s %s %d %d %s %lld", path, mode, uid, gid,
                archive ? "archive" : "file", (long long)lseek(data_fd, 0, SEEK_END));
    fn(ctx, NULL, echo.kind ? &echo : NULL);
    return 0;
}

void ve_pull_cancel(struct ve_node *n, const void *ctx)
{
}

int ve_pull(struct ve_node *n, const char *name, const json_t *options, int data_fd,
            ve_result_fn fn, void *ctx, struct err *err)
{
    if (strcmp(json_string_value(json_object_get(options, "path")), "/big") == 0) {
        if (ftruncate(data_fd, 3 << 20) == 0)
            fn(ctx, json_pack("{s:b,s:s}", "archive", 1, "mode", "0755"), NULL);
        return 0;
    }
    return answer_later(n, fn, ctx, data_fd, err);
}

void ve_node_stop(struct ve_node *n, bool force, int64_t within_s, void (*done)(void *ctx),
                  void *ctx)
{
    n->stopped = done;
    n->stopped_ctx = ctx;
    soon(n);
}
