/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * err — what went wrong, in one flat value.
 *
 * I own the list of error kinds and what each means to a shell, to HTTP and to a reader.
 * I use nothing.  I never print, log or exit.
 *
 * Synopsis
 *     int thing_open(const char *name, struct thing **ret_thing, struct err *err);
 *
 *     if (thing_open("web1", &t, err) < 0)
 *         return err_wrap(err, "cannot start %s", "web1");
 *
 * Every function that can fail returns 0 (or a count) on success and a negative kind on failure;
 * its last argument is a struct err that it fills.  A struct err has a fixed size and no pointers,
 * so it survives fork, an out-of-memory condition, and a trip through a socket.  err may be NULL
 * everywhere: then only the return value tells.
 *
 * Each layer adds what it attempted on what: "web1: cannot start: cannot mount its root: No space
 * left on device".  The whole is one sentence that a user can act on.
 */
#pragma once

#include <stddef.h>

enum err_kind {
    ERR_NONE = 0,
    ERR_USAGE,       /* the request is malformed: a bad value, name, option or document */
    ERR_NOT_FOUND,   /* the named thing does not exist */
    ERR_EXISTS,      /* the named thing exists already */
    ERR_STATE,       /* the thing's present state does not allow this */
    ERR_BUSY,        /* another operation holds the thing; try again */
    ERR_EXHAUSTED,   /* no room: disk, inodes, ids, addresses, memory, a limit */
    ERR_UNSUPPORTED, /* this kernel, file system or build lacks what is needed */
    ERR_DENIED,      /* not permitted */
    ERR_CORRUPT,     /* foreign or stored bytes are damaged or not what they claim to be */
    ERR_TIMEOUT,     /* a deadline passed */
    ERR_CANCELLED,   /* somebody asked to stop */
    ERR_UNAVAILABLE, /* a needed service (teremd, lxcfs, a registry) does not answer */
    ERR_SYSTEM,      /* the kernel refused for another reason; `sys` has the errno */
    ERR_INTERNAL,    /* a bug in Terem */
    ERR__COUNT
};

struct err {
    int kind; /* enum err_kind */
    int sys;  /* errno of the cause, or 0 */
    char text[504];
};

/* One row of the table that the CLI, the API and the documentation share. */
struct err_row {
    const char *name; /* stable machine name, e.g. "not-found" */
    int exit_status;  /* of the command line */
    int http_status;
    const char *doc; /* a sentence for the manual */
};

/* Never NULL: an unknown kind gives the row of ERR_INTERNAL. */
const struct err_row *err_row(int kind);
/* Kind by its machine name; ERR_INTERNAL when there is none such. */
int err_kind_from_name(const char *name);
/* The kind that an errno falls into (ENOENT: ERR_NOT_FOUND, ENOSPC: ERR_EXHAUSTED, …). */
int err_kind_from_errno(int sys);

/* Fills *err and returns -kind. */
int err_set(struct err *err, enum err_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Like err_set for a failed system call: appends ": strerror(errno)", kind from errno. */
int err_sys(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same for an errno that is not in `errno` (netlink, libraries); sys is positive. */
int err_sysno(struct err *err, int sys, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts "fmt: " before the text that *err has; returns -err->kind.  Too long is cut at the end. */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Empties *err, for a failure that was dealt with. */
void err_clear(struct err *err);
