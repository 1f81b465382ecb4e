/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From parameters to what the container room bounds by namespaces, rlimits and mounts. */
#include "ve/internal.h"
#include "ve/rows.h"

#include <stddef.h>

static const struct {
    const char *key;
    size_t offset; /* in struct container_limits */
} rows[] = {
    {"namespaces", offsetof(struct container_limits, namespaces)},
    {"inotify.instances", offsetof(struct container_limits, inotify_instances)},
    {"inotify.watches", offsetof(struct container_limits, inotify_watches)},
    {"ipc.queues", offsetof(struct container_limits, ipc_queues)},
    {"ipc.semaphores", offsetof(struct container_limits, ipc_semaphores)},
    {"ipc.segments", offsetof(struct container_limits, ipc_segments)},
    {"memory.shared", offsetof(struct container_limits, shared)},
    {"memory.locked", offsetof(struct container_limits, locked)},
    {"signals", offsetof(struct container_limits, signals)},
    {"ptys", offsetof(struct container_limits, ptys)},
    {"memory.sockets", offsetof(struct container_limits, sockets)}, /* beside resource/ */
};

void ve_limits_of(const struct param_set *set, struct container_limits *ret)
{
    *ret = container_limits_default;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct param_value v = param_set_get(set, rows[i].key);
        uint64_t n = v.unlimited ? UINT64_MAX : v.n;
        memcpy((char *)ret + rows[i].offset, &n, sizeof(n));
    }
    ret->dedup = param_set_get(set, "memory.dedup").n != 0;
}

void ve_limits_in_force(const struct ve *ve, struct container_limits *ret)
{
    struct param_set set = *ve->params;
    const char *key;
    json_t *text;
    json_object_foreach(json_object_get(ve->run, "restart_rows"), key, text)
    {
        const struct param_row *row = param_find(key);
        struct param_value v;
        if (row && json_is_string(text) &&
            param_parse_value(row, json_string_value(text), &v, NULL) == 0)
            set.v[param_index(row)] = v;
    }
    ve_limits_of(&set, ret);
    ve_bpf_files(ve, ret);
}

int ve_limits_check(struct ve_node *node, const struct param_set *set, struct err *err)
{
    struct container_limits l;
    ve_limits_of(set, &l);
    /* What is not given asks for no more than the node has. */
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (!set->given[param_index(param_find(rows[i].key))])
            memset((char *)&l + rows[i].offset, 0xff, sizeof(uint64_t));
    return container_limits_check(&l, err);
}

int ve_limits_apply(struct ve *ve, const struct param_set *old_set, const struct param_set *new_set,
                    bool force, struct err *err)
{
    struct container_limits old, new;
    if (old_set)
        ve_limits_of(old_set, &old);
    ve_limits_of(new_set, &new);
    bool same = old_set;
    for (size_t i = 0; same && i < ARRAY_SIZE(rows); i++)
        same = memcmp((char *)&old + rows[i].offset, (char *)&new + rows[i].offset,
                      sizeof(uint64_t)) == 0;
    return same ? 0 : container_limits_apply(ve->pidfd, old_set ? &old : NULL, &new, err);
}

/* A VE that an older Terem started has nothing of it. */
static bool born_at(const struct ve *ve, struct container_pts *ret)
{
    const json_t *pts = json_object_get(ve->run, "pts");
    for (size_t i = 0; i < ARRAY_SIZE(ret->device); i++)
        ret->device[i] = (uint64_t)json_integer_value(json_array_get(pts, i));
    return json_array_size(pts) == ARRAY_SIZE(ret->device);
}

/* Where BPF has not told (ve_bpf_counters()): by a visit. */
static int count_ipc(struct ve *ve, struct param_counters *list, struct err *err)
{
    struct container_ipc ipc;
    if (param_counters_of(list, param_find("ipc.queues"))->held.known)
        return 0;
    if (container_count_ipc(ve->pidfd, &ipc, err) < 0)
        return -err->kind;
    const struct {
        const char *key;
        uint64_t held;
    } counted[] = {{"ipc.queues", ipc.queues},
                   {"ipc.semaphores", ipc.semaphores},
                   {"ipc.segments", ipc.segments}};
    for (size_t i = 0; i < ARRAY_SIZE(counted); i++)
        param_counters_of(list, param_find(counted[i].key))->held =
            (struct param_count){true, counted[i].held};
    return 0;
}

int ve_limits_counters(struct ve *ve, struct param_counters *list, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        param_counters_of(list, param_find(rows[i].key)); /* listed, whoever counts it */
    if (count_ipc(ve, list, err) < 0)
        return -err->kind;
    struct container_pts born;
    uint64_t ptys;
    if (born_at(ve, &born) && container_count_ptys(ve->pidfd, &born, &ptys, NULL) == 0)
        param_counters_of(list, param_find("ptys"))->held = (struct param_count){true, ptys};
    return 0;
}
