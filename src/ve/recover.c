/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * After any end of teremd: compares the registry with the kernel, adopts what runs, finishes or
 * undoes what was half done, and removes what belongs to nobody.
 *
 * No worker is left: they die with teremd.  Whatever is in the kernel under this instance's names
 * is either a VE of the registry or an orphan.
 */
#include "base/fd.h"
#include "ve/internal.h"

#include <fcntl.h>
#include <inttypes.h>

static int load_one(void *ctx, const struct registry_ve *rec, struct err *err)
{
    struct ve_node *node = ctx;
    struct ve *ve = NULL;
    if (ve_record_load(node, rec, &ve, err) < 0 || ve_node_add(node, ve, err) < 0)
        return -err->kind;
    return 0;
}

struct interrupted {
    struct ve_node *node;
    struct registry_job *list;
    size_t n;
};

static int collect_job(void *ctx, const struct registry_job *j, struct err *err)
{
    struct interrupted *x = ctx;
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

/* Jobs that nobody is at work on any more end as failed; what they were for is dealt with by the
 * VE's wanted state. */
static int close_jobs(struct ve_node *node, struct err *err)
{
    struct interrupted x = {.node = node};
    int r = registry_job_each(node->registry, true, 100000, collect_job, &x, err);
    for (size_t i = 0; i < x.n; i++) {
        if (r == 0) {
            x.list[i].state = JOB_FAILED;
            x.list[i].ended = ve_now_ms();
            x.list[i].error_kind = ERR_UNAVAILABLE;
            x.list[i].error = strdup("teremd ended while it was at work");
            r = registry_job_update(node->registry, &x.list[i], err);
        }
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

static void begin_later(struct ve *ve, const char *kind)
{
    struct err e;
    int64_t id;
    if (ve->job)
        return;
    const struct job_kind *k = job_kind_find(kind, &e);
    json_t *options = str_eq(kind, "destroy") ? json_pack("{s:b}", "force", 1) : NULL;
    if (job_begin(ve->node, k, ve->rec.name, ve, options, &id, &e) < 0)
        log_error(ve->rec.name, 0, "cannot %s: %s", kind, e.text);
    json_decref(options);
}

/* A start that was interrupted is undone here, at once, and begun again if it is still wanted. */
static void undo_start(struct ve *ve)
{
    struct err e;
    if (engine_container.kill(ve, &e) < 0 || engine_container.clean(ve, true, &e) < 0)
        log_error(ve->rec.name, 0, "cannot undo an interrupted start: %s", e.text);
    keep_drop(ve->node->keep, ve->rec.id, &e);
    json_object_del(ve->run, "pid");
    if (ve_begin(ve->node, &e) < 0 || ve_move(ve, VE_EV_STOPPED, NULL, &e) < 0 ||
        ve_commit(ve->node, &e) < 0) {
        ve_rollback(ve->node);
        log_error(ve->rec.name, 0, "%s", e.text);
    }
}

/* pause and resume leave no trace in the registry until they are done: ask the kernel. */
static void settle_freezer(struct ve *ve)
{
    struct err e;
    if (engine_container.freeze(ve, ve->state == VE_PAUSED, &e) < 0)
        log_error(ve->rec.name, 0, "%s", e.text);
}

/* teremd ended between two writes of one change: the record has the old values, or all new ones
 * if the change was committed. */
static void settle_params(struct ve *ve)
{
    struct err e = {0};
    if (!json_is_true(json_object_get(ve->run, "applying")))
        return;
    if (ve_apply(ve, NULL, &ve->params, true, &e) < 0) {
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
    bool autostart = json_is_true(json_object_get(ve->spec, "autostart"));
    switch (ve->state) {
    case VE_STARTING:
        undo_start(ve);
        break;
    case VE_RUNNING:
    case VE_PAUSED:
    case VE_STOPPING:
        if (find_process(ve, &pidfd) == 0) {
            if (ve_watch_process(ve, pidfd, &e) < 0)
                log_error(ve->rec.name, 0, "%s", e.text);
            answer_adopt(ve);
            inside_watch(ve);
            if (ve_bpf_apply(ve, NULL, &ve->params, true, &e) < 0)
                log_error(ve->rec.name, 0, "%s", e.text);
            close(pidfd);
        }
        break;
    default:
        if (resource_populated(node->resources, ve->rec.id)) {
            log_warn(ve->rec.name, 0, "it is stopped, but had processes: they are killed");
            engine_container.kill(ve, &e);
        }
        engine_container.clean(ve, true, &e);
        break;
    }
    if (ve->rec.want == VE_ABSENT) {
        begin_later(ve, "destroy");
    } else if (ve->state == VE_STOPPING) {
        begin_later(ve, ve->pidfd < 0 ? "exit" : wanted_up ? "restart" : "stop");
    } else if (ve->state == VE_RUNNING || ve->state == VE_PAUSED) {
        if (ve->pidfd < 0) {
            json_object_set_new(
                ve->run, "last_exit",
                json_pack("{s:s, s:i, s:n, s:s, s:I}", "how", "unknown", "status", -1, "signal",
                          "reason",
                          booted ? "the machine was restarted" : "ended while nobody watched",
                          "time", (json_int_t)ve_now_ms()));
            begin_later(ve, "exit");
        } else {
            settle_freezer(ve);
            settle_params(ve);
            ve_first_process_ended(ve); /* it may have ended while nobody watched */
        }
    } else if (ve->state == VE_STOPPED && (booted ? autostart : wanted_up)) {
        begin_later(ve, "start");
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
    if (storage_list(node->pool, &ids, &n, &e) == 0) {
        for (size_t i = 0; i < n; i++)
            if (!ve_by_id(node, ids[i]) && storage_remove(node->pool, ids[i], &e) < 0)
                log_error(NULL, 0, "%s", e.text);
        free(ids);
    }
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

int ve_recover(struct ve_node *node, struct err *err)
{
    auto_free char *boot = NULL;
    if (ve_profiles_load(node, err) < 0 ||
        registry_ve_each(node->registry, load_one, node, err) < 0 || close_jobs(node, err) < 0 ||
        registry_meta_get(node->registry, "boot", &boot, err) < 0)
        return err_wrap(err, "cannot recover");
    bool booted = !str_eq(boot, node->boot_id);
    if (booted && registry_meta_set(node->registry, "boot", node->boot_id, err) < 0)
        return err_wrap(err, "cannot recover");
    remove_orphans(node);
    ve_cores_adopt(node);
    ve_cores_place(node); /* for those that are started below */
    for (size_t i = 0; i < node->n_ves; i++)
        recover_one(node->ves[i], booted);
    ve_guarantee_settle(node);
    ve_trash_later(node);
    ve_event_emit(node, json_pack("{s:s, s:b}", "type", "node.recovered", "booted", booted));
    return 0;
}
