/* SPDX-License-Identifier: GPL-2.0-or-later */
/* routes_counters — the counters of all VEs, written straight as text: keys and names need no
 * escapes (base/name.h), and forty rows of a thousand VEs are many small documents. */
#include "api/request.h"

#include "base/cleanup.h"

#include <inttypes.h>
#include <string.h>

#define COUNTERS_MAX ((size_t)256 << 20)

static void add_text(struct str *s, const char *text)
{
    str_add_bytes(s, text, strlen(text));
}

static void add_count(struct str *s, const char *member, struct param_count c)
{
    char buf[24], *p = buf + sizeof(buf);
    uint64_t n =
        c.n > INT64_MAX ? INT64_MAX : c.n; /* what JSON's readers take for a whole number */
    add_text(s, ",\"");
    add_text(s, member);
    add_text(s, "\":");
    if (!c.known) {
        add_text(s, "null");
        return;
    }
    do
        *--p = (char)('0' + n % 10);
    while (n /= 10);
    str_add_bytes(s, p, (size_t)(buf + sizeof(buf) - p));
}

static void add_ve(void *ctx, const char *name, const struct param_set *params,
                   const struct param_counters *list)
{
    struct str *s = ctx;
    add_text(s, s->len > 1 ? ",{\"ve\":\"" : "{\"ve\":\"");
    add_text(s, name);
    add_text(s, "\",\"counters\":[");
    for (size_t i = 0; i < list->n; i++) {
        const struct param_counter *c = &list->c[i];
        add_text(s, i ? ",{\"key\":\"" : "{\"key\":\"");
        add_text(s, c->row->key);
        add_text(s, "\",\"type\":\"");
        add_text(s, param_type_name(c->row->type));
        add_text(s, "\"");
        add_count(s, "held", c->held);
        add_count(s, "maxheld", c->maxheld);
        add_count(s, "barrier", ve_counter_barrier(params, c->row));
        add_count(s, "limit", ve_counter_limit(params, c->row));
        add_count(s, "failcnt", c->failcnt);
        add_text(s, "}");
    }
    add_text(s, "]}");
}

int on_counters(struct request *r, struct err *err)
{
    auto_str struct str s = str_init(COUNTERS_MAX);
    add_text(&s, "[");
    ve_counters_each(r->api->node, url_query(&r->url, "label"), request_flag(r, "failed"), add_ve,
                     &s);
    add_text(&s, "]\n");
    return request_text(r, &s, "application/json", err);
}
