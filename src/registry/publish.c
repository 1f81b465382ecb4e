/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "registry/registry.h"

#include "registry/db.h"

int registry_publish_insert(struct registry *r, const char *port, const char *spec, struct err *err)
{
    return db_write_named(r, SQL_PUBLISH_INSERT, "published port", port, spec, err);
}

int registry_publish_delete(struct registry *r, const char *port, struct err *err)
{
    return db_write_named(r, SQL_PUBLISH_DELETE, "published port", port, NULL, err);
}

int registry_publish_each(struct registry *r,
                          int (*item)(void *ctx, const char *port, const char *spec,
                                      struct err *err),
                          void *ctx, struct err *err)
{
    return db_each_named(r, SQL_PUBLISH_EACH, item, ctx, err);
}
