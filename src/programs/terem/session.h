/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * session — a command's streams or a terminal over one upgraded connection (keep/frame.h).
 *
 * Copies standard input to the VE and the VE's output here, with back-pressure both ways: our
 * input is not read while teremd does not take it, and teremd waits while our output does.
 */
#pragma once

#include "cli.h"

#include <stdbool.h>

#define SESSION_NO_KEY -1
#define SESSION_DETACH 0x1d /* Ctrl-] */

struct session {
    struct client *client; /* its head has been read: 101 */
    bool tty;              /* raw mode on our terminal, resizes are sent */
    bool no_input;         /* only watch */
    bool no_command;       /* that signals could be passed to: they are for us */
    int detach_key;        /* SESSION_NO_KEY, or the byte that ends the session on our side */
    /* Where output goes: by default to descriptors 1 and 2.  A negative return ends. */
    int (*output)(void *ctx, const void *buf, size_t len, struct err *err);
    void *ctx;
};

enum session_end {
    SESSION_EXITED,      /* *ret_status: what a shell would show for it */
    SESSION_DETACHED,    /* by the key */
    SESSION_INTERRUPTED, /* the command was killed by SIGINT, or the second one was for us */
};

int session_run(struct session *s, enum session_end *ret_end, int *ret_status, struct err *err);
