/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * untar — the bytes of a tar into a tree.
 *
 * libarchive reads the headers (ustar, pax, GNU, sparse files); tree.h writes.  A tar that has no
 * end marker (two blocks of zeros) was cut short: ERR_CORRUPT, which tar itself lets pass.  Only
 * where a digest will tell, as in images, it may be missing, and the padding of the last file with
 * it: `umoci insert` (0.4.7) leaves both out.
 */
#pragma once

#include "archive/tree.h"

#include <sys/types.h>

struct untar_source {
    /* The next piece, valid until the next call; 0 at the end. */
    ssize_t (*read)(void *ctx, const void **ret_buf, struct err *err);
    void *ctx;
    bool digest_tells; /* whether it is whole: the end marker may be missing */
};

/* Members of the archive that are not files of the tree.  All functions may refuse. */
struct untar_members {
    const char
        *prefix; /* "root/": what is below goes to the tree, without it; also "root/" itself */
    int (*begin)(void *ctx, const char *name, uint64_t size, struct err *err);
    int (*data)(void *ctx, const void *buf, size_t len, struct err *err);
    int (*end)(void *ctx, struct err *err);
    /* NULL, or: each file of the tree, by its name below the prefix; then, of a regular one, its
     * content: a piece of the stretch of data from `from` to `to`, holes left out; then its end. */
    int (*file)(void *ctx, const char *path, const struct tree_entry *e, struct err *err);
    int (*content)(void *ctx, uint64_t from, uint64_t to, const void *buf, size_t len,
                   struct err *err);
    int (*file_end)(void *ctx, struct err *err);
    void *ctx;
    uint64_t *ret_end; /* NULL, or: where the last member's data end, filled up to a block */
};

/* Reads the source to its very end.  t: from tree_init(); NULL: nothing is written, headers are
 * only looked at.  members: NULL, everything is of the tree. */
int untar(const struct untar_source *in, struct tree *t, const struct untar_members *members,
          struct err *err);
