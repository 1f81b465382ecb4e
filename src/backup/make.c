/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A tree into a backup: which files are in it, in which order. */
#include "backup/ahead.h"
#include "backup/links.h"
#include "backup/pack.h"
#include "backup/tar.h"

#include "base/cleanup.h"
#include "base/fd.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/* Two changes within a tick of the kernel's clock (10 ms at most) have one ctime: of a file that is
 * so young it tells nothing. */
#define YOUNG_S    2
#define TELL_EVERY ((uint64_t)1 << 20)

void backup_id_make(char ret[BACKUP_ID])
{
    uint8_t bytes[16];
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        abort(); /* cannot fail for so few bytes (random(4)) */
    format_hex(bytes, sizeof(bytes), ret);
}

/* ---- measuring ---- */

struct measuring {
    struct backup_measure m;
    XXH3_state_t *x;
};

static int measure_one(void *ctx, const struct walk_file *f, struct err *err)
{
    struct measuring *m = ctx;
    const struct stat *st = &f->st;
    const int64_t facts[] = {(int64_t)st->st_mode,        (int64_t)st->st_uid,
                             (int64_t)st->st_gid,         (int64_t)st->st_size,
                             (int64_t)st->st_mtim.tv_sec, (int64_t)st->st_mtim.tv_nsec,
                             (int64_t)st->st_ctim.tv_sec, (int64_t)st->st_ctim.tv_nsec};
    XXH3_128bits_update(m->x, f->name, strlen(f->name) + 1);
    XXH3_128bits_update(m->x, facts, sizeof(facts));
    m->m.entries++;
    if (S_ISREG(st->st_mode)) {
        uint64_t used = (uint64_t)st->st_blocks * 512, size = (uint64_t)st->st_size;
        m->m.bytes += used < size ? used : size;
    }
    return 0;
}

int backup_measure(int root, struct backup_measure *ret, struct err *err)
{
    struct measuring m = {.x = XXH3_createState()};
    if (!m.x)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    XXH3_128bits_reset(m.x);
    int r = walk(root, measure_one, walk_pass_over, &m, err);
    XXH128_hash_t sum = XXH3_128bits_digest(m.x);
    XXH3_freeState(m.x);
    if (r < 0)
        return r;
    str_print(m.m.fingerprint, sizeof(m.m.fingerprint), "%016llx%016llx",
              (unsigned long long)sum.high64, (unsigned long long)sum.low64);
    *ret = m.m;
    return 0;
}

/* ---- layers ---- */

struct layer_sum {
    struct hash *hash;
    uint64_t size;
};

static int sum_layer(void *ctx, const void *buf, size_t len, struct err *err)
{
    struct layer_sum *s = ctx;
    hash_add(s->hash, buf, len);
    s->size += len;
    return 0;
}

struct layer_walk {
    struct tar_out *tar;
    struct links *links;
    bool (*leave)(const char *name); /* or NULL */
};

static int put_layer_file(void *ctx, const struct walk_file *f, struct err *err)
{
    struct layer_walk *w = ctx;
    struct list_item item;
    bool out = false;
    list_item_of(&f->st, &item);
    if (!item.type || (w->leave && w->leave(f->name)))
        return 0;
    const char *slash = strrchr(f->name, '/');
    if (str_starts(slash ? slash + 1 : f->name, ".wh."))
        return err_set(err, ERR_UNSUPPORTED,
                       "%.200s cannot be in a layer: a name that begins with .wh. means there that "
                       "another file is deleted; rename it",
                       f->name);
    const char *first = item.type != 'd' && item.type != 'w' && f->st.st_nlink > 1
                            ? links_first(w->links, &f->st, f->name, &out)
                            : NULL;
    if (out)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    const struct tar_entry e = {"", first ? first : "", true, f, &item};
    return tar_put(w->tar, &e, err);
}

static int put_layer(int root, bool (*leave)(const char *), tar_sink sink, void *ctx,
                     struct err *err)
{
    auto_tar struct tar_out *tar = NULL;
    int r = tar_open(sink, ctx, &tar, err);
    if (r < 0)
        return r;
    struct layer_walk w = {tar, links_new(), leave};
    r = w.links ? walk(root, put_layer_file, NULL, &w, err)
                : err_set(err, ERR_EXHAUSTED, "out of memory");
    links_free(w.links);
    return r < 0 ? r : tar_end(tar, err);
}

int backup_layer_measure(struct backup_layer *l, struct err *err)
{
    struct layer_sum s = {.hash = hash_new()};
    int r = s.hash ? put_layer(l->root, NULL, sum_layer, &s, err)
                   : err_set(err, ERR_EXHAUSTED, "out of memory");
    if (r == 0) {
        hash_end(s.hash, l->digest);
        l->size = s.size;
    }
    hash_free(s.hash);
    return r;
}

static int write_layer(void *ctx, const void *buf, size_t len, struct err *err)
{
    return fd_write_all(*(int *)ctx, buf, len, err);
}

int backup_layer_write(int root, bool (*leave)(const char *name), int out, struct err *err)
{
    return put_layer(root, leave, write_layer, &out, err);
}

/* ---- a backup ---- */

struct make {
    const struct backup_request *rq;
    struct pack *pack;
    struct tar_out *tar;
    struct ahead *ahead;
    struct links *links;
    struct list_table base;
    struct str list, deleted;
    uint64_t bytes; /* of files and layers that are done */
    uint64_t part;  /* of the one that is not */
    uint64_t told;
    struct backup_made made;
};

static int tell(struct make *m, bool now, struct err *err)
{
    uint64_t bytes = m->bytes + m->part;
    if (!m->rq->progress || (!now && bytes < m->told + TELL_EVERY))
        return 0;
    m->told = bytes;
    return m->rq->progress(m->rq->ctx, bytes) == 0
               ? 0
               : err_set(err, ERR_CANCELLED, "it was cancelled");
}

static int to_pack(void *ctx, const void *buf, size_t len, struct err *err)
{
    struct make *m = ctx;
    m->part += len;
    int r = pack_add(m->pack, buf, len, err);
    return r < 0 ? r : tell(m, false, err);
}

static int to_tar(void *ctx, const void *buf, size_t len, struct err *err)
{
    struct make *m = ctx;
    return tar_data(m->tar, buf, len, err);
}

static int put_text(struct make *m, const char *name, const char *text, size_t len, struct err *err)
{
    int r;
    if ((r = pack_cut(m->pack, err)) < 0)
        return r;
    pack_entry(m->pack, name);
    if ((r = tar_member(m->tar, name, len, err)) < 0 || (r = tar_data(m->tar, text, len, err)) < 0)
        return r;
    return tar_member_end(m->tar, err);
}

static int put_layers(struct make *m, struct err *err)
{
    for (size_t i = 0; i < m->rq->n_layers; i++) {
        const struct backup_layer *l = &m->rq->layers[i];
        char name[sizeof(MEMBER_LAYER) + HASH_TEXT + 8];
        str_print(name, sizeof(name), "%s%s.tar", MEMBER_LAYER, l->digest);
        int r = pack_cut(m->pack, err);
        if (r < 0)
            return r;
        pack_entry(m->pack, name);
        if ((r = tar_member(m->tar, name, l->size, err)) < 0 ||
            (r = put_layer(l->root, NULL, to_tar, m, err)) < 0 ||
            (r = tar_member_end(m->tar, err)) < 0)
            return err_wrap(err, "layer %.19s", l->digest);
        m->bytes += l->size;
        m->part = 0;
    }
    return 0;
}

/* What the base has and the tree has no more, or has as something else. */
static int mark_seen(void *ctx, const struct walk_file *f, struct err *err)
{
    struct make *m = ctx;
    size_t i = list_table_find(&m->base, f->name);
    if (i != SIZE_MAX && m->base.items[i].type == list_type(&f->st))
        m->base.seen[i] = true;
    return 0;
}

static int put_deleted(struct make *m, struct err *err)
{
    int r = walk(m->rq->root, mark_seen, walk_pass_over, m, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < m->base.n; i++)
        if (!m->base.seen[i])
            str_add_bytes(&m->deleted, m->base.items[i].name, strlen(m->base.items[i].name) + 1);
    if (m->deleted.failed)
        return err_set(err, ERR_EXHAUSTED, "out of memory for the list of files");
    return put_text(m, MEMBER_DELETED, str_c(&m->deleted), m->deleted.len, err);
}

/* Is the file as the base has it?  1: yes, and item has its sums. */
static int is_unchanged(struct make *m, const struct walk_file *f, struct list_item *item,
                        struct err *err)
{
    size_t i = list_table_find(&m->base, f->name);
    if (i == SIZE_MAX || item->type == 'd')
        return 0;
    const struct list_item *b = &m->base.items[i];
    if (b->type != item->type || b->mode != item->mode || b->uid != item->uid ||
        b->gid != item->gid || b->size != item->size || !list_same_time(&b->mtime, &item->mtime) ||
        !str_eq(b->link, item->link))
        return 0;
    if (*item->link) { /* as the file that it is a link to */
        size_t first = list_table_find(&m->base, item->link);
        return first != SIZE_MAX && m->base.seen[first];
    }
    /* A copy of the tree, as some pools make it, has other ctimes: then the content tells. */
    if ((b->ctime.tv_sec || b->ctime.tv_nsec) && list_same_time(&b->ctime, &item->ctime)) {
        memcpy(item->data, b->data, sizeof(item->data));
        item->attrs = b->attrs;
        return 1;
    }
    int r = tar_look(f, item, err);
    return r < 0 ? r
                 : memcmp(item->data, b->data, sizeof(item->data)) == 0 && item->attrs == b->attrs;
}

/* From here on `seen` says of a name that the base's file stays. */
static void mark_written(struct make *m, const char *name)
{
    size_t i = list_table_find(&m->base, name);
    if (i != SIZE_MAX)
        m->base.seen[i] = false;
}

static void put_beyond(void *ctx, const char *dir)
{
    struct make *m = ctx;
    if (m->made.beyond++)
        return;
    str_print(m->made.beyond_dir, sizeof(m->made.beyond_dir), "%s", dir);
    for (char *p = m->made.beyond_dir; *p; p++) /* it goes into a sentence, whatever is in it */
        if (*p < ' ' || *p > '~')
            *p = '?';
}

static int put_file(void *ctx, const struct walk_file *f, struct err *err)
{
    struct make *m = ctx;
    struct list_item item;
    bool out = false;
    ahead_passed(m->ahead, &f->st);
    list_item_of(&f->st, &item);
    if (!item.type) {
        m->made.left_out++;
        return 0;
    }
    item.name = f->name;
    if (item.type != 'd' && f->st.st_nlink > 1) {
        const char *first = links_first(m->links, &f->st, f->name, &out);
        item.link = first ? first : "";
    }
    if (out)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int r = is_unchanged(m, f, &item, err);
    if (r < 0)
        return r;
    if (r == 0) {
        char name[FRAME_NAME + 1];
        str_print(name, sizeof(name), "%s%s", MEMBER_ROOT, f->name);
        pack_entry(m->pack, name);
        mark_written(m, f->name);
        const struct tar_entry e = {MEMBER_ROOT, item.link, false, f, &item};
        if ((r = tar_put(m->tar, &e, err)) < 0)
            return r;
    }
    m->made.entries++;
    if (item.type == 'f' && !*item.link)
        m->bytes += (uint64_t)f->st.st_blocks * 512 < item.size ? (uint64_t)f->st.st_blocks * 512
                                                                : item.size;
    if (item.ctime.tv_sec >= m->rq->taken - YOUNG_S)
        item.ctime = (struct timespec){0};
    list_put(&m->list, &item);
    if (m->list.failed)
        return err_set(err, ERR_EXHAUSTED, "out of memory for the list of files");
    m->part = 0;
    return tell(m, m->made.entries % 256 == 0, err);
}

/* Asked by another thread, so of the base only what nobody writes to. */
static bool is_read(const void *ctx, const struct walk_file *f)
{
    const struct make *m = ctx;
    size_t i = list_table_find(&m->base, f->name);
    return i == SIZE_MAX || !list_same_time(&m->base.items[i].ctime, &f->st.st_ctim);
}

static int put_all(struct make *m, struct err *err)
{
    const struct backup_request *rq = m->rq;
    m->ahead = ahead_new(rq->root, rq->base ? is_read : NULL, m);
    int r = put_text(m, MEMBER_MANIFEST, rq->manifest, strlen(rq->manifest), err);
    if (r < 0 || (r = put_layers(m, err)) < 0 || (rq->base && (r = put_deleted(m, err)) < 0) ||
        (r = pack_cut(m->pack, err)) < 0 ||
        (r = walk(rq->root, put_file, put_beyond, m, err)) < 0 || (r = pack_cut(m->pack, err)) < 0)
        return r;
    pack_entry(m->pack, MEMBER_LIST);
    if ((r = tar_member(m->tar, MEMBER_LIST, m->list.len, err)) < 0)
        return r;
    uint64_t at = pack_plain(m->pack);
    if ((r = tar_data(m->tar, str_c(&m->list), m->list.len, err)) < 0 ||
        (r = tar_member_end(m->tar, err)) < 0 || (r = tar_end(m->tar, err)) < 0 ||
        (rq->last && (r = rq->last(rq->ctx, err)) < 0))
        return r;
    m->made.plain = pack_plain(m->pack);
    return pack_end(m->pack, at, m->list.len, &m->made.packed, err);
}

int backup_make(const struct backup_request *rq, struct backup_made *ret, struct err *err)
{
    struct make m = {
        .rq = rq, .list = str_init(BACKUP_LIST_MAX), .deleted = str_init(BACKUP_LIST_MAX)};
    int r = 0;
    if (!backup_id_ok(rq->id) || strlen(rq->manifest) > MANIFEST_MAX)
        return err_set(err, ERR_INTERNAL, "the backup's manifest cannot be used");
    if (!(m.links = links_new()))
        r = err_set(err, ERR_EXHAUSTED, "out of memory");
    if (r == 0 && rq->base)
        r = list_table_read(rq->base, rq->base_len, &m.base, err);
    if (r == 0 && (r = pack_open(rq, &m.pack, err)) == 0 &&
        (r = tar_open(to_pack, &m, &m.tar, err)) == 0)
        r = put_all(&m, err);
    ahead_free(m.ahead);
    tar_free(m.tar);
    pack_free(m.pack);
    links_free(m.links);
    list_table_done(&m.base);
    str_done(&m.list);
    str_done(&m.deleted);
    if (r == 0)
        *ret = m.made;
    return r;
}
