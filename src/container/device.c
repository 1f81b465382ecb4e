/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /dev is one small tmpfs that the host's root makes: the VE can neither remount it with other
 * options nor make a node in it, and the nodes need no bind mounts of their own.  /dev/shm is a
 * directory of the same file system (mounted once more on itself, as init systems look for a
 * mount there): a second superblock would cost every memory cgroup of the machine.
 */
#include "container/internal.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "kernel/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <termios.h>

#define DEV_BYTES  (UINT64_C(256) << 10) /* for the nodes, beside /dev/shm */
#define SIZE_MOST  (UINT64_C(1) << 60)   /* the kernel rounds up to pages, and would overflow */
#define DEV_INODES 65536                 /* each about 1 KiB, charged to the VE's memory */

static const struct {
    const char *name;
    unsigned char major, minor;
} nodes[] = {
    {"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
    {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
};

static const struct {
    const char *name, *target;
} links[] = {
    {"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
    {"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"},         {"core", "/proc/kcore"},
};

static const struct {
    const char *name;
    mode_t mode;
    bool host;    /* owned by the host's root: nothing in the VE can change it */
    bool nesting; /* only there; else .terem is empty (root.c) */
} dirs[] = {
    {"shm", 01777, false, false},       {"pts", 0755, false, false},
    {"mqueue", 01777, false, false},    {".terem", 0755, true, false},
    {".terem/empty", 0555, true, true}, {".terem/proc", 0555, true, true},
    {".terem/sys", 0555, true, true},
};

static int fill(int dev, uid_t base, bool nesting, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(nodes); i++)
        if (mknodat(dev, nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)) <
                0 ||
            fchownat(dev, nodes[i].name, base, base, AT_SYMLINK_NOFOLLOW) < 0)
            return err_sys(err, "cannot make device %s", nodes[i].name);
    for (size_t i = 0; i < ARRAY_SIZE(links); i++)
        if (symlinkat(links[i].target, dev, links[i].name) < 0 ||
            fchownat(dev, links[i].name, base, base, AT_SYMLINK_NOFOLLOW) < 0)
            return err_sys(err, "cannot make link %s", links[i].name);
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        uid_t owner = dirs[i].host ? 0 : base;
        if (dirs[i].nesting && !nesting)
            continue;
        if (mkdirat(dev, dirs[i].name, dirs[i].mode) < 0 ||
            fchownat(dev, dirs[i].name, owner, owner, AT_SYMLINK_NOFOLLOW) < 0)
            return err_sys(err, "cannot make directory %s", dirs[i].name);
    }
    /* What the console's pty is mounted on. */
    if (mknodat(dev, "console", S_IFREG | 0600, 0) < 0 ||
        fchownat(dev, "console", base, base, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(err, "cannot make console");
    return 0;
}

/* 0 is the kernel's word for "no bound". */
static const char *size_option(uint64_t shm_bytes, char buf[48])
{
    uint64_t bytes;
    if (__builtin_add_overflow(shm_bytes, DEV_BYTES, &bytes) || bytes > SIZE_MOST)
        bytes = 0;
    str_print(buf, 48, "size=%llu", (unsigned long long)bytes);
    return buf;
}

int device_tree(uid_t id_base, uint64_t shm_bytes, bool nesting, int *ret_fd, struct err *err)
{
    char size[48], inodes[32], uid[32], gid[32];
    size_option(shm_bytes, size);
    str_print(inodes, sizeof(inodes), "nr_inodes=%d", DEV_INODES);
    str_print(uid, sizeof(uid), "uid=%u", id_base);
    str_print(gid, sizeof(gid), "gid=%u", id_base);
    const char *options[] = {"mode=0755", size, inodes, uid, gid, NULL};

    auto_fd int fd = -1;
    int r = mount_new("tmpfs", options, MOUNT_ATTR_NOSUID, &fd, err);
    if (r == 0) {
        mode_t mask = umask(0);
        r = fill(fd, id_base, nesting, err);
        umask(mask);
    }
    if (r < 0)
        return err_wrap(err, "cannot make /dev");
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* Its root may have moved or covered /dev; only the host's root owns .terem in it. */
int device_resize(uint64_t shm_bytes, struct err *err)
{
    auto_fd int dev = open("/dev", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct statfs fs;
    struct stat st;
    char size[48];
    const char *options[] = {size_option(shm_bytes, size), NULL};
    if (dev < 0 || fstatfs(dev, &fs) < 0)
        return err_sys(err, "cannot open its /dev");
    if (fs.f_type != TMPFS_MAGIC || fstatat(dev, ".terem", &st, AT_SYMLINK_NOFOLLOW) < 0 ||
        st.st_uid != 0 || !S_ISDIR(st.st_mode))
        return err_set(err, ERR_STATE,
                       "its /dev is not what Terem mounted there; set it while the VE is stopped");
    struct err why = {0};
    int r = mount_reconfigure(dev, options, &why);
    if (r < 0 && why.sys == EINVAL)
        return err_set(err, ERR_STATE,
                       "files in its /dev/shm need more; remove some inside, or set it while the "
                       "VE is stopped");
    if (r < 0)
        *err = why;
    return r;
}

int device_pty(int devpts, bool raw, unsigned rows, unsigned columns, int *ret_master,
               int *ret_slave, struct err *err)
{
    auto_fd int master = openat(devpts, "ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (master < 0 && errno == ENOSPC) /* devpts_new_index(), of either bound */
        return err_set(err, ERR_EXHAUSTED,
                       "cannot open a terminal: there are as many as may be; raise the VE's ptys, "
                       "or the sysctl kernel.pty.max");
    if (master < 0 || fstat(master, &st) < 0)
        return err_sys(err, "cannot open a terminal");
    /* In a running VE the path is in the hands of its root. */
    if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2))
        return err_set(err, ERR_STATE, "its /dev/pts/ptmx is not a terminal multiplexer");
    int unlock = 0;
    if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
        return err_sys(err, "cannot unlock a terminal");
    auto_fd int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0)
        return err_sys(err, "cannot open a terminal");
    /* The master's reader may block or poll as it likes: hand it out as open(2) would. */
    int flags = fcntl(master, F_GETFL);
    if (flags < 0 || fcntl(master, F_SETFL, flags & ~O_NONBLOCK) < 0)
        return err_sys(err, "cannot set up a terminal");
    struct winsize size = {
        .ws_row = (unsigned short)(rows ? rows : 24),
        .ws_col = (unsigned short)(columns ? columns : 80),
    };
    if (ioctl(slave, TIOCSWINSZ, &size) < 0)
        return err_sys(err, "cannot set the size of a terminal");
    if (raw) { /* logs: bytes come out as they were written, without added carriage returns */
        struct termios t;
        if (tcgetattr(slave, &t) < 0)
            return err_sys(err, "cannot set up a terminal");
        cfmakeraw(&t);
        if (tcsetattr(slave, TCSANOW, &t) < 0)
            return err_sys(err, "cannot set up a terminal");
    }
    *ret_master = steal_fd(&master);
    *ret_slave = steal_fd(&slave);
    return 0;
}
