/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/request.h"

#include "base/cleanup.h"

#include <time.h>

#define STREAM_MAX   (64 * 1024) /* bytes that wait for one slow client */
#define STREAM_BLOCK 4096        /* of one write */

struct stream {
    struct request *r;
    struct stream *next; /* in api->subscribers */
    bool subscribed, sse, ended;
    bool partial;  /* the last byte sent was not the end of a line */
    uint64_t lost; /* events that found no room */
    char *buf;
    size_t len, sent, cap;
};

static bool append(struct stream *s, const char *text, size_t n)
{
    if (s->sent && (s->sent == s->len || s->len + n > s->cap)) {
        memmove(s->buf, s->buf + s->sent, s->len - s->sent);
        s->len -= s->sent;
        s->sent = 0;
    }
    if (s->len + n > s->cap) {
        size_t cap = s->cap ? s->cap : 1024;
        while (cap < s->len + n)
            cap *= 2;
        char *buf = realloc(s->buf, cap);
        if (!buf)
            return false;
        s->buf = buf;
        s->cap = cap;
    }
    memcpy(s->buf + s->len, text, n);
    s->len += n;
    return true;
}

/* Drops every whole line that has not begun to be sent. */
static void drop_lines(struct stream *s)
{
    size_t keep = s->sent;
    if (s->partial) {
        char *end = memchr(s->buf + s->sent, '\n', s->len - s->sent);
        keep = end ? (size_t)(end - s->buf) + 1 : s->len;
    }
    s->len = keep;
}

static bool put_text(struct stream *s, const json_t *line)
{
    auto_free char *text = json_dumps(line, JSON_COMPACT);
    if (!text)
        return false;
    size_t n = strlen(text);
    if (s->len - s->sent + n > STREAM_MAX) {
        if (s->subscribed)
            return false;
        drop_lines(s); /* a job's newest state says all */
    }
    const char *type = json_string_value(json_object_get(line, "type"));
    bool ok = true;
    if (s->sse)
        ok = append(s, "event: ", 7) && append(s, type ? type : "", type ? strlen(type) : 0) &&
             append(s, "\ndata: ", 7);
    return ok && append(s, text, n) && append(s, s->sse ? "\n\n" : "\n", s->sse ? 2 : 1);
}

void api_stream_put(struct stream *s, const json_t *line)
{
    if (s->lost || !put_text(s, line))
        s->lost++;
    request_resume(s->r);
}

static void tell_lost(struct stream *s)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    json_t *line =
        json_pack("{s:I,s:s,s:I}", "time", (json_int_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
                  "type", "events.lost", "count", (json_int_t)s->lost);
    s->lost = 0;
    if (line)
        put_text(s, line);
    json_decref(line);
}

static ssize_t read_stream(void *cls, uint64_t pos, char *buf, size_t max)
{
    struct request *r = cls;
    struct stream *s = r->stream;
    if (r->aborted)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (s->sent == s->len && s->lost && s->subscribed)
        tell_lost(s);
    size_t n = s->len - s->sent;
    if (n > max)
        n = max;
    if (n) {
        memcpy(buf, s->buf + s->sent, n);
        s->sent += n;
        s->partial = s->buf[s->sent - 1] != '\n';
        return (ssize_t)n;
    }
    if (s->ended)
        return MHD_CONTENT_READER_END_OF_STREAM;
    /* Returning 0 without suspending would spin. */
    return request_suspend(r) < 0 ? MHD_CONTENT_READER_END_WITH_ERROR : 0;
}

int api_stream_open(struct request *r, bool sse, struct err *err)
{
    struct stream *s = calloc(1, sizeof(*s));
    struct MHD_Response *response =
        s ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, r, NULL)
          : NULL;
    if (!response) {
        free(s);
        return err_set(err, ERR_EXHAUSTED, "out of memory for the stream");
    }
    s->r = r;
    s->sse = sse;
    r->stream = s;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                            sse ? "text/event-stream" : "application/x-ndjson");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    request_response(r, MHD_HTTP_OK, response);
    return 0;
}

void api_stream_end(struct stream *s)
{
    s->ended = true;
    request_resume(s->r);
}

/* ---- events: one watch on the node, handed to every subscriber ---- */

static void on_event(void *ctx, const json_t *event)
{
    struct api *api = ctx;
    for (struct stream *s = api->subscribers; s; s = s->next)
        api_stream_put(s, event);
}

int api_stream_subscribe(struct request *r, struct err *err)
{
    struct api *api = r->api;
    if (!api->events) {
        int rc = ve_event_watch(api->node, on_event, api, &api->events, err);
        if (rc < 0)
            return rc;
    }
    r->stream->subscribed = true;
    r->stream->next = api->subscribers;
    api->subscribers = r->stream;
    return 0;
}

void api_stream_free(struct stream *s)
{
    if (!s)
        return;
    struct api *api = s->r->api;
    for (struct stream **at = &api->subscribers; s->subscribed && *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    if (!api->subscribers && api->events) {
        ve_unwatch(api->events);
        api->events = NULL;
    }
    free(s->buf);
    free(s);
}
