/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * process — how a process ended, by its descriptor.
 */
#pragma once

#include <stdbool.h>

struct kernel_exit {
    bool known; /* false: it has ended, but this kernel does not tell how to somebody who is not
                 * its parent (before 6.15) */
    int status; /* exit status, or 128 + signal */
    int signal; /* or 0 */
};

/* False while it runs.  Reaps it when it is our child (waitid(2), P_PIDFD); else asks
 * PIDFD_GET_INFO (linux/pidfd.h, 6.15), which answers also after somebody else reaped it. */
bool kernel_process_ended(int pidfd, struct kernel_exit *ret);
