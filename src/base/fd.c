/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/fd.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

int fd_write_all(int fd, const void *buf, size_t len, struct err *err)
{
    const char *p = buf;
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "cannot write");
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int fd_read_all(int fd, size_t max, char **ret, size_t *ret_len, struct err *err)
{
    auto_str struct str s = str_init(max);
    char chunk[8192];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "cannot read");
        if (n == 0)
            break;
        str_add_bytes(&s, chunk, (size_t)n);
        if (s.failed)
            return err_set(err, ERR_EXHAUSTED, "more than %zu bytes", max);
    }
    size_t len = s.len;
    char *p = str_steal(&s);
    if (!p)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    *ret = p;
    if (ret_len)
        *ret_len = len;
    return 0;
}

int fd_read_file_at(int dirfd, const char *name, size_t max, char **ret, size_t *ret_len,
                    struct err *err)
{
    auto_fd int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return err_sys(err, "cannot open %s", name);
    int r = fd_read_all(fd, max, ret, ret_len, err);
    return r < 0 ? err_wrap(err, "%s", name) : 0;
}

int fd_write_value_at(int dirfd, const char *name, struct err *err, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof(text))
        return err_set(err, ERR_INTERNAL, "value for %s is too long", name);
    auto_fd int fd = openat(dirfd, name, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return err_sys(err, "cannot open %s", name);
    ssize_t w;
    do
        w = write(fd, text, (size_t)n);
    while (w < 0 && errno == EINTR);
    if (w < 0)
        return err_sys(err, "cannot write \"%.*s\" to %s", (int)strcspn(text, "\n"), text, name);
    return 0;
}

int fd_replace_file_at(int dirfd, const char *name, const void *buf, size_t len, mode_t mode,
                       struct err *err)
{
    char tmp[NAME_MAX + 1];
    const char *slash = strrchr(name, '/');
    const char *base = slash ? slash + 1 : name;
    if (str_print(tmp, sizeof(tmp), "%.*s.%s.new", (int)(base - name), name, base) < 0)
        return err_set(err, ERR_USAGE, "the name %s is too long", name);
    auto_fd int fd =
        openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return err_sys(err, "cannot create %s", tmp);
    if (fd_write_all(fd, buf, len, err) < 0 || (fsync(fd) < 0 && err_sys(err, "cannot sync"))) {
        unlinkat(dirfd, tmp, 0);
        return err_wrap(err, "%s", tmp);
    }
    if (renameat(dirfd, tmp, dirfd, name) < 0) {
        err_sys(err, "cannot rename %s to %s", tmp, name);
        unlinkat(dirfd, tmp, 0);
        return err ? -err->kind : -ERR_SYSTEM;
    }
    return 0;
}

int fd_send(int sock, const void *buf, size_t len, const int *fds, size_t n_fds, struct err *err)
{
    if (n_fds > FD_PASS_MAX)
        return err_set(err, ERR_INTERNAL, "cannot pass %zu descriptors at once", n_fds);
    union {
        char buf[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
        struct cmsghdr align;
    } ctl = {0};
    struct iovec iov = {.iov_base = (void *)buf, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds) {
        msg.msg_control = ctl.buf;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
    }
    ssize_t n;
    do
        n = sendmsg(sock, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_sys(err, "cannot send a message");
    if ((size_t)n < len) /* SOCK_STREAM only: the descriptors went with the first part */
        return fd_write_all(sock, (const char *)buf + n, len - (size_t)n, err);
    return 0;
}

ssize_t fd_recv(int sock, void *buf, size_t size, int *fds, size_t *n_fds, struct err *err)
{
    union {
        char buf[CMSG_SPACE(sizeof(int) * FD_PASS_MAX)];
        struct cmsghdr align;
    } ctl = {0};
    size_t space = n_fds ? *n_fds : 0, got = 0;
    bool cut = false;
    struct iovec iov = {.iov_base = buf, .iov_len = size};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = ctl.buf,
                         .msg_controllen = sizeof(ctl.buf)};
    ssize_t n;
    do
        n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_sys(err, "cannot receive a message");
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < k; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (got < space) {
                fds[got++] = fd;
            } else {
                close(fd);
                cut = true;
            }
        }
    }
    if (cut || (msg.msg_flags & (MSG_CTRUNC | MSG_TRUNC))) {
        for (size_t i = 0; i < got; i++)
            close(fds[i]);
        if (n_fds)
            *n_fds = 0;
        /* Fewer descriptors than room: the kernel leaves out what finds no number here. */
        return !cut && !(msg.msg_flags & MSG_TRUNC) && got < FD_PASS_MAX
                   ? err_sysno(err, EMFILE, "cannot take over descriptors")
                   : err_set(err, ERR_CORRUPT, "a message is larger than expected");
    }
    if (n_fds)
        *n_fds = got;
    return n;
}

static int compare_int(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

void fd_close_others(const int *keep, size_t n)
{
    int sorted[64];
    if (n > ARRAY_SIZE(sorted))
        n = ARRAY_SIZE(sorted);
    if (n)
        memcpy(sorted, keep, n * sizeof(int));
    qsort(sorted, n, sizeof(int), compare_int);
    unsigned from = 3;
    for (size_t i = 0; i < n; i++) {
        if (sorted[i] < (int)from)
            continue;
        if ((unsigned)sorted[i] > from)
            syscall(SYS_close_range, from, (unsigned)sorted[i] - 1, 0);
        from = (unsigned)sorted[i] + 1;
    }
    syscall(SYS_close_range, from, ~0u, 0);
}

int fd_set_nonblock(int fd, struct err *err)
{
    int fl = fcntl(fd, F_GETFL);
    if (fl < 0 || fcntl(fd, F_SETFL, fl | O_NONBLOCK) < 0)
        return err_sys(err, "cannot make a descriptor non-blocking");
    return 0;
}

int fd_again(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

DIR *fd_list(int dir)
{
    auto_fd int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (d)
        fd = -1; /* closedir() closes it */
    return d;
}

const char *fd_path(int fd, char buf[FD_PATH_MAX])
{
    str_print(buf, FD_PATH_MAX, "/proc/self/fd/%d", fd);
    return buf;
}

int fd_pidfd_open(pid_t pid, int *ret_fd, struct err *err)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return err_sys(err, "cannot open process %d", pid);
    *ret_fd = fd;
    return 0;
}

int fd_pidfd_kill(int pidfd, int sig, struct err *err)
{
    if (syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0)
        return err_sys(err, "cannot send signal %d", sig);
    return 0;
}

int fd_pidfd_wait_exit(int pidfd, int timeout_ms, struct err *err)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    int r;
    do
        r = poll(&p, 1, timeout_ms);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return err_sys(err, "cannot wait for a process");
    return r == 0 ? err_set(err, ERR_TIMEOUT, "the process is still there") : 0;
}
