/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "param/placement.h"

#include "base/cleanup.h"
#include "base/number.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

#define CORE      10000 /* hundredths of a percent */
#define SPARE_BIT 100   /* how exactly the spare is looked for */

static struct param_value cores_of(const struct placement_ve *v)
{
    return param_set_get(v->set, "cpu.cores");
}

static uint64_t guarantee_of(const struct placement_ve *v)
{
    return param_set_get(v->set, "cpu.guarantee").n;
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
    struct param_value a = cores_of(own), b = cores_of(other);
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
    struct param_value own = cores_of(&list[asks]);
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
        if (is_exclusive(cores_of(&list[i]))) {
            named(cores_of(&list[i]), &taken);
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
    uint64_t weight = param_set_get(v->set, "cpu.weight").n;
    uint64_t all = guarantee_of(v) + (weights ? spare * weight / weights : 0);
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
static struct placement_ve *next_count(struct maker *m)
{
    struct placement_ve *best = NULL;
    for (size_t i = 0; i < m->n; i++) {
        struct placement_ve *v = &m->list[i];
        if (is_count(cores_of(v)) && CPU_COUNT(&v->cores) == 0 &&
            (!best || guarantee_of(v) > guarantee_of(best)))
            best = v;
    }
    return best;
}

static void make_lists(struct maker *m, const cpu_set_t *online)
{
    cpu_set_t taken;
    m->free = *online;
    for (size_t i = 0; i < m->n; i++)
        if (is_exclusive(cores_of(&m->list[i]))) {
            named(cores_of(&m->list[i]), &taken);
            without(&m->free, &taken);
        }
    for (size_t i = 0; i < m->n; i++) {
        struct placement_ve *v = &m->list[i];
        struct param_value want = cores_of(v);
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
    struct admission_sum sum = {0};
    for (size_t i = 0; i < n; i++)
        admission_add(&sum, list[i].set);
    m.spare = admission_spare(node, &sum);
    m.weights = sum.weight;
    make_lists(&m, online);
    for (size_t i = 0; i < n; i++)
        add_load(&m, &list[i]);
    for (struct placement_ve *v; CPU_COUNT(&m.free) && (v = next_count(&m));) {
        put_count(&m, v, cores_of(v).n);
        add_load(&m, v);
    }
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
        add_group(f, &list[i].cores, guarantee_of(&list[i]),
                  param_set_get(list[i].set, "cpu.weight").n);
    f->on = calloc(f->n_groups * (f->n_cores ? f->n_cores : 1), sizeof(*f->on));
    f->from = calloc(f->n_groups, sizeof(*f->from));
    return f->on && f->from;
}

static uint64_t *on(struct flow *f, size_t group, size_t core)
{
    return &f->on[group * f->n_cores + core];
}

/* Breadth first from a group over cores, and over groups that could leave a full core: the core
 * with room that it reaches, or -1. */
static int find_room(struct flow *f, size_t group, size_t *queue)
{
    size_t head = 0, tail = 0;
    bool seen[CPU_SETSIZE] = {false};
    for (size_t g = 0; g < f->n_groups; g++)
        f->from[g] = -2;
    f->from[group] = -1;
    queue[tail++] = group;
    while (head < tail) {
        size_t g = queue[head++];
        for (size_t c = 0; c < f->n_cores; c++) {
            if (seen[c] || !CPU_ISSET(f->core[c], &f->group[g].cores))
                continue;
            seen[c] = true;
            f->by[c] = g;
            if (f->used[c] < CORE)
                return (int)c;
            for (size_t h = 0; h < f->n_groups; h++)
                if (f->from[h] == -2 && *on(f, h, c)) {
                    f->from[h] = (int)c;
                    queue[tail++] = h;
                }
        }
    }
    return -1;
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
    struct admission_sum sum = {0};
    for (size_t i = 0; i < n; i++)
        admission_add(&sum, list[i].set);
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
        if (is_count(cores_of(&list[i]))) {
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
    const struct param_set *whole = list[asks].set;
    struct param_set mine = *whole;
    uint64_t low = 0, asked = guarantee_of(&list[asks]), high = asked, spare;
    char want[PARAM_TEXT], left[PARAM_TEXT], cores[PLACEMENT_TEXT], text[PARAM_TEXT];
    list[asks].set = &mine;
    mine.v[param_index(row)] = (struct param_value){0};
    bool others = spare_of(node, online, list, n, &spare);
    while (others && low + 1 < high) {
        uint64_t half = low + (high - low) / 2;
        mine.v[param_index(row)].n = half;
        if (spare_of(node, online, list, n, &spare))
            low = half;
        else
            high = half;
    }
    list[asks].set = whole;
    if (!others)
        return err_set(err, ERR_EXHAUSTED,
                       "cpu.cores %s: the guarantees of the other VEs do not fit on the cores that "
                       "are left to them; name fewer, or lower cpu.guarantee of others",
                       param_format(param_find("cpu.cores"), cores_of(&list[asks]), text));
    return err_set(err, ERR_EXHAUSTED,
                   "cannot guarantee %s%% of a core on cores %.200s: %s%% is left of them after "
                   "other guarantees and the node's reserve; lower it or choose other cores",
                   param_format(row, (struct param_value){.n = asked}, want),
                   placement_format(&list[asks].cores, cores),
                   param_format(row, (struct param_value){.n = low}, left));
}
