/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "registry/registry.h"

#include "registry/db.h"

#include <stdlib.h>

void registry_snapshot_done(struct registry_snapshot *s)
{
    free(s->spec);
    s->spec = NULL;
}

int registry_snapshot_insert(struct registry *r, struct registry_snapshot *shot, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_SNAPSHOT_INSERT, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, shot->ve);
    sqlite3_bind_text(s, 2, shot->name, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 3, shot->state);
    sqlite3_bind_text(s, 4, shot->spec, -1, SQLITE_STATIC);
    res = db_write_row(r, s, "snapshot", shot->name, 0, err);
    if (res == 0)
        shot->id = sqlite3_last_insert_rowid(r->db);
    return res;
}

int registry_snapshot_update(struct registry *r, const struct registry_snapshot *shot,
                             struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_SNAPSHOT_UPDATE, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, shot->id);
    sqlite3_bind_int64(s, 2, shot->ve);
    sqlite3_bind_text(s, 3, shot->name, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 4, shot->state);
    sqlite3_bind_text(s, 5, shot->spec, -1, SQLITE_STATIC);
    return db_write_row(r, s, "snapshot", shot->name, shot->id, err);
}

int registry_snapshot_delete(struct registry *r, int64_t id, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_SNAPSHOT_DELETE, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, id);
    return db_write_row(r, s, "snapshot", "", id, err);
}

int registry_snapshot_delete_ve(struct registry *r, int64_t ve, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_SNAPSHOT_DELETE_VE, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, ve);
    return db_run(r, s, err, "write the registry");
}

static int read_row(struct registry *r, sqlite3_stmt *s, struct registry_snapshot *shot,
                    struct err *err)
{
    shot->id = sqlite3_column_int64(s, 0);
    shot->ve = sqlite3_column_int64(s, 1);
    shot->state = sqlite3_column_int(s, 3);
    int res = db_text_fixed(r, s, 2, shot->name, sizeof(shot->name), err);
    return res == 0 ? db_text(s, 4, &shot->spec, err) : res;
}

int registry_snapshot_each(struct registry *r, int64_t ve,
                           int (*item)(void *ctx, const struct registry_snapshot *s,
                                       struct err *err),
                           void *ctx, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, ve ? SQL_SNAPSHOT_EACH_VE : SQL_SNAPSHOT_EACH, &s, err);
    if (res < 0)
        return res;
    if (ve)
        sqlite3_bind_int64(s, 1, ve);
    while (db_next(r, s, &res, err)) {
        struct registry_snapshot shot = {0};
        res = read_row(r, s, &shot, err);
        if (res == 0)
            res = item(ctx, &shot, err);
        registry_snapshot_done(&shot);
    }
    return res;
}
