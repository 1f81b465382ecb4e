/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Events written once, read by many at their own pace. */
#include "api/feed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct feed *begin(void)
{
    struct feed *f = NULL;
    struct err e;
    assert_int_equal(feed_open(&f, &e), 0);
    return f;
}

static void add(struct feed *f, int number, size_t size)
{
    char *text = calloc(1, size + 1);
    memset(text, 'x', size);
    json_t *event = json_pack("{s:s, s:i, s:s}", "type", "job", "n", number, "text", text);
    feed_add(f, event);
    json_decref(event);
    free(text);
}

/* All that is there for it, in pieces of `most` bytes. */
static char *take(struct feed *f, struct feed_reader *r, size_t most)
{
    static char all[FEED_BYTES + 65536];
    size_t len = 0;
    for (size_t n; (n = feed_read(f, r, all + len, most)) > 0;)
        len += n;
    all[len] = '\0';
    return all;
}

static void test_shapes(void **state)
{
    struct feed *f = begin();
    struct feed_reader lines = {0}, sse = {.sse = true}, late = {0};
    feed_join(f, &lines);
    feed_join(f, &sse);
    add(f, 1, 1);
    feed_join(f, &late);
    add(f, 2, 1);
    for (size_t most = 1; most < 100; most += 49) {
        struct feed_reader again = sse;
        assert_string_equal(take(f, &again, most),
                            "event: job\ndata: {\"type\":\"job\",\"n\":1,\"text\":\"x\"}\n\n"
                            "event: job\ndata: {\"type\":\"job\",\"n\":2,\"text\":\"x\"}\n\n");
    }
    assert_string_equal(take(f, &lines, 7), "{\"type\":\"job\",\"n\":1,\"text\":\"x\"}\n"
                                            "{\"type\":\"job\",\"n\":2,\"text\":\"x\"}\n");
    assert_string_equal(take(f, &late, 4096), "{\"type\":\"job\",\"n\":2,\"text\":\"x\"}\n");
    assert_string_equal(take(f, &late, 4096), "");
    feed_close(f);
}

/* What all have taken goes, also under one who is in the middle of it. */
static void test_trim(void **state)
{
    struct feed *f = begin();
    struct feed_reader slow = {0};
    char buf[8];
    feed_join(f, &slow);
    add(f, 1, 1000);
    size_t one = feed_bytes(f);
    assert_int_equal(feed_read(f, &slow, buf, sizeof(buf)), sizeof(buf));
    add(f, 2, 1000);
    assert_int_equal(feed_bytes(f), 2 * one);
    feed_trim(f, slow.at);
    assert_int_equal(feed_bytes(f), one);
    assert_int_equal(strlen(take(f, &slow, 4096)),
                     2 * strlen("{\"type\":\"job\",\"n\":1,\"text\":\"\"}\n") + 2 * 1000 -
                         sizeof(buf));
    feed_trim(f, slow.at);
    assert_int_equal(feed_bytes(f), 0);
    add(f, 3, 1);
    assert_int_equal(feed_read(f, &slow, buf, sizeof(buf)), sizeof(buf));
    feed_leave(&slow); /* in the middle of a line */
    feed_close(f);
}

/* One takes nothing: the feed is bounded, and it is told what it lost, once, then goes on. */
static void test_lost(void **state)
{
    static const size_t sizes[] = {1, 4000}; /* bounded by their number, by their bytes */
    for (size_t k = 0; k < 2; k++) {
        struct feed *f = begin();
        struct feed_reader stuck = {0}, quick = {0};
        char begun[10], said[64];
        int kept = 0, n = (int)FEED_LINES + 100;
        feed_join(f, &stuck);
        feed_join(f, &quick);
        add(f, 0, sizes[k]);
        assert_int_equal(feed_read(f, &stuck, begun, sizeof(begun)), sizeof(begun));
        for (int i = 1; i <= n; i++) {
            add(f, i, sizes[k]);
            assert_non_null(strchr(take(f, &quick, 4096), '\n'));
            assert_true(feed_bytes(f) <= FEED_BYTES);
        }
        char *all = take(f, &stuck, 4096);
        assert_null(strstr(all, "\"n\":1,"));
        for (const char *p = all; (p = strstr(p, "\"type\":\"job\"")); p++)
            kept++;
        snprintf(said, sizeof(said), "\"type\":\"events.lost\",\"count\":%d}\n", n - kept);
        assert_true(kept > 100 && kept < n);
        /* What it had begun is whole, then how many are missing, then the newest. */
        const char *told = strstr(all, said);
        assert_non_null(told);
        assert_null(strstr(told + strlen(said), "events.lost"));
        snprintf(said, sizeof(said), "\"n\":%d,", n);
        assert_non_null(strstr(all, said));
        feed_leave(&stuck);
        feed_close(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes), cmocka_unit_test(test_trim),
                                       cmocka_unit_test(test_lost)};
    return cmocka_run_group_tests_name("feed", tests, NULL, NULL);
}
