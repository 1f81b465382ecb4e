/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ve — virtual environments: record, state table, jobs, recovery.
 *
 * I own what a VE is: its record in the registry, its lifecycle, the jobs that change it, and
 * putting things right after a crash.  I use every room below; I drive an engine through
 * struct engine_ops.  I never speak HTTP and never print for a user.
 *
 * Everything runs on one libuv loop in one thread.  An operation that takes longer than a commit
 * is a job: a row in the registry and a forked worker process.  Documents in and out are JSON
 * values (jansson) in the shapes of docs/api.md; `ret` values are new references.
 *
 *     ve_create(node, spec, &ve, err);                 // at once
 *     ve_job_begin(node, "start", "web1", NULL, &job_id, err);
 *     ve_job_watch(node, job_id, changed, ctx);        // called on progress and at the end
 */
#pragma once

#include "base/err.h"
#include "base/place.h"
#include "network/network.h"
#include "param/param.h"
#include "resource/resource.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct ve_node;

struct ve_config {
    struct place place;
    char libexec[PLACE_MAX];       /* directory of terem-keep and terem-init */
    char pool4[64], pool6[64];     /* "" for the instance's default */
    char lxcfs[PLACE_MAX];         /* program; "" for none */
    uint64_t reserve_memory;       /* bytes that are never guaranteed to VEs */
    uint64_t reserve_cpu;          /* the same in hundredths of a percent of one core */
    uint64_t capacity_connections; /* new ones a second that the node serves; 0: not bounded */
    uint32_t workers_max;          /* jobs at work at once; 0: 2 per processor */
};

/* Takes the instance's lock (a second daemon: ERR_BUSY), opens the registry and the rooms,
 * recovers, and begins to serve.  Nothing of it is left behind on failure. */
int ve_node_open(uv_loop_t *loop, const struct ve_config *config, struct ve_node **ret,
                 struct err *err);
/* Lets go of everything; VEs run on.  Jobs at work are stopped and undone at the next start. */
void ve_node_close(struct ve_node *node);

/* ---- reading ---- */
/* Array of VE objects in the order of names; label: "k=v" or NULL for all. */
int ve_list(struct ve_node *node, const char *label, json_t **ret, struct err *err);
/* ERR_NOT_FOUND with "did you mean". */
int ve_show(struct ve_node *node, const char *name, json_t **ret, struct err *err);
/* [{"key","type","held","maxheld","barrier","limit","failcnt"}], in the row's unit; null: not
 * counted on this kernel, of a limit: unlimited.  A VE that does not run: ERR_STATE. */
int ve_counters(struct ve_node *node, const char *name, json_t **ret, struct err *err);
/* The same of all that run, as numbers in the order of the table: for a thousand VEs documents
 * would take longer than the reading.  only_failed: without rows that refused nothing, and VEs
 * without such. */
typedef void (*ve_counters_fn)(void *ctx, const char *name, const struct param_set *params,
                               const struct param_counters *list);
void ve_counters_each(struct ve_node *node, const char *label, bool only_failed, ve_counters_fn fn,
                      void *ctx);
/* What all that run use now: [{"id","name","state","time","usage","cpu_guarantee","memory_limit",
 * "processes_limit","failed":{"processes":3}}]. */
int ve_usage_all(struct ve_node *node, const char *label, json_t **ret, struct err *err);
/* The same as numbers, for who writes them in a form of his own: called for every VE that runs. */
struct ve_sample {
    int64_t id, time, started; /* milliseconds since the epoch */
    const char *name;
    const struct param_set *params;
    struct resource_usage usage;
    struct resource_pressure pressure;
    bool has_net;
    struct network_counters net;
    struct param_counters counters;
};
void ve_sample_each(struct ve_node *node, void (*fn)(void *ctx, const struct ve_sample *s),
                    void *ctx);
/* What a row's counter stands beside, in its unit; not known: there is none. */
struct param_count ve_counter_barrier(const struct param_set *set, const struct param_row *row);
struct param_count ve_counter_limit(const struct param_set *set, const struct param_row *row);
/* [{"state"}] of all VEs. */
json_t *ve_states_json(struct ve_node *node);
/* {"name":…, "version":…, "instance":N, "ves":…, "running":…, "resources":{"memory":{"total",
 * "reserve","guaranteed","left","limits","unlimited"},…}}; processors in percent of a core */
json_t *ve_node_info(struct ve_node *node);
/* Can this node enforce the row?  No: why, in words behind "no: ". */
bool ve_param_here(struct ve_node *node, const struct param_row *row, char *why, size_t size);
/* {"checks":[{"name","ok","found","costs","hint"}]} */
json_t *ve_doctor(struct ve_node *node);

/* ---- changing, at once ---- */
int ve_create(struct ve_node *node, const json_t *spec, json_t **ret, struct err *err);
/* Parameters, profile, labels, autostart, restart, name: one transaction, applied live. */
int ve_update(struct ve_node *node, const char *name, const json_t *changes, json_t **ret,
              struct err *err);

/* ---- profiles: named sets of parameters ---- */
/* [{"name","params","ves":["web1"]}] in the order of names. */
int ve_profile_list(struct ve_node *node, json_t **ret, struct err *err);
int ve_profile_show(struct ve_node *node, const char *name, json_t **ret, struct err *err);
/* {"name","params"}; there already: ERR_EXISTS. */
int ve_profile_create(struct ve_node *node, const json_t *spec, json_t **ret, struct err *err);
/* {"params":{"key":"value"|null},"force"}: re-applied to every VE that uses it, all or nothing; the
 * error names the VE that failed. */
int ve_profile_update(struct ve_node *node, const char *name, const json_t *changes, json_t **ret,
                      struct err *err);
/* In use: ERR_STATE with the names. */
int ve_profile_remove(struct ve_node *node, const char *name, struct err *err);

/* ---- jobs ---- */
/* kind: start stop restart kill pause resume squeeze destroy (of a VE), template-build
 * template-import template-remove (subject: the template's name).  options: the request's body or
 * NULL. */
int ve_job_begin(struct ve_node *node, const char *kind, const char *subject, const json_t *options,
                 int64_t *ret_job, struct err *err);
int ve_job_show(struct ve_node *node, int64_t id, json_t **ret, struct err *err);
int ve_job_list(struct ve_node *node, bool only_open, json_t **ret, struct err *err);
/* Asks a job to stop; it ends as cancelled, or as done when it was faster. */
int ve_job_cancel(struct ve_node *node, int64_t id, struct err *err);

/* Called with the job object at each change; the last time with ended = true, after which the
 * watch is gone.  A job that has ended already is reported before ve_job_watch() returns. */
typedef void (*ve_job_fn)(void *ctx, const json_t *job, bool ended);
struct ve_watch;
int ve_job_watch(struct ve_node *node, int64_t id, ve_job_fn fn, void *ctx, struct ve_watch **ret,
                 struct err *err);
/* Events as in docs/api.md; until ve_unwatch(). */
typedef void (*ve_event_fn)(void *ctx, const json_t *event);
int ve_event_watch(struct ve_node *node, ve_event_fn fn, void *ctx, struct ve_watch **ret,
                   struct err *err);
void ve_unwatch(struct ve_watch *w); /* NULL is fine */

/* ---- sessions ---- */
/* All that can be told without the command: VE, state, request.  Call it before upgrading. */
int ve_exec_check(struct ve_node *node, const char *name, const json_t *request, struct err *err);
/* Runs the request's command over the connection, in frames (keep/frame.h), in a process of its
 * own that outlives a crash of teremd.  The descriptor stays the caller's and is duplicated;
 * done (may be NULL) is called when the session has ended. */
int ve_exec_stream(struct ve_node *node, const char *name, const json_t *request, int client_fd,
                   void (*done)(void *ctx), void *ctx, struct err *err);
/* The same collected: result {"exit":0,"signal":null,"stdout":"…","stderr":"…",
 * "truncated":false}, or failed.  Output is cut at 1 MiB each; bytes that are not UTF-8 become
 * U+FFFD. */
typedef void (*ve_result_fn)(void *ctx, json_t *result, const struct err *failed);
int ve_exec_collect(struct ve_node *node, const char *name, const json_t *request, ve_result_fn fn,
                    void *ctx, struct err *err);
/* Joins the VE's console (terem-keep copies from now on); the descriptor is duplicated. */
int ve_console_check(struct ve_node *node, const char *name, struct err *err);
int ve_console(struct ve_node *node, const char *name, int client_fd, struct err *err);
/* The console's log: older part (or -1) and newer part, open for reading. */
int ve_logs_open(struct ve_node *node, const char *name, int ret_fds[2], struct err *err);

/* Files in and out of a VE (running or stopped), as its root sees them.  data_fd: a file open for
 * reading (push) or writing (pull), which stays the caller's.
 * options: {"path":"/etc/motd","mode":"0644","uid":0,"gid":0,"archive":false,
 * "name":"motd"}; name: of the file when path is a directory, may be left out; archive: the data
 * is a tar of what is, or shall be, below path.  Pull's result: {"archive":true|false,
 * "mode":"0644"}: a directory is always an archive. */
int ve_push(struct ve_node *node, const char *name, const json_t *options, int data_fd,
            ve_result_fn fn, void *ctx, struct err *err);
int ve_pull(struct ve_node *node, const char *name, const json_t *options, int data_fd,
            ve_result_fn fn, void *ctx, struct err *err);
/* Ends the pull that was begun with this ctx, if it is still at work; its callback is called with
 * a failure. */
void ve_pull_cancel(struct ve_node *node, const void *ctx);

/* ---- templates ---- */
int ve_template_list(struct ve_node *node, json_t **ret, struct err *err);
int ve_template_show(struct ve_node *node, const char *name, json_t **ret, struct err *err);

/* Stops every VE (force: kills), then takes network, cgroups and terem-keep away, and calls done:
 * the program may then end with nothing of the instance left running. */
int ve_node_stop(struct ve_node *node, bool force, void (*done)(void *ctx), void *ctx,
                 struct err *err);
