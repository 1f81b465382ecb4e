/* SPDX-License-Identifier: GPL-2.0-or-later */
/* net.out.CLASS and net.in.CLASS: the rows by class, to the trees of network/shape. */
#include "ve/internal.h"
#include "ve/net.h"
#include "ve/rows.h"

static bool is_in(const struct param_classed *c)
{
    return c->row == param_find("net.in.CLASS");
}

/* All rows that are kept by destination class are ours. */
static struct network_share share_of(struct ve_node *node, const struct param_classed *c)
{
    const struct ve_class *class = ve_class_find(node, c->class);
    return (struct network_share){
        .class = class && !class->removed ? class->id : 0,
        .in = is_in(c),
        .guarantee = param_value_first(c->row, c->v),
        .ceiling = c->v.unlimited ? NETWORK_UNLIMITED : c->v.n,
    };
}

static size_t shares_of(struct ve_node *node, const struct param_set *set,
                        struct network_share ret[PARAM_CLASSED_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < set->n_classed; i++) {
        struct network_share s = share_of(node, &set->classed[i]);
        bool free = s.guarantee == 0 && s.ceiling == NETWORK_UNLIMITED;
        if (s.class && !free)
            ret[n++] = s;
    }
    return n;
}

static int check_one(struct ve_node *node, const struct param_classed *c, struct err *err)
{
    struct network_share s = share_of(node, c);
    bool local = s.class == NETWORK_CLASS_LOCAL;
    const char *why = network_shape_why(node->network, s.in || local);
    char key[2 * NAME_SIZE];
    str_print(key, sizeof(key), "%.*s%s", (int)(strlen(c->row->key) - strlen("CLASS")), c->row->key,
              c->class);
    if (ve_class_check(node, c->class, err) < 0)
        return err_wrap(err, "%s", key);
    if (s.guarantee == 0 && s.ceiling == NETWORK_UNLIMITED)
        return 0;
    if (local && s.guarantee)
        return err_set(err, ERR_USAGE,
                       "%s: what stays on the node has no uplink to share: give a ceiling alone",
                       key);
    if (why)
        return err_set(err, ERR_UNSUPPORTED, "%s cannot be enforced here: %s", key, why);
    return 0;
}

int ve_netshape_check(struct ve_node *node, const struct param_set *set, struct err *err)
{
    static const char *const keys[] = {"net.out.CLASS", "net.in.CLASS"};
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) { /* asked for no class: can it be at all? */
        const char *why = network_shape_why(node->network, i == 1);
        size_t row = param_index(param_find(keys[i]));
        if (why && set->given[row] && !set->v[row].unlimited)
            return err_set(err, ERR_UNSUPPORTED, "%s cannot be enforced here: %s", keys[i], why);
    }
    for (size_t i = 0; i < set->n_classed; i++)
        if (check_one(node, &set->classed[i], err) < 0)
            return -err->kind;
    return 0;
}

int ve_netshape_apply(struct ve *ve, const struct param_set *old_set,
                      const struct param_set *new_set, bool force, struct err *err)
{
    struct network_share shares[PARAM_CLASSED_MAX];
    size_t n = shares_of(ve->node, new_set, shares);
    int r = network_shape_apply(ve->node->network, ve->rec.id, shares, n, err);
    return r < 0 ? err_wrap(err, "cannot divide the bandwidth") : 0;
}

int ve_netshape_start(struct ve *ve, struct err *err)
{
    return ve_netshape_apply(ve, NULL, ve->params, true, err);
}

void ve_netshape_stopped(struct ve *ve)
{
    struct err e = {0};
    if (network_shape_remove(ve->node->network, ve->rec.id, &e) < 0)
        log_warn(ve->rec.name, 0, "its part of the bandwidth is not free yet: %s", e.text);
}

int ve_netshape_open(struct ve_node *node, struct err *err)
{
    const struct ve_config *c = &node->config;
    struct network_shape_config config = {c->uplink, c->net_out, c->net_in};
    int r = network_shape_open(node->network, &config, err);
    for (int in = 0; r == 0 && in < 2; in++) {
        const char *why = network_shape_why(node->network, in);
        if (why && (in ? c->net_in : c->net_out))
            log_warn(NULL, 0, "network.%s is not shared as promised: %s", in ? "in" : "out", why);
    }
    return r;
}

/* Those that run have what their records say, and who is gone has nothing. */
void ve_netshape_begin(struct ve_node *node)
{
    auto_free int64_t *ids = NULL;
    size_t n = 0;
    struct err e = {0};
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        if (ve_has_cgroups(ve) && ve_netshape_start(ve, &e) < 0)
            log_error(ve->rec.name, 0, "its part of the bandwidth is not kept: %s", e.text);
    }
    if (network_shape_list(node->network, &ids, &n, &e) < 0)
        return;
    for (size_t i = 0; i < n; i++) {
        const struct ve *ve = ve_by_id(node, ids[i]);
        if (!ve || !(ve_has_cgroups(ve) || ve->state == VE_STOPPING))
            network_shape_remove(node->network, ids[i], &e);
    }
}

void ve_netshape_settle(struct ve_node *node, uint64_t out, uint64_t in)
{
    struct err e = {0};
    if (out == node->net_out_promised && in == node->net_in_promised)
        return;
    if (network_shape_rest(node->network, out, in, &e) < 0) {
        log_warn(NULL, 0, "the host's own part of the uplink is not as it should be: %s", e.text);
        return;
    }
    node->net_out_promised = out;
    node->net_in_promised = in;
}
