/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * child — a program of the host (mmdebstrap, tar, busybox) whose output is read.
 *
 * It runs with stdin from /dev/null, a clean environment, the default signals, and none of our
 * descriptors.  With `isolate` it is the first process of new PID and mount namespaces: when it
 * ends or is ended, however, every process and mount that it made is gone, and when we die, it
 * dies.
 */
#pragma once

#include "template/template.h"

#include <sys/types.h>

struct child {
    pid_t pid;
    int pidfd;
    int out; /* its standard output; yours to read */
    int log; /* its standard error */
    /* What is shown of the log while the child is waited for; both set by the owner. */
    template_progress progress;
    void *ctx;
    int percent;
    char line[256]; /* being assembled */
    size_t line_len;
    char said[256]; /* last line that tells how far it is */
    char why[256];  /* the line that tells best why it failed: see child.c */
    int why_rank;
};
#define CHILD_NONE ((struct child){.pid = -1, .pidfd = -1, .out = -1, .log = -1})

struct child_how {
    bool isolate;
    const char *tmpdir; /* TMPDIR, or NULL */
    char *env;          /* one more variable, or NULL */
};

int child_start(const char *const *argv, const struct child_how *how, struct child *ret,
                struct err *err);
/* Waits until there is output or its end, and passes the log's lines to progress meanwhile.
 * Fits stream_open_waiting(); ctx is the struct child. */
int child_wait_output(void *ctx, struct err *err);
/* Waits for its end; an exit status that is not 0 is an error that quotes the log. */
int child_finish(struct child *c, const char *name, struct err *err);
/* For r, the result of reading its output: output that was cut short (ERR_CORRUPT) is only the
 * effect, and the cause is why the child ended.  Returns the failure to tell, or 0. */
int child_explain(struct child *c, const char *name, int r, struct err *err);
/* Kills it (and with `isolate` all that it started), reaps it, closes the descriptors. */
void child_drop(struct child *c);
#define auto_child __attribute__((cleanup(child_drop)))

/* Its whole standard output as text; more than max bytes: ERR_EXHAUSTED. */
int child_output(const char *const *argv, size_t max, char **ret, struct err *err);
