/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * protocol — the messages between teremd and terem-keep.
 *
 * terem-keep outlives teremd, also across an upgrade of it, so the layout is written out byte by
 * byte (little-endian) and carries a version.  Both sides check every field, and each that the
 * other is root (SO_PEERCRED).  One SOCK_SEQPACKET message each way; descriptors travel beside
 * it: PUT: pidfd [console] [log directory]; ATTACH: the client's socket; PUT_FILTER: a listener;
 * SERVE: the page of keep/serving.h; the answer to GET: pidfd [console], to GET_FILTER: a listener.
 *
 * request  magic 4, version 2, verb 2, serial 4, flags 4, id 8
 * answer   magic 4, version 2, verb 2, serial 4, flags 4, kind 4, count 4, text 200, ids count × 8
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEEP_VERSION     1
#define KEEP_REQUEST_LEN 24
#define KEEP_TEXT        200
#define KEEP_ANSWER_HEAD (24 + KEEP_TEXT)
#define KEEP_LIST_MAX    512 /* ids in one answer; the asker goes on from the last */
#define KEEP_ANSWER_MAX  (KEEP_ANSWER_HEAD + 8 * KEEP_LIST_MAX)
#define KEEP_FDS         3

enum keep_verb {
    KEEP_PUT = 1,
    KEEP_GET,
    KEEP_DROP,
    KEEP_LIST, /* id: those above it */
    KEEP_ATTACH,
    KEEP_QUIT,
    KEEP_PUT_FILTER,
    KEEP_GET_FILTER, /* flags: a listener's number; the next above it comes, its own in flags */
    KEEP_SERVE,      /* this connection's client answers at the listeners */
    KEEP_VIEWERS,    /* the answer's flags: how many watch its console */
    KEEP__END
};

enum keep_flags { KEEP_HAS_CONSOLE = 1, KEEP_HAS_LOG = 2, KEEP_HAS_MORE = 4 };

struct keep_request {
    enum keep_verb verb;
    uint32_t serial; /* comes back in the answer */
    uint32_t flags;
    int64_t id;
};

struct keep_answer {
    enum keep_verb verb;
    uint32_t serial;
    uint32_t flags;
    int kind; /* enum err_kind; ERR_NONE: done */
    char text[KEEP_TEXT];
    size_t count;
    int64_t ids[KEEP_LIST_MAX];
};

void keep_request_encode(const struct keep_request *q, uint8_t buf[KEEP_REQUEST_LEN]);
/* n_fds: descriptors that came along; their number must fit verb and flags.  *ret is written as
 * far as the serial also when a later field is wrong, so that the refusal finds its asker. */
int keep_request_decode(const uint8_t *buf, size_t len, size_t n_fds, struct keep_request *ret,
                        struct err *err);
/* Returns the length. */
size_t keep_answer_encode(const struct keep_answer *a, uint8_t buf[KEEP_ANSWER_MAX]);
int keep_answer_decode(const uint8_t *buf, size_t len, size_t n_fds, struct keep_answer *ret,
                       struct err *err);
/* The other end of a connected Unix socket must belong to root. */
int keep_check_peer(int sock, struct err *err);
