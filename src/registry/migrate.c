/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "registry/db.h"

#include "base/cleanup.h"
#include "base/str.h"

/*
 * migrations[n] leads from version n to n + 1.  What stands here was released: it is never edited,
 * only followed by another.  user_version of the file tells where it is.
 */
static const char *const migrations[] = {
    /* AUTOINCREMENT: the number of a destroyed VE is never given again, so that nothing which
     * was left behind under its name can be taken for another's. */
    "CREATE TABLE meta("
    "  key TEXT PRIMARY KEY,"
    "  value TEXT NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE ve("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  name TEXT NOT NULL UNIQUE,"
    "  state INTEGER NOT NULL,"
    "  want INTEGER NOT NULL,"
    "  slot INTEGER NOT NULL UNIQUE CHECK(slot > 0),"
    "  spec TEXT NOT NULL,"
    "  run TEXT,"
    "  created INTEGER NOT NULL"
    ") STRICT;",

    /* A job refers to its VE by number without a foreign key: history outlives the VE. */
    "CREATE TABLE job("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  ve INTEGER NOT NULL,"
    "  subject TEXT NOT NULL,"
    "  kind TEXT NOT NULL,"
    "  state INTEGER NOT NULL,"
    "  request TEXT,"
    "  error_kind INTEGER NOT NULL,"
    "  error TEXT,"
    "  created INTEGER NOT NULL,"
    "  started INTEGER NOT NULL,"
    "  ended INTEGER NOT NULL"
    ") STRICT;"
    "CREATE INDEX job_open ON job(id) WHERE ended = 0;",

    /* Profiles that an operator would make first; they are his to change and to remove. */
    "CREATE TABLE profile("
    "  name TEXT PRIMARY KEY,"
    "  params TEXT NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "INSERT INTO profile(name, params) VALUES"
    "('small', '{\"cpu.limit\":\"100\",\"memory.limit\":\"512M\",\"processes\":\"200\"}'),"
    "('medium', '{\"cpu.limit\":\"200\",\"memory.limit\":\"2G\",\"processes\":\"500\"}'),"
    "('large', '{\"cpu.limit\":\"400\",\"memory.limit\":\"8G\",\"processes\":\"2000\"}');",

    /* A snapshot's number names its saved tree, so it is never given again either.  No foreign
     * key: who removes a VE decides what becomes of its snapshots, in the same transaction. */
    "CREATE TABLE pool("
    "  name TEXT PRIMARY KEY,"
    "  spec TEXT NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE snapshot("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  ve INTEGER NOT NULL,"
    "  name TEXT NOT NULL,"
    "  state INTEGER NOT NULL,"
    "  spec TEXT NOT NULL,"
    "  UNIQUE(ve, name)"
    ") STRICT;",

    /* A removed class keeps its row, without prefixes: traffic was counted under its number, and
     * one that is made again under its name goes on with it. */
    "CREATE TABLE class("
    "  id INTEGER PRIMARY KEY,"
    "  name TEXT NOT NULL UNIQUE,"
    "  prefixes TEXT"
    ") STRICT;",

    /* Addresses are in the order in which they were given: the first public one of a VE is what
     * it speaks outward with.  One that is nobody's and not reserved has no row. */
    "CREATE TABLE address_pool("
    "  name TEXT PRIMARY KEY,"
    "  prefix TEXT NOT NULL,"
    "  first TEXT NOT NULL,"
    "  last TEXT NOT NULL,"
    "  public INTEGER NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE address("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  address TEXT NOT NULL UNIQUE,"
    "  pool TEXT NOT NULL,"
    "  ve INTEGER NOT NULL,"
    "  reserved INTEGER NOT NULL,"
    "  name TEXT UNIQUE,"
    "  reverse TEXT"
    ") STRICT;",

    /* "tcp:80" and "tcp:203.0.113.1:80", which lead to one VE's port. */
    "CREATE TABLE publish("
    "  port TEXT PRIMARY KEY,"
    "  spec TEXT NOT NULL"
    ") STRICT, WITHOUT ROWID;",

    /* What a job over many VEs has to do and has done; it goes with the job. */
    "CREATE TABLE bulk("
    "  job INTEGER NOT NULL,"
    "  item INTEGER NOT NULL,"
    "  ve INTEGER NOT NULL,"
    "  name TEXT NOT NULL,"
    "  state INTEGER NOT NULL,"
    "  error_kind INTEGER NOT NULL,"
    "  error TEXT,"
    "  PRIMARY KEY(job, item)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TRIGGER bulk_goes AFTER DELETE ON job BEGIN "
    "DELETE FROM bulk WHERE job = old.id; END;",
    /* Who is in which stands in the records of VEs.  Numbers name bridges and are not given
     * again. */
    "CREATE TABLE private_network("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  name TEXT NOT NULL UNIQUE,"
    "  spec TEXT NOT NULL"
    ") STRICT;",
};

int db_newest_version(void)
{
    return (int)ARRAY_SIZE(migrations);
}

static int step(struct registry *r, int from, struct err *err)
{
    char after[96];
    str_print(after, sizeof(after), "PRAGMA application_id = %d; PRAGMA user_version = %d",
              REGISTRY_MAGIC, from + 1);
    int res = db_exec(r, "BEGIN IMMEDIATE", err);
    if (res == 0)
        res = db_exec(r, migrations[from], err);
    if (res == 0)
        res = db_exec(r, after, err);
    if (res == 0)
        res = db_exec(r, "COMMIT", err);
    if (res < 0) {
        sqlite3_exec(r->db, "ROLLBACK", NULL, NULL, NULL);
        return err_wrap(err, "cannot bring the registry from version %d to %d", from, from + 1);
    }
    return 0;
}

int db_migrate(struct registry *r, int target, struct err *err)
{
    int64_t version = 0;
    int res = db_int(r, "PRAGMA user_version", &version, err);
    if (res < 0)
        return res;
    if (!target)
        target = db_newest_version();
    if (version > 0 && version < target) {
        /* The way back to the Terem that wrote it. */
        char name[64];
        str_print(name, sizeof(name), REGISTRY_FILE ".version-%d", (int)version);
        res = db_copy(r, name, err);
        if (res < 0)
            return err_wrap(err, "cannot upgrade the registry");
    }
    for (int v = (int)version; v < target && res == 0; v++)
        res = step(r, v, err);
    return res;
}
