/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "storage/storage.h"

#include "base/cleanup.h"
#include "base/number.h"
#include "base/path.h"
#include "base/str.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <signal.h>
#include <string.h>
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
#define ID_TEXT     24
#define TRASH_TEXT  96

struct storage_pool {
    int dir;   /* STATE/pool */
    int trash; /* STATE/pool/.trash */
    int spare; /* STATE/pool/.spare */
};

int storage_pool_open(const char *state, struct storage_pool **ret, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    auto_free char *path = str_format("%s/pool", state);
    auto_free struct storage_pool *p = malloc(sizeof(*p));
    if (!path || !p)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int r = path_make_dirs(path, 0700, err);
    if (r < 0)
        return err_wrap(err, "cannot open the pool");
    auto_fd int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_sys(err, "cannot open the pool %s", path);
    auto_fd int trash = -1, spare = -1;
    if ((r = path_make_dir_at(dir, ".trash", 0700, &trash, err)) < 0 ||
        (r = path_make_dir_at(dir, ".spare", 0700, &spare, err)) < 0)
        return err_wrap(err, "cannot open the pool %s", path);
    *p = (struct storage_pool){steal_fd(&dir), steal_fd(&trash), steal_fd(&spare)};
    *ret = steal_ptr(&p);
    return 0;
}

void storage_pool_close(struct storage_pool *p)
{
    if (!p)
        return;
    cleanup_fd(&p->dir);
    cleanup_fd(&p->trash);
    cleanup_fd(&p->spare);
    free(p);
}

/* What to do about a full file system belongs into the sentence. */
static int full(struct err *err, int sys, const char *what, const char *name)
{
    if (sys == ENOSPC || sys == EDQUOT)
        return err_set(err, ERR_EXHAUSTED,
                       "cannot %s %s: the pool's file system has no space or no inodes left; "
                       "free some and try again",
                       what, name);
    return err_sysno(err, sys, "cannot %s %s", what, name);
}

static int check_id(int64_t id, char name[ID_TEXT], struct err *err)
{
    if (id <= 0)
        return err_set(err, ERR_INTERNAL, "%" PRId64 " is not the id of a tree", id);
    str_print(name, ID_TEXT, "%" PRId64, id);
    return 0;
}

static int make_parts(int trash, const char *tmp, struct err *err)
{
    if (mkdirat(trash, tmp, 0700) < 0)
        return full(err, errno, "make tree", tmp);
    auto_fd int fd = openat(trash, tmp, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open tree %s", tmp);
    if (mkdirat(fd, "upper", 0755) < 0 || mkdirat(fd, "work", 0700) < 0)
        return full(err, errno, "make tree", tmp);
    /* Not left to the umask: upper's mode is what the VE sees as the mode of its "/". */
    if (fchmodat(fd, "upper", 0755, 0) < 0)
        return err_sys(err, "cannot set the mode of tree %s", tmp);
    return 0;
}

/* Makes an empty tree in the trash and renames it to `name` in `dir`. */
static int make_tree(struct storage_pool *p, int dir, const char *name, struct err *err)
{
    char tmp[TRASH_TEXT];
    str_print(tmp, sizeof(tmp), NEW_PREFIX "%d-%s", (int)getpid(), name);
    int r = make_parts(p->trash, tmp, err);
    /* A left-over of a process that had our pid. */
    if (r == -ERR_EXISTS && path_remove_tree_at(p->trash, tmp, NULL) == 0)
        r = make_parts(p->trash, tmp, err);
    if (r == 0) {
        if (renameat2(p->trash, tmp, dir, name, RENAME_NOREPLACE) == 0)
            return 0;
        if (errno == EEXIST)
            r = err_set(err, ERR_EXISTS, "tree %s exists already", name);
        else
            r = full(err, errno, "make tree", name);
    }
    path_remove_tree_at(p->trash, tmp, NULL);
    return r;
}

/*
 * No fsync: the registry's commit that makes the VE known comes after it, and on a journalling
 * file system carries the directories with it; a tree without a VE is found by storage_list().
 */
int storage_create(struct storage_pool *p, int64_t id, struct err *err)
{
    char name[ID_TEXT], spare[ID_TEXT];
    int r = check_id(id, name, err);
    if (r < 0)
        return r;
    for (int i = 0; i < SPARE_TREES; i++) {
        str_print(spare, sizeof(spare), "%d", i);
        if (renameat2(p->spare, spare, p->dir, name, RENAME_NOREPLACE) == 0)
            return 0;
        if (errno != ENOENT)
            break;
    }
    return make_tree(p, p->dir, name, err);
}

int storage_open(struct storage_pool *p, int64_t id, int *ret_fd, struct err *err)
{
    char name[ID_TEXT];
    int r = check_id(id, name, err);
    if (r < 0)
        return r;
    int fd = openat(p->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "there is no tree %s in the pool", name);
    if (fd < 0)
        return err_sys(err, "cannot open tree %s", name);
    *ret_fd = fd;
    return 0;
}

int storage_remove(struct storage_pool *p, int64_t id, struct err *err)
{
    char name[ID_TEXT], gone[TRASH_TEXT];
    int r = check_id(id, name, err);
    if (r < 0)
        return r;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    for (unsigned n = 0; n < 1000; n++) {
        str_print(gone, sizeof(gone), "%s-%lld-%ld-%u", name, (long long)now.tv_sec, now.tv_nsec,
                  n);
        if (renameat2(p->dir, name, p->trash, gone, RENAME_NOREPLACE) == 0 || errno == ENOENT)
            return 0;
        if (errno != EEXIST)
            break;
    }
    return err_sys(err, "cannot move tree %s into the trash", name);
}

/* Is it a tree that a living process is just making?  Our own are not: we are here. */
static bool being_made(const char *name)
{
    if (!str_starts(name, NEW_PREFIX))
        return false;
    char text[ID_TEXT];
    const char *from = name + strlen(NEW_PREFIX);
    if (str_print(text, sizeof(text), "%.*s", (int)strcspn(from, "-"), from) < 0)
        return false;
    uint64_t pid;
    if (number_parse(text, 1, INT32_MAX, &pid, NULL) < 0 || (pid_t)pid == getpid())
        return false;
    return kill((pid_t)pid, 0) == 0 || errno == EPERM;
}

static DIR *list(int dirfd)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d && fd >= 0)
        close(fd);
    return d;
}

int storage_empty_trash(struct storage_pool *p, struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    auto_dir DIR *d = list(p->trash);
    if (!d)
        return err_sys(err, "cannot list the trash");
    int worst = 0;
    struct dirent *e;
    while ((e = readdir(d))) {
        if (str_eq(e->d_name, ".") || str_eq(e->d_name, "..") || being_made(e->d_name))
            continue;
        /* One tree that cannot go must not keep the others. */
        int r = path_remove_tree_at(p->trash, e->d_name, worst ? NULL : err);
        if (r < 0 && !worst)
            worst = r;
    }
    if (worst < 0)
        return err_wrap(err, "cannot empty the trash");
    /* Spares are a convenience: no room for them is no failure. */
    for (int i = 0; i < SPARE_TREES; i++) {
        char spare[ID_TEXT];
        str_print(spare, sizeof(spare), "%d", i);
        if (faccessat(p->spare, spare, F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
            make_tree(p, p->spare, spare, NULL) < 0)
            break;
    }
    return 0;
}

bool storage_has_trash(struct storage_pool *p)
{
    auto_dir DIR *d = list(p->trash);
    struct dirent *e;
    while (d && (e = readdir(d)))
        if (!str_eq(e->d_name, ".") && !str_eq(e->d_name, "..") && !being_made(e->d_name))
            return true;
    return false;
}

int storage_list(struct storage_pool *p, int64_t **ret, size_t *ret_n, struct err *err)
{
    auto_dir DIR *d = list(p->dir);
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

/* What fs/overlayfs/super.c asks of an upper: user xattrs (we mount with userxattr) and entry
 * types in readdir; an overlay or a remote file system is refused by it. */
static bool upper_ok(struct storage_pool *p, const struct statfs *fs)
{
    if (fs->f_type == OVERLAYFS_SUPER_MAGIC || fs->f_type == NFS_SUPER_MAGIC)
        return false;
    if (fsetxattr(p->trash, "user.terem.probe", "y", 1, 0) < 0)
        return false;
    fremovexattr(p->trash, "user.terem.probe");
    auto_dir DIR *d = list(p->dir);
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
