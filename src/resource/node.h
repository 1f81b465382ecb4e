/* SPDX-License-Identifier: GPL-2.0-or-later */
/* node — inside the room: where this instance's cgroups are, hierarchy by hierarchy. */
#pragma once

#include "base/name.h"
#include "kernel/cgroup.h"
#include "kernel/disk.h"
#include "resource/resource.h"

#define CONTROLLERS_MAX 8
#define BRANCHES_MAX    (1 + RESOURCE_V1_MAX)
#define HUGE_FILES_MAX  96
#define VE_NAME_SIZE    32
#define CPUACCT         "cpuacct" /* of v1; no row is its own */

/* The instance's parent cgroup in one hierarchy.  Branch 0 is always v2. */
struct branch {
    int top;          /* the hierarchy's root */
    int fd;           /* <hierarchy>/<name>, above the VEs */
    size_t hierarchy; /* in the map */
};

struct controller {
    const char *name; /* of a row in the table */
    enum resource_where where;
    size_t branch;
    char why[160]; /* it is absent */
};

struct resource_node {
    char name[NAME_SIZE];
    struct cgroup_map map;
    size_t n_branches, n_controllers;
    struct branch branch[BRANCHES_MAX];
    struct controller controller[CONTROLLERS_MAX];
    char enable[128]; /* "+cpu +memory", for cgroup.subtree_control below us; may be "" */
    size_t n_disks;
    struct disk disk[DISK_MAX]; /* of the VEs' files */
    char no_disk[200];          /* why there is none, or not all */
    void (*on_kill)(void *ctx, const struct resource_victim *v);
    void *on_kill_ctx;
    bool no_huge;  /* while all counters are read: nobody here has had a huge page */
    size_t n_huge; /* files of huge pages in every cgroup */
    char huge[HUGE_FILES_MAX][48];
};

/* resource_node_open() on a map of the caller's. */
int resource_node_open_map(const char *name, const struct cgroup_map *map,
                           struct resource_node **ret, struct err *err);
#define CORES_TEXT 5120
/* cores.c: makes the parent in v1's cpuset hierarchy fit to have children. */
int cores_prepare_v1(const struct branch *b, struct err *err);
/* NULL for a row that no cgroup controller enforces. */
const struct controller *node_controller(const struct resource_node *node,
                                         const struct param_row *row);
/* NULL for a controller that is not there, too. */
const struct controller *node_controller_here(const struct resource_node *node, const char *name);
const char *ve_name(int64_t id, char buf[VE_NAME_SIZE]);
/* Opens the VE's cgroup in a branch; not there: ERR_NOT_FOUND. */
int ve_open(const struct resource_node *node, size_t branch, int64_t id, int *ret_fd,
            struct err *err);

/* io.c: rows of disk throughput, which have a file for every disk and direction. */
bool io_owns(const struct param_row *row);
int io_check(const struct resource_node *node, const struct param_row *row,
             const struct controller *c, struct param_value v, struct err *err);
/* Some of it may have been written when it fails. */
int io_write(const struct resource_node *node, const struct param_row *row,
             const struct controller *c, int fd, struct param_value v, struct err *err);
/* Bytes that were read and written on the VEs' disks; false: not counted here. */
bool io_usage(const struct resource_node *node, bool v2, int fd, uint64_t *ret_read,
              uint64_t *ret_written);

/* hugepages.c: a file for each size of huge pages. */
bool huge_owns(const struct param_row *row);
int huge_check(const struct resource_node *node, const struct param_row *row,
               const struct controller *c, struct param_value v, struct err *err);
int huge_write(const struct resource_node *node, const struct param_row *row,
               const struct controller *c, int fd, struct param_value v, struct err *err);
bool huge_is_unused(const struct resource_node *node, const struct controller *c);
void huge_count(const struct resource_node *node, bool v2, int fd, struct param_counter *ret);
void huge_list(struct resource_node *node, const struct controller *c); /* when it is opened */

/* memory.c: lowering a limit of memory below what is in use. */
/* ERR_STATE: what is kept (in use, and cannot be given back), what force would do, and the least
 * that the VE can live with. */
int memory_refuse(const struct param_row *row, struct param_value v, uint64_t kept,
                  struct err *err);
#define MEMORY_RECLAIM    "memory.reclaim"
#define MEMORY_PROTECTION "memory.min"
bool memory_bounds_protection(const char *v2_file);
/* v2: what the VE has of memory.guarantee beside its own limits. */
int memory_protect(int fd, const struct param_set *set, struct err *err);
/* v1: TCP's buffers get the lower one of memory.sockets and memory.limit. */
#define MEMORY_TCP "memory.kmem.tcp.limit_in_bytes"
int memory_write_tcp(int fd, const struct param_set *set, struct err *err);
int memory_refuse_tcp(int fd, struct param_value v, struct err *err);
/* v2: gives page cache back; what then does not fit is refused. */
int memory_make_room(const struct param_row *row, int fd, struct param_value v, struct err *err);
/* Ends the processes that the kernel would choose while again() fails with EBUSY; bounded in
 * time. */
int memory_force(const struct resource_node *node, int64_t id, int fd, const struct param_row *row,
                 uint64_t limit, int (*again)(void *ctx, struct err *err), void *ctx,
                 struct err *err);
