/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * internal — what the files of this room share.  Nobody else includes it.
 */
#pragma once

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "container/container.h"
#include "keep/keep.h"
#include "network/network.h"
#include "param/placement.h"
#include "registry/registry.h"
#include "resource/bpf.h"
#include "resource/resource.h"
#include "storage/storage.h"
#include "template/template.h"
#include "ve/engine.h"
#include "ve/state.h"
#include "ve/ve.h"

#include <signal.h>

struct job;
struct answering; /* answer.c, like the next */
struct answers;
struct transfer; /* files.c */

struct ve_counters_file { /* inside.c */
    int fd;               /* to write it by; or -1 */
    ino_t inode;          /* 0: none */
    int64_t written;      /* ms */
};

struct ve {
    struct ve_node *node;
    struct registry_ve rec; /* name, id, slot, want; rec.state mirrors state */
    enum ve_state state;
    json_t *spec; /* what the owner asked for; rec.spec is its text */
    json_t *run;  /* pid, started, exit, broken; rec.run is its text */
    struct param_set params;
    struct ve_refusal *refused; /* by row, made at the first refusal; or NULL */
    int64_t oom_at;             /* when the second began in which its events are counted */
    unsigned oom_told;          /* in that second, one by one */
    uint64_t oom_count;         /* and those that are not told yet */
    uint64_t weight;            /* that ve_guarantee_settle() wrote; 0: another or none */
    cpu_set_t cores;            /* where it runs, or would; see cores.c */
    cpu_set_t cores_written;    /* in the kernel; none: unknown */
    bool cores_owned;           /* nothing else on the machine runs there */
    bool cores_told;            /* that this is not so */
    int pidfd;                  /* of its first process while it runs, else -1 */
    uv_poll_t *exit_poll;       /* on a duplicate of pidfd */
    struct job *job;            /* at work or queued, or NULL */
    struct job *next_job;       /* a kill that waits for `job` to be cancelled */
    struct ve_counters_file counters;
    struct answers *answers; /* to its calls of sysinfo(2), while it runs; or NULL */
    bool unsaved;            /* the registry could not take its record yet */
    unsigned transfers;      /* files going in or out while it is stopped: it must not start */
    bool gone;               /* that process has ended */
    uint64_t net_told[NETWORK_ROWS]; /* refusals of its network that events have told */
    unsigned restarts;               /* in a row, for the restart policy's delay */
    uv_timer_t *restart_timer;
    int64_t restart_at; /* when that fires */
};

enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_CANCELLED };

/* What one kind of job is made of: see kinds[] in lifecycle.c. */
struct job_kind {
    const char *name;
    bool of_ve;  /* subject is a VE, else a template */
    bool hidden; /* begun by Terem itself, not over the API */
    bool cancellable;
    bool limited;        /* counts against workers_max */
    bool inline_stopped; /* on a stopped VE so short that teremd does it itself */
    enum ve_event event; /* asked of the VE when it begins; VE_EVENT__COUNT: none */
    enum ve_state want;  /* recorded as the VE's wanted state; VE_STATE__COUNT: as it was */
    /* In the worker (or inline): does the work. */
    int (*work)(struct job *job, struct err *err);
    /* In teremd, after work succeeded: moves the VE on, inside a transaction.  1: the job goes on
     * (job_continue), 0: it has ended. */
    int (*done)(struct job *job, struct err *err);
    /* In teremd, after work failed or its worker died. */
    void (*failed)(struct job *job);
};

struct job {
    struct ve_node *node;
    const struct job_kind *kind;
    struct registry_job rec;
    enum job_state state;
    struct ve *ve;
    json_t *options; /* never NULL */
    int percent;     /* -1: unknown */
    char text[200];
    struct err error;
    bool stored;  /* the registry has its row */
    bool counted; /* takes one of workers_max */
    bool cancelled;
    bool failing; /* `error` stands; what runs now only undoes */
    pid_t pid;    /* worker */
    int sock;     /* our end; in the worker: its end */
    uv_poll_t *poll;
    uv_timer_t *kill_timer; /* after cancelling: SIGKILL */
    int result_fds[4];
    size_t n_result_fds;
    int64_t result[4];
    json_t *answer; /* of a job that tells something at its end, or NULL */
};

struct session { /* an exec: its worker, and whom to tell */
    struct session *next;
    pid_t pid;
    struct ve_node *node;
    int64_t ve;
    int handover; /* where it gives its command's listener, or -1 */
    uv_poll_t *poll;
    void (*done)(void *ctx);
    void *ctx;
};

struct ve_watch {
    struct ve_watch *next;
    struct ve_node *node;
    struct job *job; /* NULL: a watch of events */
    ve_job_fn job_fn;
    ve_event_fn event_fn;
    void *ctx;
    bool dead;
};

struct ve_node {
    uv_loop_t *loop;
    struct ve_config config;
    unsigned instance;
    int lock;
    int state_fd, tmp_fd, logs_fd; /* STATE and two directories in it */
    int init_program;              /* terem-init */
    int fd_floor;                  /* descriptors from here up are not for workers */
    struct registry *registry;
    struct template_store *templates;
    struct storage_pool *pool;
    struct network_node *network;
    struct resource_node *resources;
    struct keep *keep;
    char keep_program[PLACE_MAX];
    uv_timer_t *refused_timer; /* while events of refusals are held back */
    uv_poll_t *keep_poll;      /* of its end */
    uv_timer_t *keep_timer;
    int64_t keep_started;            /* again, by us */
    struct network_traffic *traffic; /* of all, while a list is made; else NULL */
    size_t n_traffic;
    struct ve **ves; /* by name */
    size_t n_ves, cap_ves;
    json_t *profiles;  /* parameters by name of profile */
    json_t *pending;   /* events that wait for the commit that makes them true */
    struct job **open; /* every job that has not ended, oldest first */
    size_t n_open, cap_open;
    size_t n_working;
    size_t workers_max;
    size_t n_ended; /* since the last prune */
    struct session *sessions;
    struct transfer *transfers;
    struct ve_watch *watches;
    bool closing, in_transaction, some_unsaved, saving_unsaved;
    int64_t last_unsaved_job; /* ids of jobs that the registry could not take: -1, -2, … */
    uv_signal_t *sigchld;
    pid_t trash_pid;
    uv_timer_t *trash_timer;
    struct lxcfs *lxcfs;
    uv_poll_t *rules_poll, *refusals_poll; /* netlimit.c */
    struct oom_watch *oom;                 /* or NULL: the kernel's log cannot be read */
    struct inside *inside;                 /* NULL: VEs have no file of their counters */
    struct bpf_watch *bpf;
    uv_timer_t *forks;           /* forks.c, while somebody listens to events */
    struct answering *answering; /* NULL: calls of VEs go to the kernel */
    char boot_id[40];
    void (*stop_done)(void *ctx);
    void *stop_ctx;
    bool stopping, stop_force;
    bool derived;             /* weights in the kernel follow from guarantees */
    uint64_t weight;          /* of all VEs together, as written; 0: unknown */
    uint64_t withheld;        /* admission_sum.withheld */
    bool unfit;               /* guarantees do not fit on the cores that there are now */
    cpu_set_t may_own;        /* cores of exclusive lists, as written */
    cpu_set_t online;         /* cores that were there when VEs were placed last */
    uint64_t protected_bytes; /* what resource_protect() was told */
    bool only_failed;         /* counters are read for what was refused, not for what is held */
    uint64_t rate_free;       /* what network_rate_capacity() was told; 0: nothing yet */
};

/* node.c */
struct ve *ve_find(struct ve_node *node, const char *name);
int ve_find_err(struct ve_node *node, const char *name, struct ve **ret, struct err *err);
/* "k=v", or "k" for any value; NULL: every VE fits. */
bool ve_has_label(const struct ve *ve, const char *label);
struct ve *ve_by_id(struct ve_node *node, int64_t id);
int ve_node_add(struct ve_node *node, struct ve *ve, struct err *err);
void ve_node_forget(struct ve *ve); /* takes it out of the table and frees it */
void ve_node_sort(struct ve_node *node);
int ve_used_layers(struct ve_node *node, const char ***ret, size_t *ret_n, struct err *err);
int64_t ve_now_ms(void);
/* Stops, closes and frees the malloc'ed libuv handle that *slot points to, and empties the slot;
 * an empty one is fine. */
#define ve_handle_close(slot) ve_handle_close_impl((void **)(slot))
void ve_handle_close_impl(void **slot);
uid_t ve_id_base(const struct ve *ve);
uint32_t ve_slot_max(const struct ve_node *node);

/* open.c */
void ve_node_stop_step(struct ve_node *node);

/* record.c */
int ve_record_check(struct ve_node *node, const json_t *request, json_t **ret_spec,
                    struct param_set *ret_params, struct err *err);
int ve_record_load(struct ve_node *node, const struct registry_ve *rec, struct ve **ret,
                   struct err *err);
void ve_record_free(struct ve *ve);
int ve_record_save(struct ve *ve, struct err *err); /* spec, run, state, want → registry */
json_t *ve_record_json(struct ve *ve);
int ve_params_parse(const json_t *params, struct param_set *ret, struct err *err);
int ve_labels_check(const json_t *labels, struct err *err);

/* The one function that changes a VE's state: checks the table, saves, tells watchers.
 * Called inside a transaction.  job may be NULL. */
int ve_move(struct ve *ve, enum ve_event event, struct job *job, struct err *err);

/* profile.c */
int ve_profiles_load(struct ve_node *node, struct err *err); /* before the VEs */
/* Borrowed; NULL when there is none of this name. */
const json_t *ve_profile_params(const struct ve_node *node, const char *name);
const char *ve_profile_of(const json_t *spec); /* NULL: none */
/* ERR_NOT_FOUND with "did you mean". */
int ve_profile_check(const struct ve_node *node, const char *name, struct err *err);
/* Defaults, over them those of the spec's profile (if it is there), over them its own. */
int ve_params_effective(const struct ve_node *node, const json_t *spec, struct param_set *ret,
                        struct err *err);

/* update.c */
/* Checks changes ({"key":"value"|null}) one by one and puts them into params, in the table's
 * canonical form; null takes one out. */
int ve_params_merge(json_t *params, const json_t *changes, struct err *err);
bool ve_params_differ(const struct param_set *a, const struct param_set *b);

/* apply.c */
/* Can every row be enforced here?  Nothing is written. */
int ve_apply_check(struct ve_node *node, const struct param_set *set, struct err *err);
/* Writes what differs into a VE that runs; on failure the old values are put back.  old_set NULL:
 * every row, whatever stands there (after a crash in the middle). */
int ve_apply(struct ve *ve, const struct param_set *old_set, const struct param_set *new_set,
             bool force, struct err *err);
/* Is there room below the new limits?  Not: ERR_STATE and what would happen. */
int ve_apply_room(struct ve *ve, const struct param_set *new_set, struct err *err);
json_t *ve_apply_restart_rows(const struct param_set *set);
json_t *ve_apply_pending(struct ve *ve);

/* usage.c */
json_t *ve_usage_json(struct ve *ve); /* null: it does not run */
void ve_traffic_load(struct ve_node *node);
void ve_traffic_drop(struct ve_node *node);

/* oversell.c */
json_t *ve_oversell_json(const struct ve_node *node);

/* counter.c: all sources, of a VE that runs. */
int ve_counters_read(struct ve *ve, struct param_counters *ret, struct err *err);
/* network: those of the network, too, for which the table of all connections is read. */
int ve_counters_read_some(struct ve *ve, bool network, struct param_counters *ret, struct err *err);

/* cores.c */
/* Can these have their cores and guarantees together?  changed: in the table's order; NULL: one
 * that is being made.  Not: *ret_who is one who asks for too much, or untouched. */
int ve_cores_admit(struct ve_node *node, const struct ve *const *changed,
                   const struct param_set *sets, size_t n, size_t *ret_who, struct err *err);
/* Decides where each VE runs; writes nothing. */
void ve_cores_place(struct ve_node *node);
/* Writes it into the cgroups of one that is being started. */
int ve_cores_start(struct ve *ve, struct err *err);
/* A back end of apply.c. */
int ve_cores_apply(struct ve *ve, const struct param_set *old_set, const struct param_set *new_set,
                   bool force, struct err *err);
/* Learns where VEs run that an earlier teremd started. */
void ve_cores_adopt(struct ve_node *node);
/* Places, and writes what has changed. */
void ve_cores_settle(struct ve_node *node);

/* guarantee.c */
/* What the machine has and keeps back. */
struct admission_node ve_guarantee_node(const struct ve_node *node);
bool ve_has_cgroups(const struct ve *ve);
/* Of the processor, as it tells (cpufreq's highest, else /proc/cpuinfo); 0: it does not. */
uint64_t ve_guarantee_clock_mhz(void);
/* Can the node keep this beside what the others have?  ve: NULL for one that is being made. */
int ve_guarantee_admit(struct ve_node *node, const struct ve *ve, const struct param_set *set,
                       struct err *err);
/* Can the node keep what all of these would have, together?  Names the one that cannot. */
int ve_guarantee_admit_all(struct ve_node *node, struct ve *const *ves,
                           const struct param_set *sets, size_t n, struct err *err);
/* Its parameters with the weight that follows from all guarantees. */
void ve_guarantee_params(const struct ve *ve, struct param_set *ret);
/* Writes what has changed for others; after every commit that changed parameters or VEs. */
void ve_guarantee_settle(struct ve_node *node);

/* keeper.c: begins to watch for the end of terem-keep; what follows is its own affair. */
void keeper_watch(struct ve_node *node);
void keeper_unwatch(struct ve_node *node);

/* event.c */
json_t *ve_signal_json(int sig); /* "KILL" */
/* A limit said no.  Who: pid inside the VE (0: unknown) and the name of its command (NULL:
 * unknown); text: what that means, one sentence without the VE's name, or NULL.  At most one event
 * a second for each row of each VE goes out; `count` tells of how many refusals. */
void ve_refused_later(struct ve_node *node); /* in a second, for what is held back */
/* oom.c: the same for ends that are not told yet; true: its second is not over. */
bool ve_oom_tell_rest(struct ve *ve);
void ve_refused(struct ve *ve, const struct param_row *row, uint64_t count, pid_t pid,
                const char *process, const char *text);
/* Remembers how many refusals of the row somebody else counted; returns what it was told before. */
uint64_t ve_refusals_told(struct ve *ve, const struct param_row *row, uint64_t count);
void ve_event_emit(struct ve_node *node, json_t *event); /* steals event; adds time */
void ve_event_job(struct job *job, bool ended);
void ve_watches_sweep(struct ve_node *node);

/* One transaction around what changes records; events go out after the commit.  Beginning twice
 * is beginning once. */
int ve_begin(struct ve_node *node, struct err *err);
int ve_commit(struct ve_node *node, struct err *err);
void ve_rollback(struct ve_node *node);
/* What has happened has happened, though the registry could not take it: the events go out, and
 * the records of VEs marked unsaved are written with the next transaction that succeeds. */
void ve_abandon(struct ve_node *node);
void ve_mark_unsaved(struct ve *ve);

/* job.c */
/* Begins a job of a kind whose conditions the caller has checked.  ve may be NULL. */
int job_begin(struct ve_node *node, const struct job_kind *kind, const char *subject, struct ve *ve,
              const json_t *options, int64_t *ret_id, struct err *err);
/* Goes on under the same job with another kind's work (restart: stop, then start). */
void job_continue(struct job *job, const struct job_kind *kind);
void job_child_ended(struct ve_node *node, pid_t pid, int status);
json_t *job_json(const struct job *job);
void job_stop_all(struct ve_node *node);
/* In the worker: one line of progress; non-zero when the job is to stop. */
int job_progress(void *ctx, int percent, const char *text);
int job_check_cancelled(struct job *job, struct err *err);
extern volatile sig_atomic_t job_cancel_flag;
/* Forks a process that dies with teremd, has only its own descriptors, and default signals. */
pid_t ve_fork(struct ve_node *node, const int *keep, size_t n_keep, bool dies_with_us);

/* lifecycle.c */
const struct job_kind *job_kind_find(const char *name, struct err *err);
extern const struct job_kind job_undo; /* after a worker died: takes away what it may have made */
void ve_exited(struct ve *ve);         /* begins the job that cleans up after it */
void ve_first_process_ended(struct ve *ve); /* looks whether it has; records how, then ve_exited */
int ve_watch_process(struct ve *ve, int pidfd, struct err *err); /* takes a duplicate */
void ve_unwatch_process(struct ve *ve);
/* Soon: deletes what destroy renamed away, in a process of its own at idle priority. */
void ve_trash_later(struct ve_node *node);

/* recover.c */
int ve_recover(struct ve_node *node, struct err *err);

/* session.c */
void session_free(struct session *s);
void session_child_ended(struct ve_node *node, pid_t pid);

/* limits.c */
void ve_limits_of(const struct param_set *set, struct container_limits *ret);
/* Of a VE that runs: rows that wait for its next start have the value that it was started with. */
void ve_limits_in_force(const struct ve *ve, struct container_limits *ret);
int ve_limits_check(struct ve_node *node, const struct param_set *set, struct err *err);
int ve_limits_apply(struct ve *ve, const struct param_set *old_set, const struct param_set *new_set,
                    bool force, struct err *err);
int ve_limits_counters(struct ve *ve, struct param_counters *list, struct err *err);

/* sysctl.c */
/* A VE starts whose memory may be merged (memory.dedup): the kernel's thread has to run. */
void ve_sysctls_dedup(struct ve_node *node);
void ve_sysctls_raise(struct ve_node *node);
void ve_sysctls_put_back(struct ve_node *node);

/* answer.c */
int answer_begin(struct ve_node *node, struct err *err);
/* From now on we answer, and not terem-keep. */
int answer_serve(struct ve_node *node, struct err *err);
void answer_end(struct ve_node *node);
bool answer_listens(const struct ve_node *node);
/* Answers at a VE's listener (a duplicate of it). */
int answer_add(struct ve *ve, int listener, struct err *err);
/* The same, and gives it to terem-keep. */
void answer_keep(struct ve *ve, int listener);
/* Gives a new terem-keep the listeners that are here. */
void answer_keep_again(struct ve *ve);
/* Answers at those that terem-keep holds. */
void answer_adopt(struct ve *ve);
void answer_drop(struct ve *ve);

/* netlimit.c */
void ve_netlimit_of(struct ve_node *node, const struct param_set *set, struct network_limits *ret);
int ve_netlimit_check(struct ve_node *node, const struct param_set *set, struct err *err);
int ve_netlimit_apply(struct ve *ve, const struct param_set *old_set,
                      const struct param_set *new_set, bool force, struct err *err);
int ve_netlimit_counters(struct ve *ve, struct param_counters *list, struct err *err);
/* What is left of capacity.connections is for whoever asks first. */
void ve_netlimit_settle(struct ve_node *node, uint64_t guaranteed);
/* After recovery: limits of VEs that are gone go, and the table is laid again if it is deleted. */
void ve_netlimit_begin(struct ve_node *node);
void ve_netlimit_end(struct ve_node *node);
/* inside.c */
int inside_begin(struct ve_node *node, struct err *err);
void inside_end(struct ve_node *node, bool stop);
int inside_dir(const struct ve_node *node); /* which workers keep; or -1 */
/* In a worker: a new directory with the VE's file; -1 where there are none. */
int inside_make(struct ve *ve, int *ret_dir, struct err *err);
void inside_remove(struct ve *ve);
/* From now on the file is up to date when it is opened. */
void inside_watch(struct ve *ve);
void inside_unwatch(struct ve *ve);

/* lxcfs.c */
int lxcfs_begin(struct ve_node *node, struct err *err);
int lxcfs_dir(struct ve_node *node); /* descriptor of its mount, or -1 */
void lxcfs_end(struct ve_node *node, bool stop);
bool lxcfs_child_ended(struct ve_node *node, pid_t pid);
const char *lxcfs_state(struct ve_node *node);

/* forks.c: refused forks, where bpf.c does not tell of them */
void forks_listen(struct ve_node *node); /* somebody listens to events from now on */
void forks_end(struct ve_node *node);

/* bpf.c */
/* Loads the programs or finds them; what this kernel lacks is no failure. */
int ve_bpf_begin(struct ve_node *node, struct err *err);
bool ve_bpf_tells_forks(const struct ve_node *node);
void ve_bpf_listen(struct ve_node *node); /* from then on refusals are events */
void ve_bpf_end(struct ve_node *node);    /* the programs stay */
void ve_bpf_remove(struct ve_node *node); /* when this process ends they go */
int ve_bpf_check(struct ve_node *node, const struct param_set *set, struct err *err);
int ve_bpf_apply(struct ve *ve, const struct param_set *old_set, const struct param_set *new_set,
                 bool force, struct err *err);
/* guard: its namespaces have their limits, and the VE's first program comes next. */
int ve_bpf_birth(struct ve *ve, const struct param_set *set, bool guard, struct err *err);
void ve_bpf_forget(struct ve_node *node, int64_t id);
int ve_bpf_counters(struct ve *ve, struct param_counters *list, struct err *err);
/* Where the row `files` is not counted it is RLIMIT_NOFILE of each new process. */
void ve_bpf_files(const struct ve *ve, struct container_limits *limits);
typedef void (*ve_check_fn)(json_t *list, const char *name, bool ok, const char *found,
                            const char *costs, const char *hint);
void ve_bpf_doctor(const struct ve_node *node, ve_check_fn check, json_t *list);

/* oom.c: tells of processes that were ended for want of memory.  instance: name of its cgroup.
 * Without the log only those that Terem ended itself. */
int oom_begin(struct ve_node *node, const char *instance, struct err *err);
void oom_end(struct ve_node *node);

/* squeeze.c */
int squeeze_check(struct ve *ve, const json_t *options, struct err *err);
int squeeze_work(struct job *job, struct err *err);
int squeeze_done(struct job *job, struct err *err);
