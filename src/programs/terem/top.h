/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * top — the table of what VEs use: from the documents of GET /v1/usage to lines of text.
 *
 * I own rates (what two looks have between them), order, filter and layout.  I never ask teremd
 * and never touch the terminal; cmd_top.c does.
 *
 *     struct top t = TOP_NONE;
 *     top_look(&t, usage, now);                     // at each look; t keeps what it needs
 *     top_render(&t, &(struct top_view){.columns = 80, .lines = 24}, &out);
 *     top_done(&t);
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOP_PERIOD_MS 2000
#define TOP_MARK_MS   10000 /* how long a refusal stays marked */
#define TOP_FILTER    64

struct top_row {
    json_int_t id;
    int64_t at;               /* when teremd read it */
    const char *name, *state; /* in the document that top holds */
    double cpu, guarantee;    /* percent of one core; cpu -1: not known yet */
    double pressure[3];       /* cpu, memory, io in percent; -1: this kernel does not tell */
    double read, written;     /* bytes a second; -1: not known */
    double net_in, net_out;
    int64_t memory, limit, pids; /* -1: not counted; of the limit: none */
    int64_t refused;             /* all failcnt together */
    int64_t rose_at;             /* when one rose last while we looked; 0: never */
    int64_t rose;                /* by how much then, for the row that rose most */
    const char *rose_key;        /* while marked that row, else the one that failed most */
    int64_t rose_total;          /* its own failcnt */
    int64_t raw[5];              /* cpu_usec, read, written, net_in_bytes, net_out_bytes */
    const json_t *failed;
};

struct top {
    json_t *doc; /* the last look */
    struct top_row *rows;
    size_t n;
    int64_t at;
    char order; /* one of TOP_ORDERS */
    char filter[TOP_FILTER];
};
#define TOP_NONE     \
    {                \
        .order = 'c' \
    }
#define TOP_ORDERS "cmsitpfn"

struct top_view {
    size_t columns, lines; /* 0: as many as it takes */
    size_t first;          /* row that stands first; corrected when it is beyond the end */
    bool color;
    const char *prompt; /* instead of the line of keys; or NULL */
};

void top_done(struct top *t);
/* Takes a reference of the document. */
int top_look(struct top *t, json_t *usage, int64_t now, struct err *err);
/* The letter of "cpu", "memory" …; 0: there is no such order. */
char top_order(const char *word);
const char *top_order_word(char order);
/* Sorts, filters, lays out.  Returns how many rows fit the filter. */
size_t top_render(struct top *t, struct top_view *view, struct str *out);
/* The document with "cpu_percent", "read_rate", "written_rate", "net_in_rate", "net_out_rate" and
 * "rising" in each; a new reference. */
json_t *top_json(struct top *t);
