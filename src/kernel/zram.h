/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * zram — swap in compressed memory: a block device that keeps what is written to it in memory
 * (Documentation/admin-guide/blockdev/zram.rst).
 *
 * I own no device: who makes one remembers its number.  I use base.  Steps are apart, so that the
 * number can be written down before anything depends on it:
 *
 *     zram_add(&number, err);
 *     zram_swap_on(number, bytes, err);
 *     zram_remove(number, err);     // also of one that was only added, or is not there
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* ERR_UNSUPPORTED: this kernel has no zram, nor a module of it. */
int zram_add(unsigned *ret, struct err *err);
/* Swap of so many bytes, preferred to any on a disk. */
int zram_swap_on(unsigned number, uint64_t bytes, struct err *err);
/* Brings back what is in it, which takes as long as there is of it (a signal interrupts:
 * ERR_CANCELLED) and memory (ERR_EXHAUSTED). */
int zram_remove(unsigned number, struct err *err);
bool zram_is_swap(unsigned number);
