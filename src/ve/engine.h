/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * engine — what the VE room asks of whatever runs a VE.  Called in workers, so it may block.
 *
 * One engine shares the host's kernel (engine_container.c); machines with a kernel of their own
 * join as a second table.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct ve;

struct engine_started {
    int pidfd;    /* of the process whose end is the VE's end */
    int console;  /* pty master, or -1 */
    int listener; /* of its system call filter, or -1 */
    int64_t pid;
};

struct engine_ops {
    const char *name;
    /* Brings the VE up; on failure nothing of it is left in the kernel.  `step` is called before
     * each step and stops the start when it returns negative. */
    int (*start)(struct ve *ve, int (*step)(void *ctx, const char *what, struct err *err),
                 void *ctx, struct engine_started *ret, struct err *err);
    /* Asks the inside to shut down and waits at most timeout_ms: 0 gone, -ERR_TIMEOUT not. */
    int (*shutdown)(struct ve *ve, int timeout_ms, struct err *err);
    /* Ends every process at once, and waits until they are gone. */
    int (*kill)(struct ve *ve, struct err *err);
    int (*freeze)(struct ve *ve, bool frozen, struct err *err);
    /* Opens the root of a stopped VE without starting it, calls fn with a process in whose
     * namespaces it can be entered (container_enter_files), and closes it again. */
    int (*with_files)(struct ve *ve, int (*fn)(void *ctx, int pidfd, struct err *err), void *ctx,
                      struct err *err);
    /* Takes away what a dead VE left in the kernel.  after_crash: also what goes by itself, a
     * little later, when the end was an ordinary one. */
    int (*clean)(struct ve *ve, bool after_crash, struct err *err);
};

extern const struct engine_ops engine_container;
