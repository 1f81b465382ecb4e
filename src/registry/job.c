/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "registry/registry.h"

#include "registry/db.h"

#include <inttypes.h>
#include <stdlib.h>

void registry_job_done(struct registry_job *j)
{
    free(j->request);
    free(j->error);
    j->request = j->error = NULL;
}

/* The columns in the order that SQL_JOB_INSERT and SQL_JOB_UPDATE have in common. */
static void bind_row(sqlite3_stmt *s, const struct registry_job *j)
{
    sqlite3_bind_int64(s, 1, j->ve);
    sqlite3_bind_text(s, 2, j->subject, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 3, j->kind, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 4, j->state);
    sqlite3_bind_text(s, 5, j->request, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 6, j->error_kind);
    sqlite3_bind_text(s, 7, j->error, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 8, j->created);
    sqlite3_bind_int64(s, 9, j->started);
    sqlite3_bind_int64(s, 10, j->ended);
}

int registry_job_insert(struct registry *r, struct registry_job *j, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_JOB_INSERT, &s, err);
    if (res < 0)
        return res;
    bind_row(s, j);
    res = db_run(r, s, err, "write the registry");
    if (res == 0)
        j->id = sqlite3_last_insert_rowid(r->db);
    return res;
}

static int not_found(int64_t id, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND,
                   "there is no job %" PRId64 "; terem jobs list --all shows them", id);
}

int registry_job_update(struct registry *r, const struct registry_job *j, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_JOB_UPDATE, &s, err);
    if (res < 0)
        return res;
    bind_row(s, j);
    sqlite3_bind_int64(s, 11, j->id);
    res = db_run(r, s, err, "write the registry");
    return res < 0 || sqlite3_changes(r->db) ? res : not_found(j->id, err);
}

static int read_row(struct registry *r, sqlite3_stmt *s, struct registry_job *j, struct err *err)
{
    j->id = sqlite3_column_int64(s, 0);
    j->ve = sqlite3_column_int64(s, 1);
    j->state = sqlite3_column_int(s, 4);
    j->error_kind = sqlite3_column_int(s, 6);
    j->created = sqlite3_column_int64(s, 8);
    j->started = sqlite3_column_int64(s, 9);
    j->ended = sqlite3_column_int64(s, 10);
    int res = db_text_fixed(r, s, 2, j->subject, sizeof(j->subject), err);
    if (res == 0)
        res = db_text_fixed(r, s, 3, j->kind, sizeof(j->kind), err);
    if (res == 0)
        res = db_text(s, 5, &j->request, err);
    if (res == 0)
        res = db_text(s, 7, &j->error, err);
    return res;
}

int registry_job_get(struct registry *r, int64_t id, struct registry_job *ret, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_JOB_GET, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, id);
    int code = sqlite3_step(s);
    struct registry_job j = {0};
    if (code == SQLITE_ROW)
        res = read_row(r, s, &j, err);
    else
        res = code == SQLITE_DONE ? not_found(id, err) : db_fail(r, code, err, "read the registry");
    db_stmt_done(s);
    if (res < 0)
        registry_job_done(&j);
    else
        *ret = j;
    return res;
}

int registry_job_each(struct registry *r, bool only_open, size_t most,
                      int (*item)(void *ctx, const struct registry_job *j, struct err *err),
                      void *ctx, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, only_open ? SQL_JOB_EACH_OPEN : SQL_JOB_EACH, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, most > INT64_MAX ? INT64_MAX : (int64_t)most);
    while (db_next(r, s, &res, err)) {
        struct registry_job j = {0};
        res = read_row(r, s, &j, err);
        if (res == 0)
            res = item(ctx, &j, err);
        registry_job_done(&j);
    }
    return res;
}

int registry_job_prune(struct registry *r, size_t keep, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_JOB_PRUNE, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, keep > INT64_MAX ? INT64_MAX : (int64_t)keep);
    return db_run(r, s, err, "write the registry");
}
