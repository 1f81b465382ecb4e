/* SPDX-License-Identifier: GPL-2.0-or-later */
/* listen — the socket of the API. */
#pragma once

#include "base/err.h"

#include <stdbool.h>

/* The socket that systemd passed (sd_listen_fds(3)), then *ret_ours is false; else a new one at
 * path, 0660, group terem where that group exists.  A dead socket there is replaced; the caller
 * holds the instance's lock, so none there is alive. */
int listen_open(const char *path, int *ret_fd, bool *ret_ours, struct err *err);
