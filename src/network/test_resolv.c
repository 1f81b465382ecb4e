/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What VEs are told of resolvers, and what the check says of the host. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "kernel/nft.h"
#include "network/test_stage.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void put(const char *path, const char *text)
{
    auto_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    ok(fd_write_all(fd, text, strlen(text), err));
}

/* The files that say who resolves, as the test wants them; NULL: none. */
static void resolver_files(const char *etc, const char *systemd)
{
    put("/tmp/resolv.conf", etc);
    assert_int_equal(mount("tmpfs", "/run", "tmpfs", 0, NULL), 0);
    assert_int_equal(mount("/tmp/resolv.conf", "/etc/resolv.conf", NULL, MS_BIND, NULL), 0);
    if (systemd) {
        mkdir("/run/systemd", 0755);
        mkdir("/run/systemd/resolve", 0755);
        put("/run/systemd/resolve/resolv.conf", systemd);
    }
}

static void resolver_files_gone(void)
{
    umount2("/etc/resolv.conf", MNT_DETACH);
    umount2("/run", MNT_DETACH);
}

static void test_resolv_conf(void **state)
{
    struct stage *s = *state;
    auto_free char *none = NULL, *text = NULL;
    resolver_files("nameserver ::1\nsearch a.example\n", NULL);
    ok(network_resolv_conf(s->node, &none, err));
    assert_int_equal(none[0], '#');
    assert_non_null(strstr(none, "\nsearch a.example\n"));
    assert_null(strstr(none, "nameserver"));
    resolver_files_gone();
    resolver_files("nameserver 127.0.0.53\nsearch a.example\n",
                   "nameserver 192.0.2.53\nsearch b.example\n");
    ok(network_resolv_conf(s->node, &text, err));
    assert_string_equal(text, "nameserver 192.0.2.53\nsearch b.example\n");
    resolver_files_gone();
}

static void test_loopback_resolver(void **state)
{
    struct stage *s = *state;
    auto_free char *text = NULL;
    resolver_files("nameserver 127.0.0.5\noptions edns0\n", NULL);
    stage_attach_both(s);
    ok(network_resolv_conf(s->node, &text, err));
    resolver_files_gone();
    assert_string_equal(text, "nameserver 169.254.1.1\noptions edns0\n");

    auto_fd int server = udp(s->host, "127.0.0.5", AF_INET, 53);
    auto_fd int other = udp(s->host, "127.0.0.5", AF_INET, 54);
    auto_fd int in = udp(s->ve[0], NULL, AF_INET, 7000);
    assert_int_equal(send_to(in, ip("169.254.1.1"), 53, 0), 1);
    char byte;
    struct sockaddr_in from = {0};
    socklen_t len = sizeof(from);
    assert_int_equal(recvfrom(server, &byte, 1, 0, (void *)&from, &len), 1);
    assert_int_equal(ntohl(from.sin_addr.s_addr), INADDR_LOOPBACK);
    assert_int_equal(sendto(server, "y", 1, 0, (void *)&from, sizeof(from)), 1);
    expect_from(in, "169.254.1.1");
    /* Nothing else of the loopback opens with it. */
    int home = go(s->ve[0]);
    sysctl_write("ipv4/conf/eth0/route_localnet", "1");
    back(home);
    address_gone(s->ve[0], "lo", "127.0.0.1", 8);
    unsigned before = counter("spoofed4");
    assert_int_equal(send_to(in, ip("127.0.0.5"), 54, 0), 1);
    assert_int_equal(send_to(in, ip("127.0.0.5"), 53, 0), 1);
    assert_true(counter_passes("spoofed4", before + 1));
    assert_int_equal(receive(other, MSG_DONTWAIT).family, 0);
    assert_int_equal(receive(server, MSG_DONTWAIT).family, 0);
}

/* What terem.conf says stands before what the host has. */
static void test_settings(void **state)
{
    struct stage *s = *state;
    static const char *const wrong[][2] = {
        {"::1", ""},     {"192.0.2.1 fe80::1", ""}, {"ns1.example", ""},
        {"0.0.0.0", ""}, {"192.0.2.1", "a b;c"},    {"", "a.example;b"}};
    resolver_files("nameserver 192.0.2.9\nsearch host.example\noptions edns0\n", NULL);
    static const char *const rows[][3] = {
        {"", "a.example, b.example", "nameserver 192.0.2.9\nsearch a.example b.example\n"},
        {"192.0.2.1,2001:db8::1\t127.0.0.5", "", "nameserver 192.0.2.1\nnameserver 2001:db8::1\n"},
        {"127.0.0.5", "c.example", "nameserver 169.254.1.1\nsearch c.example\n"},
    };
    struct network_config c = config;
    network_node_close(s->node);
    s->node = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        c.dns = wrong[i][0];
        c.search = wrong[i][1];
        struct err e = {0};
        assert_int_equal(network_node_open(&c, &s->node, &e), -ERR_USAGE);
        assert_non_null(strstr(e.text, "network."));
    }
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        auto_free char *text = NULL;
        c.dns = rows[i][0];
        c.search = rows[i][1];
        network_node_close(s->node);
        ok(network_node_open(&c, &s->node, err));
        ok(network_node_setup(s->node, err));
        ok(network_resolv_conf(s->node, &text, err));
        assert_string_equal(text, rows[i][2]);
    }
    resolver_files_gone();
}

static int collect_sentence(void *ctx, const char *sentence, struct err *e)
{
    str_add(ctx, "%s\n", sentence);
    return 0;
}

static void test_check(void **state)
{
    struct stage *s = *state;
    auto_str struct str none = str_init(8192), some = str_init(8192);
    resolver_files("nameserver 203.0.113.2\n", NULL);
    auto_free char *before = stage_snapshot();
    ok(network_check(s->node, collect_sentence, &none, err));
    assert_string_equal(str_c(&none), "");
    auto_free char *after = stage_snapshot();
    assert_string_equal(before, after);
    ok(network_node_setup(s->node, err));
    ok(network_check(s->node, collect_sentence, &none, err));
    assert_string_equal(str_c(&none), "");
    resolver_files_gone();

    resolver_files("", NULL);
    ok(nft_run("table ip filter {\n chain INPUT {\n type filter hook input priority 0; policy "
               "drop;\n }\n chain FORWARD {\n type filter hook forward priority 0; policy "
               "drop;\n }\n }\n",
               err));
    ok(network_check(s->node, collect_sentence, &some, err));
    resolver_files_gone();
    assert_non_null(strstr(str_c(&some), "table \"ip filter\" drops"));
    assert_non_null(strstr(str_c(&some), "chain FORWARD"));
    assert_null(strstr(str_c(&some), "INPUT"));
    assert_non_null(strstr(str_c(&some), "resolve no names"));
}

static void command(const char *path, const char *a, const char *b, const char *c, const char *d)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        execl(path, path, a, b, c, d, NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* Of iptables-legacy nft tells nothing. */
static void test_check_legacy(void **state)
{
    struct stage *s = *state;
    static const char *const programs[] = {"/usr/sbin/iptables-legacy",
                                           "/usr/sbin/ip6tables-legacy"};
    if (access(programs[0], X_OK) < 0) {
        print_message("# skipped: no iptables-legacy here; the unit tier of a host has it\n");
        return;
    }
    resolver_files("nameserver 203.0.113.2\n", NULL);
    for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
        auto_str struct str before = str_init(8192), after = str_init(8192);
        command(programs[i], "-A", "FORWARD", "-j", "DROP"); /* a rule of somebody's is no policy */
        ok(network_check(s->node, collect_sentence, &before, err));
        command(programs[i], "-P", "FORWARD", "DROP", NULL);
        ok(network_check(s->node, collect_sentence, &after, err));
        command(programs[i], "-P", "FORWARD", "ACCEPT", NULL);
        assert_null(strstr(str_c(&before), "older iptables"));
        assert_non_null(strstr(str_c(&after), strrchr(programs[i], '/') + 1));
    }
    resolver_files_gone();
}

int main(void)
{
    if (!stage_own())
        return 0;
#define stage_test(t) cmocka_unit_test_setup_teardown(t, stage_up, stage_down)
    const struct CMUnitTest tests[] = {
        stage_test(test_resolv_conf), stage_test(test_loopback_resolver), stage_test(test_settings),
        stage_test(test_check),       stage_test(test_check_legacy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
