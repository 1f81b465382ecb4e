/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the node has, what of it is promised, and how far the limits of its VEs go beyond it.  All
 * VEs count, stopped ones too: then a start surprises nobody. */
#include "base/fd.h"
#include "base/number.h"
#include "param/admission.h"
#include "ve/internal.h"
#include "ve/pools.h"
#include "ve/rows.h"

#include <fcntl.h>
#include <sys/sysinfo.h>

static uint64_t number_of(const char *file)
{
    auto_free char *text = NULL;
    uint64_t n = 0;
    if (fd_read_file_at(AT_FDCWD, file, 64, &text, NULL, NULL) < 0 ||
        number_parse(str_trim(text), 0, UINT64_MAX, &n, NULL) < 0)
        return 0;
    return n;
}

static uint64_t swap_total(void)
{
    struct sysinfo info;
    return sysinfo(&info) == 0 ? (uint64_t)info.totalswap * info.mem_unit : 0;
}

/* The lower of the two bounds counts. */
static uint64_t processes_total(void)
{
    uint64_t pids = number_of("/proc/sys/kernel/pid_max");
    uint64_t threads = number_of("/proc/sys/kernel/threads-max");
    return threads && threads < pids ? threads : pids;
}

struct disks {
    uint64_t seen[POOLS_MAX][2]; /* file systems that are counted */
    size_t n;
    uint64_t sum;
};

static bool seen(const struct disks *d, const char *path, uint64_t id[2])
{
    if (storage_file_system_id(path, id, NULL) < 0)
        return true;
    for (size_t i = 0; i < d->n; i++)
        if (memcmp(d->seen[i], id, sizeof(d->seen[i])) == 0)
            return true;
    return d->n == POOLS_MAX;
}

static void count_pools(const struct ve_node *node, bool images, struct disks *d)
{
    for (size_t i = 0; i < node->n_pools; i++) {
        struct storage_space space;
        auto_clean(ve_pool_spec_done) struct ve_pool_spec s = {0};
        const struct ve_pool *p = node->pools[i];
        uint64_t id[2];
        if (!p->pool || ve_pool_spec(node, p->spec, &s, NULL) < 0 || !!s.image != images ||
            (images && seen(d, s.image, id)) || seen(d, s.path, id) ||
            storage_space(p->pool, &space, NULL) < 0)
            continue;
        memcpy(d->seen[d->n++], id, sizeof(id));
        if (!number_add(d->sum, space.size_bytes, &d->sum))
            d->sum = UINT64_MAX;
    }
}

/* Of the file systems that pools are in, each once; what an image has is taken from the file system
 * that it lies in. */
static uint64_t disk_total(const struct ve_node *node)
{
    struct disks d = {.n = 0};
    count_pools(node, false, &d);
    count_pools(node, true, &d);
    return d.sum > INT64_MAX ? INT64_MAX : d.sum;
}

/* Limits of one row over all VEs, and how many have none. */
static uint64_t sum_limits(const struct ve_node *node, const char *key, size_t *ret_unlimited)
{
    uint64_t sum = 0;
    size_t row = param_index(param_find(key));
    *ret_unlimited = 0;
    for (size_t i = 0; i < node->n_ves; i++) {
        struct param_value v = node->ves[i]->params->v[row];
        if (v.unlimited)
            ++*ret_unlimited;
        else if (!number_add(sum, v.n, &sum))
            sum = INT64_MAX;
    }
    return sum > INT64_MAX ? INT64_MAX : sum;
}

static json_t *amount(uint64_t n, unsigned scale)
{
    return scale == 1 ? json_integer((json_int_t)n) : json_real((double)n / scale);
}

/* {"total","limits","unlimited"}; scale: of the row's unit to that of the document. */
static json_t *part(const struct ve_node *node, const char *key, uint64_t total, unsigned scale)
{
    size_t unlimited;
    uint64_t limits = sum_limits(node, key, &unlimited);
    return json_pack("{s:o, s:o, s:I}", "total", amount(total, scale), "limits",
                     amount(limits, scale), "unlimited", (json_int_t)unlimited);
}

static void add_promise(json_t *part, uint64_t total, uint64_t reserve, uint64_t guaranteed,
                        unsigned scale)
{
    uint64_t taken = reserve + guaranteed;
    json_object_set_new(part, "reserve", amount(reserve, scale));
    json_object_set_new(part, "guaranteed", amount(guaranteed, scale));
    json_object_set_new(part, "left", amount(total > taken ? total - taken : 0, scale));
}

/* Where network.out, network.in say how much it carries.  A VE without a ceiling of any class is
 * unlimited; classes add up. */
static void add_uplink(json_t *all, const struct ve_node *node, const char *name, const char *key,
                       uint64_t total, uint64_t guaranteed)
{
    const struct param_row *row = param_find(key);
    uint64_t limits = 0;
    size_t unlimited = 0;
    if (total == 0)
        return;
    for (size_t i = 0; i < node->n_ves; i++) {
        const struct param_set *set = node->ves[i]->params;
        bool limited = false;
        for (size_t k = 0; k < set->n_classed; k++) {
            const struct param_classed *c = &set->classed[k];
            if (c->row != row || c->v.unlimited || str_eq(c->class, "local"))
                continue;
            limited = true;
            if (!number_add(limits, c->v.n, &limits))
                limits = INT64_MAX;
        }
        unlimited += !limited;
    }
    json_t *part = json_pack("{s:o, s:o, s:I}", "total", amount(total, 1), "limits",
                             amount(limits > INT64_MAX ? INT64_MAX : limits, 1), "unlimited",
                             (json_int_t)unlimited);
    add_promise(part, total, 0, guaranteed, 1);
    json_object_set_new(all, name, part);
}

json_t *ve_oversell_json(const struct ve_node *node)
{
    struct admission_node whole = ve_guarantee_node(node);
    struct admission_sum sum = {0};
    for (size_t i = 0; i < node->n_ves; i++)
        admission_add(&sum, node->ves[i]->params);
    json_t *cpu = part(node, "cpu.limit", whole.cpu, 100);
    json_t *memory = part(node, "memory.limit", whole.memory, 1);
    add_promise(cpu, whole.cpu, whole.cpu_reserve, sum.cpu, 100);
    add_promise(memory, whole.memory, whole.memory_reserve, sum.memory, 1);
    json_t *all = json_pack("{s:o, s:o, s:o, s:o, s:o}", "cpu", cpu, "memory", memory, "swap",
                            part(node, "swap.limit", swap_total(), 1), "processes",
                            part(node, "processes", processes_total(), 1), "disk",
                            part(node, "disk.space", disk_total(node), 1));
    if (whole.connections) { /* capacity.connections: else nothing can be promised of them */
        json_t *rate = part(node, "connections.rate", whole.connections, 1);
        add_promise(rate, whole.connections, 0, sum.connections, 1);
        json_object_set_new(all, "connections", rate);
    }
    add_uplink(all, node, "net_out", "net.out.CLASS", whole.net_out, sum.net_out);
    add_uplink(all, node, "net_in", "net.in.CLASS", whole.net_in, sum.net_in);
    return all;
}
