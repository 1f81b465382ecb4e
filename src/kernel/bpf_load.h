/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bpf_load — inside the room: an open set of Terem's BPF programs, and how they are loaded. */
#pragma once

#include "kernel/bpf.h"

struct bpf_object;
struct ring_buffer;

enum counts_map {
    COUNTS_MAP_COUNTS,
    COUNTS_MAP_LIMITS,
    COUNTS_MAP_EVENTS,
    COUNTS_MAP_LOST,
    COUNTS_MAP_OPENING,
    COUNTS_MAPS
};

/* Mounts a bpffs where there is none, and tells libbpf to be silent. */
int bpf_load_mount(const char *dir, struct err *err);
uint64_t bpf_load_edition(const void *elf, size_t size);
/* Removes what other editions of a part left in the bpffs, PART-…, but its maps, PART-maps-…. */
void bpf_load_remove_others(int bpffs, const char *part, const char *keep);
void bpf_load_closep(struct bpf_object **o);

struct counts {
    char path[512]; /* of the bpffs */
    int dir;        /* the same */
    int guard;      /* program that counts_guard() attaches */
    int held;       /* program that counts_held() runs; -1: see why */
    int map[COUNTS_MAPS];
    char why[COUNTS_PARTS][256];
    enum counts_part quotas_by; /* COUNTS_PARTS: they are not counted */
    unsigned file_systems;      /* that the kernel had when they were attached */
    struct ring_buffer *ring;
    void (*heard)(void *ctx, const struct counts_event *e);
    void *heard_ctx;
};
