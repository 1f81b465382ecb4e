/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * record — a template's JSON file, to and from struct template.
 *
 * Reading is strict: a missing, doubled, unknown or ill-typed member is ERR_CORRUPT, a newer
 * version ERR_UNSUPPORTED.
 */
#pragma once

#include "template/template.h"

#define RECORD_MAX (1 << 20) /* bytes of one file */

/* Text that the caller frees. */
int record_write(const struct template *t, char **ret, struct err *err);
/* name: what the file is called; the record must say the same. */
int record_read(const char *text, size_t len, const char *name, struct template **ret,
                struct err *err);

/* NULL-terminated lists of strings, each malloc'ed. */
void strings_free(char **list);
static inline void strings_freep(char ***list)
{
    strings_free(*list);
}
/* "sha256:" and 64 lower-case hex digits? */
bool digest_ok(const char *digest);
