/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stage of the tests of rows that BPF counts, on the kernel at hand, as root: cgroups named
 * terem-test-<pid>, processes in them, sockets in a network namespace of this test.
 *
 * A child runs the tests; its parent removes all that they made, however the child ended.
 */
#pragma once

#include "resource/bpf.h"
#include "resource/node.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define ID    7
#define ALL   UINT64_MAX
#define SWARM 100

extern struct resource_node *node;
extern struct resource_bpf *bpf;
extern struct resource_cgroups cgroups;
struct box { /* shared with the children */
    volatile int phase, done, got, refused, wrong, error;
    volatile uint16_t port;
};
extern struct box *box;

void pause_ms(int ms);
/* Parameters with these, and all other rows as they are by default. */
struct param_set set_of(uint64_t tcp, uint64_t other, uint64_t files);
void limit(uint64_t tcp, uint64_t other, uint64_t files); /* of the VE, from now on */
struct param_counter counter(const char *key);
uint64_t held(const char *key);
uint64_t failed(const char *key);
/* The kernel frees some sockets a little later (RCU). */
void expect_held(const char *key, uint64_t n);
void open_bpf(void); /* again, after resource_bpf_close() */
const char *bpffs(void);
/* Is all of the row counted here?  Not: says that it is skipped. */
bool works(const char *key);

/* Around each test: a VE without limits, and its end. */
int setup(void **state);
int teardown(void **state);
#define EACH(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* Runs body in the VE. */
pid_t inside(void (*body)(void));
/* Both sides wait for each other by numbers in the box. */
void next_phase(int phase);
void wait_phase(int phase);
void wait_done(int done);
void ends(pid_t pid); /* by itself, with 0 */

/* Opens all that is needed and runs the tests; returned from main(). */
int stage_main(int (*tests)(void));
