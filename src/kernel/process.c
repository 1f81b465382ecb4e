/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/process.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
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
#define PIDFD_INFO_PID_BIT  (UINT64_C(1) << 0)
#define PIDFD_INFO_EXIT_BIT (UINT64_C(1) << 3)
#define PIDFD_GET_INFO_CALL _IOWR(0xFF, 11, struct pidfd_info_615)

pid_t kernel_process_pid(int pidfd)
{
    struct pidfd_info_615 info = {.mask = PIDFD_INFO_PID_BIT};
    bool told = ioctl(pidfd, PIDFD_GET_INFO_CALL, &info) == 0 && (info.mask & PIDFD_INFO_PID_BIT);
    return told ? (pid_t)info.tgid : 0;
}

uint64_t kernel_process_birth(int dir, const char *path)
{
    auto_free char *text = NULL;
    if (fd_read_file_at(dir, path, 4096, &text, NULL, NULL) < 0)
        return 0;
    uint64_t ticks = 0;
    char *at = strrchr(text, ')'); /* the name before it may hold anything */
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (!at)
        return 0;
    at[1 + strcspn(at + 1, " ")] = '\0';
    return number_parse(at + 1, 0, INT64_MAX, &ticks, NULL) == 0 ? ticks : 0;
}

static void decode(int wait_status, struct kernel_exit *ret)
{
    ret->known = true;
    ret->signal = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0;
    ret->status = ret->signal ? 128 + ret->signal : WEXITSTATUS(wait_status);
}

/* "Pid:" of a descriptor is -1 from the reaping on (pidfd_show_fdinfo(), since Linux 5.10). */
static bool waits_to_be_reaped(int pidfd)
{
    char path[48];
    auto_free char *text = NULL;
    str_print(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
    if (fd_read_file_at(AT_FDCWD, path, 4096, &text, NULL, NULL) < 0)
        return false;
    const char *pid = strstr(text, "\nPid:\t");
    return pid && pid[6] >= '1' && pid[6] <= '9';
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
    ret->later = waits_to_be_reaped(pidfd);
    struct pidfd_info_615 info = {.mask = PIDFD_INFO_EXIT_BIT};
    if (ioctl(pidfd, PIDFD_GET_INFO_CALL, &info) == 0 && (info.mask & PIDFD_INFO_EXIT_BIT))
        decode(info.exit_code, ret);
    ret->later &= !ret->known;
    return true;
}

/* The mask after "SigCgt:\t" and the like: 16 hexadecimal digits (proc_pid_status(5)). */
static bool in_mask(const char *status, const char *name, int sig)
{
    const char *p = strstr(status, name);
    uint64_t mask = 0;
    if (!p)
        return false;
    for (p += strlen(name); (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'f'); p++)
        mask = mask << 4 | (uint64_t)(*p <= '9' ? *p - '0' : *p - 'a' + 10);
    return mask >> (sig - 1) & 1;
}

/* While a process waits in sigtimedwait(2) (busybox's init does), its mask does not show the
 * signals it waits for. */
static bool waits_for_signals(pid_t pid)
{
    char path[48], want[16];
    auto_free char *text = NULL;
    str_print(path, sizeof(path), "/proc/%d/syscall", (int)pid);
    str_print(want, sizeof(want), "%d ", SYS_rt_sigtimedwait);
    return fd_read_file_at(AT_FDCWD, path, 4096, &text, NULL, NULL) == 0 && str_starts(text, want);
}

bool kernel_process_takes(pid_t pid, int sig)
{
    char path[48];
    auto_free char *status = NULL;
    if (waits_for_signals(pid))
        return true;
    str_print(path, sizeof(path), "/proc/%d/status", (int)pid);
    if (fd_read_file_at(AT_FDCWD, path, 16384, &status, NULL, NULL) < 0)
        return false;
    return in_mask(status, "\nSigCgt:\t", sig) || in_mask(status, "\nSigBlk:\t", sig);
}
