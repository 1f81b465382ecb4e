/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pools in images: mounted once, all blocks allocated, grown while in use; what btrfs bounds. */
#include "storage/storage.h"
#include "storage/test_tree.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "kernel/btrfs.h"
#include "kernel/disk.h"
#include "kernel/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#define MIB   (UINT64_C(1) << 20)
#define OK(x) assert_string_equal((x) == 0 ? "" : f->err.text, "")

struct fixture {
    char dir[64], path[80], image[80];
    struct storage_spec spec;
    struct storage_pool *pool;
    struct err err;
};

static const char *driver = "btrfs";

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    str_print(f->dir, sizeof(f->dir), "/tmp/terem-image-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    *state = f;
    str_print(f->path, sizeof(f->path), "%s/pool", f->dir);
    str_print(f->image, sizeof(f->image), "%s/below/image", f->dir);
    f->spec = (struct storage_spec){driver, f->path, f->image, 320 * MIB, "brim"};
    if (storage_make(&f->spec, &f->err) == 0 && storage_pool_open(&f->spec, &f->pool, &f->err) == 0)
        return 0;
    fprintf(stderr, "# %s\n", f->err.text);
    return -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    storage_pool_close(f->pool);
    int r = storage_unmount(&f->spec, &f->err);
    if (r < 0) { /* a test that failed: with our end the device goes */
        print_message("# %s\n", f->err.text);
        umount2(f->path, MNT_DETACH);
    }
    r |= path_remove_tree_at(AT_FDCWD, f->dir, NULL);
    free(f);
    return r;
}

static size_t mounts_at(const char *path)
{
    auto_free char *text = NULL;
    size_t n = 0;
    assert_int_equal(fd_read_file_at(AT_FDCWD, "/proc/self/mountinfo", 4u << 20, &text, NULL, NULL),
                     0);
    for (const char *p = text; (p = strstr(p, path)); p++)
        n += p[strlen(path)] == ' ';
    return n;
}

static void device_of(struct fixture *f, char ret[LOOP_PATH])
{
    auto_fd int fd = open(f->image, O_RDONLY | O_CLOEXEC);
    OK(loop_find(fd, ret, &f->err));
}

/* Opened again as after teremd was killed: the same device, the same mount. */
static void test_mounted_once(void **state)
{
    struct fixture *f = *state;
    char first[LOOP_PATH], second[LOOP_PATH];
    struct storage_pool *again = NULL;
    device_of(f, first);
    for (int i = 0; i < 3; i++) {
        OK(storage_pool_open(&f->spec, &again, &f->err));
        storage_pool_close(again);
    }
    OK(storage_make(&f->spec, &f->err)); /* what is there is used again */
    device_of(f, second);
    assert_string_equal(first, second);
    assert_int_equal(mounts_at(f->path), 1);

    /* Many at once. */
    storage_pool_close(f->pool);
    f->pool = NULL;
    OK(storage_unmount(&f->spec, &f->err));
    assert_int_equal(mounts_at(f->path), 0);
    pid_t child[6];
    for (size_t i = 0; i < ARRAY_SIZE(child); i++)
        if ((child[i] = fork()) == 0)
            _exit(storage_pool_open(&f->spec, &again, NULL) == 0 ? 0 : 1);
    for (size_t i = 0; i < ARRAY_SIZE(child); i++) {
        int status = -1;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(mounts_at(f->path), 1);
    OK(storage_pool_open(&f->spec, &f->pool, &f->err));

    /* The image from a second place. */
    auto_free char *other = str_format("%s/other", f->dir);
    struct storage_spec spec = f->spec;
    spec.path = other;
    assert_int_equal(storage_pool_open(&spec, &again, &f->err), -ERR_BUSY);
    assert_int_equal(mounts_at(other), 0);
}

static void test_blocks_stay(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    assert_int_equal(stat(f->image, &st), 0);
    assert_int_equal(st.st_size, 320 * MIB);
    assert_true((uint64_t)st.st_blocks * 512 >= 320 * MIB);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(f->path, &st), 0); /* nobody of the host looks into it */
    assert_int_equal(st.st_mode & 0777, 0700);
    /* What a weekly "fstrim -a" of the host does. */
    auto_fd int fd = open(f->path, O_RDONLY | O_CLOEXEC);
    struct fstrim_range all = {.len = UINT64_MAX};
    assert_int_equal(ioctl(fd, FITRIM, &all), -1);
    assert_int_equal(stat(f->image, &st), 0);
    assert_true((uint64_t)st.st_blocks * 512 >= 320 * MIB);
}

static void test_busy(void **state)
{
    struct fixture *f = *state;
    OK(storage_create(f->pool, 1, &f->err));
    assert_int_equal(storage_unmount(&f->spec, &f->err), -ERR_BUSY);
    assert_non_null(strstr(f->err.text, "in use; stop its VEs"));
    auto_free char *file = str_format("%s/1", f->path);
    char child[32];
    pid_t pid = fork();
    if (pid == 0) {
        if (chdir(file) < 0)
            _exit(1);
        pause();
        _exit(0);
    }
    str_print(child, sizeof(child), "in use: process %d (", (int)pid);
    for (int i = 0; i < 500 && !strstr(f->err.text, child); i++) {
        assert_int_equal(storage_unmount(&f->spec, &f->err), -ERR_BUSY);
        usleep(10000);
    }
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_non_null(strstr(f->err.text, child));
    assert_int_equal(mounts_at(f->path), 1);
    /* A VE's own mount of a tree holds the file system when ours is gone: ours comes back. */
    auto_free char *tree = str_format("%s/1", f->path), *inside = str_format("%s/inside", f->dir);
    assert_int_equal(mkdir(inside, 0700), 0);
    assert_int_equal(mount(tree, inside, NULL, MS_BIND, NULL), 0);
    storage_pool_close(f->pool);
    f->pool = NULL;
    assert_int_equal(storage_unmount(&f->spec, &f->err), -ERR_BUSY);
    assert_int_equal(mounts_at(f->path), 1);
    assert_int_equal(umount2(inside, 0), 0);
    OK(storage_unmount(&f->spec, &f->err));
    OK(storage_unmount(&f->spec, &f->err));
    OK(storage_pool_open(&f->spec, &f->pool, &f->err));
    auto_fd int fd = -1;
    OK(storage_open(f->pool, 1, &fd, &f->err));
}

/* Who has something open there and ends: a worker that was not quite gone kept a pool in use. */
static void test_busy_for_a_moment(void **state)
{
    struct fixture *f = *state;
    int there[2];
    char c = 0;
    storage_pool_close(f->pool);
    f->pool = NULL;
    assert_int_equal(pipe2(there, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (chdir(f->path) < 0 || write(there[1], &c, 1) != 1)
            _exit(1);
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
        _exit(0);
    }
    assert_int_equal(read(there[0], &c, 1), 1);
    assert_int_equal(umount2(f->path, 0), -1);
    OK(storage_unmount(&f->spec, &f->err));
    assert_int_equal(mounts_at(f->path), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(there[0]);
    close(there[1]);
}

static void test_grow(void **state)
{
    struct fixture *f = *state;
    struct storage_space before, after;
    struct stat st;
    OK(storage_space(f->pool, &before, &f->err));
    OK(storage_grow(f->pool, 512 * MIB, &f->err));
    OK(storage_grow(f->pool, 512 * MIB, &f->err)); /* as after a crash half-way */
    OK(storage_space(f->pool, &after, &f->err));
    assert_true(after.size_bytes >= before.size_bytes + 190 * MIB);
    assert_int_equal(stat(f->image, &st), 0);
    assert_true((uint64_t)st.st_blocks * 512 >= 512 * MIB);
    assert_int_equal(storage_grow(f->pool, 400 * MIB, &f->err), -ERR_USAGE);
    assert_non_null(strstr(f->err.text, "has 512M and cannot become smaller"));
    assert_int_equal(storage_grow(f->pool, UINT64_C(1) << 55, &f->err), -ERR_EXHAUSTED);
    assert_int_equal(stat(f->image, &st), 0);
    assert_int_equal(st.st_size, 512 * MIB);
}

/* Each subvolume of btrfs has a device number of its own; it is one file system all the same. */
static void test_one_file_system(void **state)
{
    struct fixture *f = *state;
    auto_free char *tree = str_format("%s/1", f->path);
    uint64_t pool[2], below[2], host[2], image[2];
    struct stat a, b;
    OK(storage_create(f->pool, 1, &f->err));
    OK(storage_file_system_id(f->path, pool, &f->err));
    OK(storage_file_system_id(tree, below, &f->err));
    OK(storage_file_system_id(f->dir, host, &f->err));
    OK(storage_file_system_id(f->image, image, &f->err));
    assert_memory_equal(pool, below, sizeof(pool));
    assert_memory_equal(host, image, sizeof(host));
    assert_memory_not_equal(pool, host, sizeof(pool));
    assert_true(stat(f->path, &a) == 0 && stat(tree, &b) == 0);
    assert_true((a.st_dev != b.st_dev) == str_eq(driver, "btrfs"));
}

static void test_refused(void **state)
{
    struct fixture *f = *state;
    auto_free char *image = str_format("%s/foreign", f->dir), *path = str_format("%s/p", f->dir);
    struct storage_spec spec = {driver, path, image, 320 * MIB};
    auto_fd int fd = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    assert_int_equal(storage_make(&spec, &f->err), -ERR_EXISTS);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(unlink(image), 0);
    spec.size = MIB;
    assert_int_equal(storage_make(&spec, &f->err), -ERR_USAGE);
    spec.size = UINT64_C(1) << 55;
    assert_int_equal(storage_make(&spec, &f->err), -ERR_EXHAUSTED);
    assert_int_equal(access(image, F_OK), -1);
    spec.size = 320 * MIB;
    spec.driver = "dir";
    assert_int_equal(storage_make(&spec, &f->err), -ERR_USAGE);

    /* Files that a mount would hide. */
    spec.driver = driver;
    auto_free char *file = str_format("%s/file", path);
    assert_int_equal(mkdir(path, 0700), 0);
    auto_fd int hidden = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(storage_make(&spec, &f->err), -ERR_EXISTS);
    assert_int_equal(access(file, F_OK), 0);
    assert_int_equal(access(image, F_OK), -1);
    spec.image = NULL;
    assert_int_equal(unlink(file), 0);
    assert_int_equal(storage_make(&spec, &f->err), -ERR_USAGE);
    assert_non_null(strstr(f->err.text, "does not lie on"));
}

/* What bounds a VE's reads and writes is the disk below the image. */
static void test_disk(void **state)
{
    struct fixture *f = *state;
    struct disk in[DISK_MAX], below[DISK_MAX];
    size_t n_in = 0, n_below = 0;
    auto_fd int sys = open("/sys", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_fd int pool = open(f->path, O_RDONLY | O_CLOEXEC);
    auto_fd int dir = open(f->dir, O_RDONLY | O_CLOEXEC);
    if (disk_find(sys, dir, below, &n_below, &f->err) < 0) { /* it lies in memory */
        print_message("# skipped: %s lies in memory\n", f->dir);
        return;
    }
    OK(disk_find(sys, pool, in, &n_in, &f->err));
    assert_int_equal(n_in, n_below);
    assert_memory_equal(in, below, n_in * sizeof(*in));
}

static void test_choice(void **state)
{
    struct fixture *f = *state;
    struct storage_choice c;
    auto_free char *deep = str_format("%s/not/there/yet", f->path);
    OK(storage_choose(deep, &c, &f->err));
    /* In the pool itself: what it lies on is taken as it is. */
    if (str_eq(driver, "btrfs"))
        assert_true(str_eq(c.driver, "btrfs") && !c.image);
    else
        assert_true(str_eq(c.driver, "dir") && !c.image); /* there is no room for an image */
    assert_true(c.why[0]);
    OK(storage_choose(f->dir, &c, &f->err));
    print_message("# %s%s: %s\n", c.driver, c.image ? " in an image" : "", c.why);
    assert_int_equal(access(deep, F_OK), -1);
}

/* ---- limits ---- */

/* Writes until the kernel says no; how many bytes. */
static uint64_t fill(int tree, const char *name)
{
    static char page[65536];
    auto_fd int fd = openat(tree, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    uint64_t n = 0;
    if (fd < 0)
        return 0;
    memset(page, 'x', sizeof(page));
    while (n < 300 * MIB) {
        ssize_t w = write(fd, page, sizeof(page));
        if (w < 0) {
            assert_true(errno == EDQUOT || errno == ENOSPC);
            break;
        }
        n += (uint64_t)w;
    }
    fsync(fd);
    return n;
}

static uint64_t used(struct fixture *f, int64_t id)
{
    struct storage_usage u;
    auto_fd int fd = -1;
    OK(storage_open(f->pool, id, &fd, &f->err));
    btrfs_commit(fd, true, NULL);
    OK(storage_usage(f->pool, id, &u, &f->err));
    assert_true(u.space_known);
    return u.space;
}

/* How btrfs counts; the bounds of all drivers are in test_bound.c. */
static bool counts_by_qgroups(void)
{
    return str_eq(driver, "btrfs");
}

static void test_limit(void **state)
{
    struct fixture *f = *state;
    const struct storage_limits bound = {20 * MIB, STORAGE_UNLIMITED};
    const struct storage_limits wrong = {STORAGE_UNLIMITED, 100};
    if (!counts_by_qgroups())
        return;
    assert_int_equal(storage_limit(f->pool, 1, &bound, &f->err), -ERR_NOT_FOUND);
    OK(storage_create(f->pool, 1, &f->err));
    assert_int_equal(storage_limit(f->pool, 1, &wrong, &f->err), -ERR_UNSUPPORTED);
    OK(storage_limit(f->pool, 1, &bound, &f->err));
    auto_fd int tree = -1;
    OK(storage_open(f->pool, 1, &tree, &f->err));
    assert_in_range(fill(tree, "upper/full"), 17 * MIB, 20 * MIB);
    assert_in_range(used(f, 1), 17 * MIB, 20 * MIB);

    /* used() looked, and gave what was held back: more than removing is possible. */
    assert_int_equal(renameat(tree, "upper/full", tree, "upper/named"), 0);
    assert_int_equal(fchmodat(tree, "upper/named", 0640, 0), 0);
    auto_fd int fd = openat(tree, "upper/named", O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, 10 * MIB + 77), 0); /* which frees nothing: one extent */
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_in_range(used(f, 1), 0, 2 * MIB);
    assert_in_range(fill(tree, "upper/more"), 16 * MIB, 20 * MIB);
    for (int i = 0; i < 5; i++) { /* looking again and again gives no more */
        used(f, 1);
        fill(tree, "upper/again");
    }
    assert_in_range(used(f, 1), 17 * MIB, 20 * MIB);
    assert_int_equal(unlinkat(tree, "upper/more", 0), 0);
    assert_int_equal(unlinkat(tree, "upper/named", 0), 0);
    used(f, 1);
    assert_in_range(used(f, 1), 0, 4 * MIB);
    OK(storage_limit(f->pool, 1, &(struct storage_limits){STORAGE_UNLIMITED, STORAGE_UNLIMITED},
                     &f->err));
    assert_true(fill(tree, "upper/free") > 100 * MIB);
}

/* A limit below what is in use: that can go, and nothing comes. */
static void test_limit_below(void **state)
{
    struct fixture *f = *state;
    if (!counts_by_qgroups())
        return;
    OK(storage_create(f->pool, 1, &f->err));
    auto_fd int tree = -1;
    OK(storage_open(f->pool, 1, &tree, &f->err));
    OK(storage_limit(f->pool, 1, &(struct storage_limits){30 * MIB, STORAGE_UNLIMITED}, &f->err));
    fill(tree, "upper/one");
    used(f, 1);
    OK(storage_limit(f->pool, 1, &(struct storage_limits){4 * MIB, STORAGE_UNLIMITED}, &f->err));
    assert_true(fill(tree, "upper/two") < 2 * MIB);
    auto_fd int fd = openat(tree, "upper/one", O_WRONLY | O_CLOEXEC);
    unlinkat(tree, "upper/two", 0);
    used(f, 1);
    assert_int_equal(ftruncate(fd, 0), 0);
    used(f, 1);
    used(f, 1);
    assert_in_range(fill(tree, "upper/three"), 1 * MIB, 4 * MIB);
}

/* Saving is possible at the limit; the limit is of the VE's tree and survives a restore. */
static void test_limit_and_copies(void **state)
{
    struct fixture *f = *state;
    uint64_t own, total;
    if (!counts_by_qgroups())
        return;
    OK(storage_create(f->pool, 1, &f->err));
    auto_fd int tree = -1, fresh = -1, clone = -1;
    OK(storage_open(f->pool, 1, &tree, &f->err));
    OK(storage_limit(f->pool, 1, &(struct storage_limits){16 * MIB, STORAGE_UNLIMITED}, &f->err));
    fill(tree, "upper/one");
    for (int64_t saved = 10; saved < 14; saved++)
        OK(storage_save(f->pool, 1, saved, NULL, &f->err));
    assert_int_equal(tree_parent(f->pool, 1), 13);
    assert_in_range(used(f, 1), 13 * MIB, 16 * MIB);
    OK(storage_saved_usage(f->pool, 11, &own, &total, &f->err));
    assert_true(own < MIB && total > 13 * MIB);
    assert_int_equal(unlinkat(tree, "upper/one", 0), 0);
    used(f, 1);
    assert_in_range(used(f, 1), 0, 2 * MIB); /* what was saved is not charged to it */

    OK(storage_restore(f->pool, 10, 1, NULL, &f->err));
    OK(storage_open(f->pool, 1, &fresh, &f->err));
    assert_in_range(used(f, 1), 13 * MIB, 16 * MIB);
    assert_true(fill(fresh, "upper/two") < 4 * MIB);
    OK(storage_clone_into(f->pool, 2, f->pool, 1, false, NULL, &f->err));
    OK(storage_open(f->pool, 2, &clone, &f->err));
    assert_true(fill(clone, "upper/two") > 50 * MIB); /* it has no limit of its own yet */
}

static struct btrfs_quota quota(struct fixture *f)
{
    struct btrfs_quota q;
    auto_fd int fd = open(f->path, O_RDONLY | O_CLOEXEC);
    OK(btrfs_quota_state(fd, &q, &f->err));
    return q;
}

static bool wait_quota(struct fixture *f, bool wrong)
{
    for (int i = 0; i < 1000; i++) {
        struct btrfs_quota q = quota(f);
        if (q.inconsistent == wrong && (wrong || !q.counting))
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return false;
}

/* The kernel says that its numbers are wrong, as it may when a large snapshot goes: they are
 * counted again. */
static void test_wrong_numbers(void **state)
{
    struct fixture *f = *state;
    char path[128], name[64];
    uint64_t id[2];
    const uint8_t *u = (const uint8_t *)id;
    auto_fd int pool = open(f->path, O_RDONLY | O_CLOEXEC), tree = -1;
    if (!counts_by_qgroups())
        return;
    assert_true(btrfs_fsid(pool, id));
    str_print(path, sizeof(path),
              "/sys/fs/btrfs/%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x/"
              "qgroups/drop_subtree_threshold",
              u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
              u[13], u[14], u[15]);
    if (fd_write_value_at(AT_FDCWD, path, &f->err, "0\n") < 0) {
        print_message("# skipped: this kernel counts every snapshot that goes\n");
        return;
    }
    OK(storage_create(f->pool, 1, &f->err));
    OK(storage_open(f->pool, 1, &tree, &f->err));
    for (int i = 0; i < 2000; i++) {
        str_print(name, sizeof(name), "file%d", i);
        assert_true(tree_write(tree, name, name));
    }
    OK(storage_save(f->pool, 1, 10, NULL, &f->err));
    OK(storage_save(f->pool, 1, 11, NULL, &f->err));
    OK(storage_saved_remove(f->pool, 10, &f->err));
    OK(storage_empty_trash(f->pool, &f->err));
    assert_true(wait_quota(f, true));
    OK(storage_empty_trash(f->pool, &f->err));
    assert_true(wait_quota(f, false));
    assert_in_range(used(f, 1), MIB / 4, 16 * MIB);
}

/* A pool without a byte left: nothing is half there, and what goes makes room again. */
static void test_full(void **state)
{
    struct fixture *f = *state;
    char name[64];
    auto_fd int tree = -1, saved = -1;
    OK(storage_create(f->pool, 1, &f->err));
    OK(storage_open(f->pool, 1, &tree, &f->err));
    assert_true(tree_write(tree, "note", "before"));
    OK(storage_save(f->pool, 1, 10, NULL, &f->err));
    OK(storage_create(f->pool, 2, &f->err));
    auto_fd int hog = -1;
    OK(storage_open(f->pool, 2, &hog, &f->err));
    fill(hog, "upper/big");
    for (int i = 0; i < 200000; i++) { /* until there is no room for a name either */
        str_print(name, sizeof(name), "upper/%d", i);
        auto_fd int fd = openat(hog, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
            break;
    }
    int64_t made = 11;
    int r = 0;
    while (made < 500 && (r = storage_save(f->pool, 1, made, NULL, &f->err)) == 0)
        made++;
    assert_int_equal(r, -ERR_EXHAUSTED);
    assert_non_null(strstr(f->err.text, "no space or no inodes left; remove"));
    assert_null(strpbrk(f->err.text, "0123456789")); /* no ids: they tell a reader nothing */
    auto_free int64_t *list = NULL;
    size_t n;
    OK(storage_saved_list(f->pool, &list, &n, &f->err));
    assert_int_equal(n, made - 10);
    r = storage_restore(f->pool, 10, 1, NULL, &f->err);
    assert_true(r == 0 || r == -ERR_EXHAUSTED);
    auto_fd int now = -1;
    OK(storage_open(f->pool, 1, &now, &f->err));
    assert_true(tree_holds(now, "note", "before"));
    OK(storage_saved_open(f->pool, made - 1, &saved, &f->err));
    assert_true(tree_holds(saved, "note", "before"));

    OK(storage_saved_remove(f->pool, 10, &f->err));
    OK(storage_remove(f->pool, 2, &f->err));
    cleanup_fd(&hog);
    OK(storage_empty_trash(f->pool, &f->err));
    for (int i = 0; i < 500; i++) { /* the kernel frees the blocks when it comes to it */
        if (storage_save(f->pool, 1, 1000, NULL, &f->err) == 0)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    auto_fd int last = -1;
    OK(storage_saved_open(f->pool, 1000, &last, &f->err));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_mounted_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blocks_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_busy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_busy_for_a_moment, setup, teardown),
        cmocka_unit_test_setup_teardown(test_grow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_file_system, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_choice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limit_below, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limit_and_copies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
    };
    driver = argc > 1 ? argv[1] : driver;
    return tree_testable(driver) ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
