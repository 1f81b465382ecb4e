/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/request.h"

#include "api/schema.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/name.h"
#include "base/number.h"

#include <malloc.h>
#include <strings.h>
#include <sys/stat.h>

/* A refused request's body is read to its end, so that the client gets to the answer; up to: */
#define DRAIN_MAX    (8 * BODY_MAX)
#define LARGE_ANSWER (64 << 10)

/* ---- birth and end ---- */

void *request_on_uri(void *api_, const char *uri, struct MHD_Connection *conn)
{
    struct api *api = api_;
    struct request *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->api = api;
    r->conn = conn;
    r->body_fd = -1;
    r->body = str_init(BODY_MAX);
    r->target = strdup(uri);
    r->next = api->requests;
    r->at = &api->requests;
    if (r->next)
        r->next->at = &r->next;
    api->requests = r;
    return r;
}

static void on_hangup_closed(uv_handle_t *handle)
{
    struct hangup *h = handle->data;
    free(h);
}

static void hangup_stop(struct request *r)
{
    struct hangup *h = r->hangup;
    if (!h)
        return;
    r->hangup = NULL;
    h->r = NULL;
    /* Takes the descriptor out of the loop's epoll now; libmicrohttpd may close it next. */
    uv_poll_stop(&h->poll);
    uv_close((uv_handle_t *)&h->poll, on_hangup_closed);
}

/* Lets go of what would call back for this request. */
static void request_detach(struct request *r)
{
    hangup_stop(r);
    ve_unwatch(r->watch);
    r->watch = NULL;
    if (r->pending) {
        r->pending->r = NULL;
        ve_pull_cancel(r->api->node, r->pending); /* nobody is left to take what it reads */
    }
    r->pending = NULL;
}

static void request_free(struct request *r)
{
    *r->at = r->next;
    if (r->next)
        r->next->at = r->at;
    request_detach(r);
    crowd_release(r);
    api_stream_free(r->stream);
    if (r->response)
        MHD_destroy_response(r->response);
    if (r->body_fd >= 0)
        close(r->body_fd);
    str_done(&r->body);
    url_done(&r->url);
    json_decref(r->json);
    free(r->target);
    if (r->is_large)
        malloc_trim(0); /* what was read for it lies between what stays */
    free(r);
}

void request_on_end(void *api_, struct MHD_Connection *conn, void **ctx,
                    enum MHD_RequestTerminationCode why)
{
    struct api *api = api_;
    struct request *r = *ctx;
    *ctx = NULL;
    if (!r)
        return;
    bool stop = r->stops_node && r->queued && !api->closing;
    request_free(r);
    for (r = api->requests; r; r = r->next) /* others that are told the same */
        stop &= !r->stops_node || r->aborted;
    if (stop)
        uv_stop(api->loop);
}

/* ---- waiting ---- */

static void on_hangup(uv_poll_t *poll, int status, int events)
{
    struct hangup *h = poll->data;
    struct request *r = h->r;
    if (!r)
        return;
    request_detach(r);
    r->aborted = true;
    request_resume(r);
}

static int hangup_start(struct request *r)
{
    if (r->hangup)
        return 0;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct hangup *h = calloc(1, sizeof(*h));
    if (!h || !info || uv_poll_init(r->api->loop, &h->poll, info->connect_fd) < 0) {
        free(h);
        return -ERR_EXHAUSTED;
    }
    h->poll.data = h;
    h->r = r;
    r->hangup = h;
    /* Urgent data does not exist on Unix sockets: what remains is the hang-up, which epoll
     * always reports.  A client that only closed its sending side still gets its answer. */
    return uv_poll_start(&h->poll, UV_PRIORITIZED, on_hangup) < 0 ? -ERR_EXHAUSTED : 0;
}

int request_suspend(struct request *r)
{
    if (hangup_start(r) < 0)
        return -ERR_EXHAUSTED;
    MHD_suspend_connection(r->conn);
    r->suspended = true;
    return 0;
}

void request_resume(struct request *r)
{
    if (!r->suspended)
        return;
    r->suspended = false;
    MHD_resume_connection(r->conn);
    api_kick(r->api);
}

struct pending *request_pending(struct request *r, int fd)
{
    struct pending *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    *p = (struct pending){.r = r, .fd = fd, .loop = r->api->loop};
    r->pending = p;
    return p;
}

struct request *pending_take(struct pending *p, int *ret_fd)
{
    struct request *r = p->r;
    if (r)
        r->pending = NULL;
    if (ret_fd)
        *ret_fd = p->fd;
    else if (p->fd >= 0)
        close(p->fd);
    free(p);
    return r;
}

void pending_answer(void *pending, json_t *result, const struct err *failed)
{
    struct request *r = pending_take(pending, NULL);
    struct err err = {0};
    if (!r) {
        json_decref(result);
        return;
    }
    if (!result)
        request_fail(r, 0, failed);
    else if (request_json(r, MHD_HTTP_OK, result, NULL, &err) < 0)
        request_fail(r, 0, &err);
}

/* ---- answers ---- */

const char *request_header(struct request *r, const char *name)
{
    return MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, name);
}

bool request_accepts(struct request *r, const char *type)
{
    const char *accept = request_header(r, MHD_HTTP_HEADER_ACCEPT);
    return accept && strcasestr(accept, type);
}

bool request_flag(struct request *r, const char *key)
{
    return str_eq(url_query(&r->url, key), "true");
}

uint64_t request_count(struct request *r, const char *key, uint64_t otherwise)
{
    const char *text = url_query(&r->url, key);
    uint64_t n;
    return text && number_parse(text, 0, UINT32_MAX, &n, NULL) == 0 ? n : otherwise;
}

void request_response(struct request *r, unsigned status, struct MHD_Response *response)
{
    if (r->response)
        MHD_destroy_response(r->response);
    r->response = response;
    r->status = status;
    if (r->suspended) {
        hangup_stop(r);
        request_resume(r);
    }
}

int request_json(struct request *r, unsigned status, json_t *value, const char *location,
                 struct err *err)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(value);
    size_t n = text ? strlen(text) : 0;
    char *line = text ? realloc(text, n + 2) : NULL;
    if (!line) {
        free(text);
        return err_set(err, ERR_EXHAUSTED, "out of memory for the answer");
    }
    memcpy(line + n, "\n", 2);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(n + 1, line, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(line);
        return err_set(err, ERR_EXHAUSTED, "out of memory for the answer");
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    if (location)
        MHD_add_response_header(response, MHD_HTTP_HEADER_LOCATION, location);
    request_response(r, status, response);
    return 0;
}

int request_removed(struct request *r, int rc, struct err *err)
{
    return rc < 0 ? rc : request_json(r, MHD_HTTP_OK, json_pack("{s:b}", "removed", 1), NULL, err);
}

int request_text(struct request *r, struct str *text, const char *type, struct err *err)
{
    size_t len = text->len;
    char *bytes = str_steal(text);
    struct MHD_Response *response =
        bytes ? MHD_create_response_from_buffer(len, bytes, MHD_RESPMEM_MUST_FREE) : NULL;
    if (!response) {
        free(bytes);
        return err_set(err, ERR_EXHAUSTED, "out of memory for the answer");
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    r->is_large = len > LARGE_ANSWER;
    request_response(r, MHD_HTTP_OK, response);
    return 0;
}

void request_fail(struct request *r, unsigned status, const struct err *why)
{
    const struct err_row *row = err_row(why->kind);
    json_t *message = json_string(why->text);
    if (!message) {
        /* The sentence shows bytes that are not UTF-8. */
        auto_str struct str safe = str_init(4096);
        str_escape(&safe, why->text, strlen(why->text));
        message = json_string(str_c(&safe));
    }
    struct err err = {0};
    if (request_json(r, status ? status : (unsigned)row->http_status,
                     json_pack("{s:{s:s,s:o}}", "error", "kind", row->name, "message", message),
                     NULL, &err) == 0)
        return;
    /* No memory: drop the connection. */
    r->aborted = true;
    request_resume(r);
}

int request_file(struct request *r, int fd, const char *type, struct MHD_Response **ret,
                 struct err *err)
{
    auto_fd int file = fd;
    struct stat st;
    if (fstat(file, &st) < 0)
        return err_sys(err, "cannot read the answer back");
    struct MHD_Response *response =
        st.st_size ? MHD_create_response_from_fd64((uint64_t)st.st_size, file)
                   : MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT);
    if (!response)
        return err_set(err, ERR_EXHAUSTED, "out of memory for the answer");
    if (st.st_size)
        steal_fd(&file); /* the response closes it */
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    *ret = response;
    return 0;
}

static enum MHD_Result queue(struct request *r)
{
    enum MHD_Result rc = MHD_queue_response(r->conn, r->status, r->response);
    MHD_destroy_response(r->response);
    r->response = NULL;
    r->queued = true;
    return rc;
}

/* ---- what is checked before the body comes ---- */

static const char *next_query_key(void *ctx, size_t i)
{
    const struct route *route = ctx;
    return i < QUERY_MAX ? route->query[i].key : NULL;
}

int request_check_label(const char *text, struct err *err)
{
    if (*text == '=' || !strchr(text, '='))
        return err_set(err, ERR_USAGE, "label must be a key and a value, such as tier=web");
    return 0;
}

static int check_query_value(const struct query_row *row, const char *value, struct err *err)
{
    uint64_t n;
    if (row->type == QUERY_BOOL && !str_eq(value, "true") && !str_eq(value, "false"))
        return err_set(err, ERR_USAGE, "the query's \"%s\" must be true or false", row->key);
    if (row->type == QUERY_COUNT && number_parse(value, 0, UINT32_MAX, &n, err) < 0)
        return err_wrap(err, "the query's \"%s\"", row->key);
    return row->type == QUERY_LABEL ? request_check_label(value, err) : 0;
}

static int check_query(const struct request *r, struct err *err)
{
    const struct route *route = r->route;
    for (size_t i = 0; i < r->url.n_query; i++) {
        const char *key = r->url.query[i].key;
        const struct query_row *row = route->query, *end = row + QUERY_MAX;
        while (row < end && row->key && strcmp(row->key, key) != 0)
            row++;
        if (row == end || !row->key) {
            const char *near = name_suggest(key, next_query_key, (void *)route);
            return err_set(err, ERR_USAGE, "the query has an unknown key \"%.64s\"%s%s%s", key,
                           near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
        }
        int rc = check_query_value(row, r->url.query[i].value, err);
        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < QUERY_MAX && route->query[i].key; i++)
        if (route->query[i].required && !url_query(&r->url, route->query[i].key))
            return err_set(err, ERR_USAGE, "the query needs \"%s\"", route->query[i].key);
    return 0;
}

static bool is_json_type(const char *type)
{
    size_t n = strcspn(type, "; \t");
    return n == strlen("application/json") && strncasecmp(type, "application/json", n) == 0;
}

static int check_body_headers(struct request *r, bool has_body, uint64_t len, struct err *err)
{
    const char *type = request_header(r, MHD_HTTP_HEADER_CONTENT_TYPE);
    if (!has_body || r->route->flags & ROUTE_UPLOAD)
        return 0;
    if (!r->route->body)
        return err_set(err, ERR_USAGE, "this request takes no body");
    if (type && !is_json_type(type)) {
        r->early_status = MHD_HTTP_UNSUPPORTED_MEDIA_TYPE;
        return err_set(err, ERR_USAGE,
                       "the body must be JSON: send the header "
                       "\"Content-Type: application/json\"");
    }
    if (len > BODY_MAX) {
        r->early_status = MHD_HTTP_CONTENT_TOO_LARGE;
        return err_set(err, ERR_USAGE, "the body is larger than 1 MiB");
    }
    return 0;
}

static int check_head(struct request *r, bool has_body, uint64_t len, struct err *err)
{
    auto_str struct str allow = str_init(256);
    struct route_names names = {0};
    if (!r->target)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int rc = url_parse(r->target, &r->url, err);
    if (rc < 0)
        return rc;
    r->route = route_find(r->method, &r->url, &names, &r->early_status, &allow);
    r->name = names.name;
    r->item = names.item;
    if (!r->route && r->early_status == MHD_HTTP_METHOD_NOT_ALLOWED)
        return err_set(err, ERR_USAGE, "here only %s can be done, not %s", str_c(&allow),
                       r->method);
    if (!r->route)
        return err_set(err, ERR_NOT_FOUND,
                       "there is nothing at this address; GET "
                       "/v1/openapi.json tells what there is");
    rc = check_query(r, err);
    if (rc == 0)
        rc = check_body_headers(r, has_body, len, err);
    if (rc == 0 && r->route->flags & ROUTE_UPLOAD) {
        /* Before gigabytes come for a VE that is not there. */
        json_t *ve = NULL;
        rc = ve_show(r->api->node, r->name, &ve, err);
        json_decref(ve);
        if (rc == 0)
            rc = api_tmpfile(r->api, &r->body_fd, err);
    }
    return rc;
}

/* 405 must say what is allowed (RFC 9110, 15.5.6). */
static void add_allow(struct request *r)
{
    auto_str struct str allow = str_init(256);
    unsigned status;
    struct route_names names;
    if (r->status == MHD_HTTP_METHOD_NOT_ALLOWED && r->response &&
        !route_find(r->method, &r->url, &names, &status, &allow))
        MHD_add_response_header(r->response, MHD_HTTP_HEADER_ALLOW, str_c(&allow));
}

/* Whatever comes next on this connection is not listened to. */
static enum MHD_Result refuse(struct request *r, const struct err *why)
{
    request_fail(r, 0, why);
    if (!r->response)
        return MHD_NO;
    MHD_add_response_header(r->response, MHD_HTTP_HEADER_CONNECTION, "close");
    return queue(r);
}

static enum MHD_Result begin(struct request *r, const char *method)
{
    r->begun = true;
    struct err why = {0};
    if (!crowd_enter(r->api, r->conn)) {
        err_set(&why, ERR_UNAVAILABLE, "%u clients are connected already; try again",
                r->api->limit);
        return refuse(r, &why);
    }
    /* A cut method is none that we know. */
    str_print(r->method, sizeof(r->method), "%s", method);
    const char *length = request_header(r, MHD_HTTP_HEADER_CONTENT_LENGTH);
    bool chunked = request_header(r, MHD_HTTP_HEADER_TRANSFER_ENCODING);
    uint64_t len = 0;
    /* Two answers to where the body ends: one of them smuggles a request (RFC 9112, 6.1). */
    if (length && chunked) {
        err_set(&why, ERR_USAGE, "Content-Length and Transfer-Encoding exclude each other");
        return refuse(r, &why);
    }
    /* What is no number has been refused by libmicrohttpd. */
    if (length && number_parse(length, 0, UINT64_MAX, &len, NULL) < 0)
        len = UINT64_MAX;
    if (check_head(r, chunked || len, len, &r->early) == 0)
        return MHD_YES;
    bool waits = request_header(r, MHD_HTTP_HEADER_EXPECT);
    if ((chunked || len) && len <= DRAIN_MAX && !waits)
        return MHD_YES; /* the answer follows the body */
    request_fail(r, r->early_status, &r->early);
    add_allow(r);
    return r->response ? queue(r) : MHD_NO;
}

/* ---- body and handler ---- */

static enum MHD_Result take_body(struct request *r, const char *data, size_t size)
{
    r->body_len += size;
    if (r->early.kind)
        return r->body_len <= DRAIN_MAX ? MHD_YES : MHD_NO;
    if (r->body_fd >= 0) {
        if (fd_write_all(r->body_fd, data, size, &r->early) < 0)
            err_wrap(&r->early, "cannot keep the upload");
        return MHD_YES;
    }
    if (r->body_len > BODY_MAX) {
        r->early_status = MHD_HTTP_CONTENT_TOO_LARGE;
        err_set(&r->early, ERR_USAGE, "the body is larger than 1 MiB");
        return MHD_YES;
    }
    str_add_bytes(&r->body, data, size);
    if (r->body.failed)
        err_set(&r->early, ERR_EXHAUSTED, "out of memory for the body");
    return MHD_YES;
}

/* No body, and null as clients write it that always send one, mean no field. */
static bool is_nothing(const struct str *body)
{
    static const char space[] = " \t\r\n";
    const char *p = str_c(body) + strspn(str_c(body), space);
    if (str_starts(p, "null"))
        p += 4;
    return !p[strspn(p, space)] && !memchr(str_c(body), 0, body->len);
}

static bool is_long(struct request *r)
{
    return r->route->flags & ROUTE_WAIT || (r->route->flags & ROUTE_JOB && api_job_is_awaited(r));
}

static int handle(struct request *r, struct err *err)
{
    bool has_schema = r->route->body && !(r->route->flags & ROUTE_UPLOAD);
    if (has_schema) {
        bool nothing = is_nothing(&r->body);
        int rc = schema_parse(r->api->schema, r->route->body, nothing ? "{}" : str_c(&r->body),
                              nothing ? 2 : r->body.len, &r->json, err);
        if (rc < 0)
            return rc;
        str_done(&r->body);
    }
    int rc = is_long(r) ? crowd_claim(r, err) : 0;
    return rc < 0 ? rc : r->route->handler(r, err);
}

enum MHD_Result request_on_data(void *api, struct MHD_Connection *conn, const char *url,
                                const char *method, const char *version, const char *data,
                                size_t *size, void **ctx)
{
    struct request *r = *ctx;
    if (!r || r->aborted)
        return MHD_NO;
    if (!r->begun)
        return begin(r, method);
    if (*size) {
        enum MHD_Result rc = take_body(r, data, *size);
        *size = 0;
        return rc;
    }
    if (!r->response) {
        struct err err = {0};
        if (r->early.kind)
            request_fail(r, r->early_status, &r->early);
        else if (handle(r, &err) < 0)
            request_fail(r, 0, &err);
        add_allow(r);
    }
    if (r->aborted)
        return MHD_NO;
    if (r->response)
        return queue(r);
    return request_suspend(r) < 0 ? MHD_NO : MHD_YES;
}
