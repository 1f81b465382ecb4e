/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * api — the HTTP interface of a node, over one Unix socket.
 *
 * I own the routes, their schemas, the OpenAPI document made from them, and every connection.
 * I use ve, param, keep (frames), base; libmicrohttpd on the caller's libuv loop.
 * I never touch the kernel's resources or the registry: what a request asks, ve does.
 *
 * Synopsis
 *     struct ve_node *node = …;                       // ve_node_open() holds the instance's lock
 *     struct api *api = NULL;
 *     if (api_open(loop, node, &place, &api, err) < 0) …
 *     uv_run(loop, UV_RUN_DEFAULT);                   // ends after POST /v1/node/stop
 *     api_close(api);
 *     uv_run(loop, UV_RUN_DEFAULT);                   // lets the closed handles go
 *
 * One thread.  Nothing wakes up while nobody is connected.  SIGPIPE must be ignored by the
 * program.  When a client has asked for the node to be stopped and has its answer, api calls
 * uv_stop() on the loop.
 */
#pragma once

#include "base/err.h"
#include "base/place.h"

#include <jansson.h>
#include <uv.h>

struct api;
struct ve_node;

/* Listens on place->api (mode 0660, group terem where that group exists), or on the socket that
 * systemd passed (LISTEN_FDS).  The caller holds the instance's lock: a socket that is in the way
 * is a dead one and is replaced.  Uploads pass through place->state/tmp. */
int api_open(uv_loop_t *loop, struct ve_node *node, const struct place *place, struct api **ret,
             struct err *err);
/* Drops every connection and stops to listen.  The memory goes when the loop has run once more.
 * NULL is fine. */
void api_close(struct api *api);

/* The OpenAPI 3.1 document, a new reference; NULL when out of memory.  Needs no node. */
json_t *api_openapi(void);
