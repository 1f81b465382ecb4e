/* SPDX-License-Identifier: GPL-2.0-or-later */
/* routes_job — jobs and events. */
#include "api/request.h"

#include "base/cleanup.h"
#include "base/number.h"

#define NDJSON "application/x-ndjson"

static const char *location_of(int64_t job, char buf[48])
{
    str_print(buf, 48, "/v1/jobs/%lld", (long long)job);
    return buf;
}

/* A job has ended for a client that waited: its object, or its error. */
static void answer_end(struct request *r, const json_t *job)
{
    const json_t *error = json_object_get(job, "error");
    const char *state = json_string_value(json_object_get(job, "state"));
    struct err err = {0};
    if (!r->job_is_subject && !str_eq(state, "done")) {
        const char *text = json_string_value(json_object_get(error, "message"));
        int kind = json_is_object(error)
                       ? err_kind_from_name(json_string_value(json_object_get(error, "kind")))
                       : ERR_CANCELLED;
        err_set(&err, (enum err_kind)kind, "%s", text ? text : "the job was cancelled");
        request_fail(r, 0, &err);
        return;
    }
    char location[48];
    if (request_json(r, MHD_HTTP_OK, json_incref((json_t *)job), location_of(r->job, location),
                     &err) < 0)
        request_fail(r, 0, &err);
}

static void on_change(void *ctx, const json_t *job, bool ended)
{
    struct request *r = ctx;
    if (ended) {
        r->watch = NULL; /* is gone after this call */
        r->watch_ended = true;
    }
    if (r->stream) {
        api_stream_put(r->stream, job);
        if (ended)
            api_stream_end(r->stream);
    } else if (ended) {
        answer_end(r, job);
    }
}

bool api_job_is_awaited(struct request *r)
{
    return request_accepts(r, NDJSON) || request_flag(r, "wait");
}

int api_job_answer(struct request *r, int64_t job, struct err *err)
{
    bool lines = request_accepts(r, NDJSON);
    r->job = job;
    if (!lines && !request_flag(r, "wait")) {
        json_t *value = NULL;
        char location[48];
        int rc = ve_job_show(r->api->node, job, &value, err);
        return rc < 0 ? rc
                      : request_json(r, r->job_is_subject ? MHD_HTTP_OK : MHD_HTTP_ACCEPTED, value,
                                     location_of(job, location), err);
    }
    int rc = 0;
    json_t *now = NULL;
    if (lines) {
        rc = ve_job_show(r->api->node, job, &now, err);
        if (rc == 0)
            rc = api_stream_open(r, false, err);
        /* The first line is the job as it is; one that has ended is told by the watch. */
        if (rc == 0 && json_is_null(json_object_get(now, "ended")))
            api_stream_put(r->stream, now);
        json_decref(now);
    }
    struct ve_watch *watch = NULL;
    if (rc == 0)
        rc = ve_job_watch(r->api->node, job, on_change, r, &watch, err);
    if (rc == 0 && !r->watch_ended)
        r->watch = watch;
    return rc;
}

int api_job_begin(struct request *r, const char *kind, const char *subject, const json_t *options,
                  struct err *err)
{
    int64_t job;
    int rc = ve_job_begin(r->api->node, kind, subject, options, &job, err);
    return rc < 0 ? rc : api_job_answer(r, job, err);
}

static int job_id(const struct request *r, int64_t *ret, struct err *err)
{
    uint64_t id;
    int rc = number_parse(r->name, 1, INT64_MAX, &id, err);
    if (rc < 0)
        return err_wrap(err, "a job is named by its number");
    *ret = (int64_t)id;
    return 0;
}

int on_jobs(struct request *r, struct err *err)
{
    json_t *list = NULL;
    uint64_t most = request_count(r, "limit", UINT64_MAX);
    int rc = ve_job_list(r->api->node, !request_flag(r, "all"), &list, err);
    if (rc < 0)
        return rc;
    for (size_t n = json_array_size(list); n > most; n--)
        json_array_remove(list, n - 1);
    return request_json(r, MHD_HTTP_OK, list, NULL, err);
}

int on_job(struct request *r, struct err *err)
{
    int64_t id = 0;
    r->job_is_subject = true;
    int rc = job_id(r, &id, err);
    return rc < 0 ? rc : api_job_answer(r, id, err);
}

int on_job_cancel(struct request *r, struct err *err)
{
    int64_t id = 0;
    int rc = job_id(r, &id, err);
    if (rc == 0)
        rc = ve_job_cancel(r->api->node, id, err);
    return rc < 0 ? rc : api_job_answer(r, id, err);
}

int on_events(struct request *r, struct err *err)
{
    int rc = api_stream_open(r, request_accepts(r, "text/event-stream"), err);
    return rc < 0 ? rc : api_stream_subscribe(r, err);
}
