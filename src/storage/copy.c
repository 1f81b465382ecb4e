/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "storage/copy.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/path.h"
#include "base/str.h"
#include "storage/driver.h"
#include "storage/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <time.h>

#define LINKS      ".links"
#define CHUNK      (16u << 20) /* between two looks at whether somebody cancelled */
#define BUFFER     (256u << 10)
#define REPORT_MS  200
#define PATH_ROOM  (FD_PATH_MAX + NAME_MAX + 2)
#define OPEN_FLAGS (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)

struct copy {
    int to;    /* the directory that is being filled */
    int above; /* where .links is made */
    /* Of every file with more than one name a link lies here under its inode's number until the
     * end: no table of names in memory, and no path that may be too long. */
    int links;
    bool no_clone, no_range; /* the kernel said that it cannot */
    uint64_t bytes, files, expect;
    const struct storage_step *step;
    int64_t reported_ms;
    char *buffer;               /* BUFFER bytes, made when it is needed */
    char names[XATTR_LIST_MAX]; /* of extended attributes */
    char value[XATTR_SIZE_MAX];
};

static int tell(struct copy *c, struct err *err)
{
    char size[NUMBER_TEXT], text[96];
    int percent = -1;
    if (c->expect)
        percent = c->bytes < c->expect ? (int)(c->bytes * 100 / c->expect) : 99;
    str_print(text, sizeof(text), "copied %s%s in %" PRIu64 " file%s",
              number_format_size(c->bytes, size), c->bytes < 1024 ? " bytes" : "", c->files,
              c->files == 1 ? "" : "s");
    if (c->step->progress(c->step->ctx, percent, text) != 0)
        return err_set(err, ERR_CANCELLED, "it was cancelled");
    return 0;
}

static int report(struct copy *c, struct err *err)
{
    if (!c->step || !c->step->progress || clock_ms() - c->reported_ms < REPORT_MS)
        return 0;
    c->reported_ms = clock_ms();
    return tell(c, err);
}

/* How much it was, which also a short copy tells. */
static int report_end(struct copy *c, struct err *err)
{
    return c->step && c->step->progress && c->files ? tell(c, err) : 0;
}

/* ---- extended attributes ---- */

/* An open file, or (fd -1) a name in a directory: links and devices cannot be opened. */
struct place {
    int fd, dir;
    const char *name;
};

/* A path whose last component is not followed by the l… calls. */
static const char *place_path(const struct place *p, char buf[PATH_ROOM])
{
    str_print(buf, PATH_ROOM, "/proc/self/fd/%d/%s", p->dir, p->name);
    return buf;
}

/* What may get lost: labels that the other file system or this kernel does not know. */
static bool may_get_lost(const char *name)
{
    return !str_starts(name, "user.") && !str_starts(name, "trusted.") &&
           !str_eq(name, "security.capability") && !str_starts(name, "system.posix_acl_");
}

static int copy_xattrs(struct copy *c, const struct place *from, const struct place *to,
                       struct err *err)
{
    char path[PATH_ROOM], shown[WALK_SHOWN];
    ssize_t len = from->fd >= 0 ? flistxattr(from->fd, c->names, sizeof(c->names))
                                : llistxattr(place_path(from, path), c->names, sizeof(c->names));
    if (len < 0 && errno != EOPNOTSUPP)
        return err_sys(err, "cannot list the attributes of %s", walk_shown(from->name, shown));
    for (const char *name = c->names; len > 0 && name < c->names + len; name += strlen(name) + 1) {
        ssize_t n = from->fd >= 0
                        ? fgetxattr(from->fd, name, c->value, sizeof(c->value))
                        : lgetxattr(place_path(from, path), name, c->value, sizeof(c->value));
        if (n >= 0 &&
            (to->fd >= 0 ? fsetxattr(to->fd, name, c->value, (size_t)n, 0)
                         : lsetxattr(place_path(to, path), name, c->value, (size_t)n, 0)) == 0)
            continue;
        if (may_get_lost(name))
            continue;
        return pool_sys(err, errno, "cannot keep the attribute %.64s of %s", name,
                        walk_shown(from->name, shown));
    }
    return 0;
}

/* Of an open file or directory.  Owner first: chown(2) takes set-id bits and capabilities away. */
static int copy_meta(struct copy *c, int from, int to, const char *name, const struct stat *st,
                     struct err *err)
{
    char shown[WALK_SHOWN];
    if (fchown(to, st->st_uid, st->st_gid) < 0 || fchmod(to, st->st_mode & 07777) < 0)
        return pool_sys(err, errno, "cannot set the owner of %s", walk_shown(name, shown));
    const struct place a = {.fd = from, .name = name}, b = {.fd = to, .name = name};
    int r = copy_xattrs(c, &a, &b, err);
    if (r < 0)
        return r;
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    if (futimens(to, times) < 0)
        return pool_sys(err, errno, "cannot set the times of %s", walk_shown(name, shown));
    return 0;
}

/* ---- data ---- */

static int copy_by_hand(struct copy *c, int in, int out, off_t at, off_t end, struct err *err)
{
    if (!c->buffer && !(c->buffer = malloc(BUFFER)))
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    while (at < end) {
        size_t want = end - at < (off_t)BUFFER ? (size_t)(end - at) : BUFFER;
        ssize_t n = pread(in, c->buffer, want, at);
        if (n == 0)
            return 0;
        if (n < 0)
            return err_sys(err, "cannot read");
        for (ssize_t done = 0, w; done < n; done += w)
            if ((w = pwrite(out, c->buffer + done, (size_t)(n - done), at + done)) < 0)
                return pool_sys(err, errno, "cannot write");
        at += n;
        c->bytes += (uint64_t)n;
        int r = report(c, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int copy_range(struct copy *c, int in, int out, off_t at, off_t end, struct err *err)
{
    while (at < end && !c->no_range) {
        off_t from = at, to = at;
        size_t want = end - at < (off_t)CHUNK ? (size_t)(end - at) : CHUNK;
        ssize_t n = copy_file_range(in, &from, out, &to, want, 0);
        if (n == 0)
            return 0; /* it became shorter */
        if (n < 0 && (errno == EXDEV || errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL))
            c->no_range = true;
        else if (n < 0)
            return pool_sys(err, errno, "cannot copy");
        if (n > 0) {
            at += n;
            c->bytes += (uint64_t)n;
        }
        int r = report(c, err);
        if (r < 0)
            return r;
    }
    return copy_by_hand(c, in, out, at, end, err);
}

static int copy_data(struct copy *c, int in, int out, const struct stat *st, struct err *err)
{
    if (st->st_size == 0)
        return 0;
    if (!c->no_clone) {
        if (ioctl(out, FICLONE, in) == 0) {
            c->bytes += (uint64_t)st->st_size;
            return report(c, err);
        }
        /* EINVAL is said of single files too (btrfs: one with checksums and one without). */
        if (errno == EOPNOTSUPP || errno == ENOTTY || errno == EXDEV)
            c->no_clone = true;
        else if (errno != EINVAL)
            return pool_sys(err, errno, "cannot copy");
    }
    bool holes = (uint64_t)st->st_blocks * 512 < (uint64_t)st->st_size;
    if (!holes)
        return copy_range(c, in, out, 0, st->st_size, err);
    for (off_t at = 0; at < st->st_size;) {
        off_t from = lseek(in, at, SEEK_DATA);
        if (from < 0 && errno == ENXIO)
            break; /* nothing but a hole up to the end */
        off_t end = from < 0 ? -1 : lseek(in, from, SEEK_HOLE);
        if (end < 0)
            return err_sys(err, "cannot find its holes");
        int r = copy_range(c, in, out, from, end, err);
        if (r < 0)
            return r;
        at = end;
    }
    return ftruncate(out, st->st_size) < 0 ? pool_sys(err, errno, "cannot copy") : 0;
}

/* ---- entries ---- */

static int copy_file(struct copy *c, int dir, const char *name, const struct stat *st,
                     struct err *err)
{
    char shown[WALK_SHOWN];
    auto_fd int in = openat(dir, name, OPEN_FLAGS | O_NOATIME);
    if (in < 0)
        return err_sys(err, "cannot open %s", walk_shown(name, shown));
    auto_fd int out =
        openat(c->to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out < 0)
        return pool_sys(err, errno, "cannot make %s", walk_shown(name, shown));
    int r = copy_data(c, in, out, st, err);
    if (r < 0)
        return err_wrap(err, "%s", walk_shown(name, shown));
    return copy_meta(c, in, out, name, st, err);
}

/* Links, devices, pipes and sockets. */
static int copy_node(struct copy *c, int dir, const char *name, const struct stat *st,
                     struct err *err)
{
    char target[PATH_MAX], shown[WALK_SHOWN];
    int r = 0;
    if (S_ISLNK(st->st_mode)) {
        ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);
        if (n >= 0) {
            target[n] = '\0';
            r = symlinkat(target, c->to, name);
        } else {
            r = -1;
        }
    } else {
        r = mknodat(c->to, name, st->st_mode, st->st_rdev);
    }
    if (r < 0 || fchownat(c->to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        (!S_ISLNK(st->st_mode) && fchmodat(c->to, name, st->st_mode & 07777, 0) < 0))
        return pool_sys(err, errno, "cannot make %s", walk_shown(name, shown));
    const struct place a = {-1, dir, name}, b = {-1, c->to, name};
    if ((r = copy_xattrs(c, &a, &b, err)) < 0)
        return r;
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    if (utimensat(c->to, name, times, AT_SYMLINK_NOFOLLOW) < 0)
        return pool_sys(err, errno, "cannot set the times of %s", walk_shown(name, shown));
    return 0;
}

static int open_links(struct copy *c, struct err *err)
{
    return c->links >= 0 ? 0 : path_make_dir_at(c->above, LINKS, 0700, &c->links, err);
}

/* Links `name` to the copy that is there already: 1; there is none yet: 0. */
static int link_again(struct copy *c, const char *ino, const char *name, struct err *err)
{
    char shown[WALK_SHOWN];
    if (linkat(c->links, ino, c->to, name, 0) == 0)
        return 1;
    if (errno == ENOENT)
        return 0;
    /* As many links as the file system allows: the last one is ours. */
    if (errno == EMLINK && renameat(c->links, ino, c->to, name) == 0)
        return 1;
    return pool_sys(err, errno, "cannot link %s", walk_shown(name, shown));
}

static int copy_entry(void *ctx, int dir, const char *name, const struct stat *st, struct err *err)
{
    struct copy *c = ctx;
    char ino[STORAGE_ID_TEXT], shown[WALK_SHOWN];
    int r = report(c, err);
    if (r < 0)
        return r;
    if (st->st_nlink > 1) {
        str_print(ino, sizeof(ino), "%" PRIu64, (uint64_t)st->st_ino);
        if ((r = open_links(c, err)) < 0 || (r = link_again(c, ino, name, err)) != 0)
            return r < 0 ? r : 0;
    }
    r = S_ISREG(st->st_mode) ? copy_file(c, dir, name, st, err) : copy_node(c, dir, name, st, err);
    if (r < 0)
        return r;
    c->files++;
    if (st->st_nlink > 1 && linkat(c->to, name, c->links, ino, 0) < 0)
        return pool_sys(err, errno, "cannot link %s", walk_shown(name, shown));
    return 0;
}

static int copy_enter(void *ctx, int dir, const char *name, struct err *err)
{
    struct copy *c = ctx;
    char shown[WALK_SHOWN];
    if (!name)
        return 0;
    if (mkdirat(c->to, name, 0700) < 0)
        return pool_sys(err, errno, "cannot make directory %s", walk_shown(name, shown));
    int next = openat(c->to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0)
        return err_sys(err, "cannot open directory %s", walk_shown(name, shown));
    cleanup_fd(&c->to);
    c->to = next;
    c->files++;
    return 0;
}

/* Not before it is full: a default ACL and a set-group-id bit are inherited, and the times move. */
static int copy_leave(void *ctx, int dir, bool top, struct err *err)
{
    struct copy *c = ctx;
    struct stat st;
    if (fstat(dir, &st) < 0)
        return err_sys(err, "cannot look at a directory");
    int r = copy_meta(c, dir, c->to, "a directory", &st, err);
    if (r < 0 || top)
        return r;
    int up = openat(c->to, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (up < 0)
        return err_sys(err, "cannot go up");
    cleanup_fd(&c->to);
    c->to = up;
    return 0;
}

int copy_tree(int from, int to, int above, uint64_t expect, const struct storage_step *step,
              struct err *err)
{
    struct err own = {0}; /* err_wrap() keeps the kind only where there is a struct err */
    err = err ? err : &own;
    auto_free struct copy *c = malloc(sizeof(*c));
    if (!c)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    c->to = openat(to, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    c->above = above;
    c->links = -1;
    c->no_clone = c->no_range = false;
    c->bytes = c->files = 0;
    c->expect = expect;
    c->step = step;
    c->reported_ms = clock_ms();
    c->buffer = NULL;
    if (c->to < 0)
        return err_sys(err, "cannot open a directory");
    const struct walk w = {c, copy_entry, copy_enter, copy_leave};
    int r = walk_tree(from, &w, err);
    if (r == 0)
        r = report_end(c, err);
    cleanup_fd(&c->to);
    cleanup_fd(&c->links);
    free(c->buffer);
    int clean = path_remove_tree_at(above, LINKS, r < 0 ? NULL : err);
    return r < 0 ? r : clean;
}
