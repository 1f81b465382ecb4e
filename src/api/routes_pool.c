/* SPDX-License-Identifier: GPL-2.0-or-later */
/* routes_pool — pools, and moving VEs between them. */
#include "api/request.h"

int on_pools(struct request *r, struct err *err)
{
    json_t *list = NULL;
    int rc = ve_pool_list(r->api->node, &list, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, list, NULL, err);
}

int on_pool(struct request *r, struct err *err)
{
    json_t *pool = NULL;
    int rc = ve_pool_show(r->api->node, r->name, &pool, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, pool, NULL, err);
}

int on_pool_create(struct request *r, struct err *err)
{
    const char *name = json_string_value(json_object_get(r->json, "name"));
    return api_job_begin(r, "pool-create", name, r->json, err);
}

int on_pool_grow(struct request *r, struct err *err)
{
    return api_job_begin(r, "pool-grow", r->name, r->json, err);
}

int on_pool_remove(struct request *r, struct err *err)
{
    return api_job_begin(r, "pool-remove", r->name, NULL, err);
}

int on_ve_move(struct request *r, struct err *err)
{
    bool restart = json_is_true(json_object_get(r->json, "restart"));
    return api_job_begin(r, restart ? "move-restart" : "move", r->name, r->json, err);
}
