/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test_make — trees to back up and files in memory, for the tests and the fuzzer of this room.
 */
#pragma once

#include "backup/backup.h"

struct memory { /* a backup */
    uint8_t *buf;
    size_t len, cap;
    size_t stop; /* writing fails behind this many bytes; 0: never */
};
void memory_done(struct memory *m);
int memory_write(void *ctx, const void *buf, size_t len, struct err *err);

/* A new directory on a disk file system; removed by trash(). */
int dir_new(const char *what, char path[64]);
void dir_trash(char path[64], int fd);

/* One of each kind of file that a VE can have. */
void fill(int root);
/* The tree's list, without ctimes; freed by the caller. */
char *list_of(int root, size_t *ret_len);

int make(int root, const char *id, const char *base, size_t base_len,
         const struct backup_part *part, struct memory *out, struct err *err);
/* root -1: only checked. */
int restore(const struct memory *from, int root, const char *since, struct backup_info *ret,
            struct err *err);
/* A memfd with the bytes. */
int memory_fd(const struct memory *m);
/* A backup of any bytes behind the manifest, with good sums: end marker and list, which is so
 * large and the last member, are the caller's. */
int wrap(const void *tar, size_t len, uint64_t list, struct memory *out, struct err *err);
