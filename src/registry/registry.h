/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registry — what shall be, on disk: VEs, jobs, profiles, settings of the instance.
 *
 * I own STATE/registry.db (SQLite, WAL, synchronous=FULL) and its migrations.
 * I use sqlite3.  I never interpret a VE's specification or a profile: JSON text to me.
 *
 * Only teremd opens it (one writer, one thread).  A worker process never touches it: SQLite
 * connections do not survive fork.
 *
 * A registry of a newer Terem is refused (ERR_UNSUPPORTED) with both versions; a damaged one
 * (ERR_CORRUPT) with the path of the last good copy, which registry_open() keeps as
 * registry.db.good each time a check passed, and the command that puts it back.  Before a
 * migration the old file is kept as registry.db.version-N.  Nothing is ever deleted or rebuilt
 * unasked.  A registry that another process holds open: ERR_BUSY; a full disk: ERR_EXHAUSTED; a
 * read-only file system: ERR_DENIED; each with what to do.
 */
#pragma once

#include "base/err.h"
#include "base/name.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct registry;

int registry_open(const char *state, struct registry **ret, struct err *err);
/* Takes NULL.  A forked child must not call it: it leaves by exec or _exit. */
void registry_close(struct registry *r);
void registry_close_p(struct registry **r); /* for auto_clean() */
/* A sentence for the log when opening went well but for something lesser, such as
 * registry.db.good that could not be renewed on a full disk; else NULL. */
const char *registry_warning(const struct registry *r);

/* One transaction; not nested.  registry_commit() is the point where intent is durable; when it
 * fails, nothing of the transaction was kept and none is open.  Single calls outside a
 * transaction are one each. */
int registry_begin(struct registry *r, struct err *err);
int registry_commit(struct registry *r, struct err *err);
void registry_rollback(struct registry *r);

struct registry_ve {
    int64_t id; /* never used twice; names cgroup, tree and interface */
    char name[NAME_SIZE];
    int state;       /* enum ve_state, as number; the ve room owns the meaning */
    int want;        /* state that was asked for last, for recovery and autostart */
    uint32_t slot;   /* 1…: id range and addresses; the lowest free at creation */
    char *spec;      /* JSON: template, layers, labels, params, … what the owner asked for */
    char *run;       /* JSON: pid, started, console …: what holds while it runs; or NULL */
    int64_t created; /* milliseconds since the epoch */
};
void registry_ve_done(struct registry_ve *v); /* frees spec and run */

/* Assigns id and slot (fills them in *v); name in use: ERR_EXISTS; slots > max: ERR_EXHAUSTED. */
int registry_ve_insert(struct registry *r, struct registry_ve *v, uint32_t slot_max,
                       struct err *err);
/* Writes name, state, want, spec, run of v->id. */
int registry_ve_update(struct registry *r, const struct registry_ve *v, struct err *err);
int registry_ve_delete(struct registry *r, int64_t id, struct err *err);
/* In the order of id.  The callback must not keep the pointers nor walk the VEs again; it may
 * update or delete the VE that it was given.  Its negative return ends the walk. */
int registry_ve_each(struct registry *r,
                     int (*item)(void *ctx, const struct registry_ve *v, struct err *err),
                     void *ctx, struct err *err);

struct registry_job {
    int64_t id;
    int64_t ve;                      /* 0: of no VE (templates) */
    char subject[NAME_SIZE];         /* the VE's or template's name, for history */
    char kind[24];                   /* "start", "template-build", … */
    int state;                       /* enum ve_job_state */
    char *request;                   /* JSON of the request, or NULL */
    int error_kind;                  /* enum err_kind when failed */
    char *error;                     /* sentence, or NULL */
    int64_t created, started, ended; /* milliseconds since the epoch; 0: not yet */
};
void registry_job_done(struct registry_job *j);
int registry_job_insert(struct registry *r, struct registry_job *j, struct err *err);
int registry_job_update(struct registry *r, const struct registry_job *j, struct err *err);
int registry_job_get(struct registry *r, int64_t id, struct registry_job *ret, struct err *err);
/* Newest first, at most `most`; only_open: those not ended. */
int registry_job_each(struct registry *r, bool only_open, size_t most,
                      int (*item)(void *ctx, const struct registry_job *j, struct err *err),
                      void *ctx, struct err *err);
/* Keeps the newest `keep` ended jobs. */
int registry_job_prune(struct registry *r, size_t keep, struct err *err);

/* A profile is a name and parameters as JSON text, which is not interpreted here.  Put makes it or
 * replaces its parameters; deleting one that is not there: ERR_NOT_FOUND. */
int registry_profile_put(struct registry *r, const char *name, const char *params, struct err *err);
int registry_profile_delete(struct registry *r, const char *name, struct err *err);
/* In the order of names; the callback keeps no pointer, its negative return ends the walk. */
int registry_profile_each(struct registry *r,
                          int (*item)(void *ctx, const char *name, const char *params,
                                      struct err *err),
                          void *ctx, struct err *err);

/* Small settings of the instance ("instance.number"); *ret NULL when there is none. */
int registry_meta_get(struct registry *r, const char *key, char **ret, struct err *err);
int registry_meta_set(struct registry *r, const char *key, const char *value, struct err *err);
