/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "registry/registry.h"

#include "registry/db.h"

int registry_profile_put(struct registry *r, const char *name, const char *params, struct err *err)
{
    return db_write_named(r, SQL_PROFILE_PUT, "profile", name, params, err);
}

int registry_profile_delete(struct registry *r, const char *name, struct err *err)
{
    return db_write_named(r, SQL_PROFILE_DELETE, "profile", name, NULL, err);
}

int registry_profile_each(struct registry *r,
                          int (*item)(void *ctx, const char *name, const char *params,
                                      struct err *err),
                          void *ctx, struct err *err)
{
    return db_each_named(r, SQL_PROFILE_EACH, item, ctx, err);
}
