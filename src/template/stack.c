/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A template on top of another: the layers of that one, and one more. */
#include "template/template.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "template/record.h"
#include "template/store.h"
#include "template/unpack.h"

#include <string.h>

static char **copy_list(char *const *list)
{
    size_t n = 0;
    while (list[n])
        n++;
    char **copy = calloc(n + 1, sizeof(*copy));
    for (size_t i = 0; copy && i < n; i++)
        if (!(copy[i] = strdup(list[i]))) {
            strings_free(copy);
            return NULL;
        }
    return copy;
}

/* `one` or, when that is NULL, `other`; false: out of memory. */
static bool take_list(char *const *one, char *const *other, char ***ret)
{
    char *const *from = one ? one : other;
    return !from || (*ret = copy_list(from));
}

static bool take_text(const char *text, char **ret)
{
    return !text || (*ret = strdup(text));
}

static int describe(const struct template_stack *st, const struct layer *layer, struct template *t,
                    struct err *err)
{
    const struct template *base = st->base;
    t->start = st->command ? TEMPLATE_APP : base->start;
    t->init = st->command ? TEMPLATE_INIT_NONE : base->init;
    t->size = base->size + layer->bytes;
    t->n_layers = base->n_layers + 1;
    memcpy(t->layers, base->layers, base->n_layers * sizeof(base->layers[0]));
    str_print(t->layers[base->n_layers], TEMPLATE_DIGEST, "%s", layer->digest);
    if (!take_text(st->command ? NULL : base->init_path, &t->init_path) ||
        !take_list(st->command, base->command, &t->command) ||
        !take_list(st->env, base->env, &t->env) || !take_text(base->workdir, &t->workdir) ||
        !take_text(base->user, &t->user) || !take_text(st->source, &t->source))
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    return 0;
}

int template_stack(struct template_store *s, const struct template_stack *st,
                   const struct template_request *rq, struct err *err)
{
    const struct template *base = st->base;
    struct layer layers[TEMPLATE_LAYERS_MAX]; /* of which only our own may be a draft */
    auto_clean(layer_done) struct layer own = LAYER_NONE;
    auto_template struct template *t = calloc(1, sizeof(*t));
    auto_stream struct stream *in = NULL;
    struct tree_limits limits;
    int r;
    if (!t)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (base->n_layers >= TEMPLATE_LAYERS_MAX)
        return err_set(err, ERR_USAGE, "template %s has %d layers already, and none has more",
                       base->name, TEMPLATE_LAYERS_MAX);
    struct unpack_watch watch = {rq->progress, rq->ctx, "writing the layer", 0, 100};
    if ((r = store_check_name(s, rq, err)) < 0 || (r = store_limits(s, rq, &limits, err)) < 0 ||
        (r = stream_open(st->tar, 0, &in, err)) < 0 ||
        (r = unpack_layer(s, in, &limits, &watch, &own, NULL, err)) < 0)
        return r;
    for (size_t i = 0; i < base->n_layers; i++)
        if ((r = layer_find(s, base->layers[i], &layers[i], err)) < 0)
            return err_wrap(err, "layer %.19s of template %s", base->layers[i], base->name);
    if ((r = describe(st, &own, t, err)) < 0)
        return r;
    layers[base->n_layers] = own;
    r = store_commit(s, t, rq, layers, t->n_layers, err);
    own.draft = layers[base->n_layers].draft;
    return r;
}
