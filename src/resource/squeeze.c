/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * squeeze — gives back the memory that a VE does not use now: to swap, and of page cache.
 *
 * v2 takes an amount (memory.reclaim).  v1's memory.force_empty takes all, least used first, and
 * a signal interrupts it: a timer does, so that we look how far it is.
 */
#include "base/cleanup.h"
#include "base/str.h"
#include "resource/node.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#define STEP_MIN    (1024 * 1024ull)
#define STEPS       64     /* of what it held at first */
#define STEP_US     2000   /* 10 MB and more go to zram in it */
#define STEP_MAX_US 200000 /* when a shorter one gave nothing: others may have the processors */
#define WINDOWS     8      /* of what it held at first, to see what comes back in */
#define WINDOW_MIN  (8 * 1024 * 1024ull)
#define IDLE_V2     3 /* steps that gave nothing: there is no more */
#define IDLE_V1     20
#define PAGE        ((uint64_t)sysconf(_SC_PAGESIZE))
#define SWAPS_MAX   8192

struct state {
    uint64_t used, swap, cache, refaulted; /* bytes */
};

static uint64_t stat_of(int fd, const char *key)
{
    uint64_t n = 0;
    return cgroup_read_key(fd, "memory.stat", key, &n, NULL) < 0 ? 0 : n;
}

static int look(int fd, bool v2, struct state *ret, struct err *err)
{
    struct state s = {0};
    int r = cgroup_read_number(fd, v2 ? "memory.current" : "memory.usage_in_bytes", &s.used, err);
    if (r < 0)
        return r;
    if (!v2)
        s.swap = stat_of(fd, "swap");
    else if (cgroup_read_number(fd, "memory.swap.current", &s.swap, NULL) < 0)
        s.swap = 0;
    uint64_t file = stat_of(fd, v2 ? "file" : "cache"), shmem = stat_of(fd, "shmem");
    s.cache = file > shmem ? file - shmem : 0; /* tmpfs goes to swap */
    s.refaulted =
        (stat_of(fd, "workingset_refault_anon") + stat_of(fd, "workingset_refault_file")) * PAGE;
    *ret = s;
    return 0;
}

static void on_tick(int sig)
{
}

/* 0: there may be more; 1: all is given back. */
static int step_v1(int fd, unsigned idle, struct err *err)
{
    struct sigaction tick = {.sa_handler = on_tick}, old; /* without SA_RESTART */
    long us = idle < 7 ? STEP_US << idle : STEP_MAX_US;   /* 2, 4, 8, … 128 ms */
    struct itimerval soon = {{0, us}, {0, us}}, none = {{0}};
    auto_fd int f = openat(fd, "memory.force_empty", O_WRONLY | O_CLOEXEC);
    if (f < 0)
        return err_sys(err, "cannot open memory.force_empty");
    sigaction(SIGALRM, &tick, &old);
    setitimer(ITIMER_REAL, &soon, NULL);
    ssize_t n = write(f, "0", 1);
    int sys = errno;
    setitimer(ITIMER_REAL, &none, NULL);
    sigaction(SIGALRM, &old, NULL);
    if (n >= 0)
        return 1;
    return sys == EINTR ? 0 : err_sysno(err, sys, "cannot write memory.force_empty");
}

static int step_v2(int fd, uint64_t bytes, struct err *err)
{
    struct err e = {0};
    int r = cgroup_write(fd, MEMORY_RECLAIM, &e, "%" PRIu64, bytes);
    if (r == 0 || e.sys == EAGAIN || e.sys == EINTR) /* EAGAIN: less than asked for */
        return 0;
    if (err)
        *err = e;
    return r;
}

/* What comes back at once is in use: a quarter of what was given back, looked at over so much that
 * the few pages of a process that just woke up do not count. */
static bool is_wanted(const struct state *mark, const struct state *now, uint64_t window)
{
    uint64_t given = mark->used > now->used ? mark->used - now->used : 0;
    return now->refaulted - mark->refaulted > (given > window ? given : window) / 4;
}

static int squeeze(int fd, bool v2, const struct resource_squeeze *q, const struct state *first,
                   struct err *err)
{
    uint64_t step = first->used / STEPS > STEP_MIN ? first->used / STEPS : STEP_MIN;
    uint64_t window = first->used / WINDOWS > WINDOW_MIN ? first->used / WINDOWS : WINDOW_MIN;
    struct state before = *first, now = *first, mark = *first;
    unsigned idle = 0;
    int over = 0;
    while (over == 0 && idle < (v2 ? IDLE_V2 : IDLE_V1) && now.used > q->to) {
        uint64_t left = now.used - q->to;
        if (q->progress &&
            q->progress(q->ctx,
                        (int)((first->used - (now.used < first->used ? now.used : first->used)) *
                              100 / (first->used - q->to))))
            return err_set(err, ERR_CANCELLED, "cancelled");
        over = v2 ? step_v2(fd, left < step ? left : step, err) : step_v1(fd, idle, err);
        if (over < 0 || (over = look(fd, v2, &now, err) < 0 ? -err->kind : over) < 0)
            return over;
        uint64_t given = before.used > now.used ? before.used - now.used : 0;
        idle = given < PAGE * 16 ? idle + 1 : 0;
        if (q->cold_only && is_wanted(&mark, &now, window))
            break;
        if (mark.used > now.used && mark.used - now.used >= window)
            mark = now;
        before = now;
    }
    return 0;
}

int resource_squeeze(struct resource_node *node, int64_t id, const struct resource_squeeze *q,
                     struct resource_squeezed *ret, struct err *err)
{
    const struct controller *c = node_controller(node, param_find("memory.limit"));
    struct err own = {0};
    struct state first, last;
    auto_fd int fd = -1;
    err = err ? err : &own;
    if (!c || c->where == RESOURCE_ABSENT)
        return err_set(err, ERR_UNSUPPORTED, "cgroup controller memory is not available");
    bool v2 = c->where == RESOURCE_V2;
    int r = ve_open(node, c->branch, id, &fd, err);
    if (r == 0)
        r = look(fd, v2, &first, err);
    if (r == 0)
        r = squeeze(fd, v2, q, &first, err);
    if (r < 0)
        return r;
    r = look(fd, v2, &last, err);
    if (r < 0)
        return r;
    *ret = (struct resource_squeezed){
        .before = first.used,
        .after = last.used,
        .swapped = last.swap > first.swap ? last.swap - first.swap : 0,
        .cache = first.cache > last.cache ? first.cache - last.cache : 0,
    };
    return 0;
}

/* /proc/swaps: a heading, then "/dev/zram0 partition …" for each. */
bool resource_swaps(char *buf, size_t size)
{
    char text[SWAPS_MAX];
    size_t len = 0;
    bool any = false;
    buf[0] = '\0';
    if (cgroup_read(AT_FDCWD, "/proc/swaps", text, sizeof(text), NULL) < 0)
        return false;
    for (char *line = strchr(text, '\n'); line; line = strchr(line, '\n')) {
        const char *name = ++line, *slash;
        size_t n = strcspn(name, " \t\n");
        if (n == 0)
            continue;
        any = true;
        slash = memrchr(name, '/', n);
        if (slash) {
            n -= (size_t)(slash + 1 - name);
            name = slash + 1;
        }
        if (len < size &&
            str_print(buf + len, size - len, "%s%.*s", len ? ", " : "", (int)n, name) == 0)
            len = strlen(buf);
    }
    return any;
}
