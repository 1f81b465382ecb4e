/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * client — one request to teremd over its Unix socket.
 *
 * I own the connection.  I use http, base, jansson.  I never print.
 * One connection carries one request (docs/adr/0002-cli-http.md): connecting costs some 20 µs.
 *
 *     auto_client struct client *c = NULL;
 *     struct request rq = {.method = "GET", .path = "/v1/ves"};
 *     if (client_open(&place, &rq, &c, err) < 0 || client_json(c, &ves, err) < 0) …
 */
#pragma once

#include "base/err.h"
#include "base/place.h"
#include "base/str.h"
#include "http.h"

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CLIENT_BODY_MAX ((size_t)64 << 20) /* the longest document that is held in memory */

/* Seconds: for teremd to take a connection, and for answers that need no waiting. */
#define CLIENT_DEADLINE 60

struct request {
    const char *method;
    const char *path;    /* percent-encoded, with its query */
    const json_t *body;  /* sent as application/json; or NULL */
    bool stream;         /* Accept: application/x-ndjson */
    bool upgrade;        /* to FRAME_PROTOCOL */
    const char *upload;  /* Content-Type of a body that client_upload() sends; or NULL */
    int64_t upload_size; /* its length; -1: not known (chunks) */
    unsigned deadline;   /* seconds until the answer begins; 0: it may take as long as it takes */
};

struct client {
    int fd;
    struct http_reader http;
    bool head_told, chunked_upload, eof;
    unsigned deadline; /* until the first byte has come */
    size_t at, have;
    char buf[32768];
};

enum client_event {
    CLIENT_NEED, /* nothing more without reading */
    CLIENT_HEAD, /* status and headers are there: c->http */
    CLIENT_BODY, /* a span of the body */
    CLIENT_END,  /* the answer is whole */
};

/* Connects and sends the head and the JSON body.  ERR_UNAVAILABLE tells how to start teremd. */
int client_open(const struct place *place, const struct request *rq, struct client **ret,
                struct err *err);
void client_close(struct client *c);
#define auto_client __attribute__((cleanup(client_closep)))
static inline void client_closep(struct client **c)
{
    client_close(*c);
    *c = NULL;
}

/* Asks for a session in the place of HTTP, and waits until teremd has begun it. */
int client_upgrade(const struct place *place, const char *method, const char *path,
                   const json_t *body, struct client **ret, struct err *err);

/* What the bytes that came so far mean.  When nothing is left it reads, at most `reads` times
 * (blocking); CLIENT_NEED: still nothing.  A span is valid until the next call. */
#define CLIENT_BLOCK UINT_MAX
int client_step(struct client *c, unsigned reads, enum client_event *ev, const char **span,
                size_t *len, struct err *err);
/* Reads up to the head.  A status of 400 and above becomes the error in its body. */
int client_head(struct client *c, struct err *err);
/* The next span of the body: its length, 0 at the end. */
ssize_t client_body(struct client *c, const char **span, struct err *err);
/* Head and whole body as JSON (*ret is NULL when the body is empty). */
int client_json(struct client *c, json_t **ret, struct err *err);
/* After 101: bytes that came behind the head, of the new protocol. */
size_t client_rest(const struct client *c, const char **ret);

/* Sends a part of the upload.  ERR_CANCELLED: teremd answered before the end; read its head. */
int client_upload(struct client *c, const void *buf, size_t len, struct err *err);
int client_upload_end(struct client *c, struct err *err);

/* Adds text as one path segment or query value (RFC 3986 unreserved bytes stay). */
void client_encode(struct str *s, const char *text);
/* The error that a document {"error":{"kind","message"}} tells; false when it tells none. */
bool client_error(const json_t *doc, struct err *err);
