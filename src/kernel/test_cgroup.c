/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "kernel/cgroup.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

static const char cgroups[] = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"
                              "cpuset\t3\t1\t1\ncpu\t1\t1\t1\ncpuacct\t2\t1\t1\n"
                              "blkio\t7\t1\t1\nmemory\t0\t13\t0\npids\t8\t1\t1\n";

static char dir[64];

static int setup(void **state)
{
    str_print(dir, sizeof(dir), "/tmp/terem-cgroup-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    return path_remove_tree_at(AT_FDCWD, dir, NULL);
}

static void put(const char *name, const char *text)
{
    auto_fd int d = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(d >= 0);
    assert_int_equal(fd_replace_file_at(d, name, text, strlen(text), 0644, NULL), 0);
}

static void test_v1_mounts(void **state)
{
    struct cgroup_map map;
    assert_int_equal(
        cgroup_map_parse(
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
            "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup "
            "rw,cpu,cpuacct\n"
            "33 31 0:30 / /sys/fs/cgroup/a\\040b\\134c ro - cgroup cgroup rw,pids,xattr,name=x\n"
            "34 31 0:31 /docker/77 /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n"
            "35 31 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
            "36 31 0:29 / /mnt/again rw - cgroup cgroup rw,cpu,cpuacct\n"
            "broken line\n\n37 31 0:99 / /x\n",
            cgroups, &map, NULL),
        0);
    assert_int_equal(map.v2, -1);
    assert_int_equal(map.n, 2);
    assert_string_equal(map.h[0].path, "/sys/fs/cgroup/cpu,cpuacct");
    assert_string_equal(map.h[0].controllers, " cpu cpuacct ");
    assert_true(map.h[0].writable);
    assert_string_equal(map.h[1].path, "/sys/fs/cgroup/a b\\c");
    assert_string_equal(map.h[1].controllers, " pids ");
    assert_false(map.h[1].writable);
    assert_int_equal(cgroup_map_find(&map, "cpu", false), 0);
    assert_int_equal(cgroup_map_find(&map, "cpuacct", false), 0);
    assert_int_equal(cgroup_map_find(&map, "pids", false), 1);
    assert_int_equal(cgroup_map_find(&map, "pids", true), -1);
    assert_int_equal(cgroup_map_find(&map, "pid", false), -1);
    assert_int_equal(cgroup_map_find(&map, "blkio", false), -1);
    assert_non_null(strstr(cgroup_map_why_absent(&map, "memory"), "cgroup_disable"));
    assert_non_null(strstr(cgroup_map_why_absent(&map, "hugetlb"), "without it"));
    assert_non_null(strstr(cgroup_map_why_absent(&map, "cpuset"), "no mounted"));
}

static void test_v2_mount(void **state)
{
    char text[512], unreadable[300];
    struct cgroup_map map;
    struct err e = {0};
    put("cgroup.controllers", "cpuset cpu io memory pids\n");
    str_print(text, sizeof(text),
              "30 1 0:26 /.. /other rw - cgroup2 cgroup2 rw\n"
              "31 1 0:27 / /nowhere ro - cgroup2 cgroup2 rw\n" /* a writable one comes first */
              "32 1 0:27 / %s rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
              dir);
    assert_int_equal(cgroup_map_parse(text, NULL, &map, &e), 0);
    assert_int_equal(map.v2, 0);
    assert_int_equal(map.n, 1);
    assert_string_equal(map.h[0].path, dir);
    assert_int_equal(cgroup_map_find(&map, "memory", true), 0);
    assert_int_equal(cgroup_map_find(&map, "memory", false), -1);
    assert_int_equal(cgroup_map_find(&map, "hugetlb", true), -1);

    memset(unreadable, 'x', sizeof(unreadable));
    unreadable[sizeof(unreadable) - 1] = '\0';
    str_print(text, sizeof(text), "32 1 0:27 / /%s rw - cgroup2 cgroup2 rw\n", unreadable);
    assert_int_equal(cgroup_map_parse(text, NULL, &map, &e), -ERR_EXHAUSTED);
    assert_int_equal(cgroup_map_parse("", NULL, &map, NULL), 0);
    assert_int_equal(map.n, 0);
    assert_non_null(strstr(cgroup_map_why_absent(&map, "memory"), "no cgroup hierarchy"));
}

static void test_files(void **state)
{
    auto_fd int fd = -1;
    char buf[16];
    uint64_t v = 5;
    struct err e = {0};
    put("cgroup.procs", "");
    put("pids.max", "max\n");
    put("pids.current", "12\n");
    put("memory.current", "12 13\n");
    put("memory.events", "low 0\noom 3\noom_kill 7\n");
    put("long", "0123456789abcdef");
    assert_int_equal(cgroup_open_path(dir, &fd, NULL), 0);
    assert_int_equal(cgroup_read_number(fd, "pids.max", &v, NULL), 0);
    assert_true(v == UINT64_MAX);
    assert_int_equal(cgroup_read_number(fd, "pids.current", &v, NULL), 0);
    assert_int_equal(v, 12);
    assert_true(cgroup_read_number(fd, "memory.current", &v, NULL) < 0);
    assert_int_equal(cgroup_read_key(fd, "memory.events", "oom_kill", &v, NULL), 0);
    assert_int_equal(v, 7);
    assert_int_equal(cgroup_read_key(fd, "memory.events", "oom", &v, NULL), 0);
    assert_int_equal(v, 3);
    assert_int_equal(cgroup_read_key(fd, "memory.events", "om", &v, NULL), -ERR_UNSUPPORTED);
    assert_int_equal(cgroup_read(fd, "long", buf, sizeof(buf), NULL), -ERR_EXHAUSTED);
    assert_int_equal(cgroup_read(fd, "pids.max", buf, sizeof(buf), NULL), 0);
    assert_string_equal(buf, "max");

    assert_int_equal(cgroup_write(fd, "io.max", &e, "1"), -ERR_UNSUPPORTED);
    assert_string_equal(e.text, "controller io is not available (there is no io.max)");
    assert_int_equal(cgroup_write(fd, "cgroup.kill", &e, "1"), -ERR_UNSUPPORTED);
    assert_string_equal(e.text, "this kernel has no cgroup.kill");
    unlinkat(fd, "cgroup.procs", 0);
    assert_int_equal(cgroup_write(fd, "io.max", &e, "1"), -ERR_NOT_FOUND);
    assert_string_equal(e.text, "the cgroup is gone");
}

/* Whatever this machine has must be read without an error. */
static void test_this_machine(void **state)
{
    struct cgroup_map map;
    struct err e = {0};
    if (cgroup_map_read(&map, &e) < 0)
        fail_msg("%s", e.text);
    for (size_t i = 0; i < map.n; i++)
        assert_int_equal(map.h[i].path[0], '/');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v1_mounts),
        cmocka_unit_test_setup_teardown(test_v2_mount, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files, setup, teardown),
        cmocka_unit_test(test_this_machine),
    };
    return cmocka_run_group_tests_name("cgroup", tests, NULL, NULL);
}
