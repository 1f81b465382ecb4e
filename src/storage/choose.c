/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * choose — which driver serves best in a place, and why.
 *
 * First what bounds a VE's space and inodes natively and shows them to df; then what copies for
 * nothing and bounds space; then a directory, which bounds nothing.
 */
#include "base/cleanup.h"
#include "base/number.h"
#include "base/path.h"
#include "base/str.h"
#include "kernel/btrfs.h"
#include "kernel/quota.h"
#include "storage/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <unistd.h>

#define ROOM_MIN (UINT64_C(2) << 30) /* less is not worth an image */

/* The path, or the nearest one above it that exists. */
static int open_nearest(const char *path, int *ret_fd, struct err *err)
{
    char at[PATH_MAX];
    if (path[0] != '/' || str_print(at, sizeof(at), "%s", path) < 0)
        return err_set(err, ERR_USAGE, "%s is not an absolute path", path);
    for (;;) {
        int fd = open(at[0] ? at : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0) {
            *ret_fd = fd;
            return 0;
        }
        if (errno == ENOTDIR)
            return err_set(err, ERR_USAGE, "%s is no directory; choose another path", at);
        if (errno != ENOENT || !at[0])
            return err_sys(err, "cannot open %s", at);
        *strrchr(at, '/') = '\0';
    }
}

static bool in_path(const char *program)
{
    for (const char *dir = PATH_PROGRAMS, *end; *dir; dir = *end ? end + 1 : end) {
        char path[64];
        end = strchrnul(dir, ':');
        str_print(path, sizeof(path), "%.*s/%s", (int)(end - dir), dir, program);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

/* Why there can be no btrfs in an image here; NULL: there can. */
static const char *against_image(int dir, const struct statfs *fs, char room[160])
{
    uint64_t free_bytes = (uint64_t)fs->f_bavail * (uint64_t)fs->f_bsize;
    char text[NUMBER_TEXT];
    auto_fd int ask = fsopen("btrfs", FSOPEN_CLOEXEC); /* which loads its module */
    if (ask < 0)
        return "this kernel has no btrfs";
    if (access("/dev/loop-control", R_OK | W_OK) < 0)
        return "there are no loop devices";
    if (!in_path("mkfs.btrfs"))
        return "mkfs.btrfs is missing (install btrfs-progs)";
    if ((uint32_t)fs->f_type == TMPFS_MAGIC)
        return "it lies in memory";
    if (free_bytes >= ROOM_MIN)
        return NULL;
    str_print(room, 160, "its disk has only %s free", number_format_size(free_bytes, text));
    return room;
}

int storage_choose(const char *path, struct storage_choice *ret, struct err *err)
{
    struct storage_choice c = {.driver = "dir"};
    struct statfs fs;
    char room[160];
    auto_fd int dir = -1;
    int r = open_nearest(path, &dir, err);
    if (r < 0)
        return r;
    if (fstatfs(dir, &fs) < 0)
        return err_sys(err, "cannot measure the disk of %s", path);
    const char *against;
    if (btrfs_is(dir)) {
        str_print(c.driver, sizeof(c.driver), "btrfs");
        str_print(c.why, sizeof(c.why),
                  "it lies on btrfs, which bounds space and copies at no cost");
    } else if (quota_project_on(dir)) {
        str_print(c.why, sizeof(c.why),
                  "its file system has project quotas, which bound space and inodes");
    } else if (!(against = against_image(dir, &fs, room))) {
        str_print(c.driver, sizeof(c.driver), "btrfs");
        c.image = true;
        str_print(c.why, sizeof(c.why),
                  "its file system has no project quotas, so an image with btrfs bounds space and "
                  "copies at no cost");
    } else {
        str_print(
            c.why, sizeof(c.why),
            "its file system has no project quotas and cannot hold an image with btrfs, since "
            "%s; the space of VEs is not bounded",
            against);
    }
    *ret = c;
    return 0;
}
