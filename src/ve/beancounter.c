/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ve/beancounter.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <inttypes.h>

#define PAGE      4096u
#define UNLIMITED INT64_MAX

/* The old rows in their old order (kernel/bc/beancounter.c of the 2.6.32 kernels).  A NULL is
 * nothing: 0 held, no limit, and never a limit of 0, by which tools divide.  One refusal is counted
 * in one row. */
static const struct old {
    const char *name;
    bool pages;
    const char *held, *more_held; /* the sum of the two */
    const char *barrier;          /* NULL: as the limit */
    const char *limit;
    const char *failed;
} rows[] = {
    {"kmemsize", false, "memory.kernel", NULL, NULL, "memory.kernel", "memory.kernel"},
    {"lockedpages", true, "memory.locked", NULL, NULL, "memory.locked", "memory.locked"},
    {"privvmpages", true, "memory.limit", NULL, "memory.soft", "memory.limit", NULL},
    {"shmpages", true, "memory.shared", NULL, NULL, "memory.shared", "memory.shared"},
    {"dummy", false, NULL, NULL, NULL, NULL, NULL},
    {"numproc", false, "processes", NULL, NULL, "processes", "processes"},
    {"physpages", true, "memory.limit", NULL, NULL, "memory.limit", "memory.limit"},
    {"vmguarpages", true, NULL, NULL, "memory.guarantee", NULL, NULL},
    {"oomguarpages", true, "memory.limit", "swap.limit", "memory.guarantee", NULL, NULL},
    {"numtcpsock", false, "sockets.tcp", NULL, NULL, "sockets.tcp", "sockets.tcp"},
    {"numflock", false, "file-locks", NULL, NULL, "file-locks", "file-locks"},
    {"numpty", false, "ptys", NULL, NULL, "ptys", "ptys"},
    {"numsiginfo", false, "signals", NULL, NULL, "signals", "signals"},
    /* The kernel counts the memory of all sockets as one. */
    {"tcpsndbuf", false, "memory.sockets", NULL, NULL, "memory.sockets", "memory.sockets"},
    {"tcprcvbuf", false, NULL, NULL, NULL, NULL, NULL},
    {"othersockbuf", false, NULL, NULL, NULL, NULL, NULL},
    {"dgramrcvbuf", false, NULL, NULL, NULL, NULL, NULL},
    {"numothersock", false, "sockets.other", NULL, NULL, "sockets.other", "sockets.other"},
    {"dcachesize", false, NULL, NULL, NULL, NULL, NULL}, /* within kmemsize */
    {"numfile", false, "files", NULL, NULL, "files", "files"},
    {"dummy", false, NULL, NULL, NULL, NULL, NULL},
    {"dummy", false, NULL, NULL, NULL, NULL, NULL},
    {"dummy", false, NULL, NULL, NULL, NULL, NULL},
    {"numiptent", false, "firewall.rules", NULL, NULL, "firewall.rules", "firewall.rules"},
    {"swappages", true, "swap.limit", NULL, NULL, "swap.limit", "swap.limit"},
};

static const struct param_counter *find(const struct param_counters *list, const char *key)
{
    for (size_t i = 0; key && i < list->n; i++)
        if (str_eq(list->c[i].row->key, key))
            return &list->c[i];
    return NULL;
}

static uint64_t used(const struct old *o, struct param_count c)
{
    uint64_t n = !c.known ? 0 : o->pages ? c.n / PAGE + (c.n % PAGE != 0) : c.n;
    return n > UNLIMITED ? UNLIMITED : n;
}

static uint64_t sum(uint64_t a, uint64_t b)
{
    return a > UNLIMITED - b ? UNLIMITED : a + b;
}

static uint64_t bound(const struct old *o, const struct param_set *set, const char *key)
{
    const struct param_row *row = key ? param_find(key) : NULL;
    if (!row)
        return UNLIMITED;
    struct param_value v = param_set_get(set, key);
    /* A row that only counts bounds nothing. */
    if (v.unlimited || row->kind == PARAM_COUNTER || v.n >= UNLIMITED)
        return UNLIMITED;
    return o->pages ? v.n / PAGE : v.n;
}

static void print_row(struct str *s, const struct old *o, const struct param_set *set,
                      const struct param_counters *list)
{
    const struct param_counter *c = find(list, o->held), *m = find(list, o->more_held),
                               *f = find(list, o->failed);
    uint64_t held = c ? used(o, c->held) : 0, maxheld = c ? used(o, c->maxheld) : 0;
    uint64_t failcnt = f && f->failcnt.known ? f->failcnt.n : 0;
    if (m) {
        held = sum(held, used(o, m->held));
        maxheld = sum(maxheld, used(o, m->maxheld));
    }
    if (maxheld < held) /* of the two numbers one may be unknown, or read a little later */
        maxheld = held;
    uint64_t limit = o->limit ? bound(o, set, o->limit) : UNLIMITED;
    uint64_t barrier = o->barrier ? bound(o, set, o->barrier) : limit;
    str_add(s, "%-12s %20" PRIu64 " %20" PRIu64 " %20" PRIu64 " %20" PRIu64 " %20" PRIu64 "\n",
            o->name, held, maxheld, barrier, limit, failcnt);
}

size_t beancounter_print(char buf[BEANCOUNTER_TEXT], int64_t id, const struct param_set *set,
                         const struct param_counters *list)
{
    auto_str struct str s = str_init(BEANCOUNTER_TEXT);
    str_add(&s, "Version: 2.5\n%10s  %-12s %20s %20s %20s %20s %20s\n", "uid", "resource", "held",
            "maxheld", "barrier", "limit", "failcnt");
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (i == 0)
            str_add(&s, "%9" PRId64 ":  ", id);
        else
            str_add(&s, "%12s", "");
        print_row(&s, &rows[i], set, list);
    }
    memcpy(buf, str_c(&s), s.len);
    return s.len;
}
