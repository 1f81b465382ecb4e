/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * disk — which block devices lie under a directory.
 *
 * I own nothing.  I use base.  I read sysfs and mountinfo, and never open a device.
 *
 *     struct disk d[DISK_MAX];
 *     size_t n = 0;
 *     disk_find(sys_fd, pool_fd, d, &n, err);     // where its reads and writes enter
 *
 * A device is always a whole one (cgroup's io files take no partition).  Where devices are stacked
 * (device-mapper, md, loop) the top one is where a process's own reads and writes enter, and
 * disk_below() gives those at the bottom, which have a scheduler.  A loop device with direct I/O is
 * none of them: requests pass through it in the name of who made them.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define DISK_MAX 16
struct disk {
    unsigned major, minor;
    char name[32]; /* "sda", "dm-0" */
};

/* Adds the disks of the file system that holds `dir` to ret (room for DISK_MAX; *n: in and out),
 * each once.  sys: descriptor of /sys.  A file system without disks of its own (tmpfs, overlay,
 * NFS): ERR_UNSUPPORTED and why. */
int disk_find(int sys, int dir, struct disk *ret, size_t *n, struct err *err);
/* The disks at the bottom of d (d itself when nothing is below), added to ret in the same way. */
int disk_below(int sys, const struct disk *d, struct disk *ret, size_t *n, struct err *err);
/* Is this its I/O scheduler ("bfq")? */
bool disk_has_scheduler(int sys, const struct disk *d, const char *name);
/* The name of the file system that a mount shows (statx's mnt_id), "" when it is not there. */
const char *disk_mount_type(const char *mountinfo, unsigned long long mnt_id, char buf[32]);
