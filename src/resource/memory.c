/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memory — lowering a limit of memory below what is in use.
 *
 * A limit is judged by counters before anything is given back: what does not fit, or so closely
 * that the VE would soon be short of memory, is refused and nothing has changed.  Else page cache
 * is given back first, and what then does not fit is by force taken: we end the process that the
 * kernel would choose, again and again until the limit fits, and never the VE's first one.  v1
 * answers EBUSY until then; v2's kernel would end processes by itself when memory.max is written,
 * the first one among them, and more than one needs (seen on 6.1).
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/str.h"
#include "resource/node.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/sysinfo.h>
#include <time.h>

#define MIB       (1024 * 1024ull)
#define SPARE_MIN (8 * MIB) /* at 10M a Debian that kept almost that lost its systemd */
#define FORCE_MS  3000      /* teremd waits so long */
#define DYING_MS  500       /* for one process */
#define PAUSE_NS  2000000
#define DEPTH_MAX 32      /* of what a VE may make inside */
#define ADJ_NEVER (-1000) /* OOM_SCORE_ADJ_MIN */

/* What a VE needs to live: what cannot be given back, and some to work with. */
static uint64_t with_spare(uint64_t kept)
{
    return kept + (kept / 4 > SPARE_MIN ? kept / 4 : SPARE_MIN);
}

static const char *format_up(uint64_t bytes, char buf[NUMBER_TEXT])
{
    return number_format_size_exact((bytes + MIB - 1) / MIB * MIB, buf);
}

int memory_refuse(const struct param_row *row, struct param_value v, uint64_t kept, struct err *err)
{
    char want[PARAM_TEXT], have[NUMBER_TEXT], least[NUMBER_TEXT];
    param_format(row, v, want);
    format_up(kept, have);
    /* A little more than is accepted: what is kept changes all the time. */
    format_up(str_eq(row->key, "memory.limit") ? with_spare(kept) + MIB : kept, least);
    if (v.n < kept)
        return err_set(err, ERR_STATE,
                       "%s %s is below the %s in use, which cannot be given back: processes inside "
                       "would be killed until it fits; set it with --force, or choose at least %s",
                       row->key, want, have, least);
    return err_set(err, ERR_STATE,
                   "%s %s leaves too little beside the %s in use, which cannot be given back: "
                   "processes inside, the first one too, would be killed soon; set it with "
                   "--force, or choose at least %s",
                   row->key, want, have, least);
}

/* ---- before anything is written ---- */

static uint64_t stat_of(const char *stat, bool v2, const char *key)
{
    char name[64];
    uint64_t n = 0;
    str_print(name, sizeof(name), "%s%s", v2 ? "" : "total_", key);
    return cgroup_key(stat, name, &n, NULL) < 0 ? 0 : n;
}

static uint64_t least_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What would stay in memory if all were given back that can be: all but page cache that is not
 * mapped and in use, what fits into swap, and v2's reclaimable slabs; v1 tells of no slabs. */
static int read_kept(int fd, bool v2, struct param_value swap_limit, uint64_t *ret, struct err *err)
{
    char stat[CGROUP_TEXT];
    struct sysinfo machine = {0};
    uint64_t used;
    int r = cgroup_read_number(fd, v2 ? "memory.current" : "memory.usage_in_bytes", &used, err);
    if (r == 0)
        r = cgroup_read(fd, "memory.stat", stat, sizeof(stat), err);
    if (r < 0)
        return r;
    uint64_t active = stat_of(stat, v2, "active_file"), swapped = stat_of(stat, v2, "swap"),
             goes = stat_of(stat, v2, "inactive_file") + active -
                    least_of(active, stat_of(stat, v2, v2 ? "file_mapped" : "mapped_file"));
    if (v2) {
        goes += stat_of(stat, v2, "slab_reclaimable");
        cgroup_read_number(fd, "memory.swap.current", &swapped, NULL);
    }
    uint64_t kept = used - least_of(used, goes);
    sysinfo(&machine);
    uint64_t to_swap =
        least_of(stat_of(stat, v2, "inactive_anon") + stat_of(stat, v2, "active_anon"),
                 (uint64_t)machine.freeswap * machine.mem_unit);
    uint64_t in_swap = swapped + least_of(to_swap, kept);
    if (!swap_limit.unlimited)
        in_swap = least_of(in_swap, swap_limit.n);
    if (v2 && in_swap < swapped) /* v2 takes nothing back from swap, v1 would have to */
        in_swap = swapped;
    *ret = kept + swapped - in_swap;
    return 0;
}

static bool is_lowered(struct param_value old, struct param_value v)
{
    return !v.unlimited && (old.unlimited || v.n < old.n);
}

int resource_room(struct resource_node *node, int64_t id, const struct param_set *old_set,
                  const struct param_set *new_set, struct err *err)
{
    const struct param_row *limit = param_find("memory.limit"), *swap = param_find("swap.limit");
    const struct controller *c = node_controller(node, limit);
    struct param_value v = new_set->v[param_index(limit)], s = new_set->v[param_index(swap)];
    bool lower = is_lowered(old_set->v[param_index(limit)], v);
    bool lower_swap = is_lowered(old_set->v[param_index(swap)], s);
    auto_fd int fd = -1;
    uint64_t kept;
    if (!c || c->where == RESOURCE_ABSENT || v.unlimited || !(lower || lower_swap))
        return 0;
    int r = ve_open(node, c->branch, id, &fd, err);
    if (r == 0)
        r = read_kept(fd, c->where == RESOURCE_V2, s, &kept, err);
    if (r < 0)
        return r;
    if (lower && v.n < with_spare(kept))
        return memory_refuse(limit, v, kept, err);
    if (!lower && c->where == RESOURCE_V1 && v.n < kept) /* bounds both together */
        return memory_refuse(swap, s, s.n + kept - v.n, err);
    return 0;
}

/* v2 kills when memory.max falls below what cannot be reclaimed: reclaim first, then look. */
int memory_make_room(const struct param_row *row, int fd, struct param_value v, struct err *err)
{
    uint64_t used;
    int r = cgroup_read_number(fd, "memory.current", &used, err);
    if (r < 0 || used <= v.n)
        return r;
    /* Less than asked for is EAGAIN; what counts is what is left. */
    cgroup_write(fd, MEMORY_RECLAIM, NULL, "%" PRIu64, used - v.n);
    r = cgroup_read_number(fd, "memory.current", &used, err);
    if (r < 0)
        return r;
    return used <= v.n ? 0 : memory_refuse(row, v, used, err);
}

/* v1 charges TCP's buffers apart, and without this not at all: 64M of memory.limit held 600M of
 * queued bytes (seen on 6.18).  Datagrams' buffers it does not count anywhere. */
int memory_write_tcp(int fd, const struct param_set *set, struct err *err)
{
    struct param_value v = param_set_get(set, "memory.sockets"),
                       limit = param_set_get(set, "memory.limit");
    if (faccessat(fd, MEMORY_TCP, W_OK, 0) < 0)
        return 0;
    if (v.unlimited || (!limit.unlimited && limit.n < v.n))
        v = limit;
    return v.unlimited ? cgroup_write(fd, MEMORY_TCP, err, "-1\n")
                       : cgroup_write(fd, MEMORY_TCP, err, "%" PRIu64 "\n", v.n);
}

int memory_refuse_tcp(int fd, struct param_value v, struct err *err)
{
    char want[PARAM_TEXT], have[NUMBER_TEXT];
    uint64_t used = 0;
    cgroup_read_number(fd, "memory.kmem.tcp.usage_in_bytes", &used, NULL);
    return err_set(
        err, ERR_STATE,
        "memory.sockets %s is below the %s that TCP sockets hold now; close connections, "
        "or choose at least as much",
        param_format(param_find("memory.sockets"), v, want), number_format_size(used, have));
}

/* ---- protection of v2 ---- */

bool memory_bounds_protection(const char *v2_file)
{
    return str_eq(v2_file, "memory.max") || str_eq(v2_file, "memory.high");
}

/* Not all when a limit is as low: Linux before 6.2 may leave what is protected alone at the VE's
 * own limit, too, and a process would be killed for memory that page cache holds. */
int memory_protect(int fd, const struct param_set *set, struct err *err)
{
    static const char *const limits[] = {"memory.limit", "memory.soft"};
    uint64_t n = param_set_get(set, "memory.guarantee").n;
    for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
        struct param_value v = param_set_get(set, limits[i]);
        if (!v.unlimited && v.n - v.n / 8 < n)
            n = v.n - v.n / 8;
    }
    return cgroup_write(fd, MEMORY_PROTECTION, err, "%" PRIu64 "\n", n);
}

/* ---- by force ---- */

struct choice {
    uint64_t limit;
    int64_t points; /* of the best one so far */
    struct resource_victim victim;
    uint64_t goes;  /* of shared memory and of room in swap, at most, when all are killed */
    bool any, init; /* init: the VE's first process was seen */
};

static uint64_t status_number(const char *status, const char *key)
{
    uint64_t n;
    return number_after(status, key, UINT64_MAX / 1024, &n) ? n : 0;
}

/* "NSpid:\t1234\t56": the last number is what the process calls itself. */
static pid_t pid_inside(const char *status)
{
    const char *at = strstr(status, "\nNSpid:");
    uint64_t n = 0;
    if (!at)
        return 0;
    auto_free char *line = strndup(at + 7, strcspn(at + 7, "\n"));
    char *last = line ? strrchr(line, '\t') : NULL;
    return last && number_parse(last + 1, 1, INT32_MAX, &n, NULL) == 0 ? (pid_t)n : 0;
}

static char *read_status(pid_t pid, int *ret_adj)
{
    char path[64], *status = NULL;
    auto_free char *adj = NULL;
    str_print(path, sizeof(path), "/proc/%d/oom_score_adj", pid);
    *ret_adj = 0;
    if (fd_read_file_at(AT_FDCWD, path, 64, &adj, NULL, NULL) == 0) {
        uint64_t n;
        char *text = str_trim(adj);
        bool minus = *text == '-';
        if (number_parse(text + minus, 0, 1000, &n, NULL) == 0)
            *ret_adj = minus ? -(int)n : (int)n;
    }
    str_print(path, sizeof(path), "/proc/%d/status", pid);
    return fd_read_file_at(AT_FDCWD, path, 16384, &status, NULL, NULL) < 0 ? NULL : status;
}

pid_t resource_pid_inside(pid_t pid)
{
    int adj;
    auto_free char *status = read_status(pid, &adj);
    return status ? pid_inside(status) : 0;
}

/* Weighs a process as oom_badness() of the kernel does; its first process is not for sale. */
static int weigh(void *ctx, pid_t pid)
{
    struct choice *c = ctx;
    struct resource_victim v = {.pid = pid};
    auto_free char *status = read_status(pid, &v.adj);
    if (!status || pid == getpid())
        return 0;
    v.pid_inside = pid_inside(status);
    v.held_bytes = 1024 * (status_number(status, "\nVmRSS:") + status_number(status, "\nVmSwap:") +
                           status_number(status, "\nVmPTE:"));
    if (v.pid_inside == 1) {
        c->init = true;
        return 0;
    }
    c->goes += 1024 * (status_number(status, "\nRssShmem:") + status_number(status, "\nVmSwap:"));
    if (v.adj == ADJ_NEVER || v.held_bytes == 0) /* the latter: it is dying already */
        return 0;
    int64_t points = (int64_t)v.held_bytes + (int64_t)(c->limit / 1000) * v.adj;
    if (c->any && points <= c->points)
        return 0;
    str_print(v.name, sizeof(v.name), "%.*s", (int)strcspn(status + 6, "\n"), status + 6);
    c->any = true;
    c->points = points;
    c->victim = v;
    return 0;
}

struct walk {
    int (*item)(void *ctx, pid_t pid);
    void *ctx;
    unsigned depth;
};

static int walk_child(void *ctx, int fd, const char *name, struct err *err);

/* v2: also of groups that the VE made inside. */
static int each_below(struct walk *w, int fd)
{
    int r = cgroup_each_process(fd, w->item, w->ctx, NULL);
    if (r < 0 || w->depth == DEPTH_MAX)
        return r;
    w->depth++;
    r = cgroup_each_child(fd, walk_child, w, NULL);
    w->depth--;
    return r;
}

static int walk_child(void *ctx, int fd, const char *name, struct err *err)
{
    auto_fd int child = -1;
    return cgroup_open(fd, name, &child, NULL) < 0 ? 0 : each_below(ctx, child);
}

static int find_process(void *ctx, pid_t pid)
{
    return *(pid_t *)ctx == pid ? -1 : 0;
}

/* Its number may have been given anew meanwhile: hold it, look again, then kill what is held. */
static bool end_process(int fd, pid_t pid)
{
    auto_fd int pidfd = -1;
    struct walk w = {.item = find_process, .ctx = &pid};
    if (fd_pidfd_open(pid, &pidfd, NULL) < 0 || each_below(&w, fd) == 0 ||
        fd_pidfd_kill(pidfd, SIGKILL, NULL) < 0)
        return false;
    fd_pidfd_wait_exit(pidfd, DYING_MS, NULL);
    return true;
}

static int force_over(const struct param_row *row, const struct choice *c, struct err *err)
{
    if (c->init)
        return err_set(err, ERR_STATE,
                       "cannot lower %s: what is in use is held by the VE's first process, or lies "
                       "in files in memory (tmpfs); remove those, or stop the VE",
                       row->key);
    return err_set(err, ERR_STATE,
                   "cannot lower %s: no process is left that could be killed; what is in use lies "
                   "in files in memory (tmpfs)",
                   row->key);
}

/* What lies in files in memory goes with no process: nobody is killed in vain.  What processes
 * map of it may go with them. */
static bool files_are_over(int fd, const struct choice *c)
{
    uint64_t shared = 0;
    if (cgroup_read_key(fd, "memory.stat", "total_shmem", &shared, NULL) < 0) /* v1 */
        cgroup_read_key(fd, "memory.stat", "shmem", &shared, NULL);
    return shared > c->goes && shared - c->goes > c->limit;
}

int memory_force(const struct resource_node *node, int64_t id, int fd, const struct param_row *row,
                 uint64_t limit, int (*again)(void *ctx, struct err *err), void *ctx,
                 struct err *err)
{
    int64_t deadline = clock_ms() + FORCE_MS;
    for (bool first = true;; first = false) {
        struct choice c = {.limit = limit};
        struct err e = {0};
        struct walk w = {.item = weigh, .ctx = &c};
        each_below(&w, fd);
        if (first && files_are_over(fd, &c))
            return err_set(err, ERR_STATE,
                           "cannot lower %s: files in memory (tmpfs) alone hold "
                           "more, which killing processes would not free; remove those, or stop "
                           "the VE",
                           row->key);
        if (c.any && end_process(fd, c.victim.pid)) {
            c.victim.ve = id;
            c.victim.where = RESOURCE_OOM_FORCE;
            if (node->on_kill)
                node->on_kill(node->on_kill_ctx, &c.victim);
        }
        if (again(ctx, &e) == 0)
            return 0;
        if (e.sys != EBUSY) {
            if (err)
                *err = e;
            return -e.kind;
        }
        if (!c.any)
            return force_over(row, &c, err);
        if (clock_ms() >= deadline)
            return err_set(err, ERR_TIMEOUT,
                           "cannot lower %s: it did not fit within %d ms of killing processes; try "
                           "again",
                           row->key, FORCE_MS);
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
}

void resource_on_kill(struct resource_node *node,
                      void (*fn)(void *ctx, const struct resource_victim *v), void *ctx)
{
    node->on_kill = fn;
    node->on_kill_ctx = ctx;
}
