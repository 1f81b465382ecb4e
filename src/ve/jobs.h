/* SPDX-License-Identifier: GPL-2.0-or-later */
/* jobs — how operations run: jobs and sessions in processes of their own.  Inside ve only. */
#pragma once

#include "ve/internal.h"

enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_CANCELLED };

/* What one kind of job is made of: the table is in kinds.c. */
struct job_kind {
    const char *name;
    bool of_ve;   /* subject is a VE, else a template … */
    bool of_pool; /* … or a pool */
    bool hidden;  /* begun by Terem itself, not over the API */
    bool cancellable;
    bool limited;    /* counts against workers_max */
    bool needs_pool; /* refused while the VE's pool cannot be opened: ve_pool() is there */
    bool layers;     /* uses layers that no record names yet: while it is open none is collected */
    bool asleep;     /* one that sleeps sleeps on; all other kinds wake it when they begin */
    bool inline_stopped; /* on a stopped VE so short that teremd does it itself */
    bool crewed; /* one worker does several, one after another (crew.c); the record of its beginning
                  * is on the disk before it is begun */
    bool ends; /* a VE that is up is ended by teremd, which waits in its loop, before its work … */
    bool asks;           /* … and is asked to shut down before that (asking.c) */
    enum ve_event event; /* asked of the VE when it begins; VE_EVENT__COUNT: none */
    enum ve_state want;  /* recorded as the VE's wanted state; VE_STATE__COUNT: as it was */
    /* NULL, or: what is refused before it begins; the VE has no other job. */
    int (*check)(struct ve *ve, const json_t *options, struct err *err);
    int (*check_pool)(struct ve_node *node, const char *name, const json_t *options,
                      struct err *err); /* the same of_pool */
    /* NULL, or: in teremd, in the transaction that records the beginning: intent of its own. */
    int (*begin)(struct job *job, struct err *err);
    /* NULL, or: may a power cut take that transaction away, because recovery finds what the work
     * left without it?  Then the disk is waited for while the work goes on, not before. */
    bool (*light)(const struct job *job);
    /* NULL, or: that transaction failed after begin() had set job->aim: takes back what it did. */
    void (*unbegun)(struct job *job);
    /* In the worker (or inline): does the work. */
    int (*work)(struct job *job, struct err *err);
    /* NULL, or instead of work, in teremd: begins what goes on in the loop until job_ended(). */
    void (*run)(struct job *job);
    /* In teremd, after work succeeded: moves the VE on, inside a transaction.  1: the job goes on
     * (job_continue), 0: it has ended. */
    int (*done)(struct job *job, struct err *err);
    /* In teremd, after work failed or its worker died. */
    void (*failed)(struct job *job);
    /* NULL, or, after that: the kind that goes on under the same job, so that the VE is what it was
     * when the job ends with its error; NULL: it ends now. */
    const struct job_kind *(*back)(struct job *job);
};

#define JOB_RESULTS 8 /* numbers that a worker leaves */

struct job {
    struct ve_node *node;
    const struct job_kind *kind;
    struct registry_job rec;
    enum job_state state;
    struct ve *ve;
    struct job *next; /* while it waits for another of its VE: who waits for it; or NULL */
    json_t *options;  /* never NULL */
    int percent;      /* -1: unknown */
    char text[200];
    struct err error;
    bool stored; /* the registry has its row */
    bool cancelled;
    bool failing; /* `error` stands; what runs now only undoes */
    bool flush;   /* what records its beginning is not on the disk yet */
    bool kept;    /* set by done(): one commit for what it wrote and the job's end, and where the
                   * registry cannot take that, the job has failed: failed() also undoes done() */
    pid_t pid;    /* worker */
    int sock;     /* our end; in the worker: its end */
    struct crew *crew;     /* that worker, or NULL */
    bool ready;            /* waits for one */
    bool begun;            /* its worker has said so */
    bool alone;            /* takes long: no other waits behind it */
    struct asking *asking; /* while its VE is asked to shut down, or waited for; or NULL */
    uv_poll_t *poll;
    uv_timer_t *kill_timer; /* after cancelling: SIGKILL */
    int result_fds[4];
    size_t n_result_fds;
    int64_t result[JOB_RESULTS];
    char said[96];          /* a text that work() leaves to done() */
    int64_t aim;            /* a number that begin() leaves to work() and the rest; 0: none */
    json_t *answer;         /* of a job that tells something at its end, or NULL */
    int client;             /* whom its work reads from or writes to; or -1 (client.h) */
    struct ve *fresh;       /* a VE that is there when the job has succeeded; or NULL */
    struct bulk *bulk;      /* of a job over many VEs; or NULL (bulk.h) */
    struct bulk_item *item; /* what such a job has begun it for; or NULL */
    json_t *news;           /* what the event tells that goes out now; or NULL */
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

/* job.c */
/* Begins a job of a kind whose conditions the caller has checked.  ve may be NULL. */
int job_begin(struct ve_node *node, const struct job_kind *kind, const char *subject, struct ve *ve,
              const json_t *options, int64_t *ret_id, struct err *err);
/* The same with a client and a VE to be, which the job owns from then on, also on failure. */
int job_begin_with(struct ve_node *node, const struct job_kind *kind, const char *subject,
                   struct ve *ve, const json_t *options, int client, struct ve *fresh,
                   int64_t *ret_id, struct err *err);
/* One over many VEs, which owns bulk from then on, also on failure; and the same again with the
 * row that it had when teremd ended. */
int job_begin_bulk(struct ve_node *node, const struct job_kind *kind, const char *subject,
                   struct bulk *bulk, const json_t *request, int64_t *ret_id, struct err *err);
int job_resume_bulk(struct ve_node *node, const struct job_kind *kind,
                    const struct registry_job *rec, struct bulk *bulk, const json_t *request,
                    struct err *err);
/* Its work, or what run() began, has ended: error is NULL, or tells why it failed. */
void job_work_ended(struct job *job, const struct err *error);
void job_fail(struct job *job,
              const struct err *error); /* it ends so, but for what brings the VE back */
void job_run_work(struct job *job);
/* In a transaction: its row has what has changed of its request. */
int job_save_request(struct job *job, struct err *err);
/* From now on the VE is free for other jobs, and this one goes on as another kind without it. */
void job_let_go(struct job *job, const struct job_kind *kind);
/* Goes on under the same job with another kind's work (restart: stop, then start). */
void job_continue(struct job *job, const struct job_kind *kind);
void job_stop_all(struct ve_node *node);

/* crew.c */
#define CREW_MAX 8 /* jobs of one worker */
/* Whose workers are counted with its own. */
enum worker_slots job_slots(const struct job *job);
/* A worker for it, or for it and others as soon as there is one. */
void job_begin_worker(struct job *job);
/* Workers for those that wait for one; nothing while node->gathering. */
void crews_go(struct ve_node *node);
/* What is meant, where its record was light (job.c), goes to the disk. */
void job_flush(struct job *const *jobs, size_t n);
void job_close_worker(struct job *job);
bool job_is_worker(struct ve_node *node, pid_t pid);
void job_child_ended(struct ve_node *node, pid_t pid, int status);
void job_hear_workers(struct ve_node *node); /* all that workers have said by now; jobs may end */
void job_cancel_worker(struct job *job);
void job_kill_worker(struct job *job); /* unless it is at work for another */

/* asking.c */
/* False: there is nothing to ask or to wait for. */
bool asking_begin(struct job *job);
void asking_ended(struct job *job); /* the VE's first process has ended */
bool asking_late(struct job *job);  /* its time is over now; false: it does not wait in the loop */
void asking_hurry(struct job *job); /* it is killed now, and the job ends as cancelled */
void asking_done(struct job *job);  /* forgets; none is fine */

/* jobinfo.c */
#define JOBS_KEPT 1000 /* ended jobs in the registry */
json_t *job_json(const struct job *job);
const char *job_state_name(enum job_state state);
enum job_state job_state_after(const struct err *error); /* of one that ended so; NULL: well */
json_t *job_error_json(int kind, const char *text);      /* text: NULL where there is none */

/* worker.c */
/* Forks the worker that does kind->work() of each, in that order: sets job->pid and job->sock,
 * which it reports to. */
int worker_fork(struct job *const *jobs, size_t n, struct err *err);
/* Reads one report into the job; of a result *ret_error tells how the work ended. */
enum worker_said { WORKER_SILENT, WORKER_PROGRESS, WORKER_DONE };
enum worker_said worker_hear(struct job *job, struct err *ret_error);
/* From now on this process, which is not teremd itself, takes only what nobody else wants. */
void worker_be_idle(void);
void worker_be_modest(void); /* or goes behind all others: somebody waits for it */
/* In the worker: one line of progress; non-zero when the job is to stop. */
int job_progress(void *ctx, int percent, const char *text);
int job_check_cancelled(struct job *job, struct err *err);
extern volatile sig_atomic_t job_cancel_flag;
/* Forks a process that dies with teremd, has only its own descriptors, and default signals. */
pid_t ve_fork(struct ve_node *node, const int *keep, size_t n_keep, bool dies_with_us);

/* ask.c: ERR_BUSY while a job is at work on it. */
int ve_refuse_busy(const struct ve *ve, struct err *err);

/* kinds.c */
const struct job_kind *job_kind_find(const char *name, struct err *err);
#define JOB_NO_EVENT VE_EVENT__COUNT /* of .event: the VE's state stays */
#define JOB_AS_IT_IS VE_STATE__COUNT /* of .want */
extern const struct job_kind job_start;
extern const struct job_kind job_stop;
extern const struct job_kind job_restart;
extern const struct job_kind job_kill;
extern const struct job_kind job_exit;
extern const struct job_kind job_pause;
extern const struct job_kind job_resume;
extern const struct job_kind job_squeeze;
extern const struct job_kind job_destroy;
extern const struct job_kind job_repair;
extern const struct job_kind job_repair_restart;
extern const struct job_kind job_repair_done;
extern const struct job_kind job_snapshot;
extern const struct job_kind job_clone;
extern const struct job_kind job_rollback;
extern const struct job_kind job_rollback_stop; /* of one that runs */
extern const struct job_kind job_pool_create;
extern const struct job_kind job_pool_remove;
extern const struct job_kind job_pool_grow;
extern const struct job_kind job_move;
extern const struct job_kind job_move_restart;
extern const struct job_kind job_backup;
extern const struct job_kind job_backup_send;
extern const struct job_kind job_restore;
extern const struct job_kind job_template_build;
extern const struct job_kind job_template_import;
extern const struct job_kind job_template_remove;
extern const struct job_kind job_template_update;
extern const struct job_kind job_template_prune;
extern const struct job_kind job_update;
extern const struct job_kind job_update_check;
extern const struct job_kind job_update_restart;
extern const struct job_kind job_bulk;
extern const struct job_kind job_node_setup;

/* lifecycle.c */
extern const struct job_kind job_undo; /* after a worker died: takes away what it may have made */

/* What a VE that was started or destroyed has changed for the others: at once, or, of one of many,
 * a moment later for several of them. */
void life_settle_after(const struct job *job);
void life_settle(struct ve_node *node); /* now, if something waits for it */
const struct engine_ops *life_engine(const struct ve *ve);

/* Parts of start and stop for other kinds of jobs.  rescue: as in engine.h. */
int life_start(struct job *job, const char *rescue, struct err *err);
int life_started(struct job *job, struct err *err);
void life_start_failed(struct job *job);
int life_stop(struct job *job, struct err *err);
int life_stopped_start(struct job *job, struct err *err); /* then goes on as start */
int life_stopped(struct job *job, struct err *err);
void life_stop_failed(struct job *job);
int life_kill(struct job *job, struct err *err);
/* Of a kind that stopped a VE which ran (job->aim): it is started again. */
const struct job_kind *life_back(struct job *job);

/* exit.c */
int ve_watch_process(struct ve *ve, int pidfd, struct err *err); /* takes a duplicate */
void ve_unwatch_process(struct ve *ve);
void ve_first_process_ended(struct ve *ve); /* looks whether it has; records how, then ve_exited */
void ve_exited(struct ve *ve);              /* begins the job that cleans up after it */
/* Records how it ended, now that it must have: its parent reaps it in this moment. */
void life_see_end(struct ve *ve);

/* renew.c */
/* What an update of it comes to: only a look where it is asked for, or where it runs and has
 * nothing to get. */
const struct job_kind *ve_update_kind(const struct job_kind *kind, const struct ve *ve,
                                      const json_t *options);

/* Of what is asked of many: that which can be told without a VE. */
int ve_changes_check(struct ve_node *node, const json_t *changes, struct err *err);
int ve_exec_check_request(struct ve_node *node, const json_t *rq, struct err *err);
int ve_renew_check(struct ve_node *node, const json_t *options, struct err *err);
int ve_squeeze_check(struct ve_node *node, const json_t *options, struct err *err);

/* files.c: do files go in or out of it? */
bool ve_transfers(const struct ve *ve);

/* session.c */
/* Is somebody in it, by a command, a terminal or its console, also from before a restart? */
bool session_attends(const struct ve *ve);
void session_free(struct session *s);
void session_child_ended(struct ve_node *node, pid_t pid);
