/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * storage — where a VE's own files are: pools of writable trees.
 *
 * I own STATE/pool.  I use base and kernel/.  I never read a template and never look into a tree.
 *
 * First pool, "dir": STATE/pool/<id>/{upper,work} for each VE; upper is the writable layer of its
 * overlay.  Ids on disk are 0–65535.  A tree that goes is first renamed into STATE/pool/.trash,
 * so that destroying returns at once; storage_empty_trash() does the rest in the background.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct storage_pool;

int storage_pool_open(const char *state, struct storage_pool **ret, struct err *err);
void storage_pool_close(struct storage_pool *p);

/* Makes the VE's empty tree; there already: ERR_EXISTS.  On failure nothing is left. */
int storage_create(struct storage_pool *p, int64_t id, struct err *err);
/* Descriptor of STATE/pool/<id>, which holds upper/ and work/ (one mount, as overlay wants). */
int storage_open(struct storage_pool *p, int64_t id, int *ret_fd, struct err *err);
/* Renames the tree into the trash; not there: fine. */
int storage_remove(struct storage_pool *p, int64_t id, struct err *err);
/* Deletes what is in the trash and makes a few empty trees in advance (STATE/pool/.spare), which
 * storage_create() then takes; slow; run it in a worker at idle priority. */
int storage_empty_trash(struct storage_pool *p, struct err *err);
bool storage_has_trash(struct storage_pool *p);
/* Ids that have a tree, whether the registry knows them or not; *ret is freed by the caller. */
int storage_list(struct storage_pool *p, int64_t **ret, size_t *ret_n, struct err *err);

struct storage_space {
    uint64_t size_bytes, free_bytes, inodes, inodes_free;
    char file_system[16];  /* "ext4" */
    bool overlay_upper_ok; /* supports xattrs and d_type as overlay's upper needs */
};
int storage_space(struct storage_pool *p, struct storage_space *ret, struct err *err);
