/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * state — the lifecycle of a VE as one table, and the only function that moves along it.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>

/* The numbers are stored in the registry: append only. */
enum ve_state {
    VE_ABSENT = 0,
    VE_STOPPED = 1,
    VE_STARTING = 2,
    VE_RUNNING = 3,
    VE_PAUSED = 4,
    VE_STOPPING = 5,
    VE_BROKEN = 6,    /* something is left that Terem could not put right; says which */
    VE_SUSPENDED = 7, /* checkpoint issue */
    VE_MOVING = 8,    /* migration issue */
    VE_SLEEPING = 9,  /* frozen for want of use; whoever wants it wakes it (sleep.c) */
    VE_STATE__COUNT
};

enum ve_event {
    VE_EV_CREATE,
    VE_EV_START,   /* asked to start */
    VE_EV_STARTED, /* its first process runs */
    VE_EV_STOP,    /* asked to stop or be killed, or its first process ended */
    VE_EV_STOPPED, /* nothing of it is left in the kernel */
    VE_EV_PAUSE,
    VE_EV_RESUME, /* of one that sleeps it is the waking, too */
    VE_EV_SLEEP,
    VE_EV_BREAK,
    VE_EV_DESTROY,
    VE_EVENT__COUNT
};

const char *ve_state_name(enum ve_state s);
const char *ve_event_name(enum ve_event e);
/* It has processes: it runs, or is paused or asleep. */
bool ve_state_is_up(enum ve_state s);
/* The state after, or VE_STATE__COUNT when the event is not allowed in this state. */
enum ve_state ve_state_next(enum ve_state s, enum ve_event e);
/* ERR_STATE with a sentence of what to do instead: "web1: cannot pause: it is stopped; start it
 * first".  verb: what was asked for, or NULL for the event's name. */
int ve_state_check(const char *name, enum ve_state s, enum ve_event e, const char *verb,
                   struct err *err);
