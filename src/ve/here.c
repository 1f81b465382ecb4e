/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which rows this node can enforce: each is asked for alone, as a VE would ask for it. */
#include "ve/internal.h"
#include "ve/rows.h"

#define MIB (1024 * 1024ull)

/* A value that is legal and not the default: something has to be enforced. */
static struct param_value probe(const struct param_row *row)
{
    static const uint64_t wanted[] = {
        [PARAM_SIZE] = 64 * MIB, [PARAM_COUNT] = 200, [PARAM_PERCENT] = 1000, [PARAM_TIME] = 1,
        [PARAM_CORES] = 1,       [PARAM_IO] = MIB,    [PARAM_RATE] = 1000000,
    };
    struct param_value v = {.n = row->type == PARAM_SWITCH ? !row->def.n : wanted[row->type]};
    if (!row->def.unlimited && row->type != PARAM_SWITCH)
        v.n = row->def.n / 2; /* a bound of the node itself may be as low as the default */
    if (v.n < row->min)
        v.n = row->min;
    if (v.n > row->max)
        v.n = row->max;
    if (!row->def.unlimited && v.n == row->def.n)
        v.n = v.n < row->max ? v.n + 1 : v.n - 1;
    if (row->first != PARAM_NO_PAIR) {
        v.n2 = v.n;
        v.form = PARAM_TWO;
    }
    if (row->type == PARAM_IO)
        v.n2 = PARAM_NO_BOUND;
    return v;
}

/* cgroup v1 bounds swap only together with memory. */
static void beside_memory(struct ve_node *node, struct param_set *set)
{
    const struct param_row *memory = param_find("memory.limit");
    struct param_set alone;
    param_set_init(&alone);
    param_set_put(&alone, memory, probe(memory));
    if (!set->given[param_index(memory)] && ve_apply_check(node, &alone, &(struct err){0}) == 0)
        param_set_put(set, memory, probe(memory));
}

int ve_params_here(struct ve_node *node, const json_t *params, struct err *err)
{
    const char *key;
    json_t *value;
    int r = 0;
    json_object_foreach((json_t *)params, key, value)
    {
        struct param_set set;
        json_t *one = json_pack("{s:O}", key, value);
        r = r < 0 ? r : ve_params_parse(one, &set, err);
        json_decref(one);
        if (r < 0)
            continue;
        beside_memory(node, &set);
        r = ve_apply_check(node, &set, err);
    }
    return r;
}

bool ve_param_here(struct ve_node *node, const struct param_row *row, char *why, size_t size)
{
    struct param_set set;
    struct err e = {0};
    char prefix[160];
    *why = '\0';
    param_set_init(&set);
    beside_memory(node, &set);
    param_set_put(&set, row, probe(row));
    if (ve_apply_check(node, &set, &e) == 0 && ve_disk_check(node, "default", &set, &e) == 0) {
        const char *part = resource_partly(node->resources, row);
        if (part)
            str_print(why, size, "%s", part);
        else
            ve_bpf_partly(node, row, why, size);
        return true;
    }
    const char *text = e.text;
    for (size_t i = 0; i < 2; i++) {
        str_print(prefix, sizeof(prefix), i ? "%s: " : "%s cannot be enforced here: ", row->key);
        if (str_starts(text, prefix))
            text += strlen(prefix);
    }
    str_print(why, size, "%s", text);
    return false;
}
