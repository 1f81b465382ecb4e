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
};

static const struct bpf_row {
    const char *key;
    enum counts_row row;
    enum counts_part part;           /* that counts and limits all that the row means */
    enum resource_bpf_state without; /* what is left without it */
} rows[] = {
    {"sockets.tcp", COUNTS_TCP, COUNTS_PART_SOCKET, RESOURCE_BPF_NONE},
    {"sockets.other", COUNTS_OTHER, COUNTS_PART_OBJECT, RESOURCE_BPF_PART},
    {"files", COUNTS_FILES, COUNTS_PART_OBJECT, RESOURCE_BPF_FALLBACK},
    {"file-locks", COUNTS_LOCKS, COUNTS_PART_LOCK, RESOURCE_BPF_NONE},
};

/* Sets that were left when a VE's cgroup went without resource_bpf_forget(). */
static void sweep(struct resource_bpf *bpf);

/* Rows that the container room bounds, counted here where the kernel lets us look. */
static const struct {
    const char *key;
    enum counts_row row;
} bounded[] = {{"inotify.instances", COUNTS_INOTIFY}, {"inotify.watches", COUNTS_WATCHES}};

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

const char *resource_bpf_why_unnamed(const struct resource_bpf *bpf)
{
    return bpf->counts ? counts_why(bpf->counts, COUNTS_PART_REFUSAL) : bpf->why;
}

const char *resource_bpf_why_uncounted(const struct resource_bpf *bpf)
{
    return bpf->counts ? counts_why(bpf->counts, COUNTS_PART_UCOUNT) : bpf->why;
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
static int open_ve(const struct resource_bpf *bpf, int64_t id, int *ret_fd, uint64_t *ret,
                   struct err *err)
{
    struct stat st;
    auto_fd int fd = -1;
    int r = ve_open(bpf->node, 0, id, &fd, err);
    if (r < 0)
        return r;
    if (fstat(fd, &st) < 0)
        return err_sys(err, "cannot look at the VE's cgroup");
    *ret = st.st_ino;
    if (ret_fd)
        *ret_fd = steal_fd(&fd);
    return 0;
}

int resource_bpf_apply(struct resource_bpf *bpf, int64_t id, const struct param_set *set,
                       bool guard, struct err *err)
{
    struct counts_limits limits = {.guarded = guard};
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
    int r = open_ve(bpf, id, &fd, &cgroup, err);
    if (r == 0 && limits.limit[COUNTS_TCP] != COUNTS_UNLIMITED)
        r = counts_guard(bpf->counts, fd, err);
    return r < 0 ? r : counts_put(bpf->counts, cgroup, &limits, err);
}

int resource_bpf_forget(struct resource_bpf *bpf, int64_t id, struct err *err)
{
    uint64_t cgroup;
    struct err why = {0};
    if (!bpf->counts)
        return 0;
    int r = open_ve(bpf, id, NULL, &cgroup, &why);
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

/* Of rows that others bound.  Each type of namespace is bounded for itself: the fullest one is
 * shown.  The VE's own of each type is beside the limit; its own user namespace is not counted. */
static void count_bounded(const struct counts_ve *now, struct param_counters *list)
{
    uint64_t held = 0, maxheld = 0, failcnt = 0;
    for (unsigned i = 0; i < COUNTS_NAMESPACE_TYPES; i++) {
        uint64_t own = i > 0, h = now->row[COUNTS_NAMESPACES + i].held,
                 m = now->row[COUNTS_NAMESPACES + i].maxheld;
        held = h > held + own ? h - own : held;
        maxheld = m > maxheld + own ? m - own : maxheld;
        failcnt += now->row[COUNTS_NAMESPACES + i].failcnt;
    }
    struct param_counter *c = param_counters_of(list, param_find("namespaces"));
    c->held = count_of(held);
    c->maxheld = count_of(maxheld);
    c->failcnt = count_of(failcnt);
    for (size_t i = 0; i < ARRAY_SIZE(bounded); i++) {
        c = param_counters_of(list, param_find(bounded[i].key));
        c->held = count_of(now->row[bounded[i].row].held);
        c->maxheld = count_of(now->row[bounded[i].row].maxheld);
        c->failcnt = count_of(now->row[bounded[i].row].failcnt);
    }
}

int resource_bpf_counters(struct resource_bpf *bpf, int64_t id, struct param_counters *list,
                          struct err *err)
{
    struct counts_ve now = {0};
    uint64_t cgroup = 0;
    bool known = false;
    if (bpf->counts) {
        int r = open_ve(bpf, id, NULL, &cgroup, err);
        if (r < 0)
            return r;
        known = counts_get(bpf->counts, cgroup, &now, NULL) == 0;
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
    if (known && !counts_why(bpf->counts, COUNTS_PART_UCOUNT))
        count_bounded(&now, list);
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
    const char *key = e->row == COUNTS_PROCESSES ? "processes" : NULL;
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
