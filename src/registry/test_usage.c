/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cleanup.h"
#include "base/path.h"
#include "base/str.h"
#include "registry/usage.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define STEP 300
#define NOON 1764504000 /* 2025-11-30 12:00 UTC */

static char dir[64];

/* What a fake kernel has counted, and a fake clock. */
struct house {
    struct usage *u;
    int64_t now;
    const char *epoch;
    struct usage_reading r[8];
    size_t n;
    struct usage_ve ves[4];
    size_t n_ves;
};

static int setup(void **state)
{
    str_print(dir, sizeof(dir), "/tmp/terem-usage-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    struct house *h = calloc(1, sizeof(*h));
    *h = (struct house){.now = NOON,
                        .epoch = "boot-1",
                        .r = {{7, USAGE_NET_OUT, 1, 0, 0}, {7, USAGE_NET_IN, 1, 0, 0}},
                        .n = 2,
                        .ves = {{7, "web1"}},
                        .n_ves = 1};
    *state = h;
    return usage_open(dir, false, &h->u, NULL);
}

static int teardown(void **state)
{
    struct house *h = *state;
    usage_close(h->u);
    free(h);
    return path_remove_tree_at(AT_FDCWD, dir, NULL);
}

static void reopen(struct house *h)
{
    struct err e = {0};
    usage_close(h->u);
    h->u = NULL;
    if (usage_open(dir, false, &h->u, &e) < 0)
        fail_msg("%s", e.text);
}

static int try_take(struct house *h, size_t *written, struct err *err)
{
    struct usage_take t = {.now = h->now,
                           .interval = STEP,
                           .epoch = h->epoch,
                           .readings = h->r,
                           .n = h->n,
                           .ves = h->ves,
                           .n_ves = h->n_ves};
    return usage_take(h->u, &t, written, err);
}

static size_t take(struct house *h)
{
    struct err e = {0};
    size_t written = 0;
    if (try_take(h, &written, &e) < 0)
        fail_msg("%s", e.text);
    return written;
}

struct seen {
    struct usage_record r[64];
    size_t n;
    uint64_t amount, packets;
    char name[16]; /* of the last */
};

static int see(void *ctx, const struct usage_record *r, struct err *err)
{
    struct seen *s = ctx;
    if (s->n < ARRAY_SIZE(s->r)) {
        s->r[s->n] = *r;
        s->r[s->n].name = NULL; /* it ends with this call */
    }
    s->n++;
    str_print(s->name, sizeof(s->name), "%s", r->name ? r->name : "");
    s->amount += r->amount;
    s->packets += r->packets;
    return 0;
}

/* Every record there is; that no key is there twice the table sees to, that nothing was changed
 * the caller. */
static struct seen all(struct house *h)
{
    struct seen s = {0};
    assert_int_equal(usage_each(h->u, 0, 1000000, see, &s, &(struct err){0}), 0);
    for (size_t i = 1; i < s.n && i < ARRAY_SIZE(s.r); i++)
        assert_true(s.r[i].number > s.r[i - 1].number);
    return s;
}

static void count(struct house *h, size_t i, uint64_t bytes, uint64_t packets)
{
    h->r[i].amount += bytes;
    h->r[i].packets += packets;
}

static void test_periods(void **state)
{
    struct house *h = *state;
    h->now += 17;
    count(h, 0, 1000, 10);
    assert_int_equal(take(h), 0); /* the period goes on */
    assert_int_equal(take(h), 0);
    count(h, 0, 500, 5);
    count(h, 1, 1, 1);
    h->now = NOON + STEP;
    assert_int_equal(take(h), 2);
    assert_int_equal(take(h), 0); /* the same again is nothing more */
    h->now += STEP;
    assert_int_equal(take(h), 0); /* what is 0 has no record */
    count(h, 0, 3, 1);
    h->now += STEP + 1;
    assert_int_equal(take(h), 1);
    struct seen s = all(h);
    assert_int_equal(s.n, 3);
    assert_int_equal(s.r[0].start, NOON);
    assert_int_equal(s.r[0].seconds, STEP);
    assert_int_equal(s.r[0].amount, 1500);
    assert_int_equal(s.r[0].packets, 15);
    assert_int_equal(s.r[0].meter, USAGE_NET_OUT);
    assert_int_equal(s.r[1].meter, USAGE_NET_IN);
    assert_int_equal(s.r[1].amount, 1);
    assert_int_equal(s.r[2].start, NOON + 2 * STEP);
    assert_int_equal(s.r[2].amount, 3);
}

/* Nobody looked for hours: one record tells of them all. */
static void test_late(void **state)
{
    struct house *h = *state;
    take(h);
    reopen(h);
    count(h, 0, 70, 7);
    h->now += 3 * 3600 + 20;
    assert_int_equal(take(h), 1);
    struct seen s = all(h);
    assert_int_equal(s.r[0].start, NOON);
    assert_int_equal(s.r[0].seconds, 3 * 3600);
    assert_int_equal(s.amount, 70);
}

static void test_wrap(void **state)
{
    struct house *h = *state;
    uint64_t top[] = {INT64_MAX, UINT64_MAX - 9};
    for (size_t i = 0; i < ARRAY_SIZE(top); i++) {
        h->r[0].amount = h->r[0].packets = top[i];
        h->now += STEP;
        take(h);
        h->now += STEP;
        take(h);
    }
    h->r[0].amount = 20; /* from ten below the end */
    h->r[0].packets = 0;
    h->now += STEP;
    assert_int_equal(take(h), 1);
    h->now += STEP;
    take(h);
    struct seen s = all(h);
    assert_int_equal(s.r[s.n - 1].amount, 30);
    assert_int_equal(s.r[s.n - 1].packets, 10);
}

/* As when its place in the kernel was lost; both numbers began, though one is more than before. */
static void test_began_anew(void **state)
{
    struct house *h = *state;
    count(h, 0, 1000, 10);
    take(h);
    h->r[0].amount = 1200;
    h->r[0].packets = 4;
    h->now += STEP;
    take(h);
    struct seen s = all(h);
    assert_int_equal(s.amount, 2200);
    assert_int_equal(s.packets, 14);
}

/* Counters that were at 1000 before are at 1500 since: all of them counted since then. */
static void test_reboot(void **state)
{
    struct house *h = *state;
    count(h, 0, 1000, 10);
    take(h);
    reopen(h);
    h->epoch = "boot-2";
    h->r[0].amount = 1500;
    h->r[0].packets = 15;
    h->n = 1; /* the other one did not come again yet */
    h->now += 2 * STEP;
    take(h);
    h->n = 2;
    h->r[1].amount = h->r[1].packets = 1;
    h->now += STEP;
    take(h);
    struct seen s = all(h);
    assert_int_equal(s.amount, 2501);
    assert_int_equal(s.packets, 26);
}

static void test_clock_set_back(void **state)
{
    struct house *h = *state;
    uint64_t sum = 0;
    for (int i = 0; i < 4; i++, h->now += STEP) {
        take(h);
        count(h, 0, 100, 1);
        sum += 100;
    }
    struct seen before = all(h);
    assert_int_equal(before.n, 3);
    h->now = NOON + STEP + 7; /* into a period that has its record */
    for (int i = 0; i < 6; i++, h->now += STEP) {
        take(h);
        count(h, 0, 10, 1);
        sum += 10;
    }
    h->now += STEP;
    take(h);
    struct seen after = all(h);
    assert_int_equal(after.amount, sum);
    for (size_t i = 0; i < before.n; i++)
        assert_memory_equal(&before.r[i].start, &after.r[i].start,
                            sizeof(before.r[i]) - offsetof(struct usage_record, start));
    for (size_t i = 0; i < after.n; i++)
        for (size_t k = 0; k < i; k++)
            assert_int_not_equal(after.r[i].start, after.r[k].start);
}

static void test_clock_set_forward(void **state)
{
    struct house *h = *state;
    const int64_t year = 365 * 86400;
    take(h);
    count(h, 0, 5, 1);
    h->now += year;
    assert_int_equal(take(h), 1);
    count(h, 0, 6, 1);
    h->now = NOON + STEP; /* and back: nothing waits for a year */
    assert_int_equal(take(h), 1);
    count(h, 0, 7, 1);
    h->now += STEP;
    assert_int_equal(take(h), 1);
    struct seen s = all(h);
    assert_int_equal(s.amount, 18);
    assert_int_equal(s.r[0].start, NOON);
    assert_int_equal(s.r[1].start, NOON + year);
    assert_int_equal(s.r[1].seconds, STEP);
    assert_int_equal(s.r[2].start, NOON + STEP);
}

static void test_destroyed(void **state)
{
    struct house *h = *state;
    h->ves[1] = (struct usage_ve){8, "web2"};
    h->n_ves = 2;
    h->r[1] = (struct usage_reading){8, USAGE_NET_OUT, 1, 40, 4};
    count(h, 0, 1, 1);
    take(h);
    count(h, 1, 2, 1);
    h->n_ves = 1;
    h->now += 60;
    assert_int_equal(take(h), 1); /* at once, not when the period ends */
    struct seen s = all(h);
    assert_int_equal(s.r[0].ve, 8);
    assert_string_equal(s.name, "web2");
    assert_int_equal(s.amount, 42);
    /* teremd was killed before it could tell the kernel to forget, and a late packet came. */
    reopen(h);
    assert_int_equal(take(h), 0);
    count(h, 1, 100, 1);
    h->now += STEP;
    take(h);
    h->n = 1; /* forgotten */
    h->now += STEP;
    take(h);
    h->now += STEP;
    take(h);
    assert_int_equal(all(h).amount, 143);
}

static void test_classes_are_numbers(void **state)
{
    struct house *h = *state;
    h->r[1] = (struct usage_reading){7, USAGE_NET_OUT, 16, 0, 0};
    take(h);
    count(h, 0, 1, 1);
    count(h, 1, 10, 1);
    h->now += STEP;
    assert_int_equal(take(h), 2);
    h->r[1].class = 17; /* its traffic is another one's from now on, which begins */
    count(h, 1, 5, 1);
    h->now += STEP;
    take(h);
    struct seen s = all(h);
    assert_int_equal(s.n, 3);
    assert_int_equal(s.r[1].class, 16);
    assert_int_equal(s.r[1].amount, 10);
    assert_int_equal(s.r[2].class, 17);
    assert_int_equal(s.r[2].amount, 15);
}

static void test_prune(void **state)
{
    struct house *h = *state;
    struct err e = {0};
    for (int i = 0; i < 10; i++, h->now += STEP) {
        count(h, 0, 1, 1);
        take(h);
    }
    struct seen s = all(h);
    assert_int_equal(s.n, 9);
    int64_t last = s.r[8].number;
    assert_int_equal(usage_prune(h->u, NOON + 5 * STEP, 2, &e), 0);
    assert_int_equal(all(h).n, 7);
    assert_int_equal(all(h).r[0].start, NOON + 2 * STEP);
    assert_int_equal(usage_prune(h->u, h->now + STEP, 100, &e), 0);
    assert_int_equal(all(h).n, 0);
    count(h, 0, 1, 1);
    h->now += STEP;
    take(h);
    assert_true(all(h).r[0].number > last); /* not given again */
}

static void test_pages(void **state)
{
    struct house *h = *state;
    for (int i = 0; i < 8; i++, h->now += STEP) {
        count(h, 0, 1, 1);
        take(h);
    }
    int64_t after = 0;
    for (size_t i = 0; i < 7; i++) {
        struct seen s = {0};
        assert_int_equal(usage_each(h->u, after, 1, see, &s, NULL), 0);
        assert_int_equal(s.n, 1);
        assert_int_equal(s.r[0].start, NOON + (int64_t)i * STEP);
        after = s.r[0].number;
    }
    struct seen s = {0};
    usage_each(h->u, after, 1, see, &s, NULL);
    assert_int_equal(s.n, 0);
}

static struct seen sums(struct house *h, const char *ve, int64_t from, int64_t to, enum usage_by by)
{
    struct seen s = {0};
    struct usage_query q = {ve, from, to, by};
    auto_clean(usage_close_p) struct usage *reader = NULL; /* beside the one that writes */
    struct err e = {0};
    if (usage_open(dir, true, &reader, &e) < 0 || usage_sums(reader, &q, 1000, see, &s, &e) < 0)
        fail_msg("%s", e.text);
    return s;
}

static void test_sums(void **state)
{
    struct house *h = *state;
    bool knows;
    h->ves[1] = (struct usage_ve){8, "web2"};
    h->n_ves = 2;
    h->r[1] = (struct usage_reading){8, USAGE_NET_IN, 1, 0, 0};
    take(h);
    for (int i = 0; i < 12 * 14; i++) { /* from noon to two o'clock in the next month */
        count(h, 0, 10, 1);
        count(h, 1, 1, 1);
        h->now += STEP;
        take(h);
    }
    struct seen s = sums(h, NULL, NOON, h->now, USAGE_BY_MONTH);
    assert_int_equal(s.n, 4);
    assert_int_equal(s.r[0].start, NOON - 12 * 3600 - 29 * 86400);
    assert_int_equal(s.r[0].amount, 10 * 12 * 12);
    assert_int_equal(s.r[2].start, NOON + 12 * 3600);
    assert_int_equal(s.r[2].amount, 10 * 12 * 2);
    s = sums(h, "web2", 0, INT64_MAX, USAGE_BY_DAY);
    assert_int_equal(s.n, 2);
    assert_int_equal(s.amount, 12 * 14);
    assert_int_equal(s.r[0].ve, 8);
    assert_int_equal(s.r[0].start, NOON - 12 * 3600);
    s = sums(h, "web1", NOON + 3600, NOON + 3 * 3600, USAGE_BY_HOUR);
    assert_int_equal(s.n, 2);
    assert_int_equal(s.r[1].start, NOON + 2 * 3600);
    assert_int_equal(s.r[1].amount, 120);
    assert_int_equal(sums(h, "web1", NOON, NOON + 3600, USAGE_BY_RECORD).n, 12);
    assert_int_equal(sums(h, "web3", 0, INT64_MAX, USAGE_BY_RECORD).n, 0);
    assert_int_equal(sums(h, NULL, h->now + 1, INT64_MAX, USAGE_BY_RECORD).n, 0);
    assert_int_equal(usage_knows(h->u, "web2", &knows, NULL), 0);
    assert_true(knows);
    usage_knows(h->u, "web3", &knows, NULL);
    assert_false(knows);
}

/* Killed at any moment: what the counters say in the end is what the records add up to. */
static void test_killed(void **state)
{
    struct house *h = *state;
    usage_close(h->u);
    h->u = NULL;
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    for (int i = 0; i < 60; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct err e = {0};
            if (usage_open(dir, false, &h->u, &e) < 0)
                _exit(1);
            for (;;) {
                count(h, 0, 1000 + (uint64_t)i, 3);
                count(h, 1, 7, 1);
                h->now += 100;
                /* The kernel knows before Terem does. */
                if (write(pipes[1], h, sizeof(*h)) != sizeof(*h) || try_take(h, NULL, &e) < 0)
                    _exit(1);
            }
        }
        usleep((useconds_t)(1000 + i * 331 % 6000));
        kill(pid, SIGKILL);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        fcntl(pipes[0], F_SETFL, O_NONBLOCK);
        for (struct house last; read(pipes[0], &last, sizeof(last)) == sizeof(last);)
            *h = last;
        h->u = NULL;
    }
    close(pipes[0]);
    close(pipes[1]);
    reopen(h);
    h->now += STEP;
    take(h);
    struct seen s = all(h);
    assert_true(s.n > 2);
    assert_int_equal(s.amount, h->r[0].amount + h->r[1].amount);
    assert_int_equal(s.packets, h->r[0].packets + h->r[1].packets);
}

/* The disk is full for a while. */
static void test_full(void **state)
{
    struct house *h = *state;
    struct err e = {0};
    struct rlimit was, none;
    take(h);
    getrlimit(RLIMIT_FSIZE, &was);
    none = was;
    none.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    for (int i = 0; i < 3; i++) {
        count(h, 0, 100, 1);
        h->now += STEP;
        setrlimit(RLIMIT_FSIZE, &none);
        int r = try_take(h, NULL, &e);
        setrlimit(RLIMIT_FSIZE, &was);
        assert_true(r < 0);
        assert_non_null(strstr(e.text, "usage.db"));
        assert_null(strstr(e.text, "registry"));
    }
    assert_int_equal(all(h).n, 0);
    h->now += STEP;
    assert_int_equal(take(h), 1);
    assert_int_equal(all(h).amount, 300);
}

static void test_strange_files(void **state)
{
    struct house *h = *state;
    struct err e = {0};
    struct usage *u = NULL;
    char path[96];
    take(h);
    usage_close(h->u);
    h->u = NULL;
    str_print(path, sizeof(path), "%s/usage.db", dir);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    auto_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "nonsense", 8, 0), 8);
    assert_int_equal(usage_open(dir, false, &u, &e), -ERR_CORRUPT);
    assert_non_null(strstr(e.text, "usage.db is damaged"));
    assert_int_equal(unlink(path), 0);
    assert_true(usage_open(dir, true, &u, &e) < 0); /* a reader makes none */
    assert_non_null(strstr(e.text, "cannot open the log of usage: "));
    assert_int_equal(access(path, F_OK), -1);
}

#define on(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on(test_periods),
        on(test_late),
        on(test_wrap),
        on(test_began_anew),
        on(test_reboot),
        on(test_clock_set_back),
        on(test_clock_set_forward),
        on(test_destroyed),
        on(test_classes_are_numbers),
        on(test_prune),
        on(test_pages),
        on(test_sums),
        on(test_killed),
        on(test_full),
        on(test_strange_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
