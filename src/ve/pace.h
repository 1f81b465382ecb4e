/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pace — how many pieces of a mass operation are at work at once, from the pressure that the
 * machine is under (/proc/pressure: Documentation/accounting/psi.rst).  Inside ve only.
 *
 * Processors: twice as many as there are keep each busy while others wait for a disk; what is
 * already up is held by its weights and guarantees, not by going slower.  Memory and disks have no
 * such weights everywhere: where somebody stalls on them, fewer begin.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct pace_pressure {
    unsigned memory, io; /* percent of the last 10 s in which all that could run waited for it */
    uint64_t available, total; /* bytes of memory */
};

/* How many, at most `most`, when `now` are; never 0. */
size_t pace_width(const struct pace_pressure *p, size_t now, size_t most);
/* What cannot be read is no pressure. */
void pace_read(struct pace_pressure *ret);
