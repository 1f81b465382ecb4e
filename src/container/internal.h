/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of this room share.  The caller's side and the child's side of a birth or an
 * exec talk over one SOCK_SEQPACKET pair:
 *
 *     caller                            child
 *       │  MAPPED ──────────────────────▶ │ its ids are written (outer.c)
 *       │ ◀────────────────────── READY   │ its namespaces exist
 *       │  LAYERS… MOUNTS LXCFS ────────▶ │ detached mounts, made by the host's root
 *       │ ◀──────────────────── CONSOLE   │ the root stands; the console's master
 *       │  GO ──────────────────────────▶ │
 *       │ ◀────────────────────── FILTER  │ its listener, when there is one
 *       │ ◀── end of file: it executed; or FAILED with a struct err, at any time
 */
#pragma once

#include "container/container.h"
#include "kernel/caps.h"
#include "kernel/seccomp.h"

#include <stdint.h>

#ifndef PR_SET_MEMORY_MERGE /* Linux 6.4; Debian 12's headers are older */
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif

enum message_kind {
    MESSAGE_END, /* of file; never sent */
    MESSAGE_MAPPED,
    MESSAGE_READY, /* value: its IPC limits are written */
    MESSAGE_LAYERS,
    MESSAGE_MOUNTS,
    MESSAGE_LXCFS,
    MESSAGE_CONSOLE,
    MESSAGE_GO,
    MESSAGE_FILTER,
    MESSAGE_STREAMS, /* of exec: the pty's master, or three pipe ends */
    MESSAGE_PROCESS,
    MESSAGE_FAILED,
};
struct message {
    uint32_t kind;
    uint32_t value; /* of MESSAGE_LXCFS: which files; of MESSAGE_PROCESS: its pid */
    struct err err; /* of MESSAGE_FAILED */
};

/* outer.c: makes the outer user namespace, its limits, and in it the VE's first process (the
 * caller's child), whose ids are mapped when this returns; that process runs init_main().  ret_pid
 * and ret_pidfd may be filled on failure as well. */
int outer_fork(const struct container_plan *plan, int inner, pid_t *ret_pid, int *ret_pidfd,
               struct err *err);

/* limits.c */
/* The caller is in the outer user namespace with all capabilities over it. */
int limits_write_counters(const struct container_limits *l, int sysctls, struct err *err);
/* Those of the caller's IPC namespace.  ERR_DENIED: only another uid may. */
int limits_write_ipc(const struct container_limits *l, int sysctls, struct err *err);
/* By the host's root, where the VE's root may not (before Linux 6.9). */
int limits_write_ipc_of(const struct container_limits *l, int pidfd, struct err *err);
/* Ceilings of TCP's buffers, in the caller's own new network namespace. */
int limits_write_buffers(const struct container_limits *l, int sysctls, struct err *err);
/* Before anything of the VE's own runs. */
int limits_see_pts(int pidfd, struct container_pts *ret, struct err *err);
/* /proc/sys of a proc of its own; by the host's root. */
int limits_open_sysctls(int *ret_fd, struct err *err);

/* message.c */
int message_pair(int ret[2], struct err *err);
/* For our side: each wait for the other's next message, or for room for ours, ends after this time
 * (ERR_TIMEOUT).  Whoever is root inside can stop a process that is about to become the VE's. */
int message_deadline(int sock, int seconds, struct err *err);
int message_send(int sock, enum message_kind kind, uint32_t value, const int *fds, size_t n_fds,
                 struct err *err);
/* Receives a message of exactly this kind with exactly n_fds descriptors.  FAILED from the other
 * side becomes our failure; end of file too (ERR_STATE), unless MESSAGE_END is expected. */
int message_expect(int sock, enum message_kind kind, uint32_t *ret_value, int *ret_fds,
                   size_t n_fds, struct err *err);
/* Receives whatever comes; MESSAGE_END and MESSAGE_FAILED (why in ret->err) are messages too.
 * *n_fds: in, room; out, received. */
int message_next(int sock, struct message *ret, int *ret_fds, size_t *n_fds, struct err *err);
void message_fail(int sock, const struct err *why);

/* device.c, caller's side: the tmpfs that becomes /dev, detached, owned by the host.  nesting: with
 * places for an uncovered proc and sysfs in .terem, which is empty without it. */
int device_tree(uid_t id_base, uint64_t shm_bytes, bool nesting, int *ret_fd, struct err *err);
/* Changes the size of /dev/shm of the VE whose mount namespace the caller is in, in its own user
 * namespace.  Above what the files in it need, else ERR_STATE. */
int device_resize(uint64_t shm_bytes, struct err *err);
/* device.c, child's side: a pty of the VE's devpts. */
int device_pty(int devpts, bool raw, unsigned rows, unsigned columns, int *ret_master,
               int *ret_slave, struct err *err);

/* root.c, child's side: everything between fresh namespaces and a finished root. */
struct root_parts {
    const int *layers;
    size_t n_layers;
    int tree, dev;    /* tree -1: in memory, thrown away at the end */
    int proc_fs;      /* or -1 */
    const int *lxcfs; /* LXCFS_COUNT descriptors, -1 where there is none */
    bool cgroup;      /* mount a cgroup2 */
    bool nesting;     /* leave an uncovered proc and sysfs for containers inside */
    bool old_overlay; /* as before 6.13; tests */
    uint64_t ptys;
    const struct container_repair *repair; /* or NULL */
};
/* The working directory is the VE's root afterwards.  ret_devpts: its mounted devpts. */
int root_build(const struct root_parts *parts, int *ret_devpts, struct err *err);

/* lxcfs.c */
#define LXCFS_COUNT 8
extern const char *const lxcfs_paths[LXCFS_COUNT]; /* "proc/meminfo", … */
/* Detached clones of the files that are there; the others -1. */
void lxcfs_clone(int lxcfs_dir, int ret[LXCFS_COUNT]);
/* Attaches one below a proc or sys mount.  on_top: over what an earlier lxcfs left. */
int lxcfs_attach(int fd, size_t which, int proc, int sys, bool on_top, struct err *err);

/* file.c: the plan's small files, written by the VE's root inside its root.  tree: where what it
 * has written itself is, or -1. */
int file_write_all(const struct container_file *files, size_t n, int tree, struct err *err);

/* user.c: "uid[:gid]", "name[:group]"; NULL is root. */
#define USER_GROUPS_MAX 256
struct user {
    uid_t uid;
    gid_t gid, groups[USER_GROUPS_MAX];
    size_t n_groups;
    char name[64], home[256], shell[256];
};
/* From the texts of passwd(5) and group(5); foreign bytes. */
int user_parse(const char *spec, const char *passwd, const char *group, struct user *ret,
               struct err *err);
/* Reads /etc/passwd and /etc/group of the root that the caller is in. */
int user_lookup(const char *spec, struct user *ret, struct err *err);

/* process.c: the last steps of init and of exec. */
struct process_spec {
    const char *const *argv, *const *env;
    const char *workdir, *user;
    bool own_init, nesting, new_privileges;
    bool listen; /* sends MESSAGE_FILTER */
    bool listen_disk;
    int program; /* executed instead of argv[0], with argv after its own name; or -1 */
    int sock;    /* tells the caller about a failure; closed by exec */
};
/* Whatever of the caller would be inherited and is neither a descriptor nor a limit: signals,
 * umask, scheduling, session keyring, process group. */
int process_detach(struct err *err);
/* Takes from a child the protection from the OOM killer that the host gives the caller; written by
 * who has CAP_SYS_RESOURCE, so that the VE cannot take it back. */
void process_expose(pid_t pid);
/* Writes 0 to each v1 cgroup.procs: joins. */
int process_join(const int *procs, size_t n, struct err *err);
/* Lifts hard limits that were lowered; only who is still the host's root can, so the caller does it
 * to itself before it forks. */
void process_raise_limits(const struct container_limits *l);
/* Then the new process sets what a first process has, as far as the hard limits go. */
int process_set_limits(const struct container_limits *l, struct err *err);
/* The first limit that the caller's hard limits do not reach, even if it lifts them. */
int process_check_limits(const struct container_limits *l, struct err *err);
/* Returns only on failure. */
int process_execute(const struct process_spec *spec, struct err *err);
/* stdin, stdout, stderr; nothing else stays open but `keep`. */
int process_stdio(int in, int out, int error, const int *keep, size_t n_keep, struct err *err);
