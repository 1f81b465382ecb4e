/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stage of this room's tests on a real kernel.  The test's own network namespace plays the
 * host, others play VEs and the outside; all of them, and the tmpfs that holds the state
 * directory, die with the process, however it ends.
 */
#pragma once

#include "network/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define STATE "/tmp/state"
#define ok(call)                                                        \
    do {                                                                \
        struct err e_ = {0};                                            \
        err = &e_;                                                      \
        if ((call) < 0)                                                 \
            fail_msg("%s: %s", #call, e_.text);                         \
        if (e_.kind)                                                    \
            fail_msg("%s succeeded with an error: %s", #call, e_.text); \
    } while (0)
static struct err *err __attribute__((unused));

/* Into another network namespace; back(go(ns)) returns. */
int go(int netns);
void back(int home);
int netns_new(void);
struct netlink_ip ip(const char *text);
void sysctl_write(const char *path, const char *value); /* below /proc/sys/net */
void sysctl_expect(const char *path, const char *value);
void address_in(int netns, const char *link, const char *text, uint8_t prefix);
void address_gone(int netns, const char *link, const char *text, uint8_t prefix);
void default_route_in(int netns, const char *link, const char *via);
char *nft_text(const char *command); /* what nft prints for it */
unsigned counter(const char *name);  /* packets of one in our table */
/* Packets are handled behind our back: waits until the counter is past a value. */
bool counter_passes(const char *name, unsigned value);
/* A UDP socket in a namespace, bound to an address (NULL: any) and port. */
int udp(int netns, const char *addr, int family, uint16_t port);
int send_to(int fd, struct netlink_ip to, uint16_t port, unsigned scope);
/* Who sent what arrives next; family 0 when nothing does. */
struct netlink_ip receive(int fd, int flags);
void expect_from(int fd, const char *who);

/* The stage: a host with an uplink to the outside, and two VEs. */
struct stage {
    int host, outside, ve[2];
    struct network_node *node;
    struct network_address addr[2];
};

extern const struct network_config config;
void uplink(struct stage *s, const char *name);
int stage_up(void **state);
int stage_down(void **state);
/* The state of the machine as text: what must be the same after as before. */
char *stage_snapshot(void);
/* The node is set up, and each VE has its cable. */
void stage_attach_both(struct stage *s);
/* Namespaces of its own for the whole test; false: it must be skipped. */
bool stage_own(void);
