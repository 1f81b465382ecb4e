/* SPDX-License-Identifier: GPL-2.0-or-later */
/* layers — templates that VEs stand on, and layers that nobody does.  Inside ve only. */
#pragma once

#include "ve/internal.h"

/* template.c */
/* What of a request stands in the record, so that the template can be made again. */
char *ve_recipe_of(const json_t *options);
/* A request that does so; the caller's. */
int ve_template_recipe(struct ve_node *node, const char *name, json_t **ret, struct err *err);
/* Puts over it what is to be different from now on: fields of an update's request, or NULL. */
int ve_template_recipe_change(json_t *recipe, const char *name, const json_t *changes,
                              struct err *err);

/* Refused while VEs or other templates are made from it, with the names of some. */
int ve_template_check_unused(struct ve_node *node, const struct template *t, struct err *err);

/* Are these the layers that it has now? */
bool ve_layers_are(const json_t *layers, const struct template *t);

/* build.c: a template on another one's layers */
int ve_build_begin(struct ve_node *node, const char *name, const json_t *options, int64_t *ret_job,
                   struct err *err);

/* garbage.c */
/* Soon: renames away the layers that nobody stands on, and deletes them and what destroy renamed
 * away in a process of its own at idle priority; trees of VEs that began to run are written to the
 * disk by it before. */
void ve_trash_later(struct ve_node *node);
/* Soon: has pools that count at their next commit commit. */
void ve_count_soon(struct ve_node *node);
void ve_trash_ended(struct ve_node *node, int status); /* that process */
/* The same for layers alone, within the job; returned from its done(). */
int ve_sweep(struct job *job);
