/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calls of VEs that teremd answers, at the listeners of their filters: sysinfo(2), and statfs(2) of
 * VEs with a limit on disk space where the file system does not tell of it (statfs.h).
 *
 * Whoever calls belongs to the VE and may want to harm us:
 *
 * - It asks without end.  One call of a VE is at work at a time, VE_CALLS of one VE in a tick, and
 *   all VEs together are within the budget; else listeners are not looked at until the next tick.
 * - Its memory may be slow to reach (swapped out, on a slow disk, at its limit), and so may be the
 *   directories of a path: a thread of libuv's pool does that, and nothing else.
 * - It dies meanwhile, and its number is another process's.  Its memory is opened first, and then
 *   the kernel is asked whether that caller still waits; after that the memory can only be its own.
 * - Its pointer is bad: it gets EFAULT.  /proc/PID/mem also writes where the caller itself may only
 *   read (FOLL_FORCE), which changes its own copy and nobody else's.
 *
 * What cannot be answered is passed on to the kernel, never answered wrongly.
 */
#include "base/fd.h"
#include "keep/serving.h"
#include "kernel/process.h"
#include "kernel/seccomp.h"
#include "ve/beside.h"
#include "ve/budget.h"
#include "ve/internal.h"
#include "ve/rows.h"
#include "ve/statfs.h"
#include "ve/sysinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>

#define VE_CALLS    20
#define FRESH_MS    100
#define FRESH_CALLS 5 /* get fresh values in that time; more get the last ones */

struct answering { /* of a node */
    struct serving *page;
    int page_fd; /* given to each terem-keep */
    uv_timer_t *timer;
    struct budget budget;
    size_t at_work;
    bool closed;
};

struct answers { /* of a VE */
    struct ve_listener *listeners;
    int64_t started_ms; /* its first process, since the machine's boot; 0: not asked yet */
    int64_t fresh_from; /* ms */
    unsigned fresh;     /* readings since then */
    struct sysinfo_parts parts;
    struct statfs_disk disk;
    bool has_disk; /* `disk` was read, and there is something to be told of it */
    uint64_t tick;
    unsigned calls; /* in that tick */
    bool at_work;
};

struct ve_listener {
    struct ve_listener *next;
    struct ve *ve; /* NULL: given up, freed when nothing is at work */
    int fd;
    uv_poll_t *poll;
    bool paused, at_work;
};

struct call { /* one, in the pool */
    uv_work_t work;
    struct answering *a;
    struct ve_listener *l;
    struct serving_slot *slot;
    uint64_t id, address, path; /* path: of statfs(2) */
    pid_t pid;
    bool of_disk;
    uid_t superuser;
    dev_t root;
    struct statfs_disk disk;
    size_t len; /* 0: not ours to answer */
    uint8_t bytes[SYSINFO_SIZE_MAX];
};

static int64_t clock_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* ---- values ---- */

/* When the VE's first process began, in milliseconds since the machine's boot: what lxcfs counts
 * from, too. */
static int64_t started_ms(const struct ve *ve)
{
    char path[48];
    long hz = sysconf(_SC_CLK_TCK);
    json_int_t pid = json_integer_value(json_object_get(ve->run, "pid"));
    str_print(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
    uint64_t ticks = pid > 0 && hz > 0 ? kernel_process_birth(AT_FDCWD, path) : 0;
    return ticks ? (int64_t)(ticks * 1000 / (uint64_t)hz) : -1;
}

static bool limit_of(const struct ve *ve, const char *key, uint64_t *ret)
{
    struct param_value v = param_set_get(ve->params, key);
    *ret = v.n;
    return !v.unlimited;
}

/* Fresh values, since programs put them beside what they read in /proc/meminfo: free(1) of busybox
 * shows nonsense when the two are of different times.  Who asks without end gets older ones. */
static bool may_read(struct answers *w, int64_t now)
{
    if (now - w->fresh_from >= FRESH_MS) {
        w->fresh_from = now;
        w->fresh = 0;
    }
    return w->fresh++ < FRESH_CALLS;
}

static int look(struct ve *ve, struct sysinfo *ret)
{
    struct answers *w = ve->answers;
    struct sysinfo_parts *p = &w->parts;
    int64_t now = clock_us(CLOCK_BOOTTIME) / 1000;
    struct resource_view v;
    if (may_read(w, now) || !p->machine.mem_unit) {
        if (resource_view(ve->node->resources, ve->rec.id, &v, NULL) < 0 ||
            syscall(SYS_sysinfo, &p->machine) < 0)
            return -1;
        p->has_memory = v.has_memory;
        p->has_swap = v.has_swap;
        p->has_tasks = v.has_tasks;
        p->memory = v.memory;
        p->shared = v.shared;
        p->swap = v.swap;
        p->tasks = v.tasks;
    }
    if (!w->started_ms)
        w->started_ms = started_ms(ve);
    p->uptime = w->started_ms < 0 ? -1 : (now - w->started_ms + 999) / 1000;
    p->memory_limited = limit_of(ve, "memory.limit", &p->memory_limit);
    p->swap_limited = limit_of(ve, "swap.limit", &p->swap_limit);
    *ret = sysinfo_of(p);
    return 0;
}

static bool look_disk(struct ve *ve)
{
    struct answers *w = ve->answers;
    if (may_read(w, clock_us(CLOCK_BOOTTIME) / 1000) || !w->has_disk)
        w->has_disk = ve_disk_view(ve, &w->disk);
    return w->has_disk;
}

void answer_disk_changed(struct ve *ve)
{
    if (ve->answers)
        ve->answers->has_disk = false;
}

/* ---- listeners ---- */

static void listener_free(struct ve_listener *l)
{
    ve_handle_close(&l->poll);
    cleanup_fd(&l->fd);
    free(l);
}

static void listener_drop(struct ve_listener *l)
{
    struct ve_listener **p = &l->ve->answers->listeners;
    while (*p != l)
        p = &(*p)->next;
    *p = l->next;
    ve_handle_close(&l->poll);
    l->ve = NULL;
    if (!l->at_work)
        listener_free(l);
}

static void on_listener(uv_poll_t *poll, int status, int events);

static void resume(struct ve *ve)
{
    for (struct ve_listener *l = ve->answers->listeners; l; l = l->next)
        if (l->paused) {
            l->paused = false;
            uv_poll_start(l->poll, UV_READABLE, on_listener);
        }
}

static void on_tick(uv_timer_t *t)
{
    struct ve_node *node = t->data;
    for (size_t i = 0; i < node->n_ves; i++)
        if (node->ves[i]->answers && !node->ves[i]->answers->at_work)
            resume(node->ves[i]);
}

static void resume_later(struct answering *a)
{
    if (!uv_is_active((uv_handle_t *)a->timer))
        uv_timer_start(a->timer, on_tick, BUDGET_TICK_MS, 0);
}

static void pause_listener(struct ve_listener *l)
{
    uv_poll_stop(l->poll);
    l->paused = true;
    resume_later(l->ve->node->answering);
}

/* ---- one call ---- */

static void answering_free(struct answering *a)
{
    if (!a->closed || a->at_work)
        return;
    serving_unmap(a->page);
    free(a);
}

/* In a thread of the pool, like the next: nothing but system calls. */
static void reply(const struct call *c, int mem)
{
    /* When terem-keep has been before us the caller is about something else. */
    if (!c->len || !serving_answer(c->a->page, c->slot))
        seccomp_pass_on(c->l->fd, c->id);
    else if (pwrite(mem, c->bytes, c->len, (off_t)c->address) == (ssize_t)c->len)
        seccomp_answer(c->l->fd, c->id, 0, 0);
    else
        seccomp_answer(c->l->fd, c->id, 0, EFAULT);
}

static void work(uv_work_t *req)
{
    struct call *c = req->data;
    struct statfs_caller caller;
    struct statfs s;
    bool open = (c->len || c->of_disk) && statfs_open(c->pid, &caller) == 0;
    if (!seccomp_waits(c->l->fd, c->id)) {
        if (open)
            statfs_close(&caller);
        return;
    }
    if (!open) {
        seccomp_pass_on(c->l->fd, c->id);
        return;
    }
    if (c->of_disk && statfs_look(&caller, c->path, c->root, c->superuser, &c->disk, &s) == 0) {
        c->len = sizeof(s);
        memcpy(c->bytes, &s, sizeof(s));
    }
    reply(c, caller.mem);
    statfs_close(&caller);
}

static void worked(uv_work_t *req, int status)
{
    struct call *c = req->data;
    struct answering *a = c->a;
    struct ve *ve = c->l->ve;
    if (status < 0) /* it was never begun: the loop ends */
        seccomp_pass_on(c->l->fd, c->id);
    serving_release(a->page, c->slot);
    c->l->at_work = false;
    a->at_work--;
    if (!ve) {
        listener_free(c->l);
    } else {
        ve->answers->at_work = false;
        if (ve->answers->calls < VE_CALLS)
            resume(ve);
        else
            resume_later(a); /* a tick that found it at work passed it by */
    }
    free(c);
    answering_free(a);
}

static void fill_sysinfo(struct ve *ve, const struct seccomp_data *d, struct call *c)
{
    struct sysinfo s;
    c->address = d->args[0];
    if (look(ve, &s) == 0)
        c->len = sysinfo_encode(d->arch, &s, c->bytes);
    if (c->len && c->len < sizeof(s)) /* a 32-bit caller's registers */
        c->address = (uint32_t)c->address;
}

/* Of 32-bit callers, whose structure is another one, the kernel answers. */
static void fill_statfs(struct ve *ve, const struct seccomp_data *d, struct call *c)
{
    _Static_assert(sizeof(struct statfs) <= sizeof(c->bytes), "statfs does not fit");
    c->root = (dev_t)json_integer_value(json_object_get(ve->run, "root"));
    c->of_disk = sysinfo_arch_is_native(d->arch) && d->nr == SYS_statfs && c->root && look_disk(ve);
    c->path = d->args[0];
    c->address = d->args[1];
    c->superuser = ve_id_base(ve);
    c->disk = ve->answers->disk;
}

/* False: the call could not be given to the pool. */
static bool begin_call(struct ve_listener *l, struct serving_slot *slot)
{
    struct answering *a = l->ve->node->answering;
    struct call *c = calloc(1, sizeof(*c));
    if (!c)
        return false;
    /* Copied: the page is shared. */
    const struct seccomp_notif n = slot->call;
    *c = (struct call){.a = a, .l = l, .slot = slot, .id = n.id, .pid = (pid_t)n.pid};
    c->work.data = c;
    if (sysinfo_is_call(n.data.arch, n.data.nr))
        fill_sysinfo(l->ve, &n.data, c);
    else
        fill_statfs(l->ve, &n.data, c);
    if (uv_queue_work(l->ve->node->loop, &c->work, work, worked) < 0) {
        free(c);
        return false;
    }
    a->at_work++;
    l->at_work = l->ve->answers->at_work = true;
    return true;
}

static void take(struct ve_listener *l)
{
    struct answering *a = l->ve->node->answering;
    bool ended;
    struct serving_slot *slot = serving_receive(a->page, l->ve->rec.id, l->fd);
    if (slot) {
        l->ve->answers->calls++;
        if (!begin_call(l, slot)) {
            seccomp_pass_on(l->fd, slot->call.id);
            serving_release(a->page, slot);
        }
    } else if (seccomp_pending(l->fd, &ended)) {
        pause_listener(l); /* no slot is free, or terem-keep is at it */
    } else if (ended) {
        listener_drop(l);
    }
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    struct ve_listener *l = poll->data;
    struct answers *w = l->ve->answers;
    struct answering *a = l->ve->node->answering;
    int64_t began;
    bool left = budget_begin(&a->budget, &began);
    if (w->tick != a->budget.tick) {
        w->tick = a->budget.tick;
        w->calls = 0;
    }
    if (w->at_work || w->calls >= VE_CALLS || !left) {
        pause_listener(l);
        return;
    }
    take(l);
    budget_end(&a->budget, began);
}

/* ---- for the other files of this room ---- */

bool answer_listens(const struct ve_node *node)
{
    return node->answering != NULL;
}

int answer_add(struct ve *ve, int listener, struct err *err)
{
    if (!ve->node->answering)
        return 0;
    struct ve_listener *l = calloc(1, sizeof(*l));
    uv_poll_t *poll = calloc(1, sizeof(*poll));
    if (!ve->answers)
        ve->answers = calloc(1, sizeof(*ve->answers));
    if (l)
        l->fd = fcntl(listener, F_DUPFD_CLOEXEC, ve->node->fd_floor);
    if (!l || !poll || !ve->answers || l->fd < 0 || uv_poll_init(ve->node->loop, poll, l->fd) < 0) {
        free(poll);
        if (l)
            cleanup_fd(&l->fd);
        free(l);
        return err_set(err, ERR_EXHAUSTED,
                       "cannot answer for it what machine it has: too much is open");
    }
    l->ve = ve;
    l->poll = poll;
    poll->data = l;
    l->next = ve->answers->listeners;
    ve->answers->listeners = l;
    uv_poll_start(poll, UV_READABLE, on_listener);
    return 0;
}

void answer_keep(struct ve *ve, int listener)
{
    struct err e = {0};
    if (answer_add(ve, listener, &e) < 0 ||
        keep_put_filter(ve->node->keep, ve->rec.id, listener, &e) < 0)
        log_warn(ve->rec.name, 0, "sysinfo(2) inside may fail later: %s", e.text);
}

void answer_keep_again(struct ve *ve)
{
    struct err e = {0};
    for (struct ve_listener *l = ve->answers ? ve->answers->listeners : NULL; l; l = l->next)
        if (l->fd >= 0 && keep_put_filter(ve->node->keep, ve->rec.id, l->fd, &e) < 0)
            log_warn(ve->rec.name, 0, "sysinfo(2) inside may fail later: %s", e.text);
}

void answer_adopt(struct ve *ve)
{
    struct err e = {0};
    uint32_t number = 0;
    int fd;
    while (keep_get_filter(ve->node->keep, ve->rec.id, &number, &fd, &e) == 0) {
        if (answer_add(ve, fd, &e) < 0)
            log_warn(ve->rec.name, 0, "%s", e.text);
        close(fd);
    }
}

void answer_drop(struct ve *ve)
{
    struct answers *w = ve->answers;
    if (!w)
        return;
    while (w->listeners)
        listener_drop(w->listeners);
    ve->answers = NULL;
    free(w);
}

int answer_begin(struct ve_node *node, struct err *err)
{
    struct answering *a = calloc(1, sizeof(*a));
    uv_timer_t *timer = calloc(1, sizeof(*timer));
    int r = a && timer ? 0 : err_set(err, ERR_EXHAUSTED, "out of memory");
    if (r == 0)
        r = serving_make(&a->page, &a->page_fd, err);
    if (r < 0) {
        free(a);
        free(timer);
        return r;
    }
    a->timer = timer;
    timer->data = node;
    uv_timer_init(node->loop, timer);
    node->answering = a;
    return 0;
}

int answer_serve(struct ve_node *node, struct err *err)
{
    struct answering *a = node->answering;
    return a ? keep_serve(node->keep, a->page_fd, err) : 0;
}

void answer_end(struct ve_node *node)
{
    struct answering *a = node->answering;
    if (!a)
        return;
    for (size_t i = 0; i < node->n_ves; i++)
        answer_drop(node->ves[i]);
    node->answering = NULL;
    cleanup_fd(&a->page_fd);
    ve_handle_close(&a->timer);
    a->closed = true;
    answering_free(a);
}
