/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * number — the one strict parser of numbers, sizes and times, and their printers.
 *
 * Nothing is skipped, nothing is rounded silently, nothing overflows: "12x", "", " 1", "-1",
 * "1.5" where a whole number is meant, and 2^64 are refused with a sentence that shows the text.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal digits only, min ≤ value ≤ max. */
int number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct err *err);
/* Octal file mode, 0–07777. */
int number_parse_mode(const char *text, unsigned *ret, struct err *err);
/* Bytes: digits, optionally a fraction, and K M G T P (powers of 1024; KiB, KB, kib also taken).
 * A fraction must come out whole: "1.5G" is taken, "0.3" is not. */
int number_parse_size(const char *text, uint64_t *ret_bytes, struct err *err);
/* Milliseconds: digits and ms s m h d w; a bare number is seconds. */
int number_parse_time(const char *text, uint64_t *ret_ms, struct err *err);

#define NUMBER_TEXT 32
/* "512M", "1.5G", exact or to three digits when exact would need more than that; into buf. */
const char *number_format_size(uint64_t bytes, char buf[NUMBER_TEXT]);
/* The shortest text that number_parse_size() reads back to exactly this value. */
const char *number_format_size_exact(uint64_t bytes, char buf[NUMBER_TEXT]);
/* "1d 2h", "3m 5s", "250ms": at most two units. */
const char *number_format_time(uint64_t ms, char buf[NUMBER_TEXT]);

/* Of a text that the kernel wrote: the digits after the first `word` (blanks and a colon may stand
 * between).  false: no such word, no digits, or more than max. */
bool number_after(const char *text, const char *word, uint64_t max, uint64_t *ret);

static inline bool number_mul(uint64_t a, uint64_t b, uint64_t *ret)
{
    return !__builtin_mul_overflow(a, b, ret);
}
static inline bool number_add(uint64_t a, uint64_t b, uint64_t *ret)
{
    return !__builtin_add_overflow(a, b, ret);
}
