/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "registry/registry.h"

#include "registry/db.h"

int registry_class_insert(struct registry *r, int64_t first, const char *name, const char *prefixes,
                          int64_t *ret_id, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_CLASS_INSERT, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, first);
    sqlite3_bind_text(s, 2, name, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 3, prefixes, -1, SQLITE_STATIC);
    res = db_write_row(r, s, "class", name, 0, err);
    if (res == 0)
        *ret_id = sqlite3_last_insert_rowid(r->db);
    return res;
}

int registry_class_update(struct registry *r, int64_t id, const char *prefixes, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_CLASS_UPDATE, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, id);
    if (prefixes)
        sqlite3_bind_text(s, 2, prefixes, -1, SQLITE_STATIC);
    return db_write_row(r, s, "class", "", id, err);
}

int registry_class_each(struct registry *r,
                        int (*item)(void *ctx, int64_t id, const char *name, const char *prefixes,
                                    struct err *err),
                        void *ctx, struct err *err)
{
    return db_each_numbered(r, SQL_CLASS_EACH, item, ctx, err);
}
