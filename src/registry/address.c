/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pools of addresses, and addresses. */
#include "registry/registry.h"

#include "registry/db.h"

int registry_address_pool_insert(struct registry *r, const struct registry_address_pool *p,
                                 struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_ADDRESS_POOL_INSERT, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_text(s, 1, p->name, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 2, p->prefix, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 3, p->first, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 4, p->last, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 5, p->public);
    return db_write_row(r, s, "address pool", p->name, 0, err);
}

int registry_address_pool_delete(struct registry *r, const char *name, struct err *err)
{
    return db_write_named(r, SQL_ADDRESS_POOL_DELETE, "address pool", name, NULL, err);
}

int registry_address_pool_each(struct registry *r,
                               int (*item)(void *ctx, const struct registry_address_pool *p,
                                           struct err *err),
                               void *ctx, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_ADDRESS_POOL_EACH, &s, err);
    if (res < 0)
        return res;
    while (db_next(r, s, &res, err)) {
        struct registry_address_pool p = {.public = sqlite3_column_int(s, 4) != 0};
        res = db_text_fixed(r, s, 0, p.name, sizeof(p.name), err);
        if (res == 0)
            res = db_text_fixed(r, s, 1, p.prefix, sizeof(p.prefix), err);
        if (res == 0)
            res = db_text_fixed(r, s, 2, p.first, sizeof(p.first), err);
        if (res == 0)
            res = db_text_fixed(r, s, 3, p.last, sizeof(p.last), err);
        if (res == 0)
            res = item(ctx, &p, err);
    }
    return res;
}

static void bind_rest(sqlite3_stmt *s, const struct registry_address *a)
{
    sqlite3_bind_text(s, 1, a->address, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 3, a->ve);
    sqlite3_bind_int(s, 4, a->reserved);
    if (*a->name)
        sqlite3_bind_text(s, 5, a->name, -1, SQLITE_STATIC);
    if (*a->reverse)
        sqlite3_bind_text(s, 6, a->reverse, -1, SQLITE_STATIC);
}

int registry_address_insert(struct registry *r, struct registry_address *a, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_ADDRESS_INSERT, &s, err);
    if (res < 0)
        return res;
    bind_rest(s, a);
    sqlite3_bind_text(s, 2, a->pool, -1, SQLITE_STATIC);
    res = db_write_row(r, s, "address", a->address, 0, err);
    if (res == 0)
        a->id = sqlite3_last_insert_rowid(r->db);
    return res;
}

int registry_address_update(struct registry *r, const struct registry_address *a, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_ADDRESS_UPDATE, &s, err);
    if (res < 0)
        return res;
    bind_rest(s, a);
    return db_write_row(r, s, "address", a->address, 0, err);
}

int registry_address_delete(struct registry *r, const char *address, struct err *err)
{
    return db_write_named(r, SQL_ADDRESS_DELETE, "address", address, NULL, err);
}

static int read_address(struct registry *r, sqlite3_stmt *s, struct registry_address *a,
                        struct err *err)
{
    *a = (struct registry_address){.id = sqlite3_column_int64(s, 0),
                                   .ve = sqlite3_column_int64(s, 3),
                                   .reserved = sqlite3_column_int(s, 4) != 0};
    int res = db_text_fixed(r, s, 1, a->address, sizeof(a->address), err);
    if (res == 0)
        res = db_text_fixed(r, s, 2, a->pool, sizeof(a->pool), err);
    if (res == 0 && sqlite3_column_type(s, 5) != SQLITE_NULL)
        res = db_text_fixed(r, s, 5, a->name, sizeof(a->name), err);
    if (res == 0 && sqlite3_column_type(s, 6) != SQLITE_NULL)
        res = db_text_fixed(r, s, 6, a->reverse, sizeof(a->reverse), err);
    return res;
}

int registry_address_each(struct registry *r,
                          int (*item)(void *ctx, const struct registry_address *a, struct err *err),
                          void *ctx, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_ADDRESS_EACH, &s, err);
    if (res < 0)
        return res;
    while (db_next(r, s, &res, err)) {
        struct registry_address a;
        res = read_address(r, s, &a, err);
        if (res == 0)
            res = item(ctx, &a, err);
    }
    return res;
}
