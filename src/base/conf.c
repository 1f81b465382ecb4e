/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/conf.h"

#include "base/str.h"

#include <stdbool.h>
#include <string.h>

#define KEYS_MAX 256

int conf_parse(char *text, const char *file,
               int (*item)(void *ctx, const char *key, const char *value, struct err *err),
               void *ctx, struct err *err)
{
    const char *seen[KEYS_MAX];
    size_t n_seen = 0;
    unsigned line_no = 0;
    for (char *next = text, *line; (line = next) && *line;) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        line_no++;
        char *eq, *key = str_trim(line);
        if (!*key || *key == '#')
            continue;
        for (const char *p = key; *p; p++)
            if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
                return err_set(err, ERR_USAGE, "%s, line %u: there is a control character", file,
                               line_no);
        eq = strchr(key, '=');
        if (!eq || eq == key)
            return err_set(err, ERR_USAGE, "%s, line %u: this is not \"key = value\"", file,
                           line_no);
        *eq = '\0';
        key = str_trim(key);
        for (size_t i = 0; i < n_seen; i++)
            if (str_eq(seen[i], key))
                return err_set(err, ERR_USAGE, "%s, line %u: %s stands twice", file, line_no, key);
        if (n_seen == KEYS_MAX)
            return err_set(err, ERR_USAGE, "%s: more than %d settings", file, KEYS_MAX);
        seen[n_seen++] = key;
        if (item(ctx, key, str_trim(eq + 1), err) < 0)
            return err_wrap(err, "%s, line %u", file, line_no);
    }
    return 0;
}
