/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ve/state.h"

/* 0 is VE_ABSENT, which nothing but destroying leads to: "not allowed" needs its own mark. */
#define NO    0
#define TO(s) ((s) + 1)

static const unsigned char table[VE_STATE__COUNT][VE_EVENT__COUNT] = {
    [VE_ABSENT] = {[VE_EV_CREATE] = TO(VE_STOPPED)},
    [VE_STOPPED] = {[VE_EV_START] = TO(VE_STARTING),
                    [VE_EV_DESTROY] = TO(VE_ABSENT),
                    [VE_EV_BREAK] = TO(VE_BROKEN)},
    [VE_STARTING] = {[VE_EV_STARTED] = TO(VE_RUNNING),
                     [VE_EV_STOP] = TO(VE_STOPPING),
                     [VE_EV_STOPPED] = TO(VE_STOPPED),
                     [VE_EV_BREAK] = TO(VE_BROKEN)},
    [VE_RUNNING] = {[VE_EV_STOP] = TO(VE_STOPPING),
                    [VE_EV_PAUSE] = TO(VE_PAUSED),
                    [VE_EV_SLEEP] = TO(VE_SLEEPING),
                    [VE_EV_BREAK] = TO(VE_BROKEN)},
    [VE_SLEEPING] = {[VE_EV_RESUME] = TO(VE_RUNNING),
                     [VE_EV_STOP] = TO(VE_STOPPING),
                     [VE_EV_PAUSE] = TO(VE_PAUSED),
                     [VE_EV_BREAK] = TO(VE_BROKEN)},
    [VE_PAUSED] = {[VE_EV_RESUME] = TO(VE_RUNNING),
                   [VE_EV_STOP] = TO(VE_STOPPING),
                   [VE_EV_BREAK] = TO(VE_BROKEN)},
    [VE_STOPPING] = {[VE_EV_STOPPED] = TO(VE_STOPPED), [VE_EV_BREAK] = TO(VE_BROKEN)},
    [VE_BROKEN] = {[VE_EV_STOP] = TO(VE_STOPPING), [VE_EV_DESTROY] = TO(VE_ABSENT)},
};

const char *ve_state_name(enum ve_state s)
{
    static const char *const names[VE_STATE__COUNT] = {
        [VE_ABSENT] = "absent",     [VE_STOPPED] = "stopped",     [VE_STARTING] = "starting",
        [VE_RUNNING] = "running",   [VE_PAUSED] = "paused",       [VE_STOPPING] = "stopping",
        [VE_BROKEN] = "broken",     [VE_SUSPENDED] = "suspended", [VE_MOVING] = "moving",
        [VE_SLEEPING] = "sleeping",
    };
    return (unsigned)s < VE_STATE__COUNT ? names[s] : "unknown";
}

const char *ve_event_name(enum ve_event e)
{
    static const char *const names[VE_EVENT__COUNT] = {
        [VE_EV_CREATE] = "create", [VE_EV_START] = "start",     [VE_EV_STARTED] = "started",
        [VE_EV_STOP] = "stop",     [VE_EV_STOPPED] = "stopped", [VE_EV_PAUSE] = "pause",
        [VE_EV_RESUME] = "resume", [VE_EV_BREAK] = "break",     [VE_EV_DESTROY] = "destroy",
    };
    return (unsigned)e < VE_EVENT__COUNT ? names[e] : "unknown";
}

enum ve_state ve_state_next(enum ve_state s, enum ve_event e)
{
    if ((unsigned)s >= VE_STATE__COUNT || (unsigned)e >= VE_EVENT__COUNT || !table[s][e])
        return VE_STATE__COUNT;
    return (enum ve_state)(table[s][e] - 1);
}

bool ve_state_is_up(enum ve_state s)
{
    return s == VE_RUNNING || s == VE_PAUSED || s == VE_SLEEPING;
}

static const char *next_step(enum ve_state s, enum ve_event e)
{
    if (s == VE_STARTING || s == VE_STOPPING)
        return "; try again when that has ended";
    if (s == VE_BROKEN)
        return "; stop it to have it put right, or destroy it";
    switch (e) {
    case VE_EV_START:
        return s == VE_PAUSED     ? "; resume it"
               : s == VE_SLEEPING ? "; resume it, or use it"
                                  : " already";
    case VE_EV_STOP:
        return " already";
    case VE_EV_PAUSE:
        return s == VE_STOPPED ? "; start it first" : s == VE_PAUSED ? " already" : "";
    case VE_EV_RESUME:
        return s == VE_STOPPED ? "; start it" : s == VE_RUNNING ? ", not paused" : "";
    case VE_EV_DESTROY:
        return "; stop it first, or destroy it with --force";
    default:
        return "";
    }
}

int ve_state_check(const char *name, enum ve_state s, enum ve_event e, const char *verb,
                   struct err *err)
{
    if (ve_state_next(s, e) != VE_STATE__COUNT)
        return 0;
    return err_set(err, ERR_STATE, "%s: cannot %s: it is %s%s", name,
                   verb ? verb : ve_event_name(e), ve_state_name(s), next_step(s, e));
}
