/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * busybox — the built-in base system, made of the host's static busybox in a moment.
 */
#pragma once

#include "base/err.h"

/* A descriptor of an uncompressed tar in memory, at its start.  The same busybox makes the same
 * bytes, and so the same layer. */
int busybox_tar(int *ret_fd, struct err *err);
