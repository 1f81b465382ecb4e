/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include "ve/ve.h"

struct ve_node *fake_open(uv_loop_t *loop);
/* Returns how many watches nobody ended. */
size_t fake_close(struct ve_node *n);
/* Anything but "web1": ERR_NOT_FOUND. */
int fake_missing(const char *name, struct err *err);
