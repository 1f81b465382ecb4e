/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * registry — what shall be, on disk: VEs, their snapshots, jobs, profiles, pools,
 * destination classes, addresses, published ports, private networks, settings of the instance.
 *
 * I own STATE/registry.db (SQLite, WAL, synchronous=FULL) and its migrations.
 * I use sqlite3.  I never interpret the specification of a VE, a snapshot or a pool, nor a
 * profile: JSON text to me.
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
/* One whose commit outlives this process at once, and a power cut only after registry_flush() or
 * the commit of an ordinary one: until then the numbers that it gave may be given again. */
int registry_begin_light(struct registry *r, struct err *err);
int registry_flush(struct registry *r, struct err *err);
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

/* What a job over many VEs does to each; the rows go with the job's. */
struct registry_bulk {
    int64_t job, item; /* item: 0… in the order in which they are begun */
    int64_t ve;        /* 0: of that name there was none */
    char name[NAME_SIZE];
    int state;      /* enum job_state */
    int error_kind; /* enum err_kind when failed */
    char *error;    /* sentence, or NULL; whoever reads rows does not keep it */
};
int registry_bulk_insert(struct registry *r, const struct registry_bulk *b, struct err *err);
/* Writes state, error_kind and error of b->job and b->item. */
int registry_bulk_update(struct registry *r, const struct registry_bulk *b, struct err *err);
/* In the order of items; the callback keeps no pointer, its negative return ends the walk. */
int registry_bulk_each(struct registry *r, int64_t job,
                       int (*item)(void *ctx, const struct registry_bulk *b, struct err *err),
                       void *ctx, struct err *err);

/* A profile is a name and parameters as JSON text, which is not interpreted here.  Put makes it or
 * replaces its parameters; deleting one that is not there: ERR_NOT_FOUND. */
int registry_profile_put(struct registry *r, const char *name, const char *params, struct err *err);
int registry_profile_delete(struct registry *r, const char *name, struct err *err);
/* In the order of names; the callback keeps no pointer, its negative return ends the walk. */
int registry_profile_each(struct registry *r,
                          int (*item)(void *ctx, const char *name, const char *params,
                                      struct err *err),
                          void *ctx, struct err *err);

/* A pool is a name and what it is made of as JSON text.  Insert: ERR_EXISTS when there is one;
 * update and delete: ERR_NOT_FOUND when there is none. */
int registry_pool_insert(struct registry *r, const char *name, const char *spec, struct err *err);
int registry_pool_update(struct registry *r, const char *name, const char *spec, struct err *err);
int registry_pool_delete(struct registry *r, const char *name, struct err *err);
/* In the order of names; the callback keeps no pointer, its negative return ends the walk. */
int registry_pool_each(struct registry *r,
                       int (*item)(void *ctx, const char *name, const char *spec, struct err *err),
                       void *ctx, struct err *err);

/* LEASE: kept for a backup until the time that its spec tells, and no snapshot. */
enum {
    REGISTRY_SNAPSHOT_MAKING = 0,
    REGISTRY_SNAPSHOT_WHOLE = 1,
    REGISTRY_SNAPSHOT_LEASE = 3 /* 2 is of the past */
};
struct registry_snapshot {
    int64_t id; /* never used twice; names the saved tree */
    int64_t ve;
    char name[NAME_SIZE];
    int state;
    char *spec; /* JSON: parent, note, created, kind, … */
};
void registry_snapshot_done(struct registry_snapshot *s); /* frees spec */
/* Assigns id; the VE has one of this name: ERR_EXISTS. */
int registry_snapshot_insert(struct registry *r, struct registry_snapshot *s, struct err *err);
/* Writes ve, name, state, spec of s->id. */
int registry_snapshot_update(struct registry *r, const struct registry_snapshot *s,
                             struct err *err);
int registry_snapshot_delete(struct registry *r, int64_t id, struct err *err);
int registry_snapshot_delete_ve(struct registry *r, int64_t ve, struct err *err); /* all; none: 0 */
/* In the order of id, those of one VE, or with ve 0 all; the callback keeps no pointer and may
 * update or delete the one that it was given; its negative return ends the walk. */
int registry_snapshot_each(struct registry *r, int64_t ve,
                           int (*item)(void *ctx, const struct registry_snapshot *s,
                                       struct err *err),
                           void *ctx, struct err *err);

/* A destination class is a number, a name and its prefixes as JSON text; NULL: it was removed, and
 * what was counted for it is still known by its name.  Insert assigns the number, `first` or
 * above. */
int registry_class_insert(struct registry *r, int64_t first, const char *name, const char *prefixes,
                          int64_t *ret_id, struct err *err);
int registry_class_update(struct registry *r, int64_t id, const char *prefixes, struct err *err);
/* In the order of id, removed ones too; the callback keeps no pointer, its negative return ends the
 * walk. */
int registry_class_each(struct registry *r,
                        int (*item)(void *ctx, int64_t id, const char *name, const char *prefixes,
                                    struct err *err),
                        void *ctx, struct err *err);

/* A pool of addresses beside the node's own: all as text.  There already: ERR_EXISTS. */
#define REGISTRY_ADDRESS 64
struct registry_address_pool {
    char name[NAME_SIZE];
    char prefix[REGISTRY_ADDRESS], first[REGISTRY_ADDRESS], last[REGISTRY_ADDRESS];
    bool public;
};
int registry_address_pool_insert(struct registry *r, const struct registry_address_pool *p,
                                 struct err *err);
int registry_address_pool_delete(struct registry *r, const char *name, struct err *err);
/* In the order of names; the callback keeps no pointer, its negative return ends the walk. */
int registry_address_pool_each(struct registry *r,
                               int (*item)(void *ctx, const struct registry_address_pool *p,
                                           struct err *err),
                               void *ctx, struct err *err);

#define REGISTRY_HOST 256
struct registry_address {
    int64_t id; /* in the order of giving */
    char address[REGISTRY_ADDRESS], pool[NAME_SIZE];
    int64_t ve; /* 0: no VE's */
    bool reserved;
    char name[NAME_SIZE];        /* "": none; else no other has it */
    char reverse[REGISTRY_HOST]; /* its name in the DNS; "": none */
};
/* Assigns id; there already, or one of its name: ERR_EXISTS. */
int registry_address_insert(struct registry *r, struct registry_address *a, struct err *err);
/* Writes ve, reserved, name and reverse of a->address. */
int registry_address_update(struct registry *r, const struct registry_address *a, struct err *err);
int registry_address_delete(struct registry *r, const char *address, struct err *err);
/* In the order of id; the callback keeps no pointer, its negative return ends the walk. */
int registry_address_each(struct registry *r,
                          int (*item)(void *ctx, const struct registry_address *a, struct err *err),
                          void *ctx, struct err *err);

/* Published ports of the machine: "tcp:80", and JSON of where it leads.  There already:
 * ERR_EXISTS. */
int registry_publish_insert(struct registry *r, const char *port, const char *spec,
                            struct err *err);
int registry_publish_delete(struct registry *r, const char *port, struct err *err);
/* In the order of ports; the callback keeps no pointer, its negative return ends the walk. */
int registry_publish_each(struct registry *r,
                          int (*item)(void *ctx, const char *port, const char *spec,
                                      struct err *err),
                          void *ctx, struct err *err);

/* Private networks: a name, and JSON of what it has.  Assigns id; there already: ERR_EXISTS. */
int registry_private_insert(struct registry *r, const char *name, const char *spec, int64_t *ret_id,
                            struct err *err);
int registry_private_delete(struct registry *r, const char *name, struct err *err);
/* In the order of names; the callback keeps no pointer, its negative return ends the walk. */
int registry_private_each(struct registry *r,
                          int (*item)(void *ctx, int64_t id, const char *name, const char *spec,
                                      struct err *err),
                          void *ctx, struct err *err);

/* Small settings of the instance ("instance.number"); *ret NULL when there is none. */
int registry_meta_get(struct registry *r, const char *key, char **ret, struct err *err);
int registry_meta_set(struct registry *r, const char *key, const char *value, struct err *err);
