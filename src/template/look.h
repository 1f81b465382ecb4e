/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * look — what a stack of layers shows under a name, without mounting it.
 *
 * Whiteouts, opaque directories and symbolic links count as they would in the overlay.
 */
#pragma once

#include "template/template.h"

#include <limits.h>
#include <sys/stat.h>

/* roots: directory descriptors, lowest first.  Follows links inside the stack; *ret_path is the
 * name without a leading "/" that it ends at.  Not there: ERR_NOT_FOUND. */
int look_find(const int *roots, size_t n, const char *path, char ret_path[PATH_MAX],
              struct stat *ret_stat, struct err *err);

/* Opens (O_PATH) what the stack shows at a path without links to follow: "etc/passwd". */
int look_open(const int *roots, size_t n, const char *path, int *ret_fd, struct stat *ret_stat);

/* Which init the stack has, and where; TEMPLATE_INIT_NONE when there is none. */
enum template_init look_init(const int *roots, size_t n, const char **ret_path);
