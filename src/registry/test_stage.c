/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "registry/test_stage.h"

#include "base/path.h"
#include "base/str.h"

#include <fcntl.h>
#include <stdlib.h>

char dir[64];

int setup(void **state)
{
    str_print(dir, sizeof(dir), "/tmp/terem-registry-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

int teardown(void **state)
{
    return path_remove_tree_at(AT_FDCWD, dir, NULL);
}

struct registry *open_ok(void)
{
    struct registry *r = NULL;
    struct err e = {0};
    if (registry_open(dir, &r, &e) < 0)
        fail_msg("%s", e.text);
    return r;
}

int64_t add_ve(struct registry *r, const char *name, uint32_t *slot)
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

int see_ve(void *ctx, const struct registry_ve *v, struct err *err)
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

int see_profile(void *ctx, const char *name, const char *params, struct err *err)
{
    size_t used = strlen(ctx);
    assert_int_equal(params[0], '{');
    assert_int_equal(str_print((char *)ctx + used, 256 - used, "%s ", name), 0);
    return 0;
}
