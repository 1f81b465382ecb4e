/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * terminal — raw mode that is given back on every way out.
 *
 * Between terminal_raw() and terminal_restore() the fatal signals that can be caught put the
 * terminal back before they act, and a stop (SIGTSTP) puts it back until SIGCONT.  One terminal
 * at a time: the state is of the process, because signal handlers have no context.
 */
#pragma once

#include "base/err.h"

enum terminal_flag {
    TERMINAL_SCREEN = 1, /* the alternate screen, without a cursor: for pictures, not sessions */
};

int terminal_raw(int fd, unsigned flags, struct err *err);
void terminal_restore(void); /* fine when nothing is raw */
