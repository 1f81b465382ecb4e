/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * btrfs — every tree is a subvolume; a copy is a snapshot; qgroups count and bound.
 *
 * Why full qgroups, what they cost, and why a limit is set in two steps: docs/adr/0009.
 */
#include "kernel/btrfs.h"

#include "base/cleanup.h"
#include "base/number.h"
#include "base/path.h"
#include "base/str.h"
#include "storage/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

/* What the tree may use in all.  The kernel's own limit is not always that; see bound(). */
#define SPACE     "trusted.terem.space"
#define SLACK_MAX (UINT64_C(1) << 20)
#define NEAR      (UINT64_C(128) << 10)

static int prepare(struct storage_pool *p, struct err *err)
{
    struct btrfs_quota q;
    if (!btrfs_is(p->dir))
        return 0; /* start() refuses it */
    int r = btrfs_quota_state(p->dir, &q, err);
    return r < 0 || q.on ? r : btrfs_quota_enable(p->dir, err);
}

/* Counts again when the kernel says that its numbers are wrong: that happens when a large snapshot
 * goes (drop_subtree_threshold, since 6.1), and after a crash. */
static int heal(struct storage_pool *p, const struct btrfs_quota *q, struct err *err)
{
    return q->inconsistent && !q->counting ? btrfs_quota_rescan(p->dir, err) : 0;
}

static int start(struct storage_pool *p, struct err *err)
{
    struct btrfs_quota q;
    if (!btrfs_is(p->dir))
        return err_set(err, ERR_USAGE, "it does not lie on btrfs; choose the driver dir");
    int r = btrfs_quota_state(p->dir, &q, err);
    if (r < 0)
        return r;
    bool counts = q.on && !q.simple;
    p->can = (struct storage_can){.space = counts,
                                  .counts = counts,
                                  .counts_late = counts,
                                  .cheap_copies = true,
                                  .shares_data = true};
    str_print(p->can.why_inodes, sizeof(p->can.why_inodes),
              "btrfs neither counts nor limits inodes");
    if (q.simple)
        str_print(p->can.why_space, sizeof(p->can.why_space),
                  "its btrfs has simple quotas, which do not count what a snapshot refers to");
    else if (!q.on)
        str_print(p->can.why_space, sizeof(p->can.why_space),
                  "the quotas of its btrfs are off; turn them on with: btrfs quota enable %.60s",
                  p->path);
    return counts ? heal(p, &q, err) : 0;
}

/* ---- trees ---- */

static int remove_tree(struct storage_pool *p, int dir, const char *name, struct err *err)
{
    auto_fd int tree = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (tree >= 0 && btrfs_subvol_is_root(tree))
        return btrfs_subvol_delete(dir, name, err);
    return path_remove_tree_at(dir, name, err);
}

static int make(struct storage_pool *p, int dir, const char *name, struct err *err)
{
    auto_fd int tree = -1;
    int r = btrfs_subvol_create(dir, name, err);
    if (r == -ERR_EXHAUSTED)
        return pool_sys(err, ENOSPC, "cannot make its directory");
    if (r < 0)
        return r;
    if ((r = pool_open_tree(dir, name, &tree, err)) < 0 || (r = pool_make_parts(tree, err)) < 0)
        remove_tree(p, dir, name, NULL);
    else if (fchmod(tree, 0700) < 0)
        r = err_sys(err, "cannot set the mode of tree %s", name);
    return r;
}

static bool copies_at_once(struct storage_pool *p, int from)
{
    uint64_t fsid[2][2];
    return btrfs_subvol_is_root(from) && btrfs_fsid(from, fsid[0]) && btrfs_fsid(p->dir, fsid[1]) &&
           memcmp(fsid[0], fsid[1], sizeof(fsid[0])) == 0;
}

/* The kernel gives a snapshot the limit of what it was made from. */
static int snapshot(struct storage_pool *p, int from, int dir, const char *name, bool protect,
                    struct err *err)
{
    auto_fd int tree = -1;
    uint64_t id;
    int r = btrfs_subvol_snapshot(from, dir, name, protect, err);
    if (r == -ERR_EXHAUSTED)
        return pool_sys(err, ENOSPC, "cannot copy its files");
    if (r < 0 || !p->can.space)
        return r;
    if ((r = pool_open_tree(dir, name, &tree, err)) < 0 ||
        (r = btrfs_subvol_id(tree, &id, err)) < 0 ||
        (r = btrfs_quota_limit(p->dir, id, UINT64_MAX, err)) < 0)
        remove_tree(p, dir, name, NULL);
    return r;
}

static int copy(struct storage_pool *p, int from, int dir, const char *name, bool protect,
                const struct storage_step *step, struct err *err)
{
    if (copies_at_once(p, from))
        return snapshot(p, from, dir, name, protect, err);
    auto_fd int tree = -1;
    int r = make(p, dir, name, err);
    if (r < 0)
        return r;
    if ((r = pool_open_tree(dir, name, &tree, err)) < 0 ||
        (r = plain_fill(from, tree, step, err)) < 0)
        remove_tree(p, dir, name, NULL);
    return r;
}

static int protect_tree(struct storage_pool *p, int tree, bool on, struct err *err)
{
    if (!btrfs_subvol_is_root(tree)) /* a directory that somebody put there */
        return 0;
    return btrfs_subvol_set_read_only(tree, on, err);
}

static int commit(struct storage_pool *p, struct err *err)
{
    return btrfs_commit(p->dir, true, err);
}

static int tidy(struct storage_pool *p, struct err *err)
{
    struct btrfs_quota q;
    int r = btrfs_commit(p->dir, false, err); /* after which the kernel frees what they held */
    if (r < 0 || (r = btrfs_quota_state(p->dir, &q, err)) < 0 || !q.on ||
        (r = heal(p, &q, err)) < 0)
        return r;
    /* In a file system that is not ours there may be groups that somebody else wants to keep. */
    return p->image ? btrfs_quota_tidy(p->dir, err) : 0;
}

/* ---- limits ---- */

/*
 * Above its limit a subvolume can still remove files, but nothing else: truncate(2), rename(2) and
 * chmod(2) reserve room for metadata first and are refused (seen on 6.1 to 6.18).  So a little of
 * the space is held back, and given when the rest is used up; taken back when there is room again.
 * What was in use when the limit came down stays, with as much above it, which shrinks with it.
 */
static uint64_t bound(uint64_t space, uint64_t used, uint64_t now)
{
    uint64_t slack = space / 16 < SLACK_MAX ? space / 16 : SLACK_MAX;
    uint64_t held_back = space - slack, granted = held_back;
    if (used + NEAR >= held_back || (now == space && used + slack >= held_back))
        granted = space;
    uint64_t above = used + slack < now ? used + slack : now;
    return granted > above ? granted : above;
}

static bool read_space(int tree, uint64_t *ret)
{
    char text[NUMBER_TEXT];
    ssize_t n = fgetxattr(tree, SPACE, text, sizeof(text) - 1);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return number_parse(text, 0, UINT64_MAX, ret, NULL) == 0;
}

static int read_used(struct storage_pool *p, uint64_t id, uint64_t *ret, struct err *err)
{
    uint64_t referenced, own, dirty;
    int r = btrfs_quota_referenced(p->dir, id, &referenced, &own, err);
    if (r < 0 || (r = btrfs_quota_dirty(p->sysfs, id, &dirty, err)) < 0)
        return r;
    *ret = referenced + dirty;
    return 0;
}

static int limit(struct storage_pool *p, int tree, const struct storage_limits *l, struct err *err)
{
    uint64_t id, used, now;
    char text[NUMBER_TEXT];
    if (!p->can.space)
        return 0;
    int r = btrfs_subvol_id(tree, &id, err);
    if (r < 0 || (r = read_used(p, id, &used, err)) < 0 ||
        (r = btrfs_quota_bound(p->sysfs, id, &now, err)) < 0)
        return r;
    /* Open first: what is noted in the tree needs room in it. */
    if (now != UINT64_MAX && (r = btrfs_quota_limit(p->dir, id, UINT64_MAX, err)) < 0)
        return r;
    if (l->space == STORAGE_UNLIMITED)
        return 0;
    str_print(text, sizeof(text), "%" PRIu64, l->space);
    if (fsetxattr(tree, SPACE, text, strlen(text), 0) < 0)
        return pool_sys(err, errno, "cannot note the limit of the tree");
    return btrfs_quota_limit(p->dir, id, bound(l->space, used, now), err);
}

static int limits(struct storage_pool *p, int tree, struct storage_limits *ret, struct err *err)
{
    struct storage_limits l = {STORAGE_UNLIMITED, STORAGE_UNLIMITED};
    uint64_t id, now = UINT64_MAX;
    int r = p->can.space ? btrfs_subvol_id(tree, &id, err) : 0;
    if (r == 0 && p->can.space)
        r = btrfs_quota_bound(p->sysfs, id, &now, err);
    if (r < 0)
        return r;
    /* A copy has the note of what it was copied from, and no limit. */
    if (now == UINT64_MAX || !read_space(tree, &l.space))
        l.space = STORAGE_UNLIMITED;
    *ret = l;
    return 0;
}

/* A list asks this of every VE: a tree without a note has no limit of ours to be read. */
static int usage(struct storage_pool *p, int tree, struct storage_usage *ret, struct err *err)
{
    uint64_t id, used, space, now;
    if (!p->can.counts) {
        *ret = (struct storage_usage){0};
        return 0;
    }
    int r = btrfs_subvol_id(tree, &id, err);
    if (r < 0 || (r = read_used(p, id, &used, err)) < 0)
        return r;
    if (read_space(tree, &space) && btrfs_quota_bound(p->sysfs, id, &now, NULL) == 0 &&
        now != UINT64_MAX && bound(space, used, now) != now)
        btrfs_quota_limit(p->dir, id, bound(space, used, now), NULL);
    /* What is removed counts at the next commit, up to 30 seconds later.  Not begun here: who asks
     * for one waits for the end of another that is at work, and a slow disk takes a minute. */
    *ret = (struct storage_usage){.space_known = true, .space = used};
    return 0;
}

static int saved_usage(struct storage_pool *p, int tree, uint64_t *ret_own, uint64_t *ret_total,
                       struct err *err)
{
    uint64_t id, own = UINT64_MAX, total = UINT64_MAX;
    int r = p->can.counts ? btrfs_subvol_id(tree, &id, err) : 0;
    if (r == 0 && p->can.counts)
        r = btrfs_quota_referenced(p->dir, id, &total, &own, err);
    if (r < 0)
        return r;
    *ret_own = own;
    *ret_total = total;
    return 0;
}

static int grow(struct storage_pool *p, struct err *err)
{
    return btrfs_grow(p->dir, err);
}

/*
 * One copy of the metadata: the image's disk has what redundancy there is, and a second copy in the
 * same file guards against little and doubles what every change writes.  No discards: see loop.h.
 */
static const char *const mkfs[] = {"mkfs.btrfs", "-q", "-K", "-m", "single", "-d", "single", NULL};
static const char *const options[] = {"nodiscard", NULL};
static const struct storage_image image = {
    .type = "btrfs",
    .mkfs = mkfs,
    .mount_options = options,
    .min = UINT64_C(256) << 20,
};

const struct storage_ops storage_btrfs = {
    .name = "btrfs",
    .image = &image,
    .prepare = prepare,
    .start = start,
    .copies_at_once = copies_at_once,
    .make = make,
    .copy = copy,
    .remove = remove_tree,
    .tidy = tidy,
    .protect = protect_tree,
    .commit = commit,
    .limit = limit,
    .limits = limits,
    .usage = usage,
    .saved_usage = saved_usage,
    .grow = grow,
};
