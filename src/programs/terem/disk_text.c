/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "disk_text.h"

#include "base/cleanup.h"
#include "base/number.h"
#include "cli.h"
#include "text.h"

static const struct row {
    const char *member, *key, *unit;
    bool is_size;
} rows[] = {
    {"space", "disk.space", "", true},
    {"inodes", "disk.inodes", " files and directories", false},
};

static void add_number(struct str *s, const struct row *row, const json_t *n)
{
    char buf[NUMBER_TEXT];
    if (row->is_size)
        str_add(s, "%s", number_format_size((uint64_t)json_integer_value(n), buf));
    else
        str_add(s, "%" JSON_INTEGER_FORMAT, json_integer_value(n));
}

static const json_t *part_of(const json_t *ve, const struct row *row)
{
    return json_object_get(json_object_get(ve, "disk"), row->member);
}

void disk_text_used(struct str *s, const json_t *ve)
{
    const json_t *used = json_object_get(part_of(ve, &rows[0]), "used");
    const json_t *limit = json_object_get(part_of(ve, &rows[0]), "limit");
    if (json_is_integer(used))
        add_number(s, &rows[0], used);
    else
        str_add(s, "-");
    if (json_is_integer(limit)) {
        str_add(s, "/");
        add_number(s, &rows[0], limit);
    }
}

void disk_text_add(struct str *s, const json_t *ve)
{
    static const char *const members[] = {"used", "limit", "soft"};
    static const char *const words[] = {"", " of ", ", soft "};
    bool first = true;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const json_t *part = part_of(ve, &rows[i]);
        if (!json_is_integer(json_object_get(part, "used")))
            continue;
        str_add(s, "%s", first ? "" : "; ");
        first = false;
        for (size_t k = 0; k < ARRAY_SIZE(members); k++) {
            const json_t *n = json_object_get(part, members[k]);
            if (!json_is_integer(n))
                continue;
            str_add(s, "%s", words[k]);
            add_number(s, &rows[i], n);
        }
        str_add(s, "%s", rows[i].unit);
    }
}

void disk_text_over(struct str *s, const json_t *ve, const char *who)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const json_t *part = part_of(ve, &rows[i]);
        if (!json_is_integer(json_object_get(part, "over_since")))
            continue;
        text_add(s, who);
        str_add(s, " is above the soft half of %s, ", rows[i].key);
        add_number(s, &rows[i], json_object_get(part, "soft"));
        if (json_is_true(json_object_get(part, "held"))) {
            str_add(s, ", for too long: nothing can be added until enough is deleted\n");
            continue;
        }
        str_add(s, ": delete some until ");
        text_add_time(s, cli_int(part, "until"));
        str_add(s, ", or nothing can be added from then on\n");
    }
}
