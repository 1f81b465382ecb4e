/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "param/share.h"

#include <stdlib.h>
#include <string.h>

struct param_shared {
    struct param_set set; /* first: who holds it holds this */
    uint64_t hash;
    size_t users;
};

static uint64_t mix(uint64_t hash, uint64_t n)
{
    return (hash ^ n) * UINT64_C(0x9e3779b97f4a7c15) ^ hash >> 29;
}

static uint64_t mix_value(uint64_t hash, struct param_value v)
{
    hash = mix(hash, (uint64_t)v.unlimited << 8 | (uint64_t)v.form);
    return mix(mix(hash, v.n), v.n2);
}

static uint64_t hash_of(const struct param_set *set)
{
    uint64_t hash = set->n_classed;
    for (size_t i = 0; i < param_table_size; i++)
        hash = mix_value(mix(hash, set->given[i]), set->v[i]);
    for (size_t i = 0; i < set->n_classed; i++) {
        hash = mix(hash, param_index(set->classed[i].row));
        hash = mix_value(hash, set->classed[i].v);
    }
    return hash;
}

static bool same(const struct param_set *a, const struct param_set *b)
{
    return memcmp(a->given, b->given, sizeof(a->given)) == 0 && param_set_same(a, b);
}

static int find_place(struct param_shelf *shelf, struct err *err)
{
    if (shelf->n < shelf->cap)
        return 0;
    size_t cap = shelf->cap ? shelf->cap * 2 : 16;
    struct param_shared **v = reallocarray(shelf->v, cap, sizeof(struct param_shared *));
    if (!v)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    shelf->v = v;
    shelf->cap = cap;
    return 0;
}

int param_share(struct param_shelf *shelf, const struct param_set *set,
                const struct param_set **ret, struct err *err)
{
    uint64_t hash = hash_of(set);
    for (size_t i = 0; i < shelf->n; i++) {
        struct param_shared *s = shelf->v[i];
        if (s->hash == hash && same(&s->set, set)) {
            s->users++;
            *ret = &s->set;
            return 0;
        }
    }
    if (find_place(shelf, err) < 0)
        return -err->kind;
    struct param_shared *s = malloc(sizeof(*s));
    if (!s)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    *s = (struct param_shared){.set = *set, .hash = hash, .users = 1};
    shelf->v[shelf->n++] = s;
    *ret = &s->set;
    return 0;
}

void param_unshare(struct param_shelf *shelf, const struct param_set *set)
{
    for (size_t i = 0; set && i < shelf->n; i++) {
        struct param_shared *s = shelf->v[i];
        if (&s->set != set)
            continue;
        if (--s->users == 0) {
            shelf->v[i] = shelf->v[--shelf->n];
            free(s);
        }
        return;
    }
}

void param_shelf_done(struct param_shelf *shelf)
{
    while (shelf->n)
        free(shelf->v[--shelf->n]);
    free(shelf->v);
    *shelf = (struct param_shelf){0};
}
