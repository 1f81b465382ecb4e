/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * reader — one backup from its head on, every part checked before it is used.  Inside backup only.
 */
#pragma once

#include "archive/tree.h"
#include "backup/format.h"
#include "backup/list.h"
#include "backup/sum.h"

#include <zstd.h>

enum member { MEMBER_NONE, TO_MANIFEST, TO_DELETED, TO_LIST, TO_LAYER };

struct reader {
    const struct backup_in *in;
    const struct backup_restore *rs;
    struct backup_info info;
    char head_id[BACKUP_ID];
    uint8_t chain[HASH_RAW];
    struct frame_info last; /* the frame before */
    bool any;               /* there was one */
    bool ended;             /* the trailer was read, and nothing is behind it */
    uint64_t list_at, list_size;
    struct backup_row *rows;
    size_t n_rows, cap_rows;
    ZSTD_DCtx *z;
    uint8_t *packed, *plain;
    struct tree *tree;
    enum member member;
    struct str text; /* the manifest */
    struct str deleted;
    struct str list;
    struct str files;      /* what was seen, as in a list */
    struct list_item item; /* the file that is read */
    struct sum sum;        /* of it */
    uint64_t at;           /* 1 + where the stretch began that is read; 0: none */
    char digest[HASH_TEXT];
    int layer; /* where its tar goes, or -1 */
    bool has_list, has_manifest;
};

/* in and rs are set, layer is -1, all else is 0. */
int reader_open(struct reader *r, struct err *err);
void reader_done(struct reader *r);
int reader_head(struct reader *r, struct err *err);
/* The next frame's bytes of tar, as an untar_source; 0: the trailer was read, and was the end. */
ssize_t reader_next(void *ctx, const void **ret_buf, struct err *err);
/* Opens it and reads all of it. */
int reader_all(struct reader *r, struct err *err);
/* Are these packed bytes what the head says? */
bool reader_frame_ok(const uint8_t *packed, const struct frame_info *f);
/* ERR_CORRUPT with the name of the part. */
int reader_damaged(struct err *err, const char *part);

/* ---- compare.c: files against the list ---- */
/* untar's: each file as it comes. */
int reader_file(void *ctx, const char *path, const struct tree_entry *e, struct err *err);
int reader_content(void *ctx, uint64_t from, uint64_t to, const void *buf, size_t len,
                   struct err *err);
int reader_file_end(void *ctx, struct err *err);
/* What came, and the tree that it was written into, against the list, which came last. */
int reader_compare(struct reader *r, struct err *err);
