/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/unpack.h"

#include "base/cleanup.h"
#include "base/number.h"
#include "base/str.h"
#include "template/acl.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TELL_EVERY  ((uint64_t)1 << 20) /* bytes of tar between two reports of progress */
#define XATTRS_MAX  64
#define XATTRS_SIZE ((size_t)1 << 20) /* of all values of one entry */
#define TAR_BLOCK   512

struct unpack {
    struct stream *in;
    struct archive *a;
    struct tree tree;
    const struct unpack_watch *watch;
    uint64_t told;
    uint64_t last_size; /* of the last file */
    size_t last_block;  /* bytes of a last block that was filled up; 0: it was whole */
    struct err err;     /* why a callback failed; libarchive carries only text */
    bool failed;
};

int unpack_tell(const struct unpack_watch *w, int percent, const char *text, struct err *err)
{
    if (!w->progress || w->progress(w->ctx, percent, text) == 0)
        return 0;
    return err_set(err, ERR_CANCELLED, "it was cancelled");
}

static int tell(struct unpack *u, struct err *err)
{
    uint64_t now = stream_offset(u->in);
    if (now < u->told + TELL_EVERY)
        return 0;
    u->told = now;
    int percent = stream_percent(u->in);
    if (percent >= 0)
        percent = u->watch->from + percent * (u->watch->to - u->watch->from) / 100;
    return unpack_tell(u->watch, percent, u->watch->text, err);
}

static la_ssize_t on_read(struct archive *a, void *ctx, const void **buf)
{
    struct unpack *u = ctx;
    ssize_t n = tell(u, &u->err) < 0 ? -1 : stream_read(u->in, buf, &u->err);
    if (n < 0) {
        u->failed = true;
        archive_set_error(a, EIO, "%s", u->err.text);
        return ARCHIVE_FATAL;
    }
    size_t part = stream_offset(u->in) % TAR_BLOCK;
    if (n > 0 || !u->watch->digest_tells || part == 0 || u->last_block)
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
    struct tree_xattr list[XATTRS_MAX];
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
        if (x->n + 2 >= XATTRS_MAX || total > XATTRS_SIZE)
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

static int copy_data(struct unpack *u, const struct tree_entry *e, int fd, struct err *err)
{
    const void *buf;
    size_t len;
    la_int64_t offset, end = 0;
    int r;
    while ((r = archive_read_data_block(u->a, &buf, &len, &offset)) == ARCHIVE_OK ||
           r == ARCHIVE_WARN) {
        /* libarchive bounds them by the header; a sparse map is foreign, so look again. */
        if (offset < end || (uint64_t)offset > e->size || len > e->size - (uint64_t)offset)
            return err_set(err, ERR_CORRUPT, "the archive has a damaged sparse file");
        end = offset + (la_int64_t)len;
        int w = tree_write(&u->tree, fd, buf, len, (uint64_t)offset, err);
        if (w < 0)
            return w;
    }
    return r == ARCHIVE_EOF ? 0 : archive_failed(u, err);
}

static int add_entry(struct unpack *u, struct archive_entry *ae, struct err *err)
{
    const char *name = archive_entry_pathname(ae), *hard = archive_entry_hardlink(ae);
    if (!name)
        return err_set(err, ERR_CORRUPT, "the archive has an entry without a name");
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
    auto_fd int fd = -1;
    if ((r = tree_add(&u->tree, &e, &fd, err)) < 0 || fd < 0)
        return r;
    if ((r = copy_data(u, &e, fd, err)) < 0)
        return r;
    return tree_finish(&u->tree, &e, &fd, err);
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
    if (r < 0 || (r = stream_drain(u->in, err)) < 0)
        return r;
    if (u->watch->digest_tells && (!u->last_block || u->last_size % TAR_BLOCK == u->last_block))
        return 0;
    end = (end + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    if (end < 0 || stream_offset(u->in) < (uint64_t)end + 2 * TAR_BLOCK)
        return err_set(err, ERR_CORRUPT, "the archive ends too early");
    return 0;
}

static int open_tar(struct unpack *u, struct err *err)
{
    u->a = archive_read_new();
    if (!u->a || archive_read_support_format_tar(u->a) != ARCHIVE_OK)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    /* No filters: stream.h has decompressed already. */
    if (archive_read_open(u->a, u, NULL, on_read, NULL) != ARCHIVE_OK)
        return archive_failed(u, err);
    return 0;
}

int unpack_tar(struct stream *in, int root, const struct tree_limits *limits,
               const struct unpack_watch *watch, uint64_t *ret_bytes, uint64_t *ret_entries,
               struct err *err)
{
    struct unpack u = {.in = in, .watch = watch, .told = stream_offset(in)};
    tree_init(&u.tree, root, limits);
    /* pax names are UTF-8; in the "C" locale libarchive would complain of each that is not ASCII.
     * uselocale() is of this thread only. */
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    locale_t before = utf8 ? uselocale(utf8) : (locale_t)0;
    int r = open_tar(&u, err);
    if (r == 0)
        r = unpack_all(&u, err);
    tree_done(&u.tree);
    archive_read_free(u.a);
    if (utf8) {
        uselocale(before);
        freelocale(utf8);
    }
    if (r < 0)
        return r;
    *ret_bytes = u.tree.bytes;
    *ret_entries = u.tree.entries;
    return 0;
}

int unpack_layer(struct template_store *s, struct stream *in, const struct tree_limits *limits,
                 const struct unpack_watch *watch, struct layer *ret, char ret_raw[STREAM_DIGEST],
                 struct err *err)
{
    auto_draft struct draft d = DRAFT_NONE;
    int r = draft_open(s, &d, err);
    if (r < 0)
        return r;
    if (mkdirat(d.dir, "root", 0755) < 0)
        return tree_sys(err, d.dir, errno, "make directory", "root");
    auto_fd int root = openat(d.dir, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* 0755 and no inherited ACL, whatever the umask and the state directory say. */
    if (root < 0 || fchmod(root, 0755) < 0)
        return err_sys(err, "cannot open the new layer");
    struct layer l = {.draft = DRAFT_NONE};
    char raw[STREAM_DIGEST];
    if ((r = unpack_tar(in, root, limits, watch, &l.bytes, &l.entries, err)) < 0 ||
        (r = stream_digests(in, l.digest, ret_raw ? ret_raw : raw, err)) < 0)
        return r;
    l.draft = d;
    d.dir = -1;
    *ret = l;
    return 0;
}
