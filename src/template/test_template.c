/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/template.h"

#include "base/cleanup.h"
#include "base/path.h"
#include "base/str.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

struct fixture {
    char dir[64];
    struct template_store *store;
    struct err err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    str_print(f->dir, sizeof(f->dir), "/tmp/terem-template-XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    *state = f;
    return template_store_open(f->dir, &f->store, &f->err);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    template_store_close(f->store);
    int r = path_remove_tree_at(AT_FDCWD, f->dir, NULL);
    free(f);
    return r;
}

static size_t entries(const char *dir, const char *below)
{
    auto_free char *path = str_format("%s/%s", dir, below);
    auto_dir DIR *d = opendir(path);
    size_t n = 0;
    struct dirent *e;
    while (d && (e = readdir(d)))
        n += !str_eq(e->d_name, ".") && !str_eq(e->d_name, "..");
    return n;
}

#define OK(f, x)                                   \
    do {                                           \
        if ((x) < 0)                               \
            fail_msg("%s: %s", #x, (f)->err.text); \
    } while (0)

static int open_root(struct fixture *f, const struct template *t)
{
    const char *digest = t->layers[0];
    int fd = -1;
    OK(f, template_open_layers(f->store, &digest, 1, &fd, &f->err));
    return fd;
}

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
    auto_fd int root = open_root(f, t);
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
    assert_int_equal(entries(f->dir, "layers"), 1);
    assert_int_equal(template_build(f->store, "busybox", &rq, &f->err), -ERR_EXISTS);

    char **names = NULL;
    size_t n = 0;
    OK(f, template_list(f->store, &names, &n, &f->err));
    assert_int_equal(n, 2);
    assert_string_equal(names[0], "box");
    template_names_free(names, n);

    /* Layers go with the last that stands on them, template or VE. */
    const char *used[] = {t->layers[0]};
    OK(f, template_remove(f->store, "box", NULL, 0, &f->err));
    assert_int_equal(entries(f->dir, "layers"), 1);
    OK(f, template_remove(f->store, "box2", used, 1, &f->err));
    assert_int_equal(entries(f->dir, "layers"), 1);
    assert_int_equal(template_remove(f->store, "box2", NULL, 0, &f->err), -ERR_NOT_FOUND);
    OK(f, template_recover(f->store, used, 1, &f->err));
    assert_int_equal(entries(f->dir, "layers"), 1);
    OK(f, template_recover(f->store, NULL, 0, &f->err));
    assert_int_equal(entries(f->dir, "layers"), 0);
    assert_int_equal(entries(f->dir, "templates"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_busybox, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
