/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * link — bytes to and from a job over one upgraded connection (keep/frame.h), with its progress.
 *
 * Both directions are served at once: while something is sent, what comes is taken.
 */
#pragma once

#include "cli.h"

struct link;

/* POSTs the request and upgrades. */
int link_open(struct cli *cli, const char *path, const json_t *request, struct link **ret,
              struct err *err);
void link_close(struct link *l);
/* Who is shown in the progress; data (may be NULL) gets what comes. */
void link_listen(struct link *l, const char *subject,
                 int (*data)(void *ctx, const void *buf, size_t len, struct err *err), void *ctx);
/* ERR_UNAVAILABLE: teremd takes no more; link_finish() has the reason. */
int link_send(struct link *l, const void *buf, size_t len, struct err *err);
int link_send_end(struct link *l, struct err *err); /* of one file */
/* Takes what comes until the job has ended: 0, or why it failed. */
int link_finish(struct link *l, struct err *err);
/* SIGINT and SIGTERM from now on: says the sentence, removes the file (NULL: none) if nothing is in
 * it yet, and dies of it.  It may come while a file is read or written, too, so nothing waits
 * for it.  Both are kept until the program ends. */
int link_interrupted_says(struct link *l, const char *sentence, const char *file, struct err *err);
void link_loud(struct link *l); /* progress in spite of --quiet */
void link_show(struct link *l, int percent, const char *text);
