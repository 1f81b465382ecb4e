/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * storage — where VEs' own files are: pools of trees.
 *
 * I own what lies in a pool's directory, and the loop images that pools live in.  I use base and
 * kernel/.  I never read a template and know nothing of VEs but a number.
 *
 *     POOL/<id>/{upper,work}     a VE's writable layer; ids on disk are 0–65535
 *     POOL/.saved/<id>/{upper,…} saved trees: snapshots; nothing writes to them
 *     POOL/.spare/<n>            empty trees made in advance
 *     POOL/.spare/aside-<id>     a VE's tree for the moment in which another one takes its place
 *     POOL/.spare/ballast-<n>    held back for when VEs have filled the pool
 *     POOL/.trash/…              what goes: renamed at once, deleted in the background; and what is
 *                                being made, until it is whole
 *
 * Drivers (driver.h has what each must do):
 *     dir    any file system; space and inodes are bounded where it has project quotas (ext4, xfs)
 *     btrfs  every tree is a subvolume: copies cost nothing, space is bounded by qgroups
 *     xfs    like dir, with files that share their blocks (reflink)
 * A pool with an image is a file system of its own in a file, on a loop device, mounted at the
 * pool's path.  That mount outlives us: VEs run on in it.
 *
 * Copies, removal and making pools are slow: call them in a worker.  All others return at once.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct storage_pool;

/* What a pool is made of; texts stay the caller's. */
struct storage_spec {
    const char *driver; /* "dir", "btrfs", "xfs" */
    const char *path;   /* absolute: the pool's directory */
    const char *image; /* absolute: the file it lives in; NULL: path is in a file system as it is */
    uint64_t size;     /* of the image, in bytes */
    const char *name;  /* in sentences; NULL: its path */
};

/* Which driver serves best at this directory (it, or the nearest one above that exists), and
 * whether it needs an image; why: a sentence for doctor. */
struct storage_choice {
    char driver[8];
    bool image;
    char why[240];
};
int storage_choose(const char *path, struct storage_choice *ret, struct err *err);
/* Is there a driver of this name? */
int storage_driver_check(const char *name, struct err *err);
/* Bytes that an image of this driver has at least; 0: it lives in none, or there is no such one. */
uint64_t storage_image_min(const char *driver);
/* Makes the pool's directory (and image and file system); what is there already is used again, a
 * file system of somebody else is refused.  On failure nothing new is left. */
int storage_make(const struct storage_spec *spec, struct err *err);
/* Mounts what has to be mounted, once. */
int storage_pool_open(const struct storage_spec *spec, struct storage_pool **ret, struct err *err);
void storage_pool_close(struct storage_pool *p);
/* The descriptors that an open pool works by, for a process that closes all others; returns how
 * many. */
#define STORAGE_FDS 5
size_t storage_pool_fds(const struct storage_pool *p, int ret[STORAGE_FDS]);
/* Takes the mount and the loop device away; in use, and still so after some seconds: ERR_BUSY.  A
 * pool without an image: nothing. */
int storage_unmount(const struct storage_spec *spec, struct err *err);
/* A pool without trees goes: its directories, its image.  With trees: ERR_STATE. */
int storage_destroy(const struct storage_spec *spec, struct err *err);
/* The image to this size (never smaller, else ERR_USAGE), while VEs run in it. */
int storage_grow(struct storage_pool *p, uint64_t size, struct err *err);

/* What this pool can do; why: in words, where it cannot. */
struct storage_can {
    bool space, inodes; /* storage_limit() holds them */
    bool own_df;        /* statfs(2) in a tree tells of the tree's limits, not of the pool */
    bool cheap_copies;  /* a copy takes no space and time in proportion to its size */
    bool shares_data;   /* a copy takes time and space for each file, and none for what is in it */
    bool counts;        /* storage_usage() is cheap */
    bool counts_late;   /* what was deleted is in it until the next commit, for half a minute */
    char why_space[160], why_inodes[160];
};
const struct storage_can *storage_can(const struct storage_pool *p);

/* ---- trees of VEs ---- */
/* Makes the VE's empty tree; there already: ERR_EXISTS.  On failure nothing is left. */
int storage_create(struct storage_pool *p, int64_t id, struct err *err);
/* Descriptor of POOL/<id>, which holds upper/ and work/ (one mount, as overlay wants). */
int storage_open(struct storage_pool *p, int64_t id, int *ret_fd, struct err *err);
/* Renames the tree into the trash; not there: fine. */
int storage_remove(struct storage_pool *p, int64_t id, struct err *err);
/* The trees that there are now are on the disk, though not all that was written into them.  Slow.
 */
int storage_commit(struct storage_pool *p, struct err *err);
/* Ids that have a tree, whether the registry knows them or not; *ret is freed by the caller. */
int storage_list(struct storage_pool *p, int64_t **ret, size_t *ret_n, struct err *err);

/* ---- saved trees ---- */
/* percent -1: unknown.  Returning non-zero cancels. */
typedef int (*storage_progress)(void *ctx, int percent, const char *text);
struct storage_step {
    storage_progress progress; /* NULL: none */
    void *ctx;
};
/* Saves the VE's tree as it is now, durably, as `saved`, a number never used before.  The caller
 * has frozen the VE, or it is stopped. */
int storage_save(struct storage_pool *p, int64_t id, int64_t saved, const struct storage_step *step,
                 struct err *err);
/* The VE's tree becomes a copy of a saved one; what it was before goes to the trash.  Either the
 * old tree or the new one is there afterwards, whatever happens: one who was killed meanwhile may
 * have left the old one aside until storage_settle(), which opening the pool does too.  The VE is
 * stopped, or has no tree yet. */
int storage_restore(struct storage_pool *p, int64_t saved, int64_t id,
                    const struct storage_step *step, struct err *err);
int storage_settle(struct storage_pool *p, int64_t id, struct err *err);
/* The tree of a new VE becomes a copy of another VE's, as in storage_save(), or, if saved, of a
 * saved one; from the same pool or another. */
int storage_clone_into(struct storage_pool *to, int64_t id, struct storage_pool *from,
                       int64_t source, bool saved, const struct storage_step *step,
                       struct err *err);
int storage_saved_open(struct storage_pool *p, int64_t saved, int *ret_fd, struct err *err);
int storage_saved_remove(struct storage_pool *p, int64_t saved, struct err *err);
int storage_saved_list(struct storage_pool *p, int64_t **ret, size_t *ret_n, struct err *err);
/* A VE's tree (saved false) or a saved one into another pool, under the same number, durably.  The
 * source stays. */
int storage_move(struct storage_pool *from, struct storage_pool *to, int64_t id, bool saved,
                 const struct storage_step *step, struct err *err);
/* What a move of it takes in the other pool: all that is in its files, since nothing of it is
 * shared there; 0 where it costs nothing.  Walks the tree: slow, and nobody may write to it
 * meanwhile. */
int storage_move_size(struct storage_pool *from, struct storage_pool *to, int64_t id, bool saved,
                      uint64_t *ret, struct err *err);
/* A tree that is written from outside (restore of a backup): made in the trash, then takes the
 * number `id`, durably; *ret_fd is its directory with upper/ and work/. */
int storage_draft(struct storage_pool *p, int64_t id, int *ret_fd, struct err *err);
int storage_draft_finish(struct storage_pool *p, int64_t id, struct err *err);
/* Which saved trees a VE's tree came from, those that are there, the latest (saved last, or
 * restored from) first; returns how many.  The tree itself tells, so that it is right after a crash
 * between the two of any change.  After a power cut a number may have been given again, to a tree
 * of another VE: the caller leaves out what it does not know as this VE's. */
#define STORAGE_PARENTS 64
size_t storage_parents(struct storage_pool *p, int64_t id, int64_t ret[STORAGE_PARENTS]);

/* ---- limits ---- */
#define STORAGE_UNLIMITED UINT64_MAX
struct storage_limits {
    uint64_t space;  /* bytes of the tree, without saved ones */
    uint64_t inodes; /* files and directories of it */
};
/* Holds the VE's tree to these from now on, running or not; what is in use above them stays, and
 * can be deleted.  What the pool cannot hold must be unlimited, else ERR_UNSUPPORTED. */
int storage_limit(struct storage_pool *p, int64_t id, const struct storage_limits *l,
                  struct err *err);
struct storage_usage {
    bool space_known, inodes_known;
    uint64_t space, inodes;
};
/* Cheap where storage_can()->counts; else walks the tree: call it in a worker.  On btrfs it is of
 * the last commit, and who asks now and then keeps the limit in step with what is in use (bound()
 * in btrfs.c). */
int storage_usage(struct storage_pool *p, int64_t id, struct storage_usage *ret, struct err *err);
/* Of a saved tree: own is what would be free if it went.  Not known: UINT64_MAX. */
int storage_saved_usage(struct storage_pool *p, int64_t saved, uint64_t *ret_own,
                        uint64_t *ret_total, struct err *err);

/* ---- a pool that is full ---- */
/* Gives up a piece of what is held back in each pool: there is room for starting a VE, so that
 * something can be deleted in it.  false: there is room already, or no piece is left.  Slow: it
 * waits for the disk. */
bool storage_yield(struct storage_pool *p);
/* Is something of it missing, and room to hold it back again?  Emptying the trash does that. */
bool storage_is_short(struct storage_pool *p);

/* ---- what goes ---- */
/* Deletes what is in the trash and makes a few empty trees in advance, which storage_create()
 * then takes; slow; run it in a worker at idle priority. */
int storage_empty_trash(struct storage_pool *p, struct err *err);
bool storage_has_trash(struct storage_pool *p);

/* Of a call that failed because the pool's file system is full (err->sys): its sentence gets the
 * name of the pool and what to do.  All calls above do it themselves.  Other errors stay as they
 * are; returns -err->kind. */
int storage_full(const struct storage_pool *p, struct err *err);

struct storage_space {
    uint64_t size_bytes, free_bytes, inodes, inodes_free;
    char file_system[16];  /* "ext4" */
    bool overlay_upper_ok; /* supports xattrs and d_type as overlay's upper needs */
};
int storage_space(struct storage_pool *p, struct storage_space *ret, struct err *err);
/* Its size and what is free of it, with nothing touched: for whoever looks often.  What is written
 * and waits for the disk is not free. */
int storage_free(struct storage_pool *p, uint64_t *ret_size, uint64_t *ret_free, struct err *err);
/* "ext4": that which the file or directory lies in; "unknown" is one, too. */
const char *storage_file_system(const char *path);
/* Equal for whatever lies in the same file system, in whichever of its subvolumes. */
int storage_file_system_id(const char *path, uint64_t ret[2], struct err *err);
