/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "registry/usage.h"

#include "base/cleanup.h"
#include "base/name.h"
#include "base/str.h"
#include "registry/db.h"
#include "registry/registry.h"

#include <inttypes.h>
#include <stdlib.h>

#define VERSION 1

struct usage {
    struct registry r;
};

/* The index begins with the time, so that a period's records are neighbours: those of a thousand
 * VEs are written in one place. */
static const char schema[] =
    "CREATE TABLE record("
    "  number INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  ve INTEGER NOT NULL,"
    "  meter INTEGER NOT NULL,"
    "  class INTEGER NOT NULL,"
    "  start INTEGER NOT NULL,"
    "  seconds INTEGER NOT NULL,"
    "  amount INTEGER NOT NULL,"
    "  packets INTEGER NOT NULL"
    ") STRICT;"
    "CREATE UNIQUE INDEX record_key ON record(start, ve, meter, class);"
    "CREATE TRIGGER record_stays BEFORE UPDATE ON record "
    "BEGIN SELECT RAISE(ABORT, 'a record of usage is never changed'); END;"
    /* What was read last, and what of it has no record yet. */
    "CREATE TABLE baseline("
    "  ve INTEGER NOT NULL,"
    "  meter INTEGER NOT NULL,"
    "  class INTEGER NOT NULL,"
    "  raw INTEGER NOT NULL," /* the bits of an unsigned number, like the next */
    "  raw_packets INTEGER NOT NULL,"
    "  pending INTEGER NOT NULL,"
    "  pending_packets INTEGER NOT NULL,"
    "  taken INTEGER NOT NULL," /* at which take it was there last */
    "  PRIMARY KEY(ve, meter, class)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE ve("
    "  id INTEGER PRIMARY KEY,"
    "  name TEXT NOT NULL,"
    "  taken INTEGER NOT NULL"
    ") STRICT;"
    "CREATE INDEX ve_name ON ve(name);"
    "CREATE TABLE state("
    "  one INTEGER PRIMARY KEY CHECK(one = 1),"
    "  epoch TEXT NOT NULL,"
    "  period INTEGER NOT NULL," /* that has not ended */
    "  takes INTEGER NOT NULL"
    ") STRICT;";

static int make_tables(struct registry *r, struct err *err)
{
    char after[96];
    str_print(after, sizeof(after), "PRAGMA application_id = %d; PRAGMA user_version = %d",
              USAGE_MAGIC, VERSION);
    int res = registry_begin(r, err);
    if (res == 0)
        res = db_exec(r, schema, err);
    if (res == 0)
        res = db_exec(r, after, err);
    if (res == 0)
        return registry_commit(r, err);
    registry_rollback(r);
    return res;
}

static int settle(struct registry *r, bool read, struct err *err)
{
    int64_t magic = 0, version = 0, tables = 0;
    int res = db_exec(
        r, "PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -256",
        err);
    if (res == 0)
        res = db_int(r, "PRAGMA application_id", &magic, err);
    if (res == 0)
        res = db_int(r, "PRAGMA user_version", &version, err);
    if (res == 0)
        res = db_int(r, "SELECT count(*) FROM sqlite_schema", &tables, err);
    if (res < 0)
        return res;
    if (magic != USAGE_MAGIC && (magic || version || tables))
        return err_set(err, ERR_CORRUPT,
                       "%s/" USAGE_FILE " is a database of another program; move it away",
                       r->state);
    if (version > VERSION)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s/" USAGE_FILE " has version %" PRId64 " and this Terem knows %d: install "
                       "the newer Terem that wrote it",
                       r->state, version, VERSION);
    if (read)
        return 0;
    res = db_exec(r,
                  "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                  "PRAGMA journal_size_limit = 4194304",
                  err);
    return res < 0 || version ? res : make_tables(r, err);
}

int usage_open(const char *state, bool read, struct usage **ret, struct err *err)
{
    auto_clean(usage_close_p) struct usage *u = calloc(1, sizeof(*u));
    if (!u)
        return err_set(err, ERR_EXHAUSTED, "cannot open the log of usage: out of memory");
    int res =
        db_open(&u->r, state, USAGE_FILE, read ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE, err);
    if (res == 0)
        res = settle(&u->r, read, err);
    if (res < 0)
        return res;
    *ret = steal_ptr(&u);
    return 0;
}

void usage_close(struct usage *u)
{
    if (u)
        db_done(&u->r);
    free(u);
}

void usage_close_p(struct usage **u)
{
    usage_close(*u);
    *u = NULL;
}

/* ---- taking ---- */

struct state {
    char epoch[128];
    int64_t period, takes;
};

static int get_state(struct registry *r, struct state *ret, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_USAGE_STATE, &s, err);
    if (res < 0)
        return res;
    *ret = (struct state){.period = -1};
    while (db_next(r, s, &res, err)) {
        res = db_text_fixed(r, s, 0, ret->epoch, sizeof(ret->epoch), err);
        ret->period = sqlite3_column_int64(s, 1);
        ret->takes = sqlite3_column_int64(s, 2);
    }
    return res;
}

static int set_state(struct registry *r, const struct state *state, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_USAGE_STATE_SET, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_text(s, 1, state->epoch, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, state->period);
    sqlite3_bind_int64(s, 3, state->takes);
    return db_run(r, s, err, "write what was used");
}

/* What the counter has counted since `last`.  False: it began anew, as it is less than before by
 * more than a wrap of 64 bits explains. */
static bool since(uint64_t now, uint64_t last, uint64_t *ret)
{
    *ret = now - last;
    return *ret <= INT64_MAX;
}

static int take_one(struct registry *r, const struct usage_reading *reading, int64_t takes,
                    struct err *err)
{
    sqlite3_stmt *s;
    uint64_t amount = 0, packets = 0, more, more_packets;
    int res = db_stmt(r, SQL_USAGE_LAST, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, reading->ve);
    sqlite3_bind_int(s, 2, (int)reading->meter);
    sqlite3_bind_int64(s, 3, reading->class);
    while (db_next(r, s, &res, err)) {
        amount = (uint64_t)sqlite3_column_int64(s, 0);
        packets = (uint64_t)sqlite3_column_int64(s, 1);
    }
    if (res == 0)
        res = db_stmt(r, SQL_USAGE_PUT, &s, err);
    if (res < 0)
        return res;
    if (!since(reading->amount, amount, &more) ||
        !since(reading->packets, packets, &more_packets)) {
        more = reading->amount;
        more_packets = reading->packets;
    }
    sqlite3_bind_int64(s, 1, reading->ve);
    sqlite3_bind_int(s, 2, (int)reading->meter);
    sqlite3_bind_int64(s, 3, reading->class);
    sqlite3_bind_int64(s, 4, (int64_t)reading->amount);
    sqlite3_bind_int64(s, 5, (int64_t)reading->packets);
    sqlite3_bind_int64(s, 6, (int64_t)more);
    sqlite3_bind_int64(s, 7, (int64_t)more_packets);
    sqlite3_bind_int64(s, 8, takes);
    return db_run(r, s, err, "write what was used");
}

static int take_ve(struct registry *r, const struct usage_ve *ve, int64_t takes, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_USAGE_VE, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, ve->id);
    sqlite3_bind_text(s, 2, ve->name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 3, takes);
    return db_run(r, s, err, "write what was used");
}

/* Records of the period that was open: all, if it has ended, else those of VEs that are gone. */
static int write_records(struct registry *r, const struct state *state, int64_t seconds, bool ended,
                         size_t *ret, struct err *err)
{
    int64_t last = 0;
    sqlite3_stmt *s;
    int res = db_int(r, "SELECT coalesce(max(number), 0) FROM record", &last, err);
    if (res == 0)
        res = db_stmt(r, SQL_USAGE_WRITE, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, state->period);
    sqlite3_bind_int64(s, 2, seconds);
    sqlite3_bind_int(s, 3, ended);
    sqlite3_bind_int64(s, 4, state->takes);
    res = db_run(r, s, err, "write what was used");
    *ret = res == 0 ? (size_t)sqlite3_changes(r->db) : 0;
    if (res < 0 || *ret == 0)
        return res;
    res = db_stmt(r, SQL_USAGE_WRITTEN, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, last);
    return db_run(r, s, err, "write what was used");
}

static int forget_unseen(struct registry *r, int64_t takes, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_USAGE_UNSEEN, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, takes);
    return db_run(r, s, err, "write what was used");
}

static int take(struct registry *r, const struct usage_take *t, size_t *ret, struct err *err)
{
    struct state state;
    int64_t period = t->now - t->now % t->interval;
    int res = get_state(r, &state, err);
    if (res == 0 && !str_eq(state.epoch, t->epoch)) {
        sqlite3_stmt *s;
        res = db_stmt(r, SQL_USAGE_ANEW, &s, err);
        if (res == 0)
            res = db_run(r, s, err, "write what was used");
    }
    if (res < 0)
        return res;
    if (state.period < 0)
        state.period = period;
    state.takes++;
    for (size_t i = 0; res == 0 && i < t->n; i++)
        res = take_one(r, &t->readings[i], state.takes, err);
    for (size_t i = 0; res == 0 && i < t->n_ves; i++)
        res = take_ve(r, &t->ves[i], state.takes, err);
    /* One that the clock went behind has ended, too. */
    int64_t seconds = period > state.period ? period - state.period : t->interval;
    if (res == 0)
        res = write_records(r, &state, seconds, period != state.period, ret, err);
    if (res == 0)
        res = forget_unseen(r, state.takes, err);
    state.period = period;
    if (res == 0 && str_print(state.epoch, sizeof(state.epoch), "%s", t->epoch) < 0)
        res = err_set(err, ERR_INTERNAL, "the name of an epoch is too long");
    return res < 0 ? res : set_state(r, &state, err);
}

int usage_take(struct usage *u, const struct usage_take *t, size_t *ret_written, struct err *err)
{
    size_t written = 0;
    int res = registry_begin(&u->r, err);
    if (res < 0)
        return res;
    res = take(&u->r, t, &written, err);
    if (res < 0) {
        registry_rollback(&u->r);
        return res;
    }
    res = registry_commit(&u->r, err);
    if (res == 0 && ret_written)
        *ret_written = written;
    return res;
}

int usage_prune(struct usage *u, int64_t before, size_t most, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(&u->r, SQL_USAGE_PRUNE, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, before);
    sqlite3_bind_int64(s, 2, (int64_t)most);
    return db_run(&u->r, s, err, "delete old records of usage");
}

/* ---- reading ---- */

static int each(struct registry *r, sqlite3_stmt *s, usage_fn fn, void *ctx, struct err *err)
{
    int res = 0;
    while (db_next(r, s, &res, err)) {
        struct usage_record record = {
            .number = sqlite3_column_int64(s, 0),
            .ve = sqlite3_column_int64(s, 1),
            .name = (const char *)sqlite3_column_text(s, 2),
            .meter = (enum usage_meter)sqlite3_column_int(s, 3),
            .class = (uint32_t)sqlite3_column_int64(s, 4),
            .start = sqlite3_column_int64(s, 5),
            .seconds = sqlite3_column_int64(s, 6),
            .amount = (uint64_t)sqlite3_column_int64(s, 7),
            .packets = (uint64_t)sqlite3_column_int64(s, 8),
        };
        res = fn(ctx, &record, err);
    }
    return res;
}

int usage_each(struct usage *u, int64_t after, size_t most, usage_fn fn, void *ctx, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(&u->r, SQL_USAGE_EACH, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, after);
    sqlite3_bind_int64(s, 2, (int64_t)most);
    return each(&u->r, s, fn, ctx, err);
}

int usage_sums(struct usage *u, const struct usage_query *q, size_t most, usage_fn fn, void *ctx,
               struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(&u->r, q->ve ? SQL_USAGE_SUMS_VE : SQL_USAGE_SUMS, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, q->from);
    sqlite3_bind_int64(s, 2, q->to);
    sqlite3_bind_int(s, 3, (int)q->by);
    sqlite3_bind_int64(s, 4, (int64_t)most);
    if (q->ve)
        sqlite3_bind_text(s, 5, q->ve, -1, SQLITE_STATIC);
    return each(&u->r, s, fn, ctx, err);
}

int usage_knows(struct usage *u, const char *name, bool *ret, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(&u->r, SQL_USAGE_KNOWS, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    *ret = false;
    while (db_next(&u->r, s, &res, err))
        *ret = true;
    return res;
}
