/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * db — what the files of this room share: the connection, its statements, and sentences for what
 * SQLite says.  Nobody outside src/registry/ includes it.
 */
#pragma once

#include "base/err.h"

#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

#define REGISTRY_FILE  "registry.db"
#define REGISTRY_GOOD  REGISTRY_FILE ".good"
#define REGISTRY_MAGIC 0x5445524d /* application_id: "TERM" */

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
    SQL__COUNT
};

struct registry {
    sqlite3 *db;
    char *state; /* directory */
    sqlite3_stmt *stmts[SQL__COUNT];
    char *warning;
};

/* The cached statement, reset and without bindings. */
int db_stmt(struct registry *r, enum registry_sql which, sqlite3_stmt **ret, struct err *err);
/* Ends a use: gives the row and what was bound back. */
void db_stmt_done(sqlite3_stmt *s);
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

/* migrate.c: brings the database from its version to `target` (0: the newest), each step in a
 * transaction of its own.  The test of upgrades uses the middle targets. */
int db_migrate(struct registry *r, int target, struct err *err);
int db_newest_version(void);

/* good.c */
int db_check(struct registry *r, struct err *err);
/* A whole copy beside the registry, replaced atomically. */
int db_copy(struct registry *r, const char *name, struct err *err);
