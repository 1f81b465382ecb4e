/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "registry/db.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int db_check(struct registry *r, struct err *err)
{
    sqlite3_stmt *s = NULL;
    int code = sqlite3_prepare_v2(r->db, "PRAGMA quick_check(1)", -1, &s, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(s);
    int res;
    const char *found = code == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;
    if (!found)
        res = db_fail(r, code == SQLITE_ROW ? SQLITE_NOMEM : code, err, "check the registry");
    else if (strcmp(found, "ok") != 0)
        res = db_damaged(r, err, found);
    else
        res = 0;
    sqlite3_finalize(s);
    return res;
}

static int copy_to(struct registry *r, const char *path, struct err *err)
{
    auto_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, "cannot create %s", path);
    sqlite3 *to = NULL;
    int code = sqlite3_open_v2(path, &to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    /* Durable by the fsync below; nobody reads it before the rename. */
    if (code == SQLITE_OK)
        code = sqlite3_exec(to, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF", NULL, NULL,
                            NULL);
    sqlite3_backup *b = NULL;
    if (code == SQLITE_OK) {
        b = sqlite3_backup_init(to, "main", r->db, "main");
        code = b ? sqlite3_backup_step(b, -1) : sqlite3_errcode(to);
    }
    int end = sqlite3_backup_finish(b);
    if (code == SQLITE_DONE)
        code = end;
    int res = 0;
    if (code == SQLITE_FULL)
        res = err_set(err, ERR_EXHAUSTED, "cannot write %s: its file system is full", path);
    else if (code != SQLITE_OK)
        res = err_set(err, ERR_SYSTEM, "cannot write %s: %s", path, sqlite3_errstr(code));
    sqlite3_close(to);
    if (res == 0 && fsync(fd) < 0)
        res = err_sys(err, "cannot sync %s", path);
    return res;
}

int db_copy(struct registry *r, const char *name, struct err *err)
{
    auto_free char *fresh = str_format("%s/%s.new", r->state, name);
    auto_free char *path = str_format("%s/%s", r->state, name);
    if (!fresh || !path)
        return err_set(err, ERR_EXHAUSTED, "cannot copy the registry: out of memory");
    int res = copy_to(r, fresh, err);
    if (res == 0 && rename(fresh, path) < 0)
        res = err_sys(err, "cannot rename %s to %s", fresh, path);
    if (res < 0) {
        unlink(fresh);
        return res;
    }
    auto_fd int dir = open(r->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || fsync(dir) < 0)
        return err_sys(err, "cannot sync %s", r->state);
    return 0;
}
