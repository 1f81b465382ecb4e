/* SPDX-License-Identifier: GPL-2.0-or-later */
/* event_text — the types of events, and one event as one line for a person. */
#pragma once

#include "base/str.h"

#include <jansson.h>

/* Adds "web1: running → stopping", without the time and the line's end. */
void event_text(struct str *s, const json_t *event);
/* The i-th type ("ve.state") or group of types ("ve"); NULL after the last.  As for
 * name_suggest(). */
const char *event_type(void *ctx, size_t i);
