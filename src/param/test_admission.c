/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cleanup.h"
#include "base/str.h"
#include "param/admission.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define GIB (1ull << 30)

static const struct admission_node node = {
    .memory = 24 * GIB, .memory_reserve = GIB, .cpu = 20000, .cpu_reserve = 1000};

static struct param_set of(uint64_t memory, uint64_t cpu, uint64_t weight)
{
    struct param_set set;
    param_set_init(&set);
    param_set_put(&set, param_find("memory.guarantee"), (struct param_value){.n = memory});
    param_set_put(&set, param_find("cpu.guarantee"), (struct param_value){.n = cpu});
    param_set_put(&set, param_find("cpu.weight"), (struct param_value){.n = weight});
    return set;
}

static void test_sum(void **state)
{
    struct admission_sum sum = {0};
    struct param_set a = of(GIB, 500, 100), b = of(2 * GIB, 4000, 50);
    admission_add(&sum, &a);
    admission_add(&sum, &b);
    assert_int_equal(sum.memory, 3 * GIB);
    assert_int_equal(sum.cpu, 4500);
    assert_int_equal(sum.weight, 150);
    assert_int_equal(sum.cpu_max, 4000);
    assert_int_equal(sum.weight_max, 100);
    sum.memory = UINT64_MAX; /* does not wrap */
    admission_add(&sum, &a);
    assert_int_equal(sum.memory, UINT64_MAX);
}

static void test_check(void **state)
{
    struct admission_sum others = {.memory = 22 * GIB, .cpu = 15000};
    struct param_set fits = of(GIB, 4000, 100), more = of(2 * GIB, 0, 100), cpu = of(0, 4001, 100);
    struct err e = {0};
    assert_int_equal(admission_check(&node, &others, NULL, &fits, &e), 0); /* to the last byte */
    assert_int_equal(admission_check(&node, &others, NULL, &more, &e), -ERR_EXHAUSTED);
    assert_string_equal(e.text,
                        "cannot guarantee 2G of memory: 1G is left of 24G after other guarantees "
                        "and the node's reserve of 1G; lower it or move a VE");
    assert_int_equal(admission_check(&node, &others, NULL, &cpu, &e), -ERR_EXHAUSTED);
    assert_string_equal(e.text,
                        "cannot guarantee 40.01% of a core: 40% is left of 200% after other "
                        "guarantees and the node's reserve of 10%; lower it or move a VE");
    /* The node shrank: what was admitted stays, and may be lowered. */
    others.memory = 30 * GIB;
    assert_int_equal(admission_check(&node, &others, &more, &more, &e), 0);
    assert_int_equal(admission_check(&node, &others, &more, &fits, &e), 0);
    assert_int_equal(admission_check(&node, &others, &fits, &more, &e), -ERR_EXHAUSTED);
    assert_non_null(strstr(e.text, ": 0 is left of 24G"));
}

/* Of all classes together, each way; what stays on the node takes nothing of its uplink. */
static void test_uplink(void **state)
{
    struct admission_node uplink = node;
    struct admission_sum others = {0};
    struct param_set a = of(0, 0, 100), b = a, none = a;
    struct err e = {0};
    assert_int_equal(param_set_parse(&a, "net.out.any=60M:unlimited", &e), 0);
    assert_int_equal(param_set_parse(&a, "net.out.europe=30M:40M", &e), 0);
    assert_int_equal(param_set_parse(&a, "net.out.local=5M", &e), 0);
    assert_int_equal(param_set_parse(&b, "net.out.europe=11M:20M", &e), 0);
    assert_int_equal(admission_check(&uplink, &others, NULL, &none, &e), 0);
    assert_int_equal(admission_check(&uplink, &others, NULL, &a, &e), -ERR_EXHAUSTED);
    assert_non_null(strstr(e.text, "set network.out in terem.conf"));
    uplink.net_out = 100000000;
    assert_int_equal(admission_check(&uplink, &others, NULL, &a, &e), 0);
    admission_add(&others, &a);
    assert_int_equal(others.net_out, 90000000);
    assert_int_equal(admission_check(&uplink, &others, NULL, &b, &e), -ERR_EXHAUSTED);
    assert_string_equal(e.text, "cannot guarantee 11Mbit/s outgoing: 10Mbit/s is left of the "
                                "node's 100Mbit/s after other guarantees; lower it or move a VE");
    /* What it has already is not refused, though the node may have shrunk. */
    assert_int_equal(admission_check(&uplink, &others, &b, &b, &e), 0);
    admission_take(&others, &a);
    assert_int_equal(others.net_out, 0);
    assert_int_equal(admission_check(&uplink, &others, NULL, &b, &e), 0);
}

/* What each gets when all want everything, in hundredths of a percent. */
static void expect_kept(const struct param_set *sets, size_t n, double least)
{
    struct admission_sum sum = {0};
    double all = 0;
    for (size_t i = 0; i < n; i++)
        admission_add(&sum, &sets[i]);
    for (size_t i = 0; i < n; i++)
        all += (double)admission_weight(&node, &sum, &sets[i]);
    for (size_t i = 0; i < n; i++) {
        uint64_t w = admission_weight(&node, &sum, &sets[i]);
        double share = (double)w / all * (double)(node.cpu - node.cpu_reserve);
        assert_true(w >= 1 && w <= 10000);
        if (share < least * (double)param_set_get(&sets[i], "cpu.guarantee").n)
            fail_msg("VE %zu: weight %d gives %.1f", i, (int)w, share);
    }
}

static void test_weights(void **state)
{
    struct param_set sets[1000];
    struct admission_sum none = {0};
    for (size_t i = 0; i < 1000; i++)
        sets[i] = of(0, 0, i % 10 * 100 + 1);
    admission_add(&none, &sets[9]);
    assert_int_equal(admission_weight(&node, &none, &sets[9]), 901); /* nobody has a guarantee */

    for (size_t i = 0; i < 20; i++) /* 1% to 40%, all promised but 4% */
        sets[i] = of(0, i == 19 ? 4000 : 100 + i * 80, 100);
    expect_kept(sets, 15, 0.99);
    for (size_t i = 0; i < 1000; i++) /* 0.19% each: everything is promised */
        sets[i] = of(0, 19, 100);
    expect_kept(sets, 1000, 0.99);
    sets[0] = of(0, 18000, 1); /* one has nearly all, many have heavy weights */
    for (size_t i = 1; i < 1000; i++)
        sets[i] = of(0, 0, 10000);
    expect_kept(sets, 1000, 0.95); /* the kernel's least weight is 1 of 10000: 999 of it count */
}

/* Above the guarantees: in proportion to weight. */
static void test_spare(void **state)
{
    struct param_set a = of(0, 9000, 100), b = of(0, 0, 100), c = of(0, 0, 300);
    struct admission_sum sum = {0};
    admission_add(&sum, &a);
    admission_add(&sum, &b);
    admission_add(&sum, &c);
    /* 190% less 90%: 20, 20 and 60 of the rest, so 110 : 20 : 60. */
    double wa = (double)admission_weight(&node, &sum, &a);
    assert_in_range((int)(wa / (double)admission_weight(&node, &sum, &b) * 100), 548, 551);
    assert_in_range((int)(wa / (double)admission_weight(&node, &sum, &c) * 1000), 1832, 1834);
}

static void test_node_weight(void **state)
{
    struct admission_sum none = {.weight = 300}, some = {.cpu = 1, .weight = 300};
    struct admission_node large = {.cpu = 640000, .cpu_reserve = 1000}, all = {.cpu = 20000};
    assert_int_equal(admission_node_weight(&node, &none), 100);
    assert_int_equal(admission_node_weight(&node, &some), 1900);
    assert_int_equal(admission_node_weight(&large, &some), 63900);
    assert_true(admission_node_weight(&all, &some) > 1000000);
    large.cpu_reserve = 600000;
    assert_int_equal(admission_node_weight(&large, &some), 100); /* never less than others */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum),   cmocka_unit_test(test_node_weight),
        cmocka_unit_test(test_check), cmocka_unit_test(test_weights),
        cmocka_unit_test(test_spare), cmocka_unit_test(test_uplink),
    };
    return cmocka_run_group_tests_name("admission", tests, NULL, NULL);
}
