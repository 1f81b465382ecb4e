/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "archive/tree.h"

#include "archive/attr.h"
#include "base/cleanup.h"
#include "base/number.h"
#include "base/path.h"
#include "base/str.h"

#include <fcntl.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define WHITEOUT     ".wh."
#define OPAQUE       ".wh..wh..opq"
#define OPAQUE_XATTR "user.overlay.opaque"
#define ACCESS_ACL   "system.posix_acl_access"
#define DEFAULT_ACL  "system.posix_acl_default"
#define DIR_FLAGS    (O_RDONLY | O_DIRECTORY | O_NOFOLLOW)

const char *tree_shown(const char *name, char buf[TREE_SHOWN])
{
    auto_str struct str s = str_init(4 * PATH_MAX + 1);
    str_escape(&s, name, strnlen(name, 64));
    str_print(buf, TREE_SHOWN, "%.80s%s", str_c(&s),
              strnlen(name, 65) > 64 || s.len > 80 ? "…" : "");
    return buf;
}

void tree_init(struct tree *t, int root, const struct tree_limits *max)
{
    *t = (struct tree){.root = root, .max = *max, .parent = -1};
}

static void leave_parent(struct tree *t)
{
    if (t->parent < 0)
        return;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, t->parent_mtime};
    futimens(t->parent, times);
    cleanup_fd(&t->parent);
}

void tree_done(struct tree *t)
{
    leave_parent(t);
}

int tree_sys(struct err *err, int dirfd, int sys, const char *what, const char *name)
{
    char text[TREE_SHOWN];
    if (sys == ENOSPC || sys == EDQUOT) {
        struct statfs fs;
        bool inodes = fstatfs(dirfd, &fs) == 0 && fs.f_files > 0 && fs.f_ffree < 2;
        err_set(err, ERR_EXHAUSTED,
                "cannot %s %s: the file system of Terem's state has no %s left; remove templates "
                "or other files there and try again",
                what, tree_shown(name, text), inodes ? "inodes" : "space");
        if (err) /* for one who unpacks elsewhere */
            err->sys = sys;
        return -ERR_EXHAUSTED;
    }
    return err_sysno(err, sys, "cannot %s %s", what, tree_shown(name, text));
}

static int refuse(struct err *err, const char *name, const char *why)
{
    char text[TREE_SHOWN];
    return err_set(err, ERR_CORRUPT, "the archive has an entry \"%s\" that %s",
                   tree_shown(name, text), why);
}

/* "./a//b/" → "a/b"; the root is "". */
static int normalise(const char *name, char out[PATH_MAX], struct err *err)
{
    size_t n = 0, depth = 0;
    for (const char *p = name; *p;) {
        size_t len = strcspn(p, "/");
        if (len > NAME_MAX)
            return refuse(err, name, "has a name of more than 255 bytes");
        if (len == 2 && p[0] == '.' && p[1] == '.')
            return refuse(err, name, "leads outside with \"..\"");
        if (len && !(len == 1 && p[0] == '.')) {
            if (n + len + 2 > PATH_MAX)
                return refuse(err, name, "has a path of more than 4095 bytes");
            if (++depth > TREE_DEPTH_MAX)
                return refuse(err, name, "is more than 256 directories deep");
            if (n)
                out[n++] = '/';
            memcpy(out + n, p, len);
            n += len;
        }
        p += len;
        while (*p == '/')
            p++;
    }
    out[n] = '\0';
    return 0;
}

/* Opens directory `path` (normalised) below the root, never through a symbolic link. */
static int open_dir(struct tree *t, const char *path, int *ret_fd)
{
    return path_open_beneath(t->root, *path ? path : ".", DIR_FLAGS, 0, ret_fd, NULL);
}

/* Removes what stands in the way of a new entry. */
static int clear_way(struct tree *t, int dir, const char *base, const char *name, struct err *err)
{
    if (unlinkat(dir, base, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return tree_sys(err, t->root, errno, "replace", name);
    int r = path_remove_tree_at(dir, base, err);
    return r < 0 ? err_wrap(err, "cannot replace a directory") : 0;
}

static bool is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

static int set_opaque(struct tree *t, int dir, const char *name, struct err *err)
{
    if (fsetxattr(dir, OPAQUE_XATTR, "y", 1, 0) < 0)
        return tree_sys(err, t->root, errno, "mark as opaque", name);
    return 0;
}

/* Makes or keeps directory `base`; one that takes the place of a whiteout hides what is below. */
static int make_dir(struct tree *t, int dir, const char *base, const char *name, int *ret_fd,
                    struct err *err)
{
    bool opaque = false, made = true;
    if (mkdirat(dir, base, 0755) < 0) {
        struct stat st;
        if (errno != EEXIST)
            return tree_sys(err, t->root, errno, "make directory", name);
        if (fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return tree_sys(err, t->root, errno, "look at", name);
        opaque = is_whiteout(&st);
        made = !S_ISDIR(st.st_mode);
        if (made && (unlinkat(dir, base, 0) < 0 || mkdirat(dir, base, 0755) < 0))
            return tree_sys(err, t->root, errno, "make directory", name);
    }
    auto_fd int fd = openat(dir, base, DIR_FLAGS | O_CLOEXEC);
    if (fd < 0)
        return tree_sys(err, t->root, errno, "open directory", name);
    if (made && fchmod(fd, 0755) < 0) /* whatever the umask is */
        return tree_sys(err, t->root, errno, "make directory", name);
    int r = opaque ? set_opaque(t, fd, name, err) : 0;
    if (r < 0)
        return r;
    *ret_fd = steal_fd(&fd);
    return 0;
}

/* Makes the missing directories of `path`, one component after the other.  What is in the way and
 * is not a directory is refused if it is a symbolic link, and else replaced. */
static int make_parents(struct tree *t, const char *path, int *ret_fd, struct err *err)
{
    auto_fd int here = fcntl(t->root, F_DUPFD_CLOEXEC, 0);
    if (here < 0)
        return err_sys(err, "cannot keep the layer open");
    for (const char *p = path; *p;) {
        char part[NAME_MAX + 1];
        size_t len = strcspn(p, "/");
        memcpy(part, p, len);
        part[len] = '\0';
        struct stat st, above;
        if (fstat(here, &above) < 0)
            return tree_sys(err, t->root, errno, "look at", path);
        if (fstatat(here, part, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
            return refuse(err, path, "goes through a symbolic link of the same layer");
        int next = -1;
        int r = make_dir(t, here, part, path, &next, err);
        if (r < 0)
            return r;
        struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, above.st_mtim};
        futimens(here, times);
        close(here);
        here = next;
        p += len;
        p += *p == '/';
    }
    *ret_fd = steal_fd(&here);
    return 0;
}

/* Makes t->parent the directory of `path` and points *ret_base to its last component. */
static int enter_parent(struct tree *t, const char *path, const char **ret_base, struct err *err)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    *ret_base = slash ? slash + 1 : path;
    if (t->parent >= 0 && strlen(t->parent_name) == len && memcmp(t->parent_name, path, len) == 0)
        return 0;
    leave_parent(t);
    char dir[PATH_MAX];
    memcpy(dir, path, len);
    dir[len] = '\0';
    auto_fd int fd = -1;
    if (open_dir(t, dir, &fd) < 0) {
        int r = make_parents(t, dir, &fd, err);
        if (r < 0)
            return r;
    }
    struct stat st;
    if (fstat(fd, &st) < 0)
        return tree_sys(err, t->root, errno, "look at", path);
    t->parent_mtime = st.st_mtim;
    t->parent_acl = fgetxattr(fd, DEFAULT_ACL, NULL, 0) > 0;
    memcpy(t->parent_name, dir, len + 1);
    t->parent = steal_fd(&fd);
    return 0;
}

static int set_xattrs(struct tree *t, int fd, const struct tree_entry *e, struct err *err)
{
    for (size_t i = 0; i < e->n_xattrs; i++) {
        const struct tree_xattr *x = &e->xattrs[i];
        unsigned char buf[ATTR_CAPABILITY_V2];
        const void *value = x->value;
        size_t size = x->size;
        if (!attr_keep(x->name, t->exact, &value, &size, buf))
            continue;
        if (S_ISDIR(e->mode) && str_eq(x->name, "security.capability"))
            continue;
        if (fsetxattr(fd, x->name, value, size, 0) == 0)
            continue;
        char text[TREE_SHOWN], attr[TREE_SHOWN];
        if (errno == EINVAL) /* an ACL that contradicts itself */
            return refuse(err, e->name, "has a damaged extended attribute");
        /* ext4 says ENOSPC for a value that is larger than a block. */
        return err_sys(err, "cannot keep the attribute %s (%zu bytes) of %s",
                       tree_shown(x->name, attr), size, tree_shown(e->name, text));
    }
    return 0;
}

static void clear_xattrs(int fd)
{
    char names[65536];
    ssize_t n = flistxattr(fd, names, sizeof(names));
    for (const char *p = names; n > 0 && p < names + n; p += strlen(p) + 1)
        fremovexattr(fd, p);
}

/* Owner first: chown(2) takes set-id bits and capabilities away. */
static int set_meta(struct tree *t, int fd, const struct tree_entry *e, struct err *err)
{
    if (fchown(fd, (uid_t)e->uid, (gid_t)e->gid) < 0 || fchmod(fd, e->mode & 07777) < 0)
        return tree_sys(err, t->root, errno, "set the owner of", e->name);
    if (t->parent >= 0 && t->parent_acl) { /* inherited, and not what the archive says */
        fremovexattr(fd, ACCESS_ACL);
        fremovexattr(fd, DEFAULT_ACL);
    }
    if (t->exact && S_ISDIR(e->mode))
        clear_xattrs(fd); /* of an earlier backup, over which this one comes */
    int r = set_xattrs(t, fd, e, err);
    if (r < 0)
        return r;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, e->mtime};
    if (futimens(fd, times) < 0)
        return tree_sys(err, t->root, errno, "set the time of", e->name);
    return 0;
}

static int add_dir(struct tree *t, const char *path, const struct tree_entry *e, struct err *err)
{
    auto_fd int fd = -1;
    int r;
    if (!*path) {
        leave_parent(t); /* its mtime may be the root's */
        fd = fcntl(t->root, F_DUPFD_CLOEXEC, 0);
        return fd < 0 ? err_sys(err, "cannot keep the layer open") : set_meta(t, fd, e, err);
    }
    const char *base;
    if ((r = enter_parent(t, path, &base, err)) < 0 ||
        (r = make_dir(t, t->parent, base, e->name, &fd, err)) < 0)
        return r;
    return set_meta(t, fd, e, err);
}

/* A link to a file of this same layer. */
static int add_hard(struct tree *t, const char *path, const struct tree_entry *e, struct err *err)
{
    char target[PATH_MAX];
    int r = normalise(e->link, target, err);
    if (r < 0)
        return r;
    const char *base, *slash = strrchr(target, '/');
    char dir[PATH_MAX] = "";
    if (slash) {
        memcpy(dir, target, (size_t)(slash - target));
        dir[slash - target] = '\0';
    }
    auto_fd int from = -1;
    struct stat st;
    const char *last = slash ? slash + 1 : target;
    if (!*target || open_dir(t, dir, &from) < 0 ||
        fstatat(from, last, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return refuse(err, e->name, "is a hard link to a file that is not in the layer");
    /* The overlay makes its whiteouts as links to one. */
    bool linkable = S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode) ||
                    (t->exact && (S_ISLNK(st.st_mode) || is_whiteout(&st)));
    if (!linkable)
        return refuse(err, e->name, "is a hard link to something that is not a file");
    if (str_eq(path, target))
        return 0;
    if ((r = enter_parent(t, path, &base, err)) < 0 ||
        (r = clear_way(t, t->parent, base, e->name, err)) < 0)
        return r;
    if (linkat(from, last, t->parent, base, 0) == 0)
        return 0;
    /* clear_way() may have removed the target with its directory. */
    if (errno == ENOENT)
        return refuse(err, e->name, "is a hard link to a file that it replaces");
    return tree_sys(err, t->root, errno, "make hard link", e->name);
}

static int add_node(struct tree *t, const char *path, const struct tree_entry *e, struct err *err)
{
    const char *base;
    int r = enter_parent(t, path, &base, err);
    if (r < 0 || (r = clear_way(t, t->parent, base, e->name, err)) < 0)
        return r;
    if (S_ISLNK(e->mode)) {
        size_t len = e->link ? strnlen(e->link, PATH_MAX) : 0;
        if (len == 0 || len >= PATH_MAX)
            return refuse(err, e->name, "is a symbolic link to nothing or of more than 4095 bytes");
        if (symlinkat(e->link, t->parent, base) < 0)
            return tree_sys(err, t->root, errno, "make symbolic link", e->name);
    } else if (mknodat(t->parent, base, (e->mode & S_IFMT) | 0600, makedev(0, 0)) < 0 ||
               fchmodat(t->parent, base, e->mode & 07777, 0) < 0) {
        return tree_sys(err, t->root, errno, S_ISFIFO(e->mode) ? "make fifo" : "make whiteout",
                        e->name);
    }
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, e->mtime};
    if (fchownat(t->parent, base, (uid_t)e->uid, (gid_t)e->gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        utimensat(t->parent, base, times, AT_SYMLINK_NOFOLLOW) < 0)
        return tree_sys(err, t->root, errno, "set the owner of", e->name);
    return 0;
}

static int add_file(struct tree *t, const char *path, const struct tree_entry *e, int *ret_fd,
                    struct err *err)
{
    if (!number_add(t->logical, e->size, &t->logical) || t->logical > t->max.logical) {
        char size[NUMBER_TEXT];
        return err_set(err, ERR_EXHAUSTED,
                       "the files of the archive are more than %s large, holes included",
                       number_format_size(t->max.logical, size));
    }
    const char *base;
    int r = enter_parent(t, path, &base, err);
    if (r < 0)
        return r;
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(t->parent, base, flags, 0600);
    if (fd < 0 && errno == EEXIST) {
        if ((r = clear_way(t, t->parent, base, e->name, err)) < 0)
            return r;
        fd = openat(t->parent, base, flags, 0600);
    }
    if (fd < 0)
        return tree_sys(err, t->root, errno, "create", e->name);
    *ret_fd = fd;
    return 0;
}

/* A whiteout hides lower layers only: what this layer has itself under the name stays. */
static int add_whiteout(struct tree *t, const char *path, const char *base,
                        const struct tree_entry *e, struct err *err)
{
    int r = enter_parent(t, path, &base, err);
    if (r < 0)
        return r;
    if (str_eq(base, OPAQUE))
        return set_opaque(t, t->parent, e->name, err);
    const char *hidden = base + strlen(WHITEOUT);
    if (str_starts(hidden, WHITEOUT)) /* aufs's own bookkeeping */
        return 0;
    if (!*hidden || str_eq(hidden, ".") || str_eq(hidden, ".."))
        return refuse(err, e->name, "is a whiteout of nothing");
    struct stat st;
    if (fstatat(t->parent, hidden, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        if (!S_ISDIR(st.st_mode))
            return 0;
        auto_fd int fd = openat(t->parent, hidden, DIR_FLAGS | O_CLOEXEC);
        return fd < 0 ? tree_sys(err, t->root, errno, "open directory", e->name)
                      : set_opaque(t, fd, e->name, err);
    }
    if (errno != ENOENT || mknodat(t->parent, hidden, S_IFCHR, makedev(0, 0)) < 0)
        return tree_sys(err, t->root, errno, "make whiteout", e->name);
    return 0;
}

/* What a tree that is exact cannot take whoever it is written for. */
static int check_exact(const struct tree_entry *e, struct err *err)
{
    char attr[TREE_SHOWN], text[TREE_SHOWN];
    for (size_t i = 0; i < e->n_xattrs; i++)
        if (!attr_exact(e->xattrs[i].name, e->xattrs[i].value, e->xattrs[i].size, S_ISDIR(e->mode)))
            return err_set(err, ERR_CORRUPT,
                           "the archive has an entry \"%s\" with the attribute %s, which no VE's "
                           "layer has there",
                           tree_shown(e->name, text), tree_shown(e->xattrs[i].name, attr));
    bool node = S_ISCHR(e->mode) || S_ISBLK(e->mode) || S_ISSOCK(e->mode);
    if (!e->hard && node && !(S_ISCHR(e->mode) && e->device == makedev(0, 0)))
        return refuse(err, e->name, "is a device or a socket");
    return 0;
}

int tree_check(const struct tree_entry *e, bool exact, char path[PATH_MAX], struct err *err)
{
    int r = normalise(e->name, path, err);
    if (r < 0)
        return r;
    if (e->uid > TREE_ID_MAX || e->gid > TREE_ID_MAX) {
        char text[TREE_SHOWN];
        return err_set(err, ERR_UNSUPPORTED,
                       "%s belongs to %llu:%llu and a VE has only the ids 0–65535; shift the ids "
                       "down before packing",
                       tree_shown(e->name, text), (unsigned long long)e->uid,
                       (unsigned long long)e->gid);
    }
    if (!*path && !S_ISDIR(e->mode))
        return refuse(err, e->name, "would replace the root");
    return exact ? check_exact(e, err) : 0;
}

int tree_add(struct tree *t, const struct tree_entry *e, int *ret_fd, struct err *err)
{
    *ret_fd = -1;
    if (++t->entries > t->max.entries)
        return err_set(err, ERR_EXHAUSTED, "the archive has more than %llu entries",
                       (unsigned long long)t->max.entries);
    char path[PATH_MAX];
    int r = tree_check(e, t->exact, path, err);
    if (r < 0)
        return r;
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    if (!t->exact && str_starts(base, WHITEOUT))
        return add_whiteout(t, path, base, e, err);
    if (e->hard)
        return add_hard(t, path, e, err);
    switch (e->mode & S_IFMT) {
    case S_IFDIR:
        return add_dir(t, path, e, err);
    case S_IFREG:
        return add_file(t, path, e, ret_fd, err);
    case S_IFLNK:
    case S_IFIFO:
        return add_node(t, path, e, err);
    case S_IFCHR:
    case S_IFBLK:
    case S_IFSOCK:
        if (t->exact)
            return add_node(t, path, e, err);
        return 0; /* left out */
    }
    return refuse(err, e->name, "is of an unknown type");
}

int tree_remove(struct tree *t, const char *name, struct err *err)
{
    char path[PATH_MAX], dir[PATH_MAX] = "";
    int r = normalise(name, path, err);
    if (r < 0)
        return r;
    if (!*path)
        return refuse(err, name, "would remove the root");
    const char *slash = strrchr(path, '/');
    if (slash) {
        memcpy(dir, path, (size_t)(slash - path));
        dir[slash - path] = '\0';
    }
    leave_parent(t);
    auto_fd int fd = -1;
    struct stat st;
    struct err why = {0};
    if (path_open_beneath(t->root, *dir ? dir : ".", DIR_FLAGS, 0, &fd, &why) < 0)
        return why.sys == ENOENT ? 0
                                 : refuse(err, name, "cannot be removed: its directory is not one");
    if (fstat(fd, &st) < 0)
        return tree_sys(err, t->root, errno, "look at", name);
    r = path_remove_tree_at(fd, slash ? slash + 1 : path, err);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, st.st_mtim};
    futimens(fd, times);
    return r;
}

int tree_write(struct tree *t, int fd, const void *buf, size_t len, uint64_t offset,
               struct err *err)
{
    if (!number_add(t->bytes, len, &t->bytes) || t->bytes > t->max.bytes) {
        char size[NUMBER_TEXT];
        err_set(err, ERR_EXHAUSTED,
                "its files need more than the %s that may be used for it; free space on the file "
                "system of Terem's state or raise the limit",
                number_format_size(t->max.bytes, size));
        if (err) /* as in tree_sys() */
            err->sys = EDQUOT;
        return -ERR_EXHAUSTED;
    }
    const char *p = buf;
    while (len) {
        ssize_t n = pwrite(fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return tree_sys(err, t->root, errno, "write", "a file of the layer");
        p += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int tree_finish(struct tree *t, const struct tree_entry *e, int *fd, struct err *err)
{
    auto_fd int file = steal_fd(fd);
    if (e->size && ftruncate(file, (off_t)e->size) < 0) /* a hole at its end */
        return tree_sys(err, t->root, errno, "write", e->name);
    return set_meta(t, file, e, err);
}
