/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tree — writes foreign files into one directory and never a byte outside of it.
 *
 * I own how names, links, ids, modes, times and attributes of an archive's entries become files
 * of a layer.  Every name is walked below the root's descriptor with RESOLVE_BENEATH and
 * RESOLVE_NO_SYMLINKS; nobody else can reach the directory meanwhile (its parent is 0700).
 *
 * Refused (ERR_CORRUPT and friends, one sentence): "..", names that go through a symbolic link,
 * hard links to what is not a file of this layer, ids above 65535, over-long names, more
 * entries or bytes than the limits.  Skipped: device nodes, sockets.  A leading "/" is dropped,
 * as tar does.  A name that comes twice: the last wins.
 *
 * OCI whiteouts (image-spec, layer.md) become overlayfs's: ".wh.NAME" a character device 0:0,
 * ".wh..wh..opq" the attribute user.overlay.opaque=y.
 *
 * An exact tree (a backup's) is what the overlay itself wrote: whiteouts are character devices 0:0
 * in the archive, those of the overlay's attributes that it writes itself are kept and all others
 * refused (attr.h), ".wh." is a name like any other; other devices and sockets are refused.
 */
#pragma once

#include "base/err.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#define TREE_DEPTH_MAX 256 /* components of a name */
#define TREE_ID_MAX    65535

struct tree_limits {
    uint64_t bytes;   /* of file data written */
    uint64_t logical; /* sum of file sizes, holes included */
    uint64_t entries;
};

struct tree {
    int root;   /* the caller's */
    bool exact; /* set after tree_init() */
    struct tree_limits max;
    uint64_t bytes, logical, entries;
    /* The directory of the last entry, kept open; its mtime is put back when it is left. */
    int parent;
    char parent_name[PATH_MAX];
    struct timespec parent_mtime;
    bool parent_acl; /* what is made in it inherits a default ACL */
};

void tree_init(struct tree *t, int root, const struct tree_limits *max);
/* Puts the last directory's time back and closes it; the root stays open. */
void tree_done(struct tree *t);

/* Of one entry: more is refused by who writes an archive and by who reads one. */
#define TREE_XATTRS_MAX  1024
#define TREE_XATTRS_SIZE ((size_t)1 << 20) /* of all values */

struct tree_xattr {
    const char *name;
    const void *value;
    size_t size;
};

struct tree_entry {
    const char *name; /* as in the archive */
    mode_t mode;      /* type and permissions; type 0 with `link` set: hard link */
    uint64_t uid, gid;
    struct timespec mtime;
    const char *link; /* target of a symbolic or hard link */
    bool hard;        /* `link` is a hard link's */
    uint64_t size;    /* of a regular file */
    dev_t device;     /* of a device node */
    const struct tree_xattr *xattrs;
    size_t n_xattrs;
};

/* A name for a sentence: escaped, and cut. */
#define TREE_SHOWN 96
const char *tree_shown(const char *name, char buf[TREE_SHOWN]);

/* What tree_add() refuses whatever is there already; its name below the root. */
int tree_check(const struct tree_entry *e, bool exact, char path[PATH_MAX], struct err *err);
/* Makes the entry.  A regular file is left open for its data in *ret_fd (else -1): write it with
 * tree_write() and end it with tree_finish(). */
int tree_add(struct tree *t, const struct tree_entry *e, int *ret_fd, struct err *err);
/* Removes `name` and what is below it; not there: fine. */
int tree_remove(struct tree *t, const char *name, struct err *err);
int tree_write(struct tree *t, int fd, const void *buf, size_t len, uint64_t offset,
               struct err *err);
/* Sets size, owner, mode, attributes and time, and closes the descriptor. */
int tree_finish(struct tree *t, const struct tree_entry *e, int *fd, struct err *err);

/* Fills err for a failed system call on a file of the layer; a full file system says what to do. */
int tree_sys(struct err *err, int dirfd, int sys, const char *what, const char *name);
