/* SPDX-License-Identifier: GPL-2.0-or-later */
/* routes_node — the node, its parameters' table, its templates. */
#include "api/request.h"

#include "base/cleanup.h"
#include "param/param.h"

int on_node(struct request *r, struct err *err)
{
    return request_json(r, MHD_HTTP_OK, ve_node_info(r->api->node), NULL, err);
}

int on_doctor(struct request *r, struct err *err)
{
    return request_json(r, MHD_HTTP_OK, ve_doctor(r->api->node), NULL, err);
}

int on_density(struct request *r, struct err *err)
{
    struct pending *p = request_pending(r, -1);
    if (!p)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int rc = ve_density(r->api->node, url_query(&r->url, "ve"), url_query(&r->url, "label"),
                        pending_answer, p, err);
    if (rc < 0)
        pending_take(p, NULL);
    return rc;
}

static json_t *text_or_null(const char *text)
{
    return text ? json_string(text) : json_null();
}

static json_t *param_json(struct ve_node *node, const struct param_row *row)
{
    char why[sizeof(((struct err *)0)->text)] = "";
    bool counted = row->kind == PARAM_COUNTER;
    bool here = !counted && ve_param_here(node, row, why, sizeof(why));
    char low[PARAM_TEXT], high[PARAM_TEXT], def[PARAM_TEXT];
    struct param_value min = {.n = row->min}, max = {.n = row->max};
    return json_pack(
        "{s:s,s:s,s:s,s:s,s:s,s:s,s:b,s:b,s:o,s:o,s:s,s:s,s:o,s:o,s:o}", "key", row->key, "type",
        param_type_name(row->type), "kind", param_kind_name(row->kind), "default",
        param_format(row, row->def, def), "minimum", param_format(row, min, low), "maximum",
        param_format(row, max, high), "unlimited", !!(row->flags & PARAM_UNLIMITED), "restart",
        !!(row->flags & PARAM_RESTART), "controller", text_or_null(row->controller), "ancestor",
        text_or_null(row->ancestor), "summary", row->summary, "detail",
        row->detail ? row->detail : "", "here", counted ? json_null() : json_boolean(here),
        "partly", text_or_null(here && *why ? why : NULL), "why_not",
        text_or_null(!here && *why ? why : NULL));
}

int on_params(struct request *r, struct err *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < param_table_size; i++)
        json_array_append_new(list, param_json(r->api->node, &param_table[i]));
    return request_json(r, MHD_HTTP_OK, list, NULL, err);
}

int on_param(struct request *r, struct err *err)
{
    const struct param_row *row = param_find_err(r->name, err);
    if (!row)
        err->kind = ERR_NOT_FOUND; /* in a body it would be ERR_USAGE */
    return row ? request_json(r, MHD_HTTP_OK, param_json(r->api->node, row), NULL, err)
               : -ERR_NOT_FOUND;
}

/* ---- the end ---- */

/* request_on_end() stops the loop when the last of these answers has gone out. */
static void answer_stopped(struct request *r)
{
    struct err err = {0};
    json_t *answer = json_pack("{s:b, s:o}", "stopped", 1, "left", ve_node_left(r->api->node));
    if (request_json(r, MHD_HTTP_OK, answer, NULL, &err) < 0)
        request_fail(r, 0, &err);
}

static void on_stopped(void *ctx)
{
    struct api *api = ctx;
    bool told = false;
    api->stopped = true;
    for (struct request *r = api->requests; r; r = r->next) {
        if (!r->stops_node || r->aborted)
            continue;
        answer_stopped(r);
        told = true;
    }
    if (told)
        return;
    api->leaving = 1; /* nobody waits for this; others may for the end of the last job */
    api_kick(api);
}

int on_node_setup(struct request *r, struct err *err)
{
    return api_job_begin(r, "node-setup", "node", r->json, err);
}

int on_node_stop(struct request *r, struct err *err)
{
    struct api *api = r->api;
    bool force = json_is_true(json_object_get(r->json, "force"));
    json_int_t within = json_integer_value(json_object_get(r->json, "within"));
    bool over = api->stopped;
    r->stops_node = true; /* it may be over when this returns */
    ve_node_stop(api->node, force, within, on_stopped, api);
    if (over)
        answer_stopped(r);
    if (api->stopped || !json_is_false(json_object_get(r->json, "wait")))
        return 0;
    r->stops_node = false;
    return request_json(r, MHD_HTTP_OK, json_pack("{s:b, s:[]}", "stopped", 0, "left"), NULL, err);
}

/* ---- templates ---- */

int on_templates(struct request *r, struct err *err)
{
    json_t *list = NULL;
    int rc = ve_template_list(r->api->node, &list, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, list, NULL, err);
}

int on_template(struct request *r, struct err *err)
{
    json_t *value = NULL;
    int rc = ve_template_show(r->api->node, r->name, &value, err);
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, value, NULL, err);
}

int on_layer(struct request *r, struct err *err)
{
    return request_json(
        r, MHD_HTTP_OK,
        json_pack("{s:s, s:b}", "digest", r->name, "here", ve_layer_is_here(r->api->node, r->name)),
        NULL, err);
}

int on_template_make(struct request *r, struct err *err)
{
    static const char *const ways[] = {"build", "import", "from"};
    static const char *const of_from[] = {"run", "env", "command", "params", "timeout"};
    const char *name = json_string_value(json_object_get(r->json, "name")), *way = NULL;
    int n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
        if (json_object_get(r->json, ways[i])) {
            way = ways[i];
            n++;
        }
    if (n != 1)
        return err_set(err, ERR_USAGE, "the body needs one of \"build\", \"import\" and \"from\"");
    for (size_t i = 0; i < ARRAY_SIZE(of_from) && !str_eq(way, "from"); i++)
        if (json_object_get(r->json, of_from[i]))
            return err_set(err, ERR_USAGE, "\"%s\" goes with \"from\"", of_from[i]);
    if (!name && !str_eq(way, "build"))
        return err_set(err, ERR_USAGE, "the body needs the field \"name\"");
    if (str_eq(way, "import") && json_object_get(r->json, "include"))
        return err_set(err, ERR_USAGE, "\"include\" goes with \"build\", not with \"import\"");
    if (!name)
        name = json_string_value(json_object_get(r->json, "build"));
    return api_job_begin(r, str_eq(way, "import") ? "template-import" : "template-build", name,
                         r->json, err);
}

int on_template_update(struct request *r, struct err *err)
{
    return api_job_begin(r, "template-update", r->name, r->json, err);
}

int on_prune(struct request *r, struct err *err)
{
    return api_job_begin(r, "template-prune", "templates", NULL, err);
}

int on_template_log(struct request *r, struct err *err)
{
    auto_fd int fd = -1;
    struct MHD_Response *response = NULL;
    int rc = ve_template_log_open(r->api->node, r->name, &fd, err);
    if (rc == 0)
        rc = request_file(r, steal_fd(&fd), "text/plain; charset=utf-8", &response, err);
    if (rc < 0)
        return rc;
    request_response(r, MHD_HTTP_OK, response);
    return 0;
}

int on_template_remove(struct request *r, struct err *err)
{
    json_t *options = json_pack("{s:b}", "force", request_flag(r, "force"));
    int rc = api_job_begin(r, "template-remove", r->name, options, err);
    json_decref(options);
    return rc;
}
