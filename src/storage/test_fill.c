/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "storage/test_tree.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define TRY(x)                                                                             \
    do {                                                                                   \
        if ((x) < 0) {                                                                     \
            fprintf(stderr, "# %s:%d: %s: %s\n", __FILE__, __LINE__, #x, strerror(errno)); \
            return false;                                                                  \
        }                                                                                  \
    } while (0)

#define DEEP 700 /* directories below each other: a path of more than PATH_MAX bytes */

bool tree_write(int tree, const char *name, const char *text)
{
    auto_fd int up = openat(tree, "upper", O_PATH | O_CLOEXEC);
    auto_fd int fd = openat(up, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    TRY(fd);
    return write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

bool tree_holds(int tree, const char *name, const char *text)
{
    char buf[256];
    auto_fd int up = openat(tree, "upper", O_PATH | O_CLOEXEC);
    auto_fd int fd = openat(up, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return !text && errno == ENOENT;
    ssize_t n = read(fd, buf, sizeof(buf));
    return text && n == (ssize_t)strlen(text) && memcmp(buf, text, (size_t)n) == 0;
}

/* user::rwx, user:1000:r--, group::r-x, mask::r-x, other::--- as Linux stores it. */
static const unsigned char acl[] = {
    2, 0,    0,    0,    0x01, 0,    7,    0, 0xff, 0xff, 0xff, 0xff, 0x02, 0,    4,
    0, 0xe8, 3,    0,    0,    0x04, 0,    5, 0,    0xff, 0xff, 0xff, 0xff, 0x10, 0,
    5, 0,    0xff, 0xff, 0xff, 0xff, 0x20, 0, 0,    0,    0xff, 0xff, 0xff, 0xff};

static bool fill_files(int up)
{
    auto_fd int plain = openat(up, "plain", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    TRY(plain);
    for (int i = 0; i < 3000; i++)
        TRY(write(plain, &i, sizeof(i)));
    TRY(fsetxattr(plain, "user.note", "a\0b", 3, 0));
    TRY(fsetxattr(plain, "system.posix_acl_access", acl, sizeof(acl), 0));
    TRY(linkat(up, "plain", up, "second name", 0));
    TRY(mkdirat(up, "dir", 0755));
    TRY(linkat(up, "plain", up, "dir/third", 0));

    /* Holes before, between and after the data. */
    auto_fd int sparse = openat(up, "sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    TRY(sparse);
    TRY(pwrite(sparse, "x", 1, 5 << 20));
    TRY(pwrite(sparse, "y", 1, 40 << 20));
    TRY(ftruncate(sparse, 100 << 20));
    TRY(mknodat(up, "empty", S_IFREG | 0640, 0));

    /* File capabilities: the owner must be set before them, and set-id bits after the owner. */
    struct vfs_cap_data cap = {.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE,
                               .data = {{.permitted = 1 << CAP_NET_RAW}}};
    auto_fd int ping = openat(up, "ping", O_RDWR | O_CREAT | O_CLOEXEC, 0755);
    TRY(ping);
    TRY(fchown(ping, 12, 34));
    TRY(fsetxattr(ping, "security.capability", &cap, XATTR_CAPS_SZ_2, 0));
    TRY(mknodat(up, "su", S_IFREG, 0));
    TRY(fchownat(up, "su", 65535, 65535, 0));
    TRY(fchmodat(up, "su", 06755, 0));
    return true;
}

static bool fill_others(int up)
{
    TRY(symlinkat("/nowhere/\xff\n", up, "link"));
    TRY(fchownat(up, "link", 5, 6, AT_SYMLINK_NOFOLLOW));
    TRY(mknodat(up, "whiteout", S_IFCHR, makedev(0, 0)));
    TRY(linkat(up, "whiteout", up, "another whiteout", 0));
    TRY(mknodat(up, "pipe", S_IFIFO | 0620, 0));
    TRY(mknodat(up, "socket", S_IFSOCK | 0666, 0));
    /* What is made in it must not inherit its group and its ACL a second time. */
    TRY(mkdirat(up, "drop", 0755));
    TRY(fchownat(up, "drop", 0, 77, 0));
    TRY(fchmodat(up, "drop", 03777, 0));
    auto_fd int drop = openat(up, "drop", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    TRY(drop);
    TRY(mknodat(drop, "mine", S_IFREG | 0600, 0));
    TRY(fchownat(drop, "mine", 0, 0, 0));
    TRY(fsetxattr(drop, "system.posix_acl_default", acl, sizeof(acl), 0));
    TRY(fsetxattr(drop, "user.overlay.opaque", "y", 1, 0));
    return true;
}

static bool fill_deep(int up)
{
    auto_fd int here = openat(up, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < DEEP; i++) {
        TRY(mkdirat(here, "a directory", 0700));
        int next = openat(here, "a directory", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        TRY(next);
        cleanup_fd(&here);
        here = next;
    }
    TRY(mknodat(here, "bottom", S_IFREG | 0400, 0));
    return true;
}

bool tree_fill(int tree)
{
    const struct timespec old[2] = {{.tv_sec = 1000000000, .tv_nsec = 1},
                                    {.tv_sec = 1234567890, .tv_nsec = 123456789}};
    auto_fd int up = openat(tree, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    TRY(up);
    if (!fill_files(up) || !fill_others(up) || !fill_deep(up))
        return false;
    TRY(utimensat(up, "plain", old, 0));
    TRY(utimensat(up, "link", old, AT_SYMLINK_NOFOLLOW));
    TRY(utimensat(up, "dir", old, 0));
    TRY(fchmod(up, 01751));
    TRY(futimens(up, old));
    return true;
}

/* ---- comparing ---- */

static bool differs(const char *name, const char *what)
{
    fprintf(stderr, "# %s differs in %s\n", name, what);
    return false;
}

static bool same_xattrs(int a, int b, const char *name)
{
    char path[2][PATH_MAX], list[4096], value[2][4096];
    ssize_t total = 0;
    str_print(path[0], PATH_MAX, "/proc/self/fd/%d/%s", a, name);
    str_print(path[1], PATH_MAX, "/proc/self/fd/%d/%s", b, name);
    ssize_t len = llistxattr(path[0], list, sizeof(list));
    for (char *x = list; len > 0 && x < list + len; x += strlen(x) + 1) {
        ssize_t n = lgetxattr(path[0], x, value[0], sizeof(value[0]));
        if (lgetxattr(path[1], x, value[1], sizeof(value[1])) != n ||
            (n > 0 && memcmp(value[0], value[1], (size_t)n) != 0))
            return differs(name, x);
        total += (ssize_t)strlen(x) + 1;
    }
    return llistxattr(path[1], NULL, 0) == total || differs(name, "the list of attributes");
}

static bool same_data(int a, int b, const char *name, const struct stat *st)
{
    char buf[2][8192], target[2][256];
    if (S_ISLNK(st->st_mode)) {
        ssize_t n = readlinkat(a, name, target[0], sizeof(target[0]));
        return (readlinkat(b, name, target[1], sizeof(target[1])) == n &&
                memcmp(target[0], target[1], (size_t)n) == 0) ||
               differs(name, "its target");
    }
    if (!S_ISREG(st->st_mode))
        return true;
    auto_fd int x = openat(a, name, O_RDONLY | O_CLOEXEC),
                y = openat(b, name, O_RDONLY | O_CLOEXEC);
    for (;;) {
        ssize_t n = read(x, buf[0], sizeof(buf[0]));
        if (read(y, buf[1], sizeof(buf[1])) != n || n < 0 || memcmp(buf[0], buf[1], (size_t)n) != 0)
            return differs(name, "its data");
        if (n == 0)
            return true;
    }
}

/* Not into same_dir(), which calls itself for every directory below: the stack has an end. */
__attribute__((noinline)) static bool same_entry(int a, int b, const char *name,
                                                 const struct stat *s, const struct stat *t)
{
    if (s->st_mode != t->st_mode)
        return differs(name, "its mode");
    if (s->st_uid != t->st_uid || s->st_gid != t->st_gid)
        return differs(name, "its owner");
    if (s->st_rdev != t->st_rdev)
        return differs(name, "its device");
    if (!S_ISDIR(s->st_mode) && (s->st_size != t->st_size || s->st_nlink != t->st_nlink))
        return differs(name, "its size or its links");
    if (s->st_mtim.tv_sec != t->st_mtim.tv_sec || s->st_mtim.tv_nsec != t->st_mtim.tv_nsec)
        return differs(name, "its time");
    /* Some blocks more or less are the file system's own business; a filled hole is not. */
    if (S_ISREG(s->st_mode) && t->st_blocks > s->st_blocks + 256)
        return differs(name, "its holes");
    return same_xattrs(a, b, name) && same_data(a, b, name, s);
}

static bool same_dir(int a, int b)
{
    auto_dir DIR *d = fd_list(a);
    size_t n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        struct stat s, t;
        if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
            continue;
        n++;
        if (fstatat(a, e->d_name, &s, AT_SYMLINK_NOFOLLOW) < 0 ||
            fstatat(b, e->d_name, &t, AT_SYMLINK_NOFOLLOW) < 0)
            return differs(e->d_name, "its being there");
        if (!same_entry(a, b, e->d_name, &s, &t))
            return false;
        if (!S_ISDIR(s.st_mode))
            continue;
        auto_fd int x = openat(a, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        auto_fd int y = openat(b, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (!same_dir(x, y))
            return false;
    }
    auto_dir DIR *o = fd_list(b);
    size_t m = 0;
    for (struct dirent *e; (e = readdir(o));)
        m += !str_eq(e->d_name, ".") && !str_eq(e->d_name, "..");
    return n == m || differs("a directory", "what is in it");
}

bool tree_same(int a, int b)
{
    struct stat s, t;
    auto_fd int x = openat(a, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_fd int y = openat(b, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    TRY(x);
    TRY(y);
    TRY(fstat(x, &s));
    TRY(fstat(y, &t));
    return same_entry(x, y, ".", &s, &t) && same_dir(x, y);
}

bool tree_run(const char *const *argv)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    return waitpid(pid, &status, 0) == pid && status == 0;
}

bool tree_testable(const char *driver)
{
    char program[64];
    str_print(program, sizeof(program), "/sbin/mkfs.%s", driver);
    /* tree_same() has three open for each of DEEP directories. */
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (str_eq(driver, "dir"))
        return true;
    if (access(program, X_OK) == 0 && access("/dev/loop-control", R_OK | W_OK) == 0 &&
        unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
        return true;
    printf("1..0 # SKIP needs root, loop devices and %s\n", program);
    return false;
}
