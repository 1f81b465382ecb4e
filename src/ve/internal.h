/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * internal — what all files of this room share: the node, its VEs, their records, events and
 * transactions.  Nobody else includes it, nor what is built on it:
 *   jobs.h    operations, and the processes that do them
 *   rows.h    parameters; those of the network: net.h
 *   pools.h   where trees are; kept ones: saved.h; what they stand on: layers.h
 *   beside.h  what serves VEs that run and hears of them
 */
#pragma once

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "container/container.h"
#include "keep/keep.h"
#include "network/address.h"
#include "network/count.h"
#include "network/private.h"
#include "network/publish.h"
#include "network/shape.h"
#include "param/placement.h"
#include "param/share.h"
#include "registry/registry.h"
#include "resource/bpf.h"
#include "resource/resource.h"
#include "storage/storage.h"
#include "template/template.h"
#include "ve/engine.h"
#include "ve/state.h"
#include "ve/ve.h"

#include <signal.h>

struct job; /* jobs.h, like the next */
struct session;
struct bulk_item;   /* bulk.h */
struct ve_pool;     /* pools.h */
struct ve_snapshot; /* saved.h */
struct answering;   /* answer.c, like the next */
struct answers;
struct transfer; /* files.c */
struct collect;  /* collect.c */
struct ve_idle;  /* sleep.c, like the next */
struct sleep_watch;
struct density; /* density.c */

/* Each sort has workers_max of them. */
enum worker_slots { SLOTS_ENDS, SLOTS_LIMITED, SLOTS_BULK_ENDS, SLOTS_BULK, WORKER_SLOTS };

struct ve_counters_file { /* inside.c */
    int fd;               /* to write it by; or -1 */
    ino_t inode;          /* 0: none */
    int64_t written;      /* ms */
};

struct ve {
    struct ve_node *node;
    struct registry_ve rec; /* name, id, slot, want; rec.state mirrors state */
    enum ve_state state;
    const json_t *spec;             /* what the owner asked for, as rec.spec in text; other VEs
                                     * may have the same one: ve_spec_put() */
    json_t *run;                    /* pid, started, exit, broken; rec.run is its text */
    const struct param_set *params; /* on the node's shelf: ve_params_put() */
    struct ve_refusal *refused;     /* by row, made at the first refusal; or NULL */
    int64_t oom_at;                 /* when the second began in which its events are counted */
    unsigned oom_told;              /* in that second, one by one */
    uint64_t oom_count;             /* and those that are not told yet */
    uint64_t weight;                /* that ve_guarantee_settle() wrote; 0: another or none */
    cpu_set_t cores;                /* where it runs, or would; see cores.c */
    cpu_set_t cores_written;        /* in the kernel; none: unknown */
    bool cores_owned;               /* nothing else on the machine runs there */
    bool cores_told;                /* that this is not so */
    int pidfd;                      /* of its first process while it runs, else -1 */
    uv_poll_t *exit_poll;           /* on a duplicate of pidfd */
    uv_timer_t *exit_timer;         /* while nobody says how it ended; or NULL */
    unsigned exit_asked;            /* how often that has fired */
    struct job *job;                /* at work or queued, or NULL */
    struct job *next_job; /* waits for `job` to end: a kill, or what it leaves to be done */
    struct ve_counters_file counters;
    struct answers *answers; /* to its calls of sysinfo(2), while it runs; or NULL */
    struct ve_idle *idle;    /* while it is watched for use; or NULL */
    bool unsaved;            /* the registry could not take its record yet */
    bool filling;            /* trash_pid writes its tree to the disk */
    unsigned transfers;      /* files going in or out while it is stopped: it must not start */
    bool gone;               /* that process has ended */
    bool asked;              /* a job of somebody was at work on it when teremd ended */
    bool stop_waited;        /* for a start that teremd's end cut off: it stays stopped */
    bool limits_lost;        /* its network's, by who deleted the table while it started */
    uint64_t net_told[NETWORK_ROWS]; /* refusals of its network that events have told */
    unsigned restarts;               /* in a row, for the restart policy's delay */
    uv_timer_t *restart_timer;
    int64_t restart_at; /* when that fires */
    struct ve_snapshot
        *snapshots; /* in the order of their numbers, which is that of their making */
    size_t n_snapshots;
    struct ve_snapshot *leases; /* saved trees that are kept for backups (backup.c) */
    size_t n_leases;
    json_t *redo; /* options of a rollback that a crash interrupted, until recovery; or NULL */
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

struct ve_class { /* netclass.c */
    uint32_t id;
    char name[NAME_SIZE];
    bool removed;
};

struct ve_classes {
    struct network_prefixes prefixes; /* of all */
    struct ve_class *v;               /* by id; those of NETWORK_CLASS_ANY and _LOCAL first */
    size_t n;
};

struct ve_address_pool { /* addresspool.c */
    struct registry_address_pool rec;
    struct network_range range;
};

struct ve_address { /* address.c */
    struct registry_address rec;
    struct netlink_ip ip;
};

struct ve_addresses {
    struct ve_address_pool *pools; /* by name */
    size_t n_pools;
    struct ve_address *v; /* by address */
    size_t n;
};

struct ve_private { /* private.c */
    char name[NAME_SIZE], owner[256];
    struct network_private net;
};

struct ve_node {
    uv_loop_t *loop;
    struct ve_config config;
    unsigned instance;
    int lock;
    int workers_fd;                /* locked by us and all workers */
    int state_fd, tmp_fd, logs_fd; /* STATE and two directories in it */
    int init_program;              /* terem-init */
    int fd_floor;                  /* descriptors from here up are not for workers */
    struct registry *registry;
    struct template_store *templates;
    struct ve_pool **pools; /* by name */
    size_t n_pools;
    uv_timer_t *pool_timer; /* poolgrow.c */
    struct network_node *network;
    struct resource_node *resources;
    struct keep *keep;
    char keep_program[PLACE_MAX];
    uv_timer_t *refused_timer; /* while events of refusals are held back */
    uv_timer_t *grace_timer;   /* grace.c: while a VE has a soft disk limit */
    uint64_t grace_looked;     /* uv_now() when all of them were looked at */
    uv_poll_t *keep_poll;      /* of its end */
    uv_timer_t *keep_timer;
    int64_t keep_started;            /* again, by us */
    struct network_traffic *traffic; /* of all, while a list is made; else NULL */
    size_t n_traffic;
    struct ve **ves; /* by name */
    size_t n_ves, cap_ves;
    struct param_shelf shelf; /* sets of parameters that VEs have */
    json_t *alike;            /* alike.c: documents that VEs have, by their hash */
    uv_timer_t *alike_timer;
    json_t *profiles; /* parameters by name of profile */
    struct ve_classes classes;
    struct ve_addresses addresses;
    struct ve_publish *published; /* publish.c */
    size_t n_published;
    struct ve_private **privates; /* by name */
    size_t n_privates;
    struct usage_log *usage_log;  /* usagelog.c */
    struct network_count *counts; /* of all, while a list is made; else NULL */
    size_t n_counts;
    json_t *pending;   /* events that wait for the commit that makes them true */
    struct job **open; /* every job that has not ended, oldest first */
    size_t n_open, cap_open;
    size_t n_working[WORKER_SLOTS];
    size_t workers_max;
    bool gathering;              /* more jobs are about to be begun: workers wait for them */
    uv_timer_t *settle_timer;    /* until what one of many changed for all others is put in order */
    struct bulk_item *begun_for; /* the next job that is begun belongs to it; or NULL */
    size_t n_ended;              /* since the last prune */
    json_t *last_ended; /* job, with what its row has not: one done at once is asked for next */
    struct session *sessions;
    struct transfer *transfers;
    struct collect *collects;  /* collect.c */
    struct density *densities; /* density.c: being read */
    struct ve_watch *watches;
    bool closing, in_transaction, some_unsaved, saving_unsaved;
    int64_t last_unsaved_job;  /* ids of jobs that the registry could not take: -1, -2, … */
    struct registry_job *late; /* ends of jobs that the registry could not take yet */
    size_t n_late;
    bool boot_late; /* nor that the machine was started since */
    uv_signal_t *sigchld;
    pid_t trash_pid;
    uv_timer_t *trash_timer;
    unsigned trash_tries;       /* in a row that did not bring all */
    bool trash_commits;         /* it shall have pools count what was deleted, with trash or none */
    uv_timer_t *schedule_timer; /* NULL: no VE has a schedule */
    bool schedule_waits;        /* something is due and cannot begin yet */
    uv_timer_t *lease_timer;    /* NULL: nothing is kept for a backup */
    struct lxcfs *lxcfs;
    uv_poll_t *rules_poll, *refusals_poll; /* netlimit.c */
    struct oom_watch *oom;                 /* or NULL: the kernel's log cannot be read */
    struct inside *inside;                 /* NULL: VEs have no file of their counters */
    struct bpf_watch *bpf;
    struct sleep_watch *sleep;
    struct refusal_watch *refusals; /* refusal.c, while somebody listens to events */
    struct answering *answering;    /* NULL: calls of VEs go to the kernel */
    char boot_id[40];
    void (*stop_done)(void *ctx);
    void *stop_ctx;
    json_t *left; /* pools that the end of the node left in use */
    bool stopping, stop_force;
    uv_timer_t *stop_timer; /* until what still runs is killed; NULL: each has its own time */
    bool derived;           /* weights in the kernel follow from guarantees */
    uint64_t weight;        /* of all VEs together, as written; 0: unknown */
    uint64_t withheld;      /* admission_sum.withheld */
    bool unfit;             /* guarantees do not fit on the cores that there are now */
    bool crew; /* a worker of several: of all VEs it knows what was true when it was forked, and
                * computes what follows from them once */
    bool crew_placed, crew_summed;
    struct admission_sum crew_sum;
    cpu_set_t may_own;        /* cores of exclusive lists, as written */
    cpu_set_t online;         /* cores that were there when VEs were placed last */
    uint64_t protected_bytes; /* what resource_protect() was told */
    bool only_failed;         /* counters are read for what was refused, not for what is held */
    uint64_t net_out_promised, net_in_promised; /* as network_shape_rest() was told */
    uint64_t rate_free; /* what network_rate_capacity() was told; 0: nothing yet */
};

/* node.c */
/* A VE that Terem uses for a job of its own: it has a record, so that it is found after a crash,
 * and nobody is told of it. */
static inline bool ve_name_hidden(const char *name)
{
    return name[0] == '.';
}
static inline bool ve_hidden(const struct ve *ve)
{
    return ve_name_hidden(ve->rec.name);
}
/* Makes the record and the tree of one, in a transaction of its own; steals spec. */
int ve_add_new(struct ve_node *node, const char *name, json_t *spec, const struct param_set *params,
               struct ve **ret, struct err *err);
/* Forgets a hidden one of which nothing is left in the kernel. */
void ve_hidden_forget(struct ve *ve);
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
/* uv_now() at which what is to end with the node is killed; UINT64_MAX: never. */
uint64_t ve_node_stop_kills(const struct ve_node *node);

/* record.c */
int ve_record_check(struct ve_node *node, const json_t *request, json_t **ret_spec,
                    struct param_set *ret_params, struct err *err);
/* The same with a template that is not looked up by the request's name. */
int ve_record_build(struct ve_node *node, const json_t *request, const struct template *t,
                    json_t **ret_spec, struct param_set *ret_params, struct err *err);
int ve_record_load(struct ve_node *node, const struct registry_ve *rec, struct ve **ret,
                   struct err *err);
void ve_record_free(struct ve *ve);
/* Gives it another set of parameters; on failure it keeps the one that it has. */
int ve_params_put(struct ve *ve, const struct param_set *set, struct err *err);
int ve_record_save(struct ve *ve, struct err *err); /* spec, run, state, want → registry */

/* alike.c */
/* Another spec in the place of its own, which is never changed; takes the reference. */
void ve_spec_put(struct ve *ve, json_t *spec);
/* Equal documents of VEs become one: now, and when nobody is at work with them. */
void alike_share(struct ve *ve);
void alike_later(struct ve *ve);
int ve_params_parse(const json_t *params, struct param_set *ret, struct err *err);
int ve_labels_check(const json_t *labels, struct err *err);
int ve_priority_check(const json_t *priority, struct err *err); /* NULL is fine */
/* command and env of a request. */
int ve_record_lists_check(const json_t *rq, struct err *err);

/* show.c */
/* Text of an array that begins with "[": one at a time goes from the record to text, since
 * documents of a thousand VEs would take ten times the memory of what is answered, most of which
 * would stay with us.  Takes `one`; what fails is told at the end. */
void ve_array_add(struct str *out, json_t *one);
int ve_array_end(struct str *out, struct err *err);
json_t *ve_record_json(struct ve *ve);
json_t *ve_addresses_json(struct ve *ve);
void ve_addresses_add_json(const struct ve *ve,
                           json_t *list); /* address.c: those beside its pair */

/* The one function that changes a VE's state: checks the table, saves, tells watchers.
 * Called inside a transaction.  job may be NULL. */
int ve_move(struct ve *ve, enum ve_event event, struct job *job, struct err *err);

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
int ve_begin_light(struct ve_node *node, struct err *err); /* registry_begin_light() */
int ve_commit(struct ve_node *node, struct err *err);
void ve_rollback(struct ve_node *node);
/* What has happened has happened, though the registry could not take it: the events go out, and
 * the records of VEs marked unsaved are written with the next transaction that succeeds. */
void ve_abandon(struct ve_node *node);
void ve_mark_unsaved(struct ve *ve);
/* The same for the end of a job, of which a copy is kept: a bulk job whose row stayed open would go
 * on when teremd starts again. */
void ve_job_late(struct ve_node *node, const struct registry_job *rec);
/* … and for node->boot_id. */
void ve_boot_late(struct ve_node *node);
/* Its row as it will be; rec itself if that is no news. */
const struct registry_job *ve_job_as_ended(const struct ve_node *node,
                                           const struct registry_job *rec);
void ve_late_done(struct ve_node *node);

/* doctor.c: hands this to whoever has something to examine. */
typedef void (*ve_check_fn)(json_t *list, const char *name, bool ok, const char *found,
                            const char *costs, const char *hint);

/* repair.c */
bool ve_in_repair(const struct ve *ve);
const char *ve_state_text(const struct ve *ve); /* as users see it: "repair" is one, too */
void ve_repair_forget(struct ve *ve);

/* recover.c */
int ve_recover(struct ve_node *node, struct err *err);
