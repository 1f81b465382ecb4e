/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kernel/seccomp — the system calls that a VE may not make, and those that are answered for it.
 *
 * The filters are compiled by libseccomp when Terem is built (seccomp_gen.c holds the list with
 * the reason of each entry), so that loading one costs a VE nothing but the system call, and no
 * program of Terem carries the compiler.
 *
 * A call that is answered waits until somebody answers at the filter's listener:
 *
 *     // in the VE's process
 *     seccomp_load_policy(SECCOMP_SYSTEM, SECCOMP_TOLD_MACHINE, &listener, err);
 *     // outside, where the listener went
 *     struct seccomp_notif call = {0};
 *     while (seccomp_pending(listener, NULL) && seccomp_receive(listener, &call) == 0)
 *         seccomp_answer(listener, call.id, 0, 0);            // or seccomp_pass_on()
 *
 * While nobody has the listener open any more, such calls fail with ENOSYS.  Of a call that was
 * received by one who died, others know nothing but that it waits: the kernel writes `call` before
 * it says so, and in memory that is shared it tells them the id.
 *
 * Sources: seccomp_unotify(2), Documentation/userspace-api/seccomp_filter.rst.
 */
#pragma once

#include "base/err.h"

#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdint.h>

enum seccomp_policy {
    SECCOMP_APPLICATION, /* one service: no namespaces, no mounts either */
    SECCOMP_SYSTEM,      /* a whole system: its service manager mounts and unshares */
    SECCOMP_NESTING,     /* also containers of its own */
    SECCOMP__COUNT
};

/* Which calls wait for an answer.  A caller that gets none goes on in the kernel's own way. */
enum seccomp_told {
    SECCOMP_TOLD_MACHINE, /* sysinfo(2) */
    SECCOMP_TOLD_DISK, /* statfs(2) too, by path; fstatfs(2), which systemd calls often, is not */
    SECCOMP_TOLD__COUNT
};

/* For the calling thread and all that it becomes.  Needs CAP_SYS_ADMIN in the user namespace, or
 * no_new_privs.  ret_listener NULL: the calls that would be answered go to the kernel.  Else it
 * gets a descriptor, or -1 where the kernel gives none, as below another's filter that has a
 * listener (a node that runs in a container): then they go to the kernel too. */
int seccomp_load_policy(enum seccomp_policy policy, enum seccomp_told told, int *ret_listener,
                        struct err *err);

bool seccomp_is_listener(int fd);
/* Is there a call to receive?  *ret_ended: no process has this filter any more. */
bool seccomp_pending(int listener, bool *ret_ended);
/* *call must be zeroed.  Only after seccomp_pending(), and by one process at a time, else it waits
 * for the next call.  -1: that caller is gone. */
int seccomp_receive(int listener, struct seccomp_notif *call);
/* Does the caller still wait?  What was opened by its pid before this belongs to it. */
bool seccomp_waits(int listener, uint64_t id);
/* error: 0, or an errno that the call fails with.  The caller may be gone: -1. */
int seccomp_answer(int listener, uint64_t id, int64_t value, int error);
/* The kernel carries the call out, as if there were no filter. */
int seccomp_pass_on(int listener, uint64_t id);
