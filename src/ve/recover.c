/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * After any end of teremd: compares the registry with the kernel, adopts what runs, finishes or
 * undoes what was half done, and removes what belongs to nobody.
 *
 * No worker is left: they die with teremd.  Whatever is in the kernel under this instance's names
 * is either a VE of the registry or an orphan.
 */
#include "base/fd.h"
#include "ve/address.h"
#include "ve/beside.h"
#include "ve/bulk.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/layers.h"
#include "ve/net.h"
#include "ve/pools.h"
#include "ve/private.h"
#include "ve/publish.h"
#include "ve/rows.h"
#include "ve/saved.h"

#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <sys/resource.h>

#define FDS_EACH   3  /* of a VE that runs: its first process, its calls, its counters */
#define FDS_SPARED 64 /* for what is at work, and a few clients */

static int load_one(void *ctx, const struct registry_ve *rec, struct err *err)
{
    struct ve_node *node = ctx;
    struct ve *ve = NULL;
    if (ve_record_load(node, rec, &ve, err) < 0 || ve_node_add(node, ve, err) < 0)
        return -err->kind;
    return 0;
}

struct interrupted {
    struct registry_job *list;
    size_t n;
    bool bulk; /* those over many VEs, or all others */
};

static int collect_job(void *ctx, const struct registry_job *j, struct err *err)
{
    struct interrupted *x = ctx;
    if (str_eq(j->kind, job_bulk.name) != x->bulk)
        return 0;
    struct registry_job *p = realloc(x->list, (x->n + 1) * sizeof(*p));
    if (!p)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    x->list = p;
    p[x->n] = *j;
    p[x->n].request = j->request ? strdup(j->request) : NULL;
    p[x->n].error = NULL;
    x->n++;
    return 0;
}

/* Either tree may be there: it is done again when the VE is dealt with. */
static void keep_rollback(struct ve_node *node, const struct registry_job *j)
{
    struct ve *ve = str_eq(j->kind, job_rollback.name) && j->started ? ve_by_id(node, j->ve) : NULL;
    json_error_t je;
    if (!ve || !j->request)
        return;
    json_decref(ve->redo);
    ve->redo = json_loads(j->request, 0, &je);
}

/* Whether one that was stopping shall run again is for whoever had asked for that, and not for its
 * restart policy, where its processes have ended meanwhile. */
static void keep_asked(struct ve_node *node, const struct registry_job *j)
{
    struct ve *ve = ve_by_id(node, j->ve);
    if (ve && j->started && !str_eq(j->kind, job_exit.name))
        ve->asked = true;
}

/* One that waited for a start, and whose turn never came, is still what was asked last. */
static void keep_waiting_stop(struct ve_node *node, const struct registry_job *j)
{
    struct ve *ve = ve_by_id(node, j->ve);
    if (ve && !j->started && ve->rec.want == VE_RUNNING &&
        (str_eq(j->kind, job_stop.name) || str_eq(j->kind, job_kill.name))) {
        ve->rec.want = VE_STOPPED;
        ve->stop_waited = true;
    }
}

/* A disk that is full keeps nobody from their daemon: what cannot be recorded is told, and recorded
 * when there is room. */
static int go_on_without(struct ve_node *node, const char *what, struct err *err)
{
    ve_rollback(node);
    if (err->kind != ERR_EXHAUSTED)
        return -err->kind;
    log_error(NULL, 0, "cannot record %s yet: %s", what, err->text);
    err_clear(err);
    return 0;
}

/* Jobs that nobody is at work on any more end as failed; what they were for is dealt with by the
 * VE's wanted state. */
static int close_jobs(struct ve_node *node, struct err *err)
{
    struct interrupted x = {0};
    int r = registry_job_each(node->registry, true, 100000, collect_job, &x, err);
    for (size_t i = 0; i < x.n; i++) {
        keep_rollback(node, &x.list[i]);
        keep_asked(node, &x.list[i]);
        keep_waiting_stop(node, &x.list[i]);
        x.list[i].state = JOB_FAILED;
        x.list[i].ended = ve_now_ms();
        x.list[i].error_kind = ERR_UNAVAILABLE;
        x.list[i].error = strdup("teremd ended while it was at work");
    }
    if (r == 0 && x.n)
        r = ve_begin(node, err);
    for (size_t i = 0; i < x.n && r == 0; i++)
        r = registry_job_update(node->registry, &x.list[i], err);
    if (r == 0 && x.n)
        r = ve_commit(node, err);
    if (r < 0 && (r = go_on_without(node, "the ends of jobs that were cut off", err)) == 0)
        for (size_t i = 0; i < x.n; i++)
            ve_job_late(node, &x.list[i]);
    for (size_t i = 0; i < x.n; i++)
        registry_job_done(&x.list[i]);
    free(x.list);
    return r;
}

static int record_boot(struct ve_node *node, struct err *err)
{
    if (registry_meta_set(node->registry, "boot", node->boot_id, err) == 0)
        return 0;
    ve_boot_late(node);
    return go_on_without(node, "that the machine was started", err);
}

/* Those over many VEs go on. */
static int resume_bulks(struct ve_node *node, bool booted, struct err *err)
{
    struct interrupted x = {.bulk = true};
    int r = registry_job_each(node->registry, true, 100000, collect_job, &x, err);
    for (size_t i = 0; i < x.n; i++) {
        if (r == 0)
            bulk_resume(node, &x.list[i], booted);
        registry_job_done(&x.list[i]);
    }
    free(x.list);
    return r;
}

/* Is the VE's first process there?  By terem-keep, which held its descriptor all the time; when
 * terem-keep is gone too, by the pid in the record if that process is in the VE's cgroup. */
static int find_process(struct ve *ve, int *ret_pidfd)
{
    struct ve_node *node = ve->node;
    int console = -1;
    struct err e;
    if (keep_get(node->keep, ve->rec.id, ret_pidfd, &console, &e) == 0) {
        cleanup_fd(&console);
        return 0;
    }
    json_int_t pid = json_integer_value(json_object_get(ve->run, "pid"));
    const char *boot = json_string_value(json_object_get(ve->run, "boot"));
    if (pid <= 1 || !str_eq(boot, node->boot_id) ||
        !resource_populated(node->resources, ve->rec.id))
        return -1;
    char path[64], unit[48];
    auto_free char *text = NULL;
    auto_fd int fd = -1;
    if (fd_pidfd_open((pid_t)pid, &fd, &e) < 0)
        return -1;
    str_print(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
    str_print(unit, sizeof(unit), "/ve-%" PRId64 "/", ve->rec.id);
    if (fd_read_file_at(AT_FDCWD, path, 65536, &text, NULL, &e) < 0 || !strstr(text, unit))
        return -1;
    *ret_pidfd = steal_fd(&fd);
    if (keep_put(node->keep, ve->rec.id, *ret_pidfd, -1, node->logs_fd, &e) < 0)
        log_warn(ve->rec.name, 0, "%s", e.text);
    log_warn(ve->rec.name, 0,
             "its console was lost with terem-keep; it has one again at its next "
             "start");
    return 0;
}

static void begin_later(struct ve *ve, const struct job_kind *kind)
{
    struct err e;
    int64_t id;
    if (ve->job)
        return;
    json_t *options = kind == &job_destroy ? json_pack("{s:b}", "force", 1) : NULL;
    if (job_begin(ve->node, kind, ve->rec.name, ve, options, &id, &e) < 0)
        log_error(ve->rec.name, 0, "cannot %s: %s", kind->name, e.text);
    json_decref(options);
}

/* A start that was interrupted is undone here, at once, and begun again if it is still wanted. */
static void undo_start(struct ve *ve)
{
    struct err e;
    if (engine_container.kill(ve, false, &e) < 0 || engine_container.clean(ve, true, &e) < 0)
        log_error(ve->rec.name, 0, "cannot undo an interrupted start: %s", e.text);
    keep_drop(ve->node->keep, ve->rec.id, &e);
    json_object_del(ve->run, "pid");
    if (ve_begin(ve->node, &e) < 0 || ve_move(ve, VE_EV_STOPPED, NULL, &e) < 0 ||
        ve_commit(ve->node, &e) < 0) {
        ve_abandon(ve->node); /* it is stopped all the same */
        ve_mark_unsaved(ve);
        log_error(ve->rec.name, 0, "%s", e.text);
    }
}

/* pause and resume leave no trace in the registry until they are done: ask the kernel.  Of those
 * that sleep sleep.c knows. */
static void settle_freezer(struct ve *ve)
{
    struct err e;
    if (ve->state != VE_SLEEPING && engine_container.freeze(ve, ve->state == VE_PAUSED, &e) < 0)
        log_error(ve->rec.name, 0, "%s", e.text);
}

/* teremd ended between two writes of one change: the record has the old values, or all new ones
 * if the change was committed. */
static void settle_params(struct ve *ve)
{
    struct err e = {0};
    if (!json_is_true(json_object_get(ve->run, "applying")))
        return;
    if (ve_apply(ve, NULL, ve->params, true, &e) < 0) {
        log_error(ve->rec.name, 0, "its parameters could not be put in order: %s", e.text);
        return;
    }
    json_object_del(ve->run, "applying");
    ve->weight = 0;
    if (ve_begin(ve->node, &e) < 0 || ve_record_save(ve, &e) < 0 || ve_commit(ve->node, &e) < 0) {
        ve_rollback(ve->node);
        log_error(ve->rec.name, 0, "%s", e.text);
    }
}

static void recover_one(struct ve *ve, bool booted)
{
    struct ve_node *node = ve->node;
    struct err e;
    int pidfd = -1;
    bool wanted_up = ve->rec.want == VE_RUNNING;
    bool repair = ve_in_repair(ve); /* which undo_start() forgets */
    switch (ve->state) {
    case VE_STARTING:
        undo_start(ve);
        break;
    case VE_RUNNING:
    case VE_PAUSED:
    case VE_SLEEPING:
    case VE_STOPPING:
        if (find_process(ve, &pidfd) == 0) {
            if (ve_watch_process(ve, pidfd, &e) < 0)
                log_error(ve->rec.name, 0, "%s", e.text);
            answer_adopt(ve);
            inside_watch(ve);
            if (ve_bpf_apply(ve, NULL, ve->params, true, &e) < 0 &&
                (ve->state != VE_STOPPING || e.kind != ERR_NOT_FOUND)) /* its cgroup has gone */
                log_error(ve->rec.name, 0, "%s", e.text);
            close(pidfd);
        }
        break;
    default:
        if (resource_populated(node->resources, ve->rec.id)) {
            log_warn(ve->rec.name, 0, "it is stopped, but had processes: they are killed");
            engine_container.kill(ve, false, &e);
        }
        engine_container.clean(ve, true, &e);
        break;
    }
    if (ve_hidden(ve)) {
        ve_hidden_forget(ve); /* its job ended with teremd */
    } else if (ve->rec.want == VE_ABSENT) {
        begin_later(ve, &job_destroy);
    } else if (snapshot_redo(ve)) {
        return;
    } else if (ve->state == VE_STOPPING) {
        begin_later(ve, ve->pidfd < 0 && !(ve->asked && wanted_up) ? &job_exit
                        : wanted_up                                ? &job_restart
                                                                   : &job_stop);
    } else if (ve_state_is_up(ve->state)) {
        if (ve->pidfd < 0) {
            json_object_set_new(
                ve->run, "last_exit",
                json_pack("{s:s, s:i, s:n, s:s, s:I}", "how", "unknown", "status", -1, "signal",
                          "reason",
                          booted ? "the machine was restarted" : "ended while nobody watched",
                          "time", (json_int_t)ve_now_ms()));
            begin_later(ve, &job_exit);
        } else {
            settle_freezer(ve);
            settle_params(ve);
            if (ve->rec.want == VE_STOPPED)
                begin_later(ve, &job_stop);
            ve_first_process_ended(ve); /* it may have ended while nobody watched */
        }
    } else if (ve->state == VE_STOPPED) {
        settle_params(ve);
        if (wanted_up && !booted) /* else those with autostart are started, in their order */
            begin_later(ve, repair ? &job_repair : &job_start);
    }
}

static void remove_orphans(struct ve_node *node)
{
    struct err e;
    int64_t *ids = NULL;
    size_t n = 0;
    if (resource_list(node->resources, &ids, &n, &e) == 0) {
        for (size_t i = 0; i < n; i++) {
            if (ve_by_id(node, ids[i]))
                continue;
            resource_kill(node->resources, ids[i], 10000, &e);
            ve_bpf_forget(node, ids[i]);
            if (resource_remove(node->resources, ids[i], &e) < 0)
                log_error(NULL, 0, "cannot remove the cgroup of a VE that is gone: %s", e.text);
        }
        free(ids);
    }
    if (network_list(node->network, &ids, &n, &e) == 0) {
        for (size_t i = 0; i < n; i++)
            if (!ve_by_id(node, ids[i]))
                network_detach(node->network, ids[i], &e);
        free(ids);
    }
    ve_pools_recover(node);
    if (keep_list(node->keep, &ids, &n, &e) == 0) {
        for (size_t i = 0; i < n; i++)
            if (!ve_by_id(node, ids[i]))
                keep_drop(node->keep, ids[i], &e);
        free(ids);
    }
    auto_free const char **used = NULL;
    if (ve_used_layers(node, &used, &n, &e) < 0 ||
        template_recover(node->templates, used, n, &e) < 0)
        log_error(NULL, 0, "%s", e.text);
    if (template_has_trash(node->templates))
        log_info(NULL, 0,
                 "layers that were half made or are not used are deleted in the background");
}

/* Who could not be found for want of a descriptor would be taken for dead. */
static int check_descriptors(struct ve_node *node, struct err *err)
{
    struct rlimit files;
    size_t up = 0;
    for (size_t i = 0; i < node->n_ves; i++)
        up += node->ves[i]->state != VE_STOPPED && node->ves[i]->state != VE_BROKEN;
    uint64_t need = (uint64_t)node->fd_floor + FDS_SPARED + FDS_EACH * up;
    if (up == 0 || getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= need)
        return 0;
    return err_set(err, ERR_EXHAUSTED,
                   "%zu VEs run, which takes %llu descriptors, and %llu may be open; raise "
                   "LimitNOFILE of terem.service",
                   up, (unsigned long long)need, (unsigned long long)files.rlim_cur);
}

int ve_recover(struct ve_node *node, struct err *err)
{
    auto_free char *boot = NULL;
    if (ve_profiles_load(node, err) < 0 || ve_classes_load(node, err) < 0 ||
        registry_ve_each(node->registry, load_one, node, err) < 0 ||
        check_descriptors(node, err) < 0 || snapshots_load(node, err) < 0 ||
        close_jobs(node, err) < 0 || registry_meta_get(node->registry, "boot", &boot, err) < 0)
        return err_wrap(err, "cannot recover");
    bool booted = !str_eq(boot, node->boot_id);
    if (booted && record_boot(node, err) < 0)
        return err_wrap(err, "cannot recover");
    remove_orphans(node);
    ve_netlimit_recover(node);
    ve_cores_adopt(node);
    ve_cores_place(node); /* for those that are started below */
    for (size_t i = 0; i < node->n_ves;) {
        struct ve *ve = node->ves[i];
        recover_one(ve, booted);
        i += i < node->n_ves && node->ves[i] == ve; /* else it is gone */
    }
    if (resume_bulks(node, booted, err) < 0)
        return err_wrap(err, "cannot recover");
    if (booted)
        bulk_boot(node);
    ve_addresses_settle(node);
    ve_privates_settle(node);
    ve_publish_settle(node);
    ve_guarantee_settle(node);
    ve_grace_begin(node);
    ve_trash_later(node);
    malloc_trim(0); /* what was read of the registry, and adopting, took */
    ve_event_emit(node, json_pack("{s:s, s:b}", "type", "node.recovered", "booted", booted));
    return 0;
}
