/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kernel/btrfs — subvolumes, snapshots and quota groups of btrfs (linux/btrfs.h, btrfs-ioctl(2)).
 *
 * I own nothing.  I use base.  A subvolume is a directory descriptor; its quota group has the
 * number of the subvolume.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Does it lie on btrfs? */
bool btrfs_is(int fd);
/* The number of the file system, all subvolumes of which share it; false: it is not btrfs. */
bool btrfs_fsid(int fd, uint64_t ret[2]);
int btrfs_subvol_create(int dir, const char *name, struct err *err);
/* A snapshot of the subvolume whose root `from` is.  Its content, what is dirty in memory
 * included, and its name are on disk when this returns (create_snapshot() commits). */
int btrfs_subvol_snapshot(int from, int dir, const char *name, bool read_only, struct err *err);
/* Its name is gone at once and its blocks later, by the kernel.  Not there: fine. */
int btrfs_subvol_delete(int dir, const char *name, struct err *err);
int btrfs_subvol_set_read_only(int fd, bool read_only, struct err *err);
/* The number of the subvolume that holds fd. */
int btrfs_subvol_id(int fd, uint64_t *ret, struct err *err);
/* Is it the root of a subvolume? */
bool btrfs_subvol_is_root(int fd);
/* Commits the running transaction, after which the kernel frees what removed subvolumes held.
 * Other files' dirty data is not waited for, as syncfs(2) and BTRFS_IOC_SYNC would.  wait false:
 * only begins it. */
int btrfs_commit(int fd, bool wait, struct err *err);
/* What the kernel tells of the file system that fd lies on: its directory in sysfs, which is read
 * as `sysfs` below for as long as it is mounted. */
int btrfs_sysfs(int fd, int *ret, struct err *err);
/* Bytes that were written, or set aside by fallocate(2), and are not in the tree of extents yet:
 * statfs(2) calls them free until the next commit. */
int btrfs_reserved(int sysfs, uint64_t *ret, struct err *err);
/* Makes the file system as large as its (one) device. */
int btrfs_grow(int fd, struct err *err);

/* ---- quota groups ---- */
struct btrfs_quota {
    bool on;
    bool simple; /* "simple quotas" (6.7): they count what was written, not what is referred */
    bool inconsistent; /* the numbers are wrong until they are counted again */
    bool counting;
};
int btrfs_quota_state(int fd, struct btrfs_quota *ret, struct err *err);
int btrfs_quota_enable(int fd, struct err *err);
/* Begins to count again; being done already: fine. */
int btrfs_quota_rescan(int fd, struct err *err);
/* UINT64_MAX: none.  fd must not lie in a subvolume that is at its limit: the ioctl itself needs
 * room there. */
int btrfs_quota_limit(int fd, uint64_t subvol, uint64_t bytes, struct err *err);
/* What the subvolume, and what only it (*ret_own), referred to at the last commit. */
int btrfs_quota_referenced(int fd, uint64_t subvol, uint64_t *ret, uint64_t *ret_own,
                           struct err *err);
/* What is reserved by what was written to it since. */
int btrfs_quota_dirty(int sysfs, uint64_t subvol, uint64_t *ret, struct err *err);
/* Its limit; UINT64_MAX: none. */
int btrfs_quota_bound(int sysfs, uint64_t subvol, uint64_t *ret, struct err *err);
/* Removes the groups of subvolumes that are gone, which kernels before 6.12 leave behind. */
int btrfs_quota_tidy(int fd, struct err *err);
