/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows that BPF counts and limits, and refusals as they happen.
 *
 * The ring of refusals is read at most ten times a second: a VE that is refused without end costs
 * teremd no more than that.
 */
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/rows.h"

#define DIR_NAME "bpf"
#define REST_MS  100

struct bpf_watch {
    struct resource_bpf *bpf;
    uv_poll_t *poll;
    uv_timer_t *rest;
    bool quotas;       /* what they refuse is to be counted */
    bool quotas_again; /* the second try after one that did not bring it */
    pid_t quotas_pid;  /* who is at it, or 0 */
};

static void on_refusals(uv_poll_t *poll, int status, int events);

static void on_rested(uv_timer_t *timer)
{
    struct ve_node *node = timer->data;
    uv_poll_start(node->bpf->poll, UV_READABLE, on_refusals);
}

static void on_refusals(uv_poll_t *poll, int status, int events)
{
    struct ve_node *node = poll->data;
    struct err e;
    uv_poll_stop(poll);
    if (resource_bpf_hear(node->bpf->bpf, &e) < 0)
        log_warn(NULL, 0, "refusals of VEs have no events any more: %s", e.text);
    else
        uv_timer_start(node->bpf->rest, on_rested, REST_MS, 0);
}

/* How many refusals an event stands for: those since the one before it.  The VE's first one, or
 * the first that this teremd hears of, stands for itself. */
static uint64_t since_last(struct ve *ve, const struct resource_refusal *r)
{
    uint64_t last = ve_refusals_told(ve, r->row, r->failcnt);
    return last && last < r->failcnt ? r->failcnt - last : 1;
}

static void heard(void *ctx, const struct resource_refusal *r)
{
    struct ve *ve = ve_by_id(ctx, r->id);
    char text[PARAM_TEXT + 80], limit[PARAM_TEXT];
    if (!ve)
        return;
    param_format(r->row, param_set_get(ve->params, r->row->key), limit);
    str_print(text, sizeof(text), "%s %s is reached%s", r->row->key, limit,
              r->pid ? "" : ": a connection from outside was turned away");
    ve_refused(ve, r->row, since_last(ve, r), r->pid_inside, r->comm[0] ? r->comm : NULL, text);
}

static void dir_of(const struct ve_node *node, char buf[PLACE_MAX + 8])
{
    str_print(buf, PLACE_MAX + 8, "%s/%s", node->config.place.run, DIR_NAME);
}

int ve_bpf_begin(struct ve_node *node, struct err *err)
{
    char dir[PLACE_MAX + 8];
    dir_of(node, dir);
    if (!(node->bpf = calloc(1, sizeof(*node->bpf))))
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int r = resource_bpf_open(node->resources, dir, &node->bpf->bpf, err);
    return r < 0 ? r : network_count_open(node->network, dir, err);
}

bool ve_bpf_tells_forks(const struct ve_node *node)
{
    return !resource_bpf_why_unnamed(node->bpf->bpf);
}

/* In a process of its own, since attaching takes seconds; what it attaches outlives it. */
static void load_quotas(struct ve_node *node, bool on)
{
    struct err e = {0};
    if (resource_bpf_quotas(node->bpf->bpf, on, &e) < 0)
        log_warn(NULL, 0, "what disk quotas refuse is not counted: %s", e.text);
    _exit(0);
}

void ve_bpf_quotas(struct ve_node *node, bool on)
{
    struct bpf_watch *w = node->bpf;
    w->quotas = on;
    if (w->quotas_pid || resource_bpf_quotas_look(w->bpf, on) != RESOURCE_BPF_TO_DO)
        return;
    pid_t pid = ve_fork(node, NULL, 0, true);
    if (pid == 0)
        load_quotas(node, on);
    w->quotas_pid = pid < 0 ? 0 : pid;
}

bool ve_bpf_child_ended(struct ve_node *node, pid_t pid)
{
    struct bpf_watch *w = node->bpf;
    if (!w || pid != w->quotas_pid)
        return false;
    bool tried = resource_bpf_quotas_look(w->bpf, w->quotas) == RESOURCE_BPF_TO_DO;
    w->quotas_pid = 0;
    if (tried && !w->quotas_again) { /* another was wished meanwhile */
        w->quotas_again = true;
        ve_bpf_quotas(node, w->quotas);
    } else {
        w->quotas_again = false;
    }
    return true;
}

void ve_bpf_listen(struct ve_node *node)
{
    struct bpf_watch *w = node->bpf;
    int fd;
    struct err e = {0};
    if (resource_bpf_listen(w->bpf, heard, node, &fd, &e) < 0) {
        if (e.kind != ERR_UNSUPPORTED) /* doctor tells that */
            log_warn(NULL, 0, "refusals of VEs have no events: %s", e.text);
        return;
    }
    w->poll = calloc(1, sizeof(*w->poll));
    w->rest = calloc(1, sizeof(*w->rest));
    if (!w->poll || !w->rest) {
        cleanup_free(&w->poll);
        cleanup_free(&w->rest);
        return;
    }
    w->poll->data = w->rest->data = node;
    uv_timer_init(node->loop, w->rest);
    uv_poll_init(node->loop, w->poll, fd);
    uv_poll_start(w->poll, UV_READABLE, on_refusals);
}

void ve_bpf_end(struct ve_node *node)
{
    if (!node->bpf)
        return;
    ve_handle_close(&node->bpf->poll);
    ve_handle_close(&node->bpf->rest);
    resource_bpf_close(node->bpf->bpf);
    free(node->bpf);
    node->bpf = NULL;
}

void ve_bpf_remove(struct ve_node *node)
{
    char dir[PLACE_MAX + 8];
    struct err e;
    dir_of(node, dir);
    if (resource_bpf_remove(dir, &e) < 0)
        log_error(NULL, 0, "%s", e.text);
}

int ve_bpf_check(struct ve_node *node, const struct param_set *set, struct err *err)
{
    return resource_bpf_check(node->bpf->bpf, set, err);
}

int ve_bpf_apply(struct ve *ve, const struct param_set *old_set, const struct param_set *new_set,
                 bool force, struct err *err)
{
    return resource_bpf_apply(ve->node->bpf->bpf, ve->rec.id, new_set, true, err);
}

int ve_bpf_birth(struct ve *ve, const struct param_set *set, bool guard, struct err *err)
{
    return resource_bpf_apply(ve->node->bpf->bpf, ve->rec.id, set, guard, err);
}

void ve_bpf_forget(struct ve_node *node, int64_t id)
{
    struct err e;
    if (resource_bpf_forget(node->bpf->bpf, id, &e) < 0)
        log_warn(NULL, 0, "%s", e.text);
}

void ve_bpf_counters_all(struct ve_node *node, bool on)
{
    resource_bpf_counters_all(node->bpf->bpf, on);
}

int ve_bpf_counters(struct ve *ve, struct param_counters *list, struct err *err)
{
    return resource_bpf_counters(ve->node->bpf->bpf, ve->rec.id, ve->pidfd, list, err);
}

void ve_bpf_files(const struct ve *ve, struct container_limits *limits)
{
    const struct param_row *row = param_find("files");
    struct param_value v = param_set_get(ve->params, row->key);
    if (!v.unlimited && resource_bpf_row(ve->node->bpf->bpf, row, NULL) == RESOURCE_BPF_FALLBACK)
        limits->nofile = v.n;
}

void ve_bpf_partly(const struct ve_node *node, const struct param_row *row, char *buf, size_t size)
{
    const char *why, *left = resource_bpf_partly(node->bpf->bpf, row, &why);
    if (left)
        str_print(buf, size, "%s: %s", left, why);
}

void ve_bpf_doctor(const struct ve_node *node, ve_check_fn check, json_t *list)
{
    const struct resource_bpf *bpf = node->bpf->bpf;
    const char *sockets = NULL, *files = NULL, *names = resource_bpf_why_unnamed(bpf),
               *uncounted = resource_bpf_why_uncounted(bpf),
               *unrefused = resource_bpf_why_unrefused(bpf);
    resource_bpf_row(bpf, param_find("sockets.tcp"), &sockets);
    resource_bpf_row(bpf, param_find("files"), &files);
    check(list, "BPF on cgroups", !sockets, sockets ? sockets : "yes",
          "sockets are neither counted nor limited, and root of a VE can raise limits that are "
          "kept by its namespaces (inotify, ipc, namespaces)",
          "a kernel with CONFIG_CGROUP_BPF and CONFIG_DEBUG_INFO_BTF (Debian's have both)");
    check(list, "BPF LSM", !files, files ? files : "yes",
          "files limits each process instead of the VE and is not counted, and Unix, netlink and "
          "packet sockets are not in sockets.other; file-locks is refused",
          "a kernel with CONFIG_BPF_LSM, and bpf in lsm= on its command line (Debian's have both)");
    check(list, "BPF at functions", !names, names ? names : "yes",
          "a refused fork is counted and has an event, which does not name the process",
          "a kernel with CONFIG_FUNCTION_TRACER, not locked down (Debian's)");
    check(list, "counters of namespaces", !uncounted, uncounted ? uncounted : "yes",
          "namespaces, inotify and signals are limited and what is held of them is not counted",
          "a kernel with CONFIG_BPF_SYSCALL and CONFIG_DEBUG_INFO_BTF (Debian's have both)");
    check(list, "refusals of namespaces", !unrefused, unrefused ? unrefused : "yes",
          "of namespaces, inotify, signals and ptys it is counted what is held, not the most that "
          "was and not who was refused",
          "a kernel with CONFIG_FUNCTION_TRACER, not locked down (Debian's)");
}
