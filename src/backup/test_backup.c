/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/test_make.h"

#include "backup/format.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <zstd.h>

#define ID  "00000000000000000000000000000001"
#define ID2 "00000000000000000000000000000002"

struct fixture {
    char from_path[64], to_path[64];
    int from, to;
    struct memory m;
    struct err err;
    struct backup_info info;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->from = dir_new("from", f->from_path);
    f->to = dir_new("to", f->to_path);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    dir_trash(f->from_path, f->from);
    dir_trash(f->to_path, f->to);
    memory_done(&f->m);
    backup_info_done(&f->info);
    free(f);
    return 0;
}

#define OK(f, call)                                   \
    do {                                              \
        if ((call) != 0)                              \
            fail_msg("%s: %s", #call, (f)->err.text); \
    } while (0)

static void assert_same(int a, int b)
{
    size_t a_len, b_len;
    auto_free char *x = list_of(a, &a_len), *y = list_of(b, &b_len);
    if (a_len != b_len || memcmp(x, y, a_len) != 0)
        for (size_t i = 0; i < a_len && i < b_len; i++)
            if (x[i] != y[i])
                fail_msg("the trees differ: ...%.80s\nand ...%.80s", x + (i < 60 ? 0 : i - 60),
                         y + (i < 60 ? 0 : i - 60));
    assert_int_equal(a_len, b_len);
}

static void test_round_trip(void **state)
{
    struct fixture *f = *state;
    fill(f->from);
    OK(f, make(f->from, ID, NULL, 0, NULL, &f->m, &f->err));
    OK(f, restore(&f->m, f->to, NULL, &f->info, &f->err));
    assert_same(f->from, f->to);
    assert_string_equal(f->info.id, ID);
    assert_string_equal(f->info.since, "");
    assert_int_equal(f->info.packed, f->m.len);
    assert_true(f->info.frames >= 5);
    /* the same tree gives the same bytes */
    struct memory again = {0};
    OK(f, make(f->from, ID, NULL, 0, NULL, &again, &f->err));
    assert_int_equal(again.len, f->m.len);
    assert_memory_equal(again.buf, f->m.buf, f->m.len);
    memory_done(&again);
}

static void test_show(void **state)
{
    struct fixture *f = *state;
    fill(f->from);
    OK(f, make(f->from, ID, NULL, 0, NULL, &f->m, &f->err));
    auto_fd int fd = memory_fd(&f->m);
    const struct backup_in in = {backup_read_fd, (void *)&fd};
    OK(f, backup_show(&in, &f->info, &f->err));
    assert_string_equal(f->info.manifest, "{\"id\": \"" ID "\"}");
    auto_free char *list = NULL;
    size_t len;
    OK(f, backup_list(fd, &list, &len, &f->err));
    assert_true(len > 500);
    assert_int_equal(list[0], 'd');
}

/* Every byte of it, and what is said of it. */
static void test_flip(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkdirat(f->from, "d", 0755), 0);
    auto_fd int fd = openat(f->from, "d/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(write(fd, "some bytes of it", 16), 16);
    OK(f, make(f->from, ID, NULL, 0, NULL, &f->m, &f->err));
    static const char *const names[] = {"its head",
                                        "its manifest (frame 0)",
                                        "(frame 1)",
                                        "its list of files (frame 2)",
                                        "its trailer",
                                        "the head of frame 0",
                                        "the head of frame 1",
                                        "the head of frame 2"};
    unsigned seen[8] = {0};
    for (size_t i = 0; i < f->m.len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            f->m.buf[i] ^= (uint8_t)(1U << bit);
            f->err = (struct err){0};
            if (restore(&f->m, -1, NULL, &f->info, &f->err) != -ERR_CORRUPT)
                fail_msg("byte %zu, bit %u: %s", i, bit, f->err.text);
            bool named = false;
            for (size_t n = 0; n < ARRAY_SIZE(names); n++) {
                if (!strstr(f->err.text, names[n]))
                    continue;
                named = true;
                seen[n]++;
            }
            if (!named)
                assert_non_null(strstr(f->err.text, "or its head is damaged"));
            f->m.buf[i] ^= (uint8_t)(1U << bit);
        }
    }
    for (size_t n = 0; n < ARRAY_SIZE(names); n++)
        if (!seen[n])
            fail_msg("nothing was called \"%s\"", names[n]);
    OK(f, restore(&f->m, -1, NULL, &f->info, &f->err));
}

static void test_named(void **state)
{
    struct fixture *f = *state;
    fill(f->from);
    OK(f, make(f->from, ID, NULL, 0, NULL, &f->m, &f->err));
    /* the big file is most of it, and the last but the list */
    f->m.buf[f->m.len - 8000] ^= 1;
    assert_int_equal(restore(&f->m, f->to, NULL, &f->info, &f->err), -ERR_CORRUPT);
    assert_non_null(strstr(f->err.text, "the data of var-big (frame 3)"));
}

static void test_cut(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkdirat(f->from, "d", 0755), 0);
    OK(f, make(f->from, ID, NULL, 0, NULL, &f->m, &f->err));
    size_t whole = f->m.len;
    for (f->m.len = 0; f->m.len < whole; f->m.len++) {
        f->err = (struct err){0};
        if (restore(&f->m, -1, NULL, &f->info, &f->err) != -ERR_CORRUPT)
            fail_msg("%zu of %zu bytes: %s", f->m.len, whole, f->err.text);
    }
    memory_write(&f->m, "", 1, &f->err);
    assert_int_equal(restore(&f->m, -1, NULL, &f->info, &f->err), -ERR_CORRUPT);
    assert_non_null(strstr(f->err.text, "there are bytes behind its trailer"));
}

static void test_resume(void **state)
{
    struct fixture *f = *state;
    fill(f->from);
    OK(f, make(f->from, ID, NULL, 0, NULL, &f->m, &f->err));
    size_t whole = f->m.len, kept = 0;
    for (size_t stop = 1; stop < whole; stop += whole / 37) {
        struct memory part_m = {.stop = stop};
        assert_int_equal(make(f->from, ID, NULL, 0, NULL, &part_m, &f->err), -ERR_UNAVAILABLE);
        part_m.stop = 0;
        auto_fd int fd = memory_fd(&part_m);
        struct backup_part part = {0};
        OK(f, backup_part_read(fd, &part, &f->err));
        assert_true(part.size <= part_m.len || part.n_rows == 0);
        kept += part.n_rows;
        part_m.len = part.n_rows ? part.size : 0;
        OK(f, make(f->from, ID, NULL, 0, part.n_rows ? &part : NULL, &part_m, &f->err));
        assert_int_equal(part_m.len, whole);
        assert_memory_equal(part_m.buf, f->m.buf, whole);
        backup_part_done(&part);
        memory_done(&part_m);
    }
    assert_true(kept > 37);
    auto_fd int fd = memory_fd(&f->m);
    struct backup_part part = {0};
    assert_int_equal(backup_part_read(fd, &part, &f->err), -ERR_EXISTS);
    /* the tree is another one */
    struct memory part_m = {.stop = whole - 5000};
    make(f->from, ID, NULL, 0, NULL, &part_m, &f->err);
    auto_fd int fd2 = memory_fd(&part_m);
    OK(f, backup_part_read(fd2, &part, &f->err));
    assert_int_equal(unlinkat(f->from, "etc/suid", 0), 0);
    assert_int_equal(unlinkat(f->from, "var-big", 0), 0);
    part_m.stop = 0;
    assert_int_equal(make(f->from, ID, NULL, 0, &part, &part_m, &f->err), -ERR_STATE);
    backup_part_done(&part);
    memory_done(&part_m);
}

static void write_text(int root, const char *name, const char *text)
{
    auto_fd int fd = openat(root, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void change(int root)
{
    assert_int_equal(unlinkat(root, "etc/a-link", 0), 0);
    write_text(root, "etc/passwd", "changed\n");
    assert_int_equal(linkat(root, "etc/suid", root, "a-new-link", 0), 0);
    auto_fd int h1 = openat(root, "h1", O_RDONLY | O_CLOEXEC); /* nothing but ctime tells of it */
    assert_int_equal(fsetxattr(h1, "user.new", "x", 1, 0), 0);
    assert_int_equal(unlinkat(root, "fifo", 0), 0);
    assert_int_equal(mkdirat(root, "fifo", 0711), 0);
    write_text(root, "fifo/inside", "was a fifo");
    assert_int_equal(unlinkat(root, "gone", 0), 0);
    assert_int_equal(mkdirat(root, "gone", 0711), 0);
    assert_int_equal(unlinkat(root, "empty", AT_REMOVEDIR), 0);
    assert_int_equal(symlinkat("x", root, "empty"), 0);
    assert_int_equal(renameat(root, "sparse", root, "gone/sparse"), 0);
    assert_int_equal(fchmodat(root, "etc", 0700, 0), 0);
}

static void incremental(struct fixture *f, int base_of)
{
    auto_fd int fd = memory_fd(&f->m);
    auto_free char *list = NULL;
    size_t len;
    OK(f, backup_list(fd, &list, &len, &f->err));
    struct memory inc = {0};
    OK(f, make(base_of, ID2, list, len, NULL, &inc, &f->err));
    assert_true(inc.len < 8000);
    struct backup_info info = {0};
    OK(f, restore(&f->m, f->to, NULL, &info, &f->err));
    backup_info_done(&info);
    OK(f, restore(&inc, f->to, ID, &info, &f->err));
    backup_info_done(&info);
    assert_same(base_of, f->to);
    /* orders that cannot be right */
    char path[64];
    int other = dir_new("other", path);
    assert_int_equal(restore(&inc, other, NULL, &info, &f->err), -ERR_USAGE);
    assert_int_equal(restore(&f->m, other, ID, &info, &f->err), -ERR_USAGE);
    assert_int_equal(restore(&inc, other, ID2, &info, &f->err), -ERR_USAGE);
    assert_int_equal(restore(&inc, other, ID, &info, &f->err), -ERR_CORRUPT);
    assert_non_null(strstr(f->err.text, "something that it stands on is missing"));
    dir_trash(path, other);
    memory_done(&inc);
}

static void test_incremental(void **state)
{
    struct fixture *f = *state;
    fill(f->from);
    OK(f, make(f->from, ID, NULL, 0, NULL, &f->m, &f->err));
    change(f->from);
    incremental(f, f->from);
}

static int restore_next(struct fixture *f, const struct memory *m, const char *since,
                        struct backup_files *files)
{
    auto_fd int fd = memory_fd(m);
    const struct backup_in in = {backup_read_fd, &fd};
    const struct backup_restore rs = {.root = -1, .since = since, .files = files};
    struct backup_info info = {0};
    int r = backup_read(&in, &rs, &info, &f->err);
    backup_info_done(&info);
    return r;
}

/* A backup of the same id and other content than the one that was given as `base`. */
static void test_incremental_other(void **state)
{
    struct fixture *f = *state;
    auto_clean(backup_files_done) struct backup_files files = {0};
    struct memory other = {0}, inc = {0};
    fill(f->from);
    OK(f, make(f->from, ID, NULL, 0, NULL, &f->m, &f->err));
    auto_fd int fd = memory_fd(&f->m);
    auto_free char *list = NULL;
    size_t len;
    OK(f, backup_list(fd, &list, &len, &f->err));
    OK(f, make(f->from, ID2, list, len, NULL, &inc, &f->err));
    auto_fd int suid = openat(f->from, "etc/suid", O_WRONLY | O_CLOEXEC);
    struct stat st;
    assert_int_equal(fstat(suid, &st), 0);
    assert_int_equal(pwrite(suid, "?", 1, 0), 1);
    assert_int_equal(futimens(suid, (struct timespec[2]){st.st_atim, st.st_mtim}), 0);
    OK(f, make(f->from, ID, NULL, 0, NULL, &other, &f->err));

    OK(f, restore_next(f, &f->m, NULL, &files));
    OK(f, restore_next(f, &inc, ID, &files));
    assert_string_equal(files.id, ID2);
    OK(f, restore_next(f, &other, NULL, &files));
    assert_int_equal(restore_next(f, &inc, ID, &files), -ERR_CORRUPT);
    assert_non_null(strstr(f->err.text, "the one that it stands on about etc/suid"));
    memory_done(&other);
    memory_done(&inc);
}

/* What a pool without snapshots gives: every file has a new ctime. */
static void test_incremental_copy(void **state)
{
    struct fixture *f = *state;
    char path[64];
    int copy = dir_new("copy", path);
    struct backup_info info = {0};
    fill(f->from);
    OK(f, make(f->from, ID, NULL, 0, NULL, &f->m, &f->err));
    OK(f, restore(&f->m, copy, NULL, &info, &f->err));
    backup_info_done(&info);
    change(copy);
    incremental(f, copy);
    dir_trash(path, copy);
}

static void test_layer(void **state)
{
    struct fixture *f = *state;
    fill(f->from);
    struct backup_layer l = {.root = f->from};
    /* In a layer such a name would delete another. */
    assert_int_equal(backup_layer_measure(&l, &f->err), -ERR_UNSUPPORTED);
    assert_int_equal(unlinkat(l.root, "etc/.wh.no-whiteout", 0), 0);
    OK(f, backup_layer_measure(&l, &f->err));
    char first[HASH_TEXT];
    memcpy(first, l.digest, sizeof(first));
    OK(f, backup_layer_measure(&l, &f->err));
    assert_string_equal(first, l.digest);
    assert_int_equal(l.size % 512, 0);
}

struct told {
    struct memory m; /* first: what is written goes there */
    uint64_t bytes;
    bool back;
};

static int on_told(void *ctx, uint64_t bytes)
{
    struct told *t = ctx;
    if (bytes == UINT64_MAX)
        return 0;
    t->back |= bytes < t->bytes;
    t->bytes = bytes;
    return 0;
}

/* Layers count as files do, and what was told is never taken back. */
static void test_progress(void **state)
{
    struct fixture *f = *state;
    struct told t = {0};
    struct backup_made made;
    fill(f->from);
    assert_int_equal(unlinkat(f->from, "etc/.wh.no-whiteout", 0), 0);
    for (unsigned i = 0; i < 600; i++) { /* small ones, of which some are told one by one */
        char name[16];
        str_print(name, sizeof(name), "small%u", i);
        assert_int_equal(mkfifoat(f->from, name, 0600), 0);
    }
    struct backup_layer l = {.root = f->from};
    OK(f, backup_layer_measure(&l, &f->err));
    const struct backup_request rq = {.root = f->from,
                                      .taken = time(NULL) + 100,
                                      .id = ID,
                                      .manifest = "{\"id\": \"" ID "\"}",
                                      .layers = &l,
                                      .n_layers = 1,
                                      .threads = 1,
                                      .write = memory_write,
                                      .progress = on_told,
                                      .ctx = &t};
    OK(f, backup_make(&rq, &made, &f->err));
    assert_false(t.back);
    assert_true(t.bytes > 17 << 20); /* 9 MiB of the layer and as much of the tree */
    memory_done(&t.m);
}

/* ---- archives that want something else than to be restored ---- */

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
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_round_trip), T(test_show),        T(test_flip),
        T(test_named),      T(test_cut),         T(test_resume),
        T(test_layer),      T(test_incremental), T(test_incremental_copy),
        T(test_hostile),    T(test_bomb),        T(test_bytes),
        T(test_disagree),   T(test_tampered),    T(test_incremental_other),
        T(test_progress),   T(test_list_at),     T(test_behind_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
