/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * store — STATE/layers and STATE/templates as the room's own files see them.
 *
 *     layers/sha256-HEX/root        the layer's tree
 *     layers/sha256-HEX/layer.json  {"bytes": …, "entries": …}
 *     layers/.new-PID-N/            under construction; its maker holds a flock(2) on it
 *     layers/.old-…                 on its way out
 *     templates/NAME.json
 *
 * The short commit (rename layers, link the record) and every removal hold one exclusive lock, on
 * STATE/templates; so a layer that a record names can never be removed under it.
 */
#pragma once

#include "archive/tree.h"
#include "template/template.h"

struct template_store {
    int layers, templates;
    char layers_path[512]; /* for programs that take only paths (mmdebstrap) */
    char state[512];
};

/* A directory under layers/ that vanishes unless it is committed. */
struct draft {
    struct template_store *store;
    char name[64]; /* ".new-…" */
    int dir;       /* -1: none */
};
int draft_open(struct template_store *s, struct draft *ret, struct err *err);
/* Removes it with all that is in it; harmless when it was committed. */
void draft_drop(struct draft *d);
#define auto_draft __attribute__((cleanup(draft_drop)))
#define DRAFT_NONE ((struct draft){.dir = -1})

/* One layer of a template to be: written and not yet in place, or there before. */
struct layer {
    char digest[TEMPLATE_DIGEST];
    uint64_t bytes, entries;
    struct draft draft; /* dir -1: it was there before */
};

#define LAYER_NONE ((struct layer){.draft = DRAFT_NONE})
static inline void layer_done(struct layer *l)
{
    draft_drop(&l->draft);
}

/* The lock of short commits and of removals; it goes with the descriptor.  wait false: ERR_BUSY
 * when somebody has it. */
int store_lock(struct template_store *s, bool wait, int *ret_fd, struct err *err);

/* Is the layer there?  Fills bytes and entries. */
int layer_find(struct template_store *s, const char *digest, struct layer *ret, struct err *err);

/* Makes everything durable, puts the layers in place and writes the record under rq's name, with
 * time, revision and recipe.  A name in use: ERR_EXISTS, unless it is to be replaced.  On failure
 * nothing has changed. */
int store_commit(struct template_store *s, struct template *t, const struct template_request *rq,
                 struct layer *layers, size_t n, struct err *err);
/* The same without a record: nobody but the caller knows of the layers yet. */
int store_place(struct template_store *s, struct layer *layers, size_t n, struct err *err);
/* Refuses a bad name, and one in use (before the long work begins), or, when it is to be replaced,
 * one that is not there. */
int store_check_name(struct template_store *s, const struct template_request *rq, struct err *err);
/* What an import may use: free space less a reserve; the request's own limits if lower. */
int store_limits(struct template_store *s, const struct template_request *rq,
                 struct tree_limits *ret, struct err *err);
