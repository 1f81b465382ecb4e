/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The small files that are written into a VE's root at its start, whatever it has put there. */
#include "container/test_assert.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* Of uid 7, group 8, mode 0640. */
static int put(int dir, const char *name, const char *text, size_t len)
{
    auto_fd int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    return fd < 0 || fd_write_all(fd, text, len, NULL) < 0 ? -1 : fchown(fd, 7, 8);
}

static void test_files(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};
    const struct container_file files[] = {{"/etc/hostname", "web1\n"},
                                           {"/etc/resolv.conf", "nameserver 192.0.2.1\n"}};
    struct container_plan plan = fixture_plan(f);
    plan.files = files;
    plan.n_files = ARRAY_SIZE(files);
    auto_fd int upper = upper_of(f);
    struct stat before, after;
    assert_ok(fixture_boot(f, &plan, &e), &e);
    assert_int_equal(fixture_exec(f, "cat /etc/hostname /etc/resolv.conf", &e), 0);
    assert_string_equal(f->output, "web1\nnameserver 192.0.2.1\n");
    assert_int_equal(fstatat(upper, "etc/hostname", &before, 0), 0);
    assert_int_equal(before.st_uid, 0);
    fixture_kill(f);
    /* The same text is not written again; a symlink of the VE's is replaced, not followed. */
    assert_int_equal(symlinkat("/etc/passwd", upper, "etc/x"), 0);
    assert_int_equal(renameat(upper, "etc/x", upper, "etc/resolv.conf"), 0);
    assert_ok(fixture_boot(f, &plan, &e), &e);
    assert_int_equal(fixture_exec(f, "head -c 4 /etc/passwd; cat /etc/resolv.conf", &e), 0);
    assert_string_equal(f->output, "rootnameserver 192.0.2.1\n");
    assert_int_equal(fstatat(upper, "etc/hostname", &after, 0), 0);
    assert_true(before.st_ino == after.st_ino && before.st_mtime == after.st_mtime);
}

/* Tells what it was given, and leaves a file that says "mine". */
static bool tell(const char *now, bool own, const char *text, struct str *ret)
{
    str_add(ret, "%s(%s,%s)\n", text, own ? "own" : "layer", strlen(now) < 40 ? now : "long");
    return !strstr(now, "mine");
}

/* What is there is told with who wrote it; what shall be there replaces it with its mode. */
static void merged_files(struct fixture *f, bool old_overlay)
{
    struct err e = {0};
    const struct container_file files[] = {
        {"/etc/passwd", "a", .merge = tell}, {"/etc/new", "b", .merge = tell},
        {"/etc/linked", "c", .merge = tell}, {"/etc/kept", "d", .merge = tell},
        {"/etc/each/*", "e", .merge = tell}, {"/etc/none/*", "f", .merge = tell},
        {"/etc/none/x", "g", .merge = tell}};
    struct container_plan plan = fixture_plan(f);
    plan.files = files;
    plan.n_files = ARRAY_SIZE(files);
    plan.old_overlay = old_overlay;
    auto_fd int upper = upper_of(f);
    struct stat st;
    assert_int_equal(mkdirat(upper, "etc", 0755), 0);
    assert_int_equal(mkdirat(upper, "etc/each", 0755), 0);
    static const char *const names[] = {"etc/kept", "etc/each/x", "etc/each/y", "etc/target"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        assert_int_equal(put(upper, names[i], i ? "yours" : "mine", i ? 5 : 4), 0);
    assert_int_equal(symlinkat("/etc/target", upper, "etc/linked"), 0);
    assert_ok(fixture_boot(f, &plan, &e), &e);
    assert_int_equal(fixture_exec(f,
                                  "cat /etc/passwd /etc/new /etc/linked /etc/kept /etc/each/*; "
                                  "cat /etc/target; ls -a /etc | grep terem; ls /etc/none",
                                  &e),
                     1);
    assert_has(f->output, "a(layer,long)\nb(layer,)\nc(own,yours)\nminee(own,yours)\ne(own,yours)\n"
                          "yours");
    assert_int_equal(fstatat(upper, "etc/each/x", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0640 && st.st_uid == 7 &&
                st.st_gid == 8);
    assert_int_equal(fstatat(upper, "etc/linked", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISREG(st.st_mode));
}

static void test_merged_files(void **state)
{
    merged_files(*state, false);
}

/* As before 6.13: layers are attached otherwise. */
static void test_merged_files_old_overlay(void **state)
{
    merged_files(*state, true);
}

/* Symlinks, FIFOs, directories where the small files go; nothing outside changes. */
static void test_hostile_files(void **state)
{
    struct fixture *f = *state;
    const struct container_file files[] = {{"/etc/hostname", "hostile\n"},
                                           {"/etc/resolv.conf", "hostile\n"}};
    struct container_plan plan = fixture_plan(f);
    plan.files = files;
    plan.n_files = ARRAY_SIZE(files);
    auto_fd int upper = upper_of(f);
    struct err e = {0};
    assert_int_equal(mkdirat(f->dirfd, "outside", 0777), 0);
    auto_free char *outside = str_format("%s/outside", f->dir);
    const char *targets[] = {outside, "/proc/self/fd/3", "/proc/1/root/tmp", "../../../../tmp",
                             "/proc/self/cwd"};
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
        assert_int_equal(symlinkat(targets[i], upper, "etc"), 0); /* hides the layer's /etc */
        /* It starts, or is refused: /sbin/init finds no inittab, which busybox bears. */
        int r = fixture_boot(f, &plan, &e);
        fixture_kill(f);
        assert_ok(r, &e);
        assert_int_equal(unlinkat(upper, "etc", 0), 0);
    }
    struct stat st;
    assert_int_equal(fstatat(f->dirfd, "outside/hostname", &st, 0), -1);
    assert_int_equal(access("/tmp/hostname", F_OK), -1);
    assert_int_equal(mkdirat(upper, "etc", 0755), 0);
    assert_int_equal(mkfifoat(upper, "etc/hostname", 0644), 0);
    assert_int_equal(mkdirat(upper, "etc/resolv.conf", 0755), 0);
    assert_ok(fixture_boot(f, &plan, &e), &e);
    assert_int_equal(fixture_exec(f, "cat /etc/hostname; ls -d /etc/resolv.conf; ls -a /etc", &e),
                     0);
    assert_has(f->output, "hostile\n/etc/resolv.conf\n");
    assert_lacks(f->output, ".terem");
}

/* What merges is read by who has the VE's root, and nothing that it may be holds up a start. */
static void test_hostile_merged(void **state)
{
    struct fixture *f = *state;
    const struct container_file files[] = {{"/etc/hosts", "a", .merge = tell},
                                           {"/etc/each/*", "b", .merge = tell}};
    struct container_plan plan = fixture_plan(f);
    plan.files = files;
    plan.n_files = ARRAY_SIZE(files);
    auto_fd int upper = upper_of(f);
    struct err e = {0};
    assert_int_equal(mkdirat(f->dirfd, "outside", 0777), 0);
    auto_free char *outside = str_format("%s/outside", f->dir);
    auto_free char *above = str_format("../../../../../../%s/outside", f->dir);
    assert_int_equal(put(f->dirfd, "outside/hosts", "mine", 4), 0);
    assert_int_equal(mkdirat(upper, "etc", 0755), 0);
    assert_int_equal(mkdirat(upper, "etc/each", 0755), 0);
    assert_int_equal(symlinkat(outside, upper, "etc/each/link"), 0);
    assert_int_equal(mkfifoat(upper, "etc/each/fifo", 0644), 0);
    auto_free char *target = str_format("%s/hosts", outside),
                   *relative = str_format("%s/hosts", above);
    const char *links[] = {target,      relative, "/proc/self/fd/3", "/proc/1/root/etc/passwd",
                           "/dev/zero", "hosts",  "/dev/console",    ".",
                           "each/fifo"};
    for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
        assert_int_equal(symlinkat(links[i], upper, "etc/hosts"), 0);
        assert_ok(fixture_boot(f, &plan, &e), &e);
        assert_int_equal(fixture_exec(f, "cat /etc/hosts; ls -a /etc /etc/each", &e), 0);
        assert_has(f->output, "a(own,)\n");
        assert_lacks(f->output, ".terem");
        fixture_kill(f);
        assert_int_equal(unlinkat(upper, "etc/hosts", 0), 0);
    }
    struct stat st;
    assert_int_equal(fstatat(f->dirfd, "outside/hosts", &st, 0), 0);
    assert_int_equal(st.st_size, 4);
    /* No text, and more of it than anybody reads: both are left. */
    static char much[(1 << 20) + 1];
    memset(much, 'x', sizeof(much));
    const size_t sizes[] = {sizeof(much), 20};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        much[10] = i ? '\0' : 'x';
        assert_int_equal(put(upper, "etc/hosts", much, sizes[i]), 0);
        assert_ok(fixture_boot(f, &plan, &e), &e);
        fixture_kill(f);
        assert_int_equal(fstatat(upper, "etc/hosts", &st, 0), 0);
        assert_int_equal(st.st_size, sizes[i]);
    }
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {EACH(test_files), EACH(test_merged_files),
                                       EACH(test_merged_files_old_overlay),
                                       EACH(test_hostile_files), EACH(test_hostile_merged)};
    struct fixture f;
    const char *why = NULL;
    bool made = fixture_make(&f, &why);
    fixture_remove(&f);
    if (!made) {
        printf("1..0 # SKIP %s\n", why);
        return 0;
    }
    return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
