/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * conf — "key = value" text: terem.conf and sets of parameters use this one reader.
 *
 * Blank lines and lines that begin with '#' are skipped.  White space around key and value goes;
 * quotes have no meaning.  A key that stands twice, a line without '=', a control byte: refused
 * with the line's number.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>

#define CONF_TEXT_MAX 65536

/* Calls item() for each pair in order; a negative return stops and is wrapped with
 * "FILE, line N".  `text` is changed in place. */
int conf_parse(char *text, const char *file,
               int (*item)(void *ctx, const char *key, const char *value, struct err *err),
               void *ctx, struct err *err);
