/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "storage/storage.h"

#include "base/cleanup.h"
#include "base/path.h"
#include "base/str.h"
#include "kernel/process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

struct fixture {
    char dir[64];
    struct storage_pool *pool;
    struct err err;
};

static int open_pool(struct fixture *f, struct storage_pool **ret)
{
    auto_free char *path = str_format("%s/pool", f->dir);
    return storage_pool_open(&(struct storage_spec){.driver = "dir", .path = path}, ret, &f->err);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    str_print(f->dir, sizeof(f->dir), "/tmp/terem-storage-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    *state = f;
    return open_pool(f, &f->pool);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    storage_pool_close(f->pool);
    int r = path_remove_tree_at(AT_FDCWD, f->dir, NULL);
    free(f);
    return r;
}

static size_t entries(const char *dir, const char *below)
{
    auto_free char *path = str_format("%s/%s", dir, below);
    auto_dir DIR *d = opendir(path);
    size_t n = 0;
    struct dirent *e;
    while (d && (e = readdir(d)))
        n += !str_eq(e->d_name, ".") && !str_eq(e->d_name, "..") &&
             !str_starts(e->d_name, "ballast-");
    return n;
}

static void test_life(void **state)
{
    struct fixture *f = *state;
    umask(077); /* the modes must not depend on it */
    assert_int_equal(storage_create(f->pool, 7, &f->err), 0);
    umask(022);
    assert_int_equal(storage_create(f->pool, 7, &f->err), -ERR_EXISTS);
    assert_string_equal(f->err.text, "tree 7 exists already");
    assert_false(storage_has_trash(f->pool));

    auto_fd int fd = -1;
    assert_int_equal(storage_open(f->pool, 7, &fd, &f->err), 0);
    struct stat st;
    assert_int_equal(fstatat(fd, "upper", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0755);
    assert_int_equal(st.st_uid + st.st_gid, 0);
    assert_int_equal(fstatat(fd, "work", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);

    /* A full tree goes at once, its files later. */
    assert_int_equal(mkdirat(fd, "upper/deep", 0755), 0);
    auto_fd int file = openat(fd, "upper/deep/file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    assert_int_equal(storage_remove(f->pool, 7, &f->err), 0);
    assert_int_equal(storage_remove(f->pool, 7, &f->err), 0);
    int gone = -1;
    assert_int_equal(storage_open(f->pool, 7, &gone, &f->err), -ERR_NOT_FOUND);
    assert_true(storage_has_trash(f->pool));
    assert_int_equal(storage_create(f->pool, 7, &f->err), 0);
    assert_int_equal(storage_remove(f->pool, 7, &f->err), 0);
    assert_int_equal(entries(f->dir, "pool/.trash"), 2);
    assert_int_equal(storage_empty_trash(f->pool, &f->err), 0);
    assert_false(storage_has_trash(f->pool));
    assert_int_equal(entries(f->dir, "pool/.trash"), 0);
    assert_int_equal(storage_create(f->pool, 0, &f->err), -ERR_INTERNAL);
    assert_int_equal(storage_create(f->pool, -5, &f->err), -ERR_INTERNAL);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void test_list(void **state)
{
    struct fixture *f = *state;
    for (int64_t id = 1; id <= 200; id++)
        assert_int_equal(storage_create(f->pool, id, &f->err), 0);
    assert_int_equal(storage_create(f->pool, INT64_MAX, &f->err), 0);
    auto_free char *stranger = str_format("%s/pool/lost+found", f->dir);
    assert_int_equal(mkdir(stranger, 0700), 0);
    auto_free int64_t *ids = NULL;
    size_t n = 0;
    assert_int_equal(storage_list(f->pool, &ids, &n, &f->err), 0);
    assert_int_equal(n, 201);
    qsort(ids, n, sizeof(*ids), by_value);
    assert_true(ids[0] == 1 && ids[199] == 200 && ids[200] == INT64_MAX);
}

/* A process killed at any moment of making and removing leaves whole trees and trash only. */
static void test_killed(void **state)
{
    struct fixture *f = *state;
    for (int round = 0; round < 30; round++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            for (int64_t id = 1;; id = id % 50 + 1) {
                storage_create(f->pool, id, NULL);
                storage_remove(f->pool, id % 7 + 1, NULL);
            }
        nanosleep(&(struct timespec){.tv_nsec = 300000 + round * 77777}, NULL);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        auto_free int64_t *ids = NULL;
        size_t n = 0;
        assert_int_equal(storage_list(f->pool, &ids, &n, &f->err), 0);
        for (size_t i = 0; i < n; i++) {
            auto_fd int fd = -1;
            struct stat st;
            assert_int_equal(storage_open(f->pool, ids[i], &fd, &f->err), 0);
            assert_int_equal(fstatat(fd, "upper", &st, 0), 0);
            assert_int_equal(fstatat(fd, "work", &st, 0), 0);
            assert_int_equal(storage_remove(f->pool, ids[i], &f->err), 0);
        }
    }
    assert_int_equal(storage_empty_trash(f->pool, &f->err), 0);
    assert_int_equal(entries(f->dir, "pool"), 3); /* .trash, .saved and .spare */
    assert_int_equal(entries(f->dir, "pool/.trash"), 0);
}

/* The trash may be emptied while another process is making a tree in it. */
static void test_trash_beside_create(void **state)
{
    struct fixture *f = *state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int r = 0;
        for (int i = 0; i < 500 && r == 0; i++)
            if ((r = storage_create(f->pool, 3, NULL)) == 0)
                r = storage_remove(f->pool, 3, NULL);
        _exit(r == 0 ? 0 : 1);
    }
    int status = 0;
    while (waitpid(pid, &status, WNOHANG) == 0)
        assert_int_equal(storage_empty_trash(f->pool, &f->err), 0);
    assert_int_equal(status, 0);
}

/* What a power cut left of a process whose number another one has now is nobody's. */
static void test_trash_of_the_dead(void **state)
{
    struct fixture *f = *state;
    char name[64];
    uint64_t birth = kernel_process_birth(AT_FDCWD, "/proc/1/stat");
    assert_true(birth > 0);
    auto_free char *trash = str_format("%s/pool/.trash", f->dir);
    auto_fd int dir = open(trash, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(dir, "new-1-9", 0700), 0);
    str_print(name, sizeof(name), "new-1.%" PRIu64 "-8", birth + 1);
    assert_int_equal(mkdirat(dir, name, 0700), 0);
    str_print(name, sizeof(name), "new-1.%" PRIu64 "-7", birth);
    assert_int_equal(mkdirat(dir, name, 0700), 0);
    assert_true(storage_has_trash(f->pool));
    assert_int_equal(storage_empty_trash(f->pool, &f->err), 0);
    assert_int_equal(faccessat(dir, name, F_OK, 0), 0); /* a living process makes it */
    assert_int_equal(entries(f->dir, "pool/.trash"), 1);
    assert_false(storage_has_trash(f->pool));
    assert_int_equal(unlinkat(dir, name, AT_REMOVEDIR), 0);
}

/* Each birth takes one of those that were made while the trash was emptied. */
static void test_spares(void **state)
{
    struct fixture *f = *state;
    enum { SPARES = 16 };
    for (int64_t id = 1; id <= 500; id++) {
        assert_int_equal(storage_create(f->pool, id, &f->err), 0);
        assert_int_equal(storage_remove(f->pool, id, &f->err), 0);
    }
    assert_int_equal(storage_empty_trash(f->pool, &f->err), 0);
    assert_int_equal(entries(f->dir, "pool/.spare"), SPARES);
    for (int64_t id = 1; id <= SPARES; id++) {
        assert_int_equal(storage_create(f->pool, id, &f->err), 0);
        assert_int_equal(storage_remove(f->pool, id, &f->err), 0);
        assert_int_equal(entries(f->dir, "pool/.spare"), SPARES - id);
    }
}

/* Where the file system takes it (ext4), and whatever else was set on the directory stays. */
static void test_spread(void **state)
{
    struct fixture *f = *state;
    auto_free char *path = str_format("%s/pool/.trash", f->dir);
    auto_fd int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int flags, plain = FS_NODUMP_FL;
    struct statfs fs;
    assert_true(dir >= 0);
    if (ioctl(dir, FS_IOC_SETFLAGS, &plain) < 0) {
        print_message("# skipped: files have no flags in %s\n", f->dir);
        return;
    }
    storage_pool_close(f->pool);
    f->pool = NULL;
    assert_int_equal(open_pool(f, &f->pool), 0);
    assert_int_equal(ioctl(dir, FS_IOC_GETFLAGS, &flags), 0);
    assert_true(flags & FS_NODUMP_FL);
    if (fstatfs(dir, &fs) == 0 && fs.f_type == EXT4_SUPER_MAGIC)
        assert_true(flags & FS_TOPDIR_FL);
}

static void test_space(void **state)
{
    struct fixture *f = *state;
    struct storage_space s;
    assert_int_equal(storage_space(f->pool, &s, &f->err), 0);
    assert_true(s.size_bytes > 0 && s.free_bytes <= s.size_bytes);
    assert_true(s.file_system[0]);
}

/* Calls try() in a mount namespace with a small tmpfs on the fixture's directory. */
static int in_small_tmpfs(struct fixture *f, const char *options, int (*try)(struct fixture *f))
{
    pid_t pid = fork();
    if (pid == 0) {
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("terem-test", f->dir, "tmpfs", 0, options) < 0)
            _exit(77);
        _exit(try(f));
    }
    int status = -1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

#define MUST(x)                                                                 \
    do {                                                                        \
        if (!(x)) {                                                             \
            fprintf(stderr, "# line %d: %s (%s)\n", __LINE__, #x, f->err.text); \
            return 1;                                                           \
        }                                                                       \
    } while (0)

static int try_no_inodes(struct fixture *f)
{
    struct storage_pool *p = NULL;
    MUST(open_pool(f, &p) == 0);
    int64_t id = 0;
    int r;
    while ((r = storage_create(p, ++id, &f->err)) == 0)
        MUST(id < 100);
    MUST(r == -ERR_EXHAUSTED && strstr(f->err.text, "no inodes left"));
    MUST(entries(f->dir, "pool/.trash") == 0);
    MUST(storage_remove(p, 1, &f->err) == 0);
    MUST(storage_empty_trash(p, &f->err) == 0); /* also fills the spares as far as they go */
    MUST(storage_create(p, 1, &f->err) == 0);
    storage_pool_close(p);
    return 0;
}

static int try_read_only(struct fixture *f)
{
    struct storage_pool *p = NULL;
    MUST(open_pool(f, &p) == 0);
    MUST(storage_create(p, 1, &f->err) == 0);
    MUST(mount(NULL, f->dir, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
    MUST(storage_create(p, 2, &f->err) == -ERR_DENIED);
    MUST(strstr(f->err.text, "Read-only file system"));
    MUST(storage_remove(p, 1, &f->err) == -ERR_DENIED);
    struct storage_space s;
    MUST(storage_space(p, &s, &f->err) == 0 && !s.overlay_upper_ok);
    MUST(str_eq(s.file_system, "tmpfs"));
    storage_pool_close(p);
    return 0;
}

/* What is held back is made while the trash is emptied, and kept while there is room. */
static void test_ballast(void **state)
{
    struct fixture *f = *state;
    assert_true(storage_is_short(f->pool));
    assert_int_equal(storage_empty_trash(f->pool, &f->err), 0);
    assert_false(storage_is_short(f->pool));
    assert_false(storage_yield(f->pool));
    auto_free char *piece = str_format("%s/pool/.spare/ballast-3", f->dir);
    struct stat st;
    assert_int_equal(stat(piece, &st), 0);
    assert_true(st.st_blocks > 0);
    assert_int_equal(unlink(piece), 0);
    assert_true(storage_is_short(f->pool));
    assert_int_equal(storage_empty_trash(f->pool, &f->err), 0);
    assert_false(storage_is_short(f->pool));
}

static void test_bad_luck(void **state)
{
    struct fixture *f = *state;
    int r = in_small_tmpfs(f, "size=1m,nr_inodes=40", try_no_inodes);
    if (r == 77) {
        print_message("# skipped: nothing can be mounted here; root can\n");
        return;
    }
    assert_int_equal(r, 0);
    assert_int_equal(in_small_tmpfs(f, "size=1m", try_read_only), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_life, setup, teardown),
        cmocka_unit_test_setup_teardown(test_list, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_trash_beside_create, setup, teardown),
        cmocka_unit_test_setup_teardown(test_trash_of_the_dead, setup, teardown),
        cmocka_unit_test_setup_teardown(test_spares, setup, teardown),
        cmocka_unit_test_setup_teardown(test_spread, setup, teardown),
        cmocka_unit_test_setup_teardown(test_space, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ballast, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_luck, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
