/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test_tree — a tree with everything in it that a VE may leave on a disk, and whether two are the
 * same.
 */
#pragma once

#include "storage/storage.h"

#include <stdbool.h>

/* Fills upper/ of the tree; false and a line on stderr when something could not be made. */
bool tree_fill(int tree);
/* Are both upper/ the same in all that a copy keeps?  false: a line on stderr says where not. */
bool tree_same(int a, int b);
/* Writes one file of upper/. */
bool tree_write(int tree, const char *name, const char *text);
/* The file of upper/ holds this; text NULL: it is not there. */
bool tree_holds(int tree, const char *name, const char *text);
/* A program with its words; did it succeed? */
bool tree_run(const char *const *argv);
/* Can pools of this driver be made here?  false: said on stdout, as TAP wants it.  The process is
 * in a mount namespace of its own afterwards: others of the host would copy its mounts into theirs
 * and keep them in use. */
bool tree_testable(const char *driver);
/* The first of storage_parents(); 0: it has none. */
static inline int64_t tree_parent(struct storage_pool *p, int64_t id)
{
    int64_t list[STORAGE_PARENTS];
    return storage_parents(p, id, list) ? list[0] : 0;
}
