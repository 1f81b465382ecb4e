/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bulk — the same to many VEs, as one job of teremd: shows how far it is, tells each failure by
 * name, and what became of all.
 */
#pragma once

#include "cli.h"
#include "command.h"
#include "work.h"

struct bulk {
    const char *verb; /* as POST /v1/bulk has it */
    struct work_words words;
    const json_t *options;    /* or NULL */
    const char *const *names; /* of the VEs; NULL: those of --all or of label_option */
    size_t n;
    const char *label_option;
    bool silent; /* no line for a VE that succeeded, nor for all */
    /* NULL, or: tells more of what became of a VE (its item of the job, docs/api.md). */
    int (*item)(struct cli *cli, const json_t *item, struct err *err);
};

/* 1: --all, that option or more than one of the first `names` words: many VEs; 0: one; ERR_USAGE:
 * none, or not one of these alone. */
int bulk_is_meant(const struct args *a, size_t names, const char *label_option, struct err *err);
int bulk_run(struct cli *cli, const struct args *a, const struct bulk *bulk, struct err *err);
/* Waits for one that was begun before, of which path tells; of bulk: verb, words, silent, item. */
int bulk_wait(struct cli *cli, const char *path, const struct bulk *bulk, struct err *err);

/* What is said of start, stop, … (cmd_life.c), and of exec (cmd_session.c), for who waits again for
 * such a job: words and item; of another verb nothing is changed. */
void life_bulk(const char *verb, struct bulk *bulk);
extern const struct bulk exec_bulk;
