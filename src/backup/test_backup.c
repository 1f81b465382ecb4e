/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Trees that come back as they were, whole, in parts and as changes. */
#include "backup/test_fixture.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_round_trip),
        T(test_show),
        T(test_flip),
        T(test_named),
        T(test_cut),
        T(test_resume),
        T(test_layer),
        T(test_incremental),
        T(test_incremental_copy),
        T(test_incremental_other),
        T(test_progress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
