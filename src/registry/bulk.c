/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "registry/registry.h"

#include "registry/db.h"

#include <stdlib.h>

int registry_bulk_insert(struct registry *r, const struct registry_bulk *b, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_BULK_INSERT, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, b->job);
    sqlite3_bind_int64(s, 2, b->item);
    sqlite3_bind_int64(s, 3, b->ve);
    sqlite3_bind_text(s, 4, b->name, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 5, b->state);
    sqlite3_bind_int(s, 6, b->error_kind);
    sqlite3_bind_text(s, 7, b->error, -1, SQLITE_STATIC);
    return db_run(r, s, err, "write the registry");
}

int registry_bulk_update(struct registry *r, const struct registry_bulk *b, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_BULK_UPDATE, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, b->job);
    sqlite3_bind_int64(s, 2, b->item);
    sqlite3_bind_int(s, 3, b->state);
    sqlite3_bind_int(s, 4, b->error_kind);
    sqlite3_bind_text(s, 5, b->error, -1, SQLITE_STATIC);
    return db_run(r, s, err, "write the registry");
}

int registry_bulk_each(struct registry *r, int64_t job,
                       int (*item)(void *ctx, const struct registry_bulk *b, struct err *err),
                       void *ctx, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_BULK_EACH, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, job);
    while (db_next(r, s, &res, err)) {
        struct registry_bulk b = {.job = job};
        b.item = sqlite3_column_int64(s, 0);
        b.ve = sqlite3_column_int64(s, 1);
        b.state = sqlite3_column_int(s, 3);
        b.error_kind = sqlite3_column_int(s, 4);
        res = db_text_fixed(r, s, 2, b.name, sizeof(b.name), err);
        if (res == 0)
            res = db_text(s, 5, &b.error, err);
        if (res == 0)
            res = item(ctx, &b, err);
        free(b.error);
    }
    return res;
}
