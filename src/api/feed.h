/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * feed — events on their way to all who listen: each is written down once, whoever many read it.
 * Inside api only.
 *
 * A reader has a place in the feed.  What every reader has taken is let go (feed_trim); beyond
 * FEED_BYTES or FEED_LINES the oldest goes, and who was not there yet is told how many events it
 * lost.  So a reader that takes nothing costs the others nothing, and teremd FEED_BYTES.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FEED_BYTES ((size_t)1 << 20)
#define FEED_LINES 4096u

struct feed;
struct feed_line;

struct feed_reader { /* zero-initialised but for sse; begun by feed_join() */
    bool sse;        /* server-sent events, else a line of JSON each */
    uint64_t at;     /* the event that comes next */
    struct feed_line *now;
    size_t sent; /* of `now` */
};

int feed_open(struct feed **ret, struct err *err);
void feed_close(struct feed *f); /* NULL is fine; its readers have left */
void feed_add(struct feed *f, const json_t *event);
/* From here on; what was added before is not for it. */
void feed_join(const struct feed *f, struct feed_reader *r);
void feed_leave(struct feed_reader *r);
/* Fills buf with what comes next, in pieces as they fit; 0: it has all. */
size_t feed_read(struct feed *f, struct feed_reader *r, char *buf, size_t max);
/* Of no reader `at` is less: what was before goes. */
void feed_trim(struct feed *f, uint64_t at);
uint64_t feed_end(const struct feed *f); /* the event that will be added next */
size_t feed_bytes(const struct feed *f); /* held */
