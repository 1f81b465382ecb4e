/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "container/internal.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <errno.h>
#include <sys/socket.h>

#define DIED "its first process died while it was being prepared"

int message_pair(int ret[2], struct err *err)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret) < 0)
        return err_sys(err, "cannot make a socket pair");
    /* A caller without standard streams: the pair must not lie where the child's will be. */
    for (int i = 0; i < 2; i++) {
        int fd = ret[i] > STDERR_FILENO ? ret[i] : fd_again(ret[i]);
        if (fd < 0) {
            err_sys(err, "cannot make a socket pair");
            close(ret[0]);
            close(ret[1]);
            return err ? -err->kind : -ERR_SYSTEM;
        }
        if (fd != ret[i])
            close(ret[i]);
        ret[i] = fd;
    }
    return 0;
}

int message_deadline(int sock, int seconds, struct err *err)
{
    struct timeval t = {.tv_sec = seconds};
    if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)) < 0 ||
        setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t)) < 0)
        return err_sys(err, "cannot set a deadline");
    return 0;
}

int message_send(int sock, enum message_kind kind, uint32_t value, const int *fds, size_t n_fds,
                 struct err *err)
{
    struct message m = {.kind = kind, .value = value};
    return fd_send(sock, &m, sizeof(m), fds, n_fds, err);
}

void message_fail(int sock, const struct err *why)
{
    struct message m = {.kind = MESSAGE_FAILED, .err = *why};
    fd_send(sock, &m, sizeof(m), NULL, 0, NULL);
}

int message_next(int sock, struct message *ret, int *ret_fds, size_t *n_fds, struct err *err)
{
    int fds[FD_PASS_MAX];
    size_t n = ARRAY_SIZE(fds), room = *n_fds;
    struct err why = {0};
    *n_fds = 0;
    *ret = (struct message){.kind = MESSAGE_END};
    ssize_t len = fd_recv(sock, ret, sizeof(*ret), fds, &n, &why);
    if (len < 0 && why.sys == EAGAIN)
        return err_set(err, ERR_TIMEOUT, "its process does not answer");
    if (len < 0 && why.sys == ECONNRESET) /* before it had read what we sent */
        return err_set(err, ERR_STATE, DIED);
    if (len < 0) {
        if (err)
            *err = why;
        return (int)len;
    }
    bool failed = len == (ssize_t)sizeof(*ret) && ret->kind == MESSAGE_FAILED;
    ret->err.text[sizeof(ret->err.text) - 1] = '\0';
    if (n <= room && (len == 0 || len == (ssize_t)sizeof(*ret)) &&
        (!failed || (ret->err.kind > ERR_NONE && ret->err.kind < ERR__COUNT))) {
        if (n)
            memcpy(ret_fds, fds, n * sizeof(int));
        *n_fds = n;
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        close(fds[i]);
    return err_set(err, ERR_INTERNAL, "unexpected message %u of %zd bytes", ret->kind, len);
}

int message_expect(int sock, enum message_kind kind, uint32_t *ret_value, int *ret_fds,
                   size_t n_fds, struct err *err)
{
    struct message m;
    int fds[FD_PASS_MAX];
    size_t n = ARRAY_SIZE(fds);
    int r = message_next(sock, &m, fds, &n, err);
    if (r < 0)
        return r;
    if (m.kind == kind && n == n_fds) {
        if (n_fds)
            memcpy(ret_fds, fds, n_fds * sizeof(int));
        if (ret_value)
            *ret_value = m.value;
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        close(fds[i]);
    if (m.kind == MESSAGE_END)
        return err_set(err, ERR_STATE, DIED);
    if (m.kind != MESSAGE_FAILED)
        return err_set(err, ERR_INTERNAL, "unexpected message %u instead of %d", m.kind, kind);
    if (err)
        *err = m.err;
    return -m.err.kind;
}
