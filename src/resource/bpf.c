/* SPDX-License-Identifier: GPL-2.0-or-later */
/* resource/bpf — rows of the table ↔ maps of kernel/bpf.h. */
#include "resource/bpf.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/str.h"
#include "kernel/bpf.h"
#include "resource/node.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#define CGROUP_ROOT_INODE 1 /* of cgroup v2's real root (cgroup_setup_root() in the kernel) */
/* exportfs' FILEID_KERNFS: the handle is the cgroup's id. */
#define HANDLE_KERNFS 0xfe

struct resource_bpf {
    struct resource_node *node; /* not ours */
    struct counts *counts;      /* NULL: nothing works, and why says what */
    char why[256];
    void (*heard)(void *ctx, const struct resource_refusal *r);
    void *heard_ctx;
    struct counts_item *all;  /* while the counters of all VEs are read; by rising ve, or NULL */
    struct counts_held *held; /* the same */
    size_t n_all, n_held;
};

static const struct bpf_row {
    const char *key;
    enum counts_row row;
    enum counts_part part;           /* that counts and limits all that the row means */
    enum resource_bpf_state without; /* what is left without it … */
    const char *left;                /* … for whoever reads it */
} rows[] = {
    {"sockets.tcp", COUNTS_TCP, COUNTS_PART_SOCKET, RESOURCE_BPF_NONE, NULL},
    {"sockets.other", COUNTS_OTHER, COUNTS_PART_OBJECT, RESOURCE_BPF_PART,
     "Unix, netlink and packet sockets are neither counted nor limited"},
    {"files", COUNTS_FILES, COUNTS_PART_OBJECT, RESOURCE_BPF_FALLBACK,
     "it limits each process instead of the VE, and is not counted"},
    {"file-locks", COUNTS_LOCKS, COUNTS_PART_LOCK, RESOURCE_BPF_NONE, NULL},
};

/* Sets that were left when a VE's cgroup went without resource_bpf_forget(). */
static void sweep(struct resource_bpf *bpf);

/* Rows that the container room bounds, counted here where the kernel lets us look. */
static const struct {
    const char *key;
    enum counts_row row;
} bounded[] = {{"inotify.instances", COUNTS_INOTIFY},
               {"inotify.watches", COUNTS_WATCHES},
               {"signals", COUNTS_SIGNALS},
               {"ptys", COUNTS_PTYS}};

int resource_bpf_open(struct resource_node *node, const char *dir, struct resource_bpf **ret,
                      struct err *err)
{
    struct resource_bpf *b = calloc(1, sizeof(*b));
    struct stat st;
    struct err why = {0};
    if (!b)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    b->node = node;
    if (fstat(node->branch[0].top, &st) < 0 || st.st_ino != CGROUP_ROOT_INODE)
        str_print(b->why, sizeof(b->why), "cgroup v2 is not mounted from its root");
    else if (counts_open(dir, node->branch[0].fd, &b->counts, &why) < 0)
        str_print(b->why, sizeof(b->why), "%s", why.text);
    if (b->counts)
        sweep(b);
    *ret = b;
    return 0;
}

void resource_bpf_close(struct resource_bpf *bpf)
{
    if (!bpf)
        return;
    resource_bpf_counters_all(bpf, false);
    counts_close(bpf->counts);
    free(bpf);
}

int resource_bpf_remove(const char *dir, struct err *err)
{
    return counts_remove(dir, err);
}

static const struct bpf_row *find_row(const struct param_row *row)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (str_eq(rows[i].key, row->key))
            return &rows[i];
    return NULL;
}

enum resource_bpf_state resource_bpf_row(const struct resource_bpf *bpf,
                                         const struct param_row *row, const char **ret_why)
{
    const struct bpf_row *r = find_row(row);
    const char *why = NULL;
    enum resource_bpf_state state = RESOURCE_BPF_LIMITED;
    if (!r) {
        why = "no BPF program counts it";
        state = RESOURCE_BPF_NONE;
    } else if (!bpf->counts) {
        why = bpf->why;
        state = r->without == RESOURCE_BPF_FALLBACK ? RESOURCE_BPF_FALLBACK : RESOURCE_BPF_NONE;
    } else if ((why = counts_why(bpf->counts, r->part))) {
        state = r->without;
    }
    if (ret_why)
        *ret_why = why;
    return state;
}

const char *resource_bpf_partly(const struct resource_bpf *bpf, const struct param_row *row,
                                const char **ret_why)
{
    enum resource_bpf_state state = resource_bpf_row(bpf, row, ret_why);
    bool some = state == RESOURCE_BPF_PART || state == RESOURCE_BPF_FALLBACK;
    return some ? find_row(row)->left : NULL;
}

const char *resource_bpf_why_unnamed(const struct resource_bpf *bpf)
{
    return bpf->counts ? counts_why(bpf->counts, COUNTS_PART_REFUSAL) : bpf->why;
}

const char *resource_bpf_why_uncounted(const struct resource_bpf *bpf)
{
    return bpf->counts ? counts_why(bpf->counts, COUNTS_PART_HELD) : bpf->why;
}

const char *resource_bpf_why_unrefused(const struct resource_bpf *bpf)
{
    return bpf->counts ? counts_why(bpf->counts, COUNTS_PART_UCOUNT) : bpf->why;
}

int resource_bpf_quotas(struct resource_bpf *bpf, bool on, struct err *err)
{
    if (!bpf->counts)
        return on ? err_set(err, ERR_UNSUPPORTED, "%s", bpf->why) : 0;
    return counts_quotas(bpf->counts, on, err);
}

enum resource_bpf_wish resource_bpf_quotas_look(struct resource_bpf *bpf, bool on)
{
    static const enum resource_bpf_wish map[] = {
        [COUNTS_AS_WISHED] = RESOURCE_BPF_AS_WISHED,
        [COUNTS_TO_DO] = RESOURCE_BPF_TO_DO,
        [COUNTS_CANNOT] = RESOURCE_BPF_CANNOT,
    };
    if (!bpf->counts)
        return on ? RESOURCE_BPF_CANNOT : RESOURCE_BPF_AS_WISHED;
    return map[counts_quotas_look(bpf->counts, on)];
}

int resource_bpf_check(const struct resource_bpf *bpf, const struct param_set *set, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct param_row *row = param_find(rows[i].key);
        size_t at = param_index(row);
        const char *why;
        if (!set->given[at] || set->v[at].unlimited)
            continue;
        if (resource_bpf_row(bpf, row, &why) == RESOURCE_BPF_NONE)
            return err_set(err, ERR_UNSUPPORTED, "%s cannot be enforced here: %s", row->key, why);
    }
    return 0;
}

/* The id by which BPF knows a cgroup is its directory's inode number (64 bits, since 5.5). */
static int ve_key(const struct resource_bpf *bpf, int64_t id, uint64_t *ret, struct err *err)
{
    struct stat st;
    char name[VE_NAME_SIZE];
    *ret = 0;
    if (fstatat(bpf->node->branch[0].fd, ve_name(id, name), &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(err, "cannot look at the VE's cgroup");
    *ret = st.st_ino;
    return 0;
}

int resource_bpf_apply(struct resource_bpf *bpf, int64_t id, const struct param_set *set,
                       bool guard, struct err *err)
{
    struct counts_limits limits = {.guarded = guard ? COUNTS_GUARD_LIMITS : 0};
    uint64_t cgroup;
    auto_fd int fd = -1;
    if (!bpf->counts)
        return 0; /* resource_bpf_check() refuses what needs it */
    for (size_t i = 0; i < ARRAY_SIZE(limits.limit); i++)
        limits.limit[i] = COUNTS_UNLIMITED;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct param_value v = param_set_get(set, rows[i].key);
        if (!v.unlimited)
            limits.limit[rows[i].row] = v.n;
    }
    if (guard && !param_set_get(set, "memory.sockets").unlimited)
        limits.guarded |= COUNTS_GUARD_BUFFERS;
    int r = ve_key(bpf, id, &cgroup, err);
    if (r == 0 && limits.limit[COUNTS_TCP] != COUNTS_UNLIMITED) {
        r = ve_open(bpf->node, 0, id, &fd, err);
        if (r == 0)
            r = counts_guard(bpf->counts, fd, err);
    }
    return r < 0 ? r : counts_put(bpf->counts, cgroup, &limits, err);
}

int resource_bpf_forget(struct resource_bpf *bpf, int64_t id, struct err *err)
{
    uint64_t cgroup;
    struct err why = {0};
    if (!bpf->counts)
        return 0;
    int r = ve_key(bpf, id, &cgroup, &why);
    if (r == -ERR_NOT_FOUND)
        return 0;
    if (r < 0)
        return err_set(err, why.kind, "%s", why.text);
    return counts_forget(bpf->counts, cgroup, err);
}

static struct param_count count_of(uint64_t n)
{
    return (struct param_count){.known = true, .n = n};
}

/* Of rows that others bound.  Either half may be known alone. */
struct bounded_count {
    bool held_known, most_known;
    uint64_t held, maxheld, failcnt;
};

static void put_bounded(struct param_counters *list, const char *key, struct bounded_count n)
{
    struct param_counter *c = param_counters_of(list, param_find(key));
    if (n.held_known)
        c->held = count_of(n.held);
    if (!n.most_known)
        return;
    /* The two are read one after the other, and one may be known elsewhere. */
    c->maxheld = count_of(c->held.known && c->held.n > n.maxheld ? c->held.n : n.maxheld);
    c->failcnt = count_of(n.failcnt);
}

static uint64_t above(int64_t n, int64_t own)
{
    return n > own ? (uint64_t)(n - own) : 0;
}

/* Both begin with the id of the VE's cgroup. */
static int by_ve(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void resource_bpf_counters_all(struct resource_bpf *bpf, bool on)
{
    cleanup_free(&bpf->all);
    cleanup_free(&bpf->held);
    if (!on || !bpf->counts)
        return;
    if (counts_all(bpf->counts, &bpf->all, &bpf->n_all, NULL) == 0)
        qsort(bpf->all, bpf->n_all, sizeof(*bpf->all), by_ve);
    if (counts_held_all(bpf->counts, &bpf->held, &bpf->n_held, NULL) == 0)
        qsort(bpf->held, bpf->n_held, sizeof(*bpf->held), by_ve);
}

static bool read_counts(const struct resource_bpf *bpf, uint64_t cgroup, struct counts_ve *ret)
{
    if (!bpf->all)
        return counts_get(bpf->counts, cgroup, ret, NULL) == 0;
    const struct counts_item *item =
        bsearch(&cgroup, bpf->all, bpf->n_all, sizeof(*bpf->all), by_ve);
    if (item)
        *ret = item->counts;
    return item;
}

static bool read_held(const struct resource_bpf *bpf, uint64_t cgroup, int pidfd,
                      struct counts_held *ret)
{
    if (!bpf->held)
        return pidfd >= 0 && counts_held(bpf->counts, pidfd, ret, NULL) == 0;
    const struct counts_held *held =
        bsearch(&cgroup, bpf->held, bpf->n_held, sizeof(*bpf->held), by_ve);
    if (held)
        *ret = *held;
    return held;
}

/* Each type of namespace is bounded for itself: the fullest one is shown.  The VE's own of each
 * type is beside the limit. */
static void count_bounded(const struct resource_bpf *bpf, uint64_t cgroup,
                          const struct counts_ve *now, int pidfd, struct param_counters *list)
{
    struct counts_held held = {0};
    struct bounded_count sum = {.held_known = read_held(bpf, cgroup, pidfd, &held),
                                .most_known = !counts_why(bpf->counts, COUNTS_PART_UCOUNT)};
    for (size_t i = 0; i < ARRAY_SIZE(bounded); i++) {
        enum counts_row row = bounded[i].row;
        struct bounded_count n = sum;
        n.held_known = n.held_known && row != COUNTS_PTYS;
        n.held = above(held.row[row], 0);
        n.maxheld = now->row[row].maxheld;
        n.failcnt = now->row[row].failcnt;
        put_bounded(list, bounded[i].key, n);
    }
    for (unsigned i = COUNTS_NAMESPACES; i < COUNTS_NAMESPACES + COUNTS_NAMESPACE_TYPES; i++) {
        uint64_t h = above(held.row[i], 1), m = above((int64_t)now->row[i].maxheld, 1);
        sum.held = h > sum.held ? h : sum.held;
        sum.maxheld = m > sum.maxheld ? m : sum.maxheld;
        sum.failcnt += now->row[i].failcnt;
    }
    put_bounded(list, "namespaces", sum);
    const struct {
        const char *key;
        uint64_t held;
    } ipc[] = {{"ipc.queues", held.queues},
               {"ipc.semaphores", held.semaphores},
               {"ipc.segments", held.segments}};
    for (size_t i = 0; sum.held_known && i < ARRAY_SIZE(ipc); i++)
        param_counters_of(list, param_find(ipc[i].key))->held = count_of(ipc[i].held);
}

/* Refusals of disk quotas; ve/disk.c knows the rest of these rows. */
static void count_quotas(const struct resource_bpf *bpf, const struct counts_ve *now,
                         struct param_counters *list)
{
    enum counts_part by = counts_quotas_by(bpf->counts);
    if (by != COUNTS_PARTS)
        param_counters_of(list, param_find("disk.space"))->failcnt =
            count_of(now->row[COUNTS_SPACE].failcnt);
    if (by == COUNTS_PART_QUOTA)
        param_counters_of(list, param_find("disk.inodes"))->failcnt =
            count_of(now->row[COUNTS_INODES].failcnt);
}

int resource_bpf_counters(struct resource_bpf *bpf, int64_t id, int pidfd,
                          struct param_counters *list, struct err *err)
{
    struct counts_ve now = {0};
    uint64_t cgroup = 0;
    bool known = false;
    if (bpf->counts) {
        int r = ve_key(bpf, id, &cgroup, err);
        if (r < 0)
            return r;
        known = read_counts(bpf, cgroup, &now);
    }
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct param_row *row = param_find(rows[i].key);
        struct param_counter *c = param_counters_of(list, row);
        enum resource_bpf_state state = resource_bpf_row(bpf, row, NULL);
        if (!known || (state != RESOURCE_BPF_LIMITED && state != RESOURCE_BPF_PART))
            continue; /* listed, and not counted here */
        c->held = count_of(now.row[rows[i].row].held);
        c->maxheld = count_of(now.row[rows[i].row].maxheld);
        c->failcnt = count_of(now.row[rows[i].row].failcnt);
    }
    if (known) {
        count_bounded(bpf, cgroup, &now, pidfd, list);
        count_quotas(bpf, &now, list);
    }
    /* Before 6.12 cgroup v2 counts refused forks in the wrong group; the program does not. */
    struct param_counter *processes = param_counters_of(list, param_find("processes"));
    if (known && !processes->failcnt.known && !resource_bpf_why_unnamed(bpf))
        processes->failcnt = count_of(now.row[COUNTS_PROCESSES].failcnt);
    return 0;
}

/* 0: it is gone, or never was a VE's. */
static int64_t ve_of_cgroup(const struct resource_bpf *bpf, uint64_t cgroup)
{
    struct {
        struct file_handle head;
        uint64_t id;
    } handle = {.head = {.handle_bytes = sizeof(cgroup), .handle_type = HANDLE_KERNFS}};
    _Static_assert(sizeof(struct file_handle) == 8, "the id follows the head");
    char link[FD_PATH_MAX], path[PATH_MAX];
    handle.id = cgroup;
    auto_fd int fd = open_by_handle_at(bpf->node->branch[0].fd, &handle.head, O_PATH | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : readlink(fd_path(fd, link), path, sizeof(path) - 1);
    if (n <= 0)
        return 0;
    path[n] = '\0';
    const char *name = strrchr(path, '/');
    uint64_t id;
    if (!name || strncmp(name, "/ve-", 4) != 0 ||
        number_parse(name + 4, 1, INT64_MAX, &id, NULL) < 0)
        return 0;
    return (int64_t)id;
}

static void sweep(struct resource_bpf *bpf)
{
    auto_free struct counts_item *all = NULL;
    size_t n = 0;
    if (counts_all(bpf->counts, &all, &n, NULL) < 0)
        return;
    for (size_t i = 0; i < n; i++)
        if (!ve_of_cgroup(bpf, all[i].ve))
            counts_forget(bpf->counts, all[i].ve, NULL);
}

static void event(void *ctx, const struct counts_event *e)
{
    struct resource_bpf *b = ctx;
    const char *key = e->row == COUNTS_PROCESSES ? "processes"
                      : e->row == COUNTS_SPACE   ? "disk.space"
                      : e->row == COUNTS_INODES  ? "disk.inodes"
                                                 : NULL;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].row == e->row)
            key = rows[i].key;
    for (size_t i = 0; i < ARRAY_SIZE(bounded); i++)
        if (bounded[i].row == e->row)
            key = bounded[i].key;
    if (e->row >= COUNTS_NAMESPACES && e->row < COUNTS_ROWS)
        key = "namespaces";
    struct resource_refusal r = {
        .row = key ? param_find(key) : NULL,
        .id = ve_of_cgroup(b, e->ve),
        .boot_ns = (int64_t)e->boot_ns,
        .failcnt = e->failcnt,
        .pid = (pid_t)e->pid,
        .pid_inside = (pid_t)e->pid_inside,
    };
    str_print(r.comm, sizeof(r.comm), "%.15s", e->comm);
    if (r.row && r.id)
        b->heard(b->heard_ctx, &r);
}

int resource_bpf_listen(struct resource_bpf *bpf,
                        void (*heard)(void *ctx, const struct resource_refusal *r), void *ctx,
                        int *ret_fd, struct err *err)
{
    if (!bpf->counts)
        return err_set(err, ERR_UNSUPPORTED, "%s", bpf->why);
    bpf->heard = heard;
    bpf->heard_ctx = ctx;
    return counts_listen(bpf->counts, event, bpf, ret_fd, err);
}

int resource_bpf_hear(struct resource_bpf *bpf, struct err *err)
{
    return bpf->counts ? counts_hear(bpf->counts, err) : 0;
}

uint64_t resource_bpf_lost(const struct resource_bpf *bpf)
{
    return bpf->counts ? counts_lost(bpf->counts) : 0;
}
