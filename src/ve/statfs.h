/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * statfs — what a VE is told of the disk that its root is on, in place of the pool.
 *
 * The path is the caller's, and what it leads to may be hostile: a file system in user space that
 * never answers, a directory that another thread moves away.  So it is followed without leaving
 * the mount that it begins on, which must be the VE's root or a directory of it; all else is not
 * ours to answer.  In repair its files are at /repair instead.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/vfs.h>

struct statfs_disk { /* a VE's own */
    bool has_space, has_inodes;
    uint64_t space, space_used;   /* bytes */
    uint64_t inodes, inodes_used; /* files and directories */
};

/* What is left in the pool stays the bound of what can be had. */
void statfs_fit(struct statfs *s, const struct statfs_disk *disk);

/* Opened by the caller's thread id, before it is known that this is still the caller; all, or none
 * and -1. */
struct statfs_caller {
    int mem, proc; /* /proc/TID/mem, to read and write; /proc/TID */
};
int statfs_open(pid_t tid, struct statfs_caller *ret);
void statfs_close(struct statfs_caller *c);

/* What statfs(2) of the path at this address of the caller's memory says, with `disk` in it; root:
 * st_dev of the directory that its files begin at; superuser: the VE's.  -1: it is not ours to
 * answer.  For a thread: nothing but system calls, and its own file system ids are changed for a
 * moment. */
int statfs_look(const struct statfs_caller *c, uint64_t path, dev_t root, uid_t superuser,
                const struct statfs_disk *disk, struct statfs *ret);
