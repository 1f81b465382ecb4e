/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A kernel that lacks a queueing discipline, a classifier, an action or a kind of interface: one
 * sentence tells which, VEs live without it, and nothing stays of what was begun. */
#include "base/cleanup.h"
#include "kernel/tc.h"
#include "network/shape.h"
#include "network/test_stage.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <sys/mount.h>

/* The kernel answers as one that has no such thing: it is asked for another name. */
static const char *lacking;
/* What asks for this cannot be sent. */
static const char *failing;

ssize_t __real_mnl_socket_sendto(const struct mnl_socket *nl, const void *buf, size_t len);
ssize_t __wrap_mnl_socket_sendto(const struct mnl_socket *nl, const void *buf, size_t len);
ssize_t __wrap_mnl_socket_sendto(const struct mnl_socket *nl, const void *buf, size_t len)
{
    char *p = (char *)buf;
    while (lacking &&
           (p = memmem(p, len - (size_t)(p - (char *)buf), lacking, strlen(lacking) + 1)))
        *p = '?';
    if (failing && memmem(buf, len, failing, strlen(failing) + 1)) {
        errno = ENOMEM;
        return -1;
    }
    return __real_mnl_socket_sendto(nl, buf, len);
}

static bool there(const char *name)
{
    auto_netlink struct netlink *nl = NULL;
    struct netlink_link l;
    ok(netlink_open(&nl, err));
    return netlink_link_get(nl, name, &l, NULL) == 0;
}

static bool has_htb(struct stage *s, int ifindex)
{
    auto_netlink struct netlink *nl = NULL;
    struct tc_root root = {0};
    ok(netlink_open(&nl, err));
    ok(tc_root_get(nl, ifindex, &root, err));
    return str_eq(root.kind, "htb");
}

/* teremd's beginning on a kernel without it; VEs have their cables afterwards. */
static void begin(struct stage *s, const char *without)
{
    struct network_shape_config c = {.uplink = "up0", .out = 20000000, .in = 19000000};
    lacking = without;
    ok(network_count_open(s->node, "/tmp/bpf", err));
    ok(network_node_setup(s->node, err));
    ok(network_shape_open(s->node, &c, err));
    ok(network_attach(s->node, 1, s->ve[0], &s->addr[0], &NETWORK_LIMITS_NONE, err));
    auto_fd int in = udp(s->outside, NULL, AF_INET, 7400), out = udp(s->ve[0], NULL, AF_INET, 7401);
    assert_int_equal(send_to(out, ip("203.0.113.2"), 7400, 0), 1);
    expect_from(in, "203.0.113.1");
    lacking = NULL;
}

static void why_is(const char *why, const char *part)
{
    assert_non_null(why);
    if (!strstr(why, part) || !strstr(why, "this kernel has no") || strchr(why, '\n'))
        fail_msg("%s: %s", part, why);
}

static void test_htb(void **state)
{
    struct stage *s = *state;
    begin(s, "htb");
    assert_null(network_count_why(s->node));
    for (int in = 0; in < 2; in++)
        why_is(network_shape_why(s->node, in), "HTB; choose one with CONFIG_NET_SCH_HTB");
    assert_false(there("terem7.in"));
}

static void test_ifb(void **state)
{
    struct stage *s = *state;
    begin(s, "ifb");
    why_is(network_shape_why(s->node, true), "IFB; choose one with CONFIG_IFB");
    assert_null(network_shape_why(s->node, false));
    assert_true(has_htb(s, (int)if_nametoindex("up0")));
}

static void test_mirred(void **state)
{
    struct stage *s = *state;
    begin(s, "mirred");
    why_is(network_shape_why(s->node, true),
           "mirred action; choose one with CONFIG_NET_ACT_MIRRED");
    assert_null(network_shape_why(s->node, false));
    assert_null(network_count_why(s->node));
    assert_false(there("terem7.in"));
}

static void test_clsact(void **state)
{
    struct stage *s = *state;
    begin(s, "clsact");
    why_is(network_count_why(s->node), "clsact; choose one with CONFIG_NET_SCH_INGRESS");
    for (int in = 0; in < 2; in++)
        why_is(network_shape_why(s->node, in), "clsact");
    assert_false(has_htb(s, (int)if_nametoindex("up0")));
}

static void test_bpf(void **state)
{
    struct stage *s = *state;
    begin(s, "bpf");
    why_is(network_count_why(s->node), "BPF classifier; choose one with CONFIG_NET_CLS_BPF");
    assert_false(has_htb(s, (int)if_nametoindex("terem7")));
}

static void test_fq_codel(void **state)
{
    struct stage *s = *state;
    begin(s, "fq_codel");
    why_is(network_shape_queue_why(s->node), "fq_codel: packets wait in bounded fifos");
    for (int in = 0; in < 2; in++)
        assert_null(network_shape_why(s->node, in));
}

/* A queue that could not be made once says nothing of the kernel. */
static void test_fq_codel_fails(void **state)
{
    struct stage *s = *state;
    failing = "fq_codel";
    begin(s, NULL);
    assert_true(has_htb(s, (int)if_nametoindex("up0")));
    assert_null(network_shape_queue_why(s->node));
}

static int down(void **state)
{
    struct stage *s = *state;
    lacking = failing = NULL;
    ok(network_node_remove(s->node, err));
    assert_false(has_htb(s, (int)if_nametoindex("up0")));
    assert_false(there("terem7.in"));
    int r = stage_down(state);
    umount2("/tmp/bpf", MNT_DETACH);
    return r;
}

int main(void)
{
    if (!stage_own())
        return 0;
#define lack_test(t) cmocka_unit_test_setup_teardown(t, stage_up, down)
    const struct CMUnitTest tests[] = {
        lack_test(test_htb),
        lack_test(test_ifb),
        lack_test(test_mirred),
        lack_test(test_clsact),
        lack_test(test_bpf),
        lack_test(test_fq_codel),
        lack_test(test_fq_codel_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
