/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * layout — the files of an image's directory, opened without being led out of it.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

int layout_open_file(int dir, const char *name, int *ret_fd, uint64_t *ret_size, struct err *err);
