/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows as all tables write and read them, and tables of a name and a text. */
#include "registry/db.h"

#include "base/name.h"

#include <inttypes.h>
#include <stdlib.h>

int db_write_row(struct registry *r, sqlite3_stmt *s, const char *noun, const char *name,
                 int64_t id, struct err *err)
{
    int res = 0, code = sqlite3_step(s);
    if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY)
        res = err_set(err, ERR_EXISTS, "a %s named %s exists already", noun, name);
    else if (code != SQLITE_DONE)
        res = db_fail(r, code, err, "write the registry");
    else if (sqlite3_changes(r->db) == 0 && id)
        res = err_set(err, ERR_NOT_FOUND, "there is no %s of number %" PRId64, noun, id);
    else if (sqlite3_changes(r->db) == 0)
        res = err_set(err, ERR_NOT_FOUND, "there is no %s %s", noun, name);
    db_stmt_done(s);
    return res;
}

bool db_next(struct registry *r, sqlite3_stmt *s, int *res, struct err *err)
{
    if (*res >= 0) {
        int code = sqlite3_step(s);
        if (code == SQLITE_ROW)
            return true;
        *res = code == SQLITE_DONE ? 0 : db_fail(r, code, err, "read the registry");
    }
    db_stmt_done(s);
    return false;
}

int db_write_named(struct registry *r, enum registry_sql which, const char *noun, const char *name,
                   const char *text, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, which, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    if (text)
        sqlite3_bind_text(s, 2, text, -1, SQLITE_STATIC);
    return db_write_row(r, s, noun, name, 0, err);
}

/* The name stands in column `at`, the text behind it, and what is before it is the number. */
static int each(struct registry *r, enum registry_sql which, int at,
                int (*item)(void *ctx, int64_t id, const char *name, const char *text,
                            struct err *err),
                void *ctx, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, which, &s, err);
    if (res < 0)
        return res;
    while (db_next(r, s, &res, err)) {
        char name[NAME_SIZE], *text = NULL;
        res = db_text_fixed(r, s, at, name, sizeof(name), err);
        if (res == 0)
            res = db_text(s, at + 1, &text, err);
        if (res == 0)
            res = item(ctx, at ? sqlite3_column_int64(s, 0) : 0, name, text, err);
        free(text);
    }
    return res;
}

struct named {
    int (*item)(void *ctx, const char *name, const char *text, struct err *err);
    void *ctx;
};

static int without_number(void *ctx, int64_t id, const char *name, const char *text,
                          struct err *err)
{
    const struct named *n = ctx;
    return n->item(n->ctx, name, text, err);
}

int db_each_named(struct registry *r, enum registry_sql which,
                  int (*item)(void *ctx, const char *name, const char *text, struct err *err),
                  void *ctx, struct err *err)
{
    struct named n = {item, ctx};
    return each(r, which, 0, without_number, &n, err);
}

int db_each_numbered(struct registry *r, enum registry_sql which,
                     int (*item)(void *ctx, int64_t id, const char *name, const char *text,
                                 struct err *err),
                     void *ctx, struct err *err)
{
    return each(r, which, 1, item, ctx, err);
}
