/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What VEs sent and got, by destination class.  Nothing is kept: it is read when somebody asks. */
#include "ve/internal.h"
#include "ve/net.h"
#include "ve/private.h"

#include <arpa/inet.h>

void ve_netcount_begin(struct ve_node *node)
{
    struct err e = {0};
    const char *why = network_count_why(node->network);
    if (why) {
        log_info(NULL, 0, "traffic is not counted by class: %s", why);
        return;
    }
    if (network_count_prefixes(node->network, &node->classes.prefixes, &e) < 0)
        log_error(NULL, 0, "traffic may be counted for the wrong class: %s", e.text);
}

void ve_netcount_load(struct ve_node *node)
{
    struct err e = {0};
    ve_netcount_drop(node);
    if (network_counts(node->network, &node->counts, &node->n_counts, &e) < 0 &&
        e.kind != ERR_UNSUPPORTED)
        log_warn(NULL, 0, "traffic by class is not known: %s", e.text);
}

void ve_netcount_drop(struct ve_node *node)
{
    free(node->counts);
    node->counts = NULL;
    node->n_counts = 0;
}

static json_t *one_way(const struct network_count *c)
{
    return json_pack("{s:I, s:I}", "bytes", c ? (json_int_t)c->bytes : 0, "packets",
                     c ? (json_int_t)c->packets : 0);
}

/* A list of one VE has for each class what it sent, then what it got; either may be missing. */
void ve_netcount_each(const struct ve_node *node, int64_t id, ve_netcount_fn fn, void *ctx)
{
    size_t n;
    const struct network_count *c = network_counts_of(node->counts, node->n_counts, id, &n);
    for (size_t i = 0; i < n; i++) {
        const struct network_count *out = c[i].in ? NULL : &c[i], *in = c[i].in ? &c[i] : NULL;
        if (out && i + 1 < n && c[i + 1].class == out->class)
            in = &c[++i];
        const struct ve_class *class = ve_class_of_id(node, (out ? out : in)->class);
        if (class)
            fn(ctx, class, out, in);
    }
}

struct sample_walk {
    ve_sample_class_fn fn;
    void *ctx;
};

static void sample_class(void *ctx, const struct ve_class *class, const struct network_count *out,
                         const struct network_count *in)
{
    const struct sample_walk *w = ctx;
    w->fn(w->ctx, class->name, out, in);
}

void ve_sample_classes(const struct ve_sample *s, ve_sample_class_fn fn, void *ctx)
{
    struct sample_walk w = {fn, ctx};
    ve_netcount_each(s->node, s->id, sample_class, &w);
}

static void add_class(void *ctx, const struct ve_class *class, const struct network_count *out,
                      const struct network_count *in)
{
    json_object_set_new(ctx, class->name,
                        json_pack("{s:o, s:o, s:b}", "out", one_way(out), "in", one_way(in),
                                  "removed", class->removed));
}

json_t *ve_netcount_json(struct ve *ve)
{
    struct ve_node *node = ve->node;
    if (network_count_why(node->network))
        return json_null();
    json_t *classes = json_object();
    if (node->counts) {
        ve_netcount_each(node, ve->rec.id, add_class, classes);
        return classes;
    }
    /* Of one VE alone its own are asked: all of a thousand take a millisecond. */
    for (size_t i = 0; i < node->classes.n; i++) {
        const struct ve_class *class = &node->classes.v[i];
        struct network_count out, in;
        bool any_out = network_count_of(node->network, ve->rec.id, class->id, false, &out);
        bool any_in = network_count_of(node->network, ve->rec.id, class->id, true, &in);
        if (any_out || any_in)
            add_class(classes, class, any_out ? &out : NULL, any_in ? &in : NULL);
    }
    return classes;
}

/* ---- terem network show ---- */

static json_t *way_of(json_t *classes, const char *class, bool in)
{
    json_t *c = json_object_get(classes, class);
    if (!c) {
        c = json_pack("{s:o, s:o, s:b}", "out", one_way(NULL), "in", one_way(NULL), "removed", 0);
        json_object_set_new(classes, class, c);
    }
    return json_object_get(c, in ? "in" : "out");
}

/* What it has of each class in bits a second, where it has a value; null: no ceiling. */
static void add_values(json_t *classes, const struct param_set *set)
{
    for (size_t i = 0; i < set->n_classed; i++) {
        const struct param_classed *c = &set->classed[i];
        json_t *way = way_of(classes, c->class, c->row == param_find("net.in.CLASS"));
        json_object_set_new(way, "guarantee",
                            json_integer((json_int_t)param_value_first(c->row, c->v)));
        json_object_set_new(way, "ceiling",
                            c->v.unlimited ? json_null() : json_integer((json_int_t)c->v.n));
    }
}

/* Packets that waited in vain, of the classes that have a leaf of their own. */
static void add_drops(const struct ve *ve, json_t *classes, const struct network_shape_drop *list,
                      size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct ve_class *class =
            list[i].id == ve->rec.id ? ve_class_of_id(ve->node, list[i].class) : NULL;
        if (class)
            json_object_set_new(way_of(classes, class->name, list[i].in), "dropped",
                                json_integer((json_int_t)list[i].packets));
    }
}

static json_t *rate_json(uint64_t bits)
{
    return bits ? json_integer((json_int_t)bits) : json_null();
}

int ve_network_show(struct ve_node *node, json_t **ret, struct err *err)
{
    auto_free struct network_shape_drop *drops = NULL;
    size_t n_drops = 0;
    json_t *ves = json_array();
    ve_netcount_load(node);
    if (network_shape_drops(node->network, &drops, &n_drops, &(struct err){0}) < 0)
        n_drops = 0;
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        json_t *classes = ve_netcount_json(ve);
        if (json_is_object(classes)) {
            add_values(classes, ve->params);
            add_drops(ve, classes, drops, n_drops);
        }
        json_array_append_new(ves,
                              json_pack("{s:s, s:s, s:o, s:o, s:o}", "name", ve->rec.name, "state",
                                        ve_state_text(ve), "addresses", ve_addresses_json(ve),
                                        "networks", ve_privates_json(ve), "classes", classes));
    }
    ve_netcount_drop(node);
    const char *uplink = network_shape_uplink(node->network);
    json_t *private = NULL;
    ve_private_list(node, &private, err);
    *ret =
        json_pack("{s:s?, s:o, s:o, s:s?, s:o, s:o}", "uplink", *uplink ? uplink : NULL, "out",
                  rate_json(node->config.net_out), "in", rate_json(node->config.net_in),
                  "not_counted", network_count_why(node->network), "private", private, "ves", ves);
    return 0;
}
