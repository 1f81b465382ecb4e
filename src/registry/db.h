/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * db — what the files of this room share: the connection, its statements, and sentences for what
 * SQLite says.  Nobody outside src/registry/ includes it.
 */
#pragma once

#include "base/err.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REGISTRY_FILE  "registry.db"
#define REGISTRY_GOOD  REGISTRY_FILE ".good"
#define REGISTRY_MAGIC 0x5445524d /* application_id: "TERM" */
#define USAGE_FILE     "usage.db"
#define USAGE_MAGIC    0x54455255 /* "TERU" */

/* Every statement of the room; prepared at its first use and kept. */
enum registry_sql {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_META_GET,
    SQL_META_SET,
    SQL_VE_INSERT,
    SQL_VE_UPDATE,
    SQL_VE_DELETE,
    SQL_VE_EACH,
    SQL_JOB_INSERT,
    SQL_JOB_UPDATE,
    SQL_JOB_GET,
    SQL_JOB_EACH,
    SQL_JOB_EACH_OPEN,
    SQL_JOB_PRUNE,
    SQL_PROFILE_PUT,
    SQL_PROFILE_DELETE,
    SQL_PROFILE_EACH,
    SQL_POOL_INSERT,
    SQL_POOL_UPDATE,
    SQL_POOL_DELETE,
    SQL_POOL_EACH,
    SQL_SNAPSHOT_INSERT,
    SQL_SNAPSHOT_UPDATE,
    SQL_SNAPSHOT_DELETE,
    SQL_SNAPSHOT_DELETE_VE,
    SQL_SNAPSHOT_EACH,
    SQL_SNAPSHOT_EACH_VE,
    SQL_CLASS_INSERT,
    SQL_CLASS_UPDATE,
    SQL_CLASS_EACH,
    SQL_ADDRESS_POOL_INSERT,
    SQL_ADDRESS_POOL_DELETE,
    SQL_ADDRESS_POOL_EACH,
    SQL_ADDRESS_INSERT,
    SQL_ADDRESS_UPDATE,
    SQL_ADDRESS_DELETE,
    SQL_ADDRESS_EACH,
    SQL_PUBLISH_INSERT,
    SQL_PUBLISH_DELETE,
    SQL_PUBLISH_EACH,
    SQL_BULK_INSERT,
    SQL_BULK_UPDATE,
    SQL_BULK_EACH,
    SQL_PRIVATE_INSERT,
    SQL_PRIVATE_DELETE,
    SQL_PRIVATE_EACH,
    SQL_USAGE_STATE, /* from here on of the log of usage */
    SQL_USAGE_STATE_SET,
    SQL_USAGE_ANEW,
    SQL_USAGE_LAST,
    SQL_USAGE_PUT,
    SQL_USAGE_VE,
    SQL_USAGE_WRITE,
    SQL_USAGE_WRITTEN,
    SQL_USAGE_UNSEEN,
    SQL_USAGE_PRUNE,
    SQL_USAGE_EACH,
    SQL_USAGE_SUMS,
    SQL_USAGE_SUMS_VE,
    SQL_USAGE_KNOWS,
    SQL__COUNT
};

struct registry {
    sqlite3 *db;
    char *state;      /* directory */
    const char *file; /* in it */
    sqlite3_stmt *stmts[SQL__COUNT];
    char *warning;
    bool light; /* what is committed now is not synced */
};

/* The cached statement, reset and without bindings. */
int db_stmt(struct registry *r, enum registry_sql which, sqlite3_stmt **ret, struct err *err);
/* Ends a use: gives the row and what was bound back. */
void db_stmt_done(sqlite3_stmt *s);
/* The file, made for root alone if it is not there, and the connection. */
int db_open(struct registry *r, const char *state, const char *file, int flags, struct err *err);
/* Takes back all that db_open() and statements took, but not r. */
void db_done(struct registry *r);
/* Runs a cached statement that returns no rows, and ends its use. */
int db_run(struct registry *r, sqlite3_stmt *s, struct err *err, const char *what);
/* SQL text without results, not cached: pragmas and migrations. */
int db_exec(struct registry *r, const char *sql, struct err *err);
/* One integer of a pragma or a query. */
int db_int(struct registry *r, const char *sql, int64_t *ret, struct err *err);
/* The sentence for an SQLite result code: full, read-only, in use, damaged, … */
int db_fail(struct registry *r, int code, struct err *err, const char *what);
/* The sentence for a damaged registry, with the way out; `why` is SQLite's finding. */
int db_damaged(struct registry *r, struct err *err, const char *why);
/* Text column as a copy; NULL stays NULL. */
int db_text(sqlite3_stmt *s, int column, char **ret, struct err *err);
/* Text column into a buffer; one that does not fit was not written by us: ERR_CORRUPT. */
int db_text_fixed(struct registry *r, sqlite3_stmt *s, int column, char *dst, size_t size,
                  struct err *err);

/* row.c */
/* Runs a statement that writes one row, and ends its use.  What the row is called in sentences:
 * noun ("pool") and name, or noun and number; id 0: it goes by its name. */
int db_write_row(struct registry *r, sqlite3_stmt *s, const char *noun, const char *name,
                 int64_t id, struct err *err);
/* On to the next row.  False: there is none, and *res is 0; or *res was negative or is now: in each
 * case the use of the statement has ended. */
bool db_next(struct registry *r, sqlite3_stmt *s, int *res, struct err *err);
/* Statements whose first parameter is a name, and the second, where there is one, a text. */
int db_write_named(struct registry *r, enum registry_sql which, const char *noun, const char *name,
                   const char *text, struct err *err);
/* Statements whose columns are a name and a text. */
int db_each_named(struct registry *r, enum registry_sql which,
                  int (*item)(void *ctx, const char *name, const char *text, struct err *err),
                  void *ctx, struct err *err);
/* The same with a number before them. */
int db_each_numbered(struct registry *r, enum registry_sql which,
                     int (*item)(void *ctx, int64_t id, const char *name, const char *text,
                                 struct err *err),
                     void *ctx, struct err *err);

/* migrate.c: brings the database from its version to `target` (0: the newest), each step in a
 * transaction of its own.  The test of upgrades uses the middle targets. */
int db_migrate(struct registry *r, int target, struct err *err);
int db_newest_version(void);

/* good.c */
int db_check(struct registry *r, struct err *err);
/* A whole copy beside the registry, replaced atomically. */
int db_copy(struct registry *r, const char *name, struct err *err);
