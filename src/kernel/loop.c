/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/loop.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define TRIES      64 /* others may take the free device first */
#define BLOCK_SIZE 4096

/* As the kernel packs a device number for user space (huge_encode_dev()). */
static uint64_t encode(dev_t dev)
{
    uint64_t maj = major(dev), min = minor(dev);
    return (min & 0xff) | (maj << 8) | ((min & ~UINT64_C(0xff)) << 12);
}

static bool shows(const char *path, const struct stat *image)
{
    struct loop_info64 info;
    auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && ioctl(fd, LOOP_GET_STATUS64, &info) == 0 &&
           info.lo_device == encode(image->st_dev) && info.lo_inode == image->st_ino;
}

int loop_find(int image, char ret[LOOP_PATH], struct err *err)
{
    struct stat st;
    auto_dir DIR *d = opendir("/sys/block");
    if (!d || fstat(image, &st) < 0)
        return err_sys(err, "cannot look for the loop device");
    for (struct dirent *e; (e = readdir(d));) {
        char file[300], path[LOOP_PATH];
        str_print(file, sizeof(file), "%s/loop", e->d_name);
        if (!str_starts(e->d_name, "loop") || faccessat(dirfd(d), file, F_OK, 0) < 0 ||
            str_print(path, sizeof(path), "/dev/%s", e->d_name) < 0 || !shows(path, &st))
            continue;
        str_print(ret, LOOP_PATH, "%s", path);
        return 0;
    }
    return err_set(err, ERR_NOT_FOUND, "no loop device shows the image");
}

/*
 * A discard would punch a hole into the file, whose blocks are all allocated on purpose; "fstrim
 * -a", which a timer of the host runs every week, does it for a whole mounted file system.
 */
static int refuse_discards(const char *path, struct err *err)
{
    char file[80];
    str_print(file, sizeof(file), "/sys/block/%s/queue/discard_max_bytes",
              path + sizeof("/dev/") - 1);
    return fd_write_value_at(AT_FDCWD, file, err, "0\n");
}

static int try_attach(int control, int image, char ret[LOOP_PATH], int *ret_fd, struct err *err)
{
    struct loop_config config = {
        .fd = (uint32_t)image,
        .block_size = BLOCK_SIZE, /* what direct I/O takes on any disk */
        .info = {.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO},
    };
    int n = ioctl(control, LOOP_CTL_GET_FREE);
    if (n < 0)
        return err_sys(err, "cannot get a free loop device");
    str_print(ret, LOOP_PATH, "/dev/loop%d", n);
    auto_fd int fd = open(ret, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open %s", ret);
    if (ioctl(fd, LOOP_CONFIGURE, &config) < 0)
        return err_sys(err, "cannot put the image on %s", ret);
    *ret_fd = steal_fd(&fd);
    return 0;
}

int loop_attach(int image, char ret[LOOP_PATH], int *ret_fd, struct err *err)
{
    auto_fd int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0)
        return err_sys(err, "cannot open /dev/loop-control");
    auto_fd int fd = -1;
    int r = 0;
    for (int i = 0; i < TRIES; i++)
        if ((r = try_attach(control, image, ret, &fd, err)) != -ERR_BUSY)
            break;
    if (r < 0 || (r = refuse_discards(ret, err)) < 0)
        return r;
    *ret_fd = steal_fd(&fd);
    return 0;
}

int loop_resize(const char *path, struct err *err)
{
    auto_fd int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open %s", path);
    if (ioctl(fd, LOOP_SET_CAPACITY) < 0)
        return err_sys(err, "cannot resize %s", path);
    return 0;
}
