/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What this kernel and this file system can do, tried rather than guessed from versions. */
#include "container/internal.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "kernel/mount.h"
#include "kernel/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRIAL      ".probe"
#define TRIAL_BASE 2147418112u /* no VE's: 2^31 - 65536 */

struct trial {
    int layer, tree;
};

static int make_trees(int dir, struct trial *t, struct err *err)
{
    auto_fd int top = -1, upper = -1, work = -1;
    int r;
    if ((r = path_remove_tree_at(dir, TRIAL, err)) < 0 ||
        (r = path_make_dir_at(dir, TRIAL, 0700, &top, err)) < 0 ||
        (r = path_make_dir_at(top, "layer", 0755, &t->layer, err)) < 0 ||
        (r = path_make_dir_at(top, "tree", 0755, &t->tree, err)) < 0 ||
        (r = path_make_dir_at(t->tree, "upper", 0755, &upper, err)) < 0 ||
        (r = path_make_dir_at(t->tree, "work", 0755, &work, err)) < 0)
        return r;
    return 0;
}

/* In the new user and mount namespaces: stack, and write a file. */
static int stack_and_write(int sock, struct err *err)
{
    int trees[2], root = -1, r;
    if ((r = message_expect(sock, MESSAGE_MOUNTS, NULL, trees, 2, err)) < 0 ||
        (r = namespace_become_root(err)) < 0)
        return r;
    auto_fd int over = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (over < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_sys(err, "cannot part from the host's mounts");
    if ((r = mount_attach(trees[0], over, "", err)) < 0 ||
        (r = mount_attach(trees[1], over, "", err)) < 0 ||
        (r = mount_overlay(&trees[0], 1, trees[1], false, &root, err)) < 0)
        return r;
    auto_fd int file = openat(root, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    return file < 0 ? err_sys(err, "cannot write to the overlay") : 0;
}

static _Noreturn void trial_main(int sock)
{
    struct err err = {0};
    if (stack_and_write(sock, &err) < 0)
        message_fail(sock, &err);
    else
        message_send(sock, MESSAGE_READY, 0, NULL, 0, NULL);
    _exit(0);
}

static void try_mounts(const struct trial *t, pid_t pid, int sock, struct container_support *s)
{
    auto_fd int userns = -1, layer = -1, tree = -1;
    char path[64];
    if (namespace_map_ids(pid, TRIAL_BASE, CONTAINER_ID_COUNT, NULL) < 0)
        return;
    s->userns = true;
    str_print(path, sizeof(path), "/proc/%d/ns/user", pid);
    userns = open(path, O_RDONLY | O_CLOEXEC);
    if (userns < 0 || mount_clone(t->layer, "", &layer, NULL) < 0 ||
        mount_clone(t->tree, "", &tree, NULL) < 0 ||
        mount_idmap(layer, userns, MOUNT_ATTR_RDONLY, NULL) < 0 ||
        mount_idmap(tree, userns, 0, NULL) < 0)
        return;
    s->idmapped_mounts = true;
    const int mounts[] = {layer, tree};
    struct stat st;
    if (message_send(sock, MESSAGE_MOUNTS, 0, mounts, 2, NULL) < 0 ||
        message_expect(sock, MESSAGE_READY, NULL, NULL, 0, NULL) < 0)
        return;
    /* Written by the VE's root, on disk it must be 0. */
    s->overlay_userns = fstatat(t->tree, "upper/file", &st, 0) == 0 && st.st_uid == 0;
}

static int run_trial(const struct trial *t, struct container_support *s, struct err *err)
{
    int pair[2];
    int r = message_pair(pair, err);
    if (r < 0)
        return r;
    auto_fd int sock = pair[0], inner = pair[1], pidfd = -1;
    pid_t pid = namespace_fork_owned(CLONE_NEWNS, -1, TRIAL_BASE, &pidfd, NULL);
    if (pid == 0) {
        close(sock);
        trial_main(inner);
    }
    cleanup_fd(&inner);
    if (pid < 0)
        return 0; /* no user namespaces: s says so */
    try_mounts(t, pid, sock, s);
    fd_pidfd_kill(pidfd, SIGKILL, NULL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return 0;
}

static bool overlay_takes_fds(int dir)
{
    auto_fd int fs = fsopen("overlay", FSOPEN_CLOEXEC);
    return fs >= 0 && fsconfig(fs, FSCONFIG_SET_FD, "upperdir", NULL, dir) == 0;
}

/* Born in something that is no cgroup: EBADF from a kernel that knows the flag. */
static bool clones_into_cgroup(void)
{
    auto_fd int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pid_t pid = namespace_fork(0, null, NULL, NULL);
    if (pid == 0)
        _exit(0);
    return pid < 0 && errno == EBADF;
}

static bool tells_exit(void)
{
    /* PIDFD_GET_INFO (6.13) with a struct pidfd_info of its first size. */
    struct {
        uint64_t mask, rest[7];
    } info = {0};
    auto_fd int pidfd = -1;
    return fd_pidfd_open(getpid(), &pidfd, NULL) == 0 &&
           ioctl(pidfd, _IOC(_IOC_READ | _IOC_WRITE, 0xFF, 11, sizeof(info)), &info) == 0;
}

int container_probe(const char *state, struct container_support *ret, struct err *err)
{
    struct container_support s = {0};
    struct trial t = {-1, -1};
    auto_fd int dir = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_sys(err, "cannot open %s", state);
    int r = make_trees(dir, &t, err);
    if (r == 0)
        r = run_trial(&t, &s, err);
    s.overlay_fd_layers = t.tree >= 0 && overlay_takes_fds(t.tree);
    cleanup_fd(&t.layer);
    cleanup_fd(&t.tree);
    path_remove_tree_at(dir, TRIAL, NULL);
    if (r < 0)
        return err_wrap(err, "cannot try what this kernel can do");

    unsigned action = SECCOMP_RET_ERRNO;
    s.timens = access("/proc/self/ns/time", F_OK) == 0;
    s.cgroupns = access("/proc/self/ns/cgroup", F_OK) == 0;
    s.clone_into_cgroup = clones_into_cgroup();
    s.pidfd_info = tells_exit();
    s.seccomp = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
    s.lxcfs = access("/usr/bin/lxcfs", X_OK) == 0;
    *ret = s;
    return 0;
}
