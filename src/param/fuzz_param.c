/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz_param — arbitrary bytes as an assignment. */
#include "base/fuzz.h"
#include "param/param.h"

static void check_round_trip(const struct param_row *row, const char *text)
{
    struct param_value v, again;
    char buf[PARAM_TEXT];
    if (param_parse_value(row, text, &v, NULL) < 0)
        return;
    if (v.form == PARAM_PLAIN && !v.unlimited && (v.n < row->min || v.n > row->max))
        abort();
    if (v.form == PARAM_TWO && row->first && !v.unlimited && (v.n2 > v.n || v.n > row->max))
        abort();
    if (param_parse_value(row, param_format(row, v, buf), &again, NULL) < 0 ||
        !param_value_same(again, v))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    auto_free char *text = fuzz_texts(data, size, 4096, 1);
    if (!text)
        return 0;

    struct param_set set;
    struct err err = {0};
    param_set_init(&set);
    int r = param_set_parse(&set, text, &err);
    if (r > 0 || (r < 0 && (err.kind != -r || !err.text[0])))
        abort();
    param_set_check(&set, NULL);
    const char *eq = strchr(text, '=');
    for (size_t i = 0; i < param_table_size; i++)
        check_round_trip(&param_table[i], eq ? eq + 1 : text);
    return 0;
}
