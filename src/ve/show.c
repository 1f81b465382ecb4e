/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VE as JSON, whole or in part.
 *
 * The members stand in a table, and who asks for some of them has only those made and only what
 * they need read: of a thousand VEs the whole of what they use takes longer than all else.
 */
#include "base/name.h"
#include "ve/address.h"
#include "ve/disk.h"
#include "ve/internal.h"
#include "ve/jobs.h"
#include "ve/net.h"
#include "ve/pools.h"
#include "ve/private.h"
#include "ve/rows.h"

#include <arpa/inet.h>

#define LIST_FLAGS (JSON_COMPACT | JSON_REAL_PRECISION(15)) /* 41.47 and not 41.469999999999999 */

/* Which members, by bits: of the table below, and of ve_usage_member(). */
struct fields {
    uint64_t members, usage;
    unsigned parts; /* what has to be read for them */
};

/* One VE that is shown. */
struct showing {
    struct ve *ve;
    const struct fields *fields;
    struct storage_usage disk;
};

json_t *ve_addresses_json(struct ve *ve)
{
    json_t *out = json_array();
    struct network_address a;
    char text[INET6_ADDRSTRLEN];
    if (network_address_of(ve->node->network, ve->rec.slot, &a, NULL) < 0)
        return out;
    if (a.v4.s_addr && inet_ntop(AF_INET, &a.v4, text, sizeof(text)))
        json_array_append_new(out, json_string(text));
    if (!IN6_IS_ADDR_UNSPECIFIED(&a.v6) && inet_ntop(AF_INET6, &a.v6, text, sizeof(text)))
        json_array_append_new(out, json_string(text));
    ve_addresses_add_json(ve, out);
    return out;
}

/* ---- members ---- */

/* Shared, not copied: nobody changes what was given out, and it is written out at once. */
static json_t *shared(const json_t *v)
{
    return v ? json_incref((json_t *)v) : json_null();
}

static json_t *of_spec(const struct showing *s, const char *key)
{
    return shared(json_object_get(s->ve->spec, key));
}

static json_t *of_run(const struct showing *s, const char *key)
{
    return shared(json_object_get(s->ve->run, key));
}

static json_t *of_id(const struct showing *s, const char *key)
{
    return json_integer(s->ve->rec.id);
}

static json_t *of_name(const struct showing *s, const char *key)
{
    return json_string(s->ve->rec.name);
}

static json_t *of_state(const struct showing *s, const char *key)
{
    return json_string(ve_state_text(s->ve));
}

static json_t *of_pool(const struct showing *s, const char *key)
{
    return json_string(ve_pool_name(s->ve));
}

static json_t *of_profile_params(const struct showing *s, const char *key)
{
    return shared(ve_profile_params(s->ve->node, ve_profile_of(s->ve->spec)));
}

static json_t *of_addresses(const struct showing *s, const char *key)
{
    return ve_addresses_json(s->ve);
}

static json_t *of_networks(const struct showing *s, const char *key)
{
    return ve_privates_json(s->ve);
}

/* Has its first process given up its namespaces?  The interfaces go then, before the end of the
 * process is heard of. */
static bool is_ending(const struct ve *ve)
{
    char path[64], to[64];
    json_int_t pid = json_integer_value(json_object_get(ve->run, "pid"));
    str_print(path, sizeof(path), "/proc/%lld/ns/net", (long long)pid);
    return readlink(path, to, sizeof(to)) < 0;
}

/* What its root has deleted of its interfaces; is not there when it has them all. */
static json_t *of_deleted(const struct showing *s, const char *key)
{
    const struct ve *ve = s->ve;
    if (ve->state != VE_RUNNING || ve->job || !ve_has_cable(ve))
        return NULL;
    json_t *out = json_array();
    if (ve_cable_deleted(ve))
        json_array_append_new(out, json_string("eth0"));
    ve_privates_deleted(ve, out);
    if (json_array_size(out) && !is_ending(ve))
        return out;
    json_decref(out);
    return NULL;
}

static json_t *of_created(const struct showing *s, const char *key)
{
    return json_integer(s->ve->rec.created);
}

/* Is not there when there is nothing to tell. */
static json_t *of_broken(const struct showing *s, const char *key)
{
    const json_t *why = json_object_get(s->ve->run, key);
    const struct ve_pool *pool = ve_pool_find(s->ve->node, ve_pool_name(s->ve));
    if (why || (pool && pool->pool))
        return why ? shared(why) : NULL;
    return json_string(pool ? pool->why.text : "its pool is gone");
}

static json_t *of_snapshots(const struct showing *s, const char *key)
{
    return json_integer((json_int_t)s->ve->n_snapshots);
}

static json_t *of_pending(const struct showing *s, const char *key)
{
    return ve_apply_pending(s->ve);
}

/* Records of before it was there have none. */
static json_t *of_priority(const struct showing *s, const char *key)
{
    return json_integer(json_integer_value(json_object_get(s->ve->spec, key)));
}

static json_t *of_restart_at(const struct showing *s, const char *key)
{
    return s->ve->restart_timer ? json_integer(s->ve->restart_at) : json_null();
}

static json_t *of_usage(const struct showing *s, const char *key)
{
    struct ve_sample sample;
    if (!ve_usage_read(s->ve, s->fields->parts, &s->disk, &sample))
        return json_null();
    return ve_usage_json(s->ve, s->fields->usage, &sample);
}

static json_t *of_disk(const struct showing *s, const char *key)
{
    return ve_disk_json(s->ve, &s->disk);
}

static json_t *of_job(const struct showing *s, const char *key)
{
    return s->ve->job ? job_json(s->ve->job) : json_null();
}

static const struct member {
    const char *key;
    json_t *(*make)(const struct showing *s, const char *key);
    unsigned parts; /* that it needs, beside those of usage */
} members[] = {
    {"id", of_id, 0},
    {"name", of_name, 0},
    {"state", of_state, 0},
    {"pool", of_pool, 0},
    {"kind", of_spec, 0},
    {"template", of_spec, 0},
    {"layers", of_spec, 0},
    {"labels", of_spec, 0},
    {"params", of_spec, 0},
    {"autostart", of_spec, 0},
    {"priority", of_priority, 0},
    {"restart", of_spec, 0},
    {"nesting", of_spec, 0},
    {"command", of_spec, 0},
    {"env", of_spec, 0},
    {"user", of_spec, 0},
    {"workdir", of_spec, 0},
    {"profile", of_spec, 0},
    {"schedule", of_spec, 0},
    {"profile_params", of_profile_params, 0},
    {"addresses", of_addresses, 0},
    {"networks", of_networks, 0},
    {"deleted_interfaces", of_deleted, USAGE_NET},
    {"created", of_created, 0},
    {"started", of_run, 0},
    {"pid", of_run, 0},
    {"last_exit", of_run, 0},
    {"broken", of_broken, 0},
    {"snapshots", of_snapshots, 0},
    {"pending", of_pending, 0},
    {"restart_at", of_restart_at, 0},
    {"asleep", of_run, 0},
    {"usage", of_usage, 0},
    {"disk", of_disk, USAGE_DISK},
    {"job", of_job, 0},
};

static const struct fields all = {UINT64_MAX, UINT64_MAX, USAGE_ALL};

static json_t *show(struct ve *ve, const struct fields *fields)
{
    struct showing s = {.ve = ve, .fields = fields};
    json_t *out = json_object();
    if (fields->parts & USAGE_DISK)
        disk_usage(ve, &s.disk);
    for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
        json_t *v = fields->members >> i & 1 ? members[i].make(&s, members[i].key) : NULL;
        if (v)
            json_object_set_new_nocheck(out, members[i].key, v);
    }
    return out;
}

json_t *ve_record_json(struct ve *ve)
{
    return show(ve, &all);
}

/* ---- which members ---- */

static const char *member_at(void *ctx, size_t i)
{
    return i < ARRAY_SIZE(members) ? members[i].key : NULL;
}

static const char *usage_at(void *ctx, size_t i)
{
    return ve_usage_member(i);
}

static int unknown(const char *word, const char *of, const char *(*at)(void *, size_t),
                   struct err *err)
{
    const char *near = name_suggest(word, at, NULL);
    return err_set(err, ERR_USAGE, "%s has no member \"%.64s\"%s%s%s", of, word,
                   near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static bool find(const char *word, const char *(*at)(void *, size_t), size_t *ret)
{
    for (*ret = 0; at(NULL, *ret); ++*ret)
        if (str_eq(at(NULL, *ret), word))
            return true;
    return false;
}

static int add_field(struct fields *f, const char *word, struct err *err)
{
    size_t i;
    if (str_starts(word, "usage.")) {
        const char *part = word + strlen("usage.");
        if (!find(part, usage_at, &i))
            return unknown(part, "the usage of a VE", usage_at, err);
        f->usage |= UINT64_C(1) << i;
        find("usage", member_at, &i);
    } else {
        if (!find(word, member_at, &i))
            return unknown(word, "a VE", member_at, err);
        f->parts |= members[i].parts;
        if (str_eq(word, "usage"))
            f->usage = UINT64_MAX;
    }
    f->members |= UINT64_C(1) << i;
    return 0;
}

static int fields_parse(const char *text, struct fields *ret, struct err *err)
{
    _Static_assert(ARRAY_SIZE(members) <= 64, "a bit for each");
    struct fields f = {0};
    auto_free char *copy = strdup(text);
    char *save = NULL;
    if (!copy)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save))
        if (add_field(&f, word, err) < 0)
            return -err->kind;
    if (!f.members)
        return err_set(err, ERR_USAGE, "name the members, as in \"name,state,usage.memory\"");
    f.parts |= ve_usage_parts(f.usage);
    *ret = f;
    return 0;
}

/* ---- one, and all ---- */

static int add_text(const char *text, size_t n, void *out)
{
    str_add_bytes(out, text, n);
    return 0;
}

void ve_array_add(struct str *out, json_t *one)
{
    if (out->len && out->buf[out->len - 1] != '[')
        str_add_bytes(out, ",", 1);
    if (!one || json_dump_callback(one, add_text, out, LIST_FLAGS) < 0)
        out->failed = true;
    json_decref(one);
}

int ve_array_end(struct str *out, struct err *err)
{
    str_add_bytes(out, "]", 1);
    return out->failed ? err_set(err, ERR_EXHAUSTED, "out of memory for the list") : 0;
}

int ve_list(struct ve_node *node, const char *label, const char *text, struct str *out,
            struct err *err)
{
    struct fields fields = all;
    if (text && fields_parse(text, &fields, err) < 0)
        return err_wrap(err, "the query's \"fields\"");
    ve_traffic_load(node, fields.parts);
    str_add_bytes(out, "[", 1);
    for (size_t i = 0; i < node->n_ves && !out->failed; i++)
        if (!ve_hidden(node->ves[i]) && ve_has_label(node->ves[i], label))
            ve_array_add(out, show(node->ves[i], &fields));
    ve_traffic_drop(node);
    return ve_array_end(out, err);
}

int ve_show(struct ve_node *node, const char *name, json_t **ret, struct err *err)
{
    struct ve *ve;
    if (ve_find_err(node, name, &ve, err) < 0)
        return -err->kind;
    grace_look(ve); /* what is told is what is: somebody may just have deleted enough */
    *ret = ve_record_json(ve);
    return 0;
}
