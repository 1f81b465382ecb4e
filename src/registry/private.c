/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Private networks. */
#include "registry/registry.h"

#include "registry/db.h"

int registry_private_insert(struct registry *r, const char *name, const char *spec, int64_t *ret_id,
                            struct err *err)
{
    int res = db_write_named(r, SQL_PRIVATE_INSERT, "private network", name, spec, err);
    if (res == 0)
        *ret_id = sqlite3_last_insert_rowid(r->db);
    return res;
}

int registry_private_delete(struct registry *r, const char *name, struct err *err)
{
    return db_write_named(r, SQL_PRIVATE_DELETE, "private network", name, NULL, err);
}

int registry_private_each(struct registry *r,
                          int (*item)(void *ctx, int64_t id, const char *name, const char *spec,
                                      struct err *err),
                          void *ctx, struct err *err)
{
    return db_each_numbered(r, SQL_PRIVATE_EACH, item, ctx, err);
}
