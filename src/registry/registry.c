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
    [SQL_JOB_PRUNE] = "DELETE FROM job WHERE ended <> 0 AND id <= (SELECT id FROM job "
                      "WHERE ended <> 0 ORDER BY id DESC LIMIT 1 OFFSET ?1)",
    [SQL_PROFILE_PUT] = "INSERT INTO profile(name, params) VALUES(?1, ?2) "
                        "ON CONFLICT(name) DO UPDATE SET params = excluded.params",
    [SQL_PROFILE_DELETE] = "DELETE FROM profile WHERE name = ?1",
    [SQL_PROFILE_EACH] = "SELECT name, params FROM profile ORDER BY name",
};

int db_damaged(struct registry *r, struct err *err, const char *why)
{
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
    int sys = r->db ? sqlite3_system_errno(r->db) : 0;
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return err_set(err, ERR_BUSY,
                       "cannot %s: %s/" REGISTRY_FILE " is in use by another process; is a "
                       "second teremd running on this root?",
                       what, r->state);
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
        return err_sysno(err, sys, "cannot %s: %s/" REGISTRY_FILE, what, r->state);
    return err_set(err, ERR_SYSTEM, "cannot %s: %s/" REGISTRY_FILE ": %s", what, r->state,
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
    return err_sys(err, "cannot create the registry %s", path);
}

static int settle(struct registry *r, struct err *err)
{
    sqlite3_busy_timeout(r->db, 300);
    sqlite3_db_config(r->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    /* Exclusive locking: a second teremd is refused at its first look, and the index of the
     * write-ahead log lives in this process's memory instead of in a shared file.  It must be set
     * before the first access (sqlite.org/wal.html, "Use of WAL Without Shared-Memory"). */
    if (db_exec(r,
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA trusted_schema = OFF;"
                "PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;"
                "PRAGMA cache_size = -1024",
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
    return 0;
}

int registry_open(const char *state, struct registry **ret, struct err *err)
{
    auto_free char *path = str_format("%s/" REGISTRY_FILE, state);
    int res = path ? make_file(path, err)
                   : err_set(err, ERR_EXHAUSTED, "cannot open the registry: out of memory");
    if (res < 0)
        return res;
    auto_clean(registry_close_p) struct registry *r = calloc(1, sizeof(*r));
    if (!r || !(r->state = strdup(state)))
        return err_set(err, ERR_EXHAUSTED, "cannot open the registry: out of memory");
    int code = sqlite3_open_v2(
        path, &r->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (code != SQLITE_OK)
        return db_fail(r, code, err, "open the registry");
    struct err e = {0};
    if (settle(r, &e) < 0) {
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
    for (size_t i = 0; i < SQL__COUNT; i++)
        sqlite3_finalize(r->stmts[i]);
    sqlite3_close(r->db);
    free(r->state);
    free(r->warning);
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

int registry_begin(struct registry *r, struct err *err)
{
    if (!sqlite3_get_autocommit(r->db))
        return err_set(err, ERR_INTERNAL, "a transaction of the registry within another");
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_BEGIN, &s, err);
    return res < 0 ? res : db_run(r, s, err, "begin a change of the registry");
}

int registry_commit(struct registry *r, struct err *err)
{
    sqlite3_stmt *s;
    if (sqlite3_get_autocommit(r->db))
        /* SQLite rolls back by itself when a statement inside met a full disk. */
        return err_set(err, ERR_STATE, "nothing to commit: the change was rolled back");
    int res = db_stmt(r, SQL_COMMIT, &s, err);
    if (res == 0)
        res = db_run(r, s, err, "write the registry");
    if (res < 0)
        registry_rollback(r);
    return res;
}

void registry_rollback(struct registry *r)
{
    sqlite3_stmt *s;
    if (!sqlite3_get_autocommit(r->db) && db_stmt(r, SQL_ROLLBACK, &s, NULL) == 0)
        db_run(r, s, NULL, "roll back");
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
