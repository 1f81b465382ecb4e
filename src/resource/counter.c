/* SPDX-License-Identifier: GPL-2.0-or-later */
/* counter — what the kernel counts for a row: held now, held at most, refused. */
#include "base/cleanup.h"
#include "base/str.h"
#include "resource/node.h"

#define STAT "memory.stat"

struct source {
    const char *file, *key; /* key: in a flat-keyed file; NULL: the file is one number */
};

/* One per row and version of cgroups.  A file that this kernel lacks is a counter that it lacks.
 * Memory is refused when a process is killed for it, by a limit of a group inside, too:
 * memory.events.local has no kills (they count where the process was), its "oom" is two or three
 * for one kill (6.12), and "max" and v1's memory.failcnt also count each time when giving page
 * cache back was enough (39 of them before one kill, 6.18). */
static const struct counters_of {
    const char *row;
    bool v2;
    struct source held, maxheld, failcnt;
    const char *only_with; /* failcnt is not ours where this file is missing */
} sources[] = {
    /* Before pids.events.local (6.12) v2 counted a refused fork in the group that asked, which
     * is below the one that refused. */
    {"processes",
     true,
     {"pids.current"},
     {"pids.peak"},
     {"pids.events", "max"},
     "pids.events.local"},
    {"processes", false, {"pids.current"}, {"pids.peak"}, {"pids.events", "max"}, NULL},
    {"memory.limit",
     true,
     {"memory.current"},
     {"memory.peak"},
     {"memory.events", "oom_kill"},
     NULL},
    {"memory.limit",
     false,
     {"memory.usage_in_bytes"},
     {"memory.max_usage_in_bytes"},
     {"memory.oom_control", "oom_kill"},
     NULL},
    {"swap.limit",
     true,
     {"memory.swap.current"},
     {"memory.swap.peak"},
     {"memory.swap.events", "max"},
     NULL},
    /* v1 bounds memory and swap together: refusals are of both, the most of swap is unknown. */
    {"swap.limit", false, {STAT, "swap"}, {NULL}, {"memory.memsw.failcnt"}, NULL},
    {"memory.kernel", true, {STAT, "kernel"}, {NULL}, {NULL}, NULL},
    {"memory.kernel",
     false,
     {"memory.kmem.usage_in_bytes"},
     {"memory.kmem.max_usage_in_bytes"},
     {NULL},
     NULL},
    {"memory.sockets", true, {STAT, "sock"}, {NULL}, {NULL}, NULL},
    {"memory.sockets",
     false,
     {"memory.kmem.tcp.usage_in_bytes"},
     {"memory.kmem.tcp.max_usage_in_bytes"},
     {"memory.kmem.tcp.failcnt"},
     NULL},
    /* All of it that the VE has, also where no limit but memory.limit holds. */
    {"memory.shared", true, {STAT, "shmem"}, {NULL}, {NULL}, NULL},
    {"memory.shared", false, {STAT, "total_shmem"}, {NULL}, {NULL}, NULL},
    {"memory.locked", true, {STAT, "unevictable"}, {NULL}, {NULL}, NULL},
    {"memory.locked", false, {STAT, "total_unevictable"}, {NULL}, {NULL}, NULL},
};

/* Rows of the container room that the memory controller counts and does not bound. */
static const struct param_row *counted_as(const struct param_row *row)
{
    bool counted = str_eq(row->key, "memory.shared") || str_eq(row->key, "memory.locked");
    return counted ? param_find("memory.limit") : row;
}

/* memory.stat, read once for all rows of a VE: it is the slowest of these files. */
struct stat_text {
    bool read;
    char text[CGROUP_TEXT];
};

static bool read_stat(int fd, const char *key, struct stat_text *stat, uint64_t *ret)
{
    if (!stat->read && cgroup_read(fd, STAT, stat->text, sizeof(stat->text), NULL) < 0)
        stat->text[0] = '\0';
    stat->read = true;
    return cgroup_key(stat->text, key, ret, NULL) == 0;
}

static struct param_count read_source(int fd, const struct source *s, struct stat_text *stat)
{
    struct param_count c = {0};
    if (s->file && str_eq(s->file, STAT))
        c.known = read_stat(fd, s->key, stat, &c.n);
    else if (s->file)
        c.known = (s->key ? cgroup_read_key(fd, s->file, s->key, &c.n, NULL)
                          : cgroup_read_number(fd, s->file, &c.n, NULL)) == 0;
    return c;
}

/* One VE's cgroups, each opened once for all of its rows. */
struct reader {
    const struct resource_node *node;
    int64_t id;
    int fd[BRANCHES_MAX]; /* -1: not opened yet */
    struct stat_text stat;
};

static void reader_begin(struct reader *r, const struct resource_node *node, int64_t id)
{
    r->node = node;
    r->id = id;
    r->stat.read = false;
    for (size_t i = 0; i < BRANCHES_MAX; i++)
        r->fd[i] = -1;
}

static void reader_end(struct reader *r)
{
    for (size_t i = 0; i < BRANCHES_MAX; i++)
        cleanup_fd(&r->fd[i]);
}

static int branch_of(struct reader *r, size_t branch)
{
    if (r->fd[branch] < 0)
        ve_open(r->node, branch, r->id, &r->fd[branch], NULL);
    return r->fd[branch];
}

static void read_row(struct reader *r, const struct param_row *row, struct param_counter *ret)
{
    const struct controller *c = node_controller(r->node, counted_as(row));
    int fd = c && c->where != RESOURCE_ABSENT ? branch_of(r, c->branch) : -1;
    if (fd < 0)
        return;
    if (huge_owns(row))
        huge_count(r->node, c->where == RESOURCE_V2, fd, ret);
    for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
        const struct counters_of *s = &sources[i];
        if (!str_eq(s->row, row->key) || s->v2 != (c->where == RESOURCE_V2))
            continue;
        ret->held = read_source(fd, &s->held, &r->stat);
        ret->maxheld = read_source(fd, &s->maxheld, &r->stat);
        if (!s->only_with || faccessat(fd, s->only_with, F_OK, 0) == 0)
            ret->failcnt = read_source(fd, &s->failcnt, &r->stat);
    }
}

static bool is_counted(const struct param_row *row)
{
    for (size_t i = 0; i < ARRAY_SIZE(sources); i++)
        if (str_eq(sources[i].row, row->key))
            return true;
    return huge_owns(row);
}

int resource_refused(struct resource_node *node, int64_t id, const struct param_row *row,
                     uint64_t *ret, struct err *err)
{
    struct param_counter c = {0};
    struct reader reader;
    reader_begin(&reader, node, id);
    read_row(&reader, row, &c);
    reader_end(&reader);
    if (!c.failcnt.known)
        return err_set(err, ERR_UNSUPPORTED, "refusals of %s are not counted here", row->key);
    *ret = c.failcnt.n;
    return 0;
}

void resource_counters_all(struct resource_node *node, bool on)
{
    node->no_huge = false;
    for (size_t i = 0; on && i < param_table_size; i++) {
        const struct controller *c =
            huge_owns(&param_table[i]) ? node_controller(node, &param_table[i]) : NULL;
        node->no_huge =
            node->no_huge || (c && c->where != RESOURCE_ABSENT && huge_is_unused(node, c));
    }
}

int resource_counters(struct resource_node *node, int64_t id, struct param_counters *list,
                      struct err *err)
{
    struct reader reader;
    reader_begin(&reader, node, id);
    int r = ve_open(node, 0, id, &reader.fd[0], err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < param_table_size; i++)
        if (is_counted(&param_table[i]))
            read_row(&reader, &param_table[i], param_counters_of(list, &param_table[i]));
    reader_end(&reader);
    return 0;
}
