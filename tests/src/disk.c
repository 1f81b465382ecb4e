/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Uses a VE's disk in all the ways that a VE may: run inside by tests/test_disk.py and
 * tests/vm/disk.py.
 *
 *     disk stat PATH…          what statfs(2) says of each, one a line: blocks of 1024 bytes,
 *                              in all, free and to be had; inodes in all and free; or the errno
 *     disk fstat PATH          the same by fstatfs(2), which is the kernel's own
 *     disk as UID stat PATH…   the same as another user
 *     disk in DIR stat PATH…   the same after chroot(2), in a thread whose root is its own
 *     disk bad                 pointers that nobody may read or write, one errno a line
 *     disk die N               N callers that are killed while they ask
 *     disk flood N             N calls of statfs(2): nanoseconds each
 *     disk fill FILE SIZE      writes until it is refused: bytes written, calls refused
 *     disk again FILE N        tries N times to write where nothing fits: calls refused
 *     disk tiny DIR N          N files of one byte: made, refused
 *     disk dirs DIR N          N directories: made, refused
 *     disk reserve FILE SIZE   fallocate(2): errno
 *     disk sparse FILE SIZE    a hole, and then every 64th page of it: bytes written, errno
 *     disk map FILE SIZE       writes to mapped pages: bytes written, "SIGBUS" or "all"
 *     disk gone FILE SIZE      writes to a file that has no name any more: bytes, calls refused
 *     disk links FILE N        N names of one file: made
 *     disk move FILE DIR SIZE  writes, renames into DIR, writes again, until refused: bytes
 *     disk project FILE N      gives the file another project (FS_IOC_FSSETXATTR): errno
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHUNK 65536

/* linux/fs.h, which musl's compiler does not find. */
struct fsxattr {
    uint32_t fsx_xflags, fsx_extsize, fsx_nextents, fsx_projid, fsx_cowextsize;
    unsigned char fsx_pad[8];
};
#define FS_XFLAG_PROJINHERIT 0x200u
#define FS_IOC_FSGETXATTR    _IOR('X', 31, struct fsxattr)
#define FS_IOC_FSSETXATTR    _IOW('X', 32, struct fsxattr)

static char data[CHUNK];

static const char *name_of(int sys)
{
    static const struct {
        int sys;
        const char *name;
    } names[] = {{EDQUOT, "EDQUOT"},
                 {ENOSPC, "ENOSPC"},
                 {EFAULT, "EFAULT"},
                 {ENOENT, "ENOENT"},
                 {EACCES, "EACCES"},
                 {EPERM, "EPERM"},
                 {EINVAL, "EINVAL"},
                 {ENOTTY, "ENOTTY"},
                 {EOPNOTSUPP, "EOPNOTSUPP"},
                 {EXDEV, "EXDEV"},
                 {ENAMETOOLONG, "ENAMETOOLONG"}};
    static char number[16];
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (names[i].sys == sys)
            return names[i].name;
    snprintf(number, sizeof(number), "%d", sys);
    return number;
}

static void tell(int r, const struct statfs *s)
{
    unsigned long long unit = s->f_frsize ? s->f_frsize : s->f_bsize;
    if (r < 0)
        printf("%s\n", name_of(errno));
    else
        printf("%llu %llu %llu %llu %llu\n", s->f_blocks * unit / 1024, s->f_bfree * unit / 1024,
               s->f_bavail * unit / 1024, (unsigned long long)s->f_files,
               (unsigned long long)s->f_ffree);
}

static int stat_all(char **paths)
{
    for (; *paths; paths++) {
        struct statfs s = {0};
        tell((int)syscall(SYS_statfs, *paths, &s), &s);
    }
    return 0;
}

struct rooted {
    const char *dir;
    char **paths;
    int result;
};

static void *in_thread(void *ctx)
{
    struct rooted *r = ctx;
    if (unshare(CLONE_FS) < 0 || chroot(r->dir) < 0 || chdir("/") < 0)
        r->result = 1;
    else
        r->result = stat_all(r->paths);
    return NULL;
}

static int stat_in(const char *dir, char **paths)
{
    struct rooted r = {.dir = dir, .paths = paths};
    pthread_t thread;
    if (pthread_create(&thread, NULL, in_thread, &r) != 0)
        return 1;
    pthread_join(thread, NULL);
    return r.result;
}

static int bad(void)
{
    struct statfs s;
    char *closed = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (closed == MAP_FAILED || mprotect(closed + 4096, 4096, PROT_NONE) < 0)
        return 1;
    memcpy(closed + 4094, "/", 2); /* ends with its page */
    memset(closed, '/', 100);
    const struct {
        const void *path;
        void *to;
    } calls[] = {{NULL, &s}, {(void *)8, &s},  {"/", NULL},        {"/", (void *)8},
                 {"", &s},   {"/nowhere", &s}, {closed + 4094, &s}};
    for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
        printf("%s\n", syscall(SYS_statfs, calls[i].path, calls[i].to) < 0 ? name_of(errno) : "0");
    return 0;
}

static int die(int n)
{
    for (int i = 0; i < n; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct statfs s;
            for (;;)
                syscall(SYS_statfs, "/", &s);
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000L * (i % 7)}, NULL);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    return 0;
}

static int flood(int n)
{
    struct timespec a, b;
    struct statfs s;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < n; i++)
        if (syscall(SYS_statfs, "/", &s) < 0)
            return 1;
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%lld\n", ((b.tv_sec - a.tv_sec) * 1000000000LL + b.tv_nsec - a.tv_nsec) / n);
    return 0;
}

/* Until it is refused, and then in smaller steps, as one that wants the last byte; every refusal
 * is a call. */
static long long pour(int fd, long long size, long long *refused)
{
    long long done = 0;
    size_t step = CHUNK;
    while (done < size && step) {
        size_t want = (long long)step < size - done ? step : (size_t)(size - done);
        ssize_t n = write(fd, data, want);
        if (n > 0) {
            done += n;
            continue;
        }
        *refused += errno == EDQUOT || errno == ENOSPC;
        step /= 16;
    }
    return done;
}

static int fill(const char *path, long long size, int nameless)
{
    long long refused = 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (fd < 0) {
        printf("0 %d\n", errno == EDQUOT || errno == ENOSPC);
        return 0;
    }
    if (nameless)
        unlink(path);
    long long done = pour(fd, size, &refused);
    if (fsync(fd) < 0)
        return 1;
    printf("%lld %lld\n", done, refused);
    return 0;
}

static int again(const char *path, int n)
{
    int refused = 0, fd = open(path, O_WRONLY | O_APPEND);
    for (int i = 0; i < n; i++)
        refused += write(fd, data, CHUNK) < 0 && (errno == EDQUOT || errno == ENOSPC);
    printf("%d\n", refused);
    return 0;
}

static int many(const char *dir, int n, int dirs)
{
    int made = 0, refused = 0;
    char path[4096];
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof(path), "%s/%d", dir, i);
        int fd = dirs ? mkdir(path, 0755) : open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
        made += fd >= 0;
        refused += fd < 0 && (errno == EDQUOT || errno == ENOSPC);
        if (fd > 0) {
            refused += write(fd, "x", 1) < 0 && (errno == EDQUOT || errno == ENOSPC);
            close(fd);
        }
    }
    printf("%d %d\n", made, refused);
    return 0;
}

static int sparse(const char *path, long long size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644), sys = 0;
    long long done = 0;
    if (fd < 0 || ftruncate(fd, size) < 0)
        return 1;
    for (long long at = 0; at < size && !sys; at += 64 * 4096) {
        ssize_t n = pwrite(fd, data, 4096, at);
        done += n > 0 ? n : 0;
        sys = n < 0 ? errno : 0;
    }
    if (fsync(fd) < 0 && !sys)
        sys = errno;
    printf("%lld %s\n", done, sys ? name_of(sys) : "0");
    return 0;
}

static sigjmp_buf out;

static void on_bus(int sig)
{
    siglongjmp(out, sig);
}

static int map(const char *path, long long size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || ftruncate(fd, size) < 0)
        return 1;
    char *at = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return 1;
    volatile long long done = 0;
    signal(SIGBUS, on_bus);
    if (sigsetjmp(out, 1) == 0)
        for (; done < size; done += 4096)
            at[done] = 'x';
    printf("%lld %s\n", done, done < size ? "SIGBUS" : "all");
    msync(at, (size_t)size, MS_SYNC);
    return 0;
}

static int links(const char *path, int n)
{
    int made = 0;
    char to[4096];
    for (int i = 0; i < n; i++) {
        snprintf(to, sizeof(to), "%s.%d", path, i);
        made += link(path, to) == 0;
    }
    printf("%d\n", made);
    return 0;
}

static int move(const char *path, const char *dir, long long size)
{
    char to[4096];
    long long all = 0, refused = 0;
    for (int i = 0; i < 100 && !refused; i++) {
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (fd < 0)
            break;
        all += pour(fd, size, &refused);
        close(fd);
        snprintf(to, sizeof(to), "%s/%d", dir, i);
        if (rename(path, to) < 0)
            break;
    }
    printf("%lld\n", all);
    return 0;
}

static int project(const char *path, unsigned id)
{
    struct fsxattr x;
    int fd = open(path, O_RDONLY);
    int r = fd < 0 ? -1 : ioctl(fd, FS_IOC_FSGETXATTR, &x);
    if (r == 0) {
        x.fsx_projid = id;
        x.fsx_xflags &= ~(unsigned)FS_XFLAG_PROJINHERIT;
        r = ioctl(fd, FS_IOC_FSSETXATTR, &x);
    }
    printf("%s\n", r < 0 ? name_of(errno) : "0");
    return 0;
}

static int run(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    long long n = argc > 3 ? atoll(argv[3]) : argc > 2 ? atoll(argv[2]) : 0;
    if (!strcmp(what, "stat"))
        return stat_all(argv + 2);
    if (!strcmp(what, "bad"))
        return bad();
    if (argc > 2 && !strcmp(what, "die"))
        return die((int)n);
    if (argc > 2 && !strcmp(what, "flood"))
        return flood((int)n);
    if (argc > 2 && !strcmp(what, "fstat")) {
        struct statfs s = {0};
        int fd = open(argv[2], O_RDONLY);
        tell((int)syscall(SYS_fstatfs, fd, &s), &s);
        return 0;
    }
    if (argc < 4)
        return 2;
    if (!strcmp(what, "as"))
        return setgid((gid_t)atoi(argv[2])) || setuid((uid_t)atoi(argv[2]))
                   ? 1
                   : run(argc - 2, argv + 2);
    if (!strcmp(what, "in"))
        return stat_in(argv[2], argv + 4);
    if (!strcmp(what, "fill") || !strcmp(what, "gone"))
        return fill(argv[2], n, *what == 'g');
    if (!strcmp(what, "again"))
        return again(argv[2], (int)n);
    if (!strcmp(what, "tiny") || !strcmp(what, "dirs"))
        return many(argv[2], (int)n, *what == 'd');
    if (!strcmp(what, "reserve")) {
        int fd = open(argv[2], O_WRONLY | O_CREAT, 0644);
        printf("%s\n", fallocate(fd, 0, 0, n) < 0 ? name_of(errno) : "0");
        return 0;
    }
    if (!strcmp(what, "sparse"))
        return sparse(argv[2], n);
    if (!strcmp(what, "map"))
        return map(argv[2], n);
    if (!strcmp(what, "links"))
        return links(argv[2], (int)n);
    if (!strcmp(what, "project"))
        return project(argv[2], (unsigned)n);
    if (argc > 4 && !strcmp(what, "move"))
        return move(argv[2], argv[3], atoll(argv[4]));
    return 2;
}

int main(int argc, char **argv)
{
    memset(data, 'x', sizeof(data));
    return run(argc, argv);
}
