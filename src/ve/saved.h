/* SPDX-License-Identifier: GPL-2.0-or-later */
/* saved — trees that are kept beside a VE's own: snapshots and leases.  Inside ve only. */
#pragma once

#include "ve/internal.h"

struct ve_snapshot {              /* snapshot.c */
    struct registry_snapshot rec; /* rec.spec is NULL */
    json_t *spec;
};

/* snapshot.c */
struct ve_snapshot *snapshot_by_id(const struct ve *ve, int64_t id);
int snapshot_find(struct ve *ve, const char *name, struct ve_snapshot **ret, struct err *err);
int snapshot_name_check(struct ve *ve, const char *name, struct err *err);
/* Number of the one that the VE stands on; 0: none. */
int64_t snapshot_current(const struct ve *ve);
bool snapshot_has_tree(const struct ve *ve, const struct ve_snapshot *s);
/* What is written of one that is taken now. */
json_t *snapshot_spec(const struct ve *ve, const char *note, const char *schedule);
/* A VE's spec becomes what the snapshot's tree needs. */
void snapshot_put_back(json_t *spec, const struct ve_snapshot *s);
int snapshot_save(struct ve *ve, struct ve_snapshot *s, struct err *err); /* its row */
/* The VE has it from now on; takes its spec. */
int snapshot_keep(struct ve *ve, const struct ve_snapshot *s, struct err *err);
/* Undoes that in memory; not there: fine. */
void snapshot_unkeep(struct ve *ve, int64_t id);
/* Does its tree need what is in this spec of a VE? */
bool snapshot_is_like(const struct ve_snapshot *s, const json_t *spec);
/* Commits, and removes the saved tree; s is not valid any more. */
int snapshot_drop(struct ve *ve, struct ve_snapshot *s, struct err *err);
json_t *snapshot_tell(const struct ve *ve, const struct ve_snapshot *s);
void snapshots_free(struct ve *ve);
int snapshots_remove_trees(struct ve *ve, struct err *err);
int snapshots_load(struct ve_node *node, struct err *err); /* after the VEs */
void snapshots_recover(struct ve_node *node, const char *pool_name, struct storage_pool *pool);

/* snapshot_job.c */
/* For whoever copies its tree: a VE that runs is frozen, one that is paused or stopped stands
 * still already.  Not shown as its state; a crash of teremd thaws it (recover.c). */
int ve_still(struct ve *ve, bool *ret_frozen, struct err *err);
/* Saves its tree while it stands still, and tells why it does not answer where that takes long. */
int ve_save_still(struct ve *ve, int64_t saved, struct storage_step *step, struct err *err);
void ve_go_on(struct ve *ve); /* thaws one that runs, whether it was frozen or not */
/* At recovery: begins a rollback again that was interrupted; false: there was none. */
bool snapshot_redo(struct ve *ve);

/* schedule.c */
/* {"hourly":24,…} or null into spec. */
int schedule_set(json_t *spec, const json_t *value, struct err *err);
/* Begins what is due, and arms the timer for what is due next. */
void schedule_run(struct ve_node *node);
void schedule_taken(struct ve *ve, const char *kind);
void schedule_failed(struct ve *ve, const char *kind, const char *why);

/* backup.c */
struct ve_snapshot *backup_lease(const struct ve *ve, int64_t id);
/* The pool that it lies in: the VE may have moved to another one since. */
const char *backup_lease_pool(const struct ve *ve, const struct ve_snapshot *lease);
/* The same, by number; NULL: there is no such lease, or its pool is not open. */
struct storage_pool *backup_tree_pool(const struct ve *ve, int64_t id);
/* Takes its spec. */
int backup_lease_add(struct ve *ve, const struct ve_snapshot *s, struct err *err);
void backup_leases_free(struct ve *ve);
/* Drops what was kept for interrupted backups and is too old. */
void backup_expire(struct ve_node *node);
void backup_end(struct ve_node *node);
