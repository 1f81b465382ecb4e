/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "registry/db.h"
#include "registry/registry.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

static char dir[64];

static int setup(void **state)
{
    str_print(dir, sizeof(dir), "/tmp/terem-registry-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    return path_remove_tree_at(AT_FDCWD, dir, NULL);
}

static struct registry *open_ok(void)
{
    struct registry *r = NULL;
    struct err e = {0};
    if (registry_open(dir, &r, &e) < 0)
        fail_msg("%s", e.text);
    return r;
}

static int64_t add_ve(struct registry *r, const char *name, uint32_t *slot)
{
    struct registry_ve v = {.state = 1,
                            .want = 2,
                            .spec = (char *)"{\"template\":\"busybox\"}",
                            .created = 1700000000000};
    struct err e = {0};
    str_print(v.name, sizeof(v.name), "%s", name);
    if (registry_ve_insert(r, &v, 5000, &e) < 0)
        fail_msg("%s", e.text);
    if (slot)
        *slot = v.slot;
    return v.id;
}

struct seen {
    size_t n;
    int64_t last_id;
    char names[256];
};

static int see_ve(void *ctx, const struct registry_ve *v, struct err *err)
{
    struct seen *s = ctx;
    assert_true(v->id > s->last_id);
    assert_non_null(v->spec);
    s->last_id = v->id;
    s->n++;
    size_t len = strlen(s->names);
    str_print(s->names + len, sizeof(s->names) - len, "%s ", v->name);
    return 0;
}

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

static sqlite3 *raw(void)
{
    auto_free char *path = str_format("%s/" REGISTRY_FILE, dir);
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    return db;
}

static void raw_exec(const char *text)
{
    sqlite3 *db = raw();
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* Makes the database as a Terem of that version left it, with a VE in it. */
static void make_version(int version)
{
    struct registry r = {.state = dir, .db = raw()};
    struct err e = {0};
    if (db_migrate(&r, version, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(sqlite3_exec(r.db,
                                  "INSERT INTO ve(name, state, want, slot, spec, created)"
                                  " VALUES('old', 1, 1, 7, '{}', 5)",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(r.db);
}

static int see_profile(void *ctx, const char *name, const char *params, struct err *err)
{
    size_t used = strlen(ctx);
    assert_int_equal(params[0], '{');
    assert_int_equal(str_print((char *)ctx + used, 256 - used, "%s ", name), 0);
    return 0;
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

static void test_upgrade(void **state)
{
    for (int v = 1; v <= db_newest_version(); v++) {
        make_version(v);
        struct registry *r = open_ok();
        struct seen s = {0};
        int64_t now = 0;
        assert_int_equal(registry_ve_each(r, see_ve, &s, NULL), 0);
        assert_string_equal(s.names, "old ");
        assert_int_equal(db_int(r, "PRAGMA user_version", &now, NULL), 0);
        assert_int_equal(now, db_newest_version());
        struct registry_job j = {.subject = "old", .kind = "start"};
        assert_int_equal(registry_job_insert(r, &j, NULL), 0);
        char profiles[256] = "";
        assert_int_equal(registry_profile_each(r, see_profile, profiles, NULL), 0);
        assert_string_equal(profiles, "large medium small ");
        registry_close(r);
        auto_free char *kept = str_format("%s/" REGISTRY_FILE ".version-%d", dir, v);
        assert_int_equal(access(kept, F_OK), v < db_newest_version() ? 0 : -1);
        teardown(NULL);
        assert_int_equal(mkdir(dir, 0700), 0);
    }
}

/* A step that fails leaves the version before it, whole. */
static void test_upgrade_fails(void **state)
{
    make_version(1);
    raw_exec("CREATE TABLE job(x)");
    struct registry *r = NULL;
    struct err e = {0};
    assert_true(registry_open(dir, &r, &e) < 0);
    assert_non_null(strstr(e.text, "from version 1 to 2"));
    raw_exec("DROP TABLE job");
    registry_close(open_ok());
}

static void test_newer(void **state)
{
    registry_close(open_ok());
    raw_exec("PRAGMA user_version = 99");
    struct registry *r = NULL;
    struct err e = {0};
    assert_int_equal(registry_open(dir, &r, &e), -ERR_UNSUPPORTED);
    auto_free char *known = str_format("up to %d", db_newest_version());
    assert_non_null(strstr(e.text, "version 99"));
    assert_non_null(strstr(e.text, known));
}

static void write_file(const char *name, const void *data, size_t len)
{
    auto_fd int d = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(fd_replace_file_at(d, name, data, len, 0600, NULL), 0);
}

static void test_foreign_files(void **state)
{
    struct registry *r = NULL;
    struct err e = {0};
    char junk[8192];
    memset(junk, 'x', sizeof(junk));
    write_file(REGISTRY_FILE, junk, sizeof(junk));
    assert_int_equal(registry_open(dir, &r, &e), -ERR_CORRUPT);
    assert_non_null(strstr(e.text, "no earlier good copy"));
    /* A leftover of a creation that did not get far. */
    write_file(REGISTRY_FILE, "", 0);
    registry_close(open_ok());
    auto_free char *path = str_format("%s/" REGISTRY_FILE, dir);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    unlink(path);
    raw_exec("CREATE TABLE songs(x)");
    assert_int_equal(registry_open(dir, &r, &e), -ERR_CORRUPT);
    assert_non_null(strstr(e.text, "another program"));
    auto_free char *nowhere = str_format("%s/none", dir);
    assert_int_equal(registry_open(nowhere, &r, &e), -ERR_NOT_FOUND);
    assert_null(r);
}

static void fill_some(int n)
{
    auto_clean(registry_close_p) struct registry *r = open_ok();
    char name[16];
    assert_int_equal(registry_begin(r, NULL), 0);
    for (int i = 0; i < n; i++) {
        str_print(name, sizeof(name), "ve%d", i);
        add_ve(r, name, NULL);
        struct registry_job j = {.subject = "ve", .kind = "start", .request = (char *)"{}"};
        assert_int_equal(registry_job_insert(r, &j, NULL), 0);
    }
    assert_int_equal(registry_commit(r, NULL), 0);
}

static int shell(const char *command)
{
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return status;
}

/* Pages overwritten one after another: each is seen at open or harmless, nothing crashes, and the
 * command in the sentence brings the good copy back. */
static void test_damage(void **state)
{
    fill_some(200);
    registry_close(open_ok()); /* takes the copy */
    auto_free char *path = str_format("%s/" REGISTRY_FILE, dir);
    auto_fd int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    size_t found = 0, pages = (size_t)st.st_size / 4096;
    assert_true(pages >= 8);
    for (size_t p = 0; p < pages; p++) {
        char keep[4096], bad[4096];
        assert_int_equal(pread(fd, keep, sizeof(keep), (off_t)p * 4096), sizeof(keep));
        memcpy(bad, keep, sizeof(bad));
        for (size_t i = 0; i < 512; i++)
            bad[i] ^= 0x5a;
        assert_int_equal(pwrite(fd, bad, sizeof(bad), (off_t)p * 4096), sizeof(bad));
        struct registry *r = NULL;
        struct err e = {0};
        int res = registry_open(dir, &r, &e);
        if (res == -ERR_CORRUPT && strstr(e.text, REGISTRY_GOOD))
            found++;
        else if (res < 0)
            fail_msg("page %zu: %s", p, e.text);
        registry_close(r);
        assert_int_equal(pwrite(fd, keep, sizeof(keep), (off_t)p * 4096), sizeof(keep));
    }
    assert_int_equal(found, pages);

    /* Cut in the middle, and restored by the letter. */
    assert_int_equal(ftruncate(fd, (off_t)(pages / 2) * 4096), 0);
    struct registry *r = NULL;
    struct err e = {0};
    assert_int_equal(registry_open(dir, &r, &e), -ERR_CORRUPT);
    char *from = strstr(e.text, "  cd "), *to = from ? strstr(from + 2, "  ") : NULL;
    assert_non_null(to);
    *to = '\0';
    assert_int_equal(shell(from), 0);
    r = open_ok();
    struct seen s = {0};
    assert_int_equal(registry_ve_each(r, see_ve, &s, NULL), 0);
    assert_int_equal(s.n, 200);
    registry_close(r);
}

/* In a mount namespace of its own, over a small file system. */
static int on_small_disk(void)
{
    struct err e = {0};
    struct registry *r = NULL;
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("terem-test", dir, "tmpfs", 0, "size=512k") < 0)
        return 77;
    if (registry_open(dir, &r, &e) < 0)
        return 1;
    auto_free char *big = calloc(1, 60001);
    memset(big, 'a', 60000);
    struct registry_ve v = {.spec = big};
    int res = 0, n = 0;
    for (; n < 100 && res == 0; n++) {
        str_print(v.name, sizeof(v.name), "ve%d", n);
        res = registry_begin(r, &e);
        if (res == 0)
            res = registry_ve_insert(r, &v, 1000, &e);
        if (res == 0)
            res = registry_commit(r, &e);
    }
    registry_rollback(r);
    if (res != -ERR_EXHAUSTED || !strstr(e.text, "free some space"))
        return 2;
    /* What was committed is there, and reading goes on. */
    struct seen s = {0};
    if (registry_ve_each(r, see_ve, &s, &e) < 0 || s.n != (size_t)n - 1)
        return 3;
    registry_close(r);
    /* Opens although there is no room for the copy, and says so. */
    auto_free char *path = str_format("%s/filler", dir);
    auto_fd int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, big, 4096) > 0)
        ;
    close(steal_fd(&fd));
    r = NULL;
    if (registry_open(dir, &r, &e) < 0)
        return 4;
    if (!registry_warning(r) || !strstr(registry_warning(r), REGISTRY_GOOD))
        return 5;
    registry_close(r);
    r = NULL;
    if (mount(NULL, dir, NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0)
        return 77;
    if (registry_open(dir, &r, &e) != -ERR_DENIED || !strstr(e.text, "read-only"))
        return 6;
    unlink(path);
    return 0;
}

static int read_only_empty(void)
{
    struct err e = {0};
    struct registry *r = NULL;
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("terem-test", dir, "tmpfs", MS_RDONLY, "size=64k") < 0)
        return 77;
    if (registry_open(dir, &r, &e) != -ERR_DENIED || !strstr(e.text, "mount it read-write"))
        return 1;
    if (mount(NULL, dir, NULL, MS_REMOUNT, "size=4k") < 0)
        return 77;
    return registry_open(dir, &r, &e) == -ERR_EXHAUSTED ? 0 : 2;
}

static void in_child(int (*body)(void))
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(body());
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip(); /* no mounts here; the tests are meant to run as root */
    assert_int_equal(status, 0);
}

static void test_full_disk(void **state)
{
    in_child(on_small_disk);
}

static void test_read_only(void **state)
{
    in_child(read_only_empty);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_ves),      T(test_walk),          T(test_transactions),  T(test_jobs),
        T(test_crash),    T(test_kills),         T(test_second_daemon), T(test_upgrade),
        T(test_profiles), T(test_upgrade_fails), T(test_newer),         T(test_foreign_files),
        T(test_damage),   T(test_full_disk),     T(test_read_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
