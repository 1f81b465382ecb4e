/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/btrfs.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/str.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#define SYSFS_PATH 128
#define GROUP_PATH 64

bool btrfs_is(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && (uint32_t)fs.f_type == BTRFS_SUPER_MAGIC;
}

bool btrfs_fsid(int fd, uint64_t ret[2])
{
    struct btrfs_ioctl_fs_info_args info = {0};
    _Static_assert(sizeof(info.fsid) == 16, "linux/btrfs.h");
    if (!btrfs_is(fd) || ioctl(fd, BTRFS_IOC_FS_INFO, &info) < 0)
        return false;
    memcpy(ret, info.fsid, sizeof(info.fsid));
    return true;
}

/* ---- subvolumes ---- */

/* A new subvolume.  On 6.1 what was freed since the last commit, up to 30 seconds ago, is no room
 * for it yet: that is committed, and asked again (6.12 does so itself). */
static int make_subvol(int dir, unsigned long request, void *args)
{
    int r = ioctl(dir, request, args), sys = errno;
    if (r == 0 || sys != ENOSPC)
        return r;
    if (ioctl(dir, BTRFS_IOC_SYNC) == 0)
        return ioctl(dir, request, args);
    errno = sys;
    return r;
}

int btrfs_subvol_create(int dir, const char *name, struct err *err)
{
    struct btrfs_ioctl_vol_args args = {0};
    if (str_print(args.name, sizeof(args.name), "%s", name) < 0)
        return err_set(err, ERR_INTERNAL, "the name %s of a subvolume is too long", name);
    if (make_subvol(dir, BTRFS_IOC_SUBVOL_CREATE, &args) < 0)
        return err_sys(err, "cannot make subvolume %s", name);
    return 0;
}

int btrfs_subvol_snapshot(int from, int dir, const char *name, bool read_only, struct err *err)
{
    struct btrfs_ioctl_vol_args_v2 args = {.fd = from,
                                           .flags = read_only ? BTRFS_SUBVOL_RDONLY : 0};
    if (str_print(args.name, sizeof(args.name), "%s", name) < 0)
        return err_set(err, ERR_INTERNAL, "the name %s of a subvolume is too long", name);
    if (make_subvol(dir, BTRFS_IOC_SNAP_CREATE_V2, &args) < 0)
        return err_sys(err, "cannot make a snapshot of its files");
    return 0;
}

int btrfs_subvol_delete(int dir, const char *name, struct err *err)
{
    struct btrfs_ioctl_vol_args args = {0};
    if (str_print(args.name, sizeof(args.name), "%s", name) < 0)
        return err_set(err, ERR_INTERNAL, "the name %s of a subvolume is too long", name);
    if (ioctl(dir, BTRFS_IOC_SNAP_DESTROY, &args) < 0 && errno != ENOENT)
        return err_sys(err, "cannot remove subvolume %s", name);
    return 0;
}

int btrfs_subvol_set_read_only(int fd, bool read_only, struct err *err)
{
    uint64_t flags;
    if (ioctl(fd, BTRFS_IOC_SUBVOL_GETFLAGS, &flags) < 0)
        return err_sys(err, "cannot read the flags of a subvolume");
    uint64_t wanted = read_only ? flags | BTRFS_SUBVOL_RDONLY : flags & ~BTRFS_SUBVOL_RDONLY;
    if (wanted != flags && ioctl(fd, BTRFS_IOC_SUBVOL_SETFLAGS, &wanted) < 0)
        return err_sys(err, "cannot set the flags of a subvolume");
    return 0;
}

int btrfs_subvol_id(int fd, uint64_t *ret, struct err *err)
{
    struct btrfs_ioctl_ino_lookup_args args = {.objectid = BTRFS_FIRST_FREE_OBJECTID};
    if (ioctl(fd, BTRFS_IOC_INO_LOOKUP, &args) < 0)
        return err_sys(err, "cannot ask for the number of a subvolume");
    *ret = args.treeid;
    return 0;
}

bool btrfs_subvol_is_root(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_ino == BTRFS_FIRST_FREE_OBJECTID && btrfs_is(fd);
}

int btrfs_commit(int fd, bool wait, struct err *err)
{
    uint64_t transid;
    if (ioctl(fd, BTRFS_IOC_START_SYNC, &transid) < 0 ||
        (wait && ioctl(fd, BTRFS_IOC_WAIT_SYNC, &transid) < 0))
        return err_sys(err, "cannot commit to btrfs");
    return 0;
}

int btrfs_grow(int fd, struct err *err)
{
    struct btrfs_ioctl_vol_args args = {.name = "max"};
    if (ioctl(fd, BTRFS_IOC_RESIZE, &args) < 0)
        return err_sys(err, "cannot resize btrfs");
    return 0;
}

/* ---- quota groups ---- */

int btrfs_sysfs(int fd, int *ret, struct err *err)
{
    struct btrfs_ioctl_fs_info_args info = {0};
    char path[SYSFS_PATH];
    const uint8_t *u = info.fsid;
    if (ioctl(fd, BTRFS_IOC_FS_INFO, &info) < 0)
        return err_sys(err, "cannot ask btrfs for its number");
    str_print(path, sizeof(path),
              "/sys/fs/btrfs/%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
              u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
              u[13], u[14], u[15]);
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_sys(err, "cannot open %s", path);
    *ret = dir;
    return 0;
}

static int read_number(int sysfs, const char *name, uint64_t *ret, struct err *err)
{
    char text[64];
    auto_fd int f = openat(sysfs, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = f < 0 ? -1 : read(f, text, sizeof(text) - 1);
    if (n < 0)
        return err_sys(err, "cannot read %s of btrfs", name);
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    int r = number_parse(text, 0, UINT64_MAX, ret, err);
    return r < 0 ? err_wrap(err, "%s", name) : 0;
}

int btrfs_reserved(int sysfs, uint64_t *ret, struct err *err)
{
    uint64_t wanted = 0, placed = 0;
    int r = read_number(sysfs, "allocation/data/bytes_may_use", &wanted, err);
    if (r == 0) /* has its place, and is counted as used by the next commit */
        r = read_number(sysfs, "allocation/data/bytes_reserved", &placed, err);
    *ret = wanted + placed;
    return r;
}

/*
 * The one status item of the quota tree.  It is in /sys/fs/btrfs too, but only since 6.1, and there
 * without the flag that they are being counted.
 */
static int read_status(int fd, uint64_t *ret_flags, struct err *err)
{
    struct btrfs_ioctl_search_args args = {
        .key = {.tree_id = BTRFS_QUOTA_TREE_OBJECTID,
                .min_type = BTRFS_QGROUP_STATUS_KEY,
                .max_type = BTRFS_QGROUP_STATUS_KEY,
                .max_transid = UINT64_MAX,
                .nr_items = 1},
    };
    struct btrfs_ioctl_search_header h;
    struct btrfs_qgroup_status_item item;
    *ret_flags = 0;
    if (ioctl(fd, BTRFS_IOC_TREE_SEARCH, &args) < 0)
        return errno == ENOENT ? 0 : err_sys(err, "cannot ask btrfs for its quotas");
    memcpy(&h, args.buf, sizeof(h));
    if (args.key.nr_items < 1 || h.type != BTRFS_QGROUP_STATUS_KEY || h.len < sizeof(item))
        return 0; /* there is no quota tree */
    memcpy(&item, args.buf + sizeof(h), sizeof(item));
    *ret_flags = le64toh(item.flags);
    return 0;
}

#define SIMPLE_MODE (UINT64_C(1) << 3) /* BTRFS_QGROUP_STATUS_FLAG_SIMPLE_MODE, linux 6.7 */

int btrfs_quota_state(int fd, struct btrfs_quota *ret, struct err *err)
{
    uint64_t flags;
    int r = read_status(fd, &flags, err);
    if (r < 0)
        return r;
    *ret = (struct btrfs_quota){
        .on = flags & BTRFS_QGROUP_STATUS_FLAG_ON,
        .simple = flags & SIMPLE_MODE,
        .inconsistent = flags & BTRFS_QGROUP_STATUS_FLAG_INCONSISTENT,
        .counting = flags & BTRFS_QGROUP_STATUS_FLAG_RESCAN,
    };
    return 0;
}

int btrfs_quota_enable(int fd, struct err *err)
{
    struct btrfs_ioctl_quota_ctl_args args = {.cmd = BTRFS_QUOTA_CTL_ENABLE};
    if (ioctl(fd, BTRFS_IOC_QUOTA_CTL, &args) < 0 && errno != EEXIST)
        return err_sys(err, "cannot turn on the quotas of btrfs");
    return 0;
}

int btrfs_quota_rescan(int fd, struct err *err)
{
    struct btrfs_ioctl_quota_rescan_args args = {0};
    if (ioctl(fd, BTRFS_IOC_QUOTA_RESCAN, &args) < 0 && errno != EINPROGRESS)
        return err_sys(err, "cannot count the quotas of btrfs again");
    return 0;
}

int btrfs_quota_limit(int fd, uint64_t subvol, uint64_t bytes, struct err *err)
{
    /* UINT64_MAX clears a limit (CLEAR_VALUE in fs/btrfs/qgroup.c). */
    struct btrfs_ioctl_qgroup_limit_args args = {
        .qgroupid = subvol,
        .lim = {.flags = BTRFS_QGROUP_LIMIT_MAX_RFER, .max_rfer = bytes},
    };
    if (ioctl(fd, BTRFS_IOC_QGROUP_LIMIT, &args) < 0)
        return err_sys(err, "cannot limit subvolume %" PRIu64, subvol);
    return 0;
}

/* By its path: a descriptor of each group's directory would cost as much as a file of it. */
static int read_group(int sysfs, uint64_t subvol, const char *name, uint64_t *ret, struct err *err)
{
    char path[GROUP_PATH];
    str_print(path, sizeof(path), "qgroups/0_%" PRIu64 "/%s", subvol, name);
    return read_number(sysfs, path, ret, err);
}

int btrfs_quota_referenced(int fd, uint64_t subvol, uint64_t *ret, uint64_t *ret_own,
                           struct err *err)
{
    struct btrfs_ioctl_search_args args = {
        .key = {.tree_id = BTRFS_QUOTA_TREE_OBJECTID,
                .min_type = BTRFS_QGROUP_INFO_KEY,
                .max_type = BTRFS_QGROUP_INFO_KEY,
                .min_offset = subvol,
                .max_offset = subvol,
                .max_transid = UINT64_MAX,
                .nr_items = 1},
    };
    struct btrfs_ioctl_search_header h = {0};
    struct btrfs_qgroup_info_item item;
    if (ioctl(fd, BTRFS_IOC_TREE_SEARCH, &args) < 0)
        return err_sys(err, "cannot ask btrfs for the use of subvolume %" PRIu64, subvol);
    if (args.key.nr_items)
        memcpy(&h, args.buf, sizeof(h));
    if (h.type != BTRFS_QGROUP_INFO_KEY || h.offset != subvol || h.len < sizeof(item))
        return err_sysno(err, ENOENT, "cannot find the quota group of subvolume %" PRIu64, subvol);
    memcpy(&item, args.buf + sizeof(h), sizeof(item));
    *ret = le64toh(item.rfer);
    *ret_own = le64toh(item.excl);
    return 0;
}

int btrfs_quota_dirty(int sysfs, uint64_t subvol, uint64_t *ret, struct err *err)
{
    return read_group(sysfs, subvol, "rsv_data", ret, err);
}

int btrfs_quota_bound(int sysfs, uint64_t subvol, uint64_t *ret, struct err *err)
{
    uint64_t flags, bytes = UINT64_MAX;
    int r = read_group(sysfs, subvol, "limit_flags", &flags, err);
    if (r < 0 || (flags & BTRFS_QGROUP_LIMIT_MAX_RFER &&
                  (r = read_group(sysfs, subvol, "max_referenced", &bytes, err)) < 0))
        return r;
    *ret = bytes;
    return 0;
}

/* The number of the next group of a subvolume from *id on; false: there is none. */
static bool next_group(int fd, uint64_t *id)
{
    struct btrfs_ioctl_search_args args = {
        .key = {.tree_id = BTRFS_QUOTA_TREE_OBJECTID,
                .min_type = BTRFS_QGROUP_INFO_KEY,
                .max_type = BTRFS_QGROUP_INFO_KEY,
                .min_offset = *id,
                .max_offset = (UINT64_C(1) << 48) - 1, /* of level 0 */
                .max_transid = UINT64_MAX,
                .nr_items = 1},
    };
    struct btrfs_ioctl_search_header h;
    if (ioctl(fd, BTRFS_IOC_TREE_SEARCH, &args) < 0 || args.key.nr_items < 1)
        return false;
    memcpy(&h, args.buf, sizeof(h));
    *id = h.offset;
    return h.type == BTRFS_QGROUP_INFO_KEY;
}

static bool has_root(int fd, uint64_t subvol)
{
    struct btrfs_ioctl_search_args args = {
        .key = {.tree_id = BTRFS_ROOT_TREE_OBJECTID,
                .min_objectid = subvol,
                .max_objectid = subvol,
                .min_type = BTRFS_ROOT_ITEM_KEY,
                .max_type = BTRFS_ROOT_ITEM_KEY,
                .max_offset = UINT64_MAX,
                .max_transid = UINT64_MAX,
                .nr_items = 1},
    };
    return ioctl(fd, BTRFS_IOC_TREE_SEARCH, &args) < 0 || args.key.nr_items > 0;
}

int btrfs_quota_tidy(int fd, struct err *err)
{
    for (uint64_t id = BTRFS_FIRST_FREE_OBJECTID; next_group(fd, &id); id++) {
        struct btrfs_ioctl_qgroup_create_args args = {.qgroupid = id};
        if (!has_root(fd, id) && ioctl(fd, BTRFS_IOC_QGROUP_CREATE, &args) < 0 && errno != ENOENT &&
            errno != EBUSY)
            return err_sys(err, "cannot remove the quota group of subvolume %" PRIu64, id);
    }
    return 0;
}
