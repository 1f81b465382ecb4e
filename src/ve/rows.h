/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rows — parameters of VEs: where they come from, who admits, enforces and counts them.  Those of
 * the network: net.h.  Inside ve only. */
#pragma once

#include "ve/internal.h"

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
/* here.c: can this node enforce each of these values in some VE, whatever else that has? */
int ve_params_here(struct ve_node *node, const json_t *params, struct err *err);
/* Writes what differs into a VE that runs; on failure the old values are put back.  old_set NULL:
 * every row, whatever stands there (after a crash in the middle). */
int ve_apply(struct ve *ve, const struct param_set *old_set, const struct param_set *new_set,
             bool force, struct err *err);
/* Is there room below the new limits?  Not: ERR_STATE and what would happen; nothing is changed. */
int ve_apply_room(struct ve *ve, const struct param_set *new_set, struct err *err);
json_t *ve_apply_restart_rows(const struct param_set *set);
json_t *ve_apply_pending(struct ve *ve);

/* counter.c: all sources, of a VE that runs. */
int ve_counters_read(struct ve *ve, struct param_counters *ret, struct err *err);
/* Around reading those of many VEs: what is the same for all is asked once. */
void ve_counters_all(struct ve_node *node, bool on);
/* network: those of the network, too, for which the table of all connections is read. */
int ve_counters_read_some(struct ve *ve, bool network, struct param_counters *ret, struct err *err);

/* usage.c */
/* Beside RESOURCE_…: what is to be read of a VE's use. */
enum usage_part {
    USAGE_DISK = RESOURCE_ALL + 1, /* by disk_usage(), whether it runs or not */
    USAGE_NET = USAGE_DISK << 1,
    USAGE_CLASSES = USAGE_DISK << 2,
    USAGE_ALL = (USAGE_DISK << 3) - 1,
};
/* The members of "usage", and what has to be read for those whose bits are set. */
const char *ve_usage_member(size_t i); /* NULL: there are no more */
unsigned ve_usage_parts(uint64_t wanted);
/* Without its counters.  false: it does not run, or has just ended. */
bool ve_usage_read(struct ve *ve, unsigned parts, const struct storage_usage *disk,
                   struct ve_sample *ret);
json_t *ve_usage_json(struct ve *ve, uint64_t wanted, const struct ve_sample *s);
/* Around many VEs: the network is asked once for all. */
void ve_traffic_load(struct ve_node *node, unsigned parts);
void ve_traffic_drop(struct ve_node *node);
/* Its root has deleted eth0; it runs. */
bool ve_cable_deleted(const struct ve *ve);

/* oversell.c */
json_t *ve_oversell_json(const struct ve_node *node);

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

/* bpf.c */
/* Loads the programs or finds them; what this kernel lacks is no failure. */
int ve_bpf_begin(struct ve_node *node, struct err *err);
bool ve_bpf_tells_forks(const struct ve_node *node);
void ve_bpf_quotas(struct ve_node *node, bool on); /* what disk quotas refuse is counted, soon */
bool ve_bpf_child_ended(struct ve_node *node, pid_t pid);
void ve_bpf_listen(struct ve_node *node); /* from then on refusals are events */
void ve_bpf_end(struct ve_node *node);    /* the programs stay */
void ve_bpf_remove(struct ve_node *node); /* when this process ends they go */
int ve_bpf_check(struct ve_node *node, const struct param_set *set, struct err *err);
int ve_bpf_apply(struct ve *ve, const struct param_set *old_set, const struct param_set *new_set,
                 bool force, struct err *err);
/* guard: its namespaces have their limits, and the VE's first program comes next. */
int ve_bpf_birth(struct ve *ve, const struct param_set *set, bool guard, struct err *err);
void ve_bpf_forget(struct ve_node *node, int64_t id);
void ve_bpf_counters_all(struct ve_node *node, bool on);
int ve_bpf_counters(struct ve *ve, struct param_counters *list, struct err *err);
/* Where the row `files` is not counted it is RLIMIT_NOFILE of each new process. */
void ve_bpf_files(const struct ve *ve, struct container_limits *limits);
/* What of a row works here, and why no more, when not all of it does; else writes nothing. */
void ve_bpf_partly(const struct ve_node *node, const struct param_row *row, char *buf, size_t size);
void ve_bpf_doctor(const struct ve_node *node, ve_check_fn check, json_t *list);

/* disk.c: the rows disk.* */
struct statfs_disk;
/* Can the pool of this name hold them? */
int ve_disk_check(struct ve_node *node, const char *pool, const struct param_set *set,
                  struct err *err);
/* The same for a VE that is to move to it. */
int ve_disk_check_move(const struct ve *ve, const char *pool, struct err *err);
/* The same for a VE that is being made, which can still choose its pool. */
int ve_disk_check_new(struct ve_node *node, const char *pool, const struct param_set *set,
                      struct err *err);
bool ve_disk_differs(const struct param_set *a, const struct param_set *b);
/* A back end of apply.c, of VEs that are stopped, too. */
int ve_disk_apply(struct ve *ve, const struct param_set *old_set, const struct param_set *new_set,
                  bool force, struct err *err);
/* Writes what is in force to the VE's tree: whenever it has a tree anew. */
int ve_disk_limit(struct ve *ve, struct err *err);
/* The same with some room above, until ve_disk_limit() is called: an overlay over a full tree would
 * be read-only, and nobody could delete anything. */
int ve_disk_room(struct ve *ve, struct err *err);
/* Its calls of statfs(2) are answered by us; and what they are told, false: nothing. */
bool ve_disk_tells(const struct ve *ve);
bool ve_disk_view(const struct ve *ve, struct statfs_disk *ret);
int ve_disk_counters(struct ve *ve, struct param_counters *list, struct err *err);
/* Why its pool does not tell what is used of this row; NULL: it does, or it is no row of disks. */
const char *ve_disk_uncounted(const struct ve *ve, const struct param_row *row);
json_t *ve_disk_json(const struct ve *ve, const struct storage_usage *usage);
/* After every commit that changed parameters or VEs, and when one runs. */
void ve_disk_settle(struct ve_node *node);
void ve_disk_changed(struct ve *ve); /* the same, of one whose own rows changed */

/* grace.c: the soft halves */
void ve_grace_settle(struct ve_node *node);
void ve_grace_begin(struct ve_node *node);
