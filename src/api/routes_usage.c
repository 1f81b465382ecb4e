/* SPDX-License-Identifier: GPL-2.0-or-later */
/* routes_usage — the log of usage: its records for who bills, and sums for who looks. */
#include "api/request.h"

#include "base/number.h"

#define RECORDS_DEFAULT 1000

static int number_of(struct request *r, const char *key, uint64_t otherwise, uint64_t *ret,
                     struct err *err)
{
    const char *text = url_query(&r->url, key);
    *ret = otherwise;
    if (text && number_parse(text, 0, INT64_MAX / 2, ret, err) < 0)
        return err_wrap(err, "the query's \"%s\"", key);
    return 0;
}

static int wait_for(struct request *r, struct pending **ret, struct err *err)
{
    *ret = request_pending(r, -1);
    return *ret ? 0 : err_set(err, ERR_EXHAUSTED, "out of memory");
}

int on_usage_records(struct request *r, struct err *err)
{
    uint64_t after, limit;
    struct pending *p;
    if (number_of(r, "after", 0, &after, err) < 0 ||
        number_of(r, "limit", RECORDS_DEFAULT, &limit, err) < 0 || wait_for(r, &p, err) < 0)
        return -err->kind;
    int rc = ve_usage_records(r->api->node, (int64_t)after, (size_t)limit, pending_answer, p, err);
    if (rc < 0)
        pending_take(p, NULL);
    return rc;
}

int on_usage_sums(struct request *r, struct err *err)
{
    uint64_t from, to;
    struct pending *p;
    if (number_of(r, "from", 0, &from, err) < 0 || number_of(r, "to", 0, &to, err) < 0 ||
        wait_for(r, &p, err) < 0)
        return -err->kind;
    struct ve_usage_query q = {.ve = url_query(&r->url, "ve"),
                               .from = (int64_t)from,
                               .to = (int64_t)to,
                               .by = url_query(&r->url, "by")};
    int rc = ve_usage_sums(r->api->node, &q, pending_answer, p, err);
    if (rc < 0)
        pending_take(p, NULL);
    return rc;
}
