/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The stage of this room's tests: a directory for a registry. */
#pragma once

#include "registry/registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

extern char dir[64];
int setup(void **state);
int teardown(void **state);
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
struct registry *open_ok(void); /* or the test fails */
int64_t add_ve(struct registry *r, const char *name, uint32_t *slot);

/* For registry_ve_each(): how many there are, and what they are called. */
struct seen {
    size_t n;
    int64_t last_id;
    char names[256];
};
int see_ve(void *ctx, const struct registry_ve *v, struct err *err);
/* For registry_profile_each(): their names are added to the 256 bytes of ctx. */
int see_profile(void *ctx, const char *name, const char *params, struct err *err);
