/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/feed.h"
#include "api/request.h"

#include "base/cleanup.h"

#define STREAM_MAX   (64 * 1024) /* bytes of one's own that wait for a slow client */
#define STREAM_BLOCK 4096        /* of one write */

/* To tell a thousand subscribers takes some milliseconds (bench/part_teremd.py): while events come
 * without end, they are told of several at once, at most once in this time for each of them, which
 * is a small part of teremd's.  Up to nine are told at once, always. */
#define TELL_US 100u

struct stream {
    struct request *r;
    struct stream *next; /* in api->subscribers */
    bool subscribed, sse, ended;
    struct feed_reader reader; /* of a subscriber; of others: */
    bool partial;              /* the last byte sent was not the end of a line */
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

void api_stream_put(struct stream *s, const json_t *line)
{
    auto_free char *text = json_dumps(line, JSON_COMPACT);
    size_t n = text ? strlen(text) : 0;
    if (s->len - s->sent + n > STREAM_MAX)
        drop_lines(s); /* a job's newest state says all */
    if (text && append(s, text, n))
        append(s, "\n", 1);
    request_resume(s->r);
}

static size_t read_own(struct stream *s, char *buf, size_t max)
{
    size_t n = s->len - s->sent;
    if (n > max)
        n = max;
    if (n) {
        memcpy(buf, s->buf + s->sent, n);
        s->sent += n;
        s->partial = s->buf[s->sent - 1] != '\n';
    }
    return n;
}

static ssize_t read_stream(void *cls, uint64_t pos, char *buf, size_t max)
{
    struct request *r = cls;
    struct stream *s = r->stream;
    if (r->aborted)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t n =
        s->subscribed ? feed_read(r->api->feed, &s->reader, buf, max) : read_own(s, buf, max);
    if (n)
        return (ssize_t)n;
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

/* ---- events: one watch on the node, one feed for every subscriber ---- */

static void tell(struct api *api)
{
    uint64_t at = feed_end(api->feed);
    api->told = uv_now(api->loop);
    for (struct stream *s = api->subscribers; s; s = s->next) {
        at = s->reader.at < at ? s->reader.at : at;
        request_resume(s->r);
    }
    feed_trim(api->feed, at);
}

static void on_tell_timer(uv_timer_t *timer)
{
    tell(timer->data);
}

static void on_event(void *ctx, const json_t *event)
{
    struct api *api = ctx;
    uint64_t due = api->told + (uint64_t)api->n_subscribers * TELL_US / 1000;
    uint64_t now = uv_now(api->loop);
    feed_add(api->feed, event);
    if (now >= due)
        tell(api);
    else if (!uv_is_active((uv_handle_t *)&api->tell_timer))
        uv_timer_start(&api->tell_timer, on_tell_timer, due - now, 0);
}

static int begin_feed(struct api *api, struct err *err)
{
    if (feed_open(&api->feed, err) < 0)
        return -err->kind;
    int rc = ve_event_watch(api->node, on_event, api, &api->events, err);
    if (rc < 0)
        feed_close(steal_ptr(&api->feed));
    return rc;
}

static void end_feed(struct api *api)
{
    ve_unwatch(api->events);
    api->events = NULL;
    uv_timer_stop(&api->tell_timer);
    feed_close(steal_ptr(&api->feed));
}

int api_stream_subscribe(struct request *r, struct err *err)
{
    struct api *api = r->api;
    struct stream *s = r->stream;
    if (!api->feed && begin_feed(api, err) < 0)
        return -err->kind;
    feed_join(api->feed, &s->reader);
    s->reader.sse = s->sse;
    s->subscribed = true;
    s->next = api->subscribers;
    api->subscribers = s;
    api->n_subscribers++;
    return 0;
}

static void unsubscribe(struct stream *s)
{
    struct api *api = s->r->api;
    struct stream **at = &api->subscribers;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    api->n_subscribers--;
    feed_leave(&s->reader);
    if (!api->subscribers)
        end_feed(api);
}

void api_stream_free(struct stream *s)
{
    if (!s)
        return;
    if (s->subscribed)
        unsubscribe(s);
    free(s->buf);
    free(s);
}
