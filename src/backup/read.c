/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A backup read from its first byte to its last: every part is checked before it is used. */
#include "backup/reader.h"

#include "archive/untar.h"
#include "base/cleanup.h"
#include "base/fd.h"

#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <zstd.h>

#define TAR_BLOCK 512

/* Exactly len bytes; fewer: *ret_len tells, and it is the end of the file. */
static int read_up_to(struct reader *r, void *buf, size_t len, size_t *ret_len, struct err *err)
{
    size_t have = 0;
    while (have < len) {
        ssize_t n = r->in->read(r->in->ctx, (uint8_t *)buf + have, len - have, err);
        if (n < 0)
            return (int)n;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    r->info.packed += have;
    *ret_len = have;
    return 0;
}

int reader_damaged(struct err *err, const char *part)
{
    return err_set(err, ERR_CORRUPT, "the backup is damaged: %s; take another copy of the file",
                   part);
}

static int cut_short(struct reader *r, struct err *err)
{
    char part[PART_TEXT], text[PART_TEXT + 64];
    if (!r->any)
        return reader_damaged(err, "it ends in its head");
    str_print(text, sizeof(text), "it ends too early, after %s", format_part(&r->last, part));
    return reader_damaged(err, text);
}

static int read_whole(struct reader *r, void *buf, size_t len, struct err *err)
{
    size_t have;
    int e = read_up_to(r, buf, len, &have, err);
    if (e < 0)
        return e;
    return have < len ? cut_short(r, err) : 0;
}

int reader_head(struct reader *r, struct err *err)
{
    uint8_t head[FILE_HEAD];
    size_t have;
    int e = read_up_to(r, head, sizeof(head), &have, err);
    if (e < 0)
        return e;
    uint64_t len;
    if (have < TAGGED || format_tag(head, &len) != TAG_HEAD)
        return err_set(err, ERR_CORRUPT,
                       "it is not a backup made by Terem, or its head is damaged");
    if (have < sizeof(head))
        return cut_short(r, err);
    if (!format_head_read(head, r->head_id, r->chain))
        return reader_damaged(err, "its head");
    return 0;
}

static int bad_frame_head(struct reader *r, struct err *err)
{
    char text[96];
    str_print(text, sizeof(text), "the head of frame %zu", r->n_rows);
    return reader_damaged(err, text);
}

/* Whole and as its head says; nothing of it is used before that. */
bool reader_frame_ok(const uint8_t *packed, const struct frame_info *f)
{
    uint8_t sum[HASH_RAW];
    hash_bytes(NULL, 0, packed, f->packed, sum);
    return memcmp(sum, f->sum, HASH_RAW) == 0 &&
           ZSTD_findFrameCompressedSize(packed, f->packed) == f->packed &&
           ZSTD_getFrameContentSize(packed, f->packed) == f->plain;
}

static ssize_t read_frame(struct reader *r, const uint8_t start[TAGGED], uint64_t len,
                          const void **ret_buf, struct err *err)
{
    uint8_t head[FRAME_HEAD_MAX];
    struct frame_info f;
    char part[PART_TEXT];
    if (len < FRAME_HEAD || len > FRAME_HEAD_MAX)
        return bad_frame_head(r, err);
    memcpy(head, start, TAGGED);
    int e = read_whole(r, head + TAGGED, len - TAGGED, err);
    if (e < 0)
        return e;
    if (!format_frame_read(head, len, &f, r->chain) || f.number != r->n_rows || f.plain == 0 ||
        r->n_rows >= BACKUP_FRAMES_MAX)
        return bad_frame_head(r, err);
    if ((e = read_whole(r, r->packed, f.packed, err)) < 0)
        return e;
    if (!reader_frame_ok(r->packed, &f) ||
        ZSTD_decompressDCtx(r->z, r->plain, FRAME_PLAIN, r->packed, f.packed) != f.plain)
        return reader_damaged(err, format_part(&f, part));
    const struct backup_row row = {f.packed, f.plain, (uint32_t)len};
    if ((e = format_row_add(&r->rows, &r->n_rows, &r->cap_rows, &row, err)) < 0)
        return e;
    r->info.plain += f.plain;
    r->info.frames++;
    r->last = f;
    r->any = true;
    *ret_buf = r->plain;
    return f.plain;
}

static bool rows_agree(const struct reader *r, const uint8_t *bytes, const struct trailer *t)
{
    uint64_t file = FILE_HEAD, plain = 0, row_file, row_plain;
    if (t->frames != r->n_rows || t->plain != r->info.plain)
        return false;
    for (size_t i = 0; i < r->n_rows; i++) {
        format_trailer_row(bytes, i, &row_file, &row_plain);
        if (row_file != file || row_plain != plain)
            return false;
        file += (uint64_t)r->rows[i].head + r->rows[i].packed;
        plain += r->rows[i].plain;
    }
    return true;
}

static int read_trailer(struct reader *r, const uint8_t start[TAGGED], uint64_t len,
                        struct err *err)
{
    struct trailer t;
    if (len != TRAILER_FIXED + r->n_rows * TRAILER_ROW)
        return reader_damaged(err, "its trailer");
    auto_free uint8_t *bytes = malloc(len);
    if (!bytes)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    memcpy(bytes, start, TAGGED);
    size_t have;
    int e = read_up_to(r, bytes + TAGGED, len - TAGGED, &have, err);
    if (e < 0)
        return e;
    if (have < len - TAGGED)
        return reader_damaged(err, "it ends in its trailer");
    if (!format_trailer_read(bytes, len, r->chain, &t) || !rows_agree(r, bytes, &t))
        return reader_damaged(err, "its trailer");
    r->list_at = t.list_at;
    r->list_size = t.list_size;
    uint8_t more;
    if ((e = read_up_to(r, &more, 1, &have, err)) < 0)
        return e;
    if (have)
        return reader_damaged(err, "there are bytes behind its trailer");
    r->ended = true;
    return 0;
}

/* untar's source. */
ssize_t reader_next(void *ctx, const void **ret_buf, struct err *err)
{
    struct reader *r = ctx;
    uint8_t start[TAGGED];
    uint64_t len;
    size_t have;
    if (r->ended)
        return 0;
    if (r->rs->progress && r->rs->progress(r->rs->ctx, r->info.plain) != 0)
        return err_set(err, ERR_CANCELLED, "it was cancelled");
    int e = read_up_to(r, start, sizeof(start), &have, err);
    if (e < 0)
        return e;
    if (have < sizeof(start))
        return cut_short(r, err);
    switch (format_tag(start, &len)) {
    case TAG_FRAME:
        return read_frame(r, start, len, ret_buf, err);
    case TAG_TRAILER:
        return read_trailer(r, start, len, err);
    default:
        return bad_frame_head(r, err);
    }
}

/* ---- the members that are no files of the tree ---- */

static int parse_manifest(struct reader *r, struct err *err)
{
    json_error_t je;
    const char *text = str_c(&r->text);
    json_t *j = r->text.failed ? NULL : json_loadb(text, r->text.len, JSON_REJECT_DUPLICATES, &je);
    const char *id = json_string_value(json_object_get(j, "id"));
    const char *since = json_string_value(json_object_get(j, "since"));
    bool ok = backup_id_ok(id) && str_eq(id, r->head_id) && (!since || backup_id_ok(since)) &&
              strlen(text) == r->text.len;
    if (ok) {
        str_print(r->info.id, sizeof(r->info.id), "%s", id);
        str_print(r->info.since, sizeof(r->info.since), "%s", since ? since : "");
        r->info.manifest = strdup(text);
    }
    json_decref(j);
    r->has_manifest = true;
    if (!ok)
        return reader_damaged(err, "its manifest cannot be read");
    return r->info.manifest ? 0 : err_set(err, ERR_EXHAUSTED, "out of memory");
}

static int check_order(const struct reader *r, struct err *err)
{
    const char *since = r->info.since, *want = r->rs->since;
    if (r->rs->any)
        return 0;
    if (!want && *since)
        return err_set(err, ERR_USAGE,
                       "the backup is incremental and stands on backup %.8s; give the full one "
                       "first, then those that stand on it, in their order",
                       since);
    if (want && !*since)
        return err_set(err, ERR_USAGE,
                       "the backup is a full one and can only be the first of several");
    if (want && !str_eq(want, since))
        return err_set(err, ERR_USAGE,
                       "the backup stands on backup %.8s, and the file before it is backup %.8s",
                       since, want);
    return 0;
}

static int on_begin(void *ctx, const char *name, uint64_t size, struct err *err)
{
    struct reader *r = ctx;
    bool is_manifest = str_eq(name, MEMBER_MANIFEST);
    if (r->has_list)
        return reader_damaged(err, "it goes on behind its list of files");
    if (is_manifest == r->has_manifest)
        return reader_damaged(err, is_manifest ? "it has two manifests" : "it has no manifest");
    uint64_t max = BACKUP_LIST_MAX;
    size_t layer = strlen(MEMBER_LAYER);
    if (is_manifest) {
        r->member = TO_MANIFEST;
        max = MANIFEST_MAX;
    } else if (str_eq(name, MEMBER_DELETED)) {
        r->member = TO_DELETED;
    } else if (str_eq(name, MEMBER_LIST)) {
        r->member = TO_LIST;
        r->has_list = true;
    } else if (str_starts(name, MEMBER_LAYER) && strlen(name) == layer + HASH_TEXT - 1 + 4 &&
               str_ends(name, ".tar")) {
        r->member = TO_LAYER;
        max = UINT64_MAX;
        str_print(r->digest, sizeof(r->digest), "%.*s", HASH_TEXT - 1, name + layer);
        r->layer = -1;
        if (r->rs->layer && r->rs->layer(r->rs->ctx, r->digest, size, &r->layer, err) < 0)
            return -err->kind;
    } else {
        return reader_damaged(err, "it has a member that nobody knows");
    }
    return size > max ? reader_damaged(err, "one of its members is too large") : 0;
}

static int on_data(void *ctx, const void *buf, size_t len, struct err *err)
{
    struct reader *r = ctx;
    switch (r->member) {
    case TO_MANIFEST:
        str_add_bytes(&r->text, buf, len);
        return 0;
    case TO_DELETED:
        str_add_bytes(&r->deleted, buf, len);
        return 0;
    case TO_LIST:
        str_add_bytes(&r->list, buf, len);
        return 0;
    case TO_LAYER:
        return r->layer < 0 ? 0 : fd_write_all(r->layer, buf, len, err);
    default:
        return 0;
    }
}

static int delete_files(struct reader *r, struct err *err)
{
    const char *p = str_c(&r->deleted), *end = p + r->deleted.len;
    if (r->deleted.failed || (r->deleted.len && end[-1] != '\0'))
        return reader_damaged(err, "its list of deleted files");
    for (; r->tree && p < end; p += strlen(p) + 1) {
        int e = tree_remove(r->tree, p, err);
        if (e < 0)
            return e;
    }
    return 0;
}

static int on_end(void *ctx, struct err *err)
{
    struct reader *r = ctx;
    enum member m = r->member;
    int e = 0;
    r->member = MEMBER_NONE;
    if (m == TO_MANIFEST) {
        if ((e = parse_manifest(r, err)) < 0 || (e = check_order(r, err)) < 0)
            return e;
        return r->rs->manifest ? r->rs->manifest(r->rs->ctx, &r->info, err) : 0;
    }
    if (m == TO_DELETED)
        return delete_files(r, err);
    if (m == TO_LAYER && r->layer >= 0 && r->rs->layer_end)
        e = r->rs->layer_end(r->rs->ctx, r->digest, r->layer, err);
    return e;
}

/* ---- the whole ---- */

int reader_open(struct reader *r, struct err *err)
{
    r->z = ZSTD_createDCtx();
    r->packed = malloc(FRAME_PACKED);
    r->plain = malloc(FRAME_PLAIN);
    if (!r->z || !r->packed || !r->plain)
        return err_set(err, ERR_EXHAUSTED, "out of memory");
    r->text = str_init(MANIFEST_MAX + 1);
    r->deleted = str_init(BACKUP_LIST_MAX);
    r->list = str_init(BACKUP_LIST_MAX);
    r->files = str_init(BACKUP_LIST_MAX);
    return 0;
}

void reader_done(struct reader *r)
{
    ZSTD_freeDCtx(r->z);
    free(r->packed);
    free(r->plain);
    free(r->rows);
    str_done(&r->text);
    str_done(&r->deleted);
    str_done(&r->list);
    str_done(&r->files);
    sum_done(&r->sum);
    backup_info_done(&r->info);
}

void backup_info_done(struct backup_info *i)
{
    free(i->manifest);
    i->manifest = NULL;
}

void backup_files_done(struct backup_files *f)
{
    free(f->list);
    *f = (struct backup_files){0};
}

int reader_all(struct reader *r, struct err *err)
{
    uint64_t end = 0;
    const struct untar_source source = {reader_next, r, false};
    const struct untar_members members = {
        .prefix = MEMBER_ROOT,
        .begin = on_begin,
        .data = on_data,
        .end = on_end,
        .file = reader_file,
        .content = reader_content,
        .file_end = reader_file_end,
        .ctx = r,
        .ret_end = &end,
    };
    int e = reader_open(r, err);
    if (e < 0 || (e = reader_head(r, err)) < 0 || (e = untar(&source, r->tree, &members, err)) < 0)
        return e;
    if (!r->has_manifest || !r->has_list || r->list.failed || r->list_size != r->list.len)
        return reader_damaged(err, "its list of files");
    /* Where backup_list() reads it. */
    if (r->list_at != end - (r->list.len + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK)
        return reader_damaged(err, "its trailer, which has another place for its list of files");
    return 0;
}

int backup_read(const struct backup_in *in, const struct backup_restore *rs,
                struct backup_info *ret, struct err *err)
{
    auto_clean(reader_done) struct reader r = {.in = in, .rs = rs, .layer = -1};
    struct tree tree;
    if (rs->root >= 0) {
        tree_init(&tree, rs->root, &rs->limits);
        tree.exact = true;
        r.tree = &tree;
    }
    int e = reader_all(&r, err);
    if (r.tree)
        tree_done(&tree);
    if (e < 0 || (e = reader_compare(&r, err)) < 0)
        return e;
    if (rs->files) {
        backup_files_done(rs->files);
        memcpy(rs->files->id, r.info.id, sizeof(rs->files->id));
        rs->files->len = r.list.len;
        rs->files->list = str_steal(&r.list);
    }
    *ret = r.info;
    r.info.manifest = NULL;
    return 0;
}
