/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test_tree — directories that play cgroup file systems.
 *
 * The linker hands us mkdirat() and unlinkat() of the code under test: a new directory gets the
 * files that the kernel would put there, and a directory goes together with its files.  What is
 * written can then be read.
 */
#pragma once

#include "resource/node.h"

extern bool tree_plays;        /* the kernel's part; true after tree_setup() */
extern const char *tree_lacks; /* a file that the next directories do not have, or NULL */

int tree_setup(void **state);
int tree_teardown(void **state);
/* Of a file in the tree. */
const char *tree_path(const char *path, char buf[256]);
/* The root of a hierarchy; v2: with these controllers. */
void make_top(const char *name, bool v2, const char *controllers);
/* mounts: lines of mountinfo, with @ for the directory. */
void open_node(const char *mounts, struct resource_node **ret);
void write_at(const char *path, const char *text);
/* The first line, since a shorter value does not shorten an ordinary file. */
void expect(const char *path, const char *want);
void expect_gone(const char *path);
void put_all(struct param_set *set, const char *const *texts);
void expect_count(struct param_count c, bool known, uint64_t n);
