/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stage of the tests of cgroups on the kernel at hand, as root: cgroups named terem-test-<pid>,
 * and processes in them.
 *
 * A child runs the tests; its parent removes every cgroup and process of theirs, however the
 * child ended.
 */
#pragma once

#include "resource/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define VE_UID 1700000
#define MIB    (1024 * 1024)

extern struct resource_node *node;
extern volatile unsigned *ticks; /* shared with the children; 0 when a test begins */

double now(void); /* in seconds */
void pause_ms(int ms);
/* Of the defaults and up to three settings, NULL: none. */
struct param_set set_of(const char *a, const char *b, const char *c);
void make(int64_t id, const struct param_set *set, struct resource_cgroups *ret);
/* Runs body() in the VE's cgroups. */
pid_t run(const struct resource_cgroups *c, bool v2_too, void (*body)(void *), void *ctx);
void body_tick(void *ctx); /* counts a tick each millisecond, for ever */
void reap(pid_t pid, int *ret_status);
void wait_ticks(unsigned least);
void read_ve(int64_t id, const char *controller, const char *v2_file, const char *v1_file,
             char *buf, size_t size);
/* Is this controller here?  Not: says that the test is skipped. */
bool has(const char *controller);

/* Around each test: no tick, and the end of all VEs. */
int each_setup(void **state);
int each_teardown(void **state);
#define EACH(f) cmocka_unit_test_setup_teardown(f, each_setup, each_teardown)

/* Opens all that is needed and runs the tests; returned from main(). */
int stage_main(int (*tests)(void));
