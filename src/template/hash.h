/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hash — SHA-256 as the text that names layers and blobs.
 *
 * Nettle computes it: libarchive and GnuTLS bring it anyway, its licence goes with the
 * GPL-2.0-only of libnftables, and it uses the processor's SHA instructions.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define HASH_TEXT 72 /* "sha256:" + 64 hex + NUL */

struct hash;

struct hash *hash_new(void); /* NULL: out of memory */
void hash_free(struct hash *h);
void hash_add(struct hash *h, const void *p, size_t n);
bool hash_end(struct hash *h, char ret[HASH_TEXT]);
