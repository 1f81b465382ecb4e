/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kernel/quota.h"

#include <errno.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443 /* since 5.14, on every architecture */
#endif
#define BASIC_BLOCK 512 /* the unit of struct fs_disk_quota, whatever the file system's is */

static long quotactl_project(int fd, int cmd, uint32_t id, void *addr)
{
    return syscall(SYS_quotactl_fd, (unsigned)fd, (unsigned)QCMD(cmd, PRJQUOTA), id, addr);
}

bool quota_project_on(int fd)
{
    struct fs_quota_statv s = {.qs_version = FS_QSTATV_VERSION1};
    return quotactl_project(fd, Q_XGETQSTATV, 0, &s) == 0 && (s.qs_flags & FS_QUOTA_PDQ_ENFD);
}

void quota_project_of(int fd, uint32_t *ret_project, bool *ret_inherited)
{
    struct fsxattr x = {0};
    if (ioctl(fd, FS_IOC_FSGETXATTR, &x) < 0)
        x = (struct fsxattr){0};
    *ret_project = x.fsx_projid;
    *ret_inherited = x.fsx_xflags & FS_XFLAG_PROJINHERIT;
}

int quota_project_set(int fd, uint32_t project, struct err *err)
{
    struct fsxattr x = {0};
    if (ioctl(fd, FS_IOC_FSGETXATTR, &x) < 0)
        return err_sys(err, "cannot read the project of a directory");
    x.fsx_projid = project;
    x.fsx_xflags |= FS_XFLAG_PROJINHERIT;
    if (ioctl(fd, FS_IOC_FSSETXATTR, &x) < 0)
        return err_sys(err, "cannot set the project of a directory");
    return 0;
}

int quota_project_read(int fd, uint32_t project, struct quota *ret, struct err *err)
{
    struct fs_disk_quota q = {0};
    /* xfs: a project without files has no record. */
    if (quotactl_project(fd, Q_XGETQUOTA, project, &q) < 0 && errno != ENOENT)
        return err_sys(err, "cannot read the quota of project %u", project);
    *ret = (struct quota){
        .bytes = q.d_bcount * BASIC_BLOCK,
        .inodes = q.d_icount,
        .bytes_limit = q.d_blk_hardlimit ? q.d_blk_hardlimit * BASIC_BLOCK : UINT64_MAX,
        .inodes_limit = q.d_ino_hardlimit ? q.d_ino_hardlimit : UINT64_MAX,
    };
    return 0;
}

/* 0 means "none" to the kernel; nothing at all cannot be said. */
static uint64_t as_limit(uint64_t n, uint64_t unit)
{
    if (n == UINT64_MAX)
        return 0;
    return n >= unit ? n / unit : 1;
}

int quota_project_limit(int fd, uint32_t project, uint64_t bytes, uint64_t inodes, struct err *err)
{
    struct fs_disk_quota q = {
        .d_version = FS_DQUOT_VERSION,
        .d_flags = FS_PROJ_QUOTA,
        .d_fieldmask = FS_DQ_BSOFT | FS_DQ_BHARD | FS_DQ_ISOFT | FS_DQ_IHARD,
        .d_id = project,
        .d_blk_hardlimit = as_limit(bytes, BASIC_BLOCK),
        .d_ino_hardlimit = as_limit(inodes, 1),
    };
    if (quotactl_project(fd, Q_XSETQLIM, project, &q) < 0)
        return err_sys(err, "cannot set the quota of project %u", project);
    return 0;
}
