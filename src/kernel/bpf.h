/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bpf — Terem's BPF programs: loaded once for an instance, kept by the kernel, found again.
 *
 * I own the programs in kernel/bpf/, their maps, and the bpffs at the directory I am given, where
 * both are pinned: what is counted goes on being counted when nobody of Terem is alive.  I use
 * base and libbpf.  I never know what a row means or which VEs there are; resource/bpf.c does.
 *
 * Programs come in parts, as kernels differ; a part that this kernel refuses has a reason and the
 * others work without it.
 *
 * Synopsis
 *     struct counts *c = NULL;
 *     counts_open("/run/terem/bpf", cgroup_fd, &c, err);
 *     if (counts_why(c, COUNTS_PART_SOCKET)) …
 *     counts_add(c, ve_cgroup_id, &limits, err);
 *     counts_read(c, ve_cgroup_id, &now, err);
 *
 * The names begin with counts_: libbpf has bpf_.
 */
#pragma once

#include "base/err.h"
#include "kernel/bpf/counts.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct counts;

enum counts_part {
    COUNTS_PART_SOCKET,  /* TCP and other sockets of the Internet families; sysctls guarded */
    COUNTS_PART_OBJECT,  /* files, sockets of other families: needs BPF LSM */
    COUNTS_PART_LOCK,    /* file locks: needs BPF LSM and trampolines */
    COUNTS_PART_REFUSAL, /* who was refused by the kernel's own counters */
    COUNTS_PART_UCOUNT,  /* namespaces, inotify, signals, ptys: the most, and who was refused */
    COUNTS_PART_HELD,    /* what is held of the same, but ptys */
    COUNTS_PART_QUOTA,   /* what disk quotas refuse; only after counts_quotas(), like the next */
    COUNTS_PART_EXIT,    /* the same, dearer and less, where that cannot be */
    COUNTS_PARTS
};

/* dir: made if needed, a bpffs is mounted there (one for all VEs).  cgroup: the instance's cgroup
 * of version 2, one below the root; its VEs are one below it.  Parts that cannot be loaded are
 * no failure: see counts_why().  Loads only what is not there from a former call. */
int counts_open(const char *dir, int cgroup, struct counts **ret, struct err *err);
void counts_close(struct counts *c);
/* Unmounts and removes dir, whether it is there or not; the cgroup must go afterwards, or the
 * programs attached to it stay. */
int counts_remove(const char *dir, struct err *err);
/* Why a part does not work here; NULL when it does. */
const char *counts_why(const struct counts *c, enum counts_part part);

/* Counts the VE with this cgroup id from now on, or changes its limits; what was counted stays. */
int counts_put(struct counts *c, uint64_t ve, const struct counts_limits *limits, struct err *err);
/* Not there: ERR_NOT_FOUND. */
int counts_get(struct counts *c, uint64_t ve, struct counts_ve *ret, struct err *err);
/* Not there: fine. */
int counts_forget(struct counts *c, uint64_t ve, struct err *err);
/* What the VE of this process holds of what the kernel counts by user namespace.  The process is
 * gone: ERR_NOT_FOUND. */
int counts_held(struct counts *c, int pidfd, struct counts_held *ret, struct err *err);
/* Of every VE that runs, in any order, some twice; *ret is freed by the caller. */
int counts_held_all(struct counts *c, struct counts_held **ret, size_t *ret_n, struct err *err);
/* Refuses connections from outside, too, while the VE has as many TCP sockets as it may have.
 * Costs a look at each of its packets: only for a VE with such a limit. */
int counts_guard(struct counts *c, int cgroup, struct err *err);

/* Counts what disk quotas refuse from now on, or no more: only while somebody has one.  Slow: each
 * function costs a grace period of the kernel, together seconds; call it in a process of its own,
 * and then counts_quotas_look() in the others.  Again when there may be more file systems. */
int counts_quotas(struct counts *c, bool on, struct err *err);
enum counts_wish { COUNTS_AS_WISHED, COUNTS_TO_DO, COUNTS_CANNOT };
/* How far that is; at once. */
enum counts_wish counts_quotas_look(struct counts *c, bool on);
/* What counts them, as counts_quotas_look() found it; COUNTS_PARTS: nothing. */
enum counts_part counts_quotas_by(const struct counts *c);

struct counts_item {
    uint64_t ve;
    struct counts_ve counts;
};
/* All VEs at once; *ret is freed by the caller. */
int counts_all(struct counts *c, struct counts_item **ret, size_t *ret_n, struct err *err);

/* Refusals, as they happen.  One process of the instance may listen at a time.  The descriptor is
 * readable when there are any; it belongs to c. */
int counts_listen(struct counts *c, void (*heard)(void *ctx, const struct counts_event *e),
                  void *ctx, int *ret_fd, struct err *err);
/* Calls heard() for what is there; returns how many. */
int counts_hear(struct counts *c, struct err *err);
/* Events for which there was no room, since the programs were loaded. */
uint64_t counts_lost(const struct counts *c);
