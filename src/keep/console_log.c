/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keep/server.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void open_file(struct console_log *l)
{
    char name[40];
    struct stat st;
    str_print(name, sizeof(name), "%" PRId64 ".log", l->id);
    /* O_NONBLOCK: should somebody have put a FIFO there, we do not wait for its reader. */
    l->fd =
        openat(l->dir, name,
               O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
    if (l->fd >= 0 && (fstat(l->fd, &st) < 0 || !S_ISREG(st.st_mode))) {
        close(l->fd);
        l->fd = -1;
    }
    if (l->fd >= 0)
        l->size = st.st_size;
}

void console_log_open(struct console_log *l, int dir, int64_t id)
{
    *l = (struct console_log){.dir = dir, .fd = -1, .id = id};
    if (dir >= 0)
        open_file(l);
}

static void rotate(struct console_log *l)
{
    char name[40], old[40];
    str_print(name, sizeof(name), "%" PRId64 ".log", l->id);
    str_print(old, sizeof(old), "%" PRId64 ".log.1", l->id);
    /* If that fails we must not grow: the file is emptied instead. */
    if (renameat(l->dir, name, l->dir, old) < 0 && ftruncate(l->fd, 0) < 0)
        return;
    close(l->fd);
    open_file(l);
}

void console_log_write(struct console_log *l, const void *buf, size_t len)
{
    if (l->dir < 0)
        return;
    if (l->fd < 0) /* it could not be opened before: no inodes, say */
        open_file(l);
    if (l->fd >= 0 && l->size + (off_t)len > CONSOLE_LOG_MAX)
        rotate(l);
    if (l->fd < 0 || l->size + (off_t)len > CONSOLE_LOG_MAX)
        return;
    ssize_t n;
    do
        n = write(l->fd, buf, len);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        l->size += n;
}

size_t console_log_tail(struct console_log *l, char *buf, size_t size)
{
    struct stat st;
    if (l->fd < 0 || fstat(l->fd, &st) < 0)
        return 0;
    off_t from = st.st_size > (off_t)size ? st.st_size - (off_t)size : 0;
    ssize_t n = pread(l->fd, buf, size, from);
    if (n <= 0)
        return 0;
    size_t len = (size_t)n;
    char *line = from ? memchr(buf, '\n', len) : NULL;
    if (line) {
        len -= (size_t)(line + 1 - buf);
        memmove(buf, line + 1, len);
    }
    return len;
}

void console_log_close(struct console_log *l)
{
    if (l->fd >= 0)
        close(l->fd);
    *l = (struct console_log){.dir = -1, .fd = -1};
}
