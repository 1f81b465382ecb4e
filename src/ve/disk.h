/* SPDX-License-Identifier: GPL-2.0-or-later */
/* disk — the rows disk.*, between disk.c (limits and what is used) and grace.c (the soft half). */
#pragma once

#include "ve/internal.h"

enum { DISK_SPACE, DISK_INODES, DISK_ROWS };

struct disk_bounds { /* of one row; STORAGE_UNLIMITED: none */
    uint64_t soft, hard;
};
extern const char *const disk_keys[DISK_ROWS];
struct disk_bounds disk_bounds_of(const struct param_set *set, size_t row);
/* Does the row have a soft half below its hard one? */
bool disk_is_soft(const struct param_set *set, size_t row);
bool disk_is_bounded(const struct ve *ve);
/* What the VE's tree uses, where that is told at once; else not known. */
struct param_count disk_used(const struct storage_usage *u, size_t row);
bool disk_usage(const struct ve *ve, struct storage_usage *ret);

/* grace.c */
/* Its grace has run out: it is held to the soft half. */
bool grace_is_held(const struct ve *ve, size_t row);
/* Milliseconds since the epoch: since when it is above the soft half; 0: it is not. */
int64_t grace_since(const struct ve *ve, size_t row);
/* Compares what is used with the soft halves, and does what follows. */
void grace_look(struct ve *ve);
