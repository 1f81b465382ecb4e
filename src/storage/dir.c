/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dir — trees are plain directories of any file system; a copy is a copy of every file.
 *
 * Where the file system has project quotas, every tree is a project of its own from its birth: also
 * saved ones, which so are counted and not charged to the VE, and the new tree of a restore, which
 * the old one's limit would else refuse while both are there.
 *
 * xfs is the same on xfs, whose files share their blocks (reflink), also in an image.
 */
#include "base/cleanup.h"
#include "base/path.h"
#include "base/str.h"
#include "kernel/quota.h"
#include "storage/driver.h"
#include "storage/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

/* Ours among the projects of the file system: an operator's own begin at 1. */
#define PROJECT_FIRST 0x54000000u
#define PROJECT_COUNT 0x01000000u

static bool is_ours(uint32_t project)
{
    return project - PROJECT_FIRST < PROJECT_COUNT;
}

static void no_quota(struct storage_pool *p, const char *why)
{
    str_print(p->can.why_space, sizeof(p->can.why_space), "%s", why);
    str_print(p->can.why_inodes, sizeof(p->can.why_inodes), "%s", why);
}

/* Do files share their blocks when they are copied (reflink)?  It is refused before anybody looks
 * whether there are any. */
static bool shares_data(struct storage_pool *p)
{
    auto_fd int a = openat(p->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    auto_fd int b = openat(p->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return a >= 0 && b >= 0 && ioctl(b, FICLONE, a) == 0;
}

static int start(struct storage_pool *p, struct err *err)
{
    uint32_t project;
    bool inherited, on = quota_project_on(p->dir);
    quota_project_of(p->dir, &project, &inherited);
    p->can = (struct storage_can){.shares_data = shares_data(p)};
    if (on && inherited) {
        no_quota(p, "its directory is part of a project already, which a tree cannot leave");
        return 0;
    }
    p->can.space = p->can.inodes = p->can.own_df = p->can.counts = on;
    if (!on)
        no_quota(p, "its file system has no project quotas: ext4 needs the features quota and "
                    "project and the mount option prjquota, xfs the mount option pquota");
    return 0;
}

/* ---- projects ---- */

/* A number that nothing has.  Two who look at once: 1 in 16 million, and each looks again after
 * it has given the number to a directory, which then counts. */
static int new_project(struct storage_pool *p, int tree, struct err *err)
{
    for (int i = 0; i < 64; i++) {
        uint32_t random;
        struct quota q;
        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
            return err_sys(err, "cannot choose a project");
        uint32_t project = PROJECT_FIRST + random % PROJECT_COUNT;
        int r = quota_project_read(p->dir, project, &q, err);
        if (r < 0)
            return r;
        if (q.inodes || q.bytes || q.bytes_limit != UINT64_MAX || q.inodes_limit != UINT64_MAX)
            continue;
        if ((r = quota_project_set(tree, project, err)) < 0 ||
            (r = quota_project_read(p->dir, project, &q, err)) < 0)
            return r;
        if (q.inodes == 1)
            return 0;
    }
    return err_set(err, ERR_EXHAUSTED, "the file system has no free project for a tree");
}

/* The project of a tree; false: it has none of ours. */
static bool project_of(struct storage_pool *p, int tree, uint32_t *ret)
{
    bool inherited;
    quota_project_of(tree, ret, &inherited);
    return p->can.counts && inherited && is_ours(*ret);
}

/* ---- trees ---- */

static int remove_tree(struct storage_pool *p, int dir, const char *name, struct err *err)
{
    auto_fd int tree = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    uint32_t project;
    bool counted = tree >= 0 && project_of(p, tree, &project);
    int r = path_remove_tree_at(dir, name, err);
    if (r == 0 && counted)
        quota_project_limit(p->dir, project, UINT64_MAX, UINT64_MAX, NULL);
    return r;
}

static int make(struct storage_pool *p, int dir, const char *name, struct err *err)
{
    if (mkdirat(dir, name, 0700) < 0)
        return pool_sys(err, errno, "cannot make its directory");
    auto_fd int tree = -1;
    int r = pool_open_tree(dir, name, &tree, err);
    if (r < 0 || (p->can.counts && (r = new_project(p, tree, err)) < 0) ||
        (r = pool_make_parts(tree, err)) < 0)
        remove_tree(p, dir, name, NULL);
    return r;
}

static int copy(struct storage_pool *p, int from, int dir, const char *name, bool protect,
                const struct storage_step *step, struct err *err)
{
    auto_fd int tree = -1;
    int r = make(p, dir, name, err);
    if (r < 0)
        return r;
    if ((r = pool_open_tree(dir, name, &tree, err)) < 0 ||
        (r = plain_fill(from, tree, step, err)) < 0)
        remove_tree(p, dir, name, NULL);
    return r;
}

static int commit(struct storage_pool *p, struct err *err)
{
    if (fsync(p->dir) < 0 || fsync(p->saved) < 0)
        return pool_sys(err, errno, "cannot write the pool's directory to the disk");
    return 0;
}

/* ---- limits ---- */

static int limit(struct storage_pool *p, int tree, const struct storage_limits *l, struct err *err)
{
    uint32_t project;
    bool none = l->space == STORAGE_UNLIMITED && l->inodes == STORAGE_UNLIMITED;
    if (project_of(p, tree, &project))
        return quota_project_limit(p->dir, project, l->space, l->inodes, err);
    return none ? 0
                : err_set(err, ERR_UNSUPPORTED,
                          "it was made when its file system had no project quotas; move it to "
                          "another pool and back");
}

static int limits(struct storage_pool *p, int tree, struct storage_limits *ret, struct err *err)
{
    struct quota q = {.bytes_limit = UINT64_MAX, .inodes_limit = UINT64_MAX};
    uint32_t project;
    int r = project_of(p, tree, &project) ? quota_project_read(p->dir, project, &q, err) : 0;
    if (r == 0)
        *ret = (struct storage_limits){q.bytes_limit, q.inodes_limit};
    return r;
}

static int usage(struct storage_pool *p, int tree, struct storage_usage *ret, struct err *err)
{
    struct storage_usage u = {.space_known = true, .inodes_known = true};
    struct quota q = {0};
    uint32_t project;
    bool counted = project_of(p, tree, &project);
    int r = counted ? quota_project_read(p->dir, project, &q, err)
                    : walk_usage(tree, &u.space, &u.inodes, err);
    if (r < 0)
        return r;
    if (counted) {
        u.space = q.bytes;
        u.inodes = q.inodes;
    }
    *ret = u;
    return 0;
}

/* Blocks that are shared with others count as if they were not. */
static int saved_usage(struct storage_pool *p, int tree, uint64_t *ret_own, uint64_t *ret_total,
                       struct err *err)
{
    struct storage_usage u;
    int r = usage(p, tree, &u, err);
    if (r < 0)
        return r;
    *ret_total = u.space;
    *ret_own = p->ops == &storage_dir ? u.space : UINT64_MAX;
    return 0;
}

const struct storage_ops storage_dir = {
    .name = "dir",
    .start = start,
    .make = make,
    .copy = copy,
    .remove = remove_tree,
    .commit = commit,
    .limit = limit,
    .limits = limits,
    .usage = usage,
    .saved_usage = saved_usage,
};

/* ---- xfs ---- */

static int start_xfs(struct storage_pool *p, struct err *err)
{
    struct statfs fs;
    if (fstatfs(p->dir, &fs) < 0 || (uint32_t)fs.f_type != XFS_SUPER_MAGIC)
        return err_set(err, ERR_USAGE, "it does not lie on xfs; choose the driver dir");
    int r = start(p, err);
    if (r == 0 && !p->can.space && p->image)
        no_quota(p, "this kernel was built without the quotas of xfs (CONFIG_XFS_QUOTA)");
    return r;
}

/* fs/xfs/libxfs/xfs_fs.h, which is in no package that a build needs otherwise. */
struct xfs_geometry {
    uint32_t block_size, rt_extent, ag_blocks, ag_count, log_blocks, sector, inode, inode_percent;
    uint64_t blocks, rt_blocks, rt_extents, log_start;
    uint8_t uuid[16];
    uint32_t sunit, swidth;
    int32_t version;
    uint32_t flags, log_sector, rt_sector, dir_block;
};
struct xfs_growth {
    uint64_t blocks;
    uint32_t inode_percent;
};
#define XFS_GEOMETRY _IOR('X', 100, struct xfs_geometry)
#define XFS_GROW     _IOW('X', 110, struct xfs_growth)
_Static_assert(sizeof(struct xfs_geometry) == 112, "struct xfs_fsop_geom_v1");

static int grow_xfs(struct storage_pool *p, struct err *err)
{
    struct xfs_geometry g;
    struct stat st;
    if (ioctl(p->dir, XFS_GEOMETRY, &g) < 0 || stat(p->image, &st) < 0)
        return err_sys(err, "cannot ask xfs for its size");
    struct xfs_growth want = {(uint64_t)st.st_size / g.block_size, g.inode_percent};
    if (want.blocks > g.blocks && ioctl(p->dir, XFS_GROW, &want) < 0)
        return err_sys(err, "cannot resize xfs");
    return 0;
}

static const char *const mkfs[] = {"mkfs.xfs",  "-q", "-K",        "-s",
                                   "size=4096", "-m", "reflink=1", NULL};
static const char *const with_quota[] = {"prjquota", NULL};
static const char *const plain[] = {NULL};
static const struct storage_image image = {
    .type = "xfs",
    .mkfs = mkfs,
    .mount_options = with_quota,
    .other_options = plain, /* a kernel without its quotas refuses the option */
    .min = UINT64_C(320) << 20,
};

const struct storage_ops storage_xfs = {
    .name = "xfs",
    .image = &image,
    .start = start_xfs,
    .make = make,
    .copy = copy,
    .remove = remove_tree,
    .commit = commit,
    .limit = limit,
    .limits = limits,
    .usage = usage,
    .saved_usage = saved_usage,
    .grow = grow_xfs,
};
