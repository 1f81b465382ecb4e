/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_logtext — whatever a VE writes and however it is cut: the same comes out, and in it no
 * control byte but line ends, tabs and, where they are wanted, whole colour sequences.
 */
#include "base/cleanup.h"
#include "logtext.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct str *s, bool color)
{
    for (size_t i = 0; i < s->len; i++) {
        unsigned char c = (unsigned char)s->buf[i];
        if (color && c == 0x1b) {
            if (s->buf[i + 1] != '[')
                abort();
            i += 2 + strspn(s->buf + i + 2, "0123456789;");
            if (s->buf[i] != 'm')
                abort();
        } else if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 4096)
        return 0;
    bool color = data[0] & 1;
    size_t step = 1 + (data[0] >> 1) % 13;
    const char *p = (const char *)data + 1;
    size_t len = size - 1;
    auto_str struct str whole = str_init(1 << 20), cut = str_init(1 << 20);
    auto_str struct str kept = str_init(1 << 20);
    if (logtext_add(&whole, p, len, color, true) != len)
        abort();
    for (size_t at = 0; at < len || kept.len;) {
        size_t n = len - at < step ? len - at : step;
        str_add_bytes(&kept, p + at, n);
        at += n;
        size_t used = logtext_add(&cut, str_c(&kept), kept.len, color, at == len);
        if (used > kept.len || (at == len && used != kept.len))
            abort();
        memmove(kept.buf, kept.buf + used, kept.len - used);
        kept.len -= used;
    }
    check(&whole, color);
    if (whole.len != cut.len || memcmp(str_c(&whole), str_c(&cut), whole.len) != 0)
        abort();
    return 0;
}
