/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The limits of a VE's tree, and what it uses.
 *
 * The pool holds a tree to its limits whether the VE runs or not, so that they are written to
 * stopped VEs, too, and again whenever there is a tree anew.  What is held is the hard half of a
 * row, or the soft one when its time of grace is over (grace.c).
 */
#include "ve/disk.h"
#include "ve/beside.h"
#include "ve/layers.h"
#include "ve/pools.h"
#include "ve/rows.h"

#include "ve/statfs.h"

#define ADVICE 256

const char *const disk_keys[DISK_ROWS] = {
    [DISK_SPACE] = "disk.space",
    [DISK_INODES] = "disk.inodes",
};

struct disk_bounds disk_bounds_of(const struct param_set *set, size_t row)
{
    const struct param_row *r = param_find(disk_keys[row]);
    struct param_value v = set->v[param_index(r)];
    uint64_t soft = param_value_first(r, v);
    return (struct disk_bounds){
        .soft = soft == PARAM_NO_BOUND ? STORAGE_UNLIMITED : soft,
        .hard = v.unlimited ? STORAGE_UNLIMITED : v.n,
    };
}

bool disk_is_soft(const struct param_set *set, size_t row)
{
    struct disk_bounds b = disk_bounds_of(set, row);
    return b.soft < b.hard;
}

static bool is_bounded(const struct param_set *set, size_t row)
{
    struct disk_bounds b = disk_bounds_of(set, row);
    return b.soft != STORAGE_UNLIMITED || b.hard != STORAGE_UNLIMITED;
}

static bool is_any_bounded(const struct param_set *set)
{
    return is_bounded(set, DISK_SPACE) || is_bounded(set, DISK_INODES);
}

bool disk_is_bounded(const struct ve *ve)
{
    return is_any_bounded(ve->params);
}

struct param_count disk_used(const struct storage_usage *u, size_t row)
{
    if (row == DISK_SPACE)
        return (struct param_count){u->space_known, u->space_known ? u->space : 0};
    return (struct param_count){u->inodes_known, u->inodes_known ? u->inodes : 0};
}

bool disk_usage(const struct ve *ve, struct storage_usage *ret)
{
    struct storage_pool *pool = ve_pool(ve);
    *ret = (struct storage_usage){0};
    return pool && storage_can(pool)->counts && storage_usage(pool, ve->rec.id, ret, NULL) == 0;
}

/* ---- limits ---- */

/* disk.users: no pool can keep quotas for the users of one VE.  quotactl(2) asks for power over the
 * whole file system, which is every VE's; overlay, which a VE sees, has none; and on disk user 1000
 * of one VE is user 1000 of all, since trees keep ids that can be carried elsewhere. */
static int check_users(const struct param_set *set, struct err *err)
{
    if (!param_set_get(set, "disk.users").n)
        return 0;
    return err_set(err, ERR_UNSUPPORTED,
                   "disk.users on cannot be enforced: all VEs of a pool share one file system, "
                   "whose quotas know user 1000 of all VEs as one; leave it off and bound the VE "
                   "as a whole by disk.space");
}

/* What its asker can do: one that is set, made, or (ve) moved. */
enum asker { BY_SET, BY_NEW, BY_MOVE };

static const char *advice(enum asker by, const char *ve, const char *key, char buf[ADVICE])
{
    if (by == BY_SET)
        return "and terem pool move brings a VE there";
    if (by == BY_NEW)
        str_print(buf, ADVICE, "and --pool chooses one; --set %s=unlimited does without the bound",
                  key);
    else
        str_print(buf, ADVICE, "and terem set %s %s=unlimited takes the bound away", ve, key);
    return buf;
}

static int check_row(const struct param_set *set, size_t row, const char *pool,
                     const struct storage_can *can, enum asker by, const char *ve, struct err *err)
{
    char buf[ADVICE];
    bool held = row == DISK_SPACE ? can->space : can->inodes;
    const char *why = row == DISK_SPACE ? can->why_space : can->why_inodes;
    if (!is_bounded(set, row))
        return 0;
    if (!held)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s cannot be enforced in pool %s: %s; terem pool list shows others, %s",
                       disk_keys[row], pool, *why ? why : "its file system has no quotas",
                       advice(by, ve, disk_keys[row], buf));
    if (disk_is_soft(set, row) && !can->counts)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s cannot have a soft half in pool %s, which does not tell at once what is "
                       "used; give one value",
                       disk_keys[row], pool);
    return 0;
}

static int check(struct ve_node *node, const char *pool, const struct param_set *set, enum asker by,
                 const char *ve, struct err *err)
{
    struct ve_pool *p;
    int r = check_users(set, err);
    if (r < 0 || !is_any_bounded(set))
        return r;
    if ((r = ve_pool_find_err(node, pool, &p, err)) < 0 || (r = ve_pool_try(node, p, err)) < 0)
        return r;
    for (size_t i = 0; i < DISK_ROWS && r == 0; i++)
        r = check_row(set, i, pool, storage_can(p->pool), by, ve, err);
    return r;
}

int ve_disk_check(struct ve_node *node, const char *pool, const struct param_set *set,
                  struct err *err)
{
    return check(node, pool, set, BY_SET, NULL, err);
}

int ve_disk_check_move(const struct ve *ve, const char *pool, struct err *err)
{
    return check(ve->node, pool, ve->params, BY_MOVE, ve->rec.name, err);
}

int ve_disk_check_new(struct ve_node *node, const char *pool, const struct param_set *set,
                      struct err *err)
{
    return check(node, pool, set, BY_NEW, NULL, err);
}

static uint64_t in_force(const struct ve *ve, const struct param_set *set, size_t row)
{
    struct disk_bounds b = disk_bounds_of(set, row);
    return grace_is_held(ve, row) && b.soft < b.hard ? b.soft : b.hard;
}

static struct storage_limits limits_of(const struct ve *ve, const struct param_set *set)
{
    return (struct storage_limits){in_force(ve, set, DISK_SPACE), in_force(ve, set, DISK_INODES)};
}

int ve_disk_limit(struct ve *ve, struct err *err)
{
    struct storage_limits l = limits_of(ve, ve->params);
    struct storage_pool *pool = ve_pool(ve);
    const struct storage_can *can = pool ? storage_can(pool) : NULL;
    if (!can || (!can->space && !can->inodes && !is_any_bounded(ve->params)))
        return 0;
    return storage_limit(pool, ve->rec.id, &l, err);
}

/* Its own directories, and the few files that every start writes. */
#define BIRTH_SPACE  (8ull << 20)
#define BIRTH_INODES 64

static uint64_t with_room(uint64_t limit, struct param_count used, uint64_t room)
{
    if (limit == STORAGE_UNLIMITED)
        return limit;
    return (used.known && used.n > limit ? used.n : limit) + room;
}

int ve_disk_room(struct ve *ve, struct err *err)
{
    struct storage_limits l = limits_of(ve, ve->params);
    struct storage_usage u;
    if (!disk_is_bounded(ve))
        return ve_disk_limit(ve, err);
    disk_usage(ve, &u);
    l.space = with_room(l.space, disk_used(&u, DISK_SPACE), BIRTH_SPACE);
    l.inodes = with_room(l.inodes, disk_used(&u, DISK_INODES), BIRTH_INODES);
    return storage_limit(ve_pool(ve), ve->rec.id, &l, err);
}

/* What is in use stays, and nothing can be added: said before it is done. */
static int check_room(const struct ve *ve, const struct param_set *new_set, struct err *err)
{
    struct storage_usage u;
    char want[PARAM_TEXT], have[PARAM_TEXT];
    bool known = disk_usage(ve, &u), late = known && storage_can(ve_pool(ve))->counts_late;
    for (size_t i = 0; i < DISK_ROWS && known; i++) {
        const struct param_row *row = param_find(disk_keys[i]);
        uint64_t now = disk_bounds_of(new_set, i).hard, before = disk_bounds_of(ve->params, i).hard;
        struct param_count used = disk_used(&u, i);
        if (now >= before || !used.known || used.n <= now)
            continue;
        if (late)
            ve_count_soon(ve->node);
        param_format(row, (struct param_value){.n = now}, want);
        return err_set(
            err, ERR_STATE,
            "%s %s is below the %s in use: nothing can be written until as much is "
            "deleted%s; set it with --force, or choose at least %s",
            row->key, want, param_format(row, (struct param_value){.n = used.n}, have),
            late ? " (what was deleted just now is counted within seconds: try again)" : "", have);
    }
    return 0;
}

bool ve_disk_differs(const struct param_set *a, const struct param_set *b)
{
    for (size_t i = 0; i < DISK_ROWS; i++) {
        struct disk_bounds x = disk_bounds_of(a, i), y = disk_bounds_of(b, i);
        if (x.hard != y.hard || x.soft != y.soft)
            return true;
    }
    return false;
}

int ve_disk_apply(struct ve *ve, const struct param_set *old_set, const struct param_set *new_set,
                  bool force, struct err *err)
{
    struct storage_limits l = limits_of(ve, new_set);
    if (old_set && !ve_disk_differs(old_set, new_set))
        return 0;
    if (!old_set && !is_any_bounded(new_set) && !ve_pool(ve))
        return 0;
    if (ve_pool_need(ve, err) < 0 || (!force && check_room(ve, new_set, err) < 0))
        return -err->kind;
    return storage_limit(ve_pool(ve), ve->rec.id, &l, err);
}

/* ---- what is told ---- */

bool ve_disk_tells(const struct ve *ve)
{
    const struct storage_pool *pool = ve_pool(ve);
    return pool && !storage_can(pool)->own_df && is_any_bounded(ve->params);
}

bool ve_disk_view(const struct ve *ve, struct statfs_disk *ret)
{
    struct storage_usage u;
    struct storage_limits l = limits_of(ve, ve->params);
    if (!ve_disk_tells(ve) || !disk_usage(ve, &u))
        return false;
    *ret = (struct statfs_disk){
        .has_space = u.space_known && l.space != STORAGE_UNLIMITED,
        .space = l.space,
        .space_used = u.space,
        .has_inodes = u.inodes_known && l.inodes != STORAGE_UNLIMITED,
        .inodes = l.inodes,
        .inodes_used = u.inodes,
    };
    return ret->has_space || ret->has_inodes;
}

int ve_disk_counters(struct ve *ve, struct param_counters *list, struct err *err)
{
    struct storage_usage u;
    bool known = disk_usage(ve, &u);
    for (size_t i = 0; i < DISK_ROWS && known; i++)
        param_counters_of(list, param_find(disk_keys[i]))->held = disk_used(&u, i);
    return 0;
}

const char *ve_disk_uncounted(const struct ve *ve, const struct param_row *row)
{
    struct storage_pool *pool = ve_pool(ve);
    const struct storage_can *can = pool ? storage_can(pool) : NULL;
    const char *why = "";
    if (can && str_eq(row->key, disk_keys[DISK_SPACE]) && !(can->counts && can->space))
        why = can->why_space;
    else if (can && str_eq(row->key, disk_keys[DISK_INODES]) && !(can->counts && can->inodes))
        why = can->why_inodes;
    return *why ? why : NULL;
}

static json_t *number_or_null(bool known, uint64_t n)
{
    return known ? json_integer((json_int_t)n) : json_null();
}

json_t *ve_disk_json(const struct ve *ve, const struct storage_usage *usage)
{
    static const char *const names[DISK_ROWS] = {"space", "inodes"};
    json_t *out = json_object();
    int64_t grace = (int64_t)param_set_get(ve->params, "disk.grace").n;
    for (size_t i = 0; i < DISK_ROWS; i++) {
        struct disk_bounds b = disk_bounds_of(ve->params, i);
        struct param_count used = disk_used(usage, i);
        int64_t since = grace_since(ve, i);
        json_object_set_new(out, names[i],
                            json_pack("{s:o, s:o, s:o, s:o, s:o, s:b}", "used",
                                      number_or_null(used.known, used.n), "soft",
                                      number_or_null(b.soft < b.hard, b.soft), "limit",
                                      number_or_null(b.hard != STORAGE_UNLIMITED, b.hard),
                                      "over_since", number_or_null(since, (uint64_t)since), "until",
                                      number_or_null(since, (uint64_t)(since + grace)), "held",
                                      grace_is_held(ve, i)));
    }
    return out;
}

/* What quotas refuse is counted while somebody has one. */
void ve_disk_settle(struct ve_node *node)
{
    bool any = false;
    for (size_t i = 0; i < node->n_ves && !any; i++)
        any = is_any_bounded(node->ves[i]->params);
    ve_bpf_quotas(node, any);
    ve_grace_settle(node);
}

void ve_disk_changed(struct ve *ve)
{
    answer_disk_changed(ve);
    grace_look(ve);
    ve_disk_settle(ve->node);
}
