/* SPDX-License-Identifier: GPL-2.0-or-later */
/* routes_network — who is where, addresses, and destination classes. */
#include "api/request.h"

int on_network(struct request *r, struct err *err)
{
    json_t *doc = NULL;
    int rc = ve_network_show(r->api->node, &doc, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, doc, NULL, err);
}

int on_classes(struct request *r, struct err *err)
{
    json_t *list = NULL;
    int rc = ve_class_list(r->api->node, &list, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, list, NULL, err);
}

int on_class(struct request *r, struct err *err)
{
    json_t *class = NULL;
    int rc = ve_class_show(r->api->node, r->name, &class, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, class, NULL, err);
}

int on_class_change(struct request *r, struct err *err)
{
    json_t *class = NULL;
    int rc = ve_class_change(r->api->node, r->name, r->json, &class, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, class, NULL, err);
}

int on_class_remove(struct request *r, struct err *err)
{
    return request_removed(r, ve_class_remove(r->api->node, r->name, err), err);
}

int on_privates(struct request *r, struct err *err)
{
    json_t *list = NULL;
    int rc = ve_private_list(r->api->node, &list, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, list, NULL, err);
}

int on_private(struct request *r, struct err *err)
{
    json_t *network = NULL;
    int rc = ve_private_show(r->api->node, r->name, &network, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, network, NULL, err);
}

int on_private_create(struct request *r, struct err *err)
{
    json_t *network = NULL;
    int rc = ve_private_create(r->api->node, r->json, &network, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_CREATED, network, NULL, err);
}

int on_private_remove(struct request *r, struct err *err)
{
    return request_removed(r, ve_private_remove(r->api->node, r->name, err), err);
}

int on_private_join(struct request *r, struct err *err)
{
    json_t *member = NULL;
    int rc = ve_private_join(r->api->node, r->name, r->json, &member, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_CREATED, member, NULL, err);
}

int on_private_leave(struct request *r, struct err *err)
{
    return request_removed(r, ve_private_leave(r->api->node, r->name, r->item, err), err);
}

int on_published(struct request *r, struct err *err)
{
    json_t *list = NULL;
    int rc = ve_publish_list(r->api->node, url_query(&r->url, "ve"), &list, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, list, NULL, err);
}

int on_publish(struct request *r, struct err *err)
{
    json_t *port = NULL;
    int rc = ve_publish_add(r->api->node, r->json, &port, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_CREATED, port, NULL, err);
}

int on_unpublish(struct request *r, struct err *err)
{
    return request_removed(r, ve_publish_remove(r->api->node, r->name, err), err);
}

int on_address_pools(struct request *r, struct err *err)
{
    json_t *list = NULL;
    int rc = ve_address_pool_list(r->api->node, &list, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, list, NULL, err);
}

int on_address_pool(struct request *r, struct err *err)
{
    json_t *pool = NULL;
    int rc = ve_address_pool_show(r->api->node, r->name, &pool, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, pool, NULL, err);
}

int on_address_pool_create(struct request *r, struct err *err)
{
    json_t *pool = NULL;
    int rc = ve_address_pool_create(r->api->node, r->json, &pool, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_CREATED, pool, NULL, err);
}

int on_address_pool_remove(struct request *r, struct err *err)
{
    return request_removed(r, ve_address_pool_remove(r->api->node, r->name, err), err);
}

int on_addresses(struct request *r, struct err *err)
{
    json_t *list = NULL;
    int rc = ve_address_list(r->api->node, url_query(&r->url, "ve"), url_query(&r->url, "pool"),
                             &list, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, list, NULL, err);
}

int on_address(struct request *r, struct err *err)
{
    json_t *address = NULL;
    int rc = ve_address_show(r->api->node, r->name, &address, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, address, NULL, err);
}

int on_address_add(struct request *r, struct err *err)
{
    json_t *address = NULL;
    int rc = ve_address_add(r->api->node, r->json, &address, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_CREATED, address, NULL, err);
}

int on_address_change(struct request *r, struct err *err)
{
    json_t *address = NULL;
    int rc = ve_address_change(r->api->node, r->name, r->json, &address, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, address, NULL, err);
}
