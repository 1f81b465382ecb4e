/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Published ports on a real kernel: who comes where, and as whom. */
#include "network/publish.h"

#include "base/cleanup.h"
#include "network/test_stage.h"

#define HOST4 "203.0.113.1"
#define HOST6 "2001:db8::1"
#define OUT4  "203.0.113.2"

static const struct network_publish all = {
    .protocol = IPPROTO_UDP, .port = 8000, .to_port = 7500, .slot = 1};

/* Says something to the published port; who does the one behind it take for the sender? */
/* From a port of its own each time: a connection that is known stays where it went. */
static void comes_as(int from, int to, const char *address, uint16_t port, const char *who)
{
    int family = strchr(address, ':') ? AF_INET6 : AF_INET;
    auto_fd int in = udp(to, NULL, family, 7500), out = udp(from, NULL, family, 0);
    assert_int_equal(send_to(out, ip(address), port, 0), 1);
    expect_from(in, who);
}

static bool stays_away(int from, int to, const char *address, uint16_t port)
{
    auto_fd int in = udp(to, NULL, AF_INET, 7500), out = udp(from, NULL, AF_INET, 0);
    send_to(out, ip(address), port, 0);
    return !receive(in, 0).family;
}

static void test_everybody(void **state)
{
    struct stage *s = *state;
    stage_attach_both(s);
    assert_true(stays_away(s->outside, s->ve[0], HOST4, 8000));
    ok(network_publish_add(s->node, &all, err));
    comes_as(s->outside, s->ve[0], HOST4, 8000, OUT4);
    comes_as(s->outside, s->ve[0], HOST6, 8000, "2001:db8::2");
    comes_as(s->ve[1], s->ve[0], HOST4, 8000, "10.88.0.3");
    comes_as(s->host, s->ve[0], HOST4, 8000, HOST4);
    /* It meets itself as this machine: else the answer would not leave it. */
    comes_as(s->ve[0], s->ve[0], HOST4, 8000, HOST4);
    /* What is not published, and what is another machine's, goes where it went. */
    assert_true(stays_away(s->outside, s->ve[0], HOST4, 8001));
    auto_fd int there = udp(s->outside, NULL, AF_INET, 8000), out = udp(s->ve[1], NULL, AF_INET, 0);
    assert_int_equal(send_to(out, ip(OUT4), 8000, 0), 1);
    expect_from(there, HOST4);
    ok(network_publish_remove(s->node, &all, err));
    assert_true(stays_away(s->outside, s->ve[0], HOST4, 8000));
}

static void test_one_address(void **state)
{
    struct stage *s = *state;
    struct network_publish one = all, other = all;
    one.address = ip(HOST4);
    other.address = ip("203.0.113.9");
    other.slot = 2;
    stage_attach_both(s);
    address_in(s->host, "up0", "203.0.113.9", 24);
    ok(network_publish_add(s->node, &one, err));
    ok(network_publish_add(s->node, &other, err));
    comes_as(s->outside, s->ve[0], HOST4, 8000, OUT4);
    comes_as(s->outside, s->ve[1], "203.0.113.9", 8000, OUT4);
    /* A new start of teremd, or somebody's flush: laid again, and nothing else. */
    ok(network_node_setup(s->node, err));
    ok(network_publish_lay(s->node, &other, 1, err));
    comes_as(s->outside, s->ve[1], "203.0.113.9", 8000, OUT4);
    assert_true(stays_away(s->outside, s->ve[0], HOST4, 8000));
}

static void test_hold(void **state)
{
    struct stage *s = *state;
    struct network_publish p = all, no = all;
    struct err e = {0};
    int fd = -1;
    auto_fd int program = udp(s->host, HOST4, AF_INET, 8000);
    assert_int_equal(network_publish_hold(&p, &fd, &e), -ERR_EXISTS);
    assert_non_null(strstr(e.text, "a program of this machine has port 8000/udp"));
    p.port = 8001;
    ok(network_publish_hold(&p, &fd, err));
    int again = -1;
    assert_int_equal(network_publish_hold(&p, &again, &e), -ERR_EXISTS);
    close(fd);
    ok(network_publish_hold(&p, &fd, err));
    close(fd);
    no.address = ip("203.0.113.77");
    assert_int_equal(network_publish_hold(&no, &fd, &e), -ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, "203.0.113.77"));
}

static void test_clashes(void **state)
{
    struct network_publish a = all, b = all;
    assert_true(network_publish_clashes(&a, &b));
    b.address = ip(HOST4);
    assert_true(network_publish_clashes(&a, &b));
    a.address = ip(HOST6);
    assert_false(network_publish_clashes(&a, &b));
    b.address = ip(HOST6);
    b.protocol = IPPROTO_TCP;
    assert_false(network_publish_clashes(&a, &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_everybody, stage_up, stage_down),
        cmocka_unit_test_setup_teardown(test_one_address, stage_up, stage_down),
        cmocka_unit_test_setup_teardown(test_hold, stage_up, stage_down),
        cmocka_unit_test(test_clashes),
    };
    if (!stage_own())
        return 0;
    return cmocka_run_group_tests_name("publish", tests, NULL, NULL);
}
