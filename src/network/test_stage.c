/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "network/test_stage.h"
#include "base/cleanup.h"
#include "base/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <nftables/libnftables.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

int go(int netns)
{
    auto_fd int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    assert_int_equal(setns(netns, CLONE_NEWNET), 0);
    return steal_fd(&home);
}

void back(int home)
{
    assert_int_equal(setns(home, CLONE_NEWNET), 0);
    close(home);
}

int netns_new(void)
{
    auto_fd int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    assert_int_equal(setns(home, CLONE_NEWNET), 0);
    assert_true(fd >= 0);
    return fd;
}

struct netlink_ip ip(const char *text)
{
    struct netlink_ip a = {.family = strchr(text, ':') ? AF_INET6 : AF_INET};
    assert_int_equal(inet_pton(a.family, text, &a.v4), 1);
    return a;
}

void sysctl_write(const char *path, const char *value)
{
    char full[256];
    str_print(full, sizeof(full), "/proc/sys/net/%s", path);
    ok(fd_write_value_at(AT_FDCWD, full, err, "%s", value));
}

void sysctl_expect(const char *path, const char *value)
{
    char full[256];
    auto_free char *text = NULL;
    str_print(full, sizeof(full), "/proc/sys/net/%s", path);
    ok(fd_read_file_at(AT_FDCWD, full, 64, &text, NULL, err));
    if (!str_eq(str_trim(text), value))
        fail_msg("%s is %s, not %s", path, text, value);
}

void address_gone(int netns, const char *link, const char *text, uint8_t prefix)
{
    auto_netlink struct netlink *nl = NULL;
    struct netlink_link l;
    ok(netlink_open_in(netns, &nl, err));
    ok(netlink_link_get(nl, link, &l, err));
    netlink_address_delete(
        nl, &(struct netlink_address){.ifindex = l.ifindex, .ip = ip(text), .prefix = prefix});
    ok(netlink_commit(nl, err));
}

void address_in(int netns, const char *link, const char *text, uint8_t prefix)
{
    auto_netlink struct netlink *nl = NULL;
    struct netlink_link l;
    ok(netlink_open_in(netns, &nl, err));
    ok(netlink_link_get(nl, link, &l, err));
    struct netlink_ip a = ip(text);
    netlink_link_up(nl, l.ifindex);
    netlink_address_add(
        nl, &(struct netlink_address){.ifindex = l.ifindex,
                                      .ip = a,
                                      .prefix = prefix,
                                      .scope = str_starts(text, "fe80") ? RT_SCOPE_LINK : 0,
                                      .flags = a.family == AF_INET6 ? IFA_F_NODAD : 0});
    ok(netlink_commit(nl, err));
    if (!str_starts(text, "fe80"))
        netlink_address_wait(nl, a);
}

void default_route_in(int netns, const char *link, const char *via)
{
    auto_netlink struct netlink *nl = NULL;
    struct netlink_link l;
    ok(netlink_open_in(netns, &nl, err));
    ok(netlink_link_get(nl, link, &l, err));
    struct netlink_ip a = ip(via);
    netlink_route_add(nl, &(struct netlink_route){.family = a.family,
                                                  .via = a,
                                                  .ifindex = l.ifindex,
                                                  .protocol = RTPROT_STATIC,
                                                  .onlink = true});
    ok(netlink_commit(nl, err));
}

/* What nft prints for a command. */
char *nft_text(const char *command)
{
    struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    assert_non_null(ctx);
    nft_ctx_buffer_output(ctx);
    nft_ctx_buffer_error(ctx);
    if (nft_run_cmd_from_buffer(ctx, command) != 0)
        fail_msg("nft %s: %s", command, nft_ctx_get_error_buffer(ctx));
    char *text = strdup(nft_ctx_get_output_buffer(ctx));
    nft_ctx_free(ctx);
    assert_non_null(text);
    return text;
}

unsigned counter(const char *name)
{
    char command[128];
    unsigned n = 0;
    str_print(command, sizeof(command), "list counter inet terem_7 %s", name);
    auto_free char *text = nft_text(command);
    const char *p = strstr(text, "packets ");
    assert_non_null(p);
    assert_int_equal(sscanf(p, "packets %u", &n), 1);
    return n;
}

/* Packets are handled behind our back: waits until the counter is past a value. */
bool counter_passes(const char *name, unsigned value)
{
    for (int i = 0; i < 2000; i++) {
        if (counter(name) > value)
            return true;
        usleep(1000);
    }
    return false;
}

/* A UDP socket in a namespace, bound to an address (NULL: any) and port. */
int udp(int netns, const char *addr, int family, uint16_t port)
{
    int home = go(netns), one = 1;
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    union {
        struct sockaddr sa;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a = {0};
    a.sa.sa_family = (sa_family_t)family;
    if (family == AF_INET) {
        a.v4.sin_port = htons(port);
        if (addr)
            a.v4.sin_addr = ip(addr).v4;
    } else {
        a.v6.sin6_port = htons(port);
        if (addr)
            a.v6.sin6_addr = ip(addr).v6;
        if (addr && str_starts(addr, "fe80"))
            a.v6.sin6_scope_id = if_nametoindex("eth0");
    }
    if (bind(fd, &a.sa, family == AF_INET ? sizeof(a.v4) : sizeof(a.v6)) < 0)
        fail_msg("bind %s: %s", addr ? addr : "any", strerror(errno));
    struct timeval limit = {.tv_sec = 2};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    back(home);
    return fd;
}

int send_to(int fd, struct netlink_ip to, uint16_t port, unsigned scope)
{
    if (to.family == AF_INET) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = to.v4};
        return (int)sendto(fd, "x", 1, 0, (void *)&a, sizeof(a));
    }
    struct sockaddr_in6 a = {.sin6_family = AF_INET6,
                             .sin6_port = htons(port),
                             .sin6_addr = to.v6,
                             .sin6_scope_id = scope};
    return (int)sendto(fd, "x", 1, 0, (void *)&a, sizeof(a));
}

/* Who sent what arrives next; family 0 when nothing does. */
struct netlink_ip receive(int fd, int flags)
{
    char buf[16];
    struct sockaddr_in6 a = {0};
    socklen_t len = sizeof(a);
    if (recvfrom(fd, buf, sizeof(buf), flags, (void *)&a, &len) < 0)
        return (struct netlink_ip){0};
    return a.sin6_family == AF_INET ? netlink_ip4(((struct sockaddr_in *)&a)->sin_addr)
                                    : netlink_ip6(a.sin6_addr);
}

void expect_from(int fd, const char *who)
{
    char buf[NETWORK_TEXT];
    struct netlink_ip from = receive(fd, 0);
    if (!from.family)
        fail_msg("nothing came from %s", who);
    assert_string_equal(network_ip_text(&from, -1, buf), who);
}

const struct network_config config = {
    .instance = 7, .pool4 = "10.88.0.0/16", .pool6 = "fd54:7::/64", .state = STATE};

void uplink(struct stage *s, const char *name)
{
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1}, peer_mac[6] = {2, 0, 0, 0, 0, 2};
    auto_netlink struct netlink *nl = NULL;
    ok(netlink_open(&nl, err));
    netlink_veth_add(nl, &(struct netlink_veth){.name = name,
                                                .peer = name,
                                                .peer_netns = s->outside,
                                                .mac = mac,
                                                .peer_mac = peer_mac,
                                                .mtu = 1400});
    ok(netlink_commit(nl, err));
    /* No link-local address that comes by itself a second later: snapshots must agree. */
    struct netlink_link l;
    ok(netlink_link_get(nl, name, &l, err));
    netlink_link_addrgen(nl, l.ifindex, 1);
    ok(netlink_commit(nl, err));
}

int stage_up(void **state)
{
    struct stage *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    *state = s;
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    s->host = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    s->outside = netns_new();
    for (int i = 0; i < 2; i++)
        s->ve[i] = netns_new();
    mkdir(STATE, 0700);
    address_in(s->host, "lo", "127.0.0.1", 8);
    uplink(s, "up0");
    uplink(s, "up1");
    sysctl_write("ipv6/conf/up0/accept_ra", "1");
    address_in(s->host, "up0", "203.0.113.1", 24);
    address_in(s->host, "up0", "2001:db8::1", 64);
    address_in(s->outside, "up0", "203.0.113.2", 24);
    address_in(s->outside, "up0", "2001:db8::2", 64);
    default_route_in(s->host, "up0", "203.0.113.2");
    ok(network_node_open(&config, &s->node, err));
    for (uint32_t i = 0; i < 2; i++)
        ok(network_address_of(s->node, i + 1, &s->addr[i], err));
    return 0;
}

int stage_down(void **state)
{
    struct stage *s = *state;
    network_node_close(s->node);
    close(s->host);
    close(s->outside);
    close(s->ve[0]);
    close(s->ve[1]);
    free(s);
    unlink(STATE "/network.json");
    return 0;
}

static int add_link(void *ctx, const struct netlink_link *l, struct err *e)
{
    str_add(ctx, "link %s %s\n", l->name, l->kind);
    return 0;
}
static int add_route(void *ctx, const struct netlink_route *r, struct err *e)
{
    char buf[NETWORK_TEXT] = "default";
    if (r->dst.family)
        network_ip_text(&r->dst, r->prefix, buf);
    str_add(ctx, "route %s type %u dev %d metric %u\n", buf, r->type, r->ifindex, r->metric);
    return 0;
}
char *stage_snapshot(void)
{
    static const char *const files[] = {
        "ipv4/ip_forward",         "ipv6/conf/all/forwarding", "ipv4/conf/all/accept_redirects",
        "ipv6/conf/up0/accept_ra", "ipv6/conf/up0/forwarding", "ipv4/conf/up0/forwarding",
        "ipv4/conf/up1/forwarding"};
    auto_netlink struct netlink *nl = NULL;
    struct str s = str_init(1 << 20);
    ok(netlink_open(&nl, err));
    ok(netlink_link_each(nl, NULL, add_link, &s, err));
    ok(netlink_route_each(nl, AF_INET, add_route, &s, err));
    ok(netlink_route_each(nl, AF_INET6, add_route, &s, err));
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        auto_free char *text = NULL;
        char path[128];
        str_print(path, sizeof(path), "/proc/sys/net/%s", files[i]);
        if (fd_read_file_at(AT_FDCWD, path, 64, &text, NULL, NULL) == 0)
            str_add(&s, "%s %s", files[i], text);
    }
    auto_free char *rules = nft_text("list ruleset");
    str_add(&s, "%s", rules);
    char *text = str_steal(&s);
    assert_non_null(text);
    return text;
}

void stage_attach_both(struct stage *s)
{
    ok(network_node_setup(s->node, err));
    ok(network_attach(s->node, 1, s->ve[0], &s->addr[0], &NETWORK_LIMITS_NONE, err));
    ok(network_attach(s->node, 2, s->ve[1], &s->addr[1], &NETWORK_LIMITS_NONE, err));
}

bool stage_own(void)
{
    if (geteuid() == 0 && unshare(CLONE_NEWNET | CLONE_NEWNS) == 0 &&
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("tmpfs", "/tmp", "tmpfs", 0, NULL) == 0)
        return true;
    printf("1..0 # SKIP needs root and namespaces of its own: %s\n", strerror(errno));
    return false;
}
