/* SPDX-License-Identifier: GPL-2.0-or-later */
/* routes_snapshot — snapshots of VEs. */
#include "api/request.h"

#include "base/cleanup.h"

int on_snapshots(struct request *r, struct err *err)
{
    json_t *list = NULL;
    int rc = ve_snapshot_list(r->api->node, r->name, &list, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, list, NULL, err);
}

int on_snapshot(struct request *r, struct err *err)
{
    json_t *snapshot = NULL;
    int rc = ve_snapshot_show(r->api->node, r->name, r->item, &snapshot, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, snapshot, NULL, err);
}

int on_snapshot_change(struct request *r, struct err *err)
{
    json_t *snapshot = NULL;
    int rc = ve_snapshot_change(r->api->node, r->name, r->item, r->json, &snapshot, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, snapshot, NULL, err);
}

int on_snapshot_delete(struct request *r, struct err *err)
{
    return request_removed(r, ve_snapshot_delete(r->api->node, r->name, r->item, err), err);
}
