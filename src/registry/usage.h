/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * usage — what VEs used, as records of a few minutes that are only ever added: what is billed.
 *
 * I own STATE/usage.db (adr/0016 tells why it is a file of its own).  I use sqlite3.  I read no
 * clock and no counter: both come with each take, so that every bad moment can be tested.
 *
 * A record says what one VE used of one meter and class in the period that began at `start`, and
 * these four are its key.  `start` is a multiple of the interval in seconds since the epoch, and
 * what lies between is told by `seconds`: one interval, or more when nobody could look meanwhile.
 * A record is never changed; its number is higher than those of all before it and never given
 * again.  What is 0 has no record.
 *
 * Counters go on counting while nobody looks, and may begin anew: a take compares them with what
 * was read last.  The values read, what of them has no record yet and the records are committed
 * together, so that a crash at any moment counts nothing twice and loses nothing that the kernel
 * still knows.
 *
 * A log is used by one thread at a time; several may read it, each by a log that it has opened for
 * itself.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct usage;

/* The numbers stand in files: they are never given another meaning. */
enum usage_meter {
    USAGE_NET_OUT = 0, /* amount: bytes, and packets */
    USAGE_NET_IN = 1,  /* towards the VE */
    USAGE_METERS
};

/* Errors as of registry_open().  read: a log that is there already, of which nothing is changed. */
int usage_open(const char *state, bool read, struct usage **ret, struct err *err);
void usage_close(struct usage *u);
void usage_close_p(struct usage **u); /* for auto_clean() */

/* A counter as it stands.  It may wrap, and begin anew. */
struct usage_reading {
    int64_t ve;
    enum usage_meter meter;
    uint32_t class;
    uint64_t amount, packets;
};
struct usage_ve {
    int64_t id;
    const char *name;
};
struct usage_take {
    int64_t now;       /* seconds since the epoch */
    uint32_t interval; /* seconds */
    const char *epoch; /* another one than last time: all counters began at 0 since then */
    const struct usage_reading *readings; /* every counter that there is */
    size_t n;
    const struct usage_ve *ves; /* every VE that there is; of others nothing more will come, and
                                   their records are written at once */
    size_t n_ves;
};
/* All or nothing.  ret_written: how many records. */
int usage_take(struct usage *u, const struct usage_take *t, size_t *ret_written, struct err *err);
/* Deletes the oldest records of those that began before `before`, `most` at most. */
int usage_prune(struct usage *u, int64_t before, size_t most, struct err *err);

struct usage_record {
    int64_t number; /* 0: a sum of several */
    int64_t ve;
    const char *name; /* that it had last; NULL: not known */
    enum usage_meter meter;
    uint32_t class;
    int64_t start, seconds;
    uint64_t amount, packets;
};
typedef int (*usage_fn)(void *ctx, const struct usage_record *r, struct err *err);
/* By number, those above `after`, `most` at most. */
int usage_each(struct usage *u, int64_t after, size_t most, usage_fn fn, void *ctx,
               struct err *err);

enum usage_by { USAGE_BY_RECORD, USAGE_BY_HOUR, USAGE_BY_DAY, USAGE_BY_MONTH };
struct usage_query {
    const char *ve;   /* name; NULL: all.  One that never was: nothing */
    int64_t from, to; /* of records that began in [from, to) */
    enum usage_by by; /* of UTC; a record is of the hour in which it began */
};
/* Sums by time, VE, meter and class, in this order, `most` at most; seconds is 0. */
int usage_sums(struct usage *u, const struct usage_query *q, size_t most, usage_fn fn, void *ctx,
               struct err *err);
/* Was there ever a VE of this name, as far as records know? */
int usage_knows(struct usage *u, const char *name, bool *ret, struct err *err);
