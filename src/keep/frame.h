/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * frame — how a terminal or a command's streams travel over one upgraded connection.
 *
 * After "101 Switching Protocols" (Upgrade: terem-stream/1) both sides send frames: a type byte,
 * a length of 4 bytes big-endian (at most FRAME_MAX), the bytes.  Unknown types are skipped.
 * The client begins; the server's last frame is FRAME_EXIT or FRAME_ERROR, then it closes.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_PROTOCOL "terem-stream/1"
#define FRAME_HEAD     5
#define FRAME_MAX      65536

enum frame_type {
    FRAME_STDIN = 0,  /* client → server; empty: end of file */
    FRAME_STDOUT = 1, /* server → client */
    FRAME_STDERR = 2, /* server → client */
    FRAME_RESIZE = 3, /* client → server: rows, columns, each 2 bytes big-endian */
    FRAME_SIGNAL = 4, /* client → server: 1 byte, signal number */
    FRAME_EXIT = 5,   /* server → client: 1 byte how (0 exited, 1 killed), 1 byte status/signal */
    FRAME_ERROR = 6,  /* server → client: 1 byte enum err_kind, then the sentence */
};

void frame_head(uint8_t head[FRAME_HEAD], enum frame_type type, size_t len);
/* Blocking: writes one frame whole. */
int frame_write(int fd, enum frame_type type, const void *buf, size_t len, struct err *err);

/* Incremental reader: feed bytes, take frames until there is none, feed again.  Begins as {0}. */
struct frame_reader {
    uint8_t buf[FRAME_HEAD + FRAME_MAX];
    size_t have;
    size_t taken; /* bytes at the front that were given out */
};
struct frame {
    enum frame_type type;
    const uint8_t *data;
    size_t len;
};
/* read(2)s what is there; returns bytes, 0 at end of file, -kind; -ERR_BUSY: would block.  Frames
 * taken before are gone then.  A whole frame that was not taken first: ERR_INTERNAL. */
int frame_reader_fill(struct frame_reader *r, int fd, struct err *err);
/* True and *ret when a whole frame is there (its data is valid until the next fill); *bad is set
 * when the length is over FRAME_MAX: the stream is of no more use. */
bool frame_next(struct frame_reader *r, struct frame *ret, bool *bad);
