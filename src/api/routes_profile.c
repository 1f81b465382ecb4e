/* SPDX-License-Identifier: GPL-2.0-or-later */
/* routes_profile — profiles: named sets of parameters. */
#include "api/request.h"

#include "base/cleanup.h"

int on_profiles(struct request *r, struct err *err)
{
    json_t *list = NULL;
    int rc = ve_profile_list(r->api->node, &list, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, list, NULL, err);
}

int on_profile(struct request *r, struct err *err)
{
    json_t *profile = NULL;
    int rc = ve_profile_show(r->api->node, r->name, &profile, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, profile, NULL, err);
}

int on_profile_create(struct request *r, struct err *err)
{
    json_t *profile = NULL;
    int rc = ve_profile_create(r->api->node, r->json, &profile, err);
    if (rc < 0)
        return rc;
    auto_free char *location =
        str_format("/v1/profiles/%s", json_string_value(json_object_get(r->json, "name")));
    return request_json(r, MHD_HTTP_CREATED, profile, location, err);
}

int on_profile_change(struct request *r, struct err *err)
{
    json_t *profile = NULL;
    int rc = ve_profile_update(r->api->node, r->name, r->json, &profile, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, profile, NULL, err);
}

int on_profile_remove(struct request *r, struct err *err)
{
    return request_removed(r, ve_profile_remove(r->api->node, r->name, err), err);
}
