/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz — what fuzz targets have in common; their main() is fuzz_replay.c's or libFuzzer's. */
#pragma once

#include "base/cleanup.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input as so many texts one behind the other, however few NULs are in it, and not a byte more,
 * so that the sanitizer sees who reads on.  Freed by the caller; NULL: longer than `most`. */
static inline char *fuzz_texts(const uint8_t *data, size_t size, size_t most, size_t texts)
{
    char *copy = size > most ? NULL : calloc(1, size + texts);
    if (copy && size)
        memcpy(copy, data, size);
    return copy;
}
