/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The queue of one client at its edges, and logs at theirs, without a running terem-keep. */
#include "base/cleanup.h"
#include "base/path.h"
#include "base/str.h"
#include "keep/server.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

/* Fills the queue with frames of `size`, reads everything back: whole frames, nothing lost until
 * the last word, which is always there. */
static void overflow(size_t size)
{
    struct server s = {.epoll = epoll_create1(EPOLL_CLOEXEC)};
    struct entry e = {.console.fd = -1, .log = {.dir = -1, .fd = -1}};
    static uint8_t data[CONSOLE_CHUNK];
    static struct frame_reader r;
    struct err err = {0};
    int p[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p), 0);
    memset(data, 'd', sizeof(data));
    assert_int_equal(viewer_add(&s, &e, p[1], &err), 0);
    struct viewer *v = e.viewers;
    size_t sent = 0;
    while (e.viewers && sent < 4 << 20) {
        viewer_output(&s, v, data, size);
        assert_true(v->out_end <= sizeof(v->out));
        sent += size;
    }
    assert_null(e.viewers);
    assert_int_equal(s.n_leaving, 1);
    size_t got = 0;
    bool bad = false, last = false;
    r = (struct frame_reader){0};
    while (frame_reader_fill(&r, p[0], &err) > 0) {
        struct frame f;
        while (frame_next(&r, &f, &bad)) {
            assert_false(last);
            last = f.type == FRAME_ERROR;
            if (!last)
                assert_int_equal(f.len, size);
            got += last ? size : f.len;
        }
        assert_false(bad);
        if (!v->thing.buried)
            viewer_event(&s, v, EPOLLOUT);
    }
    assert_true(last);
    assert_int_equal(got, sent);
    assert_int_equal(s.n_viewers, 0);
    assert_int_equal(s.n_leaving, 0);
    assert_ptr_equal(s.graves, &v->thing);
    free(v);
    close(p[0]);
    close(s.epoll);
}

static void test_overflow(void **state)
{
    static const size_t sizes[] = {1, 2, 7, 500, 503, 507, 508, 1000, 4095, 4096, 32767, 32768};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
        overflow(sizes[i]);
}

static char dir[] = "/tmp/terem-log-XXXXXX";

static int make_dir(void **state)
{
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    return path_remove_tree_at(AT_FDCWD, dir, NULL);
}

static void test_log_edges(void **state)
{
    char text[64];
    auto_fd int d = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct console_log l;
    console_log_open(&l, d, 1);
    char *chunk = calloc(1, CONSOLE_CHUNK);
    assert_int_equal(console_log_tail(&l, text, sizeof(text)), 0);
    console_log_write(&l, "one\ntwo\n", 8);
    assert_int_equal(console_log_tail(&l, text, sizeof(text)), 8); /* all of it */
    assert_int_equal(console_log_tail(&l, text, 6), 4);            /* the whole lines of it */
    assert_memory_equal(text, "two\n", 4);
    assert_int_equal(console_log_tail(&l, text, 3), 0); /* "wo\n" holds none */
    for (int i = 0; i < 100; i++) {
        console_log_write(&l, chunk, CONSOLE_CHUNK);
        assert_true(l.size <= CONSOLE_LOG_MAX);
    }
    /* Somebody takes the directory's files away: it goes on. */
    assert_int_equal(unlinkat(d, "1.log", 0), 0);
    for (int i = 0; i < 64; i++)
        console_log_write(&l, chunk, CONSOLE_CHUNK);
    struct stat st;
    assert_int_equal(fstatat(d, "1.log", &st, 0), 0);
    assert_true(st.st_size <= CONSOLE_LOG_MAX);
    console_log_close(&l);
    console_log_write(&l, "x", 1);
    console_log_close(&l);
    free(chunk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overflow),
        cmocka_unit_test_setup_teardown(test_log_edges, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
