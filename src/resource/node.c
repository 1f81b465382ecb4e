/* SPDX-License-Identifier: GPL-2.0-or-later */
/* node — finds each controller on its own and makes this instance's parents. */
#include "resource/node.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

static int add_controller(struct resource_node *n, const char *name, struct err *err)
{
    for (size_t i = 0; i < n->n_controllers; i++)
        if (strcmp(n->controller[i].name, name) == 0)
            return 0;
    if (n->n_controllers == CONTROLLERS_MAX)
        return err_set(err, ERR_INTERNAL, "the table names more than %d controllers",
                       CONTROLLERS_MAX);
    n->controller[n->n_controllers++] = (struct controller){.name = name};
    return 0;
}

/* Makes or opens this instance's cgroup in a hierarchy; *ret_branch is shared by controllers that
 * are mounted together. */
static int add_branch(struct resource_node *n, size_t hierarchy, size_t *ret_branch,
                      struct err *err)
{
    const struct cgroup_hierarchy *h = &n->map.h[hierarchy];
    for (size_t i = 0; i < n->n_branches; i++)
        if (n->branch[i].hierarchy == hierarchy) {
            *ret_branch = i;
            return 0;
        }
    auto_fd int top = -1, fd = -1;
    if (n->n_branches == BRANCHES_MAX)
        return err_set(err, ERR_INTERNAL, "more than %d hierarchies are needed", BRANCHES_MAX);
    int r = cgroup_open_path(h->path, &top, err);
    if (r < 0)
        return r;
    r = cgroup_make(top, n->name, &fd, err);
    if (r == -ERR_EXISTS)
        r = cgroup_open(top, n->name, &fd, err);
    if (r < 0)
        return err_wrap(err, "%s", h->path);
    *ret_branch = n->n_branches;
    n->branch[n->n_branches++] =
        (struct branch){.top = steal_fd(&top), .fd = steal_fd(&fd), .hierarchy = hierarchy};
    return 0;
}

static int enable_text(struct resource_node *n, const char *text, struct err *err)
{
    int r = cgroup_write(n->branch[0].top, "cgroup.subtree_control", err, "%s", text);
    return r < 0 ? r : cgroup_write(n->branch[0].fd, "cgroup.subtree_control", err, "%s", text);
}

/* Hands v2 controllers down from the root to our VEs.  All at once, as is usual; one that the
 * kernel refuses (a namespace's root with processes in it, real-time tasks) alone is left out. */
static void enable_v2(struct resource_node *n)
{
    auto_str struct str all = str_init(sizeof(n->enable));
    for (size_t i = 0; i < n->n_controllers; i++)
        if (n->controller[i].where == RESOURCE_V2)
            str_add(&all, "%s+%s", all.len ? " " : "", n->controller[i].name);
    if (!all.len || all.failed)
        return;
    bool each = enable_text(n, str_c(&all), NULL) < 0;
    str_clear(&all);
    for (size_t i = 0; i < n->n_controllers; i++) {
        struct controller *c = &n->controller[i];
        struct err why = {0};
        char one[64];
        if (c->where != RESOURCE_V2)
            continue;
        str_print(one, sizeof(one), "+%s", c->name);
        if (each && enable_text(n, one, &why) < 0) {
            c->where = RESOURCE_ABSENT;
            str_print(c->why, sizeof(c->why), "cgroup v2 does not hand it down: %s", why.text);
            continue;
        }
        str_add(&all, "%s%s", all.len ? " " : "", one);
    }
    str_print(n->enable, sizeof(n->enable), "%s", str_c(&all));
}

/* What v2 calls io was blkio. */
static const char *v1_name(const char *controller)
{
    return str_eq(controller, "io") ? "blkio" : controller;
}

static int place_v1(struct resource_node *n, struct controller *c)
{
    struct err why = {0};
    int h = cgroup_map_find(&n->map, v1_name(c->name), false);
    if (h < 0) {
        if (!c->why[0])
            str_print(c->why, sizeof(c->why), "%s",
                      cgroup_map_why_absent(&n->map, v1_name(c->name)));
        return 0;
    }
    if (add_branch(n, (size_t)h, &c->branch, &why) < 0 ||
        (strcmp(c->name, "cpuset") == 0 && cores_prepare_v1(&n->branch[c->branch], &why) < 0))
        return str_print(c->why, sizeof(c->why), "%s", why.text);
    c->where = RESOURCE_V1;
    return 0;
}

static int node_fill(struct resource_node *n, struct err *err)
{
    size_t first;
    if (n->map.v2 < 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "cgroup v2 is not mounted; mount -t cgroup2 none /sys/fs/cgroup/unified");
    for (size_t i = 0; i < param_table_size; i++)
        if (param_table[i].controller) {
            int r = add_controller(n, param_table[i].controller, err);
            if (r < 0)
                return r;
        }
    /* No row is its own, but lxcfs 5 takes a VE's own /proc/stat from v1's cpuacct, below the name
     * that the VE has in cpuset; else it shows the machine's. */
    int r = add_controller(n, CPUACCT, err);
    if (r < 0)
        return r;
    r = add_branch(n, (size_t)n->map.v2, &first, err);
    if (r < 0)
        return err_wrap(err, "cannot make the cgroup of this node");
    for (size_t i = 0; i < n->n_controllers; i++)
        if (cgroup_map_find(&n->map, n->controller[i].name, true) >= 0)
            n->controller[i].where = RESOURCE_V2;
    enable_v2(n);
    for (size_t i = 0; i < n->n_controllers; i++)
        if (n->controller[i].where == RESOURCE_ABSENT)
            place_v1(n, &n->controller[i]);
    return 0;
}

static const struct controller *find_controller(const struct resource_node *node, const char *name)
{
    for (size_t i = 0; i < node->n_controllers; i++)
        if (strcmp(node->controller[i].name, name) == 0)
            return &node->controller[i];
    return NULL;
}

const struct controller *node_controller_here(const struct resource_node *node, const char *name)
{
    const struct controller *c = find_controller(node, name);
    return c && c->where != RESOURCE_ABSENT ? c : NULL;
}

int resource_node_open_map(const char *name, const struct cgroup_map *map,
                           struct resource_node **ret, struct err *err)
{
    struct err own = {0};
    if (!err)
        err = &own;
    int r = name_check_ve(name, err);
    if (r < 0)
        return r;
    struct resource_node *n = calloc(1, sizeof(*n));
    if (!n)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    str_print(n->name, sizeof(n->name), "%s", name);
    n->map = *map;
    r = node_fill(n, err);
    if (r < 0) {
        resource_node_close(n);
        return r;
    }
    const struct controller *huge = node_controller_here(n, "hugetlb");
    if (huge)
        huge_list(n, huge);
    *ret = n;
    return 0;
}

int resource_node_open(const char *name, struct resource_node **ret, struct err *err)
{
    auto_free struct cgroup_map *map = calloc(1, sizeof(*map));
    if (!map)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int r = cgroup_map_read(map, err);
    return r < 0 ? r : resource_node_open_map(name, map, ret, err);
}

void resource_node_close(struct resource_node *node)
{
    if (!node)
        return;
    for (size_t i = 0; i < node->n_branches; i++) {
        cleanup_fd(&node->branch[i].fd);
        cleanup_fd(&node->branch[i].top);
    }
    free(node);
}

int resource_node_remove(struct resource_node *node, struct err *err)
{
    auto_free int64_t *ids = NULL;
    size_t n;
    int r = resource_list(node, &ids, &n, err);
    if (r < 0)
        return r;
    if (n)
        return err_set(err, ERR_BUSY, "cgroup %s still holds %zu VEs, the first is ve-%" PRId64,
                       node->name, n, ids[0]);
    for (size_t i = node->n_branches; i-- > 0;)
        if (unlinkat(node->branch[i].top, node->name, AT_REMOVEDIR) < 0 && errno != ENOENT)
            return err_sys(err, "cannot remove cgroup %s/%s",
                           node->map.h[node->branch[i].hierarchy].path, node->name);
    return 0;
}

const struct controller *node_controller(const struct resource_node *node,
                                         const struct param_row *row)
{
    return row->controller ? find_controller(node, row->controller) : NULL;
}

enum resource_where resource_controller(const struct resource_node *node, const char *name)
{
    const struct controller *c = find_controller(node, name);
    if (c)
        return c->where;
    if (cgroup_map_find(&node->map, name, true) >= 0)
        return RESOURCE_V2;
    return cgroup_map_find(&node->map, v1_name(name), false) >= 0 ? RESOURCE_V1 : RESOURCE_ABSENT;
}

const char *resource_why_absent(const struct resource_node *node, const char *name)
{
    const struct controller *c = find_controller(node, name);
    if (resource_controller(node, name) != RESOURCE_ABSENT)
        return NULL;
    return c ? c->why : cgroup_map_why_absent(&node->map, v1_name(name));
}
