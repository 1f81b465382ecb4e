/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What bounds a tree, and what the root of a user namespace can do about it: as in a VE, which has
 * every capability in its own namespace and none in the host's.  For btrfs, xfs and ext4 ("dir"
 * with project quotas) alike; what this kernel lacks is skipped, and tests/vm has it.
 */
#include "storage/storage.h"
#include "storage/test_tree.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "kernel/btrfs.h"
#include "kernel/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <cmocka.h>

#define MIB    (UINT64_C(1) << 20)
#define SPACE  (4 * MIB)
#define INODES 300
#define OVER   (256u << 10) /* xfs does not refuse the blocks that list extents */
#define OK(x)  assert_string_equal((x) == 0 ? "" : f->err.text, "")

struct fixture {
    char dir[64], path[80], image[80];
    struct storage_spec spec;
    struct storage_pool *pool;
    int tree, other; /* 1, which is bounded, and 2, which is not */
    struct err err;
};

static const char *driver = "btrfs";

/* A directory on ext4 with project quotas; 0: this kernel has none. */
static int mount_ext4(struct fixture *f)
{
    const char *mkfs[] = {"/sbin/mkfs.ext4", "-q",     "-F", "-b", "4096", "-O",
                          "quota,project",   f->image, NULL};
    char device[LOOP_PATH];
    auto_fd int held = -1, image = open(f->image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (image < 0 || fallocate(image, 0, 0, 256 * MIB) < 0 || !tree_run(mkfs) ||
        loop_attach(image, device, &held, &f->err) < 0 || mkdir(f->path, 0700) < 0)
        return -1;
    if (mount(device, f->path, "ext4", MS_NOATIME, "prjquota") == 0)
        return 1;
    return errno == EINVAL ? 0 : err_sys(&f->err, "cannot mount %s", f->image);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    str_print(f->dir, sizeof(f->dir), "/tmp/terem-bound-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    *state = f;
    f->tree = f->other = -1;
    str_print(f->path, sizeof(f->path), "%s/pool", f->dir);
    str_print(f->image, sizeof(f->image), "%s/image", f->dir);
    f->spec = (struct storage_spec){driver, f->path, f->image, 360 * MIB};
    if (str_eq(driver, "ext4")) {
        f->spec = (struct storage_spec){"dir", f->path, NULL, 0};
        int r = mount_ext4(f);
        if (r < 0)
            fprintf(stderr, "# %s\n", f->err.text);
        if (r <= 0)
            return r; /* 0: bounded() tells */
    }
    const struct storage_limits l = {SPACE, STORAGE_UNLIMITED};
    if (storage_make(&f->spec, &f->err) < 0 || storage_pool_open(&f->spec, &f->pool, &f->err) < 0 ||
        storage_create(f->pool, 1, &f->err) < 0 || storage_create(f->pool, 2, &f->err) < 0 ||
        storage_open(f->pool, 1, &f->tree, &f->err) < 0 ||
        storage_open(f->pool, 2, &f->other, &f->err) < 0 ||
        (storage_can(f->pool)->space && storage_limit(f->pool, 1, &l, &f->err) < 0)) {
        fprintf(stderr, "# %s\n", f->err.text);
        return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    cleanup_fd(&f->tree);
    cleanup_fd(&f->other);
    storage_pool_close(f->pool);
    if (storage_unmount(&f->spec, &f->err) < 0 || str_eq(driver, "ext4"))
        umount2(f->path, MNT_DETACH);
    int r = path_remove_tree_at(AT_FDCWD, f->dir, NULL);
    free(f);
    return r;
}

/* Each driver bounds space where the kernel lets it; what only some have (inodes, df) is no skip.
 */
static bool bounded(struct fixture *f)
{
    if (f->pool && storage_can(f->pool)->space)
        return true;
    print_message("# skipped: %s bounds nothing on this kernel; tests/vm has it\n", driver);
    return false;
}

static struct storage_usage usage(struct fixture *f)
{
    struct storage_usage u = {0};
    syncfs(f->tree);
    btrfs_commit(f->tree, true, NULL);
    OK(storage_usage(f->pool, 1, &u, &f->err));
    return u;
}

/* ---- as the root of a user namespace ---- */

static bool become_ve(void)
{
    auto_fd int map = -1;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return false;
    map = open("/proc/self/setgroups", O_WRONLY | O_CLOEXEC);
    if (map < 0 || write(map, "deny", 4) != 4)
        return false;
    cleanup_fd(&map);
    map = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
    return map >= 0 && write(map, "0 0 1", 5) == 5;
}

/* Runs it as a VE's root in upper/ of the bounded tree; its exit status, 0: as it should be. */
static int as_ve(struct fixture *f, int (*attack)(int dir, int other))
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGBUS, SIG_DFL); /* cmocka has a handler */
        int dir = openat(f->tree, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int other = openat(f->other, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _exit(become_ve() ? attack(dir, other) : 100);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 200 + WTERMSIG(status);
}

static char page[65536];

static bool refused(void)
{
    return errno == EDQUOT || errno == ENOSPC;
}

/* Writes at every `stride` bytes until it is refused; how many bytes, -1: for another reason. */
static int64_t write_all(int fd, off_t stride)
{
    int64_t n = 0;
    for (off_t at = 0; n < 200 * (int64_t)MIB; at += stride) {
        ssize_t w = pwrite(fd, page, sizeof(page), at);
        if (w < 0)
            return refused() ? n : -1;
        n += w;
    }
    return n;
}

static int make_file(int dir, const char *name)
{
    return openat(dir, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

static int attack_sparse(int dir, int other)
{
    int fd = make_file(dir, "sparse");
    if (ftruncate(fd, INT64_C(1) << 40) < 0)
        return 1;
    int64_t n = write_all(fd, 1 << 30);
    fsync(fd);
    return n >= 0 && n <= (int64_t)SPACE ? 0 : 2;
}

static int attack_fallocate(int dir, int other)
{
    int fd = make_file(dir, "allocated");
    if (fallocate(fd, 0, 0, 4 * SPACE) == 0)
        return 1;
    if (!refused())
        return 2;
    for (off_t at = 0; at < (off_t)(4 * SPACE); at += (off_t)MIB)
        if (fallocate(fd, FALLOC_FL_KEEP_SIZE, at, MIB) < 0)
            return refused() && at <= (off_t)SPACE ? 0 : 3;
    return 4;
}

/* Dirtying pages of a hole: each needs its block when it is first written to (SIGBUS). */
static int attack_mmap(int dir, int other)
{
    int fd = make_file(dir, "mapped");
    if (ftruncate(fd, 4 * SPACE) < 0)
        return 1;
    char *map = mmap(NULL, 4 * SPACE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return 2;
    for (size_t at = 0; at < 4 * SPACE; at += 4096)
        map[at] = 'x';
    return 3; /* not killed */
}

static int attack_deleted(int dir, int other)
{
    int64_t n = 0;
    for (int i = 0; i < 100; i++) {
        char name[32];
        str_print(name, sizeof(name), "gone%d", i);
        int fd = make_file(dir, name); /* stays open */
        if (fd < 0)
            break;
        unlinkat(dir, name, 0);
        int64_t w = 0, each;
        while (w < (int64_t)MIB && (each = write(fd, page, sizeof(page))) > 0)
            w += each;
        n += w;
        fsync(fd);
    }
    return n <= (int64_t)SPACE ? 0 : 1;
}

/* What is in the tree cannot be made to belong to another one. */
static int attack_links(int dir, int other)
{
    int fd = make_file(dir, "mine");
    if (write(fd, page, sizeof(page)) < 0)
        return 1;
    if (linkat(dir, "mine", other, "linked", 0) == 0 || errno != EXDEV)
        return 2;
    if (renameat(dir, "mine", other, "renamed") == 0 || errno != EXDEV)
        return 3;
    if (mkdirat(dir, "folder", 0700) < 0 || renameat(dir, "folder", other, "folder") == 0)
        return 4;
    return renameat2(dir, "folder", other, ".", RENAME_EXCHANGE) < 0 ? 0 : 5;
}

static int attack_project(int dir, int other)
{
    struct fsxattr x = {0}, now = {0};
    int flags = 0;
    if (ioctl(dir, FS_IOC_FSGETXATTR, &x) < 0)
        return 0; /* btrfs has no projects */
    uint32_t project = x.fsx_projid, kept = x.fsx_xflags;
    x.fsx_projid = 0;
    ioctl(dir, FS_IOC_FSSETXATTR, &x);
    x.fsx_projid = project;
    x.fsx_xflags &= ~(uint32_t)FS_XFLAG_PROJINHERIT;
    ioctl(dir, FS_IOC_FSSETXATTR, &x);
    if (ioctl(dir, FS_IOC_GETFLAGS, &flags) == 0) {
        flags &= ~FS_PROJINHERIT_FL;
        ioctl(dir, FS_IOC_SETFLAGS, &flags);
    }
    if (ioctl(dir, FS_IOC_FSGETXATTR, &now) < 0 || now.fsx_projid != project ||
        ((now.fsx_xflags ^ kept) & FS_XFLAG_PROJINHERIT))
        return 1;
    int fd = make_file(dir, "member");
    return ioctl(fd, FS_IOC_FSGETXATTR, &now) == 0 && now.fsx_projid == project ? 0 : 2;
}

static int attack_inodes(int dir, int other)
{
    for (int i = 0; i < 200000; i++) {
        char name[32];
        str_print(name, sizeof(name), "tiny%d", i);
        int fd = make_file(dir, name);
        if (fd < 0 || write(fd, "x", 1) < 0)
            return refused() ? 0 : 1;
        close(fd);
    }
    return 2;
}

static int attack_xattrs(int dir, int other)
{
    int64_t n = 0;
    for (int i = 0; i < 200000; i++) {
        char name[32];
        str_print(name, sizeof(name), "fat%d", i);
        int fd = make_file(dir, name);
        if (fd < 0 || fsetxattr(fd, "user.fat", page, 3000, 0) < 0)
            return refused() && n <= (int64_t)SPACE ? 0 : 1;
        n += 3000;
        close(fd);
    }
    return 2;
}

static int clean_up(int dir, int other)
{
    auto_dir DIR *d = fdopendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (!str_eq(e->d_name, ".") && !str_eq(e->d_name, ".."))
            path_remove_tree_at(dir, e->d_name, NULL);
    return 0;
}

static void test_bypass(void **state)
{
    static const struct {
        const char *name;
        int (*attack)(int dir, int other);
        int wanted;
    } attacks[] = {
        {"holes", attack_sparse, 0},
        {"fallocate", attack_fallocate, 0},
        {"mapped pages", attack_mmap, 200 + SIGBUS},
        {"deleted and open", attack_deleted, 0},
        {"links and renames", attack_links, 0},
        {"the project", attack_project, 0},
        {"tiny files", attack_inodes, 0},
        {"attributes", attack_xattrs, 0},
    };
    struct fixture *f = *state;
    if (!bounded(f))
        return;
    for (size_t i = 0; i < ARRAY_SIZE(attacks); i++) {
        int got = as_ve(f, attacks[i].attack);
        if (got != attacks[i].wanted)
            fail_msg("%s: %d", attacks[i].name, got);
        struct storage_usage u = usage(f);
        print_message("# %s: %.1f MiB and %.1f KiB\n", attacks[i].name, (double)(u.space / MIB),
                      (double)(u.space % MIB) / 1024);
        assert_true(u.space_known && u.space <= SPACE + OVER);
        assert_int_equal(as_ve(f, clean_up), 0); /* at the limit, everything can be removed */
        for (int tries = 0; usage(f).space > MIB && tries < 3000; tries++)
            usleep(20000); /* what was open at its end is freed in the background */
        assert_in_range(usage(f).space, 0, MIB);
    }
}

/* ---- the tree's own numbers ---- */

static void test_inodes(void **state)
{
    struct fixture *f = *state;
    if (!bounded(f) || !storage_can(f->pool)->inodes)
        return;
    OK(storage_limit(f->pool, 1, &(struct storage_limits){SPACE, INODES}, &f->err));
    assert_int_equal(as_ve(f, attack_inodes), 0);
    assert_int_equal(usage(f).inodes, INODES);
    assert_int_equal(as_ve(f, clean_up), 0);
    for (int tries = 0; usage(f).inodes > 3 && tries < 1000; tries++)
        usleep(20000); /* xfs frees inodes in the background */
    assert_int_equal(usage(f).inodes, 3);
}

static void test_own_df(void **state)
{
    struct fixture *f = *state;
    struct statfs fs;
    if (!bounded(f) || !storage_can(f->pool)->own_df)
        return;
    auto_fd int upper = openat(f->tree, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(fstatfs(upper, &fs), 0);
    assert_int_equal((uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize, SPACE);
    assert_int_equal(fstatfs(f->other, &fs), 0);
    assert_true((uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize > 4 * SPACE);
}

/* Saved trees are not charged to the VE; the limit goes with its tree. */
static void test_copies(void **state)
{
    struct fixture *f = *state;
    uint64_t own, total;
    if (!bounded(f))
        return;
    auto_fd int fd = openat(f->tree, "upper/big", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    for (int i = 0; i < 32; i++) /* 2 MiB */
        assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
    OK(storage_save(f->pool, 1, 10, NULL, &f->err));
    OK(storage_save(f->pool, 1, 11, NULL, &f->err));
    assert_in_range(usage(f).space, 2 * MIB, SPACE); /* xfs sets some aside for more */
    OK(storage_saved_usage(f->pool, 11, &own, &total, &f->err));
    assert_in_range(total, 2 * MIB, 3 * MIB);
    OK(storage_restore(f->pool, 10, 1, NULL, &f->err));
    cleanup_fd(&f->tree);
    OK(storage_open(f->pool, 1, &f->tree, &f->err));
    assert_in_range(usage(f).space, 2 * MIB, 3 * MIB);
    assert_int_equal(as_ve(f, attack_fallocate), 0);
    assert_in_range(usage(f).space, 2 * MIB, SPACE);
    OK(storage_saved_remove(f->pool, 10, &f->err));
    OK(storage_saved_remove(f->pool, 11, &f->err));
    OK(storage_empty_trash(f->pool, &f->err));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bypass, setup, teardown),
        cmocka_unit_test_setup_teardown(test_inodes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own_df, setup, teardown),
        cmocka_unit_test_setup_teardown(test_copies, setup, teardown),
    };
    driver = argc > 1 ? argv[1] : driver;
    return tree_testable(driver) ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
