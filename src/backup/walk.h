/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * walk — a tree by descriptors, every directory's names in the order of their bytes.  Inside
 * backup only.
 *
 * Nothing writes to the tree meanwhile; symbolic links are not followed, mounts are not entered.
 */
#pragma once

#include "base/err.h"

#include <sys/stat.h>

struct walk_file {
    int dir;          /* the directory that it is in; the tree itself: its own descriptor */
    const char *base; /* its name there; the tree itself: "" */
    const char *name; /* from the tree on; the tree itself: "" */
    int fd;           /* of a directory: open for reading; else -1 */
    struct stat st;
};

/* Directories before what is in them; a negative return ends the walk.  A path of PATH_MAX bytes or
 * with more than TREE_DEPTH_MAX components cannot be in a backup: beyond() is told the directory
 * below which one is left out; NULL: it ends the walk. */
int walk(int root, int (*fn)(void *ctx, const struct walk_file *f, struct err *err),
         void (*beyond)(void *ctx, const char *dir), void *ctx, struct err *err);
/* A beyond() for whoever walks beside the one that tells of it. */
void walk_pass_over(void *ctx, const char *dir);
