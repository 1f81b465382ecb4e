/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kernel/mount — the mount API of descriptors (fsopen(2), open_tree(2), move_mount(2)) in verbs.
 *
 * A mount made here is detached: it is in nobody's mount table until mount_attach() puts it
 * somewhere, and goes away with its last descriptor.  Targets are a directory descriptor and one
 * name, never a path, so that nothing below can lead astray.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <sys/mount.h>

/* A new instance of a file system.  options: "key=value" or "flag", NULL-terminated, may be
 * NULL; "source=…" is its device.  attr: MOUNT_ATTR_*. */
int mount_new(const char *type, const char *const *options, unsigned attr, int *ret_fd,
              struct err *err);
/* A detached copy of the one mount that holds `name` in dirfd, with that as its root; "" is dirfd
 * itself.  Never follows a symlink in the last component. */
int mount_clone(int dirfd, const char *name, int *ret_fd, struct err *err);
/* Sets and clears MOUNT_ATTR_* of a mount. */
int mount_set(int fd, unsigned set, unsigned clear, struct err *err);
/* Changes options, given as to mount_new(), of the file system whose root fd is. */
int mount_reconfigure(int fd, const char *const *options, struct err *err);
/* Shifts the ids of a detached mount by the map of a user namespace, and sets attr as well. */
int mount_idmap(int fd, int userns, unsigned attr, struct err *err);
/* Puts a detached mount over `name` in dirfd; "" is dirfd itself.  Follows no symlink. */
int mount_attach(int fd, int dirfd, const char *name, struct err *err);
/* Makes the root of the calling process's mount namespace the mount at rootfd, and drops all the
 * others.  The working directory is the new root afterwards. */
int mount_pivot(int rootfd, struct err *err);

/* The overlay of a VE: layers lowest first, a directory with upper/ and work/.  The descriptors
 * are of mounts that are attached in the caller's mount namespace (the kernel refuses detached
 * ones).  The result is attached over upper/ in `tree`.  old_way: by mount(2) with paths in
 * /proc/self/fd, as kernels before 6.13 need; it is also taken when the new one is not there. */
int mount_overlay(const int *layers, size_t n_layers, int tree, bool old_way, int *ret_fd,
                  struct err *err);
/* What layers show together with nothing above them, read-only, over the directory `name` in dirfd,
 * both of them the caller's own. */
int mount_layers(const int *layers, size_t n_layers, bool old_way, int dirfd, const char *name,
                 struct err *err);
