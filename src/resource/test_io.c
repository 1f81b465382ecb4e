/* SPDX-License-Identifier: GPL-2.0-or-later */
/* test_io — the rows of disk throughput on both versions of cgroups, by trees that play them. */
#include "base/cleanup.h"
#include "base/str.h"
#include "resource/test_tree.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

static const char v2_alone[] = "1 1 0:1 / @/cg rw - cgroup2 cgroup2 rw\n";
static const char v1_beside[] = "1 1 0:1 / @/all rw - cgroup cgroup rw,cpu,memory,pids,blkio\n"
                                "1 1 0:3 / @/unified rw - cgroup2 cgroup2 rw\n";

/* A disk that this machine has not. */
static void give_disk(struct resource_node *node)
{
    node->disk[0] = (struct disk){.major = 8, .minor = 4080, .name = "sdx"};
    node->n_disks = 1;
}

static void put_one(struct param_set *set, const char *text)
{
    const char *const texts[] = {text, NULL};
    put_all(set, texts);
}

/* One write is one line: what stands in the file is the last of them. */
static void test_v2(void **state)
{
    struct resource_node *node;
    struct resource_cgroups c;
    struct param_set none, set;
    make_top("cg", true, "cpu memory pids io");
    open_node(v2_alone, &node);
    give_disk(node);
    param_set_init(&none);
    put_one(&set, "io.read=50M,1000iops");
    assert_int_equal(resource_create(node, 7, &set, 0, 0, &c, NULL), 0);
    expect("cg/terem/ve-7/io.max", "8:4080 rbps=52428800 riops=1000");
    put_one(&set, "io.write=200iops");
    write_at("cg/terem/ve-7/io.max", "");
    assert_int_equal(resource_apply(node, 7, &none, &set, false, NULL), 0);
    expect("cg/terem/ve-7/io.max", "8:4080 wbps=max wiops=200");
    assert_int_equal(resource_apply(node, 7, &set, &none, false, NULL), 0);
    expect("cg/terem/ve-7/io.max", "8:4080 wbps=max wiops=max");
    put_one(&set, "io.write=5G");
    assert_int_equal(resource_apply(node, 7, NULL, &set, false, NULL), 0);
    expect("cg/terem/ve-7/io.max", "8:4080 wbps=5368709120 wiops=max");
    resource_cgroups_done(&c);
    resource_node_close(node);
}

static void test_v1(void **state)
{
    struct resource_node *node;
    struct resource_cgroups c;
    struct param_set none, set;
    make_top("unified", true, "");
    make_top("all", false, "");
    open_node(v1_beside, &node);
    assert_int_equal(resource_controller(node, "io"), RESOURCE_V1);
    give_disk(node);
    param_set_init(&none);
    put_one(&set, "io.write=1M,5iops");
    assert_int_equal(resource_create(node, 7, &set, 0, 0, &c, NULL), 0);
    expect("all/terem/ve-7/blkio.throttle.write_bps_device", "8:4080 1048576");
    expect("all/terem/ve-7/blkio.throttle.write_iops_device", "8:4080 5");
    expect("all/terem/ve-7/blkio.throttle.read_bps_device", "");
    write_at("all/terem/ve-7/blkio.throttle.write_bps_device", "");
    write_at("all/terem/ve-7/blkio.throttle.write_iops_device", "");
    assert_int_equal(resource_apply(node, 7, &set, &none, false, NULL), 0);
    expect("all/terem/ve-7/blkio.throttle.write_bps_device", "8:4080 0");
    expect("all/terem/ve-7/blkio.throttle.write_iops_device", "8:4080 0");
    resource_cgroups_done(&c);
    resource_node_close(node);
}

/* When the second of two files cannot be written, the first has its old value again. */
static void test_undone(void **state)
{
    struct resource_node *node;
    struct resource_cgroups c;
    struct param_set none, set;
    struct err e = {0};
    make_top("unified", true, "");
    make_top("all", false, "");
    open_node(v1_beside, &node);
    give_disk(node);
    param_set_init(&none);
    put_one(&set, "io.read=1M,5iops");
    tree_lacks = "blkio.throttle.read_iops_device";
    assert_int_equal(resource_create(node, 7, &none, 0, 0, &c, NULL), 0);
    assert_true(resource_apply(node, 7, &none, &set, false, &e) < 0);
    assert_non_null(strstr(e.text, "io.read: disk sdx: "));
    expect("all/terem/ve-7/blkio.throttle.read_bps_device", "8:4080 0");
    resource_cgroups_done(&c);
    resource_node_close(node);
}

static void expect_refused(struct resource_node *node, const char *text, const char *why)
{
    struct param_set set;
    struct err e = {0};
    put_one(&set, text);
    assert_int_equal(resource_check(node, &set, &e), -ERR_UNSUPPORTED);
    if (!strstr(e.text, why))
        fail_msg("\"%s\" does not say \"%s\"", e.text, why);
}

static void test_refused(void **state)
{
    struct resource_node *node;
    struct param_set set;
    make_top("cg", true, "cpu memory pids io");
    open_node(v2_alone, &node);
    expect_refused(node, "io.read=1M", "the disk of the VEs is not known");
    resource_use_disk(node, "/proc");
    expect_refused(node, "io.read=1M",
                   "io.read cannot be enforced here: its files lie on proc, which does not tell");
    resource_use_disk(node, "/nowhere");
    expect_refused(node, "io.weight=5", "cannot open /nowhere: No such file");
    put_one(&set, "io.read=unlimited");
    assert_int_equal(resource_check(node, &set, NULL), 0);
    put_one(&set, "io.weight=100"); /* the kernel's own */
    assert_int_equal(resource_check(node, &set, NULL), 0);
    resource_node_close(node);

    assert_int_equal(tree_teardown(NULL), 0);
    assert_int_equal(tree_setup(NULL), 0);
    tree_lacks = "io.max";
    make_top("cg", true, "cpu memory pids io");
    open_node(v2_alone, &node);
    give_disk(node);
    expect_refused(node, "io.write=1M", "CONFIG_BLK_DEV_THROTTLING");
    resource_node_close(node);
}

/* sysfs, as far as it is looked at: sdx with partitions, below md0 and dm-0. */
static int play_sysfs(void)
{
    static const char *const dirs[] = {
        "s",           "s/dev", "s/dev/block",  "s/sdx",  "s/sdx/sdx1",   "s/sdx/slaves",
        "s/sdx/queue", "s/md0", "s/md0/slaves", "s/dm-0", "s/dm-0/slaves"};
    static const struct {
        const char *from, *to;
    } links[] = {{"s/dev/block/8:240", "../../sdx"},      {"s/dev/block/8:241", "../../sdx/sdx1"},
                 {"s/dev/block/9:0", "../../md0"},        {"s/dev/block/252:0", "../../dm-0"},
                 {"s/md0/slaves/sdx1", "../../sdx/sdx1"}, {"s/dm-0/slaves/md0", "../../md0"}};
    char path[256];
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        assert_int_equal(mkdir(tree_path(dirs[i], path), 0755), 0);
    for (size_t i = 0; i < ARRAY_SIZE(links); i++)
        assert_int_equal(symlink(links[i].to, tree_path(links[i].from, path)), 0);
    write_at("s/sdx/dev", "8:240\n");
    write_at("s/sdx/uevent", "MAJOR=8\nMINOR=240\nDEVNAME=sdx\nDEVTYPE=disk\n");
    write_at("s/sdx/queue/scheduler", "none mq-deadline [bfq]\n");
    write_at("s/sdx/sdx1/dev", "8:241\n");
    write_at("s/sdx/sdx1/partition", "1\n");
    write_at("s/md0/dev", "9:0\n");
    write_at("s/dm-0/dev", "252:0\n");
    int sys = open(tree_path("s", path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(sys >= 0);
    return sys;
}

static void test_stacks(void **state)
{
    struct disk top = {.major = 252, .name = "dm-0"}, found[DISK_MAX];
    size_t n = 0;
    auto_fd int sys = play_sysfs();
    assert_int_equal(disk_below(sys, &top, found, &n, NULL), 0);
    assert_int_equal(disk_below(sys, &(struct disk){.major = 9}, found, &n, NULL), 0);
    assert_int_equal(n, 1); /* each once */
    assert_int_equal(found[0].major, 8);
    assert_int_equal(found[0].minor, 240); /* of a partition: the disk */
    assert_string_equal(found[0].name, "sdx");
    assert_true(disk_has_scheduler(sys, &found[0], "bfq"));
    assert_false(disk_has_scheduler(sys, &found[0], "none"));
    assert_false(disk_has_scheduler(sys, &top, "bfq"));
    assert_int_equal(disk_below(sys, &(struct disk){.major = 77}, found, &n, NULL), -ERR_NOT_FOUND);
}

static void test_mount_type(void **state)
{
    static const char text[] = "22 1 0:5 / /proc rw shared:1 - proc proc rw\n"
                               "122 22 0:40 /@ / rw - btrfs /dev/sda2 rw\nbroken";
    char type[32];
    assert_string_equal(disk_mount_type(text, 22, type), "proc");
    assert_string_equal(disk_mount_type(text, 122, type), "btrfs");
    assert_string_equal(disk_mount_type(text, 2, type), "");
    assert_string_equal(disk_mount_type("", 2, type), "");
    assert_string_equal(disk_mount_type("2 no dash", 2, type), "");
}

static void test_usage(void **state)
{
    struct resource_node *node;
    struct resource_cgroups c;
    struct resource_usage u;
    struct param_set set;
    make_top("cg", true, "cpu memory pids io");
    open_node(v2_alone, &node);
    give_disk(node);
    param_set_init(&set);
    assert_int_equal(resource_create(node, 7, &set, 0, 0, &c, NULL), 0);
    assert_int_equal(resource_usage(node, 7, RESOURCE_ALL, &u, NULL), 0);
    assert_false(u.has_io);
    write_at("cg/terem/ve-7/io.stat", "8:0 rbytes=5 wbytes=6 rios=1 wios=1 dbytes=0 dios=0\n"
                                      "8:4080 rbytes=4096 wbytes=512 rios=1 wios=1\n"
                                      "8:40801 rbytes=1\n");
    assert_int_equal(resource_usage(node, 7, RESOURCE_ALL, &u, NULL), 0);
    assert_true(u.has_io);
    assert_int_equal(u.read_bytes, 4096);
    assert_int_equal(u.written_bytes, 512);
    resource_cgroups_done(&c);
    resource_node_close(node);

    make_top("unified", true, "");
    make_top("all", false, "");
    open_node(v1_beside, &node);
    give_disk(node);
    assert_int_equal(resource_create(node, 7, &set, 0, 0, &c, NULL), 0);
    write_at("all/terem/ve-7/blkio.throttle.io_service_bytes",
             "8:4080 Read 100\n8:4080 Write 200\n8:4080 Total 300\nTotal 300\n");
    assert_int_equal(resource_usage(node, 7, RESOURCE_ALL, &u, NULL), 0);
    assert_int_equal(u.read_bytes, 100);
    assert_int_equal(u.written_bytes, 200);
    resource_cgroups_done(&c);
    resource_node_close(node);
}

int main(void)
{
#define EACH(f) cmocka_unit_test_setup_teardown(f, tree_setup, tree_teardown)
    const struct CMUnitTest tests[] = {
        EACH(test_v2),     EACH(test_v1),         EACH(test_undone), EACH(test_refused),
        EACH(test_stacks), EACH(test_mount_type), EACH(test_usage),
    };
    return cmocka_run_group_tests_name("resource-io", tests, NULL, NULL);
}
