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
#include "base/str.h"
#include "network/count.h"
#include "param/param.h"
#include "resource/resource.h"

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct ve_node;

struct ve_config {
    struct place place;
    char libexec[PLACE_MAX];       /* directory of terem-keep and terem-init */
    char pool4[64], pool6[64];     /* "" for the instance's default */
    char dns[256], search[1024];   /* of VEs; "": the host's */
    char lxcfs[PLACE_MAX];         /* program; "" for none */
    uint64_t reserve_memory;       /* bytes that are never guaranteed to VEs */
    uint64_t reserve_cpu;          /* the same in hundredths of a percent of one core */
    uint64_t capacity_connections; /* new ones a second that the node serves; 0: not bounded */
    char uplink[IFNAMSIZ];         /* "": that of the default route */
    uint64_t net_out, net_in;      /* bits a second that it carries; 0: nobody has said */
    uint32_t workers_max;          /* jobs at work at once; 0: 2 per processor */
    uint64_t disk_look_ms;         /* how often soft disk limits are compared with what is used */
    char pool_driver[8];           /* of the first pool; "": what serves best */
    uint64_t pool_size; /* bytes that a new pool's image has where nothing else is said */
    bool pool_grow;     /* images grow by themselves when they run full */
    uint64_t usage_interval_ms, usage_keep_ms; /* of records of usage; whole seconds */
};

/* Takes the instance's lock (a second daemon: ERR_BUSY), opens the registry and the rooms,
 * recovers, and begins to serve.  Nothing of it is left behind on failure. */
int ve_node_open(uv_loop_t *loop, const struct ve_config *config, struct ve_node **ret,
                 struct err *err);
/* Lets go of everything; VEs run on.  Jobs at work are stopped and undone at the next start. */
void ve_node_close(struct ve_node *node);

/* ---- reading ---- */
/* The text of an array of VE objects in the order of names, added to out; label: "k=v" or NULL for
 * all.  fields: "name,state,usage.memory" for these members alone, or NULL: what is not asked for
 * is not read from the kernel. */
int ve_list(struct ve_node *node, const char *label, const char *fields, struct str *out,
            struct err *err);
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
/* What all that run use now, as text added to out:
 * [{"id","name","state","time","usage","cpu_guarantee","memory_limit",
 * "processes_limit","failed":{"processes":3}}]. */
int ve_usage_all(struct ve_node *node, const char *label, struct str *out, struct err *err);
/* The same as numbers, for who writes them in a form of his own: called for every VE that runs. */
struct ve_sample {
    int64_t id, time, started; /* milliseconds since the epoch */
    const char *name;
    const struct param_set *params;
    struct resource_usage usage;
    bool has_net;
    struct network_counters net;
    struct param_count disk_bytes, disk_inodes; /* of its own files */
    struct param_counters counters;
    const struct ve_node *node;
};
/* What a sample's VE sent and got of each class in which it has any; NULL is nothing. */
typedef void (*ve_sample_class_fn)(void *ctx, const char *class, const struct network_count *out,
                                   const struct network_count *in);
void ve_sample_classes(const struct ve_sample *s, ve_sample_class_fn fn, void *ctx);
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
/* Can this node enforce the row?  No: why, in words behind "no: "; yes, but not all of it: what
 * works and why no more; else "". */
bool ve_param_here(struct ve_node *node, const struct param_row *row, char *why, size_t size);
/* {"checks":[{"name","ok","found","costs","hint"}]} */
json_t *ve_doctor(struct ve_node *node);
/* Where the memory of VEs that run goes, as docs/density.md says; fn is called later.  ve: of one;
 * NULL: of all.  label "tier=web": of those that have it; NULL: whatever they have. */
typedef void (*ve_result_fn)(void *ctx, json_t *result, const struct err *failed);
int ve_density(struct ve_node *node, const char *ve, const char *label, ve_result_fn fn, void *ctx,
               struct err *err);

/* ---- changing, at once ---- */
int ve_create(struct ve_node *node, const json_t *spec, json_t **ret, struct err *err);
/* Parameters, profile, labels, autostart, restart, name: one transaction, applied live. */
int ve_update(struct ve_node *node, const char *name, const json_t *changes, json_t **ret,
              struct err *err);

/* Begins to make a VE from a copy of another's files, or of its snapshot: {"name","snapshot",
 * "start","labels","params"}.  The source runs on, frozen for the copy. */
int ve_clone(struct ve_node *node, const char *source, const json_t *request, int64_t *ret_job,
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

/* ---- snapshots ---- */
/* [{"name","ve","parent","created","note","schedule","current","own","shared","damaged"}] in the
 * order of their making. */
int ve_snapshot_list(struct ve_node *node, const char *ve_name, json_t **ret, struct err *err);
int ve_snapshot_show(struct ve_node *node, const char *ve_name, const char *name, json_t **ret,
                     struct err *err);
/* {"name","note"} */
int ve_snapshot_change(struct ve_node *node, const char *ve_name, const char *name,
                       const json_t *changes, json_t **ret, struct err *err);
/* Its children become those of its parent; a VE that stands on it then stands on its parent. */
int ve_snapshot_delete(struct ve_node *node, const char *ve_name, const char *name,
                       struct err *err);

/* ---- destination classes: named lists of prefixes ---- */
/* [{"name","count","ves":["web1"]}] in the order of names, any and local among them; ves: those
 * with a parameter of it. */
int ve_class_list(struct ve_node *node, json_t **ret, struct err *err);
/* The same of one with "prefixes": ["192.0.2.0/24"]. */
int ve_class_show(struct ve_node *node, const char *name, json_t **ret, struct err *err);
/* {"add":[…],"remove":[…]}, all or nothing; one that is not there is made by adding. */
int ve_class_change(struct ve_node *node, const char *name, const json_t *changes, json_t **ret,
                    struct err *err);
/* In use: ERR_STATE with the names. */
int ve_class_remove(struct ve_node *node, const char *name, struct err *err);

/* ---- ports of the machine that lead to VEs ---- */
/* [{"id":"tcp:80","protocol","address":null,"port","ve","to"}] by port; of one VE, or NULL. */
int ve_publish_list(struct ve_node *node, const char *ve_name, json_t **ret, struct err *err);
/* {"ve","protocol":"tcp","address":null,"port","to"}; null: each address of the machine. */
int ve_publish_add(struct ve_node *node, const json_t *request, json_t **ret, struct err *err);
int ve_publish_remove(struct ve_node *node, const char *id, struct err *err);

/* ---- addresses beside each VE's own pair ---- */
/* [{"name","prefix","first","last","family","public","announced","used","reserved","free"}] */
int ve_address_pool_list(struct ve_node *node, json_t **ret, struct err *err);
int ve_address_pool_show(struct ve_node *node, const char *name, json_t **ret, struct err *err);
/* {"name","prefix","range":"A-B","public"} */
int ve_address_pool_create(struct ve_node *node, const json_t *spec, json_t **ret, struct err *err);
/* In use: ERR_STATE with what uses it. */
int ve_address_pool_remove(struct ve_node *node, const char *name, struct err *err);
/* [{"address","pool","ve","reserved","name","reverse"}] by address: those that a VE has or that are
 * reserved; of one VE or one pool, or NULL. */
int ve_address_list(struct ve_node *node, const char *ve_name, const char *pool, json_t **ret,
                    struct err *err);
/* By address or name, here and below. */
int ve_address_show(struct ve_node *node, const char *address, json_t **ret, struct err *err);
/* {"ve","address","pool","name","reverse","reserved"}: gives it to a VE, at once if it runs;
 * without "ve" it is reserved; without "address" the next free one. */
int ve_address_add(struct ve_node *node, const json_t *request, json_t **ret, struct err *err);
/* {"ve":name|null,"reserved","name","reverse"}; one that is no VE's and not reserved is free. */
int ve_address_change(struct ve_node *node, const char *address, const json_t *changes,
                      json_t **ret, struct err *err);

/* ---- private networks of VEs of one owner ---- */
/* [{"name","range4":null|text,"range6","owner":null|text,"members":[{"ve","state","interface":
 * "eth1","addresses"}]}] by name */
int ve_private_list(struct ve_node *node, json_t **ret, struct err *err);
int ve_private_show(struct ve_node *node, const char *name, json_t **ret, struct err *err);
/* {"name","range4","range6","owner"}; a range of null is chosen, "" is none. */
int ve_private_create(struct ve_node *node, const json_t *spec, json_t **ret, struct err *err);
/* A VE is in it: ERR_STATE with who. */
int ve_private_remove(struct ve_node *node, const char *name, struct err *err);
/* {"ve","address":null|text}, at once if it runs; *ret is the member. */
int ve_private_join(struct ve_node *node, const char *network, const json_t *request, json_t **ret,
                    struct err *err);
int ve_private_leave(struct ve_node *node, const char *network, const char *ve, struct err *err);

/* Who is where, and what each VE sent and got by class since it was made: {"uplink","out","in",
 * "not_counted":null|why,"private":[…],"ves":[{"name","state","addresses","networks","classes"}]}.
 */
int ve_network_show(struct ve_node *node, json_t **ret, struct err *err);

/* ---- pools: where VEs' files are ---- */
/* [{"name","driver","path","image","size","free","ves","snapshots","can",…}] by name; they are
 * made, changed and removed by jobs. */
int ve_pool_list(struct ve_node *node, json_t **ret, struct err *err);
int ve_pool_show(struct ve_node *node, const char *name, json_t **ret, struct err *err);
/* Of those that are open. */
void ve_pool_each(struct ve_node *node,
                  void (*fn)(void *ctx, const char *name, uint64_t size, uint64_t free_bytes),
                  void *ctx);

/* ---- jobs ---- */
/* kind: start stop restart kill pause resume squeeze update snapshot rollback
 * move move-restart destroy (of a VE),
 * node-setup (of the node),
 * template-build template-import template-update template-remove template-prune (subject: the
 * template's name), pool-create pool-grow pool-remove (subject: the pool's name).  options: the
 * request's body or NULL. */
int ve_job_begin(struct ve_node *node, const char *kind, const char *subject, const json_t *options,
                 int64_t *ret_job, struct err *err);
int ve_job_show(struct ve_node *node, int64_t id, json_t **ret, struct err *err);
int ve_job_list(struct ve_node *node, bool only_open, json_t **ret, struct err *err);
/* Asks a job to stop; it ends as cancelled, or as done when it was faster. */
int ve_job_cancel(struct ve_node *node, int64_t id, struct err *err);

/* One job that does the same to many VEs:
 * {"verb","ves":["web1"]|"label":"k=v"|"all":true,"options", "stop_on_failure"}; options as of the
 * verb for one VE.  With a label or all: those in a state in which the verb changes something.  It
 * goes on after a crash. */
int ve_bulk(struct ve_node *node, const json_t *request, int64_t *ret_job, struct err *err);

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
int ve_exec_collect(struct ve_node *node, const char *name, const json_t *request, ve_result_fn fn,
                    void *ctx, struct err *err);
/* Sends the signal to the command that was begun with this ctx, if it is still at work; its
 * callback is called as ever. */
void ve_exec_signal(struct ve_node *node, const void *ctx, int sig);
/* Whoever was to be called is gone. */
void ve_exec_forget(struct ve_node *node, const void *ctx);
/* Records of usage above number `after`, at most `limit`: {"records":[…],"last":N,"more":bool}; and
 * sums of them: […].  As in docs/usage.md; fn is called later. */
int ve_usage_records(struct ve_node *node, int64_t after, size_t limit, ve_result_fn fn, void *ctx,
                     struct err *err);
struct ve_usage_query {
    const char *ve;   /* NULL: all, also those that are gone */
    int64_t from, to; /* milliseconds since the epoch; to 0: no end */
    const char *by;   /* "5m", "hour", "day", "month"; NULL: month */
};
int ve_usage_sums(struct ve_node *node, const struct ve_usage_query *q, ve_result_fn fn, void *ctx,
                  struct err *err);
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

/* ---- backups ---- */
/* All that can be told before a client is upgraded (docs/backup.md has what follows).  request:
 * {"since":{"id","bytes"},"embed":true,"snapshot":"name","resume":{"manifest","frames","chain"}}.
 */
int ve_backup_check(struct ve_node *node, const char *name, const json_t *request, struct err *err);
/* Begins a job that packs the VE's own files and writes them to the client, in frames; the
 * descriptor is duplicated. */
int ve_backup(struct ve_node *node, const char *name, const json_t *request, int client_fd,
              struct err *err);
/* {"name","pool","params":{},"start":true,"manifests":["…"]}: a new VE of the backups that the
 * client sends, a full one and those that stand on it. */
int ve_restore_check(struct ve_node *node, const json_t *request, struct err *err);
int ve_restore(struct ve_node *node, const json_t *request, int client_fd, struct err *err);

/* ---- templates ---- */
bool ve_layer_is_here(struct ve_node *node, const char *digest);
int ve_template_list(struct ve_node *node, json_t **ret, struct err *err);
int ve_template_show(struct ve_node *node, const char *name, json_t **ret, struct err *err);
/* What the script said that failed last when this template was built; ERR_NOT_FOUND: none did. */
int ve_template_log_open(struct ve_node *node, const char *name, int *ret_fd, struct err *err);

/* After ve_node_stop(): [{"pool","why"}] of pools that stay in use; the caller's. */
json_t *ve_node_left(const struct ve_node *node);
/* Stops every VE (force: kills), then takes network, cgroups and terem-keep away, and calls done:
 * the program may then end with nothing of the instance left running.  within_s: seconds in which
 * all that is to be over: those that take longer, and jobs in their way, are killed in time; 0:
 * each has the time that a stop gives it, and jobs end by themselves.
 * Asked again while that goes on: it is hastened where force or within_s says so, and the first
 * caller's done is called. */
void ve_node_stop(struct ve_node *node, bool force, int64_t within_s, void (*done)(void *ctx),
                  void *ctx);
