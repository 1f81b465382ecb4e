/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pool — opening a pool, the names in it, its spare trees and its trash.
 */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/path.h"
#include "base/str.h"
#include "kernel/btrfs.h"
#include "kernel/process.h"
#include "storage/driver.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

/* A tree under construction is born in the trash and renamed out of it, so that a crash between
 * leaves nothing outside of the trash. */
#define NEW_PREFIX "new-"
/* Empty trees made in advance: on ext4 a mkdir(2) looks at every inode of its block group that was
 * deleted in the last seconds (recently_deleted() in fs/ext4/ialloc.c): up to 0.5 ms was seen for
 * one directory, where a rename takes 0.02 ms. */
#define SPARE_TREES 16

static const struct storage_ops *const drivers[] = {&storage_dir, &storage_btrfs, &storage_xfs};

const struct storage_ops *storage_driver(const char *name, struct err *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
        if (str_eq(drivers[i]->name, name))
            return drivers[i];
    err_set(err, ERR_USAGE, "there is no driver \"%.32s\" of pools; take dir, btrfs or xfs", name);
    return NULL;
}

int storage_driver_check(const char *name, struct err *err)
{
    return storage_driver(name, err) ? 0 : -err->kind;
}

uint64_t storage_image_min(const char *driver)
{
    const struct storage_ops *ops = storage_driver(driver, NULL);
    return ops && ops->image ? ops->image->min : 0;
}

static void close_pool(struct storage_pool **p)
{
    storage_pool_close(*p);
}

/*
 * Trees have nothing to do with each other: ext4 puts what is made in here far apart.  Else all
 * trees are in one group of inodes, where it looks at each that was deleted in the last minutes
 * before it takes one (recently_deleted() in 6.18: a tenth of a start beside a thousand others).
 * Other file systems do not know the flag.
 */
static void spread(int dir)
{
    int flags;
    if (ioctl(dir, FS_IOC_GETFLAGS, &flags) < 0 || flags & FS_TOPDIR_FL)
        return;
    flags |= FS_TOPDIR_FL;
    ioctl(dir, FS_IOC_SETFLAGS, &flags);
}

static int open_dirs(struct storage_pool *p, struct err *err)
{
    int r = path_make_dirs(p->path, 0700, err);
    if (r < 0)
        return r;
    p->dir = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->dir < 0)
        return err_sys(err, "cannot open its directory");
    /* The root of a new file system is open to everybody. */
    if (p->image && fchmod(p->dir, 0700) < 0 && errno != EROFS)
        return err_sys(err, "cannot set the mode of its directory");
    if ((r = path_make_dir_at(p->dir, ".trash", 0700, &p->trash, err)) < 0)
        return r;
    spread(p->trash);
    if ((r = path_make_dir_at(p->dir, ".saved", 0700, &p->saved, err)) < 0)
        return r;
    if ((r = path_make_dir_at(p->dir, ".spare", 0700, &p->spare, err)) < 0)
        return r;
    return btrfs_is(p->dir) ? btrfs_sysfs(p->dir, &p->sysfs, err) : 0;
}

int storage_pool_open(const struct storage_spec *spec, struct storage_pool **ret, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    const struct storage_ops *ops = storage_driver(spec->driver, err);
    if (!ops)
        return -err->kind;
    auto_clean(close_pool) struct storage_pool *p = calloc(1, sizeof(*p));
    if (spec->image && !ops->image)
        return err_set(err, ERR_USAGE, "a pool with the driver %s lives in no image", ops->name);
    if (!p)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    p->dir = p->saved = p->spare = p->trash = p->sysfs = -1;
    p->ops = ops;
    p->path = strdup(spec->path);
    p->image = spec->image ? strdup(spec->image) : NULL;
    p->name = strdup(spec->name ? spec->name : spec->path);
    if (!p->path || !p->name || (spec->image && !p->image))
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if ((spec->image && image_mount(spec, ops->image, err) < 0) || open_dirs(p, err) < 0 ||
        ops->start(p, err) < 0 || tree_settle_all(p, err) < 0)
        return err_wrap(err, "cannot open the pool %s", spec->path);
    *ret = steal_ptr(&p);
    return 0;
}

void storage_pool_close(struct storage_pool *p)
{
    if (!p)
        return;
    cleanup_fd(&p->dir);
    cleanup_fd(&p->saved);
    cleanup_fd(&p->spare);
    cleanup_fd(&p->trash);
    cleanup_fd(&p->sysfs);
    free(p->path);
    free(p->image);
    free(p->name);
    free(p);
}

size_t storage_pool_fds(const struct storage_pool *p, int ret[STORAGE_FDS])
{
    const int fds[STORAGE_FDS] = {p->dir, p->saved, p->spare, p->trash, p->sysfs};
    memcpy(ret, fds, sizeof(fds));
    return STORAGE_FDS;
}

const struct storage_can *storage_can(const struct storage_pool *p)
{
    return &p->can;
}

/* ---- names ---- */

static bool is_full(int sys)
{
    return sys == ENOSPC || sys == EDQUOT;
}

int pool_sys(struct err *err, int sys, const char *fmt, ...)
{
    char what[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    if (!is_full(sys))
        return err_sysno(err, sys, "%s", what);
    err_set(err, ERR_EXHAUSTED, "%s", what);
    if (err)
        err->sys = sys;
    return -ERR_EXHAUSTED;
}

int storage_full(const struct storage_pool *p, struct err *err)
{
    char cause[sizeof(err->text)];
    if (err->kind != ERR_EXHAUSTED || !is_full(err->sys))
        return -err->kind;
    memcpy(cause, err->text, sizeof(cause));
    return err_set(
        err, ERR_EXHAUSTED,
        "%.300s: pool %.160s has no space or no inodes left; remove VEs or snapshots in it%s "
        "and try again",
        cause, p->name, p->image ? ", or let it grow (terem pool grow)," : "");
}

int pool_name(int64_t id, char name[STORAGE_ID_TEXT], struct err *err)
{
    if (id <= 0)
        return err_set(err, ERR_INTERNAL, "%" PRId64 " is not the id of a tree", id);
    str_print(name, STORAGE_ID_TEXT, "%" PRId64, id);
    return 0;
}

int pool_open_tree(int dir, const char *name, int *ret_fd, struct err *err)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "there is no tree %s in the pool", name);
    if (fd < 0)
        return err_sys(err, "cannot open tree %s", name);
    *ret_fd = fd;
    return 0;
}

int pool_list(int dir, int64_t **ret, size_t *ret_n, struct err *err)
{
    auto_dir DIR *d = fd_list(dir);
    if (!d)
        return err_sys(err, "cannot list the pool");
    auto_free int64_t *ids = NULL;
    size_t n = 0, room = 0;
    struct dirent *e;
    while ((e = readdir(d))) {
        uint64_t id;
        if (number_parse(e->d_name, 1, INT64_MAX, &id, NULL) < 0)
            continue;
        if (n == room) {
            room = room ? room * 2 : 64;
            int64_t *more = reallocarray(ids, room, sizeof(*ids));
            if (!more)
                return err_set(err, ERR_EXHAUSTED, "out of memory");
            ids = more;
        }
        ids[n++] = (int64_t)id;
    }
    *ret = steal_ptr(&ids);
    *ret_n = n;
    return 0;
}

int storage_list(struct storage_pool *p, int64_t **ret, size_t *ret_n, struct err *err)
{
    return pool_list(p->dir, ret, ret_n, err);
}

int storage_saved_list(struct storage_pool *p, int64_t **ret, size_t *ret_n, struct err *err)
{
    return pool_list(p->saved, ret, ret_n, err);
}

int storage_open(struct storage_pool *p, int64_t id, int *ret_fd, struct err *err)
{
    char name[STORAGE_ID_TEXT];
    int r = pool_name(id, name, err);
    return r < 0 ? r : pool_open_tree(p->dir, name, ret_fd, err);
}

int storage_saved_open(struct storage_pool *p, int64_t saved, int *ret_fd, struct err *err)
{
    char name[STORAGE_ID_TEXT];
    int r = pool_name(saved, name, err);
    if (r < 0)
        return r;
    r = pool_open_tree(p->saved, name, ret_fd, err);
    return r == -ERR_NOT_FOUND
               ? err_set(err, ERR_NOT_FOUND, "there is no saved tree %s in the pool", name)
               : r;
}

/* ---- new trees ---- */

int pool_make_parts(int tree, struct err *err)
{
    if (mkdirat(tree, "upper", 0755) < 0 || mkdirat(tree, "work", 0700) < 0)
        return pool_sys(err, errno, "cannot make a tree");
    /* Not left to the umask: upper's mode is what the VE sees as the mode of its "/". */
    if (fchmodat(tree, "upper", 0755, 0) < 0)
        return err_sys(err, "cannot set the mode of a tree");
    return 0;
}

void pool_draft_path(const char *what, char ret[POOL_TRASH_TEXT])
{
    str_print(ret, POOL_TRASH_TEXT, NEW_PREFIX "%d.%" PRIu64 "-%s", (int)getpid(),
              kernel_process_birth(AT_FDCWD, "/proc/self/stat"), what);
}

int pool_draft_name(struct storage_pool *p, const char *what, char ret[POOL_TRASH_TEXT],
                    struct err *err)
{
    pool_draft_path(what, ret);
    return p->ops->remove(p, p->trash, ret, err); /* of a process that had our pid */
}

/* Makes an empty tree in the trash and renames it to `name` in `dir`. */
static int make_tree(struct storage_pool *p, int dir, const char *name, struct err *err)
{
    char tmp[POOL_TRASH_TEXT];
    int r = pool_draft_name(p, name, tmp, err);
    if (r < 0)
        return r;
    if ((r = p->ops->make(p, p->trash, tmp, err)) == 0) {
        if (renameat2(p->trash, tmp, dir, name, RENAME_NOREPLACE) == 0)
            return 0;
        if (errno == EEXIST)
            r = err_set(err, ERR_EXISTS, "tree %s exists already", name);
        else
            r = pool_sys(err, errno, "cannot make its directory");
    }
    p->ops->remove(p, p->trash, tmp, NULL);
    return r;
}

/*
 * No fsync: the registry's commit that makes the VE known comes after it, and on a journalling
 * file system carries the directories with it; a tree without a VE is found by storage_list().
 */
int storage_create(struct storage_pool *p, int64_t id, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    char name[STORAGE_ID_TEXT], spare[STORAGE_ID_TEXT];
    int r = pool_name(id, name, err);
    if (r < 0)
        return r;
    for (int i = 0; i < SPARE_TREES; i++) {
        str_print(spare, sizeof(spare), "%d", i);
        if (renameat2(p->spare, spare, p->dir, name, RENAME_NOREPLACE) == 0)
            return 0;
        if (errno != ENOENT)
            break;
    }
    return make_tree(p, p->dir, name, err) < 0 ? storage_full(p, err) : 0;
}

/* ---- the trash ---- */

int pool_discard(struct storage_pool *p, int dir, const char *name, struct err *err)
{
    char gone[POOL_TRASH_TEXT];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    for (unsigned n = 0; n < 1000; n++) {
        str_print(gone, sizeof(gone), "%s-%lld-%ld-%u", name, (long long)now.tv_sec, now.tv_nsec,
                  n);
        if (renameat2(dir, name, p->trash, gone, RENAME_NOREPLACE) == 0 || errno == ENOENT)
            return 0;
        if (errno != EEXIST)
            break;
    }
    /* A full file system may have no room for a rename, and has some for removing. */
    if (errno == ENOSPC || errno == EDQUOT)
        return p->ops->remove(p, dir, name, err);
    return err_sys(err, "cannot move tree %s into the trash", name);
}

int storage_commit(struct storage_pool *p, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    return p->ops->commit(p, err) < 0 ? storage_full(p, err) : 0;
}

int storage_remove(struct storage_pool *p, int64_t id, struct err *err)
{
    char name[STORAGE_ID_TEXT];
    int r = pool_name(id, name, err);
    return r < 0 ? r : pool_discard(p, p->dir, name, err);
}

int storage_saved_remove(struct storage_pool *p, int64_t saved, struct err *err)
{
    char name[STORAGE_ID_TEXT];
    auto_fd int tree = -1;
    int r = storage_saved_open(p, saved, &tree, err);
    if (r == -ERR_NOT_FOUND)
        return 0;
    if (r < 0 || (r = pool_name(saved, name, err)) < 0)
        return r;
    r = p->ops->protect ? p->ops->protect(p, tree, false, err) : 0;
    if (r == -ERR_EXHAUSTED)
        return p->ops->remove(p, p->saved, name, err);
    return r < 0 ? r : pool_discard(p, p->saved, name, err);
}

/* Is it a tree that a living process is just making?  Our own are not, since we are here, but for
 * drafts.  After a reboot another process may have its number, but was not born then. */
static bool being_made(const char *name)
{
    char path[48];
    uint64_t birth;
    int pid, len = 0;
    if (sscanf(name, NEW_PREFIX "%d.%" SCNu64 "-%n", &pid, &birth, &len) < 2 || len == 0)
        return false;
    if (pid == getpid())
        return str_starts(name + len, POOL_DRAFT);
    str_print(path, sizeof(path), "/proc/%d/stat", pid);
    return birth != 0 && kernel_process_birth(AT_FDCWD, path) == birth;
}

int storage_empty_trash(struct storage_pool *p, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    auto_dir DIR *d = fd_list(p->trash);
    if (!d)
        return err_sys(err, "cannot list the trash");
    int worst = 0;
    struct dirent *e;
    while ((e = readdir(d))) {
        if (str_eq(e->d_name, ".") || str_eq(e->d_name, "..") || being_made(e->d_name))
            continue;
        /* One tree that cannot go must not keep the others. */
        int r = p->ops->remove(p, p->trash, e->d_name, worst ? NULL : err);
        if (r < 0 && !worst)
            worst = r;
    }
    if (!worst && p->ops->tidy)
        worst = p->ops->tidy(p, err);
    if (worst < 0)
        return err_wrap(err, "cannot empty the trash");
    ballast_fill(p);
    /* Spares are a convenience: no room for them is no failure. */
    for (int i = 0; i < SPARE_TREES; i++) {
        char spare[STORAGE_ID_TEXT];
        str_print(spare, sizeof(spare), "%d", i);
        if (faccessat(p->spare, spare, F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
            make_tree(p, p->spare, spare, NULL) < 0)
            break;
    }
    return 0;
}

bool storage_has_trash(struct storage_pool *p)
{
    auto_dir DIR *d = fd_list(p->trash);
    struct dirent *e;
    while (d && (e = readdir(d)))
        if (!str_eq(e->d_name, ".") && !str_eq(e->d_name, "..") && !being_made(e->d_name))
            return true;
    return false;
}

/* ---- the file system ---- */

static const char *file_system_name(const struct statfs *fs)
{
    static const struct {
        uint32_t magic;
        const char *name;
    } known[] = {
        {EXT4_SUPER_MAGIC, "ext4"},
        {XFS_SUPER_MAGIC, "xfs"},
        {BTRFS_SUPER_MAGIC, "btrfs"},
        {TMPFS_MAGIC, "tmpfs"},
        {OVERLAYFS_SUPER_MAGIC, "overlay"},
        {F2FS_SUPER_MAGIC, "f2fs"},
        {NFS_SUPER_MAGIC, "nfs"},
        {FUSE_SUPER_MAGIC, "fuse"},
        {0x2fc12fc1, "zfs"},
        {0xca451a4e, "bcachefs"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if ((uint32_t)fs->f_type == known[i].magic)
            return known[i].name;
    return "unknown";
}

const char *storage_file_system(const char *path)
{
    struct statfs fs;
    return statfs(path, &fs) == 0 ? file_system_name(&fs) : "unknown";
}

/* Each subvolume of btrfs has a device number, and an f_fsid, of its own. */
int storage_file_system_id(const char *path, uint64_t ret[2], struct err *err)
{
    struct stat st;
    auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, "cannot look at %s", path);
    if (!btrfs_fsid(fd, ret)) {
        ret[0] = st.st_dev;
        ret[1] = 0;
    }
    return 0;
}

/* What fs/overlayfs/super.c asks of an upper: user xattrs (we mount with userxattr) and entry
 * types in readdir; an overlay or a remote file system is refused by it. */
static bool upper_ok(struct storage_pool *p, const struct statfs *fs)
{
    if (fs->f_type == OVERLAYFS_SUPER_MAGIC || fs->f_type == NFS_SUPER_MAGIC)
        return false;
    if (fsetxattr(p->trash, "user.terem.probe", "y", 1, 0) < 0)
        return false;
    fremovexattr(p->trash, "user.terem.probe");
    auto_dir DIR *d = fd_list(p->dir);
    struct dirent *e;
    while (d && (e = readdir(d)))
        if (str_eq(e->d_name, ".trash"))
            return e->d_type == DT_DIR;
    return false;
}

int storage_space(struct storage_pool *p, struct storage_space *ret, struct err *err)
{
    struct statfs fs;
    if (fstatfs(p->dir, &fs) < 0)
        return err_sys(err, "cannot measure the pool");
    uint64_t block = (uint64_t)fs.f_bsize;
    struct storage_space s = {
        .size_bytes = fs.f_blocks * block,
        .free_bytes = fs.f_bavail * block,
        .inodes = fs.f_files,
        .inodes_free = fs.f_ffree,
        .overlay_upper_ok = upper_ok(p, &fs),
    };
    str_print(s.file_system, sizeof(s.file_system), "%s", file_system_name(&fs));
    *ret = s;
    return 0;
}

int storage_free(struct storage_pool *p, uint64_t *ret_size, uint64_t *ret_free, struct err *err)
{
    struct statfs fs;
    uint64_t waits = 0;
    if (fstatfs(p->dir, &fs) < 0)
        return err_sys(err, "cannot measure the pool");
    uint64_t free_bytes = fs.f_bavail * (uint64_t)fs.f_bsize;
    if (p->sysfs >= 0)
        btrfs_reserved(p->sysfs, &waits, &(struct err){0});
    *ret_size = fs.f_blocks * (uint64_t)fs.f_bsize;
    *ret_free = free_bytes > waits ? free_bytes - waits : 0;
    return 0;
}
