/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * copy — a directory's content into another one, file by file.
 *
 * Kept: types (whiteouts of the overlay, that is devices 0:0, too), owners, modes, times, extended
 * attributes (ACLs, capabilities, user.overlay.*), hard links within the directory, holes.  Blocks
 * are shared where the file system can (FICLONE), else copied inside the kernel, else read and
 * written.  Nothing is synced.
 */
#pragma once

#include "storage/storage.h"

/* `to` is an empty directory, which becomes as `from` is; above: a directory of the same file
 * system and project, where a helper directory of links is made and removed.  expect: bytes, for
 * the progress; 0: not known.  Cancelled: ERR_CANCELLED. */
int copy_tree(int from, int to, int above, uint64_t expect, const struct storage_step *step,
              struct err *err);
