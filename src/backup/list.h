/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * list — what a tree held: one record a file, as text.  Inside backup only.
 *
 *     TYPE MODE UID GID SIZE MTIME CTIME DATA ATTRS\0NAME\0LINK\0
 *
 * TYPE f d l p w (whiteout); MODE octal; times as seconds.nanoseconds; DATA 32 hex digits of the
 * content of a file or symbolic link (XXH3-128), ATTRS 16 of its extended attributes (XXH3-64);
 * NAME below the tree, "" the tree itself; LINK the name in this list that it is a hard link to,
 * or "".  CTIME 0.0: so young that it cannot tell of a change.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

struct list_item {
    char type;
    mode_t mode; /* without the type */
    uint32_t uid, gid;
    uint64_t size;
    struct timespec mtime, ctime;
    uint64_t data[2], attrs;
    const char *name, *link; /* link "": none */
};

/* 'f', 'd', 'l', 'p', 'w'; 0: sockets and devices, which a backup leaves out. */
char list_type(const struct stat *st);
bool list_same_time(const struct timespec *a, const struct timespec *b);
/* Everything but data, attrs, name and link. */
void list_item_of(const struct stat *st, struct list_item *ret);
void list_put(struct str *s, const struct list_item *item);
/* The next of a list, *at moves on: 1 an item, 0 the end, negative: damaged. */
int list_next(const char *list, size_t len, size_t *at, struct list_item *ret, struct err *err);

/* A list by name. */
struct list_table {
    struct list_item *items;
    bool *seen;
    size_t n;
    uint32_t *slots;
    size_t mask;
};
int list_table_read(const char *list, size_t len, struct list_table *ret, struct err *err);
void list_table_done(struct list_table *t);
/* SIZE_MAX: not there. */
size_t list_table_find(const struct list_table *t, const char *name);
