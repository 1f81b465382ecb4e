/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * work — long work on one or many things: begins the jobs, a bounded number at a time, watches
 * them, shows progress, tells each failure by name.
 *
 * SIGINT ends the watching, never a job: it says which jobs go on and how to cancel them, and
 * sets cli->died_of, of which main() dies.  SIGTERM the same.
 */
#pragma once

#include "cli.h"

#define WORK_AT_ONCE 16 /* connections; teremd queues jobs beyond its workers anyway */

/* "starting", "started": what is shown while a job has no text of its own, and at the end (NULL:
 * the job's last text); current, or NULL: at the end where its result says that it was so already.
 */
struct work_words {
    const char *doing, *done, *current;
};

struct work {
    const char *subject; /* "web1" */
    const char *method;
    char *path;   /* owned */
    json_t *body; /* owned, or NULL */
    /* NULL, or: called with a job over many VEs when it tells of one; its end has no line then. */
    void (*item)(void *ctx, const json_t *job);
    void *ctx;
    /* Filled by work_run(): */
    json_t *doc;    /* the last that teremd said: a job, or what was made at once */
    struct err err; /* kind ERR_NONE: done */
    struct client *client;
    struct str line; /* of the stream, unfinished */
    char *shown;     /* progress text that was shown last */
    bool begun, ended, waiting;
};

/* A zeroed array for n pieces of work; NULL when out of memory. */
struct work *work_new(size_t n);
void work_free(struct work *w, size_t n);

/* Runs all.  no_wait: only begins them, and prints the jobs' ids.  The outcome is printed:
 * a sentence each ("web1: started"), or with --json the documents (one: an object unless `many`,
 * else an array).  Fails when any failed. */
int work_run(struct cli *cli, struct work *w, size_t n, const struct work_words *words, bool many,
             bool no_wait, struct err *err);

/* The same for one piece; path and body are stolen. */
int work_one(struct cli *cli, const char *subject, const char *method, char *path, json_t *body,
             const struct work_words *words, bool no_wait, struct err *err);

/* Calls item() for each whole line of a JSON stream; `rest` keeps the unfinished one.  A negative
 * return of item() stops. */
int work_lines(struct str *rest, const char *span, size_t len,
               int (*item)(void *ctx, json_t *doc, struct err *err), void *ctx, struct err *err);
