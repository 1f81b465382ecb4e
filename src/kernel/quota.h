/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kernel/quota — project quotas of ext4 and xfs (quotactl_fd(2), ioctl_xfs_fsgetxattr(2)).
 *
 * I own nothing.  I use base.  A project is a number that every inode has; what is made in a
 * directory that inherits it gets it too, and nothing with another number can be linked or renamed
 * into that directory.  Only the host's own root can change it.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Does the file system of fd count projects, and hold them to their limits? */
bool quota_project_on(int fd);
/* The project of an inode, and whether it is inherited; no projects there: 0 and false. */
void quota_project_of(int fd, uint32_t *ret_project, bool *ret_inherited);
/* Gives a directory a project, which all that is made in it inherits. */
int quota_project_set(int fd, uint32_t project, struct err *err);

struct quota {
    uint64_t bytes, inodes;             /* in use */
    uint64_t bytes_limit, inodes_limit; /* UINT64_MAX: none */
};
int quota_project_read(int fd, uint32_t project, struct quota *ret, struct err *err);
/* Hard limits only; UINT64_MAX: none. */
int quota_project_limit(int fd, uint32_t project, uint64_t bytes, uint64_t inodes, struct err *err);
