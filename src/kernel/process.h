/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * process — how a process ended, by its descriptor.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct kernel_exit {
    bool known; /* false: it has ended, but this kernel does not tell how to somebody who is not
                 * its parent (before 6.15) */
    int status; /* exit status, or 128 + signal */
    int signal; /* or 0 */
};

/* False while it runs.  Reaps it when it is our child (waitid(2), P_PIDFD); else asks
 * PIDFD_GET_INFO (linux/pidfd.h, 6.15), which answers also after somebody else reaped it. */
bool kernel_process_ended(int pidfd, struct kernel_exit *ret);

/* Would this signal reach it?  Process 1 of a pid namespace never gets a signal that it neither
 * handles nor blocks (pid_namespaces(7)), so one that is sent while an init still begins is lost.
 * False also when the process is gone. */
bool kernel_process_takes(pid_t pid, int sig);
