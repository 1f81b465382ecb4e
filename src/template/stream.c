/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "template/stream.h"

#include "archive/hash.h"
#include "base/cleanup.h"

#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define CHUNK     ((size_t)256 << 10)
#define MAGIC_MAX 6
/* A decoder may ask for this much memory; xz -9 needs 65 MiB, zstd --long=27 128 MiB. */
#define DECODER_MEMORY  ((uint64_t)192 << 20)
#define ZSTD_WINDOW_LOG 27

struct stream {
    int fd;
    int (*wait)(void *ctx, struct err *err);
    void *wait_ctx;
    enum stream_kind kind;
    uint64_t size, raw_bytes, plain_bytes;
    size_t have, at; /* in[at..have) was read and not yet decoded */
    bool eof;        /* fd has no more */
    bool whole;      /* the decoder stands at the end of a member or frame */
    struct hash *raw, *plain;
    z_stream z;
    lzma_stream xz;
    ZSTD_DStream *zstd;
    unsigned char in[CHUNK], out[CHUNK];
};

/* One read(2) behind what is there. */
static int read_more(struct stream *s, struct err *err)
{
    int r = s->wait ? s->wait(s->wait_ctx, err) : 0;
    if (r < 0)
        return r;
    ssize_t n;
    do
        n = read(s->fd, s->in + s->have, sizeof(s->in) - s->have);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_sys(err, "cannot read the archive");
    hash_add(s->raw, s->in + s->have, (size_t)n);
    s->have += (size_t)n;
    s->raw_bytes += (size_t)n;
    s->eof = n == 0;
    return 0;
}

static int fill(struct stream *s, struct err *err)
{
    if (s->eof || s->at < s->have)
        return 0;
    s->at = s->have = 0;
    return read_more(s, err);
}

/* The first read may be short (a pipe): goes on until the magic can be told. */
static int fill_magic(struct stream *s, struct err *err)
{
    int r = 0;
    while (r == 0 && s->have < MAGIC_MAX && !s->eof)
        r = read_more(s, err);
    return r;
}

static int tell_kind(struct stream *s, struct err *err)
{
    static const struct {
        const char *magic;
        size_t len;
        int kind;
        const char *name;
    } kinds[] = {
        {"\x1f\x8b", 2, STREAM_GZIP, "gzip"},
        {"\xfd"
         "7zXZ\0",
         6, STREAM_XZ, "xz"},
        {"\x28\xb5\x2f\xfd", 4, STREAM_ZSTD, "zstd"},
        {"BZh", 3, -1, "bzip2"},
        {"\x04\x22\x4d\x18", 4, -1, "lz4"},
        {"\x1f\x9d", 2, -1, "compress"},
        {"LZIP", 4, -1, "lzip"},
        {"PK\x03\x04", 4, -1, "zip"},
        {"7z\xbc\xaf\x27\x1c", 6, -1, "7-Zip"},
        {"\x5d\0\0", 3, -1, "lzma"},
    };
    s->kind = STREAM_PLAIN;
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (s->have < kinds[i].len || memcmp(s->in, kinds[i].magic, kinds[i].len) != 0)
            continue;
        if (kinds[i].kind < 0)
            return err_set(err, ERR_UNSUPPORTED,
                           "it is compressed with %s; compress it with gzip, xz or zstd instead",
                           kinds[i].name);
        s->kind = (enum stream_kind)kinds[i].kind;
        break;
    }
    return 0;
}

static int open_any(int fd, uint64_t size, int (*wait)(void *ctx, struct err *err), void *ctx,
                    struct stream **ret, struct err *err)
{
    auto_stream struct stream *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    s->fd = fd;
    s->size = size;
    s->wait = wait;
    s->wait_ctx = ctx;
    s->xz = (lzma_stream)LZMA_STREAM_INIT;
    s->raw = hash_new();
    s->plain = hash_new();
    if (!s->raw || !s->plain)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    int r;
    if ((r = fill_magic(s, err)) < 0 || (r = tell_kind(s, err)) < 0)
        return r;
    bool ready = true;
    if (s->kind == STREAM_GZIP)
        ready = inflateInit2(&s->z, 16 + MAX_WBITS) == Z_OK; /* 16: gzip, with its CRC checked */
    else if (s->kind == STREAM_XZ)
        ready = lzma_stream_decoder(&s->xz, DECODER_MEMORY, LZMA_CONCATENATED) == LZMA_OK;
    else if (s->kind == STREAM_ZSTD)
        ready =
            (s->zstd = ZSTD_createDStream()) &&
            !ZSTD_isError(ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG));
    if (!ready)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    *ret = steal_ptr(&s);
    return 0;
}

int stream_open(int fd, uint64_t size, struct stream **ret, struct err *err)
{
    return open_any(fd, size, NULL, NULL, ret, err);
}

int stream_open_waiting(int fd, int (*wait)(void *ctx, struct err *err), void *ctx,
                        struct stream **ret, struct err *err)
{
    return open_any(fd, 0, wait, ctx, ret, err);
}

void stream_close(struct stream *s)
{
    if (!s)
        return;
    if (s->kind == STREAM_GZIP)
        inflateEnd(&s->z);
    lzma_end(&s->xz);
    ZSTD_freeDStream(s->zstd);
    hash_free(s->raw);
    hash_free(s->plain);
    free(s);
}

static int damaged(struct stream *s, const char *why, struct err *err)
{
    static const char *const names[] = {"archive", "gzip", "xz", "zstd"};
    return err_set(err, ERR_CORRUPT, "the %s data is damaged near byte %llu: %s", names[s->kind],
                   (unsigned long long)(s->raw_bytes - (s->have - s->at)), why ? why : "bad data");
}

/* Each decoder: takes from in[at..have), puts into out, returns the number of bytes put, or a
 * negative kind.  Nothing put and nothing taken at the end of input means "cut short". */

static ssize_t decode_gzip(struct stream *s, struct err *err)
{
    if (s->whole) { /* another member? */
        if (s->at == s->have)
            return 0;
        /* Zeros behind the last member are padding that gzip(1) skips, too. */
        if (s->in[s->at] == 0) {
            s->at++;
            return 0;
        }
        if (inflateReset(&s->z) != Z_OK)
            return damaged(s, NULL, err);
        s->whole = false;
    }
    s->z.next_in = s->in + s->at;
    s->z.avail_in = (uInt)(s->have - s->at);
    s->z.next_out = s->out;
    s->z.avail_out = sizeof(s->out);
    int r = inflate(&s->z, Z_NO_FLUSH);
    s->at = s->have - s->z.avail_in;
    if (r == Z_STREAM_END)
        s->whole = true;
    else if (r != Z_OK && r != Z_BUF_ERROR)
        return damaged(s, s->z.msg, err);
    return (ssize_t)(sizeof(s->out) - s->z.avail_out);
}

static ssize_t decode_xz(struct stream *s, struct err *err)
{
    s->xz.next_in = s->in + s->at;
    s->xz.avail_in = s->have - s->at;
    s->xz.next_out = s->out;
    s->xz.avail_out = sizeof(s->out);
    lzma_ret r = lzma_code(&s->xz, s->eof ? LZMA_FINISH : LZMA_RUN);
    s->at = s->have - s->xz.avail_in;
    if (r == LZMA_STREAM_END)
        s->whole = true;
    else if (r == LZMA_MEMLIMIT_ERROR)
        return err_set(
            err, ERR_UNSUPPORTED,
            "the xz data needs more than 192M of memory; compress it with xz -9 or less");
    else if (r != LZMA_OK && r != LZMA_BUF_ERROR)
        return damaged(s, NULL, err);
    return (ssize_t)(sizeof(s->out) - s->xz.avail_out);
}

static ssize_t decode_zstd(struct stream *s, struct err *err)
{
    ZSTD_inBuffer in = {s->in, s->have, s->at};
    ZSTD_outBuffer out = {s->out, sizeof(s->out), 0};
    size_t r = ZSTD_decompressStream(s->zstd, &out, &in);
    if (ZSTD_isError(r))
        return damaged(s, ZSTD_getErrorName(r), err);
    if (in.pos != s->at || out.pos)
        s->whole = r == 0;
    s->at = in.pos;
    return (ssize_t)out.pos;
}

static ssize_t decode(struct stream *s, struct err *err)
{
    switch (s->kind) {
    case STREAM_GZIP:
        return decode_gzip(s, err);
    case STREAM_XZ:
        return decode_xz(s, err);
    case STREAM_ZSTD:
        return decode_zstd(s, err);
    case STREAM_PLAIN:
        break;
    }
    size_t n = s->have - s->at;
    memcpy(s->out, s->in + s->at, n);
    s->at = s->have;
    s->whole = true;
    return (ssize_t)n;
}

ssize_t stream_read(struct stream *s, const void **ret_buf, struct err *err)
{
    for (;;) {
        int r = fill(s, err);
        if (r < 0)
            return r;
        size_t before = s->at;
        ssize_t n = decode(s, err);
        if (n < 0)
            return n;
        if (n > 0) {
            s->plain_bytes += (size_t)n;
            if (s->kind != STREAM_PLAIN) /* else it is the digest of what went in */
                hash_add(s->plain, s->out, (size_t)n);
            *ret_buf = s->out;
            return n;
        }
        if (s->eof && s->at == before)
            return s->whole ? 0 : damaged(s, "it ends too early", err);
    }
}

int stream_drain(struct stream *s, struct err *err)
{
    const void *buf;
    ssize_t n;
    while ((n = stream_read(s, &buf, err)) > 0)
        ;
    return (int)n;
}

enum stream_kind stream_kind(const struct stream *s)
{
    return s->kind;
}

uint64_t stream_offset(const struct stream *s)
{
    return s->plain_bytes;
}

uint64_t stream_raw_offset(const struct stream *s)
{
    return s->raw_bytes;
}

int stream_percent(const struct stream *s)
{
    if (s->size == 0)
        return -1;
    uint64_t done = s->raw_bytes < s->size ? s->raw_bytes : s->size;
    return (int)((double)done / (double)s->size * 100.0);
}

void stream_digests(struct stream *s, char ret_plain[STREAM_DIGEST], char ret_raw[STREAM_DIGEST])
{
    hash_end(s->raw, ret_raw);
    if (s->kind == STREAM_PLAIN)
        memcpy(ret_plain, ret_raw, STREAM_DIGEST);
    else
        hash_end(s->plain, ret_plain);
}
