/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cleanup.h"
#include "base/str.h"
#include "network/class.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static struct network_prefix parse(const char *text, uint32_t class)
{
    struct network_prefix p = {0};
    struct err e = {0};
    if (network_prefix_parse(text, &p, &e) < 0)
        fail_msg("%s: %s", text, e.text);
    p.class = class;
    return p;
}

static void test_texts(void **state)
{
    static const struct {
        const char *text, *back;
    } good[] = {
        {"192.0.2.0/24", "192.0.2.0/24"},
        {"192.0.2.7", "192.0.2.7/32"},
        {"128.0.0.0/1", "128.0.0.0/1"},
        {"2001:DB8::/32", "2001:db8::/32"},
        {"::1", "::1/128"},
        {"8000::/1", "8000::/1"},
    };
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"", "is not a prefix"},
        {"europe", "is not a prefix"},
        {"192.0.2/24", "is not a prefix"},
        {"192.0.2.0/33", "is not a prefix"},
        {"192.0.2.0/", "is not a prefix"},
        {"192.0.2.0/24 ", "is not a prefix"},
        {"2001:db8::/129", "is not a prefix"},
        {"2001:db8::/-1", "is not a prefix"},
        {"0.0.0.0/0", "is every address"},
        {"::/0", "is every address"},
        {"192.0.2.1/24", "did you mean 192.0.2.0/24?"},
        {"2001:db8::1/32", "did you mean 2001:db8::/32?"},
        {"1.1.1.1/0", "is every address"},
        {"\x1b[2J", "\"\\x1b[2J\" is not a prefix"},
    };
    char text[NETWORK_PREFIX_TEXT];
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        struct network_prefix p = parse(good[i].text, 0);
        assert_string_equal(network_prefix_text(&p, text), good[i].back);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct network_prefix p;
        struct err e = {0};
        assert_int_equal(network_prefix_parse(bad[i].text, &p, &e), -ERR_USAGE);
        if (!strstr(e.text, bad[i].why))
            fail_msg("%s: %s", bad[i].text, e.text);
    }
}

static uint32_t class_of(const struct network_prefixes *list, const char *address)
{
    uint8_t bytes[16] = {0};
    bool six = strchr(address, ':');
    assert_int_equal(inet_pton(six ? AF_INET6 : AF_INET, address, bytes), 1);
    return network_prefixes_class(list, six ? 6 : 4, bytes);
}

static void test_longest(void **state)
{
    auto_clean(network_prefixes_done) struct network_prefixes list = {0};
    const struct network_prefix *clash = NULL;
    struct err e = {0};
    struct network_prefix p[] = {
        parse("10.0.0.0/8", 16), parse("10.1.0.0/16", 17),   parse("10.1.2.0/24", 16),
        parse("10.1.2.3", 18),   parse("2001:db8::/32", 16), parse("2001:db8:1::/48", 17),
    };
    assert_int_equal(network_prefixes_add(&list, p, ARRAY_SIZE(p), &clash, &e), 0);
    assert_int_equal(class_of(&list, "10.9.9.9"), 16);
    assert_int_equal(class_of(&list, "10.1.9.9"), 17);
    assert_int_equal(class_of(&list, "10.1.2.9"), 16);
    assert_int_equal(class_of(&list, "10.1.2.3"), 18);
    assert_int_equal(class_of(&list, "11.0.0.0"), 0);
    assert_int_equal(class_of(&list, "2001:db8::1"), 16);
    assert_int_equal(class_of(&list, "2001:db8:1::1"), 17);
    /* An IPv6 prefix says nothing of IPv4 addresses with the same bits. */
    assert_int_equal(class_of(&list, "32.1.13.184"), 0);
    network_prefixes_drop(&list, 16);
    assert_int_equal(list.n, 3);
    assert_int_equal(class_of(&list, "10.9.9.9"), 0);
    assert_int_equal(class_of(&list, "10.1.2.9"), 17);
}

static void test_all_or_nothing(void **state)
{
    auto_clean(network_prefixes_done) struct network_prefixes list = {0};
    const struct network_prefix *clash = NULL;
    struct err e = {0};
    struct network_prefix one[] = {parse("192.0.2.0/24", 16), parse("198.51.100.0/24", 16)},
                          twice[] = {parse("203.0.113.0/24", 17), parse("192.0.3.0/24", 17),
                                     parse("203.0.113.0/24", 17)},
                          taken[] = {parse("203.0.113.0/24", 17), parse("192.0.2.0/24", 17)},
                          longer[] = {parse("192.0.2.0/25", 17)},
                          foreign[] = {parse("198.51.100.0/24", 16), parse("192.0.2.0/25", 16)};
    assert_int_equal(network_prefixes_add(&list, one, 2, &clash, &e), 0);
    assert_int_equal(network_prefixes_add(&list, twice, 3, &clash, &e), -ERR_EXISTS);
    assert_true(clash >= twice && clash < twice + 3);
    assert_int_equal(network_prefixes_add(&list, taken, 2, &clash, &e), -ERR_EXISTS);
    assert_int_equal(clash->class, 16);
    assert_int_equal(list.n, 2);
    /* The same address with another length is another prefix. */
    assert_int_equal(network_prefixes_add(&list, longer, 1, &clash, &e), 0);
    assert_int_equal(network_prefixes_remove(&list, foreign, 2, &clash, &e), -ERR_NOT_FOUND);
    assert_int_equal(clash->length, 25);
    assert_int_equal(list.n, 3);
    assert_int_equal(network_prefixes_remove(&list, one, 2, &clash, &e), 0);
    assert_int_equal(list.n, 1);
    assert_int_equal(class_of(&list, "192.0.2.1"), 17);
}

static void test_bound(void **state)
{
    auto_clean(network_prefixes_done) struct network_prefixes list = {0};
    const struct network_prefix *clash = NULL;
    struct err e = {0};
    size_t n = NETWORK_PREFIXES_MAX;
    auto_free struct network_prefix *many = calloc(n + 1, sizeof(*many));
    assert_non_null(many);
    for (uint32_t i = 0; i <= n; i++) {
        uint32_t address = htonl(0x01000000 + (i << 8));
        many[i] = (struct network_prefix){.family = 4, .length = 24, .class = 16};
        memcpy(many[i].address, &address, 4);
    }
    assert_int_equal(network_prefixes_add(&list, many, n + 1, &clash, &e), -ERR_EXHAUSTED);
    assert_non_null(strstr(e.text, "131072"));
    assert_int_equal(network_prefixes_add(&list, many, n, &clash, &e), 0);
    assert_int_equal(class_of(&list, "1.1.1.1"), 16);
    assert_int_equal(class_of(&list, "3.0.0.1"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_longest),
        cmocka_unit_test(test_all_or_nothing),
        cmocka_unit_test(test_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
