/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cgroup — thin verbs on control groups, version 2 and version 1 alike.
 *
 * I own nothing: every verb takes the directory descriptor of a cgroup.  I use base.  I never
 * decide which controller, limit or name is right; resource/ does.
 *
 * Synopsis
 *     struct cgroup_map map;
 *     cgroup_map_read(&map, err);
 *     auto_fd int top = -1, mine = -1;
 *     cgroup_open_path(map.h[map.v2].path, &top, err);
 *     cgroup_make(top, "terem-test", &mine, err);
 *     cgroup_write(mine, "pids.max", err, "%d", 50);
 *
 * Errors say what is missing: writing a file that is not there is ERR_UNSUPPORTED, "controller
 * pids is not available", and a cgroup that was removed meanwhile is ERR_NOT_FOUND.
 *
 * Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/ of the kernel, proc(5).
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CGROUP_HIERARCHIES_MAX 16
#define CGROUP_PATH_MAX        256
#define CGROUP_NAMES_MAX       256

/* One mounted hierarchy. */
struct cgroup_hierarchy {
    bool v2;
    bool writable;                      /* the mount is not read-only */
    char path[CGROUP_PATH_MAX];         /* where it is mounted */
    char controllers[CGROUP_NAMES_MAX]; /* " cpu memory pids ": each between spaces */
};

struct cgroup_map {
    int v2; /* index of the v2 hierarchy, or -1 */
    size_t n;
    struct cgroup_hierarchy h[CGROUP_HIERARCHIES_MAX];
    char known[CGROUP_NAMES_MAX];    /* controllers that this kernel has, as above */
    char disabled[CGROUP_NAMES_MAX]; /* those switched off on its command line */
};

/* Finds what is mounted, from /proc/self/mountinfo, /proc/cgroups and cgroup.controllers.  A
 * machine without any cgroup file system gives an empty map. */
int cgroup_map_read(struct cgroup_map *ret, struct err *err);
/* The same from texts; cgroups may be NULL (kernels without v1 may lack /proc/cgroups). */
int cgroup_map_parse(const char *mountinfo, const char *cgroups, struct cgroup_map *ret,
                     struct err *err);
/* Index of the hierarchy that has the controller (v2: or wanted_v2 false, v1), or -1. */
int cgroup_map_find(const struct cgroup_map *map, const char *controller, bool v2);
/* Why a controller is in no hierarchy: "it is switched off by cgroup_disable= on the kernel's
 * command line". */
const char *cgroup_map_why_absent(const struct cgroup_map *map, const char *controller);

int cgroup_open_path(const char *path, int *ret_fd, struct err *err);
int cgroup_open(int parent, const char *name, int *ret_fd, struct err *err);
/* Makes it, with mode 0755 whatever the umask, and opens it; there already: ERR_EXISTS. */
int cgroup_make(int parent, const char *name, int *ret_fd, struct err *err);

/* One write(2). */
int cgroup_write(int fd, const char *file, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The file's whole text without its last newline; longer than size - 1: ERR_EXHAUSTED. */
int cgroup_read(int fd, const char *file, char *buf, size_t size, struct err *err);
/* A file with one number; "max" gives UINT64_MAX. */
int cgroup_read_number(int fd, const char *file, uint64_t *ret, struct err *err);
/* The number after `key` in a flat-keyed file such as memory.events. */
/* Room for a file of keys: memory.stat of 6.18 has 2 KiB; with NUMA nodes more. */
#define CGROUP_TEXT 16384
/* Of the text of such a file. */
int cgroup_key(const char *text, const char *key, uint64_t *ret, struct err *err);
int cgroup_read_key(int fd, const char *file, const char *key, uint64_t *ret, struct err *err);

/* v2 only.  SIGKILL to every process in and below it, also frozen ones; does not wait. */
int cgroup_kill(int fd, struct err *err);
/* v2 only.  Asks; cgroup_wait_event(fd, "frozen", …) tells when it is so. */
int cgroup_freeze(int fd, bool frozen, struct err *err);
/* v2 only.  Waits until cgroup.events says `key want`: 0, or -ERR_TIMEOUT. */
int cgroup_wait_event(int fd, const char *key, bool want, int timeout_ms, struct err *err);
/* Is a process in it (v2: or below it)?  Gone: false. */
bool cgroup_populated(int fd, bool v2);
/* Calls item() for each process directly in it; a negative return stops. */
int cgroup_each_process(int fd, int (*item)(void *ctx, pid_t pid), void *ctx, struct err *err);
/* Calls item() for each child's name; a negative return stops.  The child may be removed in it. */
int cgroup_each_child(int fd, int (*item)(void *ctx, int fd, const char *name, struct err *err),
                      void *ctx, struct err *err);

/* Removes `name` in parent with all below it, deepest first.  A cgroup whose last process has
 * just died stays busy for a moment: tries again up to timeout_ms, then ERR_BUSY.  Not there:
 * fine. */
int cgroup_remove_tree(int parent, const char *name, int timeout_ms, struct err *err);
