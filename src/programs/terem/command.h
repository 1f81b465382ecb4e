/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * command — the one table of commands, and reading a command line against it.
 *
 * Dispatch, usage, help, man pages, completion and their tests walk command_table; a command or an
 * option exists by being a row here and in no other way.
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
    COMPLETE_PROFILES,
    COMPLETE_JOBS,
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

extern const struct command command_table[];
extern const size_t command_table_size;
extern const struct option_spec command_global_options[]; /* ends with a row without name */
/* "snapshot": names of the design that this version does not have; ends with NULL. */
extern const char *const command_later[];
/* Groups of commands ("template") and what they are about; end with a row without name. */
struct command_group {
    const char *name, *summary;
};
extern const struct command_group command_groups[];

/* Exactly this name; NULL when there is none. */
const struct command *command_find(const char *name);

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
