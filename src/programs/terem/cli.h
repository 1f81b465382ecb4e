/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cli — what every command is handed, and the few things that they all do.
 *
 * Commands return 0 or a negative kind with the sentence in *err; main() prints it once.  A
 * command that told its failures itself returns with err->text empty.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "base/place.h"
#include "base/str.h"
#include "client.h"

#include <stdbool.h>
#include <stddef.h>

struct args;

struct cli {
    struct place place;
    bool json, quiet;
    bool out_tty;  /* standard output is a terminal */
    bool err_live; /* standard error is a terminal that can redraw a line */
    bool color;    /* standard output may be coloured: a terminal, and no NO_COLOR */
    int status;    /* exit status that overrides the error's; -1: none */
    int died_of;   /* 0, or the signal that ended the work: main() dies of it */
};

/* One request and its JSON answer (ret may be NULL). */
int cli_call(struct cli *cli, const char *method, const char *path, const json_t *body,
             json_t **ret, struct err *err);
/* Adds "/v1/ves/NAME" and suffix; refuses what cannot be a name. */
int cli_ve_path(struct str *path, const char *name, const char *suffix, struct err *err);
int cli_template_path(struct str *path, const char *name, struct err *err);
/* Adds "/v1/pools/NAME" of collection "/v1/pools"; noun ("pool") begins the error. */
int cli_noun_path(struct str *path, const char *collection, const char *noun, const char *name,
                  struct err *err);
/* DELETE on it, and "NOUN NAME: removed". */
int cli_remove(struct cli *cli, const char *collection, const char *noun, const char *name,
               struct err *err);
/* Splits "key=value" into a new key and a pointer to the value; what names it in the error. */
int cli_assignment(const char *text, const char *what, char **ret_key, const char **ret_value,
                   struct err *err);

/* Adds "?label=tier%3Dweb" to a path without a query; label NULL: nothing. */
int cli_label_query(struct str *path, const char *label, struct err *err);
/* VEs, with these members alone ("name,usage.memory"; NULL: all): what is not asked for is not read
 * from the kernel.  label: NULL for all VEs.  By name as people read it where the name is asked
 * for; with --json in the order of the API. */
int cli_list_ves(struct cli *cli, const char *label, const char *fields, json_t **ret,
                 struct err *err);

/* Puts "memory.limit=512M" into params, checked by our own table; "key=default" puts null where
 * `may_default`. */
int cli_param_put(json_t *params, const char *text, bool may_default, struct err *err);

/* Puts what each --env and --label says into the object "env" or "labels" of body, which is made if
 * it is not there. */
int cli_env_put(json_t *body, const struct args *a, struct err *err);
int cli_labels_put(json_t *body, const struct args *a, struct err *err);

/* Puts the value of --key, if it was given (not NULL): texts of the command line may be any bytes,
 * and JSON only takes UTF-8. */
int cli_text_put(json_t *o, const char *key, const char *value, struct err *err);
/* What teremd opens by itself: a relative path is meant from our directory.  NULL: *err says why.
 */
char *cli_absolute(const char *path, struct err *err);

/* Reads the answer to the question that stands on standard error: did they say yes? */
bool cli_agreed(void);

/* Puts --option, if it was given, into body as "option": seconds, of which it must be a whole
 * number. */
int cli_seconds_put(json_t *body, const char *option, const struct args *a, struct err *err);
/* Puts --timeout, if it was given, into body as "timeout": seconds, rounded up. */
int cli_timeout_put(json_t *body, const struct args *a, struct err *err);

/* Adds a sentence, without its object, where a VE (as GET /v1/ves/NAME tells of it) stands on an
 * earlier revision of its template than the present one; else nothing. */
void cli_add_outdated(struct cli *cli, struct str *s, const json_t *ve);

/* "hourly (24 kept), daily (7 kept)", or "none". */
void cli_add_schedule(struct str *s, const json_t *schedule);

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
/* What a request answered: with --json the document, else the sentence. */
int cli_answer(const struct cli *cli, const json_t *doc, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Columns of the terminal at fd; 80 when it is none. */
size_t cli_columns(int fd);

/* A list of the API as a table; with --quiet, only the members "name".  On a terminal an empty one
 * is `empty`: what there is not, and what makes one. */
struct text_table;
struct cli_list {
    const char *path;
    const char *heads[8]; /* NULL after the last if fewer */
    unsigned right;       /* columns, as in text_table */
    bool cut;             /* to the width of the terminal */
    const char *empty;
    void (*add)(struct text_table *t, const json_t *item); /* the cells of one */
};
int cli_list(struct cli *cli, const struct cli_list *l, struct err *err);
/* A cell with a member's size, or "-" where it has none. */
void cli_size_cell(struct text_table *t, const json_t *o, const char *key);
/* cmd_private.c: NETWORK, IPV4, IPV6, OWNER, MEMBERS. */
void private_cells(struct text_table *t, const json_t *network);
/* Adds a table, or, on a terminal, the sentence that stands for one without rows (NULL: it has
 * some); with --quiet nothing. */
void cli_add_table(const struct cli *cli, struct str *out, const struct text_table *t, bool cut,
                   const char *empty);

/* Members of API objects: "" or 0 when absent or of another type. */
const char *cli_text(const json_t *o, const char *key);
const char *cli_text_or(const json_t *o, const char *key, const char *otherwise);
json_int_t cli_int(const json_t *o, const char *key);
bool cli_is_null(const json_t *o, const char *key); /* or absent */
