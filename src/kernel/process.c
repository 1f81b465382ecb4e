/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/process.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* linux/pidfd.h of 6.15; Debian 12's headers are older.  The kernel fills as much as is asked. */
struct pidfd_info_615 {
    uint64_t mask, cgroupid;
    uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
};
#define PIDFD_INFO_EXIT_BIT (UINT64_C(1) << 3)
#define PIDFD_GET_INFO_CALL _IOWR(0xFF, 11, struct pidfd_info_615)

static void decode(int wait_status, struct kernel_exit *ret)
{
    ret->known = true;
    ret->signal = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0;
    ret->status = ret->signal ? 128 + ret->signal : WEXITSTATUS(wait_status);
}

bool kernel_process_ended(int pidfd, struct kernel_exit *ret)
{
    *ret = (struct kernel_exit){0};
    siginfo_t si = {0};
    if (waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED | WNOHANG) == 0) {
        if (si.si_pid == 0)
            return false;
        ret->known = true;
        ret->signal = si.si_code == CLD_EXITED ? 0 : si.si_status;
        ret->status = ret->signal ? 128 + ret->signal : si.si_status;
        return true;
    }
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    if (poll(&p, 1, 0) == 0)
        return false;
    struct pidfd_info_615 info = {.mask = PIDFD_INFO_EXIT_BIT};
    if (ioctl(pidfd, PIDFD_GET_INFO_CALL, &info) == 0 && (info.mask & PIDFD_INFO_EXIT_BIT))
        decode(info.exit_code, ret);
    return true;
}
