/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The job squeeze: memory that a VE does not use now goes to swap, or was page cache. */
#include "base/number.h"
#include "ve/internal.h"
#include "ve/jobs.h"

#include <unistd.h>

#define SWAP_NAMES 80

static int read_to(const json_t *options, uint64_t *ret, bool *ret_given, struct err *err)
{
    const json_t *to = json_object_get(options, "to");
    *ret = 0;
    *ret_given = to && !json_is_null(to);
    if (!*ret_given)
        return 0;
    if (!json_is_string(to))
        return err_set(err, ERR_USAGE, "to must be a text such as \"64M\"");
    return number_parse_size(json_string_value(to), ret, err) < 0 ? err_wrap(err, "to") : 0;
}

int ve_squeeze_check(struct ve_node *node, const json_t *options, struct err *err)
{
    uint64_t to;
    bool given;
    return read_to(options, &to, &given, err);
}

static int squeeze_check(struct ve *ve, const json_t *options, struct err *err)
{
    uint64_t to;
    bool given;
    if (read_to(options, &to, &given, err) < 0)
        return err_wrap(err, "%s", ve->rec.name);
    if (!ve_state_is_up(ve->state))
        return err_set(err, ERR_STATE, "%s: cannot squeeze: it is %s and holds no memory",
                       ve->rec.name, ve_state_name(ve->state));
    return 0;
}

static int step(void *ctx, int percent)
{
    return job_progress(ctx, percent, "squeezing");
}

static int squeeze_work(struct job *job, struct err *err)
{
    struct resource_squeeze q = {.progress = step, .ctx = job};
    struct resource_squeezed s;
    bool given;
    if (read_to(job->options, &q.to, &given, err) < 0)
        return -err->kind;
    q.cold_only = !given;
    worker_be_idle();
    if (resource_squeeze(job->node->resources, job->ve->rec.id, &q, &s, err) < 0)
        return err_wrap(err, "%s: cannot squeeze", job->ve->rec.name);
    job->result[0] = (int64_t)s.before;
    job->result[1] = (int64_t)s.after;
    job->result[2] = (int64_t)s.swapped;
    job->result[3] = (int64_t)s.cache;
    return 0;
}

/* Where it went, and why nothing could go to swap. */
static void where_text(const struct ve *ve, const int64_t *n, char *buf, size_t size)
{
    char names[SWAP_NAMES], swapped[NUMBER_TEXT], cache[NUMBER_TEXT];
    struct param_value limit = param_set_get(ve->params, "swap.limit");
    number_format_size((uint64_t)n[2], swapped);
    number_format_size((uint64_t)n[3], cache);
    if (!resource_swaps(names, sizeof(names)))
        str_print(buf, size, "%s of page cache; this node has no swap for the rest", cache);
    else if (!limit.unlimited && limit.n == 0)
        str_print(buf, size, "%s of page cache; swap.limit 0 keeps the rest", cache);
    else
        str_print(buf, size, "%s to swap (%s), %s of page cache", swapped, names, cache);
}

static int squeeze_done(struct job *job, struct err *err)
{
    const int64_t *n = job->result;
    char before[NUMBER_TEXT], after[NUMBER_TEXT], where[SWAP_NAMES + 80];
    number_format_size((uint64_t)n[0], before);
    number_format_size((uint64_t)n[1], after);
    where_text(job->ve, n, where, sizeof(where));
    str_print(job->text, sizeof(job->text), "held %s, holds %s: %s", before, after, where);
    job->answer =
        json_pack("{s:I, s:I, s:I, s:I}", "before", (json_int_t)n[0], "after", (json_int_t)n[1],
                  "swapped", (json_int_t)n[2], "cache", (json_int_t)n[3]);
    return job->answer ? 0 : err_set(err, ERR_EXHAUSTED, "out of memory");
}

const struct job_kind job_squeeze = {
    .name = "squeeze",
    .of_ve = true,
    .asleep = true,
    .limited = true,
    .cancellable = true,
    .event = JOB_NO_EVENT,
    .want = JOB_AS_IT_IS,
    .check = squeeze_check,
    .work = squeeze_work,
    .done = squeeze_done,
};
