/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cleanup.h"
#include "base/conf.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/name.h"
#include "base/number.h"
#include "base/path.h"
#include "base/place.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

static void test_err(void **state)
{
    struct err e = {0};
    errno = EMFILE;
    assert_int_equal(err_sys(&e, "cannot open %s", "x"), -ERR_EXHAUSTED);
    assert_non_null(strstr(e.text, "; raise LimitNOFILE of terem.service"));
    errno = ENOSPC;
    assert_int_equal(err_sys(&e, "cannot write %s", "x"), -ERR_EXHAUSTED);
    assert_int_equal(err_wrap(&e, "web1"), -ERR_EXHAUSTED);
    assert_string_equal(e.text, "web1: cannot write x: No space left on device");
    for (int i = 0; i < 200; i++)
        err_wrap(&e, "a long prefix");
    assert_true(strlen(e.text) < sizeof(e.text));
    for (int k = 0; k < ERR__COUNT; k++)
        assert_int_equal(err_kind_from_name(err_row(k)->name), k);
    assert_int_equal(err_set(NULL, ERR_USAGE, "x"), -ERR_USAGE);
}

static void test_numbers(void **state)
{
    uint64_t v = 7;
    static const char *bad[] = {"", "-1", " 1", "1 ", "1x", "0x10", "18446744073709551616", "1.5"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_true(number_parse(bad[i], 0, UINT64_MAX, &v, NULL) < 0);
    assert_int_equal(v, 7);
    assert_int_equal(number_parse("18446744073709551615", 0, UINT64_MAX, &v, NULL), 0);
    assert_true(v == UINT64_MAX);
    static const struct {
        const char *text;
        uint64_t bytes;
    } sizes[] = {{"0", 0},       {"512M", 536870912}, {"1.5G", 1610612736},  {"1k", 1024},
                 {"1KiB", 1024}, {"10b", 10},         {"2TB", 2199023255552}};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        assert_int_equal(number_parse_size(sizes[i].text, &v, NULL), 0);
        assert_true(v == sizes[i].bytes);
    }
    static const char *bad_sizes[] = {"",    "M",  "-1M",  "1.5",           "0.3", "1..5G",
                                      "16E", "1Z", "1M x", "1.0000000001G", "nan", "1e9"};
    for (size_t i = 0; i < ARRAY_SIZE(bad_sizes); i++)
        assert_true(number_parse_size(bad_sizes[i], &v, NULL) < 0);
    assert_int_equal(number_parse_time("10m", &v, NULL), 0);
    assert_true(v == 600000);
    assert_true(number_parse_time("10 m", &v, NULL) < 0);
    char buf[NUMBER_TEXT];
    assert_string_equal(number_format_size(1610612736, buf), "1.5G");
    assert_string_equal(number_format_size_exact(1610612736, buf), "1536M");
    assert_string_equal(number_format_time(93784000, buf), "1d 2h");
    assert_string_equal(number_format_time(250, buf), "250ms");
}

static void test_strings(void **state)
{
    auto_str struct str s = str_init(10);
    str_add(&s, "%s", "0123456789");
    assert_false(s.failed);
    str_add(&s, "x");
    assert_true(s.failed);
    str_done(&s);
    s = str_init(100);
    static const char hostile[] = "a\x1b[2J\xc2\x9b\xff\xe2\x82\xac"
                                  "safe\xe2\x80\xaegnp.exe";
    str_escape(&s, hostile, sizeof(hostile) - 1);
    assert_string_equal(str_c(&s), "a\\x1b[2J\\xc2\\x9b\\xff\xe2\x82\xac"
                                   "safe\\xe2\\x80\\xaegnp.exe");
    str_clear(&s);
    size_t n = 0;
    for (const char *p = "abcdefg"; *p; p++)
        str_add_name(&s, &n, (const char[]){*p, '\0'});
    str_end_names(&s, n);
    assert_string_equal(str_c(&s), "a, b, c, d, e and 2 more");
}

static const char *candidate(void *ctx, size_t i)
{
    static const char *names[] = {"start", "stop", "status"};
    return i < ARRAY_SIZE(names) ? names[i] : NULL;
}

static void test_names(void **state)
{
    static const char *bad[] = {"",
                                "..",
                                "/",
                                "a/b",
                                "Web1",
                                "-a",
                                "a-",
                                "a\n",
                                "\xff",
                                "a_b",
                                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct err e = {0};
        assert_int_equal(name_check_ve(bad[i], &e), -ERR_USAGE);
        for (const char *p = e.text; *p; p++)
            assert_true((unsigned char)*p >= 0x20);
    }
    assert_int_equal(name_check_ve("web-1", NULL), 0);
    assert_int_equal(name_check_template("debian-12.1", NULL), 0);
    assert_string_equal(name_suggest("stat", candidate, NULL), "start");
    assert_null(name_suggest("xyzzy", candidate, NULL));
}

static void test_name_order(void **state)
{
    static const char *const order[] = {"",
                                        "0",
                                        "1",
                                        "2",
                                        "10",
                                        "a",
                                        "b",
                                        "b-1",
                                        "b01",
                                        "b1",
                                        "b2",
                                        "b2-9",
                                        "b2-10",
                                        "b2a",
                                        "b10",
                                        "b10a",
                                        "ba",
                                        "web",
                                        "web9",
                                        "web99999999999999999999999",
                                        "web100000000000000000000000"};
    for (size_t i = 0; i < ARRAY_SIZE(order); i++)
        for (size_t k = 0; k < ARRAY_SIZE(order); k++) {
            int r = name_compare(order[i], order[k]);
            if ((r > 0) - (r < 0) != (i > k) - (i < k))
                fail_msg("%s and %s: %d", order[i], order[k], r);
        }
}

static int take(void *ctx, const char *key, const char *value, struct err *err)
{
    str_add(ctx, "%s:%s;", key, value);
    return 0;
}

static void test_conf(void **state)
{
    auto_str struct str s = str_init(1000);
    char good[] = "# c\n\n a = b c \nd=\n";
    assert_int_equal(conf_parse(good, "f", take, &s, NULL), 0);
    assert_string_equal(str_c(&s), "a:b c;d:;");
    struct err e = {0};
    char twice[] = "a=1\na=2\n", none[] = "a=1\nb\n";
    assert_true(conf_parse(twice, "f", take, &s, &e) < 0);
    assert_string_equal(e.text, "f, line 2: a stands twice");
    assert_true(conf_parse(none, "f", take, &s, &e) < 0);
}

static void test_tree(void **state)
{
    char dir[] = "/tmp/terem-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    auto_fd int d = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(d, "t", 0755), 0);
    auto_fd int here = openat(d, "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 3000; i++) { /* deeper than PATH_MAX and than any descriptor limit */
        assert_int_equal(mkdirat(here, "deep", 0755), 0);
        int next = openat(here, "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(here);
        here = next;
    }
    assert_int_equal(symlinkat("/etc", d, "t/link"), 0);
    int fd;
    assert_int_equal(path_open_beneath(d, "t/link/passwd", O_RDONLY, 0, &fd, NULL), -ERR_DENIED);
    assert_true(path_open_in_root(d, "t/link/passwd", O_RDONLY, 0, &fd, NULL) < 0);
    assert_int_equal(path_open_beneath(d, "../x", O_RDONLY, 0, &fd, NULL), -ERR_DENIED);
    struct err e = {0};
    assert_int_equal(path_remove_tree_at(d, "t", &e), 0);
    assert_int_equal(faccessat(d, "t", F_OK, AT_SYMLINK_NOFOLLOW), -1);
    assert_int_equal(path_remove_tree_at(d, "t", NULL), 0);
    assert_int_equal(fd_replace_file_at(d, "f", "hi", 2, 0600, NULL), 0);
    auto_free char *text = NULL;
    assert_int_equal(fd_read_file_at(d, "f", 100, &text, NULL, NULL), 0);
    assert_string_equal(text, "hi");
    assert_int_equal(path_remove_tree_at(d, "f", NULL), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void test_fd_pass(void **state)
{
    int sv[2], got[2];
    size_t n = 2;
    char buf[8];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
    assert_int_equal(fd_send(sv[0], "abc", 3, sv, 2, NULL), 0);
    assert_int_equal(fd_recv(sv[1], buf, sizeof(buf), got, &n, NULL), 3);
    assert_int_equal(n, 2);
    assert_true(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
    close(got[0]);
    close(got[1]);
    assert_int_equal(fd_send(sv[0], "0123456789", 10, NULL, 0, NULL), 0);
    n = 2;
    assert_int_equal(fd_recv(sv[1], buf, sizeof(buf), got, &n, NULL), -ERR_CORRUPT);
    close(sv[0]);
    n = 0;
    assert_int_equal(fd_recv(sv[1], buf, sizeof(buf), got, &n, NULL), 0);
    close(sv[1]);
}

static size_t names_in(int dir)
{
    auto_dir DIR *d = fd_list(dir);
    size_t n = 0;
    assert_non_null(d);
    while (readdir(d))
        n++;
    return n;
}

/* Each time from the beginning, and the descriptor stays. */
static void test_fd_list(void **state)
{
    auto_fd int dir = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t n = names_in(dir);
    assert_true(n > 2);
    assert_int_equal(names_in(dir), n);
    assert_true(fcntl(dir, F_GETFD) >= 0);
    assert_null(fd_list(-1));
    assert_int_equal(errno, EBADF);
}

/* Also of a caller without standard input. */
static void test_fd_again(void **state)
{
    auto_fd int of = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    close(STDIN_FILENO);
    auto_fd int again = fd_again(of);
    assert_true(again > STDERR_FILENO);
    assert_int_equal(fcntl(again, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fd_again(-1), -1);
    assert_int_equal(errno, EBADF);
    assert_int_equal(open("/dev/null", O_RDWR | O_CLOEXEC), STDIN_FILENO);
}

static void test_place(void **state)
{
    struct place p;
    assert_int_equal(place_init(&p, "/tmp/x//", NULL), 0);
    assert_string_equal(p.api, "/tmp/x/run/teremd.sock");
    char longer[200];
    memset(longer, 'a', sizeof(longer) - 1);
    longer[0] = '/';
    longer[199] = '\0';
    assert_int_equal(place_init(&p, longer, NULL), -ERR_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_err),        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_strings),    cmocka_unit_test(test_names),
        cmocka_unit_test(test_name_order), cmocka_unit_test(test_conf),
        cmocka_unit_test(test_tree),       cmocka_unit_test(test_fd_pass),
        cmocka_unit_test(test_place),      cmocka_unit_test(test_fd_list),
        cmocka_unit_test(test_fd_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
