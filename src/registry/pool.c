/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "registry/registry.h"

#include "registry/db.h"

int registry_pool_insert(struct registry *r, const char *name, const char *spec, struct err *err)
{
    return db_write_named(r, SQL_POOL_INSERT, "pool", name, spec, err);
}

int registry_pool_update(struct registry *r, const char *name, const char *spec, struct err *err)
{
    return db_write_named(r, SQL_POOL_UPDATE, "pool", name, spec, err);
}

int registry_pool_delete(struct registry *r, const char *name, struct err *err)
{
    return db_write_named(r, SQL_POOL_DELETE, "pool", name, NULL, err);
}

int registry_pool_each(struct registry *r,
                       int (*item)(void *ctx, const char *name, const char *spec, struct err *err),
                       void *ctx, struct err *err)
{
    return db_each_named(r, SQL_POOL_EACH, item, ctx, err);
}
