/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /etc/hostname, hosts, resolv.conf and the like: written by the VE's root in its own root, before
 * its init runs.  Whatever it has put there instead (a symlink, a FIFO, a directory in the way) is
 * its own matter: the new file replaces the name, and what cannot be replaced is left.
 */
#include "container/internal.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

/* What is longer stays as it is: a VE with a few MB of memory starts all the same, and soon. */
#define MERGE_MAX ((size_t)1 << 20)
#define EACH_SIZE ((size_t)64 << 10) /* of a file in a directory of them */
#define EACH_MAX  64                 /* files in it */

struct place {
    int root, tree, dir;
    char path[PATH_MAX]; /* of dir, with a slash at both ends */
};

/* Most starts find what the last one wrote: then nothing is copied up or written. */
static bool same(int dir, const char *name, const char *text, size_t len)
{
    auto_fd int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat st;
    auto_free char *now = NULL;
    size_t now_len;
    return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size == len &&
           fd_read_all(fd, len + 1, &now, &now_len, NULL) == 0 && now_len == len &&
           memcmp(now, text, len) == 0;
}

/* like: whose mode and owner the new one gets.  durably: a power cut leaves the old one or the new
 * one; else it may leave an empty one, which is written again at the next start. */
static int replace(int dir, const char *name, const struct stat *like, const char *text, size_t len,
                   bool durably, struct err *err)
{
    char tmp[NAME_MAX + 1];
    if (str_print(tmp, sizeof(tmp), ".%s.terem", name) < 0)
        return err_set(err, ERR_USAGE, "the name %s is too long", name);
    unlinkat(dir, tmp, 0);
    auto_fd int fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, "cannot create %s", tmp);
    int r = fd_write_all(fd, text, len, err);
    if (r == 0 && fchown(fd, like->st_uid, like->st_gid) < 0 && errno != EPERM && errno != EINVAL)
        r = err_sys(err, "cannot give %s its owner", tmp); /* EINVAL: nobody's in here */
    if (r == 0 && fchmod(fd, like->st_mode & 0777) < 0)
        r = err_sys(err, "cannot give %s its mode", tmp);
    if (r == 0 && durably && fdatasync(fd) < 0)
        r = err_sys(err, "cannot write %s to the disk", tmp);
    if (r == 0 && renameat(dir, tmp, dir, name) < 0)
        r = err_sys(err, "cannot replace %s", name);
    if (r < 0)
        unlinkat(dir, tmp, 0);
    return r;
}

/* A link that leads to a file stands for it.  *ret NULL: there is none that could be read. */
static int read_now(int root, const char *path, size_t most, char **ret, size_t *ret_len,
                    struct stat *ret_st, struct err *err)
{
    auto_fd int fd = -1;
    struct stat st;
    if (path_open_in_root(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &fd, &(struct err){0}) <
            0 ||
        fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    auto_free char *text = NULL;
    int r = fd_read_all(fd, most, &text, ret_len, err);
    if (r < 0)
        return r;
    if (memchr(text, '\0', *ret_len))
        return err_set(err, ERR_CORRUPT, "%s is not a text", path);
    *ret_st = st;
    *ret = steal_ptr(&text);
    return 0;
}

static int merge(const struct place *at, const char *name, const struct container_file *file,
                 size_t most, struct err *err)
{
    char path[PATH_MAX];
    struct stat like = {.st_mode = file->mode ? file->mode : 0644};
    auto_fd int own = -1;
    auto_free char *now = NULL;
    size_t len = 0;
    auto_str struct str text = str_init(3 * most);
    if (str_print(path, sizeof(path), "upper%s%s", at->path, name) < 0)
        return err_set(err, ERR_USAGE, "the path of %s is too long", name);
    int r = read_now(at->root, path + strlen("upper"), most, &now, &len, &like, err);
    if (r < 0)
        return r;
    if (file->mode && len == 0) /* what an empty one was for nobody knows */
        like = (struct stat){.st_mode = file->mode};
    if (at->tree >= 0)
        path_open_beneath(at->tree, path, O_PATH | O_NOFOLLOW, 0, &own, &(struct err){0});
    if (!file->merge(now ? now : "", own >= 0, file->text, &text))
        return 0;
    if (text.failed)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    if (now && len == text.len && memcmp(now, str_c(&text), len) == 0)
        return 0;
    /* What its owner has written in it is nowhere else. */
    return replace(at->dir, name, &like, str_c(&text), text.len, now && own >= 0, err);
}

static int merge_each(const struct place *at, const struct container_file *file, struct err *err)
{
    DIR *list = fd_list(at->dir);
    char names[EACH_MAX][NAME_MAX + 1];
    size_t n = 0;
    struct stat st;
    if (!list)
        return err_sys(err, "cannot list %s", at->path);
    for (const struct dirent *d; n < EACH_MAX && (d = readdir(list));)
        if (fstatat(at->dir, d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            str_print(names[n++], sizeof(names[0]), "%s", d->d_name);
    closedir(list);
    for (size_t i = 0; i < n; i++)
        merge(at, names[i], file, EACH_SIZE, &(struct err){0}); /* one that fails is left */
    return 0;
}

static int write_one(int root, int tree, const struct container_file *file, struct err *err)
{
    struct place at = {root, tree, -1, ""};
    const struct stat plain = {.st_mode = file->mode ? file->mode : 0644};
    const char *slash = strrchr(file->path, '/');
    if (file->path[0] != '/' || !slash[1] || str_eq(slash, "/..") || str_eq(slash, "/.") ||
        str_print(at.path, sizeof(at.path), "%.*s", (int)(slash - file->path + 1), file->path) < 0)
        return err_set(err, ERR_USAGE, "\"%s\" is not the path of a file", file->path);
    auto_fd int dir = -1;
    int r = path_open_in_root(root, at.path, O_RDONLY | O_DIRECTORY, 0, &dir, err);
    if (r < 0)
        return r;
    at.dir = dir;
    if (file->merge)
        return str_eq(slash, "/*") ? merge_each(&at, file, err)
                                   : merge(&at, slash + 1, file, MERGE_MAX, err);
    size_t len = strlen(file->text);
    return same(dir, slash + 1, file->text, len)
               ? 0
               : replace(dir, slash + 1, &plain, file->text, len, false, err);
}

int file_write_all(const struct container_file *files, size_t n, int tree, struct err *err)
{
    auto_fd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_sys(err, "cannot open its root");
    for (size_t i = 0; i < n; i++) {
        int r = write_one(root, tree, &files[i], err);
        /* A VE whose disk is full or whose /etc is broken must start all the same: else its owner
         * could not clean up.  It then runs with the files of an earlier start, or its own. */
        if (r < 0 && (r == -ERR_USAGE || files[i].must))
            return files[i].must ? err_wrap(err, "cannot write %s", files[i].path) : r;
        if (r < 0)
            err_clear(err);
    }
    return 0;
}
