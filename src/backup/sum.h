/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sum — of the content and of the attributes of a file, as a list has them.  Inside backup only.
 *
 * Of a file: each stretch of data, then its bytes.  Of attributes: each name with its NUL, the size
 * of the value as 8 bytes, the value; in the order of the names' bytes; 0 of none.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct sum { /* {0} at first */
    void *state;
};
void sum_done(struct sum *s);

int sum_begin(struct sum *s, struct err *err);
void sum_stretch(struct sum *s, uint64_t from, uint64_t to);
void sum_bytes(struct sum *s, const void *buf, size_t len);
void sum_end(struct sum *s, uint64_t ret[2]);
/* Of a symbolic link. */
void sum_target(const char *to, size_t len, uint64_t ret[2]);

int sum_begin_attrs(struct sum *s, struct err *err);
void sum_attr(struct sum *s, const char *name, const void *value, size_t len);
uint64_t sum_end_attrs(struct sum *s);
