/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kernel/loop — a file as a block device (loop(4)).
 *
 * I own nothing.  I use base.  A device made here goes away by itself when nobody has it open or
 * mounted any more, reads and writes the file past the page cache where the file system can, and
 * takes no discards.
 */
#pragma once

#include "base/err.h"

#define LOOP_PATH 32
/* The device that shows this file now ("/dev/loop3"); none: ERR_NOT_FOUND. */
int loop_find(int image, char ret[LOOP_PATH], struct err *err);
/* Makes one.  It lives as long as *ret_fd, or a mount, holds it.  A file that has a device already
 * must not get a second one: the caller holds a lock and has asked loop_find(). */
int loop_attach(int image, char ret[LOOP_PATH], int *ret_fd, struct err *err);
/* The device becomes as large as its file is now. */
int loop_resize(const char *path, struct err *err);
