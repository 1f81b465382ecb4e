/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * process — when a process began, and how it ended.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct kernel_exit {
    bool known; /* false: it has ended, but this kernel does not tell how to somebody who is not
                 * its parent (before 6.15), or `later` */
    bool later; /* it has ended and its parent, who is not us, has not reaped it yet: nobody else
                 * is told before that; ask again */
    int status; /* exit status, or 128 + signal */
    int signal; /* or 0 */
};

/* False while it runs.  Reaps it when it is our child (waitid(2), P_PIDFD); else asks
 * PIDFD_GET_INFO (linux/pidfd.h, 6.15), which answers also after somebody else reaped it. */
bool kernel_process_ended(int pidfd, struct kernel_exit *ret);
/* Its number as we see it; 0: this kernel does not tell (before 6.13), or it is gone. */
pid_t kernel_process_pid(int pidfd);

/* When it began, in ticks of sysconf(_SC_CLK_TCK) since the machine's boot: field 22 of the file
 * `path` below dir, which is its /proc/PID/stat (proc_pid_stat(5)).  0: there is none.  Together
 * with its number this names a process for as long as the machine runs. */
uint64_t kernel_process_birth(int dir, const char *path);

/* Would this signal reach it?  Process 1 of a pid namespace never gets a signal that it neither
 * handles nor blocks (pid_namespaces(7)), so one that is sent while an init still begins is lost.
 * False also when the process is gone. */
bool kernel_process_takes(pid_t pid, int sig);
