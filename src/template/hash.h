/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hash — SHA-256 as the text that names layers and blobs.
 *
 * A file of its own because OpenSSL's headers and base/err.h both claim the name ERR_STATE.
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
