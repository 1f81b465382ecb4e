/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_conf — arbitrary bytes as terem.conf. */
#include "base/conf.h"
#include "base/fuzz.h"
#include "base/str.h"

static int item(void *ctx, const char *key, const char *value, struct err *err)
{
    size_t *n = ctx;
    char k[256];
    if (!*key || strpbrk(key, "=\n") || strchr(value, '\n'))
        abort();
    /* Trimmed already: trimming again changes nothing. */
    if (str_print(k, sizeof(k), "%s", key) == 0 && !str_eq(str_trim(k), key))
        abort();
    ++*n;
    return str_eq(key, "refuse") ? err_set(err, ERR_USAGE, "refused") : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    auto_free char *text = fuzz_texts(data, size, CONF_TEXT_MAX, 1);
    if (!text)
        return 0;
    size_t n = 0;
    struct err err = {0};
    int r = conf_parse(text, "f", item, &n, &err);
    if (r > 0 || (r < 0 && (err.kind != -r || strncmp(err.text, "f", 1) != 0)) || n > 256)
        abort();
    return 0;
}
