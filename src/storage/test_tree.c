/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Saved trees, copies, moves and drafts. */
#include "storage/test_tree.h"

#include "base/cleanup.h"
#include "base/path.h"
#include "base/str.h"
#include "storage/storage.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

struct fixture {
    char dir[64], path[80], image[80];
    struct storage_spec spec; /* of `pool` */
    struct storage_pool *pool, *other;
    struct err err;
};

/* The driver that is tested, from the command line; `other` is always a directory. */
static const char *driver = "dir";

static int open_pool(struct fixture *f, const struct storage_spec *s, struct storage_pool **ret)
{
    const struct storage_spec spec = *s;
    if (storage_make(&spec, &f->err) < 0 || storage_pool_open(&spec, ret, &f->err) < 0) {
        fprintf(stderr, "# %s\n", f->err.text);
        return -1;
    }
    return 0;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    str_print(f->dir, sizeof(f->dir), "/tmp/terem-tree-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    *state = f;
    str_print(f->path, sizeof(f->path), "%s/pool", f->dir);
    str_print(f->image, sizeof(f->image), "%s/image", f->dir);
    f->spec = (struct storage_spec){.driver = driver, .path = f->path};
    if (!str_eq(driver, "dir")) {
        f->spec.image = f->image;
        f->spec.size = UINT64_C(320) << 20;
    }
    auto_free char *other = str_format("%s/other", f->dir);
    const struct storage_spec dir = {.driver = "dir", .path = other};
    return open_pool(f, &f->spec, &f->pool) < 0 || open_pool(f, &dir, &f->other) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    storage_pool_close(f->pool);
    storage_pool_close(f->other);
    int r = storage_unmount(&f->spec, &f->err);
    if (r < 0) { /* a test that failed: with our end the device goes */
        print_message("# %s\n", f->err.text);
        umount2(f->path, MNT_DETACH);
    }
    r |= path_remove_tree_at(AT_FDCWD, f->dir, NULL);
    free(f);
    return r;
}

#define OK(x) assert_string_equal((x) == 0 ? "" : f->err.text, "")

static int tree_of(struct fixture *f, struct storage_pool *p, int64_t id)
{
    int fd = -1;
    OK(storage_open(p, id, &fd, &f->err));
    return fd;
}

static void test_save_and_restore(void **state)
{
    struct fixture *f = *state;
    OK(storage_create(f->pool, 1, &f->err));
    auto_fd int tree = tree_of(f, f->pool, 1);
    assert_true(tree_fill(tree));
    assert_int_equal(tree_parent(f->pool, 1), 0);
    OK(storage_save(f->pool, 1, 10, NULL, &f->err));
    auto_fd int saved = -1;
    OK(storage_saved_open(f->pool, 10, &saved, &f->err));
    assert_true(tree_same(tree, saved));
    assert_int_equal(tree_parent(f->pool, 1), 10);

    /* What the VE does afterwards changes nothing of what was saved. */
    assert_true(tree_write(tree, "plain", "changed"));
    assert_true(tree_holds(tree, "second name", "changed"));
    assert_false(tree_holds(saved, "plain", "changed"));
    OK(storage_save(f->pool, 1, 11, NULL, &f->err));
    assert_int_equal(tree_parent(f->pool, 1), 11);
    OK(storage_restore(f->pool, 10, 1, NULL, &f->err));
    auto_fd int back = tree_of(f, f->pool, 1);
    assert_true(tree_same(back, saved));
    assert_int_equal(tree_parent(f->pool, 1), 10);
    struct stat st;
    assert_int_equal(fstatat(back, "work", &st, 0), 0);
    assert_int_equal(fstatat(back, ".links", &st, 0), -1);
    assert_true(storage_has_trash(f->pool));
    OK(storage_empty_trash(f->pool, &f->err));
    assert_false(storage_has_trash(f->pool));

    /* A saved one that goes is forgotten as a parent: the one before it is. */
    OK(storage_restore(f->pool, 11, 1, NULL, &f->err));
    assert_int_equal(tree_parent(f->pool, 1), 11);
    auto_fd int second = tree_of(f, f->pool, 1);
    assert_true(tree_holds(second, "plain", "changed"));
    OK(storage_saved_remove(f->pool, 11, &f->err));
    OK(storage_saved_remove(f->pool, 11, &f->err));
    assert_int_equal(tree_parent(f->pool, 1), 10);
    OK(storage_saved_remove(f->pool, 10, &f->err));
    assert_int_equal(tree_parent(f->pool, 1), 0);
    auto_free int64_t *list = NULL;
    size_t n = 1;
    OK(storage_saved_list(f->pool, &list, &n, &f->err));
    assert_int_equal(n, 0);
}

static void test_refusals(void **state)
{
    struct fixture *f = *state;
    OK(storage_create(f->pool, 1, &f->err));
    OK(storage_save(f->pool, 1, 5, NULL, &f->err));
    assert_int_equal(storage_save(f->pool, 1, 5, NULL, &f->err), -ERR_EXISTS);
    assert_int_equal(storage_save(f->pool, 2, 6, NULL, &f->err), -ERR_NOT_FOUND);
    assert_int_equal(storage_save(f->pool, 1, 0, NULL, &f->err), -ERR_INTERNAL);
    assert_int_equal(storage_restore(f->pool, 6, 1, NULL, &f->err), -ERR_NOT_FOUND);
    assert_string_equal(f->err.text, "there is no saved tree 6 in the pool");
    assert_int_equal(storage_clone_into(f->pool, 1, f->pool, 1, false, NULL, &f->err), -ERR_EXISTS);
    assert_string_equal(f->err.text, "tree 1 exists already");
    assert_int_equal(storage_clone_into(f->pool, 2, f->pool, 9, false, NULL, &f->err),
                     -ERR_NOT_FOUND);
    assert_int_equal(tree_parent(f->pool, 9), 0);
    int fd = -1;
    assert_int_equal(storage_saved_open(f->pool, 6, &fd, &f->err), -ERR_NOT_FOUND);
    assert_false(storage_has_trash(f->pool));
    assert_int_equal(storage_grow(f->other, 1, &f->err), -ERR_UNSUPPORTED);
    assert_int_equal(storage_destroy(&f->spec, &f->err), -ERR_STATE);
    assert_non_null(strstr(f->err.text, "1 trees of VEs and 1 saved ones are in it"));
    OK(storage_remove(f->pool, 1, &f->err));
    OK(storage_saved_remove(f->pool, 5, &f->err));
    storage_pool_close(f->pool);
    f->pool = NULL;
    OK(storage_destroy(&f->spec, &f->err));
    OK(storage_destroy(&f->spec, &f->err));
    assert_int_equal(access(f->path, F_OK), -1);
    assert_int_equal(access(f->image, F_OK), -1);
    struct storage_spec wrong = {.driver = "zfs", .path = f->path};
    assert_int_equal(storage_make(&wrong, &f->err), -ERR_USAGE);
    assert_int_equal(access(f->path, F_OK), -1);
}

static void test_clone_and_move(void **state)
{
    struct fixture *f = *state;
    OK(storage_create(f->pool, 1, &f->err));
    auto_fd int tree = tree_of(f, f->pool, 1);
    assert_true(tree_fill(tree));
    OK(storage_save(f->pool, 1, 5, NULL, &f->err));
    OK(storage_clone_into(f->pool, 2, f->pool, 1, false, NULL, &f->err));
    auto_fd int clone = tree_of(f, f->pool, 2);
    assert_true(tree_same(tree, clone));
    assert_int_equal(tree_parent(f->pool, 2), 0); /* the saved tree is of the other VE */
    OK(storage_restore(f->pool, 5, 3, NULL, &f->err));
    auto_fd int born = tree_of(f, f->pool, 3);
    assert_true(tree_same(tree, born));

    /* Saved trees first, so that the tree finds its parent. */
    OK(storage_move(f->pool, f->other, 5, true, NULL, &f->err));
    OK(storage_move(f->pool, f->other, 1, false, NULL, &f->err));
    auto_fd int moved = tree_of(f, f->other, 1);
    auto_fd int saved = -1;
    OK(storage_saved_open(f->other, 5, &saved, &f->err));
    assert_true(tree_same(tree, moved) && tree_same(tree, saved));
    assert_int_equal(tree_parent(f->other, 1), 5);
    assert_int_equal(tree_parent(f->pool, 1), 5);
    assert_int_equal(storage_move(f->pool, f->other, 1, false, NULL, &f->err), -ERR_EXISTS);

    OK(storage_clone_into(f->other, 7, f->pool, 1, false, NULL, &f->err));
    OK(storage_clone_into(f->other, 8, f->pool, 5, true, NULL, &f->err));
    auto_fd int there = tree_of(f, f->other, 7), old = tree_of(f, f->other, 8);
    assert_true(tree_same(tree, there) && tree_same(tree, old));
    assert_int_equal(tree_parent(f->other, 7), 0);
    assert_int_equal(tree_parent(f->other, 8), 0);
    assert_int_equal(storage_clone_into(f->other, 9, f->pool, 6, true, NULL, &f->err),
                     -ERR_NOT_FOUND);
}

static void test_draft(void **state)
{
    struct fixture *f = *state;
    auto_fd int fd = -1;
    OK(storage_draft(f->pool, 4, &fd, &f->err));
    assert_true(tree_fill(fd));
    int early = -1;
    assert_int_equal(storage_open(f->pool, 4, &early, &f->err), -ERR_NOT_FOUND);
    assert_false(storage_has_trash(f->pool)); /* it is being made */
    OK(storage_draft_finish(f->pool, 4, &f->err));
    auto_fd int tree = tree_of(f, f->pool, 4);
    assert_true(tree_same(fd, tree));
    int again = -1;
    OK(storage_draft(f->pool, 4, &again, &f->err));
    assert_int_equal(storage_draft_finish(f->pool, 4, &f->err), -ERR_EXISTS);
    close(again);
}

static void test_usage(void **state)
{
    struct fixture *f = *state;
    struct storage_usage before, after;
    OK(storage_create(f->pool, 1, &f->err));
    OK(storage_usage(f->pool, 1, &before, &f->err));
    auto_fd int tree = tree_of(f, f->pool, 1);
    auto_fd int file = openat(tree, "upper/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    char page[4096] = "full";
    for (int i = 0; i < 512; i++)
        assert_int_equal(write(file, page, sizeof(page)), sizeof(page));
    assert_int_equal(fsync(file), 0);
    for (int i = 0; i < 600; i++) { /* one inode, however many names */
        char name[32];
        str_print(name, sizeof(name), "upper/link%d", i);
        assert_int_equal(linkat(tree, "upper/file", tree, name, 0), 0);
    }
    OK(storage_usage(f->pool, 1, &after, &f->err));
    assert_true(after.space_known && after.space - before.space >= 2 << 20);
    assert_true(after.space - before.space < 8 << 20); /* xfs sets some aside for more */
    if (after.inodes_known)
        assert_int_equal(after.inodes, before.inodes + 1);
    OK(storage_save(f->pool, 1, 2, NULL, &f->err));
    uint64_t own, total;
    OK(storage_saved_usage(f->pool, 2, &own, &total, &f->err));
    assert_true(total >= 2 << 20 && (own <= total || own == UINT64_MAX));
}

static int cancel_later(void *ctx, int percent, const char *text)
{
    assert_true(percent >= -1 && percent <= 100);
    assert_non_null(strstr(text, "copied"));
    return ++*(int *)ctx >= 1;
}

static void test_cancel(void **state)
{
    struct fixture *f = *state;
    int calls = 0;
    const struct storage_step step = {cancel_later, &calls};
    if (storage_can(f->pool)->cheap_copies)
        return; /* over before it could be */
    OK(storage_create(f->pool, 1, &f->err));
    auto_fd int tree = tree_of(f, f->pool, 1);
    assert_true(tree_fill(tree));
    assert_int_equal(storage_save(f->pool, 1, 2, &step, &f->err), -ERR_CANCELLED);
    assert_int_equal(storage_clone_into(f->pool, 2, f->pool, 1, false, &step, &f->err),
                     -ERR_CANCELLED);
    OK(storage_save(f->pool, 1, 3, NULL, &f->err));
    assert_int_equal(storage_restore(f->pool, 3, 1, &step, &f->err), -ERR_CANCELLED);
    assert_int_equal(calls, 3);
    assert_false(storage_has_trash(f->pool));
    assert_int_equal(tree_parent(f->pool, 1), 3);
}

static void pause_us(long us)
{
    nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL);
}

static bool whole(struct fixture *f, int64_t saved)
{
    auto_fd int fd = -1;
    return storage_saved_open(f->pool, saved, &fd, &f->err) == 0 && tree_holds(fd, "z/last", "z");
}

static void wait_for_saved(struct fixture *f)
{
    size_t n = 0;
    for (int i = 0; n == 0 && i < 30000; i++) {
        auto_free int64_t *list = NULL;
        pause_us(1000);
        OK(storage_saved_list(f->pool, &list, &n, &f->err));
    }
    assert_true(n > 0);
}

/* Killed at any instant: what has a number is whole. */
static void test_killed(void **state)
{
    struct fixture *f = *state;
    OK(storage_create(f->pool, 1, &f->err));
    auto_fd int tree = tree_of(f, f->pool, 1);
    assert_int_equal(mkdirat(tree, "upper/z", 0755), 0);
    for (int i = 0; i < 200; i++) {
        char name[32];
        str_print(name, sizeof(name), "file%d", i);
        assert_true(tree_write(tree, name, name));
    }
    assert_true(tree_write(tree, "z/last", "z"));
    for (int round = 0; round < 25; round++) {
        int64_t first = 1000 * (round + 1);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            for (int64_t n = first;; n++) {
                storage_save(f->pool, 1, n, NULL, NULL);
                storage_restore(f->pool, n, 1, NULL, NULL);
                storage_saved_remove(f->pool, n - 1, NULL);
            }
        if (round % 2) /* else it is killed in its first copy, where that takes long */
            wait_for_saved(f);
        pause_us(1000 + round * 3777);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        OK(storage_settle(f->pool, 1, &f->err));
        auto_free int64_t *list = NULL;
        size_t n;
        OK(storage_saved_list(f->pool, &list, &n, &f->err));
        int64_t parent = tree_parent(f->pool, 1);
        bool found = parent == 0;
        for (size_t i = 0; i < n; i++) {
            assert_true(whole(f, list[i]));
            found |= list[i] == parent;
        }
        assert_true(found);
        auto_fd int now = tree_of(f, f->pool, 1);
        assert_true(tree_holds(now, "z/last", "z"));
        for (size_t i = 0; i < n; i++)
            OK(storage_saved_remove(f->pool, list[i], &f->err));
    }
    OK(storage_empty_trash(f->pool, &f->err));
    assert_false(storage_has_trash(f->pool));
}

/* What a crash leaves of a restore: the old tree aside, and the new one there or not. */
static void test_aside(void **state)
{
    struct fixture *f = *state;
    char aside[32], name[16];
    auto_fd int dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 1; i <= 4; i++) {
        OK(storage_create(f->pool, i, &f->err));
        auto_fd int tree = tree_of(f, f->pool, i);
        assert_true(tree_write(tree, "file", "old"));
        str_print(name, sizeof(name), "%d", i);
        str_print(aside, sizeof(aside), ".spare/aside-%d", i);
        assert_int_equal(renameat(dir, name, dir, aside), 0);
        if (i % 2 == 0)
            OK(storage_create(f->pool, i, &f->err));
    }
    OK(storage_settle(f->pool, 1, &f->err));
    OK(storage_settle(f->pool, 2, &f->err));
    storage_pool_close(f->pool); /* teremd ended, too */
    OK(storage_pool_open(&f->spec, &f->pool, &f->err));
    for (int i = 1; i <= 4; i++) {
        auto_fd int tree = tree_of(f, f->pool, i);
        assert_int_equal(tree_holds(tree, "file", "old"), i % 2);
        str_print(aside, sizeof(aside), ".spare/aside-%d", i);
        assert_int_equal(faccessat(dir, aside, F_OK, 0), -1);
    }
    assert_true(storage_has_trash(f->pool));
}

int main(int argc, char **argv)
{
    driver = argc > 1 ? argv[1] : driver;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_save_and_restore, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clone_and_move, setup, teardown),
        cmocka_unit_test_setup_teardown(test_draft, setup, teardown),
        cmocka_unit_test_setup_teardown(test_usage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_aside, setup, teardown),
    };
    return tree_testable(driver) ? cmocka_run_group_tests(tests, NULL, NULL) : 0;
}
