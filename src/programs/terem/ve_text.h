/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ve_text — a VE object of the API in words. */
#pragma once

#include "base/str.h"

#include <jansson.h>
#include <stdint.h>

void ve_text_memory(struct str *s, const json_t *ve); /* "12M", or "-" when it does not run */
void ve_text_pids(struct str *s, const json_t *ve);
/* "a=1, b=2", or "-" */
void ve_text_pairs(struct str *s, const json_t *object, const char *between);
/* How it ended, from its last_exit: "exited with 4 (ended by itself)". */
void ve_text_exit(struct str *s, const json_t *last_exit);
/* All of it, a line a member; published: the list of its ports.  width: of a terminal, where of
 * layers is only what tells them apart; 0: none. */
void ve_text_show(struct str *s, const json_t *ve, const json_t *published, int64_t now, bool all,
                  size_t width);
