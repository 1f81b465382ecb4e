/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * path — opening, making and removing paths without being led astray.
 *
 * A path that a VE, an archive or a user can influence goes through here and nowhere else; it is
 * built on openat2(2) with RESOLVE_IN_ROOT or RESOLVE_BENEATH and RESOLVE_NO_MAGICLINKS.
 */
#pragma once

#include "base/err.h"

#include <sys/types.h>

/* Where programs are looked for: those that we start, and those of a VE that says nothing else. */
#define PATH_PROGRAMS "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Opens as if dirfd were "/": absolute names and symlinks stay inside. */
int path_open_in_root(int dirfd, const char *path, int flags, mode_t mode, int *ret_fd,
                      struct err *err);
/* Opens strictly below dirfd: ".." above it, absolute symlinks: refused (ERR_DENIED).
 * No symlink is followed in any component when `flags` has O_NOFOLLOW. */
int path_open_beneath(int dirfd, const char *path, int flags, mode_t mode, int *ret_fd,
                      struct err *err);
/* mkdir -p of a trusted path (settings, our own state), each new directory with mode. */
int path_make_dirs(const char *path, mode_t mode, struct err *err);
/* Opens (making it if it is missing) directory `name` in dirfd; never follows a symlink. */
int path_make_dir_at(int dirfd, const char *name, mode_t mode, int *ret_fd, struct err *err);
/* rm -rf of `name` in dirfd; does not follow symlinks, does not cross mount points, bounded in
 * descriptors however deep the tree; a name that is not there is fine. */
int path_remove_tree_at(int dirfd, const char *name, struct err *err);
