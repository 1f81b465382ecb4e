/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_record — arbitrary bytes as a template's record: what is read is written and read the
 * same. */
#include "template/record.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    auto_template struct template *t = NULL, *again = NULL;
    int r = record_read((const char *)data, size, "web", &t, &err);
    if (r > 0 || (r < 0 && (err.kind != -r || !err.text[0] || t)))
        abort();
    if (r < 0)
        return 0;
    auto_free char *text = NULL, *text2 = NULL;
    if (!str_eq(t->name, "web") || t->n_layers == 0 || record_write(t, &text, &err) < 0 ||
        record_read(text, strlen(text), "web", &again, &err) < 0 ||
        record_write(again, &text2, &err) < 0 || !str_eq(text, text2))
        abort();
    return 0;
}
