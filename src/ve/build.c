/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Application templates: a script runs in a VE of its own on the layers of another template, and
 * what it wrote becomes one more layer.
 *
 * That VE is hidden: it has a record, so that after a crash it is found and taken away, but nobody
 * is told of it.  Its whole life is the job's: it is STARTING from the beginning to the end, and
 * its wish is to be absent.
 */
#include "backup/backup.h"
#include "base/fd.h"
#include "base/name.h"
#include "kernel/process.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/layers.h"
#include "ve/pools.h"
#include "ve/rows.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/wait.h>

#define SCRIPT       "/.terem-build"
#define FULL         (1u << 20) /* fewer bytes are free in a pool that a script filled */
#define OWN_SCRIPT   "/.terem-build.run"
#define TIMEOUT_S    3600
#define LOG_MAX      (16 << 20)
#define SCRIPT_MAX   (256 << 10)
#define MEMORY_LIMIT "2G"
#define PROCESSES    "2000"
#define NO_PACKAGES  125 /* how our script ends then; none of the package managers' own */

/* ---- what is run ---- */

static const char head[] = "exec </dev/null\n"
                           "umask 022\n"
                           "export DEBIAN_FRONTEND=noninteractive\n"
                           "set -e\n"
                           "cd /root 2>/dev/null || cd /\n"
                           /* No service of a package is to begin here (Debian Policy 9.3.3.1). */
                           "if [ -d /usr/sbin ] && [ ! -e /usr/sbin/policy-rc.d ]; then\n"
                           "    printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d\n"
                           "    chmod 755 /usr/sbin/policy-rc.d\n"
                           "    policy=made\n"
                           "fi\n";

static const char install[] =
    "install() {\n"
    "    if command -v apt-get >/dev/null; then\n"
    "        apt-get -qq update\n"
    "        apt-get -qq -y --no-install-recommends install \"$@\"\n"
    "    elif command -v apk >/dev/null; then\n"
    "        apk add --no-cache \"$@\"\n"
    "    elif command -v dnf >/dev/null; then\n"
    "        dnf -y install \"$@\"\n"
    "    else\n"
    "        echo 'there is no package manager in this template that Terem knows (apt-get, apk, "
    "dnf); install with --run'\n"
    "        exit 69\n"
    "    fi\n"
    "}\n";

static const char tail[] =
    "[ -z \"$policy\" ] || rm -f /usr/sbin/policy-rc.d\n"
    /* As the base systems have it (template/debian.c): host keys of each VE's own, and nothing to
     * bring up to date at its first start. */
    "cd /\n" TEMPLATE_HOST_KEYS_SCRIPT
    "if [ -e /etc/.updated ]; then touch -r /usr /etc/.updated /var/.updated; fi\n";

static char *make_script(const json_t *options)
{
    const json_t *include = json_object_get(options, "include");
    auto_str struct str s = str_init(1 << 20);
    size_t i;
    json_t *item;
    str_add(&s, "%s%s", head, install);
    if (json_array_size(include)) {
        str_add(&s, "trap 'exit %d' EXIT\ninstall", NO_PACKAGES);
        json_array_foreach(include, i, item) str_add(&s, " %s", json_string_value(item));
        str_add(&s, "\ntrap - EXIT\n");
    }
    if (json_object_get(options, "run"))
        str_add(&s, "chmod 755 " OWN_SCRIPT "\n" OWN_SCRIPT "\n");
    str_add(&s, "%s", tail);
    return str_steal(&s);
}

/* Of each VE its own, or written at each start, or not worth keeping. */
static bool not_baked(const char *name)
{
    static const char *const gone[] = {
        ".terem-build*", "tmp/*", "run/*", "var/tmp/*", "dev/*", "proc/*", "sys/*",
        /* written at each start */
        "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/.*.terem",
        /* of each VE its own */
        "etc/machine-id", "var/lib/dbus/machine-id", "etc/ssh/ssh_host_*_key",
        "etc/ssh/ssh_host_*_key.pub", "var/lib/systemd/random-seed",
        "var/lib/systemd/credential.secret",
        /* what package managers leave */
        "var/cache/apt/*.bin", "var/cache/apt/archives/*.deb", "var/cache/apt/archives/lock",
        "var/cache/apt/archives/partial/*", "var/lib/apt/lists/*", "var/cache/apk/*",
        "var/cache/dnf/*", "var/cache/ldconfig/aux-cache", "var/log/apt/*", "var/log/dpkg.log",
        "var/log/alternatives.log", "var/log/bootstrap.log"};
    for (size_t i = 0; i < ARRAY_SIZE(gone); i++)
        if (fnmatch(gone[i], name, 0) == 0)
            return true;
    return false;
}

/* ---- in the worker ---- */

struct run {
    struct job *job;
    struct engine_started started;
    int log; /* or -1 */
    size_t logged;
    int64_t deadline;
    char line[160]; /* being read */
    size_t len;
    char last[160]; /* the last one that says something */
};

static void run_done(struct run *r)
{
    cleanup_fd(&r->started.pidfd);
    cleanup_fd(&r->started.console);
    cleanup_fd(&r->started.listener);
    cleanup_fd(&r->log);
}

static void log_name(const char *template, char ret[NAME_SIZE + 24])
{
    str_print(ret, NAME_SIZE + 24, "template-%s.log", template);
}

static void end_line(struct run *r)
{
    auto_str struct str s = str_init(1024);
    if (r->len == 0)
        return;
    str_escape(&s, r->line, r->len);
    str_print(r->last, sizeof(r->last), "%s", str_c(&s));
    r->len = 0;
    job_progress(r->job, -1, r->last);
}

static void take_output(struct run *r, const char *buf, size_t n)
{
    if (r->log >= 0 && r->logged < LOG_MAX && fd_write_all(r->log, buf, n, NULL) == 0)
        r->logged += n;
    for (size_t i = 0; i < n; i++) {
        if (buf[i] == '\n' || buf[i] == '\r')
            end_line(r);
        else if (r->len < sizeof(r->line))
            r->line[r->len++] = buf[i];
    }
}

/* False: nothing more comes. */
static bool read_some(struct run *r)
{
    char buf[16384];
    ssize_t n = read(r->started.console, buf, sizeof(buf));
    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    take_output(r, buf, (size_t)n);
    return n > 0;
}

/* Until the first process has ended.  What it leaves in the console is read afterwards. */
static int watch(struct run *r, struct kernel_exit *ret, struct err *err)
{
    bool open = r->started.console >= 0;
    fd_set_nonblock(r->started.console, NULL);
    for (;;) {
        struct pollfd p[] = {{.fd = open ? r->started.console : -1, .events = POLLIN},
                             {.fd = r->started.pidfd, .events = POLLIN}};
        int64_t left = r->deadline - ve_now_ms();
        if (job_check_cancelled(r->job, err) < 0)
            return -err->kind;
        if (left <= 0)
            return err_set(err, ERR_TIMEOUT,
                           "it did not end in time; give it longer with --timeout");
        if (poll(p, 2, left < 1000 ? (int)left : 1000) < 0 && errno != EINTR)
            return err_sys(err, "cannot wait for it");
        if (p[0].revents)
            open = read_some(r);
        if (p[1].revents && kernel_process_ended(r->started.pidfd, ret))
            break;
    }
    for (struct pollfd p = {.fd = r->started.console, .events = POLLIN};
         open && poll(&p, 1, 0) > 0 && (p.revents & POLLIN);)
        open = read_some(r);
    end_line(r);
    return 0;
}

static int judge(const struct run *r, const struct kernel_exit *x, struct err *err)
{
    struct resource_usage u = {0};
    struct storage_space space;
    char no_room[160];
    const char *name = r->job->rec.subject;
    const json_t *options = r->job->options;
    if (x->known && x->signal == 0 && x->status == 0)
        return 0;
    resource_usage(r->job->node->resources, r->job->ve->rec.id, RESOURCE_OOM_KILLS, &u, NULL);
    bool full = storage_space(ve_pool(r->job->ve), &space, &(struct err){0}) == 0 &&
                space.free_bytes < FULL;
    auto_str struct str how = str_init(64);
    if (x->signal)
        str_add(&how, "the script was killed by signal %d", x->signal);
    else if (x->status == NO_PACKAGES && json_array_size(json_object_get(options, "include")))
        str_add(&how, "the packages could not be installed");
    else
        str_add(&how, "the script ended with status %d", x->status);
    str_print(no_room, sizeof(no_room),
              " when pool %s had no space or no inodes left (remove VEs or snapshots in it)",
              ve_pool_name(r->job->ve));
    return err_set(err, ERR_STATE, "%s%s%s%s; terem template log %s shows what it said",
                   str_c(&how),
                   u.oom_kills ? " after its memory ran out (--set memory.limit=…)"
                   : full      ? no_room
                               : "",
                   *r->last ? ": " : "", r->last, name);
}

static int step(void *ctx, const char *what, struct err *err)
{
    job_progress(ctx, -1, what);
    return job_check_cancelled(ctx, err);
}

static int run_script(struct run *r, struct err *err)
{
    struct job *job = r->job;
    static const char *const argv[] = {"/bin/sh", SCRIPT, NULL};
    auto_free char *script = make_script(job->options);
    const struct engine_how how = {
        .step = step,
        .ctx = job,
        .argv = argv,
        .script_path = SCRIPT,
        .script = script,
        .more_path = OWN_SCRIPT,
        .more = json_string_value(json_object_get(job->options, "run")),
    };
    struct kernel_exit x = {0};
    if (!script)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (engine_container.start(job->ve, &how, &r->started, err) < 0)
        return err_wrap(err, "cannot start the VE that it is built in");
    int n = watch(r, &x, err);
    return n < 0 ? n : judge(r, &x, err);
}

/* The tar goes from a process that reads the tree straight into the layer. */
static int pack(struct job *job, const struct template_stack *st, struct template_request *rq,
                struct err *err)
{
    int fds[2], tree = -1, status = 0;
    struct template_stack stack = *st;
    if (storage_open(ve_pool(job->ve), job->ve->rec.id, &tree, err) < 0)
        return -err->kind;
    auto_fd int dir = tree, upper = openat(dir, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (upper < 0 || pipe2(fds, O_CLOEXEC) < 0)
        return err_sys(err, "cannot read what the script wrote");
    const int keep[] = {fds[0], fds[1], upper};
    pid_t pid = ve_fork(job->node, keep, 3, true);
    if (pid == 0) {
        close(fds[0]);
        _exit(backup_layer_write(upper, not_baked, fds[1], NULL) < 0 ? 1 : 0);
    }
    close(fds[1]);
    stack.tar = fds[0];
    int r = pid < 0 ? err_sys(err, "cannot fork")
                    : template_stack(job->node->templates, &stack, rq, err);
    close(fds[0]);
    if (pid > 0 && waitpid(pid, &status, 0) == pid && r == 0 && status)
        return err_set(err, ERR_INTERNAL, "what the script wrote could not be read");
    return r;
}

static char **words(const json_t *array)
{
    char **list = calloc(json_array_size(array) + 1, sizeof(*list));
    for (size_t i = 0; list && i < json_array_size(array); i++)
        list[i] = (char *)json_string_value(json_array_get(array, i));
    return list;
}

/* "K=V" of the base, and over them those of the request; freed as one block and its strings. */
static char **environment(const struct template *base, const json_t *own)
{
    size_t n = 0, k = 0;
    const char *key;
    json_t *value;
    while (base->env && base->env[n])
        n++;
    char **list = calloc(n + json_object_size(own) + 1, sizeof(*list));
    for (size_t i = 0; list && i < n; i++) {
        auto_free char *name = strndup(base->env[i], strcspn(base->env[i], "="));
        if (name && !json_object_get(own, name))
            list[k++] = strdup(base->env[i]);
    }
    json_object_foreach((json_t *)own, key, value) if (list) list[k++] =
        str_format("%s=%s", key, json_string_value(value));
    return list;
}

static void environment_free(char ***list)
{
    for (char **p = *list; p && *p; p++)
        free(*p);
    free(*list);
}

static int commit(struct job *job, struct template *base, struct err *err)
{
    const char *from = json_string_value(json_object_get(job->options, "from"));
    const json_t *command = json_object_get(job->options, "command");
    const json_t *layers = json_object_get(job->ve->spec, "layers");
    base->n_layers = json_array_size(layers); /* those that the script ran on */
    for (size_t i = 0; i < base->n_layers; i++)
        str_print(base->layers[i], TEMPLATE_DIGEST, "%s",
                  json_string_value(json_array_get(layers, i)));
    auto_free char *recipe = ve_recipe_of(job->options), *source = str_format("from %s", from);
    auto_free char **argv = words(command);
    auto_clean(environment_free) char **env =
        environment(base, json_object_get(job->options, "env"));
    if (!recipe || !source || !argv || !env)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    struct template_request rq = {
        .name = job->rec.subject,
        .progress = job_progress,
        .ctx = job,
        .recipe = recipe,
        .replace = json_is_true(json_object_get(job->options, "update")),
    };
    const struct template_stack st = {
        .base = base,
        .command = json_array_size(command) ? argv : NULL,
        .env = env,
        .source = source,
    };
    return pack(job, &st, &rq, err);
}

static int work_build(struct job *job, struct err *err)
{
    const json_t *timeout = json_object_get(job->options, "timeout");
    int64_t seconds = json_is_integer(timeout) ? json_integer_value(timeout) : TIMEOUT_S;
    auto_clean(run_done) struct run r = {.job = job, .started = {-1, -1, -1, 0}, .log = -1};
    struct err left = {0};
    auto_template struct template *base = NULL;
    char file[NAME_SIZE + 24];
    /* As it is now; it may be removed before the script ends. */
    if (template_get(job->node->templates, json_string_value(json_object_get(job->options, "from")),
                     &base, err) < 0)
        return err_wrap(err, "%s: cannot build the template", job->rec.subject);
    log_name(job->rec.subject, file);
    r.log = openat(job->node->logs_fd, file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                   0600);
    r.deadline = ve_now_ms() + seconds * 1000;
    int n = run_script(&r, err);
    /* In any case nothing of it goes on. */
    if (engine_container.kill(job->ve, false, &left) < 0 ||
        engine_container.clean(job->ve, true, &left) < 0) {
        if (n == 0)
            *err = left;
        n = n < 0 ? n : -left.kind;
    }
    if (n == 0)
        n = commit(job, base, err);
    if (n == 0)
        unlinkat(job->node->logs_fd, file, 0);
    return n < 0 ? err_wrap(err, "%s: cannot build the template", job->rec.subject) : 0;
}

/* ---- in teremd ---- */

static int done_build(struct job *job, struct err *err)
{
    json_array_append_new(job->node->pending,
                          json_pack("{s:s, s:s}", "type",
                                    json_is_true(json_object_get(job->options, "update"))
                                        ? "template.updated"
                                        : "template.created",
                                    "template", job->rec.subject));
    return ve_move(job->ve, VE_EV_STOPPED, job, err);
}

static void failed_build(struct job *job)
{
    life_start_failed(job);
    ve_trash_later(job->node);
}

/* Not in the table of kinds: ve_build_begin() alone makes what they need. */
static const struct job_kind job_build = {
    .name = "template-build",
    .limited = true,
    .cancellable = true,
    .layers = true,
    .event = VE_EV_START,
    .want = JOB_AS_IT_IS,
    .work = work_build,
    .done = done_build,
    .failed = failed_build,
};

static const struct job_kind job_build_again = {
    .name = "template-update",
    .limited = true,
    .cancellable = true,
    .layers = true,
    .event = VE_EV_START,
    .want = JOB_AS_IT_IS,
    .work = work_build,
    .done = done_build,
    .failed = failed_build,
};

/* Bounded, whatever the script does; what this node cannot bound is left out. */
static int params_of(struct ve_node *node, const json_t *options, json_t **ret,
                     struct param_set *set, struct err *err)
{
    static const struct {
        const char *key, *value;
    } bounds[] = {{"memory.limit", MEMORY_LIMIT}, {"processes", PROCESSES}};
    char why[200];
    json_t *params = json_object();
    *ret = params;
    for (size_t i = 0; i < ARRAY_SIZE(bounds); i++)
        if (ve_param_here(node, param_find(bounds[i].key), why, sizeof(why)))
            json_object_set_new(params, bounds[i].key, json_string(bounds[i].value));
    if (ve_params_merge(params, json_object_get(options, "params"), err) < 0 ||
        ve_params_parse(params, set, err) < 0 || ve_apply_check(node, set, err) < 0)
        return -err->kind;
    return ve_guarantee_admit(node, NULL, set, err);
}

static json_t *spec_of(const struct template *base, const json_t *options, json_t *params)
{
    json_t *layers = json_array(), *env = json_object();
    for (size_t i = 0; i < base->n_layers; i++)
        json_array_append_new(layers, json_string(base->layers[i]));
    for (char **p = base->env; p && *p; p++) {
        auto_free char *key = strndup(*p, strcspn(*p, "="));
        if (key && strchr(*p, '='))
            json_object_set_new(env, key, json_string(strchr(*p, '=') + 1));
    }
    json_object_update(env, json_object_get(options, "env"));
    return json_pack("{s:s, s:s, s:o, s:s, s:s, s:n, s:o, s:n, s:n, s:O, s:{}, s:s, s:b, s:b}",
                     "kind", "system", "template", base->name, "layers", layers, "init", "none",
                     "init_path", "/bin/sh", "command", "env", env, "user", "workdir", "params",
                     params, "labels", "restart", "no", "autostart", 0, "nesting", 0);
}

static int check_text(const json_t *options, struct err *err)
{
    const json_t *run = json_object_get(options, "run"), *t = json_object_get(options, "timeout");
    if (!json_array_size(json_object_get(options, "include")) && !run)
        return err_set(err, ERR_USAGE, "a template from another one needs a script or packages");
    if (run && (!json_is_string(run) || json_string_length(run) > SCRIPT_MAX ||
                strlen(json_string_value(run)) != json_string_length(run)))
        return err_set(err, ERR_USAGE, "run must be the text of a script of at most %d KiB",
                       SCRIPT_MAX >> 10);
    if (t && (!json_is_integer(t) || json_integer_value(t) < 1))
        return err_set(err, ERR_USAGE, "timeout must be a number of seconds");
    return 0;
}

int ve_build_begin(struct ve_node *node, const char *name, const json_t *options, int64_t *ret_job,
                   struct err *err)
{
    const char *from = json_string_value(json_object_get(options, "from"));
    auto_template struct template *base = NULL;
    struct param_set set;
    struct ve *ve = NULL;
    char hidden[NAME_SIZE];
    json_t *params = NULL;
    if (check_text(options, err) < 0 || ve_record_lists_check(options, err) < 0)
        return -err->kind;
    if (template_get(node->templates, from, &base, err) < 0)
        return err_wrap(err, "%s", name);
    if (params_of(node, options, &params, &set, err) < 0) {
        json_decref(params);
        return err_wrap(err, "%s", name);
    }
    json_t *spec = spec_of(base, options, params);
    json_decref(params);
    int64_t n = ve_now_ms();
    do
        str_print(hidden, sizeof(hidden), ".build-%" PRId64, n++);
    while (ve_find(node, hidden));
    if (!spec)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (ve_add_new(node, hidden, spec, &set, &ve, err) < 0)
        return err_wrap(err, "%s: cannot build the template", name);
    const struct job_kind *kind =
        json_is_true(json_object_get(options, "update")) ? &job_build_again : &job_build;
    if (job_begin(node, kind, name, ve, options, ret_job, err) < 0) {
        ve_hidden_forget(ve);
        return -err->kind;
    }
    return 0;
}

int ve_template_log_open(struct ve_node *node, const char *name, int *ret_fd, struct err *err)
{
    char file[NAME_SIZE + 24];
    if (name_check_template(name, err) < 0)
        return -err->kind;
    log_name(name, file);
    *ret_fd = openat(node->logs_fd, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (*ret_fd >= 0)
        return 0;
    return errno == ENOENT
               ? err_set(err, ERR_NOT_FOUND,
                         "template %s: there is no log; one is kept when a script fails", name)
               : err_sys(err, "cannot open the log of template %s", name);
}
