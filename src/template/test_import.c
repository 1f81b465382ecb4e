/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/test_make.h"

#include "base/path.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

static char *repeat(const char *part, size_t n)
{
    struct str s = str_init(1 << 20);
    for (size_t i = 0; i < n; i++)
        str_add(&s, "%s", part);
    return str_steal(&s);
}

/* Each of them must be refused, with a sentence that has `say` in it, and leave nothing. */
static const struct {
    const char *what, *say;
    struct tar_item items[4];
} hostile[] = {
    {"parent", "leads outside", {{"../x", '0'}}},
    {"parent inside", "leads outside", {{"a/b/../../../x", '0'}}},
    {"only dots", "leads outside", {{"..", '5'}}},
    {"hidden parent", "leads outside", {{"a/..", '5'}}},
    {"through absolute link", "symbolic link", {{"l", '2', .link = "/tmp"}, {"l/x", '0'}}},
    {"through parent link", "symbolic link", {{"l", '2', .link = ".."}, {"l/x", '0'}}},
    {"through inner link", "symbolic link", {{"d", '5'}, {"l", '2', .link = "d"}, {"l/x", '0'}}},
    {"link in link",
     "symbolic link",
     {{"a", '2', .link = "."}, {"a/b", '2', .link = ".."}, {"a/b/x", '0'}}},
    {"directory through link",
     "symbolic link",
     {{"l", '2', .link = "../../outside"}, {"l/d/e", '5'}}},
    {"hard link outside", "leads outside", {{"h", '1', .link = "../../../outside/victim"}}},
    {"hard link absolute", "not in the layer", {{"h", '1', .link = "/etc/passwd"}}},
    {"hard link through link",
     "not in the layer",
     {{"l", '2', .link = "../../../../outside"}, {"h", '1', .link = "l/victim"}}},
    {"hard link to link",
     "not a file",
     {{"l", '2', .link = "/etc/passwd"}, {"h", '1', .link = "l"}}},
    {"hard link to directory", "not a file", {{"d", '5'}, {"h", '1', .link = "d"}}},
    {"hard link to nothing", "not in the layer", {{"h", '1', .link = "later"}, {"later", '0'}}},
    {"hard link to root", "not in the layer", {{"h", '1', .link = "."}}},
    {"hard link under its target",
     "replaces",
     {{"d", '5'}, {"d/f", '0', .data = "x"}, {"d", '1', .link = "d/f"}}},
    {"file as root", "replace the root", {{".", '0'}}},
    {"link as root", "replace the root", {{"./", '2', .link = "/"}}},
    {"uid", "0–65535", {{"f", '0', .uid = 65536}}},
    {"gid", "0–65535", {{"d", '5', .gid = 100000}}},
    {"whiteout of nothing", "whiteout", {{".wh.", '0'}}},
    {"whiteout of parent", "whiteout", {{"a/.wh...", '0'}}},
    {"whiteout of self", "whiteout", {{"a/.wh..", '0'}}},
    {"whiteout through link",
     "symbolic link",
     {{"l", '2', .link = "../outside"}, {"l/.wh.victim", '0'}}},
    {"opaque through link",
     "symbolic link",
     {{"l", '2', .link = "../outside"}, {"l/.wh..wh..opq", '0'}}},
};

static void test_hostile(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < ARRAY_SIZE(hostile); i++) {
        auto_bytes struct bytes b = {0};
        tar_add(&b, &(struct tar_item){"first", '0', .data = "is written before"});
        for (size_t k = 0; k < 4 && hostile[i].items[k].name; k++)
            tar_add(&b, &hostile[i].items[k]);
        tar_end(&b);
        int r = import_bytes(f, &b, NULL);
        if (r >= 0 || !strstr(f->err.text, hostile[i].say))
            fail_msg("%s: %d \"%s\"", hostile[i].what, r, f->err.text);
        fixture_assert_nothing(f);
    }
}

static void refuse(struct fixture *f, const struct bytes *b, int kind, const char *say)
{
    int r = import_bytes(f, b, NULL);
    if (r != -kind || !strstr(f->err.text, say))
        fail_msg("%d \"%s\" where \"%s\" is due", r, f->err.text, say);
    fixture_assert_nothing(f);
}

static void test_names_too_long(void **state)
{
    struct fixture *f = *state;
    auto_free char *name = repeat("n", 256), *path = repeat("dir/", 1100),
                   *deep = repeat("d/", 257), *link = repeat("l", 4096),
                   *huge = repeat("x", 300000);
    struct {
        const char *name, *link, *say;
    } cases[] = {{name, NULL, "more than 255 bytes"},
                 {path, NULL, "256 directories"},
                 {deep, NULL, "256 directories"},
                 {"l", link, "symbolic link"},
                 {huge, NULL, "more than 255 bytes"}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        auto_bytes struct bytes b = {0};
        tar_long(&b, 'L', cases[i].name);
        if (cases[i].link)
            tar_long(&b, 'K', cases[i].link);
        tar_add(&b, &(struct tar_item){.name = "short",
                                       .type = cases[i].link ? '2' : '0',
                                       .link = cases[i].link ? "short" : NULL});
        tar_end(&b);
        refuse(f, &b, ERR_CORRUPT, cases[i].say);
    }
    auto_free char *part = repeat("p", 200), *wide = NULL;
    struct str s = str_init(8192);
    for (int i = 0; i < 21; i++)
        str_add(&s, "%s/", part);
    wide = str_steal(&s);
    auto_bytes struct bytes b = {0};
    tar_long(&b, 'L', wide);
    tar_add(&b, &(struct tar_item){"short", '0'});
    tar_end(&b);
    refuse(f, &b, ERR_CORRUPT, "4095 bytes");
}

/* What looks bad and is safe: it stays inside, and is what one would expect. */
static void test_harmless(void **state)
{
    struct fixture *f = *state;
    auto_bytes struct bytes b = {0};
    tar_add(&b, &(struct tar_item){"./", '5', .mode = 0711, .uid = 7});
    tar_add(&b, &(struct tar_item){"/etc/absolute", '0', .data = "inside"});
    tar_add(&b, &(struct tar_item){"//./etc//.//twice", '0', .data = "x", .mode = 04755});
    tar_add(&b, &(struct tar_item){"escape", '2', .link = "../../../../etc/passwd"});
    tar_add(&b, &(struct tar_item){"null", '3', .major = 1, .minor = 3});
    tar_add(&b, &(struct tar_item){"white", '3'});
    tar_add(&b, &(struct tar_item){"disk", '4', .major = 8});
    tar_add(&b, &(struct tar_item){"pipe", '6', .mode = 0620, .gid = 5});
    tar_add(&b, &(struct tar_item){"link", '1', .link = "/etc/absolute"});
    /* The last of equal names wins, whatever it was before. */
    tar_add(&b, &(struct tar_item){"same", '0', .data = "first"});
    tar_add(&b, &(struct tar_item){"same", '0', .data = "second"});
    tar_add(&b, &(struct tar_item){"tree/deep/file", '0', .data = "x"});
    tar_add(&b, &(struct tar_item){"tree", '2', .link = "gone"});
    tar_add(&b, &(struct tar_item){"turn", '2', .link = "/etc"});
    tar_add(&b, &(struct tar_item){"turn", '5', .mode = 01777, .uid = 33, .gid = 34});
    tar_add(&b, &(struct tar_item){"turn/file", '0', .data = "y"});
    tar_end(&b);
    OK(f, import_bytes(f, &b, NULL));
    auto_fd int root = fixture_root(f, "t", 0);
    struct stat st, other;
    assert_int_equal(fstat(root, &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0711);
    assert_int_equal(st.st_uid, 7);
    assert_int_equal(st.st_mtime, 1000000000);
    assert_int_equal(fstatat(root, "etc/absolute", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_size, 6);
    assert_int_equal(st.st_nlink, 2);
    assert_int_equal(fstatat(root, "link", &other, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(st.st_ino == other.st_ino);
    assert_int_equal(fstatat(root, "etc/twice", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_mode, S_IFREG | 04755);
    char link[64] = "";
    assert_true(readlinkat(root, "escape", link, sizeof(link)) > 0);
    assert_string_equal(link, "../../../../etc/passwd");
    static const char *const skipped[] = {"null", "white", "disk"};
    for (size_t i = 0; i < ARRAY_SIZE(skipped); i++)
        assert_int_equal(faccessat(root, skipped[i], F_OK, AT_SYMLINK_NOFOLLOW), -1);
    assert_int_equal(fstatat(root, "pipe", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_mode, S_IFIFO | 0620);
    assert_int_equal(fstatat(root, "same", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_size, 6);
    assert_int_equal(fstatat(root, "tree", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(fstatat(root, "turn", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 01777);
    assert_int_equal(st.st_mtime, 1000000000); /* although turn/file was made after it */
    assert_int_equal(fstatat(root, "turn/file", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(fixture_entries(f, "../outside"), 1);
}

static size_t xattr(int root, const char *path, const char *name, void *buf, size_t size)
{
    auto_fd int fd = -1;
    assert_int_equal(path_open_beneath(root, path, O_RDONLY, 0, &fd, NULL), 0);
    ssize_t n = fgetxattr(fd, name, buf, size);
    return n < 0 ? 0 : (size_t)n;
}

static void test_attributes(void **state)
{
    struct fixture *f = *state;
    auto_bytes struct bytes b = {0};
    unsigned char v3[24] = {0, 0, 0, 3}, v1[12] = {0, 0, 0, 1}, buf[64];
    v3[4] = 0x20;  /* cap_net_raw */
    v3[21] = 0x01; /* of the user namespace whose root is 256 */
    tar_pax(&b, "SCHILY.xattr.security.capability", v3, sizeof(v3));
    tar_add(&b, &(struct tar_item){"cap3", '0', .mode = 0755});
    tar_pax(&b, "SCHILY.xattr.security.capability", v1, sizeof(v1));
    tar_add(&b, &(struct tar_item){"cap1", '0', .mode = 0755});
    tar_pax(&b, "SCHILY.xattr.user.comment", "kept", 4);
    tar_add(&b, &(struct tar_item){"user", '0'});
    tar_pax(&b, "SCHILY.xattr.user.overlay.opaque", "y", 1);
    tar_add(&b, &(struct tar_item){"opaque", '5'});
    tar_pax(&b, "SCHILY.xattr.user.overlay.redirect", "/etc", 4);
    tar_add(&b, &(struct tar_item){"redirect", '5'});
    tar_pax(&b, "SCHILY.xattr.trusted.overlay.opaque", "y", 1);
    tar_add(&b, &(struct tar_item){"trusted", '5'});
    tar_pax(&b, "SCHILY.xattr.security.selinux", "x", 1);
    tar_add(&b, &(struct tar_item){"selinux", '0'});
    static const char acl[] = "user::rw-,user:33:r--:33,group::r--,mask::r--,other::---";
    tar_pax(&b, "SCHILY.acl.access", acl, strlen(acl));
    tar_add(&b, &(struct tar_item){"acl", '0', .mode = 0640});
    static const char big[] = "user::rw-,user:x:r--:70000,group::r--,mask::r--,other::---";
    tar_pax(&b, "SCHILY.acl.access", big, strlen(big));
    tar_add(&b, &(struct tar_item){"acl-big", '0', .mode = 0640});
    /* What is made below a default ACL does not inherit it. */
    static const char inherit[] = "user::rwx,user:33:rwx:33,group::r-x,mask::rwx,other::---";
    tar_pax(&b, "SCHILY.acl.default", inherit, strlen(inherit));
    tar_add(&b, &(struct tar_item){"default", '5'});
    tar_add(&b, &(struct tar_item){"default/file", '0'});
    tar_add(&b, &(struct tar_item){"default/dir", '5'});
    tar_end(&b);
    OK(f, import_bytes(f, &b, NULL));
    auto_fd int root = fixture_root(f, "t", 0);
    assert_int_equal(xattr(root, "cap3", "security.capability", buf, sizeof(buf)), 20);
    assert_int_equal(buf[3], 2);
    assert_int_equal(buf[4], 0x20);
    assert_int_equal(xattr(root, "cap1", "security.capability", buf, sizeof(buf)), 0);
    assert_int_equal(xattr(root, "user", "user.comment", buf, sizeof(buf)), 4);
    assert_int_equal(xattr(root, "opaque", "user.overlay.opaque", buf, sizeof(buf)), 0);
    assert_int_equal(xattr(root, "redirect", "user.overlay.redirect", buf, sizeof(buf)), 0);
    assert_int_equal(xattr(root, "trusted", "trusted.overlay.opaque", buf, sizeof(buf)), 0);
    assert_int_equal(xattr(root, "selinux", "security.selinux", buf, sizeof(buf)), 0);
    assert_int_equal(xattr(root, "acl", "system.posix_acl_access", buf, sizeof(buf)), 44);
    assert_int_equal(xattr(root, "acl-big", "system.posix_acl_access", buf, sizeof(buf)), 0);
    assert_int_equal(xattr(root, "default", "system.posix_acl_default", buf, sizeof(buf)), 44);
    assert_int_equal(xattr(root, "default/file", "system.posix_acl_access", buf, sizeof(buf)), 0);
    assert_int_equal(xattr(root, "default/dir", "system.posix_acl_default", buf, sizeof(buf)), 0);
    struct stat st;
    assert_int_equal(fstatat(root, "default/file", &st, 0), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0644);
}

/* A tar with a bit of everything. */
static void small_tar(struct bytes *b)
{
    tar_add(b, &(struct tar_item){"./", '5'});
    tar_add(b, &(struct tar_item){"etc/", '5'});
    tar_add(b, &(struct tar_item){"etc/passwd", '0', .data = "root:x:0:0::/root:/bin/sh\n"});
    tar_add(b, &(struct tar_item){"sbin/init", '2', .link = "../lib/systemd/systemd"});
    auto_free char *text = repeat("0123456789abcdef", 100);
    tar_add(b, &(struct tar_item){"lib/systemd/systemd", '0', .mode = 0755, .data = text});
    tar_add(b, &(struct tar_item){"bin", '1', .link = "etc/passwd"});
    /* Zeros at the end must not be taken for the end marker. */
    auto_free char *zeros = calloc(1, 2048);
    tar_add(b, &(struct tar_item){"zeros", '0', .data = zeros, .len = 2048});
}

static void test_truncated(void **state)
{
    struct fixture *f = *state;
    auto_bytes struct bytes tar = {0};
    small_tar(&tar);
    tar_end(&tar);
    size_t whole = tar.n;
    for (size_t n = 0; n < whole; n += n % 512 ? 511 : 1) {
        struct bytes cut = {tar.p, n, n};
        refuse(f, &cut, ERR_CORRUPT, "");
    }
    void (*const packs[])(const struct bytes *, struct bytes *) = {pack_gzip, pack_xz, pack_zstd};
    for (size_t p = 0; p < ARRAY_SIZE(packs); p++) {
        auto_bytes struct bytes packed = {0};
        packs[p](&tar, &packed);
        for (size_t n = 0; n < packed.n; n += 1 + n / 40) {
            struct bytes cut = {packed.p, n, n};
            refuse(f, &cut, ERR_CORRUPT, "");
        }
        for (size_t n = packed.n - 12; n < packed.n; n++) {
            struct bytes cut = {packed.p, n, n};
            refuse(f, &cut, ERR_CORRUPT, "");
        }
        OK(f, import_bytes(f, &packed, NULL));
        auto_template struct template *t = NULL;
        OK(f, template_get(f->store, "t", &t, &f->err));
        assert_int_equal(t->init, TEMPLATE_INIT_SYSTEMD);
        char digest[HASH_TEXT];
        sha256_of(&tar, digest);
        assert_string_equal(t->layers[0], digest);
        OK(f, fixture_remove(f, "t", NULL, 0));
        fixture_assert_nothing(f);
    }
}

/* One flipped bit anywhere in compressed data is noticed: each form has a checksum. */
static void test_flipped(void **state)
{
    struct fixture *f = *state;
    auto_bytes struct bytes tar = {0};
    small_tar(&tar);
    tar_end(&tar);
    char digest[HASH_TEXT];
    sha256_of(&tar, digest);
    void (*const packs[])(const struct bytes *, struct bytes *) = {pack_gzip, pack_xz};
    for (size_t p = 0; p < ARRAY_SIZE(packs); p++) {
        auto_bytes struct bytes packed = {0};
        packs[p](&tar, &packed);
        /* gzip's header has ten bytes whose time and system do not matter. */
        for (size_t n = p == 0 ? 10 : 0; n < packed.n; n += 5) {
            packed.p[n] ^= 0x10;
            int r = import_bytes(f, &packed, NULL);
            packed.p[n] ^= 0x10;
            if (r >= 0) { /* a run of zeros copied from another run of zeros is the same */
                auto_template struct template *t = NULL;
                OK(f, template_get(f->store, "t", &t, &f->err));
                if (!str_eq(t->layers[0], digest))
                    fail_msg("byte %zu of form %zu may be wrong", n, p);
                OK(f, fixture_remove(f, "t", NULL, 0));
            }
            fixture_assert_nothing(f);
        }
    }
}

static void test_forms(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *bytes;
        int kind;
        const char *say;
    } cases[] = {
        {"BZh91AY&SY", ERR_UNSUPPORTED, "bzip2"},
        {"PK\3\4zip", ERR_UNSUPPORTED, "zip"},
        {"\x04\x22\x4d\x18lz4", ERR_UNSUPPORTED, "lz4"},
        {"", ERR_CORRUPT, "not a tar"},
        {"hello, this is no archive at all", ERR_CORRUPT, "not a tar"},
        {"#!/bin/sh\nexit 0\n", ERR_CORRUPT, "not a tar"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct bytes b = {(unsigned char *)(uintptr_t)cases[i].bytes, strlen(cases[i].bytes), 0};
        refuse(f, &b, cases[i].kind, cases[i].say);
    }
    auto_bytes struct bytes empty = {0};
    tar_end(&empty);
    refuse(f, &empty, ERR_CORRUPT, "empty");

    struct template_request rq = {.name = "t", .source = "relative"};
    assert_int_equal(template_import(f->store, &rq, &f->err), -ERR_USAGE);
    rq.source = "/dev/null";
    assert_int_equal(template_import(f->store, &rq, &f->err), -ERR_USAGE);
    rq.source = "/nonexistent/file";
    assert_int_equal(template_import(f->store, &rq, &f->err), -ERR_NOT_FOUND);
    rq.source = NULL;
    assert_int_equal(template_import(f->store, &rq, &f->err), -ERR_USAGE);
    static const char *const names[] = {"", "..", "a/b", "Upper", "a b", "x\n", ".hidden"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        rq.name = names[i];
        assert_int_equal(template_import(f->store, &rq, &f->err), -ERR_USAGE);
    }
    fixture_assert_nothing(f);
}

/* GNU sparse (1.0, in pax headers): holes stay holes, bombs are refused. */
static void sparse_tar(struct bytes *b, const char *realsize, const char *offset)
{
    char map[512] = "";
    str_print(map, sizeof(map), "1\n%s\n4\n", offset);
    memset(map + strlen(map), 0, sizeof(map) - strlen(map));
    auto_bytes struct bytes body = {0};
    bytes_add(&body, map, sizeof(map));
    bytes_add(&body, "data", 4);
    auto_bytes struct bytes pax = {0};
    auto_free char *size = str_format("GNU.sparse.realsize=%s\n", realsize);
    auto_free char *head = str_format("22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
                                      "%zu %s",
                                      strlen(size) + 3, size);
    bytes_add(&pax, head, strlen(head));
    static const char name[] = "26 GNU.sparse.name=sparse\n";
    bytes_add(&pax, name, strlen(name));
    tar_add(b, &(struct tar_item){.name = "x", .type = 'x', .data = (char *)pax.p, .len = pax.n});
    tar_add(b, &(struct tar_item){.name = "GNUSparseFile.1/sparse",
                                  .type = '0',
                                  .data = (char *)body.p,
                                  .len = body.n});
    tar_end(b);
}

static void test_sparse(void **state)
{
    struct fixture *f = *state;
    auto_bytes struct bytes good = {0}, bomb = {0}, outside = {0};
    sparse_tar(&good, "1073741824", "1073741820");
    OK(f, import_bytes(f, &good, NULL));
    auto_fd int root = fixture_root(f, "t", 0);
    struct stat st;
    assert_int_equal(fstatat(root, "sparse", &st, 0), 0);
    assert_int_equal(st.st_size, 1073741824);
    assert_true(st.st_blocks < 100);
    OK(f, fixture_remove(f, "t", NULL, 0));
    sparse_tar(&bomb, "9000000000000000000", "0");
    refuse(f, &bomb, ERR_EXHAUSTED, "holes included");
    sparse_tar(&outside, "100", "200");
    assert_true(import_bytes(f, &outside, NULL) < 0);
    fixture_assert_nothing(f);
}

static void test_limits(void **state)
{
    struct fixture *f = *state;
    auto_bytes struct bytes b = {0};
    for (int i = 0; i < 20; i++) {
        char name[32];
        str_print(name, sizeof(name), "file-%d", i);
        tar_add(&b, &(struct tar_item){name, '0', .data = "0123456789"});
    }
    tar_end(&b);
    struct template_request rq = {.max_entries = 19};
    assert_int_equal(import_bytes(f, &b, &rq), -ERR_EXHAUSTED);
    assert_non_null(strstr(f->err.text, "more than 19 entries"));
    fixture_assert_nothing(f);
    rq = (struct template_request){.max_bytes = 199};
    assert_int_equal(import_bytes(f, &b, &rq), -ERR_EXHAUSTED);
    assert_non_null(strstr(f->err.text, "199"));
    fixture_assert_nothing(f);
    rq = (struct template_request){.max_bytes = 200, .max_entries = 20};
    OK(f, import_bytes(f, &b, &rq));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hostile, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_names_too_long, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_harmless, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_attributes, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_truncated, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_flipped, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_forms, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_sparse, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_limits, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
