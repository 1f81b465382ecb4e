/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "keep/protocol.h"

#include <string.h>
#include <sys/socket.h>

#define MAGIC 0x50454b54u /* "TKEP" */

static uint8_t *put(uint8_t *p, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        *p++ = (uint8_t)(v >> (8 * i));
    return p;
}

static uint64_t take(const uint8_t **p, size_t bytes)
{
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++)
        v |= (uint64_t) * (*p)++ << (8 * i);
    return v;
}

static uint8_t *put_head(uint8_t *p, enum keep_verb verb, uint32_t serial, uint32_t flags)
{
    p = put(p, MAGIC, 4);
    p = put(p, KEEP_VERSION, 2);
    p = put(p, (uint64_t)verb, 2);
    p = put(p, serial, 4);
    return put(p, flags, 4);
}

/* 16 bytes are there.  The verb is given as a number: it is not known to be one. */
static int take_head(const uint8_t **p, unsigned *verb, uint32_t *serial, uint32_t *flags,
                     struct err *err)
{
    if (take(p, 4) != MAGIC)
        return err_set(err, ERR_CORRUPT, "not a message of terem-keep");
    unsigned version = (unsigned)take(p, 2);
    *verb = (unsigned)take(p, 2);
    *serial = (uint32_t)take(p, 4);
    *flags = (uint32_t)take(p, 4);
    if (version != KEEP_VERSION)
        return err_set(err, ERR_UNSUPPORTED,
                       "a message of version %u where version %d is spoken: teremd and terem-keep "
                       "are of different releases",
                       version, KEEP_VERSION);
    if (*verb < KEEP_PUT || *verb >= KEEP__END)
        return err_set(err, ERR_UNSUPPORTED, "terem-keep has no request number %u", *verb);
    return 0;
}

void keep_request_encode(const struct keep_request *q, uint8_t buf[KEEP_REQUEST_LEN])
{
    put(put_head(buf, q->verb, q->serial, q->flags), (uint64_t)q->id, 8);
}

int keep_request_decode(const uint8_t *buf, size_t len, size_t n_fds, struct keep_request *ret,
                        struct err *err)
{
    unsigned verb;
    if (len != KEEP_REQUEST_LEN)
        return err_set(err, ERR_CORRUPT, "a request of %zu bytes", len);
    int r = take_head(&buf, &verb, &ret->serial, &ret->flags, err);
    if (r < 0)
        return r;
    ret->verb = (enum keep_verb)verb;
    ret->id = (int64_t)take(&buf, 8);

    uint32_t allowed = 0;
    size_t want = 0;
    bool id = true;
    switch (ret->verb) {
    case KEEP_PUT:
        allowed = KEEP_HAS_CONSOLE | KEEP_HAS_LOG;
        want = 1 + !!(ret->flags & KEEP_HAS_CONSOLE) + !!(ret->flags & KEEP_HAS_LOG);
        break;
    case KEEP_ATTACH:
    case KEEP_PUT_FILTER:
        want = 1;
        break;
    case KEEP_GET_FILTER:
        allowed = UINT32_MAX;
        break;
    case KEEP_SERVE:
        want = 1;
        id = false;
        break;
    case KEEP_LIST:
    case KEEP_QUIT:
        id = false;
        break;
    default:
        break;
    }
    if (ret->flags & ~allowed)
        return err_set(err, ERR_CORRUPT, "a request with unknown flags 0x%x", ret->flags);
    if (ret->id < 0 || (id && ret->id == 0))
        return err_set(err, ERR_CORRUPT, "a request about an impossible VE number");
    if (n_fds != want)
        return err_set(err, ERR_CORRUPT, "a request with %zu descriptors where %zu belong", n_fds,
                       want);
    return 0;
}

size_t keep_answer_encode(const struct keep_answer *a, uint8_t buf[KEEP_ANSWER_MAX])
{
    size_t count = a->count > KEEP_LIST_MAX ? KEEP_LIST_MAX : a->count;
    uint8_t *p = put_head(buf, a->verb, a->serial, a->flags);
    p = put(p, (uint64_t)a->kind, 4);
    p = put(p, count, 4);
    memset(p, 0, KEEP_TEXT);
    memcpy(p, a->text, strnlen(a->text, KEEP_TEXT - 1));
    p += KEEP_TEXT;
    for (size_t i = 0; i < count; i++)
        p = put(p, (uint64_t)a->ids[i], 8);
    return (size_t)(p - buf);
}

int keep_answer_decode(const uint8_t *buf, size_t len, size_t n_fds, struct keep_answer *ret,
                       struct err *err)
{
    unsigned verb;
    if (len < KEEP_ANSWER_HEAD || len > KEEP_ANSWER_MAX)
        return err_set(err, ERR_CORRUPT, "an answer of %zu bytes", len);
    int r = take_head(&buf, &verb, &ret->serial, &ret->flags, err);
    if (r < 0)
        return r;
    ret->verb = (enum keep_verb)verb;
    uint64_t kind = take(&buf, 4);
    ret->count = (size_t)take(&buf, 4);
    if (kind >= ERR__COUNT)
        return err_set(err, ERR_CORRUPT, "an answer of unknown kind");
    ret->kind = (int)kind;
    memcpy(ret->text, buf, KEEP_TEXT);
    ret->text[KEEP_TEXT - 1] = '\0';
    buf += KEEP_TEXT;
    if (ret->count > KEEP_LIST_MAX || len != KEEP_ANSWER_HEAD + 8 * ret->count ||
        (ret->count && ret->verb != KEEP_LIST))
        return err_set(err, ERR_CORRUPT, "an answer with a wrong count");
    int64_t last = 0;
    for (size_t i = 0; i < ret->count; i++) {
        ret->ids[i] = (int64_t)take(&buf, 8);
        if (ret->ids[i] <= last) /* ascending: who lists goes on from the last, and must end */
            return err_set(err, ERR_CORRUPT, "an answer with VE numbers out of order");
        last = ret->ids[i];
    }
    uint32_t allowed = ret->verb == KEEP_GET          ? KEEP_HAS_CONSOLE
                       : ret->verb == KEEP_LIST       ? KEEP_HAS_MORE
                       : ret->verb == KEEP_GET_FILTER ? UINT32_MAX
                       : ret->verb == KEEP_VIEWERS    ? UINT32_MAX
                                                      : 0;
    size_t want = 0;
    if (!ret->kind && ret->verb == KEEP_GET)
        want = 1 + (ret->flags & KEEP_HAS_CONSOLE);
    if (!ret->kind && ret->verb == KEEP_GET_FILTER)
        want = 1;
    if ((ret->flags & ~allowed) || n_fds != want)
        return err_set(err, ERR_CORRUPT, "an answer with wrong flags or descriptors");
    return 0;
}

int keep_check_peer(int sock, struct err *err)
{
    struct ucred c;
    socklen_t len = sizeof(c);
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &c, &len) < 0)
        return err_sys(err, "cannot tell who is at the other end");
    if (c.uid != 0)
        return err_set(err, ERR_DENIED, "the other end belongs to user %u and not to root", c.uid);
    return 0;
}
