/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * walk — everything below a directory, however deep, with a bounded number of descriptors.
 *
 * Symbolic links are not followed and no mount is crossed (ERR_BUSY).  Nobody else may rename
 * directories below it meanwhile: the way up is "..".
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct walk {
    void *ctx;
    /* What is not a directory.  dir: the directory that holds it. */
    int (*entry)(void *ctx, int dir, const char *name, const struct stat *st, struct err *err);
    /* Before what is in directory `name` (NULL: the one where the walk began), and after it.
     * dir: that directory.  Either may be NULL. */
    int (*enter)(void *ctx, int dir, const char *name, struct err *err);
    int (*leave)(void *ctx, int dir, bool top, struct err *err);
};

/* 0, or what a function returned that was not 0. */
int walk_tree(int dir, const struct walk *w, struct err *err);

/* Bytes on disk and inodes of everything below, hard links once, the directory itself included. */
int walk_usage(int dir, uint64_t *ret_bytes, uint64_t *ret_inodes, struct err *err);

/* A name for a sentence: escaped, and cut. */
#define WALK_SHOWN 96
const char *walk_shown(const char *name, char buf[WALK_SHOWN]);
