/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ahead — files of a tree into the page cache shortly before they are packed.  Inside backup only.
 *
 * A fresh snapshot's files are in no page cache, whatever is of those that it was made from.  Who
 * reads them one after another waits for the disk at each, longer in all than packing takes.  Here
 * a thread walks the same tree in the same order, some files before the packer, and asks for the
 * beginning of each; how a longer one goes on the kernel reads ahead by itself.
 */
#pragma once

#include "backup/walk.h"

#include <stdbool.h>

struct ahead;

/* wanted (or NULL, all): will this file be read?  Called by the thread.  root and ctx stay until
 * ahead_free().  NULL: there is no thread for it, and each file is waited for. */
struct ahead *ahead_new(int root, bool (*wanted)(const void *ctx, const struct walk_file *f),
                        const void *ctx);
/* The packer is done with this file, which the thread had on its way, too. */
void ahead_passed(struct ahead *a, const struct stat *st);
void ahead_free(struct ahead *a);
