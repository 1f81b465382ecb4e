/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cleanup.h"
#include "base/str.h"
#include "param/placement.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define VES 8

/* VEs as "cpu.cores cpu.guarantee", on a node of some cores with a reserve of 10%. */
struct crowd {
    struct admission_node node;
    cpu_set_t online;
    struct param_set set[VES];
    struct placement_ve list[VES];
    size_t n;
};

static void put(struct crowd *c, const char *cores, const char *guarantee)
{
    static const char *const names[VES] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    char text[64];
    struct err e = {0};
    size_t i = c->n++;
    param_set_init(&c->set[i]);
    str_print(text, sizeof(text), "cpu.cores=%s", cores);
    assert_int_equal(param_set_parse(&c->set[i], text, &e), 0);
    str_print(text, sizeof(text), "cpu.guarantee=%s", guarantee);
    assert_int_equal(param_set_parse(&c->set[i], text, &e), 0);
    c->list[i] = placement_ve(names[i], &c->set[i]);
}

static struct crowd *crowd(int cores)
{
    static struct crowd c;
    c = (struct crowd){.node = {.cpu = 10000 * (uint64_t)cores, .cpu_reserve = 1000}};
    for (int i = 0; i < cores; i++)
        CPU_SET(i, &c.online);
    return &c;
}

static const char *where(const struct crowd *c, size_t i)
{
    static char buf[PLACEMENT_TEXT];
    return placement_format(&c->list[i].cores, buf);
}

static void test_text(void **state)
{
    static const char *const good[] = {"", "0", "0-3", "1,3", "0-1,5,7-9", "1023"};
    static const char *const bad[] = {"x", "1-", "3-1", "1024", "-1", "0-1x"};
    char buf[PLACEMENT_TEXT];
    cpu_set_t set;
    struct err e;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(placement_parse(good[i], &set, &e), 0);
        assert_string_equal(placement_format(&set, buf), good[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(placement_parse(bad[i], &set, &e), -ERR_CORRUPT);
    CPU_ZERO(&set);
    for (int c = 0; c < CPU_SETSIZE; c += 2)
        CPU_SET(c, &set);
    cpu_set_t back;
    assert_int_equal(placement_parse(placement_format(&set, buf), &back, &e), 0);
    assert_true(CPU_EQUAL(&set, &back));
}

static void test_who_runs_where(void **state)
{
    struct crowd *c = crowd(4);
    put(c, "unlimited", "0");
    put(c, "0-0,exclusive", "0");
    put(c, "1-2", "0");
    put(c, "1", "0");
    put(c, "8", "0");
    placement_make(&c->node, &c->online, c->list, c->n);
    assert_string_equal(where(c, 0), "1-3");
    assert_string_equal(where(c, 1), "0");
    assert_string_equal(where(c, 2), "1-2");
    assert_string_equal(where(c, 4), "1-3"); /* more than there are limits nothing */
    assert_string_equal(where(c, 3), "3");   /* it carries least */
}

static void test_counts_are_spread_and_stay(void **state)
{
    struct crowd *c = crowd(4);
    for (int i = 0; i < 4; i++)
        put(c, "2", i == 0 ? "50" : "10");
    placement_make(&c->node, &c->online, c->list, c->n);
    assert_string_equal(where(c, 0), "0-1"); /* the largest first */
    assert_string_equal(where(c, 1), "2-3");
    cpu_set_t last = c->list[3].cores;
    put(c, "1", "0");
    placement_make(&c->node, &c->online, c->list, c->n);
    assert_string_equal(where(c, 0), "0-1");
    assert_true(CPU_EQUAL(&last, &c->list[3].cores));
    /* What becomes another's alone has to be left. */
    put(c, "0-0,exclusive", "0");
    placement_make(&c->node, &c->online, c->list, c->n);
    for (size_t i = 0; i < 4; i++) {
        assert_false(CPU_ISSET(0, &c->list[i].cores));
        assert_int_equal(CPU_COUNT(&c->list[i].cores), 2);
    }
    assert_string_equal(where(c, 1), "2-3");
    /* A core went away and came back. */
    CPU_CLR(3, &c->online);
    placement_make(&c->node, &c->online, c->list, c->n);
    assert_string_equal(where(c, 1), "1-2");
}

static void expect_no(struct crowd *c, const char *words)
{
    struct err e = {0};
    assert_true(placement_check(&c->online, c->list, c->n, c->n - 1, &e) < 0);
    if (!strstr(e.text, words))
        fail_msg("\"%s\" does not say \"%s\"", e.text, words);
    c->n--;
}

static void test_what_is_refused(void **state)
{
    struct crowd *c = crowd(4);
    struct err e = {0};
    put(c, "0-0,exclusive", "0");
    put(c, "1-2", "0");
    put(c, "3-4", "0");
    expect_no(c, "there is no core 4; this node has cores 0-3");
    put(c, "0-1", "0");
    expect_no(c, "core 0 is exclusive to a; choose another core");
    put(c, "0-0,exclusive", "0");
    expect_no(c, "core 0 is exclusive to a; choose another core");
    put(c, "2-3,exclusive", "0");
    expect_no(c, "core 2 cannot be exclusive: cpu.cores of b names it");
    put(c, "3-3,exclusive", "0");
    assert_int_equal(placement_check(&c->online, c->list, c->n, 2, &e), 0);
    c->n = 0;
    put(c, "0-1,exclusive", "0");
    put(c, "2-3,exclusive", "0");
    expect_no(c, "cpu.cores 2-3,exclusive would leave no core for the rest of the node; at least "
                 "one must be left");
}

/* Does it fit, and how much is left to be shared by weight? */
static uint64_t spare(struct crowd *c, bool fits)
{
    uint64_t n;
    assert_int_equal(placement_fit(&c->node, &c->online, c->list, c->n, &n), fits);
    return n;
}

static void expect_why(struct crowd *c, size_t asks, const char *words)
{
    struct err e = {0};
    spare(c, false);
    assert_int_equal(placement_why(&c->node, &c->online, c->list, c->n, asks, &e), -ERR_EXHAUSTED);
    if (!strstr(e.text, words))
        fail_msg("\"%s\" does not say \"%s\"", e.text, words);
}

static void test_guarantees_on_cores(void **state)
{
    struct crowd *c = crowd(2);
    put(c, "unlimited", "150");
    put(c, "unlimited", "40");
    assert_int_equal(spare(c, true), 0);
    c->n = 1;
    put(c, "0-0", "40");
    assert_int_equal(spare(c, true), 0);
    c->n = 0;
    /* Two on one core: 100% of it, though the node has 190. */
    put(c, "0-0", "60");
    put(c, "0-0", "40");
    assert_int_equal(spare(c, true), 0);
    put(c, "0-1", "90"); /* the other core less the reserve */
    assert_int_equal(spare(c, true), 0);
    c->n = 2;
    put(c, "0-1", "90.01");
    expect_why(c, 2, "cannot guarantee 90.01% of a core on cores 0-1: 90% is left of them");
    c->n = 0;
    put(c, "unlimited", "110");
    put(c, "1-1,exclusive", "0");
    expect_why(c, 1, "cpu.cores 1-1,exclusive: the guarantees of the other VEs do not fit");
    expect_why(c, 0, "cannot guarantee 110% of a core on cores 0: 100% is left of them");
}

/* The reserve may lie on the exclusive core: 100% fit on the other one. */
static void test_reserve_beside_exclusive(void **state)
{
    struct crowd *c = crowd(2);
    put(c, "1-1,exclusive", "0");
    put(c, "unlimited", "100");
    spare(c, true);
    c->n = 0;
    put(c, "1-1,exclusive", "95");
    put(c, "unlimited", "95");
    assert_int_equal(spare(c, true), 0);
    c->n = 1;
    put(c, "unlimited", "95.01");
    spare(c, false);
}

/* Pinned VEs cannot use what is left elsewhere: weights share out only what they can. */
static void test_spare(void **state)
{
    struct crowd *c = crowd(2);
    put(c, "unlimited", "0");
    put(c, "unlimited", "90");
    assert_int_equal(spare(c, true), 10000);
    c->n = 0;
    put(c, "0-0", "95");
    put(c, "0-0", "0"); /* 5% are left there; half of what can be shared goes to each */
    uint64_t n = spare(c, true);
    assert_in_range(n, 400, 500);
    put(c, "unlimited", "0"); /* a third of the spare each, two of them on core 0 */
    n = spare(c, true);
    assert_in_range(n, 600, 750);
}

/* First come, first placed would not do: the counts are placed again. */
static void test_counts_move_to_fit(void **state)
{
    struct crowd *c = crowd(3);
    put(c, "1", "50");
    put(c, "1", "50");
    spare(c, true);
    CPU_ZERO(&c->list[0].cores);
    CPU_ZERO(&c->list[1].cores);
    CPU_SET(0, &c->list[0].cores);
    CPU_SET(1, &c->list[1].cores);
    put(c, "2", "190");
    spare(c, true);
    assert_true(CPU_EQUAL(&c->list[0].cores, &c->list[1].cores));
    put(c, "1", "1");
    expect_why(c, 3, "cannot guarantee 1% of a core");
}

static void test_many(void **state)
{
    enum { N = 1000 };
    static struct param_set sets[N];
    static struct placement_ve list[N];
    struct crowd *c = crowd(64);
    struct err e;
    uint64_t n;
    for (size_t i = 0; i < N; i++) {
        char text[32];
        param_set_init(&sets[i]);
        str_print(text, sizeof(text), "cpu.cores=%d", (int)(1 + i % 4));
        assert_int_equal(param_set_parse(&sets[i], text, &e), 0);
        assert_int_equal(param_set_parse(&sets[i], "cpu.guarantee=6", &e), 0);
        list[i] = placement_ve("x", &sets[i]);
    }
    assert_true(placement_fit(&c->node, &c->online, list, N, &n));
    uint64_t least = UINT64_MAX, most = 0;
    for (int core = 0; core < 64; core++) {
        uint64_t load = 0;
        for (size_t i = 0; i < N; i++)
            if (CPU_ISSET(core, &list[i].cores))
                load += 600 / (unsigned)CPU_COUNT(&list[i].cores);
        least = load < least ? load : least;
        most = load > most ? load : most;
    }
    assert_true(most <= 10000 && least * 10 > most * 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_who_runs_where),
        cmocka_unit_test(test_counts_are_spread_and_stay),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_guarantees_on_cores),
        cmocka_unit_test(test_reserve_beside_exclusive),
        cmocka_unit_test(test_spare),
        cmocka_unit_test(test_counts_move_to_fit),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
