/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bulk — one job over many VEs; asked for by ve_bulk().  Inside ve only. */
#pragma once

#include "ve/jobs.h"

struct bulk_verb {
    const char *name;
    unsigned from;    /* states that --all and a label mean: in them it changes something */
    unsigned already; /* states in which there is nothing left to do, after a crash */
    bool wide;        /* waits for VEs more than it works */
    bool ends;        /* all at once: each is waited for in the loop (asking.c) */
    bool crewed;      /* a worker does several (crew.c) */
    bool repair;      /* also of those in repair */
    /* Of options: what no VE could take, so that it is refused once and not for each; or NULL. */
    int (*check)(struct ve_node *node, const json_t *options, struct err *err);
};

struct bulk_item { /* what it does to one VE */
    struct bulk *bulk;
    struct registry_bulk row; /* state: JOB_QUEUED until it has ended; of exec also JOB_RUNNING */
    json_t *result;           /* of its job, or NULL */
    bool at_work;
    bool unbegun; /* was cancelled while its job waited for a worker */
    bool waits;   /* for the end of what recovery does to its VE, before it is begun */
};

struct bulk {
    struct job *job;
    const struct bulk_verb *verb;
    const json_t *options; /* borrowed from the job's request */
    struct bulk_item *items;
    size_t n, next, at_work, ended, failed, cancelled;
    size_t unbegun; /* of those that were cancelled; known at its end */
    size_t before;  /* that had ended when it was begun, or begun again */
    size_t matched; /* VEs of those names, of that label, or all */
    size_t left;    /* of them those that an update without a restart passes over */
    size_t width, most;
    size_t output;        /* bytes that commands have printed and that are kept */
    int64_t begun, paced; /* ms */
    bool resumed, stop_on_failure;
    bool ordered;         /* none is begun before one that stands before it */
    bool stepping, again; /* the next are being begun, or will be soon */
    bool stop;            /* nothing more is begun */
    uv_timer_t *timer;
};

/* bulk.c */
void bulk_free(struct bulk *b); /* NULL is fine */
/* The registry has no room for it.  True: it ends VEs, and goes on without rows. */
bool bulk_unrecorded(struct bulk *b);

/* After a crash: the same job goes on with what has no end.  A VE that recovery is at work on
 * already is waited for. */
void bulk_resume(struct ve_node *node, const struct registry_job *rec, bool booted);
/* After a boot of the machine: starts those that start by themselves, the highest priority first,
 * also those that ran when it lost its power. */
void bulk_boot(struct ve_node *node);

/* bulkrun.c */
void bulk_run(struct job *job); /* .run of job_bulk */
/* Those of that label, or all, that a start of many has not begun are not started. */
void bulk_forgo_starts(struct ve_node *node, const char *label);
/* After a crash: a stop was asked for while this one was at work on their starts. */
void bulk_forgo_stopped(struct bulk *b);
void bulk_cancel(struct bulk *b);
void bulk_kill(struct bulk *b);    /* commands that did not listen to that */
#define BULK_CANCELLED "cancelled" /* in the request of one that was cancelled */
/* How it ended, without writing that down. */
void bulk_note(struct bulk_item *item, enum job_state state, int error_kind, const char *error);
/* A job that was begun for the item ends: in the transaction of its end, and after that, with its
 * object, when it is gone. */
void bulk_record(struct bulk_item *item, enum job_state state, const struct registry_job *rec);
void bulk_job_ended(struct bulk_item *item, const json_t *doc);
/* Of one that has ended and is a row now: what became of each VE. */
int bulk_result(struct ve_node *node, int64_t job, json_t **ret, struct err *err);
