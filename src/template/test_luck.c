/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bad luck: killed imports, full disks, endless archives, two at once, damaged records. */
#include "template/test_make.h"

#include "base/path.h"
#include "template/record.h"
#include "template/sources.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static void many_files(struct bytes *b, int n)
{
    auto_free char *data = calloc(1, 4096);
    for (int i = 0; i < n; i++) {
        char name[48];
        str_print(name, sizeof(name), "dir-%d/file-%d", i % 10, i);
        memset(data, 'a' + i % 26, 4096);
        tar_add(b, &(struct tar_item){name, '0', .data = data, .len = 4096});
    }
    tar_end(b);
}

/* Killed at any moment: what a later start finds is a whole template or nothing. */
static void test_killed(void **state)
{
    struct fixture *f = *state;
    auto_bytes struct bytes tar = {0}, packed = {0};
    many_files(&tar, 200);
    pack_gzip(&tar, &packed);
    write_file(f->file, packed.p, packed.n);
    unsigned whole = 0, nothing = 0;
    for (long us = 200; us < 60000 || (!whole && us < 20000000); us += us / 6) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct template_request rq = {.name = "t", .source = f->file};
            _exit(template_import(f->store, &rq, NULL) < 0);
        }
        nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        OK(f, template_recover(f->store, NULL, 0, &f->err));
        OK(f, template_empty_trash(f->store, NULL, &f->err));
        auto_template struct template *t = NULL;
        if (template_get(f->store, "t", &t, &f->err) == 0) {
            const char *digest = t->layers[0];
            int fd = -1;
            OK(f, template_open_layers(f->store, &digest, 1, &fd, &f->err));
            close(fd);
            whole++;
            OK(f, fixture_remove(f, "t", NULL, 0));
        } else {
            nothing++;
        }
        fixture_assert_nothing(f);
    }
    print_message("# killed: %u whole, %u nothing\n", whole, nothing);
    assert_true(nothing > 0 && whole > 0);
}

/* Recovery must not take the draft of an import that lives. */
static void test_recover_beside_import(void **state)
{
    struct fixture *f = *state;
    auto_bytes struct bytes tar = {0};
    many_files(&tar, 400);
    write_file(f->file, tar.p, tar.n);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct template_request rq = {.name = "t", .source = f->file};
        _exit(template_import(f->store, &rq, NULL) < 0);
    }
    int status = -1;
    while (waitpid(pid, &status, WNOHANG) == 0)
        OK(f, template_recover(f->store, NULL, 0, &f->err));
    assert_int_equal(status, 0);
    OK(f, template_recover(f->store, NULL, 0, &f->err));
    assert_false(template_has_trash(f->store));
    close(fixture_root(f, "t", 0));
    assert_int_equal(fixture_entries(f, "layers"), 1);
}

/* The same archive by several at once, and the same name: one wins, all is whole. */
static void test_beside_each_other(void **state)
{
    struct fixture *f = *state;
    auto_bytes struct bytes tar = {0};
    many_files(&tar, 50);
    write_file(f->file, tar.p, tar.n);
    pid_t pids[6];
    for (int i = 0; i < 6; i++) {
        if ((pids[i] = fork()) != 0)
            continue;
        char name[16];
        str_print(name, sizeof(name), "t%d", i / 2); /* each name twice */
        struct template_request rq = {.name = name, .source = f->file};
        _exit(-template_import(f->store, &rq, NULL)); /* the kind is told without a struct err */
    }
    int won = 0;
    for (int i = 0; i < 6; i++) {
        int status = -1;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status));
        won += WEXITSTATUS(status) == 0;
        assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == ERR_EXISTS);
    }
    assert_int_equal(won, 3);
    assert_int_equal(fixture_entries(f, "layers"), 1);
    assert_int_equal(fixture_entries(f, "templates"), 3);
}

/* Different archives for one name: the layers of those that lose must go. */
static void test_same_name(void **state)
{
    struct fixture *f = *state;
    pid_t pids[5];
    for (int i = 0; i < 5; i++) {
        auto_bytes struct bytes tar = {0};
        many_files(&tar, 20 + i);
        char path[128];
        str_print(path, sizeof(path), "%s-%d", f->file, i);
        write_file(path, tar.p, tar.n);
        if ((pids[i] = fork()) != 0)
            continue;
        struct template_request rq = {.name = "t", .source = path};
        _exit(-template_import(f->store, &rq, NULL)); /* the kind is told without a struct err */
    }
    int won = 0;
    for (int i = 0; i < 5; i++) {
        int status = -1;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status));
        won += WEXITSTATUS(status) == 0;
        assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == ERR_EXISTS);
    }
    assert_int_equal(won, 1);
    assert_int_equal(fixture_entries(f, "layers"), 1);
    close(fixture_root(f, "t", 0));
}

static int cancel_later(void *ctx, int percent, const char *text)
{
    int *calls = ctx;
    assert_true(percent >= -1 && percent <= 100 && text);
    return ++*calls >= 3;
}

static void test_cancelled(void **state)
{
    struct fixture *f = *state;
    auto_bytes struct bytes tar = {0};
    many_files(&tar, 2000);
    int calls = 0;
    struct template_request rq = {.progress = cancel_later, .ctx = &calls};
    assert_int_equal(import_bytes(f, &tar, &rq), -ERR_CANCELLED);
    assert_int_equal(calls, 3);
    fixture_assert_nothing(f);
}

/* Ten million entries out of a few hundred lines of a script: bounded by the limit. */
static void test_endless(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkfifo(f->file, 0600), 0);
    auto_free char *dir = str_format("%s/fake", f->dir);
    OK(f, path_make_dirs(dir, 0755, &f->err));
    /* A file is wanted, not a fifo: a small gzip that unpacks to ten million headers. */
    assert_int_equal(unlink(f->file), 0);
    auto_bytes struct bytes one = {0}, million = {0};
    for (int i = 0; i < 10000; i++) {
        char name[32];
        str_print(name, sizeof(name), "d%d/%d", i % 100, i);
        tar_add(&one, &(struct tar_item){name, '0'});
    }
    auto_bytes struct bytes packed = {0};
    pack_gzip(&one, &packed);
    for (int i = 0; i < 1000; i++) /* gzip members follow one another */
        bytes_add(&million, packed.p, packed.n);
    struct template_request rq = {.max_entries = 12000};
    assert_int_equal(import_bytes(f, &million, &rq), -ERR_EXHAUSTED);
    assert_non_null(strstr(f->err.text, "more than 12000 entries"));
    fixture_assert_nothing(f);
}

/* A gigabyte of zeros in a megabyte. */
static void test_bomb(void **state)
{
    struct fixture *f = *state;
    auto_bytes struct bytes head = {0}, packed = {0}, zeros = {0}, zeros_packed = {0};
    tar_add(&head, &(struct tar_item){"bomb", '0', .data = ""});
    static const char size[] = "10000000000";
    tar_pax(&head, "size", size, strlen(size));
    tar_add(&head, &(struct tar_item){"bomb", '0', .data = ""});
    pack_gzip(&head, &packed);
    bytes_add(&zeros, NULL, (size_t)8 << 20);
    pack_gzip(&zeros, &zeros_packed);
    for (int i = 0; i < 128; i++)
        bytes_add(&packed, zeros_packed.p, zeros_packed.n);
    struct template_request rq = {.max_bytes = (uint64_t)20 << 20};
    assert_int_equal(import_bytes(f, &packed, &rq), -ERR_EXHAUSTED);
    assert_non_null(strstr(f->err.text, "20M"));
    fixture_assert_nothing(f);
}

static int in_tmpfs(struct fixture *f, const char *options, int (*try)(struct fixture *f))
{
    pid_t pid = fork();
    if (pid == 0) {
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("terem-test", f->state, "tmpfs", 0, options) < 0)
            _exit(77);
        _exit(try(f));
    }
    int status = -1;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

#define MUST(x)                                                                 \
    do {                                                                        \
        if (!(x)) {                                                             \
            fprintf(stderr, "# line %d: %s (%s)\n", __LINE__, #x, f->err.text); \
            return 1;                                                           \
        }                                                                       \
    } while (0)

static int try_full(struct fixture *f)
{
    struct template_store *s = NULL;
    MUST(template_store_open(f->state, &s, &f->err) == 0);
    struct template_request rq = {.name = "t", .source = f->file};
    int r = template_import(s, &rq, &f->err);
    MUST(r == -ERR_EXHAUSTED);
    MUST(strstr(f->err.text, "free space") || strstr(f->err.text, "remove templates"));
    MUST(fixture_entries(f, "layers") == 0 && fixture_entries(f, "templates") == 0);
    /* Not even room for a small one: somebody else fills the rest. */
    auto_free char *fill = str_format("%s/fill", f->state);
    auto_fd int fd = open(fill, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    static char block[65536];
    while (write(fd, block, sizeof(block)) > 0)
        ;
    rq.name = "u";
    MUST(template_import(s, &rq, &f->err) == -ERR_EXHAUSTED);
    MUST(strstr(f->err.text, "no space left"));
    MUST(fixture_entries(f, "layers") == 0);
    template_store_close(s);
    return 0;
}

static int try_no_inodes(struct fixture *f)
{
    struct template_store *s = NULL;
    MUST(template_store_open(f->state, &s, &f->err) == 0);
    struct template_request rq = {.name = "t", .source = f->file};
    MUST(template_import(s, &rq, &f->err) == -ERR_EXHAUSTED);
    MUST(strstr(f->err.text, "no inodes left"));
    MUST(fixture_entries(f, "layers") == 0 && fixture_entries(f, "templates") == 0);
    template_store_close(s);
    return 0;
}

static int try_read_only(struct fixture *f)
{
    struct template_store *s = NULL;
    MUST(template_store_open(f->state, &s, &f->err) == 0);
    MUST(mount(NULL, f->state, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
    struct template_request rq = {.name = "t", .source = f->file};
    MUST(template_import(s, &rq, &f->err) == -ERR_DENIED);
    MUST(strstr(f->err.text, "Read-only file system"));
    template_store_close(s);
    return 0;
}

static void test_full(void **state)
{
    struct fixture *f = *state;
    auto_bytes struct bytes tar = {0};
    many_files(&tar, 500);
    write_file(f->file, tar.p, tar.n);
    int r = in_tmpfs(f, "size=1m", try_full);
    if (r == 77) {
        print_message("# skipped: nothing can be mounted here; root can\n");
        return;
    }
    assert_int_equal(r, 0);
    assert_int_equal(in_tmpfs(f, "size=20m,nr_inodes=100", try_no_inodes), 0);
    assert_int_equal(in_tmpfs(f, "size=20m", try_read_only), 0);
}

static void spoil(struct fixture *f, const char *text)
{
    auto_free char *path = str_format("%s/templates/t.json", f->state);
    write_file(path, text, strlen(text));
}

/* A record that is not what Terem writes is told by name, and no layer is lost for it. */
static void test_damaged_record(void **state)
{
    struct fixture *f = *state;
    auto_bytes struct bytes tar = {0};
    many_files(&tar, 3);
    OK(f, import_bytes(f, &tar, NULL));
    auto_template struct template *good = NULL;
    OK(f, template_get(f->store, "t", &good, &f->err));
    auto_free char *text = NULL;
    OK(f, record_write(good, &text, &f->err));
    size_t len = strlen(text);
    for (size_t n = 0; n < len; n++) {
        auto_free char *cut = str_format("%.*s", (int)n, text);
        spoil(f, cut);
        struct template *t = NULL;
        if (template_get(f->store, "t", &t, &f->err) != -ERR_CORRUPT)
            fail_msg("cut at %zu: %s", n, f->err.text);
    }
    assert_non_null(strstr(f->err.text, "templates/t.json"));
    static const char *const bad[] = {
        "{\"version\": 1}", "[]", "null", "{\"version\": \"1\"}", "\xff\xfe",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct template *t = NULL;
        spoil(f, bad[i]);
        assert_int_equal(template_get(f->store, "t", &t, &f->err), -ERR_CORRUPT);
    }
    struct template *t = NULL;
    spoil(f, "{\"version\": 3, \"more\": true}");
    assert_int_equal(template_get(f->store, "t", &t, &f->err), -ERR_UNSUPPORTED);
    /* A record as the first version wrote it, and one of the second that lacks what is new. */
    auto_free char *old = str_format("{\"version\": 1%s", strstr(text, ",\n"));
    char *from = strstr(old, "\"recipe\""), *to = strstr(old, "\"created\"");
    memmove(from, to, strlen(to) + 1);
    spoil(f, old);
    auto_template struct template *first = NULL;
    OK(f, template_get(f->store, "t", &first, &f->err));
    assert_true(first->revision == 1 && !first->recipe);
    old[strcspn(old, "1")] = '2';
    spoil(f, old);
    assert_int_equal(template_get(f->store, "t", &t, &f->err), -ERR_CORRUPT);
    /* With an unknown member, a wrong name, a digest that leads elsewhere. */
    auto_free char *unknown = str_format("{\"extra\": 1, %s", text + 1);
    spoil(f, unknown);
    assert_int_equal(template_get(f->store, "t", &t, &f->err), -ERR_CORRUPT);
    auto_free char *other = strdup(text);
    strstr(other, "\"name\": \"t\"")[9] = 'u';
    spoil(f, other);
    assert_int_equal(template_get(f->store, "t", &t, &f->err), -ERR_CORRUPT);
    auto_free char *digest = strdup(text);
    memcpy(strstr(digest, "sha256:") + 7, "../../../../", 12);
    spoil(f, digest);
    assert_int_equal(template_get(f->store, "t", &t, &f->err), -ERR_CORRUPT);

    assert_int_equal(template_recover(f->store, NULL, 0, &f->err), -ERR_CORRUPT);
    assert_non_null(strstr(f->err.text, "layers are kept"));
    assert_int_equal(fixture_entries(f, "layers"), 1);
    OK(f, fixture_remove(f, "t", NULL, 0));
    fixture_assert_nothing(f);
}

static void test_missing(void **state)
{
    struct fixture *f = *state;
    struct template *t = NULL;
    assert_int_equal(template_get(f->store, "debian-21", &t, &f->err), -ERR_NOT_FOUND);
    assert_non_null(strstr(f->err.text, "did you mean debian-1"));
    assert_int_equal(template_get(f->store, "busybox", &t, &f->err), -ERR_NOT_FOUND);
    assert_non_null(strstr(f->err.text, "terem template build busybox"));
    assert_int_equal(template_get(f->store, "../x", &t, &f->err), -ERR_USAGE);
    struct template_request rq = {.name = "x"};
    assert_int_equal(template_build(f->store, "debian-11", &rq, &f->err), -ERR_NOT_FOUND);
    rq.include = "nginx;reboot";
    assert_int_equal(template_build(f->store, "debian-12", &rq, &f->err), -ERR_USAGE);
    rq.include = "-o,x";
    assert_int_equal(template_build(f->store, "debian-12", &rq, &f->err), -ERR_USAGE);
    rq.include = "nginx";
    assert_int_equal(template_build(f->store, "busybox", &rq, &f->err), -ERR_USAGE);
    const char *digests[] = {
        "sha256:0000000000000000000000000000000000000000000000000000000000000000", "../../etc"};
    int fds[2];
    assert_int_equal(template_open_layers(f->store, digests, 1, fds, &f->err), -ERR_CORRUPT);
    assert_non_null(strstr(f->err.text, digests[0]));
    assert_int_equal(template_open_layers(f->store, digests + 1, 1, fds, &f->err), -ERR_USAGE);
    fixture_assert_nothing(f);
}

static void test_directory(void **state)
{
    struct fixture *f = *state;
    auto_free char *dir = str_format("%s/system", f->dir), *init = str_format("%s/sbin/init", dir),
                   *sbin = str_format("%s/sbin", dir);
    OK(f, path_make_dirs(sbin, 0755, &f->err));
    write_file(init, "#!/bin/sh\n", 10);
    assert_int_equal(chmod(init, 0755), 0);
    struct template_request rq = {.name = "t", .source = dir};
    OK(f, template_import(f->store, &rq, &f->err));
    auto_template struct template *t = NULL, *u = NULL;
    OK(f, template_get(f->store, "t", &t, &f->err));
    assert_int_equal(t->init, TEMPLATE_INIT_SYSV);
    /* Equal directories are one layer. */
    rq.name = "u";
    OK(f, template_import(f->store, &rq, &f->err));
    OK(f, template_get(f->store, "u", &u, &f->err));
    assert_string_equal(t->layers[0], u->layers[0]);
    /* What holds our own state is taken without it. */
    rq = (struct template_request){.name = "all", .source = f->dir};
    OK(f, template_import(f->store, &rq, &f->err));
    auto_fd int root = fixture_root(f, "all", 0);
    assert_int_equal(faccessat(root, "state", F_OK, 0), -1);
    assert_int_equal(faccessat(root, "outside/victim", F_OK, 0), 0);
}

static void write_in(struct fixture *f, const char *name, const char *text)
{
    auto_free char *path = str_format("%s/%s", f->dir, name);
    write_file(path, text, strlen(text));
}

static void expect_sources(struct fixture *f, const char *suite, const char *wanted)
{
    char **lines = NULL;
    OK(f, sources_for_suite(f->dir, suite, &lines, &f->err));
    auto_str struct str s = str_init(4096);
    str_add(&s, "%s", "");
    for (size_t i = 0; lines[i]; i++)
        str_add(&s, "%s\n", lines[i]);
    strings_free(lines);
    assert_string_equal(str_c(&s), wanted);
}

static void test_sources(void **state)
{
    struct fixture *f = *state;
    auto_free char *d = str_format("%s/sources.list.d", f->dir);
    expect_sources(f, "bookworm", "");
    OK(f, path_make_dirs(d, 0755, &f->err));
    write_in(f, "sources.list",
             "# deb http://commented.test/debian bookworm main\n"
             "deb http://mirror.test/debian bookworm main contrib # why not\n"
             "deb-src http://mirror.test/debian bookworm main\n"
             "  deb [ arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg ] "
             "http://mirror.test/security  bookworm-security\tmain\n"
             "deb [signed-by=/etc/apt/keyrings/other.asc] http://other.test bookworm main\n"
             "deb http://third.test/linux bookworm stable\n"
             "deb [broken http://x.test bookworm main\n"
             "deb\n");
    write_in(f, "sources.list.d/off.list.disabled", "deb http://off.test bookworm main\n");
    expect_sources(f, "bookworm",
                   "deb http://mirror.test/debian bookworm main contrib\n"
                   "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
                   "http://mirror.test/security bookworm-security main\n");
    /* For another release of the same archive the names are exchanged. */
    expect_sources(f, "trixie",
                   "deb http://mirror.test/debian trixie main contrib\n"
                   "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
                   "http://mirror.test/security trixie-security main\n");
    /* deb822, and the wanted suite's own lines before those of another. */
    write_in(
        f, "sources.list.d/debian.sources",
        "# a comment\nTypes: deb deb-src\nURIs: http://new.test/debian\n"
        "Suites: trixie trixie-updates\n backports-of-nobody\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
        "Types: deb\nEnabled: no\nURIs: http://no.test\nSuites: trixie\nComponents: main\n\n"
        "Types: deb\nURIs: http://key.test\nSuites: trixie\nComponents: main\nSigned-By:\n"
        " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----\n");
    expect_sources(f, "trixie",
                   "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
                   "http://new.test/debian trixie main\n"
                   "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
                   "http://new.test/debian trixie-updates main\n"
                   "deb http://key.test trixie main\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_killed, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_recover_beside_import, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(test_beside_each_other, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_same_name, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_cancelled, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_endless, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_bomb, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_full, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_damaged_record, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_missing, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_directory, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(test_sources, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
