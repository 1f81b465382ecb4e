/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_number — arbitrary bytes as a number, a mode, a size, a time; what is taken must print and
 * read back the same, what is refused must leave the output alone and have a sentence. */
#include "base/number.h"

#include "base/str.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int r, const struct err *err, uint64_t v, uint64_t untouched)
{
    if (r > 0 || (r < 0 && (err->kind != -r || !err->text[0] || v != untouched)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { UNTOUCHED = 12345 };
    char text[128], buf[NUMBER_TEXT];
    uint64_t v = UNTOUCHED, again;
    unsigned mode = UNTOUCHED;
    struct err err = {0};
    if (size >= sizeof(text))
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';

    int r = number_parse(text, 10, 1000000, &v, &err);
    check(r, &err, v, UNTOUCHED);
    if (r == 0 && (v < 10 || v > 1000000))
        abort();

    r = number_parse_mode(text, &mode, &err);
    check(r, &err, mode, UNTOUCHED);
    if (r == 0 && mode > 07777)
        abort();

    v = UNTOUCHED;
    r = number_parse_size(text, &v, &err);
    check(r, &err, v, UNTOUCHED);
    if (r == 0) {
        if (number_parse_size(number_format_size_exact(v, buf), &again, NULL) < 0 || again != v)
            abort();
        if (!*number_format_size(v, buf))
            abort();
    }

    v = UNTOUCHED;
    r = number_parse_time(text, &v, &err);
    check(r, &err, v, UNTOUCHED);
    if (r == 0 && !*number_format_time(v, buf))
        abort();
    return 0;
}
