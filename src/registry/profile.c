/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "registry/registry.h"

#include "registry/db.h"

#include <stdlib.h>

int registry_profile_put(struct registry *r, const char *name, const char *params, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_PROFILE_PUT, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 2, params, -1, SQLITE_STATIC);
    return db_run(r, s, err, "write the registry");
}

int registry_profile_delete(struct registry *r, const char *name, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_PROFILE_DELETE, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    res = db_run(r, s, err, "write the registry");
    if (res == 0 && sqlite3_changes(r->db) == 0)
        res = err_set(err, ERR_NOT_FOUND, "there is no profile %s", name);
    return res;
}

int registry_profile_each(struct registry *r,
                          int (*item)(void *ctx, const char *name, const char *params,
                                      struct err *err),
                          void *ctx, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_PROFILE_EACH, &s, err);
    if (res < 0)
        return res;
    int code;
    while ((code = sqlite3_step(s)) == SQLITE_ROW) {
        char name[NAME_SIZE], *params = NULL;
        res = db_text_fixed(r, s, 0, name, sizeof(name), err);
        if (res == 0)
            res = db_text(s, 1, &params, err);
        if (res == 0)
            res = item(ctx, name, params, err);
        free(params);
        if (res < 0)
            break;
    }
    if (res >= 0)
        res = code == SQLITE_DONE ? 0 : db_fail(r, code, err, "read the registry");
    db_stmt_done(s);
    return res;
}
