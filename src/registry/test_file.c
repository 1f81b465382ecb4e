/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The registry's file: of earlier and later versions, of others, damaged, on a full disk. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "registry/db.h"
#include "registry/test_stage.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

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
    struct registry r = {.file = REGISTRY_FILE, .state = dir, .db = raw()};
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
        print_message("# skipped: nothing can be mounted here; root can\n");
    else
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
    const struct CMUnitTest tests[] = {
        T(test_upgrade), T(test_upgrade_fails), T(test_newer),     T(test_foreign_files),
        T(test_damage),  T(test_full_disk),     T(test_read_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
