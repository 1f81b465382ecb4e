/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keep/frame.h"

#include "base/fd.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

void frame_head(uint8_t head[FRAME_HEAD], enum frame_type type, size_t len)
{
    head[0] = (uint8_t)type;
    head[1] = (uint8_t)(len >> 24);
    head[2] = (uint8_t)(len >> 16);
    head[3] = (uint8_t)(len >> 8);
    head[4] = (uint8_t)len;
}

int frame_write(int fd, enum frame_type type, const void *buf, size_t len, struct err *err)
{
    if (len > FRAME_MAX)
        return err_set(err, ERR_INTERNAL, "a frame of %zu bytes is too long", len);
    uint8_t head[FRAME_HEAD];
    frame_head(head, type, len);
    /* One system call as a rule, so that small frames do not travel in two packets. */
    struct iovec iov[2] = {{head, sizeof(head)}, {(void *)buf, len}};
    ssize_t n;
    do
        n = writev(fd, iov, len ? 2 : 1);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_sys(err, "cannot write a frame");
    size_t done = (size_t)n;
    if (done < sizeof(head)) {
        int r = fd_write_all(fd, head + done, sizeof(head) - done, err);
        if (r < 0)
            return r;
        done = sizeof(head);
    }
    done -= sizeof(head);
    return done < len ? fd_write_all(fd, (const char *)buf + done, len - done, err) : 0;
}

int frame_reader_fill(struct frame_reader *r, int fd, struct err *err)
{
    if (r->taken) {
        memmove(r->buf, r->buf + r->taken, r->have - r->taken);
        r->have -= r->taken;
        r->taken = 0;
    }
    if (r->have == sizeof(r->buf))
        return err_set(err, ERR_INTERNAL, "a frame was not taken");
    ssize_t n;
    do
        n = read(fd, r->buf + r->have, sizeof(r->buf) - r->have);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_sys(err, "cannot read frames");
    r->have += (size_t)n;
    return (int)n;
}

bool frame_next(struct frame_reader *r, struct frame *ret, bool *bad)
{
    const uint8_t *p = r->buf + r->taken;
    size_t have = r->have - r->taken;
    *bad = false;
    if (have < FRAME_HEAD)
        return false;
    size_t len = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
    if (len > FRAME_MAX) {
        *bad = true;
        return false;
    }
    if (have - FRAME_HEAD < len)
        return false;
    *ret = (struct frame){.type = (enum frame_type)p[0], .data = p + FRAME_HEAD, .len = len};
    r->taken += FRAME_HEAD + len;
    return true;
}
