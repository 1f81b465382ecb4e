/* SPDX-License-Identifier: GPL-2.0-or-later */
/* identity — what tells one system from its copy. */
#pragma once

#include "base/err.h"

#include <stddef.h>

struct ve;

/* Gives a stopped VE that is a copy of another what must not be the same in two: a machine-id, and
 * SSH host keys of the types that it has.  Keys that cannot be made anew are removed; warning: a
 * sentence about them, or "".  In a worker. */
int identity_renew(struct ve *ve, char *warning, size_t size, struct err *err);
