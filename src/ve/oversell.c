/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the node has, what of it is promised, and how far the limits of its VEs go beyond it.  All
 * VEs count, stopped ones too: then a start surprises nobody. */
#include "base/fd.h"
#include "base/number.h"
#include "param/admission.h"
#include "ve/internal.h"

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

/* Limits of one row over all VEs, and how many have none. */
static uint64_t sum_limits(const struct ve_node *node, const char *key, size_t *ret_unlimited)
{
    uint64_t sum = 0;
    size_t row = param_index(param_find(key));
    *ret_unlimited = 0;
    for (size_t i = 0; i < node->n_ves; i++) {
        struct param_value v = node->ves[i]->params.v[row];
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

json_t *ve_oversell_json(const struct ve_node *node)
{
    struct admission_node whole = ve_guarantee_node(node);
    struct admission_sum sum = {0};
    for (size_t i = 0; i < node->n_ves; i++)
        admission_add(&sum, &node->ves[i]->params);
    json_t *cpu = part(node, "cpu.limit", whole.cpu, 100);
    json_t *memory = part(node, "memory.limit", whole.memory, 1);
    add_promise(cpu, whole.cpu, whole.cpu_reserve, sum.cpu, 100);
    add_promise(memory, whole.memory, whole.memory_reserve, sum.memory, 1);
    return json_pack("{s:o, s:o, s:o, s:o}", "cpu", cpu, "memory", memory, "swap",
                     part(node, "swap.limit", swap_total(), 1), "processes",
                     part(node, "processes", processes_total(), 1));
}
