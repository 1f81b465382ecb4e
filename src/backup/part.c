/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parts of a backup that lies in a file: its manifest, its list, what of it is whole. */
#include "backup/reader.h"

#include "base/cleanup.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

ssize_t backup_read_fd(void *ctx, void *buf, size_t size, struct err *err)
{
    const int *fd = ctx;
    ssize_t n;
    do
        n = read(*fd, buf, size);
    while (n < 0 && errno == EINTR);
    return n < 0 ? err_sys(err, "cannot read the backup") : n;
}

/* Ends the reading when the manifest is known. */
static int stop_at_manifest(void *ctx, const struct backup_info *info, struct err *err)
{
    char **text = ctx;
    *text = strdup(info->manifest);
    return err_set(err, ERR_EXISTS, "read");
}

int backup_show(const struct backup_in *in, struct backup_info *ret, struct err *err)
{
    char *text = NULL;
    const struct backup_restore rs = {
        .root = -1, .any = true, .manifest = stop_at_manifest, .ctx = &text};
    auto_clean(reader_done) struct reader r = {.in = in, .rs = &rs, .layer = -1};
    int e = reader_all(&r, err);
    if (!text)
        return e < 0 ? e : err_set(err, ERR_EXHAUSTED, "out of memory");
    err_clear(err);
    free(text);
    *ret = r.info;
    r.info.manifest = NULL;
    return 0;
}

static int read_at(int fd, void *buf, size_t len, uint64_t at, const char *part, struct err *err)
{
    size_t have = 0;
    while (have < len) {
        ssize_t n = pread(fd, (uint8_t *)buf + have, len - have, (off_t)(at + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "cannot read the backup");
        if (n == 0)
            return reader_damaged(err, part);
        have += (size_t)n;
    }
    return 0;
}

/* One frame by its place in the file; chain: what stands in its head, unchecked. */
static int frame_at(struct reader *r, int fd, uint64_t at, struct frame_info *ret,
                    uint8_t ret_chain[HASH_RAW], struct err *err)
{
    uint8_t head[FRAME_HEAD_MAX], *chain;
    uint64_t len;
    static const char part[] = "the head of a frame";
    int e = read_at(fd, head, TAGGED, at, part, err);
    if (e < 0)
        return e;
    if (format_tag(head, &len) != TAG_FRAME || len < FRAME_HEAD || len > FRAME_HEAD_MAX)
        return reader_damaged(err, part);
    if ((e = read_at(fd, head + TAGGED, len - TAGGED, at + TAGGED, part, err)) < 0)
        return e;
    chain = head + len - HASH_RAW;
    memcpy(ret_chain, chain, HASH_RAW);
    if (!format_frame_look(head, len, ret))
        return reader_damaged(err, part);
    return read_at(fd, r->packed, ret->packed, at + len, part, err);
}

static int list_frames(struct reader *r, int fd, const uint8_t *bytes, const struct trailer *t,
                       struct err *err)
{
    char part[PART_TEXT];
    uint64_t file, plain, end = t->list_at + t->list_size;
    struct frame_info f;
    uint8_t chain[HASH_RAW];
    for (uint64_t i = 0; i < t->frames; i++) {
        format_trailer_row(bytes, i, &file, &plain);
        if (plain + FRAME_PLAIN <= t->list_at)
            continue;
        if (plain >= end)
            break;
        int e = frame_at(r, fd, file, &f, chain, err);
        if (e < 0)
            return e;
        if (plain + f.plain <= t->list_at)
            continue;
        if (!reader_frame_ok(r->packed, &f) ||
            ZSTD_decompressDCtx(r->z, r->plain, FRAME_PLAIN, r->packed, f.packed) != f.plain)
            return reader_damaged(err, format_part(&f, part));
        uint64_t from = plain < t->list_at ? t->list_at - plain : 0;
        uint64_t to = end - plain < f.plain ? end - plain : f.plain;
        str_add_bytes(&r->list, r->plain + from, to - from);
    }
    return r->list.len == t->list_size && !r->list.failed
               ? 0
               : reader_damaged(err, "its list of files");
}

int backup_list(int fd, char **ret, size_t *ret_len, struct err *err)
{
    static const char part[] = "its trailer";
    auto_clean(reader_done) struct reader r = {.layer = -1};
    off_t size = lseek(fd, 0, SEEK_END);
    uint8_t end[8 + HASH_RAW], chain[HASH_RAW];
    int e = reader_open(&r, err);
    if (e < 0)
        return e;
    if (size < 0)
        return err_sys(err, "cannot seek in the backup");
    if ((size_t)size < FILE_HEAD + TRAILER_FIXED)
        return reader_damaged(err, "it ends too early");
    if ((e = read_at(fd, end, sizeof(end), (uint64_t)size - sizeof(end), part, err)) < 0)
        return e;
    uint64_t len = 0;
    for (unsigned i = 0; i < 8; i++)
        len |= (uint64_t)end[i] << (8 * i);
    if (len < TRAILER_FIXED + TRAILER_ROW || len > (uint64_t)size - FILE_HEAD)
        return reader_damaged(err, "it ends too early, or its trailer");
    auto_free uint8_t *bytes = malloc(len);
    if (!bytes)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    struct trailer t;
    uint64_t file, plain;
    struct frame_info f;
    if ((e = read_at(fd, bytes, len, (uint64_t)size - len, part, err)) < 0)
        return e;
    if (!format_trailer_read(bytes, len, NULL, &t) || t.list_size > BACKUP_LIST_MAX)
        return reader_damaged(err, part);
    format_trailer_row(bytes, t.frames - 1, &file, &plain);
    if ((e = frame_at(&r, fd, file, &f, chain, err)) < 0)
        return e;
    if (!format_trailer_read(bytes, len, chain, &t))
        return reader_damaged(err, part);
    if ((e = list_frames(&r, fd, bytes, &t, err)) < 0)
        return e;
    *ret_len = r.list.len;
    *ret = str_steal(&r.list);
    return *ret ? 0 : err_set(err, ERR_EXHAUSTED, "out of memory");
}

void backup_part_done(struct backup_part *p)
{
    free(p->rows);
    free(p->manifest);
    *p = (struct backup_part){0};
}

int backup_part_read(int fd, struct backup_part *ret, struct err *err)
{
    struct backup_part p = {.size = FILE_HEAD};
    const struct backup_in in = {backup_read_fd, &fd};
    const struct backup_restore rs = {.root = -1, .any = true};
    auto_clean(reader_done) struct reader r = {.in = &in, .rs = &rs, .layer = -1};
    struct backup_info shown = {0};
    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_sys(err, "cannot seek in the backup");
    int e = backup_show(&in, &shown, err);
    p.manifest = steal_ptr(&shown.manifest);
    if (e < 0 && e != -ERR_CORRUPT)
        return e;
    if (lseek(fd, 0, SEEK_SET) < 0)
        return err_sys(err, "cannot seek in the backup");
    if ((e = reader_open(&r, err)) == 0 && p.manifest && (e = reader_head(&r, err)) == 0) {
        const void *buf;
        ssize_t n = 1;
        while (n > 0) {
            memcpy(p.chain, r.chain, HASH_RAW);
            if ((n = reader_next(&r, &buf, err)) > 0)
                p.size += (uint64_t)r.rows[r.n_rows - 1].head + r.rows[r.n_rows - 1].packed;
        }
        if (n < 0 && n != -ERR_CORRUPT)
            e = (int)n;
    }
    if (e == 0 && r.ended)
        e = err_set(err, ERR_EXISTS, "the backup is finished");
    if (e < 0 && e != -ERR_CORRUPT) {
        backup_part_done(&p);
        return e;
    }
    err_clear(err);
    p.n_rows = r.n_rows;
    p.rows = steal_ptr(&r.rows);
    *ret = p;
    return 0;
}
