/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "param/admission.h"

#include "base/number.h"

#include <inttypes.h>
#include <string.h>

#define WEIGHT_MAX     10000
#define WEIGHT_DEFAULT 100 /* of every group that nobody gave another one */

/* Guarantees and weights are never unlimited: the table says so. */
static uint64_t value(const struct param_set *set, const char *key)
{
    return param_set_get(set, key).n;
}

static uint64_t connections(const struct param_set *set)
{
    return param_value_first(param_find("connections.rate"),
                             param_set_get(set, "connections.rate"));
}

static uint64_t add(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return number_add(a, b, &sum) ? sum : UINT64_MAX;
}

/* Of all classes: what stays on the node takes nothing of its uplink. */
static uint64_t net(const struct param_set *set, const char *key)
{
    const struct param_row *row = param_find(key);
    uint64_t sum = 0;
    for (size_t i = 0; i < set->n_classed; i++)
        if (set->classed[i].row == row && strcmp(set->classed[i].class, "local") != 0)
            sum = add(sum, param_value_first(row, set->classed[i].v));
    return sum;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

void admission_add(struct admission_sum *sum, const struct param_set *set)
{
    uint64_t cpu = value(set, "cpu.guarantee"), weight = value(set, "cpu.weight");
    sum->memory = add(sum->memory, value(set, "memory.guarantee"));
    sum->cpu = add(sum->cpu, cpu);
    sum->connections = add(sum->connections, connections(set));
    sum->net_out = add(sum->net_out, net(set, "net.out.CLASS"));
    sum->net_in = add(sum->net_in, net(set, "net.in.CLASS"));
    sum->weight = add(sum->weight, weight);
    if (cpu > sum->cpu_max)
        sum->cpu_max = cpu;
    if (weight > sum->weight_max)
        sum->weight_max = weight;
}

void admission_take(struct admission_sum *sum, const struct param_set *set)
{
    sum->memory = less(sum->memory, value(set, "memory.guarantee"));
    sum->cpu = less(sum->cpu, value(set, "cpu.guarantee"));
    sum->connections = less(sum->connections, connections(set));
    sum->net_out = less(sum->net_out, net(set, "net.out.CLASS"));
    sum->net_in = less(sum->net_in, net(set, "net.in.CLASS"));
}

static int check(const char *key, const char *what, uint64_t want, uint64_t had, uint64_t total,
                 uint64_t reserve, uint64_t others, struct err *err)
{
    const struct param_row *row = param_find(key);
    uint64_t left = less(less(total, reserve), others);
    bool memory = row->type == PARAM_SIZE;
    char t[4][PARAM_TEXT];
    uint64_t n[4] = {want, left, total, reserve};
    if (want <= left || want <= had)
        return 0;
    for (size_t i = 0; i < 4; i++)
        if (memory) /* to three digits: bytes would hide the point */
            number_format_size(n[i], t[i]);
        else
            param_format(row, (struct param_value){.n = n[i]}, t[i]);
    return err_set(err, ERR_EXHAUSTED,
                   "cannot guarantee %s%s: %s%s is left of %s%s after other guarantees and the "
                   "node's reserve of %s%s; lower it or move a VE",
                   t[0], what, t[1], memory ? "" : "%", t[2], memory ? "" : "%", t[3],
                   memory ? "" : "%");
}

static int check_connections(const struct admission_node *node, uint64_t others, uint64_t had,
                             uint64_t want, struct err *err)
{
    uint64_t left = less(node->connections, others);
    if (want <= left || want <= had)
        return 0;
    if (node->connections == 0)
        return err_set(err, ERR_EXHAUSTED,
                       "cannot guarantee %" PRIu64 " new connections a second: nobody has said "
                       "how many the node serves; set capacity.connections in terem.conf",
                       want);
    return err_set(err, ERR_EXHAUSTED,
                   "cannot guarantee %" PRIu64 " new connections a second: %" PRIu64
                   " are left of the node's %" PRIu64
                   " after other guarantees; lower it or move a VE",
                   want, left, node->connections);
}

static int check_net(const char *key, const char *way, const char *setting, uint64_t total,
                     uint64_t others, const struct param_set *old_set, const struct param_set *set,
                     struct err *err)
{
    const struct param_row *row = param_find(key);
    uint64_t want = net(set, key), left = less(total, others);
    char t[3][PARAM_TEXT];
    const uint64_t n[3] = {want, left, total};
    if (want <= left || (old_set && want <= net(old_set, key)))
        return 0;
    for (size_t i = 0; i < 3; i++)
        param_format(row, (struct param_value){.n = n[i]}, t[i]);
    if (total == 0)
        return err_set(err, ERR_EXHAUSTED,
                       "cannot guarantee %sbit/s %s: nobody has said how much the node's uplink "
                       "carries; set %s in terem.conf",
                       t[0], way, setting);
    return err_set(err, ERR_EXHAUSTED,
                   "cannot guarantee %sbit/s %s: %sbit/s is left of the node's %sbit/s after other "
                   "guarantees; lower it or move a VE",
                   t[0], way, t[1], t[2]);
}

int admission_check(const struct admission_node *node, const struct admission_sum *others,
                    const struct param_set *old_set, const struct param_set *set, struct err *err)
{
    int r = check("memory.guarantee", " of memory", value(set, "memory.guarantee"),
                  old_set ? value(old_set, "memory.guarantee") : 0, node->memory,
                  node->memory_reserve, others->memory, err);
    if (r == 0)
        r = check("cpu.guarantee", "% of a core", value(set, "cpu.guarantee"),
                  old_set ? value(old_set, "cpu.guarantee") : 0, node->cpu, node->cpu_reserve,
                  others->cpu, err);
    if (r == 0)
        r = check_connections(node, others->connections, old_set ? connections(old_set) : 0,
                              connections(set), err);
    if (r == 0)
        r = check_net("net.out.CLASS", "outgoing", "network.out", node->net_out, others->net_out,
                      old_set, set, err);
    if (r == 0)
        r = check_net("net.in.CLASS", "incoming", "network.in", node->net_in, others->net_in,
                      old_set, set, err);
    return r;
}

/* (g + spare·w/Σw)·Σw: at most 4·10^7 · 16384·10^4 for g, far below 2^64. */
static uint64_t part(uint64_t cpu, uint64_t weight, uint64_t spare, uint64_t weights)
{
    return cpu * weights + spare * weight;
}

uint64_t admission_spare(const struct admission_node *node, const struct admission_sum *sum)
{
    return less(less(less(node->cpu, node->cpu_reserve), sum->cpu), sum->withheld);
}

uint64_t admission_node_weight(const struct admission_node *node, const struct admission_sum *sum)
{
    uint64_t ours = less(node->cpu, node->cpu_reserve);
    if (sum->cpu == 0)
        return WEIGHT_DEFAULT;
    uint64_t n = node->cpu_reserve ? WEIGHT_DEFAULT * ours / node->cpu_reserve : UINT32_MAX;
    return n < WEIGHT_DEFAULT ? WEIGHT_DEFAULT : n;
}

uint64_t admission_weight(const struct admission_node *node, const struct admission_sum *sum,
                          const struct param_set *set)
{
    uint64_t weight = value(set, "cpu.weight");
    if (sum->cpu == 0)
        return weight;
    uint64_t spare = admission_spare(node, sum);
    uint64_t own = part(value(set, "cpu.guarantee"), weight, spare, sum->weight);
    /* No VE's part is above this: the kernel's whole range is used, so that rounding is small. */
    uint64_t most = part(sum->cpu_max, sum->weight_max, spare, sum->weight);
    while (most > UINT64_MAX / (2 * WEIGHT_MAX)) {
        most >>= 1;
        own >>= 1;
    }
    uint64_t n = (own * WEIGHT_MAX + most - 1) / most; /* up: nobody gets less than promised */
    return n < 1 ? 1 : n > WEIGHT_MAX ? WEIGHT_MAX : n;
}
