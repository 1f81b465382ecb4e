/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/debian.h"
#include "template/test_make.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

static void test_busybox(void **state)
{
    struct fixture *f = *state;
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    struct template_request rq = {.name = "box"};
    OK(f, template_build(f->store, "busybox", &rq, &f->err));
    clock_gettime(CLOCK_MONOTONIC, &b);
    print_message("# built in %.1f ms\n",
                  (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6);
    auto_template struct template *t = NULL;
    OK(f, template_get(f->store, "box", &t, &f->err));
    assert_int_equal(t->init, TEMPLATE_INIT_BUSYBOX);
    assert_int_equal(t->start, TEMPLATE_SYSTEM);
    assert_string_equal(t->init_path, "/sbin/init");
    assert_true(t->size > 500000);
    auto_fd int root = fixture_root(f, "box", 0);
    struct stat st;
    assert_int_equal(fstatat(root, "tmp", &st, 0), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 01777);
    assert_int_equal(fstatat(root, "root", &st, 0), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0700);
    assert_int_equal(fstatat(root, "etc/shadow", &st, 0), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    assert_int_equal(fstatat(root, "bin/busybox", &st, 0), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0755);
    ino_t busybox = st.st_ino;
    static const char *const links[] = {"sbin/init", "bin/sh", "usr/bin/awk", "sbin/getty"};
    for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
        assert_int_equal(fstatat(root, links[i], &st, 0), 0);
        assert_true(st.st_ino == busybox);
    }

    /* The same busybox is the same layer, once on disk. */
    rq.name = "box2";
    OK(f, template_build(f->store, "busybox", &rq, &f->err));
    auto_template struct template *t2 = NULL;
    OK(f, template_get(f->store, "box2", &t2, &f->err));
    assert_string_equal(t->layers[0], t2->layers[0]);
    assert_int_equal(fixture_entries(f, "layers"), 1);
    assert_int_equal(template_build(f->store, "busybox", &rq, &f->err), -ERR_EXISTS);

    char **names = NULL;
    size_t n = 0;
    OK(f, template_list(f->store, &names, &n, &f->err));
    assert_int_equal(n, 2);
    assert_string_equal(names[0], "box");
    template_names_free(names, n);

    /* Layers go with the last that stands on them, template or VE. */
    const char *used[] = {t->layers[0]};
    OK(f, fixture_remove(f, "box", NULL, 0));
    assert_int_equal(fixture_entries(f, "layers"), 1);
    OK(f, fixture_remove(f, "box2", used, 1));
    assert_int_equal(fixture_entries(f, "layers"), 1);
    assert_int_equal(fixture_remove(f, "box2", NULL, 0), -ERR_NOT_FOUND);
    OK(f, template_recover(f->store, used, 1, &f->err));
    assert_int_equal(fixture_entries(f, "layers"), 1);
    assert_false(template_has_trash(f->store));
    OK(f, template_recover(f->store, NULL, 0, &f->err));
    assert_int_equal(fixture_entries(f, "layers"), 1); /* renamed: deleting takes its time */
    assert_true(template_has_trash(f->store));
    OK(f, template_empty_trash(f->store, NULL, &f->err));
    assert_int_equal(fixture_entries(f, "layers"), 0);
    assert_int_equal(fixture_entries(f, "templates"), 0);
}

/* What mmdebstrap writes when it fails, as it was seen, and the one sentence that is told. */
static void test_why_mmdebstrap_failed(void **state)
{
    static const char end[] =
        "E: setup failed: E: apt-get -o Dir::Bin::dpkg=env --yes install systemd x failed: 100\n"
        "I: main() received signal PIPE: waiting for setup...\n"
        "I: removing tempdir /tmp/mmdebstrap.ePTsVlYHIp...\n"
        "E: mmdebstrap failed to run\n";
    static const struct {
        const char *log, *says;
        int kind;
    } rows[] = {
        {"Reading package lists...\nE: Unable to locate package nosuchpkg\n",
         "there is no package nosuchpkg in Debian 12 (bookworm)", ERR_NOT_FOUND},
        {"E: Couldn't find any package by glob 'libfoo2.1'\n",
         "there is no package libfoo2.1 in Debian 12 (bookworm)", ERR_NOT_FOUND},
        {"E: Package 'foo' has no installation candidate\n",
         "the package foo cannot be installed from Debian 12 (bookworm)", ERR_NOT_FOUND},
        {"I: running apt-get update...\n"
         "E: Failed to fetch http://deb.example/dists/x/InRelease  Could not resolve "
         "'deb.example'\n"
         "E: Some index files failed to download.\n",
         "mmdebstrap: Failed to fetch http://deb.example/dists/x/InRelease  "
         "Could not resolve 'deb.example'",
         ERR_SYSTEM},
        {"E: Failed to fetch x\n"
         "dpkg: error processing archive a.deb (--unpack): No space left on device\n",
         "mmdebstrap: dpkg: error processing archive a.deb (--unpack): No space left on device; "
         "free some space and try again",
         ERR_EXHAUSTED},
        {"",
         "mmdebstrap failed (exit status 25): E: setup failed: E: apt-get -o "
         "Dir::Bin::dpkg=env --yes install systemd x failed: 100",
         ERR_SYSTEM},
    };
    const struct debian *d = debian_find("debian-12");
    assert_non_null(d);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        auto_child struct child c = CHILD_NONE;
        struct err err = {0};
        auto_free char *env = str_format("SAID=%s%s", rows[i].log, end);
        const char *argv[] = {"sh", "-c", "printf %s \"$SAID\" >&2; exit 25", NULL};
        assert_int_equal(child_start(argv, &(struct child_how){.env = env}, &c, &err), 0);
        /* The cut archive is an effect, too. */
        assert_int_equal(debian_explain(d, &c, -ERR_CORRUPT, &err), -rows[i].kind);
        assert_string_equal(err.text, rows[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_why_mmdebstrap_failed),
        cmocka_unit_test_setup_teardown(test_busybox, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
