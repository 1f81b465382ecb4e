/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a backup holds, against its own list.  Each file that comes is noted with its sums, since
 * the list comes last; of what was written, the tree is walked as well.
 */
#include "backup/list.h"
#include "backup/reader.h"
#include "backup/walk.h"

#include "base/cleanup.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static int note(struct reader *r, struct err *err)
{
    list_put(&r->files, &r->item);
    return r->files.failed ? err_set(err, ERR_EXHAUSTED, "out of memory for its files") : 0;
}

static int by_name(const void *a, const void *b)
{
    const struct tree_xattr *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int sum_attrs(struct reader *r, const struct tree_entry *e, uint64_t *ret, struct err *err)
{
    *ret = 0;
    if (e->n_xattrs == 0)
        return 0;
    auto_free const struct tree_xattr **list = calloc(e->n_xattrs, sizeof(*list));
    if (!list)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int s = sum_begin_attrs(&r->sum, err);
    if (s < 0)
        return s;
    for (size_t i = 0; i < e->n_xattrs; i++)
        list[i] = &e->xattrs[i];
    qsort(list, e->n_xattrs, sizeof(*list), by_name);
    for (size_t i = 0; i < e->n_xattrs; i++)
        sum_attr(&r->sum, list[i]->name, list[i]->value, list[i]->size);
    *ret = sum_end_attrs(&r->sum);
    return 0;
}

int reader_file(void *ctx, const char *path, const struct tree_entry *e, struct err *err)
{
    struct reader *r = ctx;
    const struct stat st = {.st_mode = e->mode, .st_rdev = e->device};
    const char *to = e->link ? e->link : "";
    struct list_item *item = &r->item;
    if (r->has_list)
        return reader_damaged(err, "it goes on behind its list of files");
    *item = (struct list_item){
        .type = e->hard ? 'f' : list_type(&st),
        .mode = e->mode & 07777,
        .uid = (uint32_t)e->uid,
        .gid = (uint32_t)e->gid,
        .size = e->size,
        .mtime = e->mtime,
        .name = path,
        .link = e->hard ? to + strspn(to, "/") : "",
    };
    if (e->hard)
        return note(r, err);
    int s = sum_attrs(r, e, &item->attrs, err);
    if (s < 0)
        return s;
    if (item->type == 'f')
        return sum_begin(&r->sum, err);
    if (item->type == 'l')
        sum_target(to, strlen(to), item->data);
    return note(r, err);
}

int reader_content(void *ctx, uint64_t from, uint64_t to, const void *buf, size_t len,
                   struct err *err)
{
    struct reader *r = ctx;
    if (r->at != from + 1) /* each begins once, and none at the same place as another */
        sum_stretch(&r->sum, from, to);
    r->at = from + 1;
    sum_bytes(&r->sum, buf, len);
    return 0;
}

int reader_file_end(void *ctx, struct err *err)
{
    struct reader *r = ctx;
    r->at = 0;
    sum_end(&r->sum, r->item.data);
    return note(r, err);
}

/* ---- the tree against its list ---- */

struct compare {
    struct list_table table;
    size_t found;
};

static int compare_one(void *ctx, const struct walk_file *f, struct err *err)
{
    struct compare *c = ctx;
    struct list_item have;
    size_t i = list_table_find(&c->table, f->name);
    list_item_of(&f->st, &have);
    const struct list_item *want = i == SIZE_MAX ? NULL : &c->table.items[i];
    char shown[TREE_SHOWN];
    if (!want || want->type != have.type || want->mode != have.mode || want->uid != have.uid ||
        want->gid != have.gid || want->size != have.size ||
        !list_same_time(&want->mtime, &have.mtime))
        return err_set(err, ERR_CORRUPT,
                       "the backup does not agree with its own list of files about %s; something "
                       "that it stands on is missing",
                       tree_shown(*f->name ? f->name : "/", shown));
    c->found++;
    return 0;
}

/* what: "the content of ", or "". */
static int disagrees(const char *what, const char *name, struct err *err)
{
    char shown[TREE_SHOWN];
    return err_set(err, ERR_CORRUPT,
                   "the backup does not agree with its own list of files about %s%s", what,
                   tree_shown(*name ? name : "/", shown));
}

/* One that was seen, against the list; a hard link is to a file that was seen before it, or that
 * what it stands on has. */
static int verify_one(struct list_table *t, bool full, const struct list_item *have,
                      struct err *err)
{
    size_t i = list_table_find(t, have->name);
    const struct list_item *want = i == SIZE_MAX ? NULL : &t->items[i];
    if (!want || t->seen[i] || !str_eq(have->link, want->link))
        return disagrees("", have->name, err);
    t->seen[i] = true;
    if (*have->link) {
        size_t to = list_table_find(t, have->link);
        return to == SIZE_MAX || (full && !t->seen[to]) || t->items[to].type == 'd'
                   ? disagrees("", have->name, err)
                   : 0;
    }
    bool same = want->type == have->type && want->uid == have->uid && want->gid == have->gid &&
                list_same_time(&want->mtime, &have->mtime) &&
                (have->type == 'l' || want->mode == have->mode) &&
                (have->type != 'f' || want->size == have->size);
    if (!same)
        return disagrees("", have->name, err);
    if (memcmp(want->data, have->data, sizeof(want->data)) != 0)
        return disagrees("the content of ", have->name, err);
    return want->attrs == have->attrs ? 0 : disagrees("the attributes of ", have->name, err);
}

/* Of a full one all that is listed must be there; of another the rest is in what it stands on. */
static int verify_files(const struct reader *r, struct list_table *t, struct err *err)
{
    struct list_item item = {0};
    size_t at = 0, found = 0;
    bool full = !*r->info.since;
    int e;
    while ((e = list_next(str_c(&r->files), r->files.len, &at, &item, err)) > 0) {
        if ((e = verify_one(t, full, &item, err)) < 0)
            return e;
        found++;
    }
    for (size_t i = 0; e == 0 && full && found < t->n && i < t->n; i++)
        if (!t->seen[i])
            return disagrees("", t->items[i].name, err);
    return e;
}

/* A file that is not in an incremental one is that of the one before it, and was held against that
 * one's list. */
static int compare_kept(const struct list_table *before, const struct list_item *now,
                        struct err *err)
{
    size_t i = list_table_find(before, now->name);
    const struct list_item *was = i == SIZE_MAX ? NULL : &before->items[i];
    char shown[TREE_SHOWN];
    if (was && was->type == now->type && was->size == now->size && str_eq(was->link, now->link) &&
        memcmp(was->data, now->data, sizeof(was->data)) == 0 && was->attrs == now->attrs)
        return 0;
    return err_set(err, ERR_CORRUPT,
                   "the backup does not agree with the one that it stands on about %s, which it "
                   "leaves as it was there",
                   tree_shown(*now->name ? now->name : "/", shown));
}

static int verify_kept(const struct reader *r, const struct list_table *t, struct err *err)
{
    const struct backup_files *files = r->rs->files;
    struct list_table before = {0};
    if (!files || !files->list || !*r->info.since || !str_eq(files->id, r->info.since))
        return 0;
    int e = list_table_read(files->list, files->len, &before, err);
    for (size_t i = 0; e == 0 && i < t->n; i++)
        if (!t->seen[i])
            e = compare_kept(&before, &t->items[i], err);
    list_table_done(&before);
    return e;
}

/* Its maker counted the blocks of each name: never more than the names' sizes together. */
static int check_bytes(const struct reader *r, const struct list_table *table, struct err *err)
{
    json_t *m = json_loads(r->info.manifest, 0, NULL);
    json_int_t bytes = json_integer_value(json_object_get(json_object_get(m, "tree"), "bytes"));
    uint64_t sizes = 0;
    json_decref(m);
    for (size_t i = 0; i < table->n; i++)
        if (__builtin_add_overflow(sizes, table->items[i].size, &sizes))
            sizes = UINT64_MAX;
    if (bytes < 0 || (uint64_t)bytes > sizes)
        return err_set(err, ERR_CORRUPT,
                       "the backup's manifest tells of more bytes than its list of files has");
    return 0;
}

int reader_compare(struct reader *r, struct err *err)
{
    struct compare c = {0};
    int e = list_table_read(str_c(&r->list), r->list.len, &c.table, err);
    if (e == 0)
        e = check_bytes(r, &c.table, err);
    if (e == 0)
        e = verify_files(r, &c.table, err);
    if (e == 0)
        e = verify_kept(r, &c.table, err);
    if (e == 0 && r->tree)
        e = walk(r->tree->root, compare_one, NULL, &c, err);
    if (e == 0 && r->tree && c.found != c.table.n)
        e = err_set(err, ERR_CORRUPT,
                    "the backup lists %zu files and only %zu of them are there; something that "
                    "it stands on is missing",
                    c.table.n, c.found);
    r->info.entries = c.table.n;
    list_table_done(&c.table);
    return e;
}
