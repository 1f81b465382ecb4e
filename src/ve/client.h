/* SPDX-License-Identifier: GPL-2.0-or-later */
/* client — a job's client over an upgraded connection; see client.c.  Inside ve only. */
#pragma once

#include "keep/frame.h"
#include "ve/internal.h"

/* In teremd: a duplicate of the connection, which the job owns. */
int client_take(struct ve_node *node, int fd, int *ret_fd, struct err *err);
/* In teremd: the last frame, and the connection is let go.  error NULL: done. */
void client_end(struct job *job, const struct err *error);

/* In the worker; each ends with ERR_CANCELLED when the job is cancelled, and with ERR_UNAVAILABLE
 * when the client has gone. */
/* Tells why the job fails, if it can: a slow client may have much to take before. */
void client_fail(struct job *job, const struct err *error);
int client_write(int fd, const void *buf, size_t len, struct err *err);
int client_tell(int fd, int percent, const char *text, struct err *err); /* progress */
int client_warn(int fd, const char *text,
                struct err *err);          /* what is to be known in spite of all */
int client_flush(int fd, struct err *err); /* room for teremd's last frame */
struct client_in {                         /* begins as {.fd = …} */
    int fd;
    struct frame_reader reader;
    struct frame frame;
    size_t at;
};
/* What the client sends; 0: the end of one file. */
ssize_t client_read(struct client_in *in, void *buf, size_t size, struct err *err);
int client_read_all(struct client_in *in, void *buf, size_t len, struct err *err);
