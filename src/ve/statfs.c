/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ve/statfs.h"

#include "base/cleanup.h"
#include "base/number.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define REPAIR      "repair" /* below the root of a rescue system */
#define STATUS_SIZE 1024     /* of /proc/TID/status: ids stand in its first lines */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void statfs_fit(struct statfs *s, const struct statfs_disk *disk)
{
    uint64_t unit = s->f_frsize > 0 ? (uint64_t)s->f_frsize : (uint64_t)s->f_bsize;
    if (disk->has_space && unit) {
        uint64_t size = disk->space / unit, used = (disk->space_used + unit - 1) / unit;
        uint64_t left = used < size ? size - used : 0;
        s->f_blocks = size;
        s->f_bfree = left; /* df: used is what is not free */
        s->f_bavail = least(left, s->f_bavail);
    }
    if (disk->has_inodes) {
        s->f_files = disk->inodes;
        s->f_ffree = disk->inodes_used < disk->inodes ? disk->inodes - disk->inodes_used : 0;
    }
}

int statfs_open(pid_t tid, struct statfs_caller *ret)
{
    char path[32];
    str_print(path, sizeof(path), "/proc/%d", (int)tid);
    ret->proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    ret->mem = ret->proc < 0 ? -1 : openat(ret->proc, "mem", O_RDWR | O_CLOEXEC);
    if (ret->mem >= 0)
        return 0;
    statfs_close(ret);
    return -1;
}

void statfs_close(struct statfs_caller *c)
{
    cleanup_fd(&c->mem);
    cleanup_fd(&c->proc);
}

/* Up to the end of its page first, since the next may not be there. */
static int read_path(int mem, uint64_t at, char path[PATH_MAX])
{
    size_t n = 0;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    while (n < PATH_MAX) {
        size_t want = (size_t)least(page - (at + n) % page, PATH_MAX - n);
        ssize_t got = pread(mem, path + n, want, (off_t)(at + n));
        if (got <= 0)
            return -1;
        if (memchr(path + n, '\0', (size_t)got))
            return *path ? 0 : -1;
        n += (size_t)got;
    }
    return -1;
}

/* "Uid:\treal\teffective\tsaved\tfile system\n" */
static bool fourth(char *text, const char *key, unsigned *ret)
{
    char *at = strstr(text, key);
    uint64_t n;
    for (int i = 0; at && i < 4; i++) {
        at = strchr(at, '\t');
        at = at ? at + 1 : NULL;
    }
    char *end = at ? strchr(at, '\n') : NULL;
    if (!end)
        return false;
    *end = '\0';
    bool ok = number_parse(at, 0, UINT_MAX - 1, &n, NULL) == 0;
    *end = '\n';
    *ret = (unsigned)n;
    return ok;
}

/* By which the kernel would let the caller into directories. */
static int file_ids(int proc, uid_t *ret_uid, gid_t *ret_gid)
{
    char text[STATUS_SIZE + 1];
    auto_fd int fd = openat(proc, "status", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, STATUS_SIZE);
    if (n <= 0)
        return -1;
    text[n] = '\0';
    return fourth(text, "\nUid:", ret_uid) && fourth(text, "\nGid:", ret_gid) ? 0 : -1;
}

/* Is it on the VE's root?  Asked without the file system, which may be in user space and not
 * answer. */
static bool is_root(int fd, dev_t root)
{
    struct statx x;
    return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &x) == 0 &&
           makedev(x.stx_dev_major, x.stx_dev_minor) == root;
}

/* The caller's root or working directory, if it is there. */
static int open_start(int proc, const char *name, dev_t root)
{
    auto_fd int fd = openat(proc, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && is_root(fd, root) ? steal_fd(&fd) : -1;
}

/* As the caller, so that nobody learns what is in directories that are closed to them; its groups
 * beside the first are left out, and what only they open goes to the kernel. */
static int look_up(const struct statfs_caller *c, int start, const char *path, uid_t superuser)
{
    struct open_how how = {
        .flags = O_PATH | O_CLOEXEC,
        .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS |
                   (*path == '/' ? RESOLVE_IN_ROOT : RESOLVE_BENEATH),
    };
    uid_t uid;
    gid_t gid;
    if (start < 0 || file_ids(c->proc, &uid, &gid) < 0)
        return -1;
    if (uid != superuser) {
        setfsgid(gid);
        setfsuid(uid);
    }
    int fd = (int)syscall(SYS_openat2, start, path, &how, sizeof(how)), sys = errno;
    if (uid != superuser) {
        setfsuid(geteuid());
        setfsgid(getegid());
    }
    errno = sys;
    return fd;
}

/* A path with ".." beyond the directory where the caller stands, from its root on.  What a link of
 * /proc says of another mount namespace is the path in that; in a root of its own the caller has
 * another one.  A directory that is renamed or removed meanwhile is one that is not found. */
static bool from_root(int proc, const char *path, char *ret, size_t size)
{
    char top[4];
    if (readlinkat(proc, "root", top, sizeof(top)) != 1 || *top != '/')
        return false;
    ssize_t n = readlinkat(proc, "cwd", ret, size);
    return n > 0 && (size_t)n < size && *ret == '/' &&
           str_print(ret + n, size - (size_t)n, "/%s", path) == 0;
}

/* Below /repair, where that is the VE's own root: what is behind it in the path. */
static const char *in_repair(const char *path)
{
    path += strspn(path, "/");
    if (!str_starts(path, REPAIR) || (path[strlen(REPAIR)] && path[strlen(REPAIR)] != '/'))
        return NULL;
    path += strlen(REPAIR);
    path += strspn(path, "/");
    return *path ? path : ".";
}

static int open_repair(int proc, dev_t root)
{
    const struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                                 .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS};
    auto_fd int top = openat(proc, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    auto_fd int fd = top < 0 ? -1 : (int)syscall(SYS_openat2, top, REPAIR, &how, sizeof(how));
    return fd >= 0 && is_root(fd, root) ? steal_fd(&fd) : -1;
}

static int open_path(const struct statfs_caller *c, const char *path, dev_t root, uid_t superuser)
{
    char full[PATH_MAX];
    auto_fd int start = open_start(c->proc, *path == '/' ? "root" : "cwd", root);
    const char *rest = start < 0 && *path == '/' ? in_repair(path) : NULL;
    if (rest) {
        start = open_repair(c->proc, root);
        return look_up(c, start, rest, superuser);
    }
    int fd = look_up(c, start, path, superuser);
    if (fd >= 0 || start < 0 || errno != EXDEV || *path == '/' ||
        !from_root(c->proc, path, full, sizeof(full)))
        return fd;
    auto_fd int top = open_start(c->proc, "root", root);
    return look_up(c, top, full, superuser);
}

int statfs_look(const struct statfs_caller *c, uint64_t path, dev_t root, uid_t superuser,
                const struct statfs_disk *disk, struct statfs *ret)
{
    char text[PATH_MAX];
    struct statfs s;
    if (read_path(c->mem, path, text) < 0)
        return -1;
    auto_fd int fd = open_path(c, text, root, superuser);
    if (fd < 0 || fstatfs(fd, &s) < 0)
        return -1;
    statfs_fit(&s, disk);
    *ret = s;
    return 0;
}
