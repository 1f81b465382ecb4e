/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/path.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_how(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve,
                    int *ret_fd, struct err *err)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .mode = flags & (O_CREAT | O_TMPFILE) ? mode : 0,
        .resolve = resolve | RESOLVE_NO_MAGICLINKS,
    };
    int fd;
    /* EAGAIN: a rename raced with "..": the kernel asks to try again (openat2(2)). */
    for (int tries = 0; tries < 64; tries++) {
        fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    if (fd < 0) {
        int sys = errno;
        if (sys == EXDEV || sys == ELOOP)
            return err_set(err, ERR_DENIED, "%s leads outside", path);
        return err_sysno(err, sys, "cannot open %s", path);
    }
    *ret_fd = fd;
    return 0;
}

int path_open_in_root(int dirfd, const char *path, int flags, mode_t mode, int *ret_fd,
                      struct err *err)
{
    return open_how(dirfd, path, flags, mode, RESOLVE_IN_ROOT, ret_fd, err);
}

int path_open_beneath(int dirfd, const char *path, int flags, mode_t mode, int *ret_fd,
                      struct err *err)
{
    uint64_t resolve = RESOLVE_BENEATH;
    if (flags & O_NOFOLLOW)
        resolve |= RESOLVE_NO_SYMLINKS;
    return open_how(dirfd, path, flags, mode, resolve, ret_fd, err);
}

int path_make_dirs(const char *path, mode_t mode, struct err *err)
{
    char buf[PATH_MAX];
    if (str_print(buf, sizeof(buf), "%s", path) < 0)
        return err_set(err, ERR_USAGE, "the path is too long");
    for (char *p = buf + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        if (mkdir(buf, mode) < 0 && errno != EEXIST)
            return err_sys(err, "cannot make directory %s", buf);
        *p = '/';
    }
    if (mkdir(buf, mode) < 0 && errno != EEXIST)
        return err_sys(err, "cannot make directory %s", buf);
    return 0;
}

int path_make_dir_at(int dirfd, const char *name, mode_t mode, int *ret_fd, struct err *err)
{
    if (mkdirat(dirfd, name, mode) < 0 && errno != EEXIST)
        return err_sys(err, "cannot make directory %s", name);
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open directory %s", name);
    *ret_fd = fd;
    return 0;
}

static int remove_entry(int dirfd, const char *name, bool maybe_dir, bool *ret_is_dir,
                        struct err *err)
{
    *ret_is_dir = false;
    if (!maybe_dir || unlinkat(dirfd, name, 0) == 0) {
        if (!maybe_dir && unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
            return err_sys(err, "cannot remove %s", name);
        return 0;
    }
    if (errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return err_sys(err, "cannot remove %s", name);
    if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return err_sys(err, "cannot remove directory %s", name);
    *ret_is_dir = true;
    return 0;
}

/*
 * Depth without recursion or a descriptor per level: walk down into the first non-empty
 * directory, and come back up by "..", which no one can swap because we compare device and inode
 * of the directory that we left from.
 */
int path_remove_tree_at(int dirfd, const char *name, struct err *err)
{
    bool is_dir;
    int r = remove_entry(dirfd, name, true, &is_dir, err);
    if (r < 0 || !is_dir)
        return r;

    auto_fd int top = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (top < 0)
        return errno == ENOENT ? 0 : err_sys(err, "cannot open %s", name);
    struct stat top_st, st;
    if (fstat(top, &top_st) < 0)
        return err_sys(err, "cannot stat %s", name);

    auto_fd int here = dup(top);
    unsigned depth = 0;
    for (;;) {
        auto_dir DIR *d = fd_list(here);
        if (!d)
            return err_sys(err, "cannot list a directory in %s", name);
        int down = -1;
        struct dirent *e;
        while (down < 0 && (e = readdir(d))) {
            if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
                continue;
            if ((r = remove_entry(here, e->d_name, e->d_type == DT_DIR || e->d_type == DT_UNKNOWN,
                                  &is_dir, err)) < 0)
                return err_wrap(err, "%s", name);
            if (!is_dir)
                continue;
            down = openat(here, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (down < 0 && errno != ENOENT)
                return err_sys(err, "cannot open %s in %s", e->d_name, name);
            if (down >= 0 && (fstat(down, &st) < 0 || st.st_dev != top_st.st_dev)) {
                close(down);
                return err_set(err, ERR_BUSY, "%s: something is mounted on %s", name, e->d_name);
            }
        }
        if (down >= 0) {
            close(here);
            here = down;
            depth++;
            continue;
        }
        if (depth == 0)
            break;
        int up = openat(here, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (up < 0)
            return err_sys(err, "cannot go up in %s", name);
        close(here);
        here = up;
        depth--;
    }
    if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return err_sys(err, "cannot remove directory %s", name);
    return 0;
}
