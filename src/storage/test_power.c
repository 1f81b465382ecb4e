/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Power cuts: while trees are saved, restored, cloned and removed, the pool's image is copied in
 * one instant (FICLONE, on an xfs made for it).  Each copy is what a disk would hold had the power
 * gone then.  All of them are mounted afterwards: what is listed is whole, what was said to be done
 * is there.
 */
#include "storage/storage.h"
#include "storage/test_tree.h"

#include "base/cleanup.h"
#include "base/number.h"
#include "base/path.h"
#include "base/str.h"
#include "kernel/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#define MIB    (UINT64_C(1) << 20)
#define CUTS   12
#define FILES  40
#define CLONES 1000
#define OK(x)  assert_string_equal((x) == 0 ? "" : f->err.text, "")

/* How far the worker is, in memory that both see. */
struct done {
    volatile int64_t saved, restored;       /* came back with success */
    volatile int64_t restoring, forgetting; /* was begun */
    volatile int failed;
};

struct fixture {
    char dir[64], disk[80], outer[80], image[96], path[80];
    struct storage_spec spec;
    struct done *done;
    struct err err;
};

static const char *driver = "btrfs";

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char device[LOOP_PATH];
    str_print(f->dir, sizeof(f->dir), "/tmp/terem-power-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    *state = f;
    str_print(f->disk, sizeof(f->disk), "%s/disk", f->dir);
    str_print(f->outer, sizeof(f->outer), "%s/outer", f->dir);
    str_print(f->image, sizeof(f->image), "%s/image", f->outer);
    str_print(f->path, sizeof(f->path), "%s/pool", f->dir);
    f->spec = (struct storage_spec){driver, f->path, f->image, 340 * MIB};
    f->done =
        mmap(NULL, sizeof(*f->done), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const char *mkfs[] = {"/sbin/mkfs.xfs", "-q", "-s", "size=4096", f->disk, NULL};
    auto_fd int held = -1, disk = open(f->disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (f->done == MAP_FAILED || disk < 0 || ftruncate(disk, 3072 * (off_t)MIB) < 0 ||
        !tree_run(mkfs) || loop_attach(disk, device, &held, &f->err) < 0 ||
        mkdir(f->outer, 0700) < 0 || mount(device, f->outer, "xfs", MS_NOATIME, NULL) < 0)
        return -1;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    umount2(f->path, MNT_DETACH);
    umount2(f->outer, MNT_DETACH);
    munmap(f->done, sizeof(*f->done));
    int r = path_remove_tree_at(AT_FDCWD, f->dir, NULL);
    free(f);
    return r;
}

/* ---- the worker ---- */

static bool write_tree(struct storage_pool *p, int64_t n)
{
    char name[32], text[32];
    auto_fd int tree = -1;
    if (storage_open(p, 1, &tree, NULL) < 0)
        return false;
    str_print(text, sizeof(text), "%" PRId64, n);
    for (int i = 0; i < FILES; i++) {
        str_print(name, sizeof(name), "file%d", i);
        if (!tree_write(tree, name, text))
            return false;
    }
    return true;
}

/* One round: tree 1 is written and saved as n, tree 2 restored from that, and cloned. */
static bool round_of(struct storage_pool *p, struct done *d, int64_t n)
{
    if (!write_tree(p, n) || storage_save(p, 1, n, NULL, NULL) < 0)
        return false;
    d->saved = n;
    d->restoring = n;
    if (storage_restore(p, n, 2, NULL, NULL) < 0)
        return false;
    d->restored = n;
    if (storage_clone_into(p, CLONES + n, p, 2, false, NULL, NULL) < 0 ||
        (n > 1 && storage_remove(p, CLONES + n - 1, NULL) < 0))
        return false;
    if (n > 3) {
        d->forgetting = n - 3;
        if (storage_saved_remove(p, n - 3, NULL) < 0)
            return false;
    }
    return n % 5 != 0 || storage_empty_trash(p, NULL) == 0;
}

_Noreturn static void work(struct storage_pool *p, struct done *d)
{
    for (int64_t n = 1;; n++)
        if (!round_of(p, d, n)) {
            d->failed = 1;
            _exit(1);
        }
}

/* ---- the cuts ---- */

struct cut {
    char image[112];
    int64_t saved, restored;       /* done before it */
    int64_t restoring, forgetting; /* begun before its end */
};

static void cut_power(struct fixture *f, struct cut *c)
{
    auto_fd int from = open(f->image, O_RDONLY | O_CLOEXEC);
    auto_fd int to = open(c->image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    c->saved = f->done->saved;
    c->restored = f->done->restored;
    if (ioctl(to, FICLONE, from) < 0)
        fail_msg("cannot copy the image: %s", strerror(errno));
    c->restoring = f->done->restoring;
    c->forgetting = f->done->forgetting;
}

/* What all files of a tree say; -1: they do not agree, or one is missing. */
static int64_t said(int tree)
{
    char name[32], text[32];
    auto_fd int fd = openat(tree, "upper/file0", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    uint64_t value;
    if (n <= 0)
        return -1;
    text[n] = '\0';
    for (int i = 0; i < FILES; i++) {
        str_print(name, sizeof(name), "file%d", i);
        if (!tree_holds(tree, name, text))
            return -1;
    }
    return number_parse(text, 1, INT64_MAX, &value, NULL) == 0 ? (int64_t)value : -1;
}

static void check_saved(struct fixture *f, struct storage_pool *p, const struct cut *c)
{
    auto_free int64_t *list = NULL;
    size_t n;
    OK(storage_saved_list(p, &list, &n, &f->err));
    for (size_t i = 0; i < n; i++) {
        auto_fd int tree = -1;
        OK(storage_saved_open(p, list[i], &tree, &f->err));
        assert_int_equal(said(tree), list[i]);
    }
    for (int64_t want = c->forgetting + 1; want <= c->saved; want++) {
        bool found = false;
        for (size_t i = 0; i < n; i++)
            found |= list[i] == want;
        if (!found)
            fail_msg("%" PRId64 " was saved before the cut and is not there", want);
    }
}

static void check_trees(struct fixture *f, struct storage_pool *p, const struct cut *c)
{
    auto_free int64_t *list = NULL;
    size_t n;
    OK(storage_list(p, &list, &n, &f->err));
    unsigned known = 0;
    for (size_t i = 0; i < n; i++) {
        auto_fd int tree = -1;
        OK(storage_open(p, list[i], &tree, &f->err));
        int64_t text = said(tree);
        known += list[i] == 1 || list[i] == 2;
        if (list[i] == 2)
            assert_in_range(text, c->restored, c->restoring);
        else if (list[i] > CLONES)
            assert_int_equal(text, list[i] - CLONES);
    }
    int64_t parent = tree_parent(p, 1);
    assert_int_equal(known, 2);
    assert_true(parent >= c->saved);
}

static void check(struct fixture *f, const struct cut *c)
{
    struct storage_spec spec = f->spec;
    struct storage_pool *p = NULL;
    spec.image = c->image;
    /* btrfs knows the copies by one number, and takes the last device that it saw for it. */
    auto_fd int control = open("/dev/btrfs-control", O_RDWR | O_CLOEXEC);
    struct btrfs_ioctl_vol_args all = {0};
    if (control >= 0)
        ioctl(control, BTRFS_IOC_FORGET_DEV, &all);
    OK(storage_pool_open(&spec, &p, &f->err));
    check_saved(f, p, c);
    check_trees(f, p, c);
    /* And it goes on. */
    OK(storage_empty_trash(p, &f->err));
    assert_false(storage_has_trash(p));
    OK(storage_create(p, 5, &f->err));
    OK(storage_save(p, 5, 100000, NULL, &f->err));
    storage_pool_close(p);
    OK(storage_unmount(&spec, &f->err));
}

static void test_cuts(void **state)
{
    struct fixture *f = *state;
    static struct cut cut[CUTS];
    struct storage_pool *p = NULL;
    OK(storage_make(&f->spec, &f->err));
    OK(storage_pool_open(&f->spec, &p, &f->err));
    OK(storage_create(p, 1, &f->err));
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        work(p, f->done);
    while (!f->done->restored && !f->done->failed)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    for (int i = 0; i < CUTS; i++) {
        str_print(cut[i].image, sizeof(cut[i].image), "%s/cut%d", f->outer, i);
        nanosleep(&(struct timespec){.tv_nsec = 3000000 + i * 17777777}, NULL);
        cut_power(f, &cut[i]);
    }
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    storage_pool_close(p);
    assert_int_equal(f->done->failed, 0);
    print_message("# %" PRId64 " rounds\n", f->done->saved);
    OK(storage_unmount(&f->spec, &f->err));
    for (int i = 0; i < CUTS; i++)
        check(f, &cut[i]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cuts, setup, teardown),
    };
    driver = argc > 1 ? argv[1] : driver;
    return tree_testable(driver) && tree_testable("xfs") ? cmocka_run_group_tests(tests, NULL, NULL)
                                                         : 0;
}
