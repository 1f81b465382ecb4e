/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "param/placement.h"

#include "base/cleanup.h"
#include "base/number.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

#define CORE      10000 /* hundredths of a percent */
#define UNSEEN    (-2)
#define SPARE_BIT 100 /* how exactly the spare is looked for */

struct placement_ve placement_ve(const char *name, const struct param_set *set)
{
    return (struct placement_ve){.name = name,
                                 .set = set,
                                 .want = param_set_get(set, "cpu.cores"),
                                 .guarantee = param_set_get(set, "cpu.guarantee").n,
                                 .weight = param_set_get(set, "cpu.weight").n};
}

static void add_up(const struct placement_ve *list, size_t n, struct admission_sum *ret)
{
    *ret = (struct admission_sum){0};
    for (size_t i = 0; i < n; i++) {
        ret->cpu += list[i].guarantee;
        ret->weight += list[i].weight;
    }
}

static bool is_list(struct param_value v)
{
    return !v.unlimited && (v.form == PARAM_LIST || v.form == PARAM_EXCLUSIVE);
}

static bool is_count(struct param_value v)
{
    return !v.unlimited && !is_list(v);
}

static bool is_exclusive(struct param_value v)
{
    return !v.unlimited && v.form == PARAM_EXCLUSIVE;
}

static void named(struct param_value v, cpu_set_t *ret)
{
    CPU_ZERO(ret);
    for (unsigned c = 0; c < CPU_SETSIZE; c++)
        if (param_cores_has(v, c))
            CPU_SET(c, ret);
}

static void without(cpu_set_t *set, const cpu_set_t *other)
{
    cpu_set_t both;
    CPU_AND(&both, set, other);
    CPU_XOR(set, set, &both);
}

/* ---- text ---- */

const char *placement_format(const cpu_set_t *cores, char buf[PLACEMENT_TEXT])
{
    auto_str struct str s = str_init(PLACEMENT_TEXT);
    for (int c = 0; c < CPU_SETSIZE; c++) {
        int first = c;
        if (!CPU_ISSET(c, cores))
            continue;
        while (c + 1 < CPU_SETSIZE && CPU_ISSET(c + 1, cores))
            c++;
        str_add(&s, first == c ? "%s%d" : "%s%d-%d", s.len ? "," : "", first, c);
    }
    str_print(buf, PLACEMENT_TEXT, "%s", str_c(&s));
    return buf;
}

int placement_parse(const char *text, cpu_set_t *ret, struct err *err)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const char *p = text; *p; p += strspn(p, ",")) {
        char part[32], *dash;
        size_t len = strcspn(p, ",");
        uint64_t a, b;
        if (str_print(part, sizeof(part), "%.*s", (int)(len < 64 ? len : 64), p) < 0)
            return err_set(err, ERR_CORRUPT, "\"%.40s\" is no list of cores", text);
        if ((dash = strchr(part, '-')))
            *dash = '\0';
        if (number_parse(part, 0, CPU_SETSIZE - 1, &a, NULL) < 0 ||
            number_parse(dash ? dash + 1 : part, a, CPU_SETSIZE - 1, &b, NULL) < 0)
            return err_set(err, ERR_CORRUPT, "\"%.40s\" is no list of cores", text);
        for (; a <= b; a++)
            CPU_SET(a, &set);
        p += len;
    }
    *ret = set;
    return 0;
}

/* ---- what may be asked for ---- */

static int check_there(const cpu_set_t *online, struct param_value v, struct err *err)
{
    char have[PLACEMENT_TEXT];
    for (unsigned c = 0; c < CPU_SETSIZE; c++)
        if (param_cores_has(v, c) && !CPU_ISSET(c, online))
            return err_set(err, ERR_USAGE,
                           "cpu.cores: there is no core %u; this node has cores %.200s", c,
                           placement_format(online, have));
    return 0;
}

/* Two that name one core, and one of them for itself alone. */
static int check_shared(const struct placement_ve *own, const struct placement_ve *other,
                        struct err *err)
{
    struct param_value a = own->want, b = other->want;
    if (!is_list(a) || !is_list(b) || (!is_exclusive(a) && !is_exclusive(b)))
        return 0;
    for (unsigned c = 0; c < CPU_SETSIZE; c++)
        if (param_cores_has(a, c) && param_cores_has(b, c))
            return is_exclusive(b)
                       ? err_set(err, ERR_EXHAUSTED,
                                 "cpu.cores: core %u is exclusive to %s; choose another core", c,
                                 other->name)
                       : err_set(err, ERR_EXHAUSTED,
                                 "cpu.cores: core %u cannot be exclusive: cpu.cores of %s names "
                                 "it; choose another core, or change %s first",
                                 c, other->name, other->name);
    return 0;
}

int placement_check(const cpu_set_t *online, const struct placement_ve *list, size_t n, size_t asks,
                    struct err *err)
{
    struct param_value own = list[asks].want;
    cpu_set_t rest = *online, taken;
    if (!is_list(own))
        return 0;
    int r = check_there(online, own, err);
    for (size_t i = 0; r == 0 && i < n; i++)
        if (i != asks)
            r = check_shared(&list[asks], &list[i], err);
    if (r < 0 || !is_exclusive(own))
        return r;
    for (size_t i = 0; i < n; i++)
        if (is_exclusive(list[i].want)) {
            named(list[i].want, &taken);
            without(&rest, &taken);
        }
    char text[PARAM_TEXT];
    return CPU_COUNT(&rest) ? 0
                            : err_set(err, ERR_EXHAUSTED,
                                      "cpu.cores %s would leave no core for the rest of the node; "
                                      "at least one must be left: name fewer",
                                      param_format(param_find("cpu.cores"), own, text));
}

/* ---- who runs where ---- */

/* What one core of a VE's carries of it, when all are busy. */
static uint64_t load_of(const struct placement_ve *v, uint64_t spare, uint64_t weights)
{
    uint64_t all = v->guarantee + (weights ? spare * v->weight / weights : 0);
    int cores = CPU_COUNT(&v->cores);
    return cores ? all / (unsigned)cores + 1 : 0;
}

struct maker {
    const struct admission_node *node;
    struct placement_ve *list;
    size_t n;
    cpu_set_t free; /* nobody's alone */
    uint64_t spare, weights;
    uint64_t load[CPU_SETSIZE];
};

static void add_load(struct maker *m, const struct placement_ve *v)
{
    uint64_t load = load_of(v, m->spare, m->weights);
    for (int c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, &v->cores))
            m->load[c] += load;
}

static void put_count(struct maker *m, struct placement_ve *v, uint64_t wanted)
{
    uint64_t have = (uint64_t)CPU_COUNT(&m->free);
    CPU_ZERO(&v->cores);
    for (uint64_t k = 0; k < wanted && k < have; k++) {
        int best = -1;
        for (int c = 0; c < CPU_SETSIZE; c++)
            if (CPU_ISSET(c, &m->free) && !CPU_ISSET(c, &v->cores) &&
                (best < 0 || m->load[c] < m->load[best]))
                best = c;
        CPU_SET(best, &v->cores);
    }
}

/* Is it where it can stay? */
static bool stays(const struct maker *m, const struct placement_ve *v, uint64_t wanted)
{
    cpu_set_t kept;
    uint64_t have = (uint64_t)CPU_COUNT(&m->free);
    CPU_AND(&kept, &v->cores, &m->free);
    return CPU_EQUAL(&kept, &v->cores) &&
           (uint64_t)CPU_COUNT(&kept) == (wanted < have ? wanted : have);
}

/* The largest guarantee first: small ones fit into what it leaves. */
static int by_guarantee(const void *a, const void *b)
{
    const struct placement_ve *x = *(struct placement_ve *const *)a;
    const struct placement_ve *y = *(struct placement_ve *const *)b;
    if (x->guarantee != y->guarantee)
        return x->guarantee < y->guarantee ? 1 : -1;
    return (x > y) - (x < y);
}

static void put_counts(struct maker *m)
{
    auto_free struct placement_ve **counts = calloc(m->n + 1, sizeof(struct placement_ve *));
    size_t n = 0;
    for (size_t i = 0; counts && i < m->n; i++)
        if (is_count(m->list[i].want) && CPU_COUNT(&m->list[i].cores) == 0)
            counts[n++] = &m->list[i];
    if (n)
        qsort(counts, n, sizeof(struct placement_ve *), by_guarantee);
    for (size_t i = 0; i < n; i++) {
        put_count(m, counts[i], counts[i]->want.n);
        add_load(m, counts[i]);
    }
}

static void make_lists(struct maker *m, const cpu_set_t *online)
{
    cpu_set_t taken;
    m->free = *online;
    for (size_t i = 0; i < m->n; i++)
        if (is_exclusive(m->list[i].want)) {
            named(m->list[i].want, &taken);
            without(&m->free, &taken);
        }
    for (size_t i = 0; i < m->n; i++) {
        struct placement_ve *v = &m->list[i];
        struct param_value want = v->want;
        if (is_count(want) && stays(m, v, want.n))
            continue;
        CPU_ZERO(&v->cores);
        if (is_list(want)) {
            named(want, &v->cores);
            CPU_AND(&v->cores, &v->cores, is_exclusive(want) ? online : &m->free);
        } else if (want.unlimited) {
            v->cores = m->free;
        }
    }
}

void placement_make(const struct admission_node *node, const cpu_set_t *online,
                    struct placement_ve *list, size_t n)
{
    struct maker m = {.node = node, .list = list, .n = n};
    struct admission_sum sum;
    add_up(list, n, &sum);
    m.spare = admission_spare(node, &sum);
    m.weights = sum.weight;
    make_lists(&m, online);
    for (size_t i = 0; i < n; i++)
        add_load(&m, &list[i]);
    put_counts(&m);
}

/* ---- whether guarantees fit: a flow from sets of cores to cores ---- */

struct group { /* VEs that run on the same cores, or the node itself */
    cpu_set_t cores;
    uint64_t guarantee, weight;
};

struct flow {
    struct group *group;
    size_t n_groups;
    int core[CPU_SETSIZE]; /* the online ones */
    size_t n_cores;
    uint64_t *on;               /* [group][core]: what is put there */
    uint64_t used[CPU_SETSIZE]; /* by core */
    int *from;                  /* in the search: the group's core that led to it */
    size_t by[CPU_SETSIZE];     /* and the core's group */
};

static void flow_done(struct flow *f)
{
    free(f->group);
    free(f->on);
    free(f->from);
}

static void add_group(struct flow *f, const cpu_set_t *cores, uint64_t guarantee, uint64_t weight)
{
    size_t i = 0;
    while (i < f->n_groups && !CPU_EQUAL(&f->group[i].cores, cores))
        i++;
    if (i == f->n_groups)
        f->group[f->n_groups++] = (struct group){.cores = *cores};
    f->group[i].guarantee += guarantee;
    f->group[i].weight += weight;
}

static bool flow_init(struct flow *f, const struct admission_node *node, const cpu_set_t *online,
                      const struct placement_ve *list, size_t n)
{
    f->group = calloc(n + 1, sizeof(*f->group));
    if (!f->group)
        return false;
    for (int c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, online))
            f->core[f->n_cores++] = c;
    add_group(f, online, node->cpu_reserve, 0);
    for (size_t i = 0; i < n; i++)
        add_group(f, &list[i].cores, list[i].guarantee, list[i].weight);
    f->on = calloc(f->n_groups * (f->n_cores ? f->n_cores : 1), sizeof(*f->on));
    f->from = calloc(f->n_groups, sizeof(*f->from));
    return f->on && f->from;
}

static uint64_t *on(struct flow *f, size_t group, size_t core)
{
    return &f->on[group * f->n_cores + core];
}

/* One step of the search: the core with room among those of a group, or -1; groups that could
 * leave its full cores come into the queue. */
static int look_around(struct flow *f, size_t g, bool *seen, size_t *queue, size_t *tail)
{
    for (size_t c = 0; c < f->n_cores; c++)
        if (!seen[c] && f->used[c] < CORE && CPU_ISSET(f->core[c], &f->group[g].cores)) {
            f->by[c] = g;
            return (int)c;
        }
    for (size_t c = 0; c < f->n_cores; c++) {
        if (seen[c] || !CPU_ISSET(f->core[c], &f->group[g].cores))
            continue;
        seen[c] = true;
        f->by[c] = g;
        for (size_t h = 0; h < f->n_groups; h++)
            if (f->from[h] == UNSEEN && *on(f, h, c)) {
                f->from[h] = (int)c;
                queue[(*tail)++] = h;
            }
    }
    return -1;
}

/* Breadth first from a group over cores, and over groups that could leave a full core: the core
 * with room that it reaches, or -1. */
static int find_room(struct flow *f, size_t group, size_t *queue)
{
    size_t head = 0, tail = 0;
    bool seen[CPU_SETSIZE] = {false};
    int core = -1;
    for (size_t g = 0; g < f->n_groups; g++)
        f->from[g] = UNSEEN;
    f->from[group] = -1;
    queue[tail++] = group;
    while (core < 0 && head < tail)
        core = look_around(f, queue[head++], seen, queue, &tail);
    return core;
}

/* Puts as much as goes along the path that ends at `core`; each group on it moves from one core to
 * the next. */
static uint64_t push(struct flow *f, int core, uint64_t want)
{
    uint64_t n = CORE - f->used[core];
    if (n > want)
        n = want;
    for (int c = core; c >= 0; c = f->from[f->by[c]]) {
        int left = f->from[f->by[c]];
        if (left >= 0 && *on(f, f->by[c], (size_t)left) < n)
            n = *on(f, f->by[c], (size_t)left);
    }
    f->used[core] += n;
    for (int c = core; c >= 0; c = f->from[f->by[c]]) {
        int left = f->from[f->by[c]];
        *on(f, f->by[c], (size_t)c) += n;
        if (left >= 0)
            *on(f, f->by[c], (size_t)left) -= n;
    }
    return n;
}

/* Does everybody's guarantee and part of `spare` fit? */
static bool flow_fits(struct flow *f, uint64_t spare, uint64_t weights)
{
    auto_free size_t *queue = calloc(f->n_groups, sizeof(*queue));
    if (!queue)
        return false;
    memset(f->on, 0, f->n_groups * f->n_cores * sizeof(*f->on));
    memset(f->used, 0, sizeof(f->used));
    for (size_t g = 0; g < f->n_groups; g++) {
        uint64_t left = f->group[g].guarantee;
        if (weights) /* down: what is lost in rounding must not make the whole too much */
            left += (uint64_t)((unsigned __int128)spare * f->group[g].weight / weights);
        while (left) {
            int core = find_room(f, g, queue);
            if (core < 0)
                return false;
            left -= push(f, core, left);
        }
    }
    return true;
}

static bool spare_of(const struct admission_node *node, const cpu_set_t *online,
                     const struct placement_ve *list, size_t n, uint64_t *ret)
{
    struct flow f __attribute__((cleanup(flow_done))) = {0};
    struct admission_sum sum;
    add_up(list, n, &sum);
    uint64_t high = admission_spare(node, &sum), low = 0;
    *ret = 0;
    if (!flow_init(&f, node, online, list, n) || !flow_fits(&f, 0, sum.weight))
        return false;
    if (flow_fits(&f, high, sum.weight))
        low = high;
    while (high > low + SPARE_BIT) {
        uint64_t half = low + (high - low) / 2;
        if (flow_fits(&f, half, sum.weight))
            low = half;
        else
            high = half;
    }
    *ret = low;
    return true;
}

bool placement_fit(const struct admission_node *node, const cpu_set_t *online,
                   struct placement_ve *list, size_t n, uint64_t *ret_spare)
{
    placement_make(node, online, list, n);
    if (spare_of(node, online, list, n, ret_spare))
        return true;
    bool moved = false;
    for (size_t i = 0; i < n; i++)
        if (is_count(list[i].want)) {
            CPU_ZERO(&list[i].cores);
            moved = true;
        }
    if (!moved)
        return false;
    placement_make(node, online, list, n);
    return spare_of(node, online, list, n, ret_spare);
}

int placement_why(const struct admission_node *node, const cpu_set_t *online,
                  struct placement_ve *list, size_t n, size_t asks, struct err *err)
{
    const struct param_row *row = param_find("cpu.guarantee");
    uint64_t low = 0, asked = list[asks].guarantee, high = asked, spare;
    char want[PARAM_TEXT], left[PARAM_TEXT], cores[PLACEMENT_TEXT], text[PARAM_TEXT];
    list[asks].guarantee = 0;
    bool others = spare_of(node, online, list, n, &spare);
    while (others && low + 1 < high) {
        uint64_t half = low + (high - low) / 2;
        list[asks].guarantee = half;
        if (spare_of(node, online, list, n, &spare))
            low = half;
        else
            high = half;
    }
    list[asks].guarantee = asked;
    if (!others)
        return err_set(err, ERR_EXHAUSTED,
                       "cpu.cores %s: the guarantees of the other VEs do not fit on the cores that "
                       "are left to them; name fewer, or lower cpu.guarantee of others",
                       param_format(param_find("cpu.cores"), list[asks].want, text));
    return err_set(err, ERR_EXHAUSTED,
                   "cannot guarantee %s%% of a core on cores %.200s: %s%% is left of them after "
                   "other guarantees and the node's reserve; lower it or choose other cores",
                   param_format(row, (struct param_value){.n = asked}, want),
                   placement_format(&list[asks].cores, cores),
                   param_format(row, (struct param_value){.n = low}, left));
}
