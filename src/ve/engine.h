/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * engine — what the VE room asks of whatever runs a VE.  Called in workers, so it may block, but
 * where it says otherwise.
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
    int64_t root;    /* st_dev of the directory that its files begin at: its root, in repair
                      * /repair; 0: it shares no kernel with the host */
    uint64_t pts[3]; /* where its pseudo-terminals are, as the engine remembers it */
};

struct engine_how {
    /* Called before each step; stops the start when it returns negative. */
    int (*step)(void *ctx, const char *what, struct err *err);
    void *ctx;
    const char *rescue; /* digest of a layer: start this beside the VE's root; or NULL */
    /* Not NULL: run as the first process, as root with all that a system VE's init may; `script` is
     * the file that it finds at the path of the same name. */
    const char *const *argv;
    const char *script_path, *script, *more_path, *more;
};

struct engine_ops {
    const char *name;
    /* Brings the VE up; on failure nothing of it is left in the kernel. */
    int (*start)(struct ve *ve, const struct engine_how *how, struct engine_started *ret,
                 struct err *err);
    /* Asks the inside to shut down; its end is heard of by its process.  Not in a worker: does not
     * wait, not even for a paused one to go on.  -ERR_BUSY: it is not ready to hear, unless
     * `anyway` is set.  -ERR_UNSUPPORTED: ask_inside() does it. */
    int (*ask)(struct ve *ve, bool anyway, struct err *err);
    int (*ask_inside)(struct ve *ve, int timeout_ms, struct err *err);
    /* Ends every process at once, and waits until they are gone; no_wait: not in a worker, and
     * nobody has to be gone yet. */
    int (*kill)(struct ve *ve, bool no_wait, struct err *err);
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
