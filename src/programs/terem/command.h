/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command — the one table of commands, and reading a command line against it.
 *
 * Dispatch, usage, help, man pages, completion and their tests walk command_table; a command or an
 * option exists by being in it and in no other way.  Each row stands behind the function that it
 * runs.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct cli;
struct args;

/* What a word completes to. */
enum complete {
    COMPLETE_NONE,
    COMPLETE_VES,
    COMPLETE_TEMPLATES,
    COMPLETE_BASES, /* that templates are built from */
    COMPLETE_PROFILES,
    COMPLETE_SNAPSHOTS, /* of the VE that is the first word */
    COMPLETE_CLASSES,
    COMPLETE_ADDRESS_POOLS,
    COMPLETE_PORTS,     /* that are published */
    COMPLETE_PRIVATE,   /* networks */
    COMPLETE_ADDRESSES, /* of pools, that are given or reserved */
    COMPLETE_POOLS,
    COMPLETE_VES_AND_POOLS,
    COMPLETE_JOBS,
    COMPLETE_EVENTS, /* types of them */
    COMPLETE_PARAMS,
    COMPLETE_ASSIGNMENTS, /* key= of a parameter */
    COMPLETE_LABELS,      /* key=value */
    COMPLETE_COMMANDS,    /* first words of commands, groups among them */
    COMPLETE_IN_GROUP,    /* second words of the group that stands before */
    COMPLETE_FILES,
    COMPLETE_WORDS, /* those in option_spec.words */
};

struct option_spec {
    const char *name; /* without "--" */
    char letter;      /* or 0 */
    const char *arg;  /* what stands for its value in the usage; NULL: a switch */
    const char *summary;
    enum complete complete;
    const char *words; /* for COMPLETE_WORDS: "no on-failure always" */
};

/* What may follow the positional words. */
enum rest {
    REST_NONE,
    REST_DASHES, /* a command after "--" */
    REST_FREE,   /* the first word beyond `max`, or "--", begins it; all of it is taken verbatim */
};

struct command {
    const char *name;    /* "start", "template build" */
    const char *summary; /* lower case, no full stop */
    const char *usage;   /* what follows name and options */
    unsigned min, max;   /* of positional words */
    enum rest rest;
    enum complete complete;            /* the first positional word */
    enum complete complete_more;       /* those after it */
    const struct option_spec *options; /* ends with a row without name; or NULL */
    int (*run)(struct cli *cli, const struct args *args, struct err *err);
    const char *detail; /* paragraphs, divided by "\n\n" */
    const char *examples[5];
    const char *status; /* exit status beyond the usual, or NULL */
};

extern const struct command *const command_table[];
extern const size_t command_table_size;
extern const struct option_spec command_global_options[]; /* ends with a row without name */
/* "clone": names of the design that this version does not have; ends with NULL. */
extern const char *const command_later[];
/* What users of other systems type, and what does that here; ends with a row without word. */
struct command_elsewhere {
    const char *word, *here;
};
extern const struct command_elsewhere command_elsewhere[];
/* Refuses a word that is none of the group's, or with NULL begins no command, with what was perhaps
 * meant. */
int command_unknown(const char *group, const char *word, struct err *err);
/* Groups of commands ("template") and what they are about; end with a row without name. */
struct command_group {
    const char *name, *summary;
};
extern const struct command_group command_groups[];

/* A group may be in another: "network class".  Adds the words that may follow a group, or with
 * NULL the first ones of all, each once. */
struct str;
void command_words(struct str *s, const char *group, const char *between);

/* What stands above a command, and those that follow it, where all are listed; end with a row
 * without title. */
struct command_heading {
    const char *title;
    const struct command *first;
};
extern const struct command_heading command_headings[];
/* The title that begins at this command, or NULL. */
const char *command_heading(const struct command *c);

/* Exactly this name; NULL when there is none.  "backup" is both. */
const struct command *command_find(const char *name);
const struct command_group *command_group_find(const char *name);

#define ARGS_MAX 4096 /* words of a command line; more are refused */

struct args {
    const struct command *command;
    const char *group; /* a group stood there and no word of it: command is its list, if any */
    const char **pos;  /* positional words */
    size_t n_pos;
    const char **rest;
    size_t n_rest;
    bool has_rest; /* "--" stood there, or REST_FREE began */
    struct {
        const struct option_spec *spec;
        const char *value;
    } * given;
    size_t n_given;
};

/* Finds the command, its options and its words in argv[1…].  Values point into argv.
 * command is NULL when only options stand there. */
int args_parse(int argc, char **argv, struct args *ret, struct err *err);
void args_done(struct args *a);
bool args_has(const struct args *a, const char *option);
/* The last value given, or NULL. */
const char *args_get(const struct args *a, const char *option);
/* The i-th value of an option that may be repeated; NULL after the last. */
const char *args_each(const struct args *a, const char *option, size_t i);

/* ---- the rows, by file ---- */
typedef const struct command command_row;
/* cmd_publish.c */
extern command_row cmd_publish, cmd_unpublish, cmd_network_ports;
/* cmd_address.c */
extern command_row cmd_network_pool_list, cmd_network_pool_show, cmd_network_pool_create,
    cmd_network_pool_remove, cmd_network_address_list, cmd_network_address_add,
    cmd_network_address_remove, cmd_network_address_move, cmd_network_address_reserve,
    cmd_network_address_release, cmd_network_address_set;
/* cmd_private.c */
extern command_row cmd_network_private_list, cmd_network_private_show, cmd_network_private_create,
    cmd_network_private_remove, cmd_network_private_join, cmd_network_private_leave;
/* cmd_backup.c */
extern command_row cmd_backup;
/* cmd_counters.c */
extern command_row cmd_counters;
/* cmd_create.c */
extern command_row cmd_create, cmd_clone, cmd_set;
/* cmd_events.c */
extern command_row cmd_events;
/* cmd_files.c */
extern command_row cmd_push, cmd_pull;
/* cmd_jobs.c */
extern command_row cmd_jobs_list, cmd_jobs_show, cmd_jobs_wait, cmd_jobs_cancel, cmd_node_stop;
/* cmd_life.c */
extern command_row cmd_start, cmd_stop, cmd_restart, cmd_kill, cmd_pause, cmd_resume, cmd_update,
    cmd_squeeze, cmd_destroy;
/* cmd_list.c */
extern command_row cmd_list, cmd_show;
/* cmd_logs.c */
extern command_row cmd_template_log, cmd_logs;
/* cmd_network.c */
extern command_row cmd_network_show, cmd_class_list, cmd_class_show, cmd_class_add,
    cmd_class_remove;
/* cmd_node.c */
extern command_row cmd_density, cmd_doctor, cmd_params, cmd_node_show, cmd_version;
/* cmd_pool.c */
extern command_row cmd_pool_list, cmd_pool_show, cmd_pool_create, cmd_pool_grow, cmd_pool_remove,
    cmd_pool_move;
/* cmd_profile.c */
extern command_row cmd_profile_list, cmd_profile_show, cmd_profile_create, cmd_profile_set,
    cmd_profile_remove;
/* cmd_restore.c */
extern command_row cmd_restore, cmd_backup_verify, cmd_backup_show;
/* cmd_session.c */
extern command_row cmd_repair, cmd_exec, cmd_enter, cmd_console;
/* cmd_setup.c */
extern command_row cmd_node_setup;
/* cmd_snapshot.c */
extern command_row cmd_snapshot_create, cmd_snapshot_list, cmd_snapshot_show, cmd_snapshot_rename,
    cmd_snapshot_note, cmd_snapshot_rollback, cmd_snapshot_delete, cmd_snapshot_schedule;
/* cmd_template.c */
extern command_row cmd_template_build, cmd_template_update, cmd_template_prune, cmd_template_import,
    cmd_template_list, cmd_template_show, cmd_template_remove;
/* cmd_top.c */
extern command_row cmd_top;
/* cmd_usage.c */
extern command_row cmd_usage;
/* complete.c */
extern command_row cmd_complete;
/* generate.c */
extern command_row cmd_generate;
/* help.c */
extern command_row cmd_help;

/* ---- options that many rows have ---- */
#define END \
    {       \
        0   \
    }
#define OPT_NO_WAIT                                                       \
    {                                                                     \
        "no-wait", 0, NULL, "do not wait: print the job's number and end" \
    }
#define OPT_ALL                                                   \
    {                                                             \
        "all", 'a', NULL, "every VE in a state that this changes" \
    }
#define OPT_LABEL                                                                 \
    {                                                                             \
        "label", 'l', "K=V", "every such VE that has this label", COMPLETE_LABELS \
    }
#define OPT_STOP_ON_FAILURE                                                    \
    {                                                                          \
        "stop-on-failure", 0, NULL, "of many VEs begin no more when one fails" \
    }
#define OPT_ENV                                                                   \
    {                                                                             \
        "env", 'e', "NAME=VALUE", "set an environment variable (may be repeated)" \
    }
#define OPT_USER                                                                \
    {                                                                           \
        "user", 'u', "USER", "run as this user of the VE: a name, or UID[:GID]" \
    }
#define OPT_WORKDIR                                              \
    {                                                            \
        "workdir", 'w', "DIR", "run in this directory of the VE" \
    }
extern const struct option_spec command_no_wait_options[];
