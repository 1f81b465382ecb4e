/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/disk.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define STACK_MAX     8 /* loop on LVM on RAID on … */
#define SMALL_FILE    4096
#define MOUNTINFO_MAX (4u << 20)

static int add(struct disk *ret, size_t *n, const struct disk *d, struct err *err)
{
    for (size_t i = 0; i < *n; i++)
        if (ret[i].major == d->major && ret[i].minor == d->minor)
            return 0;
    if (*n == DISK_MAX)
        return err_set(err, ERR_EXHAUSTED, "its files lie on more than %d disks", DISK_MAX);
    ret[(*n)++] = *d;
    return 0;
}

/* A sysfs file's text without its newline; NULL: not there.  Freed by the caller. */
static char *read_small(int dir, const char *name)
{
    char *text = NULL;
    if (fd_read_file_at(dir, name, SMALL_FILE, &text, NULL, NULL) < 0)
        return NULL;
    text[strcspn(text, "\n")] = '\0';
    return text;
}

/* "8:16" */
static bool parse_device(char *text, unsigned *ret_maj, unsigned *ret_min)
{
    char *colon = text ? strchr(text, ':') : NULL;
    uint64_t maj, min;
    if (!colon)
        return false;
    *colon = '\0';
    if (number_parse(text, 0, UINT32_MAX, &maj, NULL) < 0 ||
        number_parse(colon + 1, 0, UINT32_MAX, &min, NULL) < 0)
        return false;
    *ret_maj = (unsigned)maj;
    *ret_min = (unsigned)min;
    return true;
}

static int open_device(int sys, unsigned maj, unsigned min, int *ret_fd, struct err *err)
{
    char path[64];
    str_print(path, sizeof(path), "dev/block/%u:%u", maj, min);
    int fd = openat(sys, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot find block device %u:%u in sysfs", maj, min);
    *ret_fd = fd;
    return 0;
}

static void read_name(int fd, struct disk *d)
{
    auto_free char *text = NULL;
    str_print(d->name, sizeof(d->name), "%u:%u", d->major, d->minor);
    if (fd_read_file_at(fd, "uevent", SMALL_FILE, &text, NULL, NULL) < 0)
        return;
    const char *at = strstr(text, "DEVNAME=");
    if (at)
        str_print(d->name, sizeof(d->name), "%.*s", (int)strcspn(at + 8, "\n"), at + 8);
}

/* Adds the device, or the whole disk when it is a partition. */
static int add_device(int sys, unsigned maj, unsigned min, struct disk *ret, size_t *n,
                      struct err *err)
{
    struct disk d = {.major = maj, .minor = min};
    auto_fd int fd = -1;
    int r = open_device(sys, maj, min, &fd, err);
    if (r < 0)
        return r;
    if (faccessat(fd, "partition", F_OK, 0) == 0) {
        auto_free char *dev = read_small(fd, "../dev");
        if (!parse_device(dev, &d.major, &d.minor))
            return err_set(err, ERR_UNSUPPORTED, "partition %u:%u does not tell its disk", maj,
                           min);
        cleanup_fd(&fd);
        r = open_device(sys, d.major, d.minor, &fd, err);
        if (r < 0)
            return r;
    }
    read_name(fd, &d);
    return add(ret, n, &d, err);
}

/* Every device of a directory of links to devices (slaves/, btrfs's devices/). */
static int add_each(int sys, int list, struct disk *ret, size_t *n, struct err *err)
{
    auto_dir DIR *dir = fd_list(list);
    if (!dir)
        return err_sys(err, "cannot list devices in sysfs");
    for (struct dirent *e; (e = readdir(dir));) {
        char name[280];
        unsigned maj, min;
        if (e->d_name[0] == '.')
            continue;
        str_print(name, sizeof(name), "%s/dev", e->d_name);
        auto_free char *dev = read_small(list, name);
        if (!parse_device(dev, &maj, &min))
            continue;
        int r = add_device(sys, maj, min, ret, n, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* btrfs may lie on several devices, and st_dev names none of them. */
static int add_btrfs(int sys, int dir, struct disk *ret, size_t *n, struct err *err)
{
    struct btrfs_ioctl_fs_info_args info = {0};
    char path[80];
    const uint8_t *u = info.fsid;
    if (ioctl(dir, BTRFS_IOC_FS_INFO, &info) < 0)
        return err_sys(err, "cannot ask btrfs for its devices");
    str_print(
        path, sizeof(path),
        "fs/btrfs/%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x/devices",
        u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13],
        u[14], u[15]);
    auto_fd int list = openat(sys, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (list < 0)
        return err_sys(err, "cannot find the devices of btrfs in sysfs");
    size_t before = *n;
    int r = add_each(sys, list, ret, n, err);
    if (r == 0 && *n == before)
        r = err_set(err, ERR_UNSUPPORTED, "btrfs names no device of its own");
    return r;
}

const char *disk_mount_type(const char *mountinfo, unsigned long long mnt_id, char buf[32])
{
    char want[32];
    str_print(want, sizeof(want), "%llu ", mnt_id);
    buf[0] = '\0';
    for (const char *line = mountinfo; line && *line;) {
        const char *end = strchrnul(line, '\n');
        if (str_starts(line, want)) {
            const char *dash = memmem(line, (size_t)(end - line), " - ", 3);
            if (dash) {
                size_t len = strcspn(dash + 3, " \n");
                str_print(buf, 32, "%.*s", (int)(len < 31 ? len : 31), dash + 3);
            }
            return buf;
        }
        line = *end ? end + 1 : NULL;
    }
    return buf;
}

static int find_devices(int sys, int dir, struct disk *ret, size_t *n, struct err *err)
{
    struct statx st;
    char type[32];
    if (statx(dir, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &st) < 0)
        return err_sys(err, "cannot tell on which disk its files lie");
    if (st.stx_dev_major)
        return add_device(sys, st.stx_dev_major, st.stx_dev_minor, ret, n, err);
    auto_free char *mountinfo = NULL;
    int r = fd_read_file_at(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &mountinfo, NULL, err);
    if (r < 0)
        return r;
    disk_mount_type(mountinfo, st.stx_mnt_id, type);
    if (strcmp(type, "btrfs") == 0)
        return add_btrfs(sys, dir, ret, n, err);
    if (strcmp(type, "tmpfs") == 0 || strcmp(type, "ramfs") == 0)
        return err_set(err, ERR_UNSUPPORTED, "its files lie in memory (%s), not on a disk", type);
    return err_set(err, ERR_UNSUPPORTED, "its files lie on %s, which does not tell its disks",
                   type[0] ? type : "a file system");
}

/* The device below a loop device: where its file lies. */
static int add_backing(int sys, const char *file, struct disk *ret, size_t *n, struct err *err)
{
    auto_fd int fd = open(file, O_PATH | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, "cannot find the loop device's file %s", file);
    if (S_ISBLK(st.st_mode))
        return add_device(sys, major(st.st_rdev), minor(st.st_rdev), ret, n, err);
    auto_fd int plain = open(file, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* ioctl takes no O_PATH */
    return disk_find(sys, plain < 0 ? fd : plain, ret, n, err);
}

/*
 * A loop device that reads and writes its file past the page cache hands each request down in the
 * name of the cgroup that made it (loop_queue_rq(), kthread_associate_blkcg()), so that limits and
 * counts of the disk below hold for it, buffered writes included: seen with blkio of cgroup v1 on
 * 6.18.  That disk is then the one: written for both, a limit would hold back twice, and the disk
 * that also has the templates' layers would be counted twice.
 */
static int pass_through(int sys, const struct disk *d, struct disk *ret, size_t *n, struct err *err)
{
    auto_fd int fd = -1;
    int r = open_device(sys, d->major, d->minor, &fd, err);
    if (r < 0)
        return r;
    auto_free char *direct = read_small(fd, "loop/dio"),
                   *file = read_small(fd, "loop/backing_file");
    struct disk below[DISK_MAX];
    size_t n_below = 0;
    bool passes = direct && file && strcmp(direct, "1") == 0 &&
                  add_backing(sys, file, below, &n_below, NULL) == 0;
    if (!passes)
        return add(ret, n, d, err);
    for (size_t i = 0; r == 0 && i < n_below; i++)
        r = add(ret, n, &below[i], err);
    return r;
}

int disk_find(int sys, int dir, struct disk *ret, size_t *n, struct err *err)
{
    struct disk found[DISK_MAX];
    size_t n_found = 0;
    int r = find_devices(sys, dir, found, &n_found, err);
    for (size_t i = 0; r == 0 && i < n_found; i++)
        r = pass_through(sys, &found[i], ret, n, err);
    return r;
}

static int below(int sys, const struct disk *d, unsigned depth, struct disk *ret, size_t *n,
                 struct err *err)
{
    auto_fd int fd = -1;
    struct disk next[DISK_MAX];
    size_t n_next = 0;
    int r = open_device(sys, d->major, d->minor, &fd, err);
    if (r < 0)
        return r;
    if (depth == STACK_MAX)
        return err_set(err, ERR_UNSUPPORTED, "more than %d devices are stacked", STACK_MAX);
    auto_free char *file = read_small(fd, "loop/backing_file");
    auto_fd int slaves = openat(fd, "slaves", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file)
        r = add_backing(sys, file, next, &n_next, err);
    else if (slaves >= 0)
        r = add_each(sys, slaves, next, &n_next, err);
    if (r == 0 && n_next == 0)
        return add(ret, n, d, err);
    for (size_t i = 0; r == 0 && i < n_next; i++)
        r = below(sys, &next[i], depth + 1, ret, n, err);
    return r;
}

int disk_below(int sys, const struct disk *d, struct disk *ret, size_t *n, struct err *err)
{
    return below(sys, d, 0, ret, n, err);
}

bool disk_has_scheduler(int sys, const struct disk *d, const char *name)
{
    auto_fd int fd = -1;
    char want[48];
    if (open_device(sys, d->major, d->minor, &fd, NULL) < 0)
        return false;
    auto_free char *text = read_small(fd, "queue/scheduler");
    str_print(want, sizeof(want), "[%s]", name);
    return text && strstr(text, want);
}
