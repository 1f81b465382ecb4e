/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/format.h"

#include "base/cleanup.h"

#include <string.h>

#define SKIP_MAGIC 0x184D2A5EU
#define SIGNATURE  "TEREMBK1"

static const char tags[][4] = {
    [TAG_HEAD] = {'h', 'e', 'a', 'd'},
    [TAG_FRAME] = {'f', 'r', 'm', 'e'},
    [TAG_TRAILER] = {'t', 'a', 'i', 'l'},
};

static uint8_t *put(uint8_t *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        *p++ = (uint8_t)(v >> (8 * i));
    return p;
}

static uint64_t get(const uint8_t **p, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t) * (*p)++ << (8 * i);
    return v;
}

static uint8_t *begin(uint8_t *p, enum tag tag, size_t len)
{
    p = put(p, SKIP_MAGIC, 4);
    p = put(p, len - SKIP_HEAD, 4);
    memcpy(p, tags[tag], 4);
    return p + 4;
}

static void sum_of(const uint8_t *chain, const void *p, size_t n, uint8_t ret[HASH_RAW])
{
    hash_bytes(chain, chain ? HASH_RAW : 0, p, n, ret);
}

enum tag format_tag(const uint8_t in[TAGGED], uint64_t *ret_len)
{
    const uint8_t *p = in + 4;
    *ret_len = get(&p, 4) + SKIP_HEAD;
    for (enum tag t = TAG_HEAD; t <= TAG_TRAILER; t++) {
        unsigned same = 0;
        for (unsigned i = 0; i < 4; i++)
            same += p[i] == (uint8_t)tags[t][i];
        if (same >= 3)
            return t;
    }
    return TAG_NONE;
}

/* The same to the letter. */
static bool begins(const uint8_t *in, enum tag tag, size_t len)
{
    uint8_t want[TAGGED];
    begin(want, tag, len);
    return memcmp(in, want, TAGGED) == 0;
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool backup_id_ok(const char *id)
{
    size_t n = 0;
    while (id && n < BACKUP_ID && id[n] && digit(id[n]) >= 0)
        n++;
    return n == BACKUP_ID - 1 && id[n] == '\0';
}

void format_hex(const uint8_t *in, size_t n, char *ret)
{
    for (size_t i = 0; i < n; i++)
        str_print(ret + 2 * i, 3, "%02x", in[i]);
}

void backup_chain_text(const uint8_t chain[HASH_RAW], char ret[BACKUP_CHAIN])
{
    format_hex(chain, HASH_RAW, ret);
}

bool backup_chain_read(const char *text, uint8_t ret[HASH_RAW])
{
    if (!text || strlen(text) != 2 * HASH_RAW)
        return false;
    for (size_t i = 0; i < HASH_RAW; i++) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

void format_head(uint8_t out[FILE_HEAD], const char *id, uint8_t ret_chain[HASH_RAW])
{
    uint8_t *p = begin(out, TAG_HEAD, FILE_HEAD);
    memcpy(p, SIGNATURE, 8);
    p += 8;
    for (unsigned i = 0; i < 16; i++)
        *p++ = (uint8_t)(digit(id[2 * i]) << 4 | digit(id[2 * i + 1]));
    p = put(p, FRAME_PLAIN, 4);
    sum_of(NULL, out, (size_t)(p - out), p);
    memcpy(ret_chain, p, HASH_RAW);
}

bool format_head_read(const uint8_t in[FILE_HEAD], char ret_id[BACKUP_ID],
                      uint8_t ret_chain[HASH_RAW])
{
    const uint8_t *p = in + TAGGED;
    if (!begins(in, TAG_HEAD, FILE_HEAD) || memcmp(p, SIGNATURE, 8) != 0)
        return false;
    p += 8;
    format_hex(p, 16, ret_id);
    p += 16;
    bool ok = get(&p, 4) == FRAME_PLAIN;
    uint8_t sum[HASH_RAW];
    sum_of(NULL, in, (size_t)(p - in), sum);
    memcpy(ret_chain, sum, HASH_RAW);
    return ok && memcmp(sum, p, HASH_RAW) == 0;
}

size_t format_frame(uint8_t out[FRAME_HEAD_MAX], const struct frame_info *f,
                    uint8_t chain[HASH_RAW])
{
    size_t n = strnlen(f->name, FRAME_NAME), m = strnlen(f->last, FRAME_NAME);
    size_t len = FRAME_HEAD + n + m;
    uint8_t *p = begin(out, TAG_FRAME, len);
    p = put(p, f->number, 8);
    p = put(p, f->packed, 4);
    p = put(p, f->plain, 4);
    p = put(p, n, 2);
    p = put(p, m, 2);
    memcpy(p, f->name, n);
    memcpy(p + n, f->last, m);
    p += n + m;
    memcpy(p, f->sum, HASH_RAW);
    p += HASH_RAW;
    sum_of(chain, out, (size_t)(p - out), p);
    memcpy(chain, p, HASH_RAW);
    return len;
}

bool format_frame_look(const uint8_t *in, size_t len, struct frame_info *ret)
{
    if (len < FRAME_HEAD || len > FRAME_HEAD_MAX || !begins(in, TAG_FRAME, len))
        return false;
    const uint8_t *p = in + TAGGED;
    *ret = (struct frame_info){.number = get(&p, 8)};
    ret->packed = (uint32_t)get(&p, 4);
    ret->plain = (uint32_t)get(&p, 4);
    size_t n = get(&p, 2), m = get(&p, 2);
    if (n > FRAME_NAME || m > FRAME_NAME || n + m != len - FRAME_HEAD || ret->plain > FRAME_PLAIN ||
        ret->packed > FRAME_PACKED)
        return false;
    memcpy(ret->name, p, n);
    memcpy(ret->last, p + n, m);
    memcpy(ret->sum, p + n + m, HASH_RAW);
    return true;
}

bool format_frame_read(const uint8_t *in, size_t len, struct frame_info *ret,
                       uint8_t chain[HASH_RAW])
{
    struct frame_info f;
    uint8_t sum[HASH_RAW];
    if (!format_frame_look(in, len, &f))
        return false;
    sum_of(chain, in, len - HASH_RAW, sum);
    if (memcmp(sum, in + len - HASH_RAW, HASH_RAW) != 0)
        return false;
    memcpy(chain, sum, HASH_RAW);
    *ret = f;
    return true;
}

uint8_t *format_trailer(const struct trailer *t, const struct backup_row *rows,
                        const uint8_t chain[HASH_RAW], size_t *ret_len)
{
    size_t len = TRAILER_FIXED + (size_t)t->frames * TRAILER_ROW;
    uint8_t *out = malloc(len);
    if (!out)
        return NULL;
    uint8_t *p = begin(out, TAG_TRAILER, len);
    p = put(p, t->frames, 8);
    p = put(p, t->plain, 8);
    p = put(p, t->list_at, 8);
    p = put(p, t->list_size, 8);
    uint64_t file = FILE_HEAD, plain = 0;
    for (uint64_t i = 0; i < t->frames; i++) {
        p = put(p, file, 8);
        p = put(p, plain, 8);
        file += (uint64_t)rows[i].head + rows[i].packed;
        plain += rows[i].plain;
    }
    p = put(p, len, 8);
    sum_of(chain, out, (size_t)(p - out), p);
    *ret_len = len;
    return out;
}

bool format_trailer_read(const uint8_t *in, size_t len, const uint8_t *chain, struct trailer *ret)
{
    if (len < TRAILER_FIXED || !begins(in, TAG_TRAILER, len))
        return false;
    const uint8_t *p = in + TAGGED, *end = in + len - HASH_RAW - 8;
    struct trailer t = {.frames = get(&p, 8)};
    t.plain = get(&p, 8);
    t.list_at = get(&p, 8);
    t.list_size = get(&p, 8);
    if (t.frames != (len - TRAILER_FIXED) / TRAILER_ROW ||
        (len - TRAILER_FIXED) % TRAILER_ROW != 0 || get(&end, 8) != len || t.list_at > t.plain ||
        t.list_size > t.plain - t.list_at)
        return false;
    uint8_t sum[HASH_RAW];
    sum_of(chain, in, len - HASH_RAW, sum);
    if (chain && memcmp(sum, in + len - HASH_RAW, HASH_RAW) != 0)
        return false;
    *ret = t;
    return true;
}

void format_trailer_row(const uint8_t *in, uint64_t i, uint64_t *ret_file, uint64_t *ret_plain)
{
    const uint8_t *p = in + SKIP_HEAD + 36 + i * TRAILER_ROW;
    *ret_file = get(&p, 8);
    *ret_plain = get(&p, 8);
}

int format_row_add(struct backup_row **rows, size_t *n, size_t *cap, const struct backup_row *row,
                   struct err *err)
{
    if (*n == *cap) {
        size_t more = *cap ? *cap * 2 : 256;
        struct backup_row *list = realloc(*rows, more * sizeof(*list));
        if (!list)
            return err_set(err, ERR_EXHAUSTED, "out of memory");
        *rows = list;
        *cap = more;
    }
    (*rows)[(*n)++] = *row;
    return 0;
}

static void add_name(struct str *s, const char *name)
{
    if (str_starts(name, MEMBER_ROOT))
        name += strlen(MEMBER_ROOT);
    str_escape(s, *name ? name : "/", *name ? strlen(name) : 1);
}

const char *format_part(const struct frame_info *f, char buf[PART_TEXT])
{
    unsigned long long number = (unsigned long long)f->number;
    const char *name = f->name;
    if (str_eq(name, MEMBER_MANIFEST)) {
        str_print(buf, PART_TEXT, "its manifest (frame %llu)", number);
    } else if (str_eq(name, MEMBER_LIST)) {
        str_print(buf, PART_TEXT, "its list of files (frame %llu)", number);
    } else if (str_eq(name, MEMBER_DELETED)) {
        str_print(buf, PART_TEXT, "its list of deleted files (frame %llu)", number);
    } else {
        auto_str struct str first = str_init(4 * FRAME_NAME + 1),
                            last = str_init(4 * FRAME_NAME + 1);
        bool one = str_eq(f->name, f->last);
        add_name(&first, f->name);
        add_name(&last, f->last);
        str_print(buf, PART_TEXT, "the data %s %.180s%s%.180s (frame %llu)", one ? "of" : "from",
                  str_c(&first), one ? "" : " to ", one ? "" : str_c(&last), number);
    }
    return buf;
}
