/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening and closing the node: lock, registry, rooms, children, and the stop of everything. */
#include "base/fd.h"
#include "base/path.h"
#include "ve/address.h"
#include "ve/beside.h"
#include "ve/instance.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/layers.h"
#include "ve/net.h"
#include "ve/pools.h"
#include "ve/private.h"
#include "ve/publish.h"
#include "ve/rows.h"
#include "ve/saved.h"
#include "ve/setup.h"
#include "ve/sleep.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define LOCK_FD    512 /* far above what rooms hold: workers close it */
#define WORKERS_S  10  /* those of a teremd that was killed are waited for so long, */
#define WORKERS_MS 2   /* looked for so often */

/* ---- children ---- */

static struct ve *ve_of_pid(struct ve_node *node, pid_t pid)
{
    for (size_t i = 0; i < node->n_ves; i++)
        if (node->ves[i]->pidfd >= 0 && !node->ves[i]->gone &&
            json_integer_value(json_object_get(node->ves[i]->run, "pid")) == pid)
            return node->ves[i];
    return NULL;
}

/* teremd is a subreaper, so every process whose parent has ended comes here too. */
static void on_sigchld(uv_signal_t *handle, int sig)
{
    struct ve_node *node = handle->data;
    for (;;) {
        siginfo_t si = {0};
        int status = 0;
        /* Looked at first: how a VE's first process ended is read by its descriptor. */
        if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == 0)
            return;
        bool worker = job_is_worker(node, si.si_pid);
        struct ve *ve = worker ? NULL : ve_of_pid(node, si.si_pid);
        if (!ve && !worker) { /* the worker that left it to us has told of it, but nobody has
                                 listened yet */
            job_hear_workers(node);
            ve = ve_of_pid(node, si.si_pid);
        }
        if (ve) {
            ve_first_process_ended(ve);
            if (ve_of_pid(node, si.si_pid) != ve)
                continue;
        }
        pid_t pid = waitpid(si.si_pid, &status, WNOHANG);
        if (pid <= 0)
            continue;
        if (pid == node->trash_pid) {
            ve_trash_ended(node, status);
        } else if (!lxcfs_child_ended(node, pid) && !ve_bpf_child_ended(node, pid) &&
                   !ve_sleep_child_ended(node, pid)) {
            session_child_ended(node, pid);
            job_child_ended(node, pid, status);
        }
    }
}

static int watch_children(struct ve_node *node, struct err *err)
{
    node->sigchld = calloc(1, sizeof(*node->sigchld));
    if (!node->sigchld)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    uv_signal_init(node->loop, node->sigchld);
    node->sigchld->data = node;
    uv_signal_start(node->sigchld, on_sigchld, SIGCHLD);
    return 0;
}

/* ---- opening ---- */

/* A lock of fcntl(2) is the process's own: a forked worker that has not died yet, when teremd was
 * killed, does not hold it, as it would one of flock(2). */
static int lock_file(int fd, const char *state, struct err *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_SETLK, &lock) == 0)
        return 0;
    if (errno != EACCES && errno != EAGAIN)
        return err_sys(err, "cannot lock %s/lock", state);
    if (fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
        lock.l_pid = 0;
    return err_set(err, ERR_BUSY, "another teremd (process %d) serves %s; stop it first",
                   (int)lock.l_pid, state);
}

/* Workers die with teremd, but not within a call into the kernel that waits for others: what such a
 * one still makes recovery would not see.  They all hold this lock, which is their open file's. */
static int wait_for_workers(struct ve_node *node, struct err *err)
{
    node->workers_fd =
        openat(node->state_fd, "workers", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (node->workers_fd < 0)
        return err_sys(err, "cannot open %s/workers", node->config.place.state);
    for (int ms = 0; flock(node->workers_fd, LOCK_EX | LOCK_NB) < 0; ms += WORKERS_MS) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return err_sys(err, "cannot lock %s/workers", node->config.place.state);
        if (ms >= WORKERS_S * 1000) {
            log_warn(NULL, 0, "a worker of the teremd before has not ended in %d s", WORKERS_S);
            break;
        }
        usleep(WORKERS_MS * 1000);
    }
    return 0;
}

static int take_lock(struct ve_node *node, struct err *err)
{
    const struct place *p = &node->config.place;
    if (path_make_dirs(p->state, 0700, err) < 0 || path_make_dirs(p->run, 0755, err) < 0)
        return -err->kind;
    auto_fd int state = open(p->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (state < 0)
        return err_sys(err, "cannot open %s", p->state);
    /* Layers hold other people's setuid programs: nobody else may walk in. */
    if (fchmod(state, 0700) < 0)
        return err_sys(err, "cannot protect %s", p->state);
    int fd = openat(state, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_sys(err, "cannot open %s/lock", p->state);
    /* Moved out of the way before it is locked: closing any descriptor of the file unlocks it. */
    node->lock = fcntl(fd, F_DUPFD_CLOEXEC, LOCK_FD);
    close(fd);
    if (node->lock < 0 && errno == EINVAL) /* its number is above the limit */
        return err_set(err, ERR_EXHAUSTED,
                       "teremd needs more than %d open files (ulimit -n); raise LimitNOFILE of "
                       "terem.service",
                       LOCK_FD);
    if (node->lock < 0)
        return err_sys(err, "cannot keep the lock");
    node->state_fd = steal_fd(&state);
    if (lock_file(node->lock, p->state, err) < 0 || wait_for_workers(node, err) < 0)
        return -err->kind;
    if (path_remove_tree_at(node->state_fd, "tmp", err) < 0 ||
        path_make_dir_at(node->state_fd, "tmp", 0700, &node->tmp_fd, err) < 0)
        return err_wrap(err, "%s", p->state);
    return path_make_dir_at(node->state_fd, "logs", 0700, &node->logs_fd, err);
}

static int open_programs(struct ve_node *node, struct err *err)
{
    char path[PLACE_MAX + 32];
    str_print(path, sizeof(path), "%s/terem-init", node->config.libexec);
    node->init_program = open(path, O_RDONLY | O_CLOEXEC);
    if (node->init_program < 0)
        return err_sys(err, "cannot open %s (is Terem installed whole?)", path);
    if (str_print(node->keep_program, sizeof(node->keep_program), "%s/terem-keep",
                  node->config.libexec) < 0 ||
        access(node->keep_program, X_OK) < 0)
        return err_sys(err, "cannot find %s (is Terem installed whole?)", node->keep_program);
    return 0;
}

static int find_instance(struct ve_node *node, struct err *err)
{
    auto_free char *text = NULL;
    char number[16];
    uint64_t wish = 0;
    if (registry_meta_get(node->registry, "instance.number", &text, err) < 0)
        return -err->kind;
    for (const char *p = text; p && *p >= '0' && *p <= '9'; p++)
        wish = wish * 10 + (uint64_t)(*p - '0');
    if (ve_instance_claim(&node->config.place, (unsigned)wish, &node->instance, err) < 0)
        return -err->kind;
    str_print(number, sizeof(number), "%u", node->instance);
    return str_eq(text, number) ? 0
                                : registry_meta_set(node->registry, "instance.number", number, err);
}

/* A VE reads its template's layers and writes its own tree. */
static void use_disks(struct ve_node *node)
{
    auto_free char *layers = str_format("%s/layers", node->config.place.state);
    if (layers)
        resource_use_disk(node->resources, layers);
    for (size_t i = 0; i < node->n_pools; i++)
        ve_pool_use_disk(node, node->pools[i]);
}

static int open_rooms(struct ve_node *node, struct err *err)
{
    const struct ve_config *c = &node->config;
    char cgroup[32] = "terem", pool4[64], pool6[64];
    if (node->instance)
        str_print(cgroup, sizeof(cgroup), "terem-%u", node->instance);
    str_print(pool4, sizeof(pool4), "10.%u.0.0/16", 88 + node->instance);
    str_print(pool6, sizeof(pool6), "fd54:6572:656d:%x::/64", node->instance);
    struct network_config net = {
        .instance = node->instance,
        .pool4 = *c->pool4 ? c->pool4 : pool4,
        .pool6 = *c->pool6 ? c->pool6 : pool6,
        .dns = c->dns,
        .search = c->search,
        .state = c->place.state,
    };
    if (template_store_open(c->place.state, &node->templates, err) < 0 ||
        ve_pools_open(node, err) < 0 || resource_node_open(cgroup, &node->resources, err) < 0 ||
        network_node_open(&net, &node->network, err) < 0)
        return -err->kind;
    if (network_ipv6_why(node->network))
        log_warn(NULL, 0, "VEs have no IPv6: %s", network_ipv6_why(node->network));
    use_disks(node);
    if (ve_bpf_begin(node, err) < 0)
        return -err->kind;
    if (oom_begin(node, cgroup, err) < 0) {
        log_warn(NULL, 0, "processes killed for want of memory are counted, not named: %s",
                 err->text);
        err_clear(err);
    }
    return 0;
}

static void read_boot_id(struct ve_node *node)
{
    auto_free char *text = NULL;
    if (fd_read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, NULL, NULL) == 0)
        str_print(node->boot_id, sizeof(node->boot_id), "%s", str_trim(text));
}

static int open_all(struct ve_node *node, struct err *err)
{
    const struct place *p = &node->config.place;
    if (take_lock(node, err) < 0 || open_programs(node, err) < 0 ||
        registry_open(p->state, &node->registry, err) < 0 || find_instance(node, err) < 0 ||
        open_rooms(node, err) < 0)
        return -err->kind;
    int top = fcntl(node->state_fd, F_DUPFD_CLOEXEC, 0);
    if (top < 0)
        return err_sys(err, "cannot duplicate a descriptor");
    close(top);
    node->fd_floor = top + 16; /* holes that rooms may yet fill; clients come above */
    if (keep_connect(p->keep, node->keep_program, true, &node->keep, err) < 0)
        return err_wrap(err, "cannot reach terem-keep");
    if (registry_warning(node->registry))
        log_warn(NULL, 0, "%s", registry_warning(node->registry));
    read_boot_id(node);
    if (ve_addresses_load(node, err) < 0 || ve_privates_load(node, err) < 0)
        return -err->kind;
    if (network_node_setup(node->network, err) < 0)
        return err_wrap(err, "cannot set up the network");
    if (ve_netshape_open(node, err) < 0)
        return err_wrap(err, "cannot share the uplink");
    if (ve_addresses_lay(node, err) < 0)
        return -err->kind;
    ve_sysctls_raise(node); /* after the rules, which load what has some of them */
    if (lxcfs_begin(node, err) < 0) {
        log_warn(NULL, 0, "VEs see the host's /proc/meminfo and the like: %s", err->text);
        err_clear(err);
    }
    if (watch_children(node, err) < 0)
        return -err->kind;
    if (inside_begin(node, err) < 0) {
        log_warn(NULL, 0, "VEs have no /proc/fs/user_beancounters: %s", err->text);
        err_clear(err);
    }
    if (answer_begin(node, err) < 0 || ve_recover(node, err) < 0)
        return -err->kind;
    lxcfs_recovered(node);
    ve_netlimit_begin(node);
    ve_pool_watch(node);
    ve_netcount_begin(node);
    if (ve_usage_begin(node, err) < 0)
        return -err->kind;
    ve_netshape_begin(node);
    ve_sleep_begin(node);
    ve_setup_begin(node);
    ve_bpf_listen(node);
    if (answer_serve(node, err) < 0) {
        answer_end(node);
        log_warn(NULL, 0, "sysinfo(2) inside VEs tells about the machine: %s", err->text);
        err_clear(err);
    }
    keeper_watch(node);
    schedule_run(node);
    backup_expire(node);
    return 0;
}

int ve_node_open(uv_loop_t *loop, const struct ve_config *config, struct ve_node **ret,
                 struct err *err)
{
    struct ve_node *node = calloc(1, sizeof(*node));
    if (!node)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    node->loop = loop;
    node->config = *config;
    node->lock = node->state_fd = node->tmp_fd = node->logs_fd = node->init_program = -1;
    node->workers_fd = -1;
    node->pending = json_array();
    node->alike = json_object();
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    node->workers_max =
        config->workers_max ? config->workers_max : (size_t)(cpus < 1 ? 2 : 2 * cpus);
    if (open_all(node, err) < 0) {
        struct err e = *err;
        ve_node_close(node);
        *err = e;
        return -err->kind;
    }
    *ret = node;
    return 0;
}

void ve_node_close(struct ve_node *node)
{
    if (!node)
        return;
    node->closing = true;
    job_stop_all(node);
    keeper_unwatch(node);
    ve_handle_close(&node->refused_timer);
    ve_handle_close(&node->grace_timer);
    ve_handle_close(&node->pool_timer);
    ve_handle_close(&node->stop_timer);
    ve_handle_close(&node->settle_timer);
    ve_handle_close(&node->alike_timer);
    answer_end(node);
    ve_netlimit_end(node);
    inside_end(node, false);
    ve_usage_end(node);
    ve_sleep_end(node);
    density_end(node);
    while (node->n_ves)
        ve_node_forget(node->ves[node->n_ves - 1]);
    free(node->ves);
    if (node->trash_pid) {
        kill(node->trash_pid, SIGKILL);
        waitpid(node->trash_pid, NULL, 0);
    }
    ve_handle_close(&node->trash_timer);
    ve_handle_close(&node->schedule_timer);
    backup_end(node);
    ve_handle_close(&node->sigchld);
    lxcfs_end(node, false);
    oom_end(node);
    refusal_end(node);
    ve_bpf_end(node);
    for (struct ve_watch *w = node->watches; w; w = w->next)
        w->dead = true;
    ve_watches_sweep(node);
    while (node->sessions) {
        struct session *s = node->sessions;
        node->sessions = s->next;
        session_free(s);
    }
    keep_close(node->keep);
    network_node_close(node->network);
    resource_node_close(node->resources);
    ve_pools_close(node);
    template_store_close(node->templates);
    registry_close(node->registry);
    param_shelf_done(&node->shelf);
    json_decref(node->profiles);
    json_decref(node->alike);
    ve_classes_done(node);
    ve_addresses_done(node);
    ve_privates_done(node);
    ve_publish_done(node);
    json_decref(node->pending);
    json_decref(node->left);
    json_decref(node->last_ended);
    ve_late_done(node);
    cleanup_fd(&node->init_program);
    cleanup_fd(&node->logs_fd);
    cleanup_fd(&node->tmp_fd);
    cleanup_fd(&node->state_fd);
    cleanup_fd(&node->lock);
    cleanup_fd(&node->workers_fd);
    free(node);
}

/* ---- the stop of everything ---- */

static bool is_up(const struct ve *ve)
{
    return ve->state != VE_STOPPED && ve->state != VE_ABSENT && ve->state != VE_BROKEN;
}

/* Called after each job's end while the node stops: asks those still up, once each. */
void ve_node_stop_step(struct ve_node *node)
{
    struct err e;
    size_t up = 0;
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        int64_t id;
        if (!is_up(ve))
            continue;
        up++;
        if (ve->job)
            continue;
        if (ve_job_begin(node, node->stop_force ? "kill" : "stop", ve->rec.name, NULL, &id, &e) < 0)
            log_error(ve->rec.name, 0, "%s", e.text);
    }
    if (up || node->n_open || !node->stop_done)
        return;
    /* The next start is as after the machine's: those with autostart are started. */
    if (registry_meta_set(node->registry, "boot", "", &e) < 0)
        log_error(NULL, 0, "%s", e.text);
    lxcfs_end(node, true);
    inside_end(node, true);
    ve_usage_flush(node); /* their counters go */
    if (network_node_remove(node->network, &e) < 0)
        log_error(NULL, 0, "%s", e.text);
    ve_bpf_remove(node);
    if (resource_node_remove(node->resources, &e) < 0)
        log_error(NULL, 0, "%s", e.text);
    if (keep_quit(node->keep, &e) < 0)
        log_error(NULL, 0, "%s", e.text);
    ve_pools_unmount(node);
    ve_instance_release(&node->config.place, node->instance);
    ve_sysctls_put_back(node);
    void (*done)(void *) = node->stop_done;
    node->stop_done = NULL;
    done(node->stop_ctx);
}

#define STOP_LAST_MS 2000 /* of the time: for kills, mounts and the network, */
#define STOP_EACH_MS 10   /* and for what each VE leaves to be taken away, */
#define STOP_PART    2    /* but never more than one part in so many */

uint64_t ve_node_stop_kills(const struct ve_node *node)
{
    return node->stop_timer ? uv_now(node->loop) + uv_timer_get_due_in(node->stop_timer)
                            : UINT64_MAX;
}

/* What is at work for a VE that is down, or for none. */
static void end_the_rest(struct ve_node *node)
{
    for (size_t i = node->n_open; i-- > 0;) {
        struct job *job = i < node->n_open ? node->open[i] : NULL; /* others may go with one */
        if (!job || (job->ve && is_up(job->ve)))
            continue;
        if (job->state == JOB_QUEUED) {
            ve_job_cancel(node, job->rec.id, &(struct err){0});
        } else if (job->pid) {
            job->cancelled = true;
            job_kill_worker(job);
        }
    }
}

/* Also jobs of which a VE's stop would wait: what they leave is dealt with as after a crash. */
static void on_stop_timer(uv_timer_t *t)
{
    struct ve_node *node = t->data;
    struct err e;
    int64_t id;
    log_warn(NULL, 0, "the time to stop is nearly over: what still runs is killed");
    node->stop_force = true;
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        if (!is_up(ve) || !ve->job || asking_late(ve->job) ||
            ve_job_begin(node, job_kill.name, ve->rec.name, NULL, &id, &e) == 0)
            continue;
        if (!ve->job)
            continue;
        ve->job->cancelled = true;
        job_kill_worker(ve->job);
    }
    end_the_rest(node);
    ve_node_stop_step(node);
}

static void stop_in_time(struct ve_node *node, int64_t within_s)
{
    uint64_t all = (uint64_t)within_s * 1000, last = STOP_LAST_MS + STOP_EACH_MS * node->n_ves;
    uint64_t ms = all - (last > all / STOP_PART ? all / STOP_PART : last);
    if (within_s == 0)
        return;
    uv_update_time(node->loop);
    if (node->stop_timer) { /* 0: it is over */
        if (uv_timer_get_due_in(node->stop_timer) <= ms)
            return;
    } else if ((node->stop_timer = calloc(1, sizeof(*node->stop_timer)))) {
        uv_timer_init(node->loop, node->stop_timer);
        node->stop_timer->data = node;
    }
    if (node->stop_timer)
        uv_timer_start(node->stop_timer, on_stop_timer, ms, 0);
}

json_t *ve_node_left(const struct ve_node *node)
{
    return node->left ? json_incref(node->left) : json_array();
}

static void stop_begin(struct ve_node *node, void (*done)(void *ctx), void *ctx)
{
    node->stopping = true;
    node->stop_done = done;
    node->stop_ctx = ctx;
    for (size_t i = node->n_open;
         i-- > 0;) /* one that has not begun goes at once, or others with it */
        if (i < node->n_open && (!node->open[i]->ve || ve_hidden(node->open[i]->ve)))
            ve_job_cancel(node, node->open[i]->rec.id, &(struct err){0});
}

void ve_node_stop(struct ve_node *node, bool force, int64_t within_s, void (*done)(void *ctx),
                  void *ctx)
{
    node->stop_force |= force;
    stop_in_time(node, within_s);
    if (!node->stopping)
        stop_begin(node, done, ctx);
    for (size_t i = 0; force && i < node->n_ves; i++) /* nobody waits for what was asked before */
        if (node->ves[i]->job && node->ves[i]->job->kind->event == VE_EV_STOP &&
            node->ves[i]->job->kind != &job_kill)
            ve_job_begin(node, job_kill.name, node->ves[i]->rec.name, NULL, &(int64_t){0},
                         &(struct err){0});
    ve_node_stop_step(node);
}
