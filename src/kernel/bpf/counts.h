/* SPDX-License-Identifier: GPL-2.0-or-later */
/* counts — what Terem's BPF programs and its other half in kernel/bpf.c share: the maps' values.
 *
 * A change of any of these needs a new COUNTS_LAYOUT: maps outlive the teremd that made them. */
#pragma once

#include <linux/types.h>

#define COUNTS_LAYOUT 4

enum counts_row {
    COUNTS_TCP,
    COUNTS_OTHER,
    COUNTS_FILES,
    COUNTS_LOCKS,
    COUNTS_PROCESSES, /* failcnt alone; the pids controller counts them */
    COUNTS_INOTIFY,
    COUNTS_WATCHES,
    COUNTS_SIGNALS,
    COUNTS_PTYS,
    COUNTS_SPACE, /* failcnt alone, like the next: quotas of file systems hold them */
    COUNTS_INODES,
    COUNTS_NAMESPACES, /* the first of its types, in the kernel's order (enum ucount_type) */
    COUNTS_ROWS = COUNTS_NAMESPACES + 8
};

#define COUNTS_NAMESPACE_TYPES (COUNTS_ROWS - COUNTS_NAMESPACES)

#define COUNTS_UNLIMITED (~0ULL)

/* map "counts": one for each VE, by the id of its cgroup.  Only programs write it. */
struct counts_ve {
    struct {
        __u64 held, maxheld, failcnt;
        __u64 said_ns; /* CLOCK_BOOTTIME of the last event */
    } row[COUNTS_ROWS];
};

/* map "limits": the same keys.  Only teremd writes it. */
struct counts_limits {
    __u64 limit[COUNTS_ROWS];
    __u64 guarded; /* which of the sysctls of terem_sysctl its processes cannot write: */
#define COUNTS_GUARD_LIMITS  1
#define COUNTS_GUARD_BUFFERS 2 /* the ceilings of TCP's buffers */
};

/* What the program of COUNTS_PART_HELD reads; only rows that the kernel counts by user namespace.
 * Never below zero, but for an instant. */
struct counts_held {
    __u64 ve; /* id of its cgroup */
    __s64 row[COUNTS_ROWS];
    __u64 queues, semaphores, segments; /* System V, of its own IPC namespace */
};

/* To which VE and row something belongs that was counted. */
struct counts_owner {
    __u64 ve;
    __u32 row, pad;
};

/* In the ring "events": a refusal, and how many there were of the row up to then; those that come
 * within COUNTS_SPACE_NS of one that was told are only counted, so that a VE that asks a million
 * times a second costs nobody more than itself. */
#define COUNTS_SPACE_NS 10000000ULL
struct counts_event {
    __u64 ve;         /* the cgroup's id */
    __u64 boot_ns;    /* CLOCK_BOOTTIME */
    __u64 failcnt;    /* COUNTS_MEMORY: 0 */
    __u32 row;        /* enum counts_row */
    __u32 pid;        /* of the process on the host; 0: no process asked (a packet did) */
    __u32 pid_inside; /* as the VE's own processes see it */
    __u32 pad;
    char comm[16];
};

#define COUNTS_RING_SIZE   (256 * 1024)
#define COUNTS_VES_MAX     16384
#define COUNTS_HOLDERS_MAX 65536 /* processes with locks on a file: pairs of both */
