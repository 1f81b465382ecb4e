/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "registry/registry.h"

#include "registry/db.h"

#include <inttypes.h>
#include <stdlib.h>

void registry_ve_done(struct registry_ve *v)
{
    free(v->spec);
    free(v->run);
    v->spec = v->run = NULL;
}

int registry_ve_insert(struct registry *r, struct registry_ve *v, uint32_t slot_max,
                       struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_VE_INSERT, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_text(s, 1, v->name, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 2, v->state);
    sqlite3_bind_int(s, 3, v->want);
    sqlite3_bind_text(s, 4, v->spec, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 5, v->run, -1, SQLITE_STATIC); /* NULL binds NULL */
    sqlite3_bind_int64(s, 6, v->created);
    sqlite3_bind_int64(s, 7, slot_max);
    int code = sqlite3_step(s);
    int64_t id = 0, slot = 0;
    if (code == SQLITE_ROW) {
        id = sqlite3_column_int64(s, 0);
        slot = sqlite3_column_int64(s, 1);
        code = sqlite3_step(s);
    }
    if (code == SQLITE_CONSTRAINT_UNIQUE)
        res = err_set(err, ERR_EXISTS, "a VE named %s exists already", v->name);
    else if (code != SQLITE_DONE)
        res = db_fail(r, code, err, "write the registry");
    else if (!id)
        res = err_set(err, ERR_EXHAUSTED,
                      "all %" PRIu32 " places for VEs on this node are taken; destroy one first",
                      slot_max);
    db_stmt_done(s);
    if (res == 0) {
        v->id = id;
        v->slot = (uint32_t)slot;
    }
    return res;
}

int registry_ve_update(struct registry *r, const struct registry_ve *v, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_VE_UPDATE, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, v->id);
    sqlite3_bind_text(s, 2, v->name, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 3, v->state);
    sqlite3_bind_int(s, 4, v->want);
    sqlite3_bind_text(s, 5, v->spec, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 6, v->run, -1, SQLITE_STATIC);
    return db_write_row(r, s, "VE", v->name, v->id, err);
}

int registry_ve_delete(struct registry *r, int64_t id, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_VE_DELETE, &s, err);
    if (res < 0)
        return res;
    sqlite3_bind_int64(s, 1, id);
    return db_write_row(r, s, "VE", "", id, err);
}

static int read_row(struct registry *r, sqlite3_stmt *s, struct registry_ve *v, struct err *err)
{
    v->id = sqlite3_column_int64(s, 0);
    v->state = sqlite3_column_int(s, 2);
    v->want = sqlite3_column_int(s, 3);
    v->slot = (uint32_t)sqlite3_column_int64(s, 4);
    v->created = sqlite3_column_int64(s, 7);
    int res = db_text_fixed(r, s, 1, v->name, sizeof(v->name), err);
    if (res == 0)
        res = db_text(s, 5, &v->spec, err);
    if (res == 0)
        res = db_text(s, 6, &v->run, err);
    return res;
}

int registry_ve_each(struct registry *r,
                     int (*item)(void *ctx, const struct registry_ve *v, struct err *err),
                     void *ctx, struct err *err)
{
    sqlite3_stmt *s;
    int res = db_stmt(r, SQL_VE_EACH, &s, err);
    if (res < 0)
        return res;
    while (db_next(r, s, &res, err)) {
        struct registry_ve v = {0};
        res = read_row(r, s, &v, err);
        if (res == 0)
            res = item(ctx, &v, err);
        registry_ve_done(&v);
    }
    return res;
}
