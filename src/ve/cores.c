/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who runs on which cores follows from all VEs of the node, as weights do.  The arithmetic is
 * param/placement's. */
#include "ve/internal.h"
#include "ve/rows.h"

struct crowd {
    struct placement_ve *list;
    size_t n;
    bool limited; /* somebody has cpu.cores */
    cpu_set_t online;
};

static void crowd_done(struct crowd *c)
{
    free(c->list);
}

static void crowd_add(struct crowd *c, const struct ve *ve, const struct param_set *set)
{
    c->limited = c->limited || !param_set_get(set, "cpu.cores").unlimited;
    c->list[c->n] = placement_ve(ve ? ve->rec.name : "", set);
    if (ve)
        c->list[c->n].cores = ve->cores;
    c->n++;
}

/* All VEs, `changed` (in the table's order) with other sets; NULL in it is one being made. */
static int crowd_of(const struct ve_node *node, const struct ve *const *changed,
                    const struct param_set *sets, size_t n, struct crowd *ret, struct err *err)
{
    int r = resource_cores_there(node->resources, &ret->online, err);
    if (r < 0)
        return r;
    ret->list = calloc(node->n_ves + 1, sizeof(*ret->list));
    if (!ret->list)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    size_t k = 0;
    for (size_t i = 0; i < node->n_ves; i++) {
        const struct ve *ve = node->ves[i];
        bool changes = k < n && changed[k] == ve;
        crowd_add(ret, ve, changes ? &sets[k] : ve->params);
        k += changes;
    }
    if (k < n)
        crowd_add(ret, NULL, &sets[k]);
    return 0;
}

/* What asks for no more than it had is not refused, though the node may have shrunk. */
static bool asks_for_more(const struct ve *ve, const struct param_set *set)
{
    struct param_value cores = param_set_get(set, "cpu.cores");
    uint64_t own = param_set_get(set, "cpu.guarantee").n;
    if (!ve)
        return own > 0 || !cores.unlimited;
    return own > param_set_get(ve->params, "cpu.guarantee").n ||
           !param_value_same(cores, param_set_get(ve->params, "cpu.cores"));
}

static size_t index_of(const struct crowd *c, const struct param_set *set)
{
    size_t i = 0;
    while (c->list[i].set != set)
        i++;
    return i;
}

int ve_cores_admit(struct ve_node *node, const struct ve *const *changed,
                   const struct param_set *sets, size_t n, size_t *ret_who, struct err *err)
{
    struct crowd c __attribute__((cleanup(crowd_done))) = {0};
    struct admission_node whole = ve_guarantee_node(node);
    size_t who = n;
    uint64_t spare;
    int r = crowd_of(node, changed, sets, n, &c, err);
    if (r < 0 || !c.limited)
        return r;
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (!asks_for_more(changed[i], &sets[i]))
            continue;
        *ret_who = who = i;
        r = placement_check(&c.online, c.list, c.n, index_of(&c, &sets[i]), err);
    }
    if (r < 0 || who == n || placement_fit(&whole, &c.online, c.list, c.n, &spare))
        return r;
    return placement_why(&whole, &c.online, c.list, c.n, index_of(&c, &sets[who]), err);
}

static void place(const struct ve_node *node, struct crowd *c, uint64_t *ret_withheld,
                  bool *ret_fits)
{
    struct admission_node whole = ve_guarantee_node(node);
    struct admission_sum sum = {0};
    uint64_t spare;
    for (size_t i = 0; i < c->n; i++)
        admission_add(&sum, c->list[i].set);
    *ret_fits = placement_fit(&whole, &c->online, c->list, c->n, &spare);
    /* Where they do not fit, nobody's weight is made smaller for it. */
    *ret_withheld = *ret_fits ? admission_spare(&whole, &sum) - spare : 0;
}

/* Of a thousand VEs that may run anywhere there is nothing to compute. */
static bool anybody_limited(const struct ve_node *node)
{
    size_t at = param_index(param_find("cpu.cores"));
    for (size_t i = 0; i < node->n_ves; i++)
        if (!node->ves[i]->params->v[at].unlimited)
            return true;
    return false;
}

void ve_cores_place(struct ve_node *node)
{
    struct crowd c __attribute__((cleanup(crowd_done))) = {0};
    struct err e = {0};
    bool fits = true;
    int r = anybody_limited(node) ? crowd_of(node, NULL, NULL, 0, &c, &e)
                                  : resource_cores_there(node->resources, &c.online, &e);
    if (r < 0) {
        log_warn(NULL, 0, "VEs stay on the cores that they have: %s", e.text);
        return;
    }
    node->withheld = 0;
    if (c.limited)
        place(node, &c, &node->withheld, &fits);
    if (!fits && !node->unfit)
        log_warn(NULL, 0,
                 "the guarantees of processor time do not fit on the cores that are left; bring "
                 "back the missing cores, or lower cpu.guarantee or cpu.cores");
    node->unfit = !fits;
    /* Kernels forget cores that were away. */
    for (size_t i = 0; !CPU_EQUAL(&node->online, &c.online) && i < node->n_ves; i++) {
        CPU_ZERO(&node->ves[i]->cores_written);
        node->ves[i]->cores_owned = false;
    }
    node->online = c.online;
    /* In a worker memory is teremd's until it is written to: what stays the same is left alone. */
    for (size_t i = 0; i < node->n_ves; i++) {
        const cpu_set_t *cores = c.limited ? &c.list[i].cores : &c.online;
        if (!CPU_EQUAL(&node->ves[i]->cores, cores))
            node->ves[i]->cores = *cores;
    }
}

static int write_cores(struct ve *ve, const cpu_set_t *cores, const cpu_set_t *online,
                       struct err *err)
{
    char text[PLACEMENT_TEXT];
    if (CPU_COUNT(cores) == 0)
        return err_set(err, ERR_EXHAUSTED, "none of the cores that cpu.cores names is there now");
    return resource_cores(ve->node->resources, ve->rec.id,
                          CPU_EQUAL(cores, online) ? NULL : placement_format(cores, text), err);
}

/* A partition stands in the way of any change of its cores. */
static void give_up(struct ve *ve)
{
    struct err e = {0};
    if (resource_cores_own(ve->node->resources, ve->rec.id, NULL, &e) < 0 &&
        e.kind != ERR_NOT_FOUND)
        log_warn(ve->rec.name, 0, "its cores are still kept from the node's programs: %s", e.text);
    ve->cores_owned = false;
}

int ve_cores_start(struct ve *ve, struct err *err)
{
    if (!ve->node->crew_placed)
        ve_cores_place(ve->node);
    ve->node->crew_placed = ve->node->crew;
    return CPU_EQUAL(&ve->cores, &ve->node->online)
               ? 0
               : write_cores(ve, &ve->cores, &ve->node->online, err);
}

int ve_cores_apply(struct ve *ve, const struct param_set *old_set, const struct param_set *new_set,
                   bool force, struct err *err)
{
    struct crowd c __attribute__((cleanup(crowd_done))) = {0};
    const struct ve *changed = ve;
    uint64_t withheld;
    bool fits;
    if (old_set &&
        param_value_same(param_set_get(old_set, "cpu.cores"), param_set_get(new_set, "cpu.cores")))
        return 0;
    int r = crowd_of(ve->node, &changed, new_set, 1, &c, err);
    if (r < 0)
        return r;
    size_t own = index_of(&c, new_set);
    if (c.limited)
        place(ve->node, &c, &withheld, &fits);
    else
        c.list[own].cores = c.online;
    give_up(ve);
    r = write_cores(ve, &c.list[own].cores, &c.online, err);
    if (r == 0)
        ve->cores_written = c.list[own].cores; /* settled with all others after the commit */
    return r;
}

void ve_cores_adopt(struct ve_node *node)
{
    struct err e;
    cpu_set_t online, cores;
    char text[PLACEMENT_TEXT];
    if (resource_cores_there(node->resources, &online, &e) < 0)
        return;
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        if (resource_cores_read(node->resources, ve->rec.id, text, sizeof(text), &e) < 0 ||
            placement_parse(text, &cores, &e) < 0)
            continue;
        ve->cores = ve->cores_written = *text ? cores : online;
    }
    node->online = online;
}

static bool is_exclusive(const struct ve *ve)
{
    return param_set_get(ve->params, "cpu.cores").form == PARAM_EXCLUSIVE;
}

/* Last, when all others have left those cores: keeps the node's own programs off, too. */
static void own_cores(struct ve_node *node)
{
    char text[PLACEMENT_TEXT];
    struct err e = {0};
    cpu_set_t all;
    CPU_ZERO(&all);
    for (size_t i = 0; i < node->n_ves; i++)
        if (is_exclusive(node->ves[i]))
            CPU_OR(&all, &all, &node->ves[i]->cores);
    if (!CPU_EQUAL(&all, &node->may_own) &&
        resource_cores_may_own(node->resources, placement_format(&all, text), &e) < 0)
        log_warn(NULL, 0, "exclusive cores: %s", e.text);
    node->may_own = all;
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        if (!is_exclusive(ve) || ve->cores_owned || !ve_has_cgroups(ve) || !CPU_COUNT(&ve->cores))
            continue;
        ve->cores_owned = resource_cores_own(node->resources, ve->rec.id,
                                             placement_format(&ve->cores, text), &e) == 0;
        if (!ve->cores_owned && e.kind != ERR_NOT_FOUND && !ve->cores_told) {
            log_info(ve->rec.name, 0, "the node's own programs may run on its cores: %s", e.text);
            ve->cores_told = true;
        }
    }
}

void ve_cores_settle(struct ve_node *node)
{
    struct err e = {0};
    ve_cores_place(node);
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        if (ve->cores_owned && (!is_exclusive(ve) || !CPU_EQUAL(&ve->cores, &ve->cores_written)))
            give_up(ve);
    }
    for (size_t i = 0; i < node->n_ves; i++) {
        struct ve *ve = node->ves[i];
        if (!ve_has_cgroups(ve) || CPU_EQUAL(&ve->cores, &ve->cores_written))
            continue;
        if (write_cores(ve, &ve->cores, &node->online, &e) == 0)
            ve->cores_written = ve->cores;
        else if (e.kind != ERR_NOT_FOUND) /* one that is starting writes its own */
            log_warn(ve->rec.name, 0, "it runs where it ran: %s", e.text);
    }
    own_cores(node);
}
