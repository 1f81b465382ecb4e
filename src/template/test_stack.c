/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One template on another, the next revision of a name, and what hides a change in between. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "template/test_make.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

static void stack_on(struct fixture *f, const struct template *base, const struct tar_item *items,
                     size_t n, bool replace)
{
    auto_bytes struct bytes tar = {0};
    for (size_t i = 0; i < n; i++)
        tar_add(&tar, &items[i]);
    tar_end(&tar);
    write_file(f->file, tar.p, tar.n);
    auto_fd int fd = open(f->file, O_RDONLY | O_CLOEXEC);
    const struct template_stack st = {.base = base, .tar = fd, .source = "from base"};
    const struct template_request rq = {
        .name = "top", .recipe = "{\"from\":\"base\"}", .replace = replace};
    OK(f, template_stack(f->store, &st, &rq, &f->err));
}

static const struct tar_item under[] = {{.name = "etc/", .type = '5'},
                                        {.name = "etc/base", .type = '0', .data = "base"},
                                        {.name = "srv/", .type = '5'}};
static const struct tar_item first[] = {
    {.name = "srv/changed", .type = '0', .data = "1"},
    {.name = "srv/same", .type = '0', .data = "1"},
    {.name = "srv/goes", .type = '0', .data = "1"},
    {.name = "srv/kind", .type = '0', .data = "1"},
    {.name = "srv/del", .type = '0', .data = "1"},
    {.name = "srv/d/", .type = '5'},
    {.name = "srv/d/x", .type = '0', .data = "1"},
    {.name = "srv/link", .type = '2', .link = "a"},
    {.name = "srv/agreed", .type = '0', .data = "1"},
};
static const struct tar_item second[] = {
    {.name = "srv/changed", .type = '0', .data = "2"},
    {.name = "srv/same", .type = '0', .data = "1"},
    {.name = "srv/comes", .type = '0', .data = "2"},
    {.name = "srv/kind/", .type = '5'},
    {.name = "srv/del", .type = '0', .data = "2"},
    {.name = "srv/d/", .type = '5'},
    {.name = "srv/d/x", .type = '0', .data = "2"},
    {.name = "srv/link", .type = '2', .link = "b"},
    {.name = "etc/.wh.base", .type = '0'},
};

/* A VE's own files, as its overlay leaves them. */
static int make_upper(struct fixture *f)
{
    static const char *const own[] = {"changed", "same", "goes", "comes", "kind", "link", "mine"};
    char path[128];
    str_print(path, sizeof(path), "%s/upper", f->dir);
    assert_int_equal(mkdir(path, 0755), 0);
    int upper = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(upper, "srv", 0755), 0);
    auto_fd int srv = openat(upper, "srv", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < ARRAY_SIZE(own); i++)
        assert_int_equal(fd_replace_file_at(srv, own[i], "own", 3, 0644, NULL), 0);
    assert_int_equal(mknodat(srv, "del", S_IFCHR, makedev(0, 0)), 0);
    assert_int_equal(mknodat(srv, "agreed", S_IFCHR, makedev(0, 0)), 0);
    assert_int_equal(mkdirat(srv, "d", 0755), 0);
    auto_fd int d = openat(srv, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(fsetxattr(d, "user.overlay.opaque", "y", 1, 0), 0);
    assert_int_equal(mkdirat(upper, "etc", 0755), 0);
    auto_fd int etc = openat(upper, "etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(fd_replace_file_at(etc, "base", "own", 3, 0644, NULL), 0);
    return upper;
}

static int note(void *ctx, const char *path, const char *kind, struct err *err)
{
    str_add(ctx, "%s %s\n", path, kind);
    return 0;
}

static void test_conflicts(void **state)
{
    struct fixture *f = *state;
    auto_bytes struct bytes tar = {0};
    for (size_t i = 0; i < ARRAY_SIZE(under); i++)
        tar_add(&tar, &under[i]);
    tar_end(&tar);
    const struct template_request rq = {.name = "base"};
    OK(f, import_bytes(f, &tar, &rq));
    auto_template struct template *base = NULL, *old = NULL, *new = NULL;
    OK(f, template_get(f->store, "base", &base, &f->err));
    stack_on(f, base, first, ARRAY_SIZE(first), false);
    OK(f, template_get(f->store, "top", &old, &f->err));
    stack_on(f, base, second, ARRAY_SIZE(second), true);
    OK(f, template_get(f->store, "top", &new, &f->err));
    assert_true(old->revision == 1 && new->revision == 2 && new->n_layers == 2);
    assert_string_equal(new->layers[0], base->layers[0]);
    assert_string_equal(new->recipe, "{\"from\":\"base\"}");
    /* Nothing goes as long as somebody stands on it. */
    const char *before[] = {old->layers[0], old->layers[1]};
    const char *after[] = {new->layers[0], new->layers[1]};
    OK(f, template_collect(f->store, before, 2, &f->err));
    assert_false(template_has_trash(f->store));

    auto_fd int upper = make_upper(f);
    auto_str struct str s = str_init(4096);
    OK(f, template_conflicts(f->store, upper, before, 2, after, 2, note, &s, &f->err));
    assert_string_equal(str_c(&s), "etc/base removed\n"
                                   "srv/changed modified\n"
                                   "srv/comes added\n"
                                   "srv/d modified\n"
                                   "srv/del deleted\n"
                                   "srv/goes removed\n"
                                   "srv/kind type\n"
                                   "srv/link modified\n");
    str_clear(&s);
    OK(f, template_conflicts(f->store, upper, after, 2, after, 2, note, &s, &f->err));
    assert_string_equal(str_c(&s), "");

    OK(f, template_collect(f->store, NULL, 0, &f->err));
    struct template_freed freed = {0};
    OK(f, template_empty_trash(f->store, &freed, &f->err));
    assert_true(freed.layers == 1 && freed.bytes == 7);
    assert_int_equal(template_open_layers(f->store, before, 2, (int[2]){0}, &f->err), -ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_conflicts, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
