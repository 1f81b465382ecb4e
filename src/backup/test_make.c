/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/test_make.h"

#include "backup/links.h"
#include "backup/pack.h"
#include "backup/tar.h"
#include "base/cleanup.h"
#include "base/path.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>

void memory_done(struct memory *m)
{
    free(m->buf);
    *m = (struct memory){0};
}

int memory_write(void *ctx, const void *buf, size_t len, struct err *err)
{
    struct memory *m = ctx;
    if (m->stop && m->len + len > m->stop)
        len = m->stop - m->len;
    if (m->len + len > m->cap) {
        m->cap = 2 * (m->len + len);
        m->buf = realloc(m->buf, m->cap);
        assert_non_null(m->buf);
    }
    if (len)
        memcpy(m->buf + m->len, buf, len);
    m->len += len;
    return m->stop && m->len == m->stop ? err_set(err, ERR_UNAVAILABLE, "the reader is gone") : 0;
}

int dir_new(const char *what, char path[64])
{
    str_print(path, 64, "/var/tmp/terem-backup-%s-XXXXXX", what);
    assert_non_null(mkdtemp(path));
    assert_int_equal(chmod(path, 0755), 0);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

void dir_trash(char path[64], int fd)
{
    close(fd);
    assert_int_equal(path_remove_tree_at(AT_FDCWD, path, NULL), 0);
}

static void file(int root, const char *name, const void *data, size_t len, mode_t mode)
{
    auto_fd int fd = openat(root, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    assert_int_equal(fchown(fd, 1000, 33), 0);
    assert_int_equal(fchmod(fd, mode), 0);
    struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1600000000, .tv_nsec = 123456789}};
    assert_int_equal(futimens(fd, times), 0);
}

static void attrs(int root)
{
    /* version 2, cap_net_raw=ep */
    static const uint8_t cap[20] = {1, 0, 0, 2, 0, 0x20};
    /* user::rw-, user:33:r--, group::r--, mask::r--, other::r-- */
    static const uint8_t acl[] = {2, 0,  0,   0,   1,   0,   6,  0, 255, 255, 255, 255, 2,   0,  4,
                                  0, 33, 0,   0,   0,   4,   0,  4, 0,   255, 255, 255, 255, 16, 0,
                                  4, 0,  255, 255, 255, 255, 32, 0, 4,   0,   255, 255, 255, 255};
    auto_fd int fd = openat(root, "etc/passwd", O_RDONLY | O_CLOEXEC);
    assert_int_equal(fsetxattr(fd, "user.note", "kept\0too", 8, 0), 0);
    assert_int_equal(fsetxattr(fd, "system.posix_acl_access", acl, sizeof(acl), 0), 0);
    assert_int_equal(fsetxattr(fd, "security.capability", cap, sizeof(cap), 0), 0);
    auto_fd int dir = openat(root, "etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(fsetxattr(dir, "user.overlay.opaque", "y", 1, 0), 0);
    assert_int_equal(fsetxattr(dir, "system.posix_acl_default", acl, sizeof(acl), 0), 0);
    assert_int_equal(fchownat(root, "etc", 7, 8, 0), 0);
    assert_int_equal(fchmod(dir, 02750), 0);
}

void fill(int root)
{
    assert_int_equal(mkdirat(root, "etc", 0755), 0);
    assert_int_equal(mkdirat(root, "empty", 01777), 0);
    file(root, "etc/passwd", "root:x:0:0\n", 11, 0644);
    file(root, "etc/suid", "x", 1, 04755);
    file(root, "etc/nothing", "", 0, 0);
    file(root, "etc/.wh.no-whiteout", "w", 1, 0644);
    file(root, "etc/b\xff\n\x01name", "y", 1, 0644);
    attrs(root);
    assert_int_equal(linkat(root, "etc/passwd", root, "etc/a-link", 0), 0);
    file(root, "h1", "one inode", 9, 0600);
    assert_int_equal(linkat(root, "h1", root, "h2", 0), 0);
    assert_int_equal(symlinkat("/nowhere/else", root, "symlink"), 0);
    assert_int_equal(linkat(root, "symlink", root, "symlink2", 0), 0);
    assert_int_equal(mkfifoat(root, "fifo", 0620), 0);
    assert_int_equal(mknodat(root, "gone", S_IFCHR, makedev(0, 0)), 0);
    assert_int_equal(linkat(root, "gone", root, "gone2", 0), 0);
    auto_fd int fd = openat(root, "sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    assert_int_equal(pwrite(fd, "here", 4, 1 << 20), 4);
    assert_int_equal(pwrite(fd, "there", 5, 3 << 20), 5);
    assert_int_equal(ftruncate(fd, 5 << 20), 0);
    auto_fd int hole = openat(root, "hole", O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    assert_int_equal(ftruncate(hole, 12345), 0);
    auto_free uint8_t *big = malloc(9 << 20); /* three frames and a bit */
    uint32_t x = 1;
    for (size_t i = 0; i < (9 << 20); i++)
        big[i] =
            i % 3000 < 2980 ? (uint8_t)(i / 3000) : (uint8_t)((x = x * 1103515245 + 12345) >> 24);
    file(root, "var-big", big, 9 << 20, 0600);
}

struct listing {
    struct str text;
    struct links *links;
};

/* Where its data are; how many blocks it has depends on where they lie, too: ext4 needs more for a
 * file in many pieces. */
static uint64_t data_map(const struct walk_file *f)
{
    auto_fd int fd = openat(f->dir, f->base, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    uint64_t map = 0;
    assert_true(fd >= 0);
    for (off_t to = 0, from; (from = lseek(fd, to, SEEK_DATA)) >= 0;) {
        to = lseek(fd, from, SEEK_HOLE);
        assert_true(to > from);
        map = (map + (uint64_t)from) * 1000003 + (uint64_t)to;
    }
    return map;
}

static int list_one(void *ctx, const struct walk_file *f, struct err *err)
{
    struct listing *l = ctx;
    struct list_item item;
    bool failed = false;
    list_item_of(&f->st, &item);
    if (!item.type)
        return 0;
    item.ctime = (struct timespec){0};
    item.name = f->name;
    const char *first = f->st.st_nlink > 1 && item.type != 'd'
                            ? links_first(l->links, &f->st, f->name, &failed)
                            : NULL;
    item.link = first ? first : "";
    assert_int_equal(tar_look(f, &item, err), 0);
    if (item.type == 'f')
        item.size = item.size * 1000003 + data_map(f);
    list_put(&l->text, &item);
    return 0;
}

char *list_of(int root, size_t *ret_len)
{
    struct err err = {0};
    struct listing l = {str_init(1 << 20), links_new()};
    assert_int_equal(walk(root, list_one, NULL, &l, &err), 0);
    links_free(l.links);
    *ret_len = l.text.len;
    return str_steal(&l.text);
}

int make(int root, const char *id, const char *base, size_t base_len,
         const struct backup_part *part, struct memory *out, struct err *err)
{
    struct backup_made made;
    char manifest[256], since[64] = "";
    if (base)
        str_print(since, sizeof(since), ", \"since\": \"%032x\"", 1);
    str_print(manifest, sizeof(manifest), "{\"id\": \"%s\"%s}", id, since);
    const struct backup_request rq = {
        .root = root,
        .taken = time(NULL) + 100,
        .id = id,
        .manifest = manifest,
        .base = base,
        .base_len = base_len,
        .part = part,
        .threads = 3,
        .write = memory_write,
        .ctx = out,
    };
    return backup_make(&rq, &made, err);
}

struct reading {
    const struct memory *m;
    size_t at;
};

static ssize_t memory_read(void *ctx, void *buf, size_t size, struct err *err)
{
    struct reading *r = ctx;
    size_t left = r->m->len - r->at, n = size < left ? size : left;
    n = n > 100000 ? 100000 : n; /* in pieces */
    if (n)
        memcpy(buf, r->m->buf + r->at, n);
    r->at += n;
    return (ssize_t)n;
}

int restore(const struct memory *from, int root, const char *since, struct backup_info *ret,
            struct err *err)
{
    struct reading r = {from, 0};
    const struct backup_in in = {memory_read, &r};
    const struct backup_restore rs = {
        .root = root,
        .limits = {.bytes = 64 << 20, .logical = 256 << 20, .entries = 1000},
        .since = since,
    };
    return backup_read(&in, &rs, ret, err);
}

int memory_fd(const struct memory *m)
{
    int fd = memfd_create("backup", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, m->buf, m->len), m->len);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static int to_pack(void *ctx, const void *buf, size_t len, struct err *err)
{
    return pack_add(ctx, buf, len, err);
}

int wrap(const void *tar, size_t len, uint64_t list, struct memory *out, struct err *err)
{
    static const char id[] = "00000000000000000000000000000001";
    static const char manifest[] = "{\"id\": \"00000000000000000000000000000001\"}";
    const struct backup_request rq = {.root = -1,
                                      .id = id,
                                      .manifest = manifest,
                                      .threads = 1,
                                      .write = memory_write,
                                      .ctx = out};
    auto_pack struct pack *p = NULL;
    auto_tar struct tar_out *t = NULL;
    uint64_t packed;
    int r;
    if ((r = pack_open(&rq, &p, err)) < 0)
        return r;
    pack_entry(p, MEMBER_MANIFEST);
    if ((r = tar_open(to_pack, p, &t, err)) < 0 ||
        (r = tar_member(t, MEMBER_MANIFEST, strlen(manifest), err)) < 0 ||
        (r = tar_data(t, manifest, strlen(manifest), err)) < 0 ||
        (r = tar_member_end(t, err)) < 0 || (r = pack_cut(p, err)) < 0)
        return r;
    pack_entry(p, "root/");
    r = pack_add(p, tar, len, err);
    /* before the end marker */
    uint64_t at = pack_plain(p) - 1024 - (list + 511) / 512 * 512;
    return r < 0 ? r : pack_end(p, at, list, &packed, err);
}
