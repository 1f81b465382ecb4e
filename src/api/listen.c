/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/listen.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/number.h"
#include "base/path.h"
#include "base/str.h"

#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define GROUP   "terem"
#define BACKLOG 128

/* From /etc/group alone: the name service would load its modules into a daemon of root. */
static bool find_group(const char *name, gid_t *ret)
{
    auto_file FILE *file = fopen("/etc/group", "re");
    struct group *group;
    while (file && (group = fgetgrent(file)))
        if (str_eq(group->gr_name, name)) {
            *ret = group->gr_gid;
            return true;
        }
    return false;
}

/* sd_listen_fds(3) without libsystemd: descriptor 3, when the variables are meant for us. */
static bool passed_socket(int *ret_fd)
{
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
    uint64_t n;
    int type = 0, listens = 0;
    socklen_t len = sizeof(type);
    if (!pid || !fds || number_parse(pid, 1, INT_MAX, &n, NULL) < 0 || (pid_t)n != getpid() ||
        !str_eq(fds, "1"))
        return false;
    if (getsockopt(3, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM)
        return false;
    len = sizeof(listens);
    if (getsockopt(3, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 || !listens)
        return false;
    /* Children must not take the variables for theirs. */
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    if (fcntl(3, F_SETFD, FD_CLOEXEC) < 0 || fd_set_nonblock(3, NULL) < 0)
        return false;
    *ret_fd = 3;
    return true;
}

static int remove_dead(const char *path, struct err *err)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : err_sys(err, "cannot look at %s", path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, ERR_EXISTS, "%s is in the way and is not a socket; move it", path);
    if (unlink(path) < 0)
        return err_sys(err, "cannot remove the old socket %s", path);
    return 0;
}

int listen_open(const char *path, int *ret_fd, bool *ret_ours, struct err *err)
{
    *ret_ours = false;
    if (passed_socket(ret_fd))
        return 0;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char dir[PATH_MAX];
    if (str_print(addr.sun_path, sizeof(addr.sun_path), "%s", path) < 0 ||
        str_print(dir, sizeof(dir), "%s", path) < 0)
        return err_set(err, ERR_USAGE, "%s is too long for a Unix socket", path);
    int rc = path_make_dirs(dirname(dir), 0755, err);
    if (rc == 0)
        rc = remove_dead(path, err);
    if (rc < 0)
        return rc;
    auto_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(err, "cannot make a socket");
    /* The mode is right from the first instant; a chmod after the bind would be too late. */
    mode_t old = umask(0117);
    rc = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0
             ? err_sys(err, "cannot make the socket %s", path)
             : 0;
    umask(old);
    if (rc < 0)
        return rc;
    gid_t gid;
    if (find_group(GROUP, &gid) && lchown(path, (uid_t)-1, gid) < 0) {
        rc = err_sys(err, "cannot give %s to group " GROUP, addr.sun_path);
        unlink(path);
        return rc;
    }
    if (listen(fd, BACKLOG) < 0) {
        rc = err_sys(err, "cannot listen on %s", addr.sun_path);
        unlink(path);
        return rc;
    }
    *ret_ours = true;
    *ret_fd = steal_fd(&fd);
    return 0;
}
