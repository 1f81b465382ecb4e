/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /etc/hostname, hosts, resolv.conf: written by the VE's root in its own root, before its init
 * runs.  Whatever it has put there instead (a symlink, a FIFO, a directory in the way) is its own
 * matter: the new file replaces the name, and what cannot be replaced is left.
 */
#include "container/internal.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

/* Most starts find what the last one wrote: then nothing is copied up or written. */
static bool same(int dir, const char *name, const char *text, size_t len)
{
    auto_fd int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat st;
    auto_free char *now = NULL;
    size_t now_len;
    return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size == len &&
           fd_read_all(fd, len + 1, &now, &now_len, NULL) == 0 && now_len == len &&
           memcmp(now, text, len) == 0;
}

static int replace(int dir, const char *name, const char *text, size_t len, struct err *err)
{
    char tmp[NAME_MAX + 1];
    if (str_print(tmp, sizeof(tmp), ".%s.terem", name) < 0)
        return err_set(err, ERR_USAGE, "the name %s is too long", name);
    unlinkat(dir, tmp, 0);
    auto_fd int fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_sys(err, "cannot create %s", tmp);
    int r = fd_write_all(fd, text, len, err);
    /* Not synced: it is written again at the next start. */
    if (r == 0 && renameat(dir, tmp, dir, name) < 0)
        r = err_sys(err, "cannot replace %s", name);
    if (r < 0)
        unlinkat(dir, tmp, 0);
    return r;
}

static int write_one(int root, const struct container_file *file, struct err *err)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(file->path, '/');
    if (file->path[0] != '/' || !slash[1] || str_eq(slash, "/..") || str_eq(slash, "/.") ||
        str_print(parent, sizeof(parent), "%.*s", (int)(slash - file->path + 1), file->path) < 0)
        return err_set(err, ERR_USAGE, "\"%s\" is not the path of a file", file->path);
    auto_fd int dir = -1;
    int r = path_open_in_root(root, parent, O_RDONLY | O_DIRECTORY, 0, &dir, err);
    if (r < 0)
        return r;
    size_t len = strlen(file->text);
    return same(dir, slash + 1, file->text, len) ? 0
                                                 : replace(dir, slash + 1, file->text, len, err);
}

int file_write_all(const struct container_file *files, size_t n, struct err *err)
{
    auto_fd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_sys(err, "cannot open its root");
    for (size_t i = 0; i < n; i++) {
        int r = write_one(root, &files[i], err);
        /* A VE whose disk is full or whose /etc is broken must start all the same: else its owner
         * could not clean up.  It then runs with the files of an earlier start, or its own. */
        if (r < 0 && r != -ERR_USAGE)
            err_clear(err);
        else if (r < 0)
            return r;
    }
    return 0;
}
