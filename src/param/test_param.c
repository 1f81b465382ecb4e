/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cleanup.h"
#include "base/str.h"
#include "param/param.h"
#include "param/share.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

/* Each has a back end. */
static const char *const enforced[] = {
    "files",           "file-locks",    "sockets.tcp",    "sockets.other",    "cpu.guarantee",
    "cpu.limit",       "cpu.burst",     "cpu.weight",     "cpu.cores",        "memory.guarantee",
    "memory.soft",     "memory.limit",  "swap.limit",     "processes",        "io.weight",
    "io.read",         "io.write",      "connections",    "connections.rate", "firewall.rules",
    "net.packets",     "memory.locked", "memory.shared",  "memory.dedup",     "ptys",
    "signals",         "ipc.queues",    "ipc.semaphores", "ipc.segments",     "inotify.instances",
    "inotify.watches", "namespaces",    "memory.kernel",  "memory.sockets",   "hugepages.limit",
    "net.out.CLASS",   "net.in.CLASS",  "disk.space",     "disk.inodes",      "disk.grace",
    "disk.users",      "idle.sleep"};

static bool is_enforced(const char *key)
{
    for (size_t i = 0; i < ARRAY_SIZE(enforced); i++)
        if (str_eq(enforced[i], key))
            return true;
    return false;
}

static void test_rows_are_whole(void **state)
{
    assert_true(param_table_size <= PARAM_MAX);
    for (size_t i = 0; i < param_table_size; i++) {
        const struct param_row *r = &param_table[i];
        assert_non_null(r->key);
        assert_non_null(r->summary);
        assert_non_null(r->detail);
        assert_true(r->min <= r->max && r->max > 0);
        assert_true(strlen(r->summary) <= 72);
        assert_true(r->detail[strlen(r->detail) - 1] == '.');
        assert_true(r->summary[strlen(r->summary) - 1] != '.');
        assert_non_null(param_type_name(r->type));
        assert_non_null(param_kind_name(r->kind));
        assert_ptr_equal(param_find(r->key), r);
        assert_int_equal(param_index(r), i);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(param_table[j].key, r->key);
        assert_true(is_enforced(r->key) || r->kind == PARAM_COUNTER);
        if (is_enforced(r->key) && r->controller)
            assert_true(r->kind == PARAM_COUNTER ||
                        (!r->v2_file == !!r->v2_why && !r->v1_file == !!r->v1_why));
        if (r->def.unlimited)
            assert_true(r->flags & PARAM_UNLIMITED);
        else
            assert_true(r->def.n <= r->max && (r->def.n >= r->min || r->def.n == 0));
    }
}

static void put(struct param_set *set, const char *text)
{
    struct err e = {0};
    auto_free char *key = strndup(text, strcspn(text, "="));
    const struct param_row *row = param_find(key);
    struct param_value v;
    assert_non_null(row);
    assert_int_equal(param_parse_value(row, text + strlen(key) + 1, &v, &e), 0);
    if (param_set_put_key(set, row, key, v, &e) < 0)
        fail_msg("%s: %s", text, e.text);
}

static void test_classes(void **state)
{
    struct param_set a, b;
    struct err e = {0};
    char key[80], text[PARAM_TEXT];
    const struct param_row *out = param_find("net.out.CLASS");
    assert_ptr_equal(param_find("net.out.europe"), out);
    assert_string_equal(param_class_of(out, "net.out.europe"), "europe");
    assert_null(param_class_of(out, "net.out.CLASS"));
    assert_null(param_class_of(param_find("net.packets"), "net.packets"));
    param_set_init(&a);
    param_set_init(&b);
    put(&a, "net.out.europe=5M:20M");
    put(&a, "net.in.any=1500k");
    put(&a, "net.out.any=7M:unlimited");
    assert_int_equal(a.n_classed, 3);
    struct param_value v = param_set_get_class(&a, "net.out.CLASS", "europe");
    assert_int_equal(v.n, 20000000);
    assert_int_equal(param_value_first(out, v), 5000000);
    assert_string_equal(param_format(out, v, text), "5M:20M");
    v = param_set_get_class(&a, "net.in.CLASS", "any");
    assert_string_equal(param_format(out, v, text), "1500k");
    assert_int_equal(param_value_first(out, v), 0);
    v = param_set_get_class(&a, "net.out.CLASS", "any");
    assert_true(v.unlimited && param_value_first(out, v) == 7000000);
    assert_true(param_set_get_class(&a, "net.in.CLASS", "europe").unlimited);
    assert_true(param_set_has_class(&a, "europe"));
    assert_false(param_set_has_class(&a, "asia"));
    /* The order in which they came is no difference, another value is. */
    put(&b, "net.out.any=7M:unlimited");
    put(&b, "net.out.europe=9M");
    put(&b, "net.in.any=1500k");
    assert_false(param_set_same(&a, &b));
    put(&b, "net.out.europe=5M:20M");
    assert_true(param_set_same(&a, &b));
    assert_int_equal(param_set_put_key(&a, out, "net.out.CLASS", v, &e), -ERR_USAGE);
    assert_int_equal(param_set_put_key(&a, out, "net.out.a23456789012345678901234567890123", v, &e),
                     -ERR_USAGE);
    for (int i = 3; i < PARAM_CLASSED_MAX; i++) {
        str_print(key, sizeof(key), "net.out.c%d=1M", i);
        put(&a, key);
    }
    assert_int_equal(param_set_put_key(&a, out, "net.out.more", v, &e), -ERR_EXHAUSTED);
    put(&a, "net.out.c3=2M");
}

static void test_rates(void **state)
{
    static const struct {
        const char *text;
        uint64_t n;
    } good[] = {{"0", 0},        {"9600", 9600},     {"64k", 64000},       {"64K", 64000},
                {"2m", 2000000}, {"1G", 1000000000}, {"1T", 1000000000000}};
    static const char *const bad[] = {"",
                                      "M",
                                      "1.5M",
                                      "1MB",
                                      "1Mbit",
                                      "2T",
                                      "-1",
                                      "1 M",
                                      "99999999999999999999",
                                      "18446744073709551615k"};
    const struct param_row *row = param_find("net.out.any");
    struct param_value v;
    struct err e = {0};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(param_parse_value(row, good[i].text, &v, &e), 0);
        assert_int_equal(v.n, good[i].n);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(param_parse_value(row, bad[i], &v, &e), -ERR_USAGE);
}

static void round_trip(const struct param_row *r, struct param_value v)
{
    char buf[PARAM_TEXT];
    struct param_value back = {.n = 77};
    struct err e = {0};
    if (param_parse_value(r, param_format(r, v, buf), &back, &e) < 0)
        fail_msg("%s: %s: %s", r->key, buf, e.text);
    if (back.n != v.n || back.unlimited != v.unlimited)
        fail_msg("%s: %s reads back as %" PRIu64, r->key, buf, back.n);
}

static void test_round_trips(void **state)
{
    for (size_t i = 0; i < param_table_size; i++) {
        const struct param_row *r = &param_table[i];
        uint64_t some[] = {r->min, r->min + 1, r->max - 1, r->max,   1,          60,
                           99,     100,        101,        1001,     1250,       4096,
                           60000,  90000,      3600000,    86400000, 1073741824, 1610612736};
        for (size_t k = 0; k < ARRAY_SIZE(some); k++)
            if (some[k] >= r->min && some[k] <= r->max)
                round_trip(r, (struct param_value){.n = some[k]});
        if (r->flags & PARAM_UNLIMITED)
            round_trip(r, (struct param_value){.unlimited = true});
    }
}

static void test_bad_text(void **state)
{
    static const char *const always[] = {
        "",
        " ",
        "-1",
        "-0",
        "+5",
        " 5",
        "5 ",
        "5\n",
        "0x10",
        "1e3",
        "nan",
        "inf",
        "Unlimited",
        "unlimited ",
        "1,,5",
        "1..5",
        ".",
        ".5",
        "5.",
        "18446744073709551616",
        "99999999999999999999999999999999999999",
        "5 M",
        "5furlongs",
        "--",
        "%",
        "5%%",
        "on off",
        "\xff\xfe",
        "\033[2J",
        "none",
        "max",
    };
    for (size_t i = 0; i < param_table_size; i++) {
        const struct param_row *r = &param_table[i];
        for (size_t k = 0; k < ARRAY_SIZE(always); k++) {
            struct param_value v = {.n = 77};
            struct err e = {0};
            if (param_parse_value(r, always[k], &v, &e) >= 0)
                fail_msg("%s takes \"%s\"", r->key, always[k]);
            assert_int_equal(e.kind, ERR_USAGE);
            assert_int_equal(v.n, 77);
            assert_true(str_starts(e.text, r->key)); /* the error names the key … */
            for (const char *p = e.text; *p; p++)    /* … and is safe on a terminal */
                assert_true((unsigned char)*p >= 0x20);
            assert_int_equal(param_parse_value(r, always[k], &v, NULL), -ERR_USAGE);
        }
        struct param_value v;
        if (r->min > 0)
            assert_true(param_parse_value(r, "0", &v, NULL) < 0);
        if (!(r->flags & PARAM_UNLIMITED))
            assert_true(param_parse_value(r, "unlimited", &v, NULL) < 0);
        /* A fraction is right for sizes and percentages alone. */
        if (r->type == PARAM_COUNT || r->type == PARAM_SWITCH || r->type == PARAM_TIME)
            assert_true(param_parse_value(r, "100.5", &v, NULL) < 0);
    }
}

static void expect(const char *key, const char *text, uint64_t want)
{
    struct param_value v = {0};
    struct err e = {0};
    if (param_parse_value(param_find(key), text, &v, &e) < 0)
        fail_msg("%s", e.text);
    if (v.n != want)
        fail_msg("%s=%s gives %" PRIu64, key, text, v.n);
}

/* Values of more than one number: what they are, and that they are printed as they were read. */
static void expect_two(const char *key, const char *text, enum param_form form, uint64_t n,
                       uint64_t n2)
{
    struct param_value v = {0};
    struct err e = {0};
    char again[PARAM_TEXT];
    const struct param_row *row = param_find(key);
    if (param_parse_value(row, text, &v, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(v.form, form);
    assert_int_equal(v.n, n);
    assert_int_equal(v.n2, n2);
    assert_string_equal(param_format(row, v, again), text);
}

static void expect_bad(const char *key, const char *text, const char *sentence)
{
    struct param_value v = {0};
    struct err e = {0};
    assert_int_equal(param_parse_value(param_find(key), text, &v, &e), -ERR_USAGE);
    assert_string_equal(e.text, sentence);
}

static void test_parts(void **state)
{
    const uint64_t G = 1ull << 30, no = PARAM_NO_BOUND;
    expect_two("disk.space", "9G:10G", PARAM_TWO, 10 * G, 9 * G);
    expect_two("disk.space", "10G", PARAM_PLAIN, 10 * G, 0);
    expect_two("disk.space", "9G:unlimited", PARAM_TWO, 0, 9 * G);
    expect_two("disk.space", "unlimited:unlimited", PARAM_TWO, 0, no);
    expect_two("connections.rate", "100:200", PARAM_TWO, 200, 100);
    expect_two("cpu.guarantee", "1000MHz", PARAM_IN_MHZ, 0, 1000);
    expect_two("cpu.cores", "2", PARAM_PLAIN, 2, 0);
    expect_two("cpu.cores", "0-2,65", PARAM_LIST, 7, 2);
    expect_two("cpu.cores", "1-1", PARAM_LIST, 2, 0);
    expect_two("cpu.cores", "0-1,exclusive", PARAM_EXCLUSIVE, 3, 0);
    expect_two("cpu.cores", "0-127", PARAM_LIST, no, no);
    expect_two("io.read", "50M", PARAM_TWO, 50 << 20, no);
    expect_two("io.read", "1000iops", PARAM_TWO, no, 1000);
    expect_two("io.read", "50M,1000iops", PARAM_TWO, 50 << 20, 1000);
    struct param_value any_case;
    assert_int_equal(param_parse(param_find("io.read"), "io.read", "1000IOPS", &any_case, NULL), 0);
    assert_int_equal(any_case.n2, 1000);
    expect_bad("disk.space", "11G:10G",
               "disk.space: the soft half is above the limit in \"11G:10G\"");
    expect_bad("disk.space", "1G:2G:3G", "disk.space: \"1G:2G:3G\" is not soft:hard");
    expect_bad("disk.space", ":2G", "disk.space: \":2G\" is not soft:hard");
    expect_bad("connections.rate", "unlimited:5",
               "connections.rate: a guarantee cannot be unlimited");
    expect_bad("cpu.guarantee", "0MHz", "cpu.guarantee: \"0MHz\" is not a clock such as 1000MHz");
    expect_bad("cpu.cores", "1-0",
               "cpu.cores: \"1-0\" is not a number of cores such as 2, or a list of cores 0 to "
               "127 such as 0-1 or 0-0,exclusive");
    expect_bad("cpu.cores", "0", "cpu.cores: 0 is not between 1 and 4096, nor \"unlimited\"");
    expect_bad("io.read", "1M,2M", "io.read: \"2M\" is not operations a second such as 1000iops");
    expect_bad("io.read", "0iops",
               "io.read: \"0iops\" is not operations a second such as 1000iops");

    struct param_set set;
    struct err e = {0};
    param_set_init(&set);
    assert_int_equal(param_set_parse(&set, "cpu.guarantee=1000MHz", NULL), 0);
    assert_int_equal(param_set_resolve(&set, 3000, &e), 0);
    assert_int_equal(param_set_get(&set, "cpu.guarantee").n, 3334); /* no less than promised */
    assert_int_equal(param_set_resolve(&set, 0, &e), -ERR_UNSUPPORTED);
}

static void expect_error(const char *assignment, int kind, const char *sentence)
{
    struct param_set set, before;
    struct err e = {0};
    param_set_init(&set);
    before = set;
    assert_int_equal(param_set_parse(&set, assignment, &e), -kind);
    assert_string_equal(e.text, sentence);
    assert_memory_equal(&set, &before, sizeof(set));
    assert_int_equal(param_set_parse(&set, assignment, NULL), -kind);
}

static void test_values(void **state)
{
    expect("memory.limit", "512M", 536870912);
    expect("memory.limit", "1.5GiB", 1610612736);
    expect("memory.limit", "4194304", 4194304);
    expect("cpu.limit", "150", 15000);
    expect("cpu.limit", "12.5", 1250);
    expect("cpu.limit", "12.05%", 1205);
    expect("cpu.limit", "1", 100);
    expect("processes", "8", 8);
    expect("processes", "4194304", 4194304);
    expect("cpu.burst", "20ms", 20);
    expect("memory.dedup", "on", 1);
    expect("memory.dedup", "off", 0);
    expect("disk.grace", "7d", 604800000);
}

static void test_sentences(void **state)
{
    expect_error("memory.limit=12x", ERR_USAGE,
                 "memory.limit: \"12x\" is not a size such as 512M, 1.5G or 1048576");
    expect_error("memory.limit=1K", ERR_USAGE,
                 "memory.limit: 1K is not between 4M and 1P, nor \"unlimited\"");
    expect_error("cpu.limit=0.5", ERR_USAGE,
                 "cpu.limit: 0.5 is not between 1 and 409600, nor \"unlimited\"");
    expect_error("cpu.limit=1.999", ERR_USAGE,
                 "cpu.limit: \"1.999\" is not a percentage with at most two decimals");
    expect_error("processes=many", ERR_USAGE, "processes: \"many\" is not a whole number");
    expect_error("disk.users=2", ERR_USAGE, "disk.users: \"2\" is not on or off");
    expect_error("net.out.CLASS=5M", ERR_USAGE,
                 "net.out.CLASS: put the name of a class for CLASS, as in net.out.any");
    expect_error("net.out.europe=9M:5M", ERR_USAGE,
                 "net.out.europe: the guarantee half is above the limit in \"9M:5M\"");
    expect_error("uptime=5", ERR_USAGE, "uptime is a counter and cannot be set");
    expect_error("memory.limt=1G", ERR_USAGE,
                 "there is no parameter \"memory.limt\"; did you mean memory.limit?");
    expect_error("MEMORY.Limit=1G", ERR_USAGE,
                 "there is no parameter \"MEMORY.Limit\"; did you mean memory.limit?");
    expect_error(
        "physpages=1G", ERR_USAGE,
        "there is no parameter \"physpages\"; memory.limit is what physpages was in OpenVZ");
    expect_error(
        "dcachesize=1G", ERR_USAGE,
        "there is no parameter \"dcachesize\"; memory.kernel is what dcachesize was in OpenVZ");
    expect_error("cpu.burst=20", ERR_USAGE,
                 "cpu.burst: 20 is not between 0 and 1s; a bare number is seconds: write 20ms for "
                 "milliseconds");
    expect_error("zzz=1", ERR_USAGE, "there is no parameter \"zzz\"; terem params lists them");
    expect_error("processes", ERR_USAGE, "\"processes\" is not key=value");
    expect_error("=5", ERR_USAGE, "\"=5\" is not key=value");
    expect_error("", ERR_USAGE, "\"\" is not key=value");
    expect_error("net.out.=5", ERR_USAGE,
                 "there is no parameter \"net.out.\"; terem params lists them");
    assert_null(param_find("net.out.a/b"));
}

static void test_set(void **state)
{
    struct param_set set;
    param_set_init(&set);
    assert_true(param_set_get(&set, "memory.limit").unlimited);
    assert_int_equal(param_set_get(&set, "processes").n, 4096);
    assert_int_equal(param_set_parse(&set, "processes=50", NULL), 0);
    assert_int_equal(param_set_parse(&set, "memory.limit=64M", NULL), 0);
    assert_int_equal(param_set_get(&set, "processes").n, 50);
    assert_true(set.given[param_index(param_find("processes"))]);
    assert_false(set.given[param_index(param_find("cpu.limit"))]);
    assert_int_equal(param_set_parse(&set, "processes=unlimited", NULL), 0);
    assert_true(param_set_get(&set, "processes").unlimited);
    assert_int_equal(param_set_check(&set, NULL), 0);
}

static void test_burst(void **state)
{
    struct param_set set;
    struct err e = {0};
    param_set_init(&set);
    assert_int_equal(param_set_parse(&set, "cpu.burst=50ms", NULL), 0);
    assert_int_equal(param_set_check(&set, NULL), 0); /* nothing to exceed */
    assert_int_equal(param_set_parse(&set, "cpu.limit=50", NULL), 0);
    assert_int_equal(param_set_check(&set, NULL), 0);
    assert_int_equal(param_set_parse(&set, "cpu.limit=49.99", NULL), 0);
    assert_int_equal(param_set_check(&set, &e), -ERR_USAGE);
    assert_string_equal(e.text, "cpu.burst 50ms is more than cpu.limit 49.99 gives in a period of "
                                "100 ms; the most is 49ms");
}

static void test_rules(void **state)
{
    struct param_set set;
    struct err e = {0};
    const struct param_row *soft = param_find("memory.soft"), *hard = param_find("memory.limit");
    param_set_init(&set);
    param_set_put(&set, soft, (struct param_value){.n = 64 << 20});
    assert_int_equal(param_set_check(&set, &e), 0); /* the limit is a default */
    param_set_put(&set, hard, (struct param_value){.n = 32 << 20});
    assert_int_equal(param_set_check(&set, &e), -ERR_USAGE);
    assert_string_equal(e.text, "memory.soft 64M is above memory.limit 32M; lower the first or "
                                "raise the second");
    param_set_put(&set, hard, (struct param_value){.n = 64 << 20});
    assert_int_equal(param_set_check(&set, &e), 0);
    param_set_put(&set, soft, (struct param_value){.unlimited = true});
    assert_int_equal(param_set_check(&set, &e), -ERR_USAGE);
    param_set_put(&set, hard, (struct param_value){.unlimited = true});
    assert_int_equal(param_set_check(&set, &e), 0);
    assert_int_equal(param_set_parse(&set, "cpu.guarantee=200.01", &e), 0);
    assert_int_equal(param_set_parse(&set, "cpu.cores=2", &e), 0);
    assert_int_equal(param_set_check(&set, &e), -ERR_USAGE);
    assert_string_equal(e.text, "cpu.guarantee 200.01 is above the 200% that cpu.cores 2 can give; "
                                "lower the first or raise the second");
    assert_int_equal(param_set_parse(&set, "cpu.cores=1,64-65,exclusive", &e), 0);
    assert_int_equal(param_set_check(&set, &e), 0);
    assert_int_equal(param_set_parse(&set, "cpu.cores=64-65", &e), 0);
    assert_int_equal(param_set_check(&set, &e), -ERR_USAGE);
}

static void test_shelf(void **state)
{
    struct param_shelf shelf = {0};
    struct param_set a, b;
    struct err e = {0};
    const struct param_set *one = NULL, *two = NULL, *three = NULL;
    (void)state;
    param_set_init(&a);
    param_set_init(&b);
    assert_int_equal(param_share(&shelf, &a, &one, &e), 0);
    assert_int_equal(param_share(&shelf, &b, &two, &e), 0);
    assert_ptr_equal(one, two);
    /* A value that equals its default was given all the same, and is kept as given. */
    param_set_put(&b, param_find("memory.limit"), param_find("memory.limit")->def);
    assert_int_equal(param_share(&shelf, &b, &three, &e), 0);
    assert_ptr_not_equal(one, three);
    assert_true(three->given[param_index(param_find("memory.limit"))]);
    param_unshare(&shelf, three);
    assert_int_equal(param_set_parse(&b, "net.out.europe=10M", &e), 0);
    assert_int_equal(param_share(&shelf, &b, &three, &e), 0);
    assert_int_equal(param_set_parse(&b, "net.out.europe=11M", &e), 0);
    const struct param_set *four = NULL;
    assert_int_equal(param_share(&shelf, &b, &four, &e), 0);
    assert_ptr_not_equal(three, four);
    assert_int_equal(shelf.n, 3);
    param_unshare(&shelf, one);
    assert_int_equal(shelf.n, 3); /* the second still has it */
    param_unshare(&shelf, two);
    assert_int_equal(shelf.n, 2);
    param_unshare(&shelf, three);
    param_unshare(&shelf, four);
    param_unshare(&shelf, NULL);
    assert_int_equal(shelf.n, 0);
    param_shelf_done(&shelf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_whole), cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_bad_text),       cmocka_unit_test(test_values),
        cmocka_unit_test(test_sentences),      cmocka_unit_test(test_set),
        cmocka_unit_test(test_rules),          cmocka_unit_test(test_burst),
        cmocka_unit_test(test_parts),          cmocka_unit_test(test_classes),
        cmocka_unit_test(test_rates),          cmocka_unit_test(test_shelf),
    };
    return cmocka_run_group_tests_name("param", tests, NULL, NULL);
}
