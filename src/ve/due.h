/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * due — when what happens every hour, day or week is due, by the local time.
 */
#pragma once

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum due_kind { DUE_HOURLY, DUE_DAILY, DUE_WEEKLY, DUE__COUNT };
extern const char *const due_names[DUE__COUNT]; /* "hourly" */

/* When the period began that `now` is in, or with `next` when the one after it begins.  Hours begin
 * when a clock shows :00, days at midnight, weeks at midnight to Monday.  Milliseconds since the
 * epoch. */
int64_t due_period(enum due_kind kind, int64_t now, bool next);
/* Has a period begun since `last`?  One that lies in the future was written before the clock was
 * set back. */
bool due_is(enum due_kind kind, int64_t last, int64_t now);
