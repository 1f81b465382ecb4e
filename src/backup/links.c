/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/links.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <stdlib.h>
#include <string.h>

struct link {
    dev_t dev;
    ino_t ino;
    char *name; /* NULL: an empty slot */
};

struct links {
    struct link *slots;
    size_t size, used;
};

struct links *links_new(void)
{
    struct links *l = calloc(1, sizeof(*l));
    if (l && !(l->slots = calloc(l->size = 256, sizeof(*l->slots)))) {
        free(l);
        return NULL;
    }
    return l;
}

void links_free(struct links *l)
{
    for (size_t i = 0; l && i < l->size; i++)
        free(l->slots[i].name);
    if (l)
        free(l->slots);
    free(l);
}

static struct link *link_slot(struct link *slots, size_t size, dev_t dev, ino_t ino)
{
    const uint64_t key[2] = {dev, ino};
    size_t i = (size_t)XXH3_64bits(key, sizeof(key)) & (size - 1);
    while (slots[i].name && (slots[i].dev != dev || slots[i].ino != ino))
        i = (i + 1) & (size - 1);
    return &slots[i];
}

static bool links_grow(struct links *l)
{
    struct link *slots = calloc(l->size * 2, sizeof(*slots));
    if (!slots)
        return false;
    for (size_t i = 0; i < l->size; i++)
        if (l->slots[i].name)
            *link_slot(slots, l->size * 2, l->slots[i].dev, l->slots[i].ino) = l->slots[i];
    free(l->slots);
    l->slots = slots;
    l->size *= 2;
    return true;
}

const char *links_first(struct links *l, const struct stat *st, const char *name, bool *failed_)
{
    struct link *s = link_slot(l->slots, l->size, st->st_dev, st->st_ino);
    if (s->name)
        return s->name;
    if (l->used * 2 >= l->size) {
        if (!links_grow(l)) {
            *failed_ = true;
            return NULL;
        }
        s = link_slot(l->slots, l->size, st->st_dev, st->st_ino);
    }
    *s = (struct link){st->st_dev, st->st_ino, strdup(name)};
    *failed_ = s->name == NULL;
    l->used += s->name != NULL;
    return NULL;
}
