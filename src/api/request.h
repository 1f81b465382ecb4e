/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * request — one request from its first byte to the last byte of its answer.  Inside api only.
 *
 * A handler runs when the request is there whole: route found, query and body checked.  It
 * either answers (request_json, request_response, api_stream_open) or leaves the request waiting
 * (it returns 0 without an answer) and answers from a later callback.  A negative return is
 * answered as an error.
 *
 * The client may vanish at any time.  Then request_free() runs: it drops the watch, and what
 * else still refers to the request must go through a struct pending.
 */
#pragma once

#include "api/api.h"
#include "api/url.h"
#include "base/str.h"
#include "ve/ve.h"

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

#define BODY_MAX (1 << 20)

struct request;
struct stream;

enum route_flag {
    ROUTE_JOB = 1 << 0,     /* begins a job: takes wait=true and Accept: application/x-ndjson */
    ROUTE_UPLOAD = 1 << 1,  /* the body is bytes that go to a file */
    ROUTE_UPGRADE = 1 << 2, /* may become, or is only, a terem-stream/1 connection */
    ROUTE_WAIT = 1 << 3     /* is answered when something else has come about */
};

enum query_type { QUERY_TEXT, QUERY_BOOL, QUERY_COUNT, QUERY_LABEL };

struct query_row {
    const char *key;
    enum query_type type;
    bool required;
    const char *doc;
};

#define QUERY_MAX 5
struct route {
    const char *method, *pattern, *id; /* id: operationId */
    int (*handler)(struct request *r, struct err *err);
    const char *arg; /* for handlers that serve several routes */
    const char *summary;
    const char *body;   /* schema of the request's body; NULL: it has none */
    const char *answer; /* schema of the answer, or a media type (has a slash) */
    unsigned status;    /* of success */
    unsigned flags;
    struct query_row query[QUERY_MAX];
};

/* What stands in a path for {name}, {id} or {key}, and for a second one; NULL: it has none. */
struct route_names {
    const char *name, *item;
};

extern const struct route route_table[];
extern const size_t route_table_size;

/* What a callback of ve holds instead of the request, which may be gone when it comes. */
struct pending {
    struct request *r; /* NULL: the client is gone */
    int fd;            /* the file that ve reads or writes; ours until the callback */
    uv_loop_t *loop;
};

/* A watch on the client's socket while a request waits: libmicrohttpd does not look at it then. */
struct hangup {
    uv_poll_t poll;
    struct request *r;
};

struct request {
    struct request *next, **at; /* in api->requests; *at is us */
    struct api *api;
    struct MHD_Connection *conn;
    char *target;
    struct url url;
    const struct route *route;
    const char *name; /* what stands for {name}, {id} or {key} */
    const char *item; /* what stands for a second {…} */
    char method[8];

    struct str body;
    int body_fd; /* ROUTE_UPLOAD; -1 */
    uint64_t body_len;
    json_t *json;          /* the checked body; NULL when there was none */
    struct err early;      /* found before the body was whole: answered when it is */
    unsigned early_status; /* 0: by the error's kind */

    struct MHD_Response *response; /* the answer, until it is queued */
    unsigned status;
    bool begun, queued, suspended, aborted;
    bool is_large; /* its answer told of many */

    struct hangup *hangup;
    struct ve_watch *watch;
    struct pending *pending;
    struct stream *stream;
    int (*take)(struct request *r, int sock, struct err *err); /* after an upgrade */
    bool watch_ended;
    bool waits;      /* counts in api->n_waiting */
    bool stops_node; /* waits for the node's stop: such answers are the last thing that we do */
    int64_t job;
    bool job_is_subject; /* a failed job is an answer, not an error (GET /v1/jobs/{id}) */
};

struct api {
    uv_loop_t *loop;
    struct ve_node *node;
    struct schema *schema;
    struct MHD_Daemon *mhd;
    char socket_path[PLACE_MAX]; /* "" when systemd made the socket */
    char tmp[PLACE_MAX];
    uv_poll_t poll;
    uv_timer_t timer, tell_timer;
    unsigned handles; /* that are not closed yet */
    bool closing, kicked;
    bool stopped;     /* the node has: whoever asks for that is told at once */
    unsigned leaving; /* not 0: the loop stops when nothing is left to be written; passes */
    struct conn *conns;
    unsigned n_conns, n_waiting, limit; /* crowd.c */
    bool crowded;
    struct request *requests;
    struct stream *subscribers;
    unsigned n_subscribers;
    uint64_t told;     /* ms of the loop: when they were last told of events */
    struct feed *feed; /* while there are subscribers, and */
    struct ve_watch *events;
};

/* ---- answers (request.c) ---- */
/* Takes the reference.  location may be NULL. */
int request_json(struct request *r, unsigned status, json_t *value, const char *location,
                 struct err *err);
/* rc: of the removal; when that went well 200 {"removed":true}. */
int request_removed(struct request *r, int rc, struct err *err);
/* 200 with a text that was built; takes it. */
int request_text(struct request *r, struct str *text, const char *type, struct err *err);
/* status 0: by the error's kind. */
void request_fail(struct request *r, unsigned status, const struct err *why);
/* Takes the response. */
void request_response(struct request *r, unsigned status, struct MHD_Response *response);
/* From a file's descriptor, which is taken; length from offset on. */
int request_file(struct request *r, int fd, const char *type, struct MHD_Response **ret,
                 struct err *err);
const char *request_header(struct request *r, const char *name);
bool request_accepts(struct request *r, const char *type);
bool request_flag(struct request *r, const char *key);
/* Of a query's QUERY_COUNT, which was checked. */
uint64_t request_count(struct request *r, const char *key, uint64_t otherwise);
/* "tier=web": ERR_USAGE without a key or without "=". */
int request_check_label(const char *text, struct err *err);
/* Wakes a waiting request: its handler's answer is there, or it was aborted. */
void request_resume(struct request *r);
/* Suspends; while waiting, a client that hangs up aborts the request. */
int request_suspend(struct request *r);
struct pending *request_pending(struct request *r, int fd);
/* In ve's callback: the request or NULL; frees the pending. */
struct request *pending_take(struct pending *p, int *ret_fd);
/* ve's callback where the result, whose reference is ours, is the answer. */
void pending_answer(void *pending, json_t *result, const struct err *failed);

/* libmicrohttpd's callbacks */
void *request_on_uri(void *api, const char *uri, struct MHD_Connection *conn);
enum MHD_Result request_on_data(void *api, struct MHD_Connection *conn, const char *url,
                                const char *method, const char *version, const char *data,
                                size_t *size, void **ctx);
void request_on_end(void *api, struct MHD_Connection *conn, void **ctx,
                    enum MHD_RequestTerminationCode why);

/* ---- the loop (api.c) ---- */
/* Lets libmicrohttpd run soon; for whatever happened outside of its own descriptors. */
void api_kick(struct api *api);
int api_tmpfile(struct api *api, int *ret_fd, struct err *err);

/* ---- connections (crowd.c) ---- */
#define IDLE_SECONDS 60u /* a client that sends or takes nothing; not one that waits */
void crowd_init(struct api *api);
unsigned crowd_max(const struct api *api); /* connections, for libmicrohttpd */
enum MHD_Result crowd_accept(void *api, const struct sockaddr *addr, socklen_t len);
void crowd_on_connection(void *api, struct MHD_Connection *conn, void **ctx,
                         enum MHD_ConnectionNotificationCode code);
/* A request begins.  False: it is one too many. */
bool crowd_enter(struct api *api, struct MHD_Connection *conn);
/* Before a request's work begins whose answer may take long; ERR_UNAVAILABLE: too many do. */
int crowd_claim(struct request *r, struct err *err);
void crowd_release(struct request *r);

/* ---- routes (route.c) ---- */
/* NULL: *ret_status is 404 or 405, then allow names the methods of the path. */
const struct route *route_find(const char *method, const struct url *url, struct route_names *ret,
                               unsigned *ret_status, struct str *allow);

/* ---- streams of lines (stream.c) ---- */
/* Answers with lines that come; sse: as server-sent events. */
int api_stream_open(struct request *r, bool sse, struct err *err);
/* Never blocks; what a slow client has not taken is bounded, and older lines are dropped: here by
 * STREAM_MAX, of events, which all subscribers share, by the feed (feed.h). */
void api_stream_put(struct stream *s, const json_t *line);
void api_stream_end(struct stream *s);
void api_stream_free(struct stream *s);
int api_stream_subscribe(struct request *r, struct err *err);

/* ---- jobs (routes_job.c) ---- */
/* Answers for a job as the client wants it: at once, at its end, or line by line. */
int api_job_answer(struct request *r, int64_t job, struct err *err);
/* Does the client want more than the job as it is now? */
bool api_job_is_awaited(struct request *r);
int api_job_begin(struct request *r, const char *kind, const char *subject, const json_t *options,
                  struct err *err);

/* ---- upgrades (routes_session.c) ---- */
/* Duplicates the descriptor and goes on with it; an error goes to the client as a frame. */
typedef int session_take(struct request *r, int sock, struct err *err);
/* what: "the console", for a client that did not ask to be upgraded. */
int session_upgrade(struct request *r, const char *what, session_take *take, struct err *err);

/* ---- handlers ---- */
int on_backup(struct request *r, struct err *err);
int on_restore(struct request *r, struct err *err);
int on_node(struct request *r, struct err *err);
int on_openapi(struct request *r, struct err *err);
int on_doctor(struct request *r, struct err *err);
int on_density(struct request *r, struct err *err);
int on_metrics(struct request *r, struct err *err);
int on_params(struct request *r, struct err *err);
int on_param(struct request *r, struct err *err);
int on_node_setup(struct request *r, struct err *err);
int on_node_stop(struct request *r, struct err *err);
int on_network(struct request *r, struct err *err);
int on_classes(struct request *r, struct err *err);
int on_class(struct request *r, struct err *err);
int on_class_change(struct request *r, struct err *err);
int on_class_remove(struct request *r, struct err *err);
int on_bulk(struct request *r, struct err *err);
int on_privates(struct request *r, struct err *err);
int on_private(struct request *r, struct err *err);
int on_private_create(struct request *r, struct err *err);
int on_private_remove(struct request *r, struct err *err);
int on_private_join(struct request *r, struct err *err);
int on_private_leave(struct request *r, struct err *err);
int on_published(struct request *r, struct err *err);
int on_publish(struct request *r, struct err *err);
int on_unpublish(struct request *r, struct err *err);
int on_address_pools(struct request *r, struct err *err);
int on_address_pool(struct request *r, struct err *err);
int on_address_pool_create(struct request *r, struct err *err);
int on_address_pool_remove(struct request *r, struct err *err);
int on_addresses(struct request *r, struct err *err);
int on_address(struct request *r, struct err *err);
int on_address_add(struct request *r, struct err *err);
int on_address_change(struct request *r, struct err *err);
int on_profiles(struct request *r, struct err *err);
int on_profile(struct request *r, struct err *err);
int on_profile_create(struct request *r, struct err *err);
int on_profile_change(struct request *r, struct err *err);
int on_profile_remove(struct request *r, struct err *err);
int on_pools(struct request *r, struct err *err);
int on_pool(struct request *r, struct err *err);
int on_pool_create(struct request *r, struct err *err);
int on_pool_grow(struct request *r, struct err *err);
int on_pool_remove(struct request *r, struct err *err);
int on_ve_move(struct request *r, struct err *err);
int on_ves(struct request *r, struct err *err);
int on_ve_create(struct request *r, struct err *err);
int on_ve(struct request *r, struct err *err);
int on_ve_counters(struct request *r, struct err *err);
int on_counters(struct request *r, struct err *err);
int on_usage(struct request *r, struct err *err);
int on_usage_records(struct request *r, struct err *err);
int on_usage_sums(struct request *r, struct err *err);
int on_ve_change(struct request *r, struct err *err);
int on_ve_destroy(struct request *r, struct err *err);
int on_ve_action(struct request *r, struct err *err);
int on_ve_clone(struct request *r, struct err *err);
int on_snapshots(struct request *r, struct err *err);
int on_snapshot(struct request *r, struct err *err);
int on_snapshot_change(struct request *r, struct err *err);
int on_snapshot_delete(struct request *r, struct err *err);
int on_exec(struct request *r, struct err *err);
int on_console(struct request *r, struct err *err);
int on_logs(struct request *r, struct err *err);
int on_file_put(struct request *r, struct err *err);
int on_file_get(struct request *r, struct err *err);
int on_templates(struct request *r, struct err *err);
int on_template(struct request *r, struct err *err);
int on_template_make(struct request *r, struct err *err);
int on_template_remove(struct request *r, struct err *err);
int on_template_update(struct request *r, struct err *err);
int on_template_log(struct request *r, struct err *err);
int on_layer(struct request *r, struct err *err);
int on_prune(struct request *r, struct err *err);
int on_jobs(struct request *r, struct err *err);
int on_job(struct request *r, struct err *err);
int on_job_cancel(struct request *r, struct err *err);
int on_events(struct request *r, struct err *err);
