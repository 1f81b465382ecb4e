/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pools, snapshots and classes in the registry, and a registry that an older Terem left without
 * them. */
#include "base/cleanup.h"
#include "base/str.h"
#include "registry/db.h"
#include "registry/test_stage.h"

#include <unistd.h>

static int see_class(void *ctx, int64_t id, const char *name, const char *prefixes, struct err *err)
{
    size_t used = strlen(ctx);
    str_print((char *)ctx + used, 256 - used, "%d:%s=%s ", (int)id, name,
              prefixes ? prefixes : "-");
    return 0;
}

static int see_pool(void *ctx, const char *name, const char *spec, struct err *err)
{
    size_t used = strlen(ctx);
    str_print((char *)ctx + used, 256 - used, "%s=%s ", name, spec);
    return str_eq(name, "stop") ? err_set(err, ERR_CANCELLED, "enough") : 0;
}

static void assert_pools(struct registry *r, const char *want)
{
    char text[256] = "";
    struct err e = {0};
    assert_int_equal(registry_pool_each(r, see_pool, text, &e), 0);
    assert_string_equal(text, want);
}

static int see_address(void *ctx, const struct registry_address *a, struct err *err)
{
    str_add(ctx, "%s %s %d %d %s %s\n", a->address, a->pool, (int)a->ve, a->reserved, a->name,
            a->reverse);
    return 0;
}

static int see_address_pool(void *ctx, const struct registry_address_pool *p, struct err *err)
{
    str_add(ctx, "%s %s %s %s %d\n", p->name, p->prefix, p->first, p->last, p->public);
    return 0;
}

static int see_private(void *ctx, int64_t id, const char *name, const char *spec, struct err *err)
{
    str_add(ctx, "%d %s %s\n", (int)id, name, spec);
    return 0;
}

static void test_private(void **state)
{
    struct err e = {0};
    int64_t back = 0, front = 0;
    auto_str struct str text = str_init(256);
    auto_clean(registry_close_p) struct registry *r = open_ok();
    assert_int_equal(registry_private_insert(r, "front", "{}", &front, &e), 0);
    assert_int_equal(registry_private_insert(r, "back", "{\"a\":1}", &back, &e), 0);
    assert_int_equal(registry_private_insert(r, "back", "{}", &back, &e), -ERR_EXISTS);
    assert_int_equal(registry_private_each(r, see_private, &text, &e), 0);
    assert_string_equal(str_c(&text), "2 back {\"a\":1}\n1 front {}\n");
    assert_int_equal(registry_private_delete(r, "back", &e), 0);
    assert_int_equal(registry_private_delete(r, "back", &e), -ERR_NOT_FOUND);
    /* Its number is not given again. */
    assert_int_equal(registry_private_insert(r, "back", "{}", &back, &e), 0);
    assert_int_equal(back, 3);
}

static void test_published(void **state)
{
    auto_clean(registry_close_p) struct registry *r = open_ok();
    struct err e = {0};
    char text[256] = "";
    assert_int_equal(registry_publish_insert(r, "udp:53", "{\"ve\":2}", &e), 0);
    assert_int_equal(registry_publish_insert(r, "tcp:80", "{\"ve\":1}", &e), 0);
    assert_int_equal(registry_publish_insert(r, "tcp:80", "{\"ve\":2}", &e), -ERR_EXISTS);
    assert_int_equal(registry_publish_each(r, see_pool, text, &e), 0);
    assert_string_equal(text, "tcp:80={\"ve\":1} udp:53={\"ve\":2} ");
    assert_int_equal(registry_publish_delete(r, "tcp:80", &e), 0);
    assert_int_equal(registry_publish_delete(r, "tcp:80", &e), -ERR_NOT_FOUND);
}

static void test_addresses(void **state)
{
    auto_clean(registry_close_p) struct registry *r = open_ok();
    auto_str struct str text = str_init(4096);
    struct err e = {0};
    struct registry_address_pool pool = {"front", "203.0.113.0/24", "203.0.113.1", "203.0.113.9",
                                         true};
    struct registry_address a = {.address = "203.0.113.5", .pool = "front", .ve = 3, .name = "www"},
                            b = {.address = "203.0.113.2", .pool = "front", .reserved = true},
                            twin = {.address = "203.0.113.7", .pool = "front", .name = "www"};
    assert_int_equal(registry_address_pool_insert(r, &pool, &e), 0);
    assert_int_equal(registry_address_pool_insert(r, &pool, &e), -ERR_EXISTS);
    assert_int_equal(registry_address_insert(r, &a, &e), 0);
    assert_int_equal(registry_address_insert(r, &b, &e), 0);
    assert_int_equal(registry_address_insert(r, &a, &e), -ERR_EXISTS);
    assert_int_equal(registry_address_insert(r, &twin, &e), -ERR_EXISTS);
    a.ve = 0;
    a.reserved = true;
    str_print(a.reverse, sizeof(a.reverse), "www.example.org");
    assert_int_equal(registry_address_update(r, &a, &e), 0);
    assert_int_equal(registry_address_update(r, &twin, &e), -ERR_NOT_FOUND);
    assert_int_equal(registry_address_pool_each(r, see_address_pool, &text, &e), 0);
    assert_int_equal(registry_address_each(r, see_address, &text, &e), 0);
    assert_string_equal(str_c(&text), "front 203.0.113.0/24 203.0.113.1 203.0.113.9 1\n"
                                      "203.0.113.5 front 0 1 www www.example.org\n"
                                      "203.0.113.2 front 0 1  \n");
    assert_int_equal(registry_address_delete(r, "203.0.113.5", &e), 0);
    assert_int_equal(registry_address_delete(r, "203.0.113.5", &e), -ERR_NOT_FOUND);
    assert_int_equal(registry_address_pool_delete(r, "front", &e), 0);
    assert_int_equal(registry_address_pool_delete(r, "front", &e), -ERR_NOT_FOUND);
}

static void test_classes(void **state)
{
    struct registry *r = open_ok();
    struct err e = {0};
    int64_t id = 0;
    char text[256] = "";
    assert_int_equal(registry_class_insert(r, 16, "europe", "[1]", &id, &e), 0);
    assert_int_equal(id, 16);
    assert_int_equal(registry_class_insert(r, 16, "asia", "[2]", &id, &e), 0);
    assert_int_equal(id, 17);
    assert_int_equal(registry_class_insert(r, 16, "asia", "[3]", &id, &e), -ERR_EXISTS);
    assert_int_equal(registry_class_update(r, 17, NULL, &e), 0);
    assert_int_equal(registry_class_update(r, 18, "[]", &e), -ERR_NOT_FOUND);
    assert_int_equal(registry_class_insert(r, 16, "africa", "[4]", &id, &e), 0);
    assert_int_equal(registry_class_each(r, see_class, text, &e), 0);
    assert_string_equal(text, "16:europe=[1] 17:asia=- 18:africa=[4] ");
    registry_close(r);
}

static void test_pools(void **state)
{
    struct registry *r = open_ok();
    struct err e = {0};
    assert_pools(r, "");
    assert_int_equal(registry_pool_insert(r, "fast", "{}", &e), 0);
    assert_int_equal(registry_pool_insert(r, "default", "{\"driver\":\"dir\"}", &e), 0);
    assert_int_equal(registry_pool_insert(r, "fast", "{}", &e), -ERR_EXISTS);
    assert_string_equal(e.text, "a pool named fast exists already");
    assert_int_equal(registry_pool_update(r, "fast", "{\"size\":1}", &e), 0);
    assert_int_equal(registry_pool_update(r, "slow", "{}", &e), -ERR_NOT_FOUND);
    assert_string_equal(e.text, "there is no pool slow");
    registry_close(r);
    r = open_ok();
    assert_pools(r, "default={\"driver\":\"dir\"} fast={\"size\":1} ");
    assert_int_equal(registry_begin(r, &e), 0);
    assert_int_equal(registry_pool_delete(r, "fast", &e), 0);
    registry_rollback(r);
    assert_int_equal(registry_pool_delete(r, "fast", &e), 0);
    assert_int_equal(registry_pool_delete(r, "fast", &e), -ERR_NOT_FOUND);
    assert_pools(r, "default={\"driver\":\"dir\"} ");
    assert_int_equal(registry_pool_insert(r, "stop", "", &e), 0);
    char text[256] = "";
    assert_int_equal(registry_pool_each(r, see_pool, text, &e), -ERR_CANCELLED);
    registry_close(r);
}

static int64_t add(struct registry *r, int64_t ve, const char *name)
{
    struct registry_snapshot s = {.ve = ve, .spec = (char *)"{\"parent\":0}"};
    struct err e = {0};
    str_print(s.name, sizeof(s.name), "%s", name);
    if (registry_snapshot_insert(r, &s, &e) < 0)
        fail_msg("%s", e.text);
    assert_true(s.id > 0);
    return s.id;
}

static int see_snapshot(void *ctx, const struct registry_snapshot *s, struct err *err)
{
    size_t used = strlen(ctx);
    str_print((char *)ctx + used, 256 - used, "%d/%s/%d/%s ", (int)s->ve, s->name, s->state,
              s->spec);
    return str_eq(s->name, "stop") ? err_set(err, ERR_CANCELLED, "enough") : 0;
}

static void assert_snapshots(struct registry *r, int64_t ve, const char *want)
{
    char text[256] = "";
    struct err e = {0};
    assert_int_equal(registry_snapshot_each(r, ve, see_snapshot, text, &e), 0);
    assert_string_equal(text, want);
}

static void test_snapshots(void **state)
{
    struct registry *r = open_ok();
    struct err e = {0};
    int64_t a = add(r, 1, "a"), b = add(r, 1, "b"), c = add(r, 2, "a");
    assert_true(a < b && b < c);
    struct registry_snapshot s = {.ve = 1, .name = "a", .spec = (char *)"{}"};
    assert_int_equal(registry_snapshot_insert(r, &s, &e), -ERR_EXISTS);
    assert_string_equal(e.text, "a snapshot named a exists already");
    assert_int_equal(s.id, 0);
    s.id = b;
    assert_int_equal(registry_snapshot_update(r, &s, &e), -ERR_EXISTS);
    str_print(s.name, sizeof(s.name), "bb");
    s.state = REGISTRY_SNAPSHOT_WHOLE;
    assert_int_equal(registry_snapshot_update(r, &s, &e), 0);
    registry_close(r);
    r = open_ok();
    assert_snapshots(r, 1, "1/a/0/{\"parent\":0} 1/bb/1/{} ");
    assert_snapshots(r, 2, "2/a/0/{\"parent\":0} ");
    assert_snapshots(r, 3, "");
    assert_snapshots(r, 0, "1/a/0/{\"parent\":0} 1/bb/1/{} 2/a/0/{\"parent\":0} ");
    /* A number is never given again: a saved tree may still bear it. */
    assert_int_equal(registry_snapshot_delete(r, c, &e), 0);
    assert_int_equal(registry_snapshot_delete(r, c, &e), -ERR_NOT_FOUND);
    assert_true(add(r, 2, "a") > c);
    s.id = c;
    assert_int_equal(registry_snapshot_update(r, &s, &e), -ERR_NOT_FOUND);
    assert_int_equal(registry_snapshot_delete_ve(r, 1, &e), 0);
    assert_int_equal(registry_snapshot_delete_ve(r, 1, &e), 0);
    assert_snapshots(r, 0, "2/a/0/{\"parent\":0} ");
    add(r, 9, "stop");
    char text[256] = "";
    assert_int_equal(registry_snapshot_each(r, 9, see_snapshot, text, &e), -ERR_CANCELLED);
    registry_close(r);
}

/* Version 3 knew neither; what it had is there afterwards, and the old file, too. */
static void test_upgrade(void **state)
{
    auto_free char *path = str_format("%s/" REGISTRY_FILE, dir);
    struct registry old = {.state = dir};
    struct err e = {0};
    int64_t n = 0;
    assert_int_equal(sqlite3_open(path, &old.db), SQLITE_OK);
    assert_int_equal(db_migrate(&old, 3, &e), 0);
    assert_int_equal(db_int(&old, "SELECT count(*) FROM sqlite_schema WHERE name = 'pool'", &n, &e),
                     0);
    assert_int_equal(n, 0);
    assert_int_equal(db_exec(&old,
                             "INSERT INTO ve(name, state, want, slot, spec, created)"
                             " VALUES('old', 1, 1, 7, '{}', 5);"
                             "INSERT INTO profile(name, params) VALUES('mine', '{}')",
                             &e),
                     0);
    sqlite3_close(old.db);
    struct registry *r = open_ok();
    assert_int_equal(db_int(r, "SELECT count(*) FROM ve WHERE slot = 7", &n, &e), 0);
    assert_int_equal(n, 1);
    assert_int_equal(db_int(r, "SELECT count(*) FROM profile", &n, &e), 0);
    assert_int_equal(n, 4);
    assert_pools(r, "");
    assert_snapshots(r, 0, "");
    assert_int_equal(registry_pool_insert(r, "default", "{}", &e), 0);
    assert_true(add(r, 1, "first") > 0);
    registry_close(r);
    auto_free char *kept = str_format("%s/" REGISTRY_FILE ".version-3", dir);
    assert_int_equal(access(kept, F_OK), 0);
}

static int see_bulk(void *ctx, const struct registry_bulk *b, struct err *err)
{
    str_add(ctx, "%d %d %s %d %d %s\n", (int)b->item, (int)b->ve, b->name, b->state, b->error_kind,
            b->error ? b->error : "-");
    return 0;
}

static void assert_bulk(struct registry *r, int64_t job, const char *want)
{
    auto_str struct str s = str_init(1024);
    struct err e = {0};
    assert_int_equal(registry_bulk_each(r, job, see_bulk, &s, &e), 0);
    assert_string_equal(str_c(&s), want);
}

/* Rows of one job in their order; they go with it, and with no other. */
static void test_bulk(void **state)
{
    auto_clean(registry_close_p) struct registry *r = open_ok();
    struct err e = {0};
    struct registry_job first = {.kind = "bulk", .subject = "start", .created = 1, .ended = 9};
    struct registry_job other = {.kind = "bulk", .subject = "stop", .created = 2, .ended = 3};
    assert_int_equal(registry_job_insert(r, &first, &e), 0);
    assert_int_equal(registry_job_insert(r, &other, &e), 0);
    struct registry_bulk b = {.job = first.id, .item = 1, .ve = 8, .name = "web2"};
    assert_int_equal(registry_bulk_insert(r, &b, &e), 0);
    b = (struct registry_bulk){.job = first.id, .item = 0, .ve = 7, .name = "web1"};
    assert_int_equal(registry_bulk_insert(r, &b, &e), 0);
    b.job = other.id;
    assert_int_equal(registry_bulk_insert(r, &b, &e), 0);
    b = (struct registry_bulk){.job = first.id, .item = 1, .state = 3, .error_kind = ERR_BUSY};
    b.error = (char[]){"it is busy"};
    assert_int_equal(registry_bulk_update(r, &b, &e), 0);
    auto_free char *text = str_format("0 7 web1 0 0 -\n1 8 web2 3 %d it is busy\n", ERR_BUSY);
    assert_bulk(r, first.id, text);
    assert_bulk(r, other.id, "0 7 web1 0 0 -\n");
    /* The one that ended last is the newest, though it was begun first. */
    assert_int_equal(registry_job_prune(r, 1, &e), 0);
    assert_bulk(r, other.id, "");
    assert_int_equal(registry_job_prune(r, 0, &e), 0);
    assert_bulk(r, first.id, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {T(test_pools),     T(test_classes),   T(test_addresses),
                                       T(test_published), T(test_snapshots), T(test_upgrade),
                                       T(test_bulk),      T(test_private)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
