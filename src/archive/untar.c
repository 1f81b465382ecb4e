/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "archive/untar.h"

#include "archive/acl.h"
#include "base/cleanup.h"
#include "base/str.h"

#include <archive.h>
#include <archive_entry.h>
#include <limits.h>
#include <locale.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define TAR_BLOCK 512

struct unpack {
    const struct untar_source *in;
    const struct untar_members *members;
    struct archive *a;
    struct tree *tree;
    uint64_t offset;    /* bytes that were read */
    uint64_t last_size; /* of the last file */
    size_t last_block;  /* bytes of a last block that was filled up; 0: it was whole */
    struct err err;     /* why a callback failed; libarchive carries only text */
    bool failed;
};

static la_ssize_t on_read(struct archive *a, void *ctx, const void **buf)
{
    struct unpack *u = ctx;
    ssize_t n = u->in->read(u->in->ctx, buf, &u->err);
    if (n < 0) {
        u->failed = true;
        archive_set_error(a, EIO, "%s", u->err.text);
        return ARCHIVE_FATAL;
    }
    u->offset += (uint64_t)n;
    size_t part = u->offset % TAR_BLOCK;
    if (n > 0 || !u->in->digest_tells || part == 0 || u->last_block)
        return n;
    static const unsigned char zeros[TAR_BLOCK];
    u->last_block = part;
    *buf = zeros;
    return (la_ssize_t)(TAR_BLOCK - part);
}

/* The cause: our own callback's, or what libarchive found in the bytes. */
static int archive_failed(struct unpack *u, struct err *err)
{
    if (u->failed) {
        if (err)
            *err = u->err;
        return -u->err.kind;
    }
    const char *why = archive_error_string(u->a);
    auto_str struct str s = str_init(512);
    str_escape(&s, why ? why : "unknown format", strnlen(why ? why : "unknown format", 120));
    return err_set(err, ERR_CORRUPT, "the archive is damaged or not a tar: %s", str_c(&s));
}

struct xattr_set {
    struct tree_xattr list[TREE_XATTRS_MAX + 2];
    size_t n;
    void *acl[2]; /* made from libarchive's form; freed */
};

static void xattr_set_done(struct xattr_set *x)
{
    free(x->acl[0]);
    free(x->acl[1]);
}

static bool has_xattr(const struct xattr_set *x, const char *name)
{
    for (size_t i = 0; i < x->n; i++)
        if (str_eq(x->list[i].name, name))
            return true;
    return false;
}

static int collect_xattrs(struct archive_entry *ae, struct xattr_set *x, struct err *err)
{
    size_t total = 0;
    const char *name;
    const void *value;
    size_t size;
    archive_entry_xattr_reset(ae);
    while (archive_entry_xattr_next(ae, &name, &value, &size) == ARCHIVE_OK) {
        total += size;
        if (x->n >= TREE_XATTRS_MAX || total > TREE_XATTRS_SIZE)
            return err_set(err, ERR_CORRUPT, "an entry has too many extended attributes");
        if (name)
            x->list[x->n++] = (struct tree_xattr){name, value, size};
    }
    static const char *const names[2] = {"system.posix_acl_access", "system.posix_acl_default"};
    for (int i = 0; i < 2; i++) {
        if (has_xattr(x, names[i])) /* the exact form is there, too */
            continue;
        size = 0;
        int r = acl_from_entry(ae, i == 1, &x->acl[i], &size, err);
        if (r < 0)
            return r;
        if (size)
            x->list[x->n++] = (struct tree_xattr){names[i], x->acl[i], size};
    }
    return 0;
}

struct stretch {
    la_int64_t from, to;
};

/* The stretch of data that begins at `at` or holds it; false: there is none. */
static bool find_stretch(struct archive_entry *ae, la_int64_t at, struct stretch *s)
{
    la_int64_t from, len;
    while (at >= s->to && archive_entry_sparse_next(ae, &from, &len) == ARCHIVE_OK)
        *s = (struct stretch){from, from + len};
    return at >= s->from && at < s->to;
}

/* fd: -1, it is only looked at. */
static int copy_data(struct unpack *u, struct archive_entry *ae, const struct tree_entry *e, int fd,
                     struct err *err)
{
    const struct untar_members *m = u->members && u->members->file ? u->members : NULL;
    struct stretch s = {0};
    const void *buf;
    size_t len;
    la_int64_t offset, end = 0;
    int r, w = 0;
    if (archive_entry_sparse_reset(ae) == 0)
        s.to = (la_int64_t)e->size;
    while ((r = archive_read_data_block(u->a, &buf, &len, &offset)) == ARCHIVE_OK ||
           r == ARCHIVE_WARN) {
        /* libarchive bounds them by the header; a sparse map is foreign, so look again. */
        if (offset < end || (uint64_t)offset > e->size || len > e->size - (uint64_t)offset ||
            (len && m && (!find_stretch(ae, offset, &s) || (la_int64_t)len > s.to - offset)))
            return err_set(err, ERR_CORRUPT, "the archive has a damaged sparse file");
        end = offset + (la_int64_t)len;
        if (len && m)
            w = m->content(m->ctx, (uint64_t)s.from, (uint64_t)s.to, buf, len, err);
        if (w == 0 && fd >= 0)
            w = tree_write(u->tree, fd, buf, len, (uint64_t)offset, err);
        if (w < 0)
            return w;
    }
    return r == ARCHIVE_EOF ? 0 : archive_failed(u, err);
}

/* One that is not of the tree: its bytes go to its owner. */
static int give_member(struct unpack *u, struct archive_entry *ae, const char *name,
                       struct err *err)
{
    const struct untar_members *m = u->members;
    const void *buf;
    size_t len;
    la_int64_t offset, at = 0, size = archive_entry_size(ae);
    if (archive_entry_filetype(ae) != AE_IFREG || archive_entry_hardlink(ae) || size < 0)
        return err_set(err, ERR_CORRUPT, "the archive has a member \"%.80s\" that is not a file",
                       name);
    int r = m->begin(m->ctx, name, (uint64_t)size, err);
    while (r == 0 && (r = archive_read_data_block(u->a, &buf, &len, &offset)) == ARCHIVE_OK) {
        if (offset != at) /* holes: ours are never sparse */
            return err_set(err, ERR_CORRUPT, "the archive has a damaged member \"%.80s\"", name);
        at += (la_int64_t)len;
        r = m->data(m->ctx, buf, len, err);
    }
    if (r == ARCHIVE_EOF)
        return m->end(m->ctx, err);
    return u->failed || r >= 0 || err->kind != -r ? archive_failed(u, err) : r;
}

/* "root/etc" is "etc" of the tree; NULL: it is not of the tree. */
static const char *below(const char *prefix, const char *name)
{
    size_t len = strlen(prefix);
    if (strncmp(name, prefix, len) == 0)
        return name + len;
    return NULL;
}

/* To the tree, and to whoever looks at its files. */
static int give_entry(struct unpack *u, struct archive_entry *ae, const struct tree_entry *e,
                      struct err *err)
{
    const struct untar_members *m = u->members && u->members->file ? u->members : NULL;
    auto_fd int fd = -1;
    char path[PATH_MAX];
    int r = 0;
    if (!u->tree || m)
        r = tree_check(e, !u->tree || u->tree->exact, path, err);
    if (r == 0 && u->tree)
        r = tree_add(u->tree, e, &fd, err);
    if (r == 0 && m)
        r = m->file(m->ctx, path, e, err);
    if (r < 0 || e->hard || !S_ISREG(e->mode) || (fd < 0 && !m))
        return r;
    if ((r = copy_data(u, ae, e, fd, err)) < 0 || (m && (r = m->file_end(m->ctx, err)) < 0))
        return r;
    return fd >= 0 ? tree_finish(u->tree, e, &fd, err) : 0;
}

static int add_entry(struct unpack *u, struct archive_entry *ae, struct err *err)
{
    const char *name = archive_entry_pathname(ae), *hard = archive_entry_hardlink(ae);
    if (!name)
        return err_set(err, ERR_CORRUPT, "the archive has an entry without a name");
    if (u->members) {
        const char *own = below(u->members->prefix, name);
        if (!own)
            return give_member(u, ae, name, err);
        if (hard && !(hard = below(u->members->prefix, hard)))
            return err_set(err, ERR_CORRUPT,
                           "the archive has a hard link \"%.80s\" to what is not of its tree",
                           name);
        name = own;
    }
    la_int64_t size = archive_entry_size(ae), uid = archive_entry_uid(ae),
               gid = archive_entry_gid(ae);
    if (size < 0)
        return err_set(err, ERR_CORRUPT, "the archive has an entry of negative size");
    struct tree_entry e = {
        .name = name,
        .mode = archive_entry_mode(ae),
        .uid = uid < 0 ? UINT64_MAX : (uint64_t)uid,
        .gid = gid < 0 ? UINT64_MAX : (uint64_t)gid,
        .mtime = {.tv_sec = archive_entry_mtime(ae), .tv_nsec = archive_entry_mtime_nsec(ae)},
        .link = hard ? hard : archive_entry_symlink(ae),
        .hard = hard != NULL,
        .size = (uint64_t)size,
        .device = archive_entry_rdev(ae),
    };
    if (e.mtime.tv_nsec < 0 || e.mtime.tv_nsec > 999999999)
        e.mtime.tv_nsec = 0;
    u->last_size = e.size;
    auto_clean(xattr_set_done) struct xattr_set x = {0};
    int r = collect_xattrs(ae, &x, err);
    if (r < 0)
        return r;
    e.xattrs = x.list;
    e.n_xattrs = x.n;
    return give_entry(u, ae, &e, err);
}

/* archive_read_next_header() with the end told apart from damage: 1 an entry, 0 the end. */
static int next_entry(struct unpack *u, struct archive_entry **ret, struct err *err)
{
    int r = archive_read_next_header(u->a, ret);
    /* ARCHIVE_WARN: a name that is not UTF-8, a pax attribute that nobody knows: its bytes come
     * as they are. */
    if (r == ARCHIVE_OK || r == ARCHIVE_WARN)
        return 1;
    return r == ARCHIVE_EOF ? 0 : archive_failed(u, err);
}

static int drain(struct unpack *u, struct err *err)
{
    const void *buf;
    ssize_t n;
    while ((n = u->in->read(u->in->ctx, &buf, err)) > 0)
        u->offset += (uint64_t)n;
    return (int)n;
}

static int unpack_all(struct unpack *u, struct err *err)
{
    struct archive_entry *ae;
    int r;
    int64_t end = 0; /* of the last entry's data */
    while ((r = next_entry(u, &ae, err)) > 0) {
        if ((r = add_entry(u, ae, err)) < 0)
            return r;
        /* Skips what add_entry() left, so that the position below is the entry's end. */
        if (archive_read_data_skip(u->a) < ARCHIVE_WARN)
            return archive_failed(u, err);
        end = archive_filter_bytes(u->a, 0);
    }
    if (r < 0 || (r = drain(u, err)) < 0)
        return r;
    if (u->in->digest_tells && (!u->last_block || u->last_size % TAR_BLOCK == u->last_block))
        return 0;
    end = (end + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    if (u->members && u->members->ret_end)
        *u->members->ret_end = (uint64_t)end;
    if (end < 0 || u->offset < (uint64_t)end + 2 * TAR_BLOCK)
        return err_set(err, ERR_CORRUPT, "the archive ends too early");
    return 0;
}

static int open_tar(struct unpack *u, struct err *err)
{
    u->a = archive_read_new();
    if (!u->a || archive_read_support_format_tar(u->a) != ARCHIVE_OK)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    /* No filters: the source has decompressed already. */
    if (archive_read_open(u->a, u, NULL, on_read, NULL) != ARCHIVE_OK)
        return archive_failed(u, err);
    return 0;
}

int untar(const struct untar_source *in, struct tree *t, const struct untar_members *members,
          struct err *err)
{
    struct unpack u = {.in = in, .members = members, .tree = t};
    /* pax names are UTF-8; in the "C" locale libarchive would complain of each that is not ASCII.
     * uselocale() is of this thread only. */
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    locale_t before = utf8 ? uselocale(utf8) : (locale_t)0;
    int r = open_tar(&u, err);
    if (r == 0)
        r = unpack_all(&u, err);
    archive_read_free(u.a);
    if (utf8) {
        uselocale(before);
        freelocale(utf8);
    }
    return r;
}
