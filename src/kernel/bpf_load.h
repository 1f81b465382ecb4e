/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bpf_load — inside the room: an open set of Terem's BPF programs. */
#pragma once

#include "kernel/bpf.h"

struct ring_buffer;

enum counts_map {
    COUNTS_MAP_COUNTS,
    COUNTS_MAP_LIMITS,
    COUNTS_MAP_EVENTS,
    COUNTS_MAP_LOST,
    COUNTS_MAP_OPENING,
    COUNTS_MAPS
};

struct counts {
    char path[512]; /* of the bpffs */
    int dir;        /* the same */
    int guard;      /* program that counts_guard() attaches */
    int map[COUNTS_MAPS];
    char why[COUNTS_PARTS][256];
    struct ring_buffer *ring;
    void (*heard)(void *ctx, const struct counts_event *e);
    void *heard_ctx;
};
