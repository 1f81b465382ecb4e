/* SPDX-License-Identifier: GPL-2.0-or-later */
/* routes_file — files into a VE and out of it, by way of an unnamed file in STATE/tmp. */
#include "api/request.h"

#include "base/cleanup.h"
#include "base/number.h"

#include <strings.h>

#define TAR "application/x-tar"

static bool is_tar(struct request *r)
{
    const char *type = request_header(r, MHD_HTTP_HEADER_CONTENT_TYPE);
    size_t n = type ? strcspn(type, "; \t") : 0;
    return n == strlen(TAR) && strncasecmp(type, TAR, n) == 0;
}

static void on_pushed(void *ctx, json_t *result, const struct err *failed)
{
    struct request *r = pending_take(ctx, NULL);
    struct err err = {0};
    json_decref(result);
    if (!r)
        return;
    if (failed && failed->kind)
        request_fail(r, 0, failed);
    else if (request_json(r, MHD_HTTP_OK, json_pack("{s:I}", "size", (json_int_t)r->body_len), NULL,
                          &err) < 0)
        request_fail(r, 0, &err);
}

int on_file_put(struct request *r, struct err *err)
{
    const char *path = url_query(&r->url, "path"), *mode = url_query(&r->url, "mode");
    unsigned bits = 0644;
    if (mode && number_parse_mode(mode, &bits, err) < 0)
        return err_wrap(err, "the query's \"mode\"");
    if (lseek(r->body_fd, 0, SEEK_SET) < 0)
        return err_sys(err, "cannot read the upload back");
    struct pending *p = request_pending(r, r->body_fd);
    if (!p)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int fd = steal_fd(&r->body_fd);
    char octal[8];
    str_print(octal, sizeof(octal), "%04o", bits);
    json_t *options = json_pack("{s:s,s:s,s:I,s:I,s:b}", "path", path, "mode", octal, "uid",
                                (json_int_t)request_count(r, "uid", 0), "gid",
                                (json_int_t)request_count(r, "gid", 0), "archive", is_tar(r));
    if (url_query(&r->url, "name"))
        json_object_set_new(options, "name", json_string(url_query(&r->url, "name")));
    int rc = ve_push(r->api->node, r->name, options, fd, on_pushed, p, err);
    json_decref(options);
    if (rc < 0)
        pending_take(p, NULL);
    return rc;
}

static int answer_file(struct request *r, int fd, const json_t *result, struct err *err)
{
    bool archive = json_is_true(json_object_get(result, "archive"));
    const char *mode = json_string_value(json_object_get(result, "mode"));
    struct MHD_Response *response = NULL;
    int rc = request_file(r, fd, archive ? TAR : "application/octet-stream", &response, err);
    if (rc < 0)
        return rc;
    if (mode)
        MHD_add_response_header(response, "Terem-Mode", mode);
    request_response(r, MHD_HTTP_OK, response);
    return 0;
}

static void on_pulled(void *ctx, json_t *result, const struct err *failed)
{
    int fd = -1;
    struct request *r = pending_take(ctx, &fd);
    auto_fd int file = fd;
    struct err err = {0};
    if (r && failed && failed->kind)
        request_fail(r, 0, failed);
    else if (r && answer_file(r, steal_fd(&file), result, &err) < 0)
        request_fail(r, 0, &err);
    json_decref(result);
}

int on_file_get(struct request *r, struct err *err)
{
    auto_fd int fd = -1;
    int rc = api_tmpfile(r->api, &fd, err);
    if (rc < 0)
        return rc;
    struct pending *p = request_pending(r, fd);
    if (!p)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int file = steal_fd(&fd); /* the pending closes it */
    json_t *options = json_pack("{s:s}", "path", url_query(&r->url, "path"));
    rc = ve_pull(r->api->node, r->name, options, file, on_pulled, p, err);
    json_decref(options);
    if (rc < 0)
        pending_take(p, NULL);
    return rc;
}
