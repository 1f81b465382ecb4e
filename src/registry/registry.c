/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "registry/registry.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "registry/db.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

static const char *const sql[SQL__COUNT] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_META_GET] = "SELECT value FROM meta WHERE key = ?1",
    [SQL_META_SET] = "INSERT INTO meta(key, value) VALUES(?1, ?2) "
                     "ON CONFLICT(key) DO UPDATE SET value = excluded.value",
    /* The first number whose successor is not taken, read off the index of slots in order, so
     * that it stops at the first gap.  No row comes back when that is beyond the maximum. */
    [SQL_VE_INSERT] =
        "INSERT INTO ve(name, state, want, spec, run, created, slot) "
        "SELECT ?1, ?2, ?3, ?4, ?5, ?6, free FROM ("
        "  SELECT t.slot + 1 AS free FROM (SELECT 0 AS slot UNION ALL SELECT slot FROM ve) AS t "
        "  WHERE NOT EXISTS (SELECT 1 FROM ve WHERE ve.slot = t.slot + 1) "
        "  ORDER BY t.slot LIMIT 1) "
        "WHERE free <= ?7 RETURNING id, slot",
    [SQL_VE_UPDATE] =
        "UPDATE ve SET name = ?2, state = ?3, want = ?4, spec = ?5, run = ?6 WHERE id = ?1",
    [SQL_VE_DELETE] = "DELETE FROM ve WHERE id = ?1",
    [SQL_VE_EACH] = "SELECT id, name, state, want, slot, spec, run, created FROM ve ORDER BY id",
    [SQL_JOB_INSERT] = "INSERT INTO job(ve, subject, kind, state, request, error_kind, error, "
                       "created, started, ended) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    [SQL_JOB_UPDATE] = "UPDATE job SET ve = ?1, subject = ?2, kind = ?3, state = ?4, request = ?5, "
                       "error_kind = ?6, error = ?7, created = ?8, started = ?9, ended = ?10 "
                       "WHERE id = ?11",
    [SQL_JOB_GET] = "SELECT id, ve, subject, kind, state, request, error_kind, error, created, "
                    "started, ended FROM job WHERE id = ?1",
    [SQL_JOB_EACH] = "SELECT id, ve, subject, kind, state, request, error_kind, error, created, "
                     "started, ended FROM job ORDER BY id DESC LIMIT ?1",
    [SQL_JOB_EACH_OPEN] = "SELECT id, ve, subject, kind, state, request, error_kind, error, "
                          "created, started, ended FROM job WHERE ended = 0 ORDER BY id DESC "
                          "LIMIT ?1",
    [SQL_JOB_PRUNE] = "DELETE FROM job WHERE id IN (SELECT id FROM job WHERE ended <> 0 "
                      "ORDER BY ended DESC, id DESC LIMIT -1 OFFSET ?1)",
    [SQL_PROFILE_PUT] = "INSERT INTO profile(name, params) VALUES(?1, ?2) "
                        "ON CONFLICT(name) DO UPDATE SET params = excluded.params",
    [SQL_PROFILE_DELETE] = "DELETE FROM profile WHERE name = ?1",
    [SQL_PROFILE_EACH] = "SELECT name, params FROM profile ORDER BY name",
    [SQL_POOL_INSERT] = "INSERT INTO pool(name, spec) VALUES(?1, ?2)",
    [SQL_POOL_UPDATE] = "UPDATE pool SET spec = ?2 WHERE name = ?1",
    [SQL_POOL_DELETE] = "DELETE FROM pool WHERE name = ?1",
    [SQL_POOL_EACH] = "SELECT name, spec FROM pool ORDER BY name",
    [SQL_SNAPSHOT_INSERT] = "INSERT INTO snapshot(ve, name, state, spec) VALUES(?1, ?2, ?3, ?4)",
    [SQL_SNAPSHOT_UPDATE] =
        "UPDATE snapshot SET ve = ?2, name = ?3, state = ?4, spec = ?5 WHERE id = ?1",
    [SQL_SNAPSHOT_DELETE] = "DELETE FROM snapshot WHERE id = ?1",
    [SQL_SNAPSHOT_DELETE_VE] = "DELETE FROM snapshot WHERE ve = ?1",
    [SQL_SNAPSHOT_EACH] = "SELECT id, ve, name, state, spec FROM snapshot ORDER BY id",
    [SQL_SNAPSHOT_EACH_VE] =
        "SELECT id, ve, name, state, spec FROM snapshot WHERE ve = ?1 ORDER BY id",
    /* No row is ever deleted: the next number is one that was never given. */
    [SQL_CLASS_INSERT] = "INSERT INTO class(id, name, prefixes) "
                         "SELECT max(coalesce(max(id) + 1, ?1), ?1), ?2, ?3 FROM class",
    [SQL_CLASS_UPDATE] = "UPDATE class SET prefixes = ?2 WHERE id = ?1",
    [SQL_CLASS_EACH] = "SELECT id, name, prefixes FROM class ORDER BY id",
    [SQL_ADDRESS_POOL_INSERT] =
        "INSERT INTO address_pool(name, prefix, first, last, public) VALUES(?1, ?2, ?3, ?4, ?5)",
    [SQL_ADDRESS_POOL_DELETE] = "DELETE FROM address_pool WHERE name = ?1",
    [SQL_ADDRESS_POOL_EACH] =
        "SELECT name, prefix, first, last, public FROM address_pool ORDER BY name",
    [SQL_ADDRESS_INSERT] = "INSERT INTO address(address, pool, ve, reserved, name, reverse) "
                           "VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    [SQL_ADDRESS_UPDATE] =
        "UPDATE address SET ve = ?3, reserved = ?4, name = ?5, reverse = ?6 WHERE address = ?1",
    [SQL_ADDRESS_DELETE] = "DELETE FROM address WHERE address = ?1",
    [SQL_ADDRESS_EACH] =
        "SELECT id, address, pool, ve, reserved, name, reverse FROM address ORDER BY id",
    [SQL_PUBLISH_INSERT] = "INSERT INTO publish(port, spec) VALUES(?1, ?2)",
    [SQL_PUBLISH_DELETE] = "DELETE FROM publish WHERE port = ?1",
    [SQL_PUBLISH_EACH] = "SELECT port, spec FROM publish ORDER BY port",
    [SQL_BULK_INSERT] = "INSERT INTO bulk(job, item, ve, name, state, error_kind, error) "
                        "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [SQL_BULK_UPDATE] = "UPDATE bulk SET state = ?3, error_kind = ?4, error = ?5 "
                        "WHERE job = ?1 AND item = ?2",
    [SQL_BULK_EACH] = "SELECT item, ve, name, state, error_kind, error FROM bulk WHERE job = ?1 "
                      "ORDER BY item",
    [SQL_PRIVATE_INSERT] = "INSERT INTO private_network(name, spec) VALUES(?1, ?2)",
    [SQL_PRIVATE_DELETE] = "DELETE FROM private_network WHERE name = ?1",
    [SQL_PRIVATE_EACH] = "SELECT id, name, spec FROM private_network ORDER BY name",
    [SQL_USAGE_STATE] = "SELECT epoch, period, takes FROM state",
    [SQL_USAGE_STATE_SET] = "INSERT INTO state(one, epoch, period, takes) VALUES(1, ?1, ?2, ?3) "
                            "ON CONFLICT(one) DO UPDATE SET epoch = excluded.epoch, "
                            "period = excluded.period, takes = excluded.takes",
    [SQL_USAGE_ANEW] = "UPDATE baseline SET raw = 0, raw_packets = 0",
    [SQL_USAGE_LAST] = "SELECT raw, raw_packets FROM baseline "
                       "WHERE ve = ?1 AND meter = ?2 AND class = ?3",
    [SQL_USAGE_PUT] = "INSERT INTO baseline(ve, meter, class, raw, raw_packets, pending, "
                      "pending_packets, taken) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) "
                      "ON CONFLICT(ve, meter, class) DO UPDATE SET raw = excluded.raw, "
                      "raw_packets = excluded.raw_packets, pending = pending + excluded.pending, "
                      "pending_packets = pending_packets + excluded.pending_packets, "
                      "taken = excluded.taken",
    [SQL_USAGE_VE] = "INSERT INTO ve(id, name, taken) VALUES(?1, ?2, ?3) "
                     "ON CONFLICT(id) DO UPDATE SET name = excluded.name, taken = excluded.taken",
    /* A key that has its record already, as when the clock was set back, keeps what it has for a
     * period that is free. */
    [SQL_USAGE_WRITE] = "INSERT OR IGNORE INTO record(ve, meter, class, start, seconds, amount, "
                        "packets) SELECT ve, meter, class, ?1, ?2, pending, pending_packets "
                        "FROM baseline WHERE (pending <> 0 OR pending_packets <> 0) AND "
                        "(?3 OR ve NOT IN (SELECT id FROM ve WHERE taken = ?4)) "
                        "ORDER BY ve, meter, class",
    [SQL_USAGE_WRITTEN] = "UPDATE baseline SET pending = 0, pending_packets = 0 FROM record AS r "
                          "WHERE r.number > ?1 AND r.ve = baseline.ve AND "
                          "r.meter = baseline.meter AND r.class = baseline.class",
    /* A counter that is not there any more: should it come again, it begins at 0. */
    [SQL_USAGE_UNSEEN] = "DELETE FROM baseline WHERE taken <> ?1 AND pending = 0 AND "
                         "pending_packets = 0",
    [SQL_USAGE_PRUNE] = "DELETE FROM record WHERE number IN (SELECT number FROM record "
                        "WHERE start < ?1 ORDER BY start LIMIT ?2)",
    [SQL_USAGE_EACH] = "SELECT r.number, r.ve, v.name, r.meter, r.class, r.start, r.seconds, "
                       "r.amount, r.packets FROM record AS r LEFT JOIN ve AS v ON v.id = r.ve "
                       "WHERE r.number > ?1 ORDER BY r.number LIMIT ?2",
#define SUMS_BEGIN                                                                               \
    "SELECT 0, r.ve, v.name, r.meter, r.class, CASE ?3 WHEN 0 THEN r.start "                     \
    "WHEN 1 THEN r.start - r.start % 3600 WHEN 2 THEN r.start - r.start % 86400 "                \
    "ELSE CAST(strftime('%s', r.start, 'unixepoch', 'start of month') AS INTEGER) END AS t, 0, " \
    "sum(r.amount), sum(r.packets) FROM "
#define SUMS_END " GROUP BY t, r.ve, r.meter, r.class ORDER BY t, r.ve, r.meter, r.class LIMIT ?4"
    [SQL_USAGE_SUMS] = SUMS_BEGIN "record AS r LEFT JOIN ve AS v ON v.id = r.ve "
                                  "WHERE r.start >= ?1 AND r.start < ?2" SUMS_END,
    /* From one period to the next that there is, and there to its records only: a year of one VE
     * among a thousand is not a walk over those of all. */
    [SQL_USAGE_SUMS_VE] =
        "WITH RECURSIVE p(start) AS (SELECT min(start) FROM record WHERE start >= ?1 UNION ALL "
        "SELECT (SELECT min(start) FROM record WHERE start > p.start) FROM p "
        "WHERE p.start < ?2) " SUMS_BEGIN
        "p CROSS JOIN ve AS v CROSS JOIN record AS r WHERE v.name = ?5 AND r.start = p.start AND "
        "r.ve = v.id AND r.start < ?2" SUMS_END,
    [SQL_USAGE_KNOWS] = "SELECT 1 FROM ve WHERE name = ?1",
};

int db_damaged(struct registry *r, struct err *err, const char *why)
{
    if (!str_eq(r->file, REGISTRY_FILE))
        return err_set(err, ERR_CORRUPT,
                       "%s/%s is damaged (%.80s); stop teremd, keep the file and what is beside it "
                       "aside, and put back a copy or start without",
                       r->state, r->file, why);
    auto_free char *good = str_format("%s/" REGISTRY_GOOD, r->state);
    if (!good || access(good, F_OK) < 0)
        return err_set(err, ERR_CORRUPT,
                       "the registry %s/" REGISTRY_FILE " is damaged (%.80s) and there is no "
                       "earlier good copy; restore it from a backup",
                       r->state, why);
    /* The write-ahead log must go with the damaged file: it would be replayed into the copy. */
    return err_set(err, ERR_CORRUPT,
                   "the registry is damaged (%.80s); its last good copy is %s: stop teremd, run  "
                   "cd '%s' && mkdir -p damaged && mv --backup=numbered " REGISTRY_FILE
                   "* damaged/ && cp damaged/" REGISTRY_GOOD " " REGISTRY_FILE
                   "  and start it again",
                   why, good, r->state);
}

int db_fail(struct registry *r, int code, struct err *err, const char *what)
{
    static const char registry[] = "the registry";
    char other[96];
    int sys = r->db ? sqlite3_system_errno(r->db) : 0;
    const char *noun = strstr(what, registry);
    if (noun && !str_eq(r->file, REGISTRY_FILE)) { /* the log of usage is opened by us as well */
        str_print(other, sizeof(other), "%.*sthe log of usage%s", (int)(noun - what), what,
                  noun + strlen(registry));
        what = other;
    }
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return err_set(err, ERR_BUSY,
                       "cannot %s: %s/%s is in use by another process; is a second teremd running "
                       "on this root?",
                       what, r->state, r->file);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return db_damaged(r, err, r->db ? sqlite3_errmsg(r->db) : sqlite3_errstr(code));
    case SQLITE_FULL:
        sys = ENOSPC;
        break;
    case SQLITE_READONLY:
        sys = EROFS;
        break;
    case SQLITE_NOMEM:
        return err_set(err, ERR_EXHAUSTED, "cannot %s: out of memory", what);
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        break;
    default:
        return err_set(err, ERR_INTERNAL, "cannot %s: %s", what,
                       r->db ? sqlite3_errmsg(r->db) : sqlite3_errstr(code));
    }
    if (sys == ENOSPC || sys == EDQUOT)
        return err_set(err, ERR_EXHAUSTED,
                       "cannot %s: the file system of %s is full; free some space or inodes and "
                       "try again",
                       what, r->state);
    if (sys == EROFS)
        return err_set(err, ERR_DENIED,
                       "cannot %s: the file system of %s is read-only; mount it read-write, or "
                       "look into the kernel log for why it turned so",
                       what, r->state);
    if (sys)
        return err_sysno(err, sys, "cannot %s: %s/%s", what, r->state, r->file);
    return err_set(err, ERR_SYSTEM, "cannot %s: %s/%s: %s", what, r->state, r->file,
                   r->db ? sqlite3_errmsg(r->db) : sqlite3_errstr(code));
}

int db_stmt(struct registry *r, enum registry_sql which, sqlite3_stmt **ret, struct err *err)
{
    sqlite3_stmt **s = &r->stmts[which];
    if (!*s) {
        int code = sqlite3_prepare_v3(r->db, sql[which], -1, SQLITE_PREPARE_PERSISTENT, s, NULL);
        if (code != SQLITE_OK)
            return db_fail(r, code, err, "read the registry");
    }
    if (sqlite3_stmt_busy(*s))
        return err_set(err, ERR_INTERNAL, "a walk over the registry within the same walk");
    *ret = *s;
    return 0;
}

void db_stmt_done(sqlite3_stmt *s)
{
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
}

int db_run(struct registry *r, sqlite3_stmt *s, struct err *err, const char *what)
{
    int code = sqlite3_step(s);
    int res = code == SQLITE_DONE ? 0 : db_fail(r, code, err, what);
    db_stmt_done(s);
    return res;
}

int db_exec(struct registry *r, const char *text, struct err *err)
{
    int code = sqlite3_exec(r->db, text, NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : db_fail(r, code, err, "open the registry");
}

int db_int(struct registry *r, const char *text, int64_t *ret, struct err *err)
{
    sqlite3_stmt *s = NULL;
    int code = sqlite3_prepare_v2(r->db, text, -1, &s, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(s);
    int res = 0;
    if (code == SQLITE_ROW)
        *ret = sqlite3_column_int64(s, 0);
    else
        res = db_fail(r, code, err, "open the registry");
    sqlite3_finalize(s);
    return res;
}

int db_text(sqlite3_stmt *s, int column, char **ret, struct err *err)
{
    *ret = NULL;
    if (sqlite3_column_type(s, column) == SQLITE_NULL)
        return 0;
    const unsigned char *t = sqlite3_column_text(s, column);
    *ret = t ? strdup((const char *)t) : NULL;
    return *ret ? 0 : err_set(err, ERR_EXHAUSTED, "cannot read the registry: out of memory");
}

int db_text_fixed(struct registry *r, sqlite3_stmt *s, int column, char *dst, size_t size,
                  struct err *err)
{
    const unsigned char *t = sqlite3_column_text(s, column);
    if (!t)
        return err_set(err, ERR_EXHAUSTED, "cannot read the registry: out of memory");
    if (str_print(dst, size, "%s", (const char *)t) < 0)
        return db_damaged(r, err, "a name is too long");
    return 0;
}

/* SQLite would create the file by the umask; what it says is for root alone.  Only a file that is
 * not there is opened here: closing a descriptor of one that SQLite holds in this process would
 * drop SQLite's POSIX locks (fcntl(2)). */
static int make_file(const char *path, struct err *err)
{
    auto_fd int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    /* One that is there must be writable; SQLite's own errno for that is not to be relied on. */
    if (fd >= 0 || (errno == EEXIST && access(path, W_OK) == 0))
        return 0;
    if (errno == EROFS)
        return err_set(err, ERR_DENIED,
                       "cannot write %s: its file system is read-only; mount it read-write", path);
    if (errno == ENOSPC || errno == EDQUOT)
        return err_set(err, ERR_EXHAUSTED,
                       "cannot create %s: its file system is full; free some space or inodes",
                       path);
    return err_sys(err, "cannot create %s", path);
}

static int settle(struct registry *r, struct err *err)
{
    /* Exclusive locking: a second teremd is refused at its first look, and the index of the
     * write-ahead log lives in this process's memory instead of in a shared file.  It must be set
     * before the first access (sqlite.org/wal.html, "Use of WAL Without Shared-Memory"). */
    if (db_exec(r,
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA trusted_schema = OFF;"
                "PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;"
                "PRAGMA cache_size = -512",
                err) < 0)
        return -1;
    if (sqlite3_db_readonly(r->db, "main") == 1)
        return db_fail(r, SQLITE_READONLY, err, "open the registry");

    int64_t magic = 0, tables = 0, version = 0;
    if (db_int(r, "PRAGMA application_id", &magic, err) < 0 ||
        db_int(r, "PRAGMA user_version", &version, err) < 0 ||
        db_int(r, "SELECT count(*) FROM sqlite_schema", &tables, err) < 0)
        return -1;
    if (magic != REGISTRY_MAGIC && (magic || version || tables))
        return err_set(err, ERR_CORRUPT,
                       "%s/" REGISTRY_FILE " is a database of another program; move it away",
                       r->state);
    if (version > db_newest_version())
        return err_set(err, ERR_UNSUPPORTED,
                       "the registry in %s has version %" PRId64 " and this Terem knows versions "
                       "up to %d: install the newer Terem that wrote it",
                       r->state, version, db_newest_version());
    if (db_exec(r,
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
                "PRAGMA journal_size_limit = 4194304",
                err) < 0)
        return -1;
    if (db_check(r, err) < 0 || db_migrate(r, 0, err) < 0)
        return -1;
    /* A copy that cannot be made (a full disk) must not keep running VEs from their daemon. */
    struct err copy = {0};
    if (db_copy(r, REGISTRY_GOOD, &copy) < 0)
        r->warning = strdup(copy.text);
    sqlite3_db_release_memory(r->db); /* pages that only the check and the copy wanted */
    return 0;
}

int db_open(struct registry *r, const char *state, const char *file, int flags, struct err *err)
{
    auto_free char *path = str_format("%s/%s", state, file);
    r->file = file;
    r->state = strdup(state);
    if (!path || !r->state)
        return err_set(err, ERR_EXHAUSTED, "cannot open %s: out of memory", file);
    int res = flags & SQLITE_OPEN_READWRITE ? make_file(path, err) : 0;
    if (res < 0)
        return res;
    int code =
        sqlite3_open_v2(path, &r->db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (code != SQLITE_OK)
        return db_fail(r, code, err, "open the registry");
    sqlite3_busy_timeout(r->db, 300);
    sqlite3_db_config(r->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    return 0;
}

void db_done(struct registry *r)
{
    for (size_t i = 0; i < SQL__COUNT; i++)
        sqlite3_finalize(r->stmts[i]);
    sqlite3_close(r->db);
    free(r->state);
    free(r->warning);
}

int registry_open(const char *state, struct registry **ret, struct err *err)
{
    auto_clean(registry_close_p) struct registry *r = calloc(1, sizeof(*r));
    if (!r)
        return err_set(err, ERR_EXHAUSTED, "cannot open the registry: out of memory");
    struct err e = {0};
    if (db_open(r, state, REGISTRY_FILE, SQLITE_OPEN_READWRITE, &e) < 0 || settle(r, &e) < 0) {
        if (err)
            *err = e;
        return -e.kind;
    }
    *ret = steal_ptr(&r);
    return 0;
}

void registry_close(struct registry *r)
{
    if (!r)
        return;
    db_done(r);
    free(r);
}

void registry_close_p(struct registry **r)
{
    registry_close(*r);
    *r = NULL;
}

const char *registry_warning(const struct registry *r)
{
    return r->warning;
}

/* Outside of transactions only. */
static int end_light(struct registry *r, struct err *err)
{
    int res = r->light ? db_exec(r, "PRAGMA synchronous = FULL", err) : 0;
    if (res == 0)
        r->light = false;
    return res;
}

static int begin(struct registry *r, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_BEGIN, &s, err);
    return res < 0 ? res : db_run(r, s, err, "begin a change of the registry");
}

int registry_begin(struct registry *r, struct err *err)
{
    if (!sqlite3_get_autocommit(r->db))
        return err_set(err, ERR_INTERNAL, "a transaction of the registry within another");
    int res = end_light(r, err); /* where that failed before */
    return res < 0 ? res : begin(r, err);
}

/* With NORMAL the log is written at a commit, but not synced (sqlite.org/pragma.html). */
int registry_begin_light(struct registry *r, struct err *err)
{
    if (!sqlite3_get_autocommit(r->db))
        return err_set(err, ERR_INTERNAL, "a transaction of the registry within another");
    r->light = true;
    int res = db_exec(r, "PRAGMA synchronous = NORMAL", err);
    if (res == 0)
        res = begin(r, err);
    if (res < 0)
        end_light(r, &(struct err){0});
    return res;
}

int registry_flush(struct registry *r, struct err *err)
{
    sqlite3_file *log = NULL;
    int code = sqlite3_file_control(r->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    if (code == SQLITE_OK && log && log->pMethods)
        code = log->pMethods->xSync(log, SQLITE_SYNC_NORMAL);
    return code == SQLITE_OK ? 0 : db_fail(r, code, err, "write the registry");
}

int registry_commit(struct registry *r, struct err *err)
{
    sqlite3_stmt *s;
    if (sqlite3_get_autocommit(r->db)) {
        end_light(r, &(struct err){0});
        /* SQLite rolls back by itself when a statement inside met a full disk. */
        return err_set(err, ERR_STATE, "nothing to commit: the change was rolled back");
    }
    int res = db_stmt(r, SQL_COMMIT, &s, err);
    if (res == 0)
        res = db_run(r, s, err, "write the registry");
    if (res < 0)
        registry_rollback(r);
    end_light(r, &(struct err){0});
    return res;
}

void registry_rollback(struct registry *r)
{
    sqlite3_stmt *s;
    if (!sqlite3_get_autocommit(r->db) && db_stmt(r, SQL_ROLLBACK, &s, NULL) == 0)
        db_run(r, s, NULL, "roll back");
    end_light(r, &(struct err){0});
}

int registry_meta_get(struct registry *r, const char *key, char **ret, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_META_GET, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
    int code = sqlite3_step(s);
    char *value = NULL;
    if (code == SQLITE_ROW)
        res = db_text(s, 0, &value, err);
    else if (code != SQLITE_DONE)
        res = db_fail(r, code, err, "read the registry");
    db_stmt_done(s);
    if (res == 0)
        *ret = value;
    return res;
}

int registry_meta_set(struct registry *r, const char *key, const char *value, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_META_SET, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 2, value, -1, SQLITE_STATIC);
    return db_run(r, s, err, "write the registry");
}
