/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * title — what ps, top and pidof show of a forked process that does not execute another program.
 */
#pragma once

/* Sets the name (cut to 15 bytes) and the command line, as far as the memory that the kernel
 * keeps for the present one has room (proc_pid_cmdline(5)).  Failure is harmless and silent. */
void title_set(const char *name, const char *what);
