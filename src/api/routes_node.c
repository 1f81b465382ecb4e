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
        "{s:s,s:s,s:s,s:s,s:s,s:s,s:b,s:b,s:b,s:o,s:o,s:s,s:s,s:o,s:o}", "key", row->key, "type",
        param_type_name(row->type), "kind", param_kind_name(row->kind), "default",
        param_format(row, row->def, def), "minimum", param_format(row, min, low), "maximum",
        param_format(row, max, high), "unlimited", !!(row->flags & PARAM_UNLIMITED), "restart",
        !!(row->flags & PARAM_RESTART), "planned", !!(row->flags & PARAM_PLANNED), "controller",
        text_or_null(row->controller), "ancestor", text_or_null(row->ancestor), "summary",
        row->summary, "detail", row->detail ? row->detail : "", "here",
        counted ? json_null() : json_boolean(here), "why_not", text_or_null(*why ? why : NULL));
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

static void on_stopped(void *ctx)
{
    struct pending *p = ctx;
    uv_loop_t *loop = p->loop;
    struct request *r = pending_take(p, NULL);
    struct err err = {0};
    if (!r) {
        uv_stop(loop); /* nobody waits for the answer */
        return;
    }
    /* request_on_end() stops the loop when the answer has gone out. */
    r->stops_node = true;
    if (request_json(r, MHD_HTTP_OK, json_pack("{s:b}", "stopped", 1), NULL, &err) < 0)
        request_fail(r, 0, &err);
}

int on_node_stop(struct request *r, struct err *err)
{
    struct pending *p = request_pending(r, -1);
    if (!p)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    bool force = json_is_true(json_object_get(r->json, "force"));
    int rc = ve_node_stop(r->api->node, force, on_stopped, p, err);
    if (rc < 0)
        pending_take(p, NULL);
    return rc;
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

int on_template_make(struct request *r, struct err *err)
{
    const char *name = json_string_value(json_object_get(r->json, "name"));
    const char *build = json_string_value(json_object_get(r->json, "build"));
    const char *import = json_string_value(json_object_get(r->json, "import"));
    if (!build == !import)
        return err_set(err, ERR_USAGE, "the body needs either \"build\" or \"import\"");
    if (import && !name)
        return err_set(err, ERR_USAGE, "the body needs the field \"name\"");
    if (import && json_object_get(r->json, "include"))
        return err_set(err, ERR_USAGE, "\"include\" goes with \"build\", not with \"import\"");
    if (!name)
        name = build;
    return api_job_begin(r, build ? "template-build" : "template-import", name, r->json, err);
}

int on_template_remove(struct request *r, struct err *err)
{
    return api_job_begin(r, "template-remove", r->name, NULL, err);
}
