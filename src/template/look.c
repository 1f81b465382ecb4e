/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/look.h"

#include "base/cleanup.h"
#include "base/path.h"
#include "base/str.h"

#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LINKS_MAX 40 /* as the kernel's own bound (namei.h, MAXSYMLINKS) */

/* Is a directory on the way to `path` opaque in this layer? */
static bool opaque_above(int root, const char *path)
{
    char part[PATH_MAX];
    for (const char *p = path; (p = strchr(p, '/')); p++) {
        str_print(part, sizeof(part), "%.*s", (int)(p - path), path);
        auto_fd int fd = -1;
        char value = 0;
        if (path_open_beneath(root, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd, NULL) < 0)
            return false;
        if (fgetxattr(fd, "user.overlay.opaque", &value, 1) == 1 && value == 'y')
            return true;
    }
    return false;
}

/* `path` has no link in it that the stack would follow.  Opens it (O_PATH) in the layer that shows
 * it. */
int look_open(const int *roots, size_t n, const char *path, int *ret_fd, struct stat *st)
{
    for (size_t i = n; i-- > 0;) {
        auto_fd int fd = -1;
        int r = path_open_beneath(roots[i], *path ? path : ".", O_PATH | O_NOFOLLOW, 0, &fd, NULL);
        if (r == 0) {
            if (fstat(fd, st) < 0 || (S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0)))
                return -ERR_NOT_FOUND;
            *ret_fd = steal_fd(&fd);
            return 0;
        }
        /* Something that is no directory stands on the way and hides the lower layers. */
        if (r != -ERR_NOT_FOUND || opaque_above(roots[i], path))
            return -ERR_NOT_FOUND;
    }
    return -ERR_NOT_FOUND;
}

/* Appends or removes one component of the resolved name. */
static bool step(char at[PATH_MAX], const char *part, size_t len)
{
    size_t have = strlen(at);
    if (len == 2 && memcmp(part, "..", 2) == 0) {
        char *slash = strrchr(at, '/');
        *(slash ? slash : at) = '\0';
        return true;
    }
    if (have + len + 2 > PATH_MAX)
        return false;
    if (have)
        at[have++] = '/';
    memcpy(at + have, part, len);
    at[have + len] = '\0';
    return true;
}

int look_find(const int *roots, size_t n, const char *path, char ret_path[PATH_MAX],
              struct stat *ret_stat, struct err *err)
{
    char rest[2 * PATH_MAX], at[PATH_MAX] = "";
    if (str_print(rest, sizeof(rest), "%s", path) < 0)
        return err_set(err, ERR_USAGE, "the path is too long");
    auto_fd int fd = -1;
    struct stat st;
    if (look_open(roots, n, "", &fd, &st) < 0)
        return err_set(err, ERR_CORRUPT, "a layer has no root");
    int links = 0;
    for (char *p = rest; *(p += strspn(p, "/"));) {
        size_t len = strcspn(p, "/");
        char before[PATH_MAX];
        memcpy(before, at, sizeof(before));
        if (len == 1 && *p == '.') {
            p++;
            continue;
        }
        cleanup_fd(&fd);
        if (!step(at, p, len) || look_open(roots, n, at, &fd, &st) < 0)
            return err_set(err, ERR_NOT_FOUND, "%s is not there", path);
        p += len;
        if (!S_ISLNK(st.st_mode))
            continue;
        char link[PATH_MAX], next[2 * PATH_MAX];
        ssize_t k = readlinkat(fd, "", link, sizeof(link) - 1);
        if (k < 0 || ++links > LINKS_MAX)
            return err_set(err, ERR_NOT_FOUND, "%s is behind too many links", path);
        link[k] = '\0';
        memcpy(at, link[0] == '/' ? "" : before, link[0] == '/' ? 1 : sizeof(before));
        if (str_print(next, sizeof(next), "%s/%s", link, p) < 0)
            return err_set(err, ERR_NOT_FOUND, "%s is behind too long links", path);
        memcpy(rest, next, sizeof(rest));
        p = rest;
    }
    memcpy(ret_path, at, PATH_MAX);
    *ret_stat = st;
    return 0;
}

enum template_init look_init(const int *roots, size_t n, const char **ret_path)
{
    static const char *const places[] = {"/sbin/init", "/lib/systemd/systemd",
                                         "/usr/lib/systemd/systemd"};
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        char path[PATH_MAX];
        struct stat st, box;
        if (look_find(roots, n, places[i], path, &st, NULL) < 0 || !S_ISREG(st.st_mode) ||
            !(st.st_mode & 0111))
            continue;
        *ret_path = places[i];
        const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
        if (str_eq(base, "systemd"))
            return TEMPLATE_INIT_SYSTEMD;
        if (str_eq(base, "busybox"))
            return TEMPLATE_INIT_BUSYBOX;
        /* busybox's links may be hard ones. */
        if (look_find(roots, n, "/bin/busybox", path, &box, NULL) == 0 && box.st_ino == st.st_ino &&
            box.st_dev == st.st_dev)
            return TEMPLATE_INIT_BUSYBOX;
        return TEMPLATE_INIT_SYSV;
    }
    return TEMPLATE_INIT_NONE;
}
