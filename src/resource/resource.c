/* SPDX-License-Identifier: GPL-2.0-or-later */
/* resource — a VE's cgroups are made with their limits and changed while it runs. */
#include "resource/resource.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/str.h"
#include "resource/node.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#define INNER_OLD      "ve"   /* see open_v2() */
#define PERIOD_US      100000 /* of cpu.limit: the kernel's default */
#define UNDO_MS        50
#define SHARES_DEFAULT 1024 /* cpu.shares of v1, where v2's cpu.weight is 100 */

/* Bounds for what the VE's own service manager may make below: each cgroup costs kernel memory. */
#define DESCENDANTS_MAX 2048
#define DEPTH_MAX       32

void resource_cgroups_done(struct resource_cgroups *c)
{
    if (c->v2 > 0)
        close(c->v2);
    c->v2 = -1;
    while (c->n_v1)
        close(c->v1_procs[--c->n_v1]);
}

const char *ve_name(int64_t id, char buf[VE_NAME_SIZE])
{
    str_print(buf, VE_NAME_SIZE, "ve-%" PRId64, id);
    return buf;
}

int ve_open(const struct resource_node *node, size_t branch, int64_t id, int *ret_fd,
            struct err *err)
{
    char name[VE_NAME_SIZE];
    return cgroup_open(node->branch[branch].fd, ve_name(id, name), ret_fd, err);
}

/* A new cgroup has it by itself.  Defaults of limits are Terem's own, those of other kinds are the
 * kernel's too. */
static bool is_kernels_own(const struct param_row *row, struct param_value v)
{
    return v.unlimited || (row->kind != PARAM_LIMIT && param_value_same(v, row->def));
}

/* v1 bounds memory and swap together: what is written depends on memory.limit as well. */
static bool is_memsw(const struct param_row *row, const struct controller *c)
{
    return c->where == RESOURCE_V1 && str_eq(row->v1_file, "memory.memsw.limit_in_bytes");
}

/* The row's file in the hierarchy of its controller. */
static const char *file_of(const struct param_row *row, bool v2)
{
    return v2 ? row->v2_file : row->v1_file;
}

/* Rows that are more than one number in one file. */
static const struct many_files {
    bool (*owns)(const struct param_row *row);
    int (*check)(const struct resource_node *node, const struct param_row *row,
                 const struct controller *c, struct param_value v, struct err *err);
    int (*write)(const struct resource_node *node, const struct param_row *row,
                 const struct controller *c, int fd, struct param_value v, struct err *err);
} many_files[] = {{io_owns, io_check, io_write}, {huge_owns, huge_check, huge_write}};

static const struct many_files *many_files_of(const struct param_row *row)
{
    for (size_t i = 0; i < ARRAY_SIZE(many_files); i++)
        if (many_files[i].owns(row))
            return &many_files[i];
    return NULL;
}

const char *resource_partly(const struct resource_node *node, const struct param_row *row)
{
    const struct controller *c = node_controller(node, row);
    bool part = c && c->where == RESOURCE_V2 && (row->flags & PARAM_V2_PART) && !row->v2_file;
    return part ? row->v2_why : NULL;
}

static int check_row(const struct resource_node *node, const struct param_row *row,
                     const struct param_set *set, struct err *err)
{
    const struct controller *c = node_controller(node, row);
    if (!c)
        return 0;
    if (c->where == RESOURCE_ABSENT)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s cannot be enforced here: cgroup controller %s is not available, %s",
                       row->key, row->controller, c->why);
    const struct many_files *many = many_files_of(row);
    if (many)
        return many->check(node, row, c, set->v[param_index(row)], err);
    const char *file = file_of(row, c->where == RESOURCE_V2);
    if (resource_partly(node, row))
        return 0;
    if (!file)
        return err_set(err, ERR_UNSUPPORTED, "%s cannot be enforced here: %s", row->key,
                       c->where == RESOURCE_V2 ? row->v2_why : row->v1_why);
    if (faccessat(node->branch[c->branch].fd, file, F_OK, 0) < 0)
        return err_set(err, ERR_UNSUPPORTED, "%s cannot be enforced here: this kernel has no %s%s",
                       row->key, file,
                       str_starts(file, "memory.memsw") || str_starts(file, "memory.swap")
                           ? "; it does not account swap (swapaccount=1 on its command line)"
                           : "");
    if (is_memsw(row, c) && param_set_get(set, "memory.limit").unlimited)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s cannot be enforced without memory.limit here: cgroup v1 bounds memory "
                       "and swap together; set memory.limit too",
                       row->key);
    return 0;
}

int resource_check(const struct resource_node *node, const struct param_set *set, struct err *err)
{
    for (size_t i = 0; i < param_table_size; i++) {
        const struct param_row *row = &param_table[i];
        if (!set->given[i] || is_kernels_own(row, set->v[i]))
            continue; /* nothing to enforce */
        int r = check_row(node, row, set, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The number that the kernel's file wants for a value. */
static uint64_t kernel_number(const struct param_row *row, const struct controller *c,
                              const struct param_set *set)
{
    uint64_t n = set->v[param_index(row)].n;
    if (row->type == PARAM_PERCENT)
        return n * PERIOD_US / 10000;
    if (row->type == PARAM_TIME)
        return n * 1000;
    if (row->kind == PARAM_WEIGHT && c->where == RESOURCE_V1)
        return n * SHARES_DEFAULT / 100;
    if (is_memsw(row, c)) /* both are at most 1P */
        return n + param_set_get(set, "memory.limit").n;
    return n;
}

/* Writes one row into the VE's cgroup in the hierarchy of its controller.  How a value looks
 * depends on the row's type and kind alone, but for memsw. */
static int write_value(const struct param_row *row, const struct controller *c, int fd,
                       const struct param_set *set, struct err *err)
{
    bool v2 = c->where == RESOURCE_V2, unlimited = set->v[param_index(row)].unlimited;
    const char *file = file_of(row, v2);
    uint64_t n = kernel_number(row, c, set);
    if (row->type == PARAM_PERCENT && v2)
        return unlimited ? cgroup_write(fd, file, err, "max %d\n", PERIOD_US)
                         : cgroup_write(fd, file, err, "%" PRIu64 " %d\n", n, PERIOD_US);
    if (unlimited) /* v1's quotas and sizes know no "max" */
        return cgroup_write(fd, file, err, !v2 && row->type != PARAM_COUNT ? "-1\n" : "max\n");
    return cgroup_write(fd, file, err, "%" PRIu64 "\n", n);
}

static int write_row(const struct resource_node *node, const struct param_row *row,
                     const struct controller *c, int fd, const struct param_set *set,
                     struct err *err)
{
    const struct many_files *many = many_files_of(row);
    if (many)
        return many->write(node, row, c, fd, set->v[param_index(row)], err);
    if (resource_partly(node, row))
        return 0;
    if (c->where == RESOURCE_V1 && str_eq(row->v1_file, MEMORY_TCP))
        return memory_write_tcp(fd, set, err);
    const char *v2_file = c->where == RESOURCE_V2 ? row->v2_file : NULL;
    if (str_eq(v2_file, MEMORY_PROTECTION))
        return memory_protect(fd, set, err);
    if (memory_bounds_protection(v2_file) && param_set_get(set, "memory.guarantee").n > 0)
        memory_protect(fd, set, NULL);
    int r = write_value(row, c, fd, set, err);
    if (r < 0 || c->where != RESOURCE_V1 || !str_eq(row->v1_file, "memory.limit_in_bytes"))
        return r;
    return memory_write_tcp(fd, set, err);
}

struct rewrite {
    const struct resource_node *node;
    const struct param_row *row;
    const struct controller *c;
    int fd;
    const struct param_set *set;
};

static int write_again(void *ctx, struct err *err)
{
    const struct rewrite *w = ctx;
    if (w->c->where == RESOURCE_V2 &&
        memory_make_room(w->row, w->fd, w->set->v[param_index(w->row)], err) < 0) {
        if (err)
            err->sys = EBUSY; /* as v1 says it */
        return -ERR_STATE;
    }
    return write_row(w->node, w->row, w->c, w->fd, w->set, err);
}

/* v1 could not bring what is in use below a limit of memory, or of memory and swap together. */
static int change_busy(const struct rewrite *w, int64_t id, bool force, struct err *err)
{
    struct param_value v = w->set->v[param_index(w->row)];
    bool memsw = is_memsw(w->row, w->c);
    uint64_t used, limit = kernel_number(w->row, w->c, w->set);
    if (force)
        return memory_force(w->node, id, w->fd, w->row, limit, write_again, (void *)w, err);
    int r = cgroup_read_number(
        w->fd, memsw ? "memory.memsw.usage_in_bytes" : "memory.usage_in_bytes", &used, err);
    if (r < 0)
        return r;
    if (memsw) /* of both, what memory.limit does not hold has to fit into swap */
        used -= limit - v.n < used ? limit - v.n : used;
    return memory_refuse(w->row, v, used, err);
}

static int change_row(const struct resource_node *node, int64_t id, const struct param_row *row,
                      const struct controller *c, int fd, const struct param_set *set, bool force,
                      struct err *err)
{
    struct rewrite w = {node, row, c, fd, set};
    struct param_value v = set->v[param_index(row)];
    bool v2 = c->where == RESOURCE_V2, memory = !v.unlimited && str_eq(row->v2_file, "memory.max");
    if (memory && v2) {
        int r = memory_make_room(row, fd, v, err);
        if (r == -ERR_STATE && force)
            return memory_force(node, id, fd, row, v.n, write_again, &w, err);
        if (r < 0)
            return r;
    }
    struct err cause = {0};
    int r = write_row(node, row, c, fd, set, &cause);
    if (r == 0)
        return 0;
    if (!v2 && cause.sys == EBUSY && (memory || is_memsw(row, c)))
        return change_busy(&w, id, force, err);
    if (!v2 && cause.sys == EBUSY && str_eq(row->v1_file, MEMORY_TCP))
        return memory_refuse_tcp(fd, v, err);
    if (err)
        *err = cause;
    err_wrap(err, "%s", row->key);
    return r;
}

/* Writes what a new cgroup does not have by itself. */
static int write_new(const struct resource_node *node, size_t branch, int fd,
                     const struct param_set *set, struct err *err)
{
    for (size_t i = 0; i < param_table_size; i++) {
        const struct param_row *row = &param_table[i];
        const struct controller *c = node_controller(node, row);
        if (is_kernels_own(row, set->v[i]) || (row->flags & PARAM_DERIVED) || !c ||
            c->where == RESOURCE_ABSENT || c->branch != branch)
            continue;
        int r = write_row(node, row, c, fd, set, err);
        if (r < 0)
            return err_wrap(err, "%s", row->key);
    }
    return 0;
}

/* What cgroup-v2.rst, "Delegation", gives to a delegatee: the files of limits stay the host's. */
static int delegate(int fd, uid_t uid, gid_t gid, struct err *err)
{
    static const char *const files[] = {"cgroup.procs", "cgroup.threads", "cgroup.subtree_control"};
    if (fchown(fd, uid, gid) < 0)
        return err_sys(err, "cannot delegate a cgroup");
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        if (fchownat(fd, files[i], uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
            return err_sys(err, "cannot delegate %s", files[i]);
    return 0;
}

/* Another descriptor of it. */
static int open_same(int fd, int *ret, struct err *err)
{
    int own = fd_again(fd);
    if (own < 0)
        return err_sys(err, "cannot open a cgroup again");
    *ret = own;
    return 0;
}

/* The VE's processes live in the cgroup that has its limits, and its root may make others below:
 * one more between the two would be another memory cgroup for each VE (docs/density.md). */
static int fill_v2(const struct resource_node *node, int fd, const struct param_set *set, uid_t uid,
                   gid_t gid, int *ret, struct err *err)
{
    int r = write_new(node, 0, fd, set, err);
    if (r == 0)
        r = cgroup_write(fd, "cgroup.max.descendants", err, "%d", DESCENDANTS_MAX);
    if (r == 0)
        r = cgroup_write(fd, "cgroup.max.depth", err, "%d", DEPTH_MAX);
    if (r == 0)
        r = delegate(fd, uid, gid, err);
    return r < 0 ? r : open_same(fd, ret, err);
}

static int open_procs(int fd, struct resource_cgroups *c, struct err *err)
{
    int procs = openat(fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (procs < 0)
        return err_sys(err, "cannot open cgroup.procs");
    c->v1_procs[c->n_v1++] = procs;
    return 0;
}

static int make_branch(const struct resource_node *node, size_t branch, int fd,
                       const struct param_set *set, uid_t uid, gid_t gid,
                       struct resource_cgroups *c, struct err *err)
{
    if (branch == 0)
        return fill_v2(node, fd, set, uid, gid, &c->v2, err);
    int r = write_new(node, branch, fd, set, err);
    return r < 0 ? r : open_procs(fd, c, err);
}

int resource_create(struct resource_node *node, int64_t id, const struct param_set *set, uid_t uid,
                    gid_t gid, struct resource_cgroups *ret, struct err *err)
{
    struct resource_cgroups c = RESOURCE_CGROUPS_NONE;
    struct err own = {0};
    char name[VE_NAME_SIZE];
    size_t made = 0;
    if (!err)
        err = &own;
    ve_name(id, name);
    int r = resource_check(node, set, err);
    while (r == 0 && made < node->n_branches) {
        auto_fd int fd = -1;
        r = cgroup_make(node->branch[made].fd, name, &fd, err);
        if (r < 0)
            break; /* also when it exists: then it is not ours to undo */
        made++;
        r = make_branch(node, made - 1, fd, set, uid, gid, &c, err);
    }
    if (r == 0) {
        *ret = c;
        return 0;
    }
    resource_cgroups_done(&c);
    while (made)
        cgroup_remove_tree(node->branch[--made].fd, name, UNDO_MS, NULL);
    return err_wrap(err, "cannot make cgroup %s/%s", node->name, name);
}

/* A VE that an older Terem has started has no cgroup where no row needs one: *ret_fd is -1. */
static int open_branch(const struct resource_node *node, size_t branch, int64_t id, int *ret_fd,
                       struct err *err)
{
    int r = ve_open(node, branch, id, ret_fd, err);
    if (r != -ERR_NOT_FOUND || branch == 0)
        return r;
    for (size_t i = 0; i < node->n_controllers; i++)
        if (node->controller[i].branch == branch && !str_eq(node->controller[i].name, CPUACCT))
            return r;
    err_clear(err);
    *ret_fd = -1;
    return 0;
}

/* A VE that an older Terem has started lives in one below, and the upper one is the host's; so is
 * one that was not made to its end. */
static int open_v2(int fd, int *ret, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(err, "cannot look at a cgroup");
    return st.st_uid == 0 ? cgroup_open(fd, INNER_OLD, ret, err) : open_same(fd, ret, err);
}

int resource_open(struct resource_node *node, int64_t id, struct resource_cgroups *ret,
                  struct err *err)
{
    struct resource_cgroups c = RESOURCE_CGROUPS_NONE;
    int r = 0;
    for (size_t i = 0; r == 0 && i < node->n_branches; i++) {
        auto_fd int fd = -1;
        r = open_branch(node, i, id, &fd, err);
        if (r == 0 && fd >= 0)
            r = i == 0 ? open_v2(fd, &c.v2, err) : open_procs(fd, &c, err);
    }
    if (r < 0) {
        resource_cgroups_done(&c);
        return r;
    }
    *ret = c;
    return 0;
}

/* Does the text in the row's file differ? */
static bool differs(const struct param_row *row, const struct controller *c,
                    const struct param_set *a, const struct param_set *b)
{
    size_t i = param_index(row), limit = param_index(param_find("memory.limit"));
    if ((row->flags & PARAM_DERIVED) || !c || c->where == RESOURCE_ABSENT)
        return false;
    if (!a)
        return true;
    if (is_memsw(row, c) && !(a->v[i].unlimited && b->v[i].unlimited) &&
        !param_value_same(a->v[limit], b->v[limit]))
        return true;
    return !param_value_same(a->v[i], b->v[i]);
}

struct change {
    const struct resource_node *node;
    int64_t id;
    const int *fds;                            /* of the VE, by branch */
    const struct param_set *old_set, *new_set; /* old_set NULL: what stands there is unknown */
    bool force;
    bool done[PARAM_MAX];
    size_t order[PARAM_MAX], n; /* rows in the order in which they were written */
};

/* Backwards through states that the kernel has already accepted. */
static void put_back(struct change *ch, struct err *err)
{
    while (ch->old_set && ch->n) {
        const struct param_row *row = &param_table[ch->order[--ch->n]];
        const struct controller *c = node_controller(ch->node, row);
        struct err why = {0};
        if (write_row(ch->node, row, c, ch->fds[c->branch], ch->old_set, &why) < 0)
            err_wrap(err, "%s could not be put back (%s)", row->key, why.text);
    }
}

/* Writes what differs.  Some files bound each other (burst by quota, memory by memsw): what is
 * invalid now may be valid after the others, and counts in *ret_refused. */
static int change_pass(struct change *ch, size_t *ret_refused, struct err *err)
{
    *ret_refused = 0;
    for (size_t i = 0; i < param_table_size; i++) {
        const struct param_row *row = &param_table[i];
        const struct controller *c = node_controller(ch->node, row);
        if (ch->done[i] || !differs(row, c, ch->old_set, ch->new_set))
            continue;
        struct err cause = {0};
        int fd = ch->fds[c->branch];
        const char *file = file_of(row, c->where == RESOURCE_V2);
        if (!ch->old_set && is_kernels_own(row, ch->new_set->v[i]) &&
            (!file || faccessat(fd, file, W_OK, 0) < 0))
            continue; /* this kernel has nothing to put in order */
        int r = change_row(ch->node, ch->id, row, c, fd, ch->new_set, ch->force, &cause);
        if (r == 0) {
            ch->done[i] = true;
            ch->order[ch->n++] = i;
            continue;
        }
        *err = cause;
        bool many = many_files_of(row);
        if (many) /* of its files some may have been written */
            ch->order[ch->n++] = i;
        if (cause.sys != EINVAL || many)
            return r;
        ++*ret_refused;
    }
    return 0;
}

static int change_rows(const struct resource_node *node, int64_t id, const int *fds,
                       const struct param_set *old_set, const struct param_set *new_set, bool force,
                       struct err *err)
{
    struct change ch = {
        .node = node, .id = id, .fds = fds, .old_set = old_set, .new_set = new_set, .force = force};
    size_t refused, before;
    int r;
    do {
        before = ch.n;
        r = change_pass(&ch, &refused, err);
    } while (r == 0 && refused && ch.n > before);
    if (r == 0 && refused == 0) {
        err_clear(err);
        return 0;
    }
    r = -err->kind;
    put_back(&ch, err);
    return r;
}

int resource_apply(struct resource_node *node, int64_t id, const struct param_set *old_set,
                   const struct param_set *new_set, bool force, struct err *err)
{
    int fds[BRANCHES_MAX];
    struct err own = {0};
    size_t n = 0;
    if (!err)
        err = &own;
    int r = resource_check(node, new_set, err);
    while (r == 0 && n < node->n_branches) {
        r = open_branch(node, n, id, &fds[n], err);
        n += r == 0;
    }
    if (r == 0)
        r = change_rows(node, id, fds, old_set, new_set, force, err);
    while (n)
        cleanup_fd(&fds[--n]);
    return r;
}

int resource_rewrite(struct resource_node *node, int64_t id, const char *key,
                     const struct param_set *set, struct err *err)
{
    const struct param_row *row = param_find(key);
    const struct controller *c = row ? node_controller(node, row) : NULL;
    auto_fd int fd = -1;
    if (!c || c->where == RESOURCE_ABSENT)
        return err_set(err, ERR_UNSUPPORTED, "%s cannot be enforced here", key);
    int r = ve_open(node, c->branch, id, &fd, err);
    return r < 0 ? r : write_row(node, row, c, fd, set, err);
}

int resource_protect(struct resource_node *node, uint64_t bytes, struct err *err)
{
    if (resource_controller(node, "memory") != RESOURCE_V2)
        return 0;
    return cgroup_write(node->branch[0].fd, MEMORY_PROTECTION, err, "%" PRIu64 "\n", bytes);
}
