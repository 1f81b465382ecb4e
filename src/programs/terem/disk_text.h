/* SPDX-License-Identifier: GPL-2.0-or-later */
/* disk_text — a VE's disk in words, from the member "disk" of its object. */
#pragma once

#include "base/str.h"

#include <jansson.h>

/* "652K of 50M, soft 30M; 12 files of 1000": nothing when its pool tells nothing. */
void disk_text_add(struct str *s, const json_t *ve);
/* "652K/50M", or "652K" without a limit: for a table. */
void disk_text_used(struct str *s, const json_t *ve);
/* A sentence and a line's end for each soft half that it is above; who: how it is called. */
void disk_text_over(struct str *s, const json_t *ve, const char *who);
