/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cli — what every command is handed, and the few things that they all do.
 *
 * Commands return 0 or a negative kind with the sentence in *err; main() prints it once.  A
 * command that told its failures itself returns with err->text empty.
 */
#pragma once

#include "base/err.h"
#include "base/place.h"
#include "base/str.h"
#include "client.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct cli {
    struct place place;
    bool json, quiet;
    bool out_tty;  /* standard output is a terminal */
    bool err_live; /* standard error is a terminal that can redraw a line */
    bool color;    /* standard output may be coloured: a terminal, and no NO_COLOR */
    int status;    /* exit status that overrides the error's; -1: none */
};

#define auto_json __attribute__((cleanup(cli_json_decref)))
static inline void cli_json_decref(json_t **j)
{
    json_decref(*j);
    *j = NULL;
}

/* One request and its JSON answer (ret may be NULL). */
int cli_call(struct cli *cli, const char *method, const char *path, const json_t *body,
             json_t **ret, struct err *err);
/* Adds "/v1/ves/NAME" and suffix; refuses what cannot be a name. */
int cli_ve_path(struct str *path, const char *name, const char *suffix, struct err *err);
int cli_template_path(struct str *path, const char *name, struct err *err);
/* Splits "key=value" into a new key and a pointer to the value; what names it in the error. */
int cli_assignment(const char *text, const char *what, char **ret_key, const char **ret_value,
                   struct err *err);

/* Adds "?label=tier%3Dweb" to a path without a query; label NULL: nothing. */
int cli_label_query(struct str *path, const char *label, struct err *err);

/* Puts "memory.limit=512M" into params, checked by our own table; "key=default" puts null where
 * `may_default`. */
int cli_param_put(json_t *params, const char *text, bool may_default, struct err *err);

/* Writes text to standard output (ERR_SYSTEM when that fails, for instance on a full disk). */
int cli_out(const struct str *s, struct err *err);
/* A document to standard output: indented, safe on a terminal. */
int cli_out_json(const struct cli *cli, const json_t *doc, struct err *err);
/* The same on one line, at once: for streams. */
int cli_out_json_line(const struct cli *cli, const json_t *doc, struct err *err);
/* "terem: sentence" to standard error, escaped. */
void cli_complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* One escaped line to standard output unless --quiet or --json. */
void cli_say(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Columns of the terminal at fd; 80 when it is none. */
size_t cli_columns(int fd);

/* Members of API objects: "" or 0 when absent or of another type. */
const char *cli_text(const json_t *o, const char *key);
const char *cli_text_or(const json_t *o, const char *key, const char *otherwise);
json_int_t cli_int(const json_t *o, const char *key);
bool cli_is_null(const json_t *o, const char *key); /* or absent */

/* ---- the commands, by file ---- */
struct args;
typedef int cli_run(struct cli *cli, const struct args *args, struct err *err);
cli_run cmd_doctor, cmd_params, cmd_version, cmd_node_show;           /* cmd_node.c */
cli_run cmd_counters;                                                 /* cmd_counters.c */
cli_run cmd_events;                                                   /* cmd_events.c */
cli_run cmd_jobs_list, cmd_jobs_show, cmd_jobs_cancel, cmd_node_stop; /* cmd_jobs.c */
cli_run cmd_template_build, cmd_template_import, cmd_template_list;   /* cmd_template.c */
cli_run cmd_template_show, cmd_template_remove;
cli_run cmd_profile_list, cmd_profile_show, cmd_profile_create; /* cmd_profile.c */
cli_run cmd_profile_set, cmd_profile_remove;
cli_run cmd_create, cmd_set;                                                /* cmd_create.c */
cli_run cmd_start, cmd_stop, cmd_restart, cmd_kill, cmd_pause, cmd_squeeze; /* cmd_life.c */
cli_run cmd_resume, cmd_destroy;
cli_run cmd_list, cmd_show;               /* cmd_list.c */
cli_run cmd_top;                          /* cmd_top.c */
cli_run cmd_exec, cmd_enter, cmd_console; /* cmd_session.c */
cli_run cmd_logs;                         /* cmd_logs.c */
cli_run cmd_push, cmd_pull;               /* cmd_files.c */
cli_run cmd_help;                         /* help.c */
cli_run cmd_generate;                     /* generate.c */
cli_run cmd_complete;                     /* complete.c */
