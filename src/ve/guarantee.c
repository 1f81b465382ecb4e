/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all VEs of the node are promised together, and the weights that follow from it.  The
 * arithmetic is param/admission's. */
#include "base/fd.h"
#include "base/log.h"
#include "base/number.h"
#include "param/admission.h"
#include "ve/internal.h"
#include "ve/net.h"
#include "ve/rows.h"

#include <fcntl.h>
#include <unistd.h>

uint64_t ve_guarantee_clock_mhz(void)
{
    static const char file[] = "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq";
    auto_free char *text = NULL, *info = NULL;
    uint64_t khz, mhz;
    if (fd_read_file_at(AT_FDCWD, file, 64, &text, NULL, &(struct err){0}) == 0 &&
        number_parse(str_trim(text), 1, UINT32_MAX, &khz, NULL) == 0)
        return khz / 1000;
    if (fd_read_file_at(AT_FDCWD, "/proc/cpuinfo", 1 << 20, &info, NULL, &(struct err){0}) < 0)
        return 0;
    return number_after(info, "cpu MHz", UINT32_MAX, &mhz) ? mhz : 0;
}

/* Of the whole machine; a node that has none yet of its settings keeps nothing back. */
struct admission_node ve_guarantee_node(const struct ve_node *node)
{
    long pages = sysconf(_SC_PHYS_PAGES), cores = sysconf(_SC_NPROCESSORS_ONLN);
    return (struct admission_node){
        .memory = pages > 0 ? (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0,
        .memory_reserve = node->config.reserve_memory,
        .cpu = cores > 0 ? (uint64_t)cores * 10000 : 10000,
        .cpu_reserve = node->config.reserve_cpu,
        .connections = node->config.capacity_connections,
        .net_out = node->config.net_out,
        .net_in = node->config.net_in,
    };
}

static struct admission_sum sum_without(const struct ve_node *node, const struct ve *ve)
{
    struct admission_sum sum = {0};
    for (size_t i = 0; i < node->n_ves; i++)
        if (node->ves[i] != ve)
            admission_add(&sum, node->ves[i]->params);
    return sum;
}

int ve_guarantee_admit(struct ve_node *node, const struct ve *ve, const struct param_set *set,
                       struct err *err)
{
    struct admission_node whole = ve_guarantee_node(node);
    struct admission_sum others = sum_without(node, ve);
    int r = admission_check(&whole, &others, ve ? ve->params : NULL, set, err);
    return r < 0 ? r : ve_cores_admit(node, &ve, set, 1, &(size_t){0}, err);
}

int ve_guarantee_admit_all(struct ve_node *node, struct ve *const *ves,
                           const struct param_set *sets, size_t n, struct err *err)
{
    struct admission_node whole = ve_guarantee_node(node);
    struct admission_sum all = {0};
    for (size_t i = 0, k = 0; i < node->n_ves; i++) {
        /* `ves` is in the table's order. */
        bool changes = k < n && ves[k] == node->ves[i];
        admission_add(&all, changes ? &sets[k] : node->ves[i]->params);
        k += changes;
    }
    for (size_t i = 0; i < n; i++) {
        struct admission_sum others = all;
        admission_take(&others, &sets[i]);
        if (admission_check(&whole, &others, ves[i]->params, &sets[i], err) < 0)
            return err_wrap(err, "%s", ves[i]->rec.name);
    }
    size_t who = 0;
    int r = ve_cores_admit(node, (const struct ve *const *)ves, sets, n, &who, err);
    return r < 0 && n ? err_wrap(err, "%s", ves[who]->rec.name) : r;
}

void ve_guarantee_params(const struct ve *ve, struct param_set *ret)
{
    struct ve_node *node = ve->node;
    struct admission_sum sum = node->crew_summed ? node->crew_sum : sum_without(node, NULL);
    node->crew_sum = sum;
    node->crew_summed = node->crew;
    *ret = *ve->params;
    if (sum.cpu == 0)
        return;
    struct admission_node whole = ve_guarantee_node(node);
    sum.withheld = node->withheld;
    uint64_t weight = admission_weight(&whole, &sum, ve->params);
    param_set_put(ret, param_find("cpu.weight"), (struct param_value){.n = weight});
}

bool ve_has_cgroups(const struct ve *ve)
{
    return ve_state_is_up(ve->state) || ve->state == VE_STARTING;
}

static void write_weight(struct ve *ve, const struct admission_node *whole,
                         const struct admission_sum *sum)
{
    struct err e = {0};
    struct param_set set = *ve->params;
    uint64_t weight = admission_weight(whole, sum, ve->params);
    if (weight == ve->weight)
        return;
    param_set_put(&set, param_find("cpu.weight"), (struct param_value){.n = weight});
    if (resource_rewrite(ve->node->resources, ve->rec.id, "cpu.weight", &set, &e) == 0)
        ve->weight = weight;
    else if (e.kind != ERR_NOT_FOUND) /* one that is starting writes its own */
        log_warn(ve->rec.name, 0, "its part of the processor is not as promised: %s", e.text);
}

static void write_node_weight(struct ve_node *node, uint64_t weight)
{
    struct err e = {0};
    if (weight == node->weight)
        return;
    if (resource_weigh(node->resources, weight, &e) == 0)
        node->weight = weight;
    else
        log_warn(NULL, 0, "the node's own programs may take what VEs are guaranteed: %s", e.text);
}

void ve_guarantee_settle(struct ve_node *node)
{
    struct err e = {0};
    struct admission_node whole = ve_guarantee_node(node);
    struct admission_sum sum = sum_without(node, NULL);
    ve_cores_settle(node);
    sum.withheld = node->withheld;
    write_node_weight(node, admission_node_weight(&whole, &sum));
    ve_netlimit_settle(node, sum.connections);
    ve_netshape_settle(node, sum.net_out, sum.net_in);
    if (sum.memory != node->protected_bytes &&
        resource_protect(node->resources, sum.memory, &e) < 0)
        log_warn(NULL, 0, "memory.guarantee is not kept: %s", e.text);
    else
        node->protected_bytes = sum.memory;
    if (sum.cpu == 0 && !node->derived)
        return; /* each has the weight that it was given */
    for (size_t i = 0; i < node->n_ves; i++)
        if (ve_has_cgroups(node->ves[i]))
            write_weight(node->ves[i], &whole, &sum);
    node->derived = sum.cpu > 0;
}
