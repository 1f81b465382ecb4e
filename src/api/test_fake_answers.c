/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rest of the stand-in for the room ve (test_fake.c): what always gives the same answer. */
#include "test_fake.h"

#include "base/str.h"
#include "keep/frame.h"

void ve_counters_each(struct ve_node *n, const char *label, bool only_failed, ve_counters_fn fn,
                      void *ctx)
{
    struct param_set set;
    struct param_counters list = {0};
    param_set_init(&set);
    struct param_counter *c = param_counters_of(&list, param_find("processes"));
    c->held = (struct param_count){true, UINT64_MAX};
    c->failcnt = (struct param_count){true, 0};
    fn(ctx, only_failed ? "failed" : "web1", &set, &list);
    fn(ctx, "web2", &set, &list);
}

int ve_usage_all(struct ve_node *n, const char *label, struct str *out, struct err *err)
{
    str_add(out, "[]");
    return 0;
}

int ve_density(struct ve_node *n, const char *ve, const char *label, ve_result_fn fn, void *ctx,
               struct err *err)
{
    if (ve)
        return fake_missing(ve, err);
    fn(ctx,
       json_pack("{s:[], s:[], s:I, s:{}}", "ves", "programs", "maps", (json_int_t)0, "machine"),
       NULL);
    return 0;
}

int ve_usage_records(struct ve_node *n, int64_t after, size_t limit, ve_result_fn fn, void *ctx,
                     struct err *err)
{
    fn(ctx, json_pack("{s:[], s:I, s:b}", "records", "last", (json_int_t)after, "more", 0), NULL);
    return 0;
}

int ve_usage_sums(struct ve_node *n, const struct ve_usage_query *q, ve_result_fn fn, void *ctx,
                  struct err *err)
{
    if (q->ve)
        return fake_missing(q->ve, err);
    fn(ctx, json_array(), NULL);
    return 0;
}

void ve_sample_each(struct ve_node *n, void (*fn)(void *ctx, const struct ve_sample *s), void *ctx)
{
    struct param_set set;
    struct ve_sample s = {.id = 1,
                          .name = "we\\b\"1\n",
                          .params = &set,
                          .usage = {.has_cpu = true,
                                    .cpu_usec = 1500000,
                                    .pressure = {.cpu = 1250, .memory = 0, .io = -1}}};
    param_set_init(&set);
    struct param_counter *c = param_counters_of(&s.counters, param_find("processes"));
    c->held = (struct param_count){true, 7};
    c->failcnt = (struct param_count){true, 3};
    c = param_counters_of(&s.counters, param_find("cpu.limit"));
    c->held = (struct param_count){true, 1250};
    fn(ctx, &s);
}

struct param_count ve_counter_barrier(const struct param_set *set, const struct param_row *row)
{
    return (struct param_count){0};
}

struct param_count ve_counter_limit(const struct param_set *set, const struct param_row *row)
{
    return (struct param_count){true, 18446744073709551615u};
}

json_t *ve_states_json(struct ve_node *n)
{
    return json_pack("[{s:s}]", "state", "running");
}

bool ve_param_here(struct ve_node *n, const struct param_row *row, char *why, size_t size)
{
    str_print(why, size, "it is a fake");
    return false;
}

int ve_pool_list(struct ve_node *n, json_t **ret, struct err *err)
{
    *ret = json_pack("[{s:s}]", "name", "default");
    return 0;
}

int ve_pool_show(struct ve_node *n, const char *name, json_t **ret, struct err *err)
{
    *ret = json_pack("{s:s}", "name", name);
    return 0;
}

void ve_pool_each(struct ve_node *n,
                  void (*fn)(void *ctx, const char *name, uint64_t size, uint64_t free_bytes),
                  void *ctx)
{
    fn(ctx, "default", 1000, 250);
}

int ve_profile_list(struct ve_node *n, json_t **ret, struct err *err)
{
    *ret = json_array();
    return 0;
}

int ve_profile_show(struct ve_node *n, const char *name, json_t **ret, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "there is no profile %s", name);
}

int ve_profile_create(struct ve_node *n, const json_t *spec, json_t **ret, struct err *err)
{
    *ret = json_pack("{s:O, s:{}, s:[]}", "name", json_object_get(spec, "name"), "params", "ves");
    return 0;
}

int ve_profile_update(struct ve_node *n, const char *name, const json_t *changes, json_t **ret,
                      struct err *err)
{
    return ve_profile_show(n, name, ret, err);
}

int ve_profile_remove(struct ve_node *n, const char *name, struct err *err)
{
    return err_set(err, ERR_STATE, "profile %s is used by web1", name);
}

int ve_clone(struct ve_node *n, const char *source, const json_t *request, int64_t *ret_job,
             struct err *err)
{
    return ve_job_begin(n, "clone", json_string_value(json_object_get(request, "name")), request,
                        ret_job, err);
}

int ve_snapshot_list(struct ve_node *n, const char *ve_name, json_t **ret, struct err *err)
{
    *ret = json_array();
    return 0;
}

int ve_snapshot_show(struct ve_node *n, const char *ve_name, const char *name, json_t **ret,
                     struct err *err)
{
    *ret = json_pack("{s:s, s:s}", "ve", ve_name, "name", name);
    return 0;
}

int ve_snapshot_change(struct ve_node *n, const char *ve_name, const char *name,
                       const json_t *changes, json_t **ret, struct err *err)
{
    return ve_snapshot_show(n, ve_name, name, ret, err);
}

int ve_snapshot_delete(struct ve_node *n, const char *ve_name, const char *name, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "%s: it has no snapshot %s", ve_name, name);
}

int ve_template_list(struct ve_node *n, json_t **ret, struct err *err)
{
    *ret = json_array();
    return 0;
}

int ve_template_log_open(struct ve_node *n, const char *name, int *ret_fd, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "%s: there is no log", name);
}

bool ve_layer_is_here(struct ve_node *n, const char *digest)
{
    return false;
}

int ve_template_show(struct ve_node *n, const char *name, json_t **ret, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "%s: there is no such template", name);
}

json_t *ve_node_left(const struct ve_node *n)
{
    return json_array();
}

int ve_class_list(struct ve_node *n, json_t **ret, struct err *err)
{
    *ret = json_array();
    return 0;
}

int ve_class_show(struct ve_node *n, const char *name, json_t **ret, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "there is no class %s", name);
}

int ve_class_change(struct ve_node *n, const char *name, const json_t *changes, json_t **ret,
                    struct err *err)
{
    return ve_class_show(n, name, ret, err);
}

int ve_class_remove(struct ve_node *n, const char *name, struct err *err)
{
    return err_set(err, ERR_STATE, "class %s is used by web1", name);
}

int ve_private_list(struct ve_node *n, json_t **ret, struct err *err)
{
    *ret = json_array();
    return 0;
}

int ve_private_show(struct ve_node *n, const char *name, json_t **ret, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "there is no private network %s", name);
}

int ve_private_create(struct ve_node *n, const json_t *spec, json_t **ret, struct err *err)
{
    return err_set(err, ERR_EXISTS, "there is a private network of this name already");
}

int ve_private_remove(struct ve_node *n, const char *name, struct err *err)
{
    return err_set(err, ERR_STATE, "private network %s: web1 is in it", name);
}

int ve_private_join(struct ve_node *n, const char *network, const json_t *request, json_t **ret,
                    struct err *err)
{
    return err_set(err, ERR_EXHAUSTED, "private network %s is full", network);
}

int ve_private_leave(struct ve_node *n, const char *network, const char *ve, struct err *err)
{
    return err_set(err, ERR_STATE, "%s is not in private network %s", ve, network);
}

int ve_publish_list(struct ve_node *n, const char *ve, json_t **ret, struct err *err)
{
    *ret = json_array();
    return 0;
}

int ve_bulk(struct ve_node *n, const json_t *request, int64_t *ret, struct err *err)
{
    return ve_job_begin(n, json_string_value(json_object_get(request, "verb")), "web1", NULL, ret,
                        err);
}

int ve_publish_add(struct ve_node *n, const json_t *request, json_t **ret, struct err *err)
{
    return err_set(err, ERR_EXISTS, "a program of this machine has port 80/tcp");
}

int ve_publish_remove(struct ve_node *n, const char *id, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "%s is not published", id);
}

int ve_address_pool_list(struct ve_node *n, json_t **ret, struct err *err)
{
    *ret = json_array();
    return 0;
}

int ve_address_pool_show(struct ve_node *n, const char *name, json_t **ret, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "there is no address pool %s", name);
}

int ve_address_pool_create(struct ve_node *n, const json_t *spec, json_t **ret, struct err *err)
{
    return err_set(err, ERR_EXISTS, "the network 10.0.0.0/8 overlaps another");
}

int ve_address_pool_remove(struct ve_node *n, const char *name, struct err *err)
{
    return err_set(err, ERR_STATE, "address pool %s: it is in use", name);
}

int ve_address_list(struct ve_node *n, const char *ve, const char *pool, json_t **ret,
                    struct err *err)
{
    *ret = json_array();
    return 0;
}

int ve_address_show(struct ve_node *n, const char *address, json_t **ret, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "%s: no VE has it", address);
}

int ve_address_add(struct ve_node *n, const json_t *request, json_t **ret, struct err *err)
{
    return err_set(err, ERR_EXHAUSTED, "the pool has no free address");
}

int ve_address_change(struct ve_node *n, const char *address, const json_t *changes, json_t **ret,
                      struct err *err)
{
    return ve_address_show(n, address, ret, err);
}

int ve_network_show(struct ve_node *n, json_t **ret, struct err *err)
{
    *ret = json_pack("{s:n, s:n, s:n, s:n, s:[], s:[]}", "uplink", "out", "in", "not_counted",
                     "private", "ves");
    return 0;
}

void ve_sample_classes(const struct ve_sample *s, ve_sample_class_fn fn, void *ctx)
{
    const struct network_count in = {.in = true, .bytes = 1500, .packets = 1};
    fn(ctx, "any", NULL, &in);
}

int ve_backup_check(struct ve_node *n, const char *name, const json_t *request, struct err *err)
{
    return fake_missing(name, err);
}

int ve_backup(struct ve_node *n, const char *name, const json_t *request, int client_fd,
              struct err *err)
{
    return frame_write(client_fd, FRAME_STDOUT, "backup", 6, err);
}

int ve_restore_check(struct ve_node *n, const json_t *request, struct err *err)
{
    return 0;
}

int ve_restore(struct ve_node *n, const json_t *request, int client_fd, struct err *err)
{
    return frame_write(client_fd, FRAME_EXIT, "\0", 2, err);
}
