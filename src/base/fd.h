/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fd — descriptors: whole reads and writes, passing them, processes by descriptor.
 *
 * Every descriptor made here is O_CLOEXEC.  Functions retry EINTR.
 */
#pragma once

#include "base/err.h"

#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int fd_write_all(int fd, const void *buf, size_t len, struct err *err);
/* Reads until the end or until `max` bytes; *ret is NUL-terminated and freed by the caller.
 * More than max bytes: ERR_EXHAUSTED. */
int fd_read_all(int fd, size_t max, char **ret, size_t *ret_len, struct err *err);
int fd_read_file_at(int dirfd, const char *name, size_t max, char **ret, size_t *ret_len,
                    struct err *err);
/* One write(2) of a formatted value to an existing file (cgroup, proc, sysctl). */
int fd_write_value_at(int dirfd, const char *name, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Writes a whole file durably: temporary name, fsync, rename.  mode is of the new file. */
int fd_replace_file_at(int dirfd, const char *name, const void *buf, size_t len, mode_t mode,
                       struct err *err);

#define FD_PASS_MAX 16
/* One message with descriptors over a Unix socket (SOCK_SEQPACKET or SOCK_STREAM). */
int fd_send(int sock, const void *buf, size_t len, const int *fds, size_t n_fds, struct err *err);
/* Returns the length (0: the peer is gone).  *n_fds: in, room; out, received.  A message that was
 * cut, or carried more descriptors than there is room for, is ERR_CORRUPT and all its
 * descriptors are closed. */
ssize_t fd_recv(int sock, void *buf, size_t size, int *fds, size_t *n_fds, struct err *err);

/* Closes everything above 2 except the n descriptors in keep (any order). */
void fd_close_others(const int *keep, size_t n);
int fd_set_nonblock(int fd, struct err *err);
/* Another descriptor of what fd is one of, above the standard streams; -1: errno says why. */
int fd_again(int fd);
/* A directory that is open, to be read from its beginning: by a descriptor of its own, since a
 * shared one shares its position, even across fork.  NULL: errno says why. */
DIR *fd_list(int dir);
/* /proc/self/fd/N of a descriptor, for calls that take only paths. */
#define FD_PATH_MAX 32
const char *fd_path(int fd, char buf[FD_PATH_MAX]);

/* pidfd_open(2); ERR_NOT_FOUND when there is no such process. */
int fd_pidfd_open(pid_t pid, int *ret_fd, struct err *err);
int fd_pidfd_kill(int pidfd, int sig, struct err *err);
/* Waits up to timeout_ms (-1: for ever) for exit: 0 gone, -ERR_TIMEOUT still there. */
int fd_pidfd_wait_exit(int pidfd, int timeout_ms, struct err *err);
