/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * resource/bpf — the rows that BPF programs count and limit: sockets.tcp, sockets.other, files,
 * file-locks; and who was refused, also by disk quotas.
 *
 * I use kernel/bpf.h and the VE's cgroup, which is the key of all that is counted.  The counters
 * are the kernel's: they go on while nobody of Terem is alive, and are found again.
 *
 * What this kernel lacks is no failure: resource_bpf_row() says for each row what works here and
 * why the rest does not, for doctor, for errors and for counters that are not known.
 */
#pragma once

#include "resource/resource.h"

struct resource_bpf;

/* dir: where the instance's bpffs is mounted, one for all VEs. */
int resource_bpf_open(struct resource_node *node, const char *dir, struct resource_bpf **ret,
                      struct err *err);
void resource_bpf_close(struct resource_bpf *bpf);
/* When the node stops; before resource_node_remove(). */
int resource_bpf_remove(const char *dir, struct err *err);

enum resource_bpf_state {
    RESOURCE_BPF_LIMITED,  /* counted and limited */
    RESOURCE_BPF_PART,     /* the same, but not of everything that the row means */
    RESOURCE_BPF_FALLBACK, /* limited in another way and not counted */
    RESOURCE_BPF_NONE,     /* neither */
};
/* ret_why, if not NULL: a clause for what does not work; NULL for RESOURCE_BPF_LIMITED.  It lives
 * as long as bpf.  A row that is not BPF's: RESOURCE_BPF_NONE. */
enum resource_bpf_state resource_bpf_row(const struct resource_bpf *bpf,
                                         const struct param_row *row, const char **ret_why);
/* What of a row works here, as a clause, when not all of it does; ret_why as above. */
const char *resource_bpf_partly(const struct resource_bpf *bpf, const struct param_row *row,
                                const char **ret_why);
/* Why the process that the kernel's own counters refused is not named here; NULL: it is. */
const char *resource_bpf_why_unnamed(const struct resource_bpf *bpf);
/* Why what namespaces bound is not counted; NULL: it is. */
const char *resource_bpf_why_uncounted(const struct resource_bpf *bpf);
/* Why neither the most of it nor its refusals are; NULL: they are. */
const char *resource_bpf_why_unrefused(const struct resource_bpf *bpf);

/* Counts what disk quotas refuse from now on, or no more: only while a VE has one.  Slow: in a
 * process of its own.  The others look then, which costs little, and also what is to be done when
 * VEs start or pools come. */
int resource_bpf_quotas(struct resource_bpf *bpf, bool on, struct err *err);
enum resource_bpf_wish { RESOURCE_BPF_AS_WISHED, RESOURCE_BPF_TO_DO, RESOURCE_BPF_CANNOT };
enum resource_bpf_wish resource_bpf_quotas_look(struct resource_bpf *bpf, bool on);
/* Can every given row be enforced here?  The first that cannot is named with the reason. */
int resource_bpf_check(const struct resource_bpf *bpf, const struct param_set *set,
                       struct err *err);
/* Counts the VE from now on and writes its limits: after resource_create(), before a process is
 * in it; and again for one that runs, whenever.  What was counted stays.  guard: from now on the
 * VE's processes cannot write the sysctls that keep limits of its namespaces. */
int resource_bpf_apply(struct resource_bpf *bpf, int64_t id, const struct param_set *set,
                       bool guard, struct err *err);
/* Stops counting; before resource_remove().  Not there: fine. */
int resource_bpf_forget(struct resource_bpf *bpf, int64_t id, struct err *err);

/* Around many calls of resource_bpf_counters(), one after the other: what is the same for all VEs
 * is asked once. */
void resource_bpf_counters_all(struct resource_bpf *bpf, bool on);
/* Adds what is counted of the VE; pidfd: of its first process, or -1. */
int resource_bpf_counters(struct resource_bpf *bpf, int64_t id, int pidfd,
                          struct param_counters *list, struct err *err);

struct resource_refusal {
    const struct param_row *row;
    int64_t id; /* of the VE */
    int64_t boot_ns;
    uint64_t failcnt; /* of the row, with this one; 0: not known */
    pid_t pid;        /* 0: a packet from outside, no process */
    pid_t pid_inside; /* as the VE numbers it; 0: not known */
    char comm[16];    /* "" when not known */
};
/* Refusals as they happen, from the next call of resource_bpf_hear() on; one listener an instance.
 * *ret_fd is readable when there are some; it belongs to bpf. */
int resource_bpf_listen(struct resource_bpf *bpf,
                        void (*heard)(void *ctx, const struct resource_refusal *r), void *ctx,
                        int *ret_fd, struct err *err);
int resource_bpf_hear(struct resource_bpf *bpf, struct err *err);
/* How many were lost for want of room. */
uint64_t resource_bpf_lost(const struct resource_bpf *bpf);
