/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/list.h"

#include "base/cleanup.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/sysmacros.h>

char list_type(const struct stat *st)
{
    switch (st->st_mode & S_IFMT) {
    case S_IFREG:
        return 'f';
    case S_IFDIR:
        return 'd';
    case S_IFLNK:
        return 'l';
    case S_IFIFO:
        return 'p';
    case S_IFCHR:
        return st->st_rdev == makedev(0, 0) ? 'w' : 0;
    }
    return 0;
}

bool list_same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

void list_item_of(const struct stat *st, struct list_item *ret)
{
    *ret = (struct list_item){
        .type = list_type(st),
        .mode = st->st_mode & 07777,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .size = S_ISREG(st->st_mode) || S_ISLNK(st->st_mode) ? (uint64_t)st->st_size : 0,
        .mtime = st->st_mtim,
        .ctime = st->st_ctim,
        .name = "",
        .link = "",
    };
}

void list_put(struct str *s, const struct list_item *i)
{
    str_add(s,
            "%c %o %" PRIu32 " %" PRIu32 " %" PRIu64 " %lld.%09ld %lld.%09ld %016" PRIx64
            "%016" PRIx64 " %016" PRIx64,
            i->type, (unsigned)i->mode, i->uid, i->gid, i->size, (long long)i->mtime.tv_sec,
            i->mtime.tv_nsec, (long long)i->ctime.tv_sec, i->ctime.tv_nsec, i->data[0], i->data[1],
            i->attrs);
    str_add_bytes(s, "", 1);
    str_add_bytes(s, i->name, strlen(i->name) + 1);
    str_add_bytes(s, i->link, strlen(i->link) + 1);
}

/* ---- reading ---- */

/* One number of the head; false: not one. */
static bool take(const char **p, unsigned base, unsigned max_digits, uint64_t *ret)
{
    uint64_t v = 0;
    unsigned n = 0;
    for (; n < max_digits; n++, (*p)++) {
        char c = **p;
        unsigned d = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                                            : 99;
        if (d >= base)
            break;
        if (__builtin_mul_overflow(v, (uint64_t)base, &v) || __builtin_add_overflow(v, d, &v))
            return false;
    }
    *ret = v;
    return n > 0;
}

static bool take_char(const char **p, char c)
{
    if (**p != c)
        return false;
    ++*p;
    return true;
}

static bool take_time(const char **p, struct timespec *ret)
{
    bool minus = take_char(p, '-');
    uint64_t sec, nsec;
    if (!take(p, 10, 19, &sec) || sec > INT64_MAX || !take_char(p, '.') || !take(p, 10, 9, &nsec))
        return false;
    ret->tv_sec = minus ? -(time_t)sec : (time_t)sec;
    ret->tv_nsec = (long)nsec;
    return true;
}

static bool take_head(const char *p, struct list_item *ret)
{
    uint64_t mode, uid, gid;
    ret->type = *p;
    if (!*p || !strchr("fdlpw", *p++))
        return false;
    bool ok = take_char(&p, ' ') && take(&p, 8, 4, &mode) && take_char(&p, ' ') &&
              take(&p, 10, 10, &uid) && uid <= UINT32_MAX && take_char(&p, ' ') &&
              take(&p, 10, 10, &gid) && gid <= UINT32_MAX && take_char(&p, ' ') &&
              take(&p, 10, 20, &ret->size) && take_char(&p, ' ') && take_time(&p, &ret->mtime) &&
              take_char(&p, ' ') && take_time(&p, &ret->ctime) && take_char(&p, ' ') &&
              take(&p, 16, 16, &ret->data[0]) && take(&p, 16, 16, &ret->data[1]) &&
              take_char(&p, ' ') && take(&p, 16, 16, &ret->attrs) && *p == '\0';
    if (!ok)
        return false;
    ret->mode = (mode_t)mode;
    ret->uid = (uint32_t)uid;
    ret->gid = (uint32_t)gid;
    return true;
}

int list_next(const char *list, size_t len, size_t *at, struct list_item *ret, struct err *err)
{
    if (*at == len)
        return 0;
    const char *part[3];
    for (int i = 0; i < 3; i++) {
        part[i] = list + *at;
        const char *end = memchr(part[i], '\0', len - *at);
        if (!end)
            return err_set(err, ERR_CORRUPT, "the list of files in the backup is damaged");
        *at = (size_t)(end - list) + 1;
    }
    if (!take_head(part[0], ret) || strlen(part[1]) >= PATH_MAX || strlen(part[2]) >= PATH_MAX)
        return err_set(err, ERR_CORRUPT, "the list of files in the backup is damaged");
    ret->name = part[1];
    ret->link = part[2];
    return 1;
}

/* ---- by name ---- */

static size_t slot_of(const struct list_table *t, const char *name)
{
    return (size_t)XXH3_64bits(name, strlen(name)) & t->mask;
}

size_t list_table_find(const struct list_table *t, const char *name)
{
    if (!t->slots)
        return SIZE_MAX;
    for (size_t s = slot_of(t, name); t->slots[s]; s = (s + 1) & t->mask)
        if (str_eq(t->items[t->slots[s] - 1].name, name))
            return t->slots[s] - 1;
    return SIZE_MAX;
}

static int add(struct list_table *t, size_t *cap, const struct list_item *item, struct err *err)
{
    if (t->n == *cap) {
        *cap = *cap ? *cap * 2 : 1024;
        struct list_item *items = realloc(t->items, *cap * sizeof(*items));
        if (!items || *cap > UINT32_MAX / 4)
            return err_set(err, ERR_EXHAUSTED, "out of memory for the list of files");
        t->items = items;
    }
    t->items[t->n++] = *item;
    return 0;
}

static int index_all(struct list_table *t, struct err *err)
{
    size_t size = 16;
    while (size < 2 * t->n)
        size *= 2;
    t->mask = size - 1;
    t->slots = calloc(size, sizeof(*t->slots));
    t->seen = calloc(t->n + 1, sizeof(*t->seen));
    if (!t->slots || !t->seen)
        return err_set(err, ERR_EXHAUSTED, "out of memory for the list of files");
    for (size_t i = 0; i < t->n; i++) {
        size_t s = slot_of(t, t->items[i].name);
        for (; t->slots[s]; s = (s + 1) & t->mask)
            if (str_eq(t->items[t->slots[s] - 1].name, t->items[i].name))
                return err_set(err, ERR_CORRUPT,
                               "the list of files in the backup names a file twice");
        t->slots[s] = (uint32_t)i + 1;
    }
    return 0;
}

int list_table_read(const char *list, size_t len, struct list_table *ret, struct err *err)
{
    struct list_table t = {0};
    struct list_item item = {0};
    size_t at = 0, cap = 0;
    int r;
    while ((r = list_next(list, len, &at, &item, err)) > 0 && (r = add(&t, &cap, &item, err)) == 0)
        ;
    if (r == 0)
        r = index_all(&t, err);
    if (r < 0) {
        list_table_done(&t);
        return r;
    }
    *ret = t;
    return 0;
}

void list_table_done(struct list_table *t)
{
    free(t->items);
    free(t->seen);
    free(t->slots);
    *t = (struct list_table){0};
}
