/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of terem top: rates between two looks, marks of refusals, layout. */
#include "base/cleanup.h"
#include "text.h"
#include "top.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define BIG ((size_t)4 << 20)

static json_t *ve(int id, const char *name, json_int_t cpu, json_int_t net, json_int_t refused)
{
    json_t *failed = json_object();
    if (refused)
        json_object_set_new(failed, "processes", json_integer(refused));
    return json_pack("{s:i,s:s,s:s,s:{s:I,s:I,s:I,s:I,s:n,s:I,s:i,s:{s:f,s:f,s:n}},s:f,s:I,s:o}",
                     "id", id, "name", name, "state", "running", "usage", "cpu_usec", cpu, "memory",
                     (json_int_t)1 << 20, "read", (json_int_t)0, "written", (json_int_t)4096 * cpu,
                     "net_in_bytes", "net_out_bytes", net, "pids", 3, "pressure", "cpu", 12.3,
                     "memory", 0.0, "io", "cpu_guarantee", 12.5, "memory_limit",
                     (json_int_t)64 << 20, "failed", failed);
}

static void look(struct top *t, json_t *list, int64_t at)
{
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one) json_object_set_new(one, "time", json_integer(at));
    struct err err = {0};
    assert_int_equal(top_look(t, list, at, &err), 0);
    json_decref(list);
}

static void test_rates(void **state)
{
    struct top t = TOP_NONE;
    struct top_view v = {.columns = 80};
    auto_str struct str out = str_init(BIG);
    look(&t, json_pack("[o,o]", ve(1, "web1", 0, 0, 0), ve(2, "web2", 500000, 0, 0)), 1000);
    top_render(&t, &v, &out);
    assert_non_null(
        strstr(str_c(&out), "2 VEs run; cpu 0.0% (guaranteed 25%), memory 2M, 6 tasks"));
    assert_non_null(strstr(str_c(&out), "web1          -  12.5    1M   64M   12/0/0     -     -"));
    /* Two seconds later: 1.5 seconds of processor time are 75% of a core. */
    look(&t,
         json_pack("[o,o,o]", ve(2, "web2", 2000000, 4096, 0), ve(1, "web1", 0, 0, 0),
                   ve(3, "new", 9, 9, 0)),
         3000);
    str_clear(&out);
    top_render(&t, &v, &out);
    assert_non_null(strstr(str_c(&out), "web2       75.0  12.5    1M   64M   12/0/0  2.8G    2K"));
    assert_true(strstr(str_c(&out), "web2") < strstr(str_c(&out), "web1"));
    json_t *doc = top_json(&t);
    assert_int_equal(json_array_size(doc), 3);
    assert_true(json_is_null(json_object_get(json_array_get(doc, 2), "cpu_percent")));
    assert_true(json_number_value(json_object_get(json_array_get(doc, 1), "cpu_percent")) == 75);
    assert_true(json_is_null(json_object_get(json_array_get(doc, 1), "net_in_rate")));
    json_decref(doc);
    /* Started again meanwhile: its counters are below the old ones. */
    look(&t, json_pack("[o]", ve(2, "web2", 10, 0, 0)), 5000);
    str_clear(&out);
    top_render(&t, &v, &out);
    assert_non_null(strstr(str_c(&out), "web2          -"));
    top_done(&t);
}

static void test_refusals(void **state)
{
    struct top t = TOP_NONE;
    struct top_view v = {.columns = 80, .color = true};
    auto_str struct str out = str_init(BIG);
    t.order = 'f';
    look(&t, json_pack("[o,o]", ve(1, "a", 0, 0, 7), ve(2, "b", 0, 0, 1)), 1000);
    top_render(&t, &v, &out);
    assert_non_null(strstr(str_c(&out), "processes 7"));
    assert_null(strstr(str_c(&out), "!"));
    look(&t, json_pack("[o,o]", ve(1, "a", 0, 0, 7), ve(2, "b", 0, 0, 4)), 3000);
    str_clear(&out);
    top_render(&t, &v, &out);
    assert_non_null(strstr(str_c(&out), "!processes +3\x1b[0m"));
    assert_non_null(strstr(str_c(&out), "1 refused just now"));
    assert_true(strstr(str_c(&out), "!processes +3") < strstr(str_c(&out), "processes 7"));
    /* It stays marked for a while, then it is history. */
    for (int64_t at = 5000; at <= 15000; at += 2000) {
        look(&t, json_pack("[o,o]", ve(1, "a", 0, 0, 7), ve(2, "b", 0, 0, 4)), at);
        str_clear(&out);
        top_render(&t, &v, &out);
        assert_int_equal(!!strstr(str_c(&out), "!processes +3"), at < 13000);
    }
    assert_non_null(strstr(str_c(&out), "processes 4"));
    top_done(&t);
}

/* The number beside a name is that row's own, and is there however long the name is. */
static void test_refused_numbers(void **state)
{
    struct top t = TOP_NONE;
    struct top_view v = {.columns = 80};
    auto_str struct str out = str_init(BIG);
    json_t *one = ve(1, "a-name-of-a-virtual-environment", 0, 0, 15);
    json_object_set_new(json_object_get(one, "failed"), "connections.rate", json_integer(210));
    look(&t, json_pack("[o]", one), 1000);
    top_render(&t, &v, &out);
    assert_non_null(strstr(str_c(&out), "connecti… 210\n"));
    v.columns = 100;
    str_clear(&out);
    top_render(&t, &v, &out);
    assert_non_null(strstr(str_c(&out), "conne… 210 (+15)\n"));
    v.columns = 0;
    str_clear(&out);
    top_render(&t, &v, &out);
    assert_non_null(strstr(str_c(&out), "connections.rate 210 (+15)\n"));
    one = json_deep_copy(one);
    json_object_set_new(json_object_get(one, "failed"), "processes", json_integer(1015));
    look(&t, json_pack("[o]", one), 3000);
    v.columns = 80;
    str_clear(&out);
    top_render(&t, &v, &out);
    assert_non_null(strstr(str_c(&out), " +1000\n"));
    top_done(&t);
}

/* Whatever the window: no line is too long and none too many. */
static void test_bounds(void **state)
{
    static const size_t widths[] = {1, 20, 66, 79, 80, 111, 112, 132, 400};
    struct top t = TOP_NONE;
    json_t *list = json_array();
    char name[64];
    for (int i = 0; i < 1000; i++) {
        str_print(name, sizeof(name), "%s-%04d", i % 7 ? "v" : "a-name-of-a-virtual-environment",
                  i);
        json_array_append_new(list, ve(i + 1, name, (json_int_t)i * 123456789, 0, i));
    }
    look(&t, list, 1000);
    for (size_t w = 0; w < ARRAY_SIZE(widths); w++) {
        for (size_t lines = 1; lines < 60; lines += 7) {
            struct top_view v = {.columns = widths[w], .lines = lines, .first = 5000};
            auto_str struct str out = str_init(BIG);
            assert_int_equal(top_render(&t, &v, &out), 1000);
            size_t n = 0;
            for (const char *p = str_c(&out); *p; n++) {
                size_t len = strcspn(p, "\n");
                assert_true(text_width(p, len) <= widths[w]);
                p += len + 1;
            }
            assert_true(n <= lines || (lines < 3 && n == 3));
            assert_true(v.first <= 1000);
        }
    }
    str_print(t.filter, sizeof(t.filter), "-099");
    struct top_view v = {.columns = 80, .lines = 24};
    auto_str struct str out = str_init(BIG);
    assert_int_equal(top_render(&t, &v, &out), 10);
    assert_non_null(strstr(str_c(&out), "1-10 of 10 with -099 by cpu"));
    top_done(&t);
}

static void test_orders(void **state)
{
    static const char *const words[] = {"cpu",     "memory",    "pressure", "io",
                                        "traffic", "processes", "refused",  "name"};
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        assert_int_equal(top_order(words[i]), TOP_ORDERS[i]);
        assert_string_equal(top_order_word(TOP_ORDERS[i]), words[i]);
    }
    assert_int_equal(top_order("disk"), 0);
    struct top t = TOP_NONE;
    struct top_view v = {.columns = 80, .lines = 24};
    auto_str struct str out = str_init(BIG);
    look(&t, json_array(), 1);
    assert_int_equal(top_render(&t, &v, &out), 0);
    assert_non_null(strstr(str_c(&out), "0 VEs run;"));
    top_done(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rates),           cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_refused_numbers), cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_orders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
