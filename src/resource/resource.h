/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * resource — a VE's cgroups: made with the limits already written, changed live, removed.
 *
 * I own everything under the cgroup named for this instance ("terem", "terem-3") in every
 * hierarchy.  I use param/ and kernel/cgroup.  I never touch a cgroup that I did not make.
 *
 * Controllers are found one by one (design.md): in v2 if it is there and can be delegated, else
 * in its v1 hierarchy, else absent; then a row that needs it is refused with that reason.  Every
 * VE has a v2 cgroup in any case, for kill, freeze and events.
 *
 * Layout: <v2>/terem/ve-<id> and <controller>/terem/ve-<id> of v1 carry the limits and hold the
 * VE's processes.  That of v2 is delegated to the VE's root, which may make others below it; the
 * files of its limits stay the host's.
 *
 * Cgroup names come from the VE's id, never from its name.
 */
#pragma once

#include "base/err.h"
#include "param/param.h"

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct resource_node;

#define RESOURCE_V1_MAX 8
/* Where a new process of the VE has to be put. */
struct resource_cgroups {
    int v2;                        /* directory descriptor for CLONE_INTO_CGROUP */
    int v1_procs[RESOURCE_V1_MAX]; /* open cgroup.procs files to write "0" to; n_v1 of them */
    size_t n_v1;
};
#define RESOURCE_CGROUPS_NONE \
    {                         \
        .v2 = -1              \
    }
/* Closes all; accepts the zeroed and the already empty (0 is never a cgroup's descriptor). */
void resource_cgroups_done(struct resource_cgroups *c);

/* name: "terem" or "terem-3".  Finds the hierarchies, makes the parents, enables controllers.  No
 * mounted cgroup v2: ERR_UNSUPPORTED.  Workers may use the node of the process that forked them. */
int resource_node_open(const char *name, struct resource_node **ret, struct err *err);
void resource_node_close(struct resource_node *node);
/* Removes the instance's (empty) parents; a VE's cgroup left below: ERR_BUSY. */
int resource_node_remove(struct resource_node *node, struct err *err);

/* The disk rows are enforced on the disks below this directory of VEs' files; where there are none
 * (or not all can be told), the rows are refused with the reason.  Before a worker is forked. */
void resource_use_disk(struct resource_node *node, const char *dir);

enum resource_where { RESOURCE_ABSENT, RESOURCE_V1, RESOURCE_V2 };
/* For doctor: controller by name ("memory"), where it was found. */
enum resource_where resource_controller(const struct resource_node *node, const char *name);
/* For doctor and errors: why it is absent; NULL when it is not. */
const char *resource_why_absent(const struct resource_node *node, const char *name);

/* Makes the VE's cgroups with every limit of the set written, before any process is in them.
 * uid/gid: the host ids of the VE's root, to whom the v2 cgroup is delegated.
 * A row that was not given, and whose controller is absent, is left out.  There already:
 * ERR_EXISTS, and nothing is changed.  On failure nothing is left. */
int resource_create(struct resource_node *node, int64_t id, const struct param_set *set, uid_t uid,
                    gid_t gid, struct resource_cgroups *ret, struct err *err);
/* Opens them again (exec, recovery).  ERR_NOT_FOUND when they are not there. */
int resource_open(struct resource_node *node, int64_t id, struct resource_cgroups *ret,
                  struct err *err);
/* Can every given row be enforced here?  The first that cannot is named with the reason. */
int resource_check(const struct resource_node *node, const struct param_set *set, struct err *err);
/* Can the VE live with the new limits of memory?  By its counters alone, nothing is given back yet.
 * Not: ERR_STATE, what would happen, and the least that is accepted. */
int resource_room(struct resource_node *node, int64_t id, const struct param_set *old_set,
                  const struct param_set *new_set, struct err *err);
/* Writes the rows that differ between the sets (old_set NULL: all rows, whatever stands there);
 * on failure puts the old values back.  A memory limit below what is in use and cannot be
 * reclaimed is ERR_STATE with the present use, unless force: then processes inside are killed
 * until the rest fits. */
int resource_apply(struct resource_node *node, int64_t id, const struct param_set *old_set,
                   const struct param_set *new_set, bool force, struct err *err);

enum resource_oom_where {
    RESOURCE_OOM_UNKNOWN,
    RESOURCE_OOM_LIMIT,  /* memory.limit of the VE */
    RESOURCE_OOM_INSIDE, /* a limit that the VE set itself, for a group of its own */
    RESOURCE_OOM_NODE,   /* the whole node was out of memory */
    RESOURCE_OOM_FORCE,  /* memory.limit was lowered by force */
};
/* A process that was ended for want of memory. */
struct resource_victim {
    int64_t ve; /* id; 0: its uid tells */
    uid_t uid;
    enum resource_oom_where where;
    pid_t pid, pid_inside; /* inside: 0 when it was gone before we looked */
    char name[64];         /* of its command */
    uint64_t held_bytes;
    int adj; /* its oom_score_adj */
};
/* fn is called for each process that resource_apply() ends by force. */
void resource_on_kill(struct resource_node *node,
                      void (*fn)(void *ctx, const struct resource_victim *v), void *ctx);
struct resource_oom_log {
    pid_t pid;
    enum resource_oom_where where;
};
/* Reads one record of /dev/kmsg: true when the kernel says that it ended a process.  log is kept
 * between records (zeroed at first); instance: as in resource_node_open(). */
bool resource_oom_read(struct resource_oom_log *log, const char *instance, const char *record,
                       struct resource_victim *ret);
/* What a process calls itself in its own pid namespace; 0: it is gone. */
pid_t resource_pid_inside(pid_t pid);

/* Writes one row as the set has it, whatever stood there: for what follows from other VEs. */
int resource_rewrite(struct resource_node *node, int64_t id, const char *key,
                     const struct param_set *set, struct err *err);
/* Where the VE's processes run: a list as the kernel has it ("0-1,3"), or NULL for all cores of the
 * node.  After resource_create() and before a process is in it, or live. */
int resource_cores(struct resource_node *node, int64_t id, const char *list, struct err *err);
/* Cores that this node's VEs can run on: those that are online, and given to the hierarchy. */
int resource_cores_there(struct resource_node *node, cpu_set_t *ret, struct err *err);
/* Where the kernel can (cgroup v2 from 6.7 on) cores of one VE are kept from everything else on the
 * machine, its own programs too: a partition.  may_own: the cores of all VEs that may have one,
 * before the first is made and after one is given up.  own: list NULL gives it up; else it is made
 * when no other VE is on these cores any more, and ERR_UNSUPPORTED tells why it cannot be. */
int resource_cores_may_own(struct resource_node *node, const char *list, struct err *err);
int resource_cores_own(struct resource_node *node, int64_t id, const char *list, struct err *err);
/* What was written; may be "" for all. */
int resource_cores_read(struct resource_node *node, int64_t id, char *buf, size_t size,
                        struct err *err);
/* What all VEs together weigh among the machine's other groups; every group has 100 by itself.
 * More than the kernel takes (v2: 10000, v1: 25600) is the most that it takes. */
int resource_weigh(struct resource_node *node, uint64_t weight, struct err *err);
/* The sum of all memory.guarantee: v2 protects a VE only within what its parent protects. */
int resource_protect(struct resource_node *node, uint64_t bytes, struct err *err);
/* All processes of the VE: SIGKILL (cgroup.kill), freeze or thaw; waits for the result at most
 * timeout_ms.  Killing works on a frozen VE, and one that is not there has nothing to kill.  What
 * cannot be frozen in time is thawed again (ERR_TIMEOUT). */
int resource_kill(struct resource_node *node, int64_t id, int timeout_ms, struct err *err);
int resource_freeze(struct resource_node *node, int64_t id, bool frozen, int timeout_ms,
                    struct err *err);
/* The same without waiting for it: a process that waits for a disk stops when that has answered. */
int resource_freeze_begin(struct resource_node *node, int64_t id, bool frozen, struct err *err);
/* Of a VE's open cgroups: has the host frozen it, or is about to?  What is frozen from inside does
 * not count. */
bool resource_is_frozen(const struct resource_cgroups *c);
/* What of a row holds where cgroup v2 has no file for it and another room bounds a part; NULL: all
 * of it, or nothing. */
const char *resource_partly(const struct resource_node *node, const struct param_row *row);
/* The failcnt of one row of cgroups; not counted here: ERR_UNSUPPORTED. */
int resource_refused(struct resource_node *node, int64_t id, const struct param_row *row,
                     uint64_t *ret, struct err *err);
/* Does the kernel tell when the row's failcnt rises?  Else it has to be asked. */
bool resource_refusals_told(const struct resource_node *node, const struct param_row *row);
/* Listens to those that tell, of the VEs that are watched.  *ret_fd is readable when there is
 * something to hear; it belongs to *ret. */
struct resource_refusals;
typedef void (*resource_refused_fn)(void *ctx, int64_t id, const struct param_row *row,
                                    uint64_t failcnt);
int resource_refusals_open(struct resource_node *node, resource_refused_fn fn, void *ctx,
                           struct resource_refusals **ret, int *ret_fd, struct err *err);
void resource_refusals_close(struct resource_refusals *r);
/* The rows that have a limit in set; again, when that has changed. */
int resource_refusals_watch(struct resource_refusals *r, int64_t id, const struct param_set *set,
                            struct err *err);
void resource_refusals_forget(struct resource_refusals *r, int64_t id);
int resource_refusals_hear(struct resource_refusals *r, struct err *err);
/* Removes the VE's cgroups, children that the VE made included.  Processes in them: ERR_BUSY.
 * Not there: fine. */
int resource_remove(struct resource_node *node, int64_t id, struct err *err);
/* Is there a process in the VE's cgroups?  Not there: false. */
bool resource_populated(struct resource_node *node, int64_t id);
/* Ids that have a cgroup, whether the registry knows them or not; *ret is freed by the caller. */
int resource_list(struct resource_node *node, int64_t **ret, size_t *ret_n, struct err *err);

/* What a VE sees as used of its machine: bytes, and tasks (processes and threads). */
struct resource_view {
    bool has_memory, has_swap, has_tasks;
    uint64_t memory, shared, swap, tasks;
};
int resource_view(struct resource_node *node, int64_t id, struct resource_view *ret,
                  struct err *err);
/* Part of the last ten seconds in which some task of the VE waited, in hundredths of a percent; -1:
 * this kernel does not tell, or nobody asked. */
struct resource_pressure {
    int cpu, memory, io;
};
/* What is to be read: each costs a file or two. */
enum resource_part {
    RESOURCE_MEMORY = 1 << 0,
    RESOURCE_MEMORY_MAX = 1 << 1,
    RESOURCE_OOM_KILLS = 1 << 2,
    RESOURCE_PIDS = 1 << 3,
    RESOURCE_CPU = 1 << 4,
    RESOURCE_IO = 1 << 5,
    RESOURCE_STALLS = 1 << 6, /* steal and pressure */
    RESOURCE_ALL = (1 << 7) - 1,
};
struct resource_usage {
    bool has_steal;
    uint64_t steal_usec; /* something in it could run, and nothing of it ran */
    bool has_memory, has_memory_max, has_pids, has_cpu, has_io;
    uint64_t memory_bytes, memory_max_bytes, pids, cpu_usec, oom_kills;
    uint64_t read_bytes, written_bytes; /* on the disks of VEs' files, since the start */
    struct resource_pressure pressure;
};
/* Not there: ERR_NOT_FOUND.  What is in no part is zero and not known. */
int resource_usage(struct resource_node *node, int64_t id, unsigned parts,
                   struct resource_usage *ret, struct err *err);

/* Adds a counter for every limited row that some kernel counts.  The kernel keeps them: they
 * survive us.  Not there: ERR_NOT_FOUND. */
int resource_counters(struct resource_node *node, int64_t id, struct param_counters *list,
                      struct err *err);
/* Around many calls of it, one after the other: what nobody here has used is not asked of each. */
void resource_counters_all(struct resource_node *node, bool on);

struct resource_squeeze {
    uint64_t to;    /* bytes that it may keep */
    bool cold_only; /* ends when what was given back is wanted again at once */
    /* Non-zero: stop (ERR_CANCELLED).  SIGALRM is used meanwhile: in a worker. */
    int (*progress)(void *ctx, int percent);
    void *ctx;
};
struct resource_squeezed {
    uint64_t before, after;  /* bytes of memory held */
    uint64_t swapped, cache; /* of these went to swap, and were page cache */
};
/* Gives memory of the VE back, what was used longest ago first. */
int resource_squeeze(struct resource_node *node, int64_t id, const struct resource_squeeze *q,
                     struct resource_squeezed *ret, struct err *err);
/* Where the memory of VEs is told, for a thread that reads while the node goes on or ends. */
struct resource_roots {
    int v2, memory; /* of the instance; memory: -1 where no controller counts it */
    bool memory_v2;
    size_t branches;
    uint64_t stack; /* of one thread in the kernel */
};
#define RESOURCE_ROOTS_NONE ((struct resource_roots){.v2 = -1, .memory = -1})
int resource_roots_open(const struct resource_node *node, struct resource_roots *ret,
                        struct err *err);
void resource_roots_done(struct resource_roots *roots);

/* Bytes of a VE, by what they are. */
struct resource_parts {
    size_t processes, threads, cgroups;
    bool first_seen;       /* `first` is one of the processes */
    uint64_t anonymous;    /* of its processes: pages shared with others by the share (PSS) */
    uint64_t mapped;       /* the same of files */
    uint64_t shared;       /* in memory file systems and shared segments */
    uint64_t cache;        /* the other pages of files that it is charged for: can be taken back */
    bool charged, split;   /* charged: kernel is known.  split: the kernel tells its parts, too */
    uint64_t kernel;       /* memory of the kernel that it is charged for: the sum of the next */
    uint64_t stacks;       /* not split: threads times the size of one */
    uint64_t tables;       /* page tables; not split: of its processes */
    uint64_t slab;         /* not split: what is left of kernel */
    uint64_t percpu, rest; /* not split: 0, with slab */
};
/* first: its first process.  Processes that end meanwhile are left out.  Any thread may. */
int resource_parts(const struct resource_roots *roots, int64_t id, pid_t first,
                   struct resource_parts *ret, struct err *err);
/* Adds what one process has. */
void resource_parts_add_process(pid_t pid, struct resource_parts *p);

/* Names of the node's swap devices and files ("zram0, vdb2"); false: it has none. */
bool resource_swaps(char *buf, size_t size);
