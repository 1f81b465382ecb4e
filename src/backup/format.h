/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * format — heads, frames and trailer of a backup as bytes.  Inside backup only; docs/backup.md
 * tells the layout.
 *
 * What is not tar stands in skippable frames, which zstd(1) passes over.  Each begins with a tag of
 * four letters, any two of which differ in at least three, so that one changed byte makes none of
 * them another.
 */
#pragma once

#include "backup/backup.h"

#define FRAME_PLAIN    ((size_t)4 << 20)                        /* of tar, at most */
#define FRAME_PACKED   (FRAME_PLAIN + (FRAME_PLAIN >> 7) + 512) /* covers ZSTD_compressBound() */
#define FRAME_NAME     255
#define SKIP_HEAD      8 /* magic and length of a skippable frame */
#define FILE_HEAD      (SKIP_HEAD + 64)
#define FRAME_HEAD     (SKIP_HEAD + 88) /* and the names */
#define FRAME_HEAD_MAX (FRAME_HEAD + 2 * FRAME_NAME)
#define TRAILER_FIXED  (SKIP_HEAD + 36 + 40)
#define TRAILER_ROW    16

#define MEMBER_MANIFEST "terem/manifest.json"
#define MEMBER_DELETED  "terem/deleted"
#define MEMBER_LIST     "terem/list"
#define MEMBER_LAYER    "terem/layers/" /* DIGEST.tar */
#define MEMBER_ROOT     "root/"
#define MANIFEST_MAX    ((size_t)1 << 20)

enum tag { TAG_NONE, TAG_HEAD, TAG_FRAME, TAG_TRAILER };

struct frame_info {
    uint64_t number;
    uint32_t packed, plain;
    char name[FRAME_NAME + 1]; /* what its first byte is of */
    char last[FRAME_NAME + 1]; /* what its last byte is of */
    uint8_t sum[HASH_RAW];     /* of the packed bytes */
};

struct trailer {
    uint64_t frames, plain, list_at, list_size;
};

/* Tag and whole length (with the 8 bytes) of what begins with these 12 bytes; one wrong letter in
 * the tag is forgiven: the checksum will tell, and what is damaged has its right name. */
#define TAGGED 12
enum tag format_tag(const uint8_t bytes[TAGGED], uint64_t *ret_len);

void format_head(uint8_t out[FILE_HEAD], const char *id, uint8_t ret_chain[HASH_RAW]);
bool format_head_read(const uint8_t in[FILE_HEAD], char ret_id[BACKUP_ID],
                      uint8_t ret_chain[HASH_RAW]);
/* Returns its length; chain becomes the next. */
size_t format_frame(uint8_t out[FRAME_HEAD_MAX], const struct frame_info *f,
                    uint8_t chain[HASH_RAW]);
/* False: damaged; chain is as it was. */
bool format_frame_read(const uint8_t *in, size_t len, struct frame_info *ret,
                       uint8_t chain[HASH_RAW]);
/* Without a look at the chain. */
bool format_frame_look(const uint8_t *in, size_t len, struct frame_info *ret);
/* Malloc'ed; NULL: out of memory.  rows: of all frames. */
uint8_t *format_trailer(const struct trailer *t, const struct backup_row *rows,
                        const uint8_t chain[HASH_RAW], size_t *ret_len);
/* Checks sum and numbers; in has the whole trailer.  chain NULL: it is not checked against what
 * came before. */
bool format_trailer_read(const uint8_t *in, size_t len, const uint8_t *chain, struct trailer *ret);
/* Where frame `i` begins in the file and in the tar. */
void format_trailer_row(const uint8_t *in, uint64_t i, uint64_t *ret_file, uint64_t *ret_plain);

int format_row_add(struct backup_row **rows, size_t *n, size_t *cap, const struct backup_row *row,
                   struct err *err);

/* Two digits a byte, and a NUL. */
void format_hex(const uint8_t *in, size_t n, char *ret);
/* "the data of etc/passwd (frame 3)" */
#define PART_TEXT 480
const char *format_part(const struct frame_info *f, char buf[PART_TEXT]);
