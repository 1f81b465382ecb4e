/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test_make — foreign archives for the tests, byte by byte, and a store to bring them to.
 */
#pragma once

#include "archive/hash.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "template/template.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct fixture {
    char dir[64]; /* …/state is the store's, …/outside must never change */
    char state[80], outside[80], file[80];
    struct template_store *store;
    struct err err;
};
int fixture_setup(void **state);
int fixture_teardown(void **state);
/* Entries of a directory below the state; hidden ones count. */
size_t fixture_entries(struct fixture *f, const char *below);
/* Nothing in layers/ and templates/, and "outside" untouched. */
void fixture_assert_nothing(struct fixture *f);
/* The template, and then whatever nobody stands on. */
int fixture_remove(struct fixture *f, const char *name, const char *const *used, size_t n_used);
/* Root of the i-th layer of a template; the caller closes it. */
int fixture_root(struct fixture *f, const char *name, size_t i);

#define OK(f, x)                                   \
    do {                                           \
        if ((x) < 0)                               \
            fail_msg("%s: %s", #x, (f)->err.text); \
    } while (0)

struct bytes {
    unsigned char *p;
    size_t n, room;
};
void bytes_add(struct bytes *b, const void *p, size_t n);
void bytes_done(struct bytes *b);
#define auto_bytes __attribute__((cleanup(bytes_done)))

struct tar_item {
    const char *name;
    char type;     /* '0' file, '1' hard link, '2' symbolic link, '3' char, '5' directory, … */
    unsigned mode; /* 0: 0755 of directories, 0644 of others */
    unsigned uid, gid;
    const char *link;
    const char *data;
    size_t len; /* 0: strlen(data) */
    unsigned major, minor;
};
void tar_add(struct bytes *b, const struct tar_item *item);
/* A pax header for the item that comes next. */
void tar_pax(struct bytes *b, const char *key, const void *value, size_t len);
/* A GNU long name ('L') or link ('K'). */
void tar_long(struct bytes *b, char type, const char *text);
void tar_end(struct bytes *b);

void pack_gzip(const struct bytes *in, struct bytes *out);
void pack_xz(const struct bytes *in, struct bytes *out);
void pack_zstd(const struct bytes *in, struct bytes *out);

void sha256_of(const struct bytes *b, char ret[HASH_TEXT]);
void write_file(const char *path, const void *p, size_t n);
/* Writes f->file and imports it as template "t". */
int import_bytes(struct fixture *f, const struct bytes *b, const struct template_request *rq);
