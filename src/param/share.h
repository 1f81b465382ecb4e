/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * share — equal sets of parameters are kept once.
 *
 * I own a shelf: each set that somebody holds, and how many do.  I use param.h.  I never change a
 * set: who wants another value takes another set.
 *
 * A set is 3.6 KB and most VEs of a node have equal ones.
 *
 * Synopsis
 *     struct param_shelf shelf = {0};
 *     const struct param_set *mine = NULL;
 *     if (param_share(&shelf, &set, &mine, err) < 0) …
 *     param_unshare(&shelf, mine);
 *     param_shelf_done(&shelf);
 */
#pragma once

#include "param/param.h"

struct param_shared;

struct param_shelf {
    struct param_shared **v;
    size_t n, cap;
};

/* The set on the shelf that equals this one, in what was given, too; put there when it is not. */
int param_share(struct param_shelf *shelf, const struct param_set *set,
                const struct param_set **ret, struct err *err);
/* Gives back what param_share() gave; NULL is fine. */
void param_unshare(struct param_shelf *shelf, const struct param_set *set);
/* When everything was given back. */
void param_shelf_done(struct param_shelf *shelf);
