/* SPDX-License-Identifier: GPL-2.0-or-later */
/* openapi — the OpenAPI 3.1 document: the table of routes and the schemas, nothing by hand. */
#include "api/request.h"

#include "api/schema.h"
#include "base/cleanup.h"

#define REF "#/components/schemas/"

static json_t *reference(const char *name)
{
    auto_free char *ref = str_format(REF "%s", name);
    return json_pack("{s:s}", "$ref", ref ? ref : "");
}

/* {"application/json": {"schema": …}}; a name with a slash is a media type of its own. */
static json_t *content(const char *name)
{
    if (strchr(name, '/'))
        return json_pack("{s:{}}", name);
    return json_pack("{s:{s:o}}", "application/json", "schema", reference(name));
}

static void add_path_parameters(json_t *list, const char *pattern)
{
    for (const char *open = pattern; (open = strchr(open, '{')); open++) {
        json_t *name = json_stringn(open + 1, strcspn(open + 1, "}"));
        const char *type = str_starts(open, "{id}") ? "integer" : "string";
        json_array_append_new(list, json_pack("{s:o,s:s,s:b,s:{s:s}}", "name", name, "in", "path",
                                              "required", 1, "schema", "type", type));
    }
}

static json_t *parameters(const struct route *route)
{
    static const char *const types[] = {[QUERY_TEXT] = "string",
                                        [QUERY_BOOL] = "boolean",
                                        [QUERY_COUNT] = "integer",
                                        [QUERY_LABEL] = "string"};
    json_t *list = json_array();
    add_path_parameters(list, route->pattern);
    for (size_t i = 0; i < QUERY_MAX && route->query[i].key; i++) {
        const struct query_row *q = &route->query[i];
        json_array_append_new(list, json_pack("{s:s,s:s,s:b,s:s,s:{s:s}}", "name", q->key, "in",
                                              "query", "required", q->required, "description",
                                              q->doc, "schema", "type", types[q->type]));
    }
    return list;
}

static void add_answer(json_t *responses, unsigned status, const char *description, json_t *body)
{
    char code[16];
    str_print(code, sizeof(code), "%u", status);
    json_object_set_new(responses, code,
                        json_pack("{s:s,s:o}", "description", description, "content", body));
}

static json_t *responses(const struct route *route)
{
    json_t *all = json_object();
    if (route->flags & ROUTE_JOB) {
        json_t *body = content("Job");
        json_object_set_new(body, "application/x-ndjson", json_object());
        add_answer(all, 200, "The job; with wait=true when it has ended, as lines at each change",
                   body);
        add_answer(all, 202, "The job that began; Location: its address", content("Job"));
    }
    if (!(route->flags & ROUTE_JOB) || route->status == 201)
        add_answer(all, route->status, "Done", content(route->answer));
    if (route->flags & ROUTE_UPGRADE)
        json_object_set_new(
            all, "101", json_pack("{s:s}", "description", "From now on frames: terem-stream/1"));
    json_object_set_new(all, "default",
                        json_pack("{s:s,s:o}", "description", "What went wrong, in one sentence",
                                  "content", content("Error")));
    return all;
}

static json_t *operation(const struct route *route)
{
    json_t *op = json_pack("{s:s,s:s,s:o}", "operationId", route->id, "summary", route->summary,
                           "responses", responses(route));
    json_t *list = parameters(route);
    if (json_array_size(list))
        json_object_set(op, "parameters", list);
    json_decref(list);
    if (route->body)
        json_object_set_new(op, "requestBody",
                            json_pack("{s:b,s:o}", "required", !!(route->flags & ROUTE_UPLOAD),
                                      "content", content(route->body)));
    return op;
}

static const char *lower_method(const char *method)
{
    static const char *const pairs[][2] = {
        {"GET", "get"}, {"PUT", "put"}, {"POST", "post"}, {"PATCH", "patch"}, {"DELETE", "delete"}};
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
        if (str_eq(pairs[i][0], method))
            return pairs[i][1];
    return "trace";
}

static json_t *paths(void)
{
    json_t *all = json_object();
    for (size_t i = 0; i < route_table_size; i++) {
        const struct route *route = &route_table[i];
        json_t *item = json_object_get(all, route->pattern);
        if (!item) {
            item = json_object();
            json_object_set_new(all, route->pattern, item);
        }
        json_object_set_new(item, lower_method(route->method), operation(route));
    }
    return all;
}

static json_t *document(struct schema *schema)
{
    json_t *components = json_pack("{s:O}", "schemas", schema_components(schema));
    return json_pack("{s:s,s:{s:s,s:s,s:s,s:{s:s,s:s}},s:[{s:s,s:s}],s:o,s:o}", "openapi", "3.1.0",
                     "info", "title", "Terem", "version", TEREM_VERSION, "description",
                     "The node's API, over its Unix socket; the words are in docs/api.md.",
                     "license", "name", "GPL-2.0-or-later", "identifier", "GPL-2.0-or-later",
                     "servers", "url", "http://terem", "description",
                     "curl --unix-socket /run/terem/teremd.sock http://terem/v1", "paths", paths(),
                     "components", components);
}

json_t *api_openapi(void)
{
    struct schema *schema = NULL;
    if (schema_open(&schema, NULL) < 0)
        return NULL;
    json_t *doc = document(schema);
    schema_free(schema);
    return doc;
}

int on_openapi(struct request *r, struct err *err)
{
    return request_json(r, MHD_HTTP_OK, document(r->api->schema), NULL, err);
}
