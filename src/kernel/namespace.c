/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/namespace.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/str.h"
#include "kernel/process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/nsfs.h>
#include <linux/sched.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static uint64_t sysctl_kernel(const char *name)
{
    auto_free char *text = NULL;
    char path[64];
    uint64_t n;
    str_print(path, sizeof(path), "/proc/sys/kernel/%s", name);
    return fd_read_file_at(AT_FDCWD, path, 64, &text, NULL, NULL) == 0 &&
                   number_parse(str_trim(text), 0, UINT64_MAX, &n, NULL) == 0
               ? n
               : UINT64_MAX;
}

/* Of /proc/loadavg: "0.20 0.18 0.12 1/80 11206", threads that could run and all there are. */
static uint64_t threads_now(void)
{
    auto_free char *text = NULL;
    uint64_t n;
    return fd_read_file_at(AT_FDCWD, "/proc/loadavg", 128, &text, NULL, NULL) == 0 &&
                   number_after(text, "/", UINT32_MAX, &n)
               ? n
               : 0;
}

/* What has run out, and what raises it (clone3(2), "Errors"; fork(2) tells of EAGAIN). */
int namespace_fork_failed(struct err *err)
{
    int sys = errno;
    static const char *const machine[] = {"threads-max", "pid_max"};
    if (sys != EAGAIN && sys != ENOSPC)
        return err_sysno(err, sys, "cannot create a process");
    if (sys == ENOSPC)
        return err_set(err, ERR_EXHAUSTED,
                       "cannot create a process: its user has as many user or PID namespaces as "
                       "may be; raise the sysctls user.max_user_namespaces and "
                       "user.max_pid_namespaces");
    uint64_t now = threads_now();
    for (size_t i = 0; i < ARRAY_SIZE(machine); i++) {
        uint64_t most = sysctl_kernel(machine[i]);
        /* A few are kept for root, and some have gone since. */
        if (now >= most - most / 50)
            return err_set(err, ERR_EXHAUSTED,
                           "cannot create a process: the machine has as many as may be; raise the "
                           "sysctl kernel.%s",
                           machine[i]);
    }
    return err_set(err, ERR_EXHAUSTED,
                   "cannot create a process: there are as many as may be; raise the VE's "
                   "processes, or pids.max of a cgroup above it");
}

int namespace_unshare(int flags, struct err *err)
{
    static const struct {
        int flag;
        const char *kind;
    } kinds[] = {{CLONE_NEWNS, "mnt"},  {CLONE_NEWNET, "net"},       {CLONE_NEWUTS, "uts"},
                 {CLONE_NEWIPC, "ipc"}, {CLONE_NEWCGROUP, "cgroup"}, {CLONE_NEWTIME, "time"}};
    if (unshare(flags) == 0)
        return 0;
    int sys = errno;
    for (size_t i = 0; sys == ENOSPC && i < ARRAY_SIZE(kinds); i++)
        if ((flags & kinds[i].flag) && unshare(kinds[i].flag) < 0 && errno == ENOSPC)
            return err_set(err, ERR_EXHAUSTED,
                           "cannot make its namespaces: its user has as many of kind %s as may be; "
                           "raise the sysctl user.max_%s_namespaces",
                           kinds[i].kind, kinds[i].kind);
    return err_sysno(err, sys, "cannot make its namespaces");
}

pid_t namespace_fork(uint64_t flags, int cgroup, int *ret_pidfd, struct err *err)
{
    int pidfd = -1;
    struct clone_args args = {
        .flags = flags | CLONE_PIDFD | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        /* With CLONE_PARENT the caller's own exit signal is inherited and must not be given. */
        .exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD,
        .cgroup = cgroup >= 0 ? (uint64_t)cgroup : 0,
    };
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (pid < 0)
        return namespace_fork_failed(err);
    if (pid == 0)
        return 0;
    if (ret_pidfd)
        *ret_pidfd = pidfd;
    else
        close(pidfd);
    return pid;
}

pid_t namespace_fork_owned(uint64_t flags, int cgroup, uid_t owner, int *ret_pidfd, struct err *err)
{
    uid_t euid = geteuid();
    pid_t parent = getppid();
    int bits = prctl(PR_GET_SECUREBITS), dumpable = prctl(PR_GET_DUMPABLE), death = 0;
    prctl(PR_GET_PDEATHSIG, &death);
    /* The owner is the effective uid at clone(2).  Only that one changes, capabilities stay;
     * raw calls, because the C library would change every thread. */
    if (prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP) < 0)
        return err_sys(err, "cannot keep capabilities over a change of uid");
    if (syscall(SYS_setresuid, -1, owner, -1) < 0) {
        err_sys(err, "cannot become uid %u", owner);
        prctl(PR_SET_SECUREBITS, bits);
        return err ? -err->kind : -ERR_SYSTEM;
    }
    prctl(PR_SET_DUMPABLE, 0); /* inherited; and its mm belongs to the first user namespace */
    pid_t pid = namespace_fork(flags | CLONE_NEWUSER, cgroup, ret_pidfd, err);
    if (pid == 0)
        return 0;
    /* A change of uid has also reset these two. */
    syscall(SYS_setresuid, -1, euid, -1);
    prctl(PR_SET_SECUREBITS, bits);
    prctl(PR_SET_DUMPABLE, dumpable == 1);
    prctl(PR_SET_PDEATHSIG, death);
    if (death && getppid() != parent) /* it has died while the signal was off */
        raise(death);
    return pid;
}

static int write_map(int dir, const char *file, uid_t base, uint32_t count, struct err *err)
{
    return fd_write_value_at(dir, file, err, "0 %u %u\n", base, count);
}

static int open_proc(pid_t pid, int *ret_fd, struct err *err)
{
    char path[32];
    str_print(path, sizeof(path), "/proc/%d", pid);
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open %s", path);
    *ret_fd = fd;
    return 0;
}

int namespace_map_ids(pid_t pid, uid_t base, uint32_t count, struct err *err)
{
    auto_fd int dir = -1;
    int r = open_proc(pid, &dir, err);
    if (r < 0 || (r = write_map(dir, "uid_map", base, count, err)) < 0 ||
        (r = write_map(dir, "gid_map", base, count, err)) < 0)
        return r;
    return 0;
}

/* On kernels that do not tell by ioctl(2) (before 6.13). */
static int pid_of_fdinfo(int pidfd, uint64_t *ret, struct err *err)
{
    char path[48];
    auto_free char *text = NULL;
    str_print(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
    int r = fd_read_file_at(AT_FDCWD, path, 4096, &text, NULL, err);
    if (r < 0)
        return r;
    const char *line = strstr(text, "\nPid:");
    if (!line)
        return err_set(err, ERR_INTERNAL, "a descriptor is not of a process");
    char *number = text + (line - text) + strlen("\nPid:");
    number[strcspn(number, "\n")] = '\0';
    if (number_parse(str_trim(number), 1, INT32_MAX, ret, NULL) < 0) /* -1: it is gone */
        return err_set(err, ERR_STATE, "it has stopped");
    return 0;
}

/* A file of /proc/PID. */
static int open_of(int pidfd, const char *file, int flags, int *ret_fd, struct err *err)
{
    char path[48];
    uint64_t pid = (uint64_t)kernel_process_pid(pidfd);
    int r = pid ? 0 : pid_of_fdinfo(pidfd, &pid, err);
    if (r < 0)
        return r;
    str_print(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    auto_fd int fd = open(path, flags | O_CLOEXEC);
    /* While it has not ended, its number is nobody else's. */
    if (fd < 0 || fd_pidfd_wait_exit(pidfd, 0, NULL) == 0)
        return err_set(err, ERR_STATE, "it has stopped");
    *ret_fd = steal_fd(&fd);
    return 0;
}

int namespace_open_user(int pidfd, int *ret_fd, struct err *err)
{
    return open_of(pidfd, "ns/user", O_RDONLY, ret_fd, err);
}

int namespace_open_net(int pidfd, int *ret_fd, struct err *err)
{
    return open_of(pidfd, "ns/net", O_RDONLY, ret_fd, err);
}

int namespace_open_root(int pidfd, int *ret_fd, struct err *err)
{
    return open_of(pidfd, "root", O_PATH | O_DIRECTORY, ret_fd, err);
}

int namespace_around(int userns, int *ret_fd, uid_t *ret_owner, struct err *err)
{
    auto_fd int fd = ioctl(userns, NS_GET_PARENT);
    struct stat a, own;
    if (fd < 0 || ioctl(userns, NS_GET_OWNER_UID, ret_owner) < 0)
        return err_sys(err, "cannot open the namespace around its user namespace");
    if (fstat(fd, &a) < 0 || stat("/proc/self/ns/user", &own) < 0)
        return err_sys(err, "cannot look at user namespaces");
    if (a.st_ino == own.st_ino && a.st_dev == own.st_dev)
        return err_set(err, ERR_STATE,
                       "it was started by an older Terem, which bounded less; restart it");
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* When the process was born, in whole seconds of CLOCK_BOOTTIME. */
static int read_birth(int dir, int64_t *ret, struct err *err)
{
    uint64_t ticks = kernel_process_birth(dir, "stat");
    if (ticks == 0)
        return err_set(err, ERR_NOT_FOUND, "the process that was born is gone");
    *ret = (int64_t)(ticks / (uint64_t)sysconf(_SC_CLK_TCK));
    return 0;
}

int namespace_zero_clocks(pid_t pid, struct err *err)
{
    auto_fd int dir = -1;
    int64_t birth = 0;
    int r = open_proc(pid, &dir, err);
    if (r < 0)
        return r;
    if (faccessat(dir, "timens_offsets", W_OK, 0) < 0 && errno == ENOENT)
        return 0;
    /* Not from now: a second may have ended since its birth, and a birth before zero is shown as
     * one in the year 2600.  Whole seconds are enough, and leave the clock a little above zero. */
    struct timespec boot, monotonic;
    clock_gettime(CLOCK_BOOTTIME, &boot);
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    if ((r = read_birth(dir, &birth, err)) == 0)
        r = fd_write_value_at(dir, "timens_offsets", err,
                              "monotonic -%" PRId64 " 0\nboottime -%" PRId64 " 0\n",
                              (int64_t)monotonic.tv_sec - (boot.tv_sec - birth), birth);
    return r < 0 ? err_wrap(err, "cannot set the clocks of the time namespace") : 0;
}

int namespace_join_clocks(struct err *err)
{
    auto_fd int fd = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_sys(err, "cannot open its time namespace");
    return setns(fd, CLONE_NEWTIME) < 0 ? err_sys(err, "cannot enter its time namespace") : 0;
}

int namespace_enter(int pidfd, int flags, struct err *err)
{
    if (flags & CLONE_NEWTIME && access("/proc/self/ns/time", F_OK) < 0)
        flags &= ~CLONE_NEWTIME;
    if (setns(pidfd, flags) < 0) {
        if (errno == ESRCH)
            return err_set(err, ERR_STATE, "it has stopped");
        return err_sys(err, "cannot enter its namespaces");
    }
    return 0;
}

int namespace_become_root(struct err *err)
{
    if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        return err_sys(err, "cannot become its root");
    return 0;
}
