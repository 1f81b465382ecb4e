/* SPDX-License-Identifier: GPL-2.0-or-later */
/* routes_ve — VEs: list, make, change, the jobs that move them. */
#include "api/request.h"

#include "base/cleanup.h"

#define LIST_MAX (256u << 20) /* some kilobytes for each VE that there can be */

/* Takes the text of a list. */
static int answer_list(struct request *r, int rc, struct str *list, struct err *err)
{
    str_add(list, "\n");
    return rc < 0 ? rc : request_text(r, list, "application/json", err);
}

int on_ves(struct request *r, struct err *err)
{
    auto_str struct str list = str_init(LIST_MAX);
    const char *label = url_query(&r->url, "label"), *fields = url_query(&r->url, "fields");
    return answer_list(r, ve_list(r->api->node, label, fields, &list, err), &list, err);
}

int on_ve_create(struct request *r, struct err *err)
{
    json_t *ve = NULL;
    auto_free char *location = NULL;
    const char *name = json_string_value(json_object_get(r->json, "name"));
    bool start = json_is_true(json_object_get(r->json, "start"));
    json_object_del(r->json, "start");
    int rc = ve_create(r->api->node, r->json, &ve, err);
    if (rc < 0)
        return rc;
    if (start) {
        json_decref(ve);
        rc = api_job_begin(r, "start", name, NULL, err);
        return rc < 0 ? err_wrap(err, "%s is made, but cannot be started", name) : 0;
    }
    location = str_format("/v1/ves/%s", name);
    return request_json(r, MHD_HTTP_CREATED, ve, location, err);
}

int on_ve(struct request *r, struct err *err)
{
    json_t *ve = NULL;
    int rc = ve_show(r->api->node, r->name, &ve, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, ve, NULL, err);
}

int on_ve_counters(struct request *r, struct err *err)
{
    json_t *list = NULL;
    int rc = ve_counters(r->api->node, r->name, &list, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, list, NULL, err);
}

int on_usage(struct request *r, struct err *err)
{
    auto_str struct str list = str_init(LIST_MAX);
    const char *label = url_query(&r->url, "label");
    return answer_list(r, ve_usage_all(r->api->node, label, &list, err), &list, err);
}

int on_ve_change(struct request *r, struct err *err)
{
    json_t *ve = NULL;
    int rc = ve_update(r->api->node, r->name, r->json, &ve, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, ve, NULL, err);
}

int on_ve_destroy(struct request *r, struct err *err)
{
    json_t *options = json_pack("{s:b}", "force", request_flag(r, "force"));
    int rc = api_job_begin(r, "destroy", r->name, options, err);
    json_decref(options);
    return rc;
}

int on_ve_action(struct request *r, struct err *err)
{
    return api_job_begin(r, r->route->arg, r->name, r->json, err);
}

int on_ve_clone(struct request *r, struct err *err)
{
    int64_t job;
    int rc = ve_clone(r->api->node, r->name, r->json, &job, err);
    return rc < 0 ? rc : api_job_answer(r, job, err);
}
