/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/mount.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/syscall.h>
#include <unistd.h>

static int set_option(int fs, const char *option)
{
    const char *eq = strchr(option, '=');
    if (!eq)
        return fsconfig(fs, FSCONFIG_SET_FLAG, option, NULL, 0);
    char key[64];
    if (str_print(key, sizeof(key), "%.*s", (int)(eq - option), option) < 0) {
        errno = EINVAL;
        return -1;
    }
    return fsconfig(fs, FSCONFIG_SET_STRING, key, eq + 1, 0);
}

static bool has_source(const char *const *options)
{
    for (; options && *options; options++)
        if (strncmp(*options, "source=", 7) == 0)
            return true;
    return false;
}

int mount_new(const char *type, const char *const *options, unsigned attr, int *ret_fd,
              struct err *err)
{
    auto_fd int fs = fsopen(type, FSOPEN_CLOEXEC);
    if (fs < 0)
        return err_sys(err, "cannot open file system %s", type);
    if (!has_source(options) && fsconfig(fs, FSCONFIG_SET_STRING, "source", type, 0) < 0)
        return err_sys(err, "cannot name file system %s", type);
    for (; options && *options; options++)
        if (set_option(fs, *options) < 0)
            return err_sys(err, "cannot set option %s of %s", *options, type);
    if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return err_sys(err, "cannot create file system %s", type);
    int fd = fsmount(fs, FSMOUNT_CLOEXEC, attr);
    if (fd < 0)
        return err_sys(err, "cannot mount %s", type);
    *ret_fd = fd;
    return 0;
}

int mount_clone(int dirfd, const char *name, int *ret_fd, struct err *err)
{
    int fd = open_tree(dirfd, name,
                       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
    if (fd < 0)
        return err_sys(err, "cannot clone the mount of %s", *name ? name : "a directory");
    *ret_fd = fd;
    return 0;
}

int mount_set(int fd, unsigned set, unsigned clear, struct err *err)
{
    struct mount_attr a = {.attr_set = set, .attr_clr = clear};
    if (mount_setattr(fd, "", AT_EMPTY_PATH, &a, sizeof(a)) < 0)
        return err_sys(err, "cannot change the attributes of a mount");
    return 0;
}

int mount_reconfigure(int fd, const char *const *options, struct err *err)
{
    auto_fd int fs = fspick(fd, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);
    if (fs < 0)
        return err_sys(err, "cannot pick a file system");
    for (; *options; options++)
        if (set_option(fs, *options) < 0)
            return err_sys(err, "cannot set option %s", *options);
    if (fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0)
        return err_sys(err, "cannot change a file system");
    return 0;
}

int mount_idmap(int fd, int userns, unsigned attr, struct err *err)
{
    struct mount_attr a = {
        .attr_set = attr | MOUNT_ATTR_IDMAP,
        .userns_fd = (__u64)userns,
    };
    if (mount_setattr(fd, "", AT_EMPTY_PATH, &a, sizeof(a)) < 0) {
        if (errno == EINVAL)
            return err_sysno(err, EINVAL, "this file system cannot shift ids (no idmapped mounts)");
        return err_sys(err, "cannot shift the ids of a mount");
    }
    return 0;
}

int mount_attach(int fd, int dirfd, const char *name, struct err *err)
{
    if (move_mount(fd, "", dirfd, name,
                   MOVE_MOUNT_F_EMPTY_PATH | (*name ? 0 : MOVE_MOUNT_T_EMPTY_PATH)) < 0)
        return err_sys(err, "cannot attach a mount%s%s", *name ? " on " : "", name);
    return 0;
}

int mount_pivot(int rootfd, struct err *err)
{
    if (fchdir(rootfd) < 0)
        return err_sys(err, "cannot enter the new root");
    /* The old root is stacked on the new one, under the same "." (pivot_root(2)). */
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return err_sys(err, "cannot pivot to the new root");
    if (umount2(".", MNT_DETACH) < 0)
        return err_sys(err, "cannot drop the old root");
    if (chdir("/") < 0)
        return err_sys(err, "cannot enter the new root");
    return 0;
}

static int set_fd(int fs, const char *key, int fd)
{
    return fsconfig(fs, FSCONFIG_SET_FD, key, NULL, fd);
}

/* How kernels before 6.13 refuse a descriptor: 6.1 to 6.4 (options as text) EOPNOTSUPP, 6.5 to 6.12
 * EINVAL, and EBADF because fsconfig(2) took none that was opened with O_PATH. */
static bool takes_no_fd(int cause)
{
    return cause == EOPNOTSUPP || cause == EINVAL || cause == EBADF;
}

/* 1: this kernel takes no descriptors here.  upper -1: none, read-only. */
static int overlay_by_fd(const int *layers, size_t n_layers, int upper, int work, int *ret_fd,
                         struct err *err)
{
    auto_fd int fs = fsopen("overlay", FSOPEN_CLOEXEC);
    if (fs < 0)
        return err_sys(err, "cannot open file system overlay");
    if (upper >= 0 && set_fd(fs, "upperdir", upper) < 0)
        return takes_no_fd(errno) ? 1 : err_sys(err, "the overlay refuses its writable tree");
    if (upper >= 0 && set_fd(fs, "workdir", work) < 0)
        return err_sys(err, "the overlay refuses its work directory");
    for (size_t i = n_layers; i-- > 0;) /* the overlay wants its topmost layer first */
        if (set_fd(fs, "lowerdir+", layers[i]) < 0)
            return upper < 0 && takes_no_fd(errno)
                       ? 1
                       : err_sys(err, "the overlay refuses layer %zu of %zu", i + 1, n_layers);
    if (fsconfig(fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) < 0 ||
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return err_sys(err, "cannot create the overlay");
    int fd = fsmount(fs, FSMOUNT_CLOEXEC, upper < 0 ? MOUNT_ATTR_RDONLY : 0);
    if (fd < 0)
        return err_sys(err, "cannot mount the overlay");
    *ret_fd = fd;
    return 0;
}

static int overlay_by_path(const int *layers, size_t n_layers, int upper, int work, const char *at,
                           struct err *err)
{
    char path[FD_PATH_MAX];
    auto_str struct str s = str_init(4096); /* mount(2) takes a page of options */
    str_add(&s, "userxattr,");
    if (upper >= 0) {
        str_add(&s, "upperdir=%s", fd_path(upper, path));
        str_add(&s, ",workdir=%s,", fd_path(work, path));
    }
    str_add(&s, "lowerdir=");
    for (size_t i = n_layers; i-- > 0;)
        str_add(&s, "%s%s", fd_path(layers[i], path), i ? ":" : "");
    if (s.failed)
        return err_set(err, ERR_UNSUPPORTED, "%zu layers are too many for this kernel", n_layers);
    if (mount("overlay", at, "overlay", upper < 0 ? MS_RDONLY : 0, str_c(&s)) < 0)
        return err_sys(err, "cannot mount the overlay");
    return 0;
}

int mount_layers(const int *layers, size_t n_layers, bool old_way, int dirfd, const char *name,
                 struct err *err)
{
    auto_fd int fd = -1;
    int r = 1;
    if (n_layers == 1) /* which the overlay refuses */
        r = mount_clone(layers[0], "", &fd, err);
    else if (!old_way)
        r = overlay_by_fd(layers, n_layers, -1, -1, &fd, err);
    if (r <= 0)
        return r < 0 ? r : mount_attach(fd, dirfd, name, err);
    char dir[FD_PATH_MAX], at[FD_PATH_MAX + NAME_MAX + 2];
    str_print(at, sizeof(at), "%s/%s", fd_path(dirfd, dir), name);
    return overlay_by_path(layers, n_layers, -1, -1, at, err);
}

int mount_overlay(const int *layers, size_t n_layers, int tree, bool old_way, int *ret_fd,
                  struct err *err)
{
    auto_fd int upper = openat(tree, "upper", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (upper < 0)
        return err_sys(err, "cannot open upper/ of its tree");
    auto_fd int work = openat(tree, "work", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (work < 0)
        return err_sys(err, "cannot open work/ of its tree");
    if (!old_way) {
        auto_fd int fd = -1;
        int r = overlay_by_fd(layers, n_layers, upper, work, &fd, err);
        if (r < 0)
            return r;
        if (r == 0) {
            if ((r = mount_attach(fd, tree, "upper", err)) < 0)
                return r;
            *ret_fd = steal_fd(&fd);
            return 0;
        }
    }
    char path[FD_PATH_MAX];
    int r = overlay_by_path(layers, n_layers, upper, work, fd_path(upper, path), err);
    if (r < 0)
        return r;
    /* A fresh look-up crosses onto what was mounted over the directory. */
    int fd = openat(tree, "upper", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open the overlay");
    *ret_fd = fd;
    return 0;
}
