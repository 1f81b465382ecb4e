/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rules — what relates two rows, and what no field of the table can say of one. */
#include "base/cleanup.h"
#include "param/param.h"

/* The first must not be above the second. */
static const struct {
    const char *low, *high;
} order[] = {
    {"cpu.guarantee", "cpu.limit"},       {"memory.guarantee", "memory.soft"},
    {"memory.guarantee", "memory.limit"}, {"memory.soft", "memory.limit"},
    {"memory.shared", "memory.limit"},
};

/* The kernel refuses a burst above the quota of one period (sched/core.c, tg_set_cfs_bandwidth):
 * of 100 ms, in which a percent is 1 ms. */
static int check_burst(const struct param_set *set, struct err *err)
{
    const struct param_row *burst = param_find("cpu.burst"), *limit = param_find("cpu.limit");
    if (!burst || !limit)
        return err_set(err, ERR_INTERNAL, "a rule names rows that are not both there");
    struct param_value b = set->v[param_index(burst)], l = set->v[param_index(limit)];
    if (l.unlimited || b.n * 100 <= l.n)
        return 0;
    char tb[PARAM_TEXT], tl[PARAM_TEXT];
    return err_set(err, ERR_USAGE,
                   "cpu.burst %s is more than cpu.limit %s gives in a period of 100 ms; the most "
                   "is %llums",
                   param_format(burst, b, tb), param_format(limit, l, tl),
                   (unsigned long long)(l.n / 100));
}

/* A core gives 100% at most. */
static int check_cores(const struct param_set *set, struct err *err)
{
    const struct param_row *cores = param_find("cpu.cores"), *own = param_find("cpu.guarantee");
    if (!cores || !own)
        return err_set(err, ERR_INTERNAL, "a rule names rows that are not both there");
    struct param_value c = set->v[param_index(cores)], g = set->v[param_index(own)];
    uint64_t n = c.form == PARAM_PLAIN ? c.n : 0;
    for (unsigned i = 0; c.form != PARAM_PLAIN && i < PARAM_CORES_MAX; i++)
        n += param_cores_has(c, i);
    if (c.unlimited || g.n <= n * 10000)
        return 0;
    char tc[PARAM_TEXT], tg[PARAM_TEXT];
    return err_set(err, ERR_USAGE,
                   "cpu.guarantee %s is above the %llu%% that cpu.cores %s can give; lower the "
                   "first or raise the second",
                   param_format(own, g, tg), (unsigned long long)(n * 100),
                   param_format(cores, c, tc));
}

/* Shorter is no idleness, and to look whether there is some would be all that is done. */
static int check_sleep(const struct param_set *set, struct err *err)
{
    const struct param_row *sleep = param_find("idle.sleep");
    if (!sleep)
        return err_set(err, ERR_INTERNAL, "a rule names a row that is not there");
    uint64_t ms = set->v[param_index(sleep)].n;
    if (!ms || ms >= 1000)
        return 0;
    return err_set(err, ERR_USAGE, "idle.sleep is at least 1s; 0 never puts a VE to sleep");
}

int param_set_check(const struct param_set *set, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
        const struct param_row *low = param_find(order[i].low), *high = param_find(order[i].high);
        if (!low || !high)
            return err_set(err, ERR_INTERNAL, "a rule names %s and %s, which are not both there",
                           order[i].low, order[i].high);
        /* A default gives way to what is asked for. */
        if (!set->given[param_index(low)] || !set->given[param_index(high)])
            continue;
        struct param_value a = set->v[param_index(low)], b = set->v[param_index(high)];
        if (b.unlimited || (!a.unlimited && a.n <= b.n))
            continue;
        char ta[PARAM_TEXT], tb[PARAM_TEXT];
        return err_set(err, ERR_USAGE, "%s %s is above %s %s; lower the first or raise the second",
                       low->key, param_format(low, a, ta), high->key, param_format(high, b, tb));
    }
    int r = check_cores(set, err);
    if (r == 0)
        r = check_burst(set, err);
    return r < 0 ? r : check_sleep(set, err);
}
