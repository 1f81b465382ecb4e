/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pools — the pools of a node, and the tree of a VE in one.  Inside ve only. */
#pragma once

#include "ve/fill.h"
#include "ve/internal.h"

#define POOLS_MAX    256
#define POOL_DEFAULT "default"
struct ve_pool { /* pool.c */
    char name[NAME_SIZE];
    json_t *spec;              /* of its row */
    struct storage_pool *pool; /* NULL: it cannot be opened, and `why` says why */
    struct err why;
    struct fill fill;    /* at the last look */
    int64_t full_told;   /* ms, when its last pool.full went out; 0: it is not full */
    int64_t grow_failed; /* ms, when it could not grow by itself the last time */
};

/* pool.c */
int ve_pools_open(struct ve_node *node, struct err *err);
void ve_pools_close(struct ve_node *node);
/* Every VE is stopped: takes the mounts of those in images away. */
void ve_pools_unmount(struct ve_node *node);
const char *ve_pool_name(const struct ve *ve);
/* The open pool that the VE's tree and saved trees are in; NULL: it cannot be opened.  Jobs of a
 * kind that needs_pool, and what is done after ve_pool_need(), have one. */
struct storage_pool *ve_pool(const struct ve *ve);
/* ERR_UNAVAILABLE with the reason; tries to open it again. */
int ve_pool_need(const struct ve *ve, struct err *err);
struct ve_pool *ve_pool_find(const struct ve_node *node, const char *name);
int ve_pool_find_err(struct ve_node *node, const char *name, struct ve_pool **ret, struct err *err);
int ve_pool_open_now(struct ve_node *node, struct ve_pool *p, struct err *err);
/* Opens one that could not be opened before, and puts it in order. */
int ve_pool_try(struct ve_node *node, struct ve_pool *p, struct err *err);
struct ve_pool_spec { /* of a row's JSON, with absolute paths */
    struct storage_spec storage;
    char *path, *image;
};
int ve_pool_spec(const struct ve_node *node, const json_t *spec, struct ve_pool_spec *ret,
                 struct err *err);
void ve_pool_spec_done(struct ve_pool_spec *s);
/* Into the table, not opened; steals spec. */
int ve_pool_add(struct ve_node *node, const char *name, json_t *spec, struct ve_pool **ret,
                struct err *err);
/* The disk rows of VEs are written for the disk that it is on, too. */
void ve_pool_use_disk(struct ve_node *node, const struct ve_pool *p);
int ve_pool_save(struct ve_node *node, const struct ve_pool *p, bool fresh, struct err *err);
void ve_pool_forget(struct ve_node *node, struct ve_pool *p); /* closes it */
/* Of one that was not made whole: its files and its row go, if they can. */
void ve_pool_take_back(struct ve_node *node, struct ve_pool *p);
/* Of the file system that an image lies, or will lie, in. */
int ve_pool_host_free(const char *image, uint64_t *ret_free, uint64_t *ret_size, struct err *err);
/* Its pool is open and has no tree of it. */
bool ve_tree_is_missing(const struct ve *ve);
void ve_tree_lost(struct ve *ve, struct job *job); /* makes it broken, in a transaction */
/* Its tree is known to be on the disk, and something is in it: one that is missing at recovery is
 * lost.  Until then a power cut may take it, and it is made again, empty. */
bool ve_tree_is_filled(const struct ve *ve);
void ve_tree_filled(struct ve *ve); /* in a transaction of its own */
/* Makes an open pool agree with the registry: what is nobody's goes to the trash, and VEs whose
 * trees are missing are broken or, if they were never used, get them again. */
void ve_pool_recover(struct ve_node *node, struct ve_pool *p);
void ve_pools_recover(struct ve_node *node);

/* poolwork.c: the row of a new pool from a request; checks all that can be told before it is
 * made. */
int ve_pool_new_spec(struct ve_node *node, const char *name, const json_t *request, json_t **ret,
                     struct err *err);

/* poolfirst.c: the row of the pool "default"; and its files. */
int ve_pool_first(struct ve_node *node, struct err *err);
int ve_pool_make_first(struct ve_node *node, struct ve_pool *p, struct err *err);

/* poolgrow.c: looks at pools from now on; again after one came or went. */
void ve_pool_watch(struct ve_node *node);
/* The same, and as soon as the loop turns: something begins that may write a lot. */
void ve_pool_look(struct ve_node *node);
/* Of a pool one such part stays free: for the registry, and for whoever frees. */
#define POOL_ROOM_PARTS 50
/* In a worker: waits until this much is free, while what was removed before goes. */
void ve_pool_wait(struct job *job, struct storage_pool *pool, uint64_t want);
/* In a worker: what a copy of the VE's tree takes in this pool.  One that runs stands still while
 * its tree is walked, where nobody counts. */
int ve_tree_size(struct ve *ve, struct storage_pool *to, uint64_t *ret, struct err *err);
/* In a worker: room for so much more in it, or ERR_EXHAUSTED with what to do.  Its image grows if
 * it must: *ret_size is how large it is then, else it stays as it was. */
int ve_pool_make_room(struct job *job, struct ve_pool *p, uint64_t want, uint64_t *ret_size,
                      struct err *err);
/* In teremd, in a transaction: what the worker said of that in result[0], for a pool that may be
 * NULL by now; a failure is logged. */
void ve_pool_note_growth(struct job *job, struct ve_pool *p);
/* In teremd, in a transaction: the image has grown. */
int ve_pool_grown(struct job *job, struct ve_pool *p, uint64_t size, bool by_itself,
                  struct err *err);

/* poolinfo.c */
void ve_pool_doctor(const struct ve_node *node, const struct ve_pool *p, ve_check_fn check,
                    json_t *list);
