/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files that Terem did not write so: their sums are right, and what is in them is not. */
#include "backup/format.h"
#include "backup/test_fixture.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <zstd.h>

struct evil {
    const char *name;
    char type;
    const char *link;
    unsigned uid, major;
    uint64_t size;
    const char *refusal;
    const char *attr, *value; /* of it, in a header before its own */
};

static size_t evil_header(uint8_t *out, const struct evil *e)
{
    if (e->attr) { /* "LENGTH SCHILY.xattr.NAME=VALUE\n" */
        char *pax = (char *)out + 512;
        size_t len = strlen("12 SCHILY.xattr.=\n") + strlen(e->attr) + strlen(e->value);
        const struct evil first = {"pax", 'x', .size = len};
        const struct evil own = {e->name, e->type, .uid = e->uid};
        assert_true(len < 100);
        evil_header(out, &first);
        memset(pax, 0, 512);
        str_print(pax, 512, "%zu SCHILY.xattr.%s=%s\n", len, e->attr, e->value);
        return 1024 + evil_header(out + 1024, &own);
    }
    char *h = (char *)out;
    memset(out, 0, 512);
    str_print(h, 100, "%s", e->name);
    str_print(h + 100, 8, "%07o", 0644);
    str_print(h + 108, 8, "%07o", e->uid);
    str_print(h + 116, 8, "%07o", 0);
    str_print(h + 136, 12, "%011o", 0);
    if (e->size >> 33) { /* GNU's base 256 */
        out[124] = 0x80;
        for (unsigned i = 0; i < 8; i++)
            out[135 - i] = (uint8_t)(e->size >> (8 * i));
    } else {
        str_print(h + 124, 12, "%011llo", (unsigned long long)e->size);
    }
    h[156] = e->type;
    str_print(h + 157, 100, "%s", e->link ? e->link : "");
    memcpy(h + 257,
           "ustar\0"
           "00",
           8);
    str_print(h + 329, 8, "%07o", e->major);
    str_print(h + 337, 8, "%07o", 0);
    memset(h + 148, ' ', 8);
    unsigned sum = 0;
    for (size_t i = 0; i < 512; i++)
        sum += out[i];
    str_print(h + 148, 8, "%06o", sum);
    return 512;
}

static void test_hostile(void **state)
{
    struct fixture *f = *state;
    static const struct evil cases[] = {
        {"root/../../x", '0', .refusal = "leads outside"},
        {"root/a/../../x", '0', .refusal = "leads outside"},
        {"/etc/x", '0', .refusal = "nobody knows"},
        {"x", '0', .refusal = "nobody knows"},
        {"terem/manifest.json", '0', .refusal = "two manifests"},
        {"terem/../x", '0', .refusal = "nobody knows"},
        {"terem/layers/sha256:x.tar", '0', .refusal = "nobody knows"},
        {"terem/list", '5', .refusal = "not a file"},
        {"root/sda", '4', .major = 8, .refusal = "device or a socket"},
        {"root/null", '3', .major = 1, .refusal = "device or a socket"},
        {"root/who", '0', .uid = 65536, .refusal = "only the ids"},
        {"root/link", '1', "terem/manifest.json", .refusal = "not of its tree"},
        {"root/link", '1', "root/none", .refusal = "not in the layer"},
        {"root/link", '1', "root/../x", .refusal = "leads outside"},
        {"root/", '2', "/etc", .refusal = "replace the root"},
        {"root/way/x", '0', .refusal = "symbolic link"},
        {"root/huge", '0', .size = (uint64_t)1 << 60, .refusal = "large"},
        {"root/cut", '0', .size = 4096, .refusal = "Truncated"},
        {"root/d", '5', .attr = "user.overlay.redirect", .value = "/etc", .refusal = "redirect"},
        {"root/f", '0', .attr = "user.overlay.redirect", .value = "/etc", .refusal = "redirect"},
        {"root/f", '0', .attr = "user.overlay.metacopy", .value = "", .refusal = "metacopy"},
        {"root/f", '0', .attr = "user.overlay.opaque", .value = "y", .refusal = "opaque"},
        {"root/d", '5', .attr = "user.overlay.opaque", .value = "x", .refusal = "opaque"},
        {"root/f", '0', .attr = "user.overlay.nlink", .value = "L+1", .refusal = "nlink"},
        {"root/d", '5', .attr = "user.overlay.opaque", .value = "y", .refusal = "its list of"},
        {"root/d", '5', .attr = "user.overlay.impure", .value = "y", .refusal = "its list of"},
        {"root/f", '0', .attr = "user.overlay.origin", .value = "o", .refusal = "its list of"},
        {"root/f", '0', .attr = "user.overlay.protattr", .value = "i", .refusal = "its list of"},
        {"root/fine", '0', .refusal = "its list of files"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t tar[4096] = {0};
        const struct evil way = {"root/way", '2', "/etc"};
        size_t n = evil_header(tar, &way);
        n += evil_header(tar + n, &cases[i]);
        struct memory m = {0};
        f->err = (struct err){0};
        OK(f, wrap(tar, cases[i].size == 4096 ? n : n + 1024, 0, &m, &f->err));
        char path[64];
        int root = dir_new("evil", path);
        f->err = (struct err){0};
        if (restore(&m, root, NULL, &f->info, &f->err) == 0)
            fail_msg("%s was taken", cases[i].name);
        if (!strstr(f->err.text, cases[i].refusal))
            fail_msg("%s: %s", cases[i].name, f->err.text);
        /* Without a tree, the same is said of what can be told from an entry alone. */
        bool alone = cases[i].attr || cases[i].major || cases[i].uid;
        if (restore(&m, -1, NULL, &f->info, &f->err) == 0 ||
            (alone && !strstr(f->err.text, cases[i].refusal)))
            fail_msg("%s is verified: %s", cases[i].name, f->err.text);
        dir_trash(path, root);
        memory_done(&m);
    }
    struct stat st;
    assert_int_equal(stat("/etc/x", &st), -1);
}

/* Files, and a list of none: who only verifies says what who restores says. */
static void test_disagree(void **state)
{
    struct fixture *f = *state;
    static const struct evil cases[] = {
        {"root/file", '0'}, {"root/dir", '5'}, {"root/link", '1', "root/none"}};
    const struct evil list = {"terem/list", '0'};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t tar[2048] = {0};
        struct memory m = {0};
        size_t n = evil_header(tar, &cases[i]);
        n += evil_header(tar + n, &list);
        OK(f, wrap(tar, n + 1024, 0, &m, &f->err));
        f->err = (struct err){0};
        assert_int_equal(restore(&m, f->to, NULL, &f->info, &f->err), -ERR_CORRUPT);
        f->err = (struct err){0};
        assert_int_equal(restore(&m, -1, NULL, &f->info, &f->err), -ERR_CORRUPT);
        assert_non_null(strstr(f->err.text, "does not agree with its own list"));
        memory_done(&m);
    }
}

/* The trailer, and the chain of all before it. */
static uint8_t *trailer_of(const struct memory *m, uint8_t chain[HASH_RAW], uint64_t *ret_len)
{
    char id[BACKUP_ID];
    struct frame_info fr;
    uint8_t *p = m->buf + FILE_HEAD;
    assert_true(format_head_read(m->buf, id, chain));
    while (format_tag(p, ret_len) == TAG_FRAME) {
        assert_true(format_frame_read(p, *ret_len, &fr, chain));
        p += *ret_len + fr.packed;
    }
    assert_int_equal(format_tag(p, ret_len), TAG_TRAILER);
    return p;
}

/* Whoever reads the list by the trailer alone must read the list that was checked. */
static void test_list_at(void **state)
{
    struct fixture *f = *state;
    uint8_t chain[HASH_RAW], *p;
    uint64_t len;
    struct trailer t;
    fill(f->from);
    OK(f, make(f->from, ID, NULL, 0, NULL, &f->m, &f->err));
    p = trailer_of(&f->m, chain, &len);
    assert_true(format_trailer_read(p, len, chain, &t));
    uint8_t *at = p + SKIP_HEAD + 4 + 2 * 8; /* the low byte of list_at */
    *at ^= 1;
    hash_bytes(chain, HASH_RAW, p, len - HASH_RAW, p + len - HASH_RAW);
    assert_true(format_trailer_read(p, len, chain, &t));
    assert_int_equal(restore(&f->m, -1, NULL, &f->info, &f->err), -ERR_CORRUPT);
    assert_non_null(strstr(f->err.text, "another place"));
}

/* What comes behind the list would be in no list. */
static void test_behind_list(void **state)
{
    struct fixture *f = *state;
    static const struct evil cases[] = {
        {"terem/list", '0'}, {"root/late", '5'}, {"terem/deleted", '0'}};
    const struct evil list = {"terem/list", '0'};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint8_t tar[2048] = {0};
        struct memory m = {0};
        size_t n = evil_header(tar, &list);
        n += evil_header(tar + n, &cases[i]);
        OK(f, wrap(tar, n + 1024, 0, &m, &f->err));
        f->err = (struct err){0};
        assert_int_equal(restore(&m, -1, NULL, &f->info, &f->err), -ERR_CORRUPT);
        assert_non_null(strstr(f->err.text, "behind its list"));
        memory_done(&m);
    }
}

/* The tar in it, without the manifest; the size of its list of files. */
static uint8_t *unpacked(const struct memory *m, size_t *ret_len, uint64_t *ret_list)
{
    const size_t cap = 16 << 20, manifest = 1024;
    uint8_t *tar = malloc(cap);
    size_t n = 0, size;
    for (size_t at = 0; at < m->len; at += size) {
        size = ZSTD_findFrameCompressedSize(m->buf + at, m->len - at);
        assert_false(ZSTD_isError(size));
        n += ZSTD_decompress(tar + n, cap - n, m->buf + at, size);
    }
    *ret_len = n - manifest;
    memmove(tar, tar + manifest, n - manifest);
    const char *list = memmem(tar, n, MEMBER_LIST, sizeof(MEMBER_LIST));
    assert_non_null(list);
    *ret_list = 0;
    for (const char *p = list + 124; *p >= '0' && *p < '8'; p++)
        *ret_list = *ret_list * 8 + (uint64_t)(*p - '0');
    return tar;
}

/* All sums of the file are right, and what is in it is not what its list says. */
static void test_tampered(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *was, *is, *refusal;
    } cases[] = {
        {"root:x:0:0", "root:x:0:1", "about the content of etc/a-link"},
        {"there", "where", "about the content of sparse"},
        {"user.note=kept", "user.note=left", "about the attributes of etc/a-link"},
        {"user.note=kept", "user.nope=kept", "about the attributes of etc/a-link"},
        {"there", "there", NULL},
    };
    fill(f->from);
    OK(f, make(f->from, ID, NULL, 0, NULL, &f->m, &f->err));
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char path[64];
        struct memory m = {0};
        size_t len;
        uint64_t list;
        auto_free uint8_t *tar = unpacked(&f->m, &len, &list);
        void *at = memmem(tar, len, cases[i].was, strlen(cases[i].was));
        assert_non_null(at);
        memcpy(at, cases[i].is, strlen(cases[i].is));
        OK(f, wrap(tar, len, list, &m, &f->err));
        int root = dir_new("tampered", path);
        for (int k = 0; k < 2; k++) {
            f->err = (struct err){0};
            int r = restore(&m, k ? -1 : root, NULL, &f->info, &f->err);
            if (!cases[i].refusal)
                OK(f, r);
            else if (r != -ERR_CORRUPT || !strstr(f->err.text, cases[i].refusal))
                fail_msg("%s: %s", cases[i].is, r ? f->err.text : "was taken");
            backup_info_done(&f->info);
        }
        dir_trash(path, root);
        memory_done(&m);
    }
}

/* What the manifest says of the tree must be so, whether something is written or not. */
static void test_bytes(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *bytes;
        bool ok;
    } cases[] = {{"1", true}, {"4611686018427387904", false}, {"-1", false}};
    fill(f->from);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char manifest[160];
        struct backup_made made;
        struct memory m = {0};
        str_print(manifest, sizeof(manifest), "{\"id\": \"%s\", \"tree\": {\"bytes\": %s}}", ID,
                  cases[i].bytes);
        const struct backup_request rq = {.root = f->from,
                                          .taken = time(NULL) + 100,
                                          .id = ID,
                                          .manifest = manifest,
                                          .threads = 1,
                                          .write = memory_write,
                                          .ctx = &m};
        OK(f, backup_make(&rq, &made, &f->err));
        assert_int_equal(restore(&m, -1, NULL, &f->info, &f->err) == 0, cases[i].ok);
        if (!cases[i].ok)
            assert_non_null(strstr(f->err.text, "more bytes than"));
        backup_info_done(&f->info);
        memory_done(&m);
    }
}

/* A frame that says that it is small and is not. */
static void test_bomb(void **state)
{
    struct fixture *f = *state;
    struct memory m = {0};
    auto_free uint8_t *zeros = calloc(1, 4 << 20);
    OK(f, wrap(zeros, 4 << 20, 0, &m, &f->err));
    struct backup_info info = {0};
    uint8_t chain[HASH_RAW];
    char id[BACKUP_ID];
    struct frame_info fr;
    assert_true(format_head_read(m.buf, id, chain));
    size_t at = FILE_HEAD;
    for (int i = 0; i < 2; i++) {
        uint64_t len;
        assert_int_equal(format_tag(m.buf + at, &len), TAG_FRAME);
        uint8_t before[HASH_RAW];
        memcpy(before, chain, HASH_RAW);
        assert_true(format_frame_read(m.buf + at, len, &fr, chain));
        if (i == 1) {
            fr.plain = 512;
            memcpy(chain, before, HASH_RAW);
            assert_int_equal(format_frame(m.buf + at, &fr, chain), len);
        }
        at += len + fr.packed;
    }
    assert_int_equal(restore(&m, f->to, NULL, &info, &f->err), -ERR_CORRUPT);
    assert_non_null(strstr(f->err.text, "(frame 1)"));
    memory_done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_hostile),  T(test_bomb),    T(test_bytes),       T(test_disagree),
        T(test_tampered), T(test_list_at), T(test_behind_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
