/* SPDX-License-Identifier: GPL-2.0-or-later */
/* beside — what stands beside VEs that run, serves them and hears of them.  Inside ve only. */
#pragma once

#include "ve/internal.h"

/* keeper.c: begins to watch for the end of terem-keep; what follows is its own affair. */
void keeper_watch(struct ve_node *node);
void keeper_unwatch(struct ve_node *node);

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
/* Its limits of the disk have: the next call is told so. */
void answer_disk_changed(struct ve *ve);

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
void lxcfs_recovered(struct ve_node *node); /* the VEs are known: a new one serves them, too */
/* The VE runs.  served_by: what lxcfs_pid() was when its start began; another serves it since. */
void lxcfs_started(const struct ve *ve, pid_t served_by);
int lxcfs_dir(struct ve_node *node);   /* descriptor of its mount, or -1 */
pid_t lxcfs_pid(struct ve_node *node); /* 0: it does not run */
void lxcfs_end(struct ve_node *node, bool stop);
bool lxcfs_child_ended(struct ve_node *node, pid_t pid);
const char *lxcfs_state(struct ve_node *node); /* NULL: */
const char *lxcfs_missing(struct ve_node *node, char *buf, size_t size);

/* refusal.c: refusals of cgroups, where bpf.c does not tell of them */
void refusal_listen(struct ve_node *node); /* somebody listens to events from now on */
void refusal_end(struct ve_node *node);
/* It runs, or its limits have changed to these. */
void refusal_watch(struct ve *ve, const struct param_set *set);
void refusal_unwatch(struct ve *ve);

/* density.c: nobody is to be told any more */
void density_end(struct ve_node *node);

/* oom.c: tells of processes that were ended for want of memory.  instance: name of its cgroup.
 * Without the log only those that Terem ended itself. */
int oom_begin(struct ve_node *node, const char *instance, struct err *err);
void oom_end(struct ve_node *node);
