/* SPDX-License-Identifier: GPL-2.0-or-later */
/* test_oom — what the kernel's log says of processes that it ended. */
#include "base/str.h"
#include "resource/resource.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define SUMMARY                                                                   \
    "6,25455,13026003572,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null)," \
    "cpuset=/,mems_allowed=0"
#define KILLED(pid, name)                                                                         \
    "3,25456,13026003589,-;Memory cgroup out of memory: Killed process " pid " (" name ") total-" \
    "vm:23140kB, anon-rss:20352kB, file-rss:1696kB, shmem-rss:8kB, UID:65536 pgtables:80kB "      \
    "oom_score_adj:-17\n"

static struct resource_oom_log heard;

static bool hear(const char *record, struct resource_victim *v)
{
    *v = (struct resource_victim){0};
    return resource_oom_read(&heard, "terem-3", record, v);
}

static void expect_where(const char *summary, const char *killed, enum resource_oom_where want)
{
    struct resource_victim v;
    assert_false(hear(summary, &v));
    assert_true(hear(killed, &v));
    assert_int_equal(v.where, want);
}

static void test_victim(void **state)
{
    struct resource_victim v;
    assert_true(hear(KILLED("313793", "tail"), &v));
    assert_int_equal(v.pid, 313793);
    assert_string_equal(v.name, "tail");
    assert_int_equal(v.held_bytes, (20352 + 1696 + 8 + 80) * 1024);
    assert_int_equal(v.uid, 65536);
    assert_int_equal(v.adj, -17);
    assert_int_equal(v.where, RESOURCE_OOM_UNKNOWN);
    assert_true(hear("3,1,1,-;Out of memory: Killed process 7 (x) total-vm:1kB, anon-rss:2kB, "
                     "file-rss:3kB, shmem-rss:4kB, UID:5 pgtables:6kB oom_score_adj:0",
                     &v));
    assert_int_equal(v.where, RESOURCE_OOM_NODE);
    assert_int_equal(v.held_bytes, 15 * 1024);
}

static void test_whose_limit(void **state)
{
    expect_where(SUMMARY ",oom_memcg=/terem-3/ve-5,task_memcg=/terem-3/ve-5/ve,task=a,pid=7,uid=9",
                 KILLED("7", "a"), RESOURCE_OOM_LIMIT);
    expect_where(SUMMARY ",oom_memcg=/terem-3/ve-5/ve/x,task_memcg=/terem-3/ve-5/ve/x,task=a,pid=7",
                 KILLED("7", "a"), RESOURCE_OOM_INSIDE);
    expect_where(SUMMARY ",oom_memcg=/terem/ve-5,task_memcg=/terem/ve-5,task=a,pid=7",
                 KILLED("7", "a"), RESOURCE_OOM_UNKNOWN);
    expect_where(SUMMARY ",oom_memcg=/terem-3/ve-5,task_memcg=/terem-3/ve-5,task=a,pid=7",
                 KILLED("8", "a"),
                 RESOURCE_OOM_UNKNOWN); /* the line of another kill was left out */
}

/* Names are the VE's: they prove nothing. */
static void test_forged(void **state)
{
    struct resource_victim v;
    assert_true(hear(KILLED("7", "UID:0) total-vm"), &v));
    assert_int_equal(v.uid, 65536);
    assert_string_equal(v.name, "UID:0) total-vm");
    assert_true(hear(KILLED("7", ") total-vm:0kB,"), &v));
    assert_string_equal(v.name, ") total-vm:0kB,");
    assert_int_equal(v.uid, 65536);
    expect_where(SUMMARY ",oom_memcg=/terem-3/ve-5/ve/,oom_memcg=/terem-3/ve-6,task=,pid=8,pid=7",
                 KILLED("7", "a"), RESOURCE_OOM_INSIDE);
    /* facility 1: a program wrote it into the log */
    assert_false(hear("11,1,1,-;Out of memory: Killed process 7 (x) total-vm:1kB, anon-rss:2kB, "
                      "file-rss:3kB, shmem-rss:4kB, UID:5 pgtables:6kB oom_score_adj:0",
                      &v));
}

static void test_other_lines(void **state)
{
    static const char *const lines[] = {
        "",
        ";",
        "3;",
        "3,1,1,-;",
        "3,1,1,-;Memory cgroup out of memory: Killed process ",
        "3,1,1,-;Memory cgroup out of memory: Killed process 7 (tail)",
        "3,1,1,-;Memory cgroup out of memory: Killed process 7 (tail) total-vm:1kB, UID:5",
        "3,1,1,-;Out of memory: Killed process 99999999999 (x) total-vm:1kB, anon-rss:2kB, "
        "file-rss:3kB, shmem-rss:4kB, UID:5 pgtables:6kB oom_score_adj:0",
        "3,1,1,-;Out of memory and no killable processes...",
    };
    struct resource_victim v;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        assert_false(hear(lines[i], &v));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_victim),
        cmocka_unit_test(test_whose_limit),
        cmocka_unit_test(test_forged),
        cmocka_unit_test(test_other_lines),
    };
    return cmocka_run_group_tests_name("resource-oom", tests, NULL, NULL);
}
