/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stream — foreign bytes from a descriptor: decompressed, counted and hashed on the way.
 *
 * I own the reading of plain, gzip, xz and zstd data (told apart by their first bytes) and the
 * SHA-256 of what is read both before and after decompression.  The libraries are used directly
 * and not through libarchive's filters, because those do not check gzip's CRC.
 *
 * A stream that ends early, or whose checksum is wrong: ERR_CORRUPT.
 */
#pragma once

#include "archive/hash.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum stream_kind { STREAM_PLAIN, STREAM_GZIP, STREAM_XZ, STREAM_ZSTD };

struct stream;

/* fd stays the caller's and is read from where it stands.  size: its length in bytes when known
 * (progress), else 0. */
int stream_open(int fd, uint64_t size, struct stream **ret, struct err *err);
/* The same for bytes that a program makes: wait(ctx) is called before each read(2). */
int stream_open_waiting(int fd, int (*wait)(void *ctx, struct err *err), void *ctx,
                        struct stream **ret, struct err *err);
void stream_close(struct stream *s);
#define auto_stream __attribute__((cleanup(stream_closep)))
static inline void stream_closep(struct stream **s)
{
    stream_close(*s);
    *s = NULL;
}

enum stream_kind stream_kind(const struct stream *s);
/* The next piece of decompressed bytes; 0 at the end.  *ret_buf is valid until the next call. */
ssize_t stream_read(struct stream *s, const void **ret_buf, struct err *err);
/* Reads and drops what is left, so that the digests are of the whole. */
int stream_drain(struct stream *s, struct err *err);
/* Bytes after decompression so far. */
uint64_t stream_offset(const struct stream *s);
/* Bytes before decompression so far. */
uint64_t stream_raw_offset(const struct stream *s);
/* 0–100 of the source, -1 if its size is unknown. */
int stream_percent(const struct stream *s);

#define STREAM_DIGEST HASH_TEXT
/* "sha256:…" of what came out, and of what went in; ends the hashing. */
void stream_digests(struct stream *s, char ret_plain[STREAM_DIGEST], char ret_raw[STREAM_DIGEST]);
