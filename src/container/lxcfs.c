/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "container/internal.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "kernel/mount.h"
#include "kernel/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

const char *const lxcfs_paths[LXCFS_COUNT] = {
    "proc/meminfo", "proc/cpuinfo",   "proc/stat",  "proc/uptime",
    "proc/loadavg", "proc/diskstats", "proc/swaps", "sys/devices/system/cpu/online",
};

void lxcfs_clone(int lxcfs_dir, int ret[LXCFS_COUNT])
{
    for (size_t i = 0; i < LXCFS_COUNT; i++) {
        ret[i] = -1;
        /* An older lxcfs serves fewer files: what is missing shows the host's values. */
        if (lxcfs_dir >= 0)
            mount_clone(lxcfs_dir, lxcfs_paths[i], &ret[i], NULL);
    }
}

void container_look_up_lxcfs(int lxcfs_dir)
{
    struct stat st;
    for (size_t i = 0; i < LXCFS_COUNT; i++)
        fstatat(lxcfs_dir, lxcfs_paths[i], &st, 0);
}

int lxcfs_attach(int fd, size_t which, int proc, int sys, bool on_top, struct err *err)
{
    char path[64];
    int dir = str_starts(lxcfs_paths[which], "proc/") ? proc : sys;
    str_print(path, sizeof(path), "%s", strchr(lxcfs_paths[which], '/') + 1);
    char *slash = strrchr(path, '/');
    auto_fd int parent = -1;
    if (slash) {
        *slash = '\0';
        int r = path_open_beneath(dir, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0, &parent, err);
        if (r < 0)
            return r;
        dir = parent;
    }
    const char *name = slash ? slash + 1 : path;
    if (on_top) {
        /* umount2() takes a path: one name in the working directory cannot lead astray.  Only
         * what covers the file goes; EINVAL: nothing does. */
        if (fchdir(dir) < 0)
            return err_sys(err, "cannot enter its /%s", path);
        for (int i = 0; i < 8 && umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW) == 0; i++)
            ;
    }
    int r = mount_attach(fd, dir, name, err);
    /* The kernel has dropped the name that fd was opened by and found it anew, for another process
     * that looked it up at the same time. */
    if (r == 0 || err->sys != ENOENT)
        return r;
    err_set(err, ERR_BUSY, "lxcfs's %s was looked up anew in this moment; try again",
            lxcfs_paths[which]);
    err->sys = ESTALE;
    return -ERR_BUSY;
}

/* Opens a directory of the running VE that its root may have moved or covered: it must be the
 * root of a file system of this kind. */
static int open_real(const char *path, long magic, ino_t root_ino, int *ret_fd, struct err *err)
{
    auto_fd int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct statfs fs;
    struct stat st;
    if (fd < 0 || fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0)
        return err_sys(err, "cannot open its %s", path);
    if (fs.f_type != magic || st.st_ino != root_ino)
        return err_set(err, ERR_STATE, "its %s is not what Terem mounted there", path);
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int attach_all(int pidfd, const int fds[LXCFS_COUNT], struct err *err)
{
    int r = namespace_enter(pidfd, CLONE_NEWUSER | CLONE_NEWNS, err);
    if (r < 0)
        return r;
    auto_fd int proc = -1, sys = -1;
    if ((r = open_real("/proc", PROC_SUPER_MAGIC, 1, &proc, err)) < 0 ||
        (r = open_real("/sys", SYSFS_MAGIC, 1, &sys, err)) < 0)
        return r;
    for (size_t i = 0; i < LXCFS_COUNT; i++)
        if (fds[i] >= 0 && (r = lxcfs_attach(fds[i], i, proc, sys, true, err)) < 0)
            return r;
    return 0;
}

int container_mount_lxcfs(int pidfd, int lxcfs_dir, struct err *err)
{
    int fds[LXCFS_COUNT], pair[2];
    size_t n = 0;
    lxcfs_clone(lxcfs_dir, fds);
    for (size_t i = 0; i < LXCFS_COUNT; i++)
        n += fds[i] >= 0;
    if (n == 0)
        return err_set(err, ERR_UNAVAILABLE, "lxcfs does not answer");
    int r = message_pair(pair, err);
    if (r == 0) {
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_DUMPABLE, 0);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(pair[0]);
            struct err e = {0};
            if (attach_all(pidfd, fds, &e) < 0)
                message_fail(pair[1], &e);
            else
                message_send(pair[1], MESSAGE_READY, 0, NULL, 0, NULL);
            _exit(0);
        }
        close(pair[1]);
        if (pid < 0) {
            r = err_sys(err, "cannot create a process");
        } else {
            r = message_expect(pair[0], MESSAGE_READY, NULL, NULL, 0, err);
            while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        }
        close(pair[0]);
    }
    for (size_t i = 0; i < LXCFS_COUNT; i++)
        cleanup_fd(&fds[i]);
    return r < 0 ? err_wrap(err, "cannot mount lxcfs's files") : 0;
}
