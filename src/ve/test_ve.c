/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cleanup.h"
#include "base/str.h"
#include "ve/beancounter.h"
#include "ve/budget.h"
#include "ve/instance.h"
#include "ve/state.h"
#include "ve/statfs.h"
#include "ve/sysinfo.h"

#include <inttypes.h>
#include <linux/audit.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void test_every_state_and_event(void **state)
{
    for (int s = 0; s < VE_STATE__COUNT; s++) {
        assert_string_not_equal(ve_state_name((enum ve_state)s), "unknown");
        for (int e = 0; e < VE_EVENT__COUNT; e++) {
            struct err err = {0};
            enum ve_state next = ve_state_next((enum ve_state)s, (enum ve_event)e);
            int r = ve_state_check("web1", (enum ve_state)s, (enum ve_event)e, NULL, &err);
            if (next == VE_STATE__COUNT) {
                assert_int_equal(r, -ERR_STATE);
                assert_true(str_starts(err.text, "web1: cannot "));
                if (s == VE_BROKEN) /* whatever was asked for */
                    assert_true(
                        str_ends(err.text, "; stop it to have it put right, or destroy it"));
            } else {
                assert_int_equal(r, 0);
                assert_true(next < VE_STATE__COUNT);
            }
        }
    }
    assert_int_equal(ve_state_next(VE_STATE__COUNT, VE_EV_START), VE_STATE__COUNT);
    assert_int_equal(ve_state_next(VE_STOPPED, VE_EVENT__COUNT), VE_STATE__COUNT);
}

static void test_walks(void **state)
{
    static const struct {
        enum ve_event event;
        enum ve_state after;
    } life[] = {{VE_EV_CREATE, VE_STOPPED}, {VE_EV_START, VE_STARTING}, {VE_EV_STARTED, VE_RUNNING},
                {VE_EV_PAUSE, VE_PAUSED},   {VE_EV_RESUME, VE_RUNNING}, {VE_EV_STOP, VE_STOPPING},
                {VE_EV_BREAK, VE_BROKEN},   {VE_EV_STOP, VE_STOPPING},  {VE_EV_STOPPED, VE_STOPPED},
                {VE_EV_DESTROY, VE_ABSENT}};
    enum ve_state s = VE_ABSENT;
    for (size_t i = 0; i < ARRAY_SIZE(life); i++) {
        s = ve_state_next(s, life[i].event);
        assert_int_equal(s, life[i].after);
    }
    /* What is asleep can be woken, paused and stopped; only who runs falls asleep. */
    assert_int_equal(ve_state_next(VE_RUNNING, VE_EV_SLEEP), VE_SLEEPING);
    assert_int_equal(ve_state_next(VE_SLEEPING, VE_EV_RESUME), VE_RUNNING);
    assert_int_equal(ve_state_next(VE_SLEEPING, VE_EV_PAUSE), VE_PAUSED);
    assert_int_equal(ve_state_next(VE_SLEEPING, VE_EV_STOP), VE_STOPPING);
    assert_int_equal(ve_state_next(VE_PAUSED, VE_EV_SLEEP), VE_STATE__COUNT);
    assert_int_equal(ve_state_next(VE_RUNNING, VE_EV_DESTROY), VE_STATE__COUNT);
    assert_int_equal(ve_state_next(VE_STOPPED, VE_EV_STOP), VE_STATE__COUNT);
}

/* No two VEs of any two instances share an id, and none touches an ordinary user's. */
static void test_id_ranges(void **state)
{
    uint64_t end = 0;
    for (unsigned n = 0; n <= VE_INSTANCE_MAX; n++) {
        uint64_t first = ve_instance_id_base(n, 1);
        uint64_t last = (uint64_t)ve_instance_id_base(n, ve_instance_slots(n)) + 65535;
        assert_true(first >= end);
        assert_true(first > 0x80000);
        assert_true(last < UINT32_MAX - 1);
        assert_int_equal(ve_instance_id_base(n, 2) - first, 65536);
        end = last + 1;
    }
}

static void test_sysinfo(void **state)
{
    struct sysinfo_parts p = {
        .machine = {.totalram = 1 << 20,
                    .freeram = 1 << 18,
                    .totalswap = 100,
                    .freeswap = 50,
                    .sharedram = 7,
                    .bufferram = 9,
                    .mem_unit = 4096,
                    .procs = 900,
                    .uptime = 5000},
        .uptime = -1,
    };
    /* Nothing is known or limited: the machine's, in bytes. */
    struct sysinfo s = sysinfo_of(&p);
    assert_true(s.totalram == 1ull << 32 && s.freeram == 1ull << 30 && s.mem_unit == 1);
    assert_true(s.totalswap == 409600 && s.freeswap == 204800 && s.bufferram == 9 * 4096);
    assert_true(s.procs == 900 && s.uptime == 5000);
    p.memory_limited = p.swap_limited = p.has_memory = p.has_swap = p.has_tasks = true;
    p.memory_limit = 256 << 20;
    p.memory = 56 << 20;
    p.shared = 1 << 20;
    p.swap_limit = 1 << 20; /* more than the machine has */
    p.swap = 9600;
    p.tasks = 3;
    p.uptime = 12;
    s = sysinfo_of(&p);
    assert_true(s.totalram == 256 << 20 && s.freeram == 200 << 20 && s.sharedram == 1 << 20);
    assert_true(s.totalswap == 409600 && s.freeswap == 400000 && s.bufferram == 0);
    assert_true(s.procs == 3 && s.uptime == 12);
    p.memory = 257 << 20; /* for a moment v1 counts more than the limit */
    assert_true(sysinfo_of(&p).freeram == 0);
    p.memory_limit = UINT64_MAX;
    assert_true(sysinfo_of(&p).totalram == 1ull << 32);
}

#ifdef __x86_64__
static void test_sysinfo_32(void **state)
{
    struct sysinfo s = {.uptime = 7,
                        .loads = {1, 2, 3},
                        .totalram = 5ull << 30,
                        .freeram = 1 << 20,
                        .procs = 4,
                        .mem_unit = 1};
    uint8_t buf[SYSINFO_SIZE_MAX];
    uint32_t word[16];
    assert_int_equal(sysinfo_encode(AUDIT_ARCH_X86_64, &s, buf), sizeof(s));
    assert_memory_equal(buf, &s, sizeof(s));
    assert_int_equal(sysinfo_encode(AUDIT_ARCH_I386, &s, buf), 64);
    memcpy(word, buf, 64);
    assert_int_equal(word[0], 7);
    assert_int_equal(word[4], (5ull << 30) / 4096); /* does not fit: in pages */
    assert_int_equal(word[5], (1 << 20) / 4096);
    assert_int_equal(word[10] & 0xffff, 4);
    assert_int_equal(word[13], 4096);
    s.totalram = 1 << 30;
    sysinfo_encode(AUDIT_ARCH_I386, &s, buf);
    memcpy(word, buf, 64);
    assert_int_equal(word[4], 1 << 30);
    assert_int_equal(word[13], 1);
    assert_int_equal(sysinfo_encode(AUDIT_ARCH_RISCV64, &s, buf), 0);
}
#endif

/* The five numbers of an old row. */
static void old_row(const char *text, const char *name, uint64_t ret[5])
{
    char pattern[32];
    str_print(pattern, sizeof(pattern), "  %s ", name);
    const char *at = strstr(text, pattern);
    assert_non_null(at);
    int n = sscanf(at, "%*s %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &ret[0],
                   &ret[1], &ret[2], &ret[3], &ret[4]);
    assert_int_equal(n, 5);
}

static struct param_counter *count(struct param_counters *list, const char *key, uint64_t held,
                                   uint64_t maxheld, uint64_t failcnt)
{
    struct param_counter *c = param_counters_of(list, param_find(key));
    c->held = (struct param_count){true, held};
    c->maxheld = (struct param_count){true, maxheld};
    c->failcnt = (struct param_count){true, failcnt};
    return c;
}

static void test_beancounters(void **state)
{
    char text[BEANCOUNTER_TEXT + 1] = "", later[BEANCOUNTER_TEXT + 1] = "";
    struct param_counters list = {0};
    struct param_set set;
    struct err e = {0};
    uint64_t n[5];
    param_set_init(&set);
    size_t len = beancounter_print(text, 7, &set, &list);
    assert_true(str_starts(text,
                           "Version: 2.5\n"
                           "       uid  resource                     held              maxheld "
                           "             barrier                limit              failcnt\n"
                           "        7:  kmemsize                        0                    0 "
                           " 9223372036854775807  9223372036854775807                    0\n"
                           "            lockedpages "));
    assert_int_equal(param_set_parse(&set, "memory.limit=256M", &e), 0);
    assert_int_equal(param_set_parse(&set, "memory.soft=200M", &e), 0);
    assert_int_equal(param_set_parse(&set, "processes=100", &e), 0);
    count(&list, "memory.limit", (64 << 20) + 1, 65 << 20, 3);
    count(&list, "processes", 5, 100, UINT64_MAX)->maxheld.known = false;
    count(&list, "swap.limit", 4096, 8192, 0);
    assert_int_equal(beancounter_print(later, 7, &set, &list), len);
    old_row(later, "physpages", n); /* a page that is begun counts */
    assert_true(n[0] == 16385 && n[1] == 16640 && n[2] == 65536 && n[3] == 65536 && n[4] == 3);
    old_row(later, "privvmpages", n);
    assert_true(n[0] == 16385 && n[2] == 51200 && n[3] == 65536 && n[4] == 0);
    old_row(later, "oomguarpages", n);
    assert_true(n[0] == 16386 && n[1] == 16642 && n[3] == INT64_MAX);
    old_row(later, "numproc", n);
    assert_true(n[0] == 5 && n[1] == 5 && n[2] == 100 && n[3] == 100);
    old_row(later, "numfile", n); /* nobody counts it */
    assert_true(n[0] == 0 && n[1] == 0 && n[3] == INT64_MAX && n[4] == 0);
    size_t lines = 0;
    for (const char *at = later; (at = strchr(at, '\n')); at++)
        lines++;
    assert_int_equal(lines, 27);
}

static void test_budget(void **state)
{
    struct budget b = {0};
    int64_t began;
    assert_true(budget_begin(&b, &began));
    budget_end(&b, began - BUDGET_US);
    uint64_t tick = b.tick;
    /* Spent, unless a new tick has begun meanwhile. */
    assert_true(!budget_begin(&b, &began) || b.tick != tick);
}

static void test_statfs(void **state)
{
    struct statfs pool = {
        .f_bsize = 4096, .f_frsize = 4096, .f_blocks = 1000000, .f_bfree = 500, .f_bavail = 400};
    struct statfs s = pool;
    statfs_fit(&s, &(struct statfs_disk){.has_space = true, .space = 40960000, .space_used = 4097});
    assert_int_equal(s.f_blocks, 10000);
    assert_int_equal(s.f_bfree, 10000 - 2); /* what df calls used is the VE's own */
    assert_int_equal(s.f_bavail, 400);      /* the pool has no more */
    assert_int_equal(s.f_files, 0);
    s = pool;
    statfs_fit(&s, &(struct statfs_disk){.has_space = true, .space = 8192, .space_used = 99999});
    assert_int_equal(s.f_blocks, 2);
    assert_true(s.f_bfree == 0 && s.f_bavail == 0);
    s = pool;
    statfs_fit(&s, &(struct statfs_disk){.has_inodes = true, .inodes = 100, .inodes_used = 30});
    assert_int_equal(s.f_blocks, 1000000);
    assert_true(s.f_files == 100 && s.f_ffree == 70);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_state_and_event),
        cmocka_unit_test(test_walks),
        cmocka_unit_test(test_id_ranges),
        cmocka_unit_test(test_sysinfo),
        cmocka_unit_test(test_beancounters),
        cmocka_unit_test(test_budget),
#ifdef __x86_64__
        cmocka_unit_test(test_sysinfo_32),
        cmocka_unit_test(test_statfs),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
