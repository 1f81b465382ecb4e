/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * beancounter — a VE's counters in the format of OpenVZ's /proc/user_beancounters, version 2.5:
 * what monitoring tools of that family read.  A pure text, always of the same length.
 *
 * Memory is in pages of 4096 bytes where OpenVZ counted pages.  The format has no "unknown": what
 * is not counted on this kernel is 0, and no limit is 9223372036854775807.
 */
#pragma once

#include "param/param.h"

#include <stddef.h>
#include <stdint.h>

#define BEANCOUNTER_TEXT 4096
/* Returns the length. */
size_t beancounter_print(char buf[BEANCOUNTER_TEXT], int64_t id, const struct param_set *set,
                         const struct param_counters *list);
