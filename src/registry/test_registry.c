/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "registry/db.h"
#include "registry/test_stage.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void test_ves(void **state)
{
    auto_clean(registry_close_p) struct registry *r = open_ok();
    struct err e = {0};
    uint32_t slot = 0;
    int64_t a = add_ve(r, "a", &slot), b, c;
    assert_int_equal(slot, 1);
    b = add_ve(r, "b", &slot);
    assert_int_equal(slot, 2);
    c = add_ve(r, "c", &slot);
    assert_int_equal(slot, 3);
    /* The name is taken. */
    struct registry_ve v = {.name = "b", .spec = (char *)"{}"};
    assert_int_equal(registry_ve_insert(r, &v, 10, &e), -ERR_EXISTS);
    assert_string_equal(e.text, "a VE named b exists already");
    /* A number is never given again, a place is: the lowest. */
    assert_int_equal(registry_ve_delete(r, a, &e), 0);
    assert_int_equal(registry_ve_delete(r, c, &e), 0);
    assert_int_equal(registry_ve_delete(r, c, &e), -ERR_NOT_FOUND);
    int64_t d = add_ve(r, "d", &slot);
    assert_true(d > c);
    assert_int_equal(slot, 1);
    /* No place left. */
    str_print(v.name, sizeof(v.name), "e");
    assert_int_equal(registry_ve_insert(r, &v, 2, &e), -ERR_EXHAUSTED);
    assert_int_equal(v.id, 0);
    assert_int_equal(registry_ve_insert(r, &v, 3, &e), 0);
    assert_int_equal(v.slot, 3);
    /* Update, with run there and not. */
    v.run = (char *)"{\"pid\":17}";
    v.state = 3;
    assert_int_equal(registry_ve_update(r, &v, &e), 0);
    str_print(v.name, sizeof(v.name), "b");
    assert_int_equal(registry_ve_update(r, &v, &e), -ERR_EXISTS);
    v.id = 999;
    str_print(v.name, sizeof(v.name), "z");
    assert_int_equal(registry_ve_update(r, &v, &e), -ERR_NOT_FOUND);
    struct seen s = {0};
    assert_int_equal(registry_ve_each(r, see_ve, &s, &e), 0);
    assert_string_equal(s.names, "b d e ");
    assert_true(b > a);
}

static int delete_each(void *ctx, const struct registry_ve *v, struct err *err)
{
    return registry_ve_delete(ctx, v->id, err);
}

static int walk_again(void *ctx, const struct registry_ve *v, struct err *err)
{
    return registry_ve_each(ctx, walk_again, ctx, err);
}

static void test_walk(void **state)
{
    auto_clean(registry_close_p) struct registry *r = open_ok();
    struct err e = {0};
    char name[16];
    for (int i = 0; i < 50; i++) {
        str_print(name, sizeof(name), "ve%d", i);
        add_ve(r, name, NULL);
    }
    assert_int_equal(registry_ve_each(r, walk_again, r, &e), -ERR_INTERNAL);
    assert_int_equal(registry_ve_each(r, delete_each, r, &e), 0);
    struct seen s = {0};
    assert_int_equal(registry_ve_each(r, see_ve, &s, &e), 0);
    assert_int_equal(s.n, 0);
}

static void test_transactions(void **state)
{
    auto_clean(registry_close_p) struct registry *r = open_ok();
    struct err e = {0};
    assert_int_equal(registry_begin(r, &e), 0);
    assert_int_equal(registry_begin(r, &e), -ERR_INTERNAL);
    add_ve(r, "a", NULL);
    registry_rollback(r);
    registry_rollback(r);
    assert_int_equal(registry_commit(r, &e), -ERR_STATE);
    assert_int_equal(registry_begin(r, &e), 0);
    add_ve(r, "b", NULL);
    assert_int_equal(registry_meta_set(r, "k", "1", &e), 0);
    assert_int_equal(registry_commit(r, &e), 0);
    char *v = NULL;
    assert_int_equal(registry_meta_set(r, "k", "2", &e), 0);
    assert_int_equal(registry_meta_get(r, "k", &v, &e), 0);
    assert_string_equal(v, "2");
    free(v);
    assert_int_equal(registry_meta_get(r, "none", &v, &e), 0);
    assert_null(v);
    struct seen s = {0};
    assert_int_equal(registry_ve_each(r, see_ve, &s, &e), 0);
    assert_string_equal(s.names, "b ");
}

static int64_t synchronous(struct registry *r)
{
    int64_t level = -1;
    assert_int_equal(db_int(r, "PRAGMA synchronous", &level, NULL), 0);
    return level;
}

static void test_light(void **state)
{
    auto_clean(registry_close_p) struct registry *r = open_ok();
    struct err e = {0};
    const int64_t normal = 1, full = 2;
    assert_int_equal(registry_flush(r, &e), 0);
    assert_int_equal(registry_begin_light(r, &e), 0);
    assert_int_equal(synchronous(r), normal);
    assert_int_equal(registry_begin_light(r, &e), -ERR_INTERNAL);
    add_ve(r, "a", NULL);
    assert_int_equal(registry_commit(r, &e), 0);
    assert_int_equal(synchronous(r), full); /* what follows is synced, with or without a begin */
    assert_int_equal(registry_flush(r, &e), 0);
    assert_int_equal(registry_begin_light(r, &e), 0);
    add_ve(r, "b", NULL);
    registry_rollback(r);
    assert_int_equal(synchronous(r), full);
    struct seen s = {0};
    assert_int_equal(registry_ve_each(r, see_ve, &s, &e), 0);
    assert_string_equal(s.names, "a ");
}

static int refuse(void *ctx, int action, const char *a, const char *b, const char *c, const char *d)
{
    return action == *(int *)ctx ? SQLITE_DENY : SQLITE_OK;
}

/* One that cannot be begun, and one after which what is written cannot be synced again: nothing is
 * committed unsynced that was not meant so. */
static void test_light_fails(void **state)
{
    auto_clean(registry_close_p) struct registry *r = open_ok();
    struct err e = {0};
    int action = SQLITE_TRANSACTION;
    sqlite3_set_authorizer(r->db, refuse, &action);
    assert_true(registry_begin_light(r, &e) < 0);
    sqlite3_set_authorizer(r->db, NULL, NULL);
    assert_int_equal(synchronous(r), 2);
    assert_int_equal(registry_begin_light(r, &e), 0);
    action = SQLITE_PRAGMA;
    sqlite3_set_authorizer(r->db, refuse, &action);
    assert_int_equal(registry_commit(r, &e), 0);
    assert_true(registry_begin(r, &e) < 0);
    sqlite3_set_authorizer(r->db, NULL, NULL);
    assert_int_equal(synchronous(r), 1);
    assert_int_equal(registry_begin(r, &e), 0);
    assert_int_equal(synchronous(r), 2);
    registry_rollback(r);
}

struct jobs {
    size_t n;
    int64_t first, last;
};

static int see_job(void *ctx, const struct registry_job *j, struct err *err)
{
    struct jobs *s = ctx;
    if (!s->n++)
        s->first = j->id;
    assert_true(s->n == 1 || j->id < s->last);
    s->last = j->id;
    return 0;
}

static void test_jobs(void **state)
{
    auto_clean(registry_close_p) struct registry *r = open_ok();
    struct err e = {0};
    int64_t ids[10];
    for (int i = 0; i < 10; i++) {
        struct registry_job j = {.ve = i,
                                 .subject = "web1",
                                 .kind = "start",
                                 .created = 5,
                                 .request = (char *)"{}",
                                 .ended = i < 6 ? 9 : 0};
        assert_int_equal(registry_job_insert(r, &j, &e), 0);
        ids[i] = j.id;
    }
    struct registry_job j = {0};
    assert_int_equal(registry_job_get(r, ids[9], &j, &e), 0);
    assert_string_equal(j.subject, "web1");
    assert_string_equal(j.kind, "start");
    assert_string_equal(j.request, "{}");
    assert_null(j.error);
    struct registry_job change = j;
    change.error = (char *)"it failed";
    change.error_kind = ERR_TIMEOUT;
    change.ended = 12;
    assert_int_equal(registry_job_update(r, &change, &e), 0);
    registry_job_done(&j);
    assert_int_equal(registry_job_get(r, ids[9], &j, &e), 0);
    assert_string_equal(j.error, "it failed");
    assert_int_equal(j.error_kind, ERR_TIMEOUT);
    assert_int_equal(j.ended, 12);
    registry_job_done(&j);
    change.id = 999;
    change.request = NULL; /* was of the row that is released now */
    assert_int_equal(registry_job_update(r, &change, &e), -ERR_NOT_FOUND);
    assert_int_equal(registry_job_get(r, 999, &j, &e), -ERR_NOT_FOUND);

    struct jobs s = {0};
    assert_int_equal(registry_job_each(r, false, 4, see_job, &s, &e), 0);
    assert_int_equal(s.n, 4);
    assert_int_equal(s.first, ids[9]);
    s = (struct jobs){0};
    assert_int_equal(registry_job_each(r, true, SIZE_MAX, see_job, &s, &e), 0);
    assert_int_equal(s.n, 3); /* 6, 7, 8 */
    assert_int_equal(s.last, ids[6]);
    /* Seven have ended; the open ones stay whatever their age. */
    assert_int_equal(registry_job_prune(r, 2, &e), 0);
    s = (struct jobs){0};
    assert_int_equal(registry_job_each(r, false, SIZE_MAX, see_job, &s, &e), 0);
    assert_int_equal(s.n, 5);
    assert_int_equal(s.last, ids[5]);
    assert_int_equal(registry_job_prune(r, 100, &e), 0);
    assert_int_equal(registry_job_prune(r, 0, &e), 0);
    s = (struct jobs){0};
    assert_int_equal(registry_job_each(r, false, SIZE_MAX, see_job, &s, &e), 0);
    assert_int_equal(s.n, 3);
}

/* What was committed is there after a crash, what was not is not. */
static void test_crash(void **state)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct registry *r = NULL;
        struct registry_ve v = {.name = "kept", .spec = (char *)"{}"};
        if (registry_open(dir, &r, NULL) < 0 || registry_begin(r, NULL) < 0 ||
            registry_ve_insert(r, &v, 9, NULL) < 0 || registry_commit(r, NULL) < 0 ||
            registry_begin(r, NULL) < 0)
            _exit(1);
        str_print(v.name, sizeof(v.name), "lost");
        _exit(registry_ve_insert(r, &v, 9, NULL) < 0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    auto_clean(registry_close_p) struct registry *r = open_ok();
    struct seen s = {0};
    assert_int_equal(registry_ve_each(r, see_ve, &s, NULL), 0);
    assert_string_equal(s.names, "kept ");
}

/* Killed at any instant: what was said to be committed is there, and the file is whole. */
static void test_kills(void **state)
{
    int64_t most = 0;
    unsigned seed = 7;
    for (int i = 0; i < 40; i++) {
        int p[2];
        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        pid_t pid = fork();
        if (pid == 0) {
            struct registry *r = NULL;
            struct registry_ve v = {.spec = (char *)"{\"some\":\"text\"}"};
            if (registry_open(dir, &r, NULL) < 0)
                _exit(1);
            for (int n = 0;; n++) {
                str_print(v.name, sizeof(v.name), "ve-%d-%d", i, n);
                if (registry_begin(r, NULL) < 0 || registry_ve_insert(r, &v, 100000, NULL) < 0 ||
                    registry_commit(r, NULL) < 0)
                    _exit(1);
                if (write(p[1], &v.id, sizeof(v.id)) != sizeof(v.id))
                    _exit(1);
            }
        }
        close(p[1]);
        usleep((useconds_t)rand_r(&seed) % 20000);
        kill(pid, SIGKILL);
        int status;
        int64_t id;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        while (read(p[0], &id, sizeof(id)) == sizeof(id)) {
            assert_true(id > most);
            most = id;
        }
        close(p[0]);
        struct registry *r = open_ok();
        struct seen s = {0};
        assert_int_equal(registry_ve_each(r, see_ve, &s, NULL), 0);
        assert_true(s.last_id >= most);
        assert_int_equal(s.n, s.last_id); /* none of them was lost */
        most = s.last_id;
        registry_close(r);
    }
    assert_true(most > 0);
}

static void test_second_daemon(void **state)
{
    auto_clean(registry_close_p) struct registry *r = open_ok();
    pid_t pid = fork();
    if (pid == 0) {
        struct registry *other = NULL;
        struct err e = {0};
        int res = registry_open(dir, &other, &e);
        _exit(res == -ERR_BUSY && strstr(e.text, "second teremd") ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    add_ve(r, "a", NULL);
}

static int see_params(void *ctx, const char *name, const char *params, struct err *err)
{
    if (strcmp(name, "web") == 0)
        str_print(ctx, 64, "%s", params);
    return strcmp(name, "stop") == 0 ? err_set(err, ERR_CANCELLED, "enough") : 0;
}

static void test_profiles(void **state)
{
    struct registry *r = open_ok();
    char params[64] = "";
    struct err e = {0};
    assert_int_equal(registry_profile_put(r, "web", "{}", NULL), 0);
    assert_int_equal(registry_profile_put(r, "web", "{\"a\":\"1\"}", NULL), 0);
    assert_int_equal(registry_profile_delete(r, "small", NULL), 0);
    assert_int_equal(registry_profile_delete(r, "small", &e), -ERR_NOT_FOUND);
    assert_string_equal(e.text, "there is no profile small");
    registry_close(r);
    r = open_ok(); /* what was removed does not come back */
    char names[256] = "";
    assert_int_equal(registry_profile_each(r, see_profile, names, NULL), 0);
    assert_string_equal(names, "large medium web ");
    assert_int_equal(registry_profile_each(r, see_params, params, NULL), 0);
    assert_string_equal(params, "{\"a\":\"1\"}");
    assert_int_equal(registry_profile_put(r, "stop", "", NULL), 0);
    assert_int_equal(registry_profile_each(r, see_params, params, &e), -ERR_CANCELLED);
    assert_int_equal(registry_begin(r, NULL), 0);
    assert_int_equal(registry_profile_put(r, "gone", "{}", NULL), 0);
    registry_rollback(r);
    assert_int_equal(registry_profile_delete(r, "gone", NULL), -ERR_NOT_FOUND);
    registry_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_ves),           T(test_walk),     T(test_transactions), T(test_light),
        T(test_light_fails),   T(test_jobs),     T(test_crash),        T(test_kills),
        T(test_second_daemon), T(test_profiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
