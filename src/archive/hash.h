/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hash — SHA-256 as the text that names layers and blobs.
 *
 * Nettle computes it: libarchive and GnuTLS bring it anyway, its licence goes with the
 * GPL-2.0-only of libnftables, and it uses the processor's SHA instructions.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define HASH_TEXT 72 /* "sha256:" + 64 hex + NUL */

struct hash;

struct hash *hash_new(void); /* NULL: out of memory */
void hash_free(struct hash *h);
void hash_add(struct hash *h, const void *p, size_t n);
void hash_end(struct hash *h, char ret[HASH_TEXT]);
#define HASH_RAW 32
/* The bytes themselves; the hash begins anew. */
void hash_end_raw(struct hash *h, uint8_t ret[HASH_RAW]);
void hash_to_text(const uint8_t sum[HASH_RAW], char ret[HASH_TEXT]);
/* The sum of both pieces, one behind the other; at once. */
void hash_bytes(const void *a, size_t a_len, const void *b, size_t b_len, uint8_t ret[HASH_RAW]);
