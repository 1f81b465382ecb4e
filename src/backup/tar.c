/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/tar.h"

#include "archive/tree.h"
#include "backup/sum.h"
#include "base/cleanup.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/xattr.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CHUNK       ((size_t)256 << 10)
#define OPAQUE_ATTR "user.overlay.opaque"
#define NAMES_MAX   ((size_t)64 << 10)
#define BLOCK       512
#define PAX_MAX     ((size_t)4 << 20)   /* records of one entry */
#define MAP_MAX     ((size_t)256 << 20) /* of one sparse file */

struct tar_out {
    tar_sink sink;
    void *ctx;
    struct str pax; /* records of the entry that is being made */
    uint64_t size;  /* bytes of the entry's data so far */
    uint8_t *buf;
};

/* ---- headers (POSIX.1-2008, pax) ---- */

struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100];
    char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "pax(1)");

int tar_open(tar_sink sink, void *ctx, struct tar_out **ret, struct err *err)
{
    auto_tar struct tar_out *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    t->sink = sink;
    t->ctx = ctx;
    t->pax = str_init(PAX_MAX);
    if (!(t->buf = malloc(CHUNK)))
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    *ret = steal_ptr(&t);
    return 0;
}

void tar_free(struct tar_out *t)
{
    if (!t)
        return;
    str_done(&t->pax);
    free(t->buf);
    free(t);
}

int tar_data(struct tar_out *t, const void *buf, size_t len, struct err *err)
{
    t->size += len;
    return len ? t->sink(t->ctx, buf, len, err) : 0;
}

/* Fills the last block of the entry's data. */
static int pad(struct tar_out *t, struct err *err)
{
    static const uint8_t zeros[BLOCK];
    size_t over = t->size % BLOCK;
    t->size = 0;
    return over ? t->sink(t->ctx, zeros, BLOCK - over, err) : 0;
}

/* "LEN KEY=VALUE\n", where LEN counts its own digits. */
static void pax_add(struct str *pax, const char *key, const void *value, size_t len)
{
    size_t rest = strlen(key) + len + 3, digits = 1, total;
    for (size_t limit = 10; (total = rest + digits) >= limit; limit *= 10)
        digits++;
    str_add(pax, "%zu %s=", total, key);
    str_add_bytes(pax, value, len);
    str_add_bytes(pax, "\n", 1);
}

static void pax_add_number(struct str *pax, const char *key, uint64_t value)
{
    char text[24];
    str_print(text, sizeof(text), "%llu", (unsigned long long)value);
    pax_add(pax, key, text, strlen(text));
}

/* A number that the field cannot hold is in the pax records; the field is 0. */
static void put_octal(char *field, size_t size, uint64_t value)
{
    if (value >> (3 * (size - 1)))
        value = 0;
    for (size_t i = size - 1; i-- > 0; value >>= 3)
        field[i] = (char)('0' + (value & 7));
}

static void put_sum(struct header *h)
{
    unsigned sum = 0;
    memset(h->sum, ' ', sizeof(h->sum));
    for (size_t i = 0; i < sizeof(*h); i++)
        sum += ((const uint8_t *)h)[i];
    put_octal(h->sum, 7, sum);
}

static void put_text(char *field, size_t size, const char *text)
{
    memcpy(field, text, strnlen(text, size));
}

static bool is_utf8(const char *s)
{
    for (const unsigned char *p = (const unsigned char *)s; *p;) {
        unsigned more = *p < 0x80                 ? 0
                        : *p >= 0xc2 && *p < 0xe0 ? 1
                        : *p >= 0xe0 && *p < 0xf0 ? 2
                        : *p >= 0xf0 && *p < 0xf5 ? 3
                                                  : 9;
        if (more == 9)
            return false;
        for (p++; more; more--, p++)
            if ((*p & 0xc0) != 0x80)
                return false;
    }
    return true;
}

/* The entry's header, before it the pax records that it needs.  h has mode, owner and type. */
static int put_header(struct tar_out *t, struct header *h, const char *name, const char *link,
                      uint64_t size, const struct timespec *mtime, struct err *err)
{
    struct str *pax = &t->pax;
    const bool long_name = strlen(name) > sizeof(h->name),
               long_link = strlen(link) > sizeof(h->link);
    if ((long_name && !is_utf8(name)) || (long_link && !is_utf8(link)))
        pax_add(pax, "hdrcharset", "BINARY", 6);
    if (long_name)
        pax_add(pax, "path", name, strlen(name));
    if (long_link)
        pax_add(pax, "linkpath", link, strlen(link));
    if (size >> 33)
        pax_add_number(pax, "size", size);
    if (mtime->tv_nsec || mtime->tv_sec < 0 || mtime->tv_sec >> 33) {
        char text[40];
        /* -1.5 is -2 s and 500,000,000 ns to the kernel, and "-1.5" in pax */
        bool minus = mtime->tv_sec < 0 && mtime->tv_nsec;
        long long sec = (long long)mtime->tv_sec + minus;
        str_print(text, sizeof(text), "%s%lld.%09ld", minus && sec == 0 ? "-" : "", sec,
                  minus ? 1000000000L - mtime->tv_nsec : mtime->tv_nsec);
        pax_add(pax, "mtime", text, strlen(text));
    }
    if (pax->failed)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int r = 0;
    if (pax->len) {
        struct header x = {.type = 'x', .magic = "ustar", .version = {'0', '0'}};
        put_text(x.name, sizeof(x.name), "PaxHeaders/next");
        put_octal(x.mode, sizeof(x.mode), 0600);
        put_octal(x.uid, sizeof(x.uid), 0);
        put_octal(x.gid, sizeof(x.gid), 0);
        put_octal(x.size, sizeof(x.size), pax->len);
        put_octal(x.mtime, sizeof(x.mtime), 0);
        put_sum(&x);
        if ((r = t->sink(t->ctx, &x, sizeof(x), err)) < 0 ||
            (r = tar_data(t, str_c(pax), pax->len, err)) < 0 || (r = pad(t, err)) < 0)
            return r;
    }
    put_text(h->name, sizeof(h->name), name);
    put_text(h->link, sizeof(h->link), link);
    put_octal(h->size, sizeof(h->size), size);
    put_octal(h->mtime, sizeof(h->mtime), mtime->tv_sec < 0 ? 0 : (uint64_t)mtime->tv_sec);
    memcpy(h->magic, "ustar", 6);
    memset(h->version, '0', 2);
    put_sum(h);
    t->size = 0;
    str_clear(pax);
    return t->sink(t->ctx, h, sizeof(*h), err);
}

/* ---- attributes ---- */

struct attrs {
    char *names;
    uint8_t *value;
    size_t n; /* of names, in bytes */
};

static void attrs_done(struct attrs *a)
{
    free(a->names);
    free(a->value);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What is not of the VE: labels of the host's own security module, and the overlay's of a
 * privileged mount. */
static bool is_ours(const char *name)
{
    return str_starts(name, "user.") || str_starts(name, "system.posix_acl_") ||
           str_eq(name, "security.capability");
}

/* A key ends at its first '=', so that a name that has one is given in libarchive's own form. */
static void pax_add_attr(struct str *pax, const char *name, const uint8_t *value, size_t len)
{
    static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    auto_str struct str key = str_init(1024), text = str_init(2 * XATTR_SIZE_MAX);
    if (!strchr(name, '=')) {
        str_add(&key, "SCHILY.xattr.%s", name);
        pax_add(pax, str_c(&key), value, len);
        return;
    }
    str_add(&key, "LIBARCHIVE.xattr.");
    for (const char *p = name; *p; p++)
        str_add(&key, *p == '=' || *p == '%' || (unsigned char)*p < '!' ? "%%%02X" : "%c",
                (unsigned char)*p);
    for (size_t i = 0; i < len; i += 3) {
        uint32_t v = (uint32_t)value[i] << 16 | (i + 1 < len ? (uint32_t)value[i + 1] << 8 : 0) |
                     (i + 2 < len ? value[i + 2] : 0);
        const char out[4] = {base64[v >> 18], base64[v >> 12 & 63], base64[v >> 6 & 63],
                             base64[v & 63]};
        str_add_bytes(&text, out, i + 2 < len ? 4 : i + 1 < len ? 3 : 2);
    }
    pax_add(pax, str_c(&key), str_c(&text), text.len);
    pax->failed |= key.failed || text.failed;
}

/* Adds them to the records (NULL: only their sum). */
static int read_attrs(int fd, const char *name, bool oci, struct str *pax, uint64_t *ret_sum,
                      struct err *err)
{
    char small[1024];
    auto_clean(attrs_done) struct attrs a = {0};
    const char *names = small, *list[TREE_XATTRS_MAX];
    size_t count = 0, total = 0;
    ssize_t n = flistxattr(fd, small, sizeof(small));
    if (n < 0 && errno == ERANGE) {
        if (!(a.names = malloc(NAMES_MAX)))
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        names = a.names;
        n = flistxattr(fd, a.names, NAMES_MAX);
    }
    *ret_sum = 0;
    if (n == 0 || (n < 0 && errno == ENOTSUP))
        return 0;
    if (n < 0)
        return err_sys(err, "cannot read the attributes of %.200s", name);
    for (const char *p = names; p < names + n; p += strlen(p) + 1)
        if (is_ours(p) && !(oci && str_starts(p, "user.overlay."))) {
            if (count == ARRAY_SIZE(list))
                return err_set(err, ERR_UNSUPPORTED,
                               "%.200s has more than %zu extended attributes, which a backup "
                               "cannot hold",
                               name, ARRAY_SIZE(list));
            list[count++] = p;
        }
    if (count == 0)
        return 0;
    qsort(list, count, sizeof(*list), by_bytes);
    auto_clean(sum_done) struct sum sum = {0};
    if (!(a.value = malloc(XATTR_SIZE_MAX)))
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int r = sum_begin_attrs(&sum, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < count; i++) {
        ssize_t size = fgetxattr(fd, list[i], a.value, XATTR_SIZE_MAX);
        if (size < 0)
            return err_sys(err, "cannot read the attribute %.100s of %.200s", list[i], name);
        if ((total += (size_t)size) > TREE_XATTRS_SIZE)
            return err_set(err, ERR_UNSUPPORTED,
                           "%.200s has more than 1M of extended attributes, which a backup cannot "
                           "hold",
                           name);
        sum_attr(&sum, list[i], a.value, (size_t)size);
        if (pax)
            pax_add_attr(pax, list[i], a.value, (size_t)size);
    }
    *ret_sum = sum_end_attrs(&sum);
    return 0;
}

/* ---- contents ---- */

static bool has_holes(const struct stat *st)
{
    return st->st_size > 0 && (uint64_t)st->st_blocks * 512 < (uint64_t)st->st_size;
}

static int next_data(int fd, off_t at, off_t size, off_t *ret_from, off_t *ret_to, const char *name,
                     struct err *err)
{
    off_t from = lseek(fd, at, SEEK_DATA);
    if (from < 0 && errno == ENXIO)
        from = size;
    off_t to = from >= 0 && from < size ? lseek(fd, from, SEEK_HOLE) : size;
    if (from < 0 || to < 0)
        return err_sys(err, "cannot look for holes in %.200s", name);
    *ret_from = from < size ? from : size;
    *ret_to = to < size ? to : size;
    return 0;
}

/* GNU's sparse format 1.0: a map in decimal before the data. */
static int read_map(struct str *map, int fd, off_t size, const char *name, uint64_t *ret_data,
                    struct err *err)
{
    auto_str struct str pairs = str_init(MAP_MAX);
    off_t from, to = 0;
    uint64_t n = 0, data = 0;
    for (off_t at = 0; at < size; at = to) {
        int r = next_data(fd, at, size, &from, &to, name, err);
        if (r < 0)
            return r;
        n++;
        str_add(&pairs, "%lld\n%lld\n", (long long)from, (long long)(from < size ? to - from : 0));
        data += from < size ? (uint64_t)(to - from) : 0;
    }
    str_add(map, "%llu\n", (unsigned long long)n);
    str_add_bytes(map, str_c(&pairs), pairs.len);
    while (map->len % BLOCK && !map->failed)
        str_add_bytes(map, "", 1);
    *ret_data = data;
    return map->failed || pairs.failed
               ? err_set(err, ERR_EXHAUSTED, "%.200s has too many holes", name)
               : 0;
}

static int give_stretch(struct tar_out *t, uint8_t *buf, int fd, off_t from, off_t to,
                        struct sum *sum, const char *name, struct err *err)
{
    sum_stretch(sum, (uint64_t)from, (uint64_t)to);
    while (from < to) {
        size_t want = (size_t)(to - from) < CHUNK ? (size_t)(to - from) : CHUNK;
        ssize_t n = pread(fd, buf, want, from);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "cannot read %.200s", name);
        if (n == 0)
            return err_set(err, ERR_BUSY, "%.200s became shorter while it was read", name);
        sum_bytes(sum, buf, (size_t)n);
        int r = t ? tar_data(t, buf, (size_t)n, err) : 0;
        if (r < 0)
            return r;
        from += n;
    }
    return 0;
}

/* Reads the file into the archive (NULL: nowhere) and sums it up. */
static int give_file(struct tar_out *t, uint8_t *buf, int fd, const struct walk_file *f,
                     uint64_t ret_sum[2], struct err *err)
{
    auto_clean(sum_done) struct sum sum = {0};
    off_t size = f->st.st_size, from, to = 0;
    int r = sum_begin(&sum, err);
    bool holes = has_holes(&f->st);
    for (off_t at = 0; r == 0 && at < size; at = to) {
        from = 0;
        to = size;
        if (holes && (r = next_data(fd, at, size, &from, &to, f->name, err)) < 0)
            break;
        if (from < size)
            r = give_stretch(t, buf, fd, from, to, &sum, f->name, err);
    }
    if (r == 0)
        sum_end(&sum, ret_sum);
    return r;
}

/* ---- entries ---- */

static int open_file(const struct walk_file *f, int *ret_fd, struct err *err)
{
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = openat(f->dir, f->base, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM)
        fd = openat(f->dir, f->base, flags);
    if (fd < 0)
        return err_sys(err, "cannot open %.200s", f->name);
    *ret_fd = fd;
    return 0;
}

static int read_target(const struct walk_file *f, char to[PATH_MAX], struct list_item *item,
                       struct err *err)
{
    ssize_t n = readlinkat(f->dir, f->base, to, PATH_MAX - 1);
    if (n < 0)
        return err_sys(err, "cannot read the link %.200s", f->name);
    to[n] = '\0';
    sum_target(to, (size_t)n, item->data);
    return 0;
}

int tar_look(const struct walk_file *f, struct list_item *item, struct err *err)
{
    char to[PATH_MAX];
    if (item->type == 'l')
        return read_target(f, to, item, err);
    if (item->type != 'f' && item->type != 'd')
        return 0;
    auto_fd int fd = -1;
    int r;
    if (item->type == 'd')
        return read_attrs(f->fd, f->name, false, NULL, &item->attrs, err);
    auto_free uint8_t *buf = malloc(CHUNK);
    if (!buf)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if ((r = open_file(f, &fd, err)) < 0 ||
        (r = read_attrs(fd, f->name, false, NULL, &item->attrs, err)) < 0)
        return r;
    return give_file(NULL, buf, fd, f, item->data, err);
}

static struct header header_of(const struct stat *st, char type)
{
    struct header h = {.type = type};
    put_octal(h.mode, sizeof(h.mode), st->st_mode & 07777);
    put_octal(h.uid, sizeof(h.uid), st->st_uid);
    put_octal(h.gid, sizeof(h.gid), st->st_gid);
    return h;
}

/* An image's way to say that a name, or all names of a directory, are gone. */
static int put_whiteout(struct tar_out *t, const struct tar_entry *e, bool opaque, struct err *err)
{
    const char *name = e->file->name, *slash = strrchr(name, '/');
    int dir = slash ? (int)(slash - name) + 1 : 0;
    auto_free char *full = opaque ? str_format("%s%s/.wh..wh..opq", e->prefix, name)
                                  : str_format("%s%.*s.wh.%s", e->prefix, dir, name, name + dir);
    if (!full)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    struct header h = header_of(&(struct stat){.st_mode = 0644}, '0');
    return put_header(t, &h, full, "", 0, &(struct timespec){0}, err);
}

static bool is_opaque(int fd)
{
    char value[2];
    return fgetxattr(fd, OPAQUE_ATTR, value, sizeof(value)) == 1 && value[0] == 'y';
}

static int put_sparse(struct tar_out *t, const struct tar_entry *e, const char *name, int fd,
                      struct err *err)
{
    const struct stat *st = &e->file->st;
    auto_str struct str map = str_init(MAP_MAX + 2 * BLOCK);
    uint64_t data;
    int r = read_map(&map, fd, st->st_size, e->file->name, &data, err);
    if (r < 0)
        return r;
    if (!is_utf8(name))
        pax_add(&t->pax, "hdrcharset", "BINARY", 6);
    pax_add(&t->pax, "GNU.sparse.major", "1", 1);
    pax_add(&t->pax, "GNU.sparse.minor", "0", 1);
    pax_add(&t->pax, "GNU.sparse.name", name, strlen(name));
    pax_add_number(&t->pax, "GNU.sparse.realsize", (uint64_t)st->st_size);
    struct header h = header_of(st, '0');
    if ((r = put_header(t, &h, "GNUSparseFile.0/file", "", map.len + data, &st->st_mtim, err)) < 0)
        return r;
    return tar_data(t, str_c(&map), map.len, err);
}

static int put_regular(struct tar_out *t, const struct tar_entry *e, const char *name,
                       struct err *err)
{
    const struct walk_file *f = e->file;
    auto_fd int fd = -1;
    int r = open_file(f, &fd, err);
    if (r < 0 || (r = read_attrs(fd, f->name, e->oci, &t->pax, &e->item->attrs, err)) < 0)
        return r;
    struct header h = header_of(&f->st, '0');
    r = has_holes(&f->st)
            ? put_sparse(t, e, name, fd, err)
            : put_header(t, &h, name, "", (uint64_t)f->st.st_size, &f->st.st_mtim, err);
    if (r < 0 || (r = give_file(t, t->buf, fd, f, e->item->data, err)) < 0)
        return r;
    return pad(t, err);
}

static int put_dir(struct tar_out *t, const struct tar_entry *e, const char *name, struct err *err)
{
    const struct walk_file *f = e->file;
    struct header h = header_of(&f->st, '5');
    int r = read_attrs(f->fd, f->name, e->oci, &t->pax, &e->item->attrs, err);
    if (r < 0 || (r = put_header(t, &h, name, "", 0, &f->st.st_mtim, err)) < 0)
        return r;
    return e->oci && is_opaque(f->fd) ? put_whiteout(t, e, true, err) : 0;
}

/* What has neither data nor attributes. */
static int put_node(struct tar_out *t, const struct tar_entry *e, const char *name, struct err *err)
{
    const struct walk_file *f = e->file;
    char to[PATH_MAX] = "";
    struct header h = header_of(&f->st, e->item->type == 'l'   ? '2'
                                        : e->item->type == 'p' ? '6'
                                                               : '3');
    int r = e->item->type == 'l' ? read_target(f, to, e->item, err) : 0;
    if (e->item->type == 'w') {
        put_octal(h.major, sizeof(h.major), 0);
        put_octal(h.minor, sizeof(h.minor), 0);
    }
    return r < 0 ? r : put_header(t, &h, name, to, 0, &f->st.st_mtim, err);
}

int tar_put(struct tar_out *t, const struct tar_entry *e, struct err *err)
{
    const struct walk_file *f = e->file;
    str_clear(&t->pax);
    if (e->oci && e->item->type == 'w')
        return put_whiteout(t, e, false, err);
    auto_free char *name = str_format("%s%s%s", e->prefix, f->name,
                                      !*f->name && !*e->prefix           ? "./"
                                      : e->item->type == 'd' && *f->name ? "/"
                                                                         : "");
    auto_free char *link = str_format("%s%s", e->prefix, e->link);
    if (!name || !link)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (*e->link) {
        struct header h = header_of(&f->st, '1');
        return put_header(t, &h, name, link, 0, &f->st.st_mtim, err);
    }
    switch (e->item->type) {
    case 'f':
        return put_regular(t, e, name, err);
    case 'd':
        return put_dir(t, e, name, err);
    default:
        return put_node(t, e, name, err);
    }
}

int tar_member(struct tar_out *t, const char *name, uint64_t size, struct err *err)
{
    struct header h = header_of(&(struct stat){.st_mode = 0600}, '0');
    str_clear(&t->pax);
    return put_header(t, &h, name, "", size, &(struct timespec){0}, err);
}

int tar_member_end(struct tar_out *t, struct err *err)
{
    return pad(t, err);
}

int tar_end(struct tar_out *t, struct err *err)
{
    static const uint8_t zeros[2 * BLOCK];
    return t->sink(t->ctx, zeros, sizeof(zeros), err);
}
