/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * logtext — what a VE wrote, made safe for a terminal.
 *
 * Lines and tabs stay; colours (SGR sequences) stay or vanish; every other control byte and
 * everything that is not UTF-8 is shown as \xNN.
 */
#pragma once

#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>

/* Adds what can be decided of p and returns how much that was: the rest is the begin of a sequence
 * that is not whole yet, and comes again in front of what follows.  final: nothing follows. */
size_t logtext_add(struct str *out, const char *p, size_t len, bool color, bool final);
