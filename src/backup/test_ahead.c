/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/ahead.h"
#include "backup/test_make.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define FILES  48
#define SIZE   ((off_t)1 << 20) /* as much as is asked for of one */
#define FRONT  31               /* so many of them are in front of the packer */
#define BEHIND 40               /* nobody asks for this one before some have passed */

struct fixture {
    char path[64];
    int dir;
};

static const char *name_of(int i, char buf[16])
{
    str_print(buf, 16, "file%02d", i);
    return buf;
}

static int open_file(struct fixture *f, int i)
{
    char name[16];
    int fd = openat(f->dir, name_of(i, name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

static bool is_cached(struct fixture *f, int i)
{
    unsigned char in = 0;
    auto_fd int fd = open_file(f, i);
    void *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(at != MAP_FAILED);
    assert_int_equal(mincore(at, 4096, &in), 0);
    munmap(at, 4096);
    return in & 1;
}

static void wait_cached(struct fixture *f, int i)
{
    for (int tries = 0; !is_cached(f, i); tries++) {
        assert_true(tries < 6000);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->dir = dir_new("ahead", f->path);
    for (int i = 0; i < FILES; i++) {
        auto_fd int fd = open_file(f, i);
        assert_int_equal(pwrite(fd, "data", 4, 0), 4);
        assert_int_equal(ftruncate(fd, SIZE), 0);
        assert_int_equal(fsync(fd), 0);
        assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
        assert_false(is_cached(f, i));
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    dir_trash(f->path, f->dir);
    free(f);
    return 0;
}

static void pass(struct fixture *f, struct ahead *a, int i)
{
    struct stat st;
    char name[16];
    assert_int_equal(fstatat(f->dir, name_of(i, name), &st, 0), 0);
    ahead_passed(a, &st);
}

static void test_front(void **state)
{
    struct fixture *f = *state;
    struct ahead *a = ahead_new(f->dir, NULL, NULL);
    assert_non_null(a);
    wait_cached(f, 0);
    wait_cached(f, FRONT - 1);
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL); /* were it to go on, it had */
    assert_false(is_cached(f, BEHIND));
    for (int i = 0; i < 24; i++)
        pass(f, a, i);
    wait_cached(f, BEHIND);
    wait_cached(f, FILES - 1);
    ahead_free(a);
}

static bool is_odd(const void *ctx, const struct walk_file *f)
{
    return (f->name[strlen(f->name) - 1] - '0') % 2;
}

static void test_wanted(void **state)
{
    struct fixture *f = *state;
    struct ahead *a = ahead_new(f->dir, is_odd, NULL);
    assert_non_null(a);
    wait_cached(f, 11);
    for (int i = 0; i < 11; i += 2)
        assert_false(is_cached(f, i));
    ahead_free(a); /* while it waits */
    assert_false(is_cached(f, FILES - 1));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_front), T(test_wanted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
