/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test_shapes — every shape of hierarchy, in directories that play cgroup file systems.  That the
 * kernel enforces it is tested in test_rows.c and in a virtual machine.
 */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "resource/node.h"
#include "resource/test_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

static struct param_set set_of(const char *cpu, const char *memory, const char *processes)
{
    const char *all[] = {cpu, memory, processes};
    struct param_set set;
    param_set_init(&set);
    for (size_t i = 0; i < 3; i++)
        if (all[i])
            assert_int_equal(param_set_parse(&set, all[i], NULL), 0);
    return set;
}

static void test_v2_only(void **state)
{
    struct resource_node *node;
    struct resource_cgroups c;
    struct stat st;
    make_top("cg", true, "cpuset cpu io memory pids");
    open_node("1 1 0:1 / @/cg rw - cgroup2 cgroup2 rw\n", &node);
    assert_int_equal(resource_controller(node, "memory"), RESOURCE_V2);
    assert_int_equal(resource_controller(node, "io"), RESOURCE_V2);
    assert_int_equal(resource_controller(node, "hugetlb"), RESOURCE_ABSENT);
    assert_non_null(strstr(resource_why_absent(node, "hugetlb"), "cgroup_disable"));
    assert_null(resource_why_absent(node, "memory"));
    expect("cg/cgroup.subtree_control", "+cpu +cpuset +memory +pids +io");
    expect("cg/terem/cgroup.subtree_control", "+cpu +cpuset +memory +pids +io");

    struct param_set set = set_of("cpu.limit=150", "memory.limit=512M", "processes=50");
    assert_int_equal(resource_create(node, 7, &set, 1000, 1001, &c, NULL), 0);
    assert_int_equal(c.n_v1, 0);
    expect("cg/terem/ve-7/cpu.max", "150000 100000");
    expect("cg/terem/ve-7/memory.max", "536870912");
    expect("cg/terem/ve-7/pids.max", "50");
    expect("cg/terem/ve-7/cgroup.subtree_control", ""); /* the VE's to write */
    if (geteuid() == 0) {
        assert_int_equal(fstat(c.v2, &st), 0);
        assert_int_equal(st.st_uid, 1000);
        assert_int_equal(st.st_gid, 1001);
        assert_int_equal(fstatat(c.v2, "cgroup.subtree_control", &st, 0), 0);
        assert_int_equal(st.st_uid, 1000);
        static const char *const ours[] = {"memory.max", "pids.max", "cgroup.max.descendants"};
        for (size_t i = 0; i < ARRAY_SIZE(ours); i++) { /* limits stay the host's */
            assert_int_equal(fstatat(c.v2, ours[i], &st, 0), 0);
            assert_int_equal(st.st_uid, 0);
        }
        assert_int_equal(fstatat(c.v2, "..", &st, 0), 0);
        assert_int_equal(st.st_uid, 0);
    }

    struct param_set none = set_of(NULL, NULL, "processes=unlimited");
    assert_int_equal(resource_apply(node, 7, &set, &none, false, NULL), 0);
    expect("cg/terem/ve-7/cpu.max", "max 100000");
    expect("cg/terem/ve-7/memory.max", "max");
    expect("cg/terem/ve-7/pids.max", "max");
    assert_int_equal(resource_remove(node, 7, NULL), 0);
    expect_gone("cg/terem/ve-7");
    assert_int_equal(resource_node_remove(node, NULL), 0);
    expect_gone("cg/terem");
    resource_cgroups_done(&c);
    resource_node_close(node);
}

static bool lives_in(struct resource_node *node, int64_t id, const char *name)
{
    struct resource_cgroups c;
    struct stat st, want;
    assert_int_equal(resource_open(node, id, &c, NULL), 0);
    assert_int_equal(fstat(c.v2, &st), 0);
    bool same = fstatat(c.v2, name, &want, 0) == 0 && st.st_ino == want.st_ino;
    resource_cgroups_done(&c);
    return same;
}

/* VEs that were started by a Terem that delegated a cgroup below the one with the limits. */
static void test_older(void **state)
{
    struct resource_node *node;
    struct resource_cgroups c;
    struct param_set set = set_of(NULL, NULL, NULL);
    make_top("cg", true, "cpu memory pids");
    open_node("1 1 0:1 / @/cg rw - cgroup2 cgroup2 rw\n", &node);
    for (int64_t id = 7; id < 9; id++) { /* 7: of a root on the host, as the upper one was */
        if (id == 8 && geteuid() != 0)
            break;
        assert_int_equal(resource_create(node, id, &set, id == 7 ? geteuid() : 1000, 0, &c, NULL),
                         0);
        if (id == 8)
            assert_true(lives_in(node, id, "."));
        assert_int_equal(mkdirat(c.v2, "ve", 0755), 0);
        resource_cgroups_done(&c);
    }
    assert_true(geteuid() != 0 || lives_in(node, 7, "../ve"));
    assert_true(geteuid() != 0 || lives_in(node, 8, "../ve-8")); /* its own doing */
    resource_node_close(node);
}

static void test_v2_memory_in_use(void **state)
{
    struct resource_node *node;
    struct resource_cgroups c;
    struct err e = {0};
    make_top("cg", true, "cpu memory pids");
    open_node("1 1 0:1 / @/cg rw - cgroup2 cgroup2 rw\n", &node);
    struct param_set one = set_of("cpu.limit=50", "memory.limit=1G", "processes=50");
    struct param_set two = set_of("cpu.limit=20", "memory.limit=512M", "processes=60");
    assert_int_equal(resource_create(node, 8, &one, 0, 0, &c, NULL), 0);
    write_at("cg/terem/ve-8/memory.current", "628097024\n"); /* 599 MiB */
    assert_int_equal(resource_apply(node, 8, &one, &two, false, &e), -ERR_STATE);
    assert_string_equal(e.text,
                        "memory.limit 512M is below the 599M in use, which cannot be given back: "
                        "processes inside would be killed until it fits; set it with --force, or "
                        "choose at least 750M");
    expect("cg/terem/ve-8/memory.reclaim", "91226112"); /* it tried */
    expect("cg/terem/ve-8/memory.max", "1073741824");
    expect("cg/terem/ve-8/cpu.max", "50000 100000"); /* was 20000 meanwhile */
    expect("cg/terem/ve-8/pids.max", "50");
    write_at("cg/terem/ve-8/memory.current", "536870912\n");
    assert_int_equal(resource_apply(node, 8, &one, &two, false, NULL), 0);
    expect("cg/terem/ve-8/memory.max", "536870912");
    expect("cg/terem/ve-8/cpu.max", "20000 100000");
    resource_cgroups_done(&c);
    resource_node_close(node);
}

/* What cannot be given back and a quarter of it, at least 8M, have to fit; nothing is tried. */
static void test_room(void **state)
{
    static const struct {
        const char *limit, *says; /* says NULL: there is room */
    } cases[] = {
        {"4M", "4M is below the 12M in use"},
        {"19M", "19M leaves too little beside the 12M in use"},
        {"19M", "choose at least 21M"},
        {"20M", NULL},
        {"unlimited", NULL},
    };
    struct resource_node *node;
    struct resource_cgroups c;
    for (size_t v2 = 0; v2 < 2; v2++) {
        const char *top = v2 ? "cg" : "all";
        char path[64];
        make_top("cg", true, v2 ? "memory" : "");
        if (!v2)
            make_top("all", false, "");
        open_node(v2 ? "1 1 0:1 / @/cg rw - cgroup2 cgroup2 rw\n"
                     : "1 1 0:1 / @/all rw - cgroup cgroup rw,memory\n"
                       "1 1 0:3 / @/cg rw - cgroup2 cgroup2 rw\n",
                  &node);
        struct param_set old = set_of(NULL, "memory.limit=1G", "swap.limit=0");
        assert_int_equal(resource_create(node, 7, &old, 0, 0, &c, NULL), 0);
        str_print(path, sizeof(path), "%s/terem/ve-7/%s", top,
                  v2 ? "memory.current" : "memory.usage_in_bytes");
        write_at(path, "146800640\n"); /* 140M, of which 128M are given back */
        str_print(path, sizeof(path), "%s/terem/ve-7/memory.stat", top);
        write_at(path, v2 ? "inactive_file 104857600\nactive_file 20971520\nfile_mapped 1048576\n"
                            "slab_reclaimable 9437184\ninactive_anon 4194304\n"
                          : "inactive_file 1\nactive_file 1\ntotal_inactive_file 114294784\n"
                            "total_active_file 20971520\ntotal_mapped_file 1048576\n"
                            "total_inactive_anon 4194304\ntotal_swap 0\n");
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
            struct err e = {0};
            char limit[64];
            str_print(limit, sizeof(limit), "memory.limit=%s", cases[i].limit);
            struct param_set set = set_of(NULL, limit, "swap.limit=0");
            int r = resource_room(node, 7, &old, &set, &e);
            assert_int_equal(r, cases[i].says ? -ERR_STATE : 0);
            if (cases[i].says && !strstr(e.text, cases[i].says))
                fail_msg("%s", e.text);
        }
        expect(v2 ? "cg/terem/ve-7/memory.max" : "all/terem/ve-7/memory.limit_in_bytes",
               "1073741824");
        /* v1 bounds both together: 12M and 32M in swap do not fit into 20M and 16M. */
        write_at(path, "total_inactive_file 134217728\ntotal_swap 33554432\n");
        struct param_set wide = set_of(NULL, "memory.limit=20M", "swap.limit=64M");
        struct param_set narrow = set_of(NULL, "memory.limit=20M", "swap.limit=16M");
        struct param_set fits = set_of(NULL, "memory.limit=20M", "swap.limit=24M");
        struct err e = {0};
        assert_int_equal(resource_room(node, 7, &wide, &narrow, &e), v2 ? 0 : -ERR_STATE);
        if (!v2 && !strstr(e.text, "swap.limit 16M is below the 24M in use"))
            fail_msg("%s", e.text);
        assert_int_equal(resource_room(node, 7, &wide, &fits, NULL), 0);
        resource_cgroups_done(&c);
        resource_node_close(node);
        assert_int_equal(tree_teardown(NULL), 0);
        assert_int_equal(tree_setup(NULL), 0);
    }
}

/* lxcfs reads a VE's /proc/stat there, below the same name. */
static void test_v1_with_cpuacct_apart(void **state)
{
    struct resource_node *node;
    struct resource_cgroups c;
    char path[256];
    make_top("unified", true, "");
    make_top("cpu", false, "");
    make_top("cpuacct", false, "");
    open_node("1 1 0:1 / @/cpu rw - cgroup cgroup rw,cpu\n"
              "1 1 0:2 / @/cpuacct rw - cgroup cgroup rw,cpuacct\n"
              "1 1 0:3 / @/unified rw - cgroup2 cgroup2 rw\n",
              &node);
    struct param_set set = set_of("cpu.limit=12.5", NULL, NULL), none = set_of(0, 0, 0);
    assert_int_equal(resource_create(node, 9, &set, 1000, 1000, &c, NULL), 0);
    assert_int_equal(c.n_v1, 2);
    resource_cgroups_done(&c);
    /* A VE of an older Terem lacks it: that must not keep it from commands and new values. */
    assert_int_equal(unlinkat(AT_FDCWD, tree_path("cpuacct/terem/ve-9", path), AT_REMOVEDIR), 0);
    assert_int_equal(resource_open(node, 9, &c, NULL), 0);
    assert_int_equal(c.n_v1, 1);
    resource_cgroups_done(&c);
    assert_int_equal(resource_apply(node, 9, &set, &none, false, NULL), 0);
    expect("cpu/terem/ve-9/cpu.cfs_quota_us", "-1");
    assert_int_equal(resource_remove(node, 9, NULL), 0);
    assert_int_equal(resource_node_remove(node, NULL), 0);
    resource_node_close(node);
}

static void test_v1_with_comounts(void **state)
{
    struct resource_node *node;
    struct resource_cgroups c;
    make_top("unified", true, "");
    make_top("cpu,cpuacct", false, "");
    make_top("memory", false, "");
    make_top("both", false, "");
    open_node("1 1 0:1 / @/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
              "1 1 0:2 / @/both rw - cgroup cgroup rw,memory,pids\n"
              "1 1 0:3 / @/unified rw - cgroup2 cgroup2 rw\n",
              &node);
    assert_int_equal(resource_controller(node, "memory"), RESOURCE_V1);
    assert_int_equal(resource_controller(node, "cpuacct"), RESOURCE_V1);
    assert_int_equal(node->n_branches, 3); /* v2, cpu with cpuacct, memory with pids */
    expect("unified/cgroup.subtree_control", "");
    struct param_set set = set_of("cpu.limit=12.5", "memory.limit=64M", NULL),
                     none = set_of(0, 0, 0);
    assert_int_equal(resource_create(node, 9, &set, 0, 0, &c, NULL), 0);
    assert_int_equal(c.n_v1, 2);
    expect("cpu,cpuacct/terem/ve-9/cpu.cfs_quota_us", "12500");
    expect("both/terem/ve-9/memory.limit_in_bytes", "67108864");
    expect("both/terem/ve-9/pids.max", "4096"); /* the default is a limit too */
    expect_gone("memory/terem");
    assert_int_equal(resource_apply(node, 9, &set, &none, false, NULL), 0);
    expect("cpu,cpuacct/terem/ve-9/cpu.cfs_quota_us", "-1");
    expect("both/terem/ve-9/memory.limit_in_bytes", "-1");
    resource_cgroups_done(&c);
    assert_int_equal(resource_remove(node, 9, NULL), 0);
    assert_int_equal(resource_node_remove(node, NULL), 0);
    expect_gone("both/terem");
    resource_node_close(node);
}

static void test_more_rows_v2(void **state)
{
    static const char *const some[] = {"cpu.weight=250",  "cpu.limit=50", "cpu.burst=20ms",
                                       "memory.soft=64M", "swap.limit=0", NULL};
    struct resource_node *node;
    struct resource_cgroups c;
    struct param_set set, none;
    make_top("cg", true, "cpu memory pids");
    open_node("1 1 0:1 / @/cg rw - cgroup2 cgroup2 rw\n", &node);
    put_all(&set, some);
    param_set_init(&none);
    assert_int_equal(resource_create(node, 7, &set, 0, 0, &c, NULL), 0);
    expect("cg/terem/ve-7/cpu.weight", "250");
    expect("cg/terem/ve-7/cpu.max.burst", "20000");
    expect("cg/terem/ve-7/memory.high", "67108864");
    expect("cg/terem/ve-7/memory.swap.max", "0");
    assert_int_equal(resource_apply(node, 7, &set, &none, false, NULL), 0);
    expect("cg/terem/ve-7/cpu.weight", "100");
    expect("cg/terem/ve-7/cpu.max.burst", "0");
    expect("cg/terem/ve-7/memory.high", "max");
    expect("cg/terem/ve-7/memory.swap.max", "max");
    resource_cgroups_done(&c);
    resource_node_close(node);
}

static void test_more_rows_v1(void **state)
{
    static const char *const some[] = {"cpu.weight=250",
                                       "cpu.limit=50",
                                       "cpu.burst=20ms",
                                       "memory.limit=64M",
                                       "memory.soft=32M",
                                       "swap.limit=16M",
                                       NULL};
    static const char *const more[] = {"memory.limit=128M", "swap.limit=16M", NULL};
    static const char *const alone[] = {"swap.limit=16M", NULL};
    struct resource_node *node;
    struct resource_cgroups c;
    struct param_set set, next, swap;
    struct err e = {0};
    make_top("unified", true, "");
    make_top("all", false, "");
    open_node("1 1 0:1 / @/all rw - cgroup cgroup rw,cpu,memory,pids\n"
              "1 1 0:3 / @/unified rw - cgroup2 cgroup2 rw\n",
              &node);
    put_all(&set, some);
    put_all(&next, more);
    put_all(&swap, alone);
    assert_int_equal(resource_create(node, 7, &set, 0, 0, &c, NULL), 0);
    expect("all/terem/ve-7/cpu.shares", "2560");
    expect("all/terem/ve-7/cpu.cfs_burst_us", "20000");
    expect("all/terem/ve-7/memory.soft_limit_in_bytes", "33554432");
    expect("all/terem/ve-7/memory.memsw.limit_in_bytes", "83886080"); /* 64M + 16M */
    assert_int_equal(resource_apply(node, 7, &set, &next, false, NULL), 0);
    expect("all/terem/ve-7/cpu.shares", "1024");
    expect("all/terem/ve-7/memory.soft_limit_in_bytes", "-1");
    expect("all/terem/ve-7/memory.memsw.limit_in_bytes", "150994944"); /* follows memory.limit */
    assert_int_equal(resource_check(node, &swap, &e), -ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "without memory.limit"));
    resource_cgroups_done(&c);
    resource_node_close(node);

    assert_int_equal(tree_teardown(NULL), 0); /* and a kernel that does not account swap */
    assert_int_equal(tree_setup(NULL), 0);
    tree_lacks = "memory.memsw.limit_in_bytes";
    make_top("unified", true, "");
    make_top("all", false, "");
    open_node("1 1 0:1 / @/all rw - cgroup cgroup rw,cpu,memory,pids\n"
              "1 1 0:3 / @/unified rw - cgroup2 cgroup2 rw\n",
              &node);
    assert_int_equal(resource_check(node, &next, &e), -ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "swap.limit cannot be enforced here: this kernel has no "));
    assert_non_null(strstr(e.text, "it does not account swap"));
    resource_node_close(node);
}

static void test_guarantees(void **state)
{
    static const char *const some[] = {"cpu.guarantee=25", "memory.guarantee=64M", NULL};
    static const char *const nothing[] = {"memory.guarantee=0", "cpu.weight=100", NULL};
    static const char *const cpu[] = {"cpu.guarantee=25", "cpu.weight=777", NULL};
    struct resource_node *node;
    struct resource_cgroups c;
    struct param_set set, none, weight, near;
    struct err e = {0};
    make_top("cg", true, "cpu memory pids");
    open_node("1 1 0:1 / @/cg rw - cgroup2 cgroup2 rw\n", &node);
    put_all(&set, some);
    put_all(&weight, cpu);
    param_set_init(&none);
    assert_int_equal(resource_create(node, 7, &set, 0, 0, &c, NULL), 0);
    expect("cg/terem/ve-7/memory.min", "67108864");
    expect("cg/terem/ve-7/cpu.weight", "100"); /* derived by ve/, not written here */
    param_set_init(&near);
    assert_int_equal(param_set_parse(&near, "memory.guarantee=64M", NULL), 0);
    assert_int_equal(param_set_parse(&near, "memory.limit=64M", NULL), 0);
    assert_int_equal(resource_apply(node, 7, &set, &near, false, NULL), 0);
    expect("cg/terem/ve-7/memory.min", "58720256"); /* at its own limit it gives cache back */
    assert_int_equal(resource_apply(node, 7, &near, &set, false, NULL), 0);
    expect("cg/terem/ve-7/memory.min", "67108864");
    assert_int_equal(resource_rewrite(node, 7, "cpu.weight", &weight, NULL), 0);
    expect("cg/terem/ve-7/cpu.weight", "777");
    assert_int_equal(resource_protect(node, 123456, NULL), 0);
    expect("cg/terem/memory.min", "123456");
    assert_int_equal(resource_apply(node, 7, &set, &none, false, NULL), 0);
    expect("cg/terem/ve-7/memory.min", "0");
    assert_int_equal(resource_rewrite(node, 8, "cpu.weight", &weight, NULL), -ERR_NOT_FOUND);
    resource_cgroups_done(&c);
    resource_node_close(node);

    make_top("unified", true, "");
    make_top("all", false, "");
    open_node("1 1 0:1 / @/all rw - cgroup cgroup rw,cpu,memory,pids\n"
              "1 1 0:3 / @/unified rw - cgroup2 cgroup2 rw\n",
              &node);
    assert_int_equal(resource_check(node, &set, &e), -ERR_UNSUPPORTED);
    assert_string_equal(e.text, "memory.guarantee cannot be enforced here: cgroup v1 cannot "
                                "protect memory against the reclaim of neighbours");
    assert_int_equal(resource_check(node, &weight, NULL), 0);
    put_all(&none, nothing); /* asks for nothing that v1 lacks */
    assert_int_equal(resource_create(node, 9, &none, 0, 0, &c, NULL), 0);
    expect("all/terem/ve-9/cpu.shares", "1024");
    resource_cgroups_done(&c);
    assert_int_equal(resource_protect(node, 1, NULL), 0); /* nothing to do */
    resource_node_close(node);
}

/* Every size of huge pages, used and reserved. */
static void test_hugepages(void **state)
{
    static const char *const some[] = {"hugepages.limit=6M", NULL};
    struct resource_node *node;
    struct resource_cgroups c;
    struct param_set set, none;
    struct err e = {0};
    make_top("cg", true, "memory hugetlb");
    open_node("1 1 0:1 / @/cg rw - cgroup2 cgroup2 rw\n", &node);
    put_all(&set, some);
    param_set_init(&none);
    assert_int_equal(resource_create(node, 7, &set, 0, 0, &c, NULL), 0);
    expect("cg/terem/ve-7/hugetlb.2MB.max", "6291456");
    expect("cg/terem/ve-7/hugetlb.2MB.rsvd.max", "6291456");
    expect("cg/terem/ve-7/hugetlb.1GB.max", "6291456");
    assert_int_equal(resource_apply(node, 7, &set, &none, false, NULL), 0);
    expect("cg/terem/ve-7/hugetlb.1GB.rsvd.max", "max");
    resource_cgroups_done(&c);
    resource_node_close(node);

    make_top("none", true, "memory");
    open_node("1 1 0:1 / @/none rw - cgroup2 cgroup2 rw\n", &node);
    assert_int_equal(resource_check(node, &set, &e), -ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "cgroup controller hugetlb is not available"));
    resource_node_close(node);
}

/* v1 charges TCP's buffers apart: they get the lower one of two limits.  v2 has none. */
static void test_sockets(void **state)
{
    static const char *const both[] = {"memory.sockets=1M", "memory.limit=8M", NULL};
    static const char *const less[] = {"memory.sockets=16M", "memory.limit=8M", NULL};
    static const char *const alone[] = {"memory.sockets=16M", NULL};
    static const char file[] = "all/terem/ve-7/memory.kmem.tcp.limit_in_bytes";
    struct resource_node *node;
    struct resource_cgroups c;
    struct param_set set, next, last, none;
    struct err e = {0};
    make_top("unified", true, "");
    make_top("all", false, "");
    open_node("1 1 0:1 / @/all rw - cgroup cgroup rw,cpu,memory,pids\n"
              "1 1 0:3 / @/unified rw - cgroup2 cgroup2 rw\n",
              &node);
    put_all(&set, both);
    put_all(&next, less);
    put_all(&last, alone);
    param_set_init(&none);
    assert_int_equal(resource_create(node, 7, &set, 0, 0, &c, NULL), 0);
    expect(file, "1048576");
    assert_int_equal(resource_apply(node, 7, &set, &next, false, NULL), 0);
    expect(file, "8388608");
    assert_int_equal(resource_apply(node, 7, &next, &last, false, NULL), 0);
    expect(file, "16777216");
    assert_int_equal(resource_apply(node, 7, &last, &none, false, NULL), 0);
    expect(file, "-1");
    resource_cgroups_done(&c);
    resource_node_close(node);

    make_top("cg", true, "memory");
    open_node("1 1 0:1 / @/cg rw - cgroup2 cgroup2 rw\n", &node);
    assert_int_equal(resource_check(node, &set, &e), 0);
    assert_non_null(strstr(resource_partly(node, param_find("memory.sockets")), "cgroup v2"));
    assert_null(resource_partly(node, param_find("memory.limit")));
    resource_node_close(node);
}

static const struct param_counter *of(struct param_counters *list, const char *key)
{
    size_t n = list->n;
    const struct param_counter *c = param_counters_of(list, param_find(key));
    assert_int_equal(list->n, n); /* it was there */
    return c;
}

static void test_counters(void **state)
{
    struct resource_node *node;
    struct resource_cgroups c;
    struct param_counters list = {0};
    struct param_set set;
    make_top("cg", true, "cpu memory pids hugetlb");
    open_node("1 1 0:1 / @/cg rw - cgroup2 cgroup2 rw\n", &node);
    param_set_init(&set);
    assert_int_equal(resource_counters(node, 7, &list, NULL), -ERR_NOT_FOUND);
    assert_int_equal(resource_create(node, 7, &set, 0, 0, &c, NULL), 0);
    write_at("cg/terem/ve-7/memory.current", "5000\n");
    write_at("cg/terem/ve-7/memory.peak", "7000\n");
    write_at("cg/terem/ve-7/memory.events", "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\n");
    write_at("cg/terem/ve-7/memory.swap.events", "high 0\nmax 6\nfail 7\n");
    write_at("cg/terem/ve-7/memory.stat", "anon 5\nkernel 11\nkernel_stack 4\nsock 22\nshmem 33\n");
    write_at("cg/terem/ve-7/hugetlb.2MB.current", "6291456\n");
    write_at("cg/terem/ve-7/hugetlb.2MB.rsvd.current", "8388608\n");
    write_at("cg/terem/ve-7/hugetlb.2MB.events", "max 3\n");
    write_at("cg/terem/ve-7/hugetlb.2MB.events.local", "max 3\n");
    write_at("cg/terem/ve-7/pids.current", "8\n");
    write_at("cg/terem/ve-7/pids.events", "max 9\n");
    assert_int_equal(resource_counters(node, 7, &list, NULL), 0);
    expect_count(of(&list, "memory.limit")->held, true, 5000);
    expect_count(of(&list, "memory.limit")->maxheld, true, 7000);
    expect_count(of(&list, "memory.limit")->failcnt, true, 5);
    expect_count(of(&list, "swap.limit")->held, false,
                 0); /* there is no file: unknown, not nothing */
    expect_count(of(&list, "swap.limit")->failcnt, true, 6);
    expect_count(of(&list, "memory.kernel")->held, true, 11);
    expect_count(of(&list, "memory.sockets")->held, true, 22);
    expect_count(of(&list, "memory.shared")->held, true, 33);
    expect_count(of(&list, "hugepages.limit")->held, true, 6 << 20);
    expect_count(of(&list, "hugepages.limit")->failcnt, true, 3);
    expect_count(of(&list, "processes")->held, true, 8);
    expect_count(of(&list, "processes")->maxheld, false, 0);
    expect_count(of(&list, "processes")->failcnt, false,
                 0); /* before 6.12 it is counted elsewhere */
    write_at("cg/terem/ve-7/pids.events.local", "max 9\n");
    assert_int_equal(resource_counters(node, 7, &list, NULL), 0);
    expect_count(of(&list, "processes")->failcnt, true, 9);
    resource_cgroups_done(&c);
    resource_node_close(node);
}

/* Each controller on its own: pids in v2, memory in v1, cpu nowhere. */
static void test_mixed_and_absent(void **state)
{
    struct resource_node *node;
    struct resource_cgroups c;
    struct err e = {0};
    make_top("unified", true, "pids");
    make_top("memory", false, "");
    open_node("1 1 0:2 / @/memory rw - cgroup cgroup rw,memory\n"
              "1 1 0:3 / @/unified rw - cgroup2 cgroup2 rw\n",
              &node);
    assert_int_equal(resource_controller(node, "pids"), RESOURCE_V2);
    assert_int_equal(resource_controller(node, "memory"), RESOURCE_V1);
    assert_int_equal(resource_controller(node, "cpu"), RESOURCE_ABSENT);
    struct param_set set = set_of("cpu.limit=50", NULL, NULL);
    struct param_set free_cpu = set_of("cpu.limit=unlimited", "memory.limit=64M", NULL);
    assert_int_equal(resource_create(node, 3, &set, 0, 0, &c, &e), -ERR_UNSUPPORTED);
    assert_string_equal(e.text, "cannot make cgroup terem/ve-3: cpu.limit cannot be enforced here: "
                                "cgroup controller cpu is not available, no mounted cgroup "
                                "hierarchy has it");
    expect_gone("unified/terem/ve-3");
    assert_int_equal(resource_create(node, 3, &free_cpu, 0, 0, &c, NULL), 0);
    expect("unified/terem/ve-3/pids.max", "4096");
    expect("memory/terem/ve-3/memory.limit_in_bytes", "67108864");
    resource_cgroups_done(&c);
    resource_node_close(node);
}

/* The kernel refuses in the middle: nothing is left. */
static void test_create_undone(void **state)
{
    static const char *const files[] = {"memory.limit_in_bytes", "pids.max", "cgroup.threads",
                                        "cgroup.max.depth"};
    struct resource_node *node;
    struct resource_cgroups c;
    make_top("unified", true, "pids");
    make_top("memory", false, "");
    open_node("1 1 0:2 / @/memory rw - cgroup cgroup rw,memory\n"
              "1 1 0:3 / @/unified rw - cgroup2 cgroup2 rw\n",
              &node);
    struct param_set set = set_of(NULL, "memory.limit=64M", NULL);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        tree_lacks = files[i];
        assert_true(resource_create(node, 4, &set, 0, 0, &c, NULL) < 0);
        expect_gone("unified/terem/ve-4");
        expect_gone("memory/terem/ve-4");
    }
    tree_lacks = NULL;
    assert_int_equal(resource_create(node, 4, &set, 0, 0, &c, NULL), 0);
    resource_cgroups_done(&c);
    resource_node_close(node);
}

static void test_no_v2(void **state)
{
    struct cgroup_map map;
    struct resource_node *node = NULL;
    struct err e = {0};
    assert_int_equal(cgroup_map_parse("", NULL, &map, NULL), 0);
    assert_int_equal(resource_node_open_map("terem", &map, &node, &e), -ERR_UNSUPPORTED);
    assert_true(str_starts(e.text, "cgroup v2 is not mounted; mount -t cgroup2"));
    assert_int_equal(resource_node_open_map("../x", &map, &node, &e), -ERR_USAGE);
    assert_null(node);
}

int main(void)
{
#define EACH(f) cmocka_unit_test_setup_teardown(f, tree_setup, tree_teardown)
    const struct CMUnitTest tests[] = {
        EACH(test_v2_only),
        EACH(test_older),
        EACH(test_v2_memory_in_use),
        EACH(test_room),
        EACH(test_v1_with_cpuacct_apart),
        EACH(test_v1_with_comounts),
        EACH(test_mixed_and_absent),
        EACH(test_create_undone),
        EACH(test_no_v2),
        EACH(test_more_rows_v2),
        EACH(test_more_rows_v1),
        EACH(test_guarantees),
        EACH(test_counters),
        EACH(test_hugepages),
        EACH(test_sockets),
    };
    return cmocka_run_group_tests_name("resource-shapes", tests, NULL, NULL);
}
